/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * The only place where an interrupt message is composed. Everything that says "which CPU, which
 * vector" hands an irq_route to this module; nothing else writes 0xfee.
 */

enum irq_dest_mode { IRQ_PHYSICAL, IRQ_LOGICAL };
enum irq_delivery { IRQ_FIXED = 0, IRQ_LOWEST = 1, IRQ_SMI = 2, IRQ_NMI = 4, IRQ_INIT = 5, IRQ_EXTINT = 7 };

struct irq_route {
	uint32_t dest;               /* APIC ID, or logical ID (x2APIC: cluster << 16 | bits) */
	enum irq_dest_mode mode;
	enum irq_delivery delivery;
	uint8_t vector;
	bool level;                  /* I/O APIC pins only */
	bool active_low;             /* I/O APIC pins only */
};

struct msi_msg { uint64_t addr; uint32_t data; };
/* Where such messages are aimed: SDM vol. 3, 11.11.1. */
#define MSI_RANGE_FIRST 0xfee00000ull
#define MSI_RANGE_LAST  0xfeefffffull

/* What the machine allows a message without remapping to name (SDM 11.11, KVM MSI_EXT_DEST_ID). */
enum msg_reach {
	MSG_XAPIC,       /* 8-bit physical; logical: flat or cluster in 8 bits */
	MSG_X2APIC,      /* 8-bit physical only: a logical x2APIC ID does not fit */
	MSG_X2APIC_EXT,  /* 15-bit physical */
};
void msg_set_reach(enum msg_reach);
enum msg_reach msg_reach(void);

/*
 * Compatibility format: SDM vol. 3, 11.11. -EOPNOTSUPP when the machine's reach does not allow this
 * destination; *why (may be NULL) then says so in a sentence.
 */
int msg_compat(const struct irq_route *, struct msi_msg *, const char **why);
/* VT-d remappable format: VT-d 5.1.2.2. index: IRTE; sub: added to it where SHV is set. */
void msg_vtd_remappable(uint16_t index, bool shv, struct msi_msg *);
/* AMD-Vi: the data's low 11 bits index the device's table (2.2.5). */
void msg_amdvi_remappable(uint16_t index, struct msi_msg *);
/* I/O APIC redirection entry, 64 bits: compatibility or VT-d remappable (VT-d 5.1.5.1). Masked if mask. */
int msg_ioapic_compat(const struct irq_route *, bool mask, uint64_t *rte, const char **why);
uint64_t msg_ioapic_vtd(const struct irq_route *, uint16_t index, bool mask);
/* AMD-Vi: the pin's vector and delivery mode are the index. */
uint64_t msg_ioapic_amdvi(const struct irq_route *, uint16_t index, bool mask);
/* x2APIC logical ID of an APIC ID: SDM 11.12.10.2. */
static inline uint32_t x2apic_ldr(uint32_t id) { return ((id >> 4) << 16) | (1u << (id & 15)); }
/* The ICR command for an IPI (bits 19:0 without shorthand) and where its destination goes. */
uint32_t msg_icr_command(const struct irq_route *);
