/* SPDX-License-Identifier: MIT */

/* Virtual I/O Translation Table: ACPI 6.5, 5.2.33. */

#include "kernel/acpi/table.h"
#include "kernel/lib/string.h"

enum { VIOT_PCI_RANGE = 1, VIOT_MMIO = 2, VIOT_IOMMU_PCI = 3, VIOT_IOMMU_MMIO = 4 };

#define VIOT_NODE_COUNT  36
#define VIOT_NODE_OFFSET 38
#define VIOT_NODES       48            /* the first byte that a node can have */

static size_t node_min(uint8_t type)
{
	switch (type) {
	case VIOT_PCI_RANGE:
	case VIOT_MMIO:
		return 24;
	case VIOT_IOMMU_PCI:
	case VIOT_IOMMU_MMIO:
		return 16;
	default:
		return 4;
	}
}

static int parse_unit(const uint8_t *p, size_t at, struct viot *out, struct acpi_error *err)
{
	const uint8_t *e = p + at;
	struct viot_unit *u;

	if (out->unit_count == VIOT_UNIT_MAX) {
		out->dropped++;
		return 0;
	}
	u = &out->unit[out->unit_count++];
	u->offset = (uint16_t)at;
	u->mmio = e[0] == VIOT_IOMMU_MMIO;
	if (!u->mmio) {
		u->segment = get_le16(e + 4);
		u->bdf = get_le16(e + 6);
		return 0;
	}
	u->base = get_le64(e + 8);
	if (u->base == 0 || !is_aligned(u->base, 4) || u->base >> 52)
		return acpi_bad(err, "VIOT: register base is no place for registers", at + 8);
	return 0;
}

/* Its unit may come after it: until all nodes are read, unit is the node that it names. */
static int parse_range(const uint8_t *p, size_t at, struct viot *out, struct acpi_error *err)
{
	const uint8_t *e = p + at;
	struct viot_range *r;

	if (out->range_count == VIOT_RANGE_MAX) {
		out->dropped++;
		return 0;
	}
	r = &out->range[out->range_count++];
	r->mmio = e[0] == VIOT_MMIO;
	r->endpoint = get_le32(e + 4);
	r->unit = get_le16(e + 16);
	if (r->mmio) {
		r->base = get_le64(e + 8);
		return 0;
	}
	r->segment_first = get_le16(e + 8);
	r->segment_last = get_le16(e + 10);
	r->bdf_first = get_le16(e + 12);
	r->bdf_last = get_le16(e + 14);
	if (r->segment_first > r->segment_last || r->bdf_first > r->bdf_last)
		return acpi_bad(err, "VIOT: PCI range ends before it begins", at + 8);
	if (r->endpoint + ((uint32_t)(r->segment_last - r->segment_first) << 16) + (r->bdf_last - r->bdf_first) <
	    r->endpoint)
		return acpi_bad(err, "VIOT: endpoint IDs run past 32 bits", at + 4);
	return 0;
}

static bool find_unit(const struct viot *v, uint32_t offset, uint32_t *index)
{
	for (uint32_t i = 0; i < v->unit_count; i++) {
		if (v->unit[i].offset == offset) {
			*index = i;
			return true;
		}
	}
	return false;
}

/* Names units by index. A range of a unit that did not fit is dropped with it. */
static int resolve(struct viot *out, struct acpi_error *err)
{
	const bool units_dropped = out->dropped && out->unit_count == VIOT_UNIT_MAX;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < out->range_count; i++) {
		struct viot_range r = out->range[i];

		if (find_unit(out, r.unit, &r.unit))
			out->range[kept++] = r;
		else if (units_dropped)
			out->dropped++;
		else
			return acpi_bad(err, "VIOT: a node names no IOMMU", r.unit);
	}
	out->range_count = kept;
	return 0;
}

int viot_parse(const uint8_t *p, size_t len, struct viot *out, struct acpi_error *err)
{
	size_t end, at;
	int r = acpi_check(p, len, "VIOT", err);

	memset(out, 0, sizeof(*out));
	if (r < 0)
		return r;
	end = acpi_length(p);
	if (end < VIOT_NODES)
		return acpi_bad(err, "VIOT: no room for its fields", end);
	at = get_le16(p + VIOT_NODE_OFFSET);
	if (at < VIOT_NODES || at > end)
		return acpi_bad(err, "VIOT: its nodes begin outside the table", VIOT_NODE_OFFSET);
	for (unsigned n = get_le16(p + VIOT_NODE_COUNT); n > 0; n--) {
		size_t length;

		if (end - at < 4)
			return acpi_bad(err, "VIOT: fewer nodes than it counts", at);
		length = get_le16(p + at + 2);
		if (length > end - at)
			return acpi_bad(err, "VIOT: node runs past the table", at);
		if (length < node_min(p[at]))
			return acpi_bad(err, "VIOT: node too short for its type", at);
		if (p[at] == VIOT_PCI_RANGE || p[at] == VIOT_MMIO)
			r = parse_range(p, at, out, err);
		else if (p[at] == VIOT_IOMMU_PCI || p[at] == VIOT_IOMMU_MMIO)
			r = parse_unit(p, at, out, err);
		if (r < 0)
			return r;
		at += length;
	}
	return resolve(out, err);
}

bool viot_endpoint(const struct viot *v, uint32_t unit, uint32_t rid, uint32_t *endpoint)
{
	const uint32_t segment = rid >> 16, bdf = rid & 0xffff;

	for (uint32_t i = 0; i < v->range_count; i++) {
		const struct viot_range *r = &v->range[i];

		if (r->mmio || r->unit != unit || segment < r->segment_first || segment > r->segment_last ||
		    bdf < r->bdf_first || bdf > r->bdf_last)
			continue;
		*endpoint = r->endpoint + ((segment - r->segment_first) << 16) + (bdf - r->bdf_first);
		return true;
	}
	return false;
}

bool viot_function(const struct viot *v, uint32_t unit, uint32_t endpoint, uint32_t *rid)
{
	for (uint32_t i = 0; i < v->range_count; i++) {
		const struct viot_range *r = &v->range[i];
		const uint32_t n = endpoint - r->endpoint;
		const uint32_t segment = r->segment_first + (n >> 16), bdf = r->bdf_first + (n & 0xffff);

		if (r->mmio || r->unit != unit || endpoint < r->endpoint || segment > r->segment_last || bdf > r->bdf_last)
			continue;
		*rid = segment << 16 | bdf;
		return true;
	}
	return false;
}
