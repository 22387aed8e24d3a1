/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * With `dump` on the command line: every function's configuration space and every ACPI table as
 * "# pciconf" and "# acpitable" lines (docs/results.md). After PCI resources were assigned, before the
 * first test. `plumb lspci` and `plumb acpi` make files of them.
 */
void dump_print(void);
