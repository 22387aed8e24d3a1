/* SPDX-License-Identifier: MIT */

/*
 * plumb.efi: loads \plumb\kernel.elf from the volume it was itself loaded from, tells the kernel what
 * the firmware knows (struct boot_info), leaves boot services and jumps. Everything else is the
 * kernel's. A failure is said on the console and on COM1, and goes back to the firmware.
 */

#include <efi.h>

#include "boot/boot_edit.h"
#include "boot/efi/convert.h"
#include "boot/efi/elf.h"
#include "kernel/lib/addr.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"

#define KERNEL_PATH   L"\\plumb\\kernel.elf"
#define CONFIG_PATH   L"\\plumb.cfg"
#define KERNEL_MAX    (64u << 20) /* bytes of file */
#define CONFIG_MAX    8192
#define BELOW_4G      0xffffffffull
#define EXIT_TRIES    8
#define DEBUG_EXIT    0xf4 /* isa-debug-exit: docs/results.md, 0x12 is a panic */
#define COM1          0x3f8

typedef void (*kernel_entry64)(struct boot_info *bi, uint64_t phys_base);

static EFI_HANDLE self;
static EFI_SYSTEM_TABLE *st;
static EFI_BOOT_SERVICES *bs;
static bool left_boot_services;

/* From GNU-EFI's crt0, which calls it by the System V convention. */
EFI_STATUS efi_main(EFI_HANDLE handle, EFI_SYSTEM_TABLE *table);

/* ---- saying what went wrong ---- */

static inline void out8(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}
static inline uint8_t in8(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}
static uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

/* The firmware's console need not be the serial port, and is gone after ExitBootServices(). */
static void say_serial(const char *text)
{
	out8(COM1 + 7, 0x5a); /* scratch register: is there a UART at all? */
	if (in8(COM1 + 7) != 0x5a)
		return;
	for (; *text; text++) {
		const uint64_t start = rdtsc();

		/* LSR.THRE; 200 million ticks are at least 40 ms, a byte takes 0.1 ms at 115200 baud */
		while (!(in8(COM1 + 5) & 0x20) && rdtsc() - start < 200000000)
			;
		out8(COM1, (uint8_t)*text);
	}
}

static void say(const char *text)
{
	CHAR16 wide[256];
	UINTN n = 0;

	for (; text[n] && n < ARRAY_SIZE(wide) - 1; n++)
		wide[n] = (CHAR16)text[n];
	wide[n] = 0;
	if (!left_boot_services && st->ConOut)
		st->ConOut->OutputString(st->ConOut, wide);
	say_serial(text);
}

/* "plumb.efi: WHAT: EFI_NOT_FOUND (0x800000000000000e)"; returns an error, always. */
static EFI_STATUS fail(EFI_STATUS status, const char *what)
{
	const char *name = efi_status_name(status);
	char text[200];

	fmt_snprintf(text, sizeof(text), "\r\nplumb.efi: %s: %s%s0x%llx%s\r\n", what, name,
		     *name ? " (" : "", (unsigned long long)status, *name ? ")" : "");
	say(text);
	return EFI_ERROR(status) ? status : EFI_LOAD_ERROR;
}

/* ---- files ---- */

static EFI_STATUS open_volume(EFI_FILE_HANDLE *root, EFI_LOADED_IMAGE **image)
{
	EFI_GUID loaded_image = LOADED_IMAGE_PROTOCOL, file_system = SIMPLE_FILE_SYSTEM_PROTOCOL;
	EFI_FILE_IO_INTERFACE *fs;
	EFI_STATUS s;

	s = bs->HandleProtocol(self, &loaded_image, (void **)image);
	if (EFI_ERROR(s))
		return fail(s, "no loaded-image protocol on our own handle");
	s = bs->HandleProtocol((*image)->DeviceHandle, &file_system, (void **)&fs);
	if (EFI_ERROR(s))
		return fail(s, "we were not loaded from a file system");
	s = fs->OpenVolume(fs, root);
	if (EFI_ERROR(s))
		return fail(s, "cannot open the volume we were loaded from");
	return EFI_SUCCESS;
}

