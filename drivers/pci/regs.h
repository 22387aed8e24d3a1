/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Configuration space as PCI Local Bus 3.0 (section 6), PCI-to-PCI Bridge 1.2 (section 3) and PCI
 * Express Base 5.0 (section 7) lay it out. Offsets are bytes; masks are for the word at the offset.
 */

#include "kernel/lib/bits.h"

#define PCI_CFG_SIZE       256
#define PCI_EXT_CFG_SIZE   4096
#define PCI_ABSENT         0xffffffffu    /* what a read that nobody answers gives */

#define PCI_VENDOR_ID      0x00           /* 31:16 device */
#define PCI_STATUS_CAPLIST 0x0010
#define PCI_CLASS_REVISION 0x08           /* 31:8 class code, 7:0 revision */
#define PCI_HEADER_TYPE    0x0e
#define PCI_HEADER_MULTI   0x80
#define PCI_HEADER_LAYOUT  0x7f
#define PCI_HEADER_NORMAL  0
#define PCI_HEADER_BRIDGE  1
#define PCI_HEADER_CARDBUS 2
#define PCI_BAR(n)         (0x10 + 4 * (n))
#define PCI_SUBSYSTEM      0x2c           /* header type 0; 31:16 device, 15:0 vendor */
#define PCI_ROM_NORMAL     0x30
#define PCI_ROM_BRIDGE     0x38
#define PCI_CAP_POINTER    0x34
#define PCI_CAP_POINTER_CB 0x14           /* header type 2 */
#define PCI_INT_LINE       0x3c           /* 15:8 pin */

/* Base address registers: PCI 3.0, 6.2.5 */
#define BAR_IO             0x1u
#define BAR_IO_MASK        0xfffffffcu
#define BAR_MEM_TYPE       GENMASK(2, 1)
#define BAR_MEM_32         0
#define BAR_MEM_1M         1              /* below 1 MiB; reserved since PCI 3.0 */
#define BAR_MEM_64         2
#define BAR_MEM_PREFETCH   BIT(3)
#define BAR_MEM_MASK       0xfffffff0u
#define ROM_ENABLE         BIT(0)
#define ROM_MASK           0xfffff800u

/* Bridges: PCI-to-PCI Bridge 1.2, 3.2.5 */
#define BRIDGE_BUSES       0x18           /* 7:0 primary, 15:8 secondary, 23:16 subordinate */
#define BRIDGE_PRIMARY     GENMASK(7, 0)
#define BRIDGE_SECONDARY   GENMASK(15, 8)
#define BRIDGE_SUBORDINATE GENMASK(23, 16)
#define BRIDGE_IO          0x1c           /* 7:0 base, 15:8 limit; low nibble 1: 32-bit */
#define BRIDGE_IO_UPPER    0x30           /* 15:0 base, 31:16 limit */
#define BRIDGE_MEM         0x20           /* 15:4 base[31:20], 31:20 limit[31:20] */
#define BRIDGE_PREF        0x24           /* as MEM; low nibble 1: 64-bit */
#define BRIDGE_PREF_BASE_UPPER  0x28
#define BRIDGE_PREF_LIMIT_UPPER 0x2c
#define BRIDGE_CONTROL     0x3e
#define BRIDGE_MEM_GRAIN   0x100000u
#define BRIDGE_IO_GRAIN    0x1000u

/* Class codes (24 bits) */
#define PCI_CLASS_MASK_SUB   0xffff00u
#define PCI_CLASS_HOST       0x060000u
#define PCI_CLASS_BRIDGE_PCI 0x060400u

/* Power management: PCI PM 1.2, 3.2 */
#define PM_CONTROL         4
#define PM_STATE           0x0003
#define PM_D0              0
#define PM_D3HOT           3
#define PM_NO_SOFT_RESET   0x0008

/* Advanced Features, for functions without PCI Express: AF ECN, 6.8.4 */
#define AF_CAP             3
#define AF_CAP_FLR         0x02
#define AF_CONTROL         4              /* bit 0: initiate FLR */
#define AF_STATUS          5              /* bit 0: transactions pending */

/* MSI: PCI 3.0, 6.8.1. Offsets from the capability. */
#define MSI_CONTROL        2
#define MSI_ENABLE         0x0001
#define MSI_MMC            0x000e         /* log2 of the messages asked for */
#define MSI_MME            0x0070         /* log2 of the messages granted */
#define MSI_64BIT          0x0080
#define MSI_MASKABLE       0x0100
#define MSI_ADDR           4
#define MSI_ADDR_HI        8
#define MSI_ADDR_MASK      0xfffffffcu    /* bits 1:0 are reserved, read as 0 */
#define MSI_DATA(is64)     ((is64) ? 0xcu : 0x8u)
#define MSI_MASK(is64)     ((is64) ? 0x10u : 0xcu)
#define MSI_PENDING(is64)  ((is64) ? 0x14u : 0x10u)

