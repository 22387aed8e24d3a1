/* SPDX-License-Identifier: MIT */
#include "drivers/apic/policy.h"

#include "kernel/lib/sabotage.h"

/* One unit that cannot is enough: a device behind that one is not reached. */
static bool all_remap(const struct apic_facts *f)
{
	return f->remapping == f->units && (f->units || SABOTAGE(policy_no_remapping));
}

static bool all_wide(const struct apic_facts *f)
{
	return all_remap(f) && f->wide == f->units;
}

static const char *why(const struct apic_facts *f, const struct apic_policy *p)
{
	if (!p->x2apic)
		return f->x2apic ? "xAPIC: the firmware asks for it (DMAR X2APIC_OPT_OUT)"
				 : "xAPIC: the CPU has no x2APIC (CPUID 1 ECX.21=0)";
	if (p->cluster)
		return "x2APIC, cluster destinations: interrupt remapping carries 32-bit destinations";
	if (all_remap(f))
		return "x2APIC, physical destinations: interrupt remapping without EIM or XT carries 8 bits";
	if (f->remapping)
		return "x2APIC, physical destinations: not every IOMMU remaps interrupts";
	if (f->ext_dest_id)
		return "x2APIC, physical destinations: no interrupt remapping; KVM offers 15-bit IDs";
	return "x2APIC, physical destinations: no interrupt remapping, so 8-bit IDs";
}

static enum apic_lack lack(const struct apic_facts *f, const struct apic_policy *p)
{
	if (f->max_id > XAPIC_ID_MAX && !p->x2apic)
		return APIC_LACK_X2APIC;
	if (f->max_id > p->device_max)
		return all_remap(f) ? APIC_LACK_EIM : f->remapping ? APIC_LACK_SOME : APIC_LACK_REMAPPING;
	return f->max_id > XAPIC_ID_MAX && f->opt_out ? APIC_LACK_OPT_OUT : APIC_LACK_NONE;
}

struct apic_policy apic_policy_of(const struct apic_facts *f)
{
	struct apic_policy p = {.reach = MSG_XAPIC, .device_max = XAPIC_ID_MAX};

	/* The firmware's wish is granted unless there are CPUs that only x2APIC mode can name. */
	p.x2apic = f->x2apic && !(f->opt_out && f->max_id <= XAPIC_ID_MAX && !SABOTAGE(policy_no_opt_out));
	if (p.x2apic) {
		p.cluster = all_wide(f);
		p.reach = f->ext_dest_id ? MSG_X2APIC_EXT : MSG_X2APIC;
		if (f->ext_dest_id)
			p.device_max = EXT_ID_MAX;
		if (all_wide(f))
			p.device_max = UINT32_MAX - 1;
	}
	p.why = why(f, &p);
	p.lack = lack(f, &p);
	return p;
}
