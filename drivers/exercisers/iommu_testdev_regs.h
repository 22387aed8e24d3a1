/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* QEMU's iommu-testdev (11.0 and later), BAR0, 32-bit accesses (QEMU, hw/misc/iommu-testdev.c). */
#define ITD_TRIGGER        0x00          /* a read runs the transfer that is armed */
#define ITD_GVA_LO         0x04          /* where it writes, through the IOMMU */
#define ITD_GVA_HI         0x08
#define ITD_LEN            0x0c
#define ITD_RESULT         0x10
#define ITD_DOORBELL       0x14          /* 1 arms, 0 disarms */
#define ITD_ATTRS          0x18
#define ITD_GPA_LO         0x1c          /* where it reads back, past the IOMMU */
#define ITD_GPA_HI         0x20
#define ITD_BAR_SIZE       0x1000

#define ITD_ATTRS_SECURE      BIT(0)
#define ITD_ATTRS_NONSECURE   BIT(1)     /* the space; must agree with SECURE where it is valid */
#define ITD_ATTRS_SPACE_VALID BIT(3)

#define ITD_OK             0u
#define ITD_IDLE           0xffffffffu
#define ITD_BUSY           0xfffffffeu   /* armed */
#define ITD_BAD_LEN        0xdead0001u
#define ITD_WRITE_FAILED   0xdead0002u
#define ITD_READ_FAILED    0xdead0003u
#define ITD_MISMATCH       0xdead0004u
#define ITD_NOT_ARMED      0xdead0005u
#define ITD_BAD_ATTRS      0xdead0006u

#define ITD_WORD           0x12345678u   /* what it writes, over and over, the lowest byte first */
