/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/lapic_device.h"
#include "tests/unit/device_fixture.h"

#define BASE 0xFEE00000ULL

enum {
    MODE_NMI = 4 << 8,
    MODE_INIT = 5 << 8,
    MODE_SIPI = 6 << 8,
    MODE_EXTINT = 7 << 8,
    MODE_LOWEST = 1 << 8,
    LOGICAL = 1 << 11,
    ASSERT = 1 << 14,
    LEVEL = 1 << 15,
    MASKED = 1 << 16,
    PERIODIC = 1 << 17,
    TSC_DEADLINE = 2 << 17,
    TO_SELF = 1 << 18,
    TO_ALL = 2 << 18,
    TO_OTHERS = 3 << 18,
    DIVIDE_BY_1 = 0xB,
    DIVIDE_BY_16 = 0x3,
};

static u32 apic_read(u32 offset)
{
    return mmio_read(BASE + offset);
}

static void apic_write(u32 offset, u32 value)
{
    mmio_write(BASE + offset, value);
}

static struct lapic *lapic(u32 cpu)
{
    return &f.machine->lapics[cpu];
}

static int pending(u32 cpu)
{
    return lapic_pending_vector(lapic(cpu));
}

/* All APICs enabled by software, as every OS does it. */
static int setup(void **state)
{
    fixture_setup(state);
    for (f.cpu = 0; f.cpu < FIXTURE_CPUS; f.cpu++)
        apic_write(LAPIC_SVR, 0x1FF);
    f.cpu = 0;
    return 0;
}

static void x2apic_all(void)
{
    for (f.cpu = 0; f.cpu < FIXTURE_CPUS; f.cpu++)
        assert_true(wrmsr(MSR_IA32_APIC_BASE, BASE | 0xC00));
    f.cpu = 0;
}

static void ipi(u32 low, u32 destination)
{
    apic_write(LAPIC_ICR_HIGH, destination << 24);
    apic_write(LAPIC_ICR_LOW, low);
}

/* Bit N: `vector` is in vCPU N's IRR; takes it away there. */
static u32 received(u8 vector)
{
    u32 cpus = 0;

    for (u32 i = 0; i < FIXTURE_CPUS; i++) {
        u32 *word = &lapic(i)->registers[(LAPIC_IRR >> 4) + vector / 32].value;

        if (*word & 1U << vector % 32)
            cpus |= 1 << i;
        *word &= ~(1U << vector % 32);
    }
    return cpus;
}

#define LAPIC_TEST(function) cmocka_unit_test_setup_teardown(function, setup, fixture_teardown)

/* ---- power-on and modes */

static void test_power_on(void **state)
{
    u64 value;

    f.cpu = 1;
    assert_int_equal(apic_read(LAPIC_ID), 0x01000000);
    assert_int_equal(apic_read(LAPIC_VERSION), 0x00050014);
    assert_int_equal(apic_read(LAPIC_SVR), 0xFF);
    assert_int_equal(apic_read(LAPIC_DFR), 0xFFFFFFFF);
    for (u32 lvt = LAPIC_LVT_TIMER; lvt <= LAPIC_LVT_ERROR; lvt += 16)
        assert_int_equal(apic_read(lvt), 0x10000);
    assert_true(rdmsr(MSR_IA32_APIC_BASE, &value));
    assert_int_equal(value, 0xFEE00800);
    assert_true(lapic(1)->wait_for_sipi);
    assert_false(lapic_takes_extint(lapic(1)));

    f.cpu = 0; /* what firmware leaves on the boot processor */
    assert_int_equal(apic_read(LAPIC_SVR), 0x1FF);
    assert_int_equal(apic_read(LAPIC_LVT_LINT0), 0x700);
    assert_int_equal(apic_read(LAPIC_LVT_LINT1), 0x400);
    assert_true(rdmsr(MSR_IA32_APIC_BASE, &value));
    assert_int_equal(value, 0xFEE00900);
    assert_false(lapic(0)->wait_for_sipi);
    assert_true(lapic_takes_extint(lapic(0)));
    assert_int_equal(machine_deadline(f.machine, 1), DEADLINE_NONE);
}

static void test_mode_transitions(void **state)
{
    static const struct {
        u64 to;
        bool legal;
    } steps[] = {
        {0x400, false}, /* EXTD without EN */
        {0x800, true },
        {0xC00, true },
        {0x800, false},
        {0x400, false},
        {0xC00, true },
        {0x000, true },
        {0x000, true },
        {0xC00, false},
        {0x400, false},
        {0x800, true },
        {0x000, true },
    };
    u64 value;

    for (u32 i = 0; i < ARRAY_SIZE(steps); i++)
        assert_int_equal(wrmsr(MSR_IA32_APIC_BASE, BASE | steps[i].to), steps[i].legal);
    assert_true(rdmsr(MSR_IA32_APIC_BASE, &value));
    assert_int_equal(value, BASE | 0x100); /* the BSP flag is not lost */
    assert_false(wrmsr(MSR_IA32_APIC_BASE, BASE | 0xA00));
    assert_false(wrmsr(MSR_IA32_APIC_BASE, BASE | 0x801));
    assert_false(wrmsr(MSR_IA32_APIC_BASE, BASE | 0x800 | BIT(52)));
}

static void test_disabling_resets(void **state)
{
    apic_write(LAPIC_TPR, 0x20);
    apic_write(LAPIC_LVT_TIMER, PERIODIC | 0x40);
    apic_write(LAPIC_TIMER_INITIAL, 1000);
    assert_true(wrmsr(MSR_IA32_APIC_BASE, BASE));
    assert_false(lapic_is_enabled(lapic(0)));
    assert_true(lapic_takes_extint(lapic(0)));
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
    assert_true(wrmsr(MSR_IA32_APIC_BASE, BASE | 0x800));
    assert_int_equal(apic_read(LAPIC_TPR), 0);
    assert_int_equal(apic_read(LAPIC_SVR), 0xFF);
    assert_int_equal(apic_read(LAPIC_ID), 0);
}

