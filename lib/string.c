/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "lib/string.h"
#include "lib/types.h"

/* Whole words first: a CPU does both forms equally fast, an emulator counts each repetition. */
void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    void *destination = to;
    size_t words = size / sizeof(u64);
    size_t bytes = size % sizeof(u64);

    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words)::"memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes)::"memory");
    return destination;
}

void *memmove(void *to, const void *from, size_t size)
{
    u8 *last = (u8 *)to + size - 1;
    const u8 *source = (const u8 *)from + size - 1;

    if ((uintptr_t)to - (uintptr_t)from >= size) {
        size_t words = size / sizeof(u64);
        size_t bytes = size % sizeof(u64);
        void *destination = to;

        __asm__ volatile("rep movsq" : "+D"(destination), "+S"(from), "+c"(words)::"memory");
        __asm__ volatile("rep movsb" : "+D"(destination), "+S"(from), "+c"(bytes)::"memory");
        return to;
    }
    __asm__ volatile("std; rep movsb; cld" : "+D"(last), "+S"(source), "+c"(size)::"memory");
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    void *destination = to;
    u64 pattern = (u8)byte * 0x0101010101010101ULL;
    size_t words = size / sizeof(u64);
    size_t bytes = size % sizeof(u64);

    __asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(pattern) : "memory");
    return destination;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const u8 *x = a;
    const u8 *y = b;

    for (size_t i = 0; i < size; i++) {
        if (x[i] != y[i])
            return x[i] - y[i];
    }
    return 0;
}

void *memchr(const void *s, int c, size_t size)
{
    const u8 *bytes = s;

    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == (u8)c)
            return (void *)(uintptr_t)(bytes + i);
    }
    return NULL;
}

size_t strlen(const char *s)
{
    return strnlen(s, SIZE_MAX);
}

size_t strnlen(const char *s, size_t limit)
{
    size_t length = 0;

    while (length < limit && s[length] != '\0')
        length++;
    return length;
}

int strcmp(const char *a, const char *b)
{
    return strncmp(a, b, SIZE_MAX);
}

int strncmp(const char *a, const char *b, size_t limit)
{
    for (size_t i = 0; i < limit; i++) {
        if (a[i] != b[i])
            return (u8)a[i] - (u8)b[i];
        if (a[i] == '\0')
            break;
    }
    return 0;
}

char *strchr(const char *s, int c)
{
    for (;; s++) {
        if (*s == (char)c)
            return (char *)(uintptr_t)s;
        if (*s == '\0')
            return NULL;
    }
}
