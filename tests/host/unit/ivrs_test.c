/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/ivrs.c kernel/acpi/table.c kernel/lib/crc.c

/* The IVRS parser: every kind of entry, and every way in which one can lie. */

#include "tests/host/unit/acpi_bytes.h"

static struct bytes b;
static struct ivrs out;
static struct acpi_error err;

static void poke(size_t at, uint64_t v, unsigned width)
{
	for (unsigned i = 0; i < width; i++)
		b.p[at + i] = (uint8_t)(v >> (8 * i));
}

static void add(uint64_t v, unsigned width) { put(&b, v, width); }
static void add_text(const char *text, size_t n)
{
	memcpy(b.p + b.n, text, n);
	b.n += n;
}

static void start(void)
{
	begin(&b, "IVRS");
	add(48u << 15 | 40u << 8 | 1, 4); /* VASize, PASize, EFRSup */
	add(0, 8);
}

static size_t block;

/* Block of that type with its fixed part; entries follow, then end_block(). */
static void ivhd(unsigned type, uint16_t id, uint64_t base)
{
	block = b.n;
	add(type, 1);
	add(0xb0, 1);
	add(0, 2);
	add(id, 2);
	add(0x40, 2);
	add(base, 8);
	add(0, 2);
	add(0x0100, 2);
	add(0x80048f6e, 4);
	if (type != 0x10) {
		add(0x246577efa2254afaull, 8);
		add(0x10, 8);
	}
}

static void end_block(void)
{
	poke(block + 2, b.n - block, 2);
}

static void entry4(unsigned type, uint16_t id, unsigned settings)
{
	add(type, 1);
	add(id, 2);
	add(settings, 1);
}

static void entry8(unsigned type, uint16_t id, unsigned settings, uint32_t more)
{
	entry4(type, id, settings);
	add(more, 4);
}

static void ivmd(unsigned type, unsigned flags, uint16_t id, uint16_t last, uint64_t base, uint64_t length)
{
	add(type, 1);
	add(flags, 1);
	add(32, 2);
	add(id, 2);
	add(last, 2);
	add(0, 8);
	add(base, 8);
	add(length, 8);
}

static int parse_bytes(const uint8_t *p, size_t n)
{
	int r;

	err = (struct acpi_error){0};
	r = ivrs_parse(p, n, &out, &err);
	CHECK((r < 0) == (err.what != NULL));
	CHECK(out.unit_count <= IVRS_UNIT_MAX && out.memory_count <= IVRS_MEMORY_MAX);
	return r;
}

static int parse(void)
{
	seal(&b);
	return on_exact(b.p, b.n, parse_bytes);
}

static void bad(const char *part, size_t at)
{
	CHECK_EQ(parse(), -22);
	CHECK(err.what && strstr(err.what, part));
	CHECK_EQ(err.offset, at);
}

