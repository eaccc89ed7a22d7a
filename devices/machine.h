/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_MACHINE_H
#define BULKHEAD_DEVICES_MACHINE_H

/* The virtual PC: all devices of a partition and their wiring, in one struct without pointers.
 * A copy of it is a snapshot. Nothing here locks: the caller serialises all calls for one
 * machine. */

#include "devices/acpi_pm.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"
#include "devices/pic.h"
#include "devices/pit.h"
#include "devices/rtc.h"
#include "devices/uart.h"

#define IOAPIC_BASE 0xFEC00000ULL

struct machine {
    u64 tsc_hz;     /* ticks of machine time in a second */
    u32 vcpu_count; /* elements of lapics */
    s32 exit_port;  /* that ends the machine; -1, which no address is: none */
    struct pic pic;
    struct ioapic ioapic;
    struct pit pit;
    struct rtc rtc;
    struct uart uart; /* COM1: ports 3F8h-3FFh, IRQ 4 */
    struct acpi_pm acpi_pm;
    u8 port61; /* the bits of port 61h that software may set */
    u8 port92;
    u8 kbd_status; /* what little keyboard controller there is: reset and self-test */
    u8 kbd_command;
    u8 cf9;
    u8 kbd_data;     /* what port 60h reads */
    bool intr;       /* level of the PIC's output that was last passed on */
    u16 isa_lines;   /* levels of the interrupt lines */
    u32 pci_address; /* CF8h: reads back, no device answers */

    struct lapic lapics[];
};

/* Bytes of a machine with `vcpu_count` vCPUs. Hardware that virtualises LAPICs wants lapics[] to be
 * aligned to 4096. */
size_t machine_size(u32 vcpu_count);

/* Power-on state. `unix_seconds` is the wall clock's time now, for the RTC. */
void machine_init(struct machine *machine, u32 vcpu_count, u64 tsc_hz, u64 unix_seconds,
                  s32 exit_port);

/* What a system reset does: all devices to power-on state; the RTC keeps its time and the
 * configuration stays. */
void machine_reset(struct machine *machine, struct effects *effects);

/* Carries out one access by vCPU `vcpu`. An address that nothing claims reads all ones, drops
 * writes and returns false. An MSR that must fault (unknown, or a reserved bit set) returns
 * false. */
bool machine_access(struct machine *machine, u32 vcpu, struct access *access,
                    struct effects *effects);

/* What one byte at a port reads, where reading it has no effects and no time goes into it; else -1,
 * and it is machine_access's. Those that are polled or stay without an answer. Needs no lock: such
 * a register is one byte, or four that are aligned. */
int machine_peek(const struct machine *machine, u16 port);

/* The same for a load from guest-physical memory by vCPU `vcpu`, and a store that does nothing but
 * select a register: false where it is machine_access's. */
s64 machine_peek_memory(const struct machine *machine, u32 vcpu, u64 gpa);
bool machine_poke_memory(struct machine *machine, u32 vcpu, u64 gpa, u64 value);

static inline u64 machine_board_deadline(const struct machine *machine)
{
    u64 deadline = MIN(machine->rtc.deadline, machine->acpi_pm.deadline);

    return machine->pit.observed ? MIN(deadline, machine->pit.deadline) : deadline;
}

/* When machine_tick next has work for this vCPU (machine time), or DEADLINE_NONE. The board's
 * timers (PIT, RTC, PM timer) are counted as vCPU 0's, so any vCPU's access may move that one. */
static inline u64 machine_deadline(const struct machine *machine, u32 vcpu)
{
    u64 deadline = machine->lapics[vcpu].timer_expiry;

    return vcpu == 0 ? MIN(deadline, machine_board_deadline(machine)) : deadline;
}

/* Fires what is due at effects->now for this vCPU. */
void machine_tick(struct machine *machine, u32 vcpu, struct effects *effects);

/* True where the PIC asks vCPU `vcpu` for an interrupt; machine_acknowledge_pic is its INTA
 * cycle and returns the vector. */
bool machine_extint_reaches(const struct machine *machine, u32 vcpu);
static inline bool machine_extint_pending(const struct machine *machine, u32 vcpu)
{
    return machine->intr && machine_extint_reaches(machine, vcpu);
}
u8 machine_acknowledge_pic(struct machine *machine, struct effects *effects);

/* Hands the UART a received byte; false when its FIFO is full (offer it again later: the
 * machine kicks vCPU 0 no differently, so poll machine_can_receive). */
bool machine_receive(struct machine *machine, u8 byte, struct effects *effects);
bool machine_can_receive(const struct machine *machine);

/* Lets the UART's transmitter seem busy, see uart_hold. */
void machine_hold_output(struct machine *machine, bool held, struct effects *effects);

/* The power button (ACPI). False when the guest does not react to it: it has not enabled its
 * interrupt. */
bool machine_press_power_button(struct machine *machine, struct effects *effects);

/* The board's NMI: to every vCPU that wants it (LINT1). */
void machine_nmi(struct machine *machine, struct effects *effects);

/* Is a device set up to interrupt by NMI: a pin of the IOAPIC, or a LINT0? */
bool machine_may_send_nmi(const struct machine *machine);

/* EOI, which only the vCPU's own CPU may do, and needs no lock for: the vector that machine_eoi is
 * to be told of, or -1. */
int machine_end_of_interrupt(struct machine *machine, u32 vcpu);

/* What machine_access does for writes of SELF_IPI, in x2APIC mode, and of IA32_TSC_DEADLINE; the
 * first has no need of effects->now. */
void machine_self_ipi(struct machine *machine, u32 vcpu, u8 vector, struct effects *effects);
void machine_set_tsc_deadline(struct machine *machine, u32 vcpu, u64 deadline,
                              struct effects *effects);

/* The same for ICR in x2APIC mode; false is #GP. */
bool machine_send_ipi(struct machine *machine, u32 vcpu, u64 icr, struct effects *effects);

/* For hardware that virtualises the APIC. After an APIC-write exit: the new value stands in the
 * register at `offset` already, act on it. After an EOI-induced exit: `vector`'s EOI was
 * virtualised, tell the IOAPIC. */
void machine_lapic_written(struct machine *machine, u32 vcpu, u32 offset, struct effects *effects);
void machine_eoi(struct machine *machine, u8 vector, struct effects *effects);

/* Bit V of the four words is set where EOI of vector V on `vcpu` must be seen by the IOAPIC:
 * the EOI-exit bitmap. `machine->ioapic.generation` changes whenever an answer may have. */
void machine_eoi_exit_bitmap(const struct machine *machine, u32 vcpu, u64 bitmap[4]);

#endif
