/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* ---- instructions ---- */
struct cpuid { uint32_t eax, ebx, ecx, edx; };
static inline struct cpuid cpuid(uint32_t leaf, uint32_t sub)
{
	struct cpuid r;

	__asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(leaf), "c"(sub));
	return r;
}
static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return ((uint64_t)hi << 32) | lo;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
/* 0, or -EFAULT when the instruction raised #GP (or any other exception). */
int rdmsr_safe(uint32_t msr, uint64_t *out);
int wrmsr_safe(uint32_t msr, uint64_t v);

#define IN_(name, type)                                                                            \
	static inline type name(uint16_t port)                                                     \
	{                                                                                          \
		type v;                                                                            \
		__asm__ volatile("in %1, %0" : "=a"(v) : "Nd"(port) : "memory");                   \
		return v;                                                                          \
	}
#define OUT_(name, type)                                                                           \
	static inline void name(uint16_t port, type v)                                             \
	{                                                                                          \
		__asm__ volatile("out %0, %1" : : "a"(v), "Nd"(port) : "memory");                  \
	}
IN_(inb, uint8_t) IN_(inw, uint16_t) IN_(inl, uint32_t)
OUT_(outb, uint8_t) OUT_(outw, uint16_t) OUT_(outl, uint32_t)
#undef IN_
#undef OUT_

static inline uint64_t read_cr2(void) { uint64_t v; __asm__ volatile("mov %%cr2, %0" : "=r"(v)); return v; }
static inline uint64_t read_cr3(void) { uint64_t v; __asm__ volatile("mov %%cr3, %0" : "=r"(v)); return v; }
static inline void write_cr3(uint64_t v) { __asm__ volatile("mov %0, %%cr3" : : "r"(v) : "memory"); }
static inline uint64_t read_cr0(void) { uint64_t v; __asm__ volatile("mov %%cr0, %0" : "=r"(v)); return v; }
static inline void write_cr0(uint64_t v) { __asm__ volatile("mov %0, %%cr0" : : "r"(v) : "memory"); }
static inline uint64_t read_cr4(void) { uint64_t v; __asm__ volatile("mov %%cr4, %0" : "=r"(v)); return v; }
static inline void write_cr4(uint64_t v) { __asm__ volatile("mov %0, %%cr4" : : "r"(v) : "memory"); }
static inline void irq_enable(void) { __asm__ volatile("sti" ::: "memory"); }
static inline void irq_disable(void) { __asm__ volatile("cli" ::: "memory"); }
static inline bool irq_enabled(void)
{
	uint64_t f;

	__asm__ volatile("pushfq; pop %0" : "=r"(f) : : "memory");
	return (f & 0x200) != 0;
}
/* Atomic STI; HLT: an interrupt between the two is not lost (STI shadow). */
static inline void cpu_idle(void) { __asm__ volatile("sti; hlt" ::: "memory"); }

/* ---- who we are ---- */
enum accel { ACCEL_UNKNOWN, ACCEL_TCG, ACCEL_KVM, ACCEL_HYPERV, ACCEL_VMWARE, ACCEL_XEN, ACCEL_BHYVE, ACCEL_BARE };
struct cpu_features {
	char vendor[13], brand[49], hypervisor[13]; /* hypervisor: "" on bare metal */
	enum accel accel;
	uint32_t max_leaf, max_hv_leaf, max_ext_leaf;
	bool x2apic, tsc_invariant, nx, smep, smap, gib_pages, tsc_deadline, rdtscp, arat;
	bool kvm_ext_dest_id;    /* KVM_FEATURE_MSI_EXT_DEST_ID: 15-bit destinations without remapping */
	unsigned phys_bits;
	uint32_t kvm_features;
};
extern struct cpu_features cpu_features;
void cpuid_init(void);
const char *accel_name(enum accel); /* "tcg", "kvm", … as in metrics */

/* ---- traps ---- */
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};
enum { VEC_DE = 0, VEC_DB, VEC_NMI, VEC_BP, VEC_OF, VEC_BR, VEC_UD, VEC_NM, VEC_DF, VEC_TS = 10,
       VEC_NP, VEC_SS, VEC_GP, VEC_PF, VEC_MF = 16, VEC_AC, VEC_MC, VEC_XM };

/* An expected fault is a value: what the last *_safe() or trap_expect() caught. */
struct trap_info { uint32_t vector; uint64_t error, cr2, rip; };
/*
 * Calls fn(arg). 0: it returned; -EFAULT: an exception was raised in it, *info says which, and
 * fn was left at once (its frame is gone; it must hold nothing). On this CPU, not nested.
 */
