/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "tests/unit/device_fixture.h"

#define BASE 0xFEE00000ULL

enum {
    MODE_LOWEST = 1 << 8,
    MODE_NMI = 4 << 8,
    MODE_INIT = 5 << 8,
    MODE_EXTINT = 7 << 8,
    LOGICAL = 1 << 11,
    REMOTE_IRR = 1 << 14,
    LEVEL = 1 << 15,
    MASKED = 1 << 16,
    PIN_COM1 = 4,
    PIN_SCI = 9,
};

static int setup(void **state)
{
    fixture_setup(state);
    for (f.cpu = 0; f.cpu < FIXTURE_CPUS; f.cpu++) {
        mmio_write(BASE + LAPIC_SVR, 0x1FF);
        mmio_write(BASE + LAPIC_LDR, 1U << (24 + f.cpu));
    }
    f.cpu = 0;
    outb(0x3FC, 0x0B);
    return 0;
}

/* The UART's transmitter interrupt drives line 4. */
static void raise_com1(void)
{
    outb(0x3F9, 0x02);
}

static void lower_com1(void)
{
    outb(0x3F9, 0x00);
}

/* The power button drives line 9 until its status bit is cleared. */
static void raise_sci(void)
{
    outb(PORT_SMI_COMMAND, SMI_ACPI_ENABLE);
    out(PORT_PM1A_EVENT + 2, 2, PM1_PWRBTN);
    machine_press_power_button(f.machine, &f.effects);
}

static void lower_sci(void)
{
    out(PORT_PM1A_EVENT, 2, PM1_PWRBTN);
}

/* The CPU takes what its local APIC offers: the vector, or -1. */
static int take(u32 cpu)
{
    int vector = lapic_pending_vector(&f.machine->lapics[cpu]);

    if (vector >= 0)
        lapic_accept(&f.machine->lapics[cpu], vector);
    return vector;
}

static void eoi(u32 cpu)
{
    f.cpu = cpu;
    mmio_write(BASE + LAPIC_EOI, 0);
    f.cpu = 0;
}

static u32 entry(u32 pin)
{
    return ioapic_reg_read(0x10 + 2 * pin);
}

#define IOAPIC_TEST(function) cmocka_unit_test_setup_teardown(function, setup, fixture_teardown)

static void test_power_on_and_registers(void **state)
{
    assert_int_equal(ioapic_reg_read(1), 0x00170020);
    for (u32 pin = 0; pin < 24; pin++) {
        assert_int_equal(entry(pin), MASKED);
        assert_int_equal(ioapic_reg_read(0x11 + 2 * pin), 0);
    }
    ioapic_reg_write(0, 0xFF000000);
    assert_int_equal(ioapic_reg_read(0), 0x0F000000);
    ioapic_reg_write(1, 0);
    assert_int_equal(ioapic_reg_read(1), 0x00170020);
    assert_int_equal(ioapic_reg_read(0x40), UINT32_MAX); /* behind the last pin */
    assert_int_equal(ioapic_reg_read(0x0F), UINT32_MAX);
    assert_int_equal(ioapic_reg_read(0xFF), UINT32_MAX);
    ioapic_reg_write(0xFF, 0);
    ioapic_reg_write(0x0F, 0);
    assert_int_equal(mmio_read(IOAPIC_BASE), 0x0F);
    assert_int_equal(mmio_read(IOAPIC_BASE + 0x20), 0);
    ioapic_reg_write(0x10 + 2 * 5, 0xFFFFFFFF);
    assert_int_equal(entry(5), 0x1AFFF); /* delivery status and remote IRR are read-only */
    ioapic_reg_write(0x11 + 2 * 5, 0xFFFFFFFF);
    assert_int_equal(ioapic_reg_read(0x11 + 2 * 5), 0xFF000000);
    assert_int_equal(entry(5), 0x1AFFF);
}

static void test_edge(void **state)
{
    ioapic_route(PIN_COM1, 0x34, 2);
    raise_com1();
    assert_int_equal(take(2), 0x34);
    eoi(2);
    assert_int_equal(take(2), -1); /* still high: one edge, one interrupt */
    lower_com1();
    raise_com1();
    assert_int_equal(take(2), 0x34);
    assert_int_equal(entry(PIN_COM1) & REMOTE_IRR, 0);
}

static void test_edge_on_a_masked_pin_is_lost(void **state)
{
    ioapic_route(PIN_COM1, MASKED | 0x34, 0);
    raise_com1();
    ioapic_route(PIN_COM1, 0x34, 0);
    assert_int_equal(take(0), -1);
}

