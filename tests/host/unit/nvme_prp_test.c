/* SPDX-License-Identifier: MIT */
// link: drivers/exercisers/nvme_prp.c
#include "drivers/exercisers/nvme_prp.h"

#include "kernel/lib/err.h"
#include "kernel/lib/random.h"
#include "tests/host/host.h"

#define LIST 0x7000ull
#define PAGE 4096ull

static volatile uint64_t list[NVME_PRP_LIST_MAX + 1];
static uint64_t prp1, prp2;

/* What a controller makes of it (NVMe Base 2.0, 4.1.1): the address of byte at of the transfer. */
static uint64_t address_of(uint64_t len, uint64_t at)
{
	const uint64_t first = PAGE - prp1 % PAGE;
	uint64_t page;

	if (at < first)
		return prp1 + at;
	page = (at - first) / PAGE;
	at = (at - first) % PAGE;
	/* More than one page is left after the first: PRP2 points to a list. */
	if (len - first > PAGE)
		return prp2 == LIST ? list[page] + at : ~0ull;
	return prp2 + at;
}

static int good(uint64_t addr, uint64_t len)
{
	int n;

	memset((void *)(uintptr_t)list, 0xee, sizeof(list));
	n = nvme_prp_build(addr, len, LIST, list, &prp1, &prp2);
	if (n < 0 || prp1 != addr || (prp1 / PAGE == (addr + len - 1) / PAGE && prp2 != 0))
		return 0;
	for (uint64_t at = 0; at < len; at += at % 61 == 0 ? 1 : 60)
		if (address_of(len, at) != addr + at)
			return 0;
	for (int i = 0; i < n; i++)
		if (list[i] % PAGE)
			return 0;
	return address_of(len, len - 1) == addr + len - 1 && list[n] == 0xeeeeeeeeeeeeeeeeull;
}

int main(void)
{
	struct random r = random_seed(3);
	static const uint64_t offsets[] = {0, 4, 8, 508, 512, 2048, 4088, 4092};
	static const uint64_t lengths[] = {1,    4,    512,  4095, 4096,  4097,
					   4608, 8191, 8192, 8193, 12288, 1u << 20};

	for (size_t o = 0; o < sizeof(offsets) / 8; o++)
		for (size_t l = 0; l < sizeof(lengths) / 8; l++)
			CHECK(good(0x40000000 + offsets[o], lengths[l]));
	for (unsigned i = 0; i < 1000; i++) {
		const uint64_t addr = (random_u64(&r) >> 12) & ~3ull, len = 1 + random_below(&r, 1u << 20);

		if (!good(addr, len))
			CHECK(0);
	}
	/* The most that one list holds, and one page more. */
	CHECK(good(0x1000, (NVME_PRP_LIST_MAX + 1) * PAGE));
	CHECK_EQ(nvme_prp_build(0x1000, (NVME_PRP_LIST_MAX + 1) * PAGE + 1, LIST, list, &prp1, &prp2),
		 -EINVAL);
	CHECK_EQ(nvme_prp_build(0x1002, 512, LIST, list, &prp1, &prp2), -EINVAL);
	CHECK_EQ(nvme_prp_build(0x1000, 0, LIST, list, &prp1, &prp2), -EINVAL);
	CHECK_EQ(nvme_prp_build(~0xfffull, 0x2000, LIST, list, &prp1, &prp2), -EINVAL);
	return host_done("nvme_prp");
}
