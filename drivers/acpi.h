/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DRIVERS_ACPI_H
#define BULKHEAD_DRIVERS_ACPI_H

/* The real machine's ACPI tables (ACPI specification 6.5, chapter 5). Pure: tables are reached
 * only through struct acpi_access, everything of interest is copied out. */

#include "lib/types.h"

#define ACPI_ISA_IRQS    16
#define ACPI_IOAPICS_MAX 64

struct acpi_access {
    /* `size` bytes at `physical`, readable until unmapped; NULL when that cannot be. */
    const void *(*map)(void *context, paddr_t physical, u64 size);
    void (*unmap)(void *context, const void *memory, u64 size);
    /* One sentence about a table that was left out or a value that was not believed; may be
     * NULL. */
    void (*warning)(void *context, const char *sentence);
    void *context;
};

/* MADT, "Processor Local APIC" and "Processor Local x2APIC" structures (5.2.12.2, 5.2.12.12). */
struct acpi_cpu {
    u32 apic_id;
    u32 uid;      /* ACPI processor UID */
    bool enabled; /* false: not there now, could be plugged in */
};

/* MADT, I/O APIC structure (5.2.12.3). */
struct acpi_ioapic {
    paddr_t address;
    u32 gsi_base;
    u8 id;
};

/* Where an ISA interrupt arrives: MADT, Interrupt Source Override structure (5.2.12.5). */
struct acpi_irq {
    u32 gsi;
    bool active_low;
    bool level_triggered;
};

enum acpi_address_space {
    ACPI_SPACE_MEMORY = 0,
    ACPI_SPACE_IO = 1,
    ACPI_SPACE_PCI_CONFIG = 2,
};

/* A register, from a Generic Address Structure (5.2.3.2); address 0: there is none. */
struct acpi_register {
    u64 address;
    u8 space; /* enum acpi_address_space, or another value of the specification */
    u8 bit_width;
};

/* FADT, IA-PC Boot Architecture Flags (5.2.9.3). */
enum acpi_boot_flags {
    ACPI_BOOT_LEGACY_DEVICES = 1 << 0,
    ACPI_BOOT_8042 = 1 << 1,
    ACPI_BOOT_NO_VGA = 1 << 2,
    ACPI_BOOT_NO_MSI = 1 << 3,
    ACPI_BOOT_NO_CMOS_RTC = 1 << 5,
};

struct acpi_info {
    u32 cpu_count; /* all there are, also those that did not fit into the caller's array */

    paddr_t lapic_address;
    bool pcat_compatible; /* there is a pair of 8259 to be masked */
    struct acpi_ioapic ioapics[ACPI_IOAPICS_MAX];
    u32 ioapic_count;
    u32 ioapics_left_out;
    struct acpi_irq isa_irqs[ACPI_ISA_IRQS]; /* identity, edge and active high by default */

    u16 boot_flags; /* enum acpi_boot_flags */
    bool hardware_reduced;
    u16 sci;          /* an 8259 line or, where there is none, a GSI */
    u32 smi_cmd;      /* port; 0: there is no legacy mode to leave */
    u8 acpi_enable;   /* value for smi_cmd */
    u16 pm1a_control; /* port; 0: none */
    u16 pm1b_control; /* port; 0: none */
    u16 pm_timer;     /* port; 0: none */
    bool pm_timer_32bit;
    struct acpi_register reset;
    u8 reset_value;
    u8 century; /* CMOS index of the century, 0: none */
    bool s5_known;
    u8 s5_type_a, s5_type_b; /* SLP_TYP of \_S5 for PM1a and PM1b */

    paddr_t hpet; /* 0: none */
};

/* Fills `info` from the tables that the RSDP of `rsdp_size` bytes leads to, and the first
 * `capacity` of `cpus`: those that the MADT calls enabled or online-capable, each APIC ID once.
 * A table with a bad checksum or length is reported and taken for missing. False when there is no
 * usable RSDP or root table; `info` then holds the defaults (no CPU, no IOAPIC, ISA interrupts
 * identity). */
bool acpi_parse(const struct acpi_access *access, const void *rsdp, size_t rsdp_size,
                struct acpi_cpu *cpus, u32 capacity, struct acpi_info *info);

#endif