/* MSI-X: PCI 3.0, 6.8.2 */
#define MSIX_CONTROL       2
#define MSIX_SIZE          0x07ff         /* entries - 1 */
#define MSIX_FUNCTION_MASK 0x4000
#define MSIX_ENABLE        0x8000
#define MSIX_TABLE         4              /* 2:0 BAR, 31:3 offset */
#define MSIX_PBA           8
#define MSIX_BIR           GENMASK(2, 0)
#define MSIX_OFFSET        GENMASK(31, 3)
#define MSIX_ENTRY_SIZE    16
#define MSIX_ENTRY_ADDR    0
#define MSIX_ENTRY_ADDR_HI 4
#define MSIX_ENTRY_DATA    8
#define MSIX_ENTRY_CTRL    12
#define MSIX_ENTRY_MASKED  BIT(0)

/* PCI Express capability: PCIe 5.0, 7.5.3 */
#define PCIE_FLAGS         2              /* 3:0 version, 7:4 type, 8 slot */
#define PCIE_VERSION       0x000f
#define PCIE_TYPE          0x00f0
#define PCIE_SLOT          0x0100
#define PCIE_TYPE_ENDPOINT 0
#define PCIE_TYPE_LEGACY   1
#define PCIE_TYPE_ROOT     4
#define PCIE_TYPE_UP       5
#define PCIE_TYPE_DOWN     6
#define PCIE_TYPE_TO_PCI   7
#define PCIE_TYPE_FROM_PCI 8
#define PCIE_TYPE_RC_END   9
#define PCIE_TYPE_RC_EC    10
#define PCIE_DEVCAP        4
#define PCIE_DEVCAP_FLR    BIT(28)
#define PCIE_DEVCTL        8
#define PCIE_DEVCTL_FLR    0x8000
#define PCIE_DEVSTA        0xa
#define PCIE_DEVSTA_PENDING 0x0020
#define PCIE_DEVCAP2       0x24
#define PCIE_DEVCAP2_ARI   BIT(5)
#define PCIE_DEVCTL2       0x28
#define PCIE_DEVCTL2_ARI   0x0020         /* ARI forwarding, on a port that leads down */

/* Extended capabilities: PCIe 5.0, 7.6.3 */
#define PCI_EXT_CAP_START  0x100
#define PCI_EXT_CAP_ID     GENMASK(15, 0)
#define PCI_EXT_CAP_VER    GENMASK(19, 16)
#define PCI_EXT_CAP_NEXT   GENMASK(31, 20)
#define PCI_EXT_AER        0x0001
#define PCI_EXT_VC         0x0002
#define PCI_EXT_SERIAL     0x0003
#define PCI_EXT_VNDR       0x000b
#define PCI_EXT_ACS        0x000d
#define PCI_EXT_ARI        0x000e
#define PCI_EXT_ATS        0x000f
#define PCI_EXT_SRIOV      0x0010
#define PCI_EXT_PRI        0x0013
#define PCI_EXT_LTR        0x0018
#define PCI_EXT_PASID      0x001b
#define PCI_EXT_DPC        0x001d
#define PCI_EXT_L1SS       0x001e
#define PCI_EXT_DVSEC      0x0023

#define ARI_NEXT           5              /* byte: the next function's number */

/* Single root I/O virtualisation: PCIe 5.0, 9.3.3 */
#define SRIOV_CONTROL      0x08           /* 16 bits */
#define SRIOV_VF_ENABLE    0x0001
#define SRIOV_VF_MSE       0x0008
#define SRIOV_INITIAL      0x0c           /* 15:0 InitialVFs, 31:16 TotalVFs */
#define SRIOV_NUM          0x10           /* 16 bits */
#define SRIOV_OFFSET       0x14           /* 15:0 First VF Offset, 31:16 VF Stride */
#define SRIOV_VF_DEVICE    0x1a
#define SRIOV_BAR(n)       (0x24 + 4 * (n))

/* Access control services: PCIe 5.0, 7.7.8 */
#define ACS_CAPABILITY     4
#define ACS_CONTROL        6

/* Advanced error reporting: PCIe 5.0, 7.8.4 */
#define AER_UNCOR_STATUS   0x04
#define AER_UNCOR_MASK     0x08
#define AER_UNCOR_SEVERITY 0x0c
#define AER_COR_STATUS     0x10
#define AER_COR_MASK       0x14
