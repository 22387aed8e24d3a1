/* SPDX-License-Identifier: MIT */

#include "tests/vgpu/bar_class.h"

#include "drivers/apic/apic.h"
#include "drivers/pci/pci.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/fmt.h"
#include "kernel/mm/mm.h"

#define SAMPLES       128
#define SAMPLES_MIN   16
#define SLICE         MS(40)
#define SLOW_READ     MS(500)

#define PAIRS         33

#define IOAPIC_WINDOW 0x10
#define PCI_ADDRESS   0xcf8 /* a latch that a VMM has to emulate, and KVM's kernel does not; reads have no effect */

static uint64_t ticks[SAMPLES];

static uint64_t timed_read(volatile const void *p, uint32_t *v)
{
	const uint64_t t0 = tsc_read();

	*v = mmio_r32(p);
	return tsc_read() - t0;
}

static volatile const void *ioapic_window(void) { return (volatile uint8_t *)ioapics[0].regs + IOAPIC_WINDOW; }

void bar_floor_measure(struct t *t)
{
	if (ioapic_count)
		bar_measure(t, "page=ioapic", ioapic_window());
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

/* Without what reading the clock costs, which may be most of it: that is a trap too, or emulated. */
static uint64_t percent(uint64_t took, uint64_t of, uint64_t nothing)
{
	return (took - MIN(took, nothing)) * 100 / (of > nothing ? of - nothing : 1);
}

/* slow: ticks of a read that took too long for another one; or 0 */
static void compare(struct bar_latency *l, volatile const void *p, uint64_t slow)
{
	const struct deadline end = deadline_in(SLICE);
	const uint64_t nothing = test_measure_nothing();
	uint64_t of_ioapic[PAIRS], of_port[PAIRS];
	unsigned n = 0;

	do {
		const uint64_t page = slow ? slow : timed_again(p), port = timed_port();
		const uint64_t ioapic = ioapic_count ? timed_again(ioapic_window()) : 0;

		of_ioapic[n] = ioapic ? percent(page, ioapic, nothing) : 0;
		of_port[n] = percent(page, port, nothing);
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
	compare(&l, p, tsc_to_ns(ticks[l.n - 1]) >= SLOW_READ ? ticks[(l.n - 1) / 2] : 0);
	return l;
}

enum bar_class bar_classify(const struct bar_latency *l)
{
	/* On bare metal nobody answers but the device. A VM may be hidden. */
	if (cpu_features.accel == ACCEL_BARE && !pci_sign_of_a_vm())
		return BAR_DIRECT;
	/* No trap is cheaper than that one by half, and what the VMM answers costs about what its port does. */
	if (ioapic_count && l->of_ioapic < 50)
		return BAR_DIRECT;
	/* Between them it may be a slow bus, where KVM's kernel answers for the I/O APIC. */
	return l->of_port > 75 ? BAR_TRAPPED : BAR_UNCLEAR;
}

const char *bar_beside_text(const struct bar_latency *l, char text[BAR_BESIDE])
{
	char ioapic[64] = "";

	if (ioapic_count)
		fmt_snprintf(ioapic, sizeof(ioapic), "%llu %% of a read of the I/O APIC's window, ",
			     (unsigned long long)l->of_ioapic);
	fmt_snprintf(text, BAR_BESIDE, "%s%llu %% of one of port 0xcf8", ioapic, (unsigned long long)l->of_port);
	return text;
}

const char *bar_class_name(enum bar_class c)
{
	static const char *const names[] = {"direct", "trapped", "unclear"};

	return names[c];
}
