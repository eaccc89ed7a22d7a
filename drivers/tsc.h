/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DRIVERS_TSC_H
#define BULKHEAD_DRIVERS_TSC_H

#include "drivers/acpi.h"

/* The TSC's frequency in Hz, a whole number of kHz, and, in words, where it was found: CPUID leaf
 * 15h (with 16h for the crystal), the hypervisor leaf 40000010h, else what was measured, for less
 * than 50 ms, against the ACPI PM timer, the HPET or the PIT, whichever is the first that counts.
 * What CPUID says is not believed where the measurement contradicts it. 0 when there is neither.
 * Sources: Intel SDM volume 3, "Determining the Processor Base Frequency"; ACPI 6.5, 4.8.3.3; IA-PC
 * HPET 1.0a; Intel 8254 data sheet. On the boot CPU with interrupts off. */
u64 host_tsc_hz(const struct acpi_info *acpi, const char **source);

#endif
