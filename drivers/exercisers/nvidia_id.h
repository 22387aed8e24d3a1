/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What an NVIDIA GPU says it is, from its registers and its configuration space. Pure. */

enum nvidia_kind {
	NVIDIA_REAL,        /* the chip itself: bare metal, or passed through */
	NVIDIA_PARAVIRTUAL, /* a mediated vGPU: a daemon on the host answers */
	NVIDIA_VF,          /* an SR-IOV virtual function */
	NVIDIA_RESERVED,    /* BOOT_1 says 3 */
};
/* "real", "paravirtual vGPU", "SR-IOV VF", "of a reserved kind" */
const char *nvidia_kind_name(enum nvidia_kind);

/* BOOT_0's architecture. */
enum nvidia_arch {
	NVIDIA_MAXWELL = 0x11, NVIDIA_MAXWELL2 = 0x12, NVIDIA_PASCAL = 0x13, NVIDIA_VOLTA = 0x14,
	NVIDIA_TURING = 0x16, NVIDIA_AMPERE = 0x17, NVIDIA_HOPPER = 0x18, NVIDIA_ADA = 0x19,
};
#define NVIDIA_GA100 0x170
/* "Pascal"; NULL: not one that this driver knows. */
const char *nvidia_arch_name(unsigned arch);

struct nvidia_id {
	uint32_t boot_0, boot_1, boot_42;
	unsigned chip;              /* architecture << 4 | implementation: GP102 is 0x132 */
	unsigned chip_42;           /* the same by BOOT_42 */
	unsigned arch;
	enum nvidia_kind kind;
};
/* From the three registers. */
struct nvidia_id nvidia_identify(uint32_t boot_0, uint32_t boot_1, uint32_t boot_42);
/*
 * The kind, where configuration space contradicts BOOT_1 [I]: a profile's subsystem is a mediated vGPU's;
 * a mediated vGPU has no PCI Express capability; a virtual function has no interrupt pin, and MSI-X only.
 */
struct nvidia_shape { uint16_t device, subvendor, subdevice; bool pcie, msi, msix, pin; };
enum nvidia_kind nvidia_believe(enum nvidia_kind by_boot_1, const struct nvidia_shape *);
/* Answers of a unit without power or clock. */
bool nvidia_pri_error(uint32_t);
/* No chip answers so: all ones, zero, or a PRI error. A sentence, or NULL. */
const char *nvidia_dead_answer(uint32_t boot_0);

/* "GP102"; NULL: not known. */
const char *nvidia_chip_name(unsigned chip);
/* The chip that a PCI device ID belongs to; 0: not known. */
unsigned nvidia_chip_of_device(uint16_t device);

/* Where the GPU's nanoseconds are read; [I] of a mediated vGPU from Turing on. */
struct nvidia_clock { uint32_t low, high; bool inferred; };
struct nvidia_clock nvidia_clock(enum nvidia_kind, unsigned arch);

/*
 * What the vGPU manager calls the profile that shows itself so: P40 by subsystem ID [R]. NULL: not one
 * of them (another board, a profile override, no vGPU at all). type: mdev's number, as in nvidia-55; 0
 * where it is not known.
 */
struct nvidia_profile { const char *name; unsigned type, mbytes; };
const struct nvidia_profile *nvidia_profile(uint16_t device, uint16_t subvendor, uint16_t subdevice);

/* The BARs that this kind should have. */
struct nvidia_bar {
	uint64_t size;              /* at least */
	bool is64, prefetchable;
	bool any_type;              /* the sources do not say of which type */
	bool inferred;              /* [I] */
};
/* NULL: nothing is known of that one. */
const struct nvidia_bar *nvidia_bar_expected(enum nvidia_kind, unsigned arch, unsigned bar);
