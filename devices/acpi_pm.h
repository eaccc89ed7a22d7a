/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_ACPI_PM_H
#define BULKHEAD_DEVICES_ACPI_PM_H

/* ACPI fixed hardware: PM1a event and control blocks, power-management timer, power button
 * (ACPI 6.5, section 4.8 "ACPI Register Model"). Bits and ports are in pc_ports.h. */

#include "devices/device.h"

struct acpi_pm {
    u16 status, enable, control;
    u64 half_periods; /* how often the timer's bit 31 had changed when TMR_STS was last updated */
    u64 deadline;     /* machine time of its next change when that interrupts, else none */
};

void acpi_pm_init(struct acpi_pm *pm, u64 tsc_hz, u64 now);

/* 1, 2 or 4 bytes at ports 600h-60Fh that lie within these; bytes with no register read 0. */
u32 acpi_pm_read(struct acpi_pm *pm, u16 port, u8 size, u64 tsc_hz, u64 now);

/* Returns true when the write switches the machine off (S5). */
bool acpi_pm_write(struct acpi_pm *pm, u16 port, u8 size, u32 value, u64 tsc_hz, u64 now);

/* One byte at SMI_CMD: ACPI on, off, or nothing. */
void acpi_pm_command(struct acpi_pm *pm, u8 command);

void acpi_pm_press_power_button(struct acpi_pm *pm);

/* The guest wants an interrupt from the power button. */
bool acpi_pm_minds_power_button(const struct acpi_pm *pm);

/* Raises TMR_STS when it is due. */
void acpi_pm_update(struct acpi_pm *pm, u64 tsc_hz, u64 now);

/* The level of SCI. */
bool acpi_pm_irq(const struct acpi_pm *pm);

#endif
