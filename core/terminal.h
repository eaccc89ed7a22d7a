/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_TERMINAL_H
#define BULKHEAD_CORE_TERMINAL_H

/* The administrator's serial line: a transmit ring that the UART's interrupt drains and a receive
 * ring that it fills. */

#include "lib/types.h"

/* Queues bytes as they are; when the ring is full the oldest queued bytes are sent first, waiting
 * for the UART. Any CPU. */
void terminal_write(const char *text, size_t size);

/* Free bytes in the transmit ring: a producer that can wait should not write more than this. */
size_t terminal_room(void);

/* Takes at most `size` received bytes. CPU 0. */
size_t terminal_read(char *to, size_t size);

/* Finds the UART at `port` and begins to use it, polled. False when there is none: what is
 * written is then dropped. Boot CPU, once. */
bool terminal_init(u16 port, u32 baud);

/* Lets the UART interrupt from now on. `handler_vector` is routed to it already; false when this
 * UART has no known interrupt. */
bool terminal_use_interrupts(void);
u8 terminal_irq(void);
/* No interrupt tells of this UART: terminal_poll must be called often. */
bool terminal_is_polled(void);
void terminal_poll(void);

/* Without the lock, after all that is queued, waiting for the UART: for panic. */
void terminal_write_unlocked(const char *text, size_t size);

/* Sends all that is queued, waiting for the UART. Takes no lock: for panic and power-off. */
void terminal_flush(void);

#endif
