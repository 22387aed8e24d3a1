/* SPDX-License-Identifier: MIT */
// link: kernel/cmdline.c kernel/lib/fmt.c kernel/lib/strlcpy.c
#include "kernel/cmdline.h"
#include "tests/host/host.h"

static struct cmdline cl;

/* What one line comes to, in canonical form. */
static const char *parse(const char *line)
{
	static char text[4096];

	cmdline_init(&cl);
	cmdline_add(&cl, "a test", line);
	cmdline_text(&cl, text, sizeof(text));
	return text;
}
static int gives(const char *line, const char *text)
{
	const char *got = parse(line);

	if (strcmp(got, text) != 0 || cl.error[0]) {
		printf("  '%s': '%s', error '%s'\n", line, got, cl.error);
		return 0;
	}
	return 1;
}
static int refuses(const char *line, const char *part)
{
	parse(line);
	if (!strstr(cl.error, part) || !cl.error[0]) {
		printf("  '%s': error '%s'\n", line, cl.error);
		return 0;
	}
	return 1;
}

static void test_good(void)
{
	CHECK(gives("", ""));
	CHECK(gives(" \t\r\n ", ""));
	CHECK(gives("only=apic.*,msi.storm", "only=apic.*,msi.storm"));
	CHECK(gives("only=a only=b,c skip=x?y", "only=a,b,c skip=x?y"));
	CHECK(gives("only=a,,b,", "only=a,b"));
	CHECK(gives("list", "list"));
	CHECK(gives("dump only=a list", "only=a list dump"));
	CHECK(cl.dump);
	CHECK(gives("iterations=2 timing", "timing iterations=2"));
	CHECK(cl.timing);
	CHECK(refuses("timing=long", "a value where none belongs: 'timing=long'"));
	CHECK(gives("only=dump", "only=dump"));
	CHECK(!cl.timing);
	CHECK(!cl.dump);
	CHECK(refuses("dump=pci", "a value where none belongs: 'dump=pci'"));
	CHECK(gives("require=iommu.* allow=disruptive", "require=iommu.* allow=disruptive"));
	CHECK(gives("device=00:10.0", "device=00:10.0"));
	CHECK(gives("device=FF:1f.7", "device=ff:1f.7"));
	CHECK(gives("device=0000:02:00.1", "device=02:00.1"));
	CHECK(gives("device=1234:02:00.1", "device=1234:02:00.1"));
	CHECK_EQ(cl.device.v, 0x12340201);
	CHECK(gives("iterations=10 seed=0x1f repeat=60", "iterations=10 seed=31 repeat=60"));
	CHECK(gives("seed=18446744073709551615", "seed=18446744073709551615"));
	CHECK(gives("seed=0", "seed=0"));
	CHECK(cl.has_seed);
	CHECK(gives("exit=poweroff", "exit=poweroff"));
	CHECK(gives("exit=halt exit=reset", "exit=reset"));
	CHECK_EQ(cl.exit, EXIT_RESET);
	CHECK(gives("exit=debug", ""));
	CHECK(gives("# only=x\n  seed=1 # list\nlist", "list seed=1"));
	CHECK(gives("#", ""));
	CHECK(gives("only=a.b\r\nlist\r\n", "only=a.b list"));
}

