/* SPDX-License-Identifier: MIT */
// link: tests/models/irq.c tests/models/breaks.c

/* From the GPU's interrupt output to messages and the pin: re-arm, masks, gates, and what breaks them. */

#include "tests/host/host.h"
#include "tests/models/irq.h"

static const struct irq_config off = { .bus_master = true }, msi = { .msi = true, .bus_master = true },
			       msix = { .msix = true, .bus_master = true };
static struct breaks brk;
static struct irq q;
static bool has[IRQ_TYPES][IRQ_VECTORS], full[IRQ_TYPES][IRQ_VECTORS];
static unsigned got[IRQ_TYPES][IRQ_VECTORS];
static uint64_t now;

static bool wired(void *ctx, enum irq_type type, unsigned vector)
{
	(void)ctx;
	return vector < IRQ_VECTORS && has[type][vector];
}

static bool taken(void *ctx, enum irq_type type, unsigned vector)
{
	(void)ctx;
	return !full[type][vector];
}

static void signal(void *ctx, enum irq_type type, unsigned vector)
{
	(void)ctx;
	got[type][vector]++;
}

static const struct irq_ops ops = { wired, taken, signal };

static void fresh(const char *breaks, bool vf, const struct irq_config *cfg)
{
	memset(&brk, 0, sizeof(brk));
	CHECK_EQ(breaks_add(&brk, breaks), 0);
	memset(has, 0, sizeof(has));
	memset(full, 0, sizeof(full));
	memset(got, 0, sizeof(got));
	now = 5000000000;
	irq_init(&q, &brk, &ops, NULL, vf);
	has[IRQ_INTX][0] = has[IRQ_MSI][0] = has[IRQ_MSIX][0] = has[IRQ_MSIX][1] = true;
	irq_configure(&q, cfg, now);
}

static void pulse(void)
{
	irq_line(&q, true, now);
	irq_line(&q, false, now);
}

static void rearm_rule(void)
{
	fresh("", false, &msi);
	pulse();
	CHECK_EQ(got[IRQ_MSI][0], 1);
	pulse();
	CHECK_EQ(got[IRQ_MSI][0], 1);                        /* not re-armed */
	irq_rearm(&q, now);
	CHECK_EQ(got[IRQ_MSI][0], 1);                        /* nothing pending */
	pulse();
	CHECK_EQ(got[IRQ_MSI][0], 2);
	irq_line(&q, true, now);
	irq_rearm(&q, now);
	CHECK_EQ(got[IRQ_MSI][0], 3);                        /* still pending at the re-arm */
	irq_line(&q, true, now);
	CHECK_EQ(got[IRQ_MSI][0], 3);                        /* a level is no news */
	CHECK_EQ(got[IRQ_INTX][0], 0);
	irq_configure(&q, &off, now);
	irq_line(&q, false, now);
	irq_configure(&q, &msi, now);                        /* enabling arms */
	pulse();
	CHECK_EQ(got[IRQ_MSI][0], 4);
	fresh("", true, &msix);                              /* a VF needs no re-arm */
	for (unsigned i = 0; i < 16; i++)
		pulse();
	CHECK_EQ(got[IRQ_MSIX][0], 16);
	fresh("no-rearm", false, &msi);
	for (unsigned i = 0; i < 16; i++) {
		pulse();
		irq_rearm(&q, now);
	}
	CHECK_EQ(got[IRQ_MSI][0], 1);
	fresh("no-rearm", true, &msix);
	for (unsigned i = 0; i < 16; i++)
		pulse();
	CHECK_EQ(got[IRQ_MSIX][0], 1);
}

static void gates(void)
{
	struct irq_config cfg = msi;

	cfg.bus_master = false;
	fresh("", false, &cfg);
	irq_line(&q, true, now);
	CHECK_EQ(got[IRQ_MSI][0], 0);
	irq_configure(&q, &msi, now);
	CHECK_EQ(got[IRQ_MSI][0], 1);
	fresh("", false, &msi);
	has[IRQ_MSI][0] = false;                             /* enabled before the eventfd is there */
	irq_line(&q, true, now);
	has[IRQ_MSI][0] = true;
	irq_wired(&q, now);
	CHECK_EQ(got[IRQ_MSI][0], 1);
}

static void pin(void)
{
	struct irq_config cfg = off;

	fresh("", false, &off);
	irq_line(&q, true, now);
	CHECK_EQ(got[IRQ_INTX][0], 1);
	irq_line(&q, true, now);
	CHECK_EQ(got[IRQ_INTX][0], 1);                       /* masked itself */
	irq_mask(&q, IRQ_INTX, 0, false, now);
	CHECK_EQ(got[IRQ_INTX][0], 2);                       /* still asserted */
	irq_line(&q, false, now);
	irq_mask(&q, IRQ_INTX, 0, false, now);
	CHECK_EQ(got[IRQ_INTX][0], 2);
	irq_mask(&q, IRQ_INTX, 0, true, now);
	irq_line(&q, true, now);
	CHECK_EQ(got[IRQ_INTX][0], 2);
	irq_mask(&q, IRQ_INTX, 0, false, now);
	CHECK_EQ(got[IRQ_INTX][0], 3);
	cfg.intx_off = true;
	fresh("", false, &cfg);
	irq_line(&q, true, now);
	CHECK_EQ(got[IRQ_INTX][0], 0);
	irq_configure(&q, &off, now);
	CHECK_EQ(got[IRQ_INTX][0], 1);
	fresh("intx-dead", false, &off);
	irq_line(&q, true, now);
	CHECK_EQ(got[IRQ_INTX][0], 0);
	fresh("msi-as-intx", false, &msi);
	irq_line(&q, true, now);
	CHECK_EQ(got[IRQ_INTX][0], 1);
	CHECK_EQ(got[IRQ_MSI][0], 0);
}

