/* SPDX-License-Identifier: MIT */
// link: tests/models/gpu.c tests/models/config.c tests/models/breaks.c

/* The vGPU model's registers, on a clock of our own. */

#include "tests/host/host.h"
#include "tests/models/gpu.h"

static struct kind kind;
static struct breaks brk;
static struct gpu gpu;
static uint64_t clock_ns;
static uint8_t system_memory[64], video_memory[64], config_space[PCI_CONFIG_SIZE];
static uint64_t last_addr;
static unsigned config_writes;

static uint64_t fake_now(void *ctx)
{
	(void)ctx;
	return clock_ns;
}

static bool fake_memory(uint8_t *mem, size_t size, uint64_t addr, void *buf, size_t n, bool write)
{
	last_addr = addr;
	if (addr % 0x10000 + n > size)
		return false;
	if (write)
		memcpy(mem + addr % 0x10000, buf, n);
	else
		memcpy(buf, mem + addr % 0x10000, n);
	return true;
}

static bool fake_sysmem(void *ctx, uint64_t addr, void *buf, size_t n, bool write)
{
	(void)ctx;
	return fake_memory(system_memory, sizeof(system_memory), addr, buf, n, write);
}

static bool fake_vram(void *ctx, uint64_t addr, void *buf, size_t n, bool write)
{
	(void)ctx;
	return fake_memory(video_memory, sizeof(video_memory), addr, buf, n, write);
}

static void fake_config(void *ctx, unsigned off, void *buf, size_t n, bool write)
{
	(void)ctx;
	config_writes += write;
	if (write)
		memcpy(config_space + off, buf, n);
	else
		memcpy(buf, config_space + off, n);
}

static const struct gpu_ops ops = { fake_now, fake_sysmem, fake_vram, fake_config };

static void fresh(const char *name, const char *breaks)
{
	kind = *kind_find(name);
	memset(&brk, 0, sizeof(brk));
	CHECK_EQ(breaks_add(&brk, breaks), 0);
	clock_ns = 1000000;
	memset(system_memory, 0x5a, sizeof(system_memory));
	memset(video_memory, 0xa5, sizeof(video_memory));
	config_writes = 0;
	gpu_init(&gpu, &kind, &brk, &ops, NULL, 7ull << 32);
}

static uint32_t rd(uint64_t off)
{
	uint8_t b[4];
	uint32_t v;

	gpu_read(&gpu, off, b, 4);
	memcpy(&v, b, 4);
	return v;
}

static void wr(uint64_t off, uint32_t v)
{
	uint8_t b[4];

	memcpy(b, &v, 4);
	gpu_write(&gpu, off, b, 4);
}

static void identity(void)
{
	fresh("p40-2a-mdev", "");
	CHECK_EQ(rd(NV_PMC_BOOT_0) >> 20, 0x132);
	CHECK_EQ(rd(NV_PMC_BOOT_0) & 0xff, 0xa1);
	CHECK_EQ(rd(NV_PMC_BOOT_42) >> 20, 0x132);
	CHECK_EQ(rd(NV_PMC_BOOT_1) >> 16 & 3, 1);
	CHECK_EQ(rd(0x123450), 0);
	fresh("gp102", "");
	CHECK_EQ(rd(NV_PMC_BOOT_1) >> 16 & 3, 0);
	CHECK_EQ(rd(0x123450) >> 16, 0xbadf);
	fresh("tu-vf", "");
	CHECK_EQ(rd(NV_PMC_BOOT_0) >> 24 & 0x1f, 0x16);
	CHECK_EQ(rd(NV_PMC_BOOT_1) >> 16 & 3, 2);
	fresh("p40-2a-mdev", "id-mismatch");
	CHECK_EQ(rd(NV_PMC_BOOT_0) >> 20, 0x136);
	CHECK_EQ(rd(NV_PMC_BOOT_42) >> 20, 0x136);
	fresh("p40-2a-mdev", "boot1-mismatch");
	CHECK_EQ(rd(NV_PMC_BOOT_1) >> 16 & 3, 0);
	fresh("gp102", "boot1-mismatch");
	CHECK_EQ(rd(NV_PMC_BOOT_1) >> 16 & 3, 1);
	fresh("gp102", "unposted");
	CHECK_EQ(rd(NV_PMC_BOOT_0) >> 20, 0x132);
	CHECK_EQ(rd(NV_PTIMER_TIME_0) >> 16, 0xbadf);
	wr(NV_PMC_INTR_EN_SET, 0xffffffff);
	wr(NV_PMC_INTR_SW, 1);
	CHECK(!gpu_line(&gpu));
}

