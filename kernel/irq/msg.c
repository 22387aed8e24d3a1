/* SPDX-License-Identifier: MIT */

#include "kernel/irq/msg.h"

#include <stddef.h>

#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"

/* MSI address, compatibility format: SDM vol. 3, 11.11.1. */
#define MSI_ADDR_BASE      0xfee00000u
#define MSI_ADDR_DEST      GENMASK(19, 12)
#define MSI_ADDR_DEST_EXT  GENMASK(11, 5) /* destination bits 14:8, where KVM_FEATURE_MSI_EXT_DEST_ID */
#define MSI_ADDR_RH        BIT(3)
#define MSI_ADDR_DM        BIT(2)
/* MSI data: SDM vol. 3, 11.11.2. Trigger (15) and level (14) stay 0: a message is an edge. */
#define MSI_DATA_DELIVERY  GENMASK(10, 8)
#define MSI_DATA_VECTOR    GENMASK(7, 0)

/* MSI address, remappable format: VT-d 5.1.2.2. */
#define VTD_ADDR_HANDLE    GENMASK(19, 5) /* handle bits 14:0 */
#define VTD_ADDR_FORMAT    BIT(4)
#define VTD_ADDR_SHV       BIT(3)
#define VTD_ADDR_HANDLE_15 BIT(2)

/* AMD-Vi 2.2.5: what indexes the device's interrupt table. */
#define AMDVI_DATA_INDEX   GENMASK(10, 0)

/* I/O APIC redirection entry; the remappable form is VT-d 5.1.5.1. */
#define RTE_VECTOR         GENMASK64(7, 0)
#define RTE_DELIVERY       GENMASK64(10, 8)
#define RTE_LOGICAL        BIT64(11)
#define RTE_ACTIVE_LOW     BIT64(13)
#define RTE_LEVEL          BIT64(15)
#define RTE_MASK           BIT64(16)
#define RTE_DEST_EXT       GENMASK64(55, 49)
#define RTE_DEST           GENMASK64(63, 56)
#define RTE_VTD_INDEX_15   BIT64(11)
#define RTE_VTD_FORMAT     BIT64(48)
#define RTE_VTD_INDEX      GENMASK64(63, 49)

/* Interrupt command register: SDM vol. 3, 11.6.1. */
#define ICR_VECTOR         GENMASK(7, 0)
#define ICR_DELIVERY       GENMASK(10, 8)
#define ICR_LOGICAL        BIT(11)
#define ICR_ASSERT         BIT(14)

/* Until somebody says more: what every mode can do. */
static enum msg_reach reach = MSG_X2APIC;

void msg_set_reach(enum msg_reach r)
{
	reach = r;
}

enum msg_reach msg_reach(void)
{
	return reach;
}

static const char *why_not(const struct irq_route *r)
{
	/* SDM 11.11.1: with the redirection hint, ID 0xff is not allowed. */
	if (reach == MSG_XAPIC && r->mode == IRQ_PHYSICAL && r->delivery == IRQ_LOWEST && r->dest == 0xff)
		return "lowest priority cannot be combined with the physical broadcast (SDM 11.11.1)";
	switch (reach) {
	case MSG_XAPIC:
		return r->dest > 0xff ? "a destination above 255 does not exist in xAPIC mode" : NULL;
	case MSG_X2APIC:
		if (r->mode == IRQ_LOGICAL)
			return "a logical x2APIC ID is 32 bits: without interrupt remapping a message has 8";
		return r->dest >= 0xff ? "without interrupt remapping a message reaches APIC IDs below 255 only"
				       : NULL;
	case MSG_X2APIC_EXT:
		if (r->mode == IRQ_LOGICAL)
			return "a logical x2APIC ID is 32 bits: without interrupt remapping a message has 15";
		return r->dest > 0x7fff ? "the extended destination ID has 15 bits" : NULL;
	}
	return "unknown reach";
}

static int check(const struct irq_route *r, const char **why)
{
	const char *no = why_not(r);

	if (why)
		*why = no;
	return no ? -EOPNOTSUPP : 0;
}

