/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_RTC_H
#define BULKHEAD_DEVICES_RTC_H

/* The MC146818 real-time clock with 128 bytes of CMOS RAM (Motorola MC146818A datasheet; ICH9
 * datasheet, section "RTC"). The time is kept as seconds; the registers show it. */

#include "lib/types.h"

#define RTC_SIZE 128

struct rtc {
    u64 epoch;        /* seconds since 1970 at machine time epoch_time; the clock's fraction */
    u64 epoch_time;   /* of a second is counted from there */
    u64 seen_seconds; /* what update and alarm flags were last raised for */
    u64 seen_periods; /* likewise the periodic flag, in periods since machine time 0 */
    u64 deadline;     /* machine time of the next interrupt, or DEADLINE_NONE */
    bool halted;      /* the SET bit or a stopped divider holds the registers still */
    u8 index;
    u8 nvram[RTC_SIZE]; /* registers A to D, alarm and RAM; time only while halted */
};

/* Power-on: binary-coded decimal, 24 hours, no interrupts. */
void rtc_init(struct rtc *rtc, u64 unix_seconds, u64 tsc_hz);

/* What a system reset does: interrupts off, time and RAM stay. */
void rtc_reset(struct rtc *rtc, u64 tsc_hz, u64 now);

/* One byte at port 70h or 71h. */
u8 rtc_read(struct rtc *rtc, u16 port, u64 tsc_hz, u64 now);
void rtc_write(struct rtc *rtc, u16 port, u8 value, u64 tsc_hz, u64 now);

/* Raises the flags that are due. */
void rtc_update(struct rtc *rtc, u64 tsc_hz, u64 now);

/* The interrupt line. */
bool rtc_irq(const struct rtc *rtc);

#endif
