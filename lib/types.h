/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_LIB_TYPES_H
#define BULKHEAD_LIB_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

/* A physical address of the real machine. */
typedef u64 paddr_t;

#define KIB (1UL << 10)
#define MIB (1UL << 20)
#define GIB (1UL << 30)
#define TIB (1UL << 40)

#define BIT(n) (1UL << (n))

#define CACHE_LINE_SIZE 64

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Rounding to a power of two. The sum in ALIGN_UP may wrap: check the value first. */
#define ALIGN_DOWN(value, to) ((value) & ~((u64)(to)-1))
#define ALIGN_UP(value, to)   ALIGN_DOWN((value) + (u64)(to)-1, to)
#define IS_ALIGNED(value, to) (((value) & ((u64)(to)-1)) == 0)

/* Keeps what is seldom wanted off the common way: the registers that it saves. */
#define NOINLINE __attribute__((noinline))

#define DIV_ROUND_UP(value, by) (((value) + (by)-1) / (by))

#endif
