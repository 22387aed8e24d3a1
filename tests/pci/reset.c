/* SPDX-License-Identifier: MIT */

#include "drivers/pci/regs.h"
#include "kernel/lib/err.h"
#include "tests/iommu/iommu_test.h"
#include "tests/msi/irq_test.h"
#include "tests/pci/common.h"

#define RESET_NS  MS(100)                /* PCIe 5.0, 6.6.2: ready for configuration after that */
#define D3_NS     MS(10)                 /* PCI PM 1.2, 5.6: between D3hot and D0, both ways */

/* ---- what a reset takes away, and what software puts back ---- */

static struct keep *keep_config(struct t *t, const struct pci_dev *d)
{
	struct keep *k = keep_start(t);

	/* In the order of writing backwards (keep_restore): the command register comes last. */
	keep_reg(k, d->rid, PCI_COMMAND, 2);
	for (unsigned off = 0x10; off < 0x28; off += 4)
		keep_reg(k, d->rid, off, 4);
	keep_reg(k, d->rid, 0x30, 4);
	keep_reg(k, d->rid, 0x3c, 1);
	if (d->cap_pcie) {
		keep_reg(k, d->rid, d->cap_pcie + PCIE_DEVCTL, 2);
		if ((pci_r16(d->rid, d->cap_pcie + PCIE_FLAGS) & PCIE_VERSION) >= 2)
			keep_reg(k, d->rid, d->cap_pcie + PCIE_DEVCTL2, 2);
	}
	return k;
}

static uint16_t control(const struct pci_dev *d, bool msix)
{
	return pci_r16(d->rid, (msix ? d->cap_msix + MSIX_CONTROL : d->cap_msi + MSI_CONTROL));
}

static bool enabled(const struct pci_dev *d)
{
	return (d->cap_msi && (control(d, false) & MSI_ENABLE)) ||
	       (d->cap_msix && (control(d, true) & MSIX_ENABLE));
}

