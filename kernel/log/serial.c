/* SPDX-License-Identifier: MIT */
#include "kernel/log/serial.h"

#include <stdbool.h>

#include "kernel/cpu/cpu.h"
#include "kernel/lib/bits.h"
#include "kernel/time/time.h"

/* 16550: PC16550D data sheet, section 8. */
#define UART 0x3f8
enum { UART_DATA = 0, UART_IER = 1, UART_FCR = 2, UART_LCR = 3, UART_MCR = 4, UART_LSR = 5, UART_SCR = 7 };
#define LSR_THRE 0x20 /* the FIFO is empty */
#define LSR_TEMT 0x40 /* and so is the shift register */
#define FIFO_DEPTH 16

#define DEBUGCON 0xe9

static enum { NONE, UART_16550, PORT_E9 } kind;

void serial_init(void)
{
	outb(UART + UART_SCR, 0x5a);
	if (inb(UART + UART_SCR) == 0x5a) {
		outb(UART + UART_IER, 0);
		outb(UART + UART_LCR, 0x80);  /* divisor 1: 115200 */
		outb(UART + UART_DATA, 1);
		outb(UART + UART_IER, 0);
		outb(UART + UART_LCR, 0x03);  /* 8n1 */
		outb(UART + UART_FCR, 0x07);
		outb(UART + UART_MCR, 0x03);
		kind = UART_16550;
	} else if (inb(DEBUGCON) == 0xe9) {
		kind = PORT_E9;
	}
}

/*
 * A reader that is slow holds the UART up: bytes written over a full FIFO would be lost. One that does
 * not read at all must not hold us up for ever: after the first time in vain each wait is short, until
 * it drains again. What is lost then shows in the CRC. Not WAIT_UNTIL: a test's budget is not ours.
 */
static void uart_wait(uint8_t bit)
{
	static bool stuck;
	const uint64_t end = tsc_read() + ns_to_tsc(stuck ? MS(1) : SEC(10));

	do {
		if (inb(UART + UART_LSR) & bit) {
			stuck = false;
			return;
		}
	} while (tsc_read() < end);
	stuck = true;
}

/* One instruction: a hypervisor leaves the guest once for all of it. */
static void outs(uint16_t port, const char *text, size_t n)
{
	__asm__ volatile("rep outsb" : "+S"(text), "+c"(n) : "d"(port) : "memory");
}

void serial_write(const char *text, size_t n)
{
	if (kind == UART_16550) {
		for (size_t i = 0; i < n; i += FIFO_DEPTH) {
			uart_wait(LSR_THRE);
			outs(UART + UART_DATA, text + i, MIN(n - i, (size_t)FIFO_DEPTH));
		}
	} else if (kind == PORT_E9) {
		outs(DEBUGCON, text, n);
	}
}

void serial_drain(void)
{
	if (kind == UART_16550)
		uart_wait(LSR_TEMT);
}

const char *serial_name(void)
{
	return kind == UART_16550 ? "16550 at 0x3f8" : kind == PORT_E9 ? "debugcon at 0xe9" : "none";
}
