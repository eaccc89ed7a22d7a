/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_CONSOLE_H
#define BULKHEAD_CORE_CONSOLE_H

/* A partition's console: the last 64 KiB that its UART sent, and the bytes typed that its UART
 * has not taken yet. The ring has as many pages as were ever needed. Under vm->lock. */

#include "lib/types.h"

#define CONSOLE_RING_SIZE  65536
#define CONSOLE_PAGE_SIZE  4096U
#define CONSOLE_RING_PAGES (CONSOLE_RING_SIZE / CONSOLE_PAGE_SIZE)
#define CONSOLE_AHEAD      (CONSOLE_PAGE_SIZE / 2) /* so many bytes before it is full, more is due */
#define CONSOLE_BURST      64 /* a guest that need not wait writes all that a UART's FIFO takes */
#define CONSOLE_INPUT_SIZE 1024

struct console {
    char *pages[CONSOLE_RING_PAGES];
    u32 space;   /* bytes of all pages that there are; 0: the partition has never been started */
    u32 size;    /* bytes that it may have: less than CONSOLE_RING_SIZE when memory was short */
    u64 written; /* bytes ever; the ring holds the last ones of them */
    u64 dropped; /* bytes that came when the ring was full, without waiting for it to grow */
    u64 shown;   /* the monitor's: number of the first byte that nobody has seen */
    u8 watchers; /* who show it on a port: CPU 0 is to be woken when something comes */
    u64 limit;   /* bytes ever, at which the guest is to wait for the watchers; 0: never */
    u8 input[CONSOLE_INPUT_SIZE];
    u32 input_head, input_tail; /* free-running; head - tail bytes wait */
};

/* The ring needs another page, before the guest may print CONSOLE_AHEAD bytes more. */
static inline bool console_must_grow(const struct console *console)
{
    return console->space < console->size && console->written + CONSOLE_AHEAD >= console->space;
}

/* The guest has to wait: for a page, or for the watchers. */
static inline bool console_must_wait(const struct console *console)
{
    return (console->space < console->size && console->written + CONSOLE_BURST >= console->space) ||
           (console->limit > 0 && console->written >= console->limit);
}

/* Has room in the ring, so that nothing that a guest prints allocates; what there is stays until
 * console_free, through stops and starts. False when there is no memory for the first page. CPU 0,
 * the partition stopped. */
bool console_prepare(struct console *console);
void console_free(struct console *console);

/* Makes `page`, zeroed, of CONSOLE_PAGE_SIZE bytes, a part of the ring, which must grow. NULL:
 * there is none, and the ring stays as it is. */
void console_grow(struct console *console, void *page);

/* Appends one byte to the ring, which must have been prepared. */
void console_put(struct console *console, u8 byte);

/* Copies at most `size` bytes starting with the byte numbered *position (counted from the first
 * ever) and moves *position behind them; a position that the ring no longer holds is moved to
 * the oldest one first. Returns how many. */
size_t console_read(const struct console *console, u64 *position, char *to, size_t size);

/* How many bytes were dropped, or have left the ring, that the monitor had not shown. */
u64 console_lost(const struct console *console);

/* Queues a typed byte; false when the queue is full. */
bool console_type(struct console *console, u8 byte);

#endif
