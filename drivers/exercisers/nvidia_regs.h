/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/*
 * NVIDIA GPUs, BAR0, Maxwell to Hopper, as far as public sources go: open-gpu-doc manuals,
 * open-gpu-kernel-modules headers, envytools, nouveau. [R]: read there. [I]: inferred, tried on no
 * hardware.
 */

/* PMC: which chip. Safe to read on any GPU. [R] */
#define NV_PMC_BOOT_0             0x000000
#define NV_PMC_BOOT_0_CHIP        GENMASK(28, 20)  /* architecture 28:24, implementation 23:20 */
#define NV_PMC_BOOT_1             0x000004
#define NV_PMC_BOOT_1_VGPU        GENMASK(17, 16)
#define NV_PMC_BOOT_42            0x000a00
#define NV_PMC_BOOT_42_CHIP       GENMASK(29, 20)

/* PMC: interrupts before the tree. */
#define NV_PMC_INTR(i)            (0x000100u + 4 * (i))
#define NV_PMC_INTR_PTIMER        BIT(20)
#define NV_PMC_INTR_PBUS          BIT(28)
#define NV_PMC_INTR_SOFTWARE      BIT(31)
#define NV_PMC_INTR_EN(i)         (0x000140u + 4 * (i)) /* to Maxwell: RW, two bits; GP100+: read-only [R] */
#define NV_PMC_INTR_EN_HARDWARE   BIT(0)               /* to Maxwell [R] */
#define NV_PMC_INTR_EN_SOFTWARE   BIT(1)
#define NV_PMC_INTR_EN_SET(i)     (0x000160u + 4 * (i)) /* GP100+ [R] */
#define NV_PMC_INTR_EN_CLEAR(i)   (0x000180u + 4 * (i))
/* Bit 0 raises PMC_INTR's bit 31. GP100, GV100, TU104 [R], GP10x [I] */
#define NV_PMC_INTR_SW(i)         (0x0001a0u + 4 * (i))

/* PBUS: a software interrupt. G80+ [R], GP10x [I] */
#define NV_PBUS_INTR_0            0x001100         /* W1C */
#define NV_PBUS_INTR_0_SW         BIT(26)
#define NV_PBUS_INTR_EN_0         0x001140
#define NV_PBUS_SW_INTR           0x001150         /* writing 1 raises it */
/* PBUS: what the 1 MiB at NV_PRAMIN shows. GM107 to GA100 [R], on a bare GP10x [I] */
#define NV_PBUS_BAR0_WINDOW       0x001700
#define NV_PBUS_BAR0_WINDOW_BASE  GENMASK(23, 0)   /* address bits 39:16 */
#define NV_PBUS_BAR0_WINDOW_TARGET GENMASK(25, 24)
#define NV_PBUS_TARGET_SYS_COH    2u
#define NV_PRAMIN                 0x700000
#define NV_PRAMIN_SIZE            0x100000

/* PTIMER: nanoseconds, and an alarm that compares TIME_0[31:5] for equality. [R] */
#define NV_PTIMER_INTR_0          0x009100         /* W1C */
#define NV_PTIMER_INTR_EN_0       0x009140
#define NV_PTIMER_ALARM           BIT(0)
#define NV_PTIMER_TIME_0          0x009400
#define NV_PTIMER_TIME_0_NSEC     GENMASK(31, 5)
#define NV_PTIMER_TIME_1          0x009410
#define NV_PTIMER_TIME_1_NSEC     GENMASK(28, 0)
#define NV_PTIMER_ALARM_0         0x009420

/*
 * The same clock as a virtual function has it, from Turing on: NVIDIA's open driver reads it there on every
 * chip (dev_vm.h, timer_tu102.c). [R] At 0xb80000 of a physical function, at 0 of a virtual one.
 */
#define NV_VIRTUAL_FUNCTION_TIME_0 0x30080
#define NV_VIRTUAL_FUNCTION_TIME_1 0x30084

/* The configuration space's mirror: what lets the next MSI go. [R] */
#define NV_XVE_MSI_REARM_8        0x088068         /* Kepler, Maxwell: a byte, 0xff */
#define NV_XVE_CYA_2              0x088704         /* GP100 to GA10x: 32 bits, 0 */

/* The interrupt tree, Turing on: at 0xb80000 of a physical function, at 0 of a virtual one. [R] */
#define NV_TREE_PF                0xb80000
#define NV_TREE_LEAF(i)           (0x1000u + 4 * (i))   /* W1C */
#define NV_TREE_LEAF_EN_SET(i)    (0x1200u + 4 * (i))
#define NV_TREE_LEAF_EN_CLEAR(i)  (0x1400u + 4 * (i))
#define NV_TREE_TOP               0x1600u
#define NV_TREE_TOP_EN_SET        0x1608u
#define NV_TREE_TOP_EN_CLEAR      0x1610u
#define NV_TREE_LEAF_TRIGGER      0x1640u               /* ← vector */
#define NV_TREE_DOORBELL          129u                  /* the vector that is the CPU's own */

/* What an access to a unit without power or clock answers: an un-POSTed GPU. [R] */
#define NV_PRI_ERROR_MASK         0xffff0000u
#define NV_PRI_ERROR              0xbadf0000u
