/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_GUEST_PORT_H
#define BULKHEAD_CORE_GUEST_PORT_H

/* Partitions whose console is connected with a serial port of the machine's own (`console = com2`):
 * what they print goes out there, what comes in is typed to them. CPU 0 only. */

#include "core/lifecycle.h"

/* Connects as config.console says, or disconnects. False with a sentence in `error` when there is
 * no such port, or it is in use. */
bool guest_port_attach(struct vm *vm, char error[VM_ERROR_SIZE]);

/* Disconnects; the port stays open. */
void guest_port_detach(struct vm *vm);

/* Moves what there is to be moved. True when it wants to be called again soon. */
bool guest_ports_poll(void);

#endif
