/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/pit.h"

#include "devices/device.h"
#include "devices/pc_ports.h"
#include "lib/string.h"

enum pit_mode {
    MODE_TERMINAL_COUNT,
    MODE_ONE_SHOT,
    MODE_RATE,
    MODE_SQUARE,
    MODE_SOFTWARE_STROBE,
    MODE_HARDWARE_STROBE,
};

enum pit_control {
    CONTROL_BCD = 1 << 0,
    CONTROL_MODE_SHIFT = 1,
    CONTROL_ACCESS_SHIFT = 4,
    CONTROL_CHANNEL_SHIFT = 6,
    CONTROL_PORT = 3,
    CHANNEL_READ_BACK = 3,
    READ_BACK_NOT_STATUS = 1 << 4,
    READ_BACK_NOT_COUNT = 1 << 5,
    STATUS_NULL_COUNT = 1 << 6,
    STATUS_OUTPUT = 1 << 7,
};

#define COUNT_MAX     0x10000
#define COUNT_MAX_BCD 10000
#define RAMP_ENDLESS  BIT(63)

/* The first machine time at which pit_ticks is at least `tick`. */
static u64 machine_time(u64 tick, u64 tsc_hz)
{
    return tick == UINT64_MAX ? DEADLINE_NONE : add_saturating(mul_div(tick, tsc_hz, PIT_HZ), 1);
}

static bool is_periodic(const struct pit_channel *channel)
{
    return channel->mode == MODE_RATE || channel->mode == MODE_SQUARE;
}

static bool is_triggered(const struct pit_channel *channel)
{
    return channel->mode == MODE_ONE_SHOT || channel->mode == MODE_HARDWARE_STROBE;
}

static u64 channel_elapsed(const struct pit_channel *channel, u64 tick)
{
    if (!channel->counting)
        return channel->elapsed;
    return tick > channel->start ? tick - channel->start : 0;
}

/* Loads a count that was written in the middle of a period once that is over. */
static void channel_advance(struct pit_channel *channel, u64 tick)
{
    if (channel->next_count == 0 || !channel->counting ||
        channel_elapsed(channel, tick) < channel->count)
        return;
    channel->start += channel->count;
    channel->count = channel->next_count;
    channel->next_count = 0;
}

static bool channel_output(const struct pit_channel *channel, u64 tick)
{
    u64 elapsed = channel_elapsed(channel, tick);

    if (channel->count == 0)
        return channel->mode != MODE_TERMINAL_COUNT;
    switch (channel->mode) {
    case MODE_TERMINAL_COUNT:
        return elapsed >= channel->count;
    case MODE_ONE_SHOT:
        return !channel->counting || elapsed >= channel->count;
    case MODE_RATE:
        return !channel->gate || elapsed % channel->count != channel->count - 1;
    case MODE_SQUARE:
        return !channel->gate || elapsed % channel->count < (channel->count + 1) / 2;
    default:
        return !channel->counting || elapsed != channel->count;
    }
}

/* Where the count is after `elapsed` ticks, from which `start` counts. */
static struct pit_ramp ramp_at(const struct pit_channel *channel, u64 elapsed)
{
    struct pit_ramp ramp = {.length = RAMP_ENDLESS, .top = channel->count};
    u32 half = (channel->count + 1) / 2;

    if (is_periodic(channel)) {
        ramp.start = elapsed - elapsed % channel->count;
        ramp.length = channel->count;
    }
    /* Mode 3 counts by twos, twice in a period; an odd count waits at 2 for a tick. */
    if (channel->mode == MODE_SQUARE) {
        if (elapsed - ramp.start >= half)
            ramp.start += half;
        ramp.length = channel->count / 2;
        ramp.top &= ~1U;
        ramp.shift = 1;
    }
    return ramp;
}

static u16 to_bcd(u32 value)
{
    return value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 | value / 1000 % 10 << 12;
}

static u32 from_bcd(u16 value)
{
    return (value & 15) + (value >> 4 & 15) * 10 + (value >> 8 & 15) * 100 + (value >> 12) * 1000;
}

