/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* Local APIC and IOAPIC. */
#include "pc/pc.h"

#define IOAPIC_SELECT      0xFEC00000UL
#define IOAPIC_WINDOW      0xFEC00010UL
#define IOAPIC_VERSION     1
#define IOAPIC_PIN(pin)    (0x10 + 2 * (pin))
#define PIT_PIN            2
#define MSR_TSC_DEADLINE   0x6E0
#define MSR_X2APIC_ID      0x802
#define MSR_X2APIC_VERSION 0x803
#define MSR_X2APIC_EOI     0x80B
#define MSR_X2APIC_SVR     0x80F
#define MSR_X2APIC_SELF    0x83F
#define CPUID1_X2APIC      (1u << 21)
#define CPUID1_DEADLINE    (1u << 24)
#define SVR_ENABLE         0x1FF
#define ICR_SELF           0x40000
#define ICR_NMI_SELF       0x400
#define DIVIDE_BY_1        0xB
#define LVT_PERIODIC       (1 << 17)
#define LVT_DEADLINE       (2 << 17)
#define TEST_VECTOR        0x51

static volatile u64 interrupts;

static void on_interrupt(struct interrupt_frame *frame)
{
    (void)frame;
    interrupts++;
    mmio_write(LAPIC_BASE + LAPIC_EOI, 0);
}

static u32 ioapic_read(u8 index)
{
    mmio_write(IOAPIC_SELECT, index);
    return mmio_read(IOAPIC_WINDOW);
}

static void ioapic_write(u8 index, u32 value)
{
    mmio_write(IOAPIC_SELECT, index);
    mmio_write(IOAPIC_WINDOW, value);
}

void test_ioapic(const char *part)
{
    u32 version = ioapic_read(IOAPIC_VERSION);

    EXPECT((version >> 16 & 0xFF) >= 23, version);
    ioapic_write(IOAPIC_PIN(7), LVT_MASKED | 0x77);
    u32 entry = ioapic_read(IOAPIC_PIN(7));
    EXPECT(entry == (LVT_MASKED | 0x77), entry);

    interrupts = 0;
    guest_set_handler(TEST_VECTOR, on_interrupt);
    ioapic_write(IOAPIC_PIN(PIT_PIN) + 1, mmio_read(LAPIC_BASE + LAPIC_ID));
    ioapic_write(IOAPIC_PIN(PIT_PIN), TEST_VECTOR);
    pit_periodic(PIT_HZ / 1000);
    bool came = wait_for(&interrupts, 5, 1000);
    ioapic_write(IOAPIC_PIN(PIT_PIN), LVT_MASKED | TEST_VECTOR);
    EXPECT(came, interrupts);
    interrupts = 0;
    EXPECT(!wait_for(&interrupts, 3, 10), interrupts);
}

void test_lapic(const char *part)
{
    u32 version = mmio_read(LAPIC_BASE + LAPIC_VERSION);
    u64 base = rdmsr(MSR_APIC_BASE);

    EXPECT((base & ~0xFFFULL & 0xFFFFFFFFF) == LAPIC_BASE, base);
    EXPECT(base & APIC_BASE_ENABLE, base);
    EXPECT(base & 1 << 8, base); /* bootstrap processor */
    EXPECT((version & 0xF0) == 0x10, version);

    interrupts = 0;
    guest_set_handler(TEST_VECTOR, on_interrupt);
    mmio_write(LAPIC_BASE + LAPIC_ICR_LOW, ICR_SELF | TEST_VECTOR);
    EXPECT(wait_for(&interrupts, 1, 100), interrupts);

    /* A task priority above the vector's class holds it back. */
    write_cr8(TEST_VECTOR >> 4);
    mmio_write(LAPIC_BASE + LAPIC_ICR_LOW, ICR_SELF | TEST_VECTOR);
    bool too_early = wait_for(&interrupts, 2, 2);
    write_cr8(0);
    EXPECT(!too_early, interrupts);
    EXPECT(wait_for(&interrupts, 2, 100), interrupts);
}

