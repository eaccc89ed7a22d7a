/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "drivers/rtc.h"

#include "drivers/cpu.h"
#include "drivers/io.h"
#include "lib/string.h"

/* MC146818A data sheet, figures 8 and 11 and the section on registers A, B. */
enum cmos_index {
    CMOS_SECONDS = 0x00,
    CMOS_MINUTES = 0x02,
    CMOS_HOURS = 0x04,
    CMOS_DAY = 0x07,
    CMOS_MONTH = 0x08,
    CMOS_YEAR = 0x09,
    CMOS_STATUS_A = 0x0A,
    CMOS_STATUS_B = 0x0B,
};

#define CMOS_ADDRESS      0x70
#define CMOS_DATA         0x71
#define STATUS_A_UPDATE   0x80
#define STATUS_B_24_HOURS 0x02
#define STATUS_B_BINARY   0x04
#define HOURS_PM          0x80
#define UPDATE_READS      10000 /* an update takes 2 ms, a read more than 1 us */
#define ATTEMPTS          5
#define CENTURY_FIRST     19
#define CENTURY_LAST      29
#define YEAR_PIVOT        70 /* without a century, 70 is 1970 and 69 is 2069 */
#define SECONDS_PER_DAY   86400

struct date {
    u8 seconds, minutes, hours, day, month, year, century;
};

static u8 cmos_read(u8 index)
{
    outb(CMOS_ADDRESS, index);
    return inb(CMOS_DATA);
}

static bool wait_for_update(void)
{
    for (u32 reads = 0; reads < UPDATE_READS; reads++) {
        if ((cmos_read(CMOS_STATUS_A) & STATUS_A_UPDATE) == 0)
            return true;
        cpu_pause();
    }
    return false;
}

static struct date read_date(u8 century)
{
    return (struct date){
        .seconds = cmos_read(CMOS_SECONDS),
        .minutes = cmos_read(CMOS_MINUTES),
        .hours = cmos_read(CMOS_HOURS),
        .day = cmos_read(CMOS_DAY),
        .month = cmos_read(CMOS_MONTH),
        .year = cmos_read(CMOS_YEAR),
        .century = century == 0 ? 0 : cmos_read(century),
    };
}

/* An update may begin between two reads: only what reads the same twice is believed. */
static bool read_stable(u8 century, struct date *date)
{
    struct date again;

    for (u32 attempt = 0; attempt < ATTEMPTS; attempt++) {
        if (!wait_for_update())
            return false;
        *date = read_date(century);
        again = read_date(century);
        if (memcmp(date, &again, sizeof(again)) == 0)
            return true;
    }
    return false;
}

static u8 from_bcd(u8 value)
{
    return (u8)((value >> 4) * 10 + (value & 0xF));
}

static void decode(struct date *date, u8 status_b)
{
    bool pm = (date->hours & HOURS_PM) != 0;

    if ((status_b & STATUS_B_24_HOURS) == 0)
        date->hours &= (u8)~HOURS_PM;
    if ((status_b & STATUS_B_BINARY) == 0) {
        date->seconds = from_bcd(date->seconds);
        date->minutes = from_bcd(date->minutes);
        date->hours = from_bcd(date->hours);
        date->day = from_bcd(date->day);
        date->month = from_bcd(date->month);
        date->year = from_bcd(date->year);
        date->century = from_bcd(date->century);
    }
    if ((status_b & STATUS_B_24_HOURS) == 0)
        date->hours = date->hours % 12 + (pm ? 12 : 0);
}

static bool plausible(const struct date *date)
{
    return date->seconds <= 60 && date->minutes < 60 && date->hours < 24 && date->day >= 1 &&
           date->day <= 31 && date->month >= 1 && date->month <= 12 && date->year < 100;
}

static u32 full_year(const struct date *date)
{
    if (date->century >= CENTURY_FIRST && date->century <= CENTURY_LAST)
        return date->century * 100U + date->year;
    return date->year + (date->year < YEAR_PIVOT ? 2000U : 1900U);
}

/* Days since 1970-01-01 in the Gregorian calendar. Years begin in March, so that the leap day is
 * the last one. */
static u64 days_since_1970(u32 year, u32 month, u32 day)
{
    static const u16 days_before[] = {306, 337, 0, 31, 61, 92, 122, 153, 184, 214, 245, 275};
    const u32 days_to_1970 = 719468; /* from 0000-03-01 */

    year -= month <= 2;
    return 365ULL * year + year / 4 - year / 100 + year / 400 + days_before[month - 1] + day - 1 -
           days_to_1970;
}

bool host_rtc_read(u8 century, u64 *unix_seconds)
{
    struct date date;
    u32 year;

    if (!read_stable(century, &date))
        return false;
    decode(&date, cmos_read(CMOS_STATUS_B));
    year = full_year(&date);
    if (!plausible(&date) || year < 1970)
        return false;
    *unix_seconds = days_since_1970(year, date.month, date.day) * SECONDS_PER_DAY +
                    date.hours * 3600U + date.minutes * 60U + date.seconds;
    return true;
}
