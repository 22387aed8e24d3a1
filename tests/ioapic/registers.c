/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "tests/harness/test.h"

#define REG_ID  0x00
#define REG_VER 0x01
#define REG_ARB 0x02
#define ID_BITS GENMASK(27, 24)

/* 82093AA, 3.2.4: what software may write, and what the I/O APIC alone sets. */
#define RTE_WRITABLE                                                                                         \
	(GENMASK64(7, 0) | GENMASK64(10, 8) | BIT64(11) | BIT64(13) | BIT64(15) | GENMASK64(63, 56))
#define RTE_READ_ONLY (BIT64(12) | BIT64(14))
#define RTE_MASKED   BIT64(16)

static void check_pin(struct t *t, unsigned k, unsigned pin)
{
	static const uint64_t patterns[] = {RTE_WRITABLE, 0, 0xaa00000000002155, 0x550000000000a0aa};
	struct ioapic *io = &ioapics[k];
	const uint64_t before = ioapic_rte_read(io, pin);

	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		/* Always masked: nothing may come of it. */
		const uint64_t want = (patterns[i] & RTE_WRITABLE) | RTE_MASKED;
		uint64_t got;

		ioapic_rte_write(io, pin, want | (i & 1 ? 0 : RTE_READ_ONLY));
		got = ioapic_rte_read(io, pin);
		EXPECT_MSG(
			t, (got & (RTE_WRITABLE | RTE_MASKED)) == want,
			"I/O APIC %u pin %u: wrote 0x%016llx: got 0x%016llx, expected the same in 0x%016llx",
			k, pin, (unsigned long long)want, (unsigned long long)got,
			(unsigned long long)(RTE_WRITABLE | RTE_MASKED));
		EXPECT_MSG(t, !(got & RTE_READ_ONLY),
			   "I/O APIC %u pin %u: delivery status or remote IRR took a write: 0x%016llx", k,
			   pin, (unsigned long long)got);
	}
	ioapic_rte_write(io, pin, before);
	EXPECT_MSG(t, ioapic_rte_read(io, pin) == before, "I/O APIC %u pin %u: its entry cannot be put back",
		   k, pin);
}

/*
 * The registers of every I/O APIC hold what may be written and refuse what may not.
 *
 * 82093AA, 3.2; ICH9 13.5. ID in bits 27:24 writable, version and number of entries plausible, in each entry
 * vector, delivery and destination mode, polarity, trigger, mask, destination writable, delivery status
 * and remote IRR not. All entries are masked meanwhile and put back.
 */
TEST(ioapic, registers, "version, ID, arbitration, entry fields: writable where they should be", NEED_IOAPIC)
{
	for (unsigned k = 0; k < ioapic_count; k++) {
		struct ioapic *io = &ioapics[k];
		const uint32_t version = ioapic_read(io, REG_VER), id = ioapic_read(io, REG_ID);

		EXPECT_MSG(t, (version & 0xff) >= 0x10 && (version & 0xff) < 0x40,
			   "I/O APIC %u: version: got 0x%x", k, version & 0xff);
		EXPECT_MSG(t, (version >> 16 & 0xff) + 1 == io->pins,
			   "I/O APIC %u: got %u entries, expected %u", k, (version >> 16 & 0xff) + 1,
			   io->pins);
		ioapic_write(io, REG_VER, ~version);
		EXPECT_MSG(t, ioapic_read(io, REG_VER) == version, "I/O APIC %u: the version took a write", k);
		for (uint32_t bits = 0; bits <= ID_BITS; bits += 0x05000000) {
			ioapic_write(io, REG_ID, bits);
			EXPECT_MSG(t, (ioapic_read(io, REG_ID) & ID_BITS) == bits,
				   "I/O APIC %u: wrote ID 0x%x: got 0x%x", k, bits >> 24,
				   ioapic_read(io, REG_ID) >> 24);
		}
		ioapic_write(io, REG_ID, id);
		if ((id & ID_BITS) >> 24 != io->id)
			test_note(t, "I/O APIC %u: its ID is %u, the MADT says %u", k, (id & ID_BITS) >> 24,
				  io->id);
		test_note(t, "I/O APIC %u: version 0x%x, %u pins from GSI %u, arbitration 0x%08x", k,
			  version & 0xff, io->pins, io->gsi_base, ioapic_read(io, REG_ARB));
		for (unsigned pin = 0; pin < io->pins; pin++)
			check_pin(t, k, pin);
	}
}
