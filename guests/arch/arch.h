/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_GUESTS_ARCH_H
#define BULKHEAD_GUESTS_ARCH_H

#include "lib/guest.h"

/* Groups of questions. Each question prints one line, `NAME: ANSWER`. Interrupts are off when a
 * group begins. */
typedef void questions(void);
questions ask_exceptions, ask_debug, ask_paging, ask_segments, ask_user_mode;
questions ask_cpuid, ask_msrs, ask_control_registers, ask_xcr0, ask_instructions, ask_tsc;
questions ask_lapic_reset, ask_lapic, ask_shadows, ask_nmi, ask_ports, ask_second_cpu;

void answer(const char *name, u64 value);

/* ---- exceptions ---- */
struct trap {
    u64 vector; /* NO_TRAP: none came */
    u64 error_code;
    u64 offset; /* of the pushed RIP in the code in question */
    u64 rflags, cr2, dr6;
};
#define NO_TRAP (~0ULL)

extern struct trap trap;
extern u64 arch_resume, arch_start, arch_stack; /* for GUARDED only */

/* What the last guarded code raised. */
void answer_trap(const char *name);

/* Code that goes on behind its end when it raises an exception. */
#define GUARDED(code)                                                                              \
    "leaq 9f(%%rip), %%r15\n\tmovq %%r15, arch_resume\n\tleaq 8f(%%rip), %%r15\n\t"                \
    "movq %%r15, arch_start\n\tmovq %%rsp, arch_stack\n\tmovq $-1, trap\n8:\t" code                \
    "\n9:\tmovq $0, arch_resume"
#define GUARD "r15", "memory", "cc"

/* A question whose answer is the exception. What follows the code are inputs. */
#define ASK(name, code, ...)                                                                       \
    do {                                                                                           \
        __asm__ volatile(GUARDED(code) : : __VA_ARGS__ : "r14", GUARD);                            \
        answer_trap(name);                                                                         \
    } while (0)

/* ---- pages ---- */
enum {
    PAGE_PRESENT = 1 << 0,
    PAGE_WRITE = 1 << 1,
    PAGE_USER = 1 << 2,
    PAGE_ACCESSED = 1 << 5,
    PAGE_DIRTY = 1 << 6,
    PAGE_LARGE = 1 << 7,
};
#define PAGE_NX   (1ULL << 63)
#define TEST_PAGE 0x40000000UL /* a linear 2 MiB page with nothing mapped behind it */
#define TEST_RAM  0x800000UL   /* what it maps */
#define TEST_END  (TEST_PAGE + 0x200000)

/* Maps the test page with these bits and returns its entry. */
volatile u64 *map_test_page(u64 bits);

/* ---- segments ---- */
enum selector {
    CODE_64 = 0x08,
    DATA = 0x10,
    CODE_32 = 0x18,
    USER_DATA = 0x33,
    USER_CODE = 0x3B,
    NOT_PRESENT = 0x40,
    TASK = 0x48,
    OUTSIDE = 0x100,
};
void load_segments(void);

void delay(u64 pm_ticks);

#endif
