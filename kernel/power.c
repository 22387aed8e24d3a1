/* SPDX-License-Identifier: MIT */
#include "kernel/power.h"

#include "kernel/acpi/acpi.h"
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/msr.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

#define DEBUG_EXIT_PORT 0xf4 /* where scripts/plumb and most others put isa-debug-exit */
#define RESET_PORT      0xcf9 /* PCH, Reset Control: SYS_RST, RST_CPU, FULL_RST */
#define KBC_COMMAND     0x64
#define KBC_PULSE_RESET 0xfe

/* PM1 control, ACPI 6.5, 4.8.3.2.1 */
#define PM1_SCI_EN   BIT(0)
#define PM1_SLP_TYP  GENMASK(12, 10)
#define PM1_SLP_EN   BIT(13)

/* CR4, SDM vol. 3, 2.5: SSE */
#define CR4_OSFXSR     BIT64(9)
#define CR4_OSXMMEXCPT BIT64(10)

/* EFI_RESET_TYPE, UEFI 2.10, 8.5.1 */
enum efi_reset { EFI_RESET_COLD = 0, EFI_RESET_SHUTDOWN = 2 };
typedef void(__attribute__((ms_abi)) *efi_reset_fn)(uint32_t type, uint64_t status, uint64_t size,
						    void *data);

static const struct boot_info *boot;
static bool has_s5;
static uint8_t s5_typ_a, s5_typ_b;

void power_init(const struct boot_info *bi)
{
	const struct acpi_table *dsdt = acpi_find("DSDT", 0);

	boot = bi;
	has_s5 = acpi.has_fadt && acpi.fadt.pm1a_cnt && dsdt &&
		 dsdt_find_s5(dsdt->bytes, dsdt->len, &s5_typ_a, &s5_typ_b) == 0;
}

/* ---- waiting, when the clock may not be there yet and a test's budget may be spent ---- */

#define TSC_KHZ_GUESS 4000000u

static void wait_ms(uint32_t ms)
{
	const uint64_t khz = tsc_khz() ? tsc_khz() : TSC_KHZ_GUESS;
	const uint64_t start = tsc_read();

	while (tsc_read() - start < khz * ms)
		cpu_relax();
}

static void given_up_after_a_second(void)
{
	wait_ms(1000);
}

/* ---- UEFI ---- */

#define PTE_P    BIT64(0)
#define PTE_W    BIT64(1)
#define PTE_PS   BIT64(7)
#define TWO_MIB  0x200000ull
#define GIB      0x40000000ull
#define POOL     12
#define LOW_GIBS 4

/*
 * Physical mode, UEFI 2.10, 2.3.4: the firmware wants its memory mapped one to one. These tables have
 * that in the lower half, and the kernel's own upper half, so that code and stack stay where they are.
 * Static: a panic must not depend on an allocator.
 */
static uint64_t __attribute__((aligned(4096))) pool[POOL][512];
static unsigned pool_used;

static uint64_t *table_new(void)
{
	return pool_used < POOL ? pool[pool_used++] : NULL;
}

static uint64_t *table_below(uint64_t *entry)
{
	uint64_t *t;

	for (unsigned i = 0; *entry & PTE_P && i < pool_used; i++)
		if (virt_to_phys(pool[i]).v == (*entry & ~0xfffull))
			return pool[i];
	t = table_new();
	if (t)
		*entry = virt_to_phys(t).v | PTE_P | PTE_W;
	return t;
}

/* One to one, readable, writable and executable, in 2 MiB pages. False: no tables left. */
static bool identity_map(uint64_t *pml4, uint64_t base, uint64_t size)
{
	for (uint64_t pa = align_down(base, TWO_MIB); pa < base + size; pa += TWO_MIB) {
		uint64_t *t = pa < BIT64(47) ? table_below(&pml4[pa >> 39]) : NULL;

		t = t ? table_below(&t[(pa >> 30) & 511]) : NULL;
		if (!t)
			return false;
		t[(pa >> 21) & 511] = pa | PTE_P | PTE_W | PTE_PS;
	}
	return true;
}

static uint64_t *firmware_space(void)
{
	uint64_t *pml4 = pool[0];
	const uint64_t *ours = phys_to_virt(gpa(align_down(read_cr3(), PAGE_SIZE)));

	pool_used = 1;
	memset(pool, 0, sizeof(pool));
	for (unsigned i = 256; i < 512; i++)
		pml4[i] = ours[i];
	if (!identity_map(pml4, 0, LOW_GIBS * GIB))
		return NULL;
	for (uint32_t i = 0; i < boot->mem_count; i++) {
		const struct boot_mem *m = &boot->mem[i];

		if (m->type == BOOT_MEM_RUNTIME && m->base + m->size > LOW_GIBS * GIB &&
		    !identity_map(pml4, m->base, m->size))
			return NULL;
	}
	return pml4;
}

