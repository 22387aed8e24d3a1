/* SPDX-License-Identifier: MIT */
#pragma once

/* The two 8259s: moved to vectors 0x20-0x2f and masked, so that a stray one cannot pass for an exception. */
void pic_disable(void);