/* At most size bytes from the current position; *got of them were there. */
static EFI_STATUS read_all(EFI_FILE_HANDLE f, uint8_t *buf, uint64_t size, uint64_t *got)
{
	*got = 0;
	while (*got < size) {
		UINTN n = size - *got;
		const EFI_STATUS s = f->Read(f, &n, buf + *got);

		if (EFI_ERROR(s))
			return s;
		if (n == 0)
			break;
		*got += n;
	}
	return EFI_SUCCESS;
}

/* The whole of KERNEL_PATH in pages of its own. */
static EFI_STATUS read_kernel(EFI_FILE_HANDLE root, uint8_t **bytes, uint64_t *len)
{
	EFI_FILE_HANDLE f;
	EFI_PHYSICAL_ADDRESS at;
	EFI_STATUS s;
	uint64_t got;

	s = root->Open(root, &f, KERNEL_PATH, EFI_FILE_MODE_READ, 0);
	if (EFI_ERROR(s))
		return fail(s, "cannot open \\plumb\\kernel.elf");
	/* A position of all ones is the end of the file (UEFI 2.10, 13.5): no file information needed. */
	s = f->SetPosition(f, UINT64_MAX);
	if (!EFI_ERROR(s))
		s = f->GetPosition(f, len);
	if (!EFI_ERROR(s))
		s = f->SetPosition(f, 0);
	if (!EFI_ERROR(s) && (*len == 0 || *len > KERNEL_MAX))
		s = EFI_BAD_BUFFER_SIZE;
	if (EFI_ERROR(s))
		return fail(s, "cannot tell the size of \\plumb\\kernel.elf");
	s = bs->AllocatePages(AllocateAnyPages, EfiLoaderData, align_up(*len, PAGE_SIZE) / PAGE_SIZE, &at);
	if (EFI_ERROR(s))
		return fail(s, "no memory for the file kernel.elf");
	*bytes = (uint8_t *)(uintptr_t)at;
	s = read_all(f, *bytes, *len, &got);
	if (!EFI_ERROR(s) && got != *len)
		s = EFI_LOAD_ERROR;
	if (EFI_ERROR(s))
		return fail(s, "cannot read \\plumb\\kernel.elf");
	f->Close(f);
	return EFI_SUCCESS;
}

static EFI_STATUS read_command_line(EFI_FILE_HANDLE root, const EFI_LOADED_IMAGE *image,
				    struct boot_info *bi)
{
	static char text[CONFIG_MAX];
	EFI_FILE_HANDLE f;
	EFI_STATUS s;
	uint64_t got;
	size_t n;

	n = image->LoadOptions
		    ? efi_load_options(image->LoadOptions, image->LoadOptionsSize, text, sizeof(text))
		    : 0;
	boot_cmdline_add(bi, text, n, true);

	s = root->Open(root, &f, CONFIG_PATH, EFI_FILE_MODE_READ, 0);
	if (s == EFI_NOT_FOUND)
		return EFI_SUCCESS;
	if (EFI_ERROR(s))
		return fail(s, "cannot open \\plumb.cfg");
	s = read_all(f, (uint8_t *)text, sizeof(text), &got);
	if (EFI_ERROR(s))
		return fail(s, "cannot read \\plumb.cfg");
	f->Close(f);
	boot_cmdline_add(bi, text, got, false);
	return EFI_SUCCESS;
}

/* ---- the kernel in memory ---- */

/*
 * Pages for the image, at a multiple of 2 MiB below 4 GiB: where it was linked if that is free, else
 * the highest place, from an allocation that is 2 MiB too large and given back at both ends. As code:
 * firmware may map data without execution, and the entry runs on the firmware's page tables.
 */
