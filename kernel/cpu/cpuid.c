/* SPDX-License-Identifier: MIT */
#include "kernel/cpu/cpu.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/string.h"

struct cpu_features cpu_features;

static const struct { char sign[13]; enum accel accel; } hypervisors[] = {
	{"TCGTCGTCGTCG", ACCEL_TCG}, {"KVMKVMKVM", ACCEL_KVM}, {"Linux KVM Hv", ACCEL_KVM},
	{"Microsoft Hv", ACCEL_HYPERV}, {"VMwareVMware", ACCEL_VMWARE}, {"XenVMMXenVMM", ACCEL_XEN},
	{"bhyve bhyve ", ACCEL_BHYVE},
};

const char *accel_name(enum accel a)
{
	static const char *const names[] = {"unknown", "tcg", "kvm", "hyperv", "vmware", "xen", "bhyve", "bare"};

	return (unsigned)a < ARRAY_SIZE(names) ? names[a] : "unknown";
}

static void words(char *out, uint32_t a, uint32_t b, uint32_t c)
{
	memcpy(out, &a, 4);
	memcpy(out + 4, &b, 4);
	memcpy(out + 8, &c, 4);
	out[12] = 0;
}

/* Leaves as SDM vol. 2 (CPUID) and, from 0x40000000 on, as the hypervisors document theirs. */
void cpuid_init(void)
{
	struct cpu_features *f = &cpu_features;
	struct cpuid r = cpuid(0, 0);

	f->max_leaf = r.eax;
	words(f->vendor, r.ebx, r.edx, r.ecx);
	r = cpuid(1, 0);
	f->x2apic = r.ecx & BIT(21);
	f->tsc_deadline = r.ecx & BIT(24);
	f->accel = ACCEL_BARE;
	if (r.ecx & BIT(31)) {
		/* KVM may offer another's leaves first (Hyper-V's) and its own at 0x40000100 */
		f->accel = ACCEL_UNKNOWN;
		for (uint32_t base = 0x40000000; base <= 0x40000100; base += 0x100) {
			char sign[13];

			r = cpuid(base, 0);
			words(sign, r.ebx, r.ecx, r.edx);
			for (unsigned i = 0; i < ARRAY_SIZE(hypervisors); i++) {
				if (strcmp(sign, hypervisors[i].sign))
					continue;
				f->accel = hypervisors[i].accel;
				memcpy(f->hypervisor, sign, sizeof(sign));
				f->max_hv_leaf = MAX(r.eax, base);
				if (f->accel == ACCEL_KVM) {
					f->kvm_features = cpuid(base + 1, 0).eax;
					f->kvm_ext_dest_id = f->kvm_features & BIT(15);
				}
			}
			if (base == 0x40000000 && !f->hypervisor[0])
				memcpy(f->hypervisor, sign, sizeof(sign));
		}
	}
	if (f->max_leaf >= 6)
		f->arat = cpuid(6, 0).eax & BIT(2);
	if (f->max_leaf >= 7) {
		r = cpuid(7, 0);
		f->smep = r.ebx & BIT(7);
		f->smap = r.ebx & BIT(20);
	}
	f->max_ext_leaf = cpuid(0x80000000, 0).eax;
	r = cpuid(0x80000001, 0);
	f->nx = r.edx & BIT(20);
	f->gib_pages = r.edx & BIT(26);
	f->rdtscp = r.edx & BIT(27);
	if (f->max_ext_leaf >= 0x80000004)
		for (uint32_t i = 0; i < 3; i++) {
			r = cpuid(0x80000002 + i, 0);
			memcpy(f->brand + 16 * i, &r, 16);
		}
	f->brand[48] = 0;
	for (size_t n = strlen(f->brand); n && f->brand[n - 1] == ' '; n--)
		f->brand[n - 1] = 0;
	if (f->max_ext_leaf >= 0x80000007)
		f->tsc_invariant = cpuid(0x80000007, 0).edx & BIT(8);
	f->phys_bits = f->max_ext_leaf >= 0x80000008 ? cpuid(0x80000008, 0).eax & 0xff : 36;
}
