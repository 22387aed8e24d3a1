/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/framebuffer.h"

#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/mm/mm.h"

#define MDPY_CAP      0x40
#define MDPY_CAP_SIZE 0x10
#define MDPY_FORMAT   (MDPY_CAP + 4)
#define MDPY_WIDTH    (MDPY_CAP + 8)
#define MDPY_HEIGHT   (MDPY_CAP + 12)
#define MDPY_SIDE_MAX 16384u

#define MBOCHS_DISPI  0x500              /* of BAR2 */

int mdpy_parse(const uint8_t config[256], struct mdpy_mode *m)
{
	if (config[MDPY_CAP] != PCI_CAP_VNDR || config[MDPY_CAP + 2] != MDPY_CAP_SIZE)
		return -ENOENT;
	*m = (struct mdpy_mode){
		.format = get_le32(config + MDPY_FORMAT),
		.width = get_le32(config + MDPY_WIDTH),
		.height = get_le32(config + MDPY_HEIGHT),
	};
	if (m->format != MDPY_XRGB8888 || !m->width || !m->height || m->width > MDPY_SIDE_MAX ||
	    m->height > MDPY_SIDE_MAX)
		return -EINVAL;
	return 0;
}

uint64_t mdpy_bar_size(const struct mdpy_mode *m)
{
	const uint64_t bytes = 4ull * m->width * m->height;
	uint64_t size = 1;

	while (size < bytes)
		size <<= 1;
	return size;
}

#define DISPLAY_OTHER 0x038000

bool mdpy_matches(const struct pci_dev *d)
{
	static const struct pci_match m = {0x1b36, 0x000f, DISPLAY_OTHER, 0xffff00};

	return pci_matches(d, &m) && d->subvendor == 0x1af4 && d->subdevice == 0x1100;
}

bool mbochs_matches(const struct pci_dev *d)
{
	static const struct pci_match m = {0x1234, 0x1111, DISPLAY_OTHER, 0xffff00};

	return pci_matches(d, &m);
}

bool mbochs_is_mdev(const struct pci_dev *d)
{
	return mbochs_matches(d) && d->revision == 1;
}

volatile uint8_t *mbochs_map(struct pci_dev *d)
{
	return pci_bar_map(d, 2);
}

uint16_t mbochs_read(volatile uint8_t *regs, enum dispi r)
{
	return mmio_r16(regs + MBOCHS_DISPI + 2 * r);
}

void mbochs_write(volatile uint8_t *regs, enum dispi r, uint16_t v)
{
	mmio_w16(regs + MBOCHS_DISPI + 2 * r, v);
}
