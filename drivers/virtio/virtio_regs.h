/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* Virtual I/O Device (VIRTIO) 1.2; sections in brackets. */

#define VIRTIO_VENDOR 0x1af4

/* Device status [2.1] */
#define VIRTIO_STATUS_ACKNOWLEDGE 0x01
#define VIRTIO_STATUS_DRIVER      0x02
#define VIRTIO_STATUS_DRIVER_OK   0x04
#define VIRTIO_STATUS_FEATURES_OK 0x08
#define VIRTIO_STATUS_NEEDS_RESET 0x40
#define VIRTIO_STATUS_FAILED      0x80

/* Feature bits [6] */
#define VIRTIO_F_VERSION_1        BIT64(32)
#define VIRTIO_F_ACCESS_PLATFORM  BIT64(33)

/* Structures in BARs, named by vendor capabilities [4.1.4] */
#define VIRTIO_CAP_LEN            2      /* bytes from the capability */
#define VIRTIO_CAP_CFG_TYPE       3
#define VIRTIO_CAP_BAR            4
#define VIRTIO_CAP_OFFSET         8
#define VIRTIO_CAP_LENGTH         12
#define VIRTIO_CAP_SIZE           16
#define VIRTIO_CAP_NOTIFY_MULT    16
#define VIRTIO_CAP_NOTIFY_SIZE    20
#define VIRTIO_PCI_CAP_COMMON_CFG 1
#define VIRTIO_PCI_CAP_NOTIFY_CFG 2
#define VIRTIO_PCI_CAP_ISR_CFG    3
#define VIRTIO_PCI_CAP_DEVICE_CFG 4

/* Common configuration [4.1.4.3] */
#define VIRTIO_DEVICE_FEATURE_SELECT 0x00
#define VIRTIO_DEVICE_FEATURE        0x04
#define VIRTIO_DRIVER_FEATURE_SELECT 0x08
#define VIRTIO_DRIVER_FEATURE        0x0c
#define VIRTIO_CONFIG_MSIX_VECTOR    0x10 /* 16 bits */
#define VIRTIO_NUM_QUEUES            0x12 /* 16 bits */
#define VIRTIO_DEVICE_STATUS         0x14 /* 8 bits */
#define VIRTIO_QUEUE_SELECT          0x16 /* 16 bits */
#define VIRTIO_QUEUE_SIZE            0x18 /* 16 bits */
#define VIRTIO_QUEUE_MSIX_VECTOR     0x1a /* 16 bits */
#define VIRTIO_QUEUE_ENABLE          0x1c /* 16 bits */
#define VIRTIO_QUEUE_NOTIFY_OFF      0x1e /* 16 bits */
#define VIRTIO_QUEUE_DESC            0x20 /* 64 bits */
#define VIRTIO_QUEUE_DRIVER          0x28
#define VIRTIO_QUEUE_DEVICE          0x30
#define VIRTIO_COMMON_SIZE           0x38
#define VIRTIO_MSI_NO_VECTOR         0xffff

/* Split virtqueues [2.7] */
#define VIRTQ_DESC_F_NEXT            1
#define VIRTQ_DESC_F_WRITE           2    /* the device writes it */
#define VIRTQ_AVAIL_F_NO_INTERRUPT   1
#define VIRTQ_USED_F_NO_NOTIFY       1

/* Block device [5.2] */
#define VIRTIO_BLK_F_SIZE_MAX        BIT64(1)
#define VIRTIO_BLK_F_RO              BIT64(5)
#define VIRTIO_BLK_F_BLK_SIZE        BIT64(6)
#define VIRTIO_BLK_F_MQ              BIT64(12)
#define VIRTIO_BLK_CAPACITY          0    /* 64 bits, sectors of 512 bytes */
#define VIRTIO_BLK_SIZE_MAX          8    /* 32 bits, bytes of one segment */
#define VIRTIO_BLK_BLK_SIZE          20   /* 32 bits */
#define VIRTIO_BLK_NUM_QUEUES        34   /* 16 bits */
#define VIRTIO_BLK_CONFIG_SIZE       36
#define VIRTIO_BLK_T_IN              0    /* the device writes memory */
#define VIRTIO_BLK_T_OUT             1
#define VIRTIO_BLK_T_GET_ID          8
#define VIRTIO_BLK_ID_SIZE           20
#define VIRTIO_BLK_S_OK              0
#define VIRTIO_BLK_SECTOR            512
