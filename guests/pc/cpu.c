/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "pc/pc.h"

#define UNKNOWN_MSR       0x4321
#define HYPERVISOR_LEAF   0x40000000
#define TSC_KHZ_LEAF      0x40000010
#define CPUID1_MONITOR    (1u << 3)
#define CPUID1_VMX        (1u << 5)
#define CPUID1_XSAVE      (1u << 26)
#define CPUID1_OSXSAVE    (1u << 27)
#define CPUID1_HYPERVISOR (1u << 31)
#define CR4_OSXSAVE       (1 << 18)
#define RFLAGS_TF         (1 << 8)
#define DR6_BS            (1 << 14)
#define MODES_BASE        0x9000
#define AP_BASE           0x8000
#define ICR_INIT          0x4500
#define ICR_STARTUP       0x4600
#define MADT_ENTRIES      44
#define MADT_LAPIC        0

extern char modes_start[], modes_end[], modes_result[], ap_start[], ap_end[], ap_result[];

static volatile u64 exceptions_seen;
static volatile u64 last_address;

void test_acpi(const char *part)
{
    struct acpi acpi;

    EXPECT(acpi_find(&acpi), 0);
    EXPECT(acpi.pm_timer != 0, acpi.pm_timer);
    EXPECT(acpi.pm1a_control != 0, acpi.pm1a_control);
}

void test_cpuid(const char *part)
{
    struct cpuid one = cpuid(1, 0), hypervisor = cpuid(HYPERVISOR_LEAF, 0);

    EXPECT(one.ecx & CPUID1_HYPERVISOR, one.ecx);
    EXPECT(!(one.ecx & CPUID1_VMX), one.ecx);
    EXPECT(!(one.ecx & CPUID1_MONITOR), one.ecx);
    EXPECT(one.ebx >> 24 == 0, one.ebx);
    EXPECT(cpuid(0, 0).eax < 0xA || (cpuid(0xA, 0).eax & 0xFF) == 0, cpuid(0xA, 0).eax);
    EXPECT(hypervisor.eax >= TSC_KHZ_LEAF && hypervisor.eax < HYPERVISOR_LEAF + 0x100,
           hypervisor.eax);
    EXPECT(hypervisor.ebx && hypervisor.ecx && hypervisor.edx, hypervisor.ebx);
    u64 told = cpuid(TSC_KHZ_LEAF, 0).eax * 1000ULL, measured = tsc_hz();
    EXPECT(told / 50 > (told > measured ? told - measured : measured - told), told);
}

/* CPUID shows whether CR4.OSXSAVE is set now. */
void test_osxsave(const char *part)
{
    if (!(cpuid(1, 0).ecx & CPUID1_XSAVE))
        return;
    u64 cr4 = read_cr4();
    write_cr4(cr4 & ~(u64)CR4_OSXSAVE);
    u32 off = cpuid(1, 0).ecx;
    write_cr4(cr4 | CR4_OSXSAVE);
    u32 on = cpuid(1, 0).ecx;
    write_cr4(cr4);
    EXPECT(!(off & CPUID1_OSXSAVE), off);
    EXPECT(on & CPUID1_OSXSAVE, on);
}

void test_unknown_msr(const char *part)
{
    u64 value;
    int vector = try_rdmsr(UNKNOWN_MSR, &value);

    EXPECT(vector == VECTOR_GP, vector);
    vector = try_wrmsr(UNKNOWN_MSR, 0);
    EXPECT(vector == VECTOR_GP, vector);
    vector = try_rdmsr(MSR_APIC_BASE, &value);
    EXPECT(vector == -1, vector);
    vector = try_wrmsr(MSR_APIC_BASE, value | 1);
    EXPECT(vector == VECTOR_GP, vector);
}

static void skip_two_bytes(struct interrupt_frame *frame)
{
    exceptions_seen |= 1ULL << frame->vector;
    frame->rip += 2;
}

static void on_page_fault(struct interrupt_frame *frame)
{
    exceptions_seen |= 1ULL << VECTOR_PF;
    last_address = read_cr2();
    frame->rip = frame->rbx; /* where the access below said that it goes on */
}

static void on_breakpoint(struct interrupt_frame *frame)
{
    (void)frame;
    exceptions_seen |= 1ULL << VECTOR_BP;
}

