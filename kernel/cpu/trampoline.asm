; SPDX-License-Identifier: MIT
;
; What a CPU runs after SIPI: copied to a page below 1 MiB, entered in real mode with CS = page >> 4.
; Real mode -> long mode in one step (SDM vol. 3, 10.8.5) on the boot page tables, then ap_entry64.
; The three words at the end are filled by kernel/cpu/smp.c.

section .rodata
global trampoline_start, trampoline_end, trampoline_cr3, trampoline_entry, trampoline_base
bits 16
trampoline_start:
	cli
	cld
	mov ax, cs
	mov ds, ax
	lidt [trampoline_idt - trampoline_start]
	o32 lgdt [trampoline_gdt_ptr - trampoline_start]
	mov eax, 0x20                        ; CR4.PAE
	mov cr4, eax
	mov eax, [trampoline_cr3 - trampoline_start]
	mov cr3, eax
	mov ecx, 0xc0000080                  ; EFER: LME
	rdmsr
	or eax, 0x100
	wrmsr
	mov eax, 0x80010033                  ; PG WP NE ET MP PE
	mov cr0, eax
	jmp far dword [trampoline_far - trampoline_start]

bits 64
trampoline_long:
	mov eax, 0x10
	mov ds, eax
	mov es, eax
	mov ss, eax
	xor eax, eax
	mov fs, eax
	mov gs, eax
	; which CPU is this? x2APIC ID of leaf 0xb where it exists (SDM vol. 2, CPUID), else the 8-bit one
	xor eax, eax
	cpuid
	cmp eax, 0x0b
	jb .leaf1
	mov eax, 0x0b
	xor ecx, ecx
	cpuid
	test ebx, ebx
	jz .leaf1
	mov ebx, edx
	jmp .go
.leaf1:
	mov eax, 1
	cpuid
	shr ebx, 24
.go:
	mov rax, [rel trampoline_entry]
	jmp rax

align 8
trampoline_gdt:
	dq 0
	dq 0x00af9b000000ffff
	dq 0x00cf93000000ffff
trampoline_gdt_ptr:
	dw trampoline_gdt_ptr - trampoline_gdt - 1
trampoline_base:
	dd trampoline_gdt - trampoline_start ; + base
trampoline_far:
	dd trampoline_long - trampoline_start ; + base
	dw 0x08
trampoline_idt:
	dw 0
	dd 0
align 8
trampoline_cr3:   dd 0
	dd 0
trampoline_entry: dq 0
trampoline_end:
global trampoline_far
