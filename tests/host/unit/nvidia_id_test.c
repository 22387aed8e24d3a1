/* SPDX-License-Identifier: MIT */
// link: drivers/exercisers/nvidia_id.c
#include "drivers/exercisers/nvidia_id.h"

#include "tests/host/host.h"

#define MIB(n) ((uint64_t)(n) << 20)

static int profile_is(uint16_t subdevice, const char *name, unsigned type, unsigned mbytes)
{
	const struct nvidia_profile *p = nvidia_profile(0x1b38, 0x10de, subdevice);

	return p && !strcmp(p->name, name) && p->type == type && p->mbytes == mbytes;
}

static void test_profiles(void)
{
	/* as a recorded `mdevctl types` numbers them */
	CHECK(profile_is(0x11f1, "GRID P40-2A", 55, 2048));
	CHECK(profile_is(0x11e8, "GRID P40-1Q", 46, 1024));
	CHECK(profile_is(0x11ef, "GRID P40-24Q", 53, 24576));
	CHECK(profile_is(0x11f7, "GRID P40-24A", 61, 24576));
	CHECK(profile_is(0x11e7, "GRID P40-1B", 62, 1024));
	CHECK(profile_is(0x1287, "GRID P40-2B", 156, 2048));
	CHECK(profile_is(0x12ef, "GRID P40-2B4", 215, 2048));
	CHECK(profile_is(0x133a, "GRID P40-1B4", 241, 1024));
	CHECK(profile_is(0x137e, "GRID P40-24C", 287, 24576));
	CHECK(profile_is(0x1384, "GRID P40-12C", 286, 12288));
	CHECK(!nvidia_profile(0x1b38, 0x10de, 0x11d9)); /* the board itself */
	CHECK(!nvidia_profile(0x1b38, 0x1af4, 0x11f1));
	CHECK(!nvidia_profile(0x1c03, 0x10de, 0x11f1));
	/* Each name, type and subsystem once: 25 of them. */
	unsigned n = 0;
	for (unsigned a = 0; a < 0x10000; a++) {
		const struct nvidia_profile *p = nvidia_profile(0x1b38, 0x10de, (uint16_t)a);

		n += p != NULL;
		for (unsigned b = a + 1; p && b < 0x10000; b++) {
			const struct nvidia_profile *q = nvidia_profile(0x1b38, 0x10de, (uint16_t)b);

			if (q && (!strcmp(p->name, q->name) || p->type == q->type))
				CHECK(0);
		}
	}
	CHECK_EQ(n, 25);
}

static void test_chips(void)
{
	const struct nvidia_id gp106 = nvidia_identify(0x136000a1, 0x00010000, 0x136a1000);
	const struct nvidia_id tu104 = nvidia_identify(0x164000a1, 0x00020000, 0x164a1000);

	CHECK_EQ(gp106.chip, 0x136);
	CHECK_EQ(gp106.chip_42, 0x136);
	CHECK_EQ(gp106.arch, NVIDIA_PASCAL);
	CHECK_EQ(gp106.kind, NVIDIA_PARAVIRTUAL);
	CHECK(!strcmp(nvidia_chip_name(gp106.chip), "GP106"));
	CHECK(!strcmp(nvidia_arch_name(gp106.arch), "Pascal"));
	CHECK_EQ(tu104.arch, NVIDIA_TURING);
	CHECK_EQ(tu104.kind, NVIDIA_VF);
	CHECK_EQ(nvidia_identify(0x132000a1, 0, 0).kind, NVIDIA_REAL);
	CHECK_EQ(nvidia_identify(0x132000a1, 0x00030000, 0).kind, NVIDIA_RESERVED);
	CHECK_EQ(nvidia_identify(0x117000a2, 0, 0).arch, NVIDIA_MAXWELL);
	CHECK_EQ(nvidia_identify(0x180000a1, 0, 0).arch, NVIDIA_HOPPER);
	CHECK(!nvidia_arch_name(0x15) && !nvidia_arch_name(0) && !nvidia_arch_name(0x1f));
	CHECK(!nvidia_chip_name(0));
	CHECK_EQ(nvidia_chip_of_device(0x1b38), 0x132);
	CHECK_EQ(nvidia_chip_of_device(0x1c03), 0x136); /* GTX 1060 */
	CHECK_EQ(nvidia_chip_of_device(0x1eb8), 0x164); /* T4 */
	CHECK_EQ(nvidia_chip_of_device(0x1db4), 0x140);
	CHECK_EQ(nvidia_chip_of_device(0x20b0), 0x170);
	CHECK_EQ(nvidia_chip_of_device(0x2331), 0x180);
	CHECK_EQ(nvidia_chip_of_device(0x0040), 0);
	/* A chip's ID begins with an architecture that we know, and has a name. */
	for (unsigned d = 0; d < 0x10000; d++) {
		const unsigned chip = nvidia_chip_of_device((uint16_t)d);

		if (chip && (!nvidia_arch_name(chip >> 4) || !nvidia_chip_name(chip)))
			CHECK(0);
	}
}

static void test_dead(void)
{
	CHECK(nvidia_dead_answer(~0u) && nvidia_dead_answer(0) && nvidia_dead_answer(0xbadf1100));
	CHECK(!nvidia_dead_answer(0x132000a1) && !nvidia_dead_answer(0xbade0000));
}

