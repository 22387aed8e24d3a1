/* SPDX-License-Identifier: MIT */
#include "kernel/lib/fmt.h"

#include <stdbool.h>

#include "kernel/lib/addr.h"
#include "kernel/lib/err.h"
#include "kernel/lib/string.h"

struct out { char *buf; size_t size, len; };

static void put(struct out *o, char c)
{
	if (o->len + 1 < o->size)
		o->buf[o->len] = c;
	o->len++;
}

struct spec { bool left, zero, alt, plus, space; int width, precision; };

static void pad(struct out *o, char c, int n)
{
	for (; n > 0; n--)
		put(o, c);
}

static void put_number(struct out *o, const struct spec *s, uint64_t v, unsigned base, bool upper, bool neg)
{
	const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	char tmp[64], prefix[3];
	int n = 0, np = 0, zeros;

	for (uint64_t x = v; x; x /= base)
		tmp[n++] = digits[x % base];
	if (n == 0 && s->precision != 0)
		tmp[n++] = '0';
	if (neg)
		prefix[np++] = '-';
	else if (s->plus || s->space)
		prefix[np++] = s->plus ? '+' : ' ';
	if (s->alt && base == 16 && v) {
		prefix[np++] = '0';
		prefix[np++] = upper ? 'X' : 'x';
	}
	zeros = s->precision > n ? s->precision - n : 0;
	if (s->zero && !s->left && s->precision < 0 && s->width > n + np)
		zeros = s->width - n - np;
	if (!s->left)
		pad(o, ' ', s->width - n - np - zeros);
	for (int i = 0; i < np; i++)
		put(o, prefix[i]);
	pad(o, '0', zeros);
	for (int i = n; i > 0; i--)
		put(o, tmp[i - 1]);
	if (s->left)
		pad(o, ' ', s->width - n - np - zeros);
}

static void put_string(struct out *o, const struct spec *s, const char *str)
{
	int n;

	if (!str)
		str = "(null)";
	n = (int)strnlen(str, s->precision >= 0 ? (size_t)s->precision : 4096);
	if (!s->left)
		pad(o, ' ', s->width - n);
	for (int i = 0; i < n; i++)
		put(o, str[i]);
	if (s->left)
		pad(o, ' ', s->width - n);
}

static int decimal(const char **f)
{
	int n = 0;

	while (**f >= '0' && **f <= '9' && n < 10000)
		n = n * 10 + (*(*f)++ - '0');
	return n;
}

int fmt_vsnprintf(char *buf, size_t size, const char *f, va_list ap)
{
	struct out o = {buf, size, 0};

	for (; *f; f++) {
		struct spec s = {.precision = -1};
		int longs = 0;
		uint64_t u;
		int64_t d;

		if (*f != '%') {
			put(&o, *f);
			continue;
		}
		for (f++;; f++) {
			if (*f == '-')
				s.left = true;
			else if (*f == '0')
				s.zero = true;
			else if (*f == '#')
				s.alt = true;
			else if (*f == '+')
				s.plus = true;
			else if (*f == ' ')
				s.space = true;
			else
				break;
		}
		if (*f == '*') {
			s.width = va_arg(ap, int);
			if (s.width < 0) {
				s.left = true;
				s.width = -s.width;
			}
			f++;
		} else {
			s.width = decimal(&f);
		}
		if (*f == '.') {
			f++;
			if (*f == '*') {
				s.precision = va_arg(ap, int);
				f++;
			} else {
				s.precision = decimal(&f);
			}
		}
		for (; *f == 'l' || *f == 'z' || *f == 'h'; f++)
			longs += *f == 'h' ? -1 : 1;
		switch (*f) {
		case 'd':
		case 'i':
			d = longs > 0 ? va_arg(ap, long) : va_arg(ap, int);
			put_number(&o, &s, d < 0 ? 0 - (uint64_t)d : (uint64_t)d, 10, false, d < 0);
			break;
		case 'u':
		case 'x':
		case 'X':
		case 'o':
			u = longs > 0 ? va_arg(ap, unsigned long) : va_arg(ap, unsigned int);
			if (longs == -1)
				u = (uint16_t)u;
			else if (longs <= -2)
				u = (uint8_t)u;
			put_number(&o, &s, u, *f == 'u' ? 10 : *f == 'o' ? 8 : 16, *f == 'X', false);
			break;
		case 'p':
			s.alt = true;
			put_number(&o, &s, (uint64_t)(uintptr_t)va_arg(ap, void *), 16, false, false);
			break;
		case 'c':
			put(&o, (char)va_arg(ap, int));
			break;
		case 's':
			put_string(&o, &s, va_arg(ap, const char *));
			break;
		case '%':
			put(&o, '%');
			break;
		default: /* unknown: shown as it stands; its argument cannot be skipped */
			put(&o, '%');
			if (!*f)
				f--;
			else
				put(&o, *f);
			break;
		}
	}
	if (size)
		buf[o.len < size ? o.len : size - 1] = 0;
	return (int)o.len;
}

int fmt_snprintf(char *buf, size_t size, const char *f, ...)
{
	va_list ap;
	int n;

	va_start(ap, f);
	n = fmt_vsnprintf(buf, size, f, ap);
	va_end(ap);
	return n;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 99;
}

int fmt_parse_u64(const char **s, uint64_t *out)
{
	const char *p = *s;
	unsigned base = 10;
	uint64_t v = 0;

	if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
		base = 16;
		p += 2;
	} else if (p[0] == '0') {
		base = 8;
	}
	if (digit(*p) >= (int)base)
		return -EINVAL;
	for (; digit(*p) < (int)base; p++) {
		const uint64_t dv = (uint64_t)digit(*p);

		if (v > (UINT64_MAX - dv) / base)
			return -ERANGE;
		v = v * base + dv;
	}
	*s = p;
	*out = v;
	return 0;
}

int fmt_glob(const char *pattern, const char *text)
{
	const char *star = NULL, *back = NULL;

	while (*text) {
		if (*pattern == '*') {
			star = ++pattern;
			back = text;
		} else if (*pattern == '?' || *pattern == *text) {
			pattern++;
			text++;
		} else if (star) {
			pattern = star;
			text = ++back;
		} else {
			return 0;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == 0;
}

/* By hand: checks that pass form their texts too. */
const char *rid_text(pci_rid_t rid)
{
	static char text[8][sizeof("00:00.0")];
	static unsigned next;
	const unsigned digits = rid_bus(rid) << 12 | rid_dev(rid) << 4 | rid_fn(rid);
	char *p = text[next++ % 8];

	for (unsigned i = 0, shift = 16; i < 7; i++) {
		p[i] = i == 2 ? ':' : '.';
		if (i == 2 || i == 5)
			continue;
		p[i] = "0123456789abcdef"[digits >> shift & 15];
		shift -= 4;
	}
	return p;
}