static void test_level(void **state)
{
    ioapic_route(PIN_SCI, LEVEL | 0x49, 1);
    raise_sci();
    assert_true(entry(PIN_SCI) & REMOTE_IRR);
    assert_int_equal(take(1), 0x49);
    assert_int_equal(take(1), -1);
    eoi(1); /* not served yet: comes again */
    assert_true(entry(PIN_SCI) & REMOTE_IRR);
    assert_int_equal(take(1), 0x49);
    lower_sci();
    assert_true(entry(PIN_SCI) & REMOTE_IRR);
    eoi(1);
    assert_false(entry(PIN_SCI) & REMOTE_IRR);
    assert_int_equal(take(1), -1);
    raise_sci();
    assert_int_equal(take(1), 0x49);
}

static void test_level_waits_behind_a_mask(void **state)
{
    ioapic_route(PIN_SCI, LEVEL | MASKED | 0x49, 0);
    raise_sci();
    assert_int_equal(take(0), -1);
    ioapic_route(PIN_SCI, LEVEL | 0x49, 0);
    assert_int_equal(take(0), 0x49);
    /* Masked while in service: the EOI does not bring it back, unmasking does. */
    ioapic_route(PIN_SCI, LEVEL | MASKED | 0x49, 0);
    assert_true(entry(PIN_SCI) & REMOTE_IRR);
    eoi(0);
    assert_int_equal(take(0), -1);
    assert_false(entry(PIN_SCI) & REMOTE_IRR);
    ioapic_route(PIN_SCI, LEVEL | 0x49, 0);
    assert_int_equal(take(0), 0x49);
}

static void test_eoi_register_and_edge_trick(void **state)
{
    ioapic_route(PIN_SCI, LEVEL | 0x49, 0);
    raise_sci();
    lower_sci();
    mmio_write(IOAPIC_BASE + 0x40, 0x50); /* another vector */
    assert_true(entry(PIN_SCI) & REMOTE_IRR);
    mmio_write(IOAPIC_BASE + 0x40, 0x49);
    assert_false(entry(PIN_SCI) & REMOTE_IRR);
    raise_sci();
    lower_sci();
    assert_true(entry(PIN_SCI) & REMOTE_IRR);
    ioapic_reg_write(0x10 + 2 * PIN_SCI, MASKED | 0x49); /* switched to edge and back */
    ioapic_reg_write(0x10 + 2 * PIN_SCI, LEVEL | 0x49);
    assert_false(entry(PIN_SCI) & REMOTE_IRR);
}

static void test_nobody_takes_it(void **state)
{
    f.cpu = 3;
    mmio_write(BASE + LAPIC_SVR, 0xFF);
    f.cpu = 0;
    ioapic_route(PIN_SCI, LEVEL | 0x49, 3);
    raise_sci();
    assert_false(entry(PIN_SCI) & REMOTE_IRR);
    ioapic_route(PIN_SCI, LEVEL | 0x49, 2); /* moved to one that does */
    assert_int_equal(take(2), 0x49);
}

static void test_one_of_two_takes_it(void **state)
{
    f.cpu = 3;
    mmio_write(BASE + LAPIC_SVR, 0xFF);
    f.cpu = 0;
    ioapic_route(PIN_SCI, LEVEL | LOGICAL | 0x49, 0x0A);
    raise_sci();
    assert_true(entry(PIN_SCI) & REMOTE_IRR);
    lower_sci();
    assert_int_equal(take(1), 0x49);
    eoi(1);
    ioapic_route(PIN_SCI, LEVEL | LOGICAL | MODE_LOWEST | 0x49, 0x0A);
    raise_sci();
    assert_true(entry(PIN_SCI) & REMOTE_IRR);
    lower_sci();
    ioapic_route(PIN_COM1, LOGICAL | MODE_LOWEST | 0x34, 0x08);
    raise_com1(); /* nobody: no fault */
    assert_int_equal(take(3), -1);
}

static void test_destinations_and_modes(void **state)
{
    ioapic_route(PIN_COM1, LOGICAL | 0x34, 0x06);
    raise_com1();
    assert_int_equal(take(0), -1);
    assert_int_equal(take(1), 0x34);
    assert_int_equal(take(2), 0x34);
    lower_com1();
    eoi(1);
    eoi(2);
    f.machine->lapics[1].registers[LAPIC_TPR >> 4].value = 0x10;
    ioapic_route(PIN_COM1, LOGICAL | MODE_LOWEST | 0x35, 0x06);
    raise_com1();
    assert_int_equal(take(1), -1);
    assert_int_equal(take(2), 0x35);
    lower_com1();
    ioapic_route(PIN_COM1, MODE_NMI | LEVEL | 0x00, 3); /* always an edge */
    raise_com1();
    assert_int_equal(f.machine->lapics[3].events, LAPIC_EVENT_NMI);
    assert_false(entry(PIN_COM1) & REMOTE_IRR);
    lower_com1();
    ioapic_route(PIN_COM1, MODE_INIT, 3);
    raise_com1();
    assert_int_equal(f.machine->lapics[3].events, LAPIC_EVENT_INIT);
    lower_com1();
    ioapic_route(PIN_COM1, 0x36, 0xFF);
    raise_com1();
    assert_int_equal(take(0), 0x36);
    assert_int_equal(take(1), 0x36);
    assert_int_equal(take(3), -1); /* INIT has switched it off */
}

