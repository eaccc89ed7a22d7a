/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "tests/unit/device_fixture.h"

#define SECOND TSC_HZ

static u8 cmos_read(u8 index)
{
    outb(0x70, index);
    return inb(0x71);
}

static void cmos_write(u8 index, u8 value)
{
    outb(0x70, index);
    outb(0x71, value);
}

struct rtc_time {
    u8 century, year, month, day, weekday, hour, minute, second;
};

static void expect_time(struct rtc_time expected)
{
    const struct rtc_time is = {
        cmos_read(0x32), cmos_read(9), cmos_read(8), cmos_read(7),
        cmos_read(6),    cmos_read(4), cmos_read(2), cmos_read(0),
    };

    assert_memory_equal(&is, &expected, sizeof is);
}

/* As Linux sets it: stop, reset the divider, write, let go. */
static void set_time(struct rtc_time t)
{
    u8 control = cmos_read(0x0B), rate = cmos_read(0x0A) & 0x7F;

    cmos_write(0x0B, control | 0x80);
    cmos_write(0x0A, rate | 0x70);
    cmos_write(0x32, t.century);
    cmos_write(9, t.year);
    cmos_write(8, t.month);
    cmos_write(7, t.day);
    cmos_write(6, t.weekday);
    cmos_write(4, t.hour);
    cmos_write(2, t.minute);
    cmos_write(0, t.second);
    cmos_write(0x0B, control);
    cmos_write(0x0A, rate);
}

static bool take_irq8(void)
{
    if (!machine_extint_pending(f.machine, 0))
        return false;
    assert_int_equal(machine_acknowledge_pic(f.machine, &f.effects), 0x28);
    outb(0xA0, 0x20);
    outb(0x20, 0x20);
    return true;
}

static int setup(void **state)
{
    fixture_setup(state);
    pic_program();
    outb(0x21, 0xFB);
    outb(0xA1, 0xFE);
    return 0;
}

#define RTC_TEST(function) cmocka_unit_test_setup_teardown(function, setup, fixture_teardown)

static void test_power_on_shows_the_wall_clock(void **state)
{
    assert_int_equal(cmos_read(0x0A), 0x26);
    assert_int_equal(cmos_read(0x0B), 0x02);
    assert_int_equal(cmos_read(0x0D), 0x80);
    assert_int_equal(cmos_read(0x15) | cmos_read(0x16) << 8, 640);
    expect_time((struct rtc_time){0x20, 0x23, 0x11, 0x14, 3, 0x22, 0x13, 0x20});
    run_for(100 * SECOND);
    expect_time((struct rtc_time){0x20, 0x23, 0x11, 0x14, 3, 0x22, 0x15, 0x00});
    run_for(2 * 3600 * SECOND);
    expect_time((struct rtc_time){0x20, 0x23, 0x11, 0x15, 4, 0x00, 0x15, 0x00});
}

static void test_update_in_progress(void **state)
{
    assert_false(cmos_read(0x0A) & 0x80);
    run_until(SECOND - 3 * MILLISECOND);
    assert_false(cmos_read(0x0A) & 0x80);
    run_until(SECOND - 2 * MILLISECOND);
    assert_true(cmos_read(0x0A) & 0x80);
    assert_int_equal(cmos_read(0), 0x20);
    run_until(SECOND);
    assert_false(cmos_read(0x0A) & 0x80);
    assert_int_equal(cmos_read(0), 0x21);
}

static void test_formats(void **state)
{
    cmos_write(0x0B, 0x06); /* binary */
    expect_time((struct rtc_time){20, 23, 11, 14, 3, 22, 13, 20});
    cmos_write(0x0B, 0x04); /* binary, 12 hours */
    assert_int_equal(cmos_read(4), 0x80 | 10);
    cmos_write(0x0B, 0x00);
    assert_int_equal(cmos_read(4), 0x80 | 0x10);
    run_for(2 * 3600 * SECOND);
    assert_int_equal(cmos_read(4), 0x12); /* midnight is 12 AM */
    run_for(12 * 3600 * SECOND);
    assert_int_equal(cmos_read(4), 0x92);
    cmos_write(4, 0x87); /* 7 PM */
    cmos_write(0x0B, 0x06);
    assert_int_equal(cmos_read(4), 19);
    cmos_write(0x0B, 0x04);
    cmos_write(4, 0x0C); /* 12 AM */
    cmos_write(0x0B, 0x06);
    assert_int_equal(cmos_read(4), 0);
}

