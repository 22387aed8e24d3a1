/* SPDX-License-Identifier: MIT */
// link: drivers/exercisers/mtty_uart.c
#include "drivers/exercisers/mtty_uart.h"

#include "kernel/lib/err.h"
#include "tests/host/host.h"

/*
 * The port as Linux's samples/vfio-mdev/mtty.c behaves, its oddities with it: head and tail that meet at 16,
 * a level that is always 1, causes that are dropped while the last was not served.
 */
static struct port {
	uint8_t fifo[16], reg[8], head, tail, count, max, level;
	bool dlab, overrun;
	bool masked;                 /* an interrupt went out and the BAR was not accessed since */
	unsigned interrupts, dropped;
	bool honours_level;          /* as a version would that keeps what FCR asked for */
} p;

static void trigger(void)
{
	if (p.masked) {
		p.dropped++;
		return;
	}
	p.interrupts++;
	p.masked = true;
}

static uint8_t rd(void *arg, unsigned reg)
{
	uint8_t v = 0x77;            /* what an empty FIFO leaves in the buffer */

	(void)arg;
	p.masked = false;            /* QEMU unmasks on an access, after it was done; see wr() */
	switch (reg) {
	case 0:
		if (p.head != p.tail) {
			v = p.fifo[p.tail];
			p.count--;
			p.tail = (p.tail + 1) & 15;
		}
		if (p.head == p.tail && p.reg[1] & 2)
			trigger();
		return v;
	case 1:
		return p.reg[1] & 0x0f;
	case 2:
		v = 0;
		if (p.reg[1] & 4 && p.overrun)
			v |= 6;
		if (p.reg[1] & 1 && p.count >= p.level)
			v |= 4;
		if (p.reg[1] & 2 && p.head == p.tail)
			v |= 2;
		return (v ? v : 1) | 0xc0;
	case 5:
		return (uint8_t)((p.head != p.tail ? 1 : 0x60) | (p.overrun ? 2 : 0));
	default:
		return p.reg[reg];
	}
}

static void wr(void *arg, unsigned reg, uint8_t v)
{
	static const uint8_t levels[] = {1, 4, 8, 14};

	(void)arg;
	p.masked = false;
	switch (reg) {
	case 0:
		if (p.dlab)
			break;
		if (p.count < p.max) {
			p.fifo[p.head] = v;
			p.count++;
			p.head = (p.head + 1) & 15;
			p.overrun = false;
			if (p.reg[1] & 1 && p.count == p.level)
				trigger();
		} else {
			p.overrun = true;
			if (p.reg[1] & 4)
				trigger();
		}
		break;
	case 1:
		if (p.dlab)
			break;
		p.reg[1] = v;
		if (v & 2 && p.head == p.tail)
			trigger();
		break;
	case 2:
		if (v & 6)
			p.count = p.head = p.tail = 0;
		p.level = p.honours_level ? levels[v >> 6] : 1;
		p.max = v & 1 ? 16 : 1;
		break;
	case 3:
		p.dlab = v & 0x80;
		p.reg[3] = v;
		break;
	case 4:
		p.reg[4] = v;
		if (p.reg[1] & 8 && v & 8)
			trigger();
		if (p.reg[1] & 8 && v & 3)
			trigger();
		break;
	case 7:
		p.reg[7] = v;
		break;
	}
}

static const struct mtty_io io = {rd, wr, NULL};

static void fresh(void)
{
	p = (struct port){.max = 16};
}

int main(void)
{
	fresh();
	p.dlab = true;
	p.reg[1] = 0x0f;
	mtty_reset(&io);
	CHECK(mtty_answers(&io));
	CHECK_EQ(mtty_get(&io), -EAGAIN);
	CHECK_EQ(p.interrupts, 0);

	for (unsigned i = 0; i < MTTY_USABLE; i++)
		mtty_put(&io, (uint8_t)(0xf0 + i));
	for (unsigned i = 0; i < MTTY_USABLE; i++)
		CHECK_EQ(mtty_get(&io), (uint8_t)(0xf0 + i));
	CHECK_EQ(mtty_get(&io), -EAGAIN);
	/* 16 look like none: that is why 15 are usable. */
	for (unsigned i = 0; i < MTTY_FIFO; i++)
		mtty_put(&io, 1);
	CHECK_EQ(mtty_get(&io), -EAGAIN);
	CHECK(!mtty_overrun(&io));
	mtty_put(&io, 1);
	CHECK(mtty_overrun(&io));
	mtty_fifo(&io, false);
	mtty_put(&io, 1);
	CHECK(!mtty_overrun(&io));
	mtty_put(&io, 1);
	CHECK(mtty_overrun(&io));

	for (unsigned honest = 0; honest < 2; honest++) {
		static const unsigned levels[] = {1, 4, 8, 14};

		fresh();
		p.honours_level = honest;
		for (unsigned i = 0; i < 4; i++)
			CHECK_EQ(mtty_level(&io, levels[i]), honest ? levels[i] : 1);
	}

	/* Each trigger: no interrupt before it, one by it, none by serving it, and again. */
	for (enum mtty_trigger t = 0; t < MTTY_TRIGGERS; t++) {
		fresh();
		mtty_reset(&io);
		for (unsigned i = 0; i < 5; i++) {
			mtty_prepare(&io, t);
			CHECK_EQ(p.interrupts, i);
			mtty_fire(&io, t);
			CHECK_EQ(p.interrupts, i + 1);
			CHECK(t == MTTY_MODEM || mtty_due(&io));
			mtty_serve(&io, t);
			CHECK_EQ(p.interrupts, i + 1);
			CHECK(!mtty_due(&io));
			CHECK_EQ(p.dropped, 0);
		}
		CHECK(mtty_trigger_name(t)[0] != '?');
	}
	/* One that does not answer. */
	fresh();
	p.head = 1;
	CHECK(!mtty_answers(&io));
	return host_done("mdev_mtty");
}
