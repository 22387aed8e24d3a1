/* SPDX-License-Identifier: MIT */
#include "kernel/irq/irq.h"

#include "kernel/cpu/cpu.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

static struct {
	void (*fn)(int vector, void *arg);
	void *arg;
	bool owned, manual_eoi;
} vectors[256];

static void (*send_eoi)(void);

void irq_set_eoi(void (*eoi)(void)) { send_eoi = eoi; }

void irq_dispatch(uint64_t vector)
{
	struct cpu *c = this_cpu();

	c->irq_tsc[vector] = tsc_read();
	if (SABOTAGE(eoi_early) && !vectors[vector].manual_eoi && vector <= IRQ_VECTOR_LAST)
		send_eoi();
	/* Seen by another CPU as soon as the handler's effects are: the count goes last. */
	if (vectors[vector].fn)
		vectors[vector].fn((int)vector, vectors[vector].arg);
	__atomic_store_n(&c->irq_counts[vector], c->irq_counts[vector] + 1, __ATOMIC_RELEASE);
	if ((SABOTAGE(eoi_early) || SABOTAGE(eoi_never)) && vector <= IRQ_VECTOR_LAST)
		return;
	if (vector != VEC_SPURIOUS && !vectors[vector].manual_eoi && send_eoi)
		send_eoi();
}

int irq_vector_alloc(void)
{
	/* Round robin: a late delivery of the last test's vector is stray, not the next test's. */
	static int next = IRQ_VECTOR_FIRST;

	for (int i = IRQ_VECTOR_FIRST; i <= IRQ_VECTOR_LAST; i++) {
		const int v = next;

		next = next == IRQ_VECTOR_LAST ? IRQ_VECTOR_FIRST : next + 1;
		if (!vectors[v].owned) {
			vectors[v].owned = true;
			return v;
		}
	}
	return -ENOSPC;
}

void irq_vector_free(int vector)
{
	vectors[vector].owned = false;
	vectors[vector].fn = NULL;
	vectors[vector].manual_eoi = false;
}

void irq_set_handler(int vector, void (*fn)(int vector, void *arg), void *arg)
{
	vectors[vector].fn = NULL;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	vectors[vector].arg = arg;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	vectors[vector].fn = fn;
}

void irq_set_manual_eoi(int vector, bool manual) { vectors[vector].manual_eoi = manual; }

uint64_t irq_last_tsc(unsigned cpu, int vector)
{
	return __atomic_load_n(&cpus[cpu]->irq_tsc[vector], __ATOMIC_ACQUIRE);
}

static uint32_t count(unsigned cpu, int vector)
{
	return __atomic_load_n(&cpus[cpu]->irq_counts[vector], __ATOMIC_ACQUIRE);
}

bool irq_watch_start(struct irq_watch *w)
{
	w->base = kmalloc(cpu_count() * 256 * sizeof(uint32_t));
	if (w->base)
		irq_watch_restart(w);
	return w->base;
}

void irq_watch_restart(struct irq_watch *w)
{
	for (unsigned c = 0; c < cpu_count(); c++)
		memcpy(w->base + c * 256, cpus[c]->irq_counts, 256 * sizeof(uint32_t));
}

void irq_watch_end(struct irq_watch *w)
{
	kfree(w->base);
	w->base = NULL;
}

uint32_t irq_watch_count(const struct irq_watch *w, unsigned cpu, int vector)
{
	return count(cpu, vector) - w->base[cpu * 256 + (unsigned)vector];
}

bool irq_watch_stray(const struct irq_watch *w, bool (*skip)(unsigned cpu, int vector, void *), void *arg,
		     struct irq_stray *out)
{
	for (unsigned c = 0; c < cpu_count(); c++) {
		const volatile uint32_t *now = cpus[c]->irq_counts;
		const uint32_t *base = w->base + c * 256;

		if (!memcmp(base, cpus[c]->irq_counts, 256 * sizeof(uint32_t)))
			continue;
		for (int v = 32; v < 256; v++) {
			const uint32_t n = now[v] - base[v];

			if (n == 0 || v == VEC_IPI_CALL || v == VEC_TURN || v == VEC_SPURIOUS || (skip && skip(c, v, arg)))
				continue;
			*out = (struct irq_stray){c, v, n};
			return true;
		}
	}
	return false;
}
