/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/fadt.c kernel/acpi/s5.c kernel/acpi/table.c kernel/lib/crc.c
#include "tests/host/unit/acpi_bytes.h"

static struct fadt f;
static struct acpi_error err;

static int parse(const uint8_t *p, size_t n)
{
	const int r = fadt_parse(p, n, &f, &err);

	CHECK(f.pm_timer_port <= 0xfffc && f.pm1a_cnt <= 0xfffe && f.pm1b_cnt <= 0xfffe && f.reset_port <= 0xffff);
	CHECK(!f.reset_supported || f.reset_port);
	CHECK(r == 0 || (err.what && err.offset <= n));
	return r;
}

static void set(struct bytes *b, size_t off, uint64_t v, unsigned width)
{
	const size_t n = b->n;

	b->n = off;
	put(b, v, width);
	b->n = n;
}
static void gas(struct bytes *b, size_t off, unsigned space, uint64_t addr)
{
	set(b, off, space, 1);
	set(b, off + 4, addr, 8);
}

static void build(struct bytes *b, size_t size)
{
	begin(b, "FACP");
	put_zeros(b, size - b->n);
	set(b, 40, 0x7ffe0040, 4); /* DSDT */
	set(b, 48, 0xb2, 4), set(b, 52, 2, 1);
	set(b, 64, 0x604, 4), set(b, 76, 0x608, 4), set(b, 91, 4, 1);
	set(b, 112, 1u << 10, 4);
	if (size >= 129) {
		gas(b, 116, 1, 0xcf9);
		set(b, 128, 0xf, 1);
	}
	seal(b);
}

/* ---- \_S5 ---- */
static uint8_t typ_a, typ_b;
static int s5(const uint8_t *p, size_t n)
{
	typ_a = typ_b = 0xee;
	const int r = dsdt_find_s5(p, n, &typ_a, &typ_b);

	CHECK(r < 0 || (typ_a <= 7 && typ_b <= 7));
	return r;
}
#define S5(...) on_exact((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), s5)
#define NAME_S5 0x08, '_', 'S', '5', '_'

static void test_s5(void)
{
	/* as QEMU writes it */
	CHECK_EQ(S5(0xaa, NAME_S5, 0x12, 0x06, 0x04, 0x00, 0x00, 0x00, 0x00), 0);
	CHECK(typ_a == 0 && typ_b == 0);
	/* bytes, with the root prefix; a word and a doubleword; a two-byte PkgLength */
	CHECK_EQ(S5(0x08, 0x5c, '_', 'S', '5', '_', 0x12, 0x08, 0x04, 0x0a, 0x05, 0x0a, 0x03, 0x00, 0x00), 0);
	CHECK(typ_a == 5 && typ_b == 3);
	CHECK_EQ(S5(NAME_S5, 0x12, 0x0a, 0x02, 0x0b, 0x07, 0x00, 0x0c, 0x01, 0, 0, 0), 0);
	CHECK(typ_a == 7 && typ_b == 1);
	CHECK_EQ(S5(NAME_S5, 0x12, 0x45, 0x00, 0x02, 0x01, 0x01), 0);
	CHECK(typ_a == 1 && typ_b == 1);
	/* the first that is a package counts; a reference to the name does not */
	CHECK_EQ(S5(0x5c, '_', 'S', '5', '_', 0x12, 0x04, 0x02, 0x01, 0x01, NAME_S5, 0x12, 0x04, 0x02, 0x00, 0x01), 0);
	CHECK(typ_a == 0 && typ_b == 1);
	/* not a package; one element; a value that is no sleep type; a package past the end; no constant */
	CHECK_EQ(S5(NAME_S5, 0x0a, 0x05, 0x00, 0x00, 0x00), -2);
	CHECK_EQ(S5(NAME_S5, 0x12, 0x03, 0x01, 0x05, 0x00), -2);
	CHECK_EQ(S5(NAME_S5, 0x12, 0x05, 0x02, 0x0a, 0x08, 0x00), -2);
	CHECK_EQ(S5(NAME_S5, 0x12, 0x3f, 0x02, 0x00, 0x00), -2);
	CHECK_EQ(S5(NAME_S5, 0x12, 0x04, 0x02, 0x70, 0x00), -2);
	/* the second element lies behind the package */
	CHECK_EQ(S5(NAME_S5, 0x12, 0x03, 0x02, 0x01, 0x01), -2);
	CHECK_EQ(S5(0), -2);
}

static void test_s5_truncated(void)
{
	static const uint8_t aml[] = {0x10, NAME_S5, 0x12, 0x86, 0x00, 0x00, 0x04, 0x0a, 5, 0x0a, 5, 0, 0};

	for (size_t n = 0; n < sizeof(aml); n++)
		on_exact(aml, n, s5);
	for (size_t i = 0; i < sizeof(aml); i++) {
		for (unsigned v = 0; v < 256; v++) {
			uint8_t b[sizeof(aml)];

			memcpy(b, aml, sizeof(b));
			b[i] = (uint8_t)v;
			on_exact(b, sizeof(b), s5);
		}
	}
}

int main(void)
{
	static struct bytes b;

	build(&b, 244);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK_EQ(f.pm_timer_port, 0x608);
	CHECK(!f.pm_timer_32bit);
	CHECK(f.pm1a_cnt == 0x604 && f.pm1b_cnt == 0);
	CHECK_EQ(f.dsdt, 0x7ffe0040);
	CHECK(f.reset_supported && f.reset_port == 0xcf9 && f.reset_value == 0xf);
	CHECK(f.smi_cmd == 0xb2 && f.acpi_enable == 2);
	damage(&b, parse);

	/* The extended fields count where they name a port. */
	build(&b, 276);
	set(&b, 140, 0x1234567890, 8);
	gas(&b, 172, 1, 0x1804), gas(&b, 184, 1, 0x1904), gas(&b, 208, 1, 0x1808);
	set(&b, 112, 1u << 10 | 1u << 8, 4);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK(f.pm_timer_port == 0x1808 && f.pm_timer_32bit && f.pm1a_cnt == 0x1804 && f.pm1b_cnt == 0x1904);
	CHECK_EQ(f.dsdt, 0x1234567890);
	damage(&b, parse);

	/* In memory, or past the last port: the old ones. A port of two bytes ends at 0xffff. */
	gas(&b, 208, 0, 0xfed00000), gas(&b, 172, 1, 0x10000), set(&b, 64, 0xfffe, 4);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK(f.pm_timer_port == 0x608 && f.pm1a_cnt == 0xfffe);
	set(&b, 64, 0xffff, 4);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK_EQ(f.pm1a_cnt, 0);

	/* No timer by its length; no reset by its flag or its space. */
	build(&b, 276);
	set(&b, 91, 0, 1);
	gas(&b, 116, 0, 0xfed00000);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK(f.pm_timer_port == 0 && !f.reset_supported);
	gas(&b, 116, 1, 0xcf9), set(&b, 112, 0, 4);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK(!f.reset_supported);

	/* Hardware-reduced: none of the fixed registers. */
	set(&b, 112, 1u << 20 | 1u << 10, 4), set(&b, 91, 4, 1);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK(f.pm_timer_port == 0 && f.pm1a_cnt == 0 && f.smi_cmd == 0 && f.reset_supported);

	/* ACPI 1.0: nothing of what came later. */
	build(&b, 116);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK(f.pm_timer_port == 0x608 && !f.reset_supported);

	test_s5();
	test_s5_truncated();
	return host_done("fadt");
}
