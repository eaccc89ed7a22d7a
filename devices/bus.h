/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_BUS_H
#define BULKHEAD_DEVICES_BUS_H

/* Which device answers at which port, address and MSR. The tables are in bus.c; the entrance is
 * machine_access in machine.h. */

#include "devices/machine.h"

/* Registers of one byte: `*value` is written, or to be read. A wider access is split. Returns
 * false where there is no register. */
typedef bool bus_byte_handler(struct machine *machine, u16 port, u8 *value, bool write,
                              struct effects *effects);

/* Registers that are wider; the access lies within one group of eight ports. */
typedef bool bus_access_handler(struct machine *machine, struct access *access,
                                struct effects *effects);

#endif
