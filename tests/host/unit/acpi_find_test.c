/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/acpi.c kernel/acpi/ivrs.c kernel/acpi/viot.c kernel/acpi/rsdp.c kernel/acpi/table.c kernel/acpi/madt.c kernel/acpi/mcfg.c kernel/acpi/dmar.c kernel/acpi/fadt.c kernel/lib/crc.c
#include "kernel/cpu/cpu.h"
#include "kernel/mm/mm.h"
#include "tests/host/unit/acpi_bytes.h"

/*
 * acpi.c over a memory of 2 MiB that is all there is: every map is copied into a block of just that
 * size, so that ASan sees a read past what was asked for.
 */
#define MEM (2u << 20)
static uint8_t mem[MEM];
static void *maps[4096];
static unsigned map_count;
struct cpu_features cpu_features;

const void *firmware_map(gpa_t at, size_t size)
{
	uint8_t *copy;

	if (map_count == 4096)
		abort();
	copy = malloc(size);
	memset(copy, 0xff, size); /* where nothing is */
	if (at.v < MEM)
		memcpy(copy, mem + at.v, size < MEM - at.v ? size : MEM - at.v);
	maps[map_count++] = copy;
	return copy;
}

static void unmap_all(void)
{
	while (map_count)
		free(maps[--map_count]);
}
static void run(uint64_t rsdp)
{
	unmap_all();
	acpi_init(rsdp);
	CHECK(acpi.table_count <= ACPI_TABLE_MAX);
	for (uint32_t i = 0; i < acpi.table_count; i++)
		CHECK(!acpi.table[i].sound || (acpi.table[i].bytes && acpi.table[i].len >= ACPI_HEADER_SIZE));
}

static void set32(uint64_t at, uint64_t v) { memcpy(mem + at, &v, 4); }
static void set64(uint64_t at, uint64_t v) { memcpy(mem + at, &v, 8); }
static void sum_to_zero(uint64_t at, size_t n, size_t where)
{
	uint8_t sum = 0;

	mem[at + where] = 0;
	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + mem[at + i]);
	mem[at + where] = (uint8_t)-sum;
}
static void rsdp(uint64_t at, unsigned revision, uint64_t rsdt, uint64_t xsdt)
{
	memset(mem + at, 0, 36);
	memcpy(mem + at, "RSD PTR ", 8);
	mem[at + 15] = (uint8_t)revision;
	set32(at + 16, rsdt);
	set32(at + 20, 36);
	set64(at + 24, xsdt);
	sum_to_zero(at, 20, 8);
	sum_to_zero(at, 36, 32);
}
static void place(uint64_t at, struct bytes *b)
{
	seal(b);
	memcpy(mem + at, b->p, b->n);
}
static void root(uint64_t at, const char *sig, unsigned width, const uint64_t *entry, unsigned n)
{
	static struct bytes b;

	begin(&b, sig);
	for (unsigned i = 0; i < n; i++)
		put(&b, entry[i], width);
	place(at, &b);
}
static void mcfg(uint64_t at, uint64_t base)
{
	static struct bytes b;

	begin(&b, "MCFG");
	put_zeros(&b, 8), put(&b, base, 8), put_zeros(&b, 3), put(&b, 255, 1), put_zeros(&b, 4);
	place(at, &b);
}
static void fadt(uint64_t at, uint64_t dsdt)
{
	static struct bytes b;

	begin(&b, "FACP");
	put_zeros(&b, 116 - 36);
	for (unsigned i = 0; i < 4; i++)
		b.p[40 + i] = (uint8_t)(dsdt >> (8 * i));
	place(at, &b);
}
static void fresh(void)
{
	static struct bytes b;

	memset(mem, 0, sizeof(mem));
	mcfg(0x150000, 0xb0000000);
	mcfg(0x151000, 0xc0000000);
	begin(&b, "DSDT");
	put_zeros(&b, 100);
	place(0x160000, &b);
	fadt(0x152000, 0x160000);
	root(0x140000, "RSDT", 4, (const uint64_t[]){0x150000, 0x152000}, 2);
	root(0x141000, "XSDT", 8, (const uint64_t[]){0x151000, 0x152000}, 2);
}

