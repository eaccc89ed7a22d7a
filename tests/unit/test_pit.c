/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "devices/device.h"
#include "devices/pit.h"

/* A machine whose TSC runs at a thousand times the PIT's clock makes the arithmetic exact: tick T
 * begins at machine time T * 1000. */
#define TSC_HZ  (PIT_HZ * 1000ULL)
#define TICK    1000ULL
#define CONTROL 0x43

static struct pit pit;
static u64 now;

static int setup(void **state)
{
    now = 0;
    pit_init(&pit, TSC_HZ, now);
    now = 1000 * TICK;
    return 0;
}

static void write(u16 port, u8 value)
{
    pit_write(&pit, port, value, TSC_HZ, now);
}

static u8 read(u16 port)
{
    return pit_read(&pit, port, TSC_HZ, now);
}

static u16 read_latched(u32 channel)
{
    u8 low;

    write(CONTROL, channel << 6);
    low = read(0x40 + channel);
    return low | read(0x40 + channel) << 8;
}

static u8 status(u32 channel)
{
    write(CONTROL, 0xE0 | 2 << channel);
    return read(0x40 + channel);
}

static void load(u32 channel, u8 control, u16 count)
{
    write(CONTROL, channel << 6 | control);
    write(0x40 + channel, count);
    write(0x40 + channel, count >> 8);
}

static bool update(void)
{
    return pit_update(&pit, TSC_HZ, now);
}

/* Rising edges of channel 0 until `end`, and the time of the last one. */
static u32 edges_until(u64 end, u64 *last)
{
    u32 edges = 0;

    while (pit.deadline <= end) {
        now = pit.deadline;
        assert_true(update());
        assert_true(pit.deadline > now);
        assert_false(update());
        *last = now;
        edges++;
    }
    now = end;
    return edges;
}

static void test_power_on_is_the_bios_tick(void **state)
{
    u64 last = 0;

    assert_int_equal(status(0) & 0x3F, 0x36);
    assert_in_range(pit.deadline, 65537 * TICK, 65537 * TICK + 1);
    now = 0;
    assert_int_equal(edges_until(TSC_HZ, &last), 18); /* 18.2 a second */
}

static void test_periodic_neither_drifts_nor_bunches(void **state)
{
    u64 start = now, last = 0;

    load(0, 0x34, 11932);
    assert_int_equal(edges_until(start + TSC_HZ * 10, &last), 999);
    assert_in_range(last - start, TICK * (11932 * 999ULL), TICK * (11932 * 999ULL + 2));
    /* Late by many periods: one edge, and the phase is kept. */
    now = start + TICK * (11932 * 1500ULL + 100);
    assert_true(update());
    assert_false(update());
    assert_in_range(pit.deadline - start, TICK * (11932 * 1501ULL), TICK * (11932 * 1501ULL + 2));
}

static void test_rate_generator_output_and_count(void **state)
{
    load(0, 0x34, 100);
    now += TICK; /* the count is loaded by the next clock */
    assert_int_equal(read_latched(0), 100);
    now += 30 * TICK;
    assert_int_equal(read_latched(0), 70);
    assert_int_equal(status(0), 0xB4);
    now += 69 * TICK;
    assert_int_equal(read_latched(0), 1);
    assert_int_equal(status(0), 0x34); /* low for the last clock */
    now += TICK;
    assert_int_equal(read_latched(0), 100);
    assert_int_equal(status(0), 0xB4);
}

static void test_square_wave_counts_by_twos(void **state)
{
    load(0, 0x36, 100);
    now += TICK;
    assert_int_equal(read_latched(0), 100);
    now += 20 * TICK;
    assert_int_equal(read_latched(0), 60);
    assert_int_equal(status(0), 0xB6);
    now += 35 * TICK; /* 55: second half */
    assert_int_equal(read_latched(0), 90);
    assert_int_equal(status(0), 0x36);
}