static void kinds(void)
{
	const struct ivrs_unit *u = &out.unit[0];

	start();
	ivhd(0x11, 0x0002, 0xfd200000);
	entry4(0, 0x1234, 0xff);                     /* padding */
	entry4(2, 0x0018, 0x11);                     /* select */
	entry4(3, 0x0100, 0xc0);                     /* range, padding within */
	entry4(0, 0, 0);
	entry8(64, 0, 0, 0);
	entry4(4, 0x01ff, 0);
	entry8(66, 0x0510, 2, 0x00050000);           /* 05:02.0 is seen as 05:00.0 */
	entry8(67, 0x0600, 3, 0x00060000);
	entry4(4, 0x06ff, 0);
	entry8(70, 0x0700, 4, 0x80000000);           /* extended, no ATS */
	entry8(71, 0x0800, 5, 0x80000000);
	entry4(4, 0x0807, 0);
	entry8(72, 0, 0xd7, 0x0100a004);             /* I/O APIC 4 at 00:14.0 */
	entry8(72, 0, 0x00, 0x0200a000);             /* HPET 0 */
	entry4(240, 0x0098, 7);
	add_text("AMDI0020" "\0\0\0\0\0\0\0\0", 16);
	add(2, 1);
	add(9, 1);
	add_text("\\_SB.FUR0", 9);
	entry4(240, 0x0099, 0);
	add_text("AMDI\x01" "xx\0" "PNP0501\0", 16);
	add(1, 1);
	add(8, 1);
	add(0x1020304050607080ull, 8);
	entry4(240, 0x009a, 0);
	put_zeros(&b, 16);
	add(0, 2);
	for (unsigned i = 0; i < 16; i++)
		add(i == 0 ? 0x90 : 0xee, 1);        /* a kind to come, of 16 bytes */
	for (unsigned i = 0; i < 32; i++)
		add(i == 0 ? 0xc5 : 0xee, 1);        /* and one of 32 */
	end_block();
	ivmd(0x20, IVRS_UNITY | IVRS_READ | IVRS_WRITE, 0, 0, 0x7d000000, 0x100000);
	ivmd(0x21, IVRS_EXCLUSION, 0x0018, 0, 0xcd000000, 0x1000);
	ivmd(0x22, IVRS_UNITY | IVRS_READ, 0x0100, 0x01ff, 0, 1ull << 52);
	add(0x77, 1);                                /* a block of no kind we know */
	add(0, 1);
	add(8, 2);
	add(0xffffffff, 4);

	CHECK_EQ(parse(), 0);
	CHECK_EQ(out.va_bits, 48);
	CHECK_EQ(out.pa_bits, 40);
	CHECK_EQ(out.unit_count, 1);
	CHECK_EQ(out.blocks, 1);
	CHECK_EQ(out.dropped, 0);
	CHECK_EQ(u->type, 0x11);
	CHECK_EQ(u->flags, 0xb0);
	CHECK_EQ(u->device_id, 2);
	CHECK_EQ(u->cap_offset, 0x40);
	CHECK_EQ(u->base, 0xfd200000);
	CHECK_EQ(u->info, 0x100);
	CHECK_EQ(u->attributes, 0x80048f6e);
	CHECK_EQ(u->efr, 0x246577efa2254afaull);
	CHECK_EQ(u->efr2, 0x10);
	CHECK_EQ(u->dev_count, 6);
	CHECK_EQ(u->dev[0].first, 0x18);
	CHECK_EQ(u->dev[0].last, 0x18);
	CHECK_EQ(u->dev[0].settings, 0x11);
	CHECK_EQ(u->dev[1].first, 0x100);
	CHECK_EQ(u->dev[1].last, 0x1ff);
	CHECK_EQ(u->dev[1].settings, 0xc0);
	CHECK(u->dev[2].aliased && !u->dev[1].aliased);
	CHECK_EQ(u->dev[2].alias, 0x500);
	CHECK_EQ(u->dev[3].last, 0x6ff);
	CHECK_EQ(u->dev[3].alias, 0x600);
	CHECK_EQ(u->dev[4].extended, 0x80000000);
	CHECK_EQ(u->dev[5].last, 0x807);
	CHECK_EQ(u->dev[5].settings, 5);
	CHECK_EQ(u->special_count, 2);
	CHECK_EQ(u->special[0].variety, IVRS_IOAPIC);
	CHECK_EQ(u->special[0].handle, 4);
	CHECK_EQ(u->special[0].source, 0xa0);
	CHECK_EQ(u->special[0].settings, 0xd7);
	CHECK_EQ(u->special[1].variety, IVRS_HPET);
	CHECK_EQ(u->hid_count, 3);
	CHECK(!strcmp(u->hid[0].hid, "AMDI0020") && !strcmp(u->hid[0].uid, "\\_SB.FUR0"));
	CHECK_EQ(u->hid[0].source, 0x98);
	CHECK_EQ(u->hid[0].settings, 7);
	CHECK(!strcmp(u->hid[1].hid, "AMDI.xx") && !strcmp(u->hid[1].cid, "PNP0501"));
	CHECK(!strcmp(u->hid[1].uid, "1020304050607080"));
	CHECK(!u->hid[2].hid[0] && !u->hid[2].uid[0]);
	CHECK_EQ(out.memory_count, 3);
	CHECK_EQ(out.memory[0].first, 0);
	CHECK_EQ(out.memory[0].last, 0xffff);
	CHECK_EQ(out.memory[1].first, 0x18);
	CHECK_EQ(out.memory[1].last, 0x18);
	CHECK_EQ(out.memory[1].flags, IVRS_EXCLUSION);
	CHECK_EQ(out.memory[2].last, 0x1ff);
	CHECK_EQ(out.memory[2].length, 1ull << 52);

	CHECK(ivrs_find(u, 0x18) == &u->dev[0]);
	CHECK(ivrs_find(u, 0x17) == NULL);
	CHECK(ivrs_find(u, 0x100) == &u->dev[1]);
	CHECK(ivrs_find(u, 0x1ff) == &u->dev[1]);
	CHECK(ivrs_find(u, 0x200) == NULL);
	CHECK(ivrs_find(u, 0x510)->alias == 0x500);
	damage(&b, parse_bytes);
}

/* Of several blocks for one unit the newest counts, in any order; the last entry for a device too. */
static void several(void)
{
	static const uint8_t order[][3] = {{0x10, 0x11, 0x40}, {0x40, 0x10, 0x11}, {0x11, 0x40, 0x10}};

	for (unsigned i = 0; i < 3; i++) {
		start();
		for (unsigned k = 0; k < 3; k++) {
			ivhd(order[i][k], 0x0002, 0xfd200000);
			entry4(1, 0, order[i][k]);
			entry4(2, 0x20, 1);
			end_block();
			ivhd(0x10, 0x4002, 0xfd300000);
			end_block();
		}
		CHECK_EQ(parse(), 0);
		CHECK_EQ(out.blocks, 6);
		CHECK_EQ(out.unit_count, 2);
		CHECK_EQ(out.unit[0].type, 0x40);
		CHECK_EQ(out.unit[0].dev_count, 2);
		CHECK_EQ(out.unit[0].dev[0].settings, 0x40);
		CHECK_EQ(out.unit[1].type, 0x10);
		CHECK_EQ(out.unit[1].efr, 0);
		CHECK(ivrs_find(&out.unit[0], 0x20) == &out.unit[0].dev[1]);
		CHECK(ivrs_find(&out.unit[0], 0xffff) == &out.unit[0].dev[0]);
		CHECK(ivrs_find(&out.unit[1], 0x20) == NULL);
	}
}