static void test_page_moves_and_hides(void **state)
{
    u64 value = 0;

    assert_true(wrmsr(MSR_IA32_APIC_BASE, 0xFED00000 | 0x800));
    assert_int_equal(mmio_read(0xFED00030), 0x00050014);
    assert_false(access_space(SPACE_MEMORY, BASE + 0x30, 4, false, &value));
    assert_int_equal(value, 0xFFFFFFFF);
    assert_true(wrmsr(MSR_IA32_APIC_BASE, 0xFED00000 | 0xC00));
    assert_false(access_space(SPACE_MEMORY, 0xFED00030, 4, false, &value));
}

static void test_x2apic_registers(void **state)
{
    u64 value;

    assert_false(rdmsr(0x802, &value)); /* not in xAPIC mode */
    assert_false(wrmsr(0x808, 0));
    x2apic_all();
    f.cpu = 3;
    assert_true(rdmsr(0x802, &value));
    assert_int_equal(value, 3);
    assert_true(rdmsr(0x80D, &value));
    assert_int_equal(value, 0x00008); /* cluster 0, bit 3 */
    assert_true(wrmsr(0x808, 0x30));
    assert_true(rdmsr(0x80A, &value));
    assert_int_equal(value, 0x30);
    assert_true(wrmsr(0x80B, 0));
    assert_true(wrmsr(0x828, 0));
    assert_true(wrmsr(0x832, 0x310FF & ~0x10000));
    assert_true(rdmsr(0x832, &value));
    assert_int_equal(value, 0x200FF); /* delivery status is read-only */
}

static void test_x2apic_faults(void **state)
{
    static const struct {
        u32 msr;
        u64 value;
    } bad[] = {
        {0x802, 0      },
        {0x803, 0      },
        {0x80A, 0      },
        {0x80D, 0      },
        {0x80E, 0      },
        {0x831, 0      },
        {0x839, 0      },
        {0x80B, 1      },
        {0x828, 1      },
        {0x808, 0x100  },
        {0x808, BIT(32)},
        {0x83E, 0x10   },
        {0x832, BIT(19)},
        {0x835, BIT(17)},
        {0x837, 0x100  },
        {0x830, BIT(13)},
        {0x830, BIT(16)},
        {0x830, BIT(20)},
        {0x83F, 0x100  },
        {0x82F, 0      },
        {0x840, 0      },
        {0x8FF, 0      },
        {0x80F, BIT(12)},
        {0x838, BIT(32)},
    };
    static const u32 unreadable[] = {0x800, 0x80B, 0x80E, 0x831, 0x83F, 0x82F, 0x840, 0x8FF, 0x809};
    u64 value;

    x2apic_all();
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(wrmsr(bad[i].msr, bad[i].value));
    for (u32 i = 0; i < ARRAY_SIZE(unreadable); i++)
        assert_false(rdmsr(unreadable[i], &value));
    assert_false(rdmsr(0x10, &value));
    assert_false(wrmsr(0x900, 0));
}

static void test_mmio_access_rules(void **state)
{
    u64 value = 0x12;

    apic_write(LAPIC_LDR, 0xFFFFFFFF);
    assert_int_equal(apic_read(LAPIC_LDR), 0xFF000000);
    apic_write(LAPIC_DFR, 0);
    assert_int_equal(apic_read(LAPIC_DFR), 0x0FFFFFFF);
    apic_write(LAPIC_ID, 0x55000000);
    assert_int_equal(apic_read(LAPIC_ID), 0);
    apic_write(LAPIC_TPR, 0xFFFFFF42);
    assert_int_equal(apic_read(LAPIC_TPR), 0x42);
    assert_true(access_space(SPACE_MEMORY, BASE + LAPIC_TPR, 1, true, &value));
    assert_int_equal(apic_read(LAPIC_TPR), 0x42); /* only 32 bits write */
    value = 0x12;
    assert_true(access_space(SPACE_MEMORY, BASE + LAPIC_TPR + 4, 4, true, &value));
    assert_int_equal(apic_read(LAPIC_TPR), 0x42);
    assert_true(access_space(SPACE_MEMORY, BASE + LAPIC_VERSION + 2, 1, false, &value));
    assert_int_equal(value, 0x05);
    assert_int_equal(apic_read(LAPIC_VERSION + 4), 0);
    assert_int_equal(apic_read(LAPIC_VERSION + 8), 0);
    assert_int_equal(apic_read(LAPIC_EOI), 0);
    /* A reserved register is an error of its own. */
    apic_write(LAPIC_ESR, 0);
    assert_int_equal(apic_read(LAPIC_ESR), 0);
    apic_read(0x3F0);
    apic_write(LAPIC_ESR, 0);
    assert_int_equal(apic_read(LAPIC_ESR), 0x80);
    apic_write(0x2F0, 0);
    apic_write(LAPIC_ESR, 0);
    assert_int_equal(apic_read(LAPIC_ESR), 0x80);
    apic_write(LAPIC_ESR, 0);
    assert_int_equal(apic_read(LAPIC_ESR), 0);
    assert_int_equal(apic_read(0xFF0), 0);
}

/* ---- priorities */