static void reset_system(void *type)
{
	const efi_reset_fn fn = (efi_reset_fn)(uintptr_t)boot->efi_reset_system;

	fn((uint32_t)(uintptr_t)type, 0, 0, NULL);
}

static void efi_reset(enum efi_reset type)
{
	const uint64_t cr3 = read_cr3();
	void *const arg = (void *)(uintptr_t)type;
	struct trap_info trap;
	uint64_t *pml4;

	if (!boot || !boot->efi_reset_system || !(pml4 = firmware_space()))
		return;
	/* The calling conventions let the firmware use SSE (2.3.4). */
	write_cr0((read_cr0() & ~(CR0_EM | CR0_TS)) | CR0_MP);
	write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
	write_cr3(virt_to_phys(pml4).v);
	this_cpu()->expecting = false; /* we may come from a panic in the middle of that */
	trap_expect(reset_system, arg, &trap); /* a firmware that faults has not ended the machine */
	given_up_after_a_second();
	write_cr3(cr3);
}

/* ---- ACPI ---- */

static void sleep(uint64_t port, uint8_t typ)
{
	const uint16_t v = inw((uint16_t)port) & (uint16_t)~(PM1_SLP_TYP | PM1_SLP_EN);

	outw((uint16_t)port, (uint16_t)(v | FIELD_PREP(PM1_SLP_TYP, typ) | PM1_SLP_EN));
}

/* ACPI 6.5, 7.4.2 without the methods: no device needs \_PTS here, the machine is going away. */
static void acpi_poweroff(void)
{
	const struct fadt *f = &acpi.fadt;

	if (!has_s5)
		return;
	if (!(inw((uint16_t)f->pm1a_cnt) & PM1_SCI_EN) && f->smi_cmd && f->smi_cmd <= 0xffff &&
	    f->acpi_enable) {
		outb((uint16_t)f->smi_cmd, f->acpi_enable);
		for (unsigned i = 0; i < 1000 && !(inw((uint16_t)f->pm1a_cnt) & PM1_SCI_EN); i++)
			wait_ms(1);
	}
	sleep(f->pm1a_cnt, s5_typ_a);
	if (f->pm1b_cnt)
		sleep(f->pm1b_cnt, s5_typ_b);
	given_up_after_a_second();
}

static void acpi_reset(void)
{
	if (!acpi.has_fadt || !acpi.fadt.reset_supported)
		return;
	outb((uint16_t)acpi.fadt.reset_port, acpi.fadt.reset_value);
	given_up_after_a_second();
}

/* ---- without any table ---- */

static void debug_exit(enum end_outcome outcome)
{
	/* docs/results.md: 0x10 pass, 0x11 failure, 0x12 panic. Nothing answers: it was not there. */
	outb(DEBUG_EXIT_PORT, (uint8_t)(0x10 + outcome));
	wait_ms(10);
}

static void chipset_reset(void)
{
	outb(RESET_PORT, 0x02);
	outb(RESET_PORT, 0x06);
	given_up_after_a_second();
	outb(KBC_COMMAND, KBC_PULSE_RESET);
	given_up_after_a_second();
}

unsigned again_seconds = 10;

/*
 * The ways in order. `next` survives a panic on the way: what led there is not tried again.
 */
void machine_end(enum end_outcome outcome, enum exit_how how, void (*again)(void))
{
	static unsigned next;
	static bool halting;

	irq_disable();
	while (next < 4 && how != EXIT_HALT) {
		switch (next++) {
		case 0:
			if (how == EXIT_DEBUG)
				debug_exit(outcome);
			break;
		case 1:
			efi_reset(how == EXIT_RESET ? EFI_RESET_COLD : EFI_RESET_SHUTDOWN);
			break;
		case 2:
			if (how == EXIT_RESET)
				acpi_reset();
			else
				acpi_poweroff();
			break;
		default:
			if (how == EXIT_RESET)
				chipset_reset();
			break;
		}
	}
	for (;;) {
		for (unsigned i = 0; i < again_seconds; i++)
			wait_ms(1000);
		if (again && !halting) {
			halting = true; /* a fault in it is not worth another report */
			again();
			halting = false;
		}
	}
}
