/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_PC_PORTS_H
#define BULKHEAD_DEVICES_PC_PORTS_H

/* Where the virtual PC's board has its registers, lines and bits: shared by the devices and by
 * the ACPI tables that describe them. The positions up to FFFh are those of every PC (Intel ICH9
 * datasheet, chapter "Register and Memory Mapping"); those of ACPI's fixed hardware are free to
 * choose and are told by the FADT (ACPI 6.5, section 4.8 "ACPI Register Model"). */

enum pc_port {
    PORT_PIC_MASTER = 0x20, /* 2 ports: command, data */
    PORT_PIT = 0x40,        /* 4 ports: channels 0 to 2, control */
    PORT_KBD_DATA = 0x60,
    PORT_SYSTEM_CONTROL_B = 0x61,
    PORT_KBD_COMMAND = 0x64,
    PORT_RTC_INDEX = 0x70,
    PORT_RTC_DATA = 0x71,
    PORT_POST = 0x80,
    PORT_SYSTEM_CONTROL_A = 0x92,
    PORT_PIC_SLAVE = 0xA0,
    PORT_SMI_COMMAND = 0xB2,
    PORT_COM1 = 0x3F8, /* 8 ports */
    PORT_ELCR_MASTER = 0x4D0,
    PORT_ELCR_SLAVE = 0x4D1,
    PORT_PM1A_EVENT = 0x600,   /* 4 bytes: PM1 status, PM1 enable */
    PORT_PM1A_CONTROL = 0x604, /* 2 bytes */
    PORT_PM_TIMER = 0x608,     /* 4 bytes, a 32-bit timer: TMR_VAL_EXT is set in the FADT */
    PORT_PCI_ADDRESS = 0xCF8,
    PORT_RESET_CONTROL = 0xCF9, /* the FADT's RESET_REG */
    PORT_PCI_DATA = 0xCFC,
};

/* Interrupts: ISA lines, which are also IOAPIC pins (global system interrupts) except that
 * line 0 comes in at pin 2. */
enum pc_interrupt {
    IRQ_PIT = 0,
    IRQ_CASCADE = 2,
    IRQ_COM1 = 4,
    IRQ_RTC = 8,
    IRQ_SCI = 9,    /* level-triggered, active high; everything else on ISA is edge, active high */
    PIN_EXTINT = 0, /* the PIC's INTR output */
    PIN_PIT = 2,
};

#define PM_TIMER_HZ 3579545

/* PM1 status; the enable register has the same positions. */
enum pm1_event {
    PM1_TMR = 1 << 0,
    PM1_BM_STS = 1 << 4,
    PM1_GBL = 1 << 5,
    PM1_PWRBTN = 1 << 8,
    PM1_SLPBTN = 1 << 9,
    PM1_RTC = 1 << 10,
    PM1_WAK_STS = 1 << 15,
};

enum pm1_control {
    PM1_SCI_EN = 1 << 0,
    PM1_BM_RLD = 1 << 1,
    PM1_GBL_RLS = 1 << 2,
    PM1_SLP_TYP_SHIFT = 10,
    PM1_SLP_TYP_MASK = 7 << PM1_SLP_TYP_SHIFT,
    PM1_SLP_EN = 1 << 13,
};

#define PM1_SLP_TYP_S5 5 /* \_S5 is Package { 5, 5, 0, 0 } */

/* Values for PORT_SMI_COMMAND. */
enum smi_command {
    SMI_ACPI_ENABLE = 0xA1,
    SMI_ACPI_DISABLE = 0xA0,
};

/* PORT_RESET_CONTROL: the reset happens when RST_CPU goes from 0 to 1. */
enum reset_control {
    RESET_SYS_RST = 1 << 1,
    RESET_RST_CPU = 1 << 2,
    RESET_VALUE = RESET_SYS_RST | RESET_RST_CPU, /* the FADT's RESET_VALUE */
};

#define RTC_CENTURY_REGISTER 0x32 /* the FADT's CENTURY */

#define IOAPIC_ID 0 /* of its own, in the MADT */

#endif
