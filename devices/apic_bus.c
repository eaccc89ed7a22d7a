/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/board.h"

#define NO_VCPU UINT32_MAX

static bool takes_interrupts(const struct lapic *lapic)
{
    return lapic_is_enabled(lapic) && (lapic_read(lapic, LAPIC_SVR) & 1U << 8);
}

/* The addressee that is busy with the least; the first of equals. */
static u32 lowest_priority(const struct machine *machine, const struct interrupt_message *message,
                           u32 except)
{
    u32 best = NO_VCPU, best_priority = UINT32_MAX;

    for (u32 i = 0; i < machine->vcpu_count; i++) {
        const struct lapic *lapic = &machine->lapics[i];
        u32 priority;

        if (i == except || !takes_interrupts(lapic) || !lapic_matches(lapic, message))
            continue;
        priority = lapic_processor_priority(lapic);
        if (priority < best_priority) {
            best = i;
            best_priority = priority;
        }
    }
    return best;
}

static bool send_except(struct machine *machine, const struct interrupt_message *message,
                        u32 except, struct effects *effects)
{
    bool accepted = false;

    if (message->mode == DELIVERY_LOWEST) {
        u32 target = lowest_priority(machine, message, except);

        return target != NO_VCPU && lapic_deliver(&machine->lapics[target], message, effects);
    }
    for (u32 i = 0; i < machine->vcpu_count; i++) {
        if (i != except && lapic_matches(&machine->lapics[i], message))
            accepted |= lapic_deliver(&machine->lapics[i], message, effects);
    }
    return accepted;
}

bool apic_bus_send(struct machine *machine, const struct interrupt_message *message,
                   struct effects *effects)
{
    u32 target = message->destination;

    if (message->logical || message->broadcast)
        return send_except(machine, message, NO_VCPU, effects);
    /* An APIC ID is the vCPU's index. */
    return target < machine->vcpu_count &&
           lapic_deliver(&machine->lapics[target], message, effects);
}

/* What the delivery mode and shorthand of an ICR allow (SDM volume 3, table "Valid Combinations
 * for the Pentium 4 and Intel Xeon Processors' Local xAPIC ICR"). */
static bool is_valid(enum delivery_mode mode, enum icr_shorthand shorthand)
{
    if (mode == DELIVERY_RESERVED || mode == DELIVERY_EXTINT)
        return false;
    return shorthand == SHORTHAND_NONE || shorthand == SHORTHAND_OTHERS || mode == DELIVERY_FIXED;
}

void apic_bus_send_ipi(struct machine *machine, u32 sender, struct effects *effects)
{
    struct lapic *lapic = &machine->lapics[sender];
    struct interrupt_message message = lapic_icr_message(lapic);
    u32 icr = lapic_read(lapic, LAPIC_ICR_LOW);
    enum icr_shorthand shorthand = icr >> ICR_SHORTHAND_SHIFT & 3;

    if (!is_valid(message.mode, shorthand))
        return;
    /* "INIT level de-assert" set arbitration IDs on a bus that is no more. */
    if (message.mode == DELIVERY_INIT && (icr & INTERRUPT_LEVEL) && !(icr & ICR_LEVEL_ASSERT))
        return;
    if (message.mode <= DELIVERY_LOWEST && message.vector < INTERRUPT_VECTOR_MIN) {
        lapic_error(lapic, ESR_SEND_ILLEGAL_VECTOR, effects);
        return;
    }
    if (shorthand == SHORTHAND_NONE) {
        apic_bus_send(machine, &message, effects);
    } else if (shorthand == SHORTHAND_SELF) {
        lapic_deliver(lapic, &message, effects);
    } else {
        message.broadcast = true;
        send_except(machine, &message, shorthand == SHORTHAND_OTHERS ? sender : NO_VCPU, effects);
    }
}
