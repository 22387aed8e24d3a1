/* SPDX-License-Identifier: MIT */

/*
 * \_S5 without an AML interpreter. Its definition is Name (_S5, Package () {typ_a, typ_b, …}) with
 * constants (ACPI 6.5, 7.4.2), which AML writes (20.2) as
 *
 *	08 [5c] '_' 'S' '5' '_'  12 PkgLength NumElements  DataObject DataObject …
 */

#include "kernel/acpi/table.h"
#include "kernel/lib/string.h"

#define AML_ZERO    0x00
#define AML_ONE     0x01
#define AML_NAME    0x08
#define AML_BYTE    0x0a
#define AML_WORD    0x0b
#define AML_DWORD   0x0c
#define AML_PACKAGE 0x12
#define AML_ROOT    0x5c

/* An integer constant at *at that fits a sleep type (3 bits: PM1_CNT.SLP_TYPx). */
static bool sleep_type(const uint8_t *aml, size_t end, size_t *at, uint8_t *out)
{
	uint32_t v;
	size_t n;

	if (*at >= end)
		return false;
	switch (aml[*at]) {
	case AML_ZERO:
	case AML_ONE:
		n = 0;
		break;
	case AML_BYTE:
		n = 1;
		break;
	case AML_WORD:
		n = 2;
		break;
	case AML_DWORD:
		n = 4;
		break;
	default:
		return false;
	}
	if (end - *at < n + 1)
		return false;
	v = n == 0 ? aml[*at] : 0;
	for (size_t i = n; i > 0; i--)
		v = (v << 8) | aml[*at + i];
	*at += n + 1;
	if (v > 7)
		return false;
	*out = (uint8_t)v;
	return true;
}

/* A package at `at` whose first two elements are sleep types. */
static bool s5_package(const uint8_t *aml, size_t len, size_t at, uint8_t *typ_a, uint8_t *typ_b)
{
	size_t more, pkg, end;

	if (len - at < 3 || aml[at] != AML_PACKAGE)
		return false;
	at++;
	/* PkgLength counts itself: bits 7:6 say how many bytes follow (20.2.4). */
	more = aml[at] >> 6;
	if (len - at <= more)
		return false;
	pkg = more ? aml[at] & 0xf : aml[at] & 0x3f;
	for (size_t i = 1; i <= more; i++)
		pkg |= (size_t)aml[at + i] << (8 * i - 4);
	if (pkg > len - at || pkg < more + 2)
		return false;
	end = at + pkg;
	at += more + 1;
	if (aml[at++] < 2) /* NumElements */
		return false;
	return sleep_type(aml, end, &at, typ_a) && sleep_type(aml, end, &at, typ_b);
}

int dsdt_find_s5(const uint8_t *aml, size_t len, uint8_t *typ_a, uint8_t *typ_b)
{
	for (size_t i = 1; i + 4 < len; i++) {
		if (memcmp(aml + i, "_S5_", 4) != 0)
			continue;
		if (aml[i - 1] != AML_NAME &&
		    !(aml[i - 1] == AML_ROOT && i >= 2 && aml[i - 2] == AML_NAME))
			continue;
		if (s5_package(aml, len, i + 4, typ_a, typ_b))
			return 0;
	}
	return -ENOENT;
}