static void test_roots(void)
{
	fresh();
	rsdp(0x130000, 2, 0x140000, 0x141000);
	run(0x130000);
	CHECK(acpi.has_mcfg && acpi.mcfg.alloc[0].base == 0xc0000000); /* the XSDT's */
	CHECK(acpi.has_fadt && acpi_find("DSDT", 0) && acpi_find("DSDT", 0)->len == 136);
	CHECK_EQ(acpi.table_count, 4);
	CHECK_EQ(acpi.unsound, 0);
	CHECK(!acpi.has_madt && !acpi.has_dmar && !acpi_find("APIC", 0) && !acpi_find("MCFG", 1));

	rsdp(0x130000, 0, 0x140000, 0x141000); /* revision 0: no XSDT in it */
	run(0x130000);
	CHECK(acpi.has_mcfg && acpi.mcfg.alloc[0].base == 0xb0000000);
	rsdp(0x130000, 2, 0x140000, 0);
	run(0x130000);
	CHECK(acpi.has_mcfg && acpi.mcfg.alloc[0].base == 0xb0000000);
	rsdp(0x130000, 2, 0x141000, 0); /* an XSDT where an RSDT should be */
	run(0x130000);
	CHECK(!acpi.has_mcfg && acpi.unsound == 1);
	rsdp(0x130000, 2, 0, 0);
	run(0x130000);
	CHECK(acpi.table_count == 0 && acpi.unsound == 1);
}

static void test_scan(void)
{
	fresh();
	rsdp(0xf5a00, 0, 0x140000, 0);
	run(0);
	CHECK_EQ(acpi.rsdp, 0xf5a00);
	CHECK(acpi.has_mcfg);
	rsdp(0xe0000, 0, 0x141000, 0); /* sound, but comes first: it counts, whatever it points to */
	run(0);
	CHECK_EQ(acpi.rsdp, 0xe0000);
	mem[0xe0000 + 16] ^= 1; /* unsound: the scan goes on */
	run(0);
	CHECK_EQ(acpi.rsdp, 0xf5a00);
	mem[0x40e] = 0xc0, mem[0x40f] = 0x9f; /* EBDA at 0x9fc00 */
	rsdp(0x9fc10, 2, 0, 0x141000);
	run(0);
	CHECK_EQ(acpi.rsdp, 0x9fc10);
	CHECK_EQ(acpi.mcfg.alloc[0].base, 0xc0000000);
	fresh();
	rsdp(0xf5a08, 0, 0x140000, 0); /* not on a boundary of 16 */
	run(0);
	CHECK(acpi.rsdp == 0 && acpi.table_count == 0);
}

static void test_damage(void)
{
	uint64_t many[200];

	/* Addresses that nothing has, lengths that nothing has, a root that lists itself. */
	fresh();
	rsdp(0x130000, 2, 0, 0x141000);
	root(0x141000, "XSDT", 8, (const uint64_t[]){0, UINT64_MAX, 1ull << 40, 0x141000, 0x151000, MEM - 40}, 6);
	run(0x130000);
	CHECK(acpi.has_mcfg && acpi.unsound == 4);
	set32(0x151004, 0xfffffff0);
	run(0x130000);
	CHECK(!acpi.has_mcfg);
	set32(0x151004, 8);
	run(0x130000);
	CHECK(!acpi.has_mcfg);
	for (unsigned i = 0; i < 200; i++)
		many[i] = 0x152000;
	root(0x141000, "XSDT", 8, many, 200);
	run(0x130000);
	CHECK_EQ(acpi.table_count, ACPI_TABLE_MAX);
	/* The RSDP at the edge of what can be addressed. */
	run((1ull << 36) - 8);
	run(UINT64_MAX - 4);
	CHECK_EQ(acpi.table_count, 0);
}

/* Every byte of everything, one at a time, to every value it could flip to. */
static void test_flips(void)
{
	static const struct { uint64_t at; size_t n; } part[] = {
		{0x130000, 36}, {0x141000, 52}, {0x151000, 60}, {0x152000, 116}, {0x160000, 40}};

	fresh();
	rsdp(0x130000, 2, 0x140000, 0x141000);
	for (unsigned i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		for (size_t k = 0; k < part[i].n * 8; k++) {
			const uint64_t at = part[i].at + k / 8;

			mem[at] ^= (uint8_t)(1u << (k % 8));
			run(0x130000);
			CHECK(acpi.unsound > 0 || acpi.table_count < 4);
			mem[at] ^= (uint8_t)(1u << (k % 8));
		}
	}
}

int main(void)
{
	cpu_features.phys_bits = 36;
	test_roots();
	test_scan();
	test_damage();
	test_flips();
	unmap_all();
	return host_done("acpi");
}
