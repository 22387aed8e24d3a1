/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

/* Inside kernel/cpu: what the assembly and the C of the traps share. */
void idt_load(void);
void idt_use_ist(void);                  /* once the boot CPU has its interrupt stacks */
int trap_call(void (*fn)(void *), void *arg, uint64_t *save);

/* A faulting instruction and where to go on; beside an instruction as EXTABLE(1b, 2b) in assembly. */
struct extable { uint64_t at, to; };
#define EXTABLE(from, to) ".pushsection .extable, \"a\"; .balign 8; .quad " #from ", " #to "; .popsection\n"
