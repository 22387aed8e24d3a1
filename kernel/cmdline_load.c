/* SPDX-License-Identifier: MIT */
#include "kernel/cmdline.h"
#include "kernel/fwcfg.h"
#include "kernel/lib/err.h"
#include "kernel/lib/string.h"

struct cmdline cmdline;

static void too_long(const char *source)
{
	if (!cmdline.error[0]) {
		strlcpy(cmdline.error, "longer than 2047 bytes: ", sizeof(cmdline.error));
		strlcpy(cmdline.error + strlen(cmdline.error), source,
			sizeof(cmdline.error) - strlen(cmdline.error));
	}
}

void cmdline_load(const struct boot_info *bi)
{
	static char text[BOOT_CMDLINE_MAX];
	char *second;
	int r;

	cmdline_init(&cmdline);
	if (bi->cmdline_truncated)
		too_long("the boot loader's");

	strlcpy(text, bi->cmdline, sizeof(text));
	second = strchr(text, '\n'); /* boot_cmdline_add() */
	if (second)
		*second++ = '\0';
	cmdline_add(&cmdline, "the boot loader", text);
	if (second)
		cmdline_add(&cmdline, "plumb.cfg", second);

	r = fwcfg_read("opt/plumb/cmdline", text, sizeof(text));
	if (r == -E2BIG)
		too_long("fw_cfg opt/plumb/cmdline");
	if (r > 0)
		cmdline_add(&cmdline, "fw_cfg", text);
}
