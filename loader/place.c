/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "lib/string.h"
#include "loader/formats.h"

bool loader_refuse(struct loader_plan *plan, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(plan->error, sizeof(plan->error), format, arguments);
    va_end(arguments);
    return false;
}

struct size_text loader_size(u64 size)
{
    struct size_text text;
    bool mib = size >= 10 * MIB || (size >= MIB && IS_ALIGNED(size, MIB));
    u64 unit = mib ? MIB : KIB;

    snprintf(text.text, sizeof(text.text), "%llu %s",
             (unsigned long long)(size / unit + (size % unit != 0)), mib ? "MiB" : "KiB");
    return text;
}

bool loader_is_ram(const struct guest_ram *ram, u64 gpa, u64 size)
{
    if (guest_ram_at(ram, gpa, size) == NULL)
        return false;
    return gpa >= MIB || range_within(gpa, size, GUEST_EBDA);
}

bool loader_overlaps(const struct loader_plan *plan, u64 gpa, u64 size)
{
    for (u32 i = 0; i < plan->copy_count; i++) {
        const struct loader_copy *copy = &plan->copies[i];

        if (gpa < copy->gpa + copy->size && copy->gpa < gpa + size)
            return true;
    }
    return false;
}

bool loader_add_copy(struct loader_plan *plan, u64 gpa, const u8 *from, u64 size)
{
    if (size == 0)
        return true;
    if (plan->copy_count == LOADER_COPIES_MAX)
        return loader_refuse(plan, "the kernel and its modules have more than %u pieces",
                             LOADER_COPIES_MAX);
    plan->copies[plan->copy_count++] = (struct loader_copy){gpa, from, size};
    return true;
}

bool loader_add_segment(const struct loader_request *request, const struct guest_ram *ram,
                        struct loader_plan *plan, u64 gpa, u64 memory_size, u64 offset,
                        u64 file_size)
{
    const struct image *image = &request->kernel;

    if (memory_size == 0)
        return true;
    if (!range_within(offset, file_size, image->size))
        return loader_refuse(plan,
                             "kernel '%.40s' is truncated: a segment ends behind its %llu bytes",
                             image->name, (unsigned long long)image->size);
    if (file_size > memory_size)
        return loader_refuse(plan, "kernel '%.40s' has a segment larger than its memory",
                             image->name);
    if (!loader_is_ram(ram, gpa, memory_size))
        return loader_refuse(plan, "kernel '%.40s' wants %s at 0x%llx: not in the %s of memory",
                             image->name, loader_size(memory_size).text, (unsigned long long)gpa,
                             loader_size(loader_ram_size(ram)).text);
    if (loader_overlaps(plan, gpa, memory_size))
        return loader_refuse(plan, "kernel '%.40s' has segments that overlap at 0x%llx",
                             image->name, (unsigned long long)gpa);
    return loader_add_copy(plan, gpa, image->data + offset, file_size) &&
           loader_add_copy(plan, gpa + file_size, NULL, memory_size - file_size);
}

bool loader_check_entry(const struct loader_request *request, struct loader_plan *plan)
{
    if (plan->entry < GUEST_RAM_HIGH && loader_overlaps(plan, plan->entry, 1))
        return true;
    return loader_refuse(plan, "kernel '%.40s' has its entry at 0x%llx, where nothing is loaded",
                         request->kernel.name, (unsigned long long)plan->entry);
}

u64 loader_first_fit(const struct loader_plan *plan, u64 start, u64 limit, u64 size, u64 align)
{
    u64 at = ALIGN_UP(start, align);
    u32 i = 0;

    while (i < plan->copy_count) {
        const struct loader_copy *copy = &plan->copies[i++];

        if (at < copy->gpa + copy->size && copy->gpa < at + size) {
            at = ALIGN_UP(copy->gpa + copy->size, align);
            i = 0;
        }
    }
    return range_within(at, size, limit) ? at : LOADER_NOWHERE;
}

