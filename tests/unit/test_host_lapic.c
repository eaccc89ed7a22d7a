/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* drivers/lapic.c against modelled MSRs and, in xAPIC mode, plain memory for the registers. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/types.h"

#define BULKHEAD_DRIVERS_CPU_H

struct cpuid_result {
    u32 eax, ebx, ecx, edx;
};

static struct cpuid_result cpuid(u32 leaf, u32 subleaf);
static u64 rdmsr(u32 msr);
static void wrmsr(u32 msr, u64 value);
static u64 rdtsc(void);
static u64 rdtsc_ordered(void);
static void cpu_pause(void);
#include "../../drivers/lapic.c"

#define BASE      0xFEE00000
#define BSP       0x100
#define EXTD      0x400
#define EN        0x800
#define X2APIC    (1U << 21)
#define DEADLINE  (1U << 24)
#define EOI_MSR   0x80B
#define ICR_MSR   0x830
#define TSC_TICKS 1000 /* for each reading */

static const struct host_lapic_vectors vectors = {.timer = 0x40, .error = 0xFE, .spurious = 0xFF};

static struct {
    u32 features;
    u64 base;
    u64 x2apic[0x100];
    u64 deadline;
    u64 tsc;
    u32 eois;
    u32 pauses;
    u32 registers[1024];
    char transitions[256];
} model;

static struct cpuid_result cpuid(u32 leaf, u32 subleaf)
{
    return (struct cpuid_result){.ecx = model.features, .edx = 1 << 9};
}

static u64 rdmsr(u32 msr)
{
    if (msr == 0x1B)
        return model.base;
    assert_true(model.base & EXTD);
    assert_in_range(msr, 0x800, 0x8FF);
    return model.x2apic[msr - 0x800];
}

static void write_base(u64 value)
{
    bool from_x2apic = (model.base & EXTD) != 0;

    /* The transitions that the SDM forbids fault. */
    assert_false((value & EXTD) && !(value & EN));
    assert_false((value & EXTD) && !(model.base & EN));
    assert_false(from_x2apic && (value & EN) && !(value & EXTD));
    snprintf(model.transitions + strlen(model.transitions), 16, "%x ", (u32)value & 0xFFF);
    model.base = value;
}

static void wrmsr(u32 msr, u64 value)
{
    if (msr == 0x1B) {
        write_base(value);
    } else if (msr == 0x6E0) {
        model.deadline = value;
    } else {
        assert_true(model.base & EXTD);
        assert_in_range(msr, 0x800, 0x8FF);
        model.eois += msr == EOI_MSR;
        model.x2apic[msr - 0x800] = value;
    }
}

static u64 rdtsc(void)
{
    return model.tsc += TSC_TICKS;
}

static u64 rdtsc_ordered(void)
{
    u64 tsc = rdtsc();

    /* Counts down once in 30 ticks of the TSC, as memory that nobody else writes. */
    model.registers[0x390 / 4] = UINT32_MAX - (u32)(tsc / 30);
    return tsc;
}

static void cpu_pause(void)
{
    model.pauses++;
}

void *mmio_map(paddr_t physical, u64 size, enum mmio_kind kind)
{
    assert_int_equal(physical, BASE);
    assert_int_equal(kind, MMIO_UNCACHED);
    return model.registers;
}

static int reset(void **state)
{
    memset(&model, 0, sizeof(model));
    memset(&host, 0, sizeof(host));
    model.base = BASE | EN | BSP;
    model.registers[0x30 / 4] = 0x60015;
    model.x2apic[0x03] = 0x60015;
    return 0;
}

static void start(u32 features, u32 highest_id)
{
    model.features = features;
    assert_true(host_lapic_init(highest_id));
    host_lapic_enable(&vectors);
}

static void stays_in_xapic_mode(void **state)
{
    start(X2APIC, 254);
    assert_false(host_lapic_is_x2apic());
    assert_string_equal(model.transitions, "");
    model.registers[0x20 / 4] = 0x37000000;
    assert_int_equal(host_lapic_id(), 0x37);
}

static void enters_x2apic_mode_for_high_ids(void **state)
{
    start(X2APIC, 255);
    assert_true(host_lapic_is_x2apic());
    assert_string_equal(model.transitions, "d00 ");
    model.x2apic[2] = 0x12345;
    assert_int_equal(host_lapic_id(), 0x12345);
}

static void cannot_without_the_feature(void **state)
{
    start(0, 1000);
    assert_false(host_lapic_is_x2apic());
}

static void keeps_the_x2apic_mode_of_firmware(void **state)
{
    model.base |= EXTD;
    start(X2APIC, 3);
    assert_true(host_lapic_is_x2apic());
    assert_string_equal(model.transitions, "");
}

/* Another CPU is brought into the mode of the first one, by the transitions that are allowed. */
static void other_cpus_follow(void **state)
{
    start(X2APIC, 255);
    model.transitions[0] = '\0';
    model.base = BASE;
    host_lapic_enable(&vectors);
    assert_string_equal(model.transitions, "800 c00 ");

    reset(NULL);
    start(X2APIC, 3);
    model.base = BASE | EN | EXTD;
    host_lapic_enable(&vectors);
    assert_string_equal(model.transitions, "0 800 ");
}

