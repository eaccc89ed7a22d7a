/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "boot/boot_info.h"

#define KERNEL_START 0x100000
#define KERNEL_END   0x180000

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_regions(const struct boot_info *info)
{
    check(info->region_count > 0 && info->region_count <= BOOT_REGIONS_MAX);
    for (u32 i = 0; i < info->region_count; i++) {
        const struct boot_region *region = &info->regions[i];

        check(region->size > 0 && region->size <= UINT64_MAX - region->start);
        check(i == 0 || region[-1].start + region[-1].size <= region->start);
    }
}

static void check_modules(const struct boot_info *info)
{
    check(info->module_count <= BOOT_MODULES_MAX);
    for (u32 i = 0; i < info->module_count; i++) {
        const struct boot_module *module = &info->modules[i];

        check(memchr(module->name, '\0', sizeof(module->name)) != NULL);
        check(module->size == 0 || module->start >= KERNEL_END ||
              module->start + module->size <= KERNEL_START);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is accepted keeps every promise of boot_info.h; what is refused has a sentence. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct boot_info info;
    char error[BOOT_ERROR_SIZE] = "";
    char value[32];

    if (!multiboot2_parse(data, size, KERNEL_START, KERNEL_END, &info, error)) {
        check(error[0] != '\0' && memchr(error, '\0', sizeof(error)) != NULL);
        return 0;
    }
    check_regions(&info);
    check_modules(&info);
    check(memchr(info.cmdline, '\0', sizeof(info.cmdline)) != NULL);
    if (cmdline_get(info.cmdline, "console", value, sizeof(value)))
        check(strlen(value) < sizeof(value));
    check(info.rsdp_size == 0 || info.rsdp_size == 20 || info.rsdp_size == sizeof(info.rsdp));
    return 0;
}
