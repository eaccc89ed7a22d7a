/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/rtc.h"

#include "devices/device.h"
#include "devices/pc_ports.h"
#include "lib/arith.h"
#include "lib/string.h"

enum rtc_register {
    RTC_SECONDS = 0x00,
    RTC_SECONDS_ALARM = 0x01,
    RTC_MINUTES = 0x02,
    RTC_MINUTES_ALARM = 0x03,
    RTC_HOURS = 0x04,
    RTC_HOURS_ALARM = 0x05,
    RTC_WEEKDAY = 0x06,
    RTC_DAY = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_A = 0x0A,
    RTC_B = 0x0B,
    RTC_C = 0x0C,
    RTC_D = 0x0D,
    RTC_BASE_MEMORY_LOW = 0x15, /* in KiB */
    RTC_BASE_MEMORY_HIGH = 0x16,
};

enum rtc_bits {
    A_RATE_MASK = 0x0F,
    A_DIVIDER_MASK = 0x70,
    A_DIVIDER_RUN = 0x20,
    A_DIVIDER_RESET = 0x60, /* 11x */
    A_UIP = 0x80,
    A_DEFAULT_RATE = 6,
    B_24_HOURS = 0x02,
    B_BINARY = 0x04,
    B_UIE = 0x10, /* the enables stand where register C has the flags */
    B_AIE = 0x20,
    B_PIE = 0x40,
    B_SET = 0x80,
    C_UF = B_UIE,
    C_AF = B_AIE,
    C_PF = B_PIE,
    C_FLAGS = C_UF | C_AF | C_PF,
    C_IRQF = 0x80,
    D_VRT = 0x80,
    HOURS_PM = 0x80,
    ALARM_ANY = 0xC0,  /* an alarm byte from here on matches everything */
    INDEX_MASK = 0x7F, /* bit 7 of port 70h gates the NMI of a real board */
};

#define PERIODIC_HZ      32768
#define SECONDS_PER_DAY  86400
#define UIP_MICROSECONDS 2228 /* 244 before the update and 1984 while it lasts */
#define MICROSECONDS     1000000
#define BASE_MEMORY_KIB  640
#define EPOCH_WEEKDAY    4 /* 1970-01-01 was a Thursday */

struct calendar {
    u32 year, month, day; /* month and day from 1 */
    u32 hour, minute, second;
};

/* Days since 1970-01-01 of a date in the Gregorian calendar, which is counted here in years that
 * begin in March, so that the leap day comes last. */
