// SPDX-License-Identifier: MIT
/*
 * What this host's KVM itself does, without QEMU and without plumb: the evidence behind docs/kvm.md and
 * behind the entries of tests/harness/known.c that ask kvm_emulates().
 *
 *	gcc -Wall -o /tmp/kvm_facts tests/host/kvm/kvm_facts.c && /tmp/kvm_facts
 *
 * Each line is one VM of one CPU in long mode at CPL 0 with an x2APIC, which runs a few instructions.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#define RAM    (2u << 20)
#define CODE   0x10000u
#define VECTOR 0x60u
/* Ports that the guest writes to: it ends, is in the handler, has done its EOI, took an exception, found a number. */
enum { END = 0x10, IN_HANDLER, AFTER_EOI, EXCEPTION, NUMBER };

__asm__(".section .rodata\n.code64\n"
	"guest:\n"
	"handler:	push %rax; push %rcx; push %rdx\n"
	"	out %eax, $0x11\n"
	"	mov $0x813, %ecx; rdmsr; out %eax, $0x14\n" /* ISR of vectors 0x60-0x7f */
	"	mov $0x80b, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr\n"
	"	out %eax, $0x12\n"
	"	mov $1, %r8d\n"
	"	pop %rdx; pop %rcx; pop %rax; iretq\n"
	"exception:	out %eax, $0x13; hlt\n"
	/* interrupts on, then count turns of three instructions until the handler has run, 10 million at most */
	"taken:	mov $0x80f, %ecx; mov $0x1ff, %eax; xor %edx, %edx; wrmsr\n"
	"	xor %r8d, %r8d; xor %ebx, %ebx; sti; nop\n"
	"	mov $0x83f, %ecx; mov $0x60, %eax; wrmsr\n"
	"1:	inc %ebx; test %r8d, %r8d; jnz 2f; cmp $10000000, %ebx; jb 1b\n"
	"2:	mov %ebx, %eax; out %eax, $0x14; out %eax, $0x10; hlt\n"
	"waiting:	mov $0x80f, %ecx; mov $0x1ff, %eax; xor %edx, %edx; wrmsr\n"
	"	xor %r8d, %r8d; xor %ebx, %ebx; sti\n"
	"1:	inc %ebx; test %r8d, %r8d; jnz 2f; cmp $10000000, %ebx; jb 1b\n"
	"2:	out %eax, $0x10; hlt\n"
	"speed:	mov $20, %ecx\n"
	"0:	rdtsc; mov %eax, %esi; mov $1000, %ebx\n"
	"1:	dec %ebx; jnz 1b\n"
	"	rdtsc; sub %esi, %eax; out %eax, $0x14; dec %ecx; jnz 0b; out %eax, $0x10; hlt\n"
	"do_int3:	int3; out %eax, $0x10; hlt\n"
	"do_ud2:	ud2; out %eax, $0x10; hlt\n"
	"guest_end:\n.text\n");
extern const uint8_t guest[], handler[], exception[], taken[], waiting[], speed[], do_int3[], do_ud2[], guest_end[];

static int kvm;

struct vm { int vm, cpu; struct kvm_run *run; uint8_t *ram; };

static long must(long r, const char *what)
{
	if (r < 0) {
		printf("%s: %s\n", what, strerror(errno));
		exit(77);
	}
	return r;
}
#define MUST(call) must(call, #call)

static void gate(uint8_t *ram, unsigned vector, const uint8_t *to)
{
	const uint64_t at = CODE + (uint64_t)(to - guest);
	uint64_t *idt = (uint64_t *)(ram + 0x5000);

	idt[2 * vector] = (at & 0xffff) | 8ull << 16 | 0x8e00ull << 32 | at >> 16 << 48;
}

static struct vm vm_new(const uint8_t *entry, bool split)
{
	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entries[256]; } cpuid;
	struct vm m = {.vm = (int)MUST(ioctl(kvm, KVM_CREATE_VM, 0))};
	struct kvm_userspace_memory_region ram = {.memory_size = RAM};
	struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct kvm_regs regs = {.rip = CODE + (uint64_t)(entry - guest), .rsp = 0x9000, .rflags = 2};
	struct kvm_segment data = {.limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
	struct kvm_segment code = {.limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
	struct kvm_sregs s;

	MUST(ioctl(m.vm, KVM_SET_TSS_ADDR, 0xfffbd000));
	MUST(split ? ioctl(m.vm, KVM_ENABLE_CAP, &cap) : ioctl(m.vm, KVM_CREATE_IRQCHIP, 0));
	m.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ram.userspace_addr = (uintptr_t)m.ram;
	MUST(ioctl(m.vm, KVM_SET_USER_MEMORY_REGION, &ram));
	memcpy(m.ram + CODE, guest, (size_t)(guest_end - guest));
	/* 2 MiB identity mapped; code and data segments; the gates */
	*(uint64_t *)(m.ram + 0x1000) = 0x2003;
	*(uint64_t *)(m.ram + 0x2000) = 0x3003;
	*(uint64_t *)(m.ram + 0x3000) = 0x83;
	*(uint64_t *)(m.ram + 0x4008) = 0x00af9b000000ffff;
	*(uint64_t *)(m.ram + 0x4010) = 0x00cf93000000ffff;
	gate(m.ram, 3, exception);
	gate(m.ram, 6, exception);
	gate(m.ram, VECTOR, handler);

	m.cpu = (int)MUST(ioctl(m.vm, KVM_CREATE_VCPU, 0));
	m.run = mmap(NULL, (size_t)MUST(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)), PROT_READ | PROT_WRITE, MAP_SHARED,
		     m.cpu, 0);
	cpuid.head.nent = 256;
	MUST(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid));
	MUST(ioctl(m.cpu, KVM_SET_CPUID2, &cpuid));
	MUST(ioctl(m.cpu, KVM_GET_SREGS, &s));
	s.cr3 = 0x1000;
	s.cr4 = 0x20;
	s.cr0 = 0x80000033;
	s.efer = 0x500;
	s.gdt.base = 0x4000;
	s.gdt.limit = 23;
	s.idt.base = 0x5000;
	s.idt.limit = 4095;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	MUST(ioctl(m.cpu, KVM_SET_SREGS, &s));
	s.apic_base |= 0xc00;
	MUST(ioctl(m.cpu, KVM_SET_SREGS, &s));
	MUST(ioctl(m.cpu, KVM_SET_REGS, &regs));
	return m;
}

