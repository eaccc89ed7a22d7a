/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/sched.h"

#include "core/dump.h"
#include "core/host.h"
#include "core/interrupts.h"
#include "core/lifecycle.h"
#include "core/log.h"
#include "core/vcpu_run.h"
#include "core/vm.h"
#include "core/xstate.h"
#include "devices/device.h"
#include "drivers/cpu.h"
#include "drivers/lapic.h"
#include "mm/host_space.h"

static void wake_cpu(struct cpu *cpu)
{
    if (cpu != this_cpu())
        host_lapic_send_ipi(cpu->apic_id, HOST_IPI_FIXED, VECTOR_WAKE);
}

void vcpu_post(struct vcpu *vcpu, u32 requests)
{
    struct cpu *cpu = vcpu->cpu;

    __atomic_or_fetch(&vcpu->requests, requests, __ATOMIC_SEQ_CST);
    spin_lock(&cpu->mailbox_lock);
    if (list_empty(&vcpu->mail))
        list_append(&cpu->mailbox, &vcpu->mail);
    spin_unlock(&cpu->mailbox_lock);
    /* The running vCPU of this CPU looks at its events before it next enters anyway. */
    if (cpu == this_cpu() && (vcpu != cpu->running || (requests & REQUEST_PARK)))
        cpu->reschedule = true;
    wake_cpu(cpu);
}

void sched_wake_boot_cpu(void)
{
    cpus[0]->reschedule = true;
    wake_cpu(cpus[0]);
}

/* Earliest first. */
static void insert_timer(struct cpu *cpu, struct vcpu *vcpu)
{
    struct list *at = cpu->timers.next;

    while (at != &cpu->timers &&
           LIST_ENTRY(at, struct vcpu, run)->wake_deadline <= vcpu->wake_deadline)
        at = at->next;
    list_insert_before(at, &vcpu->run);
}

void sched_block(struct vcpu *vcpu)
{
    vcpu->run_state = VCPU_BLOCKED;
    vcpu->wake_deadline = vcpu_timer_deadline(vcpu);
}

