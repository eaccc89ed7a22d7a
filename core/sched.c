/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/sched.h"

#include "core/dump.h"
#include "core/host.h"
#include "core/interrupts.h"
#include "core/lifecycle.h"
#include "core/log.h"
#include "core/mitigations.h"
#include "core/pv.h"
#include "core/vcpu_run.h"
#include "core/vm.h"
#include "core/xstate.h"
#include "devices/device.h"
#include "drivers/cpu.h"
#include "drivers/lapic.h"
#include "mm/host_space.h"

/* How far, in slices of virtual time, a vCPU that comes from another CPU may be from the others. */
#define MOVE_TOLERANCE 4
/* By how many slices a CPU must be ahead to be given a vCPU that waits elsewhere. */
#define MOVE_LEAD 2

/* After so long with none of the vCPUs that wait one has the CPU for as long, and all else waits.
 */
#define BUSY_NS 20000

/* Waking from the deepest C-state takes some 100 us: not for a wait as short as this. */
#define DEEP_IDLE_NS 2000000
/* So many that end without an interrupt, one after the other, and it is used no more. */
#define VAIN_MWAITS 8

static u64 furthest; /* virtual time of any CPU; atomic */

static void wake_cpu(struct cpu *cpu)
{
    if (cpu != this_cpu())
        host_lapic_send_ipi(cpu->apic_id, HOST_IPI_FIXED, VECTOR_WAKE);
}

/* The owner, with its mailbox_lock held: it cannot change. */
static struct cpu *lock_owner(const struct vcpu *vcpu)
{
    for (;;) {
        struct cpu *cpu = __atomic_load_n(&vcpu->cpu, __ATOMIC_ACQUIRE);

        spin_lock(&cpu->mailbox_lock);
        if (cpu == __atomic_load_n(&vcpu->cpu, __ATOMIC_RELAXED))
            return cpu;
        spin_unlock(&cpu->mailbox_lock);
    }
}

void sched_wake_boot_cpu(void)
{
    if (!__atomic_exchange_n(&cpus[0]->reschedule, true, __ATOMIC_SEQ_CST))
        wake_cpu(cpus[0]);
}

/* Earliest first. A new deadline is mostly later than most: hence from the end. */
static void insert_timer(struct cpu *cpu, struct vcpu *vcpu)
{
    struct list *last = cpu->timers.previous;

    while (last != &cpu->timers &&
           LIST_ENTRY(last, struct vcpu, run)->wake_deadline > vcpu->wake_deadline)
        last = last->previous;
    list_insert_before(last->next, &vcpu->run);
}

void sched_block(struct vcpu *vcpu)
{
    vcpu->run_state = VCPU_BLOCKED;
    vcpu->wake_deadline = vcpu_timer_deadline(vcpu);
}

void sched_yield(struct vcpu *vcpu)
{
    if (vcpu->cpu->queue.count == 0)
        return;
    vcpu->yielding = true;
    vcpu->slice_end = 0;
}

u64 sched_charge(struct cpu *cpu, u64 *account)
{
    u64 now = rdtsc();
    u64 ticks = now - cpu->charged;

    *account += ticks;
    cpu->charged = now;
    return ticks;
}

u64 sched_resting(const struct cpu *cpu)
{
    u64 since = __atomic_load_n(&cpu->charged, __ATOMIC_RELAXED);
    u64 now = rdtsc();

    return __atomic_load_n(&cpu->resting, __ATOMIC_RELAXED) && now > since ? now - since : 0;
}

/* Has this CPU done enough for now that is not running a vCPU? */
static bool is_overdue(const struct cpu *cpu)
{
    return rdtsc() - cpu->busy_since > cpu->busy_max;
}

/* When it may go on with that. */
static u64 busy_again(const struct cpu *cpu)
{
    return cpu->charged + (cpu->charged - cpu->busy_since);
}

static void set_active(struct vcpu *vcpu, bool active)
{
    if (active && !vcpu->active)
        __atomic_fetch_add(&vcpu->vm->active_vcpus, 1, __ATOMIC_RELAXED);
    if (!active && vcpu->active)
        __atomic_fetch_sub(&vcpu->vm->active_vcpus, 1, __ATOMIC_RELAXED);
    vcpu->active = active;
}

