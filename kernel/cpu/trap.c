/* SPDX-License-Identifier: MIT */
#include "kernel/cpu/trap.h"

#include "kernel/cpu/cpu.h"
#include "kernel/irq/irq.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/log/log.h"

#define OPCODE_HLT 0xf4

struct gate { uint64_t lo, hi; };        /* SDM vol. 3, 6.14.1 */
static struct gate idt[256] __attribute__((aligned(16)));

extern const uint64_t vector_stubs[256];
extern const struct extable extable_start[], extable_end[];
void trap_dispatch(struct trap_frame *f);

static void (*hook)(const struct trap_frame *, uint64_t cr2);
static void (*nmi_handler)(struct trap_frame *);

static void gate_set(unsigned vector, unsigned ist)
{
	const uint64_t at = vector_stubs[vector];

	idt[vector].lo = (at & 0xffff) | 0x08 << 16 | (uint64_t)ist << 32 | 0x8eull << 40 |
			 (at >> 16 & 0xffff) << 48;
	idt[vector].hi = at >> 32;
}

void idt_load(void)
{
	const struct { uint16_t limit; uint64_t base; } __attribute__((packed)) p = {
		sizeof(idt) - 1, (uint64_t)(uintptr_t)idt};

	if (!idt[0].lo)
		for (unsigned v = 0; v < 256; v++)
			gate_set(v, 0);
	__asm__ volatile("lidt %0" : : "m"(p));
}

void idt_use_ist(void)
{
	gate_set(VEC_NMI, 1);
	gate_set(VEC_DF, 2);
	gate_set(VEC_MC, 3);
}

void trap_set_hook(void (*fn)(const struct trap_frame *, uint64_t cr2)) { hook = fn; }
void nmi_set_handler(void (*fn)(struct trap_frame *)) { nmi_handler = fn; }

int trap_expect(void (*fn)(void *), void *arg, struct trap_info *info)
{
	struct cpu *c = this_cpu();
	int r;

	BUG_ON(c->expecting);
	c->expecting = true;
	r = trap_call(fn, arg, c->expect_jmp);
	c->expecting = false;
	if (r && info)
		*info = c->trap;
	return r;
}

static bool fixup(struct trap_frame *f, uint64_t cr2)
{
	struct cpu *c = this_cpu();

	for (const struct extable *e = extable_start; e < extable_end; e++) {
		if (e->at == f->rip) {
			c->trap = (struct trap_info){(uint32_t)f->vector, f->error, cr2, f->rip};
			f->rip = e->to;
			return true;
		}
	}
	if (!c->expecting)
		return false;
	c->trap = (struct trap_info){(uint32_t)f->vector, f->error, cr2, f->rip};
	f->rbx = c->expect_jmp[0];
	f->rbp = c->expect_jmp[1];
	f->r12 = c->expect_jmp[2];
	f->r13 = c->expect_jmp[3];
	f->r14 = c->expect_jmp[4];
	f->r15 = c->expect_jmp[5];
	f->rsp = c->expect_jmp[6];
	f->rip = c->expect_jmp[7];
	f->rax = (uint64_t)(int64_t)-EFAULT;
	return true;
}

/* Every vector of every CPU comes here. */
void trap_dispatch(struct trap_frame *f)
{
	const uint64_t cr2 = f->vector == VEC_PF ? read_cr2() : 0;

	if (f->vector >= 32) {
		irq_dispatch(f->vector);
		return;
	}
	if (f->vector == VEC_NMI && nmi_handler) {
		nmi_handler(f);
		/*
		 * Between STI and HLT it ends the shadow: an interrupt that waits would come before the HLT, and what
		 * it was to wake us for be slept over. So this HLT is over.
		 */
		if (*(const uint8_t *)(uintptr_t)f->rip == OPCODE_HLT)
			f->rip++;
		return;
	}
	if (f->vector != VEC_DF && f->vector != VEC_MC && fixup(f, cr2))
		return;
	if (this_cpu()->index != 0 && this_cpu()->tsc_online) {
		/* The boot CPU reports: it sees the frame in cpu_wait(), or when the test ends. */
		this_cpu()->fault_cr2 = cr2;
		__atomic_store_n(&this_cpu()->fault, f, __ATOMIC_RELEASE);
		for (;;)
			__asm__ volatile("cli; hlt");
	}
	if (hook)
		hook(f, cr2);
	trap_print(f, cr2);
	panic("unexpected trap %llu, error %llx, at %llx", (unsigned long long)f->vector,
	      (unsigned long long)f->error, (unsigned long long)f->rip);
}

