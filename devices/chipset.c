/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/board.h"
#include "devices/pc_ports.h"
#include "lib/arith.h"

enum system_control_a {
    CONTROL_A_RESET = 1 << 0,
    CONTROL_A_A20 = 1 << 1,
};

enum system_control_b {
    CONTROL_B_GATE2 = 1 << 0,
    CONTROL_B_WRITABLE = 0x0F,
    CONTROL_B_REFRESH = 1 << 4,
    CONTROL_B_OUTPUT2 = 1 << 5,
};

/* The 8042's status and commands (ICH9 datasheet, section "Keyboard/Mouse"; IBM PC AT technical
 * reference, "Keyboard Controller"). No keyboard and no mouse are attached. */
enum keyboard {
    KBD_OUTPUT_FULL = 1 << 0,
    KBD_SYSTEM = 1 << 2,
    KBD_IS_COMMAND = 1 << 3,
    KBD_UNLOCKED = 1 << 4,
    KBD_READ_COMMAND_BYTE = 0x20,
    KBD_WRITE_COMMAND_BYTE = 0x60,
    KBD_TEST_AUX = 0xA9,
    KBD_SELF_TEST = 0xAA,
    KBD_TEST_KEYBOARD = 0xAB,
    KBD_READ_OUTPUT_PORT = 0xD0,
    KBD_PULSE_RESET = 0xFE,
    KBD_SELF_TEST_PASSED = 0x55,
    KBD_CLOCK_STUCK_LOW = 0x01, /* an interface test's answer when nothing is there */
    KBD_PORTS_DISABLED = 0x34,  /* command byte: system flag, both clocks off */
    KBD_OUTPUT_PORT = 0x03,     /* A20 on, reset off */
    REFRESH_TOGGLES_HZ = 66288, /* every 15.085 microseconds */
};

static void kbd_answer(struct machine *machine, u8 value)
{
    machine->kbd_data = value;
    machine->kbd_status |= KBD_OUTPUT_FULL;
}

static void kbd_do_command(struct machine *machine, u8 command, struct effects *effects)
{
    machine->kbd_command = command;
    machine->kbd_status |= KBD_IS_COMMAND;
    switch (command) {
    case KBD_READ_COMMAND_BYTE:
        kbd_answer(machine, KBD_PORTS_DISABLED);
        break;
    case KBD_SELF_TEST:
        machine->kbd_status |= KBD_SYSTEM;
        kbd_answer(machine, KBD_SELF_TEST_PASSED);
        break;
    case KBD_TEST_AUX:
    case KBD_TEST_KEYBOARD:
        kbd_answer(machine, KBD_CLOCK_STUCK_LOW);
        break;
    case KBD_READ_OUTPUT_PORT:
        kbd_answer(machine, KBD_OUTPUT_PORT);
        break;
    case KBD_PULSE_RESET:
        effects->ops->power(effects, POWER_RESET, 0);
        break;
    }
}

static u8 control_b_read(struct machine *machine, u64 now)
{
    u8 value = machine->port61;

    if (pit_output2(&machine->pit, machine->tsc_hz, now))
        value |= CONTROL_B_OUTPUT2;
    if (mul_div(now, REFRESH_TOGGLES_HZ, machine->tsc_hz) & 1)
        value |= CONTROL_B_REFRESH;
    return value;
}

static void control_b_write(struct machine *machine, u8 value, u64 now)
{
    machine->port61 = value & CONTROL_B_WRITABLE;
    pit_set_gate2(&machine->pit, value & CONTROL_B_GATE2, machine->tsc_hz, now);
}

static u8 keyboard_read(struct machine *machine, u16 port, u64 now)
{
    if (port == PORT_SYSTEM_CONTROL_B)
        return control_b_read(machine, now);
    if (port == PORT_KBD_COMMAND)
        return machine->kbd_status;
    machine->kbd_status &= ~KBD_OUTPUT_FULL;
    return machine->kbd_data;
}

static void keyboard_write(struct machine *machine, u16 port, u8 value, struct effects *effects)
{
    if (port == PORT_SYSTEM_CONTROL_B)
        control_b_write(machine, value, effects->now);
    else if (port == PORT_KBD_COMMAND)
        kbd_do_command(machine, value, effects);
    else
        machine->kbd_status &= ~KBD_IS_COMMAND; /* data for nobody */
}

bool chipset_keyboard(struct machine *machine, u16 port, u8 *value, bool write,
                      struct effects *effects)
{
    if (port != PORT_KBD_DATA && port != PORT_SYSTEM_CONTROL_B && port != PORT_KBD_COMMAND)
        return false;
    if (write)
        keyboard_write(machine, port, *value, effects);
    else
        *value = keyboard_read(machine, port, effects->now);
    return true;
}

bool chipset_control_a(struct machine *machine, u16 port, u8 *value, bool write,
                       struct effects *effects)
{
    u8 rising;

    if (port != PORT_SYSTEM_CONTROL_A)
        return false;
    if (!write) {
        *value = machine->port92;
        return true;
    }
    rising = *value & ~machine->port92;
    machine->port92 = *value & (CONTROL_A_RESET | CONTROL_A_A20);
    if (rising & CONTROL_A_RESET)
        effects->ops->power(effects, POWER_RESET, 0);
    return true;
}

bool chipset_smi(struct machine *machine, u16 port, u8 *value, bool write, struct effects *effects)
{
    if (port == PORT_SMI_COMMAND && write)
        acpi_pm_command(&machine->acpi_pm, *value);
    else if (port == PORT_SMI_COMMAND)
        *value = 0;
    else
        return false;
    board_set_line(machine, IRQ_SCI, acpi_pm_irq(&machine->acpi_pm), effects);
    return true;
}

bool chipset_reset_control(struct machine *machine, u16 port, u8 *value, bool write,
                           struct effects *effects)
{
    u8 rising;

    if (port != PORT_RESET_CONTROL)
        return false;
    if (!write) {
        *value = machine->cf9;
        return true;
    }
    rising = *value & ~machine->cf9;
    machine->cf9 = *value & (RESET_SYS_RST | RESET_RST_CPU);
    if (rising & RESET_RST_CPU)
        effects->ops->power(effects, POWER_RESET, 0);
    return true;
}

void chipset_init(struct machine *machine)
{
    machine->port61 = 0;
    machine->port92 = CONTROL_A_A20;
    machine->kbd_status = KBD_SYSTEM | KBD_IS_COMMAND | KBD_UNLOCKED;
    machine->kbd_command = 0;
    machine->kbd_data = 0;
    machine->cf9 = 0;
    machine->pci_address = 0;
}