static EFI_STATUS place(const struct elf_image *elf, uint64_t *base)
{
	const UINTN pages = align_up(elf->span, PAGE_SIZE) / PAGE_SIZE;
	const UINTN slack = ELF_LOAD_ALIGN / PAGE_SIZE - 1;
	EFI_PHYSICAL_ADDRESS at = elf->first;
	UINTN head;
	EFI_STATUS s;

	s = bs->AllocatePages(AllocateAddress, EfiLoaderCode, pages, &at);
	if (!EFI_ERROR(s)) {
		*base = at;
		return s;
	}
	at = BELOW_4G;
	s = bs->AllocatePages(AllocateMaxAddress, EfiLoaderCode, pages + slack, &at);
	if (EFI_ERROR(s))
		return fail(s, "no memory below 4 GiB for the kernel");
	*base = align_up(at, ELF_LOAD_ALIGN);
	head = (*base - at) / PAGE_SIZE;
	if (head)
		bs->FreePages(at, head);
	if (slack - head)
		bs->FreePages(*base + pages * PAGE_SIZE, slack - head);
	return EFI_SUCCESS;
}

static void copy_image(const struct elf_image *elf, const uint8_t *file, uint64_t base)
{
	memset((void *)(uintptr_t)base, 0, align_up(elf->span, PAGE_SIZE));
	for (unsigned i = 0; i < elf->count; i++)
		memcpy((void *)(uintptr_t)(elf->segment[i].paddr - elf->first + base),
		       file + elf->segment[i].offset, elf->segment[i].filesz);
}

/* ---- what the firmware knows ---- */

