/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DRIVERS_CPU_H
#define BULKHEAD_DRIVERS_CPU_H

/* Instructions that C has no name for (Intel SDM volume 2). Each acts on the CPU that runs it. */

#include "lib/types.h"

struct cpuid_result {
    u32 eax, ebx, ecx, edx;
};

static inline struct cpuid_result cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid_result r;

    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

/* An MSR that this CPU lacks faults: ask CPUID first. */
static inline u64 rdmsr(u32 msr)
{
    u32 low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (u64)high << 32 | low;
}

/* For an MSR that CPUID announces and emulators lack: false where reading it faults. The fault's
 * handler goes on at the second address of the pair in .fixups. */
static inline bool rdmsr_try(u32 msr, u64 *value)
{
    u32 low = 0, high = 0;
    bool there = false;

    __asm__ volatile("1: rdmsr\n\t"
                     "movb $1, %2\n"
                     "2:\n\t"
                     ".pushsection .fixups, \"a\"\n\t"
                     ".quad 1b, 2b\n\t"
                     ".popsection"
                     : "+a"(low), "+d"(high), "+r"(there)
                     : "c"(msr)
                     : "memory");
    *value = (u64)high << 32 | low;
    return there;
}

static inline void wrmsr(u32 msr, u64 value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

/* It clears the upper halves. */
static inline u64 rdtsc(void)
{
    u64 low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return high << 32 | low;
}

/* RDTSC that no earlier load or instruction overtakes (SDM volume 2, RDTSC). */
static inline u64 rdtsc_ordered(void)
{
    __asm__ volatile("lfence" ::: "memory");
    return rdtsc();
}

static inline void cpu_pause(void)
{
    __asm__ volatile("pause" ::: "memory");
}

static inline void cpu_cli(void)
{
    __asm__ volatile("cli" ::: "memory");
}

static inline void cpu_sti(void)
{
    __asm__ volatile("sti" ::: "memory");
}

static inline void cpu_hlt(void)
{
    __asm__ volatile("hlt" ::: "memory");
}

/* Sleeps with interrupts on and comes back with them off. STI's shadow keeps an interrupt from
 * getting in between the two, so none is slept through. */
static inline void cpu_sti_hlt_cli(void)
{
    __asm__ volatile("sti; hlt; cli" ::: "memory");
}

/* Sleeps in the C-state that `hint` names until an interrupt comes or the cache line of `line` is
 * written (SDM volume 2, "MWAIT"). As with HLT nothing gets in between STI and MWAIT. */
static inline void cpu_sti_mwait_cli(const void *line, u32 hint)
{
    __asm__ volatile("monitor" ::"a"(line), "c"(0), "d"(0) : "memory");
    __asm__ volatile("sti; mwait; cli" ::"a"(hint), "c"(0) : "memory");
}

static inline u64 read_rflags(void)
{
    u64 value;

    __asm__ volatile("pushfq; popq %0" : "=r"(value)::"memory");
    return value;
}

#define CPU_CONTROL_REGISTER(name)                                                                 \
    static inline u64 read_##name(void)                                                            \
    {                                                                                              \
        u64 value;                                                                                 \
        __asm__ volatile("movq %%" #name ", %0" : "=r"(value)::"memory");                          \
        return value;                                                                              \
    }                                                                                              \
    static inline void write_##name(u64 value)                                                     \
    {                                                                                              \
        __asm__ volatile("movq %0, %%" #name ::"r"(value) : "memory");                             \
    }

CPU_CONTROL_REGISTER(cr0)
CPU_CONTROL_REGISTER(cr2)
CPU_CONTROL_REGISTER(cr3)
CPU_CONTROL_REGISTER(cr4)

#undef CPU_CONTROL_REGISTER

static inline void invlpg(const void *address)
{
    __asm__ volatile("invlpg (%0)" ::"r"(address) : "memory");
}

/* Extended control register 0; needs CR4.OSXSAVE. */
static inline u64 read_xcr0(void)
{
    u32 low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0) : "memory");
    return (u64)high << 32 | low;
}

static inline void write_xcr0(u64 value)
{
    __asm__ volatile("xsetbv" ::"c"(0), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

#endif
