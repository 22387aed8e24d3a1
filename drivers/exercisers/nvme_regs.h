/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* NVM Express Base 2.0 (sections in brackets) and NVM Command Set 1.0. */

/* Controller properties [3.1.3], BAR0 */
#define NVME_CAP          0x00           /* 64 bits */
#define NVME_CAP_MQES     GENMASK64(15, 0)   /* entries - 1 */
#define NVME_CAP_TO       GENMASK64(31, 24)  /* 500 ms */
#define NVME_CAP_DSTRD    GENMASK64(35, 32)  /* doorbells are 4 << this apart */
#define NVME_CAP_CSS_NVM  BIT64(37)
#define NVME_CAP_MPSMIN   GENMASK64(51, 48)  /* page size 1 << (12 + this) */
#define NVME_CC           0x14
#define NVME_CC_EN        BIT(0)
#define NVME_CC_IOSQES    GENMASK(19, 16)    /* log2 */
#define NVME_CC_IOCQES    GENMASK(23, 20)
#define NVME_VS           0x08          /* version: never 0 */
#define NVME_CSTS         0x1c
#define NVME_CSTS_RDY     BIT(0)
#define NVME_CSTS_CFS     BIT(1)
#define NVME_AQA          0x24
#define NVME_AQA_ASQS     GENMASK(11, 0)     /* entries - 1 */
#define NVME_AQA_ACQS     GENMASK(27, 16)
#define NVME_ASQ          0x28           /* 64 bits */
#define NVME_ACQ          0x30
#define NVME_DOORBELLS    0x1000

/* Submission entries [3.3.3.1], by doubleword */
#define NVME_SQE_SIZE     64
#define NVME_SQE_NSID     1
#define NVME_SQE_PRP1     6
#define NVME_SQE_PRP2     8
#define NVME_SQE_CDW10    10
#define NVME_CMD_OPCODE   GENMASK(7, 0)
#define NVME_CMD_CID      GENMASK(31, 16)

/* Completion entries [3.3.3.2], by doubleword */
#define NVME_CQE_SIZE     16
#define NVME_CQE_RESULT   0
#define NVME_CQE_STATUS   3
#define NVME_STATUS_CID   GENMASK(15, 0)
#define NVME_STATUS_PHASE BIT(16)
#define NVME_STATUS_CODE  GENMASK(27, 17)    /* type and code; 0: success */

/* Admin commands [5] */
#define NVME_ADMIN_CREATE_SQ    0x01
#define NVME_ADMIN_CREATE_CQ    0x05
#define NVME_ADMIN_IDENTIFY     0x06
#define NVME_ADMIN_SET_FEATURES 0x09
#define NVME_ADMIN_GET_FEATURES 0x0a
#define NVME_ADMIN_VIRT_MGMT    0x1c
#define NVME_QUEUE_QID          GENMASK(15, 0)
#define NVME_QUEUE_SIZE         GENMASK(31, 16)  /* entries - 1 */
#define NVME_QUEUE_CONTIGUOUS   BIT(0)
#define NVME_CQ_IEN             BIT(1)
#define NVME_CQ_VECTOR          GENMASK(31, 16)
#define NVME_SQ_CQID            GENMASK(31, 16)
#define NVME_FEATURE_QUEUES     0x07             /* 15:0 submission, 31:16 completion, each - 1 */

/* Virtualization Management [5.42]; kinds of resources */
#define NVME_VIRT_ACTION        GENMASK(3, 0)
#define NVME_VIRT_PRIMARY       1                /* so many for the primary controller, from its next reset on */
#define NVME_VIRT_ASSIGN        8
#define NVME_VIRT_ONLINE        9
#define NVME_VIRT_KIND          GENMASK(10, 8)
#define NVME_VIRT_QUEUES        0
#define NVME_VIRT_VECTORS       1
#define NVME_VIRT_CONTROLLER    GENMASK(31, 16)

/* Identify [5.17]: CNS, and byte offsets in what it returns */
#define NVME_CNS_NAMESPACE      0x00
#define NVME_CNS_CONTROLLER     0x01
#define NVME_CNS_ACTIVE_LIST    0x02
#define NVME_CNS_PRIMARY        0x14             /* its capabilities; 15:0 its ID */
#define NVME_CNS_SECONDARY      0x15             /* list, 32 bytes each: the first's first byte is their number */
#define NVME_ID_PRIMARY_VQFRSM  44               /* the most that a secondary one can have */
#define NVME_ID_PRIMARY_VIFRSM  76
#define NVME_ID_SECONDARY_VFN   8                /* which virtual function, from 1 on */
#define NVME_ID_CTRL_SERIAL     4                /* 20 characters */
#define NVME_ID_CTRL_SERIAL_LEN 20
#define NVME_ID_CTRL_MDTS       77               /* log2 of minimum pages; 0: no limit */
#define NVME_ID_NS_NSZE         0                /* 64 bits, blocks */
#define NVME_ID_NS_FLBAS        26
#define NVME_ID_NS_LBAF         128              /* 4 bytes each */
#define NVME_FLBAS_LOW          GENMASK(3, 0)
#define NVME_FLBAS_HIGH         GENMASK(6, 5)
#define NVME_LBAF_MS            GENMASK(15, 0)   /* metadata bytes */
#define NVME_LBAF_LBADS         GENMASK(23, 16)  /* log2 of the block size */

/* NVM commands */
#define NVME_NVM_FLUSH          0x00
#define NVME_NVM_WRITE          0x01
#define NVME_NVM_READ           0x02
