/* SPDX-License-Identifier: MIT */

#include "tests/vgpu/bar_class.h"

#include "drivers/apic/apic.h"
#include "kernel/cpu/cpu.h"
#include "kernel/mm/mm.h"

#define SAMPLES       128
#define SAMPLES_MIN   16
#define SLICE         MS(40)
#define SLOW_READ     MS(500)

#define PAIRS         33

#define IOAPIC_WINDOW 0x10
#define PCI_ADDRESS   0xcf8 /* a latch that a VMM has to emulate, and no hypervisor's kernel does; reads have no effect */

static uint64_t ticks[SAMPLES];

static uint64_t timed_read(volatile const void *p, uint32_t *v)
{
	const uint64_t t0 = tsc_read();

	*v = mmio_r32(p);
	return tsc_read() - t0;
}

static volatile const void *ioapic_window(void) { return (volatile uint8_t *)ioapics[0].regs + IOAPIC_WINDOW; }

struct bar_floor bar_floor_measure(struct t *t)
{
	struct bar_floor f = {.what = "a read of the I/O APIC's window"};

	if (ioapic_count)
		f.p50_ns = bar_measure(t, "page=ioapic", ioapic_window()).p50_ns;
	return f;
}

static uint64_t timed_port(void)
{
	const uint64_t t0 = tsc_read();

	inl(PCI_ADDRESS);
	return tsc_read() - t0;
}

/* The second of two: the first pays for TLB and caches that what came before it has taken. */
static uint64_t timed_again(volatile const void *p)
{
	uint32_t v;

	timed_read(p, &v);
	return timed_read(p, &v);
}

/* slow: what a read took, in ticks, that is too long for another one; or 0 */
static void compare(struct bar_latency *l, volatile const void *p, uint64_t slow)
{
	const struct deadline end = deadline_in(SLICE);
	uint64_t of_ioapic[PAIRS], of_port[PAIRS];
	unsigned n = 0;

	do {
		const uint64_t page = slow ? slow : timed_again(p), port = timed_port();
		const uint64_t ioapic = ioapic_count ? timed_again(ioapic_window()) : 0;

		of_ioapic[n] = ioapic ? page * 100 / ioapic : 0;
		of_port[n] = port ? page * 100 / port : 0;
	} while (++n < PAIRS && !slow && !deadline_passed(end));
	sort_ticks(of_ioapic, n);
	sort_ticks(of_port, n);
	l->of_ioapic = of_ioapic[n / 2];
	l->of_port = of_port[n / 2];
}

struct bar_latency bar_measure(struct t *t, const char *series, volatile const void *p)
{
	struct bar_latency l = {0};
	struct deadline end;
	unsigned tries = 0;
	uint32_t v;

	l.first_ns = tsc_to_ns(timed_read(p, &l.value));
	do {
		l.n = 0;
		end = deadline_in(SLICE);
		while (l.n < SAMPLES && (l.n < SAMPLES_MIN || !deadline_passed(end))) {
			ticks[l.n++] = timed_read(p, &v);
			l.changed += v != l.value;
			if (tsc_to_ns(ticks[l.n - 1]) >= SLOW_READ)
				break;
		}
	} while (tsc_to_ns(ticks[l.n - 1]) < SLOW_READ && test_again(t, &tries));
	test_metric_ticks(t, series, ticks, l.n);
	l.p50_ns = tsc_to_ns(ticks[(l.n - 1) / 2]); /* sorted by now */
	l.max_ns = MAX(l.first_ns, tsc_to_ns(ticks[l.n - 1]));
	compare(&l, p, tsc_to_ns(ticks[l.n - 1]) >= SLOW_READ ? ticks[l.n - 1] : 0);
	return l;
}

enum bar_class bar_classify(const struct bar_latency *l)
{
	if (cpu_features.accel == ACCEL_BARE)
		return BAR_DIRECT;
	/* No trap is cheaper than that one by half; what costs no more may be a slow bus, where a kernel answers that. */
	if (ioapic_count && l->of_ioapic < 50)
		return BAR_DIRECT;
	return (ioapic_count && l->of_ioapic > 150) || l->of_port > 75 ? BAR_TRAPPED : BAR_UNCLEAR;
}

const char *bar_class_name(enum bar_class c)
{
	static const char *const names[] = {"direct", "trapped", "unclear: it costs about what a trap does"};

	return names[c];
}
