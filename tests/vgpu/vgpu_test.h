/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/exercisers/nvidia.h"
#include "tests/harness/test.h"
#include "tests/msi/irq_test.h"

/*
 * What the vgpu tests share: which GPUs are under test, and what is already known of each one's messages,
 * so that one fault fails one test: the others say that they could not be tried and which test tells why.
 */

#define VGPU_MAX 8

enum vgpu_msi {
	VGPU_MSI_UNKNOWN,
	VGPU_MSI_WORKS,
	VGPU_MSI_ABSENT,      /* no MSI, no MSI-X */
	VGPU_MSI_STUCK,       /* what is written to its MSI registers is not what stands there */
	VGPU_MSI_NO_TRIGGER,  /* none of the ladder's triggers shows as pending in the GPU */
	VGPU_MSI_HELD,        /* pending, and not to be taken back */
	VGPU_MSI_NO_VECTOR,   /* pending in the GPU, and no CPU is interrupted */
	VGPU_MSI_ONLY_FIRST,  /* each time MSI is enabled, one arrives, and no other */
	VGPU_MSI_LOSSY,       /* some are lost */
	VGPU_MSI_DOUBLED,     /* more arrive than were raised */
	VGPU_MSI_ASTRAY,      /* it comes with another vector, or to another CPU */
	VGPU_MSI_TOO_SLOW,    /* register accesses take too long to try */
	VGPU_MSI_DIED,
};

struct vgpu {
	struct nvidia *g;
	char name[48];                  /* "00:10.0 GRID P40-2A" */
	enum vgpu_msi msi;
	/* of the few messages that decided it, those at start-up included */
	unsigned raised, pending, arrived, extra;
	int vector, stray_vector;
	unsigned stray_cpu, other;      /* other: the message or entry that came instead of 0 */
	bool death_told;                /* … or that of its configuration space */
};

/*
 * The GPUs under test, device= counted in. A test calls vgpu_first() once: without any GPU it leaves the
 * test with the reason; then vgpu_next() until NULL.
 */
struct vgpu *vgpu_first(struct t *);
struct vgpu *vgpu_next(struct t *, struct vgpu *);
#define FOR_EACH_VGPU(t, v) for (struct vgpu *v = vgpu_first(t); v; v = vgpu_next(t, v))

/*
 * Its registers answer. False: *why says why not, and which test judges that. A GPU that has died since
 * it was last seen is reported here, once (PLB027; its configuration space: PLB039).
 */
bool vgpu_answers(struct t *, struct vgpu *, const char **why);
/* The same at the end of a test that used it: false, and reported, where it has died meanwhile. */
bool vgpu_still_answers(struct t *, struct vgpu *);
/* Can a test afford so many register accesses (at what they cost here)? False: *why. */
bool vgpu_can_afford(struct vgpu *, unsigned accesses, const char **why);

/* Sends a few messages to CPU 0, where it is not known yet what becomes of them. */
enum vgpu_msi vgpu_msi_state(struct t *, struct vgpu *);
/* Its messages arrive, again and again. False: *why names the test that says what is wrong. */
bool vgpu_msi_works(struct t *, struct vgpu *, const char **why);

/*
 * One message: raised, awaited on (cpu, d->vector[v]), taken back. The watch is started anew, so that
 * each one is looked at by itself.
 */
struct vgpu_shot {
	int error;                      /* of raising it */
	bool arrived;
	bool pending;                   /* in the GPU, before it was taken back */
	uint32_t extra;                 /* on the same CPU and vector */
	bool strayed;
	struct irq_stray stray;
};
struct vgpu_shot vgpu_shoot(struct exerciser *, struct delivery *, unsigned cpu, unsigned v,
			    uint64_t patience);

/* A stock device of this machine that interrupts; NULL: none. */
struct exerciser *vgpu_control_device(struct t *, uint32_t caps);
/* "edu at 00:11.0: 16 of 16", or why there is nothing to compare with. n messages to CPU 0, by MSI. */
const char *vgpu_control_shots(struct t *, unsigned n, unsigned *arrived);

/* "123 ns", "4.5 us", "8.0 s" */
const char *vgpu_time_text(uint64_t ns, char buf[16]);