static void vm_end(struct vm *m)
{
	close(m->cpu);
	close(m->vm);
	munmap(m->ram, RAM);
}

/* Runs to the next exit. The port, or minus the exit reason. *value: what it wrote. */
static int step(struct vm *m, uint32_t *value)
{
	MUST(ioctl(m->cpu, KVM_RUN, 0));
	if (m->run->exit_reason != KVM_EXIT_IO)
		return -(int)m->run->exit_reason;
	memcpy(value, (uint8_t *)m->run + m->run->io.data_offset, 4);
	return m->run->io.port;
}

static unsigned isr(struct vm *m)
{
	struct kvm_lapic_state l;

	MUST(ioctl(m->cpu, KVM_GET_LAPIC, &l));
	return *(uint32_t *)(l.regs + 0x130) & 1;
}

static void in_service(bool split)
{
	struct vm m = vm_new(taken, split);
	unsigned by_host = 0;
	uint32_t v, numbers[2] = {0, 0};
	int port;

	for (unsigned n = 0; (port = step(&m, &v)) > 0 && port != END;) {
		if (port == IN_HANDLER)
			by_host = isr(&m);
		if (port == NUMBER && n < 2)
			numbers[n++] = v;
	}
	printf("in service    %s irqchip: ISR of the vector in its handler, before EOI: KVM_GET_LAPIC %u, RDMSR %u (1 is right)\n",
	       split ? "split    " : "in-kernel", by_host, numbers[0] & 1);
	printf("recognised    %s irqchip: a self-IPI with interrupts on is taken after %u turns of 5 instructions (0 or 1 is right)\n",
	       split ? "split    " : "in-kernel", numbers[1]);
	vm_end(&m);
}

/*
 * A level from an I/O APIC in user space: KVM tells user space of its EOI. The guest writes a number in its
 * handler just before its own EOI: what is told before that was not the guest's.
 */
static void level(void)
{
	struct vm m = vm_new(waiting, true);
	struct { struct kvm_irq_routing head; struct kvm_irq_routing_entry entry; } r = {
		.head.nr = 1,
		.entry = {.type = KVM_IRQ_ROUTING_MSI, .u.msi = {.address_lo = 0xfee00000, .data = 0xc000 | VECTOR}}};
	struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 0xc000 | VECTOR};
	const char *when = "never";
	struct kvm_lapic_state l;
	bool before = true;
	uint32_t v;
	int port;

	MUST(ioctl(m.vm, KVM_SET_GSI_ROUTING, &r));
	MUST(ioctl(m.cpu, KVM_GET_LAPIC, &l)); /* the APIC on: what is sent to one that is off is lost */
	*(uint32_t *)(l.regs + 0xf0) = 0x1ff;
	MUST(ioctl(m.cpu, KVM_SET_LAPIC, &l));
	MUST(ioctl(m.vm, KVM_SIGNAL_MSI, &msi));
	while ((port = step(&m, &v)) != END && (port > 0 || port == -KVM_EXIT_IOAPIC_EOI)) {
		if (port == -KVM_EXIT_IOAPIC_EOI)
			when = before ? "before the guest's EOI" : "with the guest's EOI";
		before &= port != NUMBER;
	}
	printf("level         split irqchip: user space was told of its EOI %s (with it is right)\n", when);
	vm_end(&m);
}

static void instruction(const char *name, const uint8_t *entry)
{
	struct vm m = vm_new(entry, false);
	uint32_t v;
	const int port = step(&m, &v);

	printf("%-13s at CPL 0: ", name);
	if (port == -KVM_EXIT_INTERNAL_ERROR)
		printf("KVM_EXIT_INTERNAL_ERROR, suberror %u: KVM cannot emulate it and stops the machine\n",
		       m.run->internal.suberror);
	else if (port == EXCEPTION)
		printf("its exception arrives\n");
	else
		printf(port == END ? "executed\n" : "exit %d\n", -port);
	vm_end(&m);
}

static void cost(void)
{
	struct vm m = vm_new(speed, false);
	uint32_t v, least = ~0u;

	while (step(&m, &v) == NUMBER)
		least = v < least ? v : least;
	printf("speed         2000 register instructions take %u TSC cycles: %u each, best of 20\n", least, least / 2000);
	vm_end(&m);
}

int main(void)
{
	struct utsname u;

	setvbuf(stdout, NULL, _IOLBF, 0);
	kvm = (int)MUST(open("/dev/kvm", O_RDWR | O_CLOEXEC));
	uname(&u);
	printf("host          Linux %s, modules%s%s%s\n", u.release, access("/sys/module/kvm_intel", F_OK) ? "" : " kvm_intel",
	       access("/sys/module/kvm_amd", F_OK) ? "" : " kvm_amd", access("/sys/module/kvm_pvm", F_OK) ? "" : " kvm_pvm");
	cost();
	in_service(false);
	in_service(true);
	level();
	instruction("INT3", do_int3);
	instruction("UD2", do_ud2);
	return 0;
}