static void test_terminal_count_fires_once(void **state)
{
    u64 start = now, last = 0;

    write(CONTROL, 0x30);
    assert_true(pit_output0_low(&pit));
    assert_true(status(0) & 0x40); /* null count */
    write(0x40, 200);
    write(0x40, 0);
    assert_int_equal(status(0), 0x30);
    assert_true(pit_output0_low(&pit));
    assert_int_equal(edges_until(start + 10000 * TICK, &last), 1);
    assert_in_range(last - start, 201 * TICK, 201 * TICK + 1); /* N + 1 clocks */
    assert_int_equal(status(0), 0xB0);
    assert_false(pit_output0_low(&pit));
    assert_int_equal(pit.deadline, DEADLINE_NONE);
    /* It counts on, from FFFFh. */
    assert_int_equal(read_latched(0), (u16)(200 - 9999));
    /* A new count starts it again, without a control word. */
    write(0x40, 50);
    write(0x40, 0);
    assert_false(status(0) & 0x80);
    start = now;
    assert_int_equal(edges_until(now + 10000 * TICK, &last), 1);
    assert_in_range(last - start, 51 * TICK, 51 * TICK + 1);
}

static void test_first_byte_stops_mode_0(void **state)
{
    load(0, 0x30, 100);
    write(0x40, 0x10);
    assert_int_equal(pit.deadline, DEADLINE_NONE);
    now += 1000 * TICK;
    assert_false(update());
    write(0x40, 0x00);
    assert_int_not_equal(pit.deadline, DEADLINE_NONE);
}

static void test_software_strobe(void **state)
{
    u64 start = now, last = 0;

    load(0, 0x38, 100);
    now += 101 * TICK;
    assert_int_equal(status(0), 0x38); /* low for one clock */
    now = start;
    assert_int_equal(edges_until(start + 10000 * TICK, &last), 1);
    assert_in_range(last - start, 102 * TICK, 102 * TICK + 1);
    assert_int_equal(status(0), 0xB8);
}

static void test_new_count_waits_for_the_period(void **state)
{
    u64 start = now, last = 0;

    load(0, 0x34, 1000);
    now += 501 * TICK;
    write(0x40, 100);
    write(0x40, 0);
    assert_true(status(0) & 0x40);
    assert_int_equal(read_latched(0), 500);
    assert_int_equal(edges_until(start + 1001 * TICK, &last), 0);
    assert_int_equal(edges_until(start + 1002 * TICK, &last), 1);
    assert_false(status(0) & 0x40);
    assert_int_equal(edges_until(start + 2002 * TICK, &last), 10);
}

static void test_new_count_waits_for_a_later_period(void **state)
{
    u64 start = now, last = 0;

    load(0, 0x34, 1000);
    now += (2 * 1000 + 301) * TICK;
    write(0x40, 70);
    write(0x40, 0);
    assert_int_equal(read_latched(0), 700);
    assert_int_equal(edges_until(start + 3002 * TICK, &last), 1);
    assert_in_range(last - start, 3001 * TICK, 3001 * TICK + 1);
    assert_int_equal(edges_until(start + 3072 * TICK, &last), 1);
    assert_in_range(last - start, 3071 * TICK, 3071 * TICK + 1);
}

static void test_new_count_needs_nobody_to_look(void **state)
{
    u64 start = now, last = 0;

    load(0, 0x34, 1000);
    write(0x40, 100);
    write(0x40, 0);
    assert_int_equal(edges_until(start + 2002 * TICK, &last), 11);
    write(CONTROL, 0x36);
    write(0x40, 10);
    assert_int_equal(status(0), 0xF6); /* half a count: high, and null */
}

static void test_count_of_zero_is_the_longest(void **state)
{
    u64 start = now, last = 0;

    load(0, 0x34, 0);
    assert_int_equal(edges_until(start + 65538 * TICK, &last), 1);
    assert_in_range(last - start, 65537 * TICK, 65537 * TICK + 1);
    load(0, 0x35, 0); /* BCD */
    start = now;
    assert_int_equal(edges_until(start + 10002 * TICK, &last), 1);
}

static void test_bcd(void **state)
{
    load(0, 0x35, 0x1234);
    now += TICK;
    assert_int_equal(read_latched(0), 0x1234);
    now += 35 * TICK;
    assert_int_equal(read_latched(0), 0x1199);
    assert_int_equal(status(0), 0xB5);
}