static void leave_queue(struct cpu *cpu, struct vcpu *vcpu)
{
    run_queue_remove(&cpu->queue, vcpu, cpu->charged);
    if (cpu->interrupted == vcpu)
        cpu->interrupted = NULL;
}

/* Out of the run queue or the timers, wherever it is. */
static void withdraw(struct cpu *cpu, struct vcpu *vcpu)
{
    if (vcpu->run_state == VCPU_RUNNABLE) {
        leave_queue(cpu, vcpu);
        return;
    }
    if (vcpu->run_state == VCPU_CAPPED)
        vcpu->statistics.steal_cycles += cpu->charged - vcpu->waiting_since;
    list_remove(&vcpu->run);
}

static void make_runnable(struct cpu *cpu, struct vcpu *vcpu, u64 now)
{
    withdraw(cpu, vcpu);
    vcpu->run_state = VCPU_RUNNABLE;
    vcpu->fresh = true;
    vcpu->interrupts_stale = true;
    set_active(vcpu, true);
    run_queue_adapt(&cpu->queue, vcpu, cpu->slice);
    run_queue_insert_first(&cpu->queue, vcpu, now);
}

/* Ends the turn of who runs, if anybody does. */
static void preempt(struct cpu *cpu, u64 now)
{
    struct vcpu *vcpu = cpu->running;

    if (vcpu)
        vcpu->slice_end = vcpu->run_limit = vcpu->deadline = now;
}

/* An event for a vCPU that this CPU owns: nobody else can change what state it is in. */
static void wake_own(struct cpu *cpu, struct vcpu *vcpu)
{
    u64 now;

    vcpu->interrupts_stale = true;
    if (vcpu->run_state != VCPU_BLOCKED)
        return;
    now = rdtsc();
    make_runnable(cpu, vcpu, now);
    preempt(cpu, now);
}

void vcpu_post(struct vcpu *vcpu, u32 requests)
{
    struct cpu *cpu = this_cpu();

    if (requests == REQUEST_EVENT && __atomic_load_n(&vcpu->cpu, __ATOMIC_RELAXED) == cpu) {
        wake_own(cpu, vcpu);
        return;
    }
    __atomic_or_fetch(&vcpu->requests, requests, __ATOMIC_SEQ_CST);
    cpu = lock_owner(vcpu);
    if (list_empty(&vcpu->mail))
        list_append(&cpu->mailbox, &vcpu->mail);
    spin_unlock(&cpu->mailbox_lock);
    if (cpu == this_cpu())
        cpu->woken = true;
    else
        wake_cpu(cpu);
}

static void detach(struct cpu *cpu)
{
    struct vcpu *vcpu = cpu->attached;

    if (!vcpu)
        return;
    xstate_save(vcpu);
    host.hvm->detach(cpu, vcpu);
    cpu->attached = NULL;
}

static void attach(struct cpu *cpu, struct vcpu *vcpu)
{
    if (cpu->attached != vcpu) {
        detach(cpu);
        if (cpu->trained_by != vcpu->vm->serial)
            mitigations_change_partition();
        cpu->trained_by = vcpu->vm->serial;
        xstate_load(vcpu);
        host.hvm->attach(cpu, vcpu);
        cpu->attached = vcpu;
    }
    if (vcpu->start_pending)
        host.hvm->load_state(vcpu, &vcpu->start_state);
    if (vcpu->tsc_offset_stale)
        host.hvm->set_tsc_offset(vcpu, vcpu->tsc_offset);
    vcpu->start_pending = vcpu->tsc_offset_stale = false;
}

static void park(struct cpu *cpu, struct vcpu *vcpu)
{
    if (vcpu->run_state == VCPU_PARKED)
        return;
    if (cpu->attached == vcpu)
        detach(cpu);
    withdraw(cpu, vcpu);
    set_active(vcpu, false);
    vcpu->run_state = VCPU_PARKED;
    vm_vcpu_parked(vcpu->vm);
}

