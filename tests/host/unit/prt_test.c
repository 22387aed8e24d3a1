/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/prt.c
#include "kernel/lib/err.h"
#include "tests/host/unit/acpi_bytes.h"

/* AML, written as compilers do: a package's length is filled in when it is closed (two bytes of it, always). */
static struct bytes b;

static void op(unsigned v) { put(&b, v, 1); }
static void text(const char *s) { memcpy(b.p + b.n, s, strlen(s)), b.n += strlen(s); }
static size_t open_pkg(void)
{
	put_zeros(&b, 2);
	return b.n - 2;
}
static void close_pkg(size_t at)
{
	const size_t n = b.n - at;

	b.p[at] = (uint8_t)(0x40 | (n & 0xf));
	b.p[at + 1] = (uint8_t)(n >> 4);
}
static size_t scope(const char *name) { op(0x10); size_t at = open_pkg(); text(name); return at; }
static size_t device(const char *name) { op(0x5b), op(0x82); size_t at = open_pkg(); text(name); return at; }
static size_t method(const char *name) { op(0x14); size_t at = open_pkg(); text(name); op(0); return at; }
static void name_dword(const char *name, uint32_t v) { op(0x08), text(name), op(0x0c), put(&b, v, 4); }

/* Package {address, pin, source, index}; link NULL: the GSI itself. */
static void entry(unsigned slot, unsigned pin, const char *link, unsigned gsi)
{
	op(0x12);
	const size_t at = open_pkg();

	op(4);
	op(0x0c), put(&b, slot << 16 | 0xffff, 4);
	if (pin < 2)
		op(pin);
	else
		op(0x0a), op(pin);
	if (link)
		text(link), op(0);
	else
		op(0), op(0x0a), op(gsi);
	close_pkg(at);
}

static size_t table(unsigned n) { op(0x12); size_t at = open_pkg(); op(n); return at; }

/* A link device; gsi 0: its _CRS is a method. */
static void link_device(const char *name, unsigned gsi)
{
	const size_t d = device(name);

	name_dword("_HID", 0x0f0cd041);
	if (gsi) {
		op(0x08), text("_CRS"), op(0x11);
		const size_t buffer = open_pkg();

		op(0x0a), op(11);
		op(0x89), put(&b, 6, 2), op(0x09), op(1), put(&b, gsi, 4);
		op(0x79), op(0);
		close_pkg(buffer);
	} else {
		const size_t m = method("_CRS");

		op(0xa4), text("IQCR"), text("PRQ0");
		close_pkg(m);
	}
	close_pkg(d);
}

static void root_device(const char *name, uint32_t hid, int bbn)
{
	const size_t d = device(name);

	name_dword("_HID", hid);
	if (bbn >= 0)
		op(0x08), text("_BBN"), op(0x0a), op((unsigned)bbn);
	close_pkg(d);
}

/* As QEMU's q35: by a method, two tables, links that are above. A second root after it. */
static void build_q35(void)
{
	begin(&b, "DSDT");
	size_t s = scope("\\_SB_");

	root_device("PCI0", 0x080ad041, -1);
	close_pkg(s);
	/* What computes, in between, and an operation region. */
	op(0xa0), op(5), op(0x93), text("PI"), op(0xa3);
	op(0x5b), op(0x80), text("DBG_"), op(1), op(0x0b), put(&b, 0x402, 2), op(1);
	s = scope("\\_SB_");
	const size_t pci = scope("PCI0");

	op(0x08), text("PRTP");
	size_t t = table(2);
	entry(4, 0, "LNKE", 0), entry(4, 1, "LNKF", 0);
	close_pkg(t);
	op(0x08), text("PRTA");
	t = table(2);
	entry(4, 0, "GSIE", 0), entry(4, 1, "\\\x2e_SB_GSIF", 0);
	close_pkg(t);
	const size_t m = method("_PRT");

	op(0xa0);
	size_t branch = open_pkg();
	op(0x93), text("PICF"), op(0), op(0xa4), text("PRTP");
	close_pkg(branch);
	op(0xa1);
	branch = open_pkg();
	op(0xa4), text("PRTA");
	close_pkg(branch);
	close_pkg(m);
	close_pkg(pci);
	link_device("LNKE", 0), link_device("LNKF", 0), link_device("GSIE", 20), link_device("GSIF", 21);
	root_device("PC40", 0x030ad041, 0x40);
	close_pkg(s);
	s = scope(""); /* of two segments: */
	text("\\"), op(0x2e), text("_SB_PC40");
	op(0x08), text("_PRT");
	t = table(2);
	entry(0, 0, "LNKF", 0), entry(0, 2, NULL, 23);
	close_pkg(t);
	close_pkg(s);
	seal(&b);
}

static struct prt_route r;
static int find(unsigned bus, unsigned slot, unsigned pin)
{
	r = (struct prt_route){.link = "?"};
	return prt_find(b.p, b.n, (uint8_t)bus, slot, pin, &r);
}

static int any(const uint8_t *p, size_t n)
{
	struct prt_route x = {.gsi = 0};

	return prt_find(p, n, 0, 4, 0, &x);
}

int main(void)
{
	build_q35();
	/* Of the two tables the one that leads to the I/O APIC's own pins. */
	CHECK_EQ(find(0, 4, 0), 0);
	CHECK(r.gsi == 20 && !r.programmable && !strcmp(r.link, "GSIE") && !r.edge && r.active_high);
	CHECK_EQ(find(0, 4, 1), 0);
	CHECK(r.gsi == 21 && !strcmp(r.link, "GSIF"));
	CHECK(find(0, 4, 2) == -ENODATA && find(0, 5, 0) == -ENODATA);
	/* Another root, by name, by register and by number; and one that is not there. */
	CHECK_EQ(find(0x40, 0, 0), 0);
	CHECK(r.programmable && !strcmp(r.link, "LNKF"));
	CHECK_EQ(find(0x40, 0, 2), 0);
	CHECK(r.gsi == 23 && !r.programmable && !r.link[0] && !r.edge && !r.active_high);
	CHECK_EQ(find(0x41, 0, 0), -ENOENT);
	/* A device that is no PCI root may have a _PRT too: a bridge's is not the root's. */
	for (size_t i = 0; i + 5 < b.n; i++)
		if (!memcmp(b.p + i, "\x41\xd0\x0a\x08", 4))
			b.p[i + 3] = 9;
	CHECK_EQ(find(0, 4, 0), -ENOENT);

	/* Whatever is cut off or turned over: an answer, and no byte too far. */
	build_q35();
	for (size_t n = 0; n < b.n; n++)
		(void)on_exact(b.p, n, any);
	for (size_t i = ACPI_HEADER_SIZE; i < b.n; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			b.p[i] ^= (uint8_t)(1u << bit);
			(void)on_exact(b.p, b.n, any);
			b.p[i] ^= (uint8_t)(1u << bit);
		}
	CHECK_EQ(any(b.p, b.n), 0);
	/* Nested without end, and one _PRT after the other: bounded work. */
	begin(&b, "DSDT");
	for (unsigned i = 0; i < 60000; i += 6)
		op(0x08), text("_PRT"), op(0x12);
	CHECK_EQ(any(b.p, b.n), -ENOENT);
	begin(&b, "DSDT");
	for (unsigned i = 0; i < 20000; i++)
		op(0x10), op(0x06 + 0x30), text("AAAA");
	(void)any(b.p, b.n);
	return host_done("prt");
}