static void test_low_byte_and_high_byte_access(void **state)
{
    write(CONTROL, 0x14);
    write(0x40, 200);
    now += TICK;
    assert_int_equal(read(0x40), 200);
    now += 10 * TICK;
    assert_int_equal(read(0x40), 190);
    write(CONTROL, 0x24);
    write(0x40, 0x12);
    now += TICK;
    assert_int_equal(read(0x40), 0x12);
    now += TICK;
    assert_int_equal(read(0x40), 0x11);
    write(CONTROL, 0x00);
    assert_int_equal(read(0x40), 0x11);
}

static void test_latch_holds_until_read(void **state)
{
    load(0, 0x34, 0x4321);
    now += TICK;
    write(CONTROL, 0x00);
    now += 0x300 * TICK;
    write(CONTROL, 0x00); /* a second latch does nothing */
    assert_int_equal(read(0x40), 0x21);
    now += 0x300 * TICK;
    assert_int_equal(read(0x40), 0x43);
    assert_int_equal(read(0x40), (0x4321 - 0x600) & 0xFF);
}

static void test_read_back(void **state)
{
    load(0, 0x34, 0x1000);
    load(2, 0xB6 & 0x3F, 0x2000);
    pit_set_gate2(&pit, true, TSC_HZ, now);
    now += 0x11 * TICK;
    write(CONTROL, 0xCA); /* status and count of channels 0 and 2 */
    now += 0x100 * TICK;
    assert_int_equal(read(0x40), 0xB4);
    assert_int_equal(read(0x40), 0xF0);
    assert_int_equal(read(0x40), 0x0F);
    assert_int_equal(read(0x42), 0xB6);
    assert_int_equal(read(0x42), 0xDE); /* 2000h - 2 * 11h; the gate's edge loads at once */
    assert_int_equal(read(0x42), 0x1F);
    assert_int_equal(read(CONTROL), 0xFF);
}

/* As Linux and others measure the TSC: channel 2, mode 0, gate on, wait for the output. */
static void test_channel_2_calibration(void **state)
{
    pit_set_gate2(&pit, true, TSC_HZ, now);
    load(2, 0x30, 59659);
    assert_false(pit_output2(&pit, TSC_HZ, now));
    now += 59659 * TICK;
    assert_false(pit_output2(&pit, TSC_HZ, now));
    now += TICK;
    assert_true(pit_output2(&pit, TSC_HZ, now));
}

static void test_gate_stops_and_restarts(void **state)
{
    load(2, 0x30, 100); /* gate closed: does not count */
    now += 1000 * TICK;
    assert_int_equal(read_latched(2), 100);
    pit_set_gate2(&pit, true, TSC_HZ, now);
    now += 40 * TICK;
    pit_set_gate2(&pit, false, TSC_HZ, now);
    now += 1000 * TICK;
    assert_int_equal(read_latched(2), 60);
    pit_set_gate2(&pit, true, TSC_HZ, now);
    now += 59 * TICK;
    assert_false(pit_output2(&pit, TSC_HZ, now));
    now += TICK;
    assert_true(pit_output2(&pit, TSC_HZ, now));

    load(2, 0x34, 100); /* mode 2 starts from the count again, and is high while stopped */
    now += 60 * TICK;
    pit_set_gate2(&pit, false, TSC_HZ, now);
    now += 40 * TICK;
    assert_true(pit_output2(&pit, TSC_HZ, now));
    pit_set_gate2(&pit, true, TSC_HZ, now);
    assert_int_equal(read_latched(2), 100);
    write(0x42, 50); /* waits for the period's end, or for the gate */
    write(0x42, 0);
    assert_int_equal(read_latched(2), 100);
    pit_set_gate2(&pit, false, TSC_HZ, now);
    pit_set_gate2(&pit, true, TSC_HZ, now);
    assert_int_equal(read_latched(2), 50);
}

static void test_gate_triggers_one_shot(void **state)
{
    load(2, 0x32, 100);
    now += 500 * TICK;
    assert_true(pit_output2(&pit, TSC_HZ, now));
    pit_set_gate2(&pit, true, TSC_HZ, now);
    now += 99 * TICK;
    assert_false(pit_output2(&pit, TSC_HZ, now));
    pit_set_gate2(&pit, false, TSC_HZ, now); /* does not stop it */
    pit_set_gate2(&pit, true, TSC_HZ, now);  /* starts it anew */
    now += 99 * TICK;
    assert_false(pit_output2(&pit, TSC_HZ, now));
    now += TICK;
    assert_true(pit_output2(&pit, TSC_HZ, now));
}

