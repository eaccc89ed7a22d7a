/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_GUESTS_SMP_H
#define BULKHEAD_GUESTS_SMP_H

#include "lib/guest.h"

#define CPUS_MAX   256
#define STACK_SIZE 4096

/* Vectors; those from VECTOR_IPI on belong to one sender each. */
#define VECTOR_WAKE  0xF0
#define VECTOR_TIMER 0xE0
#define VECTOR_TLB   0xD0
#define VECTOR_IPI   0x40
#define SENDERS_MAX  128

struct cpu {
    struct cpu *self; /* GS begins here */
    u32 index;
    u32 apic_id;
    bool x2apic; /* the mode of its local APIC */
    volatile u64 nmis;
    u32 eoi_flag;      /* set by the hypervisor, see eoi.c */
    u64 spared;        /* EOIs */
    volatile u64 work; /* progress, as the mode counts it */
} __attribute__((aligned(64)));

extern struct cpu cpus[CPUS_MAX];
extern u32 cpu_count; /* that came up */
extern u64 tsc_khz;

static inline struct cpu *this_cpu(void)
{
    struct cpu *cpu;
    __asm__ volatile("mov %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

static inline void pause(void)
{
    __asm__ volatile("pause" : : : "memory");
}

/* Runs `job` on every CPU, this one (the first) included, and waits for all. */
void run_on_all(void (*job)(struct cpu *cpu));
/* The same without waiting for the others. */
void start_on_all(void (*job)(struct cpu *cpu));

/* Ends the guest where a count or condition is wrong. Any CPU. */
_Noreturn void fail(const char *what, u64 got, u64 expected);
/* For loops that wait for another CPU: ends the guest when it has been longer than any scheduler
 * may take. `since` is a TSC. */
void check_patience(const char *what, u64 since);

/* ---- apic.c: either mode ---- */
enum icr_bits {
    ICR_LOWEST = 1 << 8,
    ICR_NMI = 4 << 8,
    ICR_INIT = 5 << 8,
    ICR_STARTUP = 6 << 8,
    ICR_LOGICAL = 1 << 11,
    ICR_ASSERT = 1 << 14,
    ICR_LEVEL = 1 << 15,
    ICR_SELF = 1 << 18,
    ICR_ALL = 2 << 18,
    ICR_OTHERS = 3 << 18,
};

enum more_lapic_register {
    LAPIC_LDR = 0xD0,
    LAPIC_DFR = 0xE0,
    LAPIC_ISR = 0x100,
    LAPIC_SELF_IPI = 0x3F0, /* x2APIC only */
};

bool x2apic_possible(void);
void apic_enable(struct cpu *cpu); /* by software, in the mode that it is in */
void apic_use_x2apic(struct cpu *cpu);
u32 apic_read(u32 which);
void apic_write(u32 which, u32 value);
void apic_send(u32 destination, u32 icr);

/* ---- eoi.c ---- */
void eoi_set_up(struct cpu *cpu);
void apic_eoi(void);

/* ---- the modes ---- */
void mode_ipi(void);
void mode_masked(void);
void mode_eoi(void);
void mode_spin(void);
_Noreturn void mode_burn(void);
_Noreturn void mode_halt(void);
void mode_clock(void);
void mode_tlb(void);

#endif