static u64 kernel_end(const struct loader_plan *plan)
{
    u64 end = MIB;

    for (u32 i = 0; i < plan->copy_count; i++)
        if (plan->copies[i].gpa < GUEST_RAM_HIGH)
            end = MAX(end, plan->copies[i].gpa + plan->copies[i].size);
    return end;
}

bool loader_place_modules(const struct loader_request *request, const struct guest_ram *ram,
                          struct loader_plan *plan)
{
    u64 behind = kernel_end(plan);

    for (u32 i = 0; i < request->module_count; i++) {
        const struct image *module = &request->modules[i];
        u64 gpa = loader_first_fit(plan, behind, ram->low_size, module->size, GUEST_PAGE_SIZE);

        if (gpa == LOADER_NOWHERE)
            gpa = loader_first_fit(plan, MIB, ram->low_size, module->size, GUEST_PAGE_SIZE);
        if (gpa == LOADER_NOWHERE)
            return loader_refuse(plan, "module '%.40s' (%s) does not fit into %s of memory",
                                 module->name, loader_size(module->size).text,
                                 loader_size(loader_ram_size(ram)).text);
        plan->module_gpa[i] = gpa;
        if (!loader_add_copy(plan, gpa, module->data, module->size))
            return false;
    }
    return true;
}

bool loader_add_flat(const struct loader_request *request, const struct guest_ram *ram,
                     struct loader_plan *plan, u64 header_offset,
                     const struct flat_addresses *addresses)
{
    const struct image *image = &request->kernel;
    u64 before = (u64)addresses->header - addresses->load;
    u64 offset = header_offset - before;
    u64 file_size, memory_size;

    if (addresses->header < addresses->load || before > header_offset)
        return loader_refuse(plan, "kernel '%.40s' has a load address that its header contradicts",
                             image->name);
    file_size = image->size - offset;
    if (addresses->load_end != 0)
        file_size = (u64)addresses->load_end - addresses->load;
    memory_size = file_size;
    if (addresses->bss_end != 0)
        memory_size = (u64)addresses->bss_end - addresses->load;
    if (addresses->load_end != 0 && addresses->load_end < addresses->load)
        return loader_refuse(plan, "kernel '%.40s' ends before it begins", image->name);
    return loader_add_segment(request, ram, plan, addresses->load, memory_size, offset, file_size);
}

bool info_open(struct info_area *area, const struct loader_request *request,
               const struct guest_ram *ram, struct loader_plan *plan, u64 fixed)
{
    u64 size = fixed + strlen(request->cmdline) + 1;

    for (u32 i = 0; i < request->module_count; i++)
        size += strlen(request->modules[i].name) + 1;
    *area = (struct info_area){.size = ALIGN_UP(size, GUEST_PAGE_SIZE)};
    area->gpa = loader_first_fit(plan, GUEST_LOW_START, MIN(ram->low_size, GUEST_EBDA), area->size,
                                 GUEST_PAGE_SIZE);
    if (area->gpa == LOADER_NOWHERE)
        return loader_refuse(plan,
                             "kernel '%.40s' leaves no room below 640 KiB for %s of boot "
                             "information",
                             request->kernel.name, loader_size(area->size).text);
    area->base = ram->base + area->gpa;
    return true;
}

u64 info_put(struct info_area *area, const void *data, u64 size, u64 align)
{
    u64 at = ALIGN_UP(area->used, align);

    if (area->full || !range_within(at, size, area->size)) {
        area->full = true;
        return 0;
    }
    if (size > 0)
        memcpy(area->base + at, data, size);
    area->used = at + size;
    return area->gpa + at;
}

u64 info_put_text(struct info_area *area, const char *text)
{
    return info_put(area, text, strlen(text) + 1, 1);
}

bool info_close(const struct info_area *area, struct loader_plan *plan)
{
    if (area->full)
        return loader_refuse(plan, "the boot information does not fit into %s",
                             loader_size(area->size).text);
    return true;
}
