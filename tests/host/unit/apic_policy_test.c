/* SPDX-License-Identifier: MIT */
// link: drivers/apic/policy.c

/*
 * Which APIC mode is safe, as a table: a machine a line, and what it must come to. Written from SDM vol. 3,
 * 11.11.1 and 11.12, VT-d 5.1 and 8.1 and KVM's cpuid.rst, not from policy.c.
 */
#include "drivers/apic/policy.h"
#include "tests/host/host.h"

#define ALL  (UINT32_MAX - 1)
#define XAPIC MSG_XAPIC
#define X2    MSG_X2APIC
#define EXT   MSG_X2APIC_EXT

static const struct {
	const char *machine;
	struct apic_facts facts;         /* x2apic opt_out ext units remapping wide max_id */
	bool x2apic, cluster;
	enum msg_reach reach;
	uint32_t device_max;
	enum apic_lack lack;
	const char *why;                 /* a word of the reason */
} table[] = {
	{"no x2APIC", {0, 0, 0, 0, 0, 0, 3}, 0, 0, XAPIC, 254, APIC_LACK_NONE, "ECX.21=0"},
	{"no x2APIC, remapping", {0, 0, 0, 1, 1, 1, 3}, 0, 0, XAPIC, 254, APIC_LACK_NONE, "ECX.21=0"},
	{"no x2APIC, opt-out", {0, 1, 0, 1, 1, 1, 3}, 0, 0, XAPIC, 254, APIC_LACK_NONE, "ECX.21=0"},
	{"no x2APIC, the last ID", {0, 0, 0, 0, 0, 0, 254}, 0, 0, XAPIC, 254, APIC_LACK_NONE, "ECX.21=0"},
	{"no x2APIC, ID 255", {0, 0, 0, 0, 0, 0, 255}, 0, 0, XAPIC, 254, APIC_LACK_X2APIC, "ECX.21=0"},
	{"no x2APIC, 15-bit IDs", {0, 0, 1, 0, 0, 0, 300}, 0, 0, XAPIC, 254, APIC_LACK_X2APIC, "ECX.21=0"},

	{"opt-out", {1, 1, 0, 1, 1, 1, 3}, 0, 0, XAPIC, 254, APIC_LACK_NONE, "OPT_OUT"},
	{"opt-out, the last ID", {1, 1, 0, 0, 0, 0, 254}, 0, 0, XAPIC, 254, APIC_LACK_NONE, "OPT_OUT"},
	{"opt-out, ID 255", {1, 1, 0, 1, 1, 1, 255}, 1, 1, X2, ALL, APIC_LACK_OPT_OUT, "cluster"},
	{"opt-out, ID 300, no remapping", {1, 1, 0, 0, 0, 0, 300}, 1, 0, X2, 254, APIC_LACK_REMAPPING, "8-bit"},

	{"nothing remaps", {1, 0, 0, 0, 0, 0, 3}, 1, 0, X2, 254, APIC_LACK_NONE, "8-bit IDs"},
	{"a unit that does not", {1, 0, 0, 1, 0, 0, 254}, 1, 0, X2, 254, APIC_LACK_NONE, "8-bit IDs"},
	{"nothing remaps, ID 255", {1, 0, 0, 0, 0, 0, 255}, 1, 0, X2, 254, APIC_LACK_REMAPPING, "8-bit IDs"},
	{"15-bit IDs", {1, 0, 1, 0, 0, 0, 300}, 1, 0, EXT, 0x7fff, APIC_LACK_NONE, "15-bit"},
	{"15-bit IDs, the last", {1, 0, 1, 0, 0, 0, 0x7fff}, 1, 0, EXT, 0x7fff, APIC_LACK_NONE, "15-bit"},
	{"15-bit IDs, one more", {1, 0, 1, 0, 0, 0, 0x8000}, 1, 0, EXT, 0x7fff, APIC_LACK_REMAPPING, "15-bit"},

	{"EIM", {1, 0, 0, 1, 1, 1, 3}, 1, 1, X2, ALL, APIC_LACK_NONE, "cluster destinations"},
	{"EIM, wide", {1, 0, 0, 1, 1, 1, 70000}, 1, 1, X2, ALL, APIC_LACK_NONE, "cluster destinations"},
	{"EIM and 15-bit IDs", {1, 0, 1, 2, 2, 2, 300}, 1, 1, EXT, ALL, APIC_LACK_NONE, "cluster destinations"},
	{"no EIM", {1, 0, 0, 1, 1, 0, 3}, 1, 0, X2, 254, APIC_LACK_NONE, "without EIM or XT"},
	{"no EIM, ID 255", {1, 0, 0, 1, 1, 0, 255}, 1, 0, X2, 254, APIC_LACK_EIM, "without EIM or XT"},
	{"one of two without EIM", {1, 0, 0, 2, 2, 1, 255}, 1, 0, X2, 254, APIC_LACK_EIM, "without EIM or XT"},
	{"one of two that does not remap", {1, 0, 0, 2, 1, 1, 3}, 1, 0, X2, 254, APIC_LACK_NONE, "not every"},
	{"the same, ID 255", {1, 0, 0, 2, 1, 1, 255}, 1, 0, X2, 254, APIC_LACK_SOME, "not every"},
};

int main(void)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct apic_policy p = apic_policy_of(&table[i].facts);
		const bool good = p.x2apic == table[i].x2apic && p.cluster == table[i].cluster &&
				  p.reach == table[i].reach && p.device_max == table[i].device_max &&
				  p.lack == table[i].lack && strstr(p.why, table[i].why);

		if (!good)
			printf("%s: x2apic %d cluster %d reach %d device_max %u lack %d: %s\n",
			       table[i].machine, p.x2apic, p.cluster, p.reach, p.device_max, p.lack, p.why);
		CHECK(good);
	}

	/* Whatever the facts: what the policy allows, the machine has. */
	for (unsigned bits = 0; bits < 8; bits++)
		for (unsigned units = 0; units < 3; units++)
			for (unsigned remapping = 0; remapping <= units; remapping++)
				for (unsigned wide = 0; wide <= remapping; wide++)
					for (uint32_t id = 1; id < 1u << 17; id = id * 2 + (id & 1)) {
						const struct apic_facts f = {bits & 1, bits & 2, bits & 4, units,
									     remapping, wide, id};
						const struct apic_policy p = apic_policy_of(&f);

						CHECK(!p.x2apic || f.x2apic);
						CHECK(!p.cluster || (p.x2apic && units && wide == units));
						CHECK(p.device_max <= 254 || p.cluster || f.ext_dest_id);
						CHECK(p.lack || id <= p.device_max);
						CHECK((p.reach == MSG_XAPIC) == !p.x2apic);
						CHECK(p.reach != MSG_X2APIC_EXT || f.ext_dest_id);
					}
	return host_done("apic_policy");
}