static void capture(struct cpu *cpu, struct vcpu *vcpu)
{
    write_cr3(vcpu->vm->memory.host.root);
    attach(cpu, vcpu);
    vcpu_capture(vcpu);
    write_cr3(host_space_root());
}

void sched_capture_parked(struct vcpu *vcpu)
{
    struct cpu *cpu = this_cpu();

    capture(cpu, vcpu);
    detach(cpu);
}

/* One that waits for a SIPI has nothing to do yet. */
static void unpark(struct cpu *cpu, struct vcpu *vcpu)
{
    if (vcpu->activity != ACTIVITY_WAIT_FOR_SIPI || vcpu->lapic->events) {
        make_runnable(cpu, vcpu, cpu->charged);
        return;
    }
    vcpu->run_state = VCPU_BLOCKED;
    vcpu->wake_deadline = DEADLINE_NONE;
    vcpu->deaf = true;
}

static void serve(struct cpu *cpu, struct vcpu *vcpu, u32 requests)
{
    if (requests & REQUEST_ADOPT) {
        vcpu->fresh = true;
        run_queue_adapt(&cpu->queue, vcpu, MOVE_TOLERANCE * cpu->slice);
        run_queue_insert(&cpu->queue, vcpu, cpu->charged);
    }
    if (requests & REQUEST_PARK)
        park(cpu, vcpu);
    else if (requests & REQUEST_UNPARK)
        unpark(cpu, vcpu);
    if (((requests & REQUEST_EVENT) && vcpu->run_state == VCPU_BLOCKED) ||
        ((requests & REQUEST_UNCAP) && vcpu->run_state == VCPU_CAPPED))
        make_runnable(cpu, vcpu, cpu->charged);
    if ((requests & REQUEST_CAPTURE) && vcpu->run_state != VCPU_PARKED)
        capture(cpu, vcpu);
    vcpu->interrupts_stale = true;
}

/* NULL when there is none, or when `enough` has been taken for now. */
static struct vcpu *take_mail(struct cpu *cpu, bool enough)
{
    struct vcpu *vcpu = NULL;

    spin_lock(&cpu->mailbox_lock);
    if (!list_empty(&cpu->mailbox)) {
        cpu->woken = enough;
        vcpu = enough ? NULL : LIST_ENTRY(cpu->mailbox.next, struct vcpu, mail);
    }
    if (vcpu)
        list_remove(&vcpu->mail);
    cpu->serving = vcpu;
    spin_unlock(&cpu->mailbox_lock);
    return vcpu;
}

void sched_forget(struct vcpu *vcpu)
{
    bool busy;

    do {
        struct cpu *cpu = lock_owner(vcpu);

        list_remove(&vcpu->mail);
        busy = cpu->serving == vcpu;
        spin_unlock(&cpu->mailbox_lock);
    } while (busy);
}

/* No more than what can be there at once, as others may go on posting, nor what takes long. */
static void drain_mailbox(struct cpu *cpu)
{
    u32 limit = MAX(__atomic_load_n(&cpu->vcpu_count, __ATOMIC_RELAXED), 1U);
    struct vcpu *vcpu;

    cpu->woken = false;
    while ((vcpu = take_mail(cpu, limit == 0))) {
        limit--;
        sched_charge(cpu, &vcpu->statistics.host_cycles);
        serve(cpu, vcpu, __atomic_exchange_n(&vcpu->requests, 0, __ATOMIC_SEQ_CST));
        if (is_overdue(cpu))
            limit = 0;
    }
}

/* One at least, as else none might ever be. */
static void run_timers(struct cpu *cpu)
{
    bool overdue = false;

    while (!list_empty(&cpu->timers) && !overdue) {
        struct vcpu *vcpu = LIST_ENTRY(cpu->timers.next, struct vcpu, run);

        if (vcpu->wake_deadline > rdtsc())
            return;
        make_runnable(cpu, vcpu, cpu->charged);
        overdue = is_overdue(cpu);
    }
}

/* ---- which CPU --------------------------------------------------------------------------------
 */

bool sched_allowed(const struct vm *vm, const struct cpu *cpu)
{
    return cpu->hvm_on && (cpu->index >= CONFIG_CPUS_MAX ||
                           (vm->config.cpus[cpu->index / 64] & BIT(cpu->index % 64)));
}