int msg_compat(const struct irq_route *r, struct msi_msg *msg, const char **why)
{
	const int err = check(r, why);
	const uint32_t dest = r->dest ^ SABOTAGE(msi_wrong_cpu);

	if (err)
		return err;
	msg->addr = MSI_ADDR_BASE | FIELD_PREP(MSI_ADDR_DEST, dest) |
		    FIELD_PREP(MSI_ADDR_DEST_EXT, dest >> 8) |
		    (r->delivery == IRQ_LOWEST ? MSI_ADDR_RH : 0) |
		    (r->mode == IRQ_LOGICAL ? MSI_ADDR_DM : 0);
	msg->data = FIELD_PREP(MSI_DATA_DELIVERY, (uint32_t)r->delivery) |
		    FIELD_PREP(MSI_DATA_VECTOR, (uint32_t)r->vector ^ SABOTAGE(msi_wrong_vector));
	return 0;
}

void msg_vtd_remappable(uint16_t index, bool shv, struct msi_msg *msg)
{
	msg->addr = MSI_ADDR_BASE | VTD_ADDR_FORMAT | FIELD_PREP(VTD_ADDR_HANDLE, (uint32_t)index) |
		    (index & BIT(15) ? VTD_ADDR_HANDLE_15 : 0) | (shv ? VTD_ADDR_SHV : 0);
	msg->data = 0;
}

void msg_amdvi_remappable(uint16_t index, struct msi_msg *msg)
{
	msg->addr = MSI_ADDR_BASE;
	msg->data = FIELD_PREP(AMDVI_DATA_INDEX, (uint32_t)index);
}

/* What both forms of a redirection entry share. */
static uint64_t rte_common(const struct irq_route *r, bool mask)
{
	return FIELD_PREP(RTE_VECTOR, (uint64_t)r->vector ^ SABOTAGE(ioapic_wrong_vector)) | (r->active_low ? RTE_ACTIVE_LOW : 0) |
	       (r->level && !SABOTAGE(ioapic_level_as_edge) ? RTE_LEVEL : 0) | (mask ? RTE_MASK : 0);
}

int msg_ioapic_compat(const struct irq_route *r, bool mask, uint64_t *rte, const char **why)
{
	const int err = check(r, why);

	if (err)
		return err;
	*rte = rte_common(r, mask) | FIELD_PREP(RTE_DELIVERY, (uint64_t)r->delivery) |
	       (r->mode == IRQ_LOGICAL ? RTE_LOGICAL : 0) | FIELD_PREP(RTE_DEST_EXT, (uint64_t)r->dest >> 8) |
	       FIELD_PREP(RTE_DEST, (uint64_t)r->dest ^ SABOTAGE(ioapic_wrong_cpu));
	return 0;
}

/* The vector stands in the entry too: the EOI finds its pin by it (VT-d 5.1.5.1). */
uint64_t msg_ioapic_vtd(const struct irq_route *r, uint16_t index, bool mask)
{
	return rte_common(r, mask) | RTE_VTD_FORMAT | FIELD_PREP(RTE_VTD_INDEX, (uint64_t)index) |
	       (index & BIT(15) ? RTE_VTD_INDEX_15 : 0);
}

uint64_t msg_ioapic_amdvi(const struct irq_route *r, uint16_t index, bool mask)
{
	const struct irq_route pin = {.vector = (uint8_t)index, .level = r->level, .active_low = r->active_low};

	return rte_common(&pin, mask) | FIELD_PREP(RTE_DELIVERY, (uint64_t)index >> 8);
}

/* Always an asserted edge: level-triggered IPIs are INIT de-assert's, which no CPU since 2000 takes. */
uint32_t msg_icr_command(const struct irq_route *r)
{
	return FIELD_PREP(ICR_VECTOR, (uint32_t)r->vector) | FIELD_PREP(ICR_DELIVERY, (uint32_t)r->delivery) |
	       (r->mode == IRQ_LOGICAL ? ICR_LOGICAL : 0) | ICR_ASSERT;
}
