/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "drivers/lapic.h"

#include "drivers/cpu.h"
#include "lib/arith.h"
#include "mm/host_space.h"

/* SDM volume 3, tables "Local APIC Register Address Map" and "Local APIC Register Address Map
 * Supported by x2APIC": offset N is MSR 800h + N / 16. */
enum apic_register {
    APIC_ID = 0x020,
    APIC_VERSION = 0x030,
    APIC_TPR = 0x080,
    APIC_EOI = 0x0B0,
    APIC_SVR = 0x0F0,
    APIC_ISR = 0x100,
    APIC_ESR = 0x280,
    APIC_LVT_CMCI = 0x2F0,
    APIC_ICR_LOW = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_LVT_THERMAL = 0x330,
    APIC_LVT_PERFORMANCE = 0x340,
    APIC_LVT_LINT0 = 0x350,
    APIC_LVT_LINT1 = 0x360,
    APIC_LVT_ERROR = 0x370,
    APIC_TIMER_INITIAL = 0x380,
    APIC_TIMER_CURRENT = 0x390,
    APIC_TIMER_DIVIDE = 0x3E0,
};

enum apic_msr {
    MSR_APIC_BASE = 0x1B,
    MSR_TSC_DEADLINE = 0x6E0,
    MSR_X2APIC_FIRST = 0x800,
};

#define APIC_BASE_BSP     BIT(8)
#define APIC_BASE_EXTD    BIT(10)
#define APIC_BASE_ENABLE  BIT(11)
#define APIC_BASE_ADDRESS 0x000FFFFFFFFFF000ULL

#define ICR_PENDING        BIT(12)
#define ICR_ASSERT         BIT(14)
#define ICR_DELIVERY(kind) ((u32)(kind) << 8)
#define ICR_PENDING_READS  100000

#define SVR_ENABLE           BIT(8)
#define LVT_MASKED           BIT(16)
#define LVT_NMI              (4U << 8)
#define LVT_TSC_DEADLINE     (2U << 17)
#define VERSION_MAX_LVT(v)   ((v) >> 16 & 0xFF)
#define MAX_LVT_THERMAL      5
#define MAX_LVT_CMCI         6
#define DIVIDE_BY_4          0x1
#define XAPIC_ID_SHIFT       24
#define XAPIC_ID_MAX         254
#define APIC_SIZE            4096
#define VECTORS_PER_REGISTER 32
#define ISR_REGISTERS        8

#define CPUID_FEATURES          1
#define CPUID_EDX_APIC          BIT(9)
#define CPUID_ECX_X2APIC        BIT(21)
#define CPUID_ECX_TSC_DEADLINE  BIT(24)
#define CALIBRATIONS_PER_SECOND 2000 /* one takes this part of a second */

static struct {
    volatile u32 *registers; /* NULL in x2APIC mode */
    bool x2apic;
    bool deadline;     /* the timer is in TSC-deadline mode */
    u64 measured_tsc;  /* TSC ticks in which the timer made ... */
    u64 measured_apic; /* ... so many of its own */
} host;

static u32 apic_read(enum apic_register which)
{
    if (host.x2apic)
        return (u32)rdmsr(MSR_X2APIC_FIRST + which / 16);
    return host.registers[which / sizeof(u32)];
}

static void apic_write(enum apic_register which, u32 value)
{
    if (host.x2apic)
        wrmsr(MSR_X2APIC_FIRST + which / 16, value);
    else
        host.registers[which / sizeof(u32)] = value;
}

bool host_lapic_init(u32 highest_apic_id)
{
    struct cpuid_result features = cpuid(CPUID_FEATURES, 0);
    u64 base;

    if ((features.edx & CPUID_EDX_APIC) == 0)
        return false;
    base = rdmsr(MSR_APIC_BASE);
    host.deadline = (features.ecx & CPUID_ECX_TSC_DEADLINE) != 0;
    host.x2apic = (features.ecx & CPUID_ECX_X2APIC) != 0 &&
                  ((base & APIC_BASE_EXTD) != 0 || highest_apic_id > XAPIC_ID_MAX);
    if (host.x2apic)
        return true;
    host.registers = mmio_map(base & APIC_BASE_ADDRESS, APIC_SIZE, MMIO_UNCACHED);
    return host.registers != NULL;
}

/* SDM volume 3, "x2APIC State Transitions": x2APIC mode is entered from xAPIC mode and left by
 * way of the disabled state. */
static void enter_mode(void)
{
    u64 base = rdmsr(MSR_APIC_BASE);

    if (!host.x2apic && (base & APIC_BASE_EXTD) != 0) {
        base &= ~(APIC_BASE_EXTD | APIC_BASE_ENABLE);
        wrmsr(MSR_APIC_BASE, base);
    }
    if ((base & APIC_BASE_ENABLE) == 0) {
        base |= APIC_BASE_ENABLE;
        wrmsr(MSR_APIC_BASE, base);
    }
    if (host.x2apic && (base & APIC_BASE_EXTD) == 0)
        wrmsr(MSR_APIC_BASE, base | APIC_BASE_EXTD);
}

