/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/exercisers/parts.h"
#include "kernel/mm/mm.h"

/*
 * What igb and e1000e share as sources of interrupts: a cause set by software, acknowledged by writing it
 * back, reported as MSI-X entry, as MSI or on INTx, whichever is on.
 */
enum nic_way { NIC_INTX, NIC_MSI, NIC_MSIX };

struct nic {
	volatile uint8_t *regs;
	uint32_t seen;           /* causes that a read has found, and may have cleared */
	bool msix;               /* the way of the last raise */
};

static inline void nic_w(const struct nic *n, unsigned reg, uint32_t v) { mmio_w32(n->regs + reg, v); }
static inline uint32_t nic_r(const struct nic *n, unsigned reg) { return mmio_r32(n->regs + reg); }
/* By which way the function would signal now. */
enum nic_way nic_way(struct exerciser *);
/* What it can signal by; its BAR 0. ex->priv begins with a struct nic. -ENXIO. */
int nic_open(struct exerciser *);
/* How many interrupts it can raise by each way; entries: that its causes can be routed to. */
void nic_counts(struct exerciser *, unsigned entries);
