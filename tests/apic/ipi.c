/* SPDX-License-Identifier: MIT */

#include "tests/apic/ipi.h"

/* All pairs up to here; beyond it rows, columns and a seeded sample of pairs. */
#define ALL_PAIRS_MAX 32
#define ALL_PAIRS_XAPIC 8 /* where each takes three accesses, and apic.xapic_modes does it three times */
#define SAMPLES       64
#define FAILURES_MAX  4 /* a row that goes wrong so often is given up */
#define ROW_LIMIT     SEC(8)

static struct irq_route to_cpu(unsigned cpu, enum irq_dest_mode mode, int vector)
{
	return (struct irq_route){
		.dest = mode == IRQ_LOGICAL ? apic_logical_id(cpu) : cpus[cpu]->apic_id,
		.mode = mode,
		.vector = (uint8_t)vector,
	};
}

/* ---- one CPU sends to several, one after the other ---- */
struct row {
	struct delivery *d;
	enum irq_dest_mode mode;
	const uint16_t *target;
	unsigned count, sent; /* sent < count: the last of those sent did not arrive */
};

static void send_row(void *arg)
{
	struct row *r = arg;

	while (r->sent < r->count) {
		const unsigned cpu = r->target[r->sent++];
		const struct irq_route route = to_cpu(cpu, r->mode, r->d->vector[0]);

		ipi_send(&route, IPI_DEST);
		/* A single one is waited for by CPU 0: two CPUs that spin share a core badly. */
		if (r->count > 1 && !delivery_arrived(r->d, cpu, 0))
			return;
	}
}

static void from_to(struct delivery *d, enum irq_dest_mode mode, unsigned source, const uint16_t *target,
		    unsigned count)
{
	const char *how = mode == IRQ_LOGICAL ? "logical" : "physical";

	for (unsigned failures = 0; count && failures < FAILURES_MAX; failures++) {
		struct row r = {.d = d, .mode = mode, .target = target, .count = count};
		int err;

		for (unsigned i = 0; i < count; i++)
			delivery_due(d, target[i], 0, 1);
		err = cpu_call(source, send_row, &r, ROW_LIMIT);
		if (err)
			test_error(d->t, "CPU %u could not send: -%s", source, err_name(err));
		for (unsigned i = r.sent; i < count; i++)
			delivery_due(d, target[i], 0, (uint32_t)-1); /* never sent */
		if (r.sent == 1 || r.sent < count)
			delivery_check(d, "CPU %u to CPU %u, %s", source, target[r.sent - 1], how);
		else
			delivery_check(d, "CPU %u to CPUs %u..%u, %s", source, target[0], target[count - 1],
				       how);
		target += r.sent;
		count -= r.sent;
	}
}

/* Or what stands for that when they are many. */
void ipi_each_to_each(struct delivery *d, enum irq_dest_mode mode)
{
	struct t *t = d->t;
	uint16_t *all = test_alloc(t, sizeof(*all) * d->cpus);
	unsigned n = 0;
	struct random rnd;

	for (unsigned i = 0; i < d->cpus; i++)
		if (mode == IRQ_PHYSICAL || apic_logical_id(i)) /* xAPIC mode has none for every CPU */
			all[n++] = (uint16_t)i;
	from_to(d, mode, 0, all, n);
	if (d->cpus <= (apic_mode == APIC_X2APIC ? ALL_PAIRS_MAX : ALL_PAIRS_XAPIC)) {
		for (unsigned i = 1; i < d->cpus; i++)
			from_to(d, mode, i, all, n);
	} else {
		test_note(t, "%u CPUs: CPU 0 to each, each to CPU 0, and %u pairs by the seed", d->cpus,
			  SAMPLES);
		for (unsigned i = 1; i < d->cpus; i++)
			from_to(d, mode, i, all, 1);
		rnd = random_seed(test_seed(t));
		for (unsigned i = 0; i < SAMPLES; i++) {
			const unsigned source = random_below(&rnd, d->cpus);

			from_to(d, mode, source, &all[random_below(&rnd, n)], 1);
		}
	}
	delivery_finish(d, "after all pairs");
}

