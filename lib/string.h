/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_LIB_STRING_H
#define BULKHEAD_LIB_STRING_H

/* The subset of ISO C's string.h and stdio.h that the hypervisor uses, with the standard's
 * meaning. lib/string.c and lib/format.c implement it; host tests take the C library's. */

#include <stdarg.h>
#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
void *memchr(const void *s, int c, size_t size);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t limit);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t limit);
char *strchr(const char *s, int c);

/* Conversions: d i u x X p c s %, flags - 0 + space #, width and precision (also *), lengths
 * hh h l ll z. Returns what the whole text would need, without the NUL; writes at most `size`
 * bytes, always NUL-terminated when size > 0. */
int snprintf(char *restrict to, size_t size, const char *restrict format, ...)
    __attribute__((format(printf, 3, 4)));
int vsnprintf(char *restrict to, size_t size, const char *restrict format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

#endif
