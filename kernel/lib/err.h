/* SPDX-License-Identifier: MIT */
#pragma once

/* Error numbers as POSIX names and Linux numbers them; functions return them negated. */
#define EPERM      1
#define ENOENT     2
#define EIO        5
#define ENXIO      6
#define E2BIG      7
#define EAGAIN     11
#define ENOMEM     12
#define EFAULT     14
#define EBUSY      16
#define EEXIST     17
#define ENODEV     19
#define EINVAL     22
#define ENOSPC     28
#define ERANGE     34
#define ENODATA    61
#define EOVERFLOW  75
#define EOPNOTSUPP 95
#define ETIMEDOUT  110

/* "ETIMEDOUT" for -ETIMEDOUT or ETIMEDOUT; "?" for a number without a name. */
const char *err_name(int err);
