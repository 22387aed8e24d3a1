/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * Physical region pages for one transfer (NVMe Base 2.0, 4.1.1), 4 KiB pages. list has room for
 * NVME_PRP_LIST_MAX entries and is one page at list_addr; it is used only when three pages or more are
 * touched. Returns the entries written to it, or -EINVAL: addr is not a multiple of 4, len is 0 or
 * touches too many pages.
 */
#define NVME_PRP_LIST_MAX 512
int nvme_prp_build(uint64_t addr, size_t len, uint64_t list_addr, volatile uint64_t *list,
		   uint64_t *prp1, uint64_t *prp2);
