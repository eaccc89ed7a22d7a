/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_INTERRUPT_H
#define BULKHEAD_DEVICES_INTERRUPT_H

/* What travels between IOAPIC and local APICs, and among these (Intel SDM volume 3, section
 * "Issuing Interprocessor Interrupts"; ICH9 datasheet, section "I/O APIC"). */

#include "lib/types.h"

/* As encoded in bits 10:8 of ICR, LVT and redirection entry. */
enum delivery_mode {
    DELIVERY_FIXED,
    DELIVERY_LOWEST,
    DELIVERY_SMI,
    DELIVERY_RESERVED,
    DELIVERY_NMI,
    DELIVERY_INIT,
    DELIVERY_SIPI,
    DELIVERY_EXTINT,
};

/* Bits that ICR, LVT and redirection entries have in common. */
enum interrupt_bits {
    INTERRUPT_VECTOR_MASK = 0xFF,
    INTERRUPT_MODE_SHIFT = 8,
    INTERRUPT_LOGICAL = 1 << 11,
    INTERRUPT_PENDING = 1 << 12,
    INTERRUPT_ACTIVE_LOW = 1 << 13,
    INTERRUPT_REMOTE_IRR = 1 << 14,
    INTERRUPT_LEVEL = 1 << 15,
    INTERRUPT_MASKED = 1 << 16,
};

#define INTERRUPT_VECTOR_MIN 16 /* lower ones are illegal for fixed and lowest priority */

struct interrupt_message {
    u32 destination;
    bool broadcast; /* to all, whatever `destination` says */
    bool logical;
    bool level;
    u8 mode; /* enum delivery_mode */
    u8 vector;
};

static inline enum delivery_mode interrupt_mode(u32 bits)
{
    return bits >> INTERRUPT_MODE_SHIFT & 7;
}

#endif
