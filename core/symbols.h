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
extern const char symbol_names[];    /* in the same order, each NUL-terminated */

#endif
