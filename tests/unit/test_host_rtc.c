/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* drivers/rtc.c against a CMOS clock in place of ports. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lib/types.h"

#define BULKHEAD_DRIVERS_IO_H
static u8 inb(u16 port);
static void outb(u16 port, u8 value);
#include "../../drivers/rtc.c"

#define CENTURY 0x32

static struct {
    u8 cmos[128];
    u8 index;
    u32 reads;
    u32 updating; /* reads of register A until the update is over */
    bool missing;
    bool ticking; /* the seconds change with every read */
} model;

static u8 inb(u16 port)
{
    assert_int_equal(port, 0x71);
    model.reads++;
    if (model.missing)
        return 0xFF;
    if (model.index == 0x0A && model.updating > 0) {
        model.updating--;
        return 0xA6;
    }
    if (model.index == 0 && model.ticking)
        model.cmos[0] = (model.cmos[0] + 1) % 60;
    return model.cmos[model.index];
}

static void outb(u16 port, u8 value)
{
    assert_int_equal(port, 0x70);
    assert_true(value < sizeof(model.cmos));
    model.index = value;
}

static u8 bcd(u32 value)
{
    return (u8)(value / 10 << 4 | value % 10);
}

/* In the form that register B says: BCD or binary, 12 or 24 hours. */
static void set(const struct tm *date, u8 status_b)
{
    const u32 values[] = {(u32)date->tm_sec,        (u32)date->tm_min,
                          (u32)date->tm_mday,       (u32)date->tm_mon + 1,
                          (u32)date->tm_year % 100, 19U + (u32)date->tm_year / 100};
    const u8 indices[] = {0, 2, 7, 8, 9, CENTURY};
    u32 hour = (u32)date->tm_hour;
    bool pm = hour >= 12;

    memset(&model, 0, sizeof(model));
    model.cmos[0x0A] = 0x26;
    model.cmos[0x0B] = status_b;
    for (u32 i = 0; i < ARRAY_SIZE(indices); i++)
        model.cmos[indices[i]] = status_b & 4 ? (u8)values[i] : bcd(values[i]);
    if ((status_b & 2) == 0)
        hour = hour % 12 == 0 ? 12 : hour % 12;
    model.cmos[4] = status_b & 4 ? (u8)hour : bcd(hour);
    if ((status_b & 2) == 0 && pm)
        model.cmos[4] |= 0x80;
}

static void every_form_of_every_hour(void **state)
{
    /* Each day for some leap years' worth, an hour further each time. */
    for (time_t now = 0; now < 4000000000; now += 86400 + 3600 + 61) {
        u64 seconds;

        set(gmtime(&now), (u8)((now / 90061) % 4 << 1));
        assert_true(host_rtc_read(CENTURY, &seconds));
        assert_int_equal(seconds, now);
    }
}

static void the_century_is_guessed_where_there_is_none(void **state)
{
    struct tm date = {.tm_year = 126, .tm_mon = 10, .tm_mday = 22};
    u64 seconds;

    set(&date, 2);
    assert_true(host_rtc_read(0, &seconds));
    assert_int_equal(seconds, 1795305600);
    date.tm_year = 99;
    set(&date, 2);
    assert_true(host_rtc_read(0, &seconds));
    assert_int_equal(seconds, 943228800);
    date.tm_year = 126;
    set(&date, 2);
    model.cmos[CENTURY] = 0; /* never set */
    assert_true(host_rtc_read(CENTURY, &seconds));
    assert_int_equal(seconds, 1795305600);
}

static void an_update_is_waited_for(void **state)
{
    struct tm date = {.tm_year = 126, .tm_mday = 1};
    u64 seconds;

    set(&date, 2);
    model.updating = 50;
    assert_true(host_rtc_read(CENTURY, &seconds));
    assert_int_equal(model.updating, 0);
    assert_int_equal(seconds, 1767225600);
}

static void no_clock_is_noticed(void **state)
{
    u64 seconds = 77;

    memset(&model, 0, sizeof(model));
    model.missing = true;
    assert_false(host_rtc_read(CENTURY, &seconds));
    assert_true(model.reads <= 10000);
    assert_int_equal(seconds, 77);
}

static void a_clock_that_never_stands_still(void **state)
{
    struct tm date = {.tm_year = 126, .tm_mday = 1};
    u64 seconds;

    set(&date, 2);
    model.ticking = true;
    assert_false(host_rtc_read(CENTURY, &seconds));
    assert_true(model.reads < 100);
}

static void nonsense_is_no_date(void **state)
{
    static const struct {
        u8 index;
        u8 value;
    } cases[] = {
        {0, 0x61},
        {2, 0x60},
        {4, 0x24},
        {7, 0   },
        {7, 0x32},
        {8, 0   },
        {8, 0x13},
        {9, 0xA0}
    };
    struct tm date = {.tm_year = 126, .tm_mday = 1};
    u64 seconds;

    for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
        set(&date, 2);
        model.cmos[cases[i].index] = cases[i].value;
        assert_false(host_rtc_read(CENTURY, &seconds));
    }
    date.tm_year = 69;
    set(&date, 2);
    assert_false(host_rtc_read(CENTURY, &seconds));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_every_hour),
        cmocka_unit_test(the_century_is_guessed_where_there_is_none),
        cmocka_unit_test(an_update_is_waited_for),
        cmocka_unit_test(no_clock_is_noticed),
        cmocka_unit_test(a_clock_that_never_stands_still),
        cmocka_unit_test(nonsense_is_no_date),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
