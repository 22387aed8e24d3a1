/* SPDX-License-Identifier: MIT */

#include "tests/ioapic/source.h"

#include "drivers/apic/pic.h"

#include "drivers/exercisers/exerciser.h"
#include "kernel/acpi/acpi.h"
#include "kernel/lib/fmt.h"
#include "kernel/mm/mm.h"

#define RTE_REMOTE_IRR BIT64(14)
#define RTE_MASKED     BIT64(16)
#define PIT_SOON       US(20)
#define HPET_SOON      US(100) /* an equality: it must lie ahead when the write arrives */

/* ---- deliveries ---- */

/* Whatever a failed step left in service would hold back all that comes after it. */
static void end_all(void *arg)
{
	const struct delivery *d = arg;

	for (unsigned i = 0; i < 4 && apic_isr(d->vector[0]); i++)
		apic_eoi();
}

static void levels_close(void *arg)
{
	for (unsigned cpu = 0; cpu < cpu_count(); cpu++)
		(void)cpu_call(cpu, end_all, arg, SEC(1));
}

struct delivery *levels_open(struct t *t, unsigned vectors)
{
	struct delivery *d = delivery_open(t, vectors);

	irq_set_manual_eoi(d->vector[0], true);
	test_cleanup(t, levels_close, d);
	return d;
}

/* ---- entries ---- */
static struct pin *pin_open(struct t *t, uint32_t gsi)
{
	struct pin *p = test_alloc(t, sizeof(*p));

	p->gsi = gsi;
	p->io = ioapic_of_gsi(gsi, &p->pin);
	return p->io ? p : NULL;
}

static void pin_close(void *arg)
{
	const struct pin *p = arg;

	ioapic_rte_write(p->io, p->pin, RTE_MASKED);
}

void pin_aim(struct t *t, const struct pin *p, uint32_t dest, enum irq_dest_mode mode, int vector, bool masked)
{
	struct irq_route r = p->route;
	const char *why;
	uint64_t rte;

	r.dest = dest;
	r.mode = mode;
	r.vector = (uint8_t)vector;
	if (msg_ioapic_compat(&r, masked, &rte, &why))
		test_error(t, "pin %u: %s", p->pin, why);
	ioapic_rte_write(p->io, p->pin, rte);
}

void pin_mask(const struct pin *p, bool masked)
{
	const uint64_t rte = ioapic_rte_read(p->io, p->pin);

	ioapic_rte_write(p->io, p->pin, masked ? rte | RTE_MASKED : rte & ~RTE_MASKED);
}

bool pin_remote_irr(const struct pin *p)
{
	return ioapic_rte_read(p->io, p->pin) & RTE_REMOTE_IRR;
}

/* ---- PIT channel 0 (8254): mode 0, OUT rises at the end of the count and stays ---- */
#define PIT_HZ   1193182u
#define PIT_CH0  0x40
#define PIT_CMD  0x43
#define CMD_ONE_SHOT  0x30 /* channel 0, both bytes, mode 0 */
#define CMD_STATUS    0xe2 /* read back: latch the status of channel 0 */
#define STATUS_OUT    0x80
#define PIC1_CMD      0x20
#define STATUS_MODE   0x3f

static uint8_t pit_status(void)
{
	outb(PIT_CMD, CMD_STATUS);
	return inb(PIT_CH0);
}

static void pit_load(uint16_t count)
{
	pic_disable(); /* forgets the last one: see pit_signalled() */
	outb(PIT_CMD, CMD_ONE_SHOT);
	outb(PIT_CH0, (uint8_t)count);
	outb(PIT_CH0, (uint8_t)(count >> 8));
}

void pit_pulse(void)
{
	pit_load((uint16_t)(PIT_HZ / (SEC(1) / PIT_SOON)));
}

/*
 * OUT is high, and has been seen so at the other end of the wire: the 8259, masked, latches the edge in
 * its IRR (OCW3 0x0a). OUT alone may be ahead of the wire where it is computed from a clock (QEMU).
 */
bool pit_signalled(void)
{
	outb(PIC1_CMD, 0x0a);
	return (pit_status() & STATUS_OUT) && (inb(PIC1_CMD) & 1);
}

/*
 * Its pin masked: OUT goes high once more and stays so, so that no edge comes but by the next pulse. A count that is
 * left to run ends when it likes, some 55 ms on, and where the host is slow the pin is open by then. A control word
 * alone is not enough: QEMU lets the square wave of the reset state finish.
 */
static void pit_quiet(void *arg)
{
	(void)arg;
	pit_pulse();
	(void)WAIT_FOR(pit_signalled(), SEC(1));
}