static void test_priority_and_eoi(void **state)
{
    ipi(TO_SELF | 0x41, 0);
    ipi(TO_SELF | 0x45, 0);
    ipi(TO_SELF | 0x81, 0);
    assert_int_equal(lapic_highest_irr(lapic(0)), 0x81);
    assert_int_equal(pending(0), 0x81);
    lapic_accept(lapic(0), 0x81);
    assert_int_equal(lapic_highest_isr(lapic(0)), 0x81);
    assert_int_equal(apic_read(LAPIC_PPR), 0x80);
    assert_int_equal(lapic_read(lapic(0), LAPIC_PPR), 0x80); /* where hardware looks */
    assert_int_equal(pending(0), -1);
    apic_write(LAPIC_EOI, 0);
    assert_int_equal(apic_read(LAPIC_PPR), 0);
    assert_int_equal(pending(0), 0x45);
    lapic_accept(lapic(0), 0x45);
    assert_int_equal(pending(0), -1); /* 41h is of the same class */
    ipi(TO_SELF | 0x52, 0);
    assert_int_equal(pending(0), 0x52);
    lapic_accept(lapic(0), 0x52);
    apic_write(LAPIC_EOI, 0); /* ends 52h, the highest */
    assert_int_equal(lapic_highest_isr(lapic(0)), 0x45);
    apic_write(LAPIC_EOI, 0);
    assert_int_equal(pending(0), 0x41);
    apic_write(LAPIC_EOI, 0); /* nothing in service: no effect */
    assert_int_equal(pending(0), 0x41);
}

static void test_task_priority(void **state)
{
    ipi(TO_SELF | 0x41, 0);
    apic_write(LAPIC_TPR, 0x40);
    assert_int_equal(pending(0), -1);
    assert_int_equal(apic_read(LAPIC_PPR), 0x40);
    apic_write(LAPIC_TPR, 0x3F);
    assert_int_equal(pending(0), 0x41);
    lapic_accept(lapic(0), 0x41);
    assert_int_equal(apic_read(LAPIC_PPR), 0x40);
    apic_write(LAPIC_TPR, 0x4F); /* the same class: the sub-class is TPR's */
    assert_int_equal(apic_read(LAPIC_PPR), 0x4F);
}

static void test_irr_is_readable(void **state)
{
    ipi(TO_SELF | 0xFE, 0);
    ipi(TO_SELF | 0x10, 0);
    assert_int_equal(apic_read(LAPIC_IRR + 0x70), 0x40000000);
    assert_int_equal(apic_read(LAPIC_IRR + 0x00), 0x00010000);
    assert_int_equal(f.kicks[0], 2);
    ipi(TO_SELF | 0x10, 0); /* pending already */
    assert_int_equal(f.kicks[0], 2);
}

static void test_software_disable(void **state)
{
    apic_write(LAPIC_LVT_TIMER, 0x40);
    ipi(TO_SELF | 0x41, 0);
    apic_write(LAPIC_SVR, 0xFF);
    assert_int_equal(apic_read(LAPIC_LVT_TIMER), 0x10040);
    assert_int_equal(apic_read(LAPIC_LVT_LINT0), 0x10700);
    apic_write(LAPIC_LVT_TIMER, 0x40);
    assert_int_equal(apic_read(LAPIC_LVT_TIMER), 0x10040); /* the mask stays while disabled */
    apic_write(LAPIC_LVT_ERROR, 0x41);
    assert_int_equal(apic_read(LAPIC_LVT_ERROR), 0x10041);
    assert_false(lapic_takes_extint(lapic(0)));
    assert_int_equal(pending(0), 0x41); /* what was there is held */
    f.cpu = 1;
    ipi(0x42, 0);
    ipi(MODE_NMI, 0);
    assert_int_equal(received(0x42), 0);
    assert_int_equal(lapic(0)->events, LAPIC_EVENT_NMI);
    f.cpu = 2;
    assert_true(wrmsr(MSR_IA32_APIC_BASE, BASE)); /* disabled altogether: hears nothing */
    f.cpu = 1;
    ipi(MODE_NMI, 2);
    assert_int_equal(lapic(2)->events, 0);
}

/* ---- interprocessor interrupts */

/* Each kick costs the CPU of the target an exit, whoever runs there. */
static void test_what_is_pending_is_no_news(void **state)
{
    f.kicks[2] = 0;
    for (int i = 0; i < 3; i++)
        ipi(MODE_NMI, 2);
    assert_int_equal(f.kicks[2], 1);
    for (int i = 0; i < 3; i++)
        ipi(MODE_INIT, 2);
    assert_int_equal(f.kicks[2], 2);
    for (int i = 0; i < 3; i++)
        ipi(MODE_SIPI | 0x10, 2);
    assert_int_equal(f.kicks[2], 3);
    assert_int_equal(lapic(2)->events, LAPIC_EVENT_INIT | LAPIC_EVENT_SIPI);
}

static void test_physical_destinations(void **state)
{
    ipi(0x41, 2);
    assert_int_equal(received(0x41), 1 << 2);
    assert_int_equal(f.kicks[2], 1);
    ipi(0x42, 0xFF);
    assert_int_equal(received(0x42), 0xF);
    ipi(0x43, 9);
    assert_int_equal(received(0x43), 0);
    ipi(0x44, 0);
    assert_int_equal(received(0x44), 1);
    assert_int_equal(apic_read(LAPIC_ICR_LOW) & 0x1000, 0); /* idle */
}

static void test_shorthands(void **state)
{
    f.cpu = 1;
    ipi(TO_SELF | 0x41, 3);
    assert_int_equal(received(0x41), 1 << 1);
    ipi(TO_ALL | 0x42, 3);
    assert_int_equal(received(0x42), 0xF);
    ipi(TO_OTHERS | 0x43, 3);
    assert_int_equal(received(0x43), 0xD);
    ipi(TO_OTHERS | MODE_NMI, 0);
    assert_int_equal(lapic(1)->events, 0);
    assert_int_equal(lapic(0)->events, LAPIC_EVENT_NMI);
    assert_int_equal(lapic(3)->events, LAPIC_EVENT_NMI);
    ipi(TO_SELF | MODE_NMI, 0); /* not among the valid combinations */
    ipi(TO_ALL | MODE_INIT, 0);
    assert_int_equal(lapic(1)->events, 0);
    ipi(MODE_EXTINT | 0x50, 2); /* reserved in ICR */
    ipi(2 << 8, 2);             /* SMI: there is no system-management mode */
    assert_int_equal(lapic(2)->events, LAPIC_EVENT_NMI);
}

