/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_SYMBOLS_H
#define BULKHEAD_CORE_SYMBOLS_H

/* The names of the hypervisor's functions, for backtraces. scripts/symbols makes the definitions
 * from the linker's output; they lie in a section of their own, .symbols, which the linker
 * script puts last, so that adding them moves no function. */

#include "lib/types.h"

#define SYMBOL_BASE 0xFFFFFFFF80000000UL

extern const u32 symbol_count;       /* 0 in the first of the two links */
extern const u32 symbol_first;       /* lowest address, minus SYMBOL_BASE */
extern const u16 symbol_distances[]; /* from each to the next, in the order of the addresses */

#define SYMBOL_CODE_BITS 5

enum symbol_code {
    SYMBOL_END,
    SYMBOL_A, /* and so on to z */
    SYMBOL_UNDERSCORE = SYMBOL_A + 26,
    SYMBOL_OTHER, /* the next code is a digit, or SYMBOL_DOT */
    SYMBOL_DOT = 10,
};

/* In the same order, in codes, the lowest bits first, with a byte more behind them. */
extern const u8 symbol_names[];

#endif