/*
 * An IPI with a physical destination arrives at that CPU: exactly once, nowhere else.
 *
 * SDM vol. 3, 11.6.1, 11.12.9. All senders, for a VMM may take another path when the target is the
 * sender, runs, or sleeps; and all targets, for it keeps a map from ID to CPU that can be wrong in
 * one place.
 */
TEST(apic, ipi_physical, "each CPU to each CPU by physical destination: exactly once, nowhere else", NEED_NONE)
{
	ipi_each_to_each(delivery_open(t, 1), IRQ_PHYSICAL);
}

/*
 * The same by the logical ID of a single CPU, in x2APIC mode: cluster in bits 31:16, member in 15:0.
 * SDM vol. 3, 11.12.10.2.
 */
TEST(apic, ipi_cluster, "each single CPU by its logical x2APIC ID: exactly once, nowhere else", NEED_X2APIC)
{
	ipi_each_to_each(delivery_open(t, 1), IRQ_LOGICAL);
}

/* ---- clusters ---- */
#define CLUSTER_NONE 0xffff /* all ones is the broadcast, never a cluster of ours */

static uint16_t cluster_of(unsigned cpu)
{
	return (uint16_t)(apic_logical_id(cpu) >> 16);
}

/* Bits of the online members. */
static uint16_t members(uint16_t cluster)
{
	uint16_t bits = 0;

	for (unsigned i = 0; i < cpu_count(); i++)
		if (cluster_of(i) == cluster)
			bits |= (uint16_t)apic_logical_id(i);
	return bits;
}

static unsigned bits_in(uint16_t x)
{
	unsigned n = 0;

	for (; x; x &= (uint16_t)(x - 1))
		n++;
	return n;
}

/* The first CPU of a cluster stands for it. */
static bool leads_cluster(unsigned cpu)
{
	for (unsigned i = 0; i < cpu; i++)
		if (cluster_of(i) == cluster_of(cpu))
			return false;
	return true;
}

void ipi_due_logical(struct delivery *d, uint32_t dest)
{
	for (unsigned i = 0; i < d->cpus; i++)
		if (apic_logical_match(dest, apic_logical_id(i)))
			delivery_due(d, i, 0, 1);
}

void ipi_send_logical(const struct delivery *d, uint32_t dest)
{
	const struct irq_route r = {.dest = dest, .mode = IRQ_LOGICAL, .vector = (uint8_t)d->vector[0]};

	ipi_send(&r, IPI_DEST);
}

/* The bits of mask that the bits of n choose: n counts through all subsets. */
static uint16_t subset(uint16_t mask, uint32_t n)
{
	uint16_t out = 0;

	for (unsigned bit = 0; bit < 16; bit++)
		if (mask & BIT(bit)) {
			out |= (uint16_t)((n & 1) << bit);
			n >>= 1;
		}
	return out;
}

/*
 * A logical destination reaches exactly the members that its bits name.
 *
 * SDM vol. 3, 11.12.10.1. Every non-empty set of a cluster of up to 8; of a larger one the whole, and
 * sets by the seed. A VMM that delivers to the first match only, or caches a mask, fails on some.
 */
TEST(apic, ipi_cluster_sets, "every non-empty set within a cluster: exactly its members", NEED_X2APIC)
{
	struct delivery *d = delivery_open(t, 1);
	struct random rnd = random_seed(test_seed(t));
	unsigned clusters = 0, sampled;

	for (unsigned i = 0; i < d->cpus; i++)
		clusters += leads_cluster(i);
	sampled = clusters > 4 ? 16 : 64;
	for (unsigned i = 0; i < d->cpus; i++) {
		const uint16_t cluster = cluster_of(i), all = members(cluster);
		const unsigned size = bits_in(all);
		const bool every = size <= 8;
		const uint32_t sets = every ? BIT(size) - 1 : sampled;

		if (!leads_cluster(i))
			continue;
		for (uint32_t n = 1; n <= sets; n++) {
			uint16_t bits = subset(all, every ? n : (uint32_t)random_u64(&rnd));
			uint32_t dest;

			if (n == sets || !bits)
				bits = all;
			dest = (uint32_t)cluster << 16 | bits;
			ipi_due_logical(d, dest);
			ipi_send_logical(d, dest);
			delivery_check(d, "set 0x%08x", dest);
		}
		if (!every)
			test_note(t, "cluster %u has %u members: %u sets by the seed", cluster, size, sets);
	}
	delivery_finish(d, "after all sets");
}

