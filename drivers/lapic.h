/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DRIVERS_LAPIC_H
#define BULKHEAD_DRIVERS_LAPIC_H

/* The physical local APIC of the CPU that runs this code (Intel SDM volume 3, chapter "Advanced
 * Programmable Interrupt Controller"), xAPIC or x2APIC. Every CPU uses the mode that the first one
 * chose. Call all of it with interrupts off. */

#include "lib/types.h"

enum host_ipi {
    HOST_IPI_FIXED = 0,
    HOST_IPI_NMI = 4,
    HOST_IPI_INIT = 5,
    HOST_IPI_STARTUP = 6, /* vector: page number of the start address below 1 MiB */
};

struct host_lapic_vectors {
    u8 timer;
    u8 error;
    u8 spurious; /* low four bits all ones, as old APICs want */
};

/* Once, on the boot CPU: chooses the mode and maps the registers. x2APIC where the firmware left
 * it on, or where the CPU has it and `highest_apic_id` is above 254; else xAPIC. False when the
 * registers can't be mapped or there is no APIC. */
bool host_lapic_init(u32 highest_apic_id);

/* On every CPU: enters the chosen mode, masks the LVT except for errors, NMI on LINT1, accepts all
 * priorities and sets the software-enable bit. The timer stays disarmed. */
void host_lapic_enable(const struct host_lapic_vectors *vectors);

bool host_lapic_is_x2apic(void);
u32 host_lapic_id(void);
void host_lapic_eoi(void);

/* Sends one IPI to one CPU. In xAPIC mode waits, with a bound, until the previous one has left;
 * false when it did not. `vector` is used by fixed and start-up IPIs. */
bool host_lapic_send_ipi(u32 apic_id, enum host_ipi kind, u8 vector);

/* Reads and clears the error status register. */
u32 host_lapic_errors(void);

/* Once, on the boot CPU after host_lapic_enable: uses TSC-deadline mode where CPUID has it, else
 * measures the timer against the TSC of `tsc_hz` for about 500 us. False when it does not count. */
bool host_lapic_timer_init(u64 tsc_hz);
bool host_lapic_timer_is_deadline(void);

/* Raises the timer vector once when this CPU's TSC reaches `tsc_deadline`, at once when that has
 * passed. Replaces an earlier deadline. Without TSC-deadline mode a deadline that is many seconds
 * away comes early: whoever handles the interrupt looks at the TSC and arms again. */
void host_lapic_timer_arm(u64 tsc_deadline);
void host_lapic_timer_disarm(void);

#endif
