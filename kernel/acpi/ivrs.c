/* SPDX-License-Identifier: MIT */

/* I/O Virtualization Reporting Structure: AMD IOMMU specification 48882, chapter 5. */

#include "kernel/acpi/table.h"
#include "kernel/lib/string.h"

#define IVRS_BLOCKS    48 /* offset of the first block */
#define IVINFO_PASIZE  GENMASK(14, 8)
#define IVINFO_VASIZE  GENMASK(21, 15)

enum { IVHD_10 = 0x10, IVHD_11 = 0x11, IVHD_40 = 0x40 };
enum { IVMD_ALL = 0x20, IVMD_SELECT = 0x21, IVMD_RANGE = 0x22 };
#define IVHD_10_SIZE   24
#define IVHD_11_SIZE   40
#define IVMD_SIZE      32

/* Device entries of an IVHD block (5.2.2.1). The upper two bits of the type say how long one is. */
enum {
	ENTRY_PAD4 = 0, ENTRY_ALL = 1, ENTRY_SELECT = 2, ENTRY_RANGE = 3, ENTRY_RANGE_END = 4,
	ENTRY_PAD8 = 64, ENTRY_ALIAS = 66, ENTRY_ALIAS_RANGE = 67, ENTRY_EXT = 70, ENTRY_EXT_RANGE = 71,
	ENTRY_SPECIAL = 72, ENTRY_HID = 240,
};
#define HID_SIZE       22 /* of an ACPI HID entry without its UID */
enum { UID_NONE, UID_NUMBER, UID_TEXT };

static bool is_ivhd(uint8_t type)
{
	return type == IVHD_10 || type == IVHD_11 || type == IVHD_40;
}

static bool is_ivmd(uint8_t type)
{
	return type >= IVMD_ALL && type <= IVMD_RANGE;
}

/* Text of at most n bytes, ended early by a NUL; what could not be printed becomes a dot. */
static void copy_text(char *to, const uint8_t *from, size_t n)
{
	size_t i = 0;

	for (; i < n && from[i]; i++)
		to[i] = (char)(from[i] > ' ' && from[i] < 0x7f ? from[i] : '.');
	to[i] = 0;
}

/* ---- entries ---- */

struct entries {
	const uint8_t *p;
	struct ivrs *out;
	struct ivrs_unit *unit;          /* NULL: the block is only checked */
	struct acpi_error *err;
	bool open;                       /* a range has begun */
	struct ivrs_dev range;
};

static size_t entry_size(const uint8_t *e, size_t room)
{
	if (e[0] == ENTRY_HID)
		return room < HID_SIZE ? HID_SIZE : (size_t)HID_SIZE + e[21];
	return (size_t)4 << (e[0] >> 6);
}

static void add_dev(struct entries *s, const struct ivrs_dev *dev)
{
	if (!s->unit)
		return;
	if (s->unit->dev_count == IVRS_DEV_MAX)
		s->out->dropped++;
	else
		s->unit->dev[s->unit->dev_count++] = *dev;
}

static void add_special(struct entries *s, const uint8_t *e)
{
	if (!s->unit)
		return;
	if (s->unit->special_count == IVRS_SPECIAL_MAX)
		s->out->dropped++;
	else
		s->unit->special[s->unit->special_count++] = (struct ivrs_special){
			.variety = e[7], .handle = e[4], .settings = e[3], .source = get_le16(e + 5)};
}

static void add_hid(struct entries *s, const uint8_t *e)
{
	static const char digits[] = "0123456789abcdef";
	struct ivrs_hid *h;

	if (!s->unit)
		return;
	if (s->unit->hid_count == IVRS_HID_MAX) {
		s->out->dropped++;
		return;
	}
	h = &s->unit->hid[s->unit->hid_count++];
	h->settings = e[3];
	h->source = get_le16(e + 1);
	copy_text(h->hid, e + 4, 8);
	copy_text(h->cid, e + 12, 8);
	if (e[20] == UID_TEXT)
		copy_text(h->uid, e + HID_SIZE, MIN((size_t)e[21], sizeof(h->uid) - 1));
	for (size_t i = 0; e[20] == UID_NUMBER && i < 16; i++)
		h->uid[i] = digits[get_le64(e + HID_SIZE) >> (60 - 4 * i) & 15];
}