/*
 * The bits of one cluster, sent to another, reach nobody in the first.
 *
 * SDM vol. 3, 11.12.10.1: the cluster is part of the address. To clusters nobody is in, and to
 * members that do not exist, nothing arrives; to another cluster that exists, only at its own
 * members. Each cluster then gets its own bits, and they arrive.
 */
TEST(apic, ipi_cluster_isolation, "the same bits in another cluster reach nobody there", NEED_X2APIC)
{
	static const uint16_t far[] = {1, 2, 0x7fff, 0x8000, 0xfffe};
	struct delivery *d = delivery_open(t, 1);

	for (unsigned i = 0; i < d->cpus; i++) {
		const uint16_t own = cluster_of(i), bits = members(own);
		const uint16_t next = (uint16_t)(own + 1), absent = (uint16_t)~bits;

		if (!leads_cluster(i))
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(far); k++) {
			const uint16_t other = (uint16_t)(own + far[k]);

			if (other != CLUSTER_NONE && !members(other))
				ipi_send_logical(d, (uint32_t)other << 16 | bits);
		}
		if (absent)
			ipi_send_logical(d, (uint32_t)own << 16 | absent);
		delivery_window();
		delivery_check(d, "cluster %u: its bits in clusters nobody is in, absent members in its own",
			       own);

		if (next != CLUSTER_NONE && members(next)) {
			ipi_due_logical(d, (uint32_t)next << 16 | bits);
			ipi_send_logical(d, (uint32_t)next << 16 | bits);
			delivery_check(d, "cluster %u: its bits in cluster %u", own, next);
		}
		ipi_due_logical(d, (uint32_t)own << 16 | bits);
		ipi_send_logical(d, (uint32_t)own << 16 | bits);
		delivery_check(d, "cluster %u: its bits in itself", own);
	}
	delivery_finish(d, "after all clusters");
}

/* ---- lowest priority ---- */
static uint32_t taken_by_all(const struct delivery *d)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < d->cpus; i++)
		n += delivery_count(d, i, 0);
	return n;
}

/* Each set once. How many of them somebody took; whoever it was, it is due there from now on. */
static unsigned try_lowest(struct delivery *d, uint32_t dest, unsigned *by_first)
{
	const struct irq_route r = {
		.dest = dest, .mode = IRQ_LOGICAL, .delivery = IRQ_LOWEST, .vector = (uint8_t)d->vector[0]};
	const uint32_t before = taken_by_all(d);
	unsigned takers = 0;
	bool first = true;

	ipi_send(&r, IPI_DEST);
	(void)WAIT_FOR(taken_by_all(d) != before, MS(100));
	delivery_fence(d->t); /* a second one comes before this does, on whatever CPU */
	for (unsigned i = 0; i < d->cpus; i++) {
		const bool member = apic_logical_match(dest, apic_logical_id(i));
		const uint32_t came = delivery_count(d, i, 0) - d->due[i];

		*by_first += member && first && came;
		first &= !member;
		if (!member || !came)
			continue; /* a stranger's is a stray: delivery_check() says so */
		takers++;
		EXPECT_MSG(d->t, came == 1 && takers == 1,
			   "lowest priority to set 0x%x: CPU %u got %u, as member %u that took it; expected "
			   "one of one",
			   dest, i, came, takers);
		delivery_due(d, i, 0, came);
	}
	delivery_check(d, "lowest priority to set 0x%x", dest);
	return takers != 0;
}

