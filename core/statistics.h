/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_STATISTICS_H
#define BULKHEAD_CORE_STATISTICS_H

/* What running cost: counted for each vCPU by the CPU that owns it, kept for the partition when
 * its vCPUs go. */

#include "core/exit.h"

struct vm;

struct run_statistics {
    u64 guest_cycles; /* host TSC ticks in guest mode */
    u64 host_cycles;  /* in the hypervisor, for it */
    u64 steal_cycles; /* could have run, but waited for a CPU or for its cap */
    u64 exits[EXIT_KIND_COUNT];
    u64 exit_cycles[EXIT_KIND_COUNT]; /* part of host_cycles */
};

void statistics_add(struct run_statistics *sum, const struct run_statistics *part);

u64 statistics_exits(const struct run_statistics *statistics);

/* All vCPUs together, since the partition was created. Counters of vCPUs that run meanwhile on
 * other CPUs may be a moment old. CPU 0. */
void vm_statistics(const struct vm *vm, struct run_statistics *sum);

#endif
