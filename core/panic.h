/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_PANIC_H
#define BULKHEAD_CORE_PANIC_H

#include "lib/types.h"

/* A broken invariant of the hypervisor: prints the sentence and a symbolised backtrace on the
 * log's outputs without taking locks, stops the other CPUs, halts. */
_Noreturn void panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for a place that is not the caller's: that of an exception. */
_Noreturn void panic_at(u64 rip, u64 rbp, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Makes the stack protector's guard from the TSC at boot. Only from a function that does not
 * return, before there are other CPUs. */
void panic_set_stack_guard(u64 seed);

/* Halts this CPU when another one has panicked: an NMI may mean that. */
void panic_check_stop(void);

#define ASSERT(condition)                                                                          \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            panic("%s:%d: '%s' does not hold", __FILE__, __LINE__, #condition);                    \
    } while (0)

/* Prints the return addresses from frame pointer `rbp` on with their symbols. */
void print_backtrace(u64 rip, u64 rbp);

#endif
