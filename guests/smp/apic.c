/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* The local APIC in xAPIC or, after apic_use_x2apic, x2APIC mode. */
#include "smp/smp.h"

#define MSR_APIC_BASE    0x1B
#define APIC_BASE_X2APIC (1 << 10)
#define MSR_X2APIC       0x800
#define MSR_X2APIC_ICR   0x830
#define CPUID1_X2APIC    (1u << 21)
#define SVR_ENABLE       0x1FF
#define ID_SHIFT         24

bool x2apic_possible(void)
{
    return cpuid(1, 0).ecx & CPUID1_X2APIC;
}

u32 apic_read(u32 which)
{
    return this_cpu()->x2apic ? (u32)rdmsr(MSR_X2APIC + (which >> 4))
                              : mmio_read(LAPIC_BASE + which);
}

void apic_write(u32 which, u32 value)
{
    if (this_cpu()->x2apic)
        wrmsr(MSR_X2APIC + (which >> 4), value);
    else
        mmio_write(LAPIC_BASE + which, value);
}

void apic_enable(struct cpu *cpu)
{
    apic_write(LAPIC_SVR, SVR_ENABLE);
    eoi_set_up(cpu);
}

void apic_use_x2apic(struct cpu *cpu)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2APIC);
    cpu->x2apic = true;
    if (apic_read(LAPIC_ID) != cpu->apic_id)
        fail("x2APIC ID", apic_read(LAPIC_ID), cpu->apic_id);
    apic_enable(cpu);
}

void apic_send(u32 destination, u32 icr)
{
    if (this_cpu()->x2apic) {
        /* WRMSR to the x2APIC's registers does not wait for stores before it. */
        __asm__ volatile("mfence; lfence" : : : "memory");
        wrmsr(MSR_X2APIC_ICR, (u64)destination << 32 | icr);
        return;
    }
    mmio_write(LAPIC_BASE + LAPIC_ICR_HIGH, destination << ID_SHIFT);
    mmio_write(LAPIC_BASE + LAPIC_ICR_LOW, icr);
}