static u64 days_from_date(u32 year, u32 month, u32 day)
{
    u64 y = month <= 2 ? year - 1 : year;
    u64 m = month <= 2 ? month + 9 : month - 3;

    return y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static void date_from_days(u64 days, struct calendar *date)
{
    u64 since = days + 719468; /* 0000-03-01 */
    u64 era = since / 146097, in_era = since % 146097;
    u64 year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    u64 in_year = in_era - (year * 365 + year / 4 - year / 100);
    u64 month = (5 * in_year + 2) / 153;

    date->day = in_year - (153 * month + 2) / 5 + 1;
    date->month = month < 10 ? month + 3 : month - 9;
    date->year = era * 400 + year + (date->month <= 2);
}

static u8 encode(const struct rtc *rtc, u32 value)
{
    return rtc->nvram[RTC_B] & B_BINARY ? value : value / 10 << 4 | value % 10;
}

static u32 decode(const struct rtc *rtc, u8 value)
{
    return rtc->nvram[RTC_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

static u8 encode_hour(const struct rtc *rtc, u32 hour)
{
    if (rtc->nvram[RTC_B] & B_24_HOURS)
        return encode(rtc, hour);
    return encode(rtc, (hour + 11) % 12 + 1) | (hour >= 12 ? HOURS_PM : 0);
}

static u32 decode_hour(const struct rtc *rtc, u8 value)
{
    if (rtc->nvram[RTC_B] & B_24_HOURS)
        return decode(rtc, value);
    return decode(rtc, value & ~HOURS_PM) % 12 + (value & HOURS_PM ? 12 : 0);
}

/* epoch_time may lie before the machine's start: differences are modulo 2^64. */
static u64 rtc_seconds(const struct rtc *rtc, u64 tsc_hz, u64 now)
{
    return rtc->halted ? rtc->epoch : rtc->epoch + (now - rtc->epoch_time) / tsc_hz;
}

/* The time at which the second that `now` lies in began. */
static u64 second_start(const struct rtc *rtc, u64 tsc_hz, u64 now)
{
    return now - (now - rtc->epoch_time) % tsc_hz;
}

/* Fills the registers of time from the clock. */
static void rtc_show(struct rtc *rtc, u64 tsc_hz, u64 now)
{
    u64 seconds = rtc_seconds(rtc, tsc_hz, now);
    u64 days = seconds / SECONDS_PER_DAY;
    struct calendar date;

    date_from_days(days, &date);
    seconds %= SECONDS_PER_DAY;
    rtc->nvram[RTC_SECONDS] = encode(rtc, seconds % 60);
    rtc->nvram[RTC_MINUTES] = encode(rtc, seconds / 60 % 60);
    rtc->nvram[RTC_HOURS] = encode_hour(rtc, seconds / 3600);
    rtc->nvram[RTC_WEEKDAY] = encode(rtc, (days + EPOCH_WEEKDAY) % 7 + 1);
    rtc->nvram[RTC_DAY] = encode(rtc, date.day);
    rtc->nvram[RTC_MONTH] = encode(rtc, date.month);
    rtc->nvram[RTC_YEAR] = encode(rtc, date.year % 100);
    rtc->nvram[RTC_CENTURY_REGISTER] = encode(rtc, date.year / 100 % 100);
}

/* The other way: what the registers say, in seconds since 1970. The guest may have left
 * anything in them. */
static u64 rtc_registers_time(const struct rtc *rtc)
{
    u32 year =
        decode(rtc, rtc->nvram[RTC_CENTURY_REGISTER]) * 100 + decode(rtc, rtc->nvram[RTC_YEAR]);
    u32 month = decode(rtc, rtc->nvram[RTC_MONTH]);
    u64 days = days_from_date(MAX(year, 1970U), MIN(MAX(month, 1U), 12U),
                              MAX(decode(rtc, rtc->nvram[RTC_DAY]), 1U));

    return days * SECONDS_PER_DAY + decode_hour(rtc, rtc->nvram[RTC_HOURS]) * 3600 +
           decode(rtc, rtc->nvram[RTC_MINUTES]) * 60 + decode(rtc, rtc->nvram[RTC_SECONDS]);
}

/* The periodic interrupt comes every 1 << shift periods of the 32 kHz clock; 0: never. */
static u32 period_shift(const struct rtc *rtc)
{
    u32 rate = rtc->nvram[RTC_A] & A_RATE_MASK;

    if (rate == 0 || (rtc->nvram[RTC_A] & A_DIVIDER_MASK) != A_DIVIDER_RUN)
        return 0;
    return (rate <= 2 ? rate + 7 : rate) - 1; /* 1 and 2 are the same as 8 and 9 */
}

static u64 rtc_periods(const struct rtc *rtc, u64 tsc_hz, u64 now)
{
    u32 shift = period_shift(rtc);

    return shift == 0 ? 0 : mul_div(now, PERIODIC_HZ, tsc_hz) >> shift;
}

static u64 period_time(const struct rtc *rtc, u64 period, u64 tsc_hz)
{
    return add_saturating(mul_div(period << period_shift(rtc), tsc_hz, PERIODIC_HZ), 1);
}

struct alarm {
    u32 hour, minute, second; /* ALARM_ANY: every one */
};

static bool alarm_read(const struct rtc *rtc, struct alarm *alarm)
{
    const u8 *r = rtc->nvram;
    u8 hour = r[RTC_HOURS_ALARM], minute = r[RTC_MINUTES_ALARM], second = r[RTC_SECONDS_ALARM];

    alarm->hour = hour >= ALARM_ANY ? ALARM_ANY : decode_hour(rtc, hour);
    alarm->minute = minute >= ALARM_ANY ? ALARM_ANY : decode(rtc, minute);
    alarm->second = second >= ALARM_ANY ? ALARM_ANY : decode(rtc, second);
    return (alarm->hour < 24 || alarm->hour == ALARM_ANY) &&
           (alarm->minute < 60 || alarm->minute == ALARM_ANY) &&
           (alarm->second < 60 || alarm->second == ALARM_ANY);
}

/* The first second of the day, from `from` on, that the alarm matches; SECONDS_PER_DAY if
 * none. */
static u32 alarm_in_day(const struct alarm *alarm, u32 from)
{
    u32 time = from;

    while (time < SECONDS_PER_DAY) {
        if (alarm->hour != ALARM_ANY && alarm->hour != time / 3600)
            time = (time / 3600 + 1) * 3600;
        else if (alarm->minute != ALARM_ANY && alarm->minute != time / 60 % 60)
            time = (time / 60 + 1) * 60;
        else if (alarm->second != ALARM_ANY && alarm->second != time % 60)
            time++;
        else
            return time;
    }
    return SECONDS_PER_DAY;
}

/* The first second after `seconds` that the alarm matches, or UINT64_MAX. */
static u64 next_alarm(const struct rtc *rtc, u64 seconds)
{
    u64 midnight = (seconds + 1) / SECONDS_PER_DAY * SECONDS_PER_DAY;
    struct alarm alarm;
    u32 time;

    if (!alarm_read(rtc, &alarm))
        return UINT64_MAX;
    time = alarm_in_day(&alarm, seconds + 1 - midnight);
    if (time < SECONDS_PER_DAY)
        return midnight + time;
    return midnight + SECONDS_PER_DAY + alarm_in_day(&alarm, 0);
}

/* Machine time at which the clock will show `seconds`. */
static u64 second_time(const struct rtc *rtc, u64 seconds, u64 tsc_hz)
{
    return seconds == UINT64_MAX ? DEADLINE_NONE
                                 : rtc->epoch_time + (seconds - rtc->epoch) * tsc_hz;
}

static void rtc_schedule(struct rtc *rtc, u64 tsc_hz)
{
    u8 wanted = rtc->nvram[RTC_B] & ~rtc->nvram[RTC_C] & C_FLAGS;
    u64 seconds = rtc->seen_seconds;

    rtc->deadline = DEADLINE_NONE;
    if ((wanted & C_PF) && period_shift(rtc) != 0)
        rtc->deadline = period_time(rtc, rtc->seen_periods + 1, tsc_hz);
    if (rtc->halted)
        return;
    if (wanted & C_UF)
        rtc->deadline = MIN(rtc->deadline, second_time(rtc, seconds + 1, tsc_hz));
    if (wanted & C_AF)
        rtc->deadline = MIN(rtc->deadline, second_time(rtc, next_alarm(rtc, seconds), tsc_hz));
}

void rtc_update(struct rtc *rtc, u64 tsc_hz, u64 now)
{
    u64 seconds = rtc_seconds(rtc, tsc_hz, now);
    u64 periods = rtc_periods(rtc, tsc_hz, now);

    if (periods != rtc->seen_periods)
        rtc->nvram[RTC_C] |= C_PF;
    if (!rtc->halted && seconds > rtc->seen_seconds) {
        rtc->nvram[RTC_C] |= C_UF;
        if (!(rtc->nvram[RTC_C] & C_AF) && next_alarm(rtc, rtc->seen_seconds) <= seconds)
            rtc->nvram[RTC_C] |= C_AF;
    }
    rtc->seen_periods = periods;
    rtc->seen_seconds = seconds;
    rtc_schedule(rtc, tsc_hz);
}

bool rtc_irq(const struct rtc *rtc)
{
    return rtc->nvram[RTC_B] & rtc->nvram[RTC_C] & C_FLAGS;
}

static bool rtc_updating(const struct rtc *rtc, u64 tsc_hz, u64 now)
{
    u64 next = second_time(rtc, rtc_seconds(rtc, tsc_hz, now) + 1, tsc_hz);

    return !rtc->halted && next - now <= mul_div(UIP_MICROSECONDS, tsc_hz, MICROSECONDS);
}

static bool is_time_register(u32 index)
{
    return index == RTC_CENTURY_REGISTER ||
           (index <= RTC_YEAR && (index >= RTC_WEEKDAY || (index & 1) == 0));
}

static u8 read_flags(struct rtc *rtc, u64 tsc_hz)
{
    u8 flags = rtc->nvram[RTC_C] & C_FLAGS;

    if (rtc_irq(rtc))
        flags |= C_IRQF;
    rtc->nvram[RTC_C] = 0;
    rtc_schedule(rtc, tsc_hz);
    return flags;
}

u8 rtc_read(struct rtc *rtc, u16 port, u64 tsc_hz, u64 now)
{
    if (port == PORT_RTC_INDEX)
        return 0xFF; /* the index is write-only */
    rtc_update(rtc, tsc_hz, now);
    if (is_time_register(rtc->index) && !rtc->halted)
        rtc_show(rtc, tsc_hz, now);
    if (rtc->index == RTC_A && rtc_updating(rtc, tsc_hz, now))
        return rtc->nvram[RTC_A] | A_UIP;
    if (rtc->index == RTC_C)
        return read_flags(rtc, tsc_hz);
    return rtc->nvram[rtc->index];
}

/* Registers A and B decide whether the clock runs. Where it stops the registers keep the time
 * for the guest to change; where it goes on they are the time. A divider that comes out of
 * reset makes its first update half a second later. */
static void write_control(struct rtc *rtc, u8 value, u64 tsc_hz, u64 now)
{
    bool was_reset = (rtc->nvram[RTC_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET;
    bool was_halted = rtc->halted;

    if (!was_halted) {
        rtc_show(rtc, tsc_hz, now);
        rtc->epoch = rtc_seconds(rtc, tsc_hz, now);
        rtc->epoch_time = second_start(rtc, tsc_hz, now);
    }
    rtc->nvram[rtc->index] = value;
    rtc->nvram[RTC_A] &= ~A_UIP;
    if (rtc->nvram[RTC_B] & B_SET)
        rtc->nvram[RTC_B] &= ~B_UIE;
    rtc->halted =
        (rtc->nvram[RTC_B] & B_SET) || (rtc->nvram[RTC_A] & A_DIVIDER_MASK) != A_DIVIDER_RUN;
    if (was_reset && (rtc->nvram[RTC_A] & A_DIVIDER_RESET) != A_DIVIDER_RESET)
        rtc->epoch_time = now - tsc_hz / 2;
    if (was_halted && !rtc->halted) {
        rtc->epoch = rtc_registers_time(rtc);
        rtc->epoch_time = second_start(rtc, tsc_hz, now);
    }
    rtc->seen_seconds = rtc->epoch;
    rtc->seen_periods = rtc_periods(rtc, tsc_hz, now);
}

static void write_time(struct rtc *rtc, u8 value, u64 tsc_hz, u64 now)
{
    if (!rtc->halted) {
        rtc_show(rtc, tsc_hz, now);
        rtc->epoch_time = second_start(rtc, tsc_hz, now);
    }
    rtc->nvram[rtc->index] = value;
    if (!rtc->halted) {
        rtc->epoch = rtc_registers_time(rtc);
        rtc->seen_seconds = rtc->epoch;
    }
}

void rtc_write(struct rtc *rtc, u16 port, u8 value, u64 tsc_hz, u64 now)
{
    if (port == PORT_RTC_INDEX) {
        rtc->index = value & INDEX_MASK;
        return;
    }
    rtc_update(rtc, tsc_hz, now);
    if (rtc->index == RTC_A || rtc->index == RTC_B)
        write_control(rtc, value, tsc_hz, now);
    else if (is_time_register(rtc->index))
        write_time(rtc, value, tsc_hz, now);
    else if (rtc->index != RTC_C && rtc->index != RTC_D)
        rtc->nvram[rtc->index] = value;
    rtc_schedule(rtc, tsc_hz);
}

void rtc_init(struct rtc *rtc, u64 unix_seconds, u64 tsc_hz)
{
    memset(rtc, 0, sizeof *rtc);
    rtc->epoch = unix_seconds;
    rtc->seen_seconds = unix_seconds;
    rtc->nvram[RTC_A] = A_DIVIDER_RUN | A_DEFAULT_RATE;
    rtc->nvram[RTC_B] = B_24_HOURS;
    rtc->nvram[RTC_D] = D_VRT;
    rtc->nvram[RTC_BASE_MEMORY_LOW] = BASE_MEMORY_KIB & 0xFF;
    rtc->nvram[RTC_BASE_MEMORY_HIGH] = BASE_MEMORY_KIB >> 8;
    rtc_schedule(rtc, tsc_hz);
}

void rtc_reset(struct rtc *rtc, u64 tsc_hz, u64 now)
{
    rtc_update(rtc, tsc_hz, now);
    rtc->nvram[RTC_B] &= ~(B_PIE | B_AIE | B_UIE);
    rtc->nvram[RTC_C] = 0;
    rtc->index = 0;
    rtc_schedule(rtc, tsc_hz);
}