static const char *const names[32] = {
	"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9", "#TS", "#NP", "#SS", "#GP", "#PF",
	"15", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
};

void trap_print(const struct trap_frame *f, uint64_t cr2)
{
#define R(x) (unsigned long long)f->x
	log_line("# note %s error=%llx cr2=%llx cpu=%u rip=%llx cs=%llx rflags=%llx rsp=%llx",
		 f->vector < 32 && names[f->vector] ? names[f->vector] : "interrupt", R(error),
		 (unsigned long long)cr2, this_cpu()->index, R(rip), R(cs), R(rflags), R(rsp));
	log_line("# note rax=%016llx rbx=%016llx rcx=%016llx rdx=%016llx", R(rax), R(rbx), R(rcx), R(rdx));
	log_line("# note rsi=%016llx rdi=%016llx rbp=%016llx r8 =%016llx", R(rsi), R(rdi), R(rbp), R(r8));
	log_line("# note r9 =%016llx r10=%016llx r11=%016llx r12=%016llx", R(r9), R(r10), R(r11), R(r12));
	log_line("# note r13=%016llx r14=%016llx r15=%016llx", R(r13), R(r14), R(r15));
#undef R
	const uint64_t *bp = (const uint64_t *)(uintptr_t)f->rbp;

	for (unsigned i = 0; i < 16; i++) {
		uint32_t lo, hi;

		/* read word by word and safely: the frame pointer may be anything */
		if (((uint64_t)(uintptr_t)bp & 7) || (uint64_t)(uintptr_t)bp < 0xffff800000000000ull ||
		    read32_safe((const volatile uint8_t *)bp + 8, &lo) ||
		    read32_safe((const volatile uint8_t *)bp + 12, &hi) || !(lo | hi))
			break;
		log_line("# note   called from %08x%08x", hi, lo);
		if (bp[0] <= (uint64_t)(uintptr_t)bp)
			break;
		bp = (const uint64_t *)(uintptr_t)bp[0];
	}
}

/* ---- instructions that may fault ---- */
int rdmsr_safe(uint32_t msr, uint64_t *out)
{
	uint32_t lo = 0, hi = 0;
	int r = -EFAULT;

	__asm__ volatile("1: rdmsr\n   xor %0, %0\n2:\n" EXTABLE(1b, 2b)
			 : "+r"(r), "=a"(lo), "=d"(hi) : "c"(msr), "1"(0), "2"(0) : "memory");
	if (r == 0)
		*out = (uint64_t)hi << 32 | lo;
	return r;
}

int wrmsr_safe(uint32_t msr, uint64_t v)
{
	int r = -EFAULT;

	__asm__ volatile("1: wrmsr\n   xor %0, %0\n2:\n" EXTABLE(1b, 2b)
			 : "+r"(r) : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
	return r;
}

int read32_safe(volatile const void *p, uint32_t *out)
{
	uint32_t v = 0;
	int r = -EFAULT;

	__asm__ volatile("1: movl (%2), %1\n   xor %0, %0\n2:\n" EXTABLE(1b, 2b)
			 : "+r"(r), "+&r"(v) : "r"(p) : "memory");
	*out = v;
	return r;
}

int write32_safe(volatile void *p, uint32_t v)
{
	int r = -EFAULT;

	__asm__ volatile("1: movl %1, (%2)\n   xor %0, %0\n2:\n" EXTABLE(1b, 2b)
			 : "+r"(r) : "r"(v), "r"(p) : "memory");
	return r;
}