int trap_expect(void (*fn)(void *), void *arg, struct trap_info *info);
/* Reads/writes that may fault (#PF, #GP, bus): -EFAULT. */
int read32_safe(volatile const void *p, uint32_t *out);
int write32_safe(volatile void *p, uint32_t v);
/*
 * An exception nobody expected. The harness sets a hook that closes the running test and does not
 * return; without one it is a panic.
 */
void trap_set_hook(void (*hook)(const struct trap_frame *, uint64_t cr2));
void trap_print(const struct trap_frame *, uint64_t cr2); /* registers and backtrace as # note lines */
/* NMI handler (runs on its own stack); NULL: an NMI is a trap like any other. */
void nmi_set_handler(void (*fn)(struct trap_frame *));

/* ---- processors (kernel/cpu/smp.c) ---- */
#define CPU_MAX 1024
struct cpu {
	struct cpu *self;        /* %gs:0 */
	unsigned index;          /* 0: boot CPU; dense over online CPUs */
	uint32_t apic_id;        /* x2APIC ID (8-bit ID in xAPIC mode) as the MADT says */
	uint32_t acpi_uid;
	bool online;
	uint64_t tsc_online;
	uint32_t *irq_counts;    /* [256], this CPU's deliveries by vector; written only by this CPU */
	uint64_t *irq_tsc;       /* [256], TSC at the last delivery */
	/* the call a CPU is asked to make; see cpu_call() */
	void (*volatile call_fn)(void *);
	void *volatile call_arg;
	volatile uint32_t call_seq, done_seq;
	volatile bool want_busy; /* spin instead of HLT while waiting for calls */
	struct trap_info trap;   /* caught by trap_expect() */
	uint64_t expect_jmp[8];  /* its way back: rbx rbp r12-r15 rsp rip */
	bool expecting;
	struct trap_frame *volatile fault; /* this AP took an exception nobody expected, and stopped */
	uint64_t fault_cr2;
	void *stack_top;
	uint64_t gdt[9];
	uint8_t tss[104];
};
extern struct cpu *cpus[CPU_MAX];        /* online ones, dense */
unsigned cpu_count(void);                /* online */
static inline struct cpu *this_cpu(void)
{
	struct cpu *c;

	__asm__ volatile("mov %%gs:0, %0" : "=r"(c));
	return c;
}
struct cpu *cpu_by_apic_id(uint32_t id); /* NULL: none online */
uint32_t cpu_max_apic_id(void);
/*
 * Runs fn(arg) on another CPU with interrupts enabled there, and waits until it has returned.
 * -ETIMEDOUT: it did not within ns (nor, as a rule, 5 s later: arg stays its own so long), -EFAULT: it took an exception nobody expected and has stopped,
 * -ENODEV: not online, -EBUSY: still at an earlier call.
 */
int cpu_call(unsigned index, void (*fn)(void *), void *arg, uint64_t ns);
/* Starts it without waiting; cpu_wait() ends it. -EBUSY while a call is under way there. */
int cpu_start(unsigned index, void (*fn)(void *), void *arg);
int cpu_wait(unsigned index, uint64_t ns);
/* Starts every CPU of the MADT that is not running; parallel. */
struct smp_report {
	unsigned listed, online, failed, strangers; /* strangers: started twice, or not in the MADT */
	uint32_t failed_ids[16];
	uint64_t ns;
	const char *problem;
	bool in_turn; /* one thread of the machine's runs them all, each until it hands over */
};
extern struct smp_report smp_report;
/* What starting and waking CPUs needs of the local APIC driver, which is above this layer. */
struct smp_ops {
	uint32_t (*id)(void);
	void (*init_ap)(void);
	bool (*can_reach)(uint32_t apic_id);
	void (*init_ipi)(uint32_t apic_id);
	void (*startup_ipi)(uint32_t apic_id, uint8_t page);
	void (*wake)(unsigned cpu);      /* VEC_IPI_CALL */
};
void smp_init(const struct smp_ops *);
/*
 * For who sends INIT and SIPI by himself (apic.init_sipi): the page that SIPI is to name, -ENOMEM without one below
 * 1 MiB; then, for a CPU that has got INIT, from which moment on its start counts anew. Strangers: all CPUs
 * so far that came through the page and were not expected.
 */
int smp_page_get(uint8_t *page);
void smp_page_put(void);
void cpu_expect_start(unsigned index);
bool cpu_has_started(unsigned index);
unsigned smp_strangers(void);

/* ---- setup of one CPU (gdt.c, idt.c) ---- */
void cpu_init_boot(void);                /* GDT, TSS, IDT, per-CPU pointer of the boot CPU */
void cpu_load(struct cpu *);             /* the same on an AP */
/* Allocates stacks for NMI, #DF, #MC (IST) once memory is there. */
void cpu_alloc_ist(struct cpu *);
