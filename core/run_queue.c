/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/run_queue.h"

#include "core/vm.h"
#include "lib/arith.h"

#define PERCENT 100

void run_queue_init(struct run_queue *queue)
{
    list_init(&queue->waiting);
    queue->count = 0;
    queue->virtual_time = 0;
}

static struct vcpu *vcpu_of(struct list *node)
{
    return LIST_ENTRY(node, struct vcpu, run);
}

struct vcpu *run_queue_first(const struct run_queue *queue)
{
    return list_empty(&queue->waiting) ? NULL : vcpu_of(queue->waiting.next);
}

static void insert_at(struct run_queue *queue, struct list *at, struct vcpu *vcpu, u64 now)
{
    list_insert_before(at, &vcpu->run);
    queue->count++;
    vcpu->waiting_since = now;
}

/* Most come last: from the end. */
void run_queue_insert(struct run_queue *queue, struct vcpu *vcpu, u64 now)
{
    struct list *last = queue->waiting.previous;

    while (last != &queue->waiting && time_before(vcpu->virtual_time, vcpu_of(last)->virtual_time))
        last = last->previous;
    insert_at(queue, last->next, vcpu, now);
}

void run_queue_insert_first(struct run_queue *queue, struct vcpu *vcpu, u64 now)
{
    struct list *at = queue->waiting.next;

    while (at != &queue->waiting && time_before(vcpu_of(at)->virtual_time, vcpu->virtual_time))
        at = at->next;
    insert_at(queue, at, vcpu, now);
}

void run_queue_remove(struct run_queue *queue, struct vcpu *vcpu, u64 now)
{
    list_remove(&vcpu->run);
    queue->count--;
    vcpu->statistics.steal_cycles += now - vcpu->waiting_since;
}

/* The vCPUs that divide the weight: those active now, or `sharers`, if these are more. */
static u64 virtual_cost(const struct vcpu *vcpu, u64 cycles, u32 sharers)
{
    u32 active = __atomic_load_n(&vcpu->vm->active_vcpus, __ATOMIC_RELAXED);

    return mul_div(cycles, (u64)CONFIG_WEIGHT_DEFAULT * MAX(active, sharers),
                   vcpu->vm->config.weight);
}

void run_queue_adapt(const struct run_queue *queue, struct vcpu *vcpu, u64 tolerance)
{
    u64 earliest = queue->virtual_time - tolerance;
    u64 latest = queue->virtual_time + tolerance;

    if (time_before(vcpu->virtual_time, earliest))
        vcpu->virtual_time = earliest;
    if (!time_before(latest, vcpu->virtual_time))
        return;
    latest = queue->virtual_time + MAX(tolerance, virtual_cost(vcpu, tolerance, 1));
    if (time_before(latest, vcpu->virtual_time))
        vcpu->virtual_time = latest;
}

void run_queue_advance(struct run_queue *queue, u64 virtual_time)
{
    if (time_before(queue->virtual_time, virtual_time))
        queue->virtual_time = virtual_time;
}

void charge_virtual_time(struct vcpu *vcpu, u64 cycles, u32 sharers)
{
    vcpu->virtual_time += virtual_cost(vcpu, cycles, sharers);
}

void run_queue_yield(struct run_queue *queue, struct vcpu *vcpu, u64 now)
{
    struct vcpu *sibling = NULL;
    u64 time = vcpu->virtual_time;

    LIST_FOR_EACH(node, &queue->waiting)
    {
        struct vcpu *other = vcpu_of(node);

        if (other->vm == vcpu->vm &&
            (!sibling || time_before(other->waiting_since, sibling->waiting_since)))
            sibling = other;
    }
    if (!sibling || !time_before(time, sibling->virtual_time))
        return;
    run_queue_remove(queue, sibling, now);
    vcpu->virtual_time = sibling->virtual_time;
    sibling->virtual_time = time;
    run_queue_insert_first(queue, sibling, now);
}

void cap_charge(struct vm *vm, u64 start, u64 cycles)
{
    u32 cap = vm->config.cap_percent;
    u64 until = __atomic_load_n(&vm->capped_until, __ATOMIC_RELAXED);
    u64 next;

    if (cap == 0)
        return;
    do
        next = MAX(until, start) + mul_div(cycles, PERCENT, cap);
    while (!__atomic_compare_exchange_n(&vm->capped_until, &until, next, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
}

u64 cap_wait(const struct vm *vm, u64 now)
{
    u64 until = __atomic_load_n(&vm->capped_until, __ATOMIC_RELAXED);

    return vm->config.cap_percent != 0 && until > now ? until : 0;
}