static void access_sizes(void)
{
	uint8_t b[16];

	fresh("gp102", "");
	gpu_read(&gpu, NV_PMC_BOOT_0 + 2, b, 1);
	CHECK_EQ(b[0], 0x20);
	gpu_read(&gpu, NV_PMC_BOOT_0 + 3, b, 3);            /* over the doubleword's end */
	CHECK_EQ(b[0], 0x13);
	CHECK_EQ(b[1] | b[2], 0);
	gpu_read(&gpu, NV_PTIMER_TIME_0, b, 8);
	/* A byte written leaves its neighbours alone, write-1-to-clear bits too. */
	wr(NV_PBUS_INTR_EN_0, 0x04030201);
	gpu_write(&gpu, NV_PBUS_INTR_EN_0 + 1, (const uint8_t *)"\xee", 1);
	CHECK_EQ(rd(NV_PBUS_INTR_EN_0), 0x0403ee01);
	wr(NV_PBUS_SW_INTR_0, 1);
	gpu_write(&gpu, NV_PBUS_INTR_0, (const uint8_t *)"\xff", 1);
	CHECK_EQ(rd(NV_PBUS_INTR_0), NV_PBUS_INTR_SW);
	gpu_write(&gpu, NV_PBUS_INTR_0 + 3, (const uint8_t *)"\xff", 1);
	CHECK_EQ(rd(NV_PBUS_INTR_0), 0);
}

/* Status, its enable, PMC's status, PMC's enable, and back. */
static void pbus(void)
{
	fresh("p40-2a-mdev", "");
	wr(NV_PBUS_SW_INTR_0, 1);
	CHECK_EQ(rd(NV_PBUS_INTR_0), NV_PBUS_INTR_SW);
	CHECK_EQ(rd(NV_PMC_INTR), 0);
	wr(NV_PBUS_INTR_EN_0, NV_PBUS_INTR_SW);
	CHECK_EQ(rd(NV_PMC_INTR), NV_PMC_INTR_PBUS);
	CHECK(!gpu_line(&gpu));
	wr(NV_PMC_INTR_EN_SET, NV_PMC_INTR_PBUS);
	CHECK_EQ(rd(NV_PMC_INTR_EN), NV_PMC_INTR_PBUS);
	CHECK(gpu_line(&gpu));
	wr(NV_PMC_INTR_EN, 0);                               /* read-only since GP100 */
	CHECK(gpu_line(&gpu));
	wr(NV_PMC_INTR_EN_CLEAR, NV_PMC_INTR_PBUS);
	CHECK(!gpu_line(&gpu));
	wr(NV_PMC_INTR_EN_SET, NV_PMC_INTR_PBUS);
	wr(NV_PBUS_INTR_0, NV_PBUS_INTR_SW);
	CHECK(!gpu_line(&gpu));
	CHECK_EQ(rd(NV_PMC_INTR), 0);
	wr(NV_PBUS_SW_INTR_0, 0);
	CHECK(!gpu_line(&gpu));
	fresh("p40-2a-mdev", "no-pbus");
	wr(NV_PBUS_SW_INTR_0, 1);
	CHECK_EQ(rd(NV_PBUS_INTR_0), 0);
	fresh("p40-2a-mdev", "no-trigger");
	wr(NV_PBUS_SW_INTR_0, 1);
	CHECK_EQ(rd(NV_PBUS_INTR_0), 0);
	fresh("p40-2a-mdev", "stuck-pending");
	wr(NV_PBUS_SW_INTR_0, 1);
	wr(NV_PBUS_INTR_0, NV_PBUS_INTR_SW);
	CHECK_EQ(rd(NV_PBUS_INTR_0), NV_PBUS_INTR_SW);
}