void test_lapic_timer(const char *part)
{
    interrupts = 0;
    guest_set_handler(TEST_VECTOR, on_interrupt);
    mmio_write(LAPIC_BASE + LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
    mmio_write(LAPIC_BASE + LAPIC_LVT_TIMER, LVT_MASKED | TEST_VECTOR);
    mmio_write(LAPIC_BASE + LAPIC_TIMER_INITIAL, 0xFFFFFFFF);
    delay_ms(5);
    u32 in_5ms = 0xFFFFFFFF - mmio_read(LAPIC_BASE + LAPIC_TIMER_CURRENT);
    EXPECT(in_5ms > 1000, in_5ms);

    mmio_write(LAPIC_BASE + LAPIC_LVT_TIMER, TEST_VECTOR);
    mmio_write(LAPIC_BASE + LAPIC_TIMER_INITIAL, in_5ms);
    u64 start = rdtsc();
    EXPECT(wait_for(&interrupts, 1, 500), interrupts);
    u64 microseconds = (rdtsc() - start) * 1000000 / tsc_hz();
    EXPECT(microseconds >= 4500, microseconds);
    EXPECT(mmio_read(LAPIC_BASE + LAPIC_TIMER_CURRENT) == 0, 0);
    EXPECT(!wait_for(&interrupts, 2, 12), interrupts);

    interrupts = 0;
    mmio_write(LAPIC_BASE + LAPIC_LVT_TIMER, LVT_PERIODIC | TEST_VECTOR);
    mmio_write(LAPIC_BASE + LAPIC_TIMER_INITIAL, in_5ms / 5);
    EXPECT(wait_for(&interrupts, 5, 500), interrupts);
    interrupts = 0;
    while (interrupts < 3)
        wait_for_interrupt();
    interrupts_off();
    mmio_write(LAPIC_BASE + LAPIC_TIMER_INITIAL, 0);
    mmio_write(LAPIC_BASE + LAPIC_LVT_TIMER, LVT_MASKED | TEST_VECTOR);
    interrupts = 0;
    EXPECT(!wait_for(&interrupts, 2, 5), interrupts); /* one may have been on its way */
}

void test_tsc_deadline(const char *part)
{
    if (!(cpuid(1, 0).ecx & CPUID1_DEADLINE))
        return;
    interrupts = 0;
    guest_set_handler(TEST_VECTOR, on_interrupt);
    mmio_write(LAPIC_BASE + LAPIC_LVT_TIMER, LVT_DEADLINE | TEST_VECTOR);
    __asm__ volatile("mfence" : : : "memory");
    u64 deadline = rdtsc() + tsc_hz() / 200;
    wrmsr(MSR_TSC_DEADLINE, deadline);
    EXPECT(rdmsr(MSR_TSC_DEADLINE) == deadline, rdmsr(MSR_TSC_DEADLINE));
    while (!interrupts)
        wait_for_interrupt();
    interrupts_off();
    u64 now = rdtsc();
    EXPECT(now >= deadline, deadline - now);
    if (!guest_option("bare")) /* Bochs lets the old deadline stand */
        EXPECT(rdmsr(MSR_TSC_DEADLINE) == 0, rdmsr(MSR_TSC_DEADLINE));
    wrmsr(MSR_TSC_DEADLINE, rdtsc() - 1); /* in the past: at once */
    EXPECT(wait_for(&interrupts, 2, 100), interrupts);
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + tsc_hz() / 500);
    wrmsr(MSR_TSC_DEADLINE, 0); /* disarmed */
    EXPECT(!wait_for(&interrupts, 3, 10), interrupts);
    mmio_write(LAPIC_BASE + LAPIC_LVT_TIMER, LVT_MASKED | TEST_VECTOR);
}

static volatile u64 nmis;

static void on_nmi(struct interrupt_frame *frame)
{
    (void)frame;
    nmis++;
}

/* An NMI comes with interrupts off too. */
void test_nmi(const char *part)
{
    nmis = 0;
    guest_set_handler(VECTOR_NMI, on_nmi);
    mmio_write(LAPIC_BASE + LAPIC_ICR_HIGH, mmio_read(LAPIC_BASE + LAPIC_ID));
    mmio_write(LAPIC_BASE + LAPIC_ICR_LOW, ICR_NMI_SELF);
    for (u32 i = 0; i < 100 && !nmis; i++)
        delay_ms(1);
    EXPECT(nmis == 1, nmis);
    mmio_write(LAPIC_BASE + LAPIC_ICR_LOW, ICR_NMI_SELF);
    for (u32 i = 0; i < 100 && nmis < 2; i++)
        delay_ms(1);
    EXPECT(nmis == 2, nmis);
}

static void on_x2apic(struct interrupt_frame *frame)
{
    (void)frame;
    interrupts++;
    wrmsr(MSR_X2APIC_EOI, 0);
}

void test_x2apic(const char *part)
{
    u64 base = rdmsr(MSR_APIC_BASE), value;

    if (!(cpuid(1, 0).ecx & CPUID1_X2APIC))
        return;
    u32 id = mmio_read(LAPIC_BASE + LAPIC_ID) >> 24;
    int vector = try_rdmsr(MSR_X2APIC_ID, &value);
    EXPECT(vector == VECTOR_GP, vector);
    wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
    EXPECT(rdmsr(MSR_X2APIC_ID) == id, rdmsr(MSR_X2APIC_ID));
    EXPECT((rdmsr(MSR_X2APIC_VERSION) & 0xF0) == 0x10, rdmsr(MSR_X2APIC_VERSION));
    vector = try_wrmsr(MSR_X2APIC_ID, 0);
    EXPECT(vector == VECTOR_GP, vector);

    interrupts = 0;
    guest_set_handler(TEST_VECTOR, on_x2apic);
    wrmsr(MSR_X2APIC_SVR, SVR_ENABLE);
    wrmsr(MSR_X2APIC_SELF, TEST_VECTOR);
    EXPECT(wait_for(&interrupts, 1, 100), interrupts);
    wrmsr(MSR_X2APIC_SELF, TEST_VECTOR);
    EXPECT(wait_for(&interrupts, 2, 100), interrupts);

    /* From x2APIC to xAPIC the way leads through disabled. */
    vector = try_wrmsr(MSR_APIC_BASE, base);
    EXPECT(vector == VECTOR_GP, vector);
    wrmsr(MSR_APIC_BASE, base & ~(u64)APIC_BASE_ENABLE);
    wrmsr(MSR_APIC_BASE, base);
    pic_init();
    if (!guest_option("bare")) /* Bochs does not map it again */
        EXPECT(mmio_read(LAPIC_BASE + LAPIC_ID) >> 24 == id, mmio_read(LAPIC_BASE + LAPIC_ID));
}
