/* SPDX-License-Identifier: MIT */

#include "tests/vgpu/bar_class.h"

#include "drivers/apic/apic.h"
#include "kernel/mm/mm.h"

#define SAMPLES       128
#define SAMPLES_MIN   16
#define SLICE         MS(40)
#define SLOW_READ     MS(500)

#define IOAPIC_WINDOW 0x10

static uint64_t ticks[SAMPLES];

static uint64_t timed_read(volatile const void *p, uint32_t *v)
{
	const uint64_t t0 = tsc_read();

	*v = mmio_r32(p);
	return tsc_read() - t0;
}

struct bar_floor bar_floor_measure(struct t *t)
{
	struct bar_floor f = {.what = "a read of the I/O APIC's window"};
	struct bar_latency l;

	if (!ioapic_count)
		return f;
	l = bar_measure(t, "page=ioapic", (volatile uint8_t *)ioapics[0].regs + IOAPIC_WINDOW);
	f.p50_ns = l.p50_ns;
	f.known = true;
	return f;
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
	return l;
}

enum bar_class bar_classify(const struct bar_floor *f, const struct bar_latency *l)
{
	/* No trap is cheaper than that one by half; what costs no more may be a slow bus. */
	if (!f->known)
		return BAR_UNCLEAR;
	if (l->p50_ns < f->p50_ns / 2)
		return BAR_DIRECT;
	return l->p50_ns > f->p50_ns + f->p50_ns / 2 ? BAR_TRAPPED : BAR_UNCLEAR;
}

const char *bar_class_name(enum bar_class c)
{
	static const char *const names[] = {"direct", "trapped", "unclear: it costs about what a trap does"};

	return names[c];
}
