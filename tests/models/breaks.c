/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/models/breaks.h"

static const struct {
	const char *name, *text;
	bool takes;                   /* a number */
	uint64_t arg, min, max;       /* its default and its bounds */
} table[BRK_COUNT] = {
#define PLAIN(n, name, text)               [BRK_##n] = { name, text, false, 0, 0, 0 }
#define TAKES(n, name, arg, min, max, text) [BRK_##n] = { name, text, true, arg, min, max }
	PLAIN(NO_TRIGGER, "no-trigger", "no software interrupt is honoured: nothing is ever pending"),
	PLAIN(NO_PBUS, "no-pbus", "PBUS' software interrupt (0x1150) is not honoured"),
	PLAIN(NO_ALARM, "no-alarm", "PTIMER's alarm never matches"),
	PLAIN(NO_PMC_SW, "no-pmc-sw", "PMC's software interrupt (0x1a0) is not honoured"),
	PLAIN(STUCK_PENDING, "stuck-pending", "what is pending cannot be acknowledged"),
	PLAIN(NO_MSI, "no-msi", "pending and enabled, but no message (MSI or MSI-X) is ever sent"),
	PLAIN(NO_REARM, "no-rearm", "the re-arm is lost: only the first message is sent"),
	TAKES(DOUBLE_MSI, "double-msi", 2, 0, 10000, "each message again, N ms later and once it was taken"),
	TAKES(LOSE_MSI, "lose-msi", 5, 1, UINT32_MAX, "each Nth message is lost"),
	TAKES(LATE_MSI, "late-msi", 50, 1, 60000, "messages come N ms late"),
	PLAIN(SPURIOUS_MSI, "spurious-msi", "one more message after each re-arm, with nothing pending"),
	PLAIN(WRONG_VECTOR, "wrong-vector", "message 1 is sent for message 0; MSI kinds offer two then, and a"
	      " guest that enables one gets none: its vector is the VMM's, not the device's"),
	PLAIN(MSI_AS_INTX, "msi-as-intx", "messages come as INTx; the VMM never sees the MSI capability"),
	PLAIN(NO_MSI_CAP, "no-msi-cap", "no MSI or MSI-X capability"),
	PLAIN(MSI_REGISTER_STUCK, "msi-register-stuck", "writes to the MSI capability do not stick (hidden from the"
	      " VMM, which would emulate them)"),
	PLAIN(INTX_DEAD, "intx-dead", "INTx is never asserted"),
	PLAIN(NO_INTX_PIN, "no-intx-pin", "interrupt pin 0"),
	PLAIN(BAR0_DEAD, "bar0-dead", "BAR0 reads all ones, writes are dropped"),
	PLAIN(BAR1_DEAD, "bar1-dead", "BAR1 likewise (and is trapped)"),
	PLAIN(BAR3_DEAD, "bar3-dead", "BAR3 likewise"),
	TAKES(BAR_SMALL, "bar-small", 0, 0, 5, "BAR N has a sixteenth of its size"),
	TAKES(CONFIG_DEAD, "config-dead", 1, 0, UINT32_MAX, "config space reads all ones, from N short reads after a"
	      " reset on (QEMU's own is the first)"),
	PLAIN(ID_MISMATCH, "id-mismatch", "BOOT_0 and BOOT_42 name another chip than the PCI ID: an unlocked card"),
	PLAIN(BOOT1_MISMATCH, "boot1-mismatch", "BOOT_1 says real where virtual, virtual where real"),
	PLAIN(UNPOSTED, "unposted", "all registers but BOOT_0, BOOT_1 and BOOT_42 answer 0xbadf1100"),
	PLAIN(PTIMER_STUCK, "ptimer-stuck", "PTIMER stands still"),
	PLAIN(PTIMER_BACK, "ptimer-back", "PTIMER runs backwards"),
	TAKES(PTIMER_FAST, "ptimer-fast", 2, 2, 1000, "PTIMER runs N times too fast"),
	TAKES(SLOW_TRAPS, "slow-traps", 1000, 1, 8000, "each trapped BAR access takes N ms longer (QEMU gives a device"
	      " up after 5000)"),
	TAKES(DIE_AFTER, "die-after", 0, 0, UINT32_MAX, "the process ends, status 3, instead of BAR access N+1"),
	TAKES(HANG_AFTER, "hang-after", 0, 0, UINT32_MAX, "no answer any more from BAR access N+1 on"),
	PLAIN(DMA_WRONG_PAGE, "dma-wrong-page", "DMA goes to the page beside (address bit 12 inverted)"),
	PLAIN(DMA_DEAD, "dma-dead", "DMA reads all ones and writes nothing"),
#undef PLAIN
#undef TAKES
};

static int add_one(struct breaks *b, const char *text, size_t len)
{
	const char *eq = memchr(text, '=', len);
	const size_t name = eq ? (size_t)(eq - text) : len;

	for (unsigned n = 0; n < BRK_COUNT; n++) {
		uint64_t arg = table[n].arg;

		if (strlen(table[n].name) != name || memcmp(table[n].name, text, name) != 0)
			continue;
		if (eq) {
			char num[24], *end;
			const size_t digits = len - name - 1;

			if (!table[n].takes || digits == 0 || digits >= sizeof(num) || eq[1] < '0' || eq[1] > '9')
				return -EINVAL;
			memcpy(num, eq + 1, digits);
			num[digits] = '\0';
			errno = 0;
			arg = strtoull(num, &end, 0);
			if (*end || errno || arg < table[n].min || arg > table[n].max)
				return -EINVAL;
		}
		b->set |= 1ull << n;
		b->arg[n] = arg;
		return 0;
	}
	return -EINVAL;
}

int breaks_add(struct breaks *b, const char *text)
{
	while (*text) {
		const size_t len = strcspn(text, ",");
		const int err = add_one(b, text, len);

		if (err)
			return err;
		text += len;
		text += *text == ',';
	}
	return 0;
}

void breaks_list(FILE *to)
{
	for (unsigned n = 0; n < BRK_COUNT; n++) {
		char name[32];

		if (table[n].takes)
			snprintf(name, sizeof(name), "%s=%" PRIu64, table[n].name, table[n].arg);
		else
			snprintf(name, sizeof(name), "%s", table[n].name);
		fprintf(to, "%-20s %s\n", name, table[n].text);
	}
}

void breaks_print(const struct breaks *b, FILE *to)
{
	const char *sep = "";

	for (unsigned n = 0; n < BRK_COUNT; n++) {
		if (!broken(b, (enum brk)n))
			continue;
		fprintf(to, "%s%s", sep, table[n].name);
		if (table[n].takes)
			fprintf(to, "=%" PRIu64, b->arg[n]);
		sep = ",";
	}
	if (!b->set)
		fputs("none", to);
}
