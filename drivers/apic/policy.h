/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernel/irq/msg.h"

/*
 * Which mode of the local APIC is safe on a machine, and whom its devices can then reach. Pure.
 *
 * A message without interrupt remapping has 8 bits of destination (SDM vol. 3, 11.11.1), or 15 where KVM offers
 * its extended destination ID; a logical x2APIC ID has 32. So without remapping only physical destinations are
 * safe in x2APIC mode; clusters and wide IDs need remapping with 32-bit destinations (VT-d EIM, AMD-Vi XT).
 */
#define XAPIC_ID_MAX 254u                /* 255 is the broadcast */
#define EXT_ID_MAX   0x7fffu             /* KVM_FEATURE_MSI_EXT_DEST_ID: 15 bits */

struct apic_facts {
	bool x2apic;                     /* CPUID 1 ECX.21 */
	bool opt_out;                    /* DMAR X2APIC_OPT_OUT (VT-d 8.1): stay out of x2APIC mode */
	bool ext_dest_id;                /* KVM_FEATURE_MSI_EXT_DEST_ID */
	unsigned units, remapping, wide; /* IOMMUs; those that remap interrupts; those with EIM or XT too */
	uint32_t max_id;                 /* highest APIC ID of a CPU that is there */
};

/* What the machine offers is less than its CPUs need. */
enum apic_lack {
	APIC_LACK_NONE,
	APIC_LACK_X2APIC,                /* CPUs above 254 that only x2APIC mode can run */
	APIC_LACK_OPT_OUT,               /* told to stay out of x2APIC, with CPUs that need it */
	APIC_LACK_REMAPPING,             /* CPUs that no device can interrupt: nothing remaps … */
	APIC_LACK_SOME,                  /* … not every unit remaps … */
	APIC_LACK_EIM,                   /* … or with 8 bits of destination only */
};

struct apic_policy {
	bool x2apic;                     /* the mode of all CPUs */
	bool cluster;                    /* device interrupts may name clusters */
	enum msg_reach reach;            /* of a message without remapping */
	uint32_t device_max;             /* the highest APIC ID that devices can interrupt, remapped or not */
	enum apic_lack lack;
	const char *why;                 /* the mode, in a sentence */
};

struct apic_policy apic_policy_of(const struct apic_facts *);