static void test_x2apic_targets(void **state)
{
    for (f.cpu = 0; f.cpu < FIXTURE_CPUS; f.cpu++)
        assert_true(wrmsr(MSR_IA32_APIC_BASE, BASE | 0xC00));
    f.cpu = 0;
    ioapic_route(PIN_COM1, LOGICAL | 0x34, 0x08);
    raise_com1();
    assert_int_equal(take(3), 0x34);
    lower_com1();
    ioapic_route(PIN_COM1, 0x34, 1);
    raise_com1();
    assert_int_equal(take(1), 0x34);
    assert_int_equal(take(0), -1);
    lower_com1();
    ioapic_route(PIN_SCI, LEVEL | 0x49, 2);
    raise_sci();
    lower_sci();
    assert_int_equal(take(2), 0x49);
    f.cpu = 2;
    assert_true(wrmsr(0x80B, 0));
    assert_false(entry(PIN_SCI) & REMOTE_IRR);
}

static void test_pit_comes_in_at_pin_2(void **state)
{
    ioapic_route(0, 0x30, 0);
    ioapic_route(2, 0x32, 0);
    outb(0x43, 0x34);
    outb(0x40, 0xA9);
    outb(0x40, 0x04);         /* 1193: a millisecond */
    run_for(2 * MICROSECOND); /* the count is loaded by the next clock */
    for (u32 i = 0; i < 10; i++) {
        run_for(MILLISECOND);
        assert_int_equal(take(0), 0x32);
        eoi(0);
        assert_int_equal(take(0), -1);
    }
}

static void test_pit_that_nobody_hears_costs_nothing(void **state)
{
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
    ioapic_route(2, 0x32, 0);
    assert_int_not_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
    ioapic_route(2, MASKED | 0x32, 0);
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
    f.cpu = 1;
    outb(0x21, 0xFE);
    assert_int_not_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
}

static void test_extint_by_pin_0(void **state)
{
    pic_program();
    mmio_write(BASE + LAPIC_LVT_LINT0, MASKED);
    ioapic_route(0, MODE_EXTINT, 2);
    f.kicks[2] = 0;
    raise_com1();
    assert_int_equal(f.kicks[2], 1);
    assert_false(machine_extint_pending(f.machine, 0));
    assert_true(machine_extint_pending(f.machine, 2));
    assert_int_equal(machine_acknowledge_pic(f.machine, &f.effects), 0x24);
    assert_false(machine_extint_pending(f.machine, 2));
}

static void test_eoi_exit_bitmap(void **state)
{
    u64 bitmap[4];
    u32 generation = f.machine->ioapic.generation;

    machine_eoi_exit_bitmap(f.machine, 0, bitmap);
    assert_int_equal(bitmap[0] | bitmap[1] | bitmap[2] | bitmap[3], 0);
    ioapic_route(PIN_SCI, LEVEL | 0x49, 1);
    ioapic_route(PIN_COM1, 0x34, 1);
    ioapic_route(17, LEVEL | MODE_NMI | 0x60, 1);
    ioapic_route(18, LEVEL | 0xFE, 1);
    assert_int_not_equal(f.machine->ioapic.generation, generation);
    machine_eoi_exit_bitmap(f.machine, 1, bitmap);
    assert_int_equal(bitmap[0], 0);
    assert_int_equal(bitmap[1], BIT(0x49 - 64));
    assert_int_equal(bitmap[2], 0);
    assert_int_equal(bitmap[3], BIT(0xFE - 192));
    raise_sci();
    lower_sci();
    assert_true(entry(PIN_SCI) & REMOTE_IRR);
    machine_eoi(f.machine, 0x49, &f.effects); /* as after an EOI-induced exit */
    assert_false(entry(PIN_SCI) & REMOTE_IRR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IOAPIC_TEST(test_power_on_and_registers),
        IOAPIC_TEST(test_edge),
        IOAPIC_TEST(test_edge_on_a_masked_pin_is_lost),
        IOAPIC_TEST(test_level),
        IOAPIC_TEST(test_level_waits_behind_a_mask),
        IOAPIC_TEST(test_eoi_register_and_edge_trick),
        IOAPIC_TEST(test_nobody_takes_it),
        IOAPIC_TEST(test_one_of_two_takes_it),
        IOAPIC_TEST(test_destinations_and_modes),
        IOAPIC_TEST(test_x2apic_targets),
        IOAPIC_TEST(test_pit_comes_in_at_pin_2),
        IOAPIC_TEST(test_pit_that_nobody_hears_costs_nothing),
        IOAPIC_TEST(test_extint_by_pin_0),
        IOAPIC_TEST(test_eoi_exit_bitmap),
    };

    return cmocka_run_group_tests_name("ioapic", tests, NULL, NULL);
}
