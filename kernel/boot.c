/* SPDX-License-Identifier: MIT */
#include "kernel/boot.h"

#include "boot/boot_edit.h"
#include "boot/handoff.h"
#include "kernel/cpu/context.h"
#include "kernel/cpu/cpu.h"
#include "kernel/log/log.h"
#include "kernel/mm/mm.h"

/* Filled by the UEFI loader (boot/entry.asm copies it here) or by the hand-offs below. */
struct boot_info boot_info __attribute__((aligned(16)));
const uint64_t boot_info_size = sizeof(boot_info);
uint64_t boot_tsc __attribute__((section(".data")));

#define BOOT_STACK_SIZE 65536

/*
 * From boot/entry.asm: long mode, low 4 GiB at their own addresses. Ends on our own page tables and
 * a stack with a guard page, in main_run().
 */
void boot_start(uint32_t path, uint64_t argument)
{
	const char *why = "";
	uint64_t size;
	void *stack;
	gpa_t image;
	int r = 0;

	log_init();
	cpuid_init();
	cpu_init_boot();
	image = kernel_phys(&size);
	if (path == BOOT_PVH)
		r = pvh_handoff(&handoff_identity, argument, &boot_info, &why);
	else if (path == BOOT_MULTIBOOT2)
		r = multiboot2_handoff(&handoff_identity, argument, &boot_info, &why);
	else if (boot_info.magic != BOOT_INFO_MAGIC || boot_info.version != BOOT_INFO_VERSION)
		panic("boot_info: magic %x version %u: the loader is not of this kernel", boot_info.magic,
		      boot_info.version);
	if (r)
		panic("boot: %s", why);
	boot_info.tsc_entry = boot_tsc;
	if (path != BOOT_UEFI && !boot_map_carve(&boot_info, image.v, size, BOOT_MEM_LOADER))
		panic("boot: the memory map is full (%u entries)", boot_info.mem_count);

	phys_init(&boot_info);
	paging_init(&boot_info);
	phys_moved();
	stack = stack_alloc(BOOT_STACK_SIZE);
	if (!stack)
		panic("boot: no memory for a stack");
	stack_switch(stack, main_run);
}
