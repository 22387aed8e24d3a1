/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/lib/addr.h"

/*
 * ACPI tables. The parsers (madt.c, mcfg.c, dmar.c, fadt.c, …) are pure: bytes and length in, a
 * structure of bounded size out; no allocation, no I/O; they trust nothing and are fuzzed on the
 * host. acpi.c finds the tables in memory and maps them.
 */

struct acpi_error { const char *what; uint32_t offset; }; /* "MADT: entry runs past the table" */
#define ACPI_HEADER_SIZE 36

/* Header checks that all share: length inside len, checksum. 0, -EINVAL with *err. */
int acpi_check(const uint8_t *p, size_t len, const char *signature, struct acpi_error *err);

/* ---- MADT (ACPI 6.5, 5.2.12) ---- */
#define MADT_CPU_MAX    1024
#define MADT_IOAPIC_MAX 16
#define MADT_ISO_MAX    32
struct madt_cpu { uint32_t apic_id, uid; bool enabled, online_capable, x2apic; };
struct madt {
	uint64_t lapic_addr;
	bool pcat_compat;
	uint32_t cpu_count, ioapic_count, iso_count, dropped;
	struct madt_cpu cpu[MADT_CPU_MAX];
	struct { uint8_t id; uint32_t addr, gsi_base; } ioapic[MADT_IOAPIC_MAX];
	struct { uint8_t irq; uint32_t gsi; uint16_t flags; } iso[MADT_ISO_MAX];
};
int madt_parse(const uint8_t *p, size_t len, struct madt *out, struct acpi_error *err);

/* ---- MCFG (PCI Firmware 3.3, 4.1.2) ---- */
#define MCFG_MAX 16
struct mcfg {
	uint32_t count, dropped;
	struct { uint64_t base; uint16_t segment; uint8_t bus_first, bus_last; } alloc[MCFG_MAX];
};
int mcfg_parse(const uint8_t *p, size_t len, struct mcfg *out, struct acpi_error *err);

/* ---- DMAR (VT-d 8) ---- */
#define DMAR_UNIT_MAX  16
#define DMAR_RMRR_MAX  16
#define DMAR_ATSR_MAX  16
#define DMAR_SCOPE_MAX 32
#define DMAR_PATH_MAX  8
enum dmar_scope_type { DMAR_SCOPE_ENDPOINT = 1, DMAR_SCOPE_BRIDGE, DMAR_SCOPE_IOAPIC, DMAR_SCOPE_HPET,
		       DMAR_SCOPE_NAMESPACE };
struct dmar_scope {
	uint8_t type, enum_id, start_bus, path_len; /* path_len pairs of (device, function) */
	struct { uint8_t dev, fn; } path[DMAR_PATH_MAX];
};
struct dmar_unit {
	uint64_t base;
	uint16_t segment;
	uint8_t size_pages_log2;         /* register set: 4 KiB << this */
	bool include_pci_all;
	uint32_t scope_count;
	struct dmar_scope scope[DMAR_SCOPE_MAX];
};
struct dmar {
	uint8_t host_addr_width;         /* bits */
	bool intr_remap, x2apic_opt_out, dma_ctrl_opt_in;
	uint32_t unit_count, rmrr_count, atsr_count, dropped;
	struct dmar_unit unit[DMAR_UNIT_MAX];
	struct { uint16_t segment; uint64_t base, limit; uint32_t scope_count; struct dmar_scope scope[4]; }
		rmrr[DMAR_RMRR_MAX];
	struct { uint16_t segment; bool all_ports; uint32_t scope_count; struct dmar_scope scope[8]; }
		atsr[DMAR_ATSR_MAX];
};
int dmar_parse(const uint8_t *p, size_t len, struct dmar *out, struct acpi_error *err);

/* ---- IVRS (AMD IOMMU 48882, chapter 5) ---- */
#define IVRS_UNIT_MAX    16
#define IVRS_DEV_MAX     192
#define IVRS_SPECIAL_MAX 16
#define IVRS_HID_MAX     16
#define IVRS_MEMORY_MAX  32
/* One or more device IDs; a range's two entries are one here. aliased: the unit sees them as alias. */
struct ivrs_dev {
	uint16_t first, last, alias;
	bool aliased;
	uint8_t settings;                /* DTE: LINT1, LINT0, SysMgt, NMI, EInt, INIT pass */
	uint32_t extended;               /* of the extended kinds; bit 31: no ATS */
};
enum ivrs_variety { IVRS_IOAPIC = 1, IVRS_HPET = 2 };
struct ivrs_special { uint8_t variety, handle, settings; uint16_t source; };
struct ivrs_hid { char hid[9], cid[9], uid[17]; uint8_t settings; uint16_t source; }; /* uid: or "" */
struct ivrs_unit {                       /* of several blocks for one unit, the newest type */
	uint8_t type, flags;             /* 10h, 11h, 40h */
	uint16_t device_id, cap_offset;  /* the unit's own function */
	uint64_t base;
	uint16_t segment, info;
	uint32_t attributes;             /* 10h: feature reporting */
	uint64_t efr, efr2;              /* images of the registers; 0 in 10h */
	uint32_t dev_count, special_count, hid_count;
	struct ivrs_dev dev[IVRS_DEV_MAX];
	struct ivrs_special special[IVRS_SPECIAL_MAX];
	struct ivrs_hid hid[IVRS_HID_MAX];
};
/* IVMD. Bits of flags: */
enum { IVRS_UNITY = 1, IVRS_READ = 2, IVRS_WRITE = 4, IVRS_EXCLUSION = 8 };
struct ivrs_memory { uint16_t first, last, segment; uint8_t flags; uint64_t base, length; };
struct ivrs {
	uint32_t info;                   /* IVinfo */
	uint8_t pa_bits, va_bits;        /* of it; 0: not said */
	uint32_t unit_count, memory_count, dropped, blocks; /* blocks: IVHDs, superseded ones too */
	struct ivrs_unit unit[IVRS_UNIT_MAX];
	struct ivrs_memory memory[IVRS_MEMORY_MAX];
};
int ivrs_parse(const uint8_t *p, size_t len, struct ivrs *out, struct acpi_error *err);
/* The unit's last entry about a device ID, which is the one that counts; NULL: not this unit's. */
const struct ivrs_dev *ivrs_find(const struct ivrs_unit *, uint16_t device_id);