static void test_logical_flat_and_cluster(void **state)
{
    for (f.cpu = 0; f.cpu < FIXTURE_CPUS; f.cpu++)
        apic_write(LAPIC_LDR, 1U << (24 + f.cpu));
    f.cpu = 0;
    ipi(LOGICAL | 0x41, 0x0A);
    assert_int_equal(received(0x41), 0xA);
    ipi(LOGICAL | 0x42, 0xFF);
    assert_int_equal(received(0x42), 0xF);
    ipi(LOGICAL | 0x42, 0xF0);
    assert_int_equal(received(0x42), 0);

    for (f.cpu = 0; f.cpu < FIXTURE_CPUS; f.cpu++) { /* two clusters of two */
        apic_write(LAPIC_DFR, 0x0FFFFFFF);
        apic_write(LAPIC_LDR, (f.cpu / 2 + 1) << 28 | (1U << f.cpu % 2) << 24);
    }
    f.cpu = 0;
    ipi(LOGICAL | 0x43, 0x23);
    assert_int_equal(received(0x43), 0xC);
    ipi(LOGICAL | 0x44, 0x12);
    assert_int_equal(received(0x44), 0x2);
    ipi(LOGICAL | 0x45, 0xFF);
    assert_int_equal(received(0x45), 0xF);
    ipi(LOGICAL | 0x46, 0x33);
    assert_int_equal(received(0x46), 0);
}

static void test_lowest_priority(void **state)
{
    static const u8 tpr[FIXTURE_CPUS] = {0x40, 0x30, 0x20, 0x50};

    for (f.cpu = 0; f.cpu < FIXTURE_CPUS; f.cpu++) {
        apic_write(LAPIC_LDR, 1U << (24 + f.cpu));
        apic_write(LAPIC_TPR, tpr[f.cpu]);
    }
    f.cpu = 0;
    ipi(LOGICAL | MODE_LOWEST | 0x91, 0x0F);
    assert_int_equal(received(0x91), 1 << 2);
    ipi(LOGICAL | MODE_LOWEST | 0x91, 0x0B);
    assert_int_equal(received(0x91), 1 << 1);
    f.cpu = 2;
    apic_write(LAPIC_SVR, 0xFF);
    ipi(LOGICAL | MODE_LOWEST | 0x91, 0x0C);
    assert_int_equal(received(0x91), 1 << 3);
}

static void test_x2apic_ipis(void **state)
{
    u64 value;

    x2apic_all();
    assert_true(wrmsr(0x830, 3ULL << 32 | 0x41));
    assert_int_equal(received(0x41), 1 << 3);
    assert_true(rdmsr(0x830, &value));
    assert_int_equal(value, 3ULL << 32 | 0x41);
    assert_int_equal(lapic(0)->registers[LAPIC_ICR_LOW >> 4].reserved[0], 3);
    assert_true(wrmsr(MSR_IA32_APIC_BASE, BASE | 0xC00)); /* the same mode: nothing changes */
    assert_true(rdmsr(0x830, &value));
    assert_int_equal(value, 3ULL << 32 | 0x41);
    assert_true(wrmsr(0x830, 0xFFFFFFFFULL << 32 | 0x42));
    assert_int_equal(received(0x42), 0xF);
    assert_true(wrmsr(0x830, 0xFFULL << 32 | 0x43)); /* no broadcast here */
    assert_int_equal(received(0x43), 0);
    assert_true(wrmsr(0x830, 0x6ULL << 32 | LOGICAL | 0x44));
    assert_int_equal(received(0x44), 0x6);
    assert_true(wrmsr(0x830, 0x10006ULL << 32 | LOGICAL | 0x45)); /* another cluster */
    assert_int_equal(received(0x45), 0);
    f.cpu = 2;
    assert_true(wrmsr(0x83F, 0x77));
    assert_int_equal(received(0x77), 1 << 2);
}

/* The sequence of the MP specification, as Linux sends it. */
static void test_init_and_startup(void **state)
{
    f.cpu = 1;
    apic_write(LAPIC_TPR, 0x80);
    apic_write(LAPIC_LVT_TIMER, PERIODIC | 0x40);
    apic_write(LAPIC_TIMER_INITIAL, 1000);
    f.cpu = 0;
    lapic(1)->wait_for_sipi = 0;
    lapic(1)->events = LAPIC_EVENT_NMI;
    ipi(MODE_SIPI | 0x9A, 1); /* ignored by a CPU that does not wait */
    assert_int_equal(lapic(1)->events, LAPIC_EVENT_NMI);
    ipi(MODE_INIT | ASSERT | LEVEL, 1);
    assert_int_equal(lapic(1)->events, LAPIC_EVENT_INIT);
    assert_true(lapic(1)->wait_for_sipi);
    assert_int_equal(lapic_read(lapic(1), LAPIC_TPR), 0);
    assert_int_equal(lapic_read(lapic(1), LAPIC_ID), 1 << 24);
    assert_int_equal(machine_deadline(f.machine, 1), DEADLINE_NONE);
    lapic(1)->events = 0;
    ipi(MODE_INIT | LEVEL, 1); /* de-assert */
    assert_int_equal(lapic(1)->events, 0);
    ipi(MODE_SIPI | 0x9A, 1);
    ipi(MODE_SIPI | 0x9B, 1); /* the second one comes too late */
    assert_int_equal(lapic(1)->events, LAPIC_EVENT_SIPI);
    assert_int_equal(lapic(1)->sipi_vector, 0x9A);
    ipi(MODE_NMI, 1);
    assert_int_equal(lapic(1)->events, LAPIC_EVENT_SIPI | LAPIC_EVENT_NMI);
    assert_false(lapic(1)->wait_for_sipi);
    /* The boot processor starts anew at once. */
    f.cpu = 1;
    ipi(MODE_INIT | ASSERT, 0);
    assert_int_equal(lapic(0)->events, LAPIC_EVENT_INIT);
    assert_false(lapic(0)->wait_for_sipi);
}

