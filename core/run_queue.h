/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_RUN_QUEUE_H
#define BULKHEAD_CORE_RUN_QUEUE_H

/* The policy: who of those that wait for a physical CPU comes next, and who may not yet. Every
 * vCPU has a virtual time, which moves on by what it ran, the slower the larger its part of its
 * partition's weight; the queue is in the order of virtual times, equals in the order in which
 * they came. Pure; unless stated otherwise, on the CPU that owns the queue.
 *
 * Virtual times may wrap: they are only ever compared by their difference. */

#include "core/vcpu.h"

struct vm;

struct run_queue {
    struct list waiting;
    u32 count;
    u64 virtual_time; /* of the furthest that has run; moves forward only */
};

void run_queue_init(struct run_queue *queue);

static inline bool time_before(u64 a, u64 b)
{
    return (s64)(a - b) < 0;
}

/* NULL when nobody waits. */
struct vcpu *run_queue_first(const struct run_queue *queue);

/* Lets a vCPU wait, at host TSC `now`: behind those with its virtual time, or, for one whose slice
 * was cut short, ahead of them. */
void run_queue_insert(struct run_queue *queue, struct vcpu *vcpu, u64 now);
void run_queue_insert_first(struct run_queue *queue, struct vcpu *vcpu, u64 now);

/* One that waits no longer; what it waited is charged to it as stolen. */
void run_queue_remove(struct run_queue *queue, struct vcpu *vcpu, u64 now);

/* Brings the virtual time of a vCPU that has not been in this queue lately to at most `tolerance`
 * behind the queue's, as time spent asleep is not saved up; and to at most what running for
 * `tolerance` costs it ahead, so that one that comes from a CPU where time went faster does not
 * wait until it is caught up with, and none gets rid of what it owes by a nap. */
void run_queue_adapt(const struct run_queue *queue, struct vcpu *vcpu, u64 tolerance);

/* Moves the queue's virtual time on to that of a vCPU which now runs. */
void run_queue_advance(struct run_queue *queue, u64 virtual_time);

/* Charges `cycles` of a CPU to a vCPU's virtual time: weight 100 alone in its partition is one to
 * one, and the active vCPUs of a partition, at least `sharers`, divide its weight. */
void charge_virtual_time(struct vcpu *vcpu, u64 cycles, u32 sharers);

/* A vCPU spins: trades virtual times with the sibling in the queue that has waited the longest,
 * so that this one takes its place. What both may run together stays as it was. */
void run_queue_yield(struct run_queue *queue, struct vcpu *vcpu, u64 now);

/* The cap: `cycles` that ran from host TSC `start` on are paid for by a wait, until
 * vm->capped_until, of its vCPUs. On any CPU. */
void cap_charge(struct vm *vm, u64 start, u64 cycles);
/* Host TSC until which the partition may not run; 0: it may. */
u64 cap_wait(const struct vm *vm, u64 now);

#endif
