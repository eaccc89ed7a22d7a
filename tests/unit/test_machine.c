/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "tests/unit/device_fixture.h"

static void test_layout(void **state)
{
    assert_int_equal(offsetof(struct lapic, spare) % CACHE_LINE_SIZE, 0);
    assert_int_equal(machine_size(3) - machine_size(1), 2 * 4096);
    assert_ptr_equal((u8 *)&f.machine->lapics[1] - 4096, &f.machine->lapics[0]);
}

static void test_unclaimed_reads_all_ones(void **state)
{
    static const u16 ports[] = {0x00, 0x22, 0x44,  0x62,  0x72,  0x80,   0x84,
                                0x93, 0xB3, 0x2F8, 0x4D2, 0xD00, 0x1000, 0xFFFF};
    u64 value = 0;

    for (u32 i = 0; i < ARRAY_SIZE(ports); i++) {
        assert_false(access_space(SPACE_PORT, ports[i], 1, false, &value));
        assert_int_equal(value, 0xFF);
    }
    assert_false(access_space(SPACE_PORT, 0x1000, 2, false, &value));
    assert_int_equal(value, 0xFFFF);
    assert_false(access_space(SPACE_PORT, 0xFFFE, 4, false, &value));
    assert_int_equal(value, 0xFFFFFFFF);
    assert_false(access_space(SPACE_MEMORY, 0xFED00000, 8, false, &value));
    assert_int_equal(value, UINT64_MAX);
    assert_false(access_space(SPACE_MEMORY, 0xC0000000, 2, false, &value));
    assert_int_equal(value, 0xFFFF);
    assert_false(access_space(SPACE_PORT, 0x1000, 1, true, &value));
    assert_false(access_space(SPACE_MSR, 0x10, 8, false, &value));
    assert_false(access_space(SPACE_MSR, 1ULL << 40 | 0x1B, 8, false, &value));
}

static void test_wide_access_is_split(void **state)
{
    out(0x70, 2, 0x5A20); /* index 20h, data 5Ah */
    outb(0x70, 0x20);
    assert_int_equal(inb(0x71), 0x5A);
    out(0x3FE, 4, 0x33221100); /* the scratch register, and two ports behind the UART */
    assert_int_equal(inb(0x3FF), 0x11);
    assert_int_equal(in(0x3FF, 2), 0xFF11);
}

static void test_post_port(void **state)
{
    u64 value = 0x42;

    assert_true(access_space(SPACE_PORT, 0x80, 1, true, &value));
}

static void test_exit_port(void **state)
{
    out(EXIT_PORT, 1, 0x21);
    assert_int_equal(f.power_count, 1);
    assert_int_equal(f.power, POWER_EXIT);
    assert_int_equal(f.power_detail, 0x21);
    out(EXIT_PORT, 4, 0x12345678);
    assert_int_equal(f.power_detail, 0x12345678);
    f.machine->exit_port = -1;
    out(EXIT_PORT, 1, 1);
    out(0xFFFF, 1, 1);
    assert_int_equal(f.power_count, 2);
}

static void test_reset_by_cf9(void **state)
{
    outb(0xCF9, 0x02);
    assert_int_equal(f.power_count, 0);
    assert_int_equal(inb(0xCF9), 0x02);
    outb(0xCF9, 0x06);
    assert_int_equal(f.power_count, 1);
    assert_int_equal(f.power, POWER_RESET);
    outb(0xCF9, 0x06); /* no rise */
    assert_int_equal(f.power_count, 1);
}

static void test_reset_by_keyboard_and_port_92(void **state)
{
    assert_int_equal(inb(0x64) & 0x03, 0); /* Linux waits for this before FEh */
    outb(0x64, 0xFE);
    assert_int_equal(f.power_count, 1);
    assert_int_equal(f.power, POWER_RESET);
    assert_int_equal(inb(0x92), 0x02);
    outb(0x92, 0x02);
    assert_int_equal(f.power_count, 1);
    outb(0x92, 0x03);
    assert_int_equal(f.power_count, 2);
}

