/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/mtty.h"

#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "tests/ioapic/intx_probe.h"

#define ROUNDS 16 /* of each trigger */

static const unsigned levels[] = {1, 4, 8, 14};

/* In runs of as many as the FIFO holds, in order, and nothing after them. */
static void loop_back(struct t *t, const struct mtty_io *io, unsigned port)
{
	unsigned at = 0;

	mtty_reset(io);
	EXPECT_MSG(t, mtty_get(io) == -EAGAIN, "port %u: a byte before any was sent", port);
	while (at < 256) {
		const unsigned n = MIN(256 - at, (unsigned)MTTY_USABLE + SABOTAGE(mtty_sixteen));

		for (unsigned i = 0; i < n; i++)
			mtty_put(io, (uint8_t)(at + i));
		for (unsigned i = 0; i < n; i++) {
			const int got = mtty_get(io);

			EXPECT_MSG(t, got == (int)(at + i), "port %u: byte %u of a run: got %d, expected %u",
				   port, i, got, at + i);
		}
		EXPECT_MSG(t, mtty_get(io) == -EAGAIN, "port %u: a byte too many after 0x%02x", port,
			   at + n - 1);
		at += n;
	}
}

static void fifo(struct t *t, const struct mtty_io *io, unsigned port)
{
	unsigned odd = 0;

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		const unsigned got = mtty_level(io, levels[i]);

		/* Linux's sample sets 1 after whatever FCR asked for. */
		EXPECT_MSG(t, got == levels[i] || got == 1,
			   "port %u: level %u: got the interrupt's cause after %u bytes", port, levels[i],
			   got);
		odd += got != levels[i];
	}
	if (odd)
		test_note(t, "port %u: its level is 1 whatever is asked for (Linux's mtty, as it is)", port);
	mtty_reset(io);
	for (unsigned i = 0; i < MTTY_FIFO; i++)
		mtty_put(io, (uint8_t)i);
	EXPECT_MSG(t, !mtty_overrun(io), "port %u: an overrun with %u bytes in the FIFO", port, MTTY_FIFO);
	mtty_put(io, 0);
	EXPECT_MSG(t, mtty_overrun(io), "port %u: no overrun with %u bytes sent", port, MTTY_FIFO + 1);
	mtty_fifo(io, false);
	mtty_put(io, 1);
	EXPECT_MSG(t, !mtty_overrun(io), "port %u, FIFO off: an overrun with one byte", port);
	mtty_put(io, 2);
	EXPECT_MSG(t, mtty_overrun(io), "port %u, FIFO off: no overrun with two bytes", port);
	mtty_reset(io);
}

struct one {
	const struct mtty_io *io;
	enum mtty_trigger trigger;
};

static void fire(void *arg)
{
	const struct one *o = arg;

	mtty_prepare(o->io, o->trigger);
	mtty_fire(o->io, o->trigger);
}

static void serve(void *arg)
{
	const struct one *o = arg;

	mtty_serve(o->io, o->trigger);
}

static void interrupts(struct t *t, struct mtty *m)
{
	const char *why;
	struct intx *x = intx_open(t, m->ex, &why);
	unsigned told = 0;

	if (!x) {
		const bool due = intx_last()->signalled;

		EXPECT_MSG(t, !due,
			   PRIRID
			   " mtty: INTA: got no interrupt on any of %u I/O APIC pins, with its cause in IIR",
			   RIDARG(m->ex->dev->rid), intx_last()->tried);
		if (due)
			test_finding(t, "PLB040",
				     "vfio's INTx eventfd is not connected, or the machine routes no INTx",
				     "compare ioapic.intx and vgpu.intx of this report", why,
				     PRIRID " mtty: its INTx does not arrive", RIDARG(m->ex->dev->rid));
		else
			test_note(t, "INTx not tried: %s", why);
		return;
	}
	for (unsigned p = 0; p < m->ports; p++)
		for (enum mtty_trigger trigger = 0; trigger < MTTY_TRIGGERS; trigger++) {
			struct one o = {&m->io[p], trigger};
			const struct intx_ops ops = {fire, serve, &o};
			unsigned good = 0, none = 0, more = 0;
			char evidence[96];

			for (unsigned i = 0; i < ROUNDS; i++) {
				const unsigned came = intx_one(x, &ops);

				good += came == 1;
				none += came == 0;
				more += came > 1;
			}
			if (EXPECT_MSG(t, good == ROUNDS,
				       "port %u, %s: got %u of %u exactly once, %u never, %u again after "
				       "service",
				       p, mtty_trigger_name(trigger), good, ROUNDS, none, more) ||
			    told++)
				continue;
			fmt_snprintf(evidence, sizeof(evidence), "port %u, %s: %u of %u once, %u never, %u again",
				     p, mtty_trigger_name(trigger), good, ROUNDS, none, more);
			test_finding(t, none ? "PLB042" : "PLB043",
				     none ? "the host signals its eventfd while the last interrupt is still masked"
					  : "the host signals its eventfd again when the interrupt is unmasked",
				     "on the host: its kernel's version and QEMU's; compare ioapic.level, vgpu.intx",
				     evidence, PRIRID " mtty: %s", RIDARG(m->ex->dev->rid),
				     none ? "some of its interrupts are lost" : "its interrupts come again after service");
		}
	test_note(t, PRIRID " mtty: INTA is GSI %u, %u triggers x %u rounds x %u ports",
		  RIDARG(m->ex->dev->rid), x->gsi, MTTY_TRIGGERS, ROUNDS, m->ports);
	intx_close(x);
}

/*
 * Linux's sample mdev: a serial port whose transmitter is its receiver. All byte values come back in order,
 * the FIFO holds and overruns as it should, and INTx arrives by each of its triggers, sixteen times, none
 * lost after it was served, none doubled.
 *
 * A cause that arises while the last interrupt was not served is dropped by design (samples/vfio-mdev/mtty.c,
 * intx_mask): each round serves before the next. Of 16 bytes in its FIFO it says that there are none; runs
 * of 15 are used.
 */
TEST_FULL(mdev, mtty, 0, 60000,
	  "loop-back of all byte values, FIFO levels, INTx by each trigger, none lost after service",
	  NEED_PCI)
{
	unsigned shown = 0;
	bool failed;

	FOR_EACH_EXERCISER(t, ex, 0) {
		struct mtty *m = mtty_of(ex);

		if (!m)
			continue;
		shown++;
		REQUIRE_OK(t, exerciser_start(ex));
		failed = test_has_failed(t);
		for (unsigned p = 0; p < m->ports; p++) {
			ASSERT_MSG(t, mtty_answers(&m->io[p]), "port %u does not answer at 0x%x", p,
				   m->base[p]);
			loop_back(t, &m->io[p], p);
			fifo(t, &m->io[p], p);
		}
		if (!failed && test_has_failed(t))
			test_finding(t, "PLB044", "the host's mtty is another version than Linux 6.12's, or broken",
				     "on the host: modinfo mtty; compare with an mtty of that kernel's own build",
				     NULL, PRIRID " mtty: what is sent does not come back as it should",
				     RIDARG(ex->dev->rid));
		interrupts(t, m);
		ex->ops->quiesce(ex);
	}
	if (!shown)
		test_skip(t, "no mtty (4348:3253): modprobe mtty on the host, and an mdev of it");
}
