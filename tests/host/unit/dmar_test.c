/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/dmar.c kernel/acpi/table.c kernel/lib/crc.c
#include "tests/host/unit/acpi_bytes.h"

static struct dmar d;
static struct acpi_error err;

static void check_scopes(const struct dmar_scope *s, uint32_t n, uint32_t max)
{
	CHECK(n <= max);
	for (uint32_t i = 0; i < n && i < max; i++)
		CHECK(s[i].path_len >= 1 && s[i].path_len <= DMAR_PATH_MAX);
}
static int parse(const uint8_t *p, size_t n)
{
	const int r = dmar_parse(p, n, &d, &err);

	CHECK(d.unit_count <= DMAR_UNIT_MAX && d.rmrr_count <= DMAR_RMRR_MAX && d.atsr_count <= DMAR_ATSR_MAX);
	CHECK(r == 0 || (err.what && err.offset <= n));
	for (uint32_t i = 0; r == 0 && i < d.unit_count; i++) {
		CHECK(d.unit[i].base && !(d.unit[i].base & 0xfff));
		check_scopes(d.unit[i].scope, d.unit[i].scope_count, DMAR_SCOPE_MAX);
	}
	for (uint32_t i = 0; r == 0 && i < d.rmrr_count; i++) {
		CHECK(d.rmrr[i].base <= d.rmrr[i].limit);
		check_scopes(d.rmrr[i].scope, d.rmrr[i].scope_count, 4);
	}
	for (uint32_t i = 0; r == 0 && i < d.atsr_count; i++)
		check_scopes(d.atsr[i].scope, d.atsr[i].scope_count, 8);
	return r;
}

static void start(struct bytes *b, unsigned flags)
{
	begin(b, "DMAR");
	put(b, 47, 1), put(b, flags, 1), put_zeros(b, 10);
}
static size_t drhd(struct bytes *b, unsigned flags, unsigned segment, uint64_t base)
{
	const size_t at = b->n;

	put(b, 0, 2), put(b, 16, 2), put(b, flags, 1), put(b, 0, 1), put(b, segment, 2), put(b, base, 8);
	return at;
}
/* pairs: device and function, a byte each, the first in the highest byte used. */
static void scope(struct bytes *b, size_t in, unsigned type, unsigned id, unsigned bus, unsigned len, uint64_t pairs)
{
	put(b, type, 1), put(b, 6 + 2 * len, 1), put(b, 0, 2), put(b, id, 1), put(b, bus, 1);
	for (unsigned i = len; i-- > 0;)
		put(b, pairs >> (16 * i + 8), 1), put(b, pairs >> (16 * i), 1);
	b->p[in + 2] = (uint8_t)(b->n - in);
	b->p[in + 3] = (uint8_t)((b->n - in) >> 8);
}

static void build(struct bytes *b)
{
	size_t at;

	start(b, 3);
	at = drhd(b, 0, 0, 0xfed90000);
	scope(b, at, 1, 0, 0, 1, 0x0200);
	scope(b, at, 2, 0, 0, 2, 0x1c030001);
	at = drhd(b, 1, 0, 0xfed91000);
	b->p[at + 5] = 2;
	scope(b, at, 3, 5, 0xff, 1, 0x0000);
	scope(b, at, 4, 0, 0, 1, 0x1f00);
	at = b->n;
	put(b, 1, 2), put(b, 24, 2), put(b, 0, 2), put(b, 0, 2), put(b, 0x7b800000, 8), put(b, 0x7fffffff, 8);
	scope(b, at, 1, 0, 0, 1, 0x1400);
	at = b->n;
	put(b, 2, 2), put(b, 8, 2), put(b, 1, 1), put(b, 0, 1), put(b, 3, 2);
	scope(b, at, 2, 0, 0, 1, 0x0100);
	put(b, 3, 2), put(b, 20, 2), put_zeros(b, 16); /* RHSA: not read */
	seal(b);
}

