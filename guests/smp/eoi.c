/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* The end of an interrupt without an exit (Linux, Documentation/virt/kvm/x86: cpuid.rst, msr.rst),
 * with `eoi=pv` and where it is offered: a flag that the hypervisor sets is cleared instead. */
#include "smp/smp.h"

#define CPUID_KVM_FEATURES 0x40000101
#define FEATURE_PV_EOI     (1 << 6)
#define MSR_KVM_PV_EOI     0x4B564D04
#define ENABLE             1
#define VECTOR_HIGH        0xD1
#define VECTOR_LOW         0x91
#define ISR_BYTES          16 /* from one word of 32 vectors to the next */
#define BAD_ADDRESS        0xF0000001

static bool offered(void)
{
    return cpuid(CPUID_KVM_FEATURES, 0).eax & FEATURE_PV_EOI;
}

void eoi_set_up(struct cpu *cpu)
{
    if (guest_option_is("eoi", "pv") && offered())
        wrmsr(MSR_KVM_PV_EOI, (u64)&cpu->eoi_flag | ENABLE);
}

void apic_eoi(void)
{
    struct cpu *cpu = this_cpu();

    if (__atomic_fetch_and(&cpu->eoi_flag, 0, __ATOMIC_RELAXED) & 1)
        cpu->spared++;
    else
        apic_write(LAPIC_EOI, 0);
}

static volatile u64 highs, lows, seen_in_service;
static volatile bool nests, ended;

static void on_high(struct interrupt_frame *frame)
{
    (void)frame;
    highs++;
    ended = false;
    if (nests)
        apic_send(0, ICR_SELF | VECTOR_LOW);
    interrupts_on();
    pause();
    interrupts_off();
    ended = true;
    apic_eoi();
    seen_in_service = apic_read(LAPIC_ISR + VECTOR_HIGH / 32 * ISR_BYTES) >> VECTOR_HIGH % 32 & 1;
}

static void on_low(struct interrupt_frame *frame)
{
    (void)frame;
    if (!ended)
        fail("interrupt before the end of one above it", VECTOR_LOW, VECTOR_HIGH);
    lows++;
    apic_eoi();
}

static void raise_high(const char *what, u64 spared)
{
    struct cpu *cpu = this_cpu();
    u64 before = cpu->spared, highs_before = highs, start = rdtsc();

    interrupts_on();
    apic_send(0, ICR_SELF | VECTOR_HIGH);
    while (highs == highs_before || (nests && lows == highs_before)) {
        pause();
        check_patience(what, start);
    }
    interrupts_off();
    if (cpu->spared - before != spared)
        fail(what, cpu->spared - before, spared);
    if (seen_in_service)
        fail("in service behind its end", VECTOR_HIGH, 0);
}

void mode_eoi(void)
{
    struct cpu *cpu = this_cpu();
    u64 each = offered() && guest_option_is("eoi", "pv");

    guest_set_handler(VECTOR_HIGH, on_high);
    guest_set_handler(VECTOR_LOW, on_low);
    raise_high("EOIs spared", each);
    raise_high("EOIs spared again", each);
    lows = highs;
    nests = true;
    raise_high("EOIs spared with another interrupt behind", each); /* that one's own */
    nests = false;
    guest_print("eoi: offered=%u refused=%u spared=%u\n", (u64)offered(),
                (u64)(try_wrmsr(MSR_KVM_PV_EOI, BAD_ADDRESS) == VECTOR_GP), cpu->spared);
    if (offered())
        wrmsr(MSR_KVM_PV_EOI, 0);
    raise_high("EOIs spared when it is off", 0);
}
