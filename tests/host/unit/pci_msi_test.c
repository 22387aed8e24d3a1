/* SPDX-License-Identifier: MIT */
// link: drivers/pci/msi.c drivers/pci/msix.c

/* MSI and MSI-X programming against registers made of bytes. */

#include "tests/host/unit/pci_fake.h"

/* Offsets as the specification's tables have them, typed here once more. */
#define CAP 0x50

static uint8_t table_memory[0x2000] __attribute__((aligned(16)));

volatile void *pci_bar_map(struct pci_dev *d, unsigned bar)
{
	return bar == 1 && d->bar[1].size == sizeof(table_memory) ? table_memory : NULL;
}

void pci_set_command(struct pci_dev *d, uint16_t set, uint16_t clear)
{
	(void)d, (void)set, (void)clear;
}

static struct pci_dev fresh_msi(uint16_t control)
{
	const struct pci_dev d = {.rid = {0x10}, .cap_msi = CAP};

	fake_reset();
	fake_add(-1, 0, 2, 0, 0x11e81234, 0x00ff00);
	fake_set(0, CAP, 4, (uint32_t)control << 16 | PCI_CAP_MSI);
	fake_writable(0, CAP + 2, 2, 0x0071);
	fake_writable(0, CAP + 4, 8, 0xfffffffffffffffcull);
	fake_writable(0, CAP + 12, 8, ~0ull);
	return d;
}

static void msi(void)
{
	struct pci_dev d = fresh_msi(0x0180 | 3 << 1); /* 64-bit, masks, 8 messages */
	struct msi_msg m = {0x1fee00000, 0x0048}, got;
	struct msi msi;
	bool on;

	CHECK_EQ(msi_open(&(struct pci_dev){.rid = {0x10}}, &msi), -ENOENT);
	CHECK_EQ(msi_open(&d, &msi), 0);
	CHECK(msi.count_max == 8 && msi.is64 && msi.maskable);
	CHECK_EQ(msi_program(&msi, &m, 8), 0);
	CHECK_EQ(fake_read(d.rid, CAP + 4, 4), 0xfee00000);
	CHECK_EQ(fake_read(d.rid, CAP + 8, 4), 1);
	CHECK_EQ(fake_read(d.rid, CAP + 12, 2), 0x48);
	CHECK_EQ(fake_read(d.rid, CAP + 2, 2), 0x0186 | 3 << 4); /* 8 granted, still disabled */
	msi_enable(&msi, true);
	CHECK_EQ(fake_read(d.rid, CAP + 2, 2), 0x01b7);
	msi_read(&msi, &got, &on);
	CHECK(got.addr == m.addr && got.data == m.data && on);
	CHECK_EQ(msi_program(&msi, &m, 2), 0);           /* disabled while it is written, and after */
	CHECK_EQ(fake_read(d.rid, CAP + 2, 2), 0x0196);

	msi_mask(&msi, 5, true);
	msi_mask(&msi, 0, true);
	msi_mask(&msi, 8, true);                         /* there is none */
	CHECK_EQ(fake_read(d.rid, CAP + 16, 4), 0x21);
	msi_mask(&msi, 0, false);
	CHECK_EQ(fake_read(d.rid, CAP + 16, 4), 0x20);
	fake_set(0, CAP + 20, 4, 0x80);
	CHECK_EQ(msi_pending(&msi), 0x80);

	/* Messages that the registers cannot hold are refused, and nothing is written. */
	m.addr = 0xfee00000;
	CHECK_EQ(msi_program(&msi, &m, 16), -EINVAL);    /* more than it asks for */
	CHECK_EQ(msi_program(&msi, &m, 3), -EINVAL);
	CHECK_EQ(msi_program(&msi, &m, 0), -EINVAL);
	m.data = 0x49;
	CHECK_EQ(msi_program(&msi, &m, 2), -EINVAL);     /* its low bits number the messages */
	CHECK_EQ(msi_program(&msi, &m, 1), 0);
	m.data = 0x10049;
	CHECK_EQ(msi_program(&msi, &m, 1), -EINVAL);
	CHECK_EQ(fake_read(d.rid, CAP + 12, 2), 0x49);

	d = fresh_msi(0);                                /* 32-bit, one, no masks: data at +8 */
	CHECK_EQ(msi_open(&d, &msi), 0);
	CHECK(msi.count_max == 1 && !msi.is64 && !msi.maskable);
	m = (struct msi_msg){0xfee01000, 0x31};
	CHECK_EQ(msi_program(&msi, &m, 1), 0);
	CHECK_EQ(fake_read(d.rid, CAP + 8, 2), 0x31);
	msi_mask(&msi, 0, true);
	CHECK_EQ(fake_read(d.rid, CAP + 12, 4), 0);
	CHECK_EQ(msi_pending(&msi), 0);
	m.addr |= 1ull << 32;
	CHECK_EQ(msi_program(&msi, &m, 1), -EINVAL);
	d = fresh_msi(7 << 1);                           /* 2^7 messages: reserved */
	CHECK_EQ(msi_open(&d, &msi), 0);
	CHECK_EQ(msi.count_max, 32);
}

