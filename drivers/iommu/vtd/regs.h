/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* Intel Virtualization Technology for Directed I/O (VT-d), revision 4.1. Names as it spells them. */

/* ---- registers (chapter 11) ---- */
#define VER_REG    0x00
#define CAP_REG    0x08
#define ECAP_REG   0x10
#define GCMD_REG   0x18
#define GSTS_REG   0x1c
#define RTADDR_REG 0x20
#define CCMD_REG   0x28
#define FSTS_REG   0x34
#define FECTL_REG  0x38
#define FEDATA_REG 0x3c
#define FEADDR_REG 0x40
#define FEUADDR_REG 0x44
#define PMEN_REG   0x64
#define IQH_REG    0x80
#define IQT_REG    0x88
#define IQA_REG    0x90
#define ICS_REG    0x9c
#define IECTL_REG  0xa0
#define IRTA_REG   0xb8
/* At ECAP.IRO * 16 */
#define IVA_REG    0x00
#define IOTLB_REG  0x08

#define VER_MAX GENMASK(7, 4)
#define VER_MIN GENMASK(3, 0)

#define CAP_ND     GENMASK64(2, 0)   /* domain IDs have 4 + 2 * ND bits */
#define CAP_RWBF   BIT64(4)
#define CAP_PLMR   BIT64(5)
#define CAP_PHMR   BIT64(6)
#define CAP_CM     BIT64(7)
#define CAP_SAGAW  GENMASK64(12, 8)  /* bit n: tables of n + 2 levels */
#define CAP_MGAW   GENMASK64(21, 16) /* less one */
#define CAP_FRO    GENMASK64(33, 24) /* * 16 */
#define CAP_SLLPS  GENMASK64(37, 34)
#define CAP_SLLPS_2M BIT64(34)
#define CAP_SLLPS_1G BIT64(35)
#define CAP_PSI    BIT64(39)
#define CAP_NFR    GENMASK64(47, 40) /* less one */
#define CAP_MAMV   GENMASK64(53, 48)
#define CAP_DWD    BIT64(54)
#define CAP_DRD    BIT64(55)
#define CAP_FS1GP  BIT64(56)         /* first stage: 1 GiB leaves; 2 MiB there always are */
#define CAP_PI     BIT64(59)
#define CAP_FS5LP  BIT64(60)

#define ECAP_C     BIT64(0)
#define ECAP_QI    BIT64(1)
#define ECAP_DT    BIT64(2)
#define ECAP_IR    BIT64(3)
#define ECAP_EIM   BIT64(4)
#define ECAP_PT    BIT64(6)
#define ECAP_SC    BIT64(7)
#define ECAP_IRO   GENMASK64(17, 8)  /* * 16 */
#define ECAP_NEST  BIT64(26)
#define ECAP_PSS   GENMASK64(39, 35) /* PASIDs of PSS + 1 bits, with PASID */
#define ECAP_PASID BIT64(40)
#define ECAP_SMTS  BIT64(43)
#define ECAP_SSTS  BIT64(46)
#define ECAP_FSTS  BIT64(47)
#define ECAP_SMPWCS BIT64(48)        /* scalable mode: table walks can snoop */
#define ECAP_RPS   BIT64(49)         /* RID_PASID counts; else it is 0 */

/* GCMD and GSTS name the same bits. TE, EAFL, QIE, IRE and CFI are states, the others one-shot. */
#define GCMD_CFI   BIT(23)
#define GCMD_SIRTP BIT(24)
#define GCMD_IRE   BIT(25)
#define GCMD_QIE   BIT(26)
#define GCMD_WBF   BIT(27)
#define GCMD_EAFL  BIT(28)
#define GCMD_SRTP  BIT(30)
#define GCMD_TE    BIT(31)
#define GCMD_STATES (GCMD_TE | GCMD_EAFL | GCMD_QIE | GCMD_IRE | GCMD_CFI)

#define CCMD_ICC        BIT64(63)
#define CCMD_CIRG       GENMASK64(62, 61)
#define CCMD_CIRG_GLOBAL 1ull
#define CCMD_CIRG_DOMAIN 2ull
#define CCMD_CIRG_DEVICE 3ull
#define CCMD_SID        GENMASK64(31, 16)
#define CCMD_DID        GENMASK64(15, 0)

#define IOTLB_IVT        BIT64(63)
#define IOTLB_IIRG       GENMASK64(61, 60)
#define IOTLB_IIRG_GLOBAL 1ull
#define IOTLB_IIRG_DOMAIN 2ull
#define IOTLB_IIRG_PAGE  3ull
#define IOTLB_IAIG       GENMASK64(58, 57)
#define IOTLB_DR         BIT64(49)
#define IOTLB_DW         BIT64(48)
#define IOTLB_DID        GENMASK64(47, 32)
#define IVA_IH           BIT64(6)
#define IVA_AM           GENMASK64(5, 0)

