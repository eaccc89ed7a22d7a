/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_PIT_H
#define BULKHEAD_DEVICES_PIT_H

/* The 8254 programmable interval timer (Intel 8254 datasheet). Its own time is counted in ticks
 * of its clock from the machine's start; all that it shows is computed from that. */

#include "lib/arith.h"

#define PIT_HZ       1193182
#define PIT_CHANNELS 3

/* Bits 5:4 of the control word. */
enum pit_access {
    PIT_ACCESS_LATCH,
    PIT_ACCESS_LOW,
    PIT_ACCESS_HIGH,
    PIT_ACCESS_BOTH,
};

/* A stretch of time in which a binary count falls by the same with each tick. */
struct pit_ramp {
    u64 start;  /* tick, */
    u64 length; /* and how many of them; 0: none is known */
    u32 top;    /* the count at `start` */
    u32 shift;  /* it falls by 1 << shift */
};

struct pit_channel {
    struct pit_ramp ramp; /* where the count was last seen to be, until anything is written */
    u64 start;            /* tick at which `count` was loaded (gate open), */
    u64 elapsed;          /* or ticks counted so far (gate closed) */
    u32 count;            /* 1..10000h; 0: none was written since the control word */
    u32 next_count;       /* modes 2 and 3: loaded at the end of the period; 0: none */
    u16 latch;
    u8 latched; /* bytes of `latch` that are still to be read */
    u8 status_latch;
    bool status_latched;
    bool counting; /* `start` holds, else `elapsed` */
    bool gate;
    bool bcd;
    u8 mode;         /* 0..5 */
    u8 access;       /* enum pit_access */
    bool write_high; /* with both: the next byte written is the high one */
    bool read_high;  /* the next byte read is the high one */
    u8 write_low;
};

struct pit {
    struct pit_channel channels[PIT_CHANNELS];
    u64 next_edge; /* tick of channel 0's next rising edge, or UINT64_MAX */
    u64 deadline;  /* the same in machine time: kept by pit_update */
    bool observed; /* somebody would see channel 0's interrupt: kept by the machine */
};

/* Ticks since the machine's start. */
static inline u64 pit_ticks(u64 tsc_hz, u64 now)
{
    return mul_div(now, PIT_HZ, tsc_hz);
}

/* As firmware leaves it: channel 0 in mode 3 with the longest period, 1 and 2 idle. */
void pit_init(struct pit *pit, u64 tsc_hz, u64 now);

/* One byte at ports 40h to 43h. */
u8 pit_read(struct pit *pit, u16 port, u64 tsc_hz, u64 now);
void pit_write(struct pit *pit, u16 port, u8 value, u64 tsc_hz, u64 now);

static inline u8 pit_next_byte(struct pit_channel *channel, u16 count)
{
    bool high = channel->read_high;

    channel->read_high ^= channel->access == PIT_ACCESS_BOTH;
    return high ? count >> 8 : count;
}

/* pit_read at port 40h + `which`, where the count is on the ramp that pit_read last saw; else -1,
 * and nothing has happened. */
static inline int pit_try_read(struct pit *pit, u32 which, u64 tsc_hz, u64 now)
{
    struct pit_channel *channel = &pit->channels[which];
    const struct pit_ramp *ramp = &channel->ramp;
    u64 ticks = pit_ticks(tsc_hz, now) - ramp->start;

    return ticks < ramp->length ? pit_next_byte(channel, ramp->top - (ticks << ramp->shift)) : -1;
}

/* True when channel 0's output has risen since the last call (once, however often it has). */
bool pit_update(struct pit *pit, u64 tsc_hz, u64 now);

/* Channel 2, as port 61h sees it. */
void pit_set_gate2(struct pit *pit, bool gate, u64 tsc_hz, u64 now);
bool pit_output2(struct pit *pit, u64 tsc_hz, u64 now);

/* True while mode 0 keeps channel 0's output low; in the other modes it counts as high, apart
 * from the edge that pit_update tells of. */
bool pit_output0_low(const struct pit *pit);

#endif
