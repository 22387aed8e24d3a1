/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

/* setjmp and longjmp: 0 the first time, the value given after that. The caller must not have returned. */
int context_save(uint64_t ctx[8]) __attribute__((returns_twice));
void context_restore(uint64_t ctx[8], int value) __attribute__((noreturn));
/* Goes on in fn on another stack, for good. */
void stack_switch(void *top, void (*fn)(void)) __attribute__((noreturn));
