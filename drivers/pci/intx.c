/* SPDX-License-Identifier: MIT */

#include "drivers/pci/pci.h"

#include "kernel/acpi/acpi.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"

/*
 * PIRQ routing registers: PIIX3 4.1.10 (A to D), ICH9 13.1.18 and 13.1.20 (E to H too). Bit 7: not routed;
 * 3:0 the ISA interrupt, whose I/O APIC pin has the same number.
 */
#define PIRQ_A        0x60
#define PIRQ_E        0x68
#define PIRQ_DISABLED 0x80
#define PIRQ_IRQ      0x0f

enum { PIIX3, ICH9 };
static const struct pci_match chipsets[] = {
	[PIIX3] = {.vendor = 0x8086, .device = 0x7000, .class_code = 0, .class_mask = 0},
	[ICH9] = {.vendor = 0x8086, .device = 0x2918, .class_code = 0, .class_mask = 0},
};

static unsigned pirq(unsigned letter)
{
	return letter < 4 ? PIRQ_A + letter : PIRQ_E + letter - 4;
}

/*
 * An ICH has I/O APIC pins for its PIRQs, 16 to 23; the registers send them to the 8259s besides (13.1.18). An ACPI
 * system ends that by _DIS of the links when it takes the I/O APICs. QEMU knows one way at a time for the INTx of a
 * VFIO device: the 8259's until then (ich9_route_intx_pin_to_irq()). A PIIX has no other way: its registers stay.
 */
void pci_links_to_ioapic(void)
{
	FOR_EACH_PCI(d)
		for (unsigned letter = 0; pci_matches(d, &chipsets[ICH9]) && letter < 8; letter++)
			pci_w8(d->rid, pirq(letter), pci_r8(d->rid, pirq(letter)) | PIRQ_DISABLED);
}

/* The pin on the root bus: each bridge turns it by the device's number (PCI-to-PCI Bridge 1.2, 9.1). */
static unsigned root_pin(const struct pci_dev **d)
{
	unsigned pin = (*d)->int_pin - 1u;

	for (; (*d)->parent; *d = (*d)->parent)
		pin = (pin + rid_dev((*d)->rid)) % 4;
	return pin;
}

/* The firmware's name for a link that a register sets ends with the letter of its PIRQ, by custom. */
static int by_register(const char *link, uint32_t *gsi)
{
	const unsigned letter = (unsigned)link[3] - 'A';

	FOR_EACH_PCI(d)
		for (size_t i = 0; i < ARRAY_SIZE(chipsets); i++)
			if (pci_matches(d, &chipsets[i]) && letter < (i == ICH9 ? 8u : 4u)) {
				const uint8_t v = pci_r8(d->rid, pirq(letter));

				*gsi = v & PIRQ_IRQ;
				return v & PIRQ_DISABLED || !*gsi ? -ENXIO : 0;
			}
	return -ENODEV;
}

int pci_intx_route(const struct pci_dev *d, struct pci_intx *out)
{
	const struct acpi_table *dsdt = acpi_find("DSDT", 0);
	const struct pci_dev *root = d;
	struct prt_route r;
	unsigned pin;
	int err;

	*out = (struct pci_intx){.how = "it has no interrupt pin"};
	if (!d->int_pin || d->int_pin > 4)
		return -ENOENT;
	pin = root_pin(&root);
	out->how = "no DSDT";
	if (!dsdt)
		return -ENOENT;
	err = prt_find(dsdt->bytes, dsdt->len, d->root_bus, rid_dev(root->rid), pin, &r);
	out->how = err == -ENOENT ? "no _PRT that can be read without an AML interpreter" : "the _PRT does not name it";
	if (err)
		return err;
	out->gsi = r.gsi ^ SABOTAGE(intx_wrong_pin);
	out->active_low = !r.active_high;
	out->edge = r.edge;
	if (!r.programmable) {
		fmt_snprintf(out->text, sizeof(out->text), "_PRT, INT%c of " PRIRID "%s%s", 'A' + (int)pin,
			     RIDARG(root->rid), r.link[0] ? ", link " : "", r.link);
		return 0;
	}
	err = by_register(r.link, &out->gsi);
	out->how = err == -ENXIO ? "its link is not routed (PIRQ register, bit 7)"
				 : "its link is set by a register that plumb does not know";
	fmt_snprintf(out->text, sizeof(out->text), "_PRT, INT%c of " PRIRID ", link %s, PIRQ register",
		     'A' + (int)pin, RIDARG(root->rid), r.link);
	return err;
}