static void pmc_sw(void)
{
	fresh("gp102", "");
	wr(NV_PMC_INTR_EN_SET, NV_PMC_INTR_SOFTWARE);
	wr(NV_PMC_INTR_SW, 1);
	CHECK_EQ(rd(NV_PMC_INTR), NV_PMC_INTR_SOFTWARE);
	CHECK_EQ(rd(NV_PMC_INTR + 4), 0);
	CHECK(gpu_line(&gpu));
	wr(NV_PMC_INTR_SW, 0);
	CHECK(!gpu_line(&gpu));
	wr(NV_PMC_INTR_SW + 4, 1);                           /* the other output */
	CHECK_EQ(rd(NV_PMC_INTR + 4), NV_PMC_INTR_SOFTWARE);
	CHECK(!gpu_line(&gpu));
	wr(NV_PMC_INTR_EN_SET + 4, NV_PMC_INTR_SOFTWARE);
	CHECK(gpu_line(&gpu));
	gpu_reset(&gpu);
	CHECK(!gpu_line(&gpu));
	CHECK_EQ(rd(NV_PMC_INTR_EN + 4), 0);
	fresh("gp102", "no-pmc-sw");
	wr(NV_PMC_INTR_SW, 1);
	CHECK_EQ(rd(NV_PMC_INTR), 0);
}

static void clock(void)
{
	uint32_t lo;

	fresh("gp102", "");
	CHECK_EQ(rd(NV_PTIMER_TIME_1), 7);
	lo = rd(NV_PTIMER_TIME_0);
	CHECK_EQ(lo, 1000000);
	clock_ns += 31;
	CHECK_EQ(rd(NV_PTIMER_TIME_0), lo);                  /* steps of 32 ns */
	clock_ns += 1;
	CHECK_EQ(rd(NV_PTIMER_TIME_0), lo + 32);
	clock_ns = 0x1ffffffff;
	CHECK_EQ(rd(NV_PTIMER_TIME_1), 8);
	fresh("gp102", "ptimer-stuck");
	lo = rd(NV_PTIMER_TIME_0);
	clock_ns += 1000000;
	CHECK_EQ(rd(NV_PTIMER_TIME_0), lo);
	fresh("gp102", "ptimer-back");
	lo = rd(NV_PTIMER_TIME_0);
	clock_ns += 3200;
	CHECK_EQ(rd(NV_PTIMER_TIME_0), lo - 3200);
	fresh("gp102", "ptimer-fast=3");
	lo = rd(NV_PTIMER_TIME_0);
	clock_ns += 3200;
	CHECK_EQ(rd(NV_PTIMER_TIME_0), lo + 9600);
	fresh("tu-vf", "");
	CHECK_EQ(rd(NV_VF_TIME_0), 1000000);
	CHECK_EQ(rd(NV_VF_TIME_1), 7);
	CHECK_EQ(rd(NV_PTIMER_TIME_0) >> 16, 0xbadf);        /* the whole GPU's */
}

static void alarm_at(const char *breaks, uint64_t step)
{
	uint32_t lo;

	fresh("gp102", breaks);
	wr(NV_PTIMER_INTR_0, 1);
	wr(NV_PTIMER_INTR_EN_0, 1);
	wr(NV_PMC_INTR_EN_SET, NV_PMC_INTR_PTIMER);
	lo = rd(NV_PTIMER_TIME_0);
	wr(NV_PTIMER_ALARM_0, lo + 64000);
	CHECK_EQ(gpu_alarm_in(&gpu) / 32 * 32, (64000 * step / 64000 + 32) / 32 * 32);
	clock_ns += step - 64;
	gpu_tick(&gpu);
	CHECK(!gpu_line(&gpu));
	clock_ns += 64;
	gpu_tick(&gpu);
	CHECK(gpu_line(&gpu));
	CHECK_EQ(rd(NV_PTIMER_INTR_0), 1);
	CHECK_EQ(rd(NV_PMC_INTR), NV_PMC_INTR_PTIMER);
	CHECK(gpu_alarm_in(&gpu) == UINT64_MAX);
	wr(NV_PTIMER_INTR_0, 1);
	CHECK(!gpu_line(&gpu));
	CHECK_EQ(rd(NV_PTIMER_INTR_0), 0);                   /* one match is one interrupt */
}