static void test_channel_0_is_never_triggered(void **state)
{
    load(0, 0x32, 100);
    assert_int_equal(pit.deadline, DEADLINE_NONE);
    assert_int_equal(status(0) & 0x8E, 0x82);
    load(0, 0x3E, 100); /* mode 7 is mode 3 */
    assert_int_equal(status(0) & 0x0E, 0x06);
}

/* The 8254's course of a binary count, `elapsed` ticks after it was loaded. */
static u16 course(u8 mode, u32 count, u64 elapsed)
{
    u64 phase = elapsed % count, half = (count + 1) / 2;

    if (mode == 2)
        return count - phase;
    if (mode != 3)
        return count - elapsed;
    phase = (count & ~1U) - 2 * (phase % half);
    return phase == 0 ? 2 : phase;
}

/* Reads both bytes at `now` as core/ does. How many of them were on a ramp is added. */
static u16 read_both(u32 which, u64 tsc_hz, u32 *tried)
{
    u16 value = 0;

    for (u32 i = 0; i < 2; i++) {
        int byte = pit_try_read(&pit, which, tsc_hz, now);

        *tried += byte >= 0;
        value |= (byte < 0 ? pit_read(&pit, 0x40 + which, tsc_hz, now) : byte) << 8 * i;
    }
    return value;
}

static void test_ramps_are_the_course_of_the_count(void **state)
{
    static const u64 clocks[] = {PIT_HZ, 1000000000, 1999999999, 2400001000, 5300000007};
    static const u32 counts[] = {1, 2, 3, 4, 99, 100, 1193, 11932, 65535, 65536};
    u64 seed = 1, checked = 0;
    u32 tried = 0;

    for (u32 i = 0; i < ARRAY_SIZE(clocks) * ARRAY_SIZE(counts) * 4; i++) {
        static const u8 modes[] = {0, 2, 3, 4};
        u64 hz = clocks[i / 4 % ARRAY_SIZE(clocks)];
        u32 count = counts[i / 4 / ARRAY_SIZE(clocks)];
        u8 mode = modes[i % 4];
        u64 start;

        if (mode == 2 && count == 1)
            continue; /* the datasheet forbids it */
        now = 3000000;
        pit_init(&pit, hz, now);
        pit_write(&pit, CONTROL, 0x30 | mode << 1, hz, now);
        pit_write(&pit, 0x40, count, hz, now);
        pit_write(&pit, 0x40, count >> 8, hz, now);
        start = (u64)((unsigned __int128)now * PIT_HZ / hz) + 1;
        /* Steps from a tick's fraction to many years. */
        for (u32 step = 0; step < 300 && now < BIT(62); step++, checked++) {
            u64 tick = (u64)((unsigned __int128)now * PIT_HZ / hz);

            assert_int_equal(read_both(0, hz, &tried),
                             course(mode, count, tick > start ? tick - start : 0));
            seed = seed * 6364136223846793005 + 1442695040888963407;
            now += seed >> (34 + seed % 29 - (step > 250 ? 30 : 0));
        }
    }
    assert_true(tried > checked / 2 && tried < 2 * checked);
}

