/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/nvidia_id.h"

#include <stddef.h>

#include "drivers/exercisers/nvidia_regs.h"

#define MIB(n) ((uint64_t)(n) << 20)

const char *nvidia_kind_name(enum nvidia_kind kind)
{
	static const char *const names[] = {"real", "paravirtual vGPU", "SR-IOV VF", "of a reserved kind"};

	return (unsigned)kind < ARRAY_SIZE(names) ? names[kind] : "?";
}

const char *nvidia_arch_name(unsigned arch)
{
	switch (arch) {
	case NVIDIA_MAXWELL:
	case NVIDIA_MAXWELL2:
		return "Maxwell";
	case NVIDIA_PASCAL:
		return "Pascal";
	case NVIDIA_VOLTA:
		return "Volta";
	case NVIDIA_TURING:
		return "Turing";
	case NVIDIA_AMPERE:
		return "Ampere";
	case NVIDIA_HOPPER:
		return "Hopper";
	case NVIDIA_ADA:
		return "Ada";
	default:
		return NULL;
	}
}

bool nvidia_pri_error(uint32_t v)
{
	return (v & NV_PRI_ERROR_MASK) == NV_PRI_ERROR;
}

const char *nvidia_dead_answer(uint32_t boot_0)
{
	if (boot_0 == ~0u)
		return "BAR0 reads all ones";
	if (boot_0 == 0)
		return "BAR0 reads zero";
	if (nvidia_pri_error(boot_0))
		return "BAR0 answers 0xbadf….: a GPU that was never started (POSTed)";
	return NULL;
}

struct nvidia_id nvidia_identify(uint32_t boot_0, uint32_t boot_1, uint32_t boot_42)
{
	return (struct nvidia_id){
		.boot_0 = boot_0,
		.boot_1 = boot_1,
		.boot_42 = boot_42,
		.chip = FIELD_GET(NV_PMC_BOOT_0_CHIP, boot_0),
		.chip_42 = FIELD_GET(NV_PMC_BOOT_42_CHIP, boot_42),
		.arch = FIELD_GET(NV_PMC_BOOT_0_CHIP, boot_0) >> 4,
		.kind = (enum nvidia_kind)FIELD_GET(NV_PMC_BOOT_1_VGPU, boot_1),
	};
}

/* Names and device IDs as the public PCI ID list groups them. A group is a range of IDs of one chip. [I] */
static const struct { uint16_t chip, first, last; const char *name; } chips[] = {
	{0x117, 0x1380, 0x13bf, "GM107"}, {0x118, 0x1340, 0x137f, "GM108"}, {0x120, 0x17c0, 0x17ff, "GM200"},
	{0x124, 0x13c0, 0x13ff, "GM204"}, {0x126, 0x1400, 0x143f, "GM206"},
	{0x130, 0x15f0, 0x15ff, "GP100"}, {0x132, 0x1b00, 0x1b7f, "GP102"}, {0x134, 0x1b80, 0x1bff, "GP104"},
	{0x136, 0x1c00, 0x1c7f, "GP106"}, {0x137, 0x1c80, 0x1cff, "GP107"}, {0x138, 0x1d00, 0x1d7f, "GP108"},
	{0x140, 0x1d80, 0x1dff, "GV100"},
	{0x162, 0x1e00, 0x1e7f, "TU102"}, {0x164, 0x1e80, 0x1eff, "TU104"}, {0x166, 0x1f00, 0x1f7f, "TU106"},
	{0x167, 0x1f80, 0x1fff, "TU117"}, {0x168, 0x2180, 0x21ff, "TU116"},
	{0x170, 0x2080, 0x20ff, "GA100"}, {0x172, 0x2200, 0x227f, "GA102"}, {0x174, 0x2480, 0x24ff, "GA104"},
	{0x176, 0x2500, 0x257f, "GA106"}, {0x177, 0x2580, 0x25ff, "GA107"},
	{0x180, 0x2300, 0x237f, "GH100"},
	{0x192, 0x2680, 0x26ff, "AD102"}, {0x193, 0x2700, 0x277f, "AD103"}, {0x194, 0x2780, 0x27ff, "AD104"},
	{0x196, 0x2800, 0x287f, "AD106"}, {0x197, 0x2880, 0x28ff, "AD107"},
};

const char *nvidia_chip_name(unsigned chip)
{
	for (size_t i = 0; i < ARRAY_SIZE(chips); i++)
		if (chips[i].chip == chip)
			return chips[i].name;
	return NULL;
}

unsigned nvidia_chip_of_device(uint16_t device)
{
	for (size_t i = 0; i < ARRAY_SIZE(chips); i++)
		if (device >= chips[i].first && device <= chips[i].last)
			return chips[i].chip;
	return 0;
}

struct nvidia_clock nvidia_clock(enum nvidia_kind kind, unsigned arch)
{
	const uint32_t base = kind == NVIDIA_VF ? 0 : NV_TREE_PF;