static void alarms(void)
{
	alarm_at("", 64000);
	alarm_at("ptimer-fast=2", 32000);
	/* Only equality: an alarm just passed waits for the counter to come round. */
	fresh("gp102", "");
	wr(NV_PTIMER_INTR_EN_0, 1);
	wr(NV_PTIMER_ALARM_0, rd(NV_PTIMER_TIME_0) - 32);
	clock_ns += 4000000000;
	CHECK_EQ(rd(NV_PTIMER_INTR_0), 0);
	clock_ns += 300000000;
	CHECK_EQ(rd(NV_PTIMER_INTR_0), 1);
	/* Equal when it is written. */
	fresh("gp102", "");
	wr(NV_PTIMER_ALARM_0, rd(NV_PTIMER_TIME_0));
	CHECK_EQ(rd(NV_PTIMER_INTR_0), 1);
	fresh("gp102", "no-alarm");
	wr(NV_PTIMER_ALARM_0, rd(NV_PTIMER_TIME_0) + 320);
	clock_ns += 1000;
	CHECK_EQ(rd(NV_PTIMER_INTR_0), 0);
	fresh("gp102", "ptimer-back");
	wr(NV_PTIMER_ALARM_0, rd(NV_PTIMER_TIME_0) - 3200);
	clock_ns += 3200;
	CHECK_EQ(rd(NV_PTIMER_INTR_0), 1);
}

static void tree(void)
{
	fresh("tu-vf", "");
	wr(NV_CPU_INTR_LEAF_TRIGGER, 129);
	CHECK_EQ(rd(NV_CPU_INTR_LEAF + 16), 2);
	CHECK_EQ(rd(NV_CPU_INTR_TOP), 0);
	wr(NV_CPU_INTR_LEAF_EN_SET + 16, 2);
	CHECK_EQ(rd(NV_CPU_INTR_LEAF_EN_SET + 16), 2);
	CHECK_EQ(rd(NV_CPU_INTR_TOP), 1 << 2);
	CHECK(!gpu_line(&gpu));
	wr(NV_CPU_INTR_TOP_EN_SET, 1 << 2);
	CHECK(gpu_line(&gpu));
	wr(NV_CPU_INTR_TOP_EN_CLEAR, 1 << 2);
	CHECK(!gpu_line(&gpu));
	wr(NV_CPU_INTR_TOP_EN_SET, 1 << 2);
	wr(NV_CPU_INTR_LEAF + 16, 1);                        /* not its bit */
	CHECK(gpu_line(&gpu));
	wr(NV_CPU_INTR_LEAF + 16, 2);
	CHECK(!gpu_line(&gpu));
	wr(NV_CPU_INTR_LEAF_TRIGGER, 256);                   /* past the last leaf */
	wr(NV_CPU_INTR_LEAF_TRIGGER, 0xfff);
	for (unsigned i = 0; i < NV_LEAVES; i++)
		CHECK_EQ(rd(NV_CPU_INTR_LEAF + 4 * i), 0);
	wr(NV_CPU_INTR_LEAF_EN_CLEAR + 16, 2);
	CHECK_EQ(rd(NV_CPU_INTR_LEAF_EN_CLEAR + 16), 0);
	fresh("tu-vf", "no-trigger");
	wr(NV_CPU_INTR_LEAF_TRIGGER, 129);
	CHECK_EQ(rd(NV_CPU_INTR_LEAF + 16), 0);
}

static void window(void)
{
	fresh("gp102", "");
	CHECK_EQ(rd(NV_PRAMIN + 16), 0xa5a5a5a5);            /* TARGET 0: video memory */
	wr(NV_PBUS_BAR0_WINDOW, 2u << 24 | 0x123456);
	CHECK_EQ(rd(NV_PRAMIN + 16), 0x5a5a5a5a);
	CHECK_EQ(last_addr, 0x1234560010);
	wr(NV_PRAMIN + 20, 0x11223344);
	CHECK_EQ(rd(NV_PRAMIN + 20), 0x11223344);
	CHECK_EQ(system_memory[20], 0x44);
	gpu_write(&gpu, NV_PRAMIN + 22, (const uint8_t *)"\x99", 1);
	CHECK_EQ(rd(NV_PRAMIN + 20), 0x11993344);
	CHECK_EQ(rd(NV_PRAMIN + 0x100), 0xffffffff);         /* nobody answers */
	wr(NV_PBUS_BAR0_WINDOW, 0xffffffff);
	CHECK_EQ(rd(NV_PBUS_BAR0_WINDOW), 0x03ffffff);
	last_addr = 0;
	CHECK_EQ(rd(NV_PRAMIN + 0x20000), 0xffffffff);       /* above 40 bits */
	CHECK_EQ(last_addr, 0);
	wr(NV_PBUS_BAR0_WINDOW, 1u << 24);
	CHECK_EQ(rd(NV_PRAMIN + 16), 0xffffffff);            /* no such target */
	fresh("p40-2a-mdev", "");
	wr(NV_PBUS_BAR0_WINDOW, 2u << 24);
	CHECK_EQ(rd(NV_PBUS_BAR0_WINDOW), 0);
	CHECK_EQ(rd(NV_PRAMIN + 16), 0);
}

