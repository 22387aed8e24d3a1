/* SPDX-License-Identifier: MIT */

#include "tests/apic/delivery.h"

#include "kernel/cpu/cpu.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"

#define REPORT_MAX 8              /* differences a test spells out */
#define PATIENCE     SEC(1)       /* a vCPU in HLT among hundreds on two cores wakes late */
#define PATIENCE_MIN MS(100)
#define WINDOW       MS(2)

void on_every_cpu(struct t *t, void (*fn)(void *), void *args, size_t size)
{
	const unsigned n = cpu_count();
	unsigned i;

	for (i = 1; i < n; i++) {
		const int err = cpu_start(i, fn, args ? (char *)args + i * size : NULL);

		if (err)
			test_error(t, "CPU %u (APIC ID 0x%x) takes no call: -%s", i, cpus[i]->apic_id,
				   err_name(err));
	}
	fn(args);
	for (i = 1; i < n; i++) {
		const int err = cpu_wait(i, CALL_LIMIT);

		if (err)
			test_error(t, "CPU %u (APIC ID 0x%x) did not come back: -%s", i, cpus[i]->apic_id,
				   err_name(err));
	}
}

static void nothing(void *arg)
{
	(void)arg;
}

void delivery_fence(struct t *t)
{
	on_every_cpu(t, nothing, NULL, 0);
}

static void delivery_close(void *arg)
{
	struct delivery *d = arg;

	if (d->watch.base)
		irq_watch_end(&d->watch);
	for (unsigned v = 0; v < d->vectors; v++)
		irq_vector_free(d->vector[v]);
}

struct delivery *delivery_open(struct t *t, unsigned vectors)
{
	struct delivery *d = test_alloc(t, sizeof(*d));

	if (!irq_enabled())
		test_error(t, "interrupts are off on the boot CPU");
	if (vectors > DELIVERY_VECTORS)
		test_error(t, "%u vectors asked for, %u at most", vectors, DELIVERY_VECTORS);
	d->t = t;
	d->cpus = cpu_count();
	d->patience = PATIENCE;
	d->due = test_alloc(t, sizeof(*d->due) * d->cpus * vectors);
	d->settled = test_alloc(t, sizeof(*d->due) * d->cpus * vectors);
	test_cleanup(t, delivery_close, d);
	while (d->vectors < vectors) {
		const int v = irq_vector_alloc();

		if (v < 0)
			test_error(t, "no free vector");
		d->vector[d->vectors++] = v;
	}
	if (!irq_watch_start(&d->watch))
		test_error(t, "no memory to watch %u CPUs", d->cpus);
	return d;
}

static uint32_t *due(const struct delivery *d, unsigned cpu, unsigned v)
{
	return &d->due[v * d->cpus + cpu];
}

void delivery_due(struct delivery *d, unsigned cpu, unsigned v, uint32_t count)
{
	*due(d, cpu, v) += count;
}

void delivery_due_all(struct delivery *d, unsigned v, uint32_t count)
{
	for (unsigned cpu = 0; cpu < d->cpus; cpu++)
		*due(d, cpu, v) += count;
}

uint32_t delivery_count(const struct delivery *d, unsigned cpu, unsigned v)
{
	return irq_watch_count(&d->watch, cpu, d->vector[v]);
}

static bool has_come(const struct delivery *d, unsigned cpu, unsigned v)
{
	return (int32_t)(delivery_count(d, cpu, v) - *due(d, cpu, v)) >= 0;
}

bool delivery_arrived(struct delivery *d, unsigned cpu, unsigned v)
{
	return has_come(d, cpu, v) || WAIT_FOR(has_come(d, cpu, v), d->patience);
}

enum kind { STRAY, MISSING, TOO_OFTEN };

/* True: spell this one out. Of each kind some: where all that was due went astray, a reader wants to see
 * where. */
static bool report_more(struct delivery *d, enum kind kind)
{
	const bool more = d->reported[kind] < (kind == MISSING ? REPORT_MAX : REPORT_MAX / 2);

	if (d->reported[kind]++ == (kind == MISSING ? REPORT_MAX : REPORT_MAX / 2))
		test_note(d->t, "more of this kind follow, not listed");
	return more;
}

static void differs(struct delivery *d, const char *step, unsigned cpu, int vector, uint32_t got, uint32_t want)
{
	static const char *const names[] = {
		[STRAY] = "stray", [MISSING] = "missing", [TOO_OFTEN] = "too often"};
	const enum kind kind = want == 0 ? STRAY : got < want ? MISSING : TOO_OFTEN;
	char due[24] = "none was due", text[320];

	if (want)
		fmt_snprintf(due, sizeof(due), "expected %u", want);
	fmt_snprintf(text, sizeof(text), "%s: %s: CPU %u (APIC ID 0x%x) vector 0x%x: got %u, %s", step,
		     names[kind], cpu, cpus[cpu]->apic_id, (unsigned)vector, got, due);
	if (report_more(d, kind))
		EXPECT_MSG(d->t, false, "%s", text);
	else
		test_fail_quietly(d->t, text);
}

/* Our vectors on all CPUs. What differs is said once: it becomes what is due. */
static bool compare(struct delivery *d, const char *step)
{
	bool good = true;

	for (unsigned v = 0; v < d->vectors; v++)
		for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
			if (!has_come(d, cpu, v) && !delivery_arrived(d, cpu, v)) {
				if (deadline_limit_passed())
					test_timeout(d->t, "%s", step);
				if (d->patience > PATIENCE_MIN)
					d->patience /= 4;
			}
			const uint32_t got = delivery_count(d, cpu, v), want = *due(d, cpu, v);

			if (got == want)
				continue;
			/* The number of this step, not of all steps: what came before was right. */
			const uint32_t before = d->settled[v * d->cpus + cpu];

			differs(d, step, cpu, d->vector[v], got - before, want - before);
			*due(d, cpu, v) = got;
			good = false;
		}
	memcpy(d->settled, d->due, sizeof(*d->due) * d->cpus * d->vectors);
	test_check(d->t);
	return good;
}

static bool is_known(unsigned cpu, int vector, void *arg)
{
	const struct delivery *d = arg;

	for (unsigned v = 0; v < d->vectors; v++)
		if (d->vector[v] == vector)
			return true;
	for (unsigned i = 0; i < d->strays; i++)
		if (d->stray[i].cpu == cpu && d->stray[i].vector == vector)
			return true;
	return false;
}

/* All other vectors of all CPUs. */
static bool sweep(struct delivery *d, const char *step)
{
	bool good = true;

	while (d->strays < DELIVERY_STRAYS) {
		struct irq_stray *s = &d->stray[d->strays];

		if (!irq_watch_stray(&d->watch, is_known, d, s))
			break;
		d->strays++;
		differs(d, step, s->cpu, s->vector, s->count, 0);
		good = false;
	}
	return good;
}

bool delivery_check(struct delivery *d, const char *fmt, ...)
{
	char step[192];
	va_list ap;

	va_start(ap, fmt);
	fmt_vsnprintf(step, sizeof(step), fmt, ap);
	va_end(ap);
	return compare(d, step);
}

bool delivery_finish(struct delivery *d, const char *fmt, ...)
{
	char step[192];
	va_list ap;
	bool good;

	va_start(ap, fmt);
	fmt_vsnprintf(step, sizeof(step), fmt, ap);
	va_end(ap);
	good = compare(d, step);
	delivery_fence(d->t);
	good &= compare(d, step);
	good &= sweep(d, step);
	return good;
}

void delivery_window(void)
{
	delay(WINDOW);
}