static void test_init_keeps_x2apic_mode(void **state)
{
    u64 value;

    x2apic_all();
    assert_true(wrmsr(0x830, 2ULL << 32 | MODE_INIT | ASSERT));
    f.cpu = 2;
    assert_true(rdmsr(0x802, &value));
    assert_int_equal(value, 2);
    assert_true(rdmsr(0x80D, &value));
    assert_int_equal(value, 4);
    assert_true(rdmsr(0x80F, &value));
    assert_int_equal(value, 0xFF);
}

static void test_illegal_vectors(void **state)
{
    apic_write(LAPIC_LVT_ERROR, 0xFE);
    ipi(0x0F, 1);
    assert_int_equal(received(0xFE), 1);
    apic_write(LAPIC_ESR, 0);
    assert_int_equal(apic_read(LAPIC_ESR), 0x20);
    apic_write(LAPIC_LVT_TIMER, 0x05);
    apic_write(LAPIC_TIMER_INITIAL, 10);
    run_for(MILLISECOND);
    apic_write(LAPIC_ESR, 0);
    assert_int_equal(apic_read(LAPIC_ESR), 0x40);
    assert_int_equal(received(0xFE), 1);
    apic_write(LAPIC_LVT_ERROR, 0x02); /* must not chase its own tail */
    ipi(0x0F, 1);
    apic_write(LAPIC_ESR, 0);
    assert_int_equal(apic_read(LAPIC_ESR), 0x20);
}

/* ---- timer */

static void test_one_shot(void **state)
{
    apic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_16);
    apic_write(LAPIC_LVT_TIMER, 0x40);
    apic_write(LAPIC_TIMER_INITIAL, 62500); /* a millisecond */
    assert_int_equal(apic_read(LAPIC_TIMER_CURRENT), 62500);
    run_for(MILLISECOND / 2);
    assert_int_equal(apic_read(LAPIC_TIMER_CURRENT), 31250);
    assert_in_range(machine_deadline(f.machine, 0), MILLISECOND, MILLISECOND + 1);
    run_for(MILLISECOND / 2 - 1);
    assert_int_equal(received(0x40), 0);
    run_for(2);
    assert_int_equal(received(0x40), 1);
    assert_int_equal(apic_read(LAPIC_TIMER_CURRENT), 0);
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
    run_for(10 * MILLISECOND);
    assert_int_equal(received(0x40), 0);
}

static void test_divide_values(void **state)
{
    static const struct {
        u8 encoding;
        u32 divisor;
    } values[] = {
        {0,  2  },
        {1,  4  },
        {2,  8  },
        {3,  16 },
        {8,  32 },
        {9,  64 },
        {10, 128},
        {11, 1  }
    };

    apic_write(LAPIC_LVT_TIMER, MASKED);
    for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
        apic_write(LAPIC_TIMER_DIVIDE, values[i].encoding);
        assert_int_equal(apic_read(LAPIC_TIMER_DIVIDE), values[i].encoding);
        apic_write(LAPIC_TIMER_INITIAL, 1000000);
        run_for(12800 * (TSC_HZ / LAPIC_TIMER_HZ));
        assert_int_equal(apic_read(LAPIC_TIMER_CURRENT), 1000000 - 12800 / values[i].divisor);
    }
}

static void test_divide_change_keeps_the_count(void **state)
{
    apic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
    apic_write(LAPIC_LVT_TIMER, 0x40);
    apic_write(LAPIC_TIMER_INITIAL, 1000000);
    run_for(MILLISECOND / 2);
    apic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_16);
    assert_int_equal(apic_read(LAPIC_TIMER_CURRENT), 500000);
    run_for(MILLISECOND);
    assert_in_range(apic_read(LAPIC_TIMER_CURRENT), 500000 - 62501, 500000 - 62499);
    run_for(7 * MILLISECOND - 10);
    assert_int_equal(received(0x40), 0);
    run_for(20);
    assert_int_equal(received(0x40), 1);
}

static void test_periodic_neither_drifts_nor_bunches(void **state)
{
    u64 period = 3 * MILLISECOND / 1000;
    u32 count = 0;

    apic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
    apic_write(LAPIC_LVT_TIMER, PERIODIC | 0x40);
    apic_write(LAPIC_TIMER_INITIAL, 3000);
    while (f.effects.now < 300 * MILLISECOND) {
        f.effects.now = machine_deadline(f.machine, 0) + 77; /* always a little late */
        machine_tick(f.machine, 0, &f.effects);
        count += received(0x40);
    }
    assert_in_range(count, 99999, 100001);
    /* Late by many periods: one interrupt, and the phase is kept. */
    f.effects.now = 1000 * MILLISECOND + 500;
    machine_tick(f.machine, 0, &f.effects);
    assert_int_equal(received(0x40), 1);
    assert_in_range(machine_deadline(f.machine, 0) % period, 0, 1);
    assert_true(machine_deadline(f.machine, 0) - f.effects.now <= period);
}