static void test_setting_the_time(void **state)
{
    run_for(SECOND / 4);
    set_time((struct rtc_time){0x20, 0x24, 0x02, 0x28, 4, 0x23, 0x59, 0x59});
    expect_time((struct rtc_time){0x20, 0x24, 0x02, 0x28, 4, 0x23, 0x59, 0x59});
    run_for(SECOND / 2 - MILLISECOND); /* the first second lasts half of one */
    assert_int_equal(cmos_read(0), 0x59);
    run_for(2 * MILLISECOND);
    expect_time((struct rtc_time){0x20, 0x24, 0x02, 0x29, 5, 0x00, 0x00, 0x00});
    run_for(24 * 3600 * SECOND);
    expect_time((struct rtc_time){0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x00, 0x00});
    set_time((struct rtc_time){0x20, 0x99, 0x12, 0x31, 5, 0x23, 0x59, 0x59});
    run_for(SECOND);
    expect_time((struct rtc_time){0x21, 0x00, 0x01, 0x01, 6, 0x00, 0x00, 0x00});
    set_time((struct rtc_time){0x21, 0x00, 0x02, 0x28, 1, 0x23, 0x59, 0x59});
    run_for(SECOND); /* 2100 is no leap year */
    expect_time((struct rtc_time){0x21, 0x00, 0x03, 0x01, 2, 0x00, 0x00, 0x00});
}

static void test_setting_while_it_runs(void **state)
{
    run_for(SECOND / 4);
    cmos_write(2, 0x45);
    expect_time((struct rtc_time){0x20, 0x23, 0x11, 0x14, 3, 0x22, 0x45, 0x20});
    run_for(SECOND * 3 / 4); /* the fraction of the second was kept */
    assert_int_equal(cmos_read(0), 0x21);
}

static void test_set_bit_freezes(void **state)
{
    cmos_write(0x0B, 0x92);
    assert_int_equal(cmos_read(0x0B), 0x82); /* and clears UIE */
    run_for(10 * SECOND);
    assert_int_equal(cmos_read(0), 0x20);
    assert_false(cmos_read(0x0C) & 0x10);
    assert_false(cmos_read(0x0A) & 0x80);
    cmos_write(0x0B, 0x02);
    run_for(SECOND);
    assert_int_equal(cmos_read(0), 0x21);
}

static void test_update_interrupt(void **state)
{
    run_for(SECOND / 2);
    cmos_write(0x0B, 0x12);
    cmos_read(0x0C);
    assert_int_equal(machine_deadline(f.machine, 0), SECOND);
    run_until(SECOND);
    assert_true(take_irq8());
    run_for(2 * SECOND);
    assert_false(take_irq8());               /* the flag was not cleared: no edge */
    assert_int_equal(cmos_read(0x0C), 0xD0); /* the periodic flag shows without its enable */
    assert_int_equal(cmos_read(0x0C), 0x00);
    run_for(SECOND);
    assert_true(take_irq8());
}

static void test_periodic_interrupt(void **state)
{
    u32 count = 0;

    cmos_write(0x0A, 0x26); /* 1024 Hz */
    cmos_write(0x0B, 0x42);
    cmos_read(0x0C);
    while (f.effects.now < SECOND) {
        run_until(machine_deadline(f.machine, 0));
        if (take_irq8())
            count++;
        assert_int_equal(cmos_read(0x0C) & 0xC0, 0xC0);
    }
    assert_in_range(count, 1024, 1025);
    cmos_write(0x0A, 0x21); /* rate 1 is 256 Hz */
    cmos_read(0x0C);
    assert_in_range(machine_deadline(f.machine, 0) - f.effects.now, 1, SECOND / 256 + 2);
    cmos_write(0x0A, 0x20); /* none */
    cmos_read(0x0C);
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
}