/* Not as after a reset: memory, Bus Master and MSI-X (its function masked) or MSI are on. */
static void set_marks(struct t *t, const struct pci_dev *d)
{
	pci_w16(d->rid, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	if (d->cap_msix)
		pci_w16(d->rid, d->cap_msix + MSIX_CONTROL, MSIX_ENABLE | MSIX_FUNCTION_MASK);
	else if (d->cap_msi)
		pci_w16(d->rid, d->cap_msi + MSI_CONTROL, control(d, false) | MSI_ENABLE);
	EXPECT_MSG(t, pci_r16(d->rid, PCI_COMMAND) & PCI_COMMAND_MASTER, PRIRID ": Bus Master cannot be set",
		   RIDARG(d->rid));
}

/* ---- signs of life ---- */

/* It interrupts the last CPU once, and writes to memory; false: it can do neither. */
static bool shows_life(struct t *t, struct exerciser *ex, const char *when)
{
	const char *why;
	bool any = false;

	if ((ex->caps & EX_IRQ) && (ex->caps & (EX_MSI | EX_MSIX))) {
		struct irq_source *s = irq_source_open(t, ex, IRQ_DIRECT, &why);

		if (s) {
			struct delivery *d = delivery_open(t, 1);
			const unsigned cpu = irq_source_cpu(s, d->cpus - 1);

			irq_source_aim(s, d, 0, cpu, 0);
			irq_expect_one(s, d, 0, cpu, 0);
			delivery_finish(d, "%s, %s", irq_source_name(s), when);
			irq_source_close(s);
			any = true;
		}
	}
	if ((ex->caps & (EX_DMA_READ | EX_DMA_WRITE)) == (EX_DMA_READ | EX_DMA_WRITE)) {
		struct dma_space *s = dma_space_open(t, ex, DMA_OFF, &why);
		const size_t len = dma_len(ex, PAGE_SIZE);

		if (s) {
			struct dma_target *g = dma_target_map(s, PAGE_SIZE, IOMMU_RW);

			REQUIRE_OK(t, dma_load(s, 70, len));
			EXPECT_OK(t, dma_write(g, 0, len));
			if ((ex->caps & EX_DMA_COPY) || ex->fill >= 0)
				dma_expect_written(g, 0, len, when);
			dma_space_close(s);
			any = true;
		}
	}
	return any;
}

/* ---- function-level reset ---- */

static bool by_pcie(const struct pci_dev *d)
{
	return d->cap_pcie && (pci_r32(d->rid, d->cap_pcie + PCIE_DEVCAP) & PCIE_DEVCAP_FLR);
}

static unsigned by_af(const struct pci_dev *d)
{
	const unsigned af = pci_find_cap(d->rid, PCI_CAP_AF);

	return af && (pci_r8(d->rid, af + AF_CAP) & AF_CAP_FLR) ? af : 0;
}

/* The device must be quiet. -EBUSY: it has transactions under way; -EIO: it does not come back. */
static int reset_function(const struct pci_dev *d)
{
	const uint32_t id = pci_r32(d->rid, 0);

	if (by_pcie(d)) {
		const unsigned ctl = d->cap_pcie + PCIE_DEVCTL;

		if (!WAIT_FOR(!(pci_r16(d->rid, d->cap_pcie + PCIE_DEVSTA) & PCIE_DEVSTA_PENDING), MS(100)))
			return -EBUSY;
		pci_w16(d->rid, ctl, pci_r16(d->rid, ctl) | PCIE_DEVCTL_FLR);
	} else {
		const unsigned af = by_af(d);

		if (!WAIT_FOR(!(pci_r8(d->rid, af + AF_STATUS) & 1), MS(100)))
			return -EBUSY;
		pci_w8(d->rid, af + AF_CONTROL, 1);
	}
	delay(RESET_NS);
	return WAIT_FOR(pci_r32(d->rid, 0) == id, SEC(1)) ? 0 : -EIO;
}

static void expect_defaults(struct t *t, const struct pci_dev *d)
{
	const uint16_t command = pci_r16(d->rid, PCI_COMMAND);

	EXPECT_MSG(t, !(command & (PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)),
		   PRIRID " after its reset: got command %04x, expected I/O, Memory and Bus Master off",
		   RIDARG(d->rid), command);
	EXPECT_MSG(t, !enabled(d), PRIRID " after its reset: MSI or MSI-X is still enabled", RIDARG(d->rid));
	if (by_pcie(d))
		EXPECT_MSG(t, !(pci_r16(d->rid, d->cap_pcie + PCIE_DEVCTL) & PCIE_DEVCTL_FLR),
			   PRIRID ": Initiate FLR reads 1, expected 0", RIDARG(d->rid));
}

static void quiet(void *arg)
{
	struct exerciser *ex = arg;

	ex->ops->quiesce(ex);
	ex->ready = false;
}

/* The other functions of the same device must not notice. */
static unsigned neighbours(const struct pci_dev *d, uint16_t command[8])
{
	unsigned n = 0;

	FOR_EACH_PCI(other) {
		if (other != d && (other->rid.v | 7) == (d->rid.v | 7) && n < 8)
			command[n++] = pci_r16(other->rid, PCI_COMMAND);
	}
	return n;
}

/*
 * A function-level reset brings a function, and it alone, back to its defaults, and it works again.
 *
 * PCIe 5.0, 6.6.2: within 100 ms the function answers configuration requests, its command register and MSI
 * enables are clear; nothing that it was told before may show afterwards. Guests reset whatever they are
 * given in this way: a VMM that swallows it leaves the last owner's rings and vectors armed, one that resets
 * its own model only, or not the interrupt state, gives a device that is dead after the driver is reloaded.
 */
TEST(pci, flr, "after a function-level reset defaults are back, and the device interrupts and does DMA again",
     NEED_PCI, NEED_DISRUPTIVE)
{
	unsigned seen = 0;

	FOR_EACH_EXERCISER(t, ex, 0) {
		struct pci_dev *d = ex->dev;
		uint16_t before[8] = {0}, after[8] = {0};
		struct keep *k;
		unsigned n;
		int r;

		if (!by_pcie(d) && !by_af(d))
			continue;
		if (pci_has_vfs(d)) {
			test_note(t, PRIRID " %s: its virtual functions would go: not reset", RIDARG(d->rid), ex->ops->name);
			continue;
		}
		test_cleanup(t, quiet, ex);
		if (!shows_life(t, ex, "before the reset"))
			test_note(t, PRIRID " %s: only its registers are looked at", RIDARG(d->rid), ex->ops->name);
		quiet(ex);
		k = keep_config(t, d);
		set_marks(t, d);
		n = neighbours(d, before);
		r = reset_function(d);
		if (r == -EBUSY) {
			test_note(t, PRIRID ": transactions are pending for 100 ms: not reset", RIDARG(d->rid));
			keep_restore(k);
			continue;
		}
		ASSERT_MSG(t, r == 0, PRIRID " does not answer a second after its reset: got %08x", RIDARG(d->rid),
			   pci_r32(d->rid, 0));
		expect_defaults(t, d);
		neighbours(d, after);
		for (unsigned i = 0; i < n; i++)
			EXPECT_MSG(t, before[i] == after[i], "the reset of " PRIRID " changed another function: got "
				   "command %04x, expected %04x", RIDARG(d->rid), after[i], before[i]);
		keep_restore(k);
		ex->ready = false;
		shows_life(t, ex, "after the reset");
		quiet(ex);
		test_note(t, PRIRID " %s was reset by %s", RIDARG(d->rid), ex->ops->name,
			  by_pcie(d) ? "its PCI Express capability" : "its Advanced Features capability");
		seen++;
	}
	if (!seen)
		test_skip(t, "no device under test has function-level reset (Device Capabilities bit 28, or AF)");
}

/* ---- power states ---- */

static void set_state(const struct pci_dev *d, uint16_t state)
{
	const unsigned at = d->cap_pm + PM_CONTROL;

	pci_w16(d->rid, at, (uint16_t)((pci_r16(d->rid, at) & ~PM_STATE) | state));
	delay(D3_NS);
}

static unsigned state(const struct pci_dev *d)
{
	return pci_r16(d->rid, d->cap_pm + PM_CONTROL) & PM_STATE;
}

static void to_d0(void *arg)
{
	const struct pci_dev *d = arg;

	if (state(d) != PM_D0)
		set_state(d, PM_D0);
}

/*
 * A function goes to D3hot and comes back, with its context where it says that it keeps it.
 *
 * PCI PM 1.2, 5.4.1, PCIe 5.0, 5.3.1.4: in D3hot it answers configuration requests and no memory request.
 * Back in D0, No_Soft_Reset = 1 promises that nothing was lost; = 0 promises nothing. Then it must work
 * again. A guest whose VMM gets this wrong loses the device at its first runtime suspend: on PVE,
 * vfio-pci's own idle D3 shows as a device that reads all ones.
 */
TEST(pci, power, "D3hot and back: no memory answers in between, context as No_Soft_Reset says, and it works again",
     NEED_PCI, NEED_DISRUPTIVE)
{
	unsigned seen = 0;

	FOR_EACH_EXERCISER(t, ex, 0) {
		struct pci_dev *d = ex->dev;
		struct sign sign = {0};
		struct keep *k;
		bool has_sign = false, keeps;
		unsigned was;

		if (!d->cap_pm)
			continue;
		test_cleanup(t, quiet, ex);
		test_cleanup(t, to_d0, d);
		shows_life(t, ex, "before D3hot");
		quiet(ex);
		for (unsigned i = 0; i < PCI_BAR_COUNT && !has_sign; i++)
			has_sign = !d->bar[i].io && sign_find(d, i, &sign);
		keeps = pci_r16(d->rid, d->cap_pm + PM_CONTROL) & PM_NO_SOFT_RESET;
		k = keep_config(t, d);
		set_marks(t, d);

		set_state(d, PM_D3HOT);
		was = state(d);
		EXPECT_MSG(t, was == PM_D3HOT, PRIRID " told to go to D3hot: got D%u", RIDARG(d->rid), was);
		if (has_sign && was == PM_D3HOT)
			EXPECT_MSG(t, !sign_answers(&sign), PRIRID " in D3hot answers at %llx with %08x",
				   RIDARG(d->rid), (unsigned long long)sign.address, sign.value);
		set_state(d, PM_D0);
		EXPECT_MSG(t, state(d) == PM_D0, PRIRID " told to come back to D0: got D%u", RIDARG(d->rid),
			   state(d));
		if (keeps) {
			EXPECT_MSG(t, (pci_r16(d->rid, PCI_COMMAND) & PCI_COMMAND_MASTER) &&
					      enabled(d) == (d->cap_msi || d->cap_msix),
				   PRIRID " promises no soft reset, and lost its command register or MSI enable",
				   RIDARG(d->rid));
			if (has_sign)
				EXPECT_MSG(t, sign_answers(&sign), PRIRID " back in D0: %llx got %08x, expected %08x",
					   RIDARG(d->rid), (unsigned long long)sign.address, sign_read(&sign),
					   sign.value);
		} else {
			/* Its context counts as lost, whatever became of it. */
			test_note(t, PRIRID " %s: No_Soft_Reset=0, and its context is %s", RIDARG(d->rid),
				  ex->ops->name, enabled(d) ? "still there" : "gone");
		}
		keep_restore(k);
		ex->ready = false;
		shows_life(t, ex, "after D3hot");
		quiet(ex);
		seen++;
	}
	if (!seen)
		test_skip(t, "no device under test has the power management capability");
}
