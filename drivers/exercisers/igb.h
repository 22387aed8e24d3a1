/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/exercisers/nic_irq.h"
#include "kernel/time/time.h"

#define IGB_DEPTH 32u
#define IGB_PIECE_SMALL 1024u            /* where frames may not be longer than the standard's */

struct igb_queue {
	unsigned rx, tx;                 /* its registers */
	unsigned piece;
	unsigned rx_tail, tx_tail;
	struct igb_shared *shared;       /* in ex->mem; NULL: it has none, and does no DMA */
	uint64_t pa;
	struct igb_job { uint32_t tag; unsigned rx, tx; } job[IGB_DEPTH]; /* the last descriptors of each */
	unsigned first, count;
	bool linked, sent, dead;
	bool lost;                       /* a frame did not come back */
	struct deadline stuck;
};

/* An 82576, the physical function or a virtual one. */
struct igb {
	struct nic nic;                  /* first: nic_irq.c knows this much of it */
	struct igb_queue queue;
};
#define IGB_POOL 7u                      /* the physical function's queue: the virtual ones have those from 0 on */

/* Takes the link up, where it is not. */
bool igb_link_up(struct exerciser *);
/*
 * igb_mailbox.c: resets a virtual function whose physical one is somebody else's. address: what it would have, and what it
 * got. -ETIMEDOUT: nobody answers; -EIO: it may not.
 */
int igb_greet(const struct nic *, uint32_t address[2]);
/* Has the physical function serve a pool: what is sent to that pool's address comes to its queue. */
void igb_serve(const struct nic *, unsigned pool);
/* igb_dma.c: one queue and what passes through it; -ENOMEM */
int igb_queue_open(struct exerciser *, unsigned rx, unsigned tx);
/* Where its frames go, and how much of a transfer is in one at most. */
void igb_queue_address(struct exerciser *, const uint32_t address[2], unsigned piece);
int igb_queue_start(struct exerciser *);
void igb_queue_stop(struct exerciser *);
int igb_dma_start(struct exerciser *, const struct dma_req *);
int igb_dma_poll(struct exerciser *, struct dma_status *);
/* The address of a pool, as the two words that a receive address register has. */
#define IGB_ADDRESS_LOW  0x756c7002u     /* 02:70:6c:75:6d:pool, locally administered */
static inline uint32_t igb_address_high(unsigned pool) { return 0x6du | pool << 8; }
