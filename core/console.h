/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_CONSOLE_H
#define BULKHEAD_CORE_CONSOLE_H

/* A partition's console: the last 64 KiB that its UART sent, and the bytes typed that its UART
 * has not taken yet. Under vm->lock. */

#include "lib/types.h"

#define CONSOLE_RING_SIZE  65536
#define CONSOLE_RING_PAGES (CONSOLE_RING_SIZE / 4096)
#define CONSOLE_INPUT_SIZE 1024

struct console {
    char *ring;  /* CONSOLE_RING_SIZE bytes; NULL: the partition has never been started */
    u64 written; /* bytes ever; the ring holds the last CONSOLE_RING_SIZE of them */
    u64 shown;   /* the monitor's: number of the first byte that nobody has seen */
    u8 watchers; /* who show it on a port: CPU 0 is to be woken when something comes */
    u64 limit;   /* bytes ever, at which the guest is to wait for the watchers; 0: never */
    u8 input[CONSOLE_INPUT_SIZE];
    u32 input_head, input_tail; /* free-running; head - tail bytes wait */
};

/* Gets the ring, zeroed, if there is none yet, so that nothing that a guest prints allocates; it
 * stays until console_free, through stops and starts. False when memory is short. CPU 0. */
bool console_prepare(struct console *console);
void console_free(struct console *console);

/* Appends one byte to the ring, which must be there. */
void console_put(struct console *console, u8 byte);

/* Copies at most `size` bytes starting with the byte numbered *position (counted from the first
 * ever) and moves *position behind them; a position that the ring no longer holds is moved to
 * the oldest one first. Returns how many. */
size_t console_read(const struct console *console, u64 *position, char *to, size_t size);

/* How many bytes have left the ring that the monitor had not shown. */
u64 console_lost(const struct console *console);

/* Queues a typed byte; false when the queue is full. */
bool console_type(struct console *console, u8 byte);

#endif
