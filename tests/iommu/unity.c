/* SPDX-License-Identifier: MIT */

#include "kernel/acpi/acpi.h"
#include "tests/iommu/iommu_test.h"

/* Two pages; for as long as `there`, our copy of the firmware's table reserves the first for the device. */
struct made_up { struct dma_buf pages; bool there, amd; };

static void take_back(void *arg)
{
	struct made_up *m = arg;

	if (!m->there)
		return;
	m->there = false;
	if (m->amd)
		acpi.ivrs.memory_count--;
	else
		acpi.dmar.rmrr_count--;
}

static bool reserve(struct made_up *m, const struct exerciser *ex, const struct iommu *u)
{
	const uint64_t base = m->pages.pa.v;
	const uint16_t segment = (uint16_t)rid_seg(ex->rid), id = (uint16_t)ex->rid.v;
	const pci_rid_t own = ex->dev->rid;

	m->amd = u->desc.vendor == IOMMU_AMDVI;
	if (m->amd && acpi.ivrs.memory_count < IVRS_MEMORY_MAX) {
		acpi.ivrs.memory[acpi.ivrs.memory_count++] = (struct ivrs_memory){
			.first = id, .last = id, .segment = segment, .flags = IVRS_UNITY | IVRS_READ | IVRS_WRITE,
			.base = base, .length = PAGE_SIZE};
		m->there = true;
	} else if (u->desc.vendor == IOMMU_VTD && acpi.dmar.rmrr_count < DMAR_RMRR_MAX) {
		const uint32_t i = acpi.dmar.rmrr_count++;

		acpi.dmar.rmrr[i].segment = segment;
		acpi.dmar.rmrr[i].base = base;
		acpi.dmar.rmrr[i].limit = base + PAGE_SIZE - 1;
		acpi.dmar.rmrr[i].scope_count = 1;
		acpi.dmar.rmrr[i].scope[0] = (struct dmar_scope){
			.type = DMAR_SCOPE_ENDPOINT, .start_bus = (uint8_t)rid_bus(own), .path_len = 1,
			.path = {{(uint8_t)(rid_devfn(own) >> 3), rid_devfn(own) & 7}}};
		m->there = true;
	}
	return m->there;
}

/* A page of ours by its own address. */
static struct dma_target page(struct dma_space *s, struct made_up *m, unsigned i)
{
	return (struct dma_target){.space = s,
				   .iova = iova(m->pages.pa.v + i * PAGE_SIZE),
				   .pa = gpa(m->pages.pa.v + i * PAGE_SIZE),
				   .va = (uint8_t *)m->pages.va + i * PAGE_SIZE,
				   .size = PAGE_SIZE};
}

static void expect_blocked(struct dma_space *s, struct made_up *m, unsigned i, size_t len, const char *what)
{
	struct dma_target g = page(s, m, i);

	dma_target_fill(&g, 1600 + i);
	dma_faults_clear(s);
	dma_try(s, DMA_WRITE, g.iova, len);
	dma_expect_untouched(&g, what);
	dma_expect_fault(s, DMA_WRITE, g.iova, len, IOMMU_FAULT_NOT_PRESENT, what);
	dma_faults_clear(s);
}

/* What firmware itself reserves for the device stands in its domain; counted. */
static unsigned check_real(struct dma_space *s)
{
	unsigned n = 0;

	for (uint32_t i = 0; acpi.has_dmar && i < acpi.dmar.rmrr_count; i++) {
		const uint64_t ends[2] = {acpi.dmar.rmrr[i].base, acpi.dmar.rmrr[i].limit};

		if (!dmar_reserved_for(&acpi.dmar, i, s->ex->rid))
			continue;
		for (unsigned k = 0; k < 2; k++) {
			struct iommu_leaf leaf = {.size = 0};

			EXPECT_MSG(s->t, s->iommu->ops->lookup(&s->domain, iova(ends[k]), &leaf) == 0 && leaf.pa.v == ends[k],
				   "%s: RMRR at %llx: got pa %llx in its domain, expected the same", s->name,
				   (unsigned long long)ends[k], (unsigned long long)leaf.pa.v);
		}
		n++;
	}
	return n;
}

/*
 * Memory that firmware reserves for a device is in the device's domain, at its own address, and in no other.
 *
 * VT-d 3.16, 8.4 (RMRR); AMD 48882, 5.2.3 (IVMD, unity): a device that firmware has set going, a graphics
 * adapter or a USB controller, goes on reading there when translation comes on, and stops the machine if it
 * is blocked. Machines for CI have no such memory, so that a page of ours is put into our copy of the table,
 * for one device after the other: it reaches that page and not the next; and not that page once it is gone.
 */
TEST(iommu, unity, "memory that firmware reserves for a device is mapped one to one in its domain",
     NEED_IOMMU_TRANSLATION)
{
	struct made_up *m = test_alloc(t, sizeof(*m));
	unsigned devices = 0, real = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t len = dma_len(ex, 512);
		struct dma_space *s;
		struct dma_target g;

		m->pages = (struct dma_buf){.va = NULL};
		if (!dma_alloc(&m->pages, 2 * PAGE_SIZE, PAGE_SIZE, PHYS_BELOW_4G))
			test_error(t, "no memory");
		if (!reserve(m, ex, iommu_of(ex->dev))) {
			dma_free(&m->pages);
			continue;
		}
		test_cleanup(t, take_back, m);
		s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!s)
			test_error(t, PRIRID " %s: %s", RIDARG(ex->dev->rid), ex->ops->name, why);
		real += check_real(s);
		g = page(s, m, 0);
		dma_target_fill(&g, 1600);
		REQUIRE_OK(t, dma_load(s, 98, len));
		EXPECT_OK(t, dma_write(&g, 0, len));
		dma_expect_written(&g, 0, len, "reserved for it");
		dma_expect_no_fault(s, "reserved for it");
		expect_blocked(s, m, 1, len, "beside what is reserved");
		dma_space_close(s);

		take_back(m);
		s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!s)
			test_error(t, PRIRID " %s: %s", RIDARG(ex->dev->rid), ex->ops->name, why);
		expect_blocked(s, m, 0, len, "not reserved any more");
		dma_space_close(s);
		dma_free(&m->pages);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test behind a unit whose firmware table reserves memory (DMAR RMRR, IVRS IVMD)");
	test_note(t, "reserved by the firmware of this machine for devices under test: %u", real - MIN(real, devices));
}
