/* SPDX-License-Identifier: MIT */
#include "kernel/cmdline.h"

#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"

enum key { KEY_ONLY, KEY_SKIP, KEY_REQUIRE, KEY_LIST, KEY_DUMP, KEY_TIMING, KEY_DEVICE, KEY_ALLOW, KEY_ITERATIONS, KEY_SEED,
	   KEY_EXIT, KEY_REPEAT, KEY_VFS, KEY_SABOTAGE, KEY_COUNT };

/* Names, and what a value must be; NULL: the word stands alone. */
static const struct { const char *name, *wants; } keys[KEY_COUNT] = {
	[KEY_ONLY] = {"only", "test names or globs, with commas between"},
	[KEY_SKIP] = {"skip", "test names or globs, with commas between"},
	[KEY_REQUIRE] = {"require", "test names or globs, with commas between"},
	[KEY_LIST] = {"list", NULL},
	[KEY_DUMP] = {"dump", NULL},
	[KEY_TIMING] = {"timing", NULL},
	[KEY_DEVICE] = {"device", "BB:DD.F"},
	[KEY_ALLOW] = {"allow", "disruptive"},
	[KEY_ITERATIONS] = {"iterations", "a number above 0"},
	[KEY_SEED] = {"seed", "a number"},
	[KEY_EXIT] = {"exit", "debug, poweroff, reset or halt"},
	[KEY_REPEAT] = {"repeat", "a number of seconds"},
	[KEY_VFS] = {"vfs", "a number of virtual functions"},
	[KEY_SABOTAGE] = {"sabotage", "a fault that this image can make (make kernel SABOTAGE=1)"},
};

static const char *const exit_names[] = {
	[EXIT_DEBUG] = "debug", [EXIT_POWEROFF] = "poweroff", [EXIT_RESET] = "reset", [EXIT_HALT] = "halt",
};

#define REPEAT_MAX (365ull * 86400) /* seconds */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Keeps the first error: "WHAT 'WORD' (from SOURCE)". Bytes that would damage the report become '?'. */
static void fail(struct cmdline *cl, const char *source, const char *word, size_t len, const char *what)
{
	char shown[64];
	const size_t n = MIN(len, sizeof(shown) - 4);

	if (cl->error[0])
		return;
	for (size_t i = 0; i < n; i++)
		shown[i] = word[i] > ' ' && word[i] < 0x7f ? word[i] : '?';
	strlcpy(shown + n, n < len ? "..." : "", sizeof(shown) - n);
	fmt_snprintf(cl->error, sizeof(cl->error), "%s '%s' (from %s)", what, shown, source);
}

static bool is_glob_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
	       c == '.' || c == '-' || c == '*' || c == '?';
}

/* 0, -EINVAL, or -ENOSPC. Empty parts (a comma too many) are let pass, an empty list is not. */
static int add_globs(struct cmdline *cl, struct cmdline_globs *globs, const char *p, size_t len)
{
	const char *const end = p + len;
	bool any = false;

	while (p < end) {
		const char *const first = p;
		size_t n;

		while (p < end && *p != ',') {
			if (!is_glob_char(*p))
				return -EINVAL;
			p++;
		}
		n = (size_t)(p - first);
		p++; /* the comma, or one past the end */
		if (!n)
			continue;
		if (globs->count == CMDLINE_GLOBS_MAX || n + 1 > sizeof(cl->store) - cl->store_used)
			return -ENOSPC;
		memcpy(cl->store + cl->store_used, first, n);
		cl->store[cl->store_used + n] = '\0';
		globs->glob[globs->count++] = cl->store + cl->store_used;
		cl->store_used += n + 1;
		any = true;
	}
	return any ? 0 : -EINVAL;
}

/* A whole number that fills the value and lies in [min, max]. */
static int take_number(const char *p, size_t len, uint64_t min, uint64_t max, uint64_t *out)
{
	char text[24];
	const char *s = text;
	uint64_t v;

	if (len == 0 || len >= sizeof(text))
		return -EINVAL;
	memcpy(text, p, len);
	text[len] = '\0';
	if (fmt_parse_u64(&s, &v) < 0 || *s || v < min || v > max)
		return -EINVAL;
	*out = v;
	return 0;
}

