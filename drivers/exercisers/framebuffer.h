/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/pci/pci.h"

/*
 * Linux's sample mdevs with a framebuffer and nothing else: mdpy (its mode in a vendor capability) and
 * mbochs (the Bochs display interface; QEMU's secondary-vga has the same registers). No interrupt, no DMA.
 */

/* mdpy's mode, from 256 bytes of configuration space (samples/vfio-mdev/mdpy-defs.h). Pure. */
struct mdpy_mode { uint32_t format, width, height; };
#define MDPY_XRGB8888 0x34325258u          /* "XR24" */
/* -ENOENT: no such capability at 0x40; -EINVAL: a mode that cannot be. */
int mdpy_parse(const uint8_t config[256], struct mdpy_mode *);
/* What mdpy makes its BAR0: the next power of two. 4 bytes a pixel. */
uint64_t mdpy_bar_size(const struct mdpy_mode *);

bool mdpy_matches(const struct pci_dev *);
bool mbochs_matches(const struct pci_dev *);
/* Linux's mdev, not QEMU's device of the same ID: its revision is 1. */
bool mbochs_is_mdev(const struct pci_dev *);

/* The Bochs display interface in BAR2: 16-bit registers, access of that width only. */
enum dispi { DISPI_ID, DISPI_XRES, DISPI_YRES, DISPI_BPP, DISPI_ENABLE, DISPI_BANK, DISPI_VIRT_WIDTH,
	     DISPI_VIRT_HEIGHT, DISPI_X_OFFSET, DISPI_Y_OFFSET, DISPI_MEMORY_64K, DISPI_COUNT };
#define DISPI_ID5 0xb0c5u
volatile uint8_t *mbochs_map(struct pci_dev *);      /* NULL: no BAR2 */
uint16_t mbochs_read(volatile uint8_t *, enum dispi);
void mbochs_write(volatile uint8_t *, enum dispi, uint16_t);