/* Whatever is written, and whatever the gate does, no read is of a ramp from before. */
static void test_ramps_end_with_what_changes_the_count(void **state)
{
    static const u8 modes[] = {0, 2, 3, 4};

    for (u32 i = 0; i < ARRAY_SIZE(modes); i++) {
        u16 count;
        u32 tried;

        pit_set_gate2(&pit, true, TSC_HZ, now);
        load(2, 0x30 | modes[i] << 1, 0x4321);
        now += 100 * TICK;
        tried = 0;
        count = read_both(2, TSC_HZ, &tried);
        assert_int_equal(tried, 1);
        assert_int_equal(count, course(modes[i], 0x4321, 99));

        write(CONTROL, 0x80); /* latched */
        now += 100 * TICK;
        assert_int_equal(read_both(2, TSC_HZ, &tried), count);
        write(CONTROL, 0xE8); /* the status is latched, too */
        assert_int_equal(pit_try_read(&pit, 2, TSC_HZ, now), -1);
        assert_int_equal(read(0x42) & 0x3F, 0x30 | modes[i] << 1);

        assert_int_equal(read_both(2, TSC_HZ, &tried), course(modes[i], 0x4321, 199));
        pit_set_gate2(&pit, false, TSC_HZ, now);
        now += 100 * TICK;
        assert_int_equal(read_both(2, TSC_HZ, &tried), course(modes[i], 0x4321, 199));
        pit_set_gate2(&pit, true, TSC_HZ, now);
        now += 100 * TICK;
        read_both(2, TSC_HZ, &tried);
        load(2, 0x30 | modes[i] << 1, 0x1000);
        now += TICK;
        assert_int_equal(read_both(2, TSC_HZ, &tried), 0x1000);
    }
}

static void test_ramps_end_with_the_period_of_an_old_count(void **state)
{
    u32 tried = 0;

    load(0, 0x34, 1000);
    now += 101 * TICK;
    write(0x40, 0x20);
    write(0x40, 0);
    assert_int_equal(read_both(0, TSC_HZ, &tried), 900);
    now += 899 * TICK;
    assert_int_equal(read_both(0, TSC_HZ, &tried), 1);
    assert_int_equal(tried, 3);
    now += TICK;
    assert_int_equal(read_both(0, TSC_HZ, &tried), 0x20);
}

static void test_ramps_of_one_byte(void **state)
{
    write(CONTROL, 0x24); /* the high byte only */
    write(0x40, 0x12);
    now += TICK;
    assert_int_equal(read(0x40), 0x12);
    assert_int_equal(pit_try_read(&pit, 0, TSC_HZ, now), 0x12);
    now += TICK;
    assert_int_equal(pit_try_read(&pit, 0, TSC_HZ, now), 0x11);
    write(CONTROL, 0x15); /* BCD is on none */
    write(0x40, 0x12);
    now += TICK;
    assert_int_equal(read(0x40), 0x12);
    assert_int_equal(pit_try_read(&pit, 0, TSC_HZ, now), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_power_on_is_the_bios_tick, setup),
        cmocka_unit_test_setup(test_periodic_neither_drifts_nor_bunches, setup),
        cmocka_unit_test_setup(test_rate_generator_output_and_count, setup),
        cmocka_unit_test_setup(test_square_wave_counts_by_twos, setup),
        cmocka_unit_test_setup(test_terminal_count_fires_once, setup),
        cmocka_unit_test_setup(test_first_byte_stops_mode_0, setup),
        cmocka_unit_test_setup(test_software_strobe, setup),
        cmocka_unit_test_setup(test_new_count_waits_for_the_period, setup),
        cmocka_unit_test_setup(test_new_count_waits_for_a_later_period, setup),
        cmocka_unit_test_setup(test_new_count_needs_nobody_to_look, setup),
        cmocka_unit_test_setup(test_count_of_zero_is_the_longest, setup),
        cmocka_unit_test_setup(test_bcd, setup),
        cmocka_unit_test_setup(test_low_byte_and_high_byte_access, setup),
        cmocka_unit_test_setup(test_latch_holds_until_read, setup),
        cmocka_unit_test_setup(test_read_back, setup),
        cmocka_unit_test_setup(test_channel_2_calibration, setup),
        cmocka_unit_test_setup(test_gate_stops_and_restarts, setup),
        cmocka_unit_test_setup(test_gate_triggers_one_shot, setup),
        cmocka_unit_test_setup(test_channel_0_is_never_triggered, setup),
        cmocka_unit_test_setup(test_ramps_are_the_course_of_the_count, setup),
        cmocka_unit_test_setup(test_ramps_end_with_what_changes_the_count, setup),
        cmocka_unit_test_setup(test_ramps_end_with_the_period_of_an_old_count, setup),
        cmocka_unit_test_setup(test_ramps_of_one_byte, setup),
    };

    return cmocka_run_group_tests_name("pit", tests, NULL, NULL);
}