int main(void)
{
	static struct bytes b;
	size_t at;

	build(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK_EQ(d.host_addr_width, 48);
	CHECK(d.intr_remap && d.x2apic_opt_out && !d.dma_ctrl_opt_in);
	CHECK_EQ(d.unit_count, 2);
	CHECK(d.unit[0].base == 0xfed90000 && !d.unit[0].include_pci_all && d.unit[0].scope_count == 2);
	CHECK(d.unit[0].scope[0].type == DMAR_SCOPE_ENDPOINT && d.unit[0].scope[0].path[0].dev == 2);
	CHECK(d.unit[0].scope[1].type == DMAR_SCOPE_BRIDGE && d.unit[0].scope[1].path_len == 2 &&
	      d.unit[0].scope[1].path[0].dev == 0x1c && d.unit[0].scope[1].path[0].fn == 3 &&
	      d.unit[0].scope[1].path[1].dev == 0 && d.unit[0].scope[1].path[1].fn == 1);
	CHECK(d.unit[1].include_pci_all && d.unit[1].size_pages_log2 == 2 && d.unit[1].scope_count == 2);
	CHECK(d.unit[1].scope[0].type == DMAR_SCOPE_IOAPIC && d.unit[1].scope[0].enum_id == 5 &&
	      d.unit[1].scope[0].start_bus == 0xff);
	CHECK(d.rmrr_count == 1 && d.rmrr[0].base == 0x7b800000 && d.rmrr[0].limit == 0x7fffffff &&
	      d.rmrr[0].scope_count == 1);
	CHECK(d.atsr_count == 1 && d.atsr[0].all_ports && d.atsr[0].segment == 3 && d.atsr[0].scope_count == 1);
	CHECK_EQ(d.dropped, 0);
	damage(&b, parse);

	/* What does not fit: units, scopes of one unit, a path too deep. */
	start(&b, 1);
	at = drhd(&b, 1, 0, 0xfed90000);
	for (unsigned i = 0; i < DMAR_SCOPE_MAX + 2; i++)
		scope(&b, at, 1, 0, 0, 1, (i % 32) << 8);
	for (unsigned i = 0; i < DMAR_UNIT_MAX + 1; i++)
		drhd(&b, 0, 0, 0xfed91000 + i * 0x1000);
	at = b.n;
	put(&b, 2, 2), put(&b, 8, 2), put(&b, 0, 4);
	put(&b, 1, 1), put(&b, 6 + 2 * (DMAR_PATH_MAX + 1), 1), put_zeros(&b, 4 + 2 * (DMAR_PATH_MAX + 1));
	b.p[at + 2] = (uint8_t)(b.n - at);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK_EQ(d.unit_count, DMAR_UNIT_MAX);
	CHECK_EQ(d.unit[0].scope_count, DMAR_SCOPE_MAX);
	CHECK_EQ(d.atsr[0].scope_count, 0);
	CHECK_EQ(d.dropped, 2 + 2 + 1);

	/* A structure of length 0, a path that is no function, a region backwards, no place for registers. */
	start(&b, 1);
	put(&b, 7, 2), put(&b, 0, 2);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), -22);
	start(&b, 1);
	at = drhd(&b, 0, 0, 0xfed90000);
	scope(&b, at, 1, 0, 0, 1, 0x2000);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), -22);
	start(&b, 1);
	put(&b, 1, 2), put(&b, 24, 2), put(&b, 0, 4), put(&b, 0x2000, 8), put(&b, 0x1fff, 8);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), -22);
	for (unsigned i = 0; i < 3; i++) {
		static const uint64_t nowhere[] = {0, 0xfed90800, 1ull << 52};

		start(&b, 1);
		drhd(&b, 1, 0, nowhere[i]);
		seal(&b);
		CHECK_EQ(parse(b.p, b.n), -22);
	}
	start(&b, 0);
	b.p[36] = 64;
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), -22);
	return host_done("dmar");
}
