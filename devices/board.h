/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_BOARD_H
#define BULKHEAD_DEVICES_BOARD_H

/* The board between the devices of one machine: lines, messages, time. For devices/ only. */

#include "devices/interrupt.h"
#include "devices/lapic_device.h"
#include "devices/machine.h"

/* ISA interrupt line 0..15 is now high or low: to the PIC and the IOAPIC. */
void board_set_line(struct machine *machine, u32 line, bool high, struct effects *effects);

/* To be called after the PIC or the IOAPIC was accessed: passes on what comes out of them. */
void board_interrupts_changed(struct machine *machine, struct effects *effects);

/* Fires the board's timers that are due. */
void board_tick(struct machine *machine, struct effects *effects);

/* Delivers a message to whom it is addressed; false when nobody took it. */
bool apic_bus_send(struct machine *machine, const struct interrupt_message *message,
                   struct effects *effects);

/* Sends the IPI that stands in the ICR of vCPU `sender`. */
void apic_bus_send_ipi(struct machine *machine, u32 sender, struct effects *effects);

/* Does what a write of a local APIC's register asks the board for; false for LAPIC_FAULT. */
bool board_lapic_outcome(struct machine *machine, u32 vcpu, enum lapic_outcome outcome,
                         u8 eoi_vector, struct effects *effects);

/* chipset.c: one byte at a port of the registers that are no device of their own. False where
 * there is nothing to read. */
bool chipset_keyboard(struct machine *machine, u16 port, u8 *value, bool write,
                      struct effects *effects);
bool chipset_control_a(struct machine *machine, u16 port, u8 *value, bool write,
                       struct effects *effects);
bool chipset_smi(struct machine *machine, u16 port, u8 *value, bool write, struct effects *effects);
bool chipset_reset_control(struct machine *machine, u16 port, u8 *value, bool write,
                           struct effects *effects);
void chipset_init(struct machine *machine);

#endif
