/* SPDX-License-Identifier: MIT */
#include "kernel/log/log.h"

#include "kernel/cpu/cpu.h"
#include "kernel/lib/crc.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"
#include "kernel/log/serial.h"
#include "kernel/power.h"

#define LINE_MAX_ 1024

static uint32_t crc, lines;
static bool begun;
static char early[2048];                 /* what was said before the report began; each line ends with '\n' */
static size_t early_len;

void log_init(void)
{
	serial_init();
}

static void emit(char *line, size_t n)
{
	/* A control byte in a string from outside (firmware, a device) must not break the line. */
	for (size_t i = 0; i < n; i++)
		if ((uint8_t)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[n] = '\n';
	if (begun) {
		crc = crc32_update(crc, line, n + 1);
		lines++;
	} else if (n + 1 <= sizeof(early) - early_len) {
		memcpy(early + early_len, line, n + 1);
		early_len += n + 1;
	}
	line[n] = '\r';
	line[n + 1] = '\n';
	serial_write(line, n + 2);
}

void log_vline(const char *prefix, const char *fmt, va_list ap)
{
	char line[LINE_MAX_ + 2];
	size_t n = strlcpy(line, prefix, LINE_MAX_);

	n += (size_t)fmt_vsnprintf(line + n, LINE_MAX_ - n, fmt, ap);
	emit(line, n < LINE_MAX_ ? n : LINE_MAX_ - 1);
}

void log_line(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vline("", fmt, ap);
	va_end(ap);
}

void log_begin(void)
{
	begun = true;
}

void log_early(void)
{
	for (size_t at = 0, end; at < early_len; at = end) {
		for (end = at; early[end] != '\n'; end++)
			;
		log_line("%.*s", (int)(end - at), early + at);
		end++;
	}
}

static char verdict[512]; /* kept: it is said again when the machine cannot be switched off */

void log_verdict(const char *fmt, ...)
{
	char *const line = verdict;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = fmt_vsnprintf(line, sizeof(verdict) - 64, fmt, ap);
	va_end(ap);
	n += fmt_snprintf(line + n, 24, " lines=%u", lines + 1);
	crc = crc32_update(crc, line, (size_t)n);
	fmt_snprintf(line + n, 20, " crc=%08x\r\n", crc);
	log_raw(line);
}

void log_verdict_again(void)
{
	log_raw(verdict);
}

uint32_t log_crc(void) { return crc; }
uint32_t log_lines(void) { return lines; }

void log_raw(const char *text)
{
	serial_write(text, strlen(text));
	serial_drain();
}

void panic(const char *fmt, ...)
{
	static int panicking;
	va_list ap;

	irq_disable();
	if (__atomic_exchange_n(&panicking, 1, __ATOMIC_SEQ_CST) == 0) {
		log_raw("\r\n"); /* another CPU may be in the middle of a line */
		va_start(ap, fmt);
		log_vline("# panic ", fmt, ap);
		va_end(ap);
		serial_drain();
		machine_end(END_PANIC, EXIT_DEBUG, NULL);
	}
	for (;;)
		__asm__ volatile("cli; hlt");
}