/* One entry at offset at. Between a range's two ends nothing but padding may stand. */
static int take(struct entries *s, size_t at)
{
	const uint8_t *e = s->p + at;
	struct ivrs_dev dev = {.first = get_le16(e + 1), .last = get_le16(e + 1), .settings = e[3]};

	if (s->open && e[0] != ENTRY_RANGE_END && e[0] != ENTRY_PAD4 && e[0] != ENTRY_PAD8)
		return acpi_bad(s->err, "IVRS: a range without an end", at);
	switch (e[0]) {
	case ENTRY_ALL:
		dev.first = 0;
		dev.last = UINT16_MAX;
		add_dev(s, &dev);
		return 0;
	case ENTRY_RANGE_END:
		if (!s->open)
			return acpi_bad(s->err, "IVRS: the end of a range that has not begun", at);
		if (dev.last < s->range.first)
			return acpi_bad(s->err, "IVRS: a range ends before it begins", at);
		s->range.last = dev.last;
		s->open = false;
		add_dev(s, &s->range);
		return 0;
	case ENTRY_ALIAS:
	case ENTRY_ALIAS_RANGE:
		dev.aliased = true;
		dev.alias = get_le16(e + 5);
		break;
	case ENTRY_EXT:
	case ENTRY_EXT_RANGE:
		dev.extended = get_le32(e + 4);
		break;
	case ENTRY_SELECT:
	case ENTRY_RANGE:
		break;
	case ENTRY_SPECIAL:
		add_special(s, e);
		return 0;
	case ENTRY_HID:
		if (e[20] > UID_TEXT || (e[20] == UID_NUMBER && e[21] != 8) || (e[20] == UID_NONE && e[21]))
			return acpi_bad(s->err, "IVRS: ACPI device with a bad UID", at);
		add_hid(s, e);
		return 0;
	default: /* padding, and kinds to come: their length is known */
		return 0;
	}
	if (e[0] == ENTRY_RANGE || e[0] == ENTRY_ALIAS_RANGE || e[0] == ENTRY_EXT_RANGE) {
		s->range = dev;
		s->open = true;
	} else {
		add_dev(s, &dev);
	}
	return 0;
}

static int take_all(struct entries *s, size_t at, size_t end)
{
	while (at < end) {
		const size_t size = entry_size(s->p + at, end - at);
		int r;

		if (size > end - at)
			return acpi_bad(s->err, "IVRS: device entry runs past its block", at);
		r = take(s, at);
		if (r < 0)
			return r;
		at += size;
	}
	return s->open ? acpi_bad(s->err, "IVRS: a range without an end", end) : 0;
}

/* ---- blocks ---- */

/*
 * Firmware describes one unit by several blocks, for older and newer systems: of those for one
 * function the highest type counts (5.2.1). *slot is NULL where another one counts, or none is free.
 */
static void unit_slot(struct ivrs *out, const uint8_t *e, struct ivrs_unit **slot)
{
	const uint16_t id = get_le16(e + 4), segment = get_le16(e + 16);
	struct ivrs_unit *u = NULL;

	*slot = NULL;
	for (uint32_t i = 0; i < out->unit_count && !u; i++) {
		if (out->unit[i].device_id == id && out->unit[i].segment == segment)
			u = &out->unit[i];
	}
	if (u && u->type >= e[0])
		return;
	if (!u && out->unit_count == IVRS_UNIT_MAX) {
		out->dropped++;
		return;
	}
	if (!u)
		u = &out->unit[out->unit_count++];
	memset(u, 0, sizeof(*u));
	*slot = u;
}

