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

#endif
