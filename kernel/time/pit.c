/* SPDX-License-Identifier: MIT */
#include "kernel/cpu/cpu.h"
#include "kernel/time/time.h"

#define PIT_CH2  0x42
#define PIT_CMD  0x43
#define PIT_GATE 0x61 /* bit 0 gates channel 2, bit 1 the speaker */

void pit_start(void)
{
	outb(PIT_GATE, (uint8_t)((inb(PIT_GATE) & ~2u) | 1));
	outb(PIT_CMD, 0xb0); /* channel 2, both bytes, mode 0 */
	outb(PIT_CH2, 0xff);
	outb(PIT_CH2, 0xff);
}

struct pit_read pit_read(void)
{
	struct pit_read best = {.width = UINT64_MAX};

	for (unsigned i = 0; i < 5; i++) {
		const uint64_t a = tsc_read();
		uint64_t b;
		uint16_t left;

		outb(PIT_CMD, 0x80); /* latch: the moment that counts */
		b = tsc_read();
		left = inb(PIT_CH2);
		left = (uint16_t)(left | inb(PIT_CH2) << 8);
		if (b - a < best.width)
			best = (struct pit_read){a + (b - a) / 2, b - a, left};
	}
	return best;
}
