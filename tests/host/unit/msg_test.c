/* SPDX-License-Identifier: MIT */
// link: kernel/irq/msg.c

/*
 * The messages, against tables typed from the specifications: bit positions as plain numbers, not
 * kernel/irq/msg.c's masks. A receiver takes a message apart by the table; what it understands
 * must be the route, and no bit may be set that no field accounts for.
 */

#include <stdbool.h>
#include <stdint.h>

#include "kernel/irq/msg.h"
#include "kernel/lib/err.h"
#include "tests/host/host.h"

struct field {
	const char *name;
	unsigned hi, lo;
};

static uint64_t get(uint64_t word, struct field f)
{
	return (word >> f.lo) & ((f.hi - f.lo == 63) ? ~0ull : (1ull << (f.hi - f.lo + 1)) - 1);
}

static uint64_t mask_of(const struct field *f, unsigned n)
{
	uint64_t m = 0;

	for (unsigned i = 0; i < n; i++)
		for (unsigned b = f[i].lo; b <= f[i].hi; b++)
			m |= 1ull << b;
	return m;
}

/* SDM vol. 3, 11.11.1 and 11.11.2; bits 11:5 as KVM_FEATURE_MSI_EXT_DEST_ID defines them. */
enum { A_BASE, A_DEST, A_EXT, A_RH, A_DM, A_COUNT };
static const struct field addr[A_COUNT] = {
	{"base", 31, 20}, {"destination", 19, 12}, {"destination 14:8", 11, 5}, {"RH", 3, 3}, {"DM", 2, 2}};
enum { D_DELIVERY, D_VECTOR, D_COUNT };
static const struct field data[D_COUNT] = {{"delivery", 10, 8}, {"vector", 7, 0}};

/* VT-d 5.1.2.2. */
enum { V_BASE, V_HANDLE, V_FORMAT, V_SHV, V_HANDLE15, V_COUNT };
static const struct field vtd[V_COUNT] = {
	{"base", 31, 20}, {"handle 14:0", 19, 5}, {"format", 4, 4}, {"SHV", 3, 3}, {"handle 15", 2, 2}};

/* 82093AA 3.2.4 and VT-d 5.1.5.1. */
enum { R_DEST, R_EXT, R_MASK, R_TRIGGER, R_POLARITY, R_DESTMODE, R_DELIVERY, R_VECTOR, R_COUNT };
static const struct field rte[R_COUNT] = {
	{"destination", 63, 56}, {"destination 14:8", 55, 49}, {"mask", 16, 16}, {"trigger", 15, 15},
	{"polarity", 13, 13}, {"destination mode", 11, 11}, {"delivery", 10, 8}, {"vector", 7, 0}};
enum { W_INDEX, W_FORMAT, W_MASK, W_TRIGGER, W_POLARITY, W_INDEX15, W_VECTOR, W_COUNT };
static const struct field rte_vtd[W_COUNT] = {
	{"index 14:0", 63, 49}, {"format", 48, 48}, {"mask", 16, 16}, {"trigger", 15, 15},
	{"polarity", 13, 13}, {"index 15", 11, 11}, {"vector", 7, 0}};

static const enum irq_delivery deliveries[] = {IRQ_FIXED, IRQ_LOWEST, IRQ_SMI, IRQ_NMI, IRQ_INIT, IRQ_EXTINT};
static const uint8_t vectors[] = {0x00, 0x10, 0x30, 0x55, 0xaa, 0xfe, 0xff};
static const enum msg_reach reaches[] = {MSG_XAPIC, MSG_X2APIC, MSG_X2APIC_EXT};
#define N(a) (sizeof(a) / sizeof((a)[0]))

/* What the specifications allow, said once more in other words. */
static bool reachable(enum msg_reach reach, const struct irq_route *r)
{
	if (reach == MSG_XAPIC) {
		if (r->mode == IRQ_PHYSICAL && r->delivery == IRQ_LOWEST)
			return r->dest <= 254;
		return r->dest <= 255;
	}
	return r->mode == IRQ_PHYSICAL && r->dest <= (reach == MSG_X2APIC ? 254u : 32767u);
}