static void mask_unused_sources(void)
{
    bool boot_cpu = (rdmsr(MSR_APIC_BASE) & APIC_BASE_BSP) != 0;
    u32 max_lvt = VERSION_MAX_LVT(apic_read(APIC_VERSION));

    apic_write(APIC_LVT_LINT0, LVT_MASKED);
    apic_write(APIC_LVT_LINT1, LVT_NMI | (boot_cpu ? 0 : LVT_MASKED));
    apic_write(APIC_LVT_PERFORMANCE, LVT_MASKED);
    if (max_lvt >= MAX_LVT_THERMAL)
        apic_write(APIC_LVT_THERMAL, LVT_MASKED);
    if (max_lvt >= MAX_LVT_CMCI)
        apic_write(APIC_LVT_CMCI, LVT_MASKED);
}

/* What firmware took and never finished would hold back all of lower priority. */
static void finish_leftovers(void)
{
    for (u32 i = 0; i < ISR_REGISTERS; i++) {
        u32 in_service = apic_read(APIC_ISR + i * 16);

        for (u32 bit = 0; bit < VECTORS_PER_REGISTER; bit++) {
            if ((in_service & BIT(bit)) != 0)
                host_lapic_eoi();
        }
    }
}

void host_lapic_enable(const struct host_lapic_vectors *vectors)
{
    enter_mode();
    apic_write(APIC_SVR, SVR_ENABLE | vectors->spurious);
    mask_unused_sources();
    apic_write(APIC_TPR, 0);
    finish_leftovers();
    host_lapic_errors();
    apic_write(APIC_LVT_ERROR, vectors->error);
    apic_write(APIC_TIMER_INITIAL, 0);
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_4);
    apic_write(APIC_LVT_TIMER, vectors->timer | (host.deadline ? LVT_TSC_DEADLINE : 0));
    /* In xAPIC mode a write of the deadline could overtake that of the LVT (SDM volume 3,
     * "TSC-Deadline Mode"). */
    __asm__ volatile("mfence" ::: "memory");
}

bool host_lapic_is_x2apic(void)
{
    return host.x2apic;
}

u32 host_lapic_id(void)
{
    u32 id = apic_read(APIC_ID);

    return host.x2apic ? id : id >> XAPIC_ID_SHIFT;
}

void host_lapic_eoi(void)
{
    apic_write(APIC_EOI, 0);
}

static bool wait_until_sent(void)
{
    for (u32 reads = 0; reads < ICR_PENDING_READS; reads++) {
        if ((apic_read(APIC_ICR_LOW) & ICR_PENDING) == 0)
            return true;
        cpu_pause();
    }
    return false;
}

bool host_lapic_send_ipi(u32 apic_id, enum host_ipi kind, u8 vector)
{
    u32 low = (u32)ICR_ASSERT | ICR_DELIVERY(kind) | vector;

    if (host.x2apic) {
        /* Memory that the receiver will read must be written first: a WRMSR here does not wait
         * for stores (SDM volume 3, "MSR Access in x2APIC Mode"). */
        __asm__ volatile("mfence; lfence" ::: "memory");
        wrmsr(MSR_X2APIC_FIRST + APIC_ICR_LOW / 16, (u64)apic_id << 32 | low);
        return true;
    }
    if (apic_id > XAPIC_ID_MAX || !wait_until_sent())
        return false;
    apic_write(APIC_ICR_HIGH, apic_id << XAPIC_ID_SHIFT);
    apic_write(APIC_ICR_LOW, low);
    return true;
}

/* ESR shows what was collected up to the last write to it. */
u32 host_lapic_errors(void)
{
    apic_write(APIC_ESR, 0);
    return apic_read(APIC_ESR);
}

bool host_lapic_timer_init(u64 tsc_hz)
{
    u32 lvt = apic_read(APIC_LVT_TIMER);
    u64 start;

    if (host.deadline)
        return true;
    apic_write(APIC_LVT_TIMER, lvt | (u32)LVT_MASKED);
    apic_write(APIC_TIMER_INITIAL, UINT32_MAX);
    start = rdtsc_ordered();
    while (rdtsc_ordered() - start < tsc_hz / CALIBRATIONS_PER_SECOND)
        cpu_pause();
    host.measured_apic = UINT32_MAX - apic_read(APIC_TIMER_CURRENT);
    host.measured_tsc = rdtsc_ordered() - start;
    apic_write(APIC_TIMER_INITIAL, 0);
    apic_write(APIC_LVT_TIMER, lvt);
    return host.measured_apic != 0;
}

bool host_lapic_timer_is_deadline(void)
{
    return host.deadline;
}

void host_lapic_timer_arm(u64 tsc_deadline)
{
    u64 now, count;

    if (host.deadline) {
        wrmsr(MSR_TSC_DEADLINE, MAX(tsc_deadline, 1));
        return;
    }
    now = rdtsc();
    count = tsc_deadline <= now
                ? 0
                : mul_div(tsc_deadline - now, host.measured_apic, host.measured_tsc);
    apic_write(APIC_TIMER_INITIAL, (u32)MIN(count, UINT32_MAX - 1) + 1);
}

void host_lapic_timer_disarm(void)
{
    if (host.deadline)
        wrmsr(MSR_TSC_DEADLINE, 0);
    else
        apic_write(APIC_TIMER_INITIAL, 0);
}