struct pin *pit_open(struct t *t, const char **why)
{
	struct irq_route r = {0};
	const uint32_t gsi = ioapic_isa_gsi(0, &r);
	struct pin *p = pin_open(t, gsi);

	*why = "no I/O APIC has the pin of the PIT";
	if (!p)
		return NULL;
	p->route = r;
	pin_close(p);
	pit_quiet(NULL);
	*why = "no PIT: channel 0 does not take a mode";
	if ((pit_status() & STATUS_MODE) != CMD_ONE_SHOT)
		return NULL;
	test_cleanup(t, pit_quiet, p);
	test_cleanup(t, pin_close, p);
	return p;
}

/* ---- HPET: IA-PC HPET 1.0a, 2.3 ---- */
#define HPET_CAP         0x000 /* period in fs 63:32, timers - 1 12:8 */
#define HPET_CONFIG      0x010
#define HPET_STATUS      0x020 /* write 1 to clear */
#define HPET_COUNTER     0x0f0
#define HPET_TIMER(n)    (0x100u + 0x20u * (n))
#define TIMER_COMPARE    0x08
#define CONFIG_ENABLE    BIT64(0)
#define CONFIG_LEGACY    BIT64(1)
#define TIMER_LEVEL      BIT64(1)
#define TIMER_INT_ENABLE BIT64(2)
#define TIMER_PERIODIC   BIT64(3)
#define TIMER_ROUTE      GENMASK64(13, 9)
#define TIMER_FSB        BIT64(14)
#define TIMER_ROUTES     GENMASK64(63, 32) /* pins it can be routed to */
#define HPET_GSI_FIRST   16                /* those below are ISA's: others may drive them */

static struct {
	volatile uint8_t *regs;
	unsigned timer;
	uint64_t config, timer_config, period_fs;
} hpet;

static uint64_t hpet_r(unsigned reg) { return mmio_r64(hpet.regs + reg); }
static void hpet_w(unsigned reg, uint64_t v) { mmio_w64(hpet.regs + reg, v); }

static void hpet_close(void *arg)
{
	(void)arg;
	hpet_w(HPET_TIMER(hpet.timer), hpet.timer_config & ~TIMER_INT_ENABLE);
	hpet_w(HPET_STATUS, BIT64(hpet.timer));
	hpet_w(HPET_CONFIG, hpet.config);
}

/* The register block of the first HPET that the ACPI table (HPET 1.0a, 3.2.4) names. */
static volatile uint8_t *hpet_map(void)
{
	static volatile uint8_t *regs;
	const struct acpi_table *table = acpi_find("HPET", 0);

	/* offset 40: a generic address, its space (0: memory) at 40 and the address at 44 */
	if (!regs && table && table->sound && table->len >= 52 && table->bytes[40] == 0)
		regs = mmio_map(gpa(get_le64(table->bytes + 44)), 1024);
	return regs;
}

/* The first timer, and the first of these GSIs, that go together. */
static struct pin *hpet_pin(struct t *t, uint64_t last_timer, uint64_t gsis)
{
	for (hpet.timer = 0; hpet.timer <= last_timer; hpet.timer++) {
		const uint64_t routes = FIELD_GET(TIMER_ROUTES, hpet_r(HPET_TIMER(hpet.timer))) & gsis;
		struct pin *p = routes ? pin_open(t, (uint32_t)__builtin_ctzll(routes)) : NULL;

		if (p)
			return p;
	}
	return NULL;
}

static struct pin *hpet_pin_open(struct t *t, bool level, const char **why)
{
	struct pin *p;
	uint64_t cap;