static void test_keyboard_controller(void **state)
{
    outb(0x64, 0xAA);
    assert_int_equal(inb(0x64) & 1, 1);
    assert_int_equal(inb(0x60), 0x55);
    assert_int_equal(inb(0x64) & 1, 0);
    outb(0x64, 0x20);
    assert_int_equal(inb(0x60) & 0x30, 0x30); /* both ports off */
    outb(0x64, 0xAB);
    assert_int_equal(inb(0x60), 0x01); /* no keyboard */
    outb(0x64, 0xA9);
    assert_int_equal(inb(0x60), 0x01); /* no mouse */
    outb(0x64, 0xD0);
    assert_int_equal(inb(0x60), 0x03);
    outb(0x64, 0x60);
    outb(0x60, 0x00);
    assert_int_equal(inb(0x64) & 3, 0);
}

static void test_pci_is_empty(void **state)
{
    outb(0xCFB, 0x01); /* Linux's probe of configuration mechanism 1 */
    out(0xCF8, 4, 0x80000000);
    assert_int_equal(in(0xCF8, 4), 0x80000000);
    assert_int_equal(in(0xCFC, 4), 0xFFFFFFFF);
    assert_int_equal(in(0xCFE, 2), 0xFFFF);
    assert_int_equal(inb(0xCF8), 0xFF);
    out(0xCFC, 4, 0);
    out(0xCF8, 2, 0);
    assert_int_equal(in(0xCF8, 4), 0x80000000);
}

static void test_port_61(void **state)
{
    u8 first;
    u32 toggles = 0;

    outb(0x61, 0xFF);
    assert_int_equal(inb(0x61) & 0x0F, 0x0F);
    outb(0x61, 0x01);
    first = inb(0x61);
    for (u32 i = 0; i < 1000; i++) {
        run_for(MICROSECOND);
        toggles += (inb(0x61) ^ first) >> 4 & 1;
        first = inb(0x61);
    }
    assert_in_range(toggles, 66, 67); /* the refresh bit changes every 15 microseconds */
    outb(0x43, 0xB0);
    outb(0x42, 0xA9);
    outb(0x42, 0x04);
    assert_false(inb(0x61) & 0x20);
    run_for(MILLISECOND + MICROSECOND);
    assert_true(inb(0x61) & 0x20);
}

static void test_pm_timer(void **state)
{
    assert_int_equal(in(0x608, 4), 0);
    run_for(TSC_HZ);
    assert_int_equal(in(0x608, 4), 3579545);
    assert_int_equal(in(0x608, 2), 3579545 & 0xFFFF);
    assert_int_equal(inb(0x60A), 3579545 >> 16);
    out(0x608, 4, 0); /* read-only */
    assert_int_equal(in(0x608, 4), 3579545);
    assert_int_equal(in(0x60C, 4), 0);
}

static void test_acpi_mode_and_power_button(void **state)
{
    pic_program();
    out(0x602, 2, 0xFFFF);
    assert_int_equal(in(0x602, 2), PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC);
    out(0x602, 2, PM1_PWRBTN);
    assert_false(machine_press_power_button(f.machine, &f.effects));
    assert_int_equal(in(0x600, 2), PM1_PWRBTN);
    assert_false(machine_extint_pending(f.machine, 0)); /* no SCI before ACPI is enabled */
    out(0x604, 2, PM1_SCI_EN);
    assert_int_equal(in(0x604, 2), 0); /* which only SMI_CMD does */
    outb(0xB2, SMI_ACPI_ENABLE);
    assert_int_equal(in(0x604, 2), PM1_SCI_EN);
    assert_true(machine_extint_pending(f.machine, 0));
    assert_true(machine_press_power_button(f.machine, &f.effects));
    assert_int_equal(machine_acknowledge_pic(f.machine, &f.effects), 0x29);
    out(0x600, 2, PM1_TMR); /* another bit */
    assert_int_equal(in(0x600, 2), PM1_PWRBTN);
    outb(0x601, PM1_PWRBTN >> 8); /* write one to clear, one byte */
    assert_int_equal(in(0x600, 4), PM1_PWRBTN << 16);
    outb(0xA0, 0x20);
    outb(0x20, 0x20);
    assert_false(machine_extint_pending(f.machine, 0));
    outb(0xB2, SMI_ACPI_DISABLE);
    assert_int_equal(in(0x604, 2), 0);
    assert_int_equal(inb(0xB2), 0);
}

