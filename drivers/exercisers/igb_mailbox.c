/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/igb.h"
#include "drivers/exercisers/igb_regs.h"
#include "kernel/lib/err.h"
#include "kernel/time/time.h"

/*
 * A virtual function whose physical one is somebody else's asks it, by mailbox (82576 datasheet 2.63, 7.10.2.9; what the
 * words mean is Linux's igb and igbvf), to be reset and to have an address. Then its queues are on, and its frames its own.
 */

#define RESET        0x01u
#define SET_ADDRESS  0x02u
#define ACK          BIT(31)
#define CLEAR        BIT(29)                /* beside it: the function has been reset, and may go on */
#define ANSWER       MS(500)                /* from an interrupt handler of another system */

/* Reading takes the physical function's bits back: what was seen is kept. */
static bool sees(const struct nic *n, uint32_t *seen, uint32_t bit)
{
	*seen |= nic_r(n, IGBVF_MAILBOX);
	return *seen & bit;
}

/* The memory is ours. */
static bool take(const struct nic *n, uint32_t *seen)
{
	nic_w(n, IGBVF_MAILBOX, IGB_MAILBOX_VFU);
	return nic_r(n, IGBVF_MAILBOX) & IGB_MAILBOX_VFU || sees(n, seen, IGB_MAILBOX_VFU);
}

/* Three words there, three back. */
static int ask(const struct nic *n, uint32_t word[3])
{
	uint32_t seen = 0;

	if (!WAIT_FOR(take(n, &seen), ANSWER))
		return -ETIMEDOUT;
	for (unsigned i = 0; i < 3; i++)
		nic_w(n, IGBVF_MEMORY + 4 * i, word[i]);
	nic_w(n, IGBVF_MAILBOX, IGB_MAILBOX_REQ);
	if (!WAIT_FOR(sees(n, &seen, IGB_MAILBOX_PFSTS), ANSWER))
		return -ETIMEDOUT;
	for (unsigned i = 0; i < 3; i++)
		word[i] = nic_r(n, IGBVF_MEMORY + 4 * i);
	nic_w(n, IGBVF_MAILBOX, IGB_MAILBOX_ACK);
	return 0;
}

int igb_greet(const struct nic *n, uint32_t address[2])
{
	uint32_t word[3] = {RESET, 0, 0};
	int r;

	nic_w(n, IGB_CTRL, IGB_CTRL_RST);
	delay(MS(10));
	(void)nic_r(n, IGBVF_MAILBOX);
	r = ask(n, word);
	if (r < 0)
		return r;
	if (word[0] == (RESET | ACK) && word[1]) {
		address[0] = word[1];
		address[1] = word[2] & 0xffff;
		return 0;
	}
	/* It was given none: it may choose. */
	word[0] = SET_ADDRESS;
	word[1] = address[0];
	word[2] = address[1];
	r = ask(n, word);
	return r < 0 ? r : (word[0] & ~CLEAR) == (SET_ADDRESS | ACK) ? 0 : -EIO;
}
