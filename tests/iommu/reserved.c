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

/* What the unit itself reserves for the device: of messages, all that it may be sent; nothing else is RAM. */
static unsigned check_regions(struct dma_space *s, bool *window)
{
	struct iommu_region g;
	unsigned n = 0;
	int r = -ENOENT;

	while (s->iommu->ops->reserved && (r = s->iommu->ops->reserved(s->iommu, s->ex->rid, n, &g)) == 0) {
		n++;
		*window |= g.messages;
		if (g.messages)
			EXPECT_MSG(s->t, g.first <= MSI_RANGE_FIRST && g.last >= MSI_RANGE_LAST,
				   "%s: region of messages %llx..%llx: got less than %llx..%llx", s->name,
				   (unsigned long long)g.first, (unsigned long long)g.last,
				   MSI_RANGE_FIRST, MSI_RANGE_LAST);
		EXPECT_MSG(s->t, g.messages || !phys_touches_ram(g.first, g.last - g.first + 1),
			   "%s: reserved region %llx..%llx: got the address of RAM", s->name,
			   (unsigned long long)g.first, (unsigned long long)g.last);
	}
	EXPECT_MSG(s->t, r == -ENOENT, "%s: its reserved regions: got -%s", s->name, err_name(r));
	return n;
}

/* A page there, which no message may reach: mapped, but where the unit has reserved it and must refuse. */
static struct dma_target *inside(struct dma_space *s, uint64_t at, bool reserved)
{
	struct dma_target *g;

	if (!reserved)
		return dma_target_map_at(s, PAGE_SIZE, IOMMU_RW, at, 0);
	g = dma_target_alloc(s, PAGE_SIZE);
	EXPECT_ERR(s->t, s->iommu->ops->map(&s->domain, iova(at), g->pa, PAGE_SIZE, IOMMU_RW, 0), EPERM);
	return g;
}

/* A message written as DMA is an interrupt, whatever the tables say; the page before the window is memory. */
static void check_window(struct dma_space *s, struct delivery *d, bool reserved)
{
	const unsigned cpu = d->cpus > 1;
	const struct irq_route route = {.dest = cpus[cpu]->apic_id, .vector = (uint8_t)d->vector[0]};
	const uint64_t beside = MSI_RANGE_FIRST - PAGE_SIZE;
	struct dma_target *in, *out;
	struct msi_msg msg;

	REQUIRE_OK(s->t, msg_compat(&route, &msg, NULL));
	in = inside(s, align_down(msg.addr, PAGE_SIZE), reserved);
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
 * they name. VIRTIO 1.2, 5.13.6.8.1: the unit says which addresses an endpoint has for messages. A unit that
 * translates messages loses them, or lets a device write where the tables say.
 */
TEST(iommu, reserved, "messages are not translated, and unity maps are in the domain of their device",
     NEED_IOMMU_TRANSLATION)
{
	const uint32_t caps = EX_DMA_READ | EX_DMA_WRITE | EX_DMA_COPY | EX_DMA_ANY_LEN;
	unsigned devices = 0, regions = 0;
	bool window = false;
	const char *why;

	for (struct exerciser *ex = dma_next_exerciser(t, NULL, caps, true); ex && devices == 0;
	     ex = dma_next_exerciser(t, ex, caps, true)) {
		struct dma_space *s = dma_space_open(t, ex, DMA_TRANSLATED, &why);

		if (!s)
			continue;
		if (s->iommu->remapping)
			test_error(t, "%s: remapping is on", s->name);
		regions += check_regions(s, &window) + check_unity(s);
		check_window(s, delivery_open(t, 1), window);
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test that writes four bytes of our choice behind an IOMMU");
	test_note(t, "firmware (IVMD) or the unit (RESV_MEM) reserves %u regions for the device", regions);
}
