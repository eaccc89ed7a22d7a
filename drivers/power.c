/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "drivers/power.h"

#include "drivers/cpu.h"
#include "drivers/io.h"
#include "mm/host_space.h"

/* ACPI 6.5, 4.8.3.2.1, PM1 control registers. */
#define PM1_SCI_EN    BIT(0)
#define PM1_SLP_TYP   (7U << 10)
#define PM1_SLP_EN    BIT(13)
#define SLP_TYP_SHIFT 10

/* What emulators offer: QEMU's and old Bochs' PM1 control, Bochs' own port. */
#define QEMU_PM1_CONTROL   0x604
#define LEGACY_PM1_CONTROL 0xB004
#define BOCHS_SHUTDOWN     0x8900

#define PCI_CONFIG_ADDRESS 0xCF8
#define PCI_CONFIG_DATA    0xCFC
#define PCI_CONFIG_ENABLE  BIT(31)

/* Intel I/O controller hub data sheets, reset control register. */
#define RESET_CONTROL      0xCF9
#define RESET_CONTROL_HARD 0x02
#define RESET_CONTROL_CPU  0x04

/* 8042 data sheet: status, and the command that pulses the reset line. */
#define KEYBOARD_COMMAND    0x64
#define KEYBOARD_INPUT_FULL 0x02
#define KEYBOARD_PULSE_CPU  0xFE
#define KEYBOARD_MISSING    0xFF

#define WAITS 300000

/* Time for the hardware to act on the last write: some ten milliseconds on a real machine. */
static void settle(void)
{
    for (u32 i = 0; i < WAITS; i++)
        cpu_pause();
}

/* ACPI 6.5, 4.8.2.5: the sleep registers work only once firmware has given up legacy mode. */
static void enter_acpi_mode(const struct acpi_info *acpi)
{
    if (acpi->smi_cmd == 0 || acpi->acpi_enable == 0 || (inw(acpi->pm1a_control) & PM1_SCI_EN) != 0)
        return;
    outb((u16)acpi->smi_cmd, acpi->acpi_enable);
    for (u32 reads = 0; reads < WAITS && (inw(acpi->pm1a_control) & PM1_SCI_EN) == 0; reads++)
        cpu_pause();
}

static u16 sleep_value(u16 port, u8 type)
{
    return (u16)((inw(port) & ~(PM1_SLP_TYP | (u32)PM1_SLP_EN)) | (u32)type << SLP_TYP_SHIFT);
}

static void enter_s5(const struct acpi_info *acpi)
{
    u16 a, b = 0;

    if (!acpi->s5_known || acpi->pm1a_control == 0)
        return;
    enter_acpi_mode(acpi);
    a = sleep_value(acpi->pm1a_control, acpi->s5_type_a);
    if (acpi->pm1b_control != 0)
        b = sleep_value(acpi->pm1b_control, acpi->s5_type_b);
    outw(acpi->pm1a_control, a | (u16)PM1_SLP_EN);
    if (acpi->pm1b_control != 0)
        outw(acpi->pm1b_control, b | (u16)PM1_SLP_EN);
    settle();
}

void host_power_off(const struct acpi_info *acpi)
{
    cpu_cli();
    enter_s5(acpi);
    for (const char *c = "Shutdown"; *c != '\0'; c++)
        outb(BOCHS_SHUTDOWN, (u8)*c);
    outw(QEMU_PM1_CONTROL, (u16)PM1_SLP_EN);
    outw(LEGACY_PM1_CONTROL, (u16)PM1_SLP_EN);
    settle();
}

static void reset_by_memory(u64 address, u8 value)
{
    volatile u8 *where = mmio_map(address, sizeof(u8), MMIO_UNCACHED);

    if (where != NULL)
        *where = value;
}

/* ACPI 6.5, table 5.1: device, function and offset on bus 0 in one address. */
static void reset_by_pci(u64 address, u8 value)
{
    u32 device = address >> 32 & 0x1F;
    u32 function = address >> 16 & 0x7;
    u32 offset = address & 0xFF;

    outl(PCI_CONFIG_ADDRESS,
         (u32)PCI_CONFIG_ENABLE | device << 11 | function << 8 | (offset & ~3U));
    outb((u16)(PCI_CONFIG_DATA + (offset & 3)), value);
}

static void reset_by_acpi(const struct acpi_info *acpi)
{
    const struct acpi_register *reset = &acpi->reset;

    if (reset->address == 0)
        return;
    if (reset->space == ACPI_SPACE_IO)
        outb((u16)reset->address, acpi->reset_value);
    else if (reset->space == ACPI_SPACE_MEMORY)
        reset_by_memory(reset->address, acpi->reset_value);
    else if (reset->space == ACPI_SPACE_PCI_CONFIG)
        reset_by_pci(reset->address, acpi->reset_value);
    settle();
}

static void reset_by_keyboard_controller(void)
{
    if (inb(KEYBOARD_COMMAND) == KEYBOARD_MISSING)
        return;
    for (u32 reads = 0; reads < WAITS && (inb(KEYBOARD_COMMAND) & KEYBOARD_INPUT_FULL) != 0;
         reads++)
        cpu_pause();
    outb(KEYBOARD_COMMAND, KEYBOARD_PULSE_CPU);
    settle();
}

/* Without an IDT an exception becomes a triple fault. */
static _Noreturn void reset_by_triple_fault(void)
{
    static const struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) no_idt;

    __asm__ volatile("lidt %0" ::"m"(no_idt));
    for (;;)
        __asm__ volatile("ud2");
}

_Noreturn void host_reboot(const struct acpi_info *acpi)
{
    cpu_cli();
    reset_by_acpi(acpi);
    outb(RESET_CONTROL, RESET_CONTROL_HARD);
    outb(RESET_CONTROL, RESET_CONTROL_HARD | RESET_CONTROL_CPU);
    settle();
    reset_by_keyboard_controller();
    reset_by_triple_fault();
}