struct cpu *sched_place(const struct vm *vm)
{
    struct cpu *best = NULL;

    for (u32 i = 0; i < cpu_count; i++)
        if (sched_allowed(vm, cpus[i]) && (!best || cpus[i]->vcpu_count < best->vcpu_count))
            best = cpus[i];
    return best;
}

void sched_config_changed(struct vm *vm)
{
    __atomic_store_n(&vm->capped_until, 0, __ATOMIC_RELAXED);
    for (u32 i = 0; i < vm->vcpu_count; i++)
        vcpu_post(vm->vcpus[i], REQUEST_EVENT | REQUEST_UNCAP);
}

/* Two mailboxes at once: in the order of their CPUs. */
static void lock_mailboxes(struct cpu *a, struct cpu *b)
{
    spin_lock(&(a->index < b->index ? a : b)->mailbox_lock);
    spin_lock(&(a->index < b->index ? b : a)->mailbox_lock);
}

/* Gives away a vCPU that waits here. As soon as the locks are free it is the other CPU's, which
 * may even have parked it, and somebody freed it. */
static void move(struct cpu *cpu, struct vcpu *vcpu, struct cpu *to)
{
    if (cpu->attached == vcpu)
        detach(cpu);
    leave_queue(cpu, vcpu);
    vcpu->moves++;
    __atomic_fetch_sub(&cpu->vcpu_count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&to->vcpu_count, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&to->load, to->load + 1, __ATOMIC_RELAXED);
    lock_mailboxes(cpu, to);
    list_remove(&vcpu->mail);
    __atomic_or_fetch(&vcpu->requests, REQUEST_ADOPT, __ATOMIC_SEQ_CST);
    __atomic_store_n(&vcpu->cpu, to, __ATOMIC_RELEASE);
    list_append(&to->mailbox, &vcpu->mail);
    spin_unlock(&cpu->mailbox_lock);
    spin_unlock(&to->mailbox_lock);
    wake_cpu(to);
}

/* Who is given away: not the one whose state this CPU holds, if there is another. */
static struct vcpu *spare(const struct cpu *cpu)
{
    LIST_FOR_EACH(node, &cpu->queue.waiting)
    {
        struct vcpu *vcpu = LIST_ENTRY(node, struct vcpu, run);

        if (vcpu != cpu->attached)
            return vcpu;
    }
    return NULL;
}

static bool is_better(const struct cpu *cpu, const struct vcpu *vcpu, const struct cpu *other)
{
    u32 load = __atomic_load_n(&other->load, __ATOMIC_RELAXED);
    u64 horizon = __atomic_load_n(&other->horizon, __ATOMIC_RELAXED);

    if (other == cpu || !sched_allowed(vcpu->vm, other))
        return false;
    return load == 0 || (!vcpu->fresh && load < cpu->queue.count &&
                         time_before(vcpu->virtual_time + MOVE_LEAD * cpu->slice, horizon));
}

/* Nothing runs here now. With two or more that want to, one may be better off elsewhere. Who has
 * not run since it came goes to nobody but an idle CPU: else two CPUs could send it to and fro for
 * ever. */
static void share_work(struct cpu *cpu)
{
    struct vcpu *vcpu = cpu->queue.count > 1 && cpu_count > 1 ? spare(cpu) : NULL;
    struct cpu *best = NULL;

    for (u32 i = 0; vcpu && i < cpu_count; i++)
        if (is_better(cpu, vcpu, cpus[i]) && (!best || cpus[i]->load < best->load))
            best = cpus[i];
    if (best)
        move(cpu, vcpu, best);
}

static void wait_for_cap(struct cpu *cpu, struct vcpu *vcpu, u64 until)
{
    leave_queue(cpu, vcpu);
    vcpu->run_state = VCPU_CAPPED;
    vcpu->waiting_since = cpu->charged;
    vcpu->wake_deadline = until;
    insert_timer(cpu, vcpu);
}

/* Only who has just woken ends a slice before its time. */
static struct vcpu *next_in_line(const struct cpu *cpu)
{
    struct vcpu *first = run_queue_first(&cpu->queue);