static u16 channel_count(const struct pit_channel *channel, u64 tick)
{
    u64 elapsed = channel_elapsed(channel, tick), fallen;
    struct pit_ramp ramp;

    if (channel->count == 0)
        return 0;
    ramp = ramp_at(channel, elapsed);
    if (elapsed - ramp.start >= ramp.length)
        return 2;
    fallen = (elapsed - ramp.start) << ramp.shift;
    return channel->bcd ? to_bcd(COUNT_MAX_BCD + ramp.top - fallen % COUNT_MAX_BCD)
                        : ramp.top - fallen;
}

/* The tick of the output's next rising edge behind `tick`, for a channel whose gate is open. */
static u64 channel_next_edge(const struct pit_channel *channel, u64 tick)
{
    u64 elapsed = channel_elapsed(channel, tick);
    u64 edge;

    if (channel->count == 0 || is_triggered(channel))
        return UINT64_MAX;
    if (is_periodic(channel))
        return channel->start + (elapsed / channel->count + 1) * channel->count;
    edge = channel->start + channel->count + (channel->mode == MODE_SOFTWARE_STROBE);
    return tick < edge ? edge : UINT64_MAX;
}

static void schedule(struct pit *pit, u64 tick, u64 tsc_hz)
{
    pit->next_edge = channel_next_edge(&pit->channels[0], tick);
    pit->deadline = machine_time(pit->next_edge, tsc_hz);
}

bool pit_update(struct pit *pit, u64 tsc_hz, u64 now)
{
    u64 tick;

    if (now < pit->deadline)
        return false;
    tick = pit_ticks(tsc_hz, now);
    channel_advance(&pit->channels[0], tick);
    schedule(pit, tick, tsc_hz);
    return true;
}

static void channel_load(struct pit_channel *channel, u16 written, u64 tick)
{
    u32 count = channel->bcd ? from_bcd(written) : written;
    u64 elapsed;

    if (count == 0)
        count = channel->bcd ? COUNT_MAX_BCD : COUNT_MAX;
    if (channel->count != 0 && is_periodic(channel) && channel->counting) {
        elapsed = channel_elapsed(channel, tick);
        channel->start += elapsed - elapsed % channel->count; /* the period that it waits for */
        channel->next_count = count;
        return;
    }
    channel->count = count;
    channel->elapsed = 0;
    channel->start = tick + 1; /* loaded by the next pulse of the clock */
    channel->counting = channel->gate && !is_triggered(channel);
}

static void channel_write(struct pit_channel *channel, u8 value, u64 tick)
{
    switch (channel->access) {
    case PIT_ACCESS_LOW:
        channel_load(channel, value, tick);
        return;
    case PIT_ACCESS_HIGH:
        channel_load(channel, value << 8, tick);
        return;
    }
    channel->write_high = !channel->write_high;
    if (!channel->write_high) {
        channel_load(channel, channel->write_low | value << 8, tick);
        return;
    }
    channel->write_low = value;
    if (channel->mode == MODE_TERMINAL_COUNT)
        channel->count = 0; /* the first byte stops the count and lowers the output */
}

static void channel_latch(struct pit_channel *channel, u64 tick)
{
    if (channel->latched != 0)
        return;
    channel->latch = channel_count(channel, tick);
    channel->latched = channel->access == PIT_ACCESS_BOTH ? 2 : 1;
    channel->read_high = channel->access == PIT_ACCESS_HIGH;
}

static void channel_latch_status(struct pit_channel *channel, u64 tick)
{
    if (channel->status_latched)
        return;
    channel->status_latched = true;
    channel->status_latch = channel->access << CONTROL_ACCESS_SHIFT |
                            channel->mode << CONTROL_MODE_SHIFT | channel->bcd;
    if (channel_output(channel, tick))
        channel->status_latch |= STATUS_OUTPUT;
    if (channel->count == 0 || channel->next_count != 0)
        channel->status_latch |= STATUS_NULL_COUNT;
}

static void channel_program(struct pit_channel *channel, u8 control)
{
    u8 mode = control >> CONTROL_MODE_SHIFT & 7;
    u8 access = control >> CONTROL_ACCESS_SHIFT & 3;

    *channel = (struct pit_channel){
        .gate = channel->gate,
        .bcd = control & CONTROL_BCD,
        .mode = mode > MODE_HARDWARE_STROBE ? mode - 4 : mode, /* bit 2 is "don't care" there */
        .access = access,
        .read_high = access == PIT_ACCESS_HIGH,
    };
}

