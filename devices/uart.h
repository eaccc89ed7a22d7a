/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_UART_H
#define BULKHEAD_DEVICES_UART_H

/* The 16550A UART (National Semiconductor PC16550D datasheet). Sending takes no time unless it is
 * held; a cable with a ready peer is always plugged in. */

#include "devices/device.h"

#define UART_FIFO_SIZE 16

struct uart {
    u8 rx[UART_FIFO_SIZE]; /* ring */
    u8 rx_head, rx_count;
    u8 ier, fcr, lcr, mcr, scr;
    u8 divisor_low, divisor_high;
    u8 line_errors;  /* LSR bits that reading it clears */
    u8 modem_inputs; /* the upper half of MSR, and what changed in the lower */
    u8 modem_deltas;
    bool held;         /* what was sent is taken to be on the line still */
    bool thre_pending; /* the transmitter's interrupt was not acknowledged yet */
};

void uart_init(struct uart *uart);

/* One register, `offset` 0 to 7. uart_write returns true when the interrupt line went low in
 * between, whatever it is now: an edge that an edge-triggered controller must see. */
u8 uart_read(struct uart *uart, u32 offset);
/* What the line status reads where that has no effects, of any other register -1. */
int uart_peek(const struct uart *uart, u32 offset);
bool uart_write(struct uart *uart, u32 offset, u8 value, struct effects *effects);

/* A byte from the line; false when there is no room (or the loop-back cuts the line off). */
bool uart_receive(struct uart *uart, u8 byte);
bool uart_can_receive(const struct uart *uart);

/* While it is held the transmitter never gets empty, so a guest that keeps to the rules sends no
 * more; what it sends nevertheless is sent. */
void uart_hold(struct uart *uart, bool held);

/* The interrupt line, as OUT2 lets it through to the board. */
bool uart_irq(const struct uart *uart);

#endif
