/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "loader/loader.h"

#include "lib/string.h"
#include "loader/acpi_tables.h"
#include "loader/formats.h"

/* In the order of recognition: an image with two headers is taken by the first. */
static const struct image_format *const formats[] = {
    [IMAGE_BZIMAGE] = &bzimage_format,
    [IMAGE_MULTIBOOT2] = &multiboot2_format,
    [IMAGE_MULTIBOOT1] = &multiboot1_format,
    [IMAGE_PVH] = &pvh_format,
};

bool loader_identify(const struct image *image, enum image_kind *kind)
{
    for (u32 i = 0; i < ARRAY_SIZE(formats); i++) {
        if (formats[i]->identify(image)) {
            *kind = (enum image_kind)i;
            return true;
        }
    }
    return false;
}

const char *image_kind_name(enum image_kind kind)
{
    return formats[kind]->name;
}

bool loader_plan(const struct loader_request *request, const struct guest_ram *ram,
                 struct loader_plan *plan)
{
    memset(plan, 0, sizeof(*plan));
    if (request->module_count > LOADER_MODULES_MAX)
        return loader_refuse(plan, "kernel '%.40s' is given more than %u modules",
                             request->kernel.name, LOADER_MODULES_MAX);
    if (!loader_identify(&request->kernel, &plan->kind))
        return loader_refuse(plan, "'%.40s' is not a kernel: no bzImage, Multiboot or PVH image",
                             request->kernel.name);
    if (ram->low_size < MIB)
        return loader_refuse(plan, "kernel '%.40s' needs at least 1 MiB of memory; there are %s",
                             request->kernel.name, loader_size(loader_ram_size(ram)).text);
    return formats[plan->kind]->plan(request, ram, plan);
}

bool loader_finish(const struct loader_request *request, const struct guest_ram *ram,
                   struct loader_plan *plan, struct vcpu_state *state)
{
    if (!acpi_tables_write(ram, request->vcpu_count))
        return loader_refuse(plan, "the ACPI tables for %u CPUs do not fit below 1 MiB",
                             request->vcpu_count);
    return formats[plan->kind]->finish(request, ram, plan, state);
}