/* Hexadecimal digits, at least one, at most max of them, up to stop; *p then is past stop. */
static bool take_hex(const char **p, const char *end, unsigned max, char stop, unsigned *out)
{
	unsigned n = 0;

	*out = 0;
	for (; *p < end && n < max; n++, (*p)++) {
		const char c = **p;

		if (c >= '0' && c <= '9')
			*out = *out << 4 | (unsigned)(c - '0');
		else if (c >= 'a' && c <= 'f')
			*out = *out << 4 | (unsigned)(c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			*out = *out << 4 | (unsigned)(c - 'A' + 10);
		else
			break;
	}
	if (!n)
		return false;
	if (!stop)
		return *p == end;
	if (*p == end || **p != stop)
		return false;
	(*p)++;
	return true;
}

/* [SSSS:]BB:DD.F as lspci writes it. */
static int take_device(const char *p, size_t len, pci_rid_t *out)
{
	const char *const end = p + len;
	unsigned seg = 0, bus, dev, fn, colons = 0;

	for (const char *c = p; c < end; c++)
		colons += *c == ':';
	if (colons == 2 && !take_hex(&p, end, 4, ':', &seg))
		return -EINVAL;
	if (!take_hex(&p, end, 2, ':', &bus) || !take_hex(&p, end, 2, '.', &dev) ||
	    !take_hex(&p, end, 1, '\0', &fn) || dev > 31 || fn > 7)
		return -EINVAL;
	*out = (pci_rid_t){seg << 16 | pci_rid(bus, dev, fn).v};
	return 0;
}

static int take_exit(const char *p, size_t len, enum exit_how *out)
{
	for (unsigned i = 0; i < ARRAY_SIZE(exit_names); i++)
		if (strlen(exit_names[i]) == len && memcmp(exit_names[i], p, len) == 0) {
			*out = (enum exit_how)i;
			return 0;
		}
	return -EINVAL;
}

static struct cmdline_globs *globs_of(struct cmdline *cl, enum key key)
{
	return key == KEY_ONLY ? &cl->only : key == KEY_SKIP ? &cl->skip : &cl->require;
}

static int take_value(struct cmdline *cl, enum key key, bool first, const char *value, size_t len)
{
	uint64_t v;
	int r = 0;

	switch (key) {
	case KEY_ONLY:
	case KEY_SKIP:
	case KEY_REQUIRE:
		if (first) /* the first in this source: what earlier sources said is void */
			globs_of(cl, key)->count = 0;
		return add_globs(cl, globs_of(cl, key), value, len);
	case KEY_LIST:
		cl->list = true;
		return 0;
	case KEY_DUMP:
		cl->dump = true;
		return 0;
	case KEY_TIMING:
		cl->timing = true;
		return 0;
	case KEY_DEVICE:
		r = take_device(value, len, &cl->device);
		cl->has_device = cl->has_device || r == 0;
		return r;
	case KEY_ALLOW:
		if (len != 10 || memcmp(value, "disruptive", 10) != 0)
			return -EINVAL;
		cl->disruptive = true;
		return 0;
	case KEY_ITERATIONS:
		return take_number(value, len, 1, UINT32_MAX, &cl->iterations);
	case KEY_SEED:
		r = take_number(value, len, 0, UINT64_MAX, &v);
		if (r == 0) {
			cl->seed = v;
			cl->has_seed = true;
		}
		return r;
	case KEY_EXIT:
		return take_exit(value, len, &cl->exit);
	case KEY_REPEAT:
		return take_number(value, len, 0, REPEAT_MAX, &cl->repeat);
	case KEY_VFS:
		return take_number(value, len, 0, 256, &cl->vfs);
	case KEY_SABOTAGE:
		return sabotage_select(value, len);
	case KEY_COUNT:
		break;
	}
	return -EINVAL;
}

void cmdline_init(struct cmdline *cl)
{
	memset(cl, 0, sizeof(*cl));
}

void cmdline_add(struct cmdline *cl, const char *source, const char *text)
{
	uint32_t seen = 0; /* keys of this source */
	const char *p = text;

	for (;;) {
		const char *word, *value;
		size_t len, key_len;
		char what[96];
		unsigned key;
		int r;

		while (is_blank(*p))
			p++;
		if (!*p)
			return;
		if (*p == '#') {
			while (*p && *p != '\n')
				p++;
			continue;
		}
		word = p;
		while (*p && !is_blank(*p))
			p++;
		len = (size_t)(p - word);
		for (key_len = 0; key_len < len && word[key_len] != '='; key_len++)
			;
		value = key_len < len ? word + key_len + 1 : NULL;

		for (key = 0; key < KEY_COUNT; key++)
			if (strlen(keys[key].name) == key_len && memcmp(keys[key].name, word, key_len) == 0)
				break;
		if (key == KEY_COUNT) {
			fail(cl, source, word, len, "unknown word");
			continue;
		}
		if (value && !keys[key].wants) {
			fail(cl, source, word, len, "a value where none belongs:");
			continue;
		}
		r = -EINVAL;
		if (value || !keys[key].wants)
			r = take_value(cl, (enum key)key, !(seen & BIT(key)), value,
				       value ? len - key_len - 1 : 0);
		seen |= BIT(key);
		if (r == -ENOSPC) {
			fail(cl, source, word, len, "more names than there is room for:");
		} else if (r < 0) {
			fmt_snprintf(what, sizeof(what), "%s= wants %s, not", keys[key].name,
				     keys[key].wants);
			fail(cl, source, word, len, what);
		}
	}
}

/* snprintf that goes on where the last one ended, and goes on counting when the buffer is full. */
__attribute__((format(printf, 4, 5)))
static void put(char *buf, size_t size, size_t *used, const char *fmt, ...)
{
	const size_t at = MIN(*used, size);
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = fmt_vsnprintf(size ? buf + at : buf, size - at, fmt, ap);
	va_end(ap);
	if (n > 0)
		*used += (size_t)n;
}

int cmdline_text(const struct cmdline *cl, char *buf, size_t size)
{
	static const enum key lists[] = {KEY_ONLY, KEY_SKIP, KEY_REQUIRE};
	const struct cmdline_globs *const globs[] = {&cl->only, &cl->skip, &cl->require};
	size_t used = 0;

	if (size)
		buf[0] = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		for (unsigned j = 0; j < globs[i]->count; j++) {
			if (j == 0)
				put(buf, size, &used, "%s%s=", used ? " " : "", keys[lists[i]].name);
			put(buf, size, &used, "%s%s", j ? "," : "", globs[i]->glob[j]);
		}
	if (cl->list)
		put(buf, size, &used, "%slist", used ? " " : "");
	if (cl->dump)
		put(buf, size, &used, "%sdump", used ? " " : "");
	if (cl->timing)
		put(buf, size, &used, "%stiming", used ? " " : "");
	if (cl->has_device) {
		put(buf, size, &used, "%sdevice=", used ? " " : "");
		if (rid_seg(cl->device))
			put(buf, size, &used, "%04x:", rid_seg(cl->device));
		put(buf, size, &used, PRIRID, RIDARG(cl->device));
	}
	if (cl->disruptive)
		put(buf, size, &used, "%sallow=disruptive", used ? " " : "");
	if (cl->iterations)
		put(buf, size, &used, "%siterations=%llu", used ? " " : "",
		    (unsigned long long)cl->iterations);
	if (cl->has_seed)
		put(buf, size, &used, "%sseed=%llu", used ? " " : "", (unsigned long long)cl->seed);
	if (cl->exit != EXIT_DEBUG)
		put(buf, size, &used, "%sexit=%s", used ? " " : "", exit_names[cl->exit]);
	if (cl->repeat)
		put(buf, size, &used, "%srepeat=%llu", used ? " " : "", (unsigned long long)cl->repeat);
	if (cl->vfs)
		put(buf, size, &used, "%svfs=%llu", used ? " " : "", (unsigned long long)cl->vfs);
	if (sabotage_name()[0])
		put(buf, size, &used, "%ssabotage=%s", used ? " " : "", sabotage_name());
	return (int)used;
}

bool cmdline_match(const struct cmdline_globs *globs, const char *name)
{
	for (unsigned i = 0; i < globs->count; i++)
		if (fmt_glob(globs->glob[i], name))
			return true;
	return false;
}
