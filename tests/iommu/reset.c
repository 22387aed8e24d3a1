/* SPDX-License-Identifier: MIT */

#include "tests/iommu/iommu_test.h"

static int write_plain(struct dma_space *s, const struct dma_target *plain, size_t len)
{
	struct dma_job job = {.space = s, .dir = DMA_WRITE, .addr = {plain->pa.v}, .len = len};

	dma_run(&job, 1);
	return job.result;
}

/*
 * A unit that is reset forgets whom it translated, and works for the next driver.
 *
 * VIRTIO 1.2, 5.13.5: when the device is reset, endpoints are not attached to any domain; 5.13.4: bypass
 * outlasts the reset, and is on here. So a device then reaches memory by its own address, as before the
 * unit was ever used: an endpoint that stays attached is one that firmware's or a crashed kernel's
 * successor finds cut off, or let into the old one's memory. Switched on again it is translated as before.
 */
TEST(iommu, reset, "a unit that is reset has nobody attached, and translates again when it is switched on",
     NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t len = dma_len(ex, PAGE_SIZE);
		struct iommu *u = iommu_of(ex->dev);
		struct dma_target *g, *plain;
		struct dma_space *s;

		if (!u->ops->reset)
			continue;
		s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!s)
			continue;
		g = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
		plain = dma_target_alloc(s, PAGE_SIZE);
		REQUIRE_OK(t, dma_load(s, 80, len));
		ASSERT_OK(t, dma_write(g, 0, len));
		dma_expect_written(g, 0, len, "before the reset");

		dma_target_fill(g, 950);
		ASSERT_OK(t, u->ops->reset(u));
		(void)write_plain(s, plain, len);
		dma_expect_written(plain, 0, len, "reset, by physical address");
		dma_expect_untouched(g, "reset, its page");
		s->ex->ops->quiesce(s->ex);
		s->ex->ready = false;

		ASSERT_OK(t, u->ops->enable(u));
		dma_target_fill(plain, 951);
		dma_faults_clear(s);
		REQUIRE_OK(t, dma_load(s, 81, len));
		EXPECT_OK(t, dma_write(g, 0, len));
		dma_expect_written(g, 0, len, "on again");
		dma_expect_no_fault(s, "on again");
		dma_try(s, DMA_WRITE, iova(plain->pa.v), len);
		dma_expect_untouched(plain, "on again, by physical address");
		dma_expect_fault(s, DMA_WRITE, iova(plain->pa.v), len, IOMMU_FAULT_NOT_PRESENT,
				 "on again, by physical address");
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "the unit has no reset of its own (only a virtio-iommu has)");
}
