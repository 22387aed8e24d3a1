/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* AMD I/O Virtualization Technology (IOMMU) Specification, 48882. Names as it spells them. */

/* ---- PCI capability block (3.2) ---- */
#define IOMMU_CAP_ID          0x0f
#define IOMMU_CAP_HEADER      0x00
#define IOMMU_CAP_BASE_LOW    0x04
#define IOMMU_CAP_BASE_HIGH   0x08
#define CAP_HEADER_IOTLBSUP   BIT(24)
#define CAP_HEADER_NPCACHE    BIT(26)      /* entries not present may be cached */
#define CAP_HEADER_EFRSUP     BIT(27)
#define CAP_BASE_ENABLE       BIT(0)
#define CAP_BASE_LOW_ADDR     GENMASK(31, 14)

/* ---- MMIO registers (3.4) ---- */
#define DEV_TAB_BASE          0x0000
#define COM_BASE              0x0008
#define EVENT_BASE            0x0010
#define CONTROL               0x0018
#define EXCL_BASE             0x0020
#define EXCL_LIMIT            0x0028
#define EXT_FEATURE           0x0030
#define PPR_BASE              0x0038
#define COM_HEAD              0x2000
#define COM_TAIL              0x2008
#define EVENT_HEAD            0x2010
#define EVENT_TAIL            0x2018
#define STATUS                0x2020
#define MMIO_SIZE             0x4000

#define TABLE_BASE            GENMASK64(51, 12)
#define DEV_TAB_SIZE          GENMASK64(8, 0)   /* 4 KiB pages - 1 */
#define COM_LEN               GENMASK64(59, 56) /* log2 of the entries, from 8; EVENT_BASE too */
#define RING_POINTER          GENMASK64(18, 4)  /* of heads and tails, in bytes */

#define CONTROL_IOMMUEN       BIT64(0)
#define CONTROL_HTTUNEN       BIT64(1)
#define CONTROL_EVENTLOGEN    BIT64(2)
#define CONTROL_EVENTINTEN    BIT64(3)
#define CONTROL_PASSPW        BIT64(8)
#define CONTROL_RESPASSPW     BIT64(9)
#define CONTROL_COHERENT      BIT64(10)
#define CONTROL_ISOC          BIT64(11)
#define CONTROL_CMDBUFEN      BIT64(12)
#define CONTROL_GAEN          BIT64(17)         /* 128-bit IRTEs */
#define CONTROL_XTEN          BIT64(50)         /* and 32-bit destinations in them */

#define STATUS_EVENTOVERFLOW  BIT64(0)          /* write 1 to clear: this and the next two */
#define STATUS_EVENTLOGINT    BIT64(1)
#define STATUS_COMWAITINT     BIT64(2)
#define STATUS_EVENTLOGRUN    BIT64(3)
#define STATUS_CMDBUFRUN      BIT64(4)
#define STATUS_PPROVERFLOW    BIT64(5)
#define STATUS_PPRINT         BIT64(6)
#define STATUS_W1C (STATUS_EVENTOVERFLOW | STATUS_EVENTLOGINT | STATUS_COMWAITINT | STATUS_PPROVERFLOW | \
		    STATUS_PPRINT)

#define EFR_PREFSUP           BIT64(0)
#define EFR_PPRSUP            BIT64(1)
#define EFR_XTSUP             BIT64(2)
#define EFR_GTSUP             BIT64(4)
#define EFR_IASUP             BIT64(6)
#define EFR_GASUP             BIT64(7)
#define EFR_HATS              GENMASK64(11, 10) /* host tables of 4 + HATS levels; 3 is reserved */

/* Of the IVHD's flags (5.2.2.1): how CONTROL is to be set. */
#define IVHD_HTTUNEN          BIT(0)
#define IVHD_PASSPW           BIT(1)
#define IVHD_RESPASSPW        BIT(2)
#define IVHD_ISOC             BIT(3)
/* Of a device's settings there: how its device table entry is. */
#define IVHD_INITPASS         BIT(0)
#define IVHD_EINTPASS         BIT(1)
#define IVHD_NMIPASS          BIT(2)
#define IVHD_SYSMGT           GENMASK(5, 4)
#define IVHD_LINT0PASS        BIT(6)
#define IVHD_LINT1PASS        BIT(7)
#define IVHD_EXT_ATS_DISABLED BIT(31)           /* of an extended entry */

