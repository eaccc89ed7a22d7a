/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MONITOR_CONSOLE_H
#define BULKHEAD_MONITOR_CONSOLE_H

/* The terminal connected with one partition's serial port. CPU 0 only. */

#include "core/vm.h"

/* Connects: says how to leave, then goes on where the last watch of this partition ended. */
void watch_begin(struct vm *vm);

/* A typed byte. False when it ends the watch: it came after Ctrl-] and is the monitor's. Call it
 * only while watch_ready. */
bool watch_byte(u8 byte);

/* Can take a byte without losing one, or will lose it because the guest takes none. */
bool watch_ready(void);

/* Moves what there is to be moved both ways, never more than the terminal has sent. `idle_room` is
 * terminal_room() of an empty ring. False when the watch is over: Ctrl-] was typed, and nothing
 * behind it. *more: call again soon, even if nothing comes. */
bool watch_poll(size_t idle_room, bool *more);

/* Disconnects, whatever the reason. */
void watch_end(void);

#endif
