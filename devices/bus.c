/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/bus.h"

#include "devices/board.h"
#include "devices/pc_ports.h"

/* ---- ports ---------------------------------------------------------------------------------- */

static bool pic_port(struct machine *machine, u16 port, u8 *value, bool write,
                     struct effects *effects)
{
    if (port != PORT_PIC_MASTER && port != PORT_PIC_MASTER + 1 && port != PORT_PIC_SLAVE &&
        port != PORT_PIC_SLAVE + 1 && port != PORT_ELCR_MASTER && port != PORT_ELCR_SLAVE)
        return false;
    board_tick(machine, effects);
    if (write)
        pic_write(&machine->pic, port, *value);
    else
        *value = pic_read(&machine->pic, port);
    board_interrupts_changed(machine, effects);
    return true;
}

static bool pit_port(struct machine *machine, u16 port, u8 *value, bool write,
                     struct effects *effects)
{
    if (port > PORT_PIT + 3)
        return false;
    board_tick(machine, effects);
    if (!write) {
        *value = pit_read(&machine->pit, port, machine->tsc_hz, effects->now);
        return true;
    }
    effects->timers = true;
    pit_write(&machine->pit, port, *value, machine->tsc_hz, effects->now);
    if (pit_output0_low(&machine->pit))
        board_set_line(machine, IRQ_PIT, false, effects);
    return true;
}

static bool rtc_port(struct machine *machine, u16 port, u8 *value, bool write,
                     struct effects *effects)
{
    if (port != PORT_RTC_INDEX && port != PORT_RTC_DATA)
        return false;
    if (write)
        rtc_write(&machine->rtc, port, *value, machine->tsc_hz, effects->now);
    else
        *value = rtc_read(&machine->rtc, port, machine->tsc_hz, effects->now);
    effects->timers = true;
    board_set_line(machine, IRQ_RTC, rtc_irq(&machine->rtc), effects);
    return true;
}

static bool uart_port(struct machine *machine, u16 port, u8 *value, bool write,
                      struct effects *effects)
{
    u32 offset = port - PORT_COM1;

    if (!write)
        *value = uart_read(&machine->uart, offset);
    else if (uart_write(&machine->uart, offset, *value, effects))
        board_set_line(machine, IRQ_COM1, false, effects);
    board_set_line(machine, IRQ_COM1, uart_irq(&machine->uart), effects);
    return true;
}

/* Delay loops of old habit write here by the thousand. */
static bool post_port(struct machine *machine, u16 port, u8 *value, bool write,
                      struct effects *effects)
{
    return port == PORT_POST && write;
}

static bool pm_access(struct machine *machine, struct access *access, struct effects *effects)
{
    struct acpi_pm *pm = &machine->acpi_pm;
    u16 port = access->address;

    effects->timers |= access->write;
    if (!access->write)
        access->value = acpi_pm_read(pm, port, access->size, machine->tsc_hz, effects->now);
    else if (acpi_pm_write(pm, port, access->size, access->value, machine->tsc_hz, effects->now))
        effects->ops->power(effects, POWER_OFF, 0);
    board_set_line(machine, IRQ_SCI, acpi_pm_irq(pm), effects);
    return true;
}

/* A PCI bus without devices: configuration data reads all ones. */
static bool pci_access(struct machine *machine, struct access *access, struct effects *effects)
{
    u8 value = access->value;

    if (access->address == PORT_RESET_CONTROL && access->size == 1) {
        chipset_reset_control(machine, access->address, &value, access->write, effects);
        access->value = value;
    } else if (access->address == PORT_PCI_ADDRESS && access->size == 4 && access->write) {
        machine->pci_address = access->value;
    } else if (access->address == PORT_PCI_ADDRESS && access->size == 4) {
        access->value = machine->pci_address;
    } else if (!access->write) {
        access->value = UINT64_MAX;
    }
    return true;
}

enum port_group {
    GROUP_NONE,
    GROUP_PIC,
    GROUP_PIT,
    GROUP_KEYBOARD,
    GROUP_RTC,
    GROUP_POST,
    GROUP_CONTROL_A,
    GROUP_SMI,
    GROUP_UART,
    GROUP_PM,
    GROUP_PCI,
};