static void test_alarm(void **state)
{
    cmos_write(5, 0x22);
    cmos_write(3, 0x14);
    cmos_write(1, 0x05);
    cmos_write(0x0B, 0x22);
    cmos_read(0x0C);
    assert_int_equal(machine_deadline(f.machine, 0), 45 * SECOND);
    run_until(45 * SECOND);
    assert_true(take_irq8());
    assert_int_equal(cmos_read(0x0C) & 0xA0, 0xA0);
    assert_int_equal(machine_deadline(f.machine, 0), (45 + 86400) * SECOND);
    cmos_write(5, 0x23);
    assert_int_equal(machine_deadline(f.machine, 0), (45 + 3600) * SECOND);
    cmos_write(5, 0x21);
    assert_int_equal(machine_deadline(f.machine, 0), (45 + 23 * 3600) * SECOND);
    cmos_write(5, 0xC0); /* every hour */
    assert_int_equal(machine_deadline(f.machine, 0), (45 + 3600) * SECOND);
    cmos_write(3, 0xC0); /* every minute */
    assert_int_equal(machine_deadline(f.machine, 0), (45 + 60) * SECOND);
    cmos_write(1, 0xFE); /* every second */
    assert_int_equal(machine_deadline(f.machine, 0), 46 * SECOND);
    cmos_write(1, 0x75); /* never */
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
}

static void test_alarm_is_noticed_late(void **state)
{
    cmos_write(5, 0x22);
    cmos_write(3, 0x14);
    cmos_write(1, 0x05);
    cmos_read(0x0C);
    run_for(600 * SECOND);  /* nobody is interrupted; polling sees the flag, */
    cmos_write(0x0B, 0x02); /* and a write does not lose it */
    assert_int_equal(cmos_read(0x0C), 0x70);
    run_for(600 * SECOND);
    assert_int_equal(cmos_read(0x0C), 0x50);
}

static void test_nvram_and_read_only_registers(void **state)
{
    for (u32 i = 0x0E; i < 0x80; i++) {
        if (i != RTC_CENTURY_REGISTER)
            cmos_write(i, i ^ 0xFF);
    }
    for (u32 i = 0x0E; i < 0x80; i++) {
        if (i != RTC_CENTURY_REGISTER)
            assert_int_equal(cmos_read(i), i ^ 0xFF);
    }
    cmos_write(0x0D, 0x00);
    assert_int_equal(cmos_read(0x0D), 0x80);
    assert_int_equal(cmos_read(0x80 | 0x15), 0x15 ^ 0xFF); /* the NMI bit is no address */
    assert_int_equal(inb(0x70), 0xFF);
}

static void test_nonsense_dates_stay_within_bounds(void **state)
{
    cmos_write(0x0B, 0x86);
    for (u32 i = 0; i < 10; i++)
        cmos_write(i, 0xFF);
    cmos_write(0x32, 0xFF);
    cmos_write(0x0B, 0x06);
    for (u32 i = 0; i < 10; i += 2)
        cmos_read(i);
    assert_in_range(cmos_read(0), 0, 59);
    assert_in_range(cmos_read(8), 1, 12);
    assert_in_range(cmos_read(7), 1, 31);
    cmos_write(0x0B, 0x80);
    for (u32 i = 0; i < 10; i++)
        cmos_write(i, 0);
    cmos_write(0x32, 0);
    cmos_write(0x0B, 0x06);
    assert_int_equal(cmos_read(9), 70);
    assert_int_equal(cmos_read(0x32), 19);
}

static void test_reset_keeps_the_time(void **state)
{
    run_for(5 * SECOND);
    cmos_write(0x20, 0x77);
    cmos_write(0x0B, 0x72);
    machine_reset(f.machine, &f.effects);
    assert_int_equal(cmos_read(0x0B), 0x02);
    assert_int_equal(cmos_read(0x20), 0x77);
    expect_time((struct rtc_time){0x20, 0x23, 0x11, 0x14, 3, 0x22, 0x13, 0x25});
    assert_int_equal(machine_deadline(f.machine, 0), DEADLINE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RTC_TEST(test_power_on_shows_the_wall_clock),
        RTC_TEST(test_update_in_progress),
        RTC_TEST(test_formats),
        RTC_TEST(test_setting_the_time),
        RTC_TEST(test_setting_while_it_runs),
        RTC_TEST(test_set_bit_freezes),
        RTC_TEST(test_update_interrupt),
        RTC_TEST(test_periodic_interrupt),
        RTC_TEST(test_alarm),
        RTC_TEST(test_alarm_is_noticed_late),
        RTC_TEST(test_nvram_and_read_only_registers),
        RTC_TEST(test_nonsense_dates_stay_within_bounds),
        RTC_TEST(test_reset_keeps_the_time),
    };

    return cmocka_run_group_tests_name("rtc", tests, NULL, NULL);
}
