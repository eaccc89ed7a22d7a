/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/statistics.h"

#include "core/vm.h"

void statistics_add(struct run_statistics *sum, const struct run_statistics *part)
{
    sum->guest_cycles += part->guest_cycles;
    sum->host_cycles += part->host_cycles;
    sum->steal_cycles += part->steal_cycles;
    for (u32 kind = 0; kind < EXIT_KIND_COUNT; kind++) {
        sum->exits[kind] += part->exits[kind];
        sum->exit_cycles[kind] += part->exit_cycles[kind];
    }
}

u64 statistics_exits(const struct run_statistics *statistics)
{
    u64 sum = 0;

    for (u32 kind = 0; kind < EXIT_KIND_COUNT; kind++)
        sum += statistics->exits[kind];
    return sum;
}

void vm_statistics(const struct vm *vm, struct run_statistics *sum)
{
    *sum = vm->retired;
    for (u32 i = 0; i < vm->vcpu_count; i++)
        if (vm->vcpus[i])
            statistics_add(sum, &vm->vcpus[i]->statistics);
}
