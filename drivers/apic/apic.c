/* SPDX-License-Identifier: MIT */
#include "drivers/apic/apic.h"

#include "drivers/apic/pic.h"
#include "drivers/iommu/iommu.h"
#include "kernel/acpi/acpi.h"
#include "kernel/irq/irq.h"
#include "kernel/lib/bits.h"
#include "kernel/log/log.h"
#include "kernel/mm/mm.h"

/*
 * The local APIC in both its shapes: registers by MMIO (xAPIC, SDM vol. 3, 11.4) or by MSR (x2APIC,
 * 11.12). Every CPU runs in the same one.
 */
#define SVR_ENABLE    BIT(8)
#define LVT_MASKED    BIT(16)
#define DFR_FLAT      0xffffffffu
#define DFR_CLUSTER   0x0fffffffu
#define XAPIC_ID_MAX  254                /* 255 is broadcast */

enum apic_mode apic_mode = APIC_XAPIC;
struct apic_policy apic_policy;
static volatile uint8_t *mmio;
static bool flat = true;                 /* xAPIC logical destinations: flat or cluster */

uint32_t apic_read(enum apic_reg reg)
{
	return apic_mode == APIC_X2APIC ? (uint32_t)rdmsr(MSR_X2APIC((uint32_t)reg)) : mmio_r32(mmio + reg * 16);
}

void apic_write(enum apic_reg reg, uint32_t v)
{
	if (apic_mode == APIC_X2APIC)
		wrmsr(MSR_X2APIC((uint32_t)reg), v);
	else
		mmio_w32(mmio + reg * 16, v);
}

uint32_t apic_id(void)
{
	const uint32_t id = apic_read(APIC_ID);

	return apic_mode == APIC_X2APIC ? id : id >> 24;
}

uint32_t apic_ldr(void)
{
	const uint32_t ldr = apic_read(APIC_LDR);

	return apic_mode == APIC_X2APIC ? ldr : ldr >> 24;
}

static bool bitmap_bit(enum apic_reg first, int vector)
{
	return apic_read((enum apic_reg)((unsigned)first + (unsigned)vector / 32)) >> (vector % 32) & 1;
}

bool apic_irr(int vector) { return bitmap_bit(APIC_IRR0, vector); }
bool apic_isr(int vector) { return bitmap_bit(APIC_ISR0, vector); }
void apic_eoi(void) { apic_write(APIC_EOI, 0); }

/* 8 bits: flat gives each of 8 CPUs one; cluster 15 groups of 4 (SDM vol. 3, 11.6.2.2). */
static uint32_t xapic_logical(uint32_t id)
{
	if (flat)
		return id < 8 ? 1u << id : 0;
	return id < 60 ? (id / 4) << 4 | 1u << (id % 4) : 0;
}

uint32_t apic_logical_id(unsigned cpu)
{
	const uint32_t id = cpus[cpu]->apic_id;

	return apic_mode == APIC_X2APIC ? x2apic_ldr(id) : xapic_logical(id);
}

/* From the state after reset or after firmware to one we know: nothing pending but what was, all LVTs masked. */
static void registers_init(void)
{
	if (apic_mode == APIC_XAPIC) {
		apic_write(APIC_DFR, flat ? DFR_FLAT : DFR_CLUSTER);
		apic_write(APIC_LDR, xapic_logical(apic_id()) << 24);
	}
	apic_write(APIC_SVR, SVR_ENABLE | VEC_SPURIOUS);
	apic_write(APIC_TPR, 0);
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	apic_write(APIC_LVT_LINT0, LVT_MASKED); /* pve-qemu leaves ExtINT here */
	apic_write(APIC_LVT_LINT1, LVT_MASKED);
	apic_write(APIC_LVT_ERROR, LVT_MASKED);
	apic_write(APIC_ESR, 0);
}

