/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MONITOR_MONITOR_H
#define BULKHEAD_MONITOR_MONITOR_H

#include "lib/types.h"

/* Shows the first prompt. CPU 0, once. */
void monitor_init(void);

/* Serves the serial line: typed bytes, output of the watched console, commands that wait for a
 * transition. Bounded work; CPU 0 calls it whenever something may have come, with no lock held.
 * True when it wants to be called again soon even without input (a console is being watched, a
 * command waits). */
bool monitor_poll(void);

/* Log lines go here, so that they do not tear the line being edited: erases it, prints, redraws. */
void monitor_log_output(const char *text, size_t size);

#endif