static void read_back(struct pit *pit, u8 command, u64 tick)
{
    for (u32 i = 0; i < PIT_CHANNELS; i++) {
        if (!(command & (2 << i)))
            continue;
        channel_advance(&pit->channels[i], tick);
        if (!(command & READ_BACK_NOT_COUNT))
            channel_latch(&pit->channels[i], tick);
        if (!(command & READ_BACK_NOT_STATUS))
            channel_latch_status(&pit->channels[i], tick);
    }
}

static void write_control(struct pit *pit, u8 value, u64 tick)
{
    u32 which = value >> CONTROL_CHANNEL_SHIFT;

    if (which == CHANNEL_READ_BACK)
        read_back(pit, value, tick);
    else if ((value >> CONTROL_ACCESS_SHIFT & 3) == PIT_ACCESS_LATCH)
        channel_latch(&pit->channels[which], tick);
    else
        channel_program(&pit->channels[which], value);
}

void pit_write(struct pit *pit, u16 port, u8 value, u64 tsc_hz, u64 now)
{
    u64 tick = pit_ticks(tsc_hz, now);
    u32 which = port - PORT_PIT;

    for (u32 i = 0; i < PIT_CHANNELS; i++) {
        pit->channels[i].ramp.length = 0;
        channel_advance(&pit->channels[i], tick);
    }
    if (which == CONTROL_PORT)
        write_control(pit, value, tick);
    else
        channel_write(&pit->channels[which], value, tick);
    schedule(pit, tick, tsc_hz);
}

static u8 channel_read(struct pit_channel *channel, u64 tick)
{
    if (channel->status_latched) {
        channel->status_latched = false;
        return channel->status_latch;
    }
    if (channel->latched != 0) {
        channel->latched--;
        return pit_next_byte(channel, channel->latch);
    }
    if (channel->counting && channel->count != 0 && !channel->bcd) {
        channel->ramp = ramp_at(channel, channel_elapsed(channel, tick));
        channel->ramp.start += channel->start;
    }
    return pit_next_byte(channel, channel_count(channel, tick));
}

u8 pit_read(struct pit *pit, u16 port, u64 tsc_hz, u64 now)
{
    u64 tick = pit_ticks(tsc_hz, now);
    u32 which = port - PORT_PIT;

    if (which == CONTROL_PORT)
        return 0xFF;
    channel_advance(&pit->channels[which], tick);
    return channel_read(&pit->channels[which], tick);
}

/* The gate stops modes 0 and 4, stops and restarts 2 and 3, and triggers 1 and 5. */
void pit_set_gate2(struct pit *pit, bool gate, u64 tsc_hz, u64 now)
{
    struct pit_channel *channel = &pit->channels[2];
    u64 tick = pit_ticks(tsc_hz, now);

    if (channel->gate == gate)
        return;
    channel_advance(channel, tick);
    channel->ramp.length = 0;
    channel->gate = gate;
    if (channel->count == 0 || (!gate && is_triggered(channel)))
        return;
    if (!gate) {
        channel->elapsed = channel_elapsed(channel, tick);
        channel->counting = false;
        return;
    }
    if (channel->next_count != 0)
        channel->count = channel->next_count;
    channel->next_count = 0;
    if (is_periodic(channel) || is_triggered(channel))
        channel->elapsed = 0;
    channel->start = tick - channel->elapsed;
    channel->counting = true;
}

bool pit_output2(struct pit *pit, u64 tsc_hz, u64 now)
{
    u64 tick = pit_ticks(tsc_hz, now);

    channel_advance(&pit->channels[2], tick);
    return channel_output(&pit->channels[2], tick);
}

bool pit_output0_low(const struct pit *pit)
{
    const struct pit_channel *channel = &pit->channels[0];

    return channel->mode == MODE_TERMINAL_COUNT &&
           (channel->count == 0 || pit->next_edge != UINT64_MAX);
}

void pit_init(struct pit *pit, u64 tsc_hz, u64 now)
{
    u64 tick = pit_ticks(tsc_hz, now);

    memset(pit, 0, sizeof *pit);
    pit->channels[0].gate = true;
    pit->channels[1].gate = true;
    for (u32 i = 0; i < PIT_CHANNELS; i++) {
        pit->channels[i].mode = MODE_SQUARE;
        pit->channels[i].access = PIT_ACCESS_BOTH;
    }
    channel_load(&pit->channels[0], 0, tick);
    schedule(pit, tick, tsc_hz);
}
