/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/ioapic.h"

#include "devices/pc_ports.h"
#include "lib/string.h"

enum {
    VERSION = 0x20 | (IOAPIC_PINS - 1) << 16,
    ID_SHIFT = 24,
    ID_MASK = 0xF << ID_SHIFT,
    DESTINATION_SHIFT = 56,
    BROADCAST = 0xFF,
};

#define ENTRY_READ_ONLY (INTERRUPT_PENDING | INTERRUPT_REMOTE_IRR)
#define ENTRY_WRITABLE  (0xFF0000000001AFFFULL)

_Static_assert((ENTRY_WRITABLE & ENTRY_READ_ONLY) == 0, "delivery status and remote IRR");

void ioapic_init(struct ioapic *ioapic)
{
    u32 lines = ioapic->lines, generation = ioapic->generation;

    memset(ioapic, 0, sizeof *ioapic);
    ioapic->lines = lines;
    ioapic->generation = generation + 1;
    ioapic->id = IOAPIC_ID << ID_SHIFT;
    for (u32 pin = 0; pin < IOAPIC_PINS; pin++)
        ioapic->redirection[pin] = INTERRUPT_MASKED;
}

/* Remote IRR exists for these two modes only; the others are edges whatever the entry says. */
static bool is_level(u64 entry)
{
    enum delivery_mode mode = interrupt_mode(entry);

    return (entry & INTERRUPT_LEVEL) && (mode == DELIVERY_FIXED || mode == DELIVERY_LOWEST);
}

/* A level that is asserted, unmasked and not on its way asks to be sent. */
static void evaluate(struct ioapic *ioapic, u32 pin)
{
    u64 entry = ioapic->redirection[pin];

    if (is_level(entry) && !(entry & (INTERRUPT_MASKED | INTERRUPT_REMOTE_IRR)) &&
        (ioapic->lines & (1U << pin)))
        ioapic->pending |= 1U << pin;
}

void ioapic_set_line(struct ioapic *ioapic, u32 pin, bool asserted)
{
    u32 bit = 1U << pin;
    u64 entry = ioapic->redirection[pin];
    bool rose = asserted && !(ioapic->lines & bit);

    ioapic->lines = asserted ? ioapic->lines | bit : ioapic->lines & ~bit;
    if (is_level(entry))
        evaluate(ioapic, pin);
    else if (rose && !(entry & INTERRUPT_MASKED)) /* an edge on a masked pin is lost */
        ioapic->pending |= bit;
}

void ioapic_eoi(struct ioapic *ioapic, u8 vector)
{
    for (u32 pin = 0; pin < IOAPIC_PINS; pin++) {
        u64 entry = ioapic->redirection[pin];

        if (!(entry & INTERRUPT_REMOTE_IRR) || (u8)entry != vector)
            continue;
        ioapic->redirection[pin] &= ~(u64)INTERRUPT_REMOTE_IRR;
        evaluate(ioapic, pin);
    }
}

struct interrupt_message ioapic_message(const struct ioapic *ioapic, u32 pin)
{
    u64 entry = ioapic->redirection[pin];

    return (struct interrupt_message){
        .destination = entry >> DESTINATION_SHIFT,
        .broadcast = entry >> DESTINATION_SHIFT == BROADCAST,
        .logical = entry & INTERRUPT_LOGICAL,
        .level = is_level(entry),
        .mode = interrupt_mode(entry),
        .vector = entry & INTERRUPT_VECTOR_MASK,
    };
}

bool ioapic_take(struct ioapic *ioapic, struct interrupt_message *message, u32 *pin)
{
    if (ioapic->pending == 0)
        return false;
    *pin = __builtin_ctz(ioapic->pending);
    ioapic->pending &= ioapic->pending - 1;
    *message = ioapic_message(ioapic, *pin);
    return true;
}

void ioapic_accepted(struct ioapic *ioapic, u32 pin)
{
    if (is_level(ioapic->redirection[pin]))
        ioapic->redirection[pin] |= INTERRUPT_REMOTE_IRR;
}

bool ioapic_pin_unmasked(const struct ioapic *ioapic, u32 pin)
{
    return !(ioapic->redirection[pin] & INTERRUPT_MASKED);
}

void ioapic_level_vectors(const struct ioapic *ioapic, u64 bitmap[4])
{
    memset(bitmap, 0, 4 * sizeof bitmap[0]);
    for (u32 pin = 0; pin < IOAPIC_PINS; pin++) {
        u64 entry = ioapic->redirection[pin];
        u8 vector = entry;

        if (is_level(entry))
            bitmap[vector / 64] |= BIT(vector % 64);
    }
}

/* Another CPU may be selecting another register meanwhile. */
static u8 selected(const struct ioapic *ioapic)
{
    return __atomic_load_n(&ioapic->index, __ATOMIC_RELAXED);
}

static u32 read_indexed(const struct ioapic *ioapic)
{
    u8 index = selected(ioapic);
    u32 pin = (index - IOAPIC_IOREDTBL) / 2;

    switch (index) {
    case IOAPIC_IOAPICID:
    case IOAPIC_IOAPICARB: /* loaded with the ID */
        return ioapic->id;
    case IOAPIC_IOAPICVER:
        return VERSION;
    }
    if (index < IOAPIC_IOREDTBL || pin >= IOAPIC_PINS)
        return UINT32_MAX;
    return ioapic->redirection[pin] >> (index & 1 ? 32 : 0);
}

u32 ioapic_read(const struct ioapic *ioapic, u32 offset)
{
    if (offset == IOAPIC_IOREGSEL)
        return ioapic->index;
    return offset == IOAPIC_IOWIN ? read_indexed(ioapic) : 0;
}

static void write_entry(struct ioapic *ioapic, u32 pin, bool high, u32 value)
{
    u64 old = ioapic->redirection[pin];
    u64 entry = high ? (u32)old | (u64)value << 32 : (old >> 32) << 32 | value;

    entry = (entry & ENTRY_WRITABLE) | (old & ENTRY_READ_ONLY);
    if (!is_level(entry))
        entry &= ~(u64)INTERRUPT_REMOTE_IRR; /* Linux clears a stuck one by switching to edge */
    ioapic->redirection[pin] = entry;
    ioapic->generation++;
    evaluate(ioapic, pin);
}

static void write_indexed(struct ioapic *ioapic, u32 value)
{
    u8 index = selected(ioapic);
    u32 pin = (index - IOAPIC_IOREDTBL) / 2;

    if (index == IOAPIC_IOAPICID)
        ioapic->id = value & ID_MASK;
    else if (index >= IOAPIC_IOREDTBL && pin < IOAPIC_PINS)
        write_entry(ioapic, pin, index & 1, value);
}

void ioapic_write(struct ioapic *ioapic, u32 offset, u32 value)
{
    switch (offset) {
    case IOAPIC_IOREGSEL:
        __atomic_store_n(&ioapic->index, (u8)value, __ATOMIC_RELAXED);
        break;
    case IOAPIC_IOWIN:
        write_indexed(ioapic, value);
        break;
    case IOAPIC_EOIR:
        ioapic_eoi(ioapic, value);
        break;
    }
}