static void test_bars(void)
{
	const struct nvidia_bar *b;

	b = nvidia_bar_expected(NVIDIA_PARAVIRTUAL, NVIDIA_PASCAL, 0);
	CHECK(b && b->size == MIB(16) && !b->is64 && b->inferred);
	b = nvidia_bar_expected(NVIDIA_PARAVIRTUAL, NVIDIA_PASCAL, 1);
	CHECK(b && b->size == MIB(256) && b->is64 && b->prefetchable);
	b = nvidia_bar_expected(NVIDIA_PARAVIRTUAL, NVIDIA_PASCAL, 3);
	CHECK(b && b->size == MIB(32) && b->is64 && !b->prefetchable);
	b = nvidia_bar_expected(NVIDIA_REAL, NVIDIA_PASCAL, 3);
	CHECK(b && b->size == MIB(32) && b->prefetchable && !b->inferred);
	b = nvidia_bar_expected(NVIDIA_VF, NVIDIA_TURING, 0);
	CHECK(b && b->any_type && b->size >= 0x1644);
	CHECK(!nvidia_bar_expected(NVIDIA_VF, NVIDIA_TURING, 1));
	CHECK(!nvidia_bar_expected(NVIDIA_REAL, NVIDIA_HOPPER, 1));
	CHECK(nvidia_bar_expected(NVIDIA_REAL, NVIDIA_HOPPER, 0)->any_type);
	CHECK(!nvidia_bar_expected(NVIDIA_RESERVED, NVIDIA_PASCAL, 0));
	for (unsigned bar = 0; bar < 6; bar++)
		CHECK(!nvidia_bar_expected(NVIDIA_REAL, NVIDIA_PASCAL, bar) == (bar == 2 || bar > 3));
}

static void test_clock(void)
{
	CHECK_EQ(nvidia_clock(NVIDIA_REAL, NVIDIA_PASCAL).low, 0x9400);
	CHECK_EQ(nvidia_clock(NVIDIA_PARAVIRTUAL, NVIDIA_VOLTA).high, 0x9410);
	CHECK_EQ(nvidia_clock(NVIDIA_VF, NVIDIA_TURING).low, 0x30080);
	CHECK_EQ(nvidia_clock(NVIDIA_VF, NVIDIA_ADA).high, 0x30084);
	CHECK_EQ(nvidia_clock(NVIDIA_REAL, NVIDIA_TURING).low, 0xbb0080);
	CHECK(!nvidia_clock(NVIDIA_REAL, NVIDIA_HOPPER).inferred);
	CHECK(nvidia_clock(NVIDIA_PARAVIRTUAL, NVIDIA_TURING).inferred);
	CHECK(!nvidia_clock(NVIDIA_PARAVIRTUAL, NVIDIA_PASCAL).inferred);
}

static enum nvidia_kind believe(enum nvidia_kind k, uint16_t subdevice, const char *what)
{
	const struct nvidia_shape s = {.device = 0x1b38, .subvendor = 0x10de, .subdevice = subdevice,
				       .pcie = strchr(what, 'e'), .msi = strchr(what, 'm'),
				       .msix = strchr(what, 'x'), .pin = strchr(what, 'p')};

	return nvidia_believe(k, &s);
}

static void test_believe(void)
{
	/* what goes together is believed */
	CHECK_EQ(believe(NVIDIA_PARAVIRTUAL, 0x11f1, "mp"), NVIDIA_PARAVIRTUAL);
	CHECK_EQ(believe(NVIDIA_PARAVIRTUAL, 0x9999, "mp"), NVIDIA_PARAVIRTUAL);
	CHECK_EQ(believe(NVIDIA_REAL, 0x11d9, "emp"), NVIDIA_REAL);
	CHECK_EQ(believe(NVIDIA_REAL, 0x11d9, "em"), NVIDIA_REAL);
	CHECK_EQ(believe(NVIDIA_REAL, 0x11d9, "mp"), NVIDIA_REAL); /* behind a conventional bridge */
	CHECK_EQ(believe(NVIDIA_VF, 0, "ex"), NVIDIA_VF);
	CHECK_EQ(believe(NVIDIA_VF, 0, "e"), NVIDIA_VF);
	/* what does not, is what configuration space says */
	CHECK_EQ(believe(NVIDIA_REAL, 0x11f1, "mp"), NVIDIA_PARAVIRTUAL);
	CHECK_EQ(believe(NVIDIA_PARAVIRTUAL, 0x11d9, "emp"), NVIDIA_REAL);
	CHECK_EQ(believe(NVIDIA_REAL, 0, "ex"), NVIDIA_VF);
	CHECK_EQ(believe(NVIDIA_VF, 0, "emp"), NVIDIA_REAL);
	CHECK_EQ(believe(NVIDIA_PARAVIRTUAL, 0, "ex"), NVIDIA_VF);
}

int main(void)
{
	test_profiles();
	test_chips();
	test_dead();
	test_bars();
	test_clock();
	test_believe();
	CHECK(!strcmp(nvidia_kind_name(NVIDIA_PARAVIRTUAL), "paravirtual vGPU"));
	CHECK(nvidia_kind_name((enum nvidia_kind)9));
	return host_done("nvidia_id");
}
