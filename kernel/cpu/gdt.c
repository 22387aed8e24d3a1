/* SPDX-License-Identifier: MIT */
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/msr.h"
#include "kernel/cpu/trap.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/string.h"
#include "kernel/log/log.h"
#include "kernel/mm/mm.h"

/*
 * A GDT, a TSS and a %gs base for each CPU; SDM vol. 3, 3.4.5, 8.7. The TSS is there for its
 * interrupt stack table alone: NMI, #DF and #MC must not use the stack that may be the trouble.
 */
#define SEL_CODE 0x08
#define SEL_DATA 0x10
#define SEL_TSS  0x18
#define TSS_IST1 36                      /* offset of IST1 in the 64-bit TSS */
#define IST_SIZE 16384

struct descriptor_ptr { uint16_t limit; uint64_t base; } __attribute__((packed));

static void gdt_fill(struct cpu *c)
{
	const uint64_t tss = (uint64_t)(uintptr_t)c->tss, limit = sizeof(c->tss) - 1;

	c->gdt[0] = 0;
	c->gdt[SEL_CODE / 8] = 0x00af9b000000ffff;
	c->gdt[SEL_DATA / 8] = 0x00cf93000000ffff;
	c->gdt[SEL_TSS / 8] = limit | (tss & 0xffffff) << 16 | 0x89ull << 40 | (tss >> 24 & 0xff) << 56;
	c->gdt[SEL_TSS / 8 + 1] = tss >> 32;
	c->tss[102] = sizeof(c->tss);    /* I/O map base beyond the limit: none */
}

void cpu_load(struct cpu *c)
{
	const struct descriptor_ptr p = {sizeof(c->gdt) - 1, (uint64_t)(uintptr_t)c->gdt};

	gdt_fill(c);
	__asm__ volatile("lgdt %0" : : "m"(p));
	__asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%ss" : : "r"(SEL_DATA));
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
	wrmsr(MSR_GS_BASE, (uint64_t)(uintptr_t)c);
	idt_load();
}

void cpu_alloc_ist(struct cpu *c)
{
	for (unsigned i = 0; i < 3; i++) {
		const uint64_t top = (uint64_t)(uintptr_t)stack_alloc(IST_SIZE);

		if (!top)
			panic("no memory for the interrupt stacks of CPU %u", c->index);
		memcpy(c->tss + TSS_IST1 + 8 * i, &top, 8);
	}
}

void cpu_init_boot(void)
{
	static struct cpu boot_cpu;
	static uint32_t counts[256];
	static uint64_t tscs[256];

	boot_cpu.self = &boot_cpu;
	boot_cpu.online = true;
	boot_cpu.irq_counts = counts;
	boot_cpu.irq_tsc = tscs;
	cpus[0] = &boot_cpu;
	cpu_load(&boot_cpu);
}
