/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/exercisers/exerciser.h"

/* A disk whose serial number starts so is ours to write to. */
#define MEDIUM_SERIAL "plumb"

/*
 * Finds out what stands behind a disk, and takes from ex->caps what it does not offer. Somebody's data
 * is never at stake: EX_DMA_READ (a disk write) stays only where the serial number begins with
 * MEDIUM_SERIAL, or the disk is blank at both ends and proves to keep nothing (null-co). A disk that
 * turns out to keep what is written has its one block put back and is then read only.
 * Sets ex->fill, and ex->note for what it took away. size: bytes of the disk.
 */
int medium_probe(struct exerciser *, uint64_t size, const char *serial, size_t serial_len);
