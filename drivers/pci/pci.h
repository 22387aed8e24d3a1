/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/irq/msg.h"
#include "kernel/lib/addr.h"

/* ---- configuration space (cfg.c) ---- */
enum pci_cfg_path { PCI_CFG_NONE, PCI_CFG_CF8, PCI_CFG_ECAM };
void pci_cfg_init(void);                 /* ECAM by MCFG where there is one, CF8/CFC beside it */
bool pci_cfg_has(enum pci_cfg_path, pci_rid_t);
uint8_t pci_r8(pci_rid_t, unsigned off);
uint16_t pci_r16(pci_rid_t, unsigned off);
uint32_t pci_r32(pci_rid_t, unsigned off);
void pci_w8(pci_rid_t, unsigned off, uint8_t);
void pci_w16(pci_rid_t, unsigned off, uint16_t);
void pci_w32(pci_rid_t, unsigned off, uint32_t);
/* By a given path; all ones where it does not reach. off is a multiple of 4. */
uint32_t pci_r32_by(enum pci_cfg_path, pci_rid_t, unsigned off);
void pci_w32_by(enum pci_cfg_path, pci_rid_t, unsigned off, uint32_t);
/* Which paths there are, and why one was not believed: "ECAM b0000000 buses 00-ff, CF8". */
const char *pci_cfg_summary(void);

/* Command register */
#define PCI_COMMAND          0x04
#define PCI_COMMAND_IO       0x0001
#define PCI_COMMAND_MEMORY   0x0002
#define PCI_COMMAND_MASTER   0x0004
#define PCI_COMMAND_INTX_OFF 0x0400
#define PCI_STATUS           0x06
#define PCI_STATUS_INTX      0x0008      /* signalled, whatever the command register says */

/* ---- what was found (scan.c) ---- */
#define PCI_BAR_COUNT 6
struct pci_bar {
	uint64_t base, size;             /* size 0: not implemented */
	bool io, is64, prefetchable;
	bool assigned;                   /* base is set and decodes nothing else of ours */
};
enum pci_port { PCI_PORT_NONE, PCI_PORT_ROOT, PCI_PORT_UPSTREAM, PCI_PORT_DOWNSTREAM, PCI_PORT_TO_PCI,
		PCI_PORT_FROM_PCI, PCI_PORT_CONVENTIONAL };
struct pci_dev {
	pci_rid_t rid;
	uint16_t vendor, device, subvendor, subdevice;
	uint32_t class_code;             /* 24 bits: class, subclass, interface */
	uint8_t revision, header_type, int_pin, int_line;
	bool multifunction;
	uint16_t cap_pcie, cap_msi, cap_msix, cap_pm; /* offsets; 0: none */
	struct pci_bar bar[PCI_BAR_COUNT];
	struct pci_bar rom;
	/* bridges */
	bool is_bridge;
	enum pci_port port;
	uint8_t secondary, subordinate;
	struct pci_dev *parent;          /* the bridge above; NULL on a root bus */
	uint8_t root_bus;
	/* SR-IOV (sriov.c) */
	struct pci_dev *physfn;          /* of a virtual function: whose it is, and which one */
	unsigned vf;
	struct pci_bar vf_bar[PCI_BAR_COUNT]; /* of a physical one: all virtual ones' together */
	struct pci_dev *next;            /* in ascending rid order */
	struct pci_dev *group;           /* the first of its IOMMU group (groups.h) */
	void *driver;                    /* whoever has claimed it */
};
extern struct pci_dev *pci_devs;         /* list */
struct pci_scan_report { unsigned functions, buses, roots; const char *problem; };
extern struct pci_scan_report pci_scan_report;
void pci_scan(void);
#define FOR_EACH_PCI(d) for (struct pci_dev *d = pci_devs; d; d = d->next)
struct pci_dev *pci_find(pci_rid_t);
/*
 * One function in one line, as "# env pci" prints it (docs/results.md). Returns the length that the
 * whole text has.
 */
int pci_describe(const struct pci_dev *, char *buf, size_t size);

struct pci_match { uint16_t vendor, device; uint32_t class_code, class_mask; }; /* 0xffff: any */
bool pci_matches(const struct pci_dev *, const struct pci_match *);

/* ---- capabilities (cap.c): bounded walks ---- */
unsigned pci_find_cap(pci_rid_t, uint8_t id);     /* offset or 0 */
unsigned pci_find_ext_cap(pci_rid_t, uint16_t id);
/* What is wrong with the chains, or NULL. */
const char *pci_check_caps(pci_rid_t, unsigned *at);
#define PCI_CAP_PM   0x01
#define PCI_CAP_MSI  0x05
#define PCI_CAP_VNDR 0x09
#define PCI_CAP_PCIE 0x10
#define PCI_CAP_MSIX 0x11
#define PCI_CAP_AF   0x13
#define PCI_EXT_CAP_ATS 0x0f
#define PCI_EXT_CAP_PASID 0x1b

/* ---- ATS (ats.c) ---- */
/* Invalidations that the function takes at once, 1 to 32; 0: it has no ATS. */
unsigned pci_ats_depth(pci_rid_t);
bool pci_ats_enable(pci_rid_t, bool on); /* false: it did not take it */
bool pci_ats_enabled(pci_rid_t);

