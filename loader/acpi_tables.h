/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_LOADER_ACPI_TABLES_H
#define BULKHEAD_LOADER_ACPI_TABLES_H

#include "lib/guest_ram.h"

/* Writes RSDP, XSDT, FADT, FACS, DSDT and MADT that describe exactly the virtual PC of
 * devices/machine.h with `vcpu_count` CPUs at GUEST_ACPI_TABLES (ACPI 6.5). The RSDP's
 * guest-physical address is GUEST_ACPI_TABLES. False when they do not fit below 1 MiB. */
bool acpi_tables_write(const struct guest_ram *ram, u32 vcpu_count);

#endif