static void one_compat(enum msg_reach reach, const struct irq_route *r)
{
	struct msi_msg m = {.addr = 0x1111, .data = 0x2222};
	uint64_t e = 0x3333;
	const char *why = "untouched", *why2 = "untouched";
	const int err = msg_compat(r, &m, &why), err2 = msg_ioapic_compat(r, r->dest & 1, &e, &why2);

	if (!reachable(reach, r)) {
		CHECK_EQ(err, -EOPNOTSUPP);
		CHECK_EQ(err2, -EOPNOTSUPP);
		CHECK(why && strlen(why) > 20 && strcmp(why, "untouched") && why2 == why);
		CHECK(m.addr == 0x1111 && m.data == 0x2222 && e == 0x3333);
		CHECK_EQ(msg_compat(r, &m, NULL), -EOPNOTSUPP);
		return;
	}
	CHECK_EQ(err, 0);
	CHECK_EQ(err2, 0);
	CHECK(!why && !why2);

	CHECK_EQ(m.addr & ~mask_of(addr, A_COUNT), 0);
	CHECK_EQ(m.data & ~mask_of(data, D_COUNT), 0);
	CHECK_EQ(get(m.addr, addr[A_BASE]), 0xfee);
	CHECK_EQ(get(m.addr, addr[A_DEST]) | get(m.addr, addr[A_EXT]) << 8, r->dest);
	CHECK_EQ(get(m.addr, addr[A_RH]), r->delivery == IRQ_LOWEST);
	CHECK_EQ(get(m.addr, addr[A_DM]), r->mode == IRQ_LOGICAL);
	CHECK_EQ(get(m.data, data[D_DELIVERY]), r->delivery);
	CHECK_EQ(get(m.data, data[D_VECTOR]), r->vector);

	CHECK_EQ(e & ~mask_of(rte, R_COUNT), 0);
	CHECK_EQ(get(e, rte[R_DEST]) | get(e, rte[R_EXT]) << 8, r->dest);
	CHECK_EQ(get(e, rte[R_MASK]), r->dest & 1);
	CHECK_EQ(get(e, rte[R_TRIGGER]), r->level);
	CHECK_EQ(get(e, rte[R_POLARITY]), r->active_low);
	CHECK_EQ(get(e, rte[R_DESTMODE]), r->mode == IRQ_LOGICAL);
	CHECK_EQ(get(e, rte[R_DELIVERY]), r->delivery);
	CHECK_EQ(get(e, rte[R_VECTOR]), r->vector);
}

static void compat(void)
{
	static const uint32_t high[] = {0x8000,  0x8001,  0xffff,     0x10000,
					0x10001, 0x20004, 0xffff0001, 0xffffffff};

	for (unsigned m = 0; m < N(reaches); m++) {
		msg_set_reach(reaches[m]);
		CHECK_EQ(msg_reach(), reaches[m]);
		for (uint32_t i = 0; i < 0x8000 + N(high); i++)
			for (unsigned k = 0; k < 2 * N(deliveries); k++) {
				const struct irq_route r = {
					.dest = i < 0x8000 ? i : high[i - 0x8000],
					.mode = k & 1 ? IRQ_LOGICAL : IRQ_PHYSICAL,
					.delivery = deliveries[k / 2],
					.vector = vectors[(i + k) % N(vectors)],
					.level = (i ^ k) & 2,
					.active_low = (i ^ k) & 4,
				};
				one_compat(reaches[m], &r);
			}
		/* every vector */
		for (unsigned v = 0; v < 256; v++)
			one_compat(reaches[m], &(struct irq_route){.dest = 3, .vector = (uint8_t)v});
	}
}

