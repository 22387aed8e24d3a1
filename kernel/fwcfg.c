/* SPDX-License-Identifier: MIT */
#include "kernel/fwcfg.h"

#include "kernel/cpu/cpu.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/string.h"

/* QEMU docs/specs/fw_cfg: the selector port, the data port, and the items all machines have. */
#define FWCFG_SELECTOR  0x510
#define FWCFG_DATA      0x511
#define FWCFG_SIGNATURE 0x0000
#define FWCFG_FILE_DIR  0x0019
#define FWCFG_FILES_MAX 4096
#define FWCFG_NAME_SIZE 56
struct fwcfg_file {
	uint8_t size[4], select[2], reserved[2]; /* big-endian */
	char name[FWCFG_NAME_SIZE];
};

static uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* One string instruction, not a loop: hypervisors answer it with one exit for many bytes. */
static void read_bytes(void *buf, size_t len)
{
	__asm__ volatile("rep insb" : "+D"(buf), "+c"(len) : "d"((uint16_t)FWCFG_DATA) : "memory");
}

static void select_item(uint16_t key)
{
	outw(FWCFG_SELECTOR, key);
}

/*
 * A hypervisor says so in CPUID, unless it was told to hide (-cpu …,-hypervisor): then the host
 * bridge has QEMU's subsystem ID. Bare machines have other things at these ports.
 */
static bool may_be_qemu(void)
{
	if (cpuid(1, 0).ecx & BIT(31))
		return true;
	outl(0xcf8, BIT(31) | 0x2c);
	return inl(0xcfc) == 0x11001af4;
}

bool fwcfg_present(void)
{
	static enum { UNKNOWN, NO, YES } state;
	char sig[4];

	if (state == UNKNOWN) {
		state = NO;
		if (may_be_qemu()) {
			select_item(FWCFG_SIGNATURE);
			read_bytes(sig, sizeof(sig));
			if (memcmp(sig, "QEMU", sizeof(sig)) == 0)
				state = YES;
		}
	}
	return state == YES;
}

int fwcfg_item(uint16_t key, void *buf, size_t len)
{
	if (!fwcfg_present())
		return -ENODEV;
	select_item(key);
	read_bytes(buf, len);
	return 0;
}

int fwcfg_read(const char *name, char *buf, size_t size)
{
	uint8_t be_count[4];
	uint32_t count;
	struct fwcfg_file file;

	if (size)
		buf[0] = '\0';
	if (fwcfg_item(FWCFG_FILE_DIR, be_count, sizeof(be_count)) < 0)
		return -ENODEV;
	count = get_be32(be_count);
	for (uint32_t i = 0; i < count && i < FWCFG_FILES_MAX; i++) {
		read_bytes(&file, sizeof(file));
		if (strncmp(file.name, name, sizeof(file.name)) == 0) {
			const uint32_t len = get_be32(file.size);
			const size_t take = MIN((size_t)len, size ? size - 1 : 0);

			select_item((uint16_t)(file.select[0] << 8 | file.select[1]));
			read_bytes(buf, take);
			if (size)
				buf[take] = '\0';
			return take == len ? (int)len : -E2BIG;
		}
	}
	return -ENOENT;
}
