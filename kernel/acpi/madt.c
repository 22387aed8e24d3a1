/* SPDX-License-Identifier: MIT */

/* Multiple APIC Description Table: ACPI 6.5, 5.2.12. */

#include "kernel/acpi/table.h"
#include "kernel/lib/string.h"

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_ISO = 2, MADT_LAPIC_ADDR = 5, MADT_X2APIC = 9 };

#define MADT_ENTRIES     44 /* offset of the first */
#define MADT_PCAT_COMPAT BIT(0)
#define CPU_ENABLED      BIT(0)
#define CPU_ONLINE_CAP   BIT(1)

/* The least length of each type that is read; 2 (type and length) for the others. */
static size_t entry_min(uint8_t type)
{
	switch (type) {
	case MADT_LAPIC:
		return 8;
	case MADT_IOAPIC:
	case MADT_LAPIC_ADDR:
		return 12;
	case MADT_ISO:
		return 10;
	case MADT_X2APIC:
		return 16;
	default:
		return 2;
	}
}

/*
 * Firmware may list a processor as a local APIC and as an x2APIC entry (5.2.12.12 forbids it, it
 * happens): it is one processor.
 */
static void add_cpu(struct madt *out, uint32_t id, uint32_t uid, uint32_t flags, bool x2apic)
{
	const bool enabled = flags & CPU_ENABLED, online_cap = flags & CPU_ONLINE_CAP;

	for (uint32_t i = 0; i < out->cpu_count; i++) {
		if (out->cpu[i].apic_id == id) {
			out->cpu[i].enabled |= enabled;
			out->cpu[i].online_capable |= online_cap;
			return;
		}
	}
	if (out->cpu_count == MADT_CPU_MAX) {
		out->dropped++;
		return;
	}
	out->cpu[out->cpu_count++] = (struct madt_cpu){.apic_id = id,
						       .uid = uid,
						       .enabled = enabled,
						       .online_capable = online_cap,
						       .x2apic = x2apic};
}

static void add_ioapic(struct madt *out, const uint8_t *e)
{
	const uint32_t n = out->ioapic_count;

	if (n == MADT_IOAPIC_MAX) {
		out->dropped++;
		return;
	}
	out->ioapic[n].id = e[2];
	out->ioapic[n].addr = get_le32(e + 4);
	out->ioapic[n].gsi_base = get_le32(e + 8);
	out->ioapic_count++;
}

static void add_iso(struct madt *out, const uint8_t *e)
{
	const uint32_t n = out->iso_count;

	if (n == MADT_ISO_MAX) {
		out->dropped++;
		return;
	}
	out->iso[n].irq = e[3];
	out->iso[n].gsi = get_le32(e + 4);
	out->iso[n].flags = get_le16(e + 8);
	out->iso_count++;
}

int madt_parse(const uint8_t *p, size_t len, struct madt *out, struct acpi_error *err)
{
	size_t end, at = MADT_ENTRIES;
	int r = acpi_check(p, len, "APIC", err);

	memset(out, 0, sizeof(*out));
	if (r < 0)
		return r;
	end = acpi_length(p);
	if (end < MADT_ENTRIES)
		return acpi_bad(err, "MADT: shorter than its fixed part", end);
	out->lapic_addr = get_le32(p + 36);
	out->pcat_compat = get_le32(p + 40) & MADT_PCAT_COMPAT;

	while (at < end) {
		const uint8_t *e = p + at;

		if (end - at < 2)
			return acpi_bad(err, "MADT: a stray byte at the end", at);
		if (e[1] > end - at)
			return acpi_bad(err, "MADT: entry runs past the table", at);
		if (e[1] < entry_min(e[0]))
			return acpi_bad(err, "MADT: entry too short for its type", at);
		switch (e[0]) {
		case MADT_LAPIC:
			/* 0xff is the broadcast ID: a slot that firmware left empty. */
			if (e[3] != 0xff)
				add_cpu(out, e[3], e[2], get_le32(e + 4), false);
			break;
		case MADT_X2APIC:
			if (get_le32(e + 4) != 0xffffffffu)
				add_cpu(out, get_le32(e + 4), get_le32(e + 12), get_le32(e + 8),
					true);
			break;
		case MADT_IOAPIC:
			add_ioapic(out, e);
			break;
		case MADT_ISO:
			add_iso(out, e);
			break;
		case MADT_LAPIC_ADDR:
			out->lapic_addr = get_le64(e + 4);
			break;
		default:
			break;
		}
		at += e[1];
	}
	return 0;
}