static int parse_ivhd(const uint8_t *p, size_t at, size_t end, struct ivrs *out, struct acpi_error *err)
{
	const uint8_t *e = p + at;
	const size_t fixed = e[0] == IVHD_10 ? IVHD_10_SIZE : IVHD_11_SIZE;
	struct entries s = {.p = p, .out = out, .err = err};
	uint64_t base;

	if (end - at < fixed)
		return acpi_bad(err, "IVRS: IVHD shorter than its fixed part", at);
	base = get_le64(e + 8);
	if (base == 0 || !is_aligned(base, 16384) || base >> 52)
		return acpi_bad(err, "IVRS: register base is no place for registers", at + 8);
	out->blocks++;
	unit_slot(out, e, &s.unit);
	if (s.unit) {
		s.unit->type = e[0];
		s.unit->flags = e[1];
		s.unit->device_id = get_le16(e + 4);
		s.unit->cap_offset = get_le16(e + 6);
		s.unit->base = base;
		s.unit->segment = get_le16(e + 16);
		s.unit->info = get_le16(e + 18);
		s.unit->attributes = get_le32(e + 20);
		s.unit->efr = fixed == IVHD_11_SIZE ? get_le64(e + 24) : 0;
		s.unit->efr2 = fixed == IVHD_11_SIZE ? get_le64(e + 32) : 0;
	}
	return take_all(&s, at + fixed, end);
}

static int parse_ivmd(const uint8_t *p, size_t at, size_t end, struct ivrs *out, struct acpi_error *err)
{
	const uint8_t *e = p + at;
	struct ivrs_memory m;

	if (end - at != IVMD_SIZE)
		return acpi_bad(err, "IVRS: IVMD with a bad length", at);
	m = (struct ivrs_memory){.first = get_le16(e + 4), .last = get_le16(e + 4), .segment = get_le16(e + 8),
				 .flags = e[1], .base = get_le64(e + 16), .length = get_le64(e + 24)};
	if (e[0] == IVMD_ALL) {
		m.first = 0;
		m.last = UINT16_MAX;
	} else if (e[0] == IVMD_RANGE) {
		m.last = get_le16(e + 6);
	}
	if (m.last < m.first)
		return acpi_bad(err, "IVRS: a range ends before it begins", at + 6);
	if (m.length == 0 || m.base >> 52 || m.length - 1 > GENMASK64(51, 0) - m.base)
		return acpi_bad(err, "IVRS: memory block is empty or past the address space", at + 16);
	if (out->memory_count == IVRS_MEMORY_MAX)
		out->dropped++;
	else
		out->memory[out->memory_count++] = m;
	return 0;
}

int ivrs_parse(const uint8_t *p, size_t len, struct ivrs *out, struct acpi_error *err)
{
	size_t end, at = IVRS_BLOCKS;
	int r = acpi_check(p, len, "IVRS", err);

	memset(out, 0, sizeof(*out));
	if (r < 0)
		return r;
	end = acpi_length(p);
	if (end < IVRS_BLOCKS)
		return acpi_bad(err, "IVRS: shorter than its fixed part", end);
	out->info = get_le32(p + 36);
	out->pa_bits = (uint8_t)FIELD_GET(IVINFO_PASIZE, out->info);
	out->va_bits = (uint8_t)FIELD_GET(IVINFO_VASIZE, out->info);

	while (at < end) {
		uint16_t length;

		if (end - at < 4)
			return acpi_bad(err, "IVRS: stray bytes at the end", at);
		length = get_le16(p + at + 2);
		if (length < 4)
			return acpi_bad(err, "IVRS: block shorter than its header", at);
		if (length > end - at)
			return acpi_bad(err, "IVRS: block runs past the table", at);
		r = 0;
		if (is_ivhd(p[at]))
			r = parse_ivhd(p, at, at + length, out, err);
		else if (is_ivmd(p[at]))
			r = parse_ivmd(p, at, at + length, out, err);
		if (r < 0)
			return r;
		at += length;
	}
	return 0;
}

const struct ivrs_dev *ivrs_find(const struct ivrs_unit *u, uint16_t device_id)
{
	const struct ivrs_dev *found = NULL;

	for (uint32_t i = 0; i < u->dev_count; i++) {
		if (device_id >= u->dev[i].first && device_id <= u->dev[i].last)
			found = &u->dev[i];
	}
	return found;
}