/* LINT1 is NMI on the first vCPU and masked on the others, as firmware leaves it. */
static void test_nmi(void **state)
{
    machine_nmi(f.machine, &f.effects);
    assert_int_equal(f.machine->lapics[0].events, LAPIC_EVENT_NMI);
    assert_int_equal(f.machine->lapics[1].events, 0);
    assert_int_equal(f.kicks[0], 1);
    assert_int_equal(f.kicks[1], 0);
    f.machine->lapics[0].events = 0;
    f.machine->lapics[0].registers[LAPIC_LVT_LINT1 >> 4].value |= INTERRUPT_MASKED;
    machine_nmi(f.machine, &f.effects);
    assert_int_equal(f.machine->lapics[0].events, 0);
    f.machine->lapics[1].apic_base &= ~APIC_BASE_ENABLE; /* then the pin is the CPU's own */
    machine_nmi(f.machine, &f.effects);
    assert_int_equal(f.machine->lapics[1].events, LAPIC_EVENT_NMI);
}

/* Sources of NMIs but LINT1, which is the operator's. */
static void test_nmi_sources(void **state)
{
    u32 nmi = DELIVERY_NMI << INTERRUPT_MODE_SHIFT;

    assert_false(machine_may_send_nmi(f.machine));
    ioapic_reg_write(0x10 + 2 * 8, 0x31);
    assert_false(machine_may_send_nmi(f.machine));
    ioapic_reg_write(0x10 + 2 * 8, nmi);
    assert_true(machine_may_send_nmi(f.machine));
    ioapic_reg_write(0x10 + 2 * 8, nmi | INTERRUPT_MASKED);
    assert_false(machine_may_send_nmi(f.machine));
    f.machine->lapics[3].registers[LAPIC_LVT_LINT0 >> 4].value = nmi;
    assert_true(machine_may_send_nmi(f.machine));
}

/* Without effects and lock: the same as with them. */
static void test_quick_ways_to_the_ioapic(void **state)
{
    struct ioapic before;

    ioapic_reg_write(0x10 + 2 * 8, 0x31);
    for (u32 index = 0; index < 256; index++) {
        assert_true(machine_poke_memory(f.machine, 0, IOAPIC_BASE, index | 0xABCDEF00));
        assert_int_equal(machine_peek_memory(f.machine, 0, IOAPIC_BASE), index);
        assert_int_equal(machine_peek_memory(f.machine, 0, IOAPIC_BASE + IOAPIC_IOWIN),
                         mmio_read(IOAPIC_BASE + IOAPIC_IOWIN));
    }
    before = f.machine->ioapic;
    for (u32 offset = 1; offset < IOAPIC_SIZE; offset++)
        assert_false(machine_poke_memory(f.machine, 0, IOAPIC_BASE + offset, 0));
    assert_memory_equal(&before, &f.machine->ioapic, sizeof before);
    assert_int_equal(machine_peek_memory(f.machine, 0, LAPIC_BASE_DEFAULT), -1);
    assert_int_equal(machine_peek_memory(f.machine, 0, IOAPIC_BASE + IOAPIC_SIZE), -1);
    /* A local APIC is nearer to its vCPU. */
    f.machine->lapics[1].apic_base = IOAPIC_BASE | APIC_BASE_ENABLE;
    assert_int_equal(machine_peek_memory(f.machine, 1, IOAPIC_BASE), -1);
    assert_false(machine_poke_memory(f.machine, 1, IOAPIC_BASE, 1));
    assert_int_equal(machine_peek_memory(f.machine, 0, IOAPIC_BASE), 0xFF);
}