static void mirror(void)
{
	fresh("p40-2a-mdev", "");
	config_space[0x68] = 0x05;
	CHECK_EQ(rd(NV_CONFIG_MIRROR + 0x68) & 0xff, 5);
	wr(NV_CONFIG_MIRROR + CFG_MSI_REARM, 0);
	CHECK_EQ(config_writes, 1);
	gpu_write(&gpu, NV_CONFIG_MIRROR + 0x68, (const uint8_t *)"\xff", 1);
	CHECK_EQ(config_writes, 2);
}

/* To Maxwell: one enable register of two bits, and a software interrupt that is its own status. */
static void maxwell(void)
{
	fresh("gm204", "");
	wr(NV_PMC_INTR_EN, 0xff);
	CHECK_EQ(rd(NV_PMC_INTR_EN), 3);
	wr(NV_PMC_INTR_EN, NV_PMC_INTR_EN_HARDWARE);
	wr(NV_PMC_INTR, NV_PMC_INTR_SOFTWARE);
	CHECK_EQ(rd(NV_PMC_INTR), NV_PMC_INTR_SOFTWARE);
	CHECK(!gpu_line(&gpu));
	wr(NV_PMC_INTR_EN, NV_PMC_INTR_EN_SOFTWARE);
	CHECK(gpu_line(&gpu));
	wr(NV_PMC_INTR, 0);
	CHECK(!gpu_line(&gpu));
	wr(NV_PBUS_INTR_EN_0, NV_PBUS_INTR_SW);
	wr(NV_PBUS_SW_INTR_0, 1);
	CHECK_EQ(rd(NV_PMC_INTR), NV_PMC_INTR_PBUS);
	CHECK(!gpu_line(&gpu));                              /* a hardware one, and only software's on */
	wr(NV_PMC_INTR_EN, NV_PMC_INTR_EN_HARDWARE);
	CHECK(gpu_line(&gpu));
	CHECK_EQ(rd(NV_PMC_INTR_SW) >> 16, 0xbadf);          /* Pascal's */
	wr(NV_PMC_INTR_EN_CLEAR, ~0u);
	CHECK(gpu_line(&gpu));
}

static void whole_turing(void)
{
	const uint32_t pf = 0xb80000;

	fresh("tu104", "");
	wr(NV_CPU_INTR_LEAF_TRIGGER, 129);                   /* a VF's place */
	CHECK_EQ(rd(pf + NV_CPU_INTR_LEAF + 16), 0);
	wr(pf + NV_CPU_INTR_LEAF_EN_SET + 16, 2);
	wr(pf + NV_CPU_INTR_LEAF_TRIGGER, 129);
	CHECK(!gpu_line(&gpu));
	wr(pf + NV_CPU_INTR_TOP_EN_SET, 4);
	CHECK(gpu_line(&gpu) && gpu.top_set);
	gpu.top_set = false;
	wr(pf + NV_CPU_INTR_TOP_EN_SET, 4);
	CHECK(!gpu.top_set);                                 /* it was set */
	CHECK_EQ(rd(pf + NV_VF_TIME_0), rd(NV_PTIMER_TIME_0));
	wr(NV_PBUS_BAR0_WINDOW, 2u << 24);
	CHECK_EQ(rd(NV_PRAMIN), 0x5a5a5a5a);
	fresh("gh100", "");
	wr(NV_PBUS_BAR0_WINDOW, 2u << 24);
	CHECK(rd(NV_PRAMIN) != 0x5a5a5a5a);                  /* video memory only */
}

int main(void)
{
	identity();
	access_sizes();
	pbus();
	pmc_sw();
	clock();
	alarms();
	tree();
	window();
	mirror();
	maxwell();
	whole_turing();
	return host_done("vgpu_model_gpu");
}
