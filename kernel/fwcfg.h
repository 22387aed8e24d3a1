/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* QEMU's firmware configuration device, by its I/O ports (docs/specs/fw_cfg). */

#define FWCFG_CMDLINE_SIZE 0x14 /* of -append, for a kernel that QEMU loads itself */
#define FWCFG_CMDLINE_DATA 0x15

/* Whether it is there; looks once. The ports are touched only on a machine that looks like QEMU. */
bool fwcfg_present(void);
/*
 * A file by name, as text: always terminated. Its length; -ENODEV no device, -ENOENT no such file,
 * -E2BIG it does not fit (buf then holds its beginning).
 */
int fwcfg_read(const char *name, char *buf, size_t size);
/* A numbered item: len bytes of it. -ENODEV. */
int fwcfg_item(uint16_t key, void *buf, size_t len);