static void vector_mask(void)
{
	struct irq_config cfg = msix;

	fresh("", true, &msix);
	irq_mask(&q, IRQ_MSIX, 0, true, now);
	pulse();
	CHECK_EQ(got[IRQ_MSIX][0], 0);
	CHECK_EQ(q.vector_pending, 1);
	irq_mask(&q, IRQ_MSIX, 0, false, now);
	CHECK_EQ(got[IRQ_MSIX][0], 1);
	CHECK_EQ(q.vector_pending, 0);
	cfg.msix_masked = true;
	irq_configure(&q, &cfg, now);
	pulse();
	CHECK_EQ(got[IRQ_MSIX][0], 1);
	irq_mask(&q, IRQ_MSIX, 0, false, now);               /* the whole function is masked still */
	CHECK_EQ(got[IRQ_MSIX][0], 1);
	irq_configure(&q, &msix, now);
	CHECK_EQ(got[IRQ_MSIX][0], 2);
	irq_mask(&q, IRQ_MSIX, 99, true, now);
}

static void message_breaks(void)
{
	fresh("no-msi", false, &msi);
	pulse();
	CHECK_EQ(got[IRQ_MSI][0], 0);
	irq_configure(&q, &off, now);
	irq_line(&q, true, now);
	CHECK_EQ(got[IRQ_INTX][0], 1);                       /* the pin works */

	fresh("double-msi=2", false, &msi);
	full[IRQ_MSI][0] = true;
	pulse();
	now += 2000000;
	CHECK_EQ(irq_run_later(&q, now), 1000000);           /* the first is not read yet */
	CHECK_EQ(got[IRQ_MSI][0], 1);
	full[IRQ_MSI][0] = false;
	now += 1000000;
	CHECK(irq_run_later(&q, now) == UINT64_MAX);
	CHECK_EQ(got[IRQ_MSI][0], 2);

	fresh("late-msi=50", false, &msi);
	pulse();
	CHECK_EQ(got[IRQ_MSI][0], 0);
	CHECK_EQ(irq_run_later(&q, now), 50000000);
	now += 50000000;
	irq_run_later(&q, now);
	CHECK_EQ(got[IRQ_MSI][0], 1);

	fresh("lose-msi=3", true, &msix);
	for (unsigned i = 0; i < 9; i++)
		pulse();
	CHECK_EQ(got[IRQ_MSIX][0], 6);
	CHECK_EQ(q.lost, 3);

	fresh("spurious-msi", false, &msi);
	pulse();
	irq_rearm(&q, now);
	now += 2000000;
	irq_run_later(&q, now);
	CHECK_EQ(got[IRQ_MSI][0], 2);

	fresh("wrong-vector", true, &msix);
	pulse();
	CHECK_EQ(got[IRQ_MSIX][0], 0);
	CHECK_EQ(got[IRQ_MSIX][1], 1);
	fresh("wrong-vector", false, &msi);                  /* one message: there is no other */
	pulse();
	CHECK_EQ(got[IRQ_MSI][0], 0);
	CHECK_EQ(q.lost, 1);

	fresh("late-msi=1", true, &msix);                    /* more than fit are dropped, no more */
	for (unsigned i = 0; i < 2 * IRQ_LATER; i++)
		pulse();
	now += 1000000;
	irq_run_later(&q, now);
	CHECK_EQ(got[IRQ_MSIX][0], IRQ_LATER);
	pulse();
	irq_reset(&q);
	CHECK(irq_run_later(&q, now + 5000000) == UINT64_MAX);
	fresh("late-msi=1", false, &msi);                    /* the eventfd went away meanwhile */
	pulse();
	has[IRQ_MSI][0] = false;
	CHECK(irq_run_later(&q, now + 1000000) == UINT64_MAX);
	CHECK_EQ(got[IRQ_MSI][0], 0);
}

static void names(void)
{
	struct breaks b = { 0 };

	CHECK_EQ(breaks_add(&b, "no-msi,slow-traps=4000"), 0);
	CHECK(broken(&b, BRK_NO_MSI) && broken(&b, BRK_SLOW_TRAPS) && !broken(&b, BRK_NO_REARM));
	CHECK_EQ(b.arg[BRK_SLOW_TRAPS], 4000);
	CHECK_EQ(breaks_add(&b, "die-after=0x10"), 0);
	CHECK_EQ(b.arg[BRK_DIE_AFTER], 16);
	CHECK(breaks_add(&b, "no-such") < 0);
	CHECK(breaks_add(&b, "no-ms") < 0);
	CHECK(breaks_add(&b, "no-msi=1") < 0);
	CHECK(breaks_add(&b, "slow-traps=") < 0);
	CHECK(breaks_add(&b, "slow-traps=8001") < 0);
	CHECK(breaks_add(&b, "slow-traps=-1") < 0);
	CHECK(breaks_add(&b, "slow-traps=1x") < 0);
	CHECK(breaks_add(&b, "slow-traps=99999999999999999999999999") < 0);
	CHECK(breaks_add(&b, "lose-msi=0") < 0);
	CHECK(breaks_add(&b, "ptimer-fast=1") < 0);
}

int main(void)
{
	rearm_rule();
	gates();
	pin();
	vector_mask();
	message_breaks();
	names();
	return host_done("vgpu_model_irq");
}
