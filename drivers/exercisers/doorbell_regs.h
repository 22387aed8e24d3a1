/* SPDX-License-Identifier: MIT */
#pragma once

/* A device of 2 to 32 MSI messages and nothing else: tests/mdev/model.py, class Doorbell. */
#define DOORBELL_ID       0x00
#define DOORBELL_ID_VALUE 0xbe110001u
#define DOORBELL_RING     0x04 /* write N: message N is sent, if it was granted */
#define DOORBELL_STATUS   0x08 /* a bit a message: rung, and not acknowledged */
#define DOORBELL_ACK      0x0c /* write 1 to clear */