/* Whatever the guest accesses first, a timer that is due has fired before. */
static void test_due_timer_is_not_lost(void **state)
{
    u64 value;

    apic_write(LAPIC_LVT_TIMER, 0x40);
    apic_write(LAPIC_TIMER_INITIAL, 1000);
    f.effects.now = MILLISECOND;
    apic_read(LAPIC_TPR);
    assert_int_equal(received(0x40), 1);
    apic_write(LAPIC_TIMER_INITIAL, 1000);
    f.effects.now = 2 * MILLISECOND;
    apic_write(LAPIC_TIMER_INITIAL, 2000);
    assert_int_equal(received(0x40), 1);
    apic_write(LAPIC_LVT_TIMER, TSC_DEADLINE | 0x40);
    assert_true(wrmsr(MSR_IA32_TSC_DEADLINE, 3 * MILLISECOND));
    f.effects.now = 3 * MILLISECOND;
    assert_true(wrmsr(MSR_IA32_TSC_DEADLINE, 9 * MILLISECOND));
    assert_int_equal(received(0x40), 1);
    assert_int_equal(lapic_read(lapic(0), LAPIC_TMR + 0x20), 0); /* an edge, for EOI */
    assert_true(wrmsr(MSR_IA32_APIC_BASE, BASE | 0xC00));
    f.effects.now = 10 * MILLISECOND;
    assert_true(wrmsr(0x832, 0x50));
    assert_int_equal(received(0x40), 1);
    assert_true(wrmsr(0x832, TSC_DEADLINE | 0x50));
    assert_true(wrmsr(MSR_IA32_TSC_DEADLINE, 11 * MILLISECOND));
    f.effects.now = 11 * MILLISECOND;
    assert_true(rdmsr(MSR_IA32_TSC_DEADLINE, &value));
    assert_int_equal(value, 0);
    assert_int_equal(received(0x50), 1);
}

static void test_periodic_mask(void **state)
{
    apic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
    apic_write(LAPIC_LVT_TIMER, PERIODIC | MASKED | 0x40);
    apic_write(LAPIC_TIMER_INITIAL, 1000000);
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE); /* nobody to wake */
    run_for(MILLISECOND * 5 / 2);
    assert_int_equal(apic_read(LAPIC_TIMER_CURRENT), 500000); /* it counts all the same */
    apic_write(LAPIC_LVT_TIMER, PERIODIC | 0x40);
    assert_in_range(machine_deadline(f.machine, 0), 3 * MILLISECOND, 3 * MILLISECOND + 1);
    apic_write(LAPIC_TIMER_INITIAL, 0);
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
}

static void test_tsc_deadline(void **state)
{
    u64 value;

    assert_true(wrmsr(MSR_IA32_TSC_DEADLINE, 5000)); /* ignored in the other modes */
    assert_true(rdmsr(MSR_IA32_TSC_DEADLINE, &value));
    assert_int_equal(value, 0);
    apic_write(LAPIC_LVT_TIMER, TSC_DEADLINE | 0x40);
    apic_write(LAPIC_TIMER_INITIAL, 1000); /* and this one here */
    assert_int_equal(apic_read(LAPIC_TIMER_CURRENT), 0);
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
    assert_true(wrmsr(MSR_IA32_TSC_DEADLINE, 5000));
    assert_int_equal(machine_deadline(f.machine, 0), 5000);
    run_until(4999);
    assert_int_equal(received(0x40), 0);
    assert_true(rdmsr(MSR_IA32_TSC_DEADLINE, &value));
    assert_int_equal(value, 5000);
    run_until(5000);
    assert_int_equal(received(0x40), 1);
    assert_true(rdmsr(MSR_IA32_TSC_DEADLINE, &value));
    assert_int_equal(value, 0);
    assert_true(wrmsr(MSR_IA32_TSC_DEADLINE, 10)); /* past: at once */
    assert_int_equal(received(0x40), 1);
    assert_true(wrmsr(MSR_IA32_TSC_DEADLINE, 9000));
    assert_true(wrmsr(MSR_IA32_TSC_DEADLINE, 0));
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
    assert_true(wrmsr(MSR_IA32_TSC_DEADLINE, UINT64_MAX));
    run_for(MILLISECOND);
    assert_int_equal(received(0x40), 0);
    apic_write(LAPIC_LVT_TIMER, 0x40); /* leaving the mode disarms */
    apic_write(LAPIC_LVT_TIMER, TSC_DEADLINE | 0x40);
    assert_true(rdmsr(MSR_IA32_TSC_DEADLINE, &value));
    assert_int_equal(value, 0);
}

static void test_tsc_deadline_is_in_guest_time(void **state)
{
    apic_write(LAPIC_LVT_TIMER, TSC_DEADLINE | 0x40);
    lapic_set_tsc_adjust(lapic(0), 1000000, f.effects.now);
    assert_true(wrmsr(MSR_IA32_TSC_DEADLINE, 1005000));
    assert_int_equal(machine_deadline(f.machine, 0), 5000);
    lapic_set_tsc_adjust(lapic(0), 1002000, f.effects.now);
    assert_int_equal(machine_deadline(f.machine, 0), 3000);
    lapic_set_tsc_adjust(lapic(0), -(u64)500, f.effects.now); /* below machine time */
    f.effects.now = 1000;
    assert_true(wrmsr(MSR_IA32_TSC_DEADLINE, 600));
    assert_int_equal(machine_deadline(f.machine, 0), 1100);
}

/* ---- lines and hardware's help */

static void test_lint0_modes(void **state)
{
    pic_program();
    f.kicks[0] = 0;
    machine_press_power_button(f.machine, &f.effects);
    apic_write(LAPIC_LVT_LINT0, 0x55); /* fixed: the PIC's output is an interrupt like others */
    outb(0x3FC, 0x0B);
    outb(0x3F9, 0x02);
    assert_int_equal(received(0x55), 1);
    assert_false(machine_extint_pending(f.machine, 0));
    apic_write(LAPIC_LVT_LINT0, MASKED | MODE_EXTINT);
    assert_false(machine_extint_pending(f.machine, 0));
    apic_write(LAPIC_LVT_LINT0, MODE_EXTINT);
    assert_true(machine_extint_pending(f.machine, 0));
    assert_false(machine_extint_pending(f.machine, 1));
}

