/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DRIVERS_RTC_H
#define BULKHEAD_DRIVERS_RTC_H

#include "lib/types.h"

/* Seconds since 1970-01-01 of the CMOS clock, taken to be UTC (Motorola MC146818A data sheet).
 * `century` is the CMOS index from the FADT, 0 for none. Waits at most for one update, about 2 ms.
 * False when there is no clock or it holds no date. Interrupts off, one CPU at a time. */
bool host_rtc_read(u8 century, u64 *unix_seconds);

#endif
