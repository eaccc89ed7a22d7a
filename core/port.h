/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_PORT_H
#define BULKHEAD_CORE_PORT_H

/* The machine's serial ports: for each that is used a transmit ring, which the UART's interrupt
 * drains, and a receive ring, which it fills. A receive ring that is full lets the UART's FIFO
 * fill up, with RTS off. */

#include "lib/types.h"

#define PORTS_MAX 4

struct port;

/* Finds the UART at `address` and begins to use it, polled. NULL with a word in *problem when
 * there is none, it is in use, or memory is short. The first one is the administrator's and has
 * large rings. CPU 0. */
struct port *port_open(u16 address, u32 baud, const char **problem);

/* Queues bytes as they are; when the ring is full the oldest queued bytes are sent first, waiting
 * for the UART. Any CPU. */
void port_write(struct port *port, const char *text, size_t size);

/* Free bytes in the transmit ring: a producer that can wait should not write more than this. */
size_t port_room(const struct port *port);

/* Takes at most `size` received bytes. CPU 0. */
size_t port_read(struct port *port, char *to, size_t size);

/* Sends all that is queued, waiting for the UART. Takes no lock: for panic and power-off. */
void port_flush(struct port *port);

/* As port_write, without the lock and waiting for the UART: for panic. */
void port_write_unlocked(struct port *port, const char *text, size_t size);

/* Lets UARTs interrupt from now on, those opened later, too. CPU 0, once, when the I/O APICs can be
 * used. */
void ports_use_interrupts(void);

/* Serves the UARTs that have no interrupt; true when there are any, so it must be called often. */
bool ports_poll(void);

#endif
