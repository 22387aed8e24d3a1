/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* The IOMMU device of VIRTIO 1.2, 5.13. Sections in brackets. */

#define VIRTIO_IOMMU_DEVICE 0x1057       /* its PCI device ID [4.1.2.1] */

/* Feature bits [5.13.3] */
#define VIRTIO_IOMMU_F_INPUT_RANGE   BIT64(0)
#define VIRTIO_IOMMU_F_DOMAIN_RANGE  BIT64(1)
#define VIRTIO_IOMMU_F_MAP_UNMAP     BIT64(2)
#define VIRTIO_IOMMU_F_BYPASS        BIT64(3)
#define VIRTIO_IOMMU_F_PROBE         BIT64(4)
#define VIRTIO_IOMMU_F_MMIO          BIT64(5)
#define VIRTIO_IOMMU_F_BYPASS_CONFIG BIT64(6)

/* Virtqueues [5.13.2] */
#define VIRTIO_IOMMU_REQUESTQ 0
#define VIRTIO_IOMMU_EVENTQ   1

/* Configuration [5.13.4] */
#define VIRTIO_IOMMU_PAGE_SIZE_MASK 0    /* 64 bits */
#define VIRTIO_IOMMU_INPUT_START    8
#define VIRTIO_IOMMU_INPUT_END      16
#define VIRTIO_IOMMU_DOMAIN_START   24   /* 32 bits */
#define VIRTIO_IOMMU_DOMAIN_END     28
#define VIRTIO_IOMMU_PROBE_SIZE     32
#define VIRTIO_IOMMU_CONFIG_BYPASS  36   /* 8 bits */
#define VIRTIO_IOMMU_CONFIG_SIZE    40

/* Requests [5.13.6]: the head's first byte, and what the tail's first byte says */
#define VIRTIO_IOMMU_T_ATTACH 1
#define VIRTIO_IOMMU_T_DETACH 2
#define VIRTIO_IOMMU_T_MAP    3
#define VIRTIO_IOMMU_T_UNMAP  4
#define VIRTIO_IOMMU_T_PROBE  5
#define VIRTIO_IOMMU_S_OK     0
#define VIRTIO_IOMMU_S_IOERR  1
#define VIRTIO_IOMMU_S_UNSUPP 2
#define VIRTIO_IOMMU_S_DEVERR 3
#define VIRTIO_IOMMU_S_INVAL  4
#define VIRTIO_IOMMU_S_RANGE  5
#define VIRTIO_IOMMU_S_NOENT  6
#define VIRTIO_IOMMU_S_FAULT  7
#define VIRTIO_IOMMU_S_NOMEM  8
#define VIRTIO_IOMMU_TAIL     4          /* bytes */
#define VIRTIO_IOMMU_ATTACH_F_BYPASS BIT(0)
#define VIRTIO_IOMMU_MAP_F_READ      BIT(0)
#define VIRTIO_IOMMU_MAP_F_WRITE     BIT(1)

/* Properties of an endpoint [5.13.6.7, 5.13.6.8] */
#define VIRTIO_IOMMU_PROPERTY_HEAD   4   /* bytes: type, length */
#define VIRTIO_IOMMU_PROPERTY_TYPE   GENMASK(11, 0)
#define VIRTIO_IOMMU_PROPERTY_ZERO   GENMASK(15, 12)
#define VIRTIO_IOMMU_PROBE_T_RESV_MEM 1
#define VIRTIO_IOMMU_RESV_SUBTYPE    4   /* from the property's begin */
#define VIRTIO_IOMMU_RESV_START      8
#define VIRTIO_IOMMU_RESV_END        16
#define VIRTIO_IOMMU_RESV_SIZE       24
#define VIRTIO_IOMMU_RESV_T_RESERVED 0
#define VIRTIO_IOMMU_RESV_T_MSI      1

/* A report in the event queue [5.13.6.9] */
#define VIRTIO_IOMMU_FAULT_REASON    0   /* 8 bits, then 24 that are zero */
#define VIRTIO_IOMMU_FAULT_FLAGS     4
#define VIRTIO_IOMMU_FAULT_ENDPOINT  8
#define VIRTIO_IOMMU_FAULT_ADDRESS   16
#define VIRTIO_IOMMU_FAULT_SIZE      24
#define VIRTIO_IOMMU_FAULT_R_UNKNOWN 0
#define VIRTIO_IOMMU_FAULT_R_DOMAIN  1
#define VIRTIO_IOMMU_FAULT_R_MAPPING 2
#define VIRTIO_IOMMU_FAULT_F_READ    BIT(0)
#define VIRTIO_IOMMU_FAULT_F_WRITE   BIT(1)
#define VIRTIO_IOMMU_FAULT_F_ADDRESS BIT(8)
