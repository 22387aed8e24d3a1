/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

#include "boot/boot_info.h"
#include "kernel/power.h"

extern struct boot_info boot_info;
extern uint64_t boot_tsc;                /* TSC at our first instruction */
void boot_start(uint32_t path, uint64_t argument) __attribute__((noreturn));
/* From the plan to the verdict line: tests/harness/runner.c. */
enum end_outcome run_all(void);
void main_run(void) __attribute__((noreturn)); /* kernel/main.c */