static void test_extint_with_the_apic_off(void **state)
{
    pic_program();
    for (f.cpu = 0; f.cpu < 2; f.cpu++)
        assert_true(wrmsr(MSR_IA32_APIC_BASE, BASE));
    f.cpu = 0;
    f.kicks[0] = 0;
    outb(0x3FC, 0x0B);
    outb(0x3F9, 0x02);
    assert_true(f.kicks[0] > 0);
    assert_true(machine_extint_pending(f.machine, 0));
    assert_false(machine_extint_pending(f.machine, 1)); /* only the first CPU has the wire */
}

static void test_virtualised_writes(void **state)
{
    struct lapic *l = lapic(0);

    l->registers[LAPIC_ICR_HIGH >> 4].value = 3U << 24;
    l->registers[LAPIC_ICR_LOW >> 4].value = 0x41;
    machine_lapic_written(f.machine, 0, LAPIC_ICR_LOW, &f.effects);
    assert_int_equal(received(0x41), 1 << 3);
    l->registers[LAPIC_ID >> 4].value = 0x77000000;
    machine_lapic_written(f.machine, 0, LAPIC_ID, &f.effects);
    assert_int_equal(apic_read(LAPIC_ID), 0);
    l->registers[LAPIC_LVT_TIMER >> 4].value = TSC_DEADLINE | 0x40;
    machine_lapic_written(f.machine, 0, LAPIC_LVT_TIMER, &f.effects);
    assert_true(wrmsr(MSR_IA32_TSC_DEADLINE, 5000));
    assert_int_equal(machine_deadline(f.machine, 0), 5000);
    l->registers[LAPIC_SVR >> 4].value = 0xFF;
    machine_lapic_written(f.machine, 0, LAPIC_SVR, &f.effects);
    assert_int_equal(apic_read(LAPIC_LVT_TIMER), TSC_DEADLINE | MASKED | 0x40);
    machine_lapic_written(f.machine, 0, 0xFFFF, &f.effects); /* nowhere */
    x2apic_all();
    l->registers[LAPIC_ICR_LOW >> 4].value = 0x42;
    l->registers[LAPIC_ICR_LOW >> 4].reserved[0] = 2; /* the upper half of the 64 bits */
    machine_lapic_written(f.machine, 0, LAPIC_ICR_LOW, &f.effects);
    assert_int_equal(received(0x42), 1 << 2);
}

static void ignore_kick(struct effects *effects, u32 vcpu)
{
}

/* Hardware that virtualises interrupts changes IRR while the vCPU is in guest mode. */
static void test_others_interrupts_are_posted(void **state)
{
    struct machine *machine = f.machine;
    struct lapic *lapic = &machine->lapics[1];
    struct effects effects = f.effects;
    static const struct effects_ops quiet = {.kick = ignore_kick};

    effects.ops = &quiet;
    effects.vcpu = 0;
    lapic->registers[LAPIC_SVR >> 4].value = 0x1FF;
    assert_true(lapic_raise(lapic, 0x61, false, &effects));
    assert_int_equal(lapic_highest_irr(lapic), -1);
    lapic_take_posted(lapic);
    assert_int_equal(lapic_highest_irr(lapic), 0x61);
    effects.vcpu = 1;
    assert_true(lapic_raise(lapic, 0x71, false, &effects));
    assert_int_equal(lapic_highest_irr(lapic), 0x71);
}

/* One vector after the other in and out of service, from all words of IRR and ISR. */
static void test_summaries_agree_with_the_registers(void **state)
{
    static const u8 vectors[] = {0x10, 0x1F, 0x20, 0x5F, 0x60, 0x9F, 0xA1, 0xC0, 0xE0, 0xFF};
    struct lapic *l = lapic(0);

    for (u32 i = 0; i < ARRAY_SIZE(vectors); i++) {
        ipi(TO_SELF | vectors[i], 0);
        assert_int_equal(lapic_highest_irr(l), vectors[i]);
        assert_int_equal(l->irr_words & LAPIC_ALL_WORDS, 1U << vectors[i] / 32);
        lapic_accept(l, vectors[i]);
        assert_int_equal(lapic_highest_irr(l), -1);
        assert_int_equal(lapic_highest_isr(l), vectors[i]);
        assert_int_equal(l->irr_words & LAPIC_ALL_WORDS, 0);
    }
    assert_int_equal(l->isr_words, LAPIC_ALL_WORDS);
    for (u32 i = ARRAY_SIZE(vectors); i-- > 0;) {
        assert_int_equal(lapic_highest_isr(l), vectors[i]);
        apic_write(LAPIC_EOI, 0);
    }
    assert_int_equal(l->isr_words, 0);
    assert_int_equal(lapic_highest_isr(l), -1);
}

static void test_hardware_may_move_interrupts(void **state)
{
    struct lapic *l = lapic(0);

    lapic_hardware_delivers(l);
    assert_int_equal(lapic_highest_irr(l), -1);
    l->registers[(LAPIC_IRR >> 4) + 1].value = 1 << 3;
    assert_int_equal(lapic_highest_irr(l), 0x23);
    l->registers[(LAPIC_IRR >> 4) + 1].value = 0;
    l->registers[(LAPIC_ISR >> 4) + 7].value = 1 << 4;
    assert_int_equal(lapic_highest_irr(l), -1);
    assert_int_equal(lapic_highest_isr(l), 0xE4);
    l->registers[(LAPIC_ISR >> 4) + 7].value = 0;
    assert_int_equal(lapic_highest_isr(l), -1);
}