	if (kind != NVIDIA_VF && arch < NVIDIA_TURING)
		return (struct nvidia_clock){.low = NV_PTIMER_TIME_0, .high = NV_PTIMER_TIME_1};
	return (struct nvidia_clock){.low = base + NV_VIRTUAL_FUNCTION_TIME_0,
				     .high = base + NV_VIRTUAL_FUNCTION_TIME_1,
				     .inferred = kind == NVIDIA_PARAVIRTUAL};
}

/* [R]; the mdev numbers from a recorded `mdevctl types`, where it has them. */
static const struct { uint16_t subdevice; struct nvidia_profile p; } p40[] = {
	{0x11e8, {"GRID P40-1Q", 46, 1024}},   {0x11e9, {"GRID P40-2Q", 47, 2048}},
	{0x11ea, {"GRID P40-3Q", 48, 3072}},   {0x11eb, {"GRID P40-4Q", 49, 4096}},
	{0x11ec, {"GRID P40-6Q", 50, 6144}},   {0x11ed, {"GRID P40-8Q", 51, 8192}},
	{0x11ee, {"GRID P40-12Q", 52, 12288}}, {0x11ef, {"GRID P40-24Q", 53, 24576}},
	{0x11f0, {"GRID P40-1A", 54, 1024}},   {0x11f1, {"GRID P40-2A", 55, 2048}},
	{0x11f2, {"GRID P40-3A", 56, 3072}},   {0x11f3, {"GRID P40-4A", 57, 4096}},
	{0x11f4, {"GRID P40-6A", 58, 6144}},   {0x11f5, {"GRID P40-8A", 59, 8192}},
	{0x11f6, {"GRID P40-12A", 60, 12288}}, {0x11f7, {"GRID P40-24A", 61, 24576}},
	{0x11e7, {"GRID P40-1B", 62, 1024}},   {0x1287, {"GRID P40-2B", 156, 2048}},
	{0x12ef, {"GRID P40-2B4", 215, 2048}}, {0x133a, {"GRID P40-1B4", 241, 1024}},
	{0x1381, {"GRID P40-4C", 283, 4096}},  {0x1382, {"GRID P40-6C", 284, 6144}},
	{0x1383, {"GRID P40-8C", 285, 8192}},  {0x1384, {"GRID P40-12C", 286, 12288}},
	{0x137e, {"GRID P40-24C", 287, 24576}},
};

const struct nvidia_profile *nvidia_profile(uint16_t device, uint16_t subvendor, uint16_t subdevice)
{
	if (device != 0x1b38 || subvendor != 0x10de)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(p40); i++)
		if (p40[i].subdevice == subdevice)
			return &p40[i].p;
	return NULL;
}

enum nvidia_kind nvidia_believe(enum nvidia_kind kind, const struct nvidia_shape *s)
{
	if (nvidia_profile(s->device, s->subvendor, s->subdevice))
		return NVIDIA_PARAVIRTUAL;
	if (kind == NVIDIA_PARAVIRTUAL && s->pcie)
		return s->pin ? NVIDIA_REAL : NVIDIA_VF;
	if (kind == NVIDIA_VF && s->pin)
		return NVIDIA_REAL;
	if (kind == NVIDIA_REAL && !s->pin && s->msix && !s->msi)
		return NVIDIA_VF;
	return kind;
}

const struct nvidia_bar *nvidia_bar_expected(enum nvidia_kind kind, unsigned arch, unsigned bar)
{
	/* Read of V100 and RTX mdevs and of GP10x boards; inferred for other mdevs, a P40's among them. */
	static const struct nvidia_bar mdev[] = {
		{.size = MIB(16), .inferred = true},
		{.size = MIB(256), .is64 = true, .prefetchable = true, .inferred = true},
		{.size = MIB(32), .is64 = true, .inferred = true},
	};
	static const struct nvidia_bar board[] = {
		{.size = MIB(16)},
		{.size = MIB(256), .is64 = true, .prefetchable = true},
		{.size = MIB(32), .is64 = true, .prefetchable = true},
	};
	/* Only that the tree must fit is certain of a virtual function, and of what comes after Ampere. */
	static const struct nvidia_bar vf = {.size = 0x2000, .any_type = true, .inferred = true};
	static const struct nvidia_bar later = {.size = MIB(16), .any_type = true, .inferred = true};
	const unsigned i = bar == 3 ? 2 : bar;

	if (bar > 3 || bar == 2)
		return NULL;
	if (kind == NVIDIA_VF)
		return bar == 0 ? &vf : NULL;
	if (arch > NVIDIA_AMPERE)
		return bar == 0 ? &later : NULL;
	return kind == NVIDIA_PARAVIRTUAL ? &mdev[i] : kind == NVIDIA_REAL ? &board[i] : NULL;
}