static const struct {
    bus_byte_handler *byte;
    bus_access_handler *access;
} port_groups[] = {
    [GROUP_NONE] = {NULL,              NULL      },
    [GROUP_PIC] = {pic_port,          NULL      },
    [GROUP_PIT] = {pit_port,          NULL      },
    [GROUP_KEYBOARD] = {chipset_keyboard,  NULL      },
    [GROUP_RTC] = {rtc_port,          NULL      },
    [GROUP_POST] = {post_port,         NULL      },
    [GROUP_CONTROL_A] = {chipset_control_a, NULL      },
    [GROUP_SMI] = {chipset_smi,       NULL      },
    [GROUP_UART] = {uart_port,         NULL      },
    [GROUP_PM] = {NULL,              pm_access },
    [GROUP_PCI] = {NULL,              pci_access},
};

#define GROUP_SHIFT 3
#define GROUP_SIZE  (1U << GROUP_SHIFT)
#define PORTS_USED  (PORT_PCI_DATA + 4)

/* Eight ports each, so that finding the device is one load. */
static const u8 group_of[PORTS_USED >> GROUP_SHIFT] = {
    [PORT_PIC_MASTER >> GROUP_SHIFT] = GROUP_PIC,
    [PORT_PIT >> GROUP_SHIFT] = GROUP_PIT,
    [PORT_KBD_DATA >> GROUP_SHIFT] = GROUP_KEYBOARD,
    [PORT_RTC_INDEX >> GROUP_SHIFT] = GROUP_RTC,
    [PORT_POST >> GROUP_SHIFT] = GROUP_POST,
    [PORT_SYSTEM_CONTROL_A >> GROUP_SHIFT] = GROUP_CONTROL_A,
    [PORT_PIC_SLAVE >> GROUP_SHIFT] = GROUP_PIC,
    [PORT_SMI_COMMAND >> GROUP_SHIFT] = GROUP_SMI,
    [PORT_COM1 >> GROUP_SHIFT] = GROUP_UART,
    [PORT_ELCR_MASTER >> GROUP_SHIFT] = GROUP_PIC,
    [PORT_PM1A_EVENT >> GROUP_SHIFT] = GROUP_PM,
    [PORT_PM_TIMER >> GROUP_SHIFT] = GROUP_PM,
    [PORT_PCI_ADDRESS >> GROUP_SHIFT] = GROUP_PCI,
};

static enum port_group find_group(u64 port)
{
    return port < PORTS_USED ? group_of[port >> GROUP_SHIFT] : GROUP_NONE;
}

static NOINLINE bool byte_access(struct machine *machine, struct access *access,
                                 struct effects *effects)
{
    bus_byte_handler *handler = port_groups[find_group(access->address)].byte;
    u8 value = access->value;

    if (handler == NULL || !handler(machine, access->address, &value, access->write, effects))
        return false;
    access->value = value;
    return true;
}

int machine_peek(const struct machine *machine, u16 port)
{
    switch (find_group(port)) {
    case GROUP_NONE:
        return 0xFF;
    case GROUP_PIC:
        return pic_peek(&machine->pic, port);
    case GROUP_UART:
        return uart_peek(&machine->uart, port - PORT_COM1);
    default:
        return -1;
    }
}

/* A bus of bytes: each goes to whom its port belongs, and reads FFh where there is nobody. */
static NOINLINE bool byte_accesses(struct machine *machine, struct access *access,
                                   struct effects *effects)
{
    bool claimed = false;
    u64 result = 0;

    for (u32 i = 0; i < access->size; i++) {
        u16 port = access->address + i;
        bus_byte_handler *handler = port_groups[find_group(port)].byte;
        u8 value = access->write ? access->value >> 8 * i : 0xFF;

        if (handler != NULL)
            claimed |= handler(machine, port, &value, access->write, effects);
        result |= (u64)value << 8 * i;
    }
    if (!access->write)
        access->value = result;
    return claimed;
}

static bool port_access(struct machine *machine, struct access *access, struct effects *effects)
{
    bus_access_handler *handler = port_groups[find_group(access->address)].access;
    u32 within = access->address % GROUP_SIZE;

    if (access->write && access->address == (u64)machine->exit_port) {
        effects->ops->power(effects, POWER_EXIT, access->value);
        return true;
    }
    if (handler != NULL && within + access->size <= GROUP_SIZE)
        return handler(machine, access, effects);
    if (access->size == 1)
        return byte_access(machine, access, effects);
    return byte_accesses(machine, access, effects);
}

/* ---- memory --------------------------------------------------------------------------------- */