void test_exceptions(const char *part)
{
    const u64 unmapped = 0x123456789000;

    exceptions_seen = 0;
    guest_set_handler(VECTOR_UD, skip_two_bytes);
    guest_set_handler(VECTOR_DE, skip_two_bytes);
    guest_set_handler(VECTOR_BP, on_breakpoint);
    guest_set_handler(VECTOR_PF, on_page_fault);
    __asm__ volatile("ud2; int3" : : : "memory");
    __asm__ volatile("divl %2" : : "a"(1), "d"(0), "r"(0) : "memory");
    __asm__ volatile("lea 1f(%%rip), %%rbx; movl (%0), %%eax; 1:"
                     :
                     : "r"(unmapped)
                     : "rax", "rbx", "memory");
    guest_set_handler(VECTOR_UD, NULL);
    guest_set_handler(VECTOR_DE, NULL);
    guest_set_handler(VECTOR_BP, NULL);
    guest_set_handler(VECTOR_PF, NULL);
    EXPECT(exceptions_seen == (1 << VECTOR_UD | 1 << VECTOR_DE | 1 << VECTOR_BP | 1 << VECTOR_PF),
           exceptions_seen);
    EXPECT(last_address == unmapped, last_address);
}

static volatile u64 step_rip;

static void on_debug(struct interrupt_frame *frame)
{
    if (!step_rip)
        step_rip = frame->rip;
    exceptions_seen = read_dr6();
    frame->rflags &= ~(u64)RFLAGS_TF;
}

/* A trap flag set before CPUID, which exits, must trap right behind it. */
void test_single_step(const char *part)
{
    u64 expected;

    step_rip = 0;
    exceptions_seen = 0;
    guest_set_handler(VECTOR_DB, on_debug);
    __asm__ volatile("lea 1f(%%rip), %0; xorl %%eax, %%eax; pushfq; orl $0x100, (%%rsp); popfq;"
                     "cpuid; 1: nop; nop"
                     : "=&r"(expected)
                     :
                     : "rax", "rbx", "rcx", "rdx", "memory");
    guest_set_handler(VECTOR_DB, NULL);
    EXPECT(step_rip == expected, step_rip - expected);
    EXPECT(exceptions_seen & DR6_BS, exceptions_seen);
    write_dr6(0xFFFF0FF0);
}

static void copy_code(u64 to, const char *from, const char *end)
{
    for (volatile char *p = (char *)to; from < end; p++, from++)
        *p = *from;
}

void test_modes(const char *part)
{
    copy_code(MODES_BASE, modes_start, modes_end);
    void (*volatile trip)(void) = (void (*)(void))MODES_BASE;
    trip();
    const volatile u8 *result = (u8 *)(MODES_BASE + (modes_result - modes_start));
    EXPECT(*(u32 *)result == 0x32323232, *(u32 *)result);
    EXPECT(*(u16 *)(result + 4) == 0x1616, *(u16 *)(result + 4));
    EXPECT(*(u16 *)(result + 6) == 1, *(u16 *)(result + 6));
}

/* The APIC ID of the second enabled CPU in the MADT, or -1. */
static int second_cpu(void)
{
    struct acpi acpi;

    if (!acpi_find(&acpi))
        return -1;
    u32 length = *(const u32 *)(acpi.madt + 4), seen = 0;
    for (u32 i = MADT_ENTRIES; i + 8 <= length; i += acpi.madt[i + 1])
        if (acpi.madt[i] == MADT_LAPIC && (acpi.madt[i + 4] & 1) && seen++ == 1)
            return acpi.madt[i + 3];
    return -1;
}

static void send_ipi(u32 apic_id, u32 command)
{
    mmio_write(LAPIC_BASE + LAPIC_ICR_HIGH, apic_id << 24);
    mmio_write(LAPIC_BASE + LAPIC_ICR_LOW, command);
    delay_ms(10);
}

void test_smp(const char *part)
{
    int id = second_cpu();

    if (id < 0)
        return;
    copy_code(AP_BASE, ap_start, ap_end);
    volatile u8 *result = (u8 *)(AP_BASE + (ap_result - ap_start));
    send_ipi((u32)id, ICR_INIT);
    send_ipi((u32)id, ICR_STARTUP | AP_BASE >> 12);
    for (u32 i = 0; i < 200 && !*(volatile u16 *)(result + 6); i++)
        delay_ms(1);
    EXPECT(*(volatile u16 *)(result + 6) == 1, *(volatile u16 *)(result + 6));
    EXPECT(*(volatile u32 *)result == (u32)id, *(volatile u32 *)result);
    EXPECT(*(volatile u16 *)(result + 4) == AP_BASE >> 4, *(volatile u16 *)(result + 4));
    send_ipi((u32)id, ICR_INIT);
    *(volatile u16 *)(result + 6) = 0;
    send_ipi((u32)id, ICR_STARTUP | AP_BASE >> 12);
    for (u32 i = 0; i < 200 && !*(volatile u16 *)(result + 6); i++)
        delay_ms(1);
    EXPECT(*(volatile u16 *)(result + 6) == 1, *(volatile u16 *)(result + 6));
}
