/* SPDX-License-Identifier: MIT */
// link: kernel/lib/fmt.c kernel/lib/crc.c kernel/lib/err.c kernel/lib/strlcpy.c kernel/lib/popcount.c
#include "kernel/lib/addr.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/crc.h"
#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"
#include "tests/host/host.h"

int __popcountdi2(long long v);

/* libc's snprintf is the model; the formats are those we use. */
#define SAME(...)                                                                                  \
	do {                                                                                       \
		char a[128], b[128];                                                               \
		const int n = fmt_snprintf(a, sizeof(a), __VA_ARGS__);                             \
		CHECK_EQ(n, snprintf(b, sizeof(b), __VA_ARGS__));                                  \
		CHECK(!strcmp(a, b));                                                              \
		if (strcmp(a, b))                                                                  \
			printf("  '%s' but libc '%s'\n", a, b);                                    \
	} while (0)

static void numbers(void)
{
	static const long long values[] = {0, 1, -1, 7, 42, -42, 255, 65536, INT32_MAX, INT32_MIN,
					   INT64_MAX, INT64_MIN, 0x123456789abcdefll};
	static const int widths[] = {0, 1, 5, 12, -12, 30};

	for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
		const long long v = values[i];

		SAME("%lld|%llu|%llx|%llX|%#llx|%+lld|% lld", v, (unsigned long long)v, (unsigned long long)v,
		     (unsigned long long)v, (unsigned long long)v, v, v);
		SAME("%d|%u|%x|%08x|%-8d|%+5d", (int)v, (unsigned)v, (unsigned)v, (unsigned)v, (int)v, (int)v);
		SAME("%hhu %hu %zu %hhx", (unsigned char)v, (unsigned short)v, (size_t)v, (unsigned char)v);
		for (unsigned w = 0; w < ARRAY_SIZE(widths); w++) {
			SAME("[%*lld]", widths[w], v);
			SAME("[%0*llx]", widths[w], (unsigned long long)v);
			SAME("[%*.4d]", widths[w], (int)v);
			SAME("[%#*x]", widths[w], (unsigned)v);
		}
	}
}

static void strings(void)
{
	char small[8];

	SAME("%s %10s %-10s| %.2s %c %%", "abc", "right", "left", "cut", 'x');
	SAME("%s", "");
	SAME("%.*s", 3, "abcdef");
	CHECK_EQ(fmt_snprintf(small, sizeof(small), "%s", "0123456789"), 10);
	CHECK(!strcmp(small, "0123456"));
	CHECK_EQ(fmt_snprintf(small, 1, "abc"), 3);
	CHECK_EQ(small[0], 0);
	CHECK_EQ(fmt_snprintf(NULL, 0, "abc"), 3);
}

static void parsing(void)
{
	static const struct { const char *text; int r; uint64_t v; const char *rest; } cases[] = {
		{"0", 0, 0, ""}, {"10x", 0, 10, "x"}, {"0x1F,", 0, 31, ","}, {"017", 0, 15, ""},
		{"18446744073709551615", 0, UINT64_MAX, ""}, {"18446744073709551616", -ERANGE, 0, NULL},
		{"0x10000000000000000", -ERANGE, 0, NULL}, {"", -EINVAL, 0, NULL}, {"-1", -EINVAL, 0, NULL},
		{"x", -EINVAL, 0, NULL}, {"0x", -EINVAL, 0, NULL}, {"08", 0, 0, "8"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *s = cases[i].text;
		uint64_t v = 0;
		const int r = fmt_parse_u64(&s, &v);

		CHECK_EQ(r, cases[i].r);
		if (r)
			continue;
		CHECK_EQ(v, cases[i].v);
		CHECK(!strcmp(s, cases[i].rest));
	}
}

static void globs(void)
{
	static const struct { const char *p, *t; int match; } cases[] = {
		{"*", "", 1}, {"*", "x.y", 1}, {"apic.*", "apic.ids", 1}, {"apic.*", "ioapic.edge", 0},
		{"*.ids", "apic.ids", 1}, {"a*b*c", "axxbyyc", 1}, {"a*b*c", "axxbyy", 0}, {"?pic.ids", "apic.ids", 1},
		{"", "", 1}, {"", "x", 0}, {"a", "", 0}, {"**a", "bba", 1}, {"msi.mask", "msi.masks", 0},
		{"*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_EQ(!!fmt_glob(cases[i].p, cases[i].t), cases[i].match);
}

int main(void)
{
	const uint8_t bytes[] = {1, 2, 3, 250};
	volatile uint32_t too_large = 0x1ff;

	numbers();
	strings();
	parsing();
	globs();
	CHECK_EQ(crc32_update(0, "123456789", 9), 0xcbf43926); /* the check value of CRC-32/ISO-HDLC */
	CHECK_EQ(crc32_update(crc32_update(0, "1234", 4), "56789", 5), 0xcbf43926);
	CHECK_EQ(checksum8(bytes, 4), 0);
	CHECK(!strcmp(err_name(-ETIMEDOUT), "ETIMEDOUT") && !strcmp(err_name(12345), "?"));
	CHECK(!strcmp(rid_text(pci_rid(0x4a, 0x1d, 7)), "4a:1d.7") && !strcmp(rid_text(pci_rid(0, 2, 0)), "00:02.0"));
	CHECK_EQ(__popcountdi2(-1), 64);
	CHECK_EQ(__popcountdi2(0), 0);
	for (unsigned i = 0; i < 64; i++)
		for (unsigned k = i; k < 64; k++)
			CHECK_EQ(__popcountdi2((long long)GENMASK64(k, i)), k - i + 1);
	CHECK_EQ(__popcountdi2((long long)0xa5c3000000000801ull), 10);
	CHECK_EQ(GENMASK(31, 0), 0xffffffff);
	CHECK_EQ(GENMASK64(63, 12), 0xfffffffffffff000);
	CHECK_EQ(FIELD_PREP(GENMASK(15, 8), too_large), 0xff00);
	CHECK_EQ(FIELD_GET(GENMASK64(11, 4), 0xabcull), 0xab);
	return host_done("lib");
}
