/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DRIVERS_IOAPIC_H
#define BULKHEAD_DRIVERS_IOAPIC_H

/* The machine's I/O APICs (Intel 82093AA data sheet). One CPU at a time. */

#include "drivers/acpi.h"

/* Maps every I/O APIC of `acpi` and masks all its inputs. Returns how many were usable. */
u32 host_ioapic_init(const struct acpi_info *acpi);

/* Sends `irq` as a fixed interrupt with `vector` to the CPU with `apic_id`, masked at first. False
 * when no I/O APIC has that GSI or the ID is above 254, which an I/O APIC cannot address. */
bool host_ioapic_route(const struct acpi_irq *irq, u8 vector, u32 apic_id);

/* False when no I/O APIC has `gsi`. */
bool host_ioapic_mask(u32 gsi, bool masked);

#endif