static void remappable(void)
{
	for (uint32_t i = 0; i < 0x10000; i++) {
		const struct irq_route r = {.dest = ~i,
					    .mode = i & 8 ? IRQ_LOGICAL : IRQ_PHYSICAL,
					    .delivery = deliveries[i % N(deliveries)],
					    .vector = (uint8_t)(i * 7),
					    .level = i & 1,
					    .active_low = i & 2};
		struct msi_msg m = {.addr = ~0ull, .data = ~0u};
		uint64_t e;

		msg_vtd_remappable((uint16_t)i, i & 1, &m);
		CHECK_EQ(m.addr & ~mask_of(vtd, V_COUNT), 0);
		CHECK_EQ(get(m.addr, vtd[V_BASE]), 0xfee);
		CHECK_EQ(get(m.addr, vtd[V_FORMAT]), 1);
		CHECK_EQ(get(m.addr, vtd[V_SHV]), i & 1);
		CHECK_EQ(get(m.addr, vtd[V_HANDLE]) | get(m.addr, vtd[V_HANDLE15]) << 15, i);
		CHECK_EQ(m.data, 0); /* subhandle 0 */

		e = msg_ioapic_vtd(&r, (uint16_t)i, i & 4);
		CHECK_EQ(e & ~mask_of(rte_vtd, W_COUNT), 0);
		CHECK_EQ(get(e, rte_vtd[W_FORMAT]), 1);
		CHECK_EQ(get(e, rte_vtd[W_INDEX]) | get(e, rte_vtd[W_INDEX15]) << 15, i);
		CHECK_EQ(get(e, rte_vtd[W_MASK]), !!(i & 4));
		CHECK_EQ(get(e, rte_vtd[W_TRIGGER]), r.level);
		CHECK_EQ(get(e, rte_vtd[W_POLARITY]), r.active_low);
		CHECK_EQ(get(e, rte_vtd[W_VECTOR]), r.vector);

		msg_amdvi_remappable((uint16_t)i, &m);
		CHECK_EQ(m.addr, 0xfee00000u);
		CHECK_EQ(m.data, i & 0x7ff);
	}
}

/* SDM vol. 3, figure 11-12 (ICR) and 11.12.10.2 (logical x2APIC ID). */
static void icr_and_ldr(void)
{
	for (unsigned d = 0; d < N(deliveries); d++)
		for (unsigned v = 0; v < 512; v++) {
			const struct irq_route r = {.dest = 0xffffffff, .delivery = deliveries[d],
						    .mode = v & 256 ? IRQ_LOGICAL : IRQ_PHYSICAL,
						    .vector = (uint8_t)v, .level = true, .active_low = true};

			CHECK_EQ(msg_icr_command(&r),
				 (v & 255) + deliveries[d] * 256u + (v & 256 ? 2048u : 0) + 16384u);
		}
	for (uint32_t id = 0; id < 0x100000; id++)
		if (x2apic_ldr(id) != (id / 16) * 65536 + (1u << (id % 16)))
			CHECK_EQ(x2apic_ldr(id), (id / 16) * 65536 + (1u << (id % 16)));
	CHECK_EQ(x2apic_ldr(0x11f), 0x00118000); /* CPU 287: cluster 17, member 15 */
}

/* A few written out by hand. */
static void literals(void)
{
	struct msi_msg m;
	uint64_t e;

	msg_set_reach(MSG_X2APIC_EXT);
	CHECK_EQ(msg_compat(&(struct irq_route){.dest = 0x11f, .vector = 0x41}, &m, NULL), 0);
	CHECK_EQ(m.addr, 0xfee1f020);
	CHECK_EQ(m.data, 0x41);
	msg_set_reach(MSG_XAPIC);
	CHECK_EQ(msg_compat(&(struct irq_route){.dest = 0x0f, .mode = IRQ_LOGICAL, .delivery = IRQ_LOWEST,
						.vector = 0x50}, &m, NULL), 0);
	CHECK_EQ(m.addr, 0xfee0f00c);
	CHECK_EQ(m.data, 0x150);
	CHECK_EQ(msg_ioapic_compat(
			 &(struct irq_route){.dest = 3, .vector = 0x33, .level = true, .active_low = true},
			 true, &e, NULL),
		 0);
	CHECK_EQ(e, 0x030000000001a033ull);
	msg_vtd_remappable(0x8005, true, &m);
	CHECK_EQ(m.addr, 0xfee000bc);
	CHECK_EQ(msg_ioapic_vtd(&(struct irq_route){.vector = 0x33}, 0x8005, false), 0x000b000000000833ull);
}

int main(void)
{
	CHECK_EQ(msg_reach(), MSG_X2APIC); /* the safest one until told */
	compat();
	remappable();
	icr_and_ldr();
	literals();
	return host_done("msg");
}