/* SELF_IPI as core/ writes it; an illegal vector is an error as any. */
static void test_self_ipi_by_itself(void **state)
{
    x2apic_all();
    machine_self_ipi(f.machine, 0, 0x77, &f.effects);
    assert_int_equal(received(0x77), 1 << 0);
    machine_self_ipi(f.machine, 0, 0x0F, &f.effects);
    assert_int_equal(lapic_highest_irr(lapic(0)), -1);
    assert_true(wrmsr(MSR_X2APIC_FIRST + (LAPIC_ESR >> 4), 0));
    assert_int_equal(lapic_read(lapic(0), LAPIC_ESR), ESR_RECEIVE_ILLEGAL_VECTOR);
}

#define SENT(icr, destination)                                                                     \
    machine_send_ipi(f.machine, 0, (u64)(destination) << 32 | (icr), &f.effects)

/* ICR as core/ writes it: to one, to nobody, to several, to one that is off, and refused. */
static void test_icr_by_itself(void **state)
{
    assert_false(SENT(0x91, 1)); /* in xAPIC mode */
    x2apic_all();
    assert_true(SENT(0x91, 1));
    assert_int_equal(received(0x91), 1 << 1);
    assert_true(SENT(0x4091, 0));
    assert_int_equal(received(0x91), 1 << 0);
    assert_int_equal(lapic_read(lapic(0), LAPIC_ICR_LOW), 0x4091);
    assert_true(SENT(0x92, FIXTURE_CPUS));
    assert_int_equal(received(0x92), 0);
    assert_true(SENT(0x93, UINT32_MAX));
    assert_int_equal(received(0x93), (1 << FIXTURE_CPUS) - 1);
    assert_true(SENT(0x894, 1 << 2)); /* logical */
    assert_int_equal(received(0x94), 1 << 2);
    assert_false(SENT(0x200095, 1));
    assert_int_equal(received(0x95), 0);
    assert_true(SENT(0x0F, 1));
    assert_true(wrmsr(MSR_X2APIC_FIRST + (LAPIC_ESR >> 4), 0));
    assert_int_equal(lapic_read(lapic(0), LAPIC_ESR), ESR_SEND_ILLEGAL_VECTOR);
    f.cpu = 1;
    assert_true(wrmsr(MSR_IA32_APIC_BASE, LAPIC_BASE_DEFAULT));
    assert_true(SENT(0x96, 1));
    assert_int_equal(received(0x96), 0);
}

/* What hardware that delivers by itself has yet to be told. */
static void test_raised_since_hardware_was_told(void **state)
{
    static const struct effects_ops quiet = {.kick = ignore_kick};
    struct lapic *l = lapic(0);

    x2apic_all();
    machine_self_ipi(f.machine, 0, 0x41, &f.effects);
    assert_int_equal(lapic_raised(l), 0x41);
    lapic_hardware_delivers(l);
    assert_int_equal(lapic_raised(l), -1);
    assert_int_equal(lapic_highest_irr(l), 0x41);
    machine_self_ipi(f.machine, 0, 0x33, &f.effects);
    assert_int_equal(lapic_raised(l), 0x33);
    f.effects.ops = &quiet;
    f.effects.vcpu = 1;
    assert_true(lapic_raise(l, 0x57, false, &f.effects));
    assert_int_equal(lapic_raised(l), 0x33);
    lapic_take_posted(l);
    assert_int_equal(lapic_raised(l), 0x57);
    assert_int_equal(lapic_highest_irr(l), 0x57);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DEVICE_TEST(test_power_on),
        LAPIC_TEST(test_mode_transitions),
        LAPIC_TEST(test_disabling_resets),
        LAPIC_TEST(test_page_moves_and_hides),
        LAPIC_TEST(test_x2apic_registers),
        LAPIC_TEST(test_x2apic_faults),
        LAPIC_TEST(test_mmio_access_rules),
        LAPIC_TEST(test_priority_and_eoi),
        LAPIC_TEST(test_task_priority),
        LAPIC_TEST(test_irr_is_readable),
        LAPIC_TEST(test_software_disable),
        LAPIC_TEST(test_what_is_pending_is_no_news),
        LAPIC_TEST(test_physical_destinations),
        LAPIC_TEST(test_shorthands),
        LAPIC_TEST(test_logical_flat_and_cluster),
        LAPIC_TEST(test_lowest_priority),
        LAPIC_TEST(test_x2apic_ipis),
        LAPIC_TEST(test_init_and_startup),
        LAPIC_TEST(test_init_keeps_x2apic_mode),
        LAPIC_TEST(test_illegal_vectors),
        LAPIC_TEST(test_one_shot),
        LAPIC_TEST(test_divide_values),
        LAPIC_TEST(test_divide_change_keeps_the_count),
        LAPIC_TEST(test_periodic_neither_drifts_nor_bunches),
        LAPIC_TEST(test_due_timer_is_not_lost),
        LAPIC_TEST(test_periodic_mask),
        LAPIC_TEST(test_tsc_deadline),
        LAPIC_TEST(test_tsc_deadline_is_in_guest_time),
        LAPIC_TEST(test_lint0_modes),
        LAPIC_TEST(test_extint_with_the_apic_off),
        LAPIC_TEST(test_virtualised_writes),
        LAPIC_TEST(test_others_interrupts_are_posted),
        LAPIC_TEST(test_summaries_agree_with_the_registers),
        LAPIC_TEST(test_hardware_may_move_interrupts),
        LAPIC_TEST(test_self_ipi_by_itself),
        LAPIC_TEST(test_icr_by_itself),
        LAPIC_TEST(test_raised_since_hardware_was_told),
    };

    return cmocka_run_group_tests_name("lapic", tests, NULL, NULL);
}
