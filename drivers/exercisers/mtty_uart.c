/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/mtty_uart.h"

#include "drivers/exercisers/mtty_regs.h"
#include "kernel/lib/err.h"

static uint8_t rd(const struct mtty_io *io, unsigned reg) { return io->r(io->arg, reg); }
static void wr(const struct mtty_io *io, unsigned reg, unsigned v) { io->w(io->arg, reg, (uint8_t)v); }

void mtty_reset(const struct mtty_io *io)
{
	wr(io, UART_LCR, UART_LCR_8N1); /* first: with DLAB set, IER is the divisor */
	wr(io, UART_IER, 0);
	wr(io, UART_MCR, 0);
	mtty_fifo(io, true);
}

void mtty_fifo(const struct mtty_io *io, bool on)
{
	wr(io, UART_FCR, UART_FCR_CLEAR | (on ? UART_FCR_ENABLE : 0));
}

bool mtty_answers(const struct mtty_io *io)
{
	static const uint8_t values[] = {0x5a, 0xa5};

	for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
		wr(io, UART_SCR, values[i]);
		if (rd(io, UART_SCR) != values[i])
			return false;
	}
	return (rd(io, UART_LSR) & (UART_LSR_THRE | UART_LSR_DR)) == UART_LSR_THRE;
}

void mtty_put(const struct mtty_io *io, uint8_t v)
{
	wr(io, UART_DATA, v);
}

int mtty_get(const struct mtty_io *io)
{
	return rd(io, UART_LSR) & UART_LSR_DR ? rd(io, UART_DATA) : -EAGAIN;
}

bool mtty_overrun(const struct mtty_io *io)
{
	return rd(io, UART_LSR) & UART_LSR_OE;
}

unsigned mtty_level(const struct mtty_io *io, unsigned level)
{
	const unsigned code = level >= 14 ? 3 : level >= 8 ? 2 : level >= 4 ? 1 : 0;
	unsigned n = 0;
	bool due = false;

	wr(io, UART_FCR, UART_FCR_CLEAR | UART_FCR_ENABLE | FIELD_PREP(UART_FCR_TRIGGER, code));
	wr(io, UART_IER, UART_IER_RDI);
	while (!due && n < MTTY_USABLE) {
		mtty_put(io, (uint8_t)n++);
		due = rd(io, UART_IIR) & UART_IIR_RDI;
	}
	mtty_reset(io);
	return due ? n : 0;
}

const char *mtty_trigger_name(enum mtty_trigger t)
{
	static const char *const names[MTTY_TRIGGERS] = {
		"transmitter empty (IER)", "last byte read", "received data at the level", "overrun",
		"modem status (OUT2)",
	};

	return (unsigned)t < MTTY_TRIGGERS ? names[t] : "?";
}

void mtty_prepare(const struct mtty_io *io, enum mtty_trigger t)
{
	mtty_reset(io);
	switch (t) {
	case MTTY_EMPTIED:
		mtty_put(io, 0x55);
		wr(io, UART_IER, UART_IER_THRI); /* not empty: nothing yet */
		break;
	case MTTY_RDI:
		wr(io, UART_IER, UART_IER_RDI);
		break;
	case MTTY_RLSI:
		for (unsigned i = 0; i < MTTY_FIFO; i++)
			mtty_put(io, (uint8_t)i);
		wr(io, UART_IER, UART_IER_RLSI);
		break;
	case MTTY_MODEM:
		wr(io, UART_IER, UART_IER_MSI);
		break;
	default:
		break;
	}
}

void mtty_fire(const struct mtty_io *io, enum mtty_trigger t)
{
	switch (t) {
	case MTTY_THRI:
		wr(io, UART_IER, UART_IER_THRI);
		break;
	case MTTY_EMPTIED:
		(void)rd(io, UART_DATA);
		break;
	case MTTY_RDI:
	case MTTY_RLSI:
		mtty_put(io, 0xaa);
		break;
	default:
		wr(io, UART_MCR, UART_MCR_OUT2);
		break;
	}
}

void mtty_serve(const struct mtty_io *io, enum mtty_trigger t)
{
	(void)t;
	(void)rd(io, UART_IIR);
	wr(io, UART_IER, 0); /* before the FIFO empties: that would be a cause of its own */
	mtty_reset(io);
}

bool mtty_due(const struct mtty_io *io)
{
	return !(rd(io, UART_IIR) & UART_IIR_NO_INT);
}