/*
 * Lowest-priority delivery reaches exactly one member of its set.
 *
 * SDM vol. 3, 11.6.2.4: which one depends on the processor, and so does whether IPIs may ask for it at all:
 * where no set of any size gets one, it is not supported, and the test skips. Where it is, each set gets
 * exactly one, and nobody outside. Delivered to all of the set it looks like fixed delivery to whoever tests
 * a single CPU.
 */
TEST(apic, ipi_lowest, "lowest-priority delivery reaches exactly one member of its set, where supported",
     NEED_NONE)
{
	struct delivery *d = delivery_open(t, 1);
	unsigned sets = 0, taken = 0, by_first = 0;

	for (unsigned i = 0; i < d->cpus; i++) {
		uint32_t whole = 0;
		bool leads = true;

		/* The members up to here, the CPU alone, and the whole group where it is the last of it. */
		for (unsigned k = 0; k < d->cpus; k++) {
			const uint32_t id = apic_logical_id(k);

			if (!apic_logical_group(id, apic_logical_id(i)))
				continue;
			if (k <= i)
				whole |= id;
			leads &= k <= i;
		}
		if (!whole)
			continue;
		if (d->cpus > ALL_PAIRS_MAX && !leads && i)
			continue; /* of many CPUs each cluster's whole */
		taken += try_lowest(d, whole, &by_first) + try_lowest(d, apic_logical_id(i), &by_first);
		sets += 2;
	}
	delivery_finish(d, "after all sets");
	if (sets && !taken && !test_has_failed(t))
		test_skip(t, "lowest-priority IPIs are not delivered here (SDM 11.6.1: model specific)");
	EXPECT_MSG(t, taken == sets, "lowest priority: got %u of %u sets served, expected all or none", taken,
		   sets);
	test_note(t, "%u sets, the first member took it in %u", sets, by_first);
}

/* ---- broadcasts ---- */
struct broadcast {
	struct irq_route route;
	enum ipi_shorthand shorthand;
	const char *name;
};

static void send_broadcast(void *arg)
{
	const struct broadcast *b = arg;

	ipi_send(&b->route, b->shorthand);
}

void ipi_broadcasts(struct delivery *d, bool logical)
{
	const uint8_t vector = (uint8_t)d->vector[0];
	const uint32_t everyone = apic_mode == APIC_X2APIC ? 0xffffffff : 0xff;
	const struct broadcast kinds[] = {
		{{.dest = everyone, .vector = vector}, IPI_DEST, "physical broadcast"},
		{{.dest = everyone, .mode = IRQ_LOGICAL, .vector = vector}, IPI_DEST, "logical broadcast"},
		{{.vector = vector}, IPI_SELF, "shorthand self"},
		{{.vector = vector}, IPI_ALL, "shorthand all"},
		{{.vector = vector}, IPI_OTHERS, "shorthand all but self"},
	};
	const unsigned step = d->cpus <= 4 ? 1 : d->cpus - 1; /* of many the first and the last */

	for (unsigned source = 0; source < d->cpus; source += step)
		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
			struct broadcast b = kinds[k];

			if (b.route.mode == IRQ_LOGICAL && !logical)
				continue;
			if (b.shorthand == IPI_SELF)
				delivery_due(d, source, 0, 1);
			else
				delivery_due_all(d, 0, 1);
			if (b.shorthand == IPI_OTHERS)
				delivery_due(d, source, 0, (uint32_t)-1);
			REQUIRE_OK(d->t, cpu_call(source, send_broadcast, &b, ROW_LIMIT));
			delivery_check(d, "%s from CPU %u", b.name, source);
		}
	delivery_finish(d, "after all broadcasts");
}

/*
 * Each way to address many reaches exactly whom it says, the sender among them or not.
 *
 * SDM vol. 3, 11.6.1 (shorthands), 11.12.9 and 11.12.10 (all ones is everyone, physical and logical;
 * 0xff in xAPIC mode).
 */
TEST(apic, ipi_broadcast, "physical, logical and the three shorthands, each exactly whom it says", NEED_NONE)
{
	ipi_broadcasts(delivery_open(t, 1), true);
}

/* ---- to oneself ---- */
struct self_ipi {
	struct delivery *d;
	unsigned cpu;
	bool by_msr;
};