/* ---- VIOT (ACPI 6.5, 5.2.33) ---- */
#define VIOT_UNIT_MAX  16
#define VIOT_RANGE_MAX 64
struct viot_unit {                       /* a virtio-iommu: a PCI function, or registers in memory */
	bool mmio;
	uint16_t offset;                 /* of its node, by which others name it */
	uint16_t segment, bdf;
	uint64_t base;                   /* mmio */
};
/* Endpoints behind a unit: functions in a box of segments and BDFs, or a device with registers at base. */
struct viot_range {
	bool mmio;
	uint16_t segment_first, segment_last, bdf_first, bdf_last;
	uint64_t base;
	uint32_t endpoint;               /* the first one's ID */
	uint32_t unit;                   /* index */
};
struct viot {
	uint32_t unit_count, range_count, dropped;
	struct viot_unit unit[VIOT_UNIT_MAX];
	struct viot_range range[VIOT_RANGE_MAX];
};
int viot_parse(const uint8_t *p, size_t len, struct viot *out, struct acpi_error *err);
/* Under which ID that unit knows the function rid (segment and BDF). False: not one of its endpoints. */
bool viot_endpoint(const struct viot *, uint32_t unit, uint32_t rid, uint32_t *endpoint);
/* And back: the function of an endpoint ID; for the unit's reports. */
bool viot_function(const struct viot *, uint32_t unit, uint32_t endpoint, uint32_t *rid);

/* ---- FADT (ACPI 6.5, 5.2.9), and \_S5 by a bounded search of the DSDT ---- */
struct fadt {
	uint32_t pm_timer_port;          /* 0: none */
	bool pm_timer_32bit;
	uint64_t pm1a_cnt, pm1b_cnt;     /* I/O ports; 0: none */
	uint64_t dsdt;
	uint32_t reset_port; uint8_t reset_value; bool reset_supported;
	uint32_t smi_cmd; uint8_t acpi_enable;
};
int fadt_parse(const uint8_t *p, size_t len, struct fadt *out, struct acpi_error *err);
/* SLP_TYPa/b of \_S5 in AML bytes; -ENOENT. */
int dsdt_find_s5(const uint8_t *aml, size_t len, uint8_t *typ_a, uint8_t *typ_b);

/* ---- _PRT of a PCI root (ACPI 6.5, 6.2.13), by a bounded walk of the DSDT ---- */
struct prt_route {
	bool programmable;               /* by a register of the chipset: link says which one's */
	uint32_t gsi;                    /* where it is not */
	bool edge, active_high;          /* else level, active low: PCI's own */
	char link[5];                    /* the link device's name; "" where the entry names the GSI itself */
};
/*
 * The route of pin 0 to 3 (A to D) of a device on a root bus. -ENOENT: no _PRT that can be read for that
 * bus; -ENODATA: it does not name this pin.
 */
int prt_find(const uint8_t *dsdt, size_t len, uint8_t root_bus, unsigned slot, unsigned pin, struct prt_route *);

/* ---- RSDP, RSDT/XSDT ---- */
/* Physical address of RSDT (width 4) or XSDT (width 8). */
int rsdp_parse(const uint8_t *p, size_t len, uint64_t *root, unsigned *width, struct acpi_error *err);

/* ---- acpi.c: the machine's own ---- */
#define ACPI_TABLE_MAX 64
struct acpi_table { char sig[5]; uint64_t addr; uint32_t len; const uint8_t *bytes; bool sound; };
struct acpi {
	uint64_t rsdp;
	uint32_t table_count, unsound;   /* unsound: bad checksum or length, named in error */
	struct acpi_table table[ACPI_TABLE_MAX];
	struct acpi_error error;         /* the last one seen */
	bool has_madt, has_mcfg, has_dmar, has_ivrs, has_viot, has_fadt;
	struct madt madt;
	struct mcfg mcfg;
	struct dmar dmar;
	struct ivrs ivrs;
	struct viot viot;
	struct fadt fadt;
};
extern struct acpi acpi;
/* From boot_info's RSDP or by the BIOS scan. Missing tables are no error here: has_* says. */
void acpi_init(uint64_t rsdp);
const struct acpi_table *acpi_find(const char *sig, unsigned nth);
