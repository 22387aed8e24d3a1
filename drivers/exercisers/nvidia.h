/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/exercisers/exerciser.h"
#include "drivers/exercisers/nvidia_id.h"
#include "drivers/exercisers/nvidia_ladder.h"

/*
 * An NVIDIA GPU without a driver of NVIDIA's: what it is, its clock, an interrupt that it can be told to
 * raise. Nothing else of it is touched: BOOT_0, BOOT_1, BOOT_42, PTIMER, and the registers of the ladder,
 * which are put back.
 */

/* What the first messages did, sent once at start-up before any test: see nvidia_open(). */
struct nvidia_trial {
	unsigned raised, pending; /* of those raised, shown as pending in the GPU */
	unsigned arrived, extra;  /* one each; and those too many */
	unsigned elsewhere;       /* on another vector or CPU */
	unsigned first_lost;      /* the first that did not arrive, from 1; 0: none */
};

#define NVIDIA_SLOW  MS(10)  /* a mean access beyond it: only tests made for it use the GPU */
#define NVIDIA_STALL SEC(1)  /* one access beyond it: as little as can be */

struct nvidia {
	struct exerciser *ex;
	struct pci_dev *dev;
	volatile uint8_t *regs;
	uint64_t regs_size;
	const char *silent;       /* why its registers say nothing, or NULL; the rest is then not filled */
	bool unplaced;            /* … because BAR0 has no address, or none that a CPU reaches */
	struct nvidia_id id;
	enum nvidia_kind kind;    /* BOOT_1's, or where configuration space contradicts it, that one's */
	struct nvidia_clock clock;
	bool no_ptimer;           /* its clock answers with a PRI error, or lies behind BAR0's end */
	bool unposted;            /* … and it is no VF: no VBIOS has started it */
	struct nvidia_ladder ladder;
	bool ladder_tried;
	struct nvidia_trial trial;
	bool msi_stuck;           /* what is written to the MSI registers is not what stands there */
	struct msi_msg wrote, got;
	bool wrote_on, got_on;
	/* every access by us: what an access costs here */
	uint64_t accesses, ticks, worst_ticks;
	bool died;                /* it answered once, and then no more */
	bool gone;                /* … and its configuration space reads all ones too */
	bool window_open;
	uint32_t window;          /* put back by nvidia_window_close() */
};

/* The GPU that a function is; NULL: none that the driver has taken. Also where the exerciser is broken. */
struct nvidia *nvidia_of(const struct pci_dev *);
/* Display class (03xx), vendor 10de. */
bool nvidia_is_gpu(const struct pci_dev *);
uint64_t nvidia_access_ns(const struct nvidia *);       /* mean so far */
uint64_t nvidia_access_worst_ns(const struct nvidia *);
/* Looks again whether BOOT_0 still answers; if not, the exerciser is broken from then on. */
bool nvidia_alive(struct nvidia *);
/* Does its configuration space? Asked no more once it has not: each time may take seconds. */
bool nvidia_config_alive(struct nvidia *);
/* Do address, data and Enable of its MSI keep what is written? What they held is lost. */
bool nvidia_msi_holds(struct nvidia *);
/* BOOT_0, read again. */
uint32_t nvidia_boot_0(struct nvidia *);
/*
 * Nanoseconds by the GPU's clock, read between two TSC reads. False: its two words never fitted
 * together, or it does not answer.
 */
struct nvidia_time { uint64_t ns, tsc_before, tsc_after; };
bool nvidia_ptimer(struct nvidia *, struct nvidia_time *);
/*
 * The 1 MiB window at system memory: where it points for address addr (40 bits). NULL: BAR0 does not
 * reach so far. Put back by nvidia_window_close(). Only on a real GPU, and only when asked for.
 */
volatile uint8_t *nvidia_window_open(struct nvidia *, iova_t addr);
void nvidia_window_close(struct nvidia *);
bool nvidia_has_window(const struct nvidia *);
