/* SPDX-License-Identifier: MIT */

#include "kernel/mm/mm.h"
#include "tests/apic/ipi.h"

/* A CPU whose xAPIC mode is closed for good says so here: SDM vol. 3, 11.12.1 (and vol. 4). */
#define MSR_ARCH_CAPABILITIES 0x10au
#define ARCH_CAP_XAPIC_DISABLE BIT64(21)
#define MSR_XAPIC_DISABLE_STATUS 0xbdu
#define XAPIC_DISABLED BIT64(0)

#define DFR_MODEL GENMASK(31, 28)

static bool xapic_closed(void)
{
	uint64_t caps, status;

	return cpu_features.max_leaf >= 7 && (cpuid(7, 0).edx & BIT(29)) &&
	       rdmsr_safe(MSR_ARCH_CAPABILITIES, &caps) == 0 && (caps & ARCH_CAP_XAPIC_DISABLE) &&
	       rdmsr_safe(MSR_XAPIC_DISABLE_STATUS, &status) == 0 && (status & XAPIC_DISABLED);
}

const char *xapic_missing(void)
{
	if (cpu_max_apic_id() > XAPIC_ID_MAX)
		return "APIC IDs above 254, which xAPIC mode does not have";
	if (apic_mode == APIC_X2APIC && xapic_closed())
		return "x2APIC mode cannot be left (IA32_XAPIC_DISABLE_STATUS=1)";
	return NULL;
}

static struct {
	bool away;
	enum apic_mode mode;
	enum apic_model model;
} home;

static void go_home(void *arg)
{
	(void)arg;
	if (home.away)
		apic_switch(home.mode, home.model);
	home.away = false;
}

void xapic_enter(struct t *t, enum apic_model m)
{
	if (!home.away) {
		home.mode = apic_mode;
		home.model = apic_xapic_model();
		home.away = true;
		test_cleanup(t, go_home, NULL);
	}
	REQUIRE_OK(t, apic_switch(APIC_XAPIC, m));
}

void xapic_leave(struct t *t)
{
	home.away = false;
	REQUIRE_OK(t, apic_switch(home.mode, home.model));
}

/* The logical registers, and how an xAPIC names itself in them. */
struct logical {
	uint32_t ldr, dfr, id;
	bool ldr_kept, dfr_kept;
};

static void read_logical(void *arg)
{
	struct logical *me = arg;

	irq_disable();
	me->id = apic_id();
	me->ldr = apic_ldr();
	me->dfr = apic_read(APIC_DFR);
	apic_write(APIC_LDR, 0xa5u << 24);
	me->ldr_kept = apic_read(APIC_LDR) >> 24 == 0xa5;
	apic_write(APIC_LDR, me->ldr << 24);
	apic_write(APIC_DFR, me->dfr ^ DFR_MODEL);
	me->dfr_kept = apic_read(APIC_DFR) == (me->dfr ^ DFR_MODEL);
	apic_write(APIC_DFR, me->dfr);
	irq_enable();
}

static void check_registers(struct t *t, const char *model)
{
	struct logical *r = test_alloc(t, sizeof(*r) * cpu_count());
	const uint32_t dfr = apic_xapic_model() == APIC_FLAT ? 0xffffffff : 0x0fffffff;

	on_every_cpu(t, read_logical, r, sizeof(*r));
	for (unsigned i = 0; i < cpu_count(); i++) {
		EXPECT_MSG(t, r[i].id == cpus[i]->apic_id, "CPU %u, %s: APIC ID: got 0x%x, expected 0x%x", i,
			   model, r[i].id, cpus[i]->apic_id);
		EXPECT_MSG(t, r[i].ldr == apic_logical_id(i) && r[i].dfr == dfr,
			   "CPU %u, %s: LDR[31:24] and DFR: got 0x%x 0x%x, expected 0x%x 0x%x as written", i,
			   model, r[i].ldr, r[i].dfr, apic_logical_id(i), dfr);
		EXPECT_MSG(t, r[i].ldr_kept && r[i].dfr_kept, "CPU %u, %s: another value is not kept by %s",
			   i, model, r[i].ldr_kept ? "DFR" : "LDR");
	}
}