static void test_bad(void)
{
	CHECK(refuses("onyl=apic.*", "unknown word 'onyl=apic.*' (from a test)"));
	CHECK(refuses("list onyl", "unknown word 'onyl'"));
	CHECK(refuses("onlyx=a", "unknown word"));
	CHECK(refuses("=a", "unknown word '=a'"));
	CHECK(refuses("sabotage=msi_wrong_cpu", "SABOTAGE=1")); /* not in this image */
	CHECK(refuses("seed=1 bad\x1bx", "unknown word 'bad?x'"));
	CHECK(refuses("only", "only= wants"));
	CHECK(refuses("only=", "only= wants"));
	CHECK(refuses("only=,", "only= wants"));
	CHECK(refuses("only=a;b", "not 'only=a;b'"));
	CHECK(refuses("list=1", "'list=1'"));
	CHECK(refuses("device=00:10", "device= wants BB:DD.F"));
	CHECK(refuses("device=00:20.0", "device="));
	CHECK(refuses("device=00:10.8", "device="));
	CHECK(refuses("device=00:10.0x", "device="));
	CHECK(refuses("device=1:2:3:4.5", "device="));
	CHECK(refuses("allow=all", "allow= wants disruptive, not 'allow=all'"));
	CHECK(refuses("iterations=0", "iterations="));
	CHECK(refuses("iterations=4294967296", "iterations="));
	CHECK(refuses("seed=18446744073709551616", "seed="));
	CHECK(refuses("seed=12x", "seed="));
	CHECK(refuses("seed=-1", "seed="));
	CHECK(refuses("seed=", "seed="));
	CHECK(refuses("exit=Debug", "exit= wants debug, poweroff, reset or halt"));
	CHECK(refuses("repeat=99999999999", "repeat="));
	CHECK(gives("vfs=2", "vfs=2") && refuses("vfs=257", "vfs=") && refuses("vfs", "vfs"));
	/* the first one stays, a long one is cut, and the good words still count */
	CHECK(refuses("a b seed=5", "unknown word 'a'"));
	CHECK_EQ(cl.seed, 5);
	CHECK(refuses("zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", "zzz...'"));
	CHECK(strlen(cl.error) < sizeof(cl.error));
}

static void test_sources(void)
{
	char text[64], small[9];

	cmdline_init(&cl);
	cmdline_add(&cl, "one", "only=a skip=b seed=1 list");
	cmdline_add(&cl, "two", "only=c only=d seed=2");
	cmdline_text(&cl, text, sizeof(text));
	CHECK(strcmp(text, "only=c,d skip=b list seed=2") == 0);
	CHECK_EQ(cl.error[0], 0);
	cmdline_add(&cl, "three", "frob");
	CHECK(strcmp(cl.error, "unknown word 'frob' (from three)") == 0);
	/* cut, terminated, and the whole length told */
	CHECK_EQ(cmdline_text(&cl, small, sizeof(small)), strlen(text));
	CHECK(strcmp(small, "only=c,d") == 0);
	CHECK_EQ(cmdline_text(&cl, NULL, 0), strlen(text));
}

static void test_limits(void)
{
	static char line[8192];
	size_t n = 0;

	n += (size_t)sprintf(line, "only=");
	for (int i = 0; i < CMDLINE_GLOBS_MAX; i++)
		n += (size_t)sprintf(line + n, "t%d,", i);
	parse(line);
	CHECK_EQ(cl.error[0], 0);
	CHECK_EQ(cl.only.count, CMDLINE_GLOBS_MAX);
	strcpy(line + n, "more");
	CHECK(refuses(line, "more names than"));
	/* names longer than the store */
	memcpy(line, "only=", 5);
	memset(line + 5, 'x', 5000);
	line[5005] = 0;
	CHECK(refuses(line, "more names than"));
}

static void test_match(void)
{
	parse("only=apic.*,msi.storm skip=*.ipi_*");
	CHECK(cmdline_match(&cl.only, "apic.ids"));
	CHECK(cmdline_match(&cl.only, "msi.storm"));
	CHECK(!cmdline_match(&cl.only, "msi.storms"));
	CHECK(!cmdline_match(&cl.only, "xapic.ids"));
	CHECK(cmdline_match(&cl.skip, "apic.ipi_self"));
	CHECK(!cmdline_match(&cl.require, "apic.ids"));
}

int main(void)
{
	test_good();
	test_bad();
	test_sources();
	test_limits();
	test_match();
	return host_done("boot_cmdline");
}
