; SPDX-License-Identifier: MIT
;
; The three ways in. Each ends in boot_start(path, argument) in C, in long mode, on boot_stack, at the
; kernel's linked addresses, with the low 4 GiB also mapped at their own addresses (the tables here are
; thrown away by kernel/mm/paging.c; only CPUs that start pass through them again).
;
;   pvh_entry        32-bit protected mode, ebx = hvm_start_info       (QEMU -kernel)
;   multiboot2_entry 32-bit protected mode, eax = magic, ebx = info    (GRUB)
;   kernel_entry64   long mode, identity mapped, rdi = struct boot_info *, rsi = load address (UEFI)

%define KERNEL_VMA 0xffffffff80000000
%define KERNEL_LMA 0x200000
%define PHYS(sym)  ((sym) - KERNEL_VMA)

%define PTE_P   1
%define PTE_W   2
%define PTE_PS  0x80

%define BOOT_UEFI 1
%define BOOT_PVH  2
%define BOOT_MB2  3

extern boot_start
extern boot_info, boot_info_size
extern kernel_start
extern boot_tsc

; ---------------------------------------------------------------- headers
section .multiboot2 align=8
global multiboot2_header
multiboot2_header:
	dd 0xe85250d6                        ; magic
	dd 0                                 ; i386 protected mode
	dd .end - multiboot2_header
	dd 0x100000000 - (0xe85250d6 + (.end - multiboot2_header))
align 8
	dw 1, 0                              ; information request: command line, loader name,
	dd 8 + 5 * 4                         ; memory map, ACPI old, ACPI new
	dd 1, 2, 6, 14, 15
align 8
	dw 3, 0                              ; entry address
	dd 12
	dd PHYS(multiboot2_entry)
align 8
	dw 0, 0
	dd 8
.end:

section .note.pvh note alloc align=4
	dd 4, 4, 18                          ; XEN_ELFNOTE_PHYS32_ENTRY
	db "Xen", 0
	dd PHYS(pvh_entry)

section .note.plumb note alloc align=4
	dd 6, 8, 1                           ; where the UEFI loader enters, at the default load address
	db "plumb", 0, 0, 0
	dq PHYS(kernel_entry64)

; ---------------------------------------------------------------- 32-bit entries
section .entry exec align=16
bits 32
global pvh_entry
pvh_entry:
	mov ebp, BOOT_PVH
	jmp enter32

global multiboot2_entry
multiboot2_entry:
	mov ebp, BOOT_MB2
	cmp eax, 0x36d76289
	je enter32
	hlt                                  ; not a Multiboot2 loader: nothing is known, not even a console

enter32:
	cli
	cld
	mov esp, PHYS(boot_stack_top)
	rdtsc
	mov [PHYS(boot_tsc)], eax
	mov [PHYS(boot_tsc) + 4], edx

	mov eax, 0x80000000                  ; long mode there?
	push ebx
	cpuid
	pop ebx
	cmp eax, 0x80000001
	jb .no_long_mode
	push ebx
	mov eax, 0x80000001
	cpuid
	pop ebx
	bt edx, 29
	jnc .no_long_mode

	; page tables: low 4 GiB at their own address, the first GiB again at KERNEL_VMA
	mov edi, PHYS(boot_pd)
	mov eax, PTE_P | PTE_W | PTE_PS
	xor edx, edx
	mov ecx, 4 * 512
.fill:
	mov [edi], eax
	mov [edi + 4], edx
	add edi, 8
	add eax, 0x200000
	adc edx, 0
	loop .fill

	mov edi, PHYS(boot_pdpt_low)
	mov eax, PHYS(boot_pd) + (PTE_P | PTE_W)
	mov ecx, 4
.fill_pdpt:
	mov [edi], eax
	add edi, 8
	add eax, 4096
	loop .fill_pdpt

	; KERNEL_VMA is entry 510 of the last PDPT: it maps physical 0 here, the load address with UEFI
	mov dword [PHYS(boot_pdpt_high) + 510 * 8], PHYS(boot_pd) + (PTE_P | PTE_W)
	mov dword [PHYS(boot_pml4)], PHYS(boot_pdpt_low) + (PTE_P | PTE_W)
	mov dword [PHYS(boot_pml4) + 511 * 8], PHYS(boot_pdpt_high) + (PTE_P | PTE_W)

	mov eax, PHYS(boot_pml4)
	mov cr3, eax
	mov eax, 0x20                        ; CR4.PAE
	mov cr4, eax
	mov ecx, 0xc0000080                  ; EFER.LME
	rdmsr
	or eax, 0x100
	wrmsr
	mov eax, 0x80010033                  ; PG WP NE ET MP PE
	mov cr0, eax
	lgdt [PHYS(boot_gdt_ptr)]
	jmp 0x08:PHYS(.long)
.no_long_mode:
	mov esi, PHYS(no_long_mode_text)
	mov dx, 0x3f8
.put:
	lodsb
	test al, al
	jz .stop
	out dx, al
	jmp .put
.stop:
	hlt
	jmp .stop
bits 64
.long:
	mov rdi, rbp
	mov esi, ebx
	jmp enter_high

