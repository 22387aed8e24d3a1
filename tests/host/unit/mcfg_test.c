/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/mcfg.c kernel/acpi/table.c kernel/lib/crc.c
#include "tests/host/unit/acpi_bytes.h"

static struct mcfg m;
static struct acpi_error err;

static int parse(const uint8_t *p, size_t n)
{
	const int r = mcfg_parse(p, n, &m, &err);

	CHECK(m.count <= MCFG_MAX);
	for (uint32_t i = 0; i < m.count; i++)
		CHECK(m.alloc[i].bus_first <= m.alloc[i].bus_last && m.alloc[i].base != 0);
	CHECK(r == 0 || (err.what && err.offset <= n));
	return r;
}

static void alloc(struct bytes *b, uint64_t base, unsigned segment, unsigned first, unsigned last)
{
	put(b, base, 8), put(b, segment, 2), put(b, first, 1), put(b, last, 1), put(b, 0, 4);
}
static int one(uint64_t base, unsigned first, unsigned last)
{
	static struct bytes b;

	begin(&b, "MCFG");
	put_zeros(&b, 8);
	alloc(&b, base, 0, first, last);
	seal(&b);
	return parse(b.p, b.n);
}

int main(void)
{
	static struct bytes b;

	begin(&b, "MCFG");
	put_zeros(&b, 8);
	alloc(&b, 0xb0000000, 0, 0, 255);
	alloc(&b, 0x4000000000, 1, 16, 31);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK_EQ(m.count, 2);
	CHECK(m.alloc[0].base == 0xb0000000 && m.alloc[0].bus_first == 0 && m.alloc[0].bus_last == 255);
	CHECK(m.alloc[1].base == 0x4000000000 && m.alloc[1].segment == 1 && m.alloc[1].bus_first == 16 &&
	      m.alloc[1].bus_last == 31);
	damage(&b, parse);

	CHECK_EQ(one(0xe0000000, 0, 0), 0);
	CHECK_EQ(one(0xe0000000, 1, 0), -22);           /* buses backwards */
	CHECK_EQ(one(0, 0, 255), -22);                  /* nowhere */
	CHECK_EQ(one(0xe0001000, 0, 255), -22);         /* a bus is a megabyte */
	CHECK_EQ(one(0xfffffffffff00000, 0, 0), -22);   /* ends past the end */
	CHECK_EQ(one(0xffffffffffe00000, 0, 0), 0);

	begin(&b, "MCFG");
	put_zeros(&b, 8);
	for (unsigned i = 0; i < MCFG_MAX + 4; i++)
		alloc(&b, (uint64_t)(i + 1) << 28, i, 0, 255);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK_EQ(m.count, MCFG_MAX);
	CHECK_EQ(m.dropped, 4);
	b.n -= 8;
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), -22);                 /* half an allocation */
	return host_done("mcfg");
}