    return cpu->interrupted && !first->fresh ? cpu->interrupted : first;
}

/* Who may run here and now; it stays in the queue. */
static struct vcpu *choose(struct cpu *cpu)
{
    struct vcpu *vcpu;

    while ((vcpu = next_in_line(cpu))) {
        struct cpu *to = sched_allowed(vcpu->vm, cpu) ? NULL : sched_place(vcpu->vm);
        u64 until = cap_wait(vcpu->vm, cpu->charged);

        if (to)
            move(cpu, vcpu, to);
        else if (until != 0)
            wait_for_cap(cpu, vcpu, until);
        else
            break;
    }
    return vcpu;
}

/* ---- running ----------------------------------------------------------------------------------
 */

static u64 next_timer(const struct cpu *cpu)
{
    return list_empty(&cpu->timers) ? DEADLINE_NONE
                                    : LIST_ENTRY(cpu->timers.next, struct vcpu, run)->wake_deadline;
}

static void on_timer(struct cpu *cpu)
{
    cpu->timer_armed = DEADLINE_NONE;
}

static void on_wake(struct cpu *cpu)
{
    cpu->woken = true;
}

static void on_error(struct cpu *cpu)
{
    host_lapic_errors();
}

void sched_init(void)
{
    interrupts_set_handler(VECTOR_TIMER, on_timer);
    interrupts_set_handler(VECTOR_WAKE, on_wake);
    interrupts_set_handler(VECTOR_ERROR, on_error);
}

/* One that fires too early does no harm, so a timer that stands is only ever moved forward. One
 * that should have fired by now is set again, in case it got lost. */
static void arm_timer(struct cpu *cpu, u64 now, u64 deadline)
{
    if (deadline >= cpu->timer_armed && now < cpu->timer_armed)
        return;
    cpu->timer_armed = deadline;
    host_lapic_timer_arm(deadline);
}

static void handle_exit(struct cpu *cpu, struct vcpu *vcpu, struct exit *exit)
{
    u64 ticks;

    vcpu_handle_exit(vcpu, exit);
    ticks = sched_charge(cpu, &vcpu->statistics.host_cycles);
    vcpu->statistics.exit_cycles[exit->kind] += ticks;
    cpu->longest_host_cycles = MAX(cpu->longest_host_cycles, ticks);
}

static void run_once(struct cpu *cpu, struct vcpu *vcpu, u64 limit)
{
    struct run_statistics *statistics = &vcpu->statistics;
    struct exit exit;

    if (vcpu->interrupts_stale || vcpu->timer_deadline <= cpu->charged) {
        vcpu_offer_interrupts(vcpu);
        sched_charge(cpu, &statistics->host_cycles);
    }
    if (vcpu->run_state != VCPU_RUNNING)
        return;
    vcpu->run_limit = MIN(vcpu->slice_end, limit);
    vcpu->deadline = MIN(vcpu->run_limit, vcpu->timer_deadline);
    if (!host.report.entry_deadline)
        arm_timer(cpu, cpu->charged, vcpu->deadline);
    host.hvm->enter(vcpu, vcpu->deadline, &exit);
    sched_charge(cpu, &statistics->guest_cycles);
    statistics->exits[exit.kind]++;
    if (!exit.served)
        handle_exit(cpu, vcpu, &exit);
    cpu->busy_since = cpu->charged;
}

/* After it ran from host TSC `start` on, when `sharers` of its partition's vCPUs were active. */
static void requeue(struct cpu *cpu, struct vcpu *vcpu, u64 start, u32 sharers)
{
    u64 used = cpu->charged - start;

    cap_charge(vcpu->vm, start, used);
    charge_virtual_time(vcpu, used, sharers);
    vcpu->slice_used += used;
    if (vcpu->run_state == VCPU_BLOCKED) {
        vcpu->slice_used = 0;
        set_active(vcpu, false);
        if (vcpu->deaf && __atomic_load_n(&vcpu->vm->active_vcpus, __ATOMIC_SEQ_CST) == 0)
            vm_suspect_hang(vcpu->vm);
        if (vcpu->wake_deadline != DEADLINE_NONE)
            insert_timer(cpu, vcpu);
        return;
    }
    vcpu->run_state = VCPU_RUNNABLE;
    if (vcpu->yielding)
        run_queue_yield(&cpu->queue, vcpu, cpu->charged);
    else if (vcpu->slice_used < cpu->slice)
        cpu->interrupted = vcpu;
    if (cpu->interrupted != vcpu)
        vcpu->slice_used = 0;
    vcpu->yielding = false;
    run_queue_insert(&cpu->queue, vcpu, cpu->charged);
}

