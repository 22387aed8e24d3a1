/* SPDX-License-Identifier: MIT */
#include "tests/harness/dump.h"

#include "drivers/pci/pci.h"
#include "kernel/acpi/acpi.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"
#include "kernel/log/log.h"

#define CHUNK        64u           /* bytes in a line */
#define CONFIG       256u
#define CONFIG_EXT   4096u         /* PCI Express Base 6.0, 7.2: with ECAM alone */

static void to_hex(char *text, const uint8_t *p, size_t n)
{
	static const char digit[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		text[2 * i] = digit[p[i] >> 4];
		text[2 * i + 1] = digit[p[i] & 15];
	}
	text[2 * n] = '\0';
}

static bool all_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

/* Chunks of zeros are left out, but for the first of each kind of space: it says that the space is there. */
static void dump_function(const struct pci_dev *d)
{
	const bool extended = d->cap_pcie && pci_cfg_has(PCI_CFG_ECAM, d->rid);
	char hex[2 * CHUNK + 1], seg[8] = "";

	if (rid_seg(d->rid))
		fmt_snprintf(seg, sizeof(seg), "%04x:", rid_seg(d->rid));
	for (unsigned at = 0; at < (extended ? CONFIG_EXT : CONFIG); at += CHUNK) {
		uint8_t bytes[CHUNK];

		for (unsigned i = 0; i < CHUNK; i += 4) {
			const uint32_t v = pci_r32(d->rid, at + i);

			memcpy(bytes + i, &v, sizeof(v));
		}
		if (at != 0 && at != CONFIG && all_zero(bytes, CHUNK))
			continue;
		to_hex(hex, bytes, CHUNK);
		log_line("# pciconf %s" PRIRID " %03x %s", seg, RIDARG(d->rid), at, hex);
	}
}

static void dump_table(const struct acpi_table *t)
{
	char hex[2 * CHUNK + 1], sig[5];

	for (unsigned i = 0; i < 4; i++)
		sig[i] = t->sig[i] > ' ' && t->sig[i] < 0x7f ? t->sig[i] : '_';
	sig[4] = '\0';
	for (uint32_t at = 0; at < t->len; at += CHUNK) {
		const uint32_t n = MIN(CHUNK, t->len - at);

		to_hex(hex, t->bytes + at, n);
		log_line("# acpitable %s %llx %05x %s", sig, (unsigned long long)t->addr, at, hex);
	}
}

void dump_print(void)
{
	FOR_EACH_PCI(d)
		dump_function(d);
	for (uint32_t i = 0; i < acpi.table_count; i++)
		if (acpi.table[i].bytes)
			dump_table(&acpi.table[i]);
}
