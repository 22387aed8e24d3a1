/* SPDX-License-Identifier: MIT */

#include "kernel/acpi/acpi.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/string.h"
#include "tests/apic/delivery.h"
#include "tests/iommu/iommu_test.h"

/* What firmware says that an AMD-Vi device must reach is in its domain, at its own address. */
static unsigned check_unity(struct dma_space *s)
{
	const unsigned id = s->ex->rid.v & 0xffff;
	unsigned n = 0;

	for (uint32_t i = 0; acpi.has_ivrs && i < acpi.ivrs.memory_count; i++) {
		const struct ivrs_memory *m = &acpi.ivrs.memory[i];
		struct iommu_leaf leaf = {.size = 0};

		if (m->segment != rid_seg(s->ex->rid) || id < m->first || id > m->last ||
		    !(m->flags & (IVRS_UNITY | IVRS_EXCLUSION)))
			continue;
		n++;
		EXPECT_MSG(s->t, s->iommu->ops->lookup(&s->domain, iova(m->base), &leaf) == 0 && leaf.pa.v == m->base,
			   "%s: IVMD at %llx: got pa %llx in its domain, expected the same", s->name,
			   (unsigned long long)m->base, (unsigned long long)leaf.pa.v);
	}
	return n;
}

/* The four bytes of the message's data, written by the device to that address. */
static void write_word(struct dma_space *s, uint64_t at)
{
	struct dma_job job = {.space = s, .dir = DMA_WRITE, .addr = {at}, .len = sizeof(uint32_t)};

	dma_run(&job, 1);
	EXPECT_OK(s->t, job.result);
}

/* A message written as DMA is an interrupt, whatever the tables say; the page before the window is memory. */
static void check_window(struct dma_space *s, struct delivery *d)
{
	const unsigned cpu = d->cpus > 1;
	const struct irq_route route = {.dest = cpus[cpu]->apic_id, .vector = (uint8_t)d->vector[0]};
	const uint64_t beside = MSI_RANGE_FIRST - PAGE_SIZE;
	struct dma_target *in, *out;
	struct msi_msg msg;

	REQUIRE_OK(s->t, msg_compat(&route, &msg, NULL));
	in = dma_target_map_at(s, PAGE_SIZE, IOMMU_RW, align_down(msg.addr, PAGE_SIZE), 0);
	out = dma_target_map_at(s, PAGE_SIZE, IOMMU_RW, beside, 0);
	dma_load_prepare(s, 70, sizeof(msg.data));
	memcpy(s->source->va, &msg.data, sizeof(msg.data));
	REQUIRE_OK(s->t, dma_read(s->source, 0, sizeof(msg.data)));

	write_word(s, msg.addr);
	delivery_due(d, cpu, 0, 1);
	delivery_check(d, "%s, a message to %llx as DMA", s->name, (unsigned long long)msg.addr);
	dma_expect_untouched(in, "mapped in the window of messages");
	write_word(s, beside);
	dma_expect_written(out, 0, sizeof(msg.data), "mapped before the window");
	delivery_finish(d, "%s, at the end", s->name);
}

/*
 * Ranges that are not the tables' to translate are left alone.
 *
 * VT-d 3.14: a write to FEEx_xxxxh is an interrupt request and is never looked up, so that a page mapped
 * there is not reached; AMD 48882, 2.1.4. 48882, 5.2.3: unity mappings are in the domain of the device that
 * they name. A unit that translates messages loses them, or lets a device write where the tables say.
 */
TEST(iommu, reserved, "messages are not translated, and unity maps are in the domain of their device",
     NEED_IOMMU_TRANSLATION)
{
	const uint32_t caps = EX_DMA_READ | EX_DMA_WRITE | EX_DMA_COPY | EX_DMA_ANY_LEN;
	unsigned devices = 0, regions = 0;
	const char *why;

	for (struct exerciser *ex = dma_next_exerciser(t, NULL, caps, true); ex && devices == 0;
	     ex = dma_next_exerciser(t, ex, caps, true)) {
		struct dma_space *s = dma_space_open(t, ex, DMA_TRANSLATED, &why);

		if (!s)
			continue;
		if (s->iommu->remapping)
			test_error(t, "%s: remapping is on", s->name);
		check_window(s, delivery_open(t, 1));
		regions += check_unity(s);
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test that writes four bytes of our choice behind an IOMMU");
	test_note(t, "firmware reserves %u regions for the device (IVMD)", regions);
}