static void publish(struct cpu *cpu, struct vcpu *vcpu)
{
    __atomic_store_n(&cpu->load, cpu->queue.count + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&cpu->horizon, vcpu->virtual_time, __ATOMIC_RELAXED);
    run_queue_advance(&cpu->queue, vcpu->virtual_time);
    if (time_before(__atomic_load_n(&furthest, __ATOMIC_RELAXED), vcpu->virtual_time))
        __atomic_store_n(&furthest, vcpu->virtual_time, __ATOMIC_RELAXED);
    vcpu->ran_on[cpu->index / 64 % ARRAY_SIZE(vcpu->ran_on)] |= BIT(cpu->index % 64);
}

/* Takes the mail if there is none but an event for the running vCPU. */
static bool take_own_event(struct cpu *cpu, struct vcpu *vcpu)
{
    u32 event = REQUEST_EVENT;
    bool taken;

    spin_lock(&cpu->mailbox_lock);
    taken = cpu->mailbox.next == &vcpu->mail && vcpu->mail.next == &cpu->mailbox &&
            __atomic_compare_exchange_n(&vcpu->requests, &event, 0, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST);
    if (taken)
        list_remove(&vcpu->mail);
    spin_unlock(&cpu->mailbox_lock);
    vcpu->interrupts_stale = vcpu->interrupts_stale || taken;
    return taken;
}

static bool must_look(struct cpu *cpu, struct vcpu *vcpu)
{
    if (cpu->woken)
        cpu->woken = !take_own_event(cpu, vcpu);
    return cpu->woken || cpu->reschedule;
}

/* Until when it may go on, 0: not now. What asks for attention waits when the CPU has done much
 * else, unless it is this vCPU that is not to run. */
static u64 run_limit(struct cpu *cpu, struct vcpu *vcpu, u64 limit)
{
    if (!must_look(cpu, vcpu))
        return limit;
    if (!is_overdue(cpu) || __atomic_load_n(&vcpu->requests, __ATOMIC_SEQ_CST) != 0)
        return 0;
    return MIN(limit, busy_again(cpu));
}

static void run_vcpu(struct cpu *cpu, struct vcpu *vcpu, u64 limit)
{
    u32 sharers = __atomic_load_n(&vcpu->vm->active_vcpus, __ATOMIC_RELAXED);
    u64 start = cpu->charged, until;

    run_queue_remove(&cpu->queue, vcpu, start);
    cpu->interrupted = NULL;
    vcpu->fresh = false;
    publish(cpu, vcpu);
    write_cr3(vcpu->vm->memory.host.root);
    attach(cpu, vcpu);
    vcpu->run_state = VCPU_RUNNING;
    cpu->running = vcpu;
    vcpu->slice_end = start + cpu->slice - MIN(vcpu->slice_used, cpu->slice);
    pv_turn(vcpu);
    sched_charge(cpu, &vcpu->statistics.host_cycles);
    while (vcpu->run_state == VCPU_RUNNING && cpu->charged < vcpu->slice_end &&
           cpu->charged < (until = run_limit(cpu, vcpu, limit)))
        run_once(cpu, vcpu, until);
    cpu->running = NULL;
    write_cr3(host_space_root());
    requeue(cpu, vcpu, start, sharers);
}

/* Below some hypervisors, and in one emulator on its boot CPU, MWAIT is a NOP: then HLT. Nobody
 * writes to the line that it watches. */
