/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/acpi_pm.h"

#include "devices/pc_ports.h"
#include "lib/arith.h"
#include "lib/string.h"

enum {
    EVENT_STATUS = PORT_PM1A_EVENT - PORT_PM1A_EVENT,
    EVENT_ENABLE = EVENT_STATUS + 2,
    CONTROL = PORT_PM1A_CONTROL - PORT_PM1A_EVENT,
    TIMER = PORT_PM_TIMER - PORT_PM1A_EVENT,
    REGISTERS_SIZE = 16,
    ENABLE_MASK = PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC,
    /* SCI_EN follows SMI_CMD only; GBL_RLS and SLP_EN read as 0. */
    CONTROL_MASK = PM1_BM_RLD | PM1_SLP_TYP_MASK,
    TIMER_MSB_SHIFT = 31,
};

static u64 timer_ticks(u64 tsc_hz, u64 now)
{
    return mul_div(now, PM_TIMER_HZ, tsc_hz);
}

static void acpi_pm_schedule(struct acpi_pm *pm, u64 tsc_hz)
{
    u64 tick = (pm->half_periods + 1) << TIMER_MSB_SHIFT;

    pm->deadline = DEADLINE_NONE;
    if ((pm->enable & PM1_TMR) && !(pm->status & PM1_TMR))
        pm->deadline = add_saturating(mul_div(tick, tsc_hz, PM_TIMER_HZ), 1);
}

void acpi_pm_update(struct acpi_pm *pm, u64 tsc_hz, u64 now)
{
    u64 half_periods = timer_ticks(tsc_hz, now) >> TIMER_MSB_SHIFT;

    if (half_periods != pm->half_periods)
        pm->status |= PM1_TMR;
    pm->half_periods = half_periods;
    acpi_pm_schedule(pm, tsc_hz);
}

bool acpi_pm_irq(const struct acpi_pm *pm)
{
    return (pm->control & PM1_SCI_EN) && (pm->status & pm->enable);
}

u32 acpi_pm_read(struct acpi_pm *pm, u16 port, u8 size, u64 tsc_hz, u64 now)
{
    u32 offset = port - PORT_PM1A_EVENT;
    u8 bytes[REGISTERS_SIZE] = {0};
    u32 value = 0;
    u32 timer = timer_ticks(tsc_hz, now);

    if (!range_within(offset, size, REGISTERS_SIZE) || size > sizeof value)
        return UINT32_MAX;
    if (offset < CONTROL)
        acpi_pm_update(pm, tsc_hz, now);
    memcpy(bytes + EVENT_STATUS, &pm->status, sizeof pm->status);
    memcpy(bytes + EVENT_ENABLE, &pm->enable, sizeof pm->enable);
    memcpy(bytes + CONTROL, &pm->control, sizeof pm->control);
    memcpy(bytes + TIMER, &timer, sizeof timer);
    memcpy(&value, bytes + offset, size);
    return value;
}

/* Puts those bytes of `value` into `field`, a 16-bit register at `field_offset`, that a write of
 * `size` bytes at `offset` covers. */
static u16 merge(u16 field, u32 field_offset, u32 offset, u8 size, u32 value)
{
    for (u32 i = 0; i < size; i++) {
        u32 byte = offset + i - field_offset;

        if (byte < sizeof field)
            field = (field & ~(0xFF << 8 * byte)) | (value >> 8 * i & 0xFF) << 8 * byte;
    }
    return field;
}

static bool write_control(struct acpi_pm *pm, u16 value)
{
    pm->control = (pm->control & PM1_SCI_EN) | (value & CONTROL_MASK);
    return (value & PM1_SLP_EN) &&
           (value & PM1_SLP_TYP_MASK) >> PM1_SLP_TYP_SHIFT == PM1_SLP_TYP_S5;
}

bool acpi_pm_write(struct acpi_pm *pm, u16 port, u8 size, u32 value, u64 tsc_hz, u64 now)
{
    u32 offset = port - PORT_PM1A_EVENT;
    u16 cleared, control;

    if (!range_within(offset, size, REGISTERS_SIZE) || size > sizeof value)
        return false;
    acpi_pm_update(pm, tsc_hz, now);
    cleared = merge(0, EVENT_STATUS, offset, size, value);
    pm->status &= ~cleared;
    pm->enable = merge(pm->enable, EVENT_ENABLE, offset, size, value) & ENABLE_MASK;
    control = merge(pm->control, CONTROL, offset, size, value);
    acpi_pm_schedule(pm, tsc_hz);
    return write_control(pm, control);
}

void acpi_pm_command(struct acpi_pm *pm, u8 command)
{
    if (command == SMI_ACPI_ENABLE)
        pm->control |= PM1_SCI_EN;
    else if (command == SMI_ACPI_DISABLE)
        pm->control &= ~PM1_SCI_EN;
}

void acpi_pm_press_power_button(struct acpi_pm *pm)
{
    pm->status |= PM1_PWRBTN;
}

bool acpi_pm_minds_power_button(const struct acpi_pm *pm)
{
    return (pm->control & PM1_SCI_EN) && (pm->enable & PM1_PWRBTN);
}

void acpi_pm_init(struct acpi_pm *pm, u64 tsc_hz, u64 now)
{
    memset(pm, 0, sizeof *pm);
    pm->half_periods = timer_ticks(tsc_hz, now) >> TIMER_MSB_SHIFT;
    acpi_pm_schedule(pm, tsc_hz);
}
