/* SPDX-License-Identifier: MIT */

#include "kernel/cpu/cpu.h"
#include "kernel/lib/fmt.h"
#include "kernel/mm/mm.h"
#include "tests/apic/delivery.h"

#define SPIN     MS(5)
#define LOOPS_MIN 16
#define GAPS_MAX 4096
#define GAP      US(2) /* shorter ones are the loop itself */

/* KVM's paravirtual steal time: Documentation/virt/kvm/x86/msr.rst. */
#define KVM_FEATURE_STEAL_TIME BIT(5)
#define MSR_KVM_STEAL_TIME     0x4b564d03u
#define STEAL_ENABLE           1u
struct kvm_steal { uint64_t steal; uint32_t version, flags; uint8_t preempted, pad[47]; };

struct spin {
	uint64_t *gap;           /* ticks, each gap longer than GAP; GAPS_MAX of them */
	size_t gaps;
	uint64_t loops, longest, length;
};

static void spin(void *arg)
{
	struct spin *s = arg;
	const uint64_t start = tsc_read(), end = start + ns_to_tsc(SPIN), least = ns_to_tsc(GAP);
	uint64_t last = start, now;

	do {
		now = tsc_read();
		if (now - last > least && s->gaps < GAPS_MAX)
			s->gap[s->gaps++] = now - last;
		s->longest = MAX(s->longest, now - last);
		last = now;
		s->loops++;
	} while (now < end || s->loops < LOOPS_MIN);
	s->length = now - start;
}

static uint64_t steal_read(const struct dma_buf *buf)
{
	return ((volatile struct kvm_steal *)buf->va)->steal;
}

/*
 * The steal time of CPU 0, or false: the hypervisor does not tell. The first value counts from before
 * our time: the caller takes differences.
 */
static bool steal_start(struct dma_buf *buf)
{
	return cpu_features.accel == ACCEL_KVM && (cpu_features.kvm_features & KVM_FEATURE_STEAL_TIME) &&
	       dma_alloc(buf, PAGE_SIZE, PAGE_SIZE, PHYS_ANY) &&
	       wrmsr_safe(MSR_KVM_STEAL_TIME, buf->pa.v | STEAL_ENABLE) == 0 &&
	       WAIT_FOR(steal_read(buf) != 0, MS(20));
}

static void steal_end(void *arg)
{
	struct dma_buf *buf = arg;

	if (!buf->va)
		return;
	wrmsr_safe(MSR_KVM_STEAL_TIME, 0);
	dma_free(buf);
	buf->va = NULL;
}

/*
 * How much of the CPU we really have: the gaps in a loop that does nothing but read the TSC, on CPU 0
 * and on another, and the steal time where the hypervisor tells it. No gap decides anything; they say
 * what the other times in this report are worth.
 */
TEST_TIMED(boot, noise, "longest TSC gaps while spinning; steal time where the hypervisor tells it", NEED_NONE)
{
	static struct dma_buf steal;
	uint64_t stolen = 0;
	bool tells;

	test_cleanup(t, steal_end, &steal);
	tells = steal_start(&steal);
	if (tells)
		stolen = steal_read(&steal);
	for (unsigned cpu = 0; cpu < MIN(cpu_count(), 2u); cpu++) {
		struct spin s = {.gap = test_alloc(t, GAPS_MAX * sizeof(uint64_t))};
		char series[24];

		REQUIRE_OK(t, cpu_call(cpu, spin, &s, SEC(5)));
		EXPECT_MSG(t, s.loops >= LOOPS_MIN && s.length >= ns_to_tsc(SPIN),
			   "CPU %u: got %llu loops in %llu ticks", cpu, (unsigned long long)s.loops,
			   (unsigned long long)s.length);
		EXPECT_MSG(t, s.longest <= s.length, "CPU %u: a gap longer than the whole run", cpu);
		fmt_snprintf(series, sizeof(series), "what=gap cpu=%u", cpu);
		if (s.gaps)
			test_metric_ticks(t, series, s.gap, s.gaps);
		test_metric(t, "what=longest cpu=%u unit=ns n=%llu value=%llu", cpu,
			    (unsigned long long)s.loops, (unsigned long long)tsc_to_ns(s.longest));
	}
	if (tells)
		test_metric(t, "what=steal cpu=0 unit=ns n=1 value=%llu",
			    (unsigned long long)(steal_read(&steal) - stolen));
}
