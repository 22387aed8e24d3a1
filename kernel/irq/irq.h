/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define IRQ_VECTOR_FIRST 0x30            /* below: exceptions and what a stray 8259 would use */
#define IRQ_VECTOR_LAST  0xef
#define VEC_IPI_CALL     0xf0            /* wakes a CPU for cpu_call() */
#define VEC_TURN         0xf1            /* the local APIC's timer as irq_vmm_turn() sets it */
#define VEC_SPURIOUS     0xff

/* A free vector for the running test, or -ENOSPC. Counts as "stray" where nobody owns it. */
int irq_vector_alloc(void);
void irq_vector_free(int vector);
/* Runs on the CPU that was interrupted, before EOI, interrupts off. NULL removes it. */
void irq_set_handler(int vector, void (*fn)(int vector, void *arg), void *arg);
/* EOI by hand: while set, the dispatcher does not send one for this vector (for tests of EOI). */
void irq_set_manual_eoi(int vector, bool manual);
void irq_dispatch(uint64_t vector);      /* from the entry stubs */
void irq_set_eoi(void (*eoi)(void));     /* the local APIC driver registers itself */
uint64_t irq_last_tsc(unsigned cpu, int vector); /* TSC at the last delivery */

/* ---- counting deliveries: on the right CPU, exactly so often, and nowhere else ---- */
struct irq_watch { uint32_t *base; };    /* a copy of all counters of all CPUs */
bool irq_watch_start(struct irq_watch *); /* false: no memory */
void irq_watch_restart(struct irq_watch *);
void irq_watch_end(struct irq_watch *);
uint32_t irq_watch_count(const struct irq_watch *, unsigned cpu, int vector);
/*
 * The first counter that moved and is not (cpu, vector) of the expected set. VEC_IPI_CALL, VEC_TURN
 * and the spurious vector are not looked at. skip(cpu, vector) true: expected there. False: nothing stray.
 */
struct irq_stray { unsigned cpu; int vector; uint32_t count; };
bool irq_watch_stray(const struct irq_watch *, bool (*skip)(unsigned cpu, int vector, void *), void *arg,
		     struct irq_stray *);