static uint32_t word(unsigned off)
{
	uint32_t v;

	memcpy(&v, table_memory + off, 4);
	return v;
}

static void set_word(unsigned off, uint32_t v)
{
	memcpy(table_memory + off, &v, 4);
}

static void msix(void)
{
	struct pci_dev d = {.rid = {0x10}, .cap_msix = CAP};
	const struct msi_msg m = {0x1fee02000, 0x12345678};
	struct msi_msg got;
	struct msix x;
	bool masked;

	fake_reset();
	fake_add(-1, 0, 2, 0, 0x11e81234, 0x00ff00);
	fake_set(0, CAP, 4, 69u << 16 | PCI_CAP_MSIX);   /* 70 entries */
	fake_set(0, CAP + 4, 4, 0x0000 | 1);
	fake_set(0, CAP + 8, 4, 0x1000 | 1);
	fake_writable(0, CAP + 2, 2, 0xc000);
	CHECK_EQ(msix_open(&d, &x), -ENXIO);             /* BAR1 is not there */
	d.bar[1] = (struct pci_bar){.base = 0xfe000000, .size = sizeof(table_memory), .assigned = true};
	CHECK_EQ(msix_open(&d, &x), 0);
	CHECK_EQ(x.count, 70);

	memset(table_memory, 0, sizeof(table_memory));
	for (unsigned i = 0; i < 70; i++)
		set_word(16 * i + 12, 1);
	CHECK_EQ(msix_program(&x, 69, &m), 0);
	CHECK(word(16 * 69) == 0xfee02000 && word(16 * 69 + 4) == 1 && word(16 * 69 + 8) == 0x12345678);
	CHECK_EQ(word(16 * 69 + 12), 1);                 /* still masked */
	CHECK_EQ(word(16 * 68), 0);
	CHECK_EQ(msix_program(&x, 70, &m), -EINVAL);
	CHECK_EQ(msix_program(&x, 0, &(struct msi_msg){0xfee00002, 0}), -EINVAL);
	set_word(16 * 3 + 12, 0xff00fe);                 /* reserved bits are kept */
	msix_mask(&x, 3, true);
	CHECK_EQ(word(16 * 3 + 12), 0xff00ff);
	CHECK_EQ(msix_program(&x, 3, &m), 0);
	CHECK_EQ(word(16 * 3 + 12), 0xff00ff);
	msix_mask(&x, 3, false);
	CHECK_EQ(msix_program(&x, 3, &m), 0);
	CHECK_EQ(word(16 * 3 + 12), 0xff00fe);           /* unmasked before and after */
	msix_read(&x, 3, &got, &masked);
	CHECK(got.addr == m.addr && got.data == m.data && !masked);
	msix_read(&x, 70, &got, &masked);
	CHECK(got.addr == 0 && masked);

	table_memory[0x1000 + 65 / 8] = 1 << (65 % 8);
	CHECK(msix_pending(&x, 65));
	CHECK(!msix_pending(&x, 64) && !msix_pending(&x, 1) && !msix_pending(&x, 33) &&
	      !msix_pending(&x, 700));

	msix_function_mask(&x, true);
	msix_enable(&x, true);
	CHECK_EQ(fake_read(d.rid, CAP + 2, 2), 0xc045);
	msix_function_mask(&x, false);
	CHECK_EQ(fake_read(d.rid, CAP + 2, 2), 0x8045);
	msix_enable(&x, false);
	CHECK_EQ(fake_read(d.rid, CAP + 2, 2), 0x0045);
	msix_close(&x);
	CHECK_EQ(msix_program(&x, 0, &m), -EINVAL);

	/* A capability that leads out of its BAR is refused before anything is touched. */
	fake_set(0, CAP + 4, 4, 0x1c00 | 1);             /* 70 * 16 bytes do not fit there */
	CHECK_EQ(msix_open(&d, &x), -ENXIO);
	fake_set(0, CAP + 4, 4, 0x0000 | 1);
	fake_set(0, CAP + 8, 4, 0x1ff8 | 1);             /* 16 bytes of pending bits */
	CHECK_EQ(msix_open(&d, &x), -ENXIO);
	fake_set(0, CAP + 8, 4, 0x1ff0 | 1);
	CHECK_EQ(msix_open(&d, &x), 0);
	fake_set(0, CAP + 4, 4, 0xfffffff8 | 1);
	CHECK_EQ(msix_open(&d, &x), -ENXIO);
	fake_set(0, CAP + 4, 4, 6);
	CHECK_EQ(msix_open(&d, &x), -ENXIO);
	d.bar[1].io = true;
	fake_set(0, CAP + 4, 4, 1);
	CHECK_EQ(msix_open(&d, &x), -ENXIO);
}

int main(void)
{
	msi();
	msix();
	return host_done("pci_msi");
}
