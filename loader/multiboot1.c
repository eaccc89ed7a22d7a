/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Multiboot Specification version 0.6.96. */

#include "lib/string.h"
#include "loader/elf.h"

#define MULTIBOOT1_MAGIC    0x1BADB002
#define MULTIBOOT1_EAX      0x2BADB002
#define MULTIBOOT1_SEARCH   8192
#define MULTIBOOT1_ALIGN    4
#define MULTIBOOT1_REQUIRED 0xFFFF /* flags that a loader must know */

enum multiboot1_header_flag {
    HEADER_PAGE_ALIGN = 1 << 0,
    HEADER_MEMORY_INFO = 1 << 1,
    HEADER_ADDRESSES = 1 << 16,
};

enum multiboot1_info_flag {
    INFO_MEMORY = 1 << 0,
    INFO_CMDLINE = 1 << 2,
    INFO_MODULES = 1 << 3,
    INFO_MMAP = 1 << 6,
    INFO_LOADER_NAME = 1 << 9,
};

struct multiboot1_header {
    u32 magic;
    u32 flags;
    u32 checksum;
    /* With HEADER_ADDRESSES. */
    u32 header_addr;
    u32 load_addr;
    u32 load_end_addr;
    u32 bss_end_addr;
    u32 entry_addr;
};
#define MULTIBOOT1_HEADER_MIN offsetof(struct multiboot1_header, header_addr)

struct multiboot1_info {
    u32 flags;
    u32 mem_lower, mem_upper; /* KiB from 0 and from 1 MiB */
    u32 boot_device;
    u32 cmdline;
    u32 mods_count, mods_addr;
    u32 syms[4];
    u32 mmap_length, mmap_addr;
    u32 drives_length, drives_addr;
    u32 config_table;
    u32 boot_loader_name;
    u32 apm_table;
    u32 vbe[4];
};

struct multiboot1_module {
    u32 start, end, string, reserved;
};

struct multiboot1_mmap {
    u32 size; /* of what follows */
    struct e820_entry entry;
} __attribute__((packed));

_Static_assert(offsetof(struct multiboot1_info, mmap_length) == 44, "section 3.3");
_Static_assert(offsetof(struct multiboot1_info, boot_loader_name) == 64, "section 3.3");
_Static_assert(sizeof(struct multiboot1_info) == 88, "section 3.3");
_Static_assert(sizeof(struct multiboot1_module) == 16, "section 3.3");
_Static_assert(sizeof(struct multiboot1_mmap) == 24, "section 3.3");

/* Copies the header out and returns its offset, or LOADER_NOWHERE. Fields that are cut off by
 * the end of the image are zero. */
static u64 find_header(const struct image *image, struct multiboot1_header *header)
{
    u64 end = MIN(image->size, MULTIBOOT1_SEARCH);

    for (u64 at = 0; range_within(at, MULTIBOOT1_HEADER_MIN, end); at += MULTIBOOT1_ALIGN) {
        if (loader_word(image->data + at) != MULTIBOOT1_MAGIC)
            continue;
        memset(header, 0, sizeof(*header));
        memcpy(header, image->data + at, MIN(sizeof(*header), end - at));
        if ((u32)(header->magic + header->flags + header->checksum) == 0)
            return at;
    }
    return LOADER_NOWHERE;
}

static bool identify(const struct image *image)
{
    struct multiboot1_header header;

    return find_header(image, &header) != LOADER_NOWHERE;
}

static bool plan_flat(const struct loader_request *request, const struct guest_ram *ram,
                      struct loader_plan *plan, u64 offset, const struct multiboot1_header *header)
{
    struct flat_addresses addresses = {
        .header = header->header_addr,
        .load = header->load_addr,
        .load_end = header->load_end_addr,
        .bss_end = header->bss_end_addr,
    };

    plan->entry = header->entry_addr;
    return loader_add_flat(request, ram, plan, offset, &addresses);
}

static bool plan_multiboot1(const struct loader_request *request, const struct guest_ram *ram,
                            struct loader_plan *plan)
{
    struct multiboot1_header header = {0};
    u64 offset = find_header(&request->kernel, &header);
    u32 unknown =
        header.flags & MULTIBOOT1_REQUIRED & ~(u32)(HEADER_PAGE_ALIGN | HEADER_MEMORY_INFO);
    bool planned;

    if (unknown != 0)
        return loader_refuse(plan,
                             "kernel '%.40s' requires Multiboot features that are not there: "
                             "flags 0x%x",
                             request->kernel.name, unknown);
    if (header.flags & HEADER_ADDRESSES)
        planned = plan_flat(request, ram, plan, offset, &header);
    else
        planned = elf_plan(request, ram, plan);
    return planned && loader_check_entry(request, plan) && loader_place_modules(request, ram, plan);
}

static void put_memory(struct info_area *area, const struct guest_ram *ram,
                       struct multiboot1_info *info)
{
    struct multiboot1_mmap map[E820_MAX];
    struct e820_entry entries[E820_MAX];
    u32 count = e820_build(ram, entries);

    for (u32 i = 0; i < count; i++)
        map[i] = (struct multiboot1_mmap){sizeof(entries[i]), entries[i]};
    info->mmap_length = count * (u32)sizeof(map[0]);
    info->mmap_addr = (u32)info_put(area, map, info->mmap_length, sizeof(u64));
    info->mem_lower = (u32)(GUEST_EBDA / KIB);
    info->mem_upper = (u32)((ram->low_size - MIB) / KIB);
}

static void put_modules(struct info_area *area, const struct loader_request *request,
                        const struct loader_plan *plan, struct multiboot1_info *info)
{
    struct multiboot1_module modules[LOADER_MODULES_MAX] = {0};

    for (u32 i = 0; i < request->module_count; i++) {
        const struct image *module = &request->modules[i];

        modules[i].start = (u32)plan->module_gpa[i];
        modules[i].end = (u32)(plan->module_gpa[i] + module->size);
        modules[i].string = (u32)info_put_text(area, module->name);
    }
    info->mods_count = request->module_count;
    info->mods_addr =
        (u32)info_put(area, modules, request->module_count * sizeof(modules[0]), sizeof(u64));
}

static bool finish_multiboot1(const struct loader_request *request, const struct guest_ram *ram,
                              struct loader_plan *plan, struct vcpu_state *state)
{
    struct multiboot1_info info = {
        .flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MMAP | INFO_LOADER_NAME,
    };
    struct info_area area;

    if (!info_open(&area, request, ram, plan, GUEST_PAGE_SIZE))
        return false;
    put_memory(&area, ram, &info);
    put_modules(&area, request, plan, &info);
    info.cmdline = (u32)info_put_text(&area, request->cmdline);
    info.boot_loader_name = (u32)info_put_text(&area, LOADER_NAME);
    vcpu_state_flat32(state, (u32)plan->entry);
    state->gpr[GPR_RAX] = MULTIBOOT1_EAX;
    state->gpr[GPR_RBX] = info_put(&area, &info, sizeof(info), sizeof(u64));
    return info_close(&area, plan);
}

const struct image_format multiboot1_format = {
    .name = "Multiboot 1",
    .identify = identify,
    .plan = plan_multiboot1,
    .finish = finish_multiboot1,
};