static void mode_enter(void)
{
	uint64_t base = rdmsr(MSR_APIC_BASE);

	/* disabled -> xAPIC -> x2APIC are the legal steps up (SDM vol. 3, figure 11-27) */
	if (!(base & APIC_BASE_EN)) {
		base |= APIC_BASE_EN;
		wrmsr(MSR_APIC_BASE, base);
	}
	if (apic_mode == APIC_X2APIC && !(base & APIC_BASE_EXTD))
		wrmsr(MSR_APIC_BASE, base | APIC_BASE_EXTD);
	if (apic_mode == APIC_XAPIC && (base & APIC_BASE_EXTD)) {
		wrmsr(MSR_APIC_BASE, base & ~(APIC_BASE_EXTD | APIC_BASE_EN)); /* the only way back: through off */
		wrmsr(MSR_APIC_BASE, (base & ~APIC_BASE_EXTD) | APIC_BASE_EN);
	}
}

void apic_init_ap(void)
{
	mode_enter();
	registers_init();
}

void apic_init_boot(void)
{
	uint32_t max_id = 0;

	pic_disable();
	for (unsigned i = 0; acpi.has_madt && i < acpi.madt.cpu_count; i++)
		if (acpi.madt.cpu[i].enabled)
			max_id = MAX(max_id, acpi.madt.cpu[i].apic_id);
	/*
	 * The firmware may ask to stay out of x2APIC (DMAR X2APIC_OPT_OUT, VT-d 8.1); with IDs that only
	 * x2APIC can name there is no choice left.
	 */
	if (cpu_features.x2apic && !(acpi.has_dmar && acpi.dmar.x2apic_opt_out && max_id <= XAPIC_ID_MAX))
		apic_mode = APIC_X2APIC;
	flat = max_id < 8;
	if (apic_mode == APIC_XAPIC) {
		mmio = mmio_map(gpa(rdmsr(MSR_APIC_BASE) & GENMASK64(51, 12)), PAGE_SIZE);
		if (!mmio)
			panic("cannot map the local APIC");
	}
	irq_set_eoi(apic_eoi);
	apic_init_ap();
}

void apic_decide_policy(void)
{
	const bool opt_out = acpi.has_dmar && acpi.dmar.x2apic_opt_out;
	struct apic_policy *p = &apic_policy;
	bool remapping = iommu_count > 0, eim = iommu_count > 0;

	/* One unit without it is enough: a device behind that one could not be reached. */
	for (unsigned i = 0; i < iommu_count; i++) {
		remapping &= iommus[i].caps.interrupt_remapping && !iommus[i].broken;
		eim &= iommus[i].caps.eim;
	}

	p->x2apic = apic_mode == APIC_X2APIC;
	p->cluster = p->x2apic && remapping && eim;
	if (!p->x2apic) {
		p->why = opt_out && cpu_features.x2apic ? "xAPIC: the firmware asks for it (DMAR X2APIC_OPT_OUT)" :
				   "xAPIC: the CPU has no x2APIC (CPUID 1 ECX.21=0)";
		msg_set_reach(MSG_XAPIC);
		return;
	}
	if (p->cluster)
		p->why = "x2APIC, cluster destinations: interrupt remapping carries 32-bit destinations";
	else if (remapping)
		p->why = "x2APIC, physical destinations: interrupt remapping without EIM or XT carries 8 bits";
	else if (cpu_features.kvm_ext_dest_id)
		p->why = "x2APIC, physical destinations: no interrupt remapping; KVM offers 15-bit IDs";
	else
		p->why = "x2APIC, physical destinations: no interrupt remapping, so 8-bit IDs";
	msg_set_reach(cpu_features.kvm_ext_dest_id ? MSG_X2APIC_EXT : MSG_X2APIC);
}

/* ---- what starting CPUs needs ---- */
static bool can_reach(uint32_t id) { return apic_mode == APIC_X2APIC || id <= XAPIC_ID_MAX; }
static void wake(unsigned cpu) { ipi_vector(cpu, VEC_IPI_CALL); }

const struct smp_ops apic_smp_ops = {
	.id = apic_id,
	.init_ap = apic_init_ap,
	.can_reach = can_reach,
	.init_ipi = ipi_init,
	.startup_ipi = ipi_startup,
	.wake = wake,
};
