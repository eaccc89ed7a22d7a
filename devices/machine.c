/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/machine.h"

#include "devices/board.h"
#include "devices/pc_ports.h"
#include "lib/arith.h"
#include "lib/string.h"

size_t machine_size(u32 vcpu_count)
{
    return offsetof(struct machine, lapics) + vcpu_count * sizeof(struct lapic);
}

/* ---- interrupts ----------------------------------------------------------------------------- */

/* Where the PIC's output reaches a CPU past its LINT0: by the IOAPIC's pin in ExtINT mode. */
static bool extint_by_ioapic(const struct machine *machine, const struct lapic *lapic)
{
    struct interrupt_message message = ioapic_message(&machine->ioapic, PIN_EXTINT);

    return message.mode == DELIVERY_EXTINT && ioapic_pin_unmasked(&machine->ioapic, PIN_EXTINT) &&
           lapic_is_enabled(lapic) && lapic_matches(lapic, &message);
}

bool machine_extint_reaches(const struct machine *machine, u32 vcpu)
{
    const struct lapic *lapic = &machine->lapics[vcpu];

    /* With the APIC off the pin is the CPU's INTR, which is wired to the first one only. */
    if (lapic_takes_extint(lapic) && (vcpu == 0 || lapic_is_enabled(lapic)))
        return true;
    return extint_by_ioapic(machine, lapic);
}

static void send_ioapic_messages(struct machine *machine, struct effects *effects)
{
    struct interrupt_message message;
    u32 pin;

    while (ioapic_take(&machine->ioapic, &message, &pin)) {
        if (apic_bus_send(machine, &message, effects))
            ioapic_accepted(&machine->ioapic, pin);
    }
}

static void pass_on_intr(struct machine *machine, struct effects *effects)
{
    bool intr = pic_output(&machine->pic);

    if (intr == machine->intr)
        return;
    machine->intr = intr;
    ioapic_set_line(&machine->ioapic, PIN_EXTINT, intr);
    for (u32 i = 0; intr && i < machine->vcpu_count; i++)
        lapic_lint_rose(&machine->lapics[i], LAPIC_LVT_LINT0, effects);
}

void board_interrupts_changed(struct machine *machine, struct effects *effects)
{
    bool was_observed = machine->pit.observed;

    pass_on_intr(machine, effects);
    send_ioapic_messages(machine, effects);
    machine->pit.observed =
        pic_line_unmasked(&machine->pic, IRQ_PIT) || ioapic_pin_unmasked(&machine->ioapic, PIN_PIT);
    effects->timers |= machine->pit.observed && !was_observed;
}

void board_set_line(struct machine *machine, u32 line, bool high, struct effects *effects)
{
    if (high == (machine->isa_lines >> line & 1))
        return;
    machine->isa_lines ^= 1U << line;
    pic_set_line(&machine->pic, line, high);
    ioapic_set_line(&machine->ioapic, line == IRQ_PIT ? PIN_PIT : line, high);
    board_interrupts_changed(machine, effects);
}

u8 machine_acknowledge_pic(struct machine *machine, struct effects *effects)
{
    u8 vector = pic_acknowledge(&machine->pic);

    machine->intr = false; /* INTR drops for a moment: what is still requested rises anew */
    ioapic_set_line(&machine->ioapic, PIN_EXTINT, false);
    board_interrupts_changed(machine, effects);
    return vector;
}

bool board_lapic_outcome(struct machine *machine, u32 vcpu, enum lapic_outcome outcome,
                         u8 eoi_vector, struct effects *effects)
{
    if (outcome == LAPIC_SEND)
        apic_bus_send_ipi(machine, vcpu, effects);
    else if (outcome == LAPIC_BROADCAST_EOI)
        machine_eoi(machine, eoi_vector, effects);
    return outcome != LAPIC_FAULT;
}

void machine_eoi(struct machine *machine, u8 vector, struct effects *effects)
{
    ioapic_eoi(&machine->ioapic, vector);
    send_ioapic_messages(machine, effects);
}

void machine_eoi_exit_bitmap(const struct machine *machine, u32 vcpu, u64 bitmap[4])
{
    /* Whatever the destinations: an interrupt may be in service where it went before. */
    ioapic_level_vectors(&machine->ioapic, bitmap);
}

void machine_lapic_written(struct machine *machine, u32 vcpu, u32 offset, struct effects *effects)
{
    struct lapic *lapic = &machine->lapics[vcpu];
    enum lapic_outcome outcome;
    u8 eoi_vector = 0;
    u32 value;

    offset &= ~15U;
    if (offset >= sizeof lapic->registers)
        return;
    value = lapic->registers[offset >> 4].value;
    if (lapic_is_x2apic(lapic) && offset == LAPIC_ICR_LOW)
        lapic->registers[LAPIC_ICR_HIGH >> 4].value =
            lapic->registers[LAPIC_ICR_LOW >> 4].reserved[0];
    outcome = lapic_mmio_write(lapic, offset, value, machine->tsc_hz, effects, &eoi_vector);
    board_lapic_outcome(machine, vcpu, outcome, eoi_vector, effects);
}

int machine_end_of_interrupt(struct machine *machine, u32 vcpu)
{
    return lapic_end_of_interrupt(&machine->lapics[vcpu]);
}

void machine_self_ipi(struct machine *machine, u32 vcpu, u8 vector, struct effects *effects)
{
    lapic_raise(&machine->lapics[vcpu], vector, false, effects);
}

