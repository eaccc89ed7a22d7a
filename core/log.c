/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/log.h"

#include "core/terminal.h"
#include "drivers/cpu.h"
#include "lib/arith.h"
#include "lib/spinlock.h"
#include "lib/string.h"

#define LOG_RING_SIZE 65536
#define LOG_LINE_SIZE 320

static struct {
    struct spinlock lock; /* covers the ring and the output */
    enum log_level level;
    void (*output)(const char *text, size_t size);
    u64 tsc_hz, tsc_base;
    bool panicking;
    u64 written;
} log = {.level = LOG_INFO};

static char ring[LOG_RING_SIZE];

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

bool log_set_level(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(level_names); i++)
        if (strcmp(name, level_names[i]) == 0) {
            log.level = i;
            return true;
        }
    return false;
}

void log_set_output(void (*write)(const char *text, size_t size))
{
    log.output = write;
}

void log_set_clock(u64 tsc_hz, u64 tsc_base)
{
    log.tsc_base = tsc_base;
    log.tsc_hz = tsc_hz;
}

void log_begin_panic(void)
{
    log.panicking = true;
}

static void keep(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ring[log.written++ % LOG_RING_SIZE] = text[i];
}

static void emit(const char *text, size_t size)
{
    if (log.panicking) {
        keep(text, size);
        terminal_write_unlocked(text, size);
        return;
    }
    spin_lock(&log.lock);
    keep(text, size);
    if (log.output)
        log.output(text, size);
    spin_unlock(&log.lock);
}

/* "[    0.012345] warn: "; before the clock is known the time is 0. */
static size_t prefix(char *line, size_t size, enum log_level level)
{
    u64 us = log.tsc_hz ? mul_div(rdtsc() - log.tsc_base, 1000000, log.tsc_hz) : 0;

    return snprintf(line, size, "[%5lu.%06lu] %s%s", us / 1000000, us % 1000000,
                    level <= LOG_WARN ? level_names[level] : "", level <= LOG_WARN ? ": " : "");
}

void log_print(enum log_level level, const char *format, ...)
{
    char line[LOG_LINE_SIZE];
    va_list arguments;
    size_t start, size;

    if (level > log.level)
        return;
    start = prefix(line, sizeof(line), level);
    va_start(arguments, format);
    size = start + vsnprintf(line + start, sizeof(line) - start - 2, format, arguments);
    va_end(arguments);
    size = MIN(size, sizeof(line) - 3);
    for (size_t i = start; i < size; i++)
        if ((u8)line[i] < ' ' || line[i] == 0x7F)
            line[i] = '?';
    memcpy(line + size, "\r\n", 2);
    emit(line, size + 2);
}

size_t log_read(u64 *position, char *to, size_t size)
{
    bool locked = !log.panicking;
    size_t count = 0;

    if (locked)
        spin_lock(&log.lock);
    if (log.written > LOG_RING_SIZE)
        *position = MAX(*position, log.written - LOG_RING_SIZE);
    while (count < size && *position < log.written)
        to[count++] = ring[(*position)++ % LOG_RING_SIZE];
    if (locked)
        spin_unlock(&log.lock);
    return count;
}
