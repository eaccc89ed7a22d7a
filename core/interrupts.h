/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_INTERRUPTS_H
#define BULKHEAD_CORE_INTERRUPTS_H

/* The host's own exceptions and interrupts. Interrupts are on only in interrupts_take and in
 * idle's HLT. */

#include "core/cpu.h"

enum exception {
    EXCEPTION_DB = 1,
    EXCEPTION_NMI = 2,
    EXCEPTION_UD = 6,
    EXCEPTION_DF = 8,
    EXCEPTION_GP = 13,
    EXCEPTION_PF = 14,
    EXCEPTION_MC = 18,
    EXCEPTION_COUNT = 32,
};

enum host_vector {
    VECTOR_PIC = 0x20, /* 16 of them; masked, but may be spurious */
    VECTOR_UART = 0x30,
    VECTOR_TIMER = 0x40,
    VECTOR_WAKE = 0x41,
    VECTOR_ERROR = 0xFE,
    VECTOR_SPURIOUS = 0xFF,
};

struct trap_frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    u64 vector;
    u64 error_code;
    u64 rip, cs, rflags, rsp, ss;
};

/* Fills the IDT; once, on the boot CPU. */
void interrupts_init(void);

/* Loads GDT, TSS, IDT and GS base on the calling CPU, whose struct this is. Its IST stacks are
 * allocated here; false when memory is short. */
bool interrupts_load(struct cpu *cpu);

/* Called with interrupts off, on the CPU that took the interrupt; the EOI is sent afterwards. */
void interrupts_set_handler(u8 vector, void (*handler)(struct cpu *cpu));

/* Lets interrupts that wait be handled now. */
static inline void interrupts_take(void)
{
    __asm__ volatile("sti; nop; cli" ::: "memory");
}

#endif
