/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_LIB_ARITH_H
#define BULKHEAD_LIB_ARITH_H

#include "lib/types.h"

/* a * b / c with a 128-bit product, rounded down; UINT64_MAX where the quotient does not fit
 * or c is 0. */
static inline u64 mul_div(u64 a, u64 b, u64 c)
{
    u64 low, high, quotient, remainder;

    __asm__("mulq %3" : "=a"(low), "=d"(high) : "a"(a), "r"(b) : "cc");
    if (__builtin_expect(high >= c, 0))
        return UINT64_MAX;
    __asm__("divq %4" : "=a"(quotient), "=d"(remainder) : "a"(low), "d"(high), "r"(c) : "cc");
    return quotient;
}

/* True, and nothing else, when [start, start + size) lies inside [0, limit). */
static inline bool range_within(u64 start, u64 size, u64 limit)
{
    return size <= limit && start <= limit - size;
}

/* a + b, or UINT64_MAX where that wraps. */
static inline u64 add_saturating(u64 a, u64 b)
{
    u64 sum;

    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

#endif
