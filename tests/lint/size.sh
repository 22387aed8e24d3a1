#!/bin/sh
# SPDX-License-Identifier: MIT
# kernel.elf stays small: 512 KiB stripped.
size=$(stat -c %s "$1") || exit 1
echo "$1: $size bytes"
[ "$size" -le 524288 ]
