/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/madt.c kernel/acpi/table.c kernel/lib/crc.c
#include "tests/host/unit/acpi_bytes.h"

static struct madt m;
static struct acpi_error err;

static int parse(const uint8_t *p, size_t n)
{
	const int r = madt_parse(p, n, &m, &err);

	CHECK(m.cpu_count <= MADT_CPU_MAX && m.ioapic_count <= MADT_IOAPIC_MAX && m.iso_count <= MADT_ISO_MAX);
	CHECK(r == 0 || (err.what && err.offset <= n));
	return r;
}

static void lapic(struct bytes *b, unsigned uid, unsigned id, unsigned flags)
{
	put(b, 0, 1), put(b, 8, 1), put(b, uid, 1), put(b, id, 1), put(b, flags, 4);
}
static void x2apic(struct bytes *b, unsigned uid, unsigned id, unsigned flags)
{
	put(b, 9, 1), put(b, 16, 1), put(b, 0, 2), put(b, id, 4), put(b, flags, 4), put(b, uid, 4);
}
static void start(struct bytes *b)
{
	begin(b, "APIC");
	put(b, 0xfee00000, 4), put(b, 1, 4);
}

static void build(struct bytes *b)
{
	start(b);
	lapic(b, 0, 0, 1);
	lapic(b, 1, 2, 0);
	lapic(b, 2, 4, 2);
	lapic(b, 3, 0xff, 1); /* an empty slot */
	x2apic(b, 400, 400, 1);
	x2apic(b, 9, 2, 1);   /* listed above as disabled: one CPU, enabled */
	put(b, 1, 1), put(b, 12, 1), put(b, 7, 1), put(b, 0, 1), put(b, 0xfec00000, 4), put(b, 24, 4);
	put(b, 2, 1), put(b, 10, 1), put(b, 0, 1), put(b, 9, 1), put(b, 21, 4), put(b, 0xd, 2);
	put(b, 5, 1), put(b, 12, 1), put(b, 0, 2), put(b, 0x1fee00000, 8);
	put(b, 4, 1), put(b, 6, 1), put(b, 0xff, 1), put(b, 0, 2), put(b, 1, 1); /* NMI: not read */
	put(b, 0x7f, 1), put(b, 2, 1);                                          /* not known */
	seal(b);
}

int main(void)
{
	static struct bytes b;

	build(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK_EQ(m.lapic_addr, 0x1fee00000);
	CHECK(m.pcat_compat);
	CHECK_EQ(m.cpu_count, 4);
	CHECK(m.cpu[0].apic_id == 0 && m.cpu[0].enabled && !m.cpu[0].x2apic);
	CHECK(m.cpu[1].apic_id == 2 && m.cpu[1].enabled && m.cpu[1].uid == 1);
	CHECK(m.cpu[2].apic_id == 4 && !m.cpu[2].enabled && m.cpu[2].online_capable);
	CHECK(m.cpu[3].apic_id == 400 && m.cpu[3].uid == 400 && m.cpu[3].x2apic && m.cpu[3].enabled);
	CHECK(m.ioapic_count == 1 && m.ioapic[0].id == 7 && m.ioapic[0].addr == 0xfec00000 &&
	      m.ioapic[0].gsi_base == 24);
	CHECK(m.iso_count == 1 && m.iso[0].irq == 9 && m.iso[0].gsi == 21 && m.iso[0].flags == 0xd);
	CHECK_EQ(m.dropped, 0);
	damage(&b, parse);

	/* More than fits is counted. */
	start(&b);
	for (unsigned i = 0; i < MADT_CPU_MAX + 3; i++)
		x2apic(&b, i, i, 1);
	for (unsigned i = 0; i < MADT_IOAPIC_MAX + 2; i++)
		put(&b, 1, 1), put(&b, 12, 1), put(&b, i, 2), put(&b, i, 4), put(&b, i, 4);
	for (unsigned i = 0; i < MADT_ISO_MAX + 1; i++)
		put(&b, 2, 1), put(&b, 10, 1), put(&b, i, 2), put(&b, i, 4), put(&b, 0, 2);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK_EQ(m.cpu_count, MADT_CPU_MAX);
	CHECK_EQ(m.cpu[MADT_CPU_MAX - 1].apic_id, MADT_CPU_MAX - 1);
	CHECK_EQ(m.dropped, 3 + 2 + 1);

	/* An entry of length 0 would be walked for ever. */
	start(&b);
	put(&b, 0x80, 1), put(&b, 0, 1);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), -22);
	CHECK_EQ(err.offset, 44);
	start(&b);
	lapic(&b, 0, 0, 1);
	b.p[b.n - 7] = 7;
	b.n--;
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), -22);
	return host_done("madt");
}