static void make_runnable(struct cpu *cpu, struct vcpu *vcpu)
{
    list_remove(&vcpu->run);
    vcpu->run_state = VCPU_RUNNABLE;
    vcpu->interrupts_stale = true;
    /* Ahead of those that have used up their slice. */
    list_prepend(&cpu->run_queue, &vcpu->run);
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
    list_remove(&vcpu->run);
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

static void serve(struct cpu *cpu, struct vcpu *vcpu, u32 requests)
{
    if ((requests & REQUEST_CAPTURE) && vcpu->run_state != VCPU_PARKED)
        capture(cpu, vcpu);
    if (requests & REQUEST_PARK)
        park(cpu, vcpu);
    else if (requests & REQUEST_UNPARK)
        make_runnable(cpu, vcpu);
    else if (vcpu->run_state == VCPU_BLOCKED)
        make_runnable(cpu, vcpu);
    vcpu->interrupts_stale = true;
}

static struct vcpu *take_mail(struct cpu *cpu)
{
    struct vcpu *vcpu = NULL;

    spin_lock(&cpu->mailbox_lock);
    if (!list_empty(&cpu->mailbox)) {
        vcpu = LIST_ENTRY(cpu->mailbox.next, struct vcpu, mail);
        list_remove(&vcpu->mail);
    }
    cpu->serving = vcpu;
    spin_unlock(&cpu->mailbox_lock);
    return vcpu;
}

void sched_forget(struct vcpu *vcpu)
{
    struct cpu *cpu = vcpu->cpu;
    bool busy;

    do {
        spin_lock(&cpu->mailbox_lock);
        list_remove(&vcpu->mail);
        busy = cpu->serving == vcpu;
        spin_unlock(&cpu->mailbox_lock);
    } while (busy);
}

static void drain_mailbox(struct cpu *cpu)
{
    struct vcpu *vcpu;

    while ((vcpu = take_mail(cpu)))
        serve(cpu, vcpu, __atomic_exchange_n(&vcpu->requests, 0, __ATOMIC_SEQ_CST));
}

static void run_timers(struct cpu *cpu)
{
    while (!list_empty(&cpu->timers)) {
        struct vcpu *vcpu = LIST_ENTRY(cpu->timers.next, struct vcpu, run);

        if (vcpu->wake_deadline > rdtsc())
            return;
        make_runnable(cpu, vcpu);
    }
}

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
    cpu->reschedule = true;
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

static void run_once(struct cpu *cpu, struct vcpu *vcpu, u64 limit, u64 *now)
{
    struct exit exit;
    u64 deadline, left;

    if (vcpu->interrupts_stale || vcpu->timer_deadline <= *now)
        vcpu_offer_interrupts(vcpu);
    if (vcpu->run_state != VCPU_RUNNING)
        return;
    deadline = MIN(MIN(vcpu->slice_end, limit), vcpu->timer_deadline);
    if (!host.report.entry_deadline)
        arm_timer(cpu, *now, deadline);
    host.hvm->enter(vcpu, deadline, &exit);
    left = rdtsc();
    vcpu->statistics.guest_cycles += left - *now;
    vcpu_handle_exit(vcpu, &exit);
    *now = rdtsc();
    vcpu->statistics.host_cycles += *now - left;
    vcpu->statistics.exits[exit.kind]++;
    vcpu->statistics.exit_cycles[exit.kind] += *now - left;
    cpu->longest_host_cycles = MAX(cpu->longest_host_cycles, *now - left);
}

static void requeue(struct cpu *cpu, struct vcpu *vcpu, u64 now)
{
    if (vcpu->run_state == VCPU_BLOCKED) {
        vcpu->slice_left = vcpu->slice_end > now ? vcpu->slice_end - now : 0;
        if (vcpu->wake_deadline != DEADLINE_NONE)
            insert_timer(cpu, vcpu);
        return;
    }
    vcpu->run_state = VCPU_RUNNABLE;
    if (now < vcpu->slice_end) {
        vcpu->slice_left = vcpu->slice_end - now;
        list_prepend(&cpu->run_queue, &vcpu->run);
    } else {
        vcpu->slice_left = 0;
        list_append(&cpu->run_queue, &vcpu->run);
    }
}

static void run_vcpu(struct cpu *cpu, struct vcpu *vcpu, u64 limit)
{
    u64 now = rdtsc();
    u64 start = now;

    list_remove(&vcpu->run);
    write_cr3(vcpu->vm->memory.host.root);
    attach(cpu, vcpu);
    vcpu->run_state = VCPU_RUNNING;
    cpu->running = vcpu;
    if (vcpu->slice_left == 0)
        vcpu->slice_left = cpu->slice;
    vcpu->slice_end = now + vcpu->slice_left;
    now = rdtsc();
    vcpu->statistics.host_cycles += now - start;
    while (vcpu->run_state == VCPU_RUNNING && !cpu->reschedule && now < vcpu->slice_end &&
           now < limit)
        run_once(cpu, vcpu, limit, &now);
    cpu->running = NULL;
    write_cr3(host_space_root());
    requeue(cpu, vcpu, now);
}

static void idle(struct cpu *cpu, u64 until)
{
    u64 start = rdtsc();
    u64 deadline = MIN(until, next_timer(cpu));

    if (deadline != DEADLINE_NONE)
        arm_timer(cpu, start, deadline);
    /* A wake-up that came since the mailbox was looked at is still waiting, as interrupts have
     * been off: HLT ends at once. */
    cpu_sti_hlt_cli();
    cpu->idle_cycles += rdtsc() - start;
}

_Noreturn void sched_loop(struct cpu *cpu, u64 (*housekeeping)(struct cpu *cpu))
{
    cpu->slice = host_ns_to_tsc(host.config.slice_ns);
    for (;;) {
        u64 again = DEADLINE_NONE;

        cpu->reschedule = false;
        interrupts_take();
        if (__atomic_exchange_n(&cpu->nmi_seen, false, __ATOMIC_RELAXED))
            log_warn("CPU %u: NMI ignored", cpu->index);
        drain_mailbox(cpu);
        run_timers(cpu);
        if (housekeeping)
            again = housekeeping(cpu);
        if (!list_empty(&cpu->run_queue))
            run_vcpu(cpu, LIST_ENTRY(cpu->run_queue.next, struct vcpu, run),
                     MIN(MAX(again, rdtsc() + cpu->slice), next_timer(cpu)));
        else if (again > rdtsc() && !cpu->reschedule)
            idle(cpu, again);
    }
}
