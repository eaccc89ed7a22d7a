/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_SCREEN_H
#define BULKHEAD_CORE_SCREEN_H

/* The log on the screen that the boot loader leaves. Screens are slow: once the scheduler runs, who
 * logs does not wait for them. CPU 0 draws, but for a panic. */

#include "boot/boot_info.h"

/* Shows the log so far on the screen that `info` describes; without one all here does nothing. */
void screen_init(const struct boot_framebuffer *info);

/* Draws a line that is in the log already, at once; for log_set_output until the monitor opens. */
void screen_write(const char *text, size_t size);

/* Draws some bytes of what was logged since. True: there may be more. */
bool screen_poll(void);

/* Draws all of it. Before the machine is switched off, or as the last of a panic on any CPU. */
void screen_flush(void);

#endif
