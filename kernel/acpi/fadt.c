/* SPDX-License-Identifier: MIT */

/* Fixed ACPI Description Table: ACPI 6.5, 5.2.9. Offsets as in its table 5.9. */

#include "kernel/acpi/table.h"
#include "kernel/lib/string.h"

#define FADT_V1_SIZE      116
#define FADT_TMR_VAL_EXT  BIT(8)
#define FADT_RESET_SUP    BIT(10)
#define FADT_HW_REDUCED   BIT(20)
#define GAS_SYSTEM_IO     1
#define GAS_SIZE          12

/*
 * The port of a Generic Address Structure (5.2.3.2) at off, for an access of width bytes; 0 when the
 * table has no such field (older revisions are shorter) or it is elsewhere than in I/O space.
 */
static uint32_t gas_port(const uint8_t *p, size_t end, size_t off, unsigned width)
{
	uint64_t addr;

	if (off + GAS_SIZE > end || p[off] != GAS_SYSTEM_IO)
		return 0;
	addr = get_le64(p + off + 4);
	return addr <= 0x10000u - width ? (uint32_t)addr : 0;
}

/* The X_ field where it names a port, else the 32-bit one. */
static uint32_t block_port(const uint8_t *p, size_t end, size_t x_off, size_t off, unsigned width)
{
	uint32_t port = gas_port(p, end, x_off, width);

	if (port == 0)
		port = get_le32(p + off);
	return port <= 0x10000u - width ? port : 0;
}

int fadt_parse(const uint8_t *p, size_t len, struct fadt *out, struct acpi_error *err)
{
	uint32_t flags;
	size_t end;
	int r = acpi_check(p, len, "FACP", err);

	memset(out, 0, sizeof(*out));
	if (r < 0)
		return r;
	end = acpi_length(p);
	if (end < FADT_V1_SIZE)
		return acpi_bad(err, "FADT: shorter than ACPI 1.0's", end);

	flags = get_le32(p + 112);
	out->dsdt = get_le32(p + 40);
	if (end >= 148 && get_le64(p + 140) != 0)
		out->dsdt = get_le64(p + 140);
	if (end >= 129) {
		out->reset_port = gas_port(p, end, 116, 1);
		out->reset_value = p[128];
		out->reset_supported = (flags & FADT_RESET_SUP) && out->reset_port != 0;
	}
	/* A hardware-reduced machine has none of the fixed registers (4.1): the fields mean nothing. */
	if (flags & FADT_HW_REDUCED)
		return 0;
	out->smi_cmd = get_le32(p + 48);
	out->acpi_enable = p[52];
	out->pm1a_cnt = block_port(p, end, 172, 64, 2);
	out->pm1b_cnt = block_port(p, end, 184, 68, 2);
	/* PM_TMR_LEN is 4 where there is a timer, 0 where there is none. */
	if (p[91] == 4)
		out->pm_timer_port = block_port(p, end, 208, 76, 4);
	out->pm_timer_32bit = flags & FADT_TMR_VAL_EXT;
	return 0;
}
