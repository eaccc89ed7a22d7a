/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/lapic_device.h"
#include "lib/arith.h"

enum lvt_timer_bits {
    TIMER_MODE_MASK = 3 << 17,
    TIMER_ONE_SHOT = 0 << 17,
    TIMER_PERIODIC = 1 << 17,
    TIMER_TSC_DEADLINE = 2 << 17,
};

#define TIMER_MODE_SHIFT 17

static u32 timer_mode(const struct lapic *lapic)
{
    return lapic_read(lapic, LAPIC_LVT_TIMER) & TIMER_MODE_MASK;
}

static bool timer_masked(const struct lapic *lapic)
{
    return lapic_read(lapic, LAPIC_LVT_TIMER) & INTERRUPT_MASKED;
}

/* Bits 3, 1 and 0 of the register: 000 divides by 2, 110 by 128, 111 by 1. */
static u32 divisor(u32 divide_register)
{
    u32 encoded = (divide_register & 3) | (divide_register >> 1 & 4);

    return encoded == 7 ? 1 : 2U << encoded;
}

/* From initial count to zero, in ticks of the undivided clock. */
static u64 timer_period(const struct lapic *lapic)
{
    return (u64)lapic_read(lapic, LAPIC_TIMER_INITIAL) *
           divisor(lapic_read(lapic, LAPIC_TIMER_DIVIDE));
}

/* timer_start may lie before the machine's start: differences are modulo 2^64. */
static u64 timer_elapsed(const struct lapic *lapic, u64 tsc_hz, u64 now)
{
    return mul_div(now - lapic->timer_start, LAPIC_TIMER_HZ, tsc_hz);
}

/* The least machine time in which that many ticks pass. */
static u64 machine_time(u64 ticks, u64 tsc_hz)
{
    return mul_div(ticks, tsc_hz, LAPIC_TIMER_HZ) + 1;
}

/* Counts down to the next zero behind `now`. Multiples of the period are counted from the start,
 * so that a periodic timer neither drifts nor catches up. */
static void arm_count(struct lapic *lapic, u64 tsc_hz, u64 now)
{
    u64 period = timer_period(lapic);
    u64 elapsed = timer_elapsed(lapic, tsc_hz, now);
    u64 periods = 1;

    lapic->timer_expiry = DEADLINE_NONE;
    if (period == 0 || timer_masked(lapic))
        return;
    if (timer_mode(lapic) == TIMER_PERIODIC)
        periods = elapsed / period + 1;
    else if (elapsed >= period)
        return;
    lapic->timer_expiry = lapic->timer_start + machine_time(periods * period, tsc_hz);
}

static void arm_deadline(struct lapic *lapic, u64 now)
{
    u64 guest_tsc = now + lapic->tsc_adjust;

    lapic->timer_expiry = DEADLINE_NONE;
    if (lapic->tsc_deadline == 0)
        return;
    if (lapic->tsc_deadline <= guest_tsc)
        lapic->timer_expiry = now;
    else
        lapic->timer_expiry = add_saturating(now, lapic->tsc_deadline - guest_tsc);
}

static void arm(struct lapic *lapic, u64 tsc_hz, u64 now)
{
    if (timer_mode(lapic) == TIMER_TSC_DEADLINE)
        arm_deadline(lapic, now);
    else
        arm_count(lapic, tsc_hz, now);
}

void lapic_timer_reset(struct lapic *lapic)
{
    lapic->tsc_deadline = 0;
    lapic->timer_start = 0;
    lapic->timer_expiry = DEADLINE_NONE;
    lapic->timer_mode = 0;
}

static void raise(struct lapic *lapic, struct effects *effects)
{
    if (!timer_masked(lapic))
        lapic_raise(lapic, lapic_read(lapic, LAPIC_LVT_TIMER), false, effects);
}

void lapic_timer_tick(struct lapic *lapic, u64 tsc_hz, struct effects *effects)
{
    if (effects->now < lapic->timer_expiry || lapic->timer_expiry == DEADLINE_NONE)
        return;
    lapic->tsc_deadline = 0;
    arm(lapic, tsc_hz, effects->now);
    raise(lapic, effects);
}

void lapic_timer_started(struct lapic *lapic, u64 tsc_hz, struct effects *effects)
{
    if (timer_mode(lapic) == TIMER_TSC_DEADLINE) {
        lapic->registers[LAPIC_TIMER_INITIAL >> 4].value = 0; /* ignored in this mode */
        return;
    }
    lapic->timer_start = effects->now;
    arm_count(lapic, tsc_hz, effects->now);
}

void lapic_timer_mode_written(struct lapic *lapic, u64 tsc_hz, struct effects *effects)
{
    u8 mode = timer_mode(lapic) >> TIMER_MODE_SHIFT;
    bool was_deadline = lapic->timer_mode == TIMER_TSC_DEADLINE >> TIMER_MODE_SHIFT;
    bool is_deadline = mode == TIMER_TSC_DEADLINE >> TIMER_MODE_SHIFT;

    lapic->timer_mode = mode;
    if (was_deadline != is_deadline) {
        lapic->tsc_deadline = 0;
        lapic->registers[LAPIC_TIMER_INITIAL >> 4].value = 0;
    }
    arm(lapic, tsc_hz, effects->now);
}

/* The count goes on from where it is, at the new speed. */
void lapic_timer_set_divide(struct lapic *lapic, u32 value, u64 tsc_hz, struct effects *effects)
{
    u32 counted =
        lapic_read(lapic, LAPIC_TIMER_INITIAL) - lapic_timer_count(lapic, tsc_hz, effects->now);

    lapic->registers[LAPIC_TIMER_DIVIDE >> 4].value = value;
    lapic->timer_start = effects->now - machine_time((u64)counted * divisor(value), tsc_hz);
    arm(lapic, tsc_hz, effects->now);
}

u32 lapic_timer_count(const struct lapic *lapic, u64 tsc_hz, u64 now)
{
    u64 period = timer_period(lapic);
    u64 elapsed = timer_elapsed(lapic, tsc_hz, now);

    if (period == 0)
        return 0;
    if (timer_mode(lapic) == TIMER_PERIODIC)
        elapsed %= period;
    else if (elapsed >= period)
        return 0;
    return lapic_read(lapic, LAPIC_TIMER_INITIAL) -
           elapsed / divisor(lapic_read(lapic, LAPIC_TIMER_DIVIDE));
}

void lapic_timer_set_deadline(struct lapic *lapic, u64 deadline, u64 tsc_hz,
                              struct effects *effects)
{
    if (effects->now >= lapic->timer_expiry)
        lapic_timer_tick(lapic, tsc_hz, effects);
    if (timer_mode(lapic) != TIMER_TSC_DEADLINE)
        return;
    lapic->tsc_deadline = deadline;
    arm_deadline(lapic, effects->now);
    if (lapic->timer_expiry == effects->now) {
        lapic->tsc_deadline = 0;
        lapic->timer_expiry = DEADLINE_NONE;
        raise(lapic, effects);
    }
}

void lapic_set_tsc_adjust(struct lapic *lapic, u64 tsc_adjust, u64 now)
{
    lapic->tsc_adjust = tsc_adjust;
    if (timer_mode(lapic) == TIMER_TSC_DEADLINE)
        arm_deadline(lapic, now);
}
