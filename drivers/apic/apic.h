/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "drivers/apic/policy.h"
#include "kernel/cpu/cpu.h"
#include "kernel/irq/msg.h"

/* MSRs and x2APIC registers (SDM vol. 3, 11.12). xAPIC offset = (msr - 0x800) * 16. */
#define MSR_APIC_BASE        0x1b
#define APIC_BASE_BSP        BIT64(8)
#define APIC_BASE_EXTD       BIT64(10)
#define APIC_BASE_EN         BIT64(11)
#define MSR_X2APIC(reg)      (0x800u + (reg))
enum apic_reg { APIC_ID = 0x02, APIC_VERSION = 0x03, APIC_TPR = 0x08, APIC_PPR = 0x0a, APIC_EOI = 0x0b,
		APIC_LDR = 0x0d, APIC_DFR = 0x0e, APIC_SVR = 0x0f, APIC_ISR0 = 0x10, APIC_TMR0 = 0x18,
		APIC_IRR0 = 0x20, APIC_ESR = 0x28, APIC_LVT_CMCI = 0x2f, APIC_ICR = 0x30, APIC_ICR_HI = 0x31,
		APIC_LVT_TIMER = 0x32, APIC_LVT_THERMAL = 0x33, APIC_LVT_PMC = 0x34, APIC_LVT_LINT0 = 0x35,
		APIC_LVT_LINT1 = 0x36, APIC_LVT_ERROR = 0x37, APIC_TIMER_INIT = 0x38, APIC_TIMER_CUR = 0x39,
		APIC_TIMER_DIV = 0x3e, APIC_SELF_IPI = 0x3f };

enum apic_mode { APIC_XAPIC, APIC_X2APIC };
extern enum apic_mode apic_mode;         /* of every CPU */
extern struct apic_policy apic_policy;   /* of this machine, from these: */
extern struct apic_facts apic_facts;

/* Before memory and SMP: masks the 8259, brings the boot CPU's APIC to x2APIC where it can be. */
void apic_init_boot(void);
void apic_init_ap(void);                 /* the same mode on an AP, from the AP itself */
/*
 * All CPUs into another mode and, in xAPIC mode, another logical model (SDM vol. 3, 11.6.2.2); for tests, which
 * go back. Whatever is pending is lost. Boot CPU only, the others idle. -EBUSY, -ETIMEDOUT, -EFAULT as
 * cpu_start() and cpu_wait(); -EOPNOTSUPP: a CPU has an ID that xAPIC mode cannot have; -ENOMEM.
 */
enum apic_model { APIC_FLAT, APIC_CLUSTER };
int apic_switch(enum apic_mode, enum apic_model);
enum apic_model apic_xapic_model(void);
extern const struct smp_ops apic_smp_ops; /* for smp_init() */
/* Once ACPI, SMP and the IOMMUs are known. */
void apic_decide_policy(void);

uint32_t apic_read(enum apic_reg);
void apic_write(enum apic_reg, uint32_t);
uint32_t apic_id(void);                  /* this CPU's, from the APIC itself */
uint32_t apic_ldr(void);
bool apic_irr(int vector);
bool apic_isr(int vector);
void apic_eoi(void);

/* ---- IPIs (ipi.c) ---- */
enum ipi_shorthand { IPI_DEST = 0, IPI_SELF = 1, IPI_ALL = 2, IPI_OTHERS = 3 };
void ipi_send(const struct irq_route *, enum ipi_shorthand);
/*
 * KVM's hypercall that sends to many at once: APIC IDs first_id + n for each bit n of ids. How many CPUs it was
 * delivered to, as KVM says; -EOPNOTSUPP: refused; -EFAULT: the instruction is an exception here.
 */
bool ipi_pv_offered(void);
int ipi_send_pv(uint32_t first_id, const uint64_t ids[2], uint8_t vector);
void ipi_init(uint32_t apic_id);
void ipi_startup(uint32_t apic_id, uint8_t page);
static inline void ipi_vector(unsigned cpu, uint8_t vector)
{
	ipi_send(&(struct irq_route){.dest = cpus[cpu]->apic_id, .vector = vector}, IPI_DEST);
}
/* Logical ID of a CPU in the mode we run: x2APIC LDR, or the xAPIC flat/cluster bit given to it (0: none left). */
uint32_t apic_logical_id(unsigned cpu);
/* Does a logical destination name the CPU that has this logical ID? The broadcast aside. */
bool apic_logical_match(uint32_t dest, uint32_t logical_id);
/* Are two logical IDs of one cluster, so that one destination can name both? Not of 0. */
bool apic_logical_group(uint32_t a, uint32_t b);

/* ---- I/O APICs (ioapic.c) ---- */
struct ioapic { uint8_t id, version; uint32_t gsi_base; unsigned pins; volatile void *regs; };
extern struct ioapic ioapics[16];
extern unsigned ioapic_count;
void ioapic_init(void);                  /* from the MADT; masks every pin */
uint32_t ioapic_read(struct ioapic *, uint8_t reg);
void ioapic_write(struct ioapic *, uint8_t reg, uint32_t v);
uint64_t ioapic_rte_read(struct ioapic *, unsigned pin);
void ioapic_rte_write(struct ioapic *, unsigned pin, uint64_t rte);
/* Directed EOI, from version 20h on: the levels of this I/O APIC with that vector are at an end. */
bool ioapic_has_eoi(const struct ioapic *);
void ioapic_eoi(struct ioapic *, uint8_t vector);
/* The pin of a global system interrupt; NULL: none. */
struct ioapic *ioapic_of_gsi(uint32_t gsi, unsigned *pin);
/* ISA IRQ to GSI through the MADT's overrides; trigger and polarity in *route. */
uint32_t ioapic_isa_gsi(unsigned irq, struct irq_route *route);
