/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_IOAPIC_H
#define BULKHEAD_DEVICES_IOAPIC_H

/* An IOAPIC with 24 pins and an EOI register, version 20h (Intel 82093AA and ICH9 datasheets).
 * What it has to say waits in `pending` until the board takes it to the local APICs. */

#include "devices/interrupt.h"

#define IOAPIC_PINS 24
#define IOAPIC_SIZE 4096ULL

/* Offsets in the page, and registers behind the index. */
enum ioapic_register {
    IOAPIC_IOREGSEL = 0x00,
    IOAPIC_IOWIN = 0x10,
    IOAPIC_EOIR = 0x40,
    IOAPIC_IOAPICID = 0x00,
    IOAPIC_IOAPICVER = 0x01,
    IOAPIC_IOAPICARB = 0x02,
    IOAPIC_IOREDTBL = 0x10, /* two registers a pin */
};

struct ioapic {
    u64 redirection[IOAPIC_PINS];
    u32 lines;      /* asserted inputs */
    u32 pending;    /* pins whose message is to be sent */
    u32 id;         /* as in bits 27:24 */
    u32 generation; /* changes with every write of a redirection entry */
    u8 index;
};

/* Power-on: everything masked. */
void ioapic_init(struct ioapic *ioapic);

/* 32 bits at `offset` of its page. */
u32 ioapic_read(const struct ioapic *ioapic, u32 offset);
void ioapic_write(struct ioapic *ioapic, u32 offset, u32 value);

/* Pin 0..23 is now asserted or not (the entry's polarity is taken to fit the board's). */
void ioapic_set_line(struct ioapic *ioapic, u32 pin, bool asserted);

/* A local APIC ended `vector`, a level-triggered interrupt. */
void ioapic_eoi(struct ioapic *ioapic, u8 vector);

/* Takes the next message; false when there is none. The caller tells by ioapic_accepted that
 * some local APIC took it. */
bool ioapic_take(struct ioapic *ioapic, struct interrupt_message *message, u32 *pin);
void ioapic_accepted(struct ioapic *ioapic, u32 pin);

/* The message that `pin` sends. */
struct interrupt_message ioapic_message(const struct ioapic *ioapic, u32 pin);

bool ioapic_pin_unmasked(const struct ioapic *ioapic, u32 pin);

/* Bit V of the four words: some level-triggered entry has vector V. */
void ioapic_level_vectors(const struct ioapic *ioapic, u64 bitmap[4]);

#endif
