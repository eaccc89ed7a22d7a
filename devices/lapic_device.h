/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_LAPIC_DEVICE_H
#define BULKHEAD_DEVICES_LAPIC_DEVICE_H

/* The local APIC as the board sees it; lapic.h is what the CPU sees. Nothing here reaches
 * another local APIC: what a write means to others is told to the caller. */

#include "devices/interrupt.h"
#include "devices/lapic.h"

/* What the board is to do after a write. */
enum lapic_outcome {
    LAPIC_DONE,
    LAPIC_FAULT,         /* #GP: an unknown MSR or reserved bits */
    LAPIC_SEND,          /* an IPI stands in ICR */
    LAPIC_BROADCAST_EOI, /* EOI of a level-triggered vector: tell the IOAPIC */
};

enum lapic_error {
    ESR_SEND_ILLEGAL_VECTOR = 1 << 5,
    ESR_RECEIVE_ILLEGAL_VECTOR = 1 << 6,
    ESR_ILLEGAL_REGISTER = 1 << 7,
};

enum icr_bits {
    ICR_LEVEL_ASSERT = 1 << 14,
    ICR_SHORTHAND_SHIFT = 18,
    ICR_X2APIC_DESTINATION_SHIFT = 32,
};

enum icr_shorthand {
    SHORTHAND_NONE,
    SHORTHAND_SELF,
    SHORTHAND_ALL,
    SHORTHAND_OTHERS,
};

/* Power-on, with what firmware leaves for a boot loader on vCPU 0: APIC enabled by software,
 * LINT0 ExtINT, LINT1 NMI. */
void lapic_init(struct lapic *lapic, u32 id);

/* 32 bits at `offset` of the page, in xAPIC mode. A write in either mode acts on `value` as on
 * what was put in the register. *eoi_vector is set with LAPIC_BROADCAST_EOI. */
u32 lapic_mmio_read(struct lapic *lapic, u32 offset, u64 tsc_hz, struct effects *effects);
enum lapic_outcome lapic_mmio_write(struct lapic *lapic, u32 offset, u32 value, u64 tsc_hz,
                                    struct effects *effects, u8 *eoi_vector);

/* APIC_BASE, TSC_DEADLINE and x2APIC registers; false is #GP. */
bool lapic_msr_read(struct lapic *lapic, u32 msr, u64 *value, u64 tsc_hz, struct effects *effects);
enum lapic_outcome lapic_msr_write(struct lapic *lapic, u32 msr, u64 value, u64 tsc_hz,
                                   struct effects *effects, u8 *eoi_vector);

/* A write of the 64-bit ICR of x2APIC mode; false is #GP. */
bool lapic_set_icr(struct lapic *lapic, u64 value);

/* EOI in either mode, past the checks of a write: the vector, if it is level-triggered, or -1. */
int lapic_end_of_interrupt(struct lapic *lapic);

/* The message that ICR holds (shorthands are the caller's). */
struct interrupt_message lapic_icr_message(const struct lapic *lapic);

/* True when the message is addressed to this APIC. */
bool lapic_matches(const struct lapic *lapic, const struct interrupt_message *message);

/* Takes a message; false when the APIC is off and did not. */
bool lapic_deliver(struct lapic *lapic, const struct interrupt_message *message,
                   struct effects *effects);

/* Sets `vector` in IRR; false when the APIC is disabled by software. */
bool lapic_raise(struct lapic *lapic, u8 vector, bool level, struct effects *effects);

void lapic_error(struct lapic *lapic, enum lapic_error error, struct effects *effects);

/* What is wired to a pin has risen: the PIC's output to LINT0, the board's NMI to LINT1. `lvt` is
 * the pin's register. */
void lapic_lint_rose(struct lapic *lapic, u32 lvt, struct effects *effects);

/* Processor priority, computed from TPR and ISR. */
u8 lapic_processor_priority(const struct lapic *lapic);

/* lapic_timer.c: stops the timer; fires it when it is due; and what writes of its registers
 * do, after the new value was stored (for the divide register: in its place). */
void lapic_timer_reset(struct lapic *lapic);
void lapic_timer_tick(struct lapic *lapic, u64 tsc_hz, struct effects *effects);
void lapic_timer_started(struct lapic *lapic, u64 tsc_hz, struct effects *effects);
void lapic_timer_mode_written(struct lapic *lapic, u64 tsc_hz, struct effects *effects);
void lapic_timer_set_divide(struct lapic *lapic, u32 value, u64 tsc_hz, struct effects *effects);
u32 lapic_timer_count(const struct lapic *lapic, u64 tsc_hz, u64 now);
void lapic_timer_set_deadline(struct lapic *lapic, u64 deadline, u64 tsc_hz,
                              struct effects *effects);

#endif
