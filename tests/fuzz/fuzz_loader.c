/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Any bytes as a kernel image: what is planned lies in the image and in free RAM, and does not
 * overlap; what is finished leaves the loaded bytes as they are. */

#include <stdlib.h>
#include <string.h>

#include "loader/e820.h"
#include "loader/loader.h"

#define RAM_SIZE    (24 * MIB)
#define MODULE_SIZE 5000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool within(const struct image *image, const struct loader_copy *copy)
{
    return copy->from >= image->data &&
           range_within((u64)(copy->from - image->data), copy->size, image->size);
}

static void check_copies(const struct loader_request *request, const struct loader_plan *plan)
{
    require(plan->copy_count <= LOADER_COPIES_MAX);
    for (u32 i = 0; i < plan->copy_count; i++) {
        const struct loader_copy *copy = &plan->copies[i];

        require(range_within(copy->gpa, copy->size, GUEST_EBDA) ||
                (copy->gpa >= MIB && range_within(copy->gpa, copy->size, RAM_SIZE)));
        require(copy->from == NULL || within(&request->kernel, copy) ||
                within(&request->modules[0], copy));
        for (u32 j = 0; j < i; j++)
            require(copy->gpa + copy->size <= plan->copies[j].gpa ||
                    plan->copies[j].gpa + plan->copies[j].size <= copy->gpa);
    }
}

static void carry_out(const struct loader_request *request, const struct guest_ram *ram,
                      struct loader_plan *plan)
{
    struct vcpu_state state;

    for (u32 i = 0; i < plan->copy_count; i++)
        if (plan->copies[i].from != NULL)
            memcpy(ram->base + plan->copies[i].gpa, plan->copies[i].from, plan->copies[i].size);
    if (!loader_finish(request, ram, plan, &state)) {
        require(plan->error[0] != '\0');
        return;
    }
    require(state.rip == plan->entry && state.rip < RAM_SIZE);
    for (u32 i = 0; i < plan->copy_count; i++)
        if (plan->copies[i].from != NULL)
            require(memcmp(ram->base + plan->copies[i].gpa, plan->copies[i].from,
                           plan->copies[i].size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static u8 module[MODULE_SIZE], *memory;
    const struct loader_request request = {
        .kernel = {"kernel", data, size},
        .modules = {{"module", module, sizeof(module)}   },
        .module_count = 1,
        .cmdline = "console=ttyS0",
        .vcpu_count = 1,
    };
    struct loader_plan plan;
    struct guest_ram ram;

    if (memory == NULL)
        memory = malloc(RAM_SIZE);
    ram = (struct guest_ram){.base = memory, .low_size = RAM_SIZE};
    if (!loader_plan(&request, &ram, &plan)) {
        require(plan.error[0] != '\0');
        return 0;
    }
    check_copies(&request, &plan);
    carry_out(&request, &ram, &plan);
    return 0;
}
