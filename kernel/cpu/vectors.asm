; SPDX-License-Identifier: MIT
;
; The 256 entry stubs. A frame as struct trap_frame (kernel/cpu/cpu.h) has it, lowest address first:
;   r15 r14 r13 r12 r11 r10 r9 r8 rbp rdi rsi rdx rcx rbx rax | vector error | rip cs rflags rsp ss

extern trap_dispatch

section .text
%macro PUSH_ALL 0
	push rax
	push rbx
	push rcx
	push rdx
	push rsi
	push rdi
	push rbp
	push r8
	push r9
	push r10
	push r11
	push r12
	push r13
	push r14
	push r15
%endmacro
%macro POP_ALL 0
	pop r15
	pop r14
	pop r13
	pop r12
	pop r11
	pop r10
	pop r9
	pop r8
	pop rbp
	pop rdi
	pop rsi
	pop rdx
	pop rcx
	pop rbx
	pop rax
%endmacro

trap_common:
	PUSH_ALL
	cld
	mov rdi, rsp
	; the ABI wants rsp on 16 bytes at a call: 22 words were pushed on a stack the CPU aligned to 16
	call trap_dispatch
	POP_ALL
	add rsp, 16
	iretq

%assign v 0
%rep 256
align 16
stub_%+v:
%if v = 8 || v = 10 || v = 11 || v = 12 || v = 13 || v = 14 || v = 17 || v = 21 || v = 29 || v = 30
	; the CPU pushed an error code
%else
	push 0
%endif
	push v
	jmp trap_common
%assign v v+1
%endrep

section .rodata
align 8
global vector_stubs
vector_stubs:
%assign v 0
%rep 256
	dq stub_%+v
%assign v v+1
%endrep

section .text
; int trap_call(void (*fn)(void *) /*rdi*/, void *arg /*rsi*/, uint64_t *save /*rdx*/)
; 0 when fn returned. trap_dispatch leaves it by loading save[] and returning -EFAULT.
;   save[]: rbx rbp r12 r13 r14 r15 rsp rip
global trap_call
trap_call:
	mov [rdx], rbx
	mov [rdx + 8], rbp
	mov [rdx + 16], r12
	mov [rdx + 24], r13
	mov [rdx + 32], r14
	mov [rdx + 40], r15
	mov [rdx + 48], rsp
	lea rax, [rel .out]
	mov [rdx + 56], rax
	mov rax, rdi
	mov rdi, rsi
	sub rsp, 8
	call rax
	add rsp, 8
	xor eax, eax
.out:
	ret

; int context_save(uint64_t ctx[8]); void context_restore(uint64_t ctx[8], int value): setjmp, longjmp
global context_save, context_restore
context_save:
	mov [rdi], rbx
	mov [rdi + 8], rbp
	mov [rdi + 16], r12
	mov [rdi + 24], r13
	mov [rdi + 32], r14
	mov [rdi + 40], r15
	lea rax, [rsp + 8]
	mov [rdi + 48], rax
	mov rax, [rsp]
	mov [rdi + 56], rax
	xor eax, eax
	ret
context_restore:
	mov rbx, [rdi]
	mov rbp, [rdi + 8]
	mov r12, [rdi + 16]
	mov r13, [rdi + 24]
	mov r14, [rdi + 32]
	mov r15, [rdi + 40]
	mov rsp, [rdi + 48]
	mov eax, esi
	jmp [rdi + 56]

; void stack_switch(void *top /*rdi*/, void (*fn)(void) /*rsi*/): does not come back
global stack_switch
stack_switch:
	mov rsp, rdi
	xor ebp, ebp                         ; ends backtraces
	call rsi
	ud2
