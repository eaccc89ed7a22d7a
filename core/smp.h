/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_SMP_H
#define BULKHEAD_CORE_SMP_H

#include "core/cpu.h"
#include "drivers/acpi.h"

/* Makes the boot CPU the first of `cpus`. Room for `capacity` CPUs; false when memory is short. */
bool smp_init(u32 capacity);

/* Brings up the other CPUs of `listed`, up to `limit` in all, one by one by INIT-SIPI-SIPI to their
 * own APIC ID (SDM volume 3, "MP Initialization Protocol Algorithm"). One that does not answer is
 * named and left out. Each calls `run`, which does not return. */
void smp_start(const struct acpi_cpu *listed, u32 count, u32 limit, void (*run)(struct cpu *cpu));

#endif
