/* SPDX-License-Identifier: MIT */
#include "kernel/lib/sabotage.h"

#ifdef PLUMB_SABOTAGE

#include "kernel/lib/string.h"

extern struct sabotage_point sabotage_start[], sabotage_end[]; /* linker.ld */

static const char *selected = "";

int sabotage_select(const char *name, size_t len)
{
	int r = -EINVAL;

	for (struct sabotage_point *p = sabotage_start; p < sabotage_end; p++)
		if (strlen(p->name) == len && memcmp(p->name, name, len) == 0) {
			p->on = true;
			selected = p->name;
			r = 0;
		}
	return r;
}

const char *sabotage_name(void)
{
	return selected;
}

#endif
