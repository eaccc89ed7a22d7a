/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DRIVERS_POWER_H
#define BULKHEAD_DRIVERS_POWER_H

#include "drivers/acpi.h"

/* Turns the machine off: ACPI S5 (ACPI 6.5, 4.8.3.2 and 7.4.2), then the ports that emulators
 * have for it. Comes back only when none of them works. Interrupts off, other CPUs stopped. */
void host_power_off(const struct acpi_info *acpi);

/* Resets the machine: ACPI reset register, port CF9h, keyboard controller, triple fault.
 * Interrupts off, other CPUs stopped. */
_Noreturn void host_reboot(const struct acpi_info *acpi);

#endif