static void send_self(void *arg)
{
	struct self_ipi *s = arg;
	const struct irq_route r = {.vector = (uint8_t)s->d->vector[1]};

	if (s->by_msr) {
		wrmsr(MSR_X2APIC(APIC_SELF_IPI), (uint64_t)s->d->vector[0]);
		delivery_arrived(s->d, s->cpu, 0);
	}
	ipi_send(&r, IPI_SELF);
	delivery_arrived(s->d, s->cpu, 1);
}

struct illegal {
	uint32_t delivered, kept, faulted; /* a bit a vector */
};

static void open_window(void *arg)
{
	(void)arg;
	__asm__ volatile("sti; nop; nop; nop; cli" ::: "memory");
}

/* Those whose exception pushes no error code: a delivery then has the frame that the stub expects. */
#define ILLEGAL_VECTORS (BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(9) | BIT(15))

static void send_illegal(void *arg)
{
	struct illegal *r = arg;

	irq_disable();
	for (unsigned v = 0; v < 16; v++) {
		struct trap_info info;

		if (!(ILLEGAL_VECTORS & BIT(v)))
			continue;
		if (apic_mode == APIC_X2APIC)
			r->faulted |= wrmsr_safe(MSR_X2APIC(APIC_SELF_IPI), v) ? BIT(v) : 0;
		else
			ipi_send(&(struct irq_route){.vector = (uint8_t)v}, IPI_SELF);
		if (trap_expect(open_window, NULL, &info)) {
			irq_disable(); /* the frame it left by had them on */
			r->delivered |= BIT(v);
			apic_eoi();
		}
		r->kept |= apic_read(APIC_IRR0) & BIT(v);
	}
	apic_write(APIC_ESR, 0); /* what the illegal ones left there */
	irq_enable();
}

/*
 * A CPU can send to itself: by the self-IPI register and by shorthand, exactly once each. SDM vol. 3,
 * 11.12.11 and 11.6.1.
 */
TEST(apic, ipi_self, "MSR 0x83f, and by shorthand: exactly once", NEED_NONE)
{
	struct delivery *d = delivery_open(t, 2);

	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		struct self_ipi s = {.d = d, .cpu = cpu, .by_msr = apic_mode == APIC_X2APIC};

		delivery_due(d, cpu, 0, s.by_msr);
		delivery_due(d, cpu, 1, 1);
		REQUIRE_OK(t, cpu_call(cpu, send_self, &s, ROW_LIMIT));
		delivery_check(d, "CPU %u to itself", cpu);
	}
	delivery_finish(d, "after all CPUs");
}

/*
 * Illegal vectors sent to oneself are not delivered.
 *
 * SDM vol. 3, 11.5.2: 0 to 15 are logged in the ESR (apic.esr), nothing more: one that were delivered
 * would look like an exception. Those are left out whose exception has an error code, for a wrong
 * delivery would have none. A legal vector sent the same way arrives.
 */
TEST(apic, ipi_self_illegal, "illegal vectors to oneself do not arrive", NEED_NONE)
{
	struct delivery *d = delivery_open(t, 1);
	struct illegal *bad = test_alloc(t, sizeof(*bad));
	const unsigned cpu = d->cpus - 1;

	REQUIRE_OK(t, cpu_call(cpu, send_illegal, bad, CALL_LIMIT));
	EXPECT_MSG(t, !bad->delivered,
		   "illegal vectors (mask 0x%x) to oneself: got 0x%x delivered, expected none",
		   ILLEGAL_VECTORS, bad->delivered);
	EXPECT_MSG(t, !bad->faulted, "MSR 0x83f with illegal vectors: got #GP for 0x%x, expected them logged",
		   bad->faulted);
	if (bad->kept)
		test_note(t, "illegal vectors 0x%x stand in IRR and are not delivered", bad->kept);
	delivery_due(d, cpu, 0, 1);
	ipi_vector(cpu, (uint8_t)d->vector[0]);
	delivery_finish(d, "a legal vector to CPU %u", cpu);
}
