/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_SCHED_H
#define BULKHEAD_CORE_SCHED_H

/* The loop of each physical CPU: mailbox, timers, and its run queue (core/run_queue.h has the
 * policy). A CPU's queue, timers and vCPUs are its own; other CPUs ask through vcpu_post, and only
 * the owner gives a vCPU away: to a CPU that is idle, or less loaded and further ahead in virtual
 * time. */

#include "core/cpu.h"
#include "core/vcpu.h"

struct vm;

/* Runs vCPUs for ever. `housekeeping`, on CPU 0 only, is called between them with the host's own
 * address space; it returns when it next wants to be called even if nothing happens (host TSC;
 * 0: at once). */
_Noreturn void sched_loop(struct cpu *cpu, u64 (*housekeeping)(struct cpu *cpu));

/* Once, before any loop starts. */
void sched_init(void);

/* Asks the owner of the vCPU for something (enum vcpu_request). Any CPU. */
void vcpu_post(struct vcpu *vcpu, u32 requests);

/* Takes a parked vCPU out of its owner's mailbox, so that it can be freed. Requests can still be
 * there that came while it parked. CPU 0, vm->lock held, outside of the owner's mailbox. */
void sched_forget(struct vcpu *vcpu);

/* vcpu_capture of a vCPU that is parked, and stays so meanwhile. CPU 0. */
void sched_capture_parked(struct vcpu *vcpu);

/* Makes CPU 0 run its housekeeping soon. Any CPU. */
void sched_wake_boot_cpu(void);

/* Makes the vCPU wait for an event or its timers. Its owner, while it runs. */
void sched_block(struct vcpu *vcpu);

/* The running vCPU spins in a loop of PAUSEs: a sibling that waits goes first. Its owner. */
void sched_yield(struct vcpu *vcpu);

/* May the partition run on this CPU, by its configuration and the CPU's abilities? Any CPU. */
bool sched_allowed(const struct vm *vm, const struct cpu *cpu);

/* The CPU with the fewest vCPUs among those that the partition may run on; NULL where there is
 * none. Any CPU. */
struct cpu *sched_place(const struct vm *vm);

/* Moves what runs where the configuration no longer allows it, and forgets what is owed to a former
 * cap. After a change of vm->config, whose cpus must leave one CPU that is allowed. CPU 0. */
void sched_config_changed(struct vm *vm);

/* TSC ticks that a CPU has been resting for and that are not charged yet. Any CPU. */
u64 sched_resting(const struct cpu *cpu);

/* Charges what passed on this CPU since the last charge to *account (TSC ticks), which it
 * returns. The CPU itself. */
u64 sched_charge(struct cpu *cpu, u64 *account);

#endif