static void test_soft_off(void **state)
{
    out(0x604, 2, PM1_SLP_EN | 4 << PM1_SLP_TYP_SHIFT);
    out(0x604, 2, PM1_SLP_TYP_S5 << PM1_SLP_TYP_SHIFT);
    assert_int_equal(f.power_count, 0);
    out(0x604, 2, PM1_SLP_EN | PM1_SLP_TYP_S5 << PM1_SLP_TYP_SHIFT);
    assert_int_equal(f.power_count, 1);
    assert_int_equal(f.power, POWER_OFF);
    assert_int_equal(in(0x604, 2), PM1_SLP_TYP_S5 << PM1_SLP_TYP_SHIFT);
    assert_int_equal(in(0x604, 2) & PM1_SLP_EN, 0); /* reads as 0 */
    outb(0x604, 0);                                 /* the upper byte stays, without SLP_EN */
    assert_int_equal(f.power_count, 1);
}

static void test_pm_timer_interrupt(void **state)
{
    u64 half = (TSC_HZ << 31) / PM_TIMER_HZ; /* some ten minutes: bit 31 changes */

    outb(0xB2, SMI_ACPI_ENABLE);
    out(0x602, 2, PM1_TMR);
    pic_program();
    outb(0x21, 0xFB);
    assert_in_range(machine_deadline(f.machine, 0), half, half + 2);
    machine_press_power_button(f.machine, &f.effects);
    run_until(half + 2);
    assert_true(machine_extint_pending(f.machine, 0));
    assert_int_equal(in(0x600, 2), PM1_TMR | PM1_PWRBTN);
    out(0x600, 2, PM1_PWRBTN);
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
    out(0x600, 2, PM1_TMR);
    assert_in_range(machine_deadline(f.machine, 0), 2 * half, 2 * half + 2);
    f.effects.now = 2 * half + 2;
    out(0x600, 2, PM1_TMR); /* clears what came in this very moment, too */
    assert_int_equal(in(0x600, 2), 0);
    out(0x602, 2, 0);
    f.effects.now = 3 * half + 2;
    assert_int_equal(in(0x600, 2), PM1_TMR); /* shows though it is not enabled */
    machine_reset(f.machine, &f.effects);
    assert_int_equal(in(0x600, 2), 0);
}

/* A kernel without APIC: ticks by the PIT through the PIC, in virtual-wire mode. */
static void test_virtual_wire_ticks(void **state)
{
    u32 ticks = 0;

    pic_program();
    outb(0x21, 0xFE);
    outb(0x43, 0x34);
    outb(0x40, 0x9C);
    outb(0x40, 0x2E); /* 11932: 100 Hz */
    run_for(MILLISECOND);
    outb(0x43, 0x00);
    assert_int_equal(inb(0x40), (11932 - 1192) & 0xFF);
    assert_int_equal(inb(0x40), (11932 - 1192) >> 8);
    while (f.effects.now < TSC_HZ) {
        run_until(machine_deadline(f.machine, 0));
        while (machine_extint_pending(f.machine, 0)) {
            assert_int_equal(machine_acknowledge_pic(f.machine, &f.effects), 0x20);
            outb(0x20, 0x20);
            ticks++;
        }
    }
    assert_in_range(ticks, 99, 101);
}

/* What waited behind a mask is there as soon as the mask goes, though nobody ran the timer. */
static void test_masked_pit_catches_up(void **state)
{
    pic_program();
    outb(0x21, 0xFF);
    outb(0x43, 0x30);
    outb(0x40, 0x00);
    outb(0x40, 0x01);
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
    run_for(MILLISECOND);
    outb(0x20, 0x0A);
    assert_int_equal(inb(0x20), 0x01);
    outb(0x21, 0xFE);
    assert_true(machine_extint_pending(f.machine, 0));
    assert_true(f.kicks[0] > 0);
}

static void test_next_request_kicks_again(void **state)
{
    pic_program();
    outb(0x3FC, 0x0B);
    outb(0x3F9, 0x02);
    machine_press_power_button(f.machine, &f.effects);
    out(0x602, 2, PM1_PWRBTN);
    outb(0xB2, SMI_ACPI_ENABLE);
    assert_int_equal(machine_acknowledge_pic(f.machine, &f.effects), 0x29);
    f.kicks[0] = 0;
    outb(0xA0, 0x20);
    outb(0x20, 0x20); /* the level is still there: asks again */
    assert_int_equal(f.kicks[0], 1);
    assert_int_equal(machine_acknowledge_pic(f.machine, &f.effects), 0x29);
}