static void rest_deep(struct cpu *cpu)
{
    u32 before = cpu->interrupts;

    cpu_sti_mwait_cli(cpu->gdt, host.features.mwait_hint);
    cpu->vain_mwaits = cpu->interrupts == before ? cpu->vain_mwaits + 1 : 0;
    if (cpu->vain_mwaits == VAIN_MWAITS)
        log_debug("CPU %u: MWAIT does not wait, so HLT is used", cpu->index);
}

/* A wake-up that came since the mailbox was looked at is still waiting, as interrupts have been
 * off: it ends either at once. */
static void rest(struct cpu *cpu, u64 deadline)
{
    if (host.features.mwait_hint != 0 && cpu->vain_mwaits < VAIN_MWAITS &&
        deadline - cpu->charged > host_ns_to_tsc(DEEP_IDLE_NS))
        rest_deep(cpu);
    else
        cpu_sti_hlt_cli();
}

static void idle(struct cpu *cpu)
{
    u64 deadline = MIN(cpu->housekeep_at, next_timer(cpu));

    __atomic_store_n(&cpu->load, 0, __ATOMIC_RELAXED);
    if (deadline != DEADLINE_NONE)
        arm_timer(cpu, rdtsc(), deadline);
    sched_charge(cpu, &cpu->own_cycles);
    cpu->resting = true;
    rest(cpu, deadline);
    cpu->resting = false;
    sched_charge(cpu, &cpu->idle_cycles);
    /* Time has gone on elsewhere: who wakes here now has no right to catch up. */
    run_queue_advance(&cpu->queue, __atomic_load_n(&furthest, __ATOMIC_RELAXED));
}

/* When it is asked for or its time has come; before every rest, and each slice at the latest. */
static void keep_house(struct cpu *cpu, u64 (*housekeeping)(struct cpu *cpu), bool asked)
{
    u64 begin = cpu->charged;

    if (asked)
        cpu->housekeep_at = cpu->housekeep_by = 0;
    if (cpu->queue.count != 0 && begin < MAX(cpu->housekeep_from, cpu->housekeep_by))
        return;
    cpu->housekeep_at = housekeeping(cpu);
    sched_charge(cpu, &cpu->own_cycles);
    cpu->housekeep_by = MIN(cpu->housekeep_at, cpu->charged + cpu->slice);
    cpu->housekeep_from = cpu->charged + (cpu->charged - begin);
}

/* The vCPU that runs gives way then. */
static u64 next_look(const struct cpu *cpu)
{
    u64 housekeep = MAX(cpu->housekeep_at, cpu->housekeep_from);
    u64 next = MIN(next_timer(cpu), housekeep);

    return MAX(next, busy_again(cpu));
}

/* All that asks for attention, then a vCPU or rest. */
static void pass(struct cpu *cpu, u64 (*housekeeping)(struct cpu *cpu))
{
    struct vcpu *vcpu;
    bool asked;

    interrupts_take();
    asked = cpu->reschedule && __atomic_exchange_n(&cpu->reschedule, false, __ATOMIC_SEQ_CST);
    if (cpu->nmi_seen && __atomic_exchange_n(&cpu->nmi_seen, false, __ATOMIC_RELAXED))
        log_warn("CPU %u: NMI ignored", cpu->index);
    if (cpu->woken)
        drain_mailbox(cpu);
    run_timers(cpu);
    if (housekeeping)
        keep_house(cpu, housekeeping, asked);
    share_work(cpu);
    vcpu = choose(cpu);
    if (vcpu) {
        run_vcpu(cpu, vcpu, next_look(cpu));
        return;
    }
    if (cpu->housekeep_at > rdtsc() && !cpu->reschedule && !cpu->woken)
        idle(cpu);
    sched_charge(cpu, &cpu->own_cycles);
    cpu->busy_since = cpu->charged;
}

_Noreturn void sched_loop(struct cpu *cpu, u64 (*housekeeping)(struct cpu *cpu))
{
    cpu->slice = host_ns_to_tsc(host.config.slice_ns);
    cpu->busy_max = host_ns_to_tsc(BUSY_NS);
    cpu->started = cpu->charged = rdtsc();
    cpu->housekeep_at = housekeeping ? 0 : DEADLINE_NONE;
    for (;;)
        pass(cpu, housekeeping);
}