; ---------------------------------------------------------------- UEFI
global kernel_entry64
kernel_entry64:
	cli
	cld
	mov rbp, rdi                         ; struct boot_info, anywhere
	mov rbx, rsi
	sub rbx, KERNEL_LMA                  ; how far from the default load address
	rdtsc
	shl rdx, 32
	or rax, rdx
	mov [rel boot_tsc], rax

	mov rsi, rbp                         ; take the structure while the firmware still maps it
	lea rdi, [rel boot_info]
	mov rcx, [rel boot_info_size]
	rep movsb

	lea rdi, [rel boot_pd]
	mov eax, PTE_P | PTE_W | PTE_PS
	mov ecx, 4 * 512
.fill:
	mov [rdi], rax
	add rdi, 8
	add rax, 0x200000
	loop .fill
	lea rdi, [rel boot_pd_kernel]        ; the kernel's own, moved by rbx
	lea rax, [rbx + (PTE_P | PTE_W | PTE_PS)]
	mov ecx, 512
.fill_kernel:
	mov [rdi], rax
	add rdi, 8
	add rax, 0x200000
	loop .fill_kernel

	lea rdi, [rel boot_pdpt_low]
	lea rax, [rel boot_pd]
	or rax, PTE_P | PTE_W
	mov ecx, 4
.fill_pdpt:
	mov [rdi], rax
	add rdi, 8
	add rax, 4096
	loop .fill_pdpt
	lea rax, [rel boot_pd_kernel]
	or rax, PTE_P | PTE_W
	mov [rel boot_pdpt_high + 510 * 8], rax
	lea rax, [rel boot_pdpt_low]
	or rax, PTE_P | PTE_W
	mov [rel boot_pml4], rax
	lea rax, [rel boot_pdpt_high]
	or rax, PTE_P | PTE_W
	mov [rel boot_pml4 + 511 * 8], rax

	mov rax, cr4
	and rax, ~((1 << 7) | (1 << 17))     ; PGE, PCIDE off: no old translation survives
	mov cr4, rax
	lea rax, [rel boot_pml4]
	mov cr3, rax
	mov edi, BOOT_UEFI
	xor esi, esi
	; fall through

; rdi = path, rsi = argument; low 4 GiB and KERNEL_VMA are mapped
enter_high:
	mov rax, .high
	jmp rax
.high:
	lgdt [rel boot_gdt_ptr_high]
	lea rsp, [rel boot_stack_top]
	push 0x08
	lea rax, [rel .cs]
	push rax
	retfq
.cs:
	mov eax, 0x10
	mov ds, eax
	mov es, eax
	mov ss, eax
	xor eax, eax
	mov fs, eax
	mov gs, eax
	xor ebp, ebp                         ; ends backtraces
	call boot_start
	ud2

; ---------------------------------------------------------------- an AP, from trampoline.asm
; long mode, on boot_pml4, rbx = APIC ID. Goes over to the kernel's page tables, finds its stack in ap_table and enters ap_start(cpu) in C.
;   struct ap_entry { uint32_t apic_id, taken; uint64_t stack_top, cpu; }
extern ap_table, ap_table_count, ap_start, ap_cr3, ap_efer
global ap_entry64
ap_entry64:
	mov ecx, 0xc0000080                  ; EFER first: CR3's tables have NX bits
	mov eax, [rel ap_efer]
	mov edx, [rel ap_efer + 4]
	wrmsr
	mov rax, [rel ap_cr3]
	mov cr3, rax
	lea rdi, [rel ap_table]
	mov rdi, [rdi]
	mov ecx, [rel ap_table_count]
.find:
	test ecx, ecx
	jz .stranger
	cmp [rdi], ebx
	je .found
	add rdi, 24
	dec ecx
	jmp .find
.found:
	mov eax, 1
	xchg [rdi + 4], eax                  ; a second start of the same CPU must not share its stack
	test eax, eax
	jnz .stranger
	mov rsp, [rdi + 8]
	mov rdi, [rdi + 16]
	xor ebp, ebp
	call ap_start
	ud2
.stranger:
	lock inc dword [rel ap_strangers]
.halt:
	cli
	hlt
	jmp .halt

section .rodata
no_long_mode_text: db "plumb: this CPU has no long mode (CPUID 80000001 EDX.LM=0)", 13, 10, 0
align 8
global boot_gdt
boot_gdt:
	dq 0
	dq 0x00af9b000000ffff                ; 0x08 code, 64-bit
	dq 0x00cf93000000ffff                ; 0x10 data
boot_gdt_ptr:
	dw boot_gdt_ptr - boot_gdt - 1
	dd PHYS(boot_gdt)
align 8
boot_gdt_ptr_high:
	dw boot_gdt_ptr - boot_gdt - 1
	dq boot_gdt

section .data
global ap_strangers
ap_strangers: dd 0

section .bss nobits alloc write align=4096
global boot_pml4
boot_pml4:      resb 4096
boot_pdpt_low:  resb 4096
boot_pdpt_high: resb 4096
boot_pd:        resb 4 * 4096
boot_pd_kernel: resb 4096
boot_stack:     resb 16384
boot_stack_top:
