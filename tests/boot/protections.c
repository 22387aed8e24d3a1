/* SPDX-License-Identifier: MIT */

#include "kernel/cpu/cpu.h"
#include "kernel/mm/mm.h"
#include "tests/apic/delivery.h"

#define MSR_EFER  0xc0000080u
#define EFER_NXE  BIT64(11)
#define CR0_WP    BIT64(16)
#define CR4_SMEP  BIT64(20)
#define CR4_SMAP  BIT64(21)
#define LEAF_W    BIT64(1)
#define LEAF_USER BIT64(2)
#define LEAF_NX   BIT64(63)
#define PF_WRITE_RO 0x3ull  /* present, write; SDM vol. 3, 4.7 */
#define PF_EXEC_NX  0x11ull /* present, instruction fetch */
#define STACK_PAGES_MAX 64  /* no stack of ours is larger */
#define TSS_IST1    36      /* SDM vol. 3, figure 8-11 */

struct bits {
	uint64_t cr0, cr4, efer, sp;
};

static void read_bits(void *arg)
{
	struct bits *b = arg;

	*b = (struct bits){read_cr0(), read_cr4(), rdmsr(MSR_EFER),
			   (uint64_t)(uintptr_t)__builtin_frame_address(0)};
}

struct walk {
	struct t *t;
	unsigned leaves, writable, executable;
};

static bool look_at_leaf(const struct page_leaf *leaf, void *arg)
{
	struct walk *w = arg;
	const bool writable = leaf->entry & LEAF_W, executable = !(leaf->entry & LEAF_NX);

	w->leaves++;
	w->writable += writable;
	w->executable += executable;
	if (writable && executable)
		EXPECT_MSG(w->t, false, "page %llx (%llu KiB) is both writable and executable: entry %llx",
			   (unsigned long long)leaf->va, (unsigned long long)leaf->size >> 10,
			   (unsigned long long)leaf->entry);
	if (leaf->entry & LEAF_USER)
		EXPECT_MSG(w->t, false, "page %llx is open to user mode: entry %llx",
			   (unsigned long long)leaf->va, (unsigned long long)leaf->entry);
	return w->leaves < 1000000;
}

/* From somewhere in a stack downwards there must come a page that is not mapped. */
static void look_for_guard(struct t *t, unsigned cpu, const char *which, uint64_t sp)
{
	struct page_leaf leaf;
	uint64_t va = align_down(sp - 1, PAGE_SIZE);
	unsigned pages = 0;

	while (pages <= STACK_PAGES_MAX && page_lookup(va, &leaf)) {
		va -= PAGE_SIZE;
		pages++;
	}
	EXPECT_MSG(t, pages && pages <= STACK_PAGES_MAX,
		   "CPU %u, %s stack at %llx: no unmapped page below it", cpu, which, (unsigned long long)sp);
}

static void call_it(void *arg)
{
	((void (*)(void))(uintptr_t)arg)();
}

/* Writes back what is there, so that nothing breaks where the page lets it. */
static void write_same(void *arg)
{
	volatile uint32_t *p = arg;

	*p = *p; /* cppcheck-suppress selfAssignment */
}

static void expect_pf(struct t *t, const char *what, void (*fn)(void *), void *at, uint64_t error)
{
	struct trap_info info = {0};

	if (!EXPECT_MSG(t, trap_expect(fn, at, &info) == -EFAULT, "%s at %llx: got no fault, expected #PF",
			what, (unsigned long long)(uintptr_t)at))
		return;
	EXPECT_MSG(t, info.vector == VEC_PF && info.error == error,
		   "%s: got exception %u error 0x%llx, expected #PF 0x%llx", what, info.vector,
		   (unsigned long long)info.error, (unsigned long long)error);
}

/*
 * Our own memory is protected as it should be: a wild pointer of a test is a fault, not a wrong result.
 *
 * No page is writable and executable at once, none is open to user mode, page 0 and the page below every
 * stack are not mapped; NX, WP and (where the CPU has them) SMEP and SMAP are on, on every CPU. And it
 * holds in fact: code and constants do not take writes, data does not execute.
 */
TEST(boot, protections,
     "NX, WP, SMEP/SMAP where present; no page both writable and executable; stacks and page 0 guarded",
     NEED_NONE)
{
	static const uint32_t constant = 0x12345678;
	static uint32_t data = 0xc3; /* RET */
	uint32_t on_stack = 0xc3;
	struct bits *b = test_alloc(t, sizeof(*b) * cpu_count());
	struct walk w = {.t = t};
	struct page_leaf leaf;

	on_every_cpu(t, read_bits, b, sizeof(*b));
	for (unsigned i = 0; i < cpu_count(); i++) {
		static const char *const ist[] = {"NMI", "#DF", "#MC"};

		EXPECT_MSG(t, b[i].cr0 & CR0_WP, "CPU %u: CR0.WP is off", i);
		EXPECT_MSG(t, !cpu_features.nx || (b[i].efer & EFER_NXE), "CPU %u: EFER.NXE is off", i);
		EXPECT_MSG(t, !cpu_features.smep || (b[i].cr4 & CR4_SMEP), "CPU %u: CR4.SMEP is off", i);
		EXPECT_MSG(t, !cpu_features.smap || (b[i].cr4 & CR4_SMAP), "CPU %u: CR4.SMAP is off", i);
		look_for_guard(t, i, "main", b[i].sp);
		for (unsigned k = 0; k < ARRAY_SIZE(ist); k++)
			look_for_guard(t, i, ist[k], get_le64(cpus[i]->tss + TSS_IST1 + 8 * k));
	}

	EXPECT_MSG(t, !page_lookup(0, &leaf), "page 0 is mapped: entry %llx", (unsigned long long)leaf.entry);
	page_walk(look_at_leaf, &w);
	EXPECT_MSG(t, w.writable && w.executable,
		   "%u leaves, %u writable, %u executable: the walk saw nothing of ours", w.leaves,
		   w.writable, w.executable);

	expect_pf(t, "writing to code", write_same, (void *)(uintptr_t)write_same, PF_WRITE_RO);
	expect_pf(t, "writing to a constant", write_same, (void *)(uintptr_t)&constant, PF_WRITE_RO);
	if (cpu_features.nx) {
		expect_pf(t, "executing data", call_it, &data, PF_EXEC_NX);
		expect_pf(t, "executing the stack", call_it, &on_stack, PF_EXEC_NX);
	}
	EXPECT_EQ(t, data, 0xc3); /* and reading and writing data is fine */
	if (!cpu_features.nx || !cpu_features.smep || !cpu_features.smap)
		test_note(t, "not offered by the CPU:%s%s%s", cpu_features.nx ? "" : " NX",
			  cpu_features.smep ? "" : " SMEP", cpu_features.smap ? "" : " SMAP");
}