	hpet.regs = hpet_map();
	*why = "no HPET (no ACPI table names one)";
	if (!hpet.regs)
		return NULL;
	cap = hpet_r(HPET_CAP);
	*why = "the HPET does not answer";
	if (cap == UINT64_MAX || !(cap >> 32))
		return NULL;
	hpet.period_fs = cap >> 32;
	*why = "no HPET timer can be routed to a pin of its own";
	p = hpet_pin(t, cap >> 8 & 31, BIT64(32) - BIT64(HPET_GSI_FIRST));
	if (!p && cpu_features.accel != ACCEL_KVM) {
		/*
		 * PIIX: the PIT's pin is all there is; its one shot over, it does not disturb. Not under KVM: QEMU
		 * routes no GSI 2 into the kernel's I/O APIC (kvm_pc_setup_irq_routing()).
		 */
		p = hpet_pin(t, cap >> 8 & 31, BIT64(ioapic_isa_gsi(0, &(struct irq_route){0}) & 31));
		if (p) {
			ioapic_rte_write(p->io, p->pin, RTE_MASKED);
			pit_pulse();
			(void)WAIT_FOR(pit_signalled(), SEC(1));
		}
	}
	if (!p)
		return NULL;
	/* The HPET drives its pins active high (2.3.9.2.2, as chipsets and QEMU do for both triggers). */
	p->route = (struct irq_route){.level = level};
	test_cleanup(t, pin_close, p);
	hpet.config = hpet_r(HPET_CONFIG);
	hpet.timer_config = hpet_r(HPET_TIMER(hpet.timer));
	test_cleanup(t, hpet_close, NULL);
	hpet_w(HPET_TIMER(hpet.timer), (hpet.timer_config & ~(TIMER_INT_ENABLE | TIMER_LEVEL | TIMER_PERIODIC |
							       TIMER_ROUTE | TIMER_FSB)) |
				       FIELD_PREP(TIMER_ROUTE, (uint64_t)p->gsi) | (level ? TIMER_LEVEL : 0));
	hpet_w(HPET_STATUS, BIT64(hpet.timer));
	hpet_w(HPET_CONFIG, (hpet.config | CONFIG_ENABLE) & ~CONFIG_LEGACY);
	return p;
}

void hpet_fire(void)
{
	const unsigned compare = HPET_TIMER(hpet.timer) + TIMER_COMPARE;

	/* Enabled with a value far ahead: QEMU fires at once for one that has passed. */
	hpet_w(compare, hpet_r(HPET_COUNTER) + SEC(10) * 1000000 / hpet.period_fs);
	hpet_w(HPET_TIMER(hpet.timer), hpet_r(HPET_TIMER(hpet.timer)) | TIMER_INT_ENABLE);
	hpet_w(compare, hpet_r(HPET_COUNTER) + HPET_SOON * 1000000 / hpet.period_fs);
}

static bool hpet_signalled(void)
{
	return hpet_r(HPET_STATUS) & BIT64(hpet.timer);
}

static void hpet_ack(void)
{
	hpet_w(HPET_TIMER(hpet.timer), hpet_r(HPET_TIMER(hpet.timer)) & ~TIMER_INT_ENABLE);
	hpet_w(HPET_STATUS, BIT64(hpet.timer));
}

struct pin *hpet_open(struct t *t, const char **why)
{
	return hpet_pin_open(t, false, why);
}

/* ---- levels ---- */
static struct exerciser *line;           /* whose INTx it is; NULL: the HPET's */
static char line_name[32];

static void line_close(void *arg)
{
	struct exerciser *ex = arg;

	(void)ex->ops->irq_ack(ex, 0);
	ex->ops->quiesce(ex);
	(void)exerciser_use_msix(ex, true);
}

static struct pin *line_open(struct t *t, const char **why)
{
	FOR_EACH_EXERCISER(t, ex, EX_IRQ | EX_INTX | EX_IRQ_COUNTED) {
		struct pci_intx route;
		struct pin *p = ex->bars_private || pci_intx_route(ex->dev, &route) < 0 ? NULL : pin_open(t, route.gsi);

		if (!p)
			continue;
		p->route = (struct irq_route){.level = !route.edge, .active_low = route.active_low};
		/* Level from here on, masked: an edge entry that is masked forgets what its line does. */
		pin_aim(t, p, cpus[0]->apic_id, IRQ_PHYSICAL, VEC_SPURIOUS, true);
		test_cleanup(t, pin_close, p);
		(void)exerciser_use_msix(ex, false);
		ex->ops->quiesce(ex);
		if (exerciser_start(ex) < 0)
			continue;
		test_cleanup(t, line_close, ex);
		pci_set_command(ex->dev, 0, PCI_COMMAND_INTX_OFF);
		fmt_snprintf(line_name, sizeof(line_name), PRIRID " %s", RIDARG(ex->dev->rid), ex->ops->name);
		line = ex;
		return p;
	}
	*why = "no HPET with a pin of its own, and no device under test whose INTx the firmware's tables name";
	return NULL;
}

struct pin *level_open(struct t *t, const char **why)
{
	struct pin *p = hpet_pin_open(t, true, why);

	line = NULL;
	return p ? p : line_open(t, why);
}

const char *level_source(void) { return line ? line_name : "HPET"; }

void level_fire(void)
{
	if (line)
		(void)line->ops->irq_raise(line, 0);
	else
		hpet_fire();
}

bool level_signalled(void) { return line ? line->ops->irq_pending(line, 0) != 0 : hpet_signalled(); }

void level_ack(void)
{
	if (line)
		(void)line->ops->irq_ack(line, 0);
	else
		hpet_ack();
}