static bool same_guid(const EFI_GUID *a, const EFI_GUID *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static uint64_t find_rsdp(void)
{
	const EFI_GUID acpi20 = ACPI_20_TABLE_GUID, acpi10 = ACPI_TABLE_GUID;
	uint64_t old = 0;

	for (UINTN i = 0; i < st->NumberOfTableEntries; i++) {
		const EFI_CONFIGURATION_TABLE *t = &st->ConfigurationTable[i];

		if (same_guid(&t->VendorGuid, &acpi20))
			return (uint64_t)(uintptr_t)t->VendorTable;
		if (same_guid(&t->VendorGuid, &acpi10))
			old = (uint64_t)(uintptr_t)t->VendorTable;
	}
	return old;
}

static uint32_t secure_boot(void)
{
	EFI_GUID global = EFI_GLOBAL_VARIABLE;
	uint8_t on = 0;
	UINTN size = sizeof(on);
	const EFI_STATUS s = st->RuntimeServices->GetVariable(L"SecureBoot", &global, NULL, &size, &on);

	if (s == EFI_NOT_FOUND)
		return 0;
	return EFI_ERROR(s) ? 2 : on == 1;
}

static void describe(struct boot_info *bi)
{
	const uint32_t major = st->Hdr.Revision >> 16, minor = st->Hdr.Revision & 0xffff;
	char vendor[64];

	bi->magic = BOOT_INFO_MAGIC;
	bi->version = BOOT_INFO_VERSION;
	bi->path = BOOT_UEFI;
	bi->rsdp = find_rsdp();
	bi->efi_system_table = (uint64_t)(uintptr_t)st;
	bi->efi_reset_system = (uint64_t)(uintptr_t)st->RuntimeServices->ResetSystem;
	bi->secure_boot = secure_boot();
	efi_ascii(st->FirmwareVendor, vendor, sizeof(vendor));
	fmt_snprintf(bi->firmware, sizeof(bi->firmware), "%s rev 0x%x (UEFI %u.%u%u)", vendor,
		     st->FirmwareRevision, major, minor / 10, minor % 10);
	strlcpy(bi->loader, "plumb.efi", sizeof(bi->loader));
}

/* ---- leaving ---- */

/*
 * The map must be the latest one: where an event changed it in between, ExitBootServices() refuses its
 * key and only these two calls are allowed from then on (UEFI 2.10, 7.4.6). So the buffer is allocated
 * before, with room for the map to grow.
 */
static EFI_STATUS leave(struct boot_info *bi)
{
	UINTN room = 0, size, key, desc_size = 0;
	UINT32 version;
	EFI_MEMORY_DESCRIPTOR *map = NULL;
	EFI_STATUS s;

	s = bs->GetMemoryMap(&room, NULL, &key, &desc_size, &version);
	if (s != EFI_BUFFER_TOO_SMALL || desc_size == 0)
		return fail(s, "GetMemoryMap does not tell its size");
	room += 64 * desc_size;
	s = bs->AllocatePool(EfiLoaderData, room, (void **)&map);
	if (EFI_ERROR(s))
		return fail(s, "no memory for the memory map");

	for (unsigned i = 0; i < EXIT_TRIES; i++) {
		size = room;
		s = bs->GetMemoryMap(&size, map, &key, &desc_size, &version);
		if (EFI_ERROR(s))
			return fail(s, "GetMemoryMap");
		s = bs->ExitBootServices(self, key);
		if (!EFI_ERROR(s)) {
			left_boot_services = true;
			efi_memory_map((const uint8_t *)map, size, desc_size, bi);
			return EFI_SUCCESS;
		}
	}
	return fail(s, "ExitBootServices refuses every map");
}

static EFI_STATUS run(uint64_t tsc)
{
	static struct elf_image elf;
	EFI_LOADED_IMAGE *image;
	EFI_FILE_HANDLE root;
	EFI_PHYSICAL_ADDRESS at = BELOW_4G;
	const UINTN bi_pages = align_up(sizeof(struct boot_info), PAGE_SIZE) / PAGE_SIZE;
	struct boot_info *bi;
	uint8_t *file = NULL;
	uint64_t len = 0, base = 0;
	const char *why;
	EFI_STATUS s;
	char text[128];

	s = open_volume(&root, &image);
	if (EFI_ERROR(s))
		return s;
	s = read_kernel(root, &file, &len);
	if (EFI_ERROR(s))
		return s;
	if (elf_parse(file, len, &elf, &why) < 0) {
		fmt_snprintf(text, sizeof(text), "\\plumb\\kernel.elf: %s", why);
		return fail(EFI_LOAD_ERROR, text);
	}
	s = place(&elf, &base);
	if (EFI_ERROR(s))
		return s;
	copy_image(&elf, file, base);

	s = bs->AllocatePages(AllocateMaxAddress, EfiLoaderData, bi_pages, &at);
	if (EFI_ERROR(s))
		return fail(s, "no memory for the boot information");
	bi = (struct boot_info *)(uintptr_t)at;
	memset(bi, 0, sizeof(*bi));
	describe(bi);
	bi->tsc_entry = tsc;
	s = read_command_line(root, image, bi);
	if (EFI_ERROR(s))
		return s;
	root->Close(root);

	s = leave(bi);
	if (EFI_ERROR(s))
		return s;
	__asm__ volatile("cli" ::: "memory");
	/* A map too full to say what is ours cannot be used: the kernel finds no RAM and says so. */
	if (!boot_map_carve(bi, base, align_up(elf.span, PAGE_SIZE), BOOT_MEM_LOADER) ||
	    !boot_map_carve(bi, at, bi_pages * PAGE_SIZE, BOOT_MEM_LOADER))
		bi->mem_count = 0;
	((kernel_entry64)(uintptr_t)(elf.entry64 - elf.first + base))(bi, base);
	__builtin_unreachable();
}

EFI_STATUS efi_main(EFI_HANDLE handle, EFI_SYSTEM_TABLE *table)
{
	const uint64_t tsc = rdtsc();
	EFI_STATUS s;

	self = handle;
	st = table;
	bs = table->BootServices;
	bs->SetWatchdogTimer(0, 0, 0, NULL);
	s = run(tsc);

	/* Back to the firmware, after a while for a person to read it; QEMU with isa-debug-exit ends here. */
	out8(DEBUG_EXIT, 0x12);
	if (!left_boot_services)
		bs->Stall(3000000);
	return s;
}