static NOINLINE bool lapic_access(struct machine *machine, u32 vcpu, struct access *access,
                                  struct effects *effects)
{
    struct lapic *lapic = &machine->lapics[vcpu];
    u32 offset = access->address % LAPIC_SIZE;
    u32 within = offset % 16;
    enum lapic_outcome outcome;
    u8 eoi_vector = 0;

    if (!access->write) {
        if (within >= 4)
            access->value = 0;
        else
            access->value =
                lapic_mmio_read(lapic, offset - within, machine->tsc_hz, effects) >> 8 * within;
        return true;
    }
    /* Other sizes and alignments are undefined by the manual, and nothing here. */
    if (within != 0 || access->size != 4)
        return true;
    effects->timers = true;
    outcome = lapic_mmio_write(lapic, offset, access->value, machine->tsc_hz, effects, &eoi_vector);
    return board_lapic_outcome(machine, vcpu, outcome, eoi_vector, effects);
}

static bool ioapic_access(struct machine *machine, struct access *access, struct effects *effects)
{
    u32 offset = access->address % IOAPIC_SIZE;
    bool select = offset == IOAPIC_IOREGSEL;

    if (!select)
        board_tick(machine, effects);
    if (access->write)
        ioapic_write(&machine->ioapic, offset, access->value);
    else
        access->value = ioapic_read(&machine->ioapic, offset);
    if (access->write && !select)
        board_interrupts_changed(machine, effects);
    return true;
}

/* A local APIC hides what is behind its page. */
static inline bool is_lapic(const struct machine *machine, u32 vcpu, u64 gpa)
{
    const struct lapic *lapic = &machine->lapics[vcpu];

    return ALIGN_DOWN(gpa, LAPIC_SIZE) == (lapic->apic_base & APIC_BASE_ADDRESS_MASK) &&
           lapic_is_enabled(lapic) && !lapic_is_x2apic(lapic);
}

static inline bool is_ioapic(u64 gpa)
{
    return ALIGN_DOWN(gpa, IOAPIC_SIZE) == IOAPIC_BASE;
}

/* Shows no timer that is due: that is as if the read had come before it. */
s64 machine_peek_memory(const struct machine *machine, u32 vcpu, u64 gpa)
{
    if (!is_ioapic(gpa) || is_lapic(machine, vcpu, gpa))
        return -1;
    return ioapic_read(&machine->ioapic, gpa - IOAPIC_BASE);
}

bool machine_poke_memory(struct machine *machine, u32 vcpu, u64 gpa, u64 value)
{
    if (gpa != IOAPIC_BASE + IOAPIC_IOREGSEL || is_lapic(machine, vcpu, gpa))
        return false;
    ioapic_write(&machine->ioapic, IOAPIC_IOREGSEL, value);
    return true;
}

static bool memory_access(struct machine *machine, u32 vcpu, struct access *access,
                          struct effects *effects)
{
    if (is_lapic(machine, vcpu, access->address))
        return lapic_access(machine, vcpu, access, effects);
    if (is_ioapic(access->address))
        return ioapic_access(machine, access, effects);
    return false;
}

/* ---- MSRs ----------------------------------------------------------------------------------- */

static NOINLINE bool msr_access(struct machine *machine, u32 vcpu, struct access *access,
                                struct effects *effects)
{
    struct lapic *lapic = &machine->lapics[vcpu];
    enum lapic_outcome outcome;
    u8 eoi_vector = 0;

    if (access->address > UINT32_MAX)
        return false;
    if (!access->write)
        return lapic_msr_read(lapic, access->address, &access->value, machine->tsc_hz, effects);
    effects->timers = true;
    outcome = lapic_msr_write(lapic, access->address, access->value, machine->tsc_hz, effects,
                              &eoi_vector);
    return board_lapic_outcome(machine, vcpu, outcome, eoi_vector, effects);
}

static u64 size_mask(u8 size)
{
    return size >= 8 ? UINT64_MAX : BIT(8 * size) - 1;
}

bool machine_access(struct machine *machine, u32 vcpu, struct access *access,
                    struct effects *effects)
{
    bool claimed;

    if (access->space == SPACE_MSR)
        return msr_access(machine, vcpu, access, effects);
    access->value &= size_mask(access->size);
    if (access->space == SPACE_PORT)
        claimed = port_access(machine, access, effects);
    else
        claimed = memory_access(machine, vcpu, access, effects);
    if (!access->write) {
        if (!claimed)
            access->value = UINT64_MAX;
        access->value &= size_mask(access->size);
    }
    return claimed;
}
