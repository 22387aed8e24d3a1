/* SPDX-License-Identifier: MIT */

/* DMA Remapping Reporting Table: VT-d 4.1, chapter 8. */

#include "kernel/acpi/table.h"
#include "kernel/lib/string.h"

enum { DMAR_DRHD = 0, DMAR_RMRR = 1, DMAR_ATSR = 2 };

#define DMAR_STRUCTURES     48 /* offset of the first remapping structure */
#define DMAR_INTR_REMAP     BIT(0)
#define DMAR_X2APIC_OPT_OUT BIT(1)
#define DMAR_DMA_CTRL       BIT(2)
#define DRHD_INCLUDE_ALL    BIT(0)
#define ATSR_ALL_PORTS      BIT(0)
#define SCOPE_PATH          6 /* offset of the first (device, function) pair */

/* The fixed part of each type that is read; type and length alone for the others. */
static size_t structure_min(uint16_t type)
{
	switch (type) {
	case DMAR_DRHD:
		return 16;
	case DMAR_RMRR:
		return 24;
	case DMAR_ATSR:
		return 8;
	default:
		return 4;
	}
}

/* The device scopes (8.3.1) in [at, end). What does not fit in max, or is too deep, is dropped. */
static int parse_scopes(const uint8_t *p, size_t at, size_t end, struct dmar_scope *scope,
			uint32_t max, uint32_t *count, uint32_t *dropped, struct acpi_error *err)
{
	*count = 0;
	while (at < end) {
		const uint8_t *e = p + at;
		struct dmar_scope *s;
		size_t pairs;

		if (end - at < SCOPE_PATH || e[1] > end - at)
			return acpi_bad(err, "DMAR: device scope runs past its structure", at);
		if (e[1] < SCOPE_PATH + 2 || (e[1] - SCOPE_PATH) % 2 != 0)
			return acpi_bad(err, "DMAR: device scope with a bad length", at);
		pairs = (size_t)(e[1] - SCOPE_PATH) / 2;
		if (*count == max || pairs > DMAR_PATH_MAX) {
			(*dropped)++;
			at += e[1];
			continue;
		}
		s = &scope[(*count)++];
		s->type = e[0];
		s->enum_id = e[4];
		s->start_bus = e[5];
		s->path_len = (uint8_t)pairs;
		for (size_t i = 0; i < pairs; i++) {
			const uint8_t dev = e[SCOPE_PATH + 2 * i], fn = e[SCOPE_PATH + 2 * i + 1];

			if (dev > 31 || fn > 7)
				return acpi_bad(err, "DMAR: path names no PCI function",
						at + SCOPE_PATH + 2 * i);
			s->path[i].dev = dev;
			s->path[i].fn = fn;
		}
		at += e[1];
	}
	return 0;
}

static int parse_drhd(const uint8_t *p, size_t at, size_t end, struct dmar *out,
		      struct acpi_error *err)
{
	const uint8_t *e = p + at;
	struct dmar_unit *u;

	if (out->unit_count == DMAR_UNIT_MAX) {
		out->dropped++;
		return 0;
	}
	u = &out->unit[out->unit_count];
	u->include_pci_all = e[4] & DRHD_INCLUDE_ALL;
	u->size_pages_log2 = e[5] & 0xf;
	u->segment = get_le16(e + 6);
	u->base = get_le64(e + 8);
	if (u->base == 0 || !is_aligned(u->base, 4096) || u->base >> 52)
		return acpi_bad(err, "DMAR: register base is no place for registers", at + 8);
	out->unit_count++;
	return parse_scopes(p, at + 16, end, u->scope, DMAR_SCOPE_MAX, &u->scope_count,
			    &out->dropped, err);
}

static int parse_rmrr(const uint8_t *p, size_t at, size_t end, struct dmar *out,
		      struct acpi_error *err)
{
	const uint8_t *e = p + at;
	const uint32_t n = out->rmrr_count;

	if (n == DMAR_RMRR_MAX) {
		out->dropped++;
		return 0;
	}
	out->rmrr[n].segment = get_le16(e + 6);
	out->rmrr[n].base = get_le64(e + 8);
	out->rmrr[n].limit = get_le64(e + 16);
	if (out->rmrr[n].base > out->rmrr[n].limit)
		return acpi_bad(err, "DMAR: reserved region ends before it begins", at + 8);
	out->rmrr_count++;
	return parse_scopes(p, at + 24, end, out->rmrr[n].scope, ARRAY_SIZE(out->rmrr[n].scope),
			    &out->rmrr[n].scope_count, &out->dropped, err);
}

static int parse_atsr(const uint8_t *p, size_t at, size_t end, struct dmar *out,
		      struct acpi_error *err)
{
	const uint8_t *e = p + at;
	const uint32_t n = out->atsr_count;

	if (n == DMAR_ATSR_MAX) {
		out->dropped++;
		return 0;
	}
	out->atsr[n].all_ports = e[4] & ATSR_ALL_PORTS;
	out->atsr[n].segment = get_le16(e + 6);
	out->atsr_count++;
	return parse_scopes(p, at + 8, end, out->atsr[n].scope, ARRAY_SIZE(out->atsr[n].scope),
			    &out->atsr[n].scope_count, &out->dropped, err);
}

int dmar_parse(const uint8_t *p, size_t len, struct dmar *out, struct acpi_error *err)
{
	size_t end, at = DMAR_STRUCTURES;
	int r = acpi_check(p, len, "DMAR", err);

	memset(out, 0, sizeof(*out));
	if (r < 0)
		return r;
	end = acpi_length(p);
	if (end < DMAR_STRUCTURES)
		return acpi_bad(err, "DMAR: shorter than its fixed part", end);
	/* The table holds the width less one (8.1). */
	if (p[36] > 63)
		return acpi_bad(err, "DMAR: host address width above 64", 36);
	out->host_addr_width = (uint8_t)(p[36] + 1);
	out->intr_remap = p[37] & DMAR_INTR_REMAP;
	out->x2apic_opt_out = p[37] & DMAR_X2APIC_OPT_OUT;
	out->dma_ctrl_opt_in = p[37] & DMAR_DMA_CTRL;

	while (at < end) {
		uint16_t type, length;

		if (end - at < 4)
			return acpi_bad(err, "DMAR: stray bytes at the end", at);
		type = get_le16(p + at);
		length = get_le16(p + at + 2);
		if (length > end - at)
			return acpi_bad(err, "DMAR: structure runs past the table", at);
		if (length < structure_min(type))
			return acpi_bad(err, "DMAR: structure too short for its type", at);
		switch (type) {
		case DMAR_DRHD:
			r = parse_drhd(p, at, at + length, out, err);
			break;
		case DMAR_RMRR:
			r = parse_rmrr(p, at, at + length, out, err);
			break;
		case DMAR_ATSR:
			r = parse_atsr(p, at, at + length, out, err);
			break;
		default:
			break;
		}
		if (r < 0)
			return r;
		at += length;
	}
	return 0;
}
