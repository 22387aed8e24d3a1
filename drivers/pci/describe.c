/* SPDX-License-Identifier: MIT */

#include <stdarg.h>

#include "drivers/pci/pci.h"
#include "drivers/pci/regs.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/fmt.h"

struct line { char *buf; size_t size, used; };

static void add(struct line *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct line *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = fmt_vsnprintf(l->used < l->size ? l->buf + l->used : NULL,
			  l->used < l->size ? l->size - l->used : 0, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->used += (size_t)n;
}

/* fea00000+1000, with /io, /64, /pref after it where it is not plain 32-bit memory. */
static void add_bar(struct line *l, const char *name, const struct pci_bar *b)
{
	if (!b->size)
		return;
	add(l, " %s=", name);
	if (b->assigned)
		add(l, "%llx", (unsigned long long)b->base);
	else
		add(l, "unset");
	add(l, "+%llx%s%s%s", (unsigned long long)b->size, b->io ? "/io" : "", b->is64 ? "/64" : "",
	    b->prefetchable ? "/pref" : "");
}

int pci_describe(const struct pci_dev *d, char *buf, size_t size)
{
	static const char *const port[] = {"", "root-port", "switch-up", "switch-down", "pcie-to-pci",
					   "pci-to-pcie", "pci"};
	struct line l = {buf, size, 0};

	if (size)
		buf[0] = 0;
	if (rid_seg(d->rid))
		add(&l, "%04x:", rid_seg(d->rid));
	add(&l, PRIRID " %04x:%04x %06x rev=%02x hdr=%02x", RIDARG(d->rid), d->vendor, d->device,
	    d->class_code, d->revision, d->header_type | (d->multifunction ? PCI_HEADER_MULTI : 0));
	if (d->subvendor || d->subdevice)
		add(&l, " sub=%04x:%04x", d->subvendor, d->subdevice);
	if (d->int_pin >= 1 && d->int_pin <= 4)
		add(&l, " irq=%c", 'A' + d->int_pin - 1);
	if (d->cap_pm)
		add(&l, " pm@%02x", d->cap_pm);
	if (d->cap_msi)
		add(&l, " msi@%02x/%u", d->cap_msi,
		    1u << FIELD_GET(MSI_MMC, pci_r16(d->rid, d->cap_msi + MSI_CONTROL)));
	if (d->cap_msix)
		add(&l, " msix@%02x/%u", d->cap_msix,
		    (pci_r16(d->rid, d->cap_msix + MSIX_CONTROL) & MSIX_SIZE) + 1u);
	if (d->cap_pcie)
		add(&l, " pcie@%02x", d->cap_pcie);
	if (d->is_bridge)
		add(&l, " %s=%02x-%02x", port[d->port], d->secondary, d->subordinate);
	for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
		const char name[] = {'b', 'a', 'r', (char)('0' + i), 0};

		add_bar(&l, name, &d->bar[i]);
	}
	add_bar(&l, "rom", &d->rom);
	return (int)l.used;
}
