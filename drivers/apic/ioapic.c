/* SPDX-License-Identifier: MIT */
#include "drivers/apic/apic.h"
#include "kernel/acpi/acpi.h"
#include "kernel/lib/bits.h"
#include "kernel/mm/mm.h"
#include "kernel/lib/sabotage.h"

/* 82093AA data sheet: an index register and a window; two words a redirection entry. */
#define IOREGSEL 0x00
#define IOWIN    0x10
#define IOEOI    0x40                    /* ICH9 13.5.5: not through the window */
#define IOAPICVER 0x01
#define IOAPICVER_EOI 0x20
#define IOREDTBL(pin) ((uint8_t)(0x10 + 2 * (pin)))
#define RTE_MASKED BIT64(16)

struct ioapic ioapics[16];
unsigned ioapic_count;

uint32_t ioapic_read(struct ioapic *io, uint8_t reg)
{
	mmio_w32((volatile uint8_t *)io->regs + IOREGSEL, reg);
	return mmio_r32((volatile uint8_t *)io->regs + IOWIN);
}

void ioapic_write(struct ioapic *io, uint8_t reg, uint32_t v)
{
	mmio_w32((volatile uint8_t *)io->regs + IOREGSEL, reg);
	mmio_w32((volatile uint8_t *)io->regs + IOWIN, v);
}

uint64_t ioapic_rte_read(struct ioapic *io, unsigned pin)
{
	const uint32_t lo = ioapic_read(io, IOREDTBL(pin));

	return (uint64_t)ioapic_read(io, (uint8_t)(IOREDTBL(pin) + 1)) << 32 | lo;
}

/* Masked while half of it is new: a pin that fires in between must not see a mixture. */
void ioapic_rte_write(struct ioapic *io, unsigned pin, uint64_t rte)
{
	ioapic_write(io, IOREDTBL(pin), ioapic_read(io, IOREDTBL(pin)) | (uint32_t)RTE_MASKED);
	ioapic_write(io, (uint8_t)(IOREDTBL(pin) + 1), (uint32_t)(rte >> 32));
	ioapic_write(io, IOREDTBL(pin), (uint32_t)rte);
}

bool ioapic_has_eoi(const struct ioapic *io) { return io->version >= IOAPICVER_EOI; }

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
	if (ioapic_has_eoi(io) && !SABOTAGE(ioapic_eoi_lost))
		mmio_w32((volatile uint8_t *)io->regs + IOEOI, vector);
}

void ioapic_init(void)
{
	if (!acpi.has_madt)
		return;
	for (unsigned i = 0; i < acpi.madt.ioapic_count && ioapic_count < ARRAY_SIZE(ioapics); i++) {
		struct ioapic *io = &ioapics[ioapic_count];
		uint32_t version;

		io->id = acpi.madt.ioapic[i].id;
		io->gsi_base = acpi.madt.ioapic[i].gsi_base;
		io->regs = mmio_map(gpa(acpi.madt.ioapic[i].addr), PAGE_SIZE);
		if (!io->regs)
			continue;
		version = ioapic_read(io, IOAPICVER);
		if (version == UINT32_MAX)
			continue;        /* the MADT names one that is not there */
		io->version = (uint8_t)version;
		io->pins = MIN((version >> 16 & 0xff) + 1, 240u);
		ioapic_count++;
		for (unsigned pin = 0; pin < io->pins; pin++)
			ioapic_rte_write(io, pin, RTE_MASKED);
	}
}

struct ioapic *ioapic_of_gsi(uint32_t gsi, unsigned *pin)
{
	for (unsigned i = 0; i < ioapic_count; i++) {
		if (gsi >= ioapics[i].gsi_base && gsi - ioapics[i].gsi_base < ioapics[i].pins) {
			*pin = gsi - ioapics[i].gsi_base;
			return &ioapics[i];
		}
	}
	return NULL;
}

/* Polarity and trigger of an override: ACPI 6.5, 5.2.12.5 (MPS INTI flags); ISA's own is high, edge. */
uint32_t ioapic_isa_gsi(unsigned irq, struct irq_route *route)
{
	route->level = route->active_low = false;
	for (unsigned i = 0; acpi.has_madt && i < acpi.madt.iso_count; i++) {
		if (acpi.madt.iso[i].irq != irq)
			continue;
		route->active_low = (acpi.madt.iso[i].flags & 3) == 3;
		route->level = (acpi.madt.iso[i].flags >> 2 & 3) == 3;
		return acpi.madt.iso[i].gsi;
	}
	return irq;
}