#define FSTS_PFO   BIT(0)
#define FSTS_PPF   BIT(1)
#define FSTS_AFO   BIT(2)
#define FSTS_APF   BIT(3)
#define FSTS_IQE   BIT(4)
#define FSTS_ICE   BIT(5)
#define FSTS_ITE   BIT(6)
#define FSTS_PRO   BIT(7)
#define FSTS_FRI   GENMASK(15, 8)
#define FSTS_W1C   (FSTS_PFO | FSTS_AFO | FSTS_APF | FSTS_IQE | FSTS_ICE | FSTS_ITE | FSTS_PRO)
#define FSTS_QUEUE_ERRORS (FSTS_IQE | FSTS_ICE | FSTS_ITE)

#define FECTL_IM   BIT(31)
#define IECTL_IM   BIT(31)

#define PMEN_EPM   BIT(31)
#define PMEN_PRS   BIT(0)

#define IQA_QS     GENMASK64(2, 0)   /* 256 << QS descriptors of 128 bits, half as many of 256 */
#define IQA_DW     BIT64(11)         /* descriptors of 256 bits: scalable mode needs them */
#define IQH_QH     GENMASK64(18, 4)  /* in bytes; 18:5 with DW */

#define RTADDR_TTM GENMASK64(11, 10)
#define TTM_LEGACY   0ull
#define TTM_SCALABLE 1ull

#define IRTA_S     GENMASK64(3, 0)   /* 2 << S entries */
#define IRTA_EIME  BIT64(11)

/* Fault recording registers, 16 bytes each (11.4.14): low and high quadword. */
#define FRCD_FI    GENMASK64(63, 12)
#define FRCD_IR_INDEX GENMASK64(63, 48) /* in FI, of an interrupt request */
#define FRCD_F     BIT64(63)
#define FRCD_T1    BIT64(62)         /* with T2 clear: 1 a read, 0 a write */
#define FRCD_PV    GENMASK64(59, 40)
#define FRCD_FR    GENMASK64(39, 32)
#define FRCD_PP    BIT64(31)
#define FRCD_T2    BIT64(28)
#define FRCD_SID   GENMASK64(15, 0)

/* Fault reasons (chapter 7 and 5.1.4): legacy mode, interrupts, scalable mode. */
enum vtd_fr {
	FR_LRT_NOT_PRESENT = 0x01, FR_LCT_NOT_PRESENT = 0x02, FR_LCT_INVALID = 0x03,
	FR_BEYOND_MGAW = 0x04, FR_NO_WRITE = 0x05, FR_NO_READ = 0x06, FR_TABLE_ACCESS = 0x07,
	FR_ROOT_ACCESS = 0x08, FR_CONTEXT_ACCESS = 0x09, FR_ROOT_RSVD = 0x0a, FR_CONTEXT_RSVD = 0x0b,
	FR_PTE_RSVD = 0x0c, FR_TRANSLATED_BLOCKED = 0x0d,
	FR_IR_REQ_RSVD = 0x20, FR_IR_INDEX = 0x21, FR_IR_NOT_PRESENT = 0x22, FR_IR_TABLE_ACCESS = 0x23,
	FR_IR_IRTE_RSVD = 0x24, FR_IR_COMPAT = 0x25, FR_IR_SID = 0x26,
	FR_SRT_ACCESS = 0x38, FR_SRT_NOT_PRESENT = 0x39, FR_SRT_RSVD = 0x3a,
	FR_SCT_ACCESS = 0x40, FR_SCT_NOT_PRESENT = 0x41, FR_SCT_RSVD = 0x42, FR_SCT_INVALID = 0x43,
	FR_SCT_NO_DTE = 0x44, FR_SCT_NO_PASIDE = 0x45, FR_SCT_PASID_LARGE = 0x46, FR_SCT_NO_PRE = 0x47,
	FR_SCT_RID_PASID = 0x48,
	FR_SPD_ACCESS = 0x50, FR_SPD_NOT_PRESENT = 0x51, FR_SPD_RSVD = 0x52,
	FR_SPT_ACCESS = 0x58, FR_SPT_NOT_PRESENT = 0x59, FR_SPT_RSVD = 0x5a, FR_SPT_INVALID = 0x5b,
	FR_SFS_ACCESS = 0x70, FR_SFS_NOT_PRESENT = 0x71, FR_SFS_RSVD = 0x72, FR_SFS_POINTER = 0x73,
	FR_SSS_ACCESS = 0x78, FR_SSS_NO_RIGHT = 0x79, FR_SSS_RSVD = 0x7a, FR_SSS_POINTER = 0x7b,
	FR_SGN_CANONICAL = 0x80, FR_SGN_USER = 0x81, FR_SGN_BEYOND = 0x83, FR_SGN_BEYOND_SS = 0x84,
	FR_SGN_NO_WRITE = 0x85, FR_SGN_NO_READ = 0x86, FR_SGN_INTERRUPT = 0x87,
};

/* ---- structures in memory (chapter 9) ---- */
#define ROOT_P          BIT64(0)
#define ROOT_CTP        GENMASK64(63, 12)