static void local_vectors(void **state)
{
    model.base |= EXTD;
    start(X2APIC | DEADLINE, 0);
    assert_int_equal(model.x2apic[0x0F], 0x1FF);
    assert_int_equal(model.x2apic[0x08], 0);
    assert_int_equal(model.x2apic[0x2F], 0x10000);
    assert_int_equal(model.x2apic[0x32], 0x40040);
    assert_int_equal(model.x2apic[0x33], 0x10000);
    assert_int_equal(model.x2apic[0x34], 0x10000);
    assert_int_equal(model.x2apic[0x35], 0x10000);
    assert_int_equal(model.x2apic[0x36], 0x400); /* NMI, on the boot CPU */
    assert_int_equal(model.x2apic[0x37], 0xFE);
    model.base &= ~(u64)BSP;
    host_lapic_enable(&vectors);
    assert_int_equal(model.x2apic[0x36], 0x10400);
}

static void a_lapic_with_fewer_vectors(void **state)
{
    model.base |= EXTD;
    model.x2apic[0x03] = 0x30010;
    model.x2apic[0x2F] = model.x2apic[0x33] = 0x77;
    start(X2APIC, 0);
    assert_int_equal(model.x2apic[0x2F], 0x77);
    assert_int_equal(model.x2apic[0x33], 0x77);
}

static void interrupts_left_in_service_are_finished(void **state)
{
    model.base |= EXTD;
    model.x2apic[0x11] = 0x80000001;
    model.x2apic[0x17] = 0x2;
    start(X2APIC, 0);
    assert_int_equal(model.eois, 3);
}

static void ipis_in_x2apic_mode(void **state)
{
    start(X2APIC, 255);
    assert_true(host_lapic_send_ipi(0x12345, HOST_IPI_FIXED, 0x50));
    assert_int_equal(model.x2apic[0x30], 0x1234500004050);
    assert_true(host_lapic_send_ipi(1, HOST_IPI_INIT, 0));
    assert_int_equal(model.x2apic[0x30], 0x100004500);
    assert_true(host_lapic_send_ipi(2, HOST_IPI_STARTUP, 0x8));
    assert_int_equal(model.x2apic[0x30], 0x200004608);
    assert_true(host_lapic_send_ipi(3, HOST_IPI_NMI, 0));
    assert_int_equal(model.x2apic[0x30], 0x300004400);
}

static void ipis_in_xapic_mode(void **state)
{
    start(0, 0);
    assert_true(host_lapic_send_ipi(254, HOST_IPI_FIXED, 0x50));
    assert_int_equal(model.registers[0x310 / 4], 0xFE000000);
    assert_int_equal(model.registers[0x300 / 4], 0x4050);
    assert_false(host_lapic_send_ipi(255, HOST_IPI_FIXED, 0x50));
    assert_int_equal(model.pauses, 0);
    model.registers[0x300 / 4] = 1 << 12; /* the last one never leaves */
    assert_false(host_lapic_send_ipi(1, HOST_IPI_FIXED, 0x51));
    assert_int_equal(model.registers[0x300 / 4], 1 << 12);
    assert_int_equal(model.pauses, 100000);
}

static void deadline_timer(void **state)
{
    start(DEADLINE, 0);
    assert_true(host_lapic_timer_init(3000000000));
    assert_true(host_lapic_timer_is_deadline());
    host_lapic_timer_arm(123456789012);
    assert_int_equal(model.deadline, 123456789012);
    host_lapic_timer_disarm();
    assert_int_equal(model.deadline, 0);
    host_lapic_timer_arm(0); /* long past; 0 would disarm */
    assert_int_equal(model.deadline, 1);
}

static void one_shot_timer(void **state)
{
    u32 *initial = &model.registers[0x380 / 4];

    start(0, 0);
    assert_true(host_lapic_timer_init(3000000000));
    assert_false(host_lapic_timer_is_deadline());
    assert_int_equal(model.registers[0x320 / 4], 0x40);
    assert_int_equal(*initial, 0);
    host_lapic_timer_arm(model.tsc + TSC_TICKS + 3000000);
    assert_in_range(*initial, 99900, 100200);
    host_lapic_timer_arm(model.tsc - 1);
    assert_int_equal(*initial, 1);
    host_lapic_timer_arm(UINT64_MAX);
    assert_int_equal(*initial, UINT32_MAX);
    host_lapic_timer_disarm();
    assert_int_equal(*initial, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(stays_in_xapic_mode, reset),
        cmocka_unit_test_setup(enters_x2apic_mode_for_high_ids, reset),
        cmocka_unit_test_setup(cannot_without_the_feature, reset),
        cmocka_unit_test_setup(keeps_the_x2apic_mode_of_firmware, reset),
        cmocka_unit_test_setup(other_cpus_follow, reset),
        cmocka_unit_test_setup(local_vectors, reset),
        cmocka_unit_test_setup(a_lapic_with_fewer_vectors, reset),
        cmocka_unit_test_setup(interrupts_left_in_service_are_finished, reset),
        cmocka_unit_test_setup(ipis_in_x2apic_mode, reset),
        cmocka_unit_test_setup(ipis_in_xapic_mode, reset),
        cmocka_unit_test_setup(deadline_timer, reset),
        cmocka_unit_test_setup(one_shot_timer, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
