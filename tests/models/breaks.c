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
	[BRK_NO_TRIGGER]         = { "no-trigger", "no software interrupt is honoured: nothing is ever pending", 0, 0, 0, 0 },
	[BRK_NO_PBUS]            = { "no-pbus", "PBUS' software interrupt (0x1150) is not honoured", 0, 0, 0, 0 },
	[BRK_NO_ALARM]           = { "no-alarm", "PTIMER's alarm never matches", 0, 0, 0, 0 },
	[BRK_NO_PMC_SW]          = { "no-pmc-sw", "PMC's software interrupt (0x1a0) is not honoured", 0, 0, 0, 0 },
	[BRK_STUCK_PENDING]      = { "stuck-pending", "what is pending cannot be acknowledged", 0, 0, 0, 0 },
	[BRK_NO_MSI]             = { "no-msi", "pending and enabled, but no message (MSI or MSI-X) is ever sent", 0, 0, 0, 0 },
	[BRK_NO_REARM]           = { "no-rearm", "the re-arm is lost: only the first message is sent", 0, 0, 0, 0 },
	[BRK_DOUBLE_MSI]         = { "double-msi", "each message comes a second time, N ms after the first was taken", 1, 2, 0, 10000 },
	[BRK_LOSE_MSI]           = { "lose-msi", "each Nth message is lost", 1, 5, 1, UINT32_MAX },
	[BRK_LATE_MSI]           = { "late-msi", "messages come N ms late", 1, 50, 1, 60000 },
	[BRK_SPURIOUS_MSI]       = { "spurious-msi", "one more message after each acknowledgement, with nothing pending", 0, 0, 0, 0 },
	[BRK_WRONG_VECTOR]       = { "wrong-vector", "message 1 is sent for message 0 (MSI kinds offer two then; a guest that"
				     " enables one of them gets none: its vector is the VMM's, not the device's)", 0, 0, 0, 0 },
	[BRK_MSI_AS_INTX]        = { "msi-as-intx", "messages come as INTx: the VMM never learns of the MSI capability", 0, 0, 0, 0 },
	[BRK_NO_MSI_CAP]         = { "no-msi-cap", "no MSI or MSI-X capability", 0, 0, 0, 0 },
	[BRK_MSI_REGISTER_STUCK] = { "msi-register-stuck", "writes to the MSI capability do not stick (hidden from the VMM, which"
				     " would emulate them)", 0, 0, 0, 0 },
	[BRK_INTX_DEAD]          = { "intx-dead", "INTx is never asserted", 0, 0, 0, 0 },
	[BRK_NO_INTX_PIN]        = { "no-intx-pin", "interrupt pin 0", 0, 0, 0, 0 },
	[BRK_BAR0_DEAD]          = { "bar0-dead", "BAR0 reads all ones, writes are dropped", 0, 0, 0, 0 },
	[BRK_BAR1_DEAD]          = { "bar1-dead", "BAR1 likewise (and is trapped)", 0, 0, 0, 0 },
	[BRK_BAR3_DEAD]          = { "bar3-dead", "BAR3 likewise", 0, 0, 0, 0 },
	[BRK_BAR_SMALL]          = { "bar-small", "BAR N has a sixteenth of its size", 1, 0, 0, 5 },
	[BRK_CONFIG_DEAD]        = { "config-dead", "config space reads all ones, from N short reads after a reset on (QEMU's own is"
				     " the first)", 1, 1, 0, UINT32_MAX },
	[BRK_ID_MISMATCH]        = { "id-mismatch", "BOOT_0 and BOOT_42 name another chip than the PCI ID (an unlocked card)", 0, 0, 0, 0 },
	[BRK_BOOT1_MISMATCH]     = { "boot1-mismatch", "BOOT_1 says real where virtual, virtual where real", 0, 0, 0, 0 },
	[BRK_UNPOSTED]           = { "unposted", "all registers but BOOT_0, BOOT_1 and BOOT_42 answer 0xbadf1100", 0, 0, 0, 0 },
	[BRK_PTIMER_STUCK]       = { "ptimer-stuck", "PTIMER stands still", 0, 0, 0, 0 },
	[BRK_PTIMER_BACK]        = { "ptimer-back", "PTIMER runs backwards", 0, 0, 0, 0 },
	[BRK_PTIMER_FAST]        = { "ptimer-fast", "PTIMER runs N times too fast", 1, 2, 2, 1000 },
	[BRK_SLOW_TRAPS]         = { "slow-traps", "each trapped BAR access takes N ms longer (QEMU gives a device up after 5000)", 1, 1000, 1, 8000 },
	[BRK_DIE_AFTER]          = { "die-after", "the process ends, status 3, instead of BAR access N+1", 1, 0, 0, UINT32_MAX },
	[BRK_HANG_AFTER]         = { "hang-after", "no answer any more from BAR access N+1 on", 1, 0, 0, UINT32_MAX },
	[BRK_DMA_WRONG_PAGE]     = { "dma-wrong-page", "DMA goes to the page beside (address bit 12 inverted)", 0, 0, 0, 0 },
	[BRK_DMA_DEAD]           = { "dma-dead", "DMA reads all ones and writes nothing", 0, 0, 0, 0 },
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
