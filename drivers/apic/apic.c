/* SPDX-License-Identifier: MIT */
#include "drivers/apic/apic.h"

#include "drivers/apic/pic.h"
#include "drivers/iommu/iommu.h"
#include "kernel/acpi/acpi.h"
#include "kernel/irq/irq.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/log/log.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

/*
 * The local APIC in both its shapes: registers by MMIO (xAPIC, SDM vol. 3, 11.4) or by MSR (x2APIC,
 * 11.12). Every CPU runs in the same one.
 */
#define SVR_ENABLE    BIT(8)
#define LVT_MASKED    BIT(16)
#define DFR_FLAT      0xffffffffu
#define DFR_CLUSTER 0x0fffffffu

enum apic_mode apic_mode = APIC_XAPIC;
struct apic_policy apic_policy;
struct apic_facts apic_facts;
static volatile uint8_t *mmio;
static enum apic_model model; /* of xAPIC logical destinations */

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
	if (model == APIC_FLAT)
		return id < 8 ? 1u << id : 0;
	return id < 60 ? (id / 4) << 4 | 1u << (id % 4) : 0;
}

uint32_t apic_logical_id(unsigned cpu)
{
	const uint32_t id = cpus[cpu]->apic_id;

	if (SABOTAGE(ldr_shifted))
		return x2apic_ldr(id + 1);
	return apic_mode == APIC_X2APIC ? x2apic_ldr(id) : xapic_logical(id);
}

/* Below the cluster's number: a bit a CPU. */
static unsigned member_bits(void)
{
	return apic_mode == APIC_X2APIC ? 16 : model == APIC_FLAT ? 8 : 4;
}

bool apic_logical_group(uint32_t a, uint32_t b)
{
	return a && b && a >> member_bits() == b >> member_bits();
}

bool apic_logical_match(uint32_t dest, uint32_t id)
{
	return apic_logical_group(dest, id) && (dest & id & (BIT(member_bits()) - 1));
}

/* From the state after reset or after firmware to one we know: nothing pending but what was, all LVTs masked. */
static void registers_init(void)
{
	if (apic_mode == APIC_XAPIC) {
		apic_write(APIC_DFR, model == APIC_FLAT ? DFR_FLAT : DFR_CLUSTER);
		apic_write(APIC_LDR, (xapic_logical(apic_id()) | (SABOTAGE(xapic_ldr_flat) ? 1 : 0)) << 24);
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

static bool registers_map(void)
{
	if (!mmio)
		mmio = mmio_map(gpa(rdmsr(MSR_APIC_BASE) & GENMASK64(51, 12)), PAGE_SIZE);
	return mmio;
}

void apic_init_boot(void)
{
	pic_disable();
	apic_facts = (struct apic_facts){
		.x2apic = cpu_features.x2apic,
		.opt_out = acpi.has_dmar && acpi.dmar.x2apic_opt_out,
		.ext_dest_id = cpu_features.kvm_ext_dest_id,
	};
	for (unsigned i = 0; acpi.has_madt && i < acpi.madt.cpu_count; i++)
		if (acpi.madt.cpu[i].enabled)
			apic_facts.max_id = MAX(apic_facts.max_id, acpi.madt.cpu[i].apic_id);
	/* The mode does not depend on the IOMMUs, which nobody has looked at yet. */
	apic_mode = apic_policy_of(&apic_facts).x2apic ? APIC_X2APIC : APIC_XAPIC;
	model = apic_facts.max_id < 8 ? APIC_FLAT : APIC_CLUSTER;
	if (apic_mode == APIC_XAPIC && !registers_map())
		panic("cannot map the local APIC");
	irq_set_eoi(apic_eoi);
	apic_init_ap();
}

void apic_decide_policy(void)
{
	apic_facts.units = iommu_count;
	apic_facts.remapping = apic_facts.wide = 0;
	for (unsigned i = 0; i < iommu_count; i++) {
		if (!iommus[i].caps.interrupt_remapping || iommus[i].broken)
			continue;
		apic_facts.remapping++;
		apic_facts.wide += iommus[i].caps.eim;
	}
	apic_policy = apic_policy_of(&apic_facts);
	msg_set_reach(apic_policy.reach);
}

/* ---- from one mode to another ---- */
static struct {
	volatile unsigned ready;
	volatile bool go;
} changing;

static void follow(void *arg)
{
	(void)arg;
	irq_disable();
	__atomic_add_fetch(&changing.ready, 1, __ATOMIC_SEQ_CST);
	if (WAIT_FOR(changing.go, SEC(5)))
		apic_init_ap();
	irq_enable();
}

enum apic_model apic_xapic_model(void)
{
	return model;
}

int apic_switch(enum apic_mode to, enum apic_model to_model)
{
	const unsigned others = cpu_count() - 1;
	int err = 0;

	if (to == APIC_XAPIC && cpu_max_apic_id() > XAPIC_ID_MAX)
		return -EOPNOTSUPP;
	if (to == APIC_XAPIC && !registers_map())
		return -ENOMEM;
	changing.ready = 0;
	changing.go = false;
	for (unsigned i = 1; i <= others && !err; i++)
		err = cpu_start(i, follow, NULL);
	/* No CPU may send while another is in a different mode: all stand still before the first one changes.
	 */
	if (!err && !WAIT_FOR(changing.ready == others, SEC(4)))
		err = -ETIMEDOUT;
	if (!err) {
		irq_disable();
		apic_mode = to;
		model = to_model;
		apic_init_ap();
		irq_enable();
		changing.go = true;
	}
	for (unsigned i = 1; i <= others; i++) {
		const int r = cpu_wait(i, SEC(8));

		err = err ? err : r;
	}
	return err;
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
