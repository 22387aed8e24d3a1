/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* QEMU's ivshmem-doorbell, BAR0 (QEMU, docs/specs/ivshmem-spec.rst). */
#define IVSHMEM_IV_POSITION     0x08     /* own ID; all ones: no server has given one */
#define IVSHMEM_DOORBELL        0x0c
#define IVSHMEM_DOORBELL_PEER   GENMASK(31, 16)
#define IVSHMEM_DOORBELL_VECTOR GENMASK(15, 0)
