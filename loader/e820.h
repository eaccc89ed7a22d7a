/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_LOADER_E820_H
#define BULKHEAD_LOADER_E820_H

/* The one memory map that every boot protocol translates into its own form. */

#include "lib/guest_ram.h"

enum e820_type {
    E820_RAM = 1,
    E820_RESERVED = 2,
};

struct e820_entry {
    u64 start;
    u64 size;
    u32 type;
} __attribute__((packed));

_Static_assert(sizeof(struct e820_entry) == 20, "as in the zero page");

#define E820_MAX 8

/* Fills at most E820_MAX entries, ascending; returns how many. RAM below GUEST_EBDA, a reserved
 * stretch up to 1 MiB that holds the ACPI tables, then the rest of RAM below and above the
 * hole. */
u32 e820_build(const struct guest_ram *ram, struct e820_entry entries[E820_MAX]);

#define GUEST_EBDA        0x9FC00ULL
#define GUEST_ACPI_TABLES 0xE0000ULL /* RSDP first; up to 1 MiB */
#define GUEST_ACPI_SIZE   0x20000ULL

#endif
