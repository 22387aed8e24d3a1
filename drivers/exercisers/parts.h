/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/exercisers/exerciser.h"
#include "kernel/mm/mm.h"

/* What the drivers of exercisers share. */

/* MSI-X, MSI and the pin as the function has them: ex->msix, ex->msi, and the caps less what is missing. MSI-X is chosen. */
void exerciser_find_irqs(struct exerciser *);
/* No message, no line, no DMA: how every quiesce() ends. */
void exerciser_silence(struct exerciser *);
/* Memory that the device fetches by itself, zeroed, as ex->mem and own[0]. -ENOMEM */
int exerciser_own(struct exerciser *, size_t size);
/* The address of a place in it. */
static inline uint64_t dma_buf_pa(const struct dma_buf *b, const volatile void *p)
{
	return b->pa.v + (uint64_t)((const volatile uint8_t *)p - (const uint8_t *)b->va);
}
