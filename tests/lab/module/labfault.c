/* SPDX-License-Identifier: MIT */
/*
 * Takes a part of a device's IOMMU domain away from under its owner, and gives it back when unloaded:
 *
 *	insmod labfault.ko device=0000:00:04.0 size=16777216
 *
 * For the lab alone: a host that loses mappings of a device that a guest uses.
 */
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/vmalloc.h>

static char *device;
module_param(device, charp, 0);
static ulong size = 16 << 20;
module_param(size, ulong, 0);

static struct pci_dev *dev;
static struct iommu_domain *domain;
static phys_addr_t *was;

static int __init labfault_init(void)
{
	unsigned int seg, bus, slot, fn;
	size_t gone;

	if (!device || sscanf(device, "%x:%x:%x.%x", &seg, &bus, &slot, &fn) != 4)
		return -EINVAL;
	dev = pci_get_domain_bus_and_slot(seg, bus, PCI_DEVFN(slot, fn));
	if (!dev)
		return -ENODEV;
	domain = iommu_get_domain_for_dev(&dev->dev);
	was = domain ? vcalloc(size / PAGE_SIZE, sizeof(*was)) : NULL;
	if (!was) {
		pci_dev_put(dev);
		return -ENOMEM;
	}
	for (ulong at = 0; at < size; at += PAGE_SIZE)
		was[at / PAGE_SIZE] = iommu_iova_to_phys(domain, at);
	gone = iommu_unmap(domain, 0, size);
	pci_info(dev, "labfault: %zu bytes of its IOMMU domain taken away\n", gone);
	return 0;
}

static void __exit labfault_exit(void)
{
	ulong back = 0;

	for (ulong at = 0; at < size; at += PAGE_SIZE)
		if (was[at / PAGE_SIZE] && !iommu_map(domain, at, was[at / PAGE_SIZE], PAGE_SIZE,
						      IOMMU_READ | IOMMU_WRITE, GFP_KERNEL))
			back += PAGE_SIZE;
	pci_info(dev, "labfault: %lu bytes given back\n", back);
	vfree(was);
	pci_dev_put(dev);
}

module_init(labfault_init);
module_exit(labfault_exit);
MODULE_DESCRIPTION("plumb's lab: an IOMMU domain torn down");
MODULE_LICENSE("Dual MIT/GPL");