static void too_many(void)
{
	start();
	for (unsigned i = 0; i < IVRS_UNIT_MAX + 2; i++) {
		ivhd(0x10, (uint16_t)(i << 8), 0xfd200000);
		end_block();
	}
	CHECK_EQ(parse(), 0);
	CHECK_EQ(out.unit_count, IVRS_UNIT_MAX);
	CHECK_EQ(out.dropped, 2);

	start();
	ivhd(0x10, 2, 0xfd200000);
	for (unsigned i = 0; i < IVRS_DEV_MAX + 3; i++)
		entry4(2, (uint16_t)i, 0);
	for (unsigned i = 0; i < IVRS_SPECIAL_MAX + 1; i++)
		entry8(72, 0, 0, 0x01000000 | i);
	end_block();
	for (unsigned i = 0; i < IVRS_MEMORY_MAX + 1; i++)
		ivmd(0x20, 1, 0, 0, 0x1000, 0x1000);
	CHECK_EQ(parse(), 0);
	CHECK_EQ(out.unit[0].dev_count, IVRS_DEV_MAX);
	CHECK_EQ(out.unit[0].special_count, IVRS_SPECIAL_MAX);
	CHECK_EQ(out.memory_count, IVRS_MEMORY_MAX);
	CHECK_EQ(out.dropped, 5);
}

static void damaged(void)
{
	start();
	CHECK_EQ(parse(), 0);
	CHECK_EQ(out.unit_count, 0);
	b.n = 47;
	bad("fixed part", 47);
	start();
	add(0x10, 2);
	bad("stray", 48);
	start();
	add(0x10, 2);
	add(3, 2);
	bad("shorter than its header", 48);
	start();
	add(0x10, 2);
	add(5, 2);
	bad("past the table", 48);
	start();
	add(0x10, 2);
	add(23, 2);
	b.n = 48 + 23;
	bad("fixed part", 48);
	start();
	ivhd(0x11, 2, 0xfd200000);
	b.n = 48 + 39;
	end_block();
	bad("fixed part", 48);

	start();
	ivhd(0x10, 2, 0);
	end_block();
	bad("register base", 56);
	start();
	ivhd(0x10, 2, 0xfd201000);
	end_block();
	bad("register base", 56);
	start();
	ivhd(0x10, 2, 1ull << 52);
	end_block();
	bad("register base", 56);

	start();
	ivhd(0x10, 2, 0xfd200000);
	entry4(66, 0, 0);                            /* eight bytes, four there */
	end_block();
	bad("past its block", 72);
	start();
	ivhd(0x10, 2, 0xfd200000);
	entry4(240, 0, 0);
	put_zeros(&b, 17);                                  /* one short of its UID length */
	end_block();
	bad("past its block", 72);
	start();
	ivhd(0x10, 2, 0xfd200000);
	entry4(240, 0, 0);
	put_zeros(&b, 16);
	add(2, 1);
	add(1, 1);
	end_block();
	bad("past its block", 72);
	start();
	ivhd(0x10, 2, 0xfd200000);
	entry4(240, 0, 0);
	put_zeros(&b, 16);
	add(3, 1);
	add(0, 1);
	end_block();
	bad("UID", 72);

	start();
	ivhd(0x10, 2, 0xfd200000);
	entry4(3, 0x100, 0);
	end_block();
	bad("without an end", 76);
	start();
	ivhd(0x10, 2, 0xfd200000);
	entry4(3, 0x100, 0);
	entry4(2, 0x101, 0);
	end_block();
	bad("without an end", 76);
	start();
	ivhd(0x10, 2, 0xfd200000);
	entry4(4, 0x100, 0);
	end_block();
	bad("not begun", 72);
	start();
	ivhd(0x10, 2, 0xfd200000);
	entry4(3, 0x100, 0);
	entry4(4, 0xff, 0);
	end_block();
	bad("before it begins", 76);

	start();
	ivmd(0x22, 1, 0x100, 0xff, 0x1000, 0x1000);
	bad("before it begins", 54);
	start();
	ivmd(0x21, 1, 0, 0, 0x1000, 0);
	bad("empty", 64);
	start();
	ivmd(0x21, 1, 0, 0, 0x1000, 1ull << 52);
	bad("empty", 64);
	start();
	ivmd(0x21, 1, 0, 0, 1ull << 52, 0x1000);
	bad("empty", 64);
	start();
	ivmd(0x21, 1, 0, 0, 0x1000, 0x1000);
	poke(50, 40, 2);
	put_zeros(&b, 8);
	bad("IVMD", 48);

	start();
	CHECK_EQ(parse(), 0);
}

int main(void)
{
	kinds();
	several();
	too_many();
	damaged();
	return host_done("ivrs");
}
