/* SPDX-License-Identifier: MIT */
#include "kernel/lib/err.h"

const char *err_name(int err)
{
	static const struct { int n; const char *name; } names[] = {
#define E(x) {x, #x}
		E(EPERM), E(ENOENT), E(EIO), E(ENXIO), E(E2BIG), E(EAGAIN), E(ENOMEM), E(EFAULT),
		E(EBUSY), E(EEXIST), E(ENODEV), E(EINVAL), E(ENOSPC), E(ERANGE), E(ENODATA),
		E(EOVERFLOW), E(EOPNOTSUPP), E(ETIMEDOUT),
#undef E
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].n == err || names[i].n == -err)
			return names[i].name;
	return "?";
}
