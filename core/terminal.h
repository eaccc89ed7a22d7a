/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_TERMINAL_H
#define BULKHEAD_CORE_TERMINAL_H

/* The administrator's serial line: the first of the ports (core/port.h), or none. What is written
 * while there is none is dropped. */

#include "lib/types.h"

#define TERMINAL_NO_LIMIT 65536

/* Finds the UART at `address` and begins to use it, polled. False when there is none. Boot CPU,
 * once, before any other port is opened. */
bool terminal_init(u16 address, u32 baud);

/* As port_write, port_room, port_read, port_write_unlocked and port_flush. */
void terminal_write(const char *text, size_t size);
size_t terminal_room(void);
size_t terminal_read(char *to, size_t size);
void terminal_write_unlocked(const char *text, size_t size);
void terminal_flush(void);

#endif
