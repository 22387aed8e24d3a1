// SPDX-License-Identifier: GPL-2.0
/*
 * How long the kernel's own DMA API takes to map and unmap a page for a device: what plumb's dma.map_cost
 * is to be compared with. Loaded in the Linux guest of `plumb bench`; says its figures and refuses to stay.
 */
#include <linux/dma-mapping.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/sort.h>

#define SAMPLES 400
#define CYCLES  64

static char *dev = "";
module_param(dev, charp, 0);

static int by_value(const void *a, const void *b)
{
	const u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static int __init map_rate_init(void)
{
	struct pci_dev *pdev = NULL;
	u64 *ns = kcalloc(SAMPLES, sizeof(*ns), GFP_KERNEL);
	struct page *page = alloc_page(GFP_KERNEL);
	unsigned int i, k;

	for_each_pci_dev(pdev)
		if (!strcmp(pci_name(pdev), dev))
			break;
	if (!pdev || !ns || !page) {
		pr_err("map_rate: no device %s, or no memory\n", dev);
		goto out;
	}
	for (i = 0; i < SAMPLES; i++) {
		const u64 t0 = ktime_get_ns();

		for (k = 0; k < CYCLES; k++) {
			const dma_addr_t at = dma_map_page(&pdev->dev, page, 0, PAGE_SIZE, DMA_BIDIRECTIONAL);

			if (dma_mapping_error(&pdev->dev, at)) {
				pr_err("map_rate: %s cannot be mapped for\n", dev);
				goto out;
			}
			dma_unmap_page(&pdev->dev, at, PAGE_SIZE, DMA_BIDIRECTIONAL);
		}
		ns[i] = div_u64(ktime_get_ns() - t0, CYCLES);
		cond_resched();
	}
	sort(ns, SAMPLES, sizeof(*ns), by_value, NULL);
	pr_info("map_rate: dev=%s n=%u min=%llu p50=%llu p90=%llu p99=%llu max=%llu\n", dev, SAMPLES, ns[0],
		ns[SAMPLES / 2 - 1], ns[SAMPLES * 9 / 10 - 1], ns[SAMPLES * 99 / 100 - 1], ns[SAMPLES - 1]);
out:
	pci_dev_put(pdev);
	if (page)
		__free_page(page);
	kfree(ns);
	return -ENODEV;                  /* its work is done: nothing stays loaded */
}
module_init(map_rate_init);
MODULE_DESCRIPTION("DMA API map and unmap, timed");
MODULE_LICENSE("GPL");
