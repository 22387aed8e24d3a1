/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/exercisers/exerciser.h"
#include "drivers/exercisers/mtty_uart.h"

/* Linux's sample mdev mtty: one or two serial ports in I/O BARs, INTx, no MSI, no DMA. */
#define MTTY_PORTS_MAX 2
struct mtty {
	struct exerciser *ex;
	unsigned ports;
	uint16_t base[MTTY_PORTS_MAX];
	struct mtty_io io[MTTY_PORTS_MAX];
};
/* The ports of an exerciser that is an mtty; NULL: it is none. */
struct mtty *mtty_of(struct exerciser *);