static void test_machine_is_a_plain_copy(void **state)
{
    size_t size = machine_size(FIXTURE_CPUS);
    struct machine *copy = aligned_alloc(CACHE_LINE_SIZE, size);
    struct machine *original = f.machine;

    pic_program();
    outb(0x43, 0x34);
    outb(0x40, 0x00);
    outb(0x40, 0x10);
    mmio_write(0xFEE00320, 0x20040);
    mmio_write(0xFEE00380, 12345);
    run_for(MILLISECOND);
    memcpy(copy, original, size);
    run_for(10 * MILLISECOND);
    f.machine = copy;
    f.effects.now -= 10 * MILLISECOND;
    run_for(10 * MILLISECOND);
    f.machine = original;
    assert_memory_equal(copy, original, size);
    free(copy);
}

static void test_reset(void **state)
{
    run_for(MILLISECOND);
    pic_program();
    outb(0x3FC, 0x0B);
    outb(0x3F9, 0x02); /* the reset comes with an interrupt on its way */
    assert_true(machine_extint_pending(f.machine, 0));
    outb(0xCF9, 0x02);
    out(0xCF8, 4, 0x80000000);
    outb(0x3FF, 0x77);
    outb(0xB2, SMI_ACPI_ENABLE);
    f.machine->lapics[1].wait_for_sipi = 0;
    f.machine->lapics[1].events = LAPIC_EVENT_NMI;
    machine_reset(f.machine, &f.effects);
    assert_int_equal(inb(0x21), 0xFF);
    assert_int_equal(inb(0x3FF), 0x00);
    assert_int_equal(in(0x604, 2), 0);
    assert_true(f.machine->lapics[1].wait_for_sipi);
    assert_int_equal(f.machine->lapics[1].events, 0);
    assert_int_equal(f.machine->exit_port, EXIT_PORT);
    assert_int_equal(f.machine->vcpu_count, FIXTURE_CPUS);
    assert_int_equal(f.machine->tsc_hz, TSC_HZ);
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
    assert_int_equal(inb(0xCF9), 0);
    assert_int_equal(in(0xCF8, 4), 0);
    assert_int_equal(inb(0x92), 0x02);
    assert_false(machine_extint_pending(f.machine, 0));
    pic_program();
    f.kicks[0] = 0;
    outb(0x3FC, 0x0B);
    outb(0x3F9, 0x02);
    assert_int_equal(f.kicks[0], 1);
    assert_true(machine_extint_pending(f.machine, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DEVICE_TEST(test_layout),
        DEVICE_TEST(test_unclaimed_reads_all_ones),
        DEVICE_TEST(test_wide_access_is_split),
        DEVICE_TEST(test_post_port),
        DEVICE_TEST(test_exit_port),
        DEVICE_TEST(test_reset_by_cf9),
        DEVICE_TEST(test_reset_by_keyboard_and_port_92),
        DEVICE_TEST(test_keyboard_controller),
        DEVICE_TEST(test_pci_is_empty),
        DEVICE_TEST(test_port_61),
        DEVICE_TEST(test_pm_timer),
        DEVICE_TEST(test_acpi_mode_and_power_button),
        DEVICE_TEST(test_nmi),
        DEVICE_TEST(test_nmi_sources),
        DEVICE_TEST(test_quick_ways_to_the_ioapic),
        DEVICE_TEST(test_soft_off),
        DEVICE_TEST(test_pm_timer_interrupt),
        DEVICE_TEST(test_virtual_wire_ticks),
        DEVICE_TEST(test_masked_pit_catches_up),
        DEVICE_TEST(test_next_request_kicks_again),
        DEVICE_TEST(test_machine_is_a_plain_copy),
        DEVICE_TEST(test_reset),
    };

    return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
