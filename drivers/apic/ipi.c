/* SPDX-License-Identifier: MIT */
#include "drivers/apic/apic.h"

#include "kernel/irq/irq.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"
#include "kernel/time/time.h"

/* Interrupt command register: SDM vol. 3, 11.6.1 (xAPIC), 11.12.9 (x2APIC). */
#define ICR_VECTOR GENMASK(7, 0)
#define ICR_DELIVERY GENMASK(10, 8)
#define ICR_ASSERT    BIT(14)
#define ICR_LEVEL     BIT(15)
#define ICR_PENDING   BIT(12)
#define ICR_SHORTHAND GENMASK(19, 18)

/* Of those that tests send: what starts and wakes CPUs is left alone. */
static bool sabotaged(uint32_t command, uint32_t *new_command, uint32_t *dest)
{
	const bool fixed = !(command & ICR_DELIVERY), test = (command & ICR_VECTOR) <= IRQ_VECTOR_LAST;
	static uint32_t sent;

	*new_command = command;
	if ((command & ICR_DELIVERY) == FIELD_PREP(ICR_DELIVERY, (uint32_t)IRQ_NMI))
		return SABOTAGE(nmi_lost) && ++sent % 8 == 0;
	if (SABOTAGE(ipi_lowest_as_fixed) &&
	    (command & ICR_DELIVERY) == FIELD_PREP(ICR_DELIVERY, (uint32_t)IRQ_LOWEST))
		*new_command &= ~ICR_DELIVERY;
	if (!fixed || !test)
		return false;
	if (!(command & ICR_SHORTHAND)) {
		*dest ^= SABOTAGE(ipi_wrong_cpu);
		if (SABOTAGE(ipi_cut_id) && *dest != UINT32_MAX)
			*dest &= 0xff;
	}
	*new_command ^= SABOTAGE(ipi_wrong_vector);
	return SABOTAGE(ipi_lost) && __atomic_add_fetch(&sent, 1, __ATOMIC_SEQ_CST) % 256 == 0;
}

static void icr(uint32_t command, uint32_t dest)
{
	const bool twice =
		SABOTAGE(ipi_twice) && !(command & ICR_DELIVERY) && (command & ICR_VECTOR) <= IRQ_VECTOR_LAST;

	if (sabotaged(command, &command, &dest))
		return;
	if (apic_mode == APIC_X2APIC) {
		/* WRMSR to the ICR does not order earlier stores (11.12.3); the receiver reads what we wrote */
		__asm__ volatile("mfence; lfence" : : : "memory");
		wrmsr(MSR_X2APIC(APIC_ICR), (uint64_t)dest << 32 | command);
		if (twice)
			wrmsr(MSR_X2APIC(APIC_ICR), (uint64_t)dest << 32 | command);
		return;
	}
	/* Two writes, and a handler that sends in between would change the first: its IPI's target gets ours.
	 */
	const bool enabled = irq_enabled();

	if (!SABOTAGE(xapic_icr_torn))
		irq_disable();
	WAIT_FOR(!(apic_read(APIC_ICR) & ICR_PENDING), MS(100));
	apic_write(APIC_ICR_HI, dest << 24);
	apic_write(APIC_ICR, command);
	if (enabled)
		irq_enable();
}

void ipi_send(const struct irq_route *r, enum ipi_shorthand shorthand)
{
	icr(msg_icr_command(r) | FIELD_PREP(ICR_SHORTHAND, (uint32_t)shorthand), shorthand ? 0 : r->dest);
}

/* ---- paravirtual: Linux, Documentation/virt/kvm/x86/hypercalls.rst, KVM_HC_SEND_IPI ---- */
#define KVM_FEATURE_PV_SEND_IPI BIT(11)
#define KVM_HC_SEND_IPI 10

struct hypercall {
	uint64_t a[4];
	int64_t result;
};

static void hypercall(void *arg)
{
	struct hypercall *h = arg;
	const bool amd =
		!strcmp(cpu_features.vendor, "AuthenticAMD") || !strcmp(cpu_features.vendor, "HygonGenuine");
	int64_t r = KVM_HC_SEND_IPI;

	if (amd)
		__asm__ volatile("vmmcall"
				 : "+a"(r)
				 : "b"(h->a[0]), "c"(h->a[1]), "d"(h->a[2]), "S"(h->a[3])
				 : "memory");
	else
		__asm__ volatile("vmcall"
				 : "+a"(r)
				 : "b"(h->a[0]), "c"(h->a[1]), "d"(h->a[2]), "S"(h->a[3])
				 : "memory");
	h->result = r;
}

bool ipi_pv_offered(void)
{
	return cpu_features.accel == ACCEL_KVM && cpu_features.kvm_features & KVM_FEATURE_PV_SEND_IPI;
}

int ipi_send_pv(uint32_t first_id, const uint64_t ids[2], uint8_t vector)
{
	struct hypercall h = {
		.a = {ids[0], ids[1], first_id, msg_icr_command(&(struct irq_route){.vector = vector})}};
	struct trap_info info;

	/* A KVM that emulates the instruction also writes it anew into our text, which is read-only: #PF. */
	if (trap_expect(hypercall, &h, &info))
		return -EFAULT;
	return h.result < 0 ? -EOPNOTSUPP : (int)h.result;
}

void ipi_init(uint32_t id)
{
	const struct irq_route r = {.dest = id, .delivery = IRQ_INIT};

	icr(msg_icr_command(&r) | ICR_LEVEL | ICR_ASSERT, id);
}

void ipi_startup(uint32_t id, uint8_t page)
{
	icr(6u << 8 | ICR_ASSERT | page, id);
}
