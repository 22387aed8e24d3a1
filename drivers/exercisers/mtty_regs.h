/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* 16550 (National PC16550D, 8) as far as mtty has it; offsets in I/O BAR 0. */
#define UART_DATA         0              /* RX, TX */
#define UART_IER          1
#define UART_IER_RDI      BIT(0)
#define UART_IER_THRI     BIT(1)
#define UART_IER_RLSI     BIT(2)
#define UART_IER_MSI      BIT(3)
#define UART_IIR          2              /* read */
#define UART_IIR_NO_INT   BIT(0)
#define UART_IIR_RDI      BIT(2)
#define UART_FCR          2              /* write */
#define UART_FCR_ENABLE   BIT(0)
#define UART_FCR_CLEAR    (BIT(1) | BIT(2))
#define UART_FCR_TRIGGER  GENMASK(7, 6)  /* 1, 4, 8, 14 */
#define UART_LCR          3
#define UART_LCR_8N1      3              /* DLAB off */
#define UART_MCR          4
#define UART_MCR_OUT2     BIT(3)
#define UART_LSR          5
#define UART_LSR_DR       BIT(0)
#define UART_LSR_OE       BIT(1)
#define UART_LSR_THRE     BIT(5)
#define UART_SCR          7