/* Every set of every group: at most 255 of a flat one, 15 of a cluster. */
static void all_sets(struct delivery *d, const char *model)
{
	for (unsigned i = 0; i < d->cpus; i++) {
		const uint32_t mine = apic_logical_id(i);
		uint32_t whole = 0;
		bool leads = mine;

		for (unsigned k = 0; k < d->cpus; k++)
			if (apic_logical_group(mine, apic_logical_id(k))) {
				leads &= k >= i;
				whole |= apic_logical_id(k);
			}
		if (!leads)
			continue;
		for (uint32_t dest = 1; dest < 0xff; dest++) {
			const bool of_it = (dest & ~whole) == 0 && apic_logical_group(dest, mine) &&
					   apic_logical_match(dest, whole);

			if (!of_it)
				continue;
			ipi_due_logical(d, dest);
			ipi_send_logical(d, dest);
			delivery_check(d, "%s, set 0x%02x", model, dest);
		}
	}
	delivery_finish(d, "%s, after all sets", model);
}

/* Members that do not exist, and, in the cluster model, clusters that nobody is in: nobody. Then somebody. */
static void nobody(struct delivery *d, const char *model)
{
	unsigned sent = 0;

	for (uint32_t dest = 1; dest < 0xff; dest++) {
		bool any = false;

		for (unsigned i = 0; i < d->cpus; i++)
			any |= apic_logical_match(dest, apic_logical_id(i));
		/* Cluster 15 with some of its bits: SDM 11.6.2.2 says of the whole only what it is. */
		if (any || (apic_xapic_model() == APIC_CLUSTER && dest >= 0xf0))
			continue;
		ipi_send_logical(d, dest);
		sent++;
	}
	delivery_window();
	delivery_check(d, "%s: %u destinations that name nobody", model, sent);
	ipi_due_logical(d, apic_logical_id(0));
	ipi_send_logical(d, apic_logical_id(0));
	delivery_finish(d, "%s: and one that names CPU 0", model);
}

/*
 * xAPIC mode delivers by physical ID, by flat bits, and by cluster and member: exactly whom each names.
 *
 * SDM vol. 3, 11.6.2. Where the machine runs in x2APIC mode all CPUs go back, through off, for as long as the
 * test lasts: firmware and old kernels start there, and a VMM has other code for it (a logical ID that
 * software writes, a map that must follow). Flat: a bit a CPU, of the first eight. Cluster: 15 clusters of
 * four. All CPUs to all, all sets, those that name nobody, and the broadcasts; then back, and those again.
 */
TEST(apic, xapic_modes, "xAPIC physical, flat and cluster logical delivery, and back", NEED_NONE)
{
	static const char *const names[] = {[APIC_FLAT] = "flat", [APIC_CLUSTER] = "cluster"};
	struct delivery *d = delivery_open(t, 1);

	if (xapic_missing())
		test_skip(t, "%s", xapic_missing());
	test_budget(t, SEC(25));
	for (enum apic_model m = APIC_FLAT; m <= APIC_CLUSTER; m++) {
		bool all_named = true;

		xapic_enter(t, m);
		for (unsigned i = 0; i < d->cpus; i++)
			all_named &= apic_logical_id(i) != 0;
		check_registers(t, names[m]);
		if (m == APIC_FLAT)
			ipi_each_to_each(d, IRQ_PHYSICAL);
		ipi_each_to_each(d, IRQ_LOGICAL);
		all_sets(d, names[m]);
		nobody(d, names[m]);
		ipi_broadcasts(d, all_named);
		if (!all_named)
			test_note(t,
				  "%s: not every CPU can have a logical ID, those that have one were tried",
				  names[m]);
	}
	xapic_leave(t);
	ipi_broadcasts(d, apic_mode == APIC_X2APIC);
}