void machine_set_tsc_deadline(struct machine *machine, u32 vcpu, u64 deadline,
                              struct effects *effects)
{
    lapic_timer_set_deadline(&machine->lapics[vcpu], deadline, machine->tsc_hz, effects);
}

/* What most IPIs are: fixed, to the vCPU of one APIC ID. */
static bool is_plain_ipi(const struct machine *machine, u64 icr)
{
    return !((u32)icr & ~(u32)(INTERRUPT_VECTOR_MASK | ICR_LEVEL_ASSERT)) &&
           (icr & INTERRUPT_VECTOR_MASK) >= INTERRUPT_VECTOR_MIN &&
           icr >> ICR_X2APIC_DESTINATION_SHIFT < machine->vcpu_count;
}

bool machine_send_ipi(struct machine *machine, u32 vcpu, u64 icr, struct effects *effects)
{
    struct lapic *target;

    if (!lapic_set_icr(&machine->lapics[vcpu], icr))
        return false;
    if (!is_plain_ipi(machine, icr)) {
        apic_bus_send_ipi(machine, vcpu, effects);
        return true;
    }
    target = &machine->lapics[icr >> ICR_X2APIC_DESTINATION_SHIFT];
    if (lapic_is_enabled(target))
        lapic_raise(target, icr & INTERRUPT_VECTOR_MASK, false, effects);
    return true;
}

/* ---- time ----------------------------------------------------------------------------------- */

void board_tick(struct machine *machine, struct effects *effects)
{
    if (pit_update(&machine->pit, machine->tsc_hz, effects->now)) {
        board_set_line(machine, IRQ_PIT, false, effects);
        board_set_line(machine, IRQ_PIT, true, effects);
    }
    if (effects->now >= machine->rtc.deadline) {
        rtc_update(&machine->rtc, machine->tsc_hz, effects->now);
        board_set_line(machine, IRQ_RTC, rtc_irq(&machine->rtc), effects);
    }
    if (effects->now >= machine->acpi_pm.deadline) {
        acpi_pm_update(&machine->acpi_pm, machine->tsc_hz, effects->now);
        board_set_line(machine, IRQ_SCI, acpi_pm_irq(&machine->acpi_pm), effects);
    }
}

void machine_tick(struct machine *machine, u32 vcpu, struct effects *effects)
{
    lapic_timer_tick(&machine->lapics[vcpu], machine->tsc_hz, effects);
    if (vcpu == 0 && effects->now >= machine_board_deadline(machine))
        board_tick(machine, effects);
}

/* ---- the outside ---------------------------------------------------------------------------- */

bool machine_can_receive(const struct machine *machine)
{
    return uart_can_receive(&machine->uart);
}

bool machine_receive(struct machine *machine, u8 byte, struct effects *effects)
{
    bool received = uart_receive(&machine->uart, byte);

    board_set_line(machine, IRQ_COM1, uart_irq(&machine->uart), effects);
    return received;
}

void machine_hold_output(struct machine *machine, bool held, struct effects *effects)
{
    uart_hold(&machine->uart, held);
    board_set_line(machine, IRQ_COM1, uart_irq(&machine->uart), effects);
}

bool machine_press_power_button(struct machine *machine, struct effects *effects)
{
    acpi_pm_press_power_button(&machine->acpi_pm);
    board_set_line(machine, IRQ_SCI, acpi_pm_irq(&machine->acpi_pm), effects);
    return acpi_pm_minds_power_button(&machine->acpi_pm);
}

void machine_nmi(struct machine *machine, struct effects *effects)
{
    for (u32 i = 0; i < machine->vcpu_count; i++)
        lapic_lint_rose(&machine->lapics[i], LAPIC_LVT_LINT1, effects);
}

static bool is_nmi(u64 entry)
{
    return !(entry & INTERRUPT_MASKED) && interrupt_mode(entry) == DELIVERY_NMI;
}

bool machine_may_send_nmi(const struct machine *machine)
{
    bool found = false;

    for (u32 pin = 0; pin < IOAPIC_PINS; pin++)
        found = found || is_nmi(machine->ioapic.redirection[pin]);
    for (u32 i = 0; i < machine->vcpu_count; i++)
        found = found || is_nmi(lapic_read(&machine->lapics[i], LAPIC_LVT_LINT0));
    return found;
}

/* ---- power-on and reset --------------------------------------------------------------------- */

static void reset_board(struct machine *machine, u64 now)
{
    machine->intr = false;
    machine->isa_lines = 0;
    pic_init(&machine->pic);
    machine->ioapic.lines = 0;
    ioapic_init(&machine->ioapic);
    pit_init(&machine->pit, machine->tsc_hz, now);
    uart_init(&machine->uart);
    acpi_pm_init(&machine->acpi_pm, machine->tsc_hz, now);
    chipset_init(machine);
    for (u32 i = 0; i < machine->vcpu_count; i++)
        lapic_init(&machine->lapics[i], i);
}

void machine_init(struct machine *machine, u32 vcpu_count, u64 tsc_hz, u64 unix_seconds,
                  s32 exit_port)
{
    memset(machine, 0, offsetof(struct machine, lapics));
    machine->tsc_hz = tsc_hz;
    machine->vcpu_count = vcpu_count;
    machine->exit_port = exit_port;
    rtc_init(&machine->rtc, unix_seconds, tsc_hz);
    reset_board(machine, 0);
}

void machine_reset(struct machine *machine, struct effects *effects)
{
    rtc_reset(&machine->rtc, machine->tsc_hz, effects->now);
    reset_board(machine, effects->now);
}