/* ---- device table entry, four quadwords (2.2.2.1) ---- */
#define DTE_V                 BIT64(0)          /* 0: 63:0 and 127:64 do not count, nothing is translated */
#define DTE_TV                BIT64(1)          /* 0: there are no tables: whatever needs them faults */
#define DTE_MODE              GENMASK64(11, 9)  /* levels; 0: addresses as they are */
#define DTE_ROOT              GENMASK64(51, 12)
#define DTE_IR                BIT64(61)
#define DTE_IW                BIT64(62)
#define DTE1_DOMAINID         GENMASK64(15, 0)
#define DTE1_I                BIT64(32)         /* IOTLB enable: the device may keep translations */
#define DTE1_SYSMGT           GENMASK64(41, 40)
#define DTE2_IV               BIT64(0)
#define DTE2_INTTABLEN        GENMASK64(4, 1)   /* log2 of the entries */
#define DTE2_INTROOT          GENMASK64(51, 6)
#define DTE2_INITPASS         BIT64(56)
#define DTE2_EINTPASS         BIT64(57)
#define DTE2_NMIPASS          BIT64(58)
#define DTE2_INTCTL           GENMASK64(61, 60)
#define INTCTL_ABORT          0ull
#define INTCTL_FORWARD        1ull
#define INTCTL_REMAP          2ull
#define DTE2_LINT0PASS        BIT64(62)
#define DTE2_LINT1PASS        BIT64(63)

#define PTE_FC                BIT64(60)         /* leaf (2.2.3): the device's accesses are coherent, whatever it asks for */

/* ---- interrupt remapping table entries (2.2.5) ---- */
#define IRTE_REMAPEN          BIT64(0)          /* of both forms */
#define IRTE_INTTYPE          GENMASK64(4, 2)
#define IRTE_RQEOI            BIT64(5)
#define IRTE_DM               BIT64(6)
#define IRTE32_DESTINATION    GENMASK64(15, 8)
#define IRTE32_VECTOR         GENMASK64(23, 16)
#define IRTE128_DESTINATION   GENMASK64(31, 8)  /* bits 23:0 */
#define IRTE128_VECTOR        GENMASK64(7, 0)   /* high quadword */
#define IRTE128_DESTINATION_HI GENMASK64(63, 56)

/* ---- commands (2.4): first quadword, then second ---- */
#define CMD_OPCODE            GENMASK64(63, 60)
enum { COMPLETION_WAIT = 1, INVALIDATE_DEVTAB_ENTRY, INVALIDATE_IOMMU_PAGES, INVALIDATE_IOTLB_PAGES,
       INVALIDATE_INTERRUPT_TABLE, PREFETCH_IOMMU_PAGES, COMPLETE_PPR_REQUEST, INVALIDATE_IOMMU_ALL };
#define WAIT_S                BIT64(0)          /* store the second quadword */
#define WAIT_ADDR             GENMASK64(51, 3)
#define CMD_DEVICEID          GENMASK64(15, 0)
#define IOTLB_MAXPEND         GENMASK64(31, 24) /* at most so many under way at the device */
#define IOTLB_QUEUEID         GENMASK64(47, 32)
#define PAGES_DOMAINID        GENMASK64(47, 32)
#define PAGES_S               BIT64(0)          /* the address tells the size */
#define PAGES_PDE             BIT64(1)          /* directory entries too */
#define PAGES_ALL             0x7ffffffffffff000ull

/* ---- events (2.5) ---- */
#define EVENT_CODE            GENMASK64(63, 60)
enum { ILLEGAL_DEV_TABLE_ENTRY = 1, IO_PAGE_FAULT, DEV_TAB_HARDWARE_ERROR, PAGE_TAB_HARDWARE_ERROR,
       ILLEGAL_COMMAND_ERROR, COMMAND_HARDWARE_ERROR, IOTLB_INV_TIMEOUT, INVALID_DEVICE_REQUEST,
       INVALID_PPR_REQUEST };
#define EVENT_DEVICEID        GENMASK64(15, 0)
#define EVENT_PASID_HI        GENMASK64(19, 16)
#define EVENT_DOMAINID        GENMASK64(47, 32) /* with GN: PASID 15:0 */
#define EVENT_GN              BIT64(48)
#define EVENT_I               BIT64(51)         /* an interrupt request */
#define EVENT_PR              BIT64(52)         /* the page was present, the entry enabled */
#define EVENT_RW              BIT64(53)         /* a write */
#define EVENT_PE              BIT64(54)         /* no permission */
#define EVENT_RZ              BIT64(55)         /* a reserved bit was set */
#define EVENT_TR              BIT64(56)         /* a translation request */
/* The address of an interrupt is HyperTransport's: FD_F8h, vector, destination, and MT in 4:2. */
#define HT_INT_PREFIX         GENMASK64(39, 24)
#define HT_INT                0xfdf8ull
#define HT_INT_VECTOR         GENMASK64(23, 16)
#define HT_INT_MT             GENMASK64(4, 2)