/* ---- BARs (bar.c) ---- */
/* Sizes all BARs with decoding off and puts everything back. */
void pci_bars_read(struct pci_dev *);
/*
 * Places unassigned memory and I/O BARs (PVH without firmware leaves all of them and the bridges
 * unconfigured) and bridge windows in the holes the memory map leaves. Keeps what firmware did.
 */
void pci_assign_resources(void);
/* A free place where this BAR could stand as well; high: above 4 GiB. False: there is none. */
bool pci_bar_place(const struct pci_dev *, unsigned bar, bool high, uint64_t *base);
/* The BAR mapped (uncached), memory decoding on. NULL: absent, I/O, unassigned, or no room. */
volatile void *pci_bar_map(struct pci_dev *, unsigned bar);
const struct pci_dev *pci_sign_of_a_vm(void);             /* one that only a VMM has: virtio, QEMU's own, Bochs; or NULL */
bool pci_decodes_memory(const struct pci_dev *);          /* as its command register stands */
/* Sets, then clears bits of the command register; what is set is opened in the bridges above too. */
void pci_set_command(struct pci_dev *, uint16_t set, uint16_t clear);
/* What a bridge forwards downwards, both ends included. False: no bridge, or that window is closed. */
enum pci_window { PCI_WINDOW_IO, PCI_WINDOW_MEM, PCI_WINDOW_PREF };
bool pci_window(const struct pci_dev *, enum pci_window, uint64_t *base, uint64_t *limit);

/* A place for so many bytes of memory space in what is forwarded to this function's bus. */
bool pci_range_place(const struct pci_dev *, uint64_t size, uint64_t align, uint64_t *base);

/* ---- SR-IOV (sriov.c) ---- */
/* The capability of a function that has virtual ones; or 0. */
unsigned pci_sriov_cap(const struct pci_dev *);
/*
 * Switches on so many virtual functions, or as many as there are and the bus numbers reach, and adds them to the list.
 * How many; -ENOENT: it has none; -ENOSPC: one of their BARs cannot be placed, *why says so. Takes 100 ms.
 */
int pci_sriov_enable(struct pci_dev *, unsigned vfs, const char **why);
/* Takes them off the list and switches them off; whoever drives them has left. */
void pci_sriov_disable(struct pci_dev *);
/* Function-level reset, by the PCI Express capability; BARs and command register are put back. -EOPNOTSUPP, -EIO. */
int pci_flr(struct pci_dev *);
bool pci_has_vfs(const struct pci_dev *); /* on the list */
pci_rid_t pci_sriov_rid(const struct pci_dev *, unsigned cap, unsigned n); /* NumVFs stands already */
/* scan.c: reads its capabilities, puts it in its place of the list. */
void pci_add(struct pci_dev *);

/* ---- requester IDs ---- */
/* The ID under which the IOMMU sees this function: its own, or that of the PCIe-to-PCI bridge above. */
pci_rid_t pci_requester_id(const struct pci_dev *);

/* ---- INTx (intx.c) ---- */
struct pci_intx {
	uint32_t gsi;
	bool active_low, edge;
	const char *how;                 /* on error: why it is not known */
	char text[64];                   /* else by what: "_PRT, INTB of 00:10.0, link GSIF" */
};
/* Where the firmware says that this function's INTx arrives: _PRT, and PIRQ registers. -errno: *how says why not. */
int pci_intx_route(const struct pci_dev *, struct pci_intx *);
/* Takes INTx off the 8259s where the chipset has I/O APIC pins for it as well. Before any device is told to interrupt. */
void pci_links_to_ioapic(void);

/* ---- MSI and MSI-X (msi.c, msix.c) ---- */
struct msi {
	struct pci_dev *dev;
	unsigned cap, count_max;         /* messages the function asks for: 1..32 */
	bool is64, maskable;
};
int msi_open(struct pci_dev *, struct msi *);                 /* -ENOENT */
/* Programs the message; data's low bits number the messages when count > 1. Disabled while written. */
int msi_program(struct msi *, const struct msi_msg *, unsigned count); /* count: 1,2,4..32; -EINVAL */
void msi_enable(struct msi *, bool on);
void msi_mask(struct msi *, unsigned index, bool masked);     /* only if maskable */
uint32_t msi_pending(struct msi *);
/* Reads back what stands in the registers. */
void msi_read(struct msi *, struct msi_msg *, bool *enabled);

struct msix {
	struct pci_dev *dev;
	unsigned cap, count;             /* table entries: 1..2048 */
	volatile uint8_t *table, *pba;
};
int msix_open(struct pci_dev *, struct msix *);               /* -ENOENT, -ENXIO: table not in a BAR */
/* Where its table is, by the capability alone: a BAR and bytes into it. False: no MSI-X. */
bool msix_table_at(const struct pci_dev *, unsigned *bar, uint64_t *offset);
void msix_close(struct msix *);
int msix_program(struct msix *, unsigned index, const struct msi_msg *); /* leaves the mask bit */
void msix_mask(struct msix *, unsigned index, bool masked);
void msix_enable(struct msix *, bool on);
bool msix_enabled(const struct msix *);
void msix_function_mask(struct msix *, bool masked);
bool msix_pending(struct msix *, unsigned index);
void msix_read(struct msix *, unsigned index, struct msi_msg *, bool *masked);
