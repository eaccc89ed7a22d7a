/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_LOG_H
#define BULKHEAD_CORE_LOG_H

#include "lib/types.h"
#include <stdarg.h>

enum log_level {
    LOG_ERROR,
    LOG_WARN,
    LOG_INFO,
    LOG_DEBUG,
};

/* One line, without newline, to the ring and the log's outputs. Any CPU; takes the log's lock
 * for the time of the formatting. Texts that come from guests, files or firmware are arguments,
 * never the format; control characters in them are printed as '?'. */
void log_print(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_print(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_print(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_print(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_print(LOG_DEBUG, __VA_ARGS__)

/* Lines above this level are dropped; "info" at first. False when `name` is none of
 * error|warn|info|debug. */
bool log_set_level(const char *name);

/* The ring of the last 64 KiB: copies at most `size` bytes from *position (counted from the first
 * byte ever) and advances it; see console_read. */
size_t log_read(u64 *position, char *to, size_t size);

/* Where lines go besides the ring; NULL ends it. */
void log_set_output(void (*write)(const char *text, size_t size));

/* Lines begin with the seconds since `tsc_base` from now on. */
void log_set_clock(u64 tsc_hz, u64 tsc_base);

/* From now on lines take no lock and go straight to the ring and the terminal, and log_read takes
 * none: for panic alone. */
void log_begin_panic(void);

#endif