#define CONTEXT_P       BIT64(0)     /* low quadword */
#define CONTEXT_TT      GENMASK64(3, 2)
#define CONTEXT_TT_SL   0ull         /* requests with a translated address are blocked */
#define CONTEXT_TT_DT   1ull         /* the device may keep translations: ATS */
#define CONTEXT_TT_PASS 2ull
#define CONTEXT_SLPTPTR GENMASK64(63, 12)
#define CONTEXT_AW      GENMASK64(2, 0) /* high quadword: levels - 2 */
#define CONTEXT_DID     GENMASK64(23, 8)

#define SL_SNP          BIT64(11)    /* leaf: 9.8 */

/*
 * Scalable mode (9.2, 9.4 to 9.6): a root entry has two context tables, of 128 entries of four quadwords;
 * such an entry has a directory of tables of PASID entries of eight quadwords.
 */
#define ROOT_UPPER       BIT(7)      /* of devfn: the table of the second quadword */
#define SM_CONTEXT_DTE   BIT64(2)
#define SM_CONTEXT_PDTS  GENMASK64(11, 9) /* 128 << PDTS directory entries */
#define SM_CONTEXT_RID_PASID GENMASK64(19, 0) /* second quadword */
#define PASID_DIR_P      BIT64(0)
#define PASID_P          BIT64(0)    /* first quadword */
#define PASID_AW         GENMASK64(4, 2)  /* levels - 2 */
#define PASID_PGTT       GENMASK64(8, 6)
#define PGTT_FIRST       1ull
#define PGTT_SECOND      2ull
#define PGTT_PASS        4ull
#define PASID_DID        GENMASK64(15, 0) /* second quadword */
#define PASID_PWSNP      BIT64(23)
#define PASID_PGSNP      BIT64(24)
#define PASID_FSPM       GENMASK64(3, 2)  /* third quadword: levels - 4; and FSPTPTR */

/* Interrupt remapping table entry (9.10) */
#define IRTE_P          BIT64(0)     /* low quadword */
#define IRTE_FPD        BIT64(1)
#define IRTE_DM         BIT64(2)
#define IRTE_RH         BIT64(3)
#define IRTE_TM         BIT64(4)
#define IRTE_DLM        GENMASK64(7, 5)
#define IRTE_V          GENMASK64(23, 16)
#define IRTE_DST        GENMASK64(63, 32)
#define IRTE_DST_XAPIC  GENMASK64(47, 40) /* with EIME clear */
#define IRTE_SID        GENMASK64(15, 0)  /* high quadword */
#define IRTE_SQ         GENMASK64(17, 16)
#define IRTE_SVT        GENMASK64(19, 18)
#define IRTE_SVT_SID    1ull         /* all 16 bits of SID, with SQ 0 */

/* Invalidation descriptors (6.5.2): 128 bits, in 256 of them with IQA.DW */
#define QI_TYPE         GENMASK64(3, 0)
#define QI_TYPE_CONTEXT 1ull
#define QI_TYPE_IOTLB   2ull
#define QI_TYPE_DEVTLB  3ull
#define QI_TYPE_IEC     4ull
#define QI_TYPE_WAIT    5ull
#define QI_TYPE_PIOTLB  6ull         /* by PASID, which only the first stage and nesting need */
#define QI_TYPE_PASID   7ull
#define QI_G            GENMASK64(5, 4) /* context, IOTLB */
#define QI_G_GLOBAL     1ull
#define QI_G_DOMAIN     2ull
#define QI_G_DEVICE     3ull
#define QI_G_PAGE       3ull
#define QI_CONTEXT_DID  GENMASK64(31, 16)
#define QI_CONTEXT_SID  GENMASK64(47, 32)
#define QI_IOTLB_DW     BIT64(6)
#define QI_IOTLB_DR     BIT64(7)
#define QI_IOTLB_DID    GENMASK64(31, 16)
#define QI_IOTLB_AM     GENMASK64(5, 0) /* high quadword, as IVA_REG */
#define QI_IOTLB_IH     BIT64(6)
#define QI_DEVTLB_MIP   GENMASK64(20, 16) /* at most so many under way at the device, less one */
#define QI_DEVTLB_SID   GENMASK64(47, 32)
#define QI_DEVTLB_S     BIT64(0)     /* high quadword: the address tells the size */
#define QI_DEVTLB_ALL   0x7ffffffffffff000ull
#define QI_PIOTLB_PASID 2ull         /* G: all of a PASID; or pages of it, as QI_G_PAGE */
#define QI_PASID        GENMASK64(51, 32)
#define QI_PASID_G_DOMAIN 0ull
#define QI_PASID_G_PASID  1ull
#define QI_PASID_G_GLOBAL 3ull
#define QI_IEC_INDEXED  BIT64(4)
#define QI_IEC_IIDX     GENMASK64(47, 32)
#define QI_WAIT_SW      BIT64(5)
#define QI_WAIT_DATA    GENMASK64(63, 32)
