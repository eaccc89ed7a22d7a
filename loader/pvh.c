/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* ELF kernels with a PVH entry (Xen documentation, "x86/HVM direct boot ABI"). */

#include "lib/string.h"
#include "loader/elf.h"

#define NOTE_OWNER               "Xen"
#define NOTE_ALIGN               4
#define NOTES_MAX                256 /* to look at: no kernel has as many */
#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define START_INFO_MAGIC         0x336EC578
#define START_INFO_VERSION       1

struct elf_note {
    u32 name_size, data_size, type;
};

struct start_info {
    u32 magic, version, flags, module_count;
    u64 modules, cmdline, rsdp, memory_map;
    u32 memory_map_entries, reserved;
};

struct start_module {
    u64 address, size, cmdline, reserved;
};

struct start_memory {
    struct e820_entry entry;
    u32 reserved;
};

_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info");
_Static_assert(sizeof(struct start_module) == 32, "hvm_modlist_entry");
_Static_assert(sizeof(struct start_memory) == 24, "hvm_memmap_table_entry");

/* *left: how many notes may still be looked at. */
static bool find_in_notes(const u8 *notes, u64 size, u32 *left, u32 *entry)
{
    struct elf_note note;

    for (u64 at = 0; *left > 0 && range_within(at, sizeof(note), size); --*left) {
        u64 name = at + sizeof(note), data;

        memcpy(&note, notes + at, sizeof(note));
        data = name + ALIGN_UP(note.name_size, NOTE_ALIGN);
        if (!range_within(data, note.data_size, size))
            return false;
        if (note.type == XEN_ELFNOTE_PHYS32_ENTRY && note.name_size == sizeof(NOTE_OWNER) &&
            memcmp(notes + name, NOTE_OWNER, sizeof(NOTE_OWNER)) == 0 &&
            note.data_size >= sizeof(*entry)) {
            memcpy(entry, notes + data, sizeof(*entry));
            return true;
        }
        at = data + ALIGN_UP(note.data_size, NOTE_ALIGN);
    }
    return false;
}

static bool find_entry(const struct image *image, u32 *entry)
{
    struct elf elf;
    u32 left = NOTES_MAX;

    if (!elf_open(image, &elf))
        return false;
    for (u32 i = 0; i < elf.count; i++) {
        struct elf_segment segment = elf_segment(&elf, i);

        if (segment.type == PT_NOTE &&
            range_within(segment.offset, segment.file_size, image->size) &&
            find_in_notes(image->data + segment.offset, segment.file_size, &left, entry))
            return true;
    }
    return false;
}

static bool identify(const struct image *image)
{
    u32 entry;

    return find_entry(image, &entry);
}

static bool plan_pvh(const struct loader_request *request, const struct guest_ram *ram,
                     struct loader_plan *plan)
{
    u32 entry = 0;

    find_entry(&request->kernel, &entry);
    if (!elf_plan(request, ram, plan))
        return false;
    plan->entry = entry;
    return loader_check_entry(request, plan) && loader_place_modules(request, ram, plan);
}

static void put_memory(struct info_area *area, const struct guest_ram *ram, struct start_info *info)
{
    struct start_memory map[E820_MAX] = {0};
    struct e820_entry entries[E820_MAX];

    info->memory_map_entries = e820_build(ram, entries);
    for (u32 i = 0; i < info->memory_map_entries; i++)
        map[i].entry = entries[i];
    info->memory_map = info_put(area, map, info->memory_map_entries * sizeof(map[0]), sizeof(u64));
}

static void put_modules(struct info_area *area, const struct loader_request *request,
                        const struct loader_plan *plan, struct start_info *info)
{
    struct start_module modules[LOADER_MODULES_MAX] = {0};

    for (u32 i = 0; i < request->module_count; i++) {
        modules[i].address = plan->module_gpa[i];
        modules[i].size = request->modules[i].size;
        modules[i].cmdline = info_put_text(area, request->modules[i].name);
    }
    info->module_count = request->module_count;
    info->modules =
        info_put(area, modules, request->module_count * sizeof(modules[0]), sizeof(u64));
}

static bool finish_pvh(const struct loader_request *request, const struct guest_ram *ram,
                       struct loader_plan *plan, struct vcpu_state *state)
{
    struct start_info info = {
        .magic = START_INFO_MAGIC,
        .version = START_INFO_VERSION,
        .rsdp = GUEST_ACPI_TABLES,
    };
    struct info_area area;

    if (!info_open(&area, request, ram, plan, GUEST_PAGE_SIZE))
        return false;
    put_memory(&area, ram, &info);
    put_modules(&area, request, plan, &info);
    info.cmdline = info_put_text(&area, request->cmdline);
    vcpu_state_flat32(state, (u32)plan->entry);
    state->gpr[GPR_RBX] = info_put(&area, &info, sizeof(info), sizeof(u64));
    return info_close(&area, plan);
}

const struct image_format pvh_format = {
    .name = "PVH",
    .identify = identify,
    .plan = plan_pvh,
    .finish = finish_pvh,
};
