/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DRIVERS_UART_H
#define BULKHEAD_DRIVERS_UART_H

/* A physical 16550A-compatible UART (National Semiconductor PC16550D data sheet, section 8), 8N1.
 * Nothing here waits without a bound, whether there is a UART or not. One CPU at a time. */

#include "lib/types.h"

#define HOST_UART_NO_IRQ 0xFF
#define HOST_UART_BAUD   115200

struct host_uart {
    u16 port;
    u8 irq;        /* ISA IRQ of COM1-COM4, HOST_UART_NO_IRQ for other ports */
    u8 fifo_depth; /* 16, or 1 where the FIFO does not work */
    u32 patience;  /* reads of the line status without progress until it counts as stalled */
    bool stalled;  /* it stopped sending: host_uart_write no longer waits for it */
};

/* Parses `com1`..`com4` or `0xPORT`, each optionally followed by `,BAUD` (default 115200). False
 * for any other text and for a rate that a 1.8432 MHz UART cannot make. Pure. */
bool console_parse(const char *value, u16 *port, u32 *baud);

/* What a 1.8432 MHz UART divides its clock by to make this rate; 0 when it cannot. Pure. */
u32 host_uart_divisor(u32 baud);

/* The ISA IRQ of COM1-COM4, HOST_UART_NO_IRQ for other ports. Pure. */
u8 host_uart_irq(u16 port);

/* Looks for a UART at `port` (scratch register, then loop-back) and sets it up: rate, 8N1, FIFOs,
 * DTR, RTS and OUT2 on, interrupts off. False when there is none; `uart` is then not usable. */
bool host_uart_init(struct host_uart *uart, u16 port, u32 baud);

/* Sends all bytes, waiting for room; for panics and early boot. When the UART makes no progress
 * for about a fifth of a second (longer below 9600 baud) the rest is dropped, and later calls don't
 * wait until it sends again. */
void host_uart_write(struct host_uart *uart, const void *bytes, size_t size);

/* Waits, as patiently, until what was written has left the UART: a power-off would cut it off. */
void host_uart_drain(const struct host_uart *uart);

/* Hands over as many bytes as fit now and returns how many, at most the FIFO's depth. */
size_t host_uart_try_write(struct host_uart *uart, const void *bytes, size_t size);

/* Takes up to `size` received bytes without waiting and returns how many. Bytes with a framing or
 * parity error and breaks are dropped. */
size_t host_uart_read(struct host_uart *uart, void *bytes, size_t size);

/* Interrupts when a byte has been received, and when there is room to send. Reading and sending
 * everything acknowledges them. */
void host_uart_enable_interrupts(struct host_uart *uart, bool receive, bool transmit);

/* Reads IIR, which acknowledges a transmit interrupt. True when an interrupt was pending. */
bool host_uart_acknowledge(struct host_uart *uart);

/* Tells the other end that it may send, or may not. */
void host_uart_set_rts(struct host_uart *uart, bool on);

#endif
