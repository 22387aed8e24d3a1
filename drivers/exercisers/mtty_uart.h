/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * One port of Linux's mtty sample (samples/vfio-mdev/mtty.c): a 16550 whose transmitter is its receiver.
 * Pure: the registers are reached through callbacks. What sets it apart from a real one:
 *
 * - a FIFO that holds 16 says that it holds none (head and tail meet): 15 are usable, the next one is lost
 *   from sight and the one after that is an overrun;
 * - the trigger level is 1 whatever FCR says, and 0 before FCR was first written;
 * - IIR ORs what is due, it does not rank it; an overrun lasts until the next byte that fits;
 * - a cause that arises while the last interrupt was not served (QEMU: no access to the BAR since) is lost.
 */

struct mtty_io {
	uint8_t (*r)(void *, unsigned reg);
	void (*w)(void *, unsigned reg, uint8_t);
	void *arg;
};

#define MTTY_FIFO   16
#define MTTY_USABLE 15

/* No interrupt enabled, FIFO on and empty. */
void mtty_reset(const struct mtty_io *);
/* Its scratch register holds what is written, and its FIFO says that it is empty. */
bool mtty_answers(const struct mtty_io *);
void mtty_put(const struct mtty_io *, uint8_t);
/* The next byte; -EAGAIN: none. */
int mtty_get(const struct mtty_io *);
bool mtty_overrun(const struct mtty_io *);
void mtty_fifo(const struct mtty_io *, bool on);
/*
 * How many bytes it takes until "received data" shows in IIR with FCR set to this level (1, 4, 8, 14); 0:
 * it never does. Leaves the port reset.
 */
unsigned mtty_level(const struct mtty_io *, unsigned level);

/* Each way to make it interrupt. */
enum mtty_trigger {
	MTTY_THRI,     /* transmitter empty, at once when it is enabled */
	MTTY_EMPTIED,  /* … when the last byte is read */
	MTTY_RDI,      /* received data reach the level */
	MTTY_RLSI,     /* overrun */
	MTTY_MODEM,    /* modem status, by MCR OUT2 */
	MTTY_TRIGGERS
};
const char *mtty_trigger_name(enum mtty_trigger);
/* Everything but the last access, the last access, and what a handler would do. */
void mtty_prepare(const struct mtty_io *, enum mtty_trigger);
void mtty_fire(const struct mtty_io *, enum mtty_trigger);
void mtty_serve(const struct mtty_io *, enum mtty_trigger);
/* IIR says that something is due. It never does for MTTY_MODEM, whose code is 0. */
bool mtty_due(const struct mtty_io *);
