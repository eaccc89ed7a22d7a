/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_BOOT_BOOT_INFO_H
#define BULKHEAD_BOOT_BOOT_INFO_H

/* What the boot loader tells, checked and copied out of its own structure so that nothing of it
 * needs to be kept. */

#include "lib/types.h"

#define BOOT_CMDLINE_SIZE     1024
#define BOOT_MODULES_MAX      64
#define BOOT_MODULE_NAME_SIZE 64
#define BOOT_REGIONS_MAX      512
#define BOOT_ERROR_SIZE       128

enum boot_region_type {
    REGION_USABLE,
    REGION_RESERVED,
    REGION_ACPI_RECLAIMABLE,
    REGION_ACPI_NVS,
    REGION_BAD,
};

struct boot_region {
    paddr_t start;
    u64 size;
    enum boot_region_type type;
};

struct boot_module {
    paddr_t start;
    u64 size;
    char name[BOOT_MODULE_NAME_SIZE]; /* first word of the module's string */
};

enum boot_framebuffer_kind {
    FRAMEBUFFER_NONE,
    FRAMEBUFFER_TEXT, /* EGA text: cells of character and attribute */
    FRAMEBUFFER_RGB,
};

struct boot_framebuffer {
    enum boot_framebuffer_kind kind;
    paddr_t address;
    u32 pitch, width, height;
    u8 bits_per_pixel;
    u8 red_position, red_size, green_position, green_size, blue_position, blue_size;
};

struct boot_info {
    char cmdline[BOOT_CMDLINE_SIZE];
    struct boot_region regions[BOOT_REGIONS_MAX]; /* sorted, merged, no overlaps; where the
                                                     loader's entries overlap the less usable
                                                     type wins */
    u32 region_count;
    struct boot_module modules[BOOT_MODULES_MAX];
    u32 module_count;
    u8 rsdp[36];   /* copy of the ACPI 2.0 RSDP if there was one, else of the 1.0 one */
    u32 rsdp_size; /* 0: none */
    struct boot_framebuffer framebuffer;
    bool efi; /* booted by UEFI */
};

/* Parses the Multiboot2 information of `size` bytes at `data` (Multiboot2 specification 2.0,
 * section 3.6). The kernel occupies [kernel_start, kernel_end). False with a sentence in `error`
 * when a tag is truncated or missing (memory map), tags contradict each other, a module lies
 * over the kernel, over another module or outside usable memory, there are too many modules, or
 * two modules have one name. The EFI memory map is used where there is no other. Reads nothing
 * outside `data`. */
bool multiboot2_parse(const void *data, size_t size, paddr_t kernel_start, paddr_t kernel_end,
                      struct boot_info *info, char error[BOOT_ERROR_SIZE]);

/* The value of `key=value` among the space-separated words of `cmdline`, copied to `value`;
 * false when it is not there or too long. The last one wins. */
bool cmdline_get(const char *cmdline, const char *key, char *value, size_t size);

/* Is `name` in a comma-separated list, where '-' stands for a space and case does not matter? */
bool list_names(const char *list, const char *name);

#endif
