/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/vcpu_run.h"

#include "core/host.h"
#include "core/lifecycle.h"
#include "core/log.h"
#include "core/pv.h"
#include "core/sched.h"
#include "core/vm.h"
#include "devices/machine.h"
#include "drivers/cpu.h"
#include "lib/arith.h"
#include "mm/pool.h"

#define RFLAGS_IF    BIT(9)
#define LAPIC_RESETS (LAPIC_EVENT_INIT | LAPIC_EVENT_SIPI)

/* What a machine's effects need to find their way back to the partition. */
struct vm_effects {
    struct effects effects;
    struct vm *vm;
};

static void effect_kick(struct effects *effects, u32 index)
{
    struct vm_effects *context = CONTAINER_OF(effects, struct vm_effects, effects);
    struct vcpu *vcpu = context->vm->vcpus[index];

    if (index == effects->vcpu)
        vcpu->interrupts_stale = true;
    else
        vcpu_post(vcpu, REQUEST_EVENT);
}

static void effect_transmit(struct effects *effects, u8 byte)
{
    struct vm *vm = CONTAINER_OF(effects, struct vm_effects, effects)->vm;

    console_put(&vm->console, byte);
    if (console_must_wait(&vm->console))
        uart_hold(&vm->machine->uart, true);
    if (console_must_grow(&vm->console))
        lifecycle_attend();
    if (vm->console.watchers > 0 && this_cpu()->index != 0)
        sched_wake_boot_cpu();
}

static void effect_power(struct effects *effects, enum power_event event, u32 detail)
{
    static const u8 reasons[] = {
        [POWER_RESET] = STOP_REBOOT,
        [POWER_OFF] = STOP_POWEROFF,
        [POWER_EXIT] = STOP_EXIT,
    };
    struct vm *vm = CONTAINER_OF(effects, struct vm_effects, effects)->vm;

    if (event == POWER_EXIT && vm->stop_reason == STOP_NONE)
        vm->exit_status = detail << 1 | 1;
    vm_request_stop(vm, reasons[event], NULL);
}

static const struct effects_ops effects_ops = {
    .kick = effect_kick,
    .transmit = effect_transmit,
    .power = effect_power,
};

static struct vm_effects effects_of(struct vm *vm, u32 vcpu)
{
    return (struct vm_effects){
        .effects = {.ops = &effects_ops, .now = vm_now(vm), .vcpu = vcpu},
        .vm = vm,
    };
}

/* Machine time as host TSC. */
static u64 host_deadline(const struct vm *vm, u64 deadline)
{
    if (deadline == DEADLINE_NONE)
        return DEADLINE_NONE;
    return add_saturating(vm_unscale_tsc(vm, deadline), vm->tsc_base);
}

/* vm->lock held. */
static void refresh_deadline(struct vcpu *vcpu)
{
    const struct vm *vm = vcpu->vm;

    vcpu->timer_deadline = host_deadline(vm, machine_deadline(vm->machine, vcpu->index));
    vcpu->deadline = MIN(vcpu->run_limit, vcpu->timer_deadline);
}

u64 vcpu_timer_deadline(struct vcpu *vcpu)
{
    return vcpu->timer_deadline;
}

/* What other vCPUs do to the board's timers concerns vCPU 0, which runs them. vm->lock held. */
static void refresh_board(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;

    if (vcpu->index != 0 &&
        host_deadline(vm, machine_deadline(vm->machine, 0)) < vm->vcpus[0]->timer_deadline)
        vcpu_post(vm->vcpus[0], REQUEST_EVENT);
}

/* Bytes typed while the UART's FIFO was full. vm->lock held. */
static inline void feed_input(struct vm *vm, struct effects *effects)
{
    struct console *console = &vm->console;

    while (console->input_tail != console->input_head && machine_can_receive(vm->machine))
        machine_receive(vm->machine, console->input[console->input_tail++ % CONSOLE_INPUT_SIZE],
                        effects);
}

/* Can a write have let through an interrupt that waited, or changed what the hardware that delivers
 * them has to know? What it raised itself has kicked the vCPU. vm->lock held. */
static bool opens_way(const struct vcpu *vcpu, const struct access *access, u32 ioapic_generation)
{
    const struct machine *machine = vcpu->vm->machine;

    if (access->space == SPACE_PORT)
        return false;
    if (machine->intr || machine->ioapic.generation != ioapic_generation)
        return true;
    /* The rest is writes to the local APIC. */
    return access->address == MSR_IA32_APIC_BASE ||
           (ALIGN_DOWN(access->address, LAPIC_SIZE) != IOAPIC_BASE &&
            lapic_highest_irr(vcpu->lapic) >= 0);
}

/* What the guest has ended without an exit. vm->lock held. */
static NOINLINE void take_offered_eoi(struct vcpu *vcpu)
{
    struct vm_effects context = effects_of(vcpu->vm, vcpu->index);
    struct machine *machine = vcpu->vm->machine;
    int vector = pv_take_eoi(vcpu) ? machine_end_of_interrupt(machine, vcpu->index) : -1;

    if (vector >= 0)
        machine_eoi(machine, vector, &context.effects);
}

static inline void take_eoi(struct vcpu *vcpu)
{
    if (vcpu->msrs.eoi_offered)
        take_offered_eoi(vcpu);
}

bool vcpu_access(struct vcpu *vcpu, struct access *access)
{
    struct vm *vm = vcpu->vm;
    struct vm_effects context = effects_of(vm, vcpu->index);
    u32 ioapic_generation;
    bool claimed;

    spin_lock(&vm->lock);
    ioapic_generation = vm->machine->ioapic.generation;
    if (access->space != SPACE_PORT)
        take_eoi(vcpu);
    claimed = machine_access(vm->machine, vcpu->index, access, &context.effects);
    feed_input(vm, &context.effects);
    if (context.effects.timers) {
        refresh_deadline(vcpu);
        refresh_board(vcpu);
    }
    if (access->write && opens_way(vcpu, access, ioapic_generation))
        vcpu->interrupts_stale = true;
    spin_unlock(&vm->lock);
    return claimed;
}

static NOINLINE void tell_ioapic(struct vcpu *vcpu, u8 vector)
{
    struct vm *vm = vcpu->vm;
    struct vm_effects context = effects_of(vm, vcpu->index);

    spin_lock(&vm->lock);
    machine_eoi(vm->machine, vector, &context.effects);
    spin_unlock(&vm->lock);
}

void vcpu_end_interrupt(struct vcpu *vcpu)
{
    int vector = machine_end_of_interrupt(vcpu->vm->machine, vcpu->index);

    if (vector >= 0)
        tell_ioapic(vcpu, vector);
    if (lapic_highest_irr(vcpu->lapic) >= 0)
        vcpu->interrupts_stale = true;
}

/* The timer's turn comes with its deadline: no need of the time. */
bool vcpu_send_to_self(struct vcpu *vcpu, u64 vector)
{
    struct vm *vm = vcpu->vm;
    struct vm_effects context = {
        .effects = {.ops = &effects_ops, .vcpu = vcpu->index},
        .vm = vm,
    };
    bool valid = vector <= UINT8_MAX && lapic_is_x2apic(vcpu->lapic);

    if (!valid)
        return false;
    spin_lock(&vm->lock);
    machine_self_ipi(vm->machine, vcpu->index, (u8)vector, &context.effects);
    spin_unlock(&vm->lock);
    return true;
}

void vcpu_set_tsc_deadline(struct vcpu *vcpu, u64 deadline)
{
    struct vm *vm = vcpu->vm;
    struct vm_effects context = effects_of(vm, vcpu->index);

    spin_lock(&vm->lock);
    machine_set_tsc_deadline(vm->machine, vcpu->index, deadline, &context.effects);
    refresh_deadline(vcpu);
    spin_unlock(&vm->lock);
}

bool vcpu_send_ipi(struct vcpu *vcpu, u64 icr)
{
    struct vm *vm = vcpu->vm;
    struct vm_effects context = {
        .effects = {.ops = &effects_ops, .vcpu = vcpu->index},
        .vm = vm,
    };
    bool sent;

    spin_lock(&vm->lock);
    sent = machine_send_ipi(vm->machine, vcpu->index, icr, &context.effects);
    spin_unlock(&vm->lock);
    return sent;
}

void vm_input(struct vm *vm, u8 byte)
{
    struct vm_effects context;

    spin_lock(&vm->lock);
    if (vm->vcpus && vm->state == VM_RUNNING) {
        context = effects_of(vm, EFFECTS_NO_VCPU);
        console_type(&vm->console, byte);
        feed_input(vm, &context.effects);
    }
    spin_unlock(&vm->lock);
}

bool vm_press_power_button(struct vm *vm)
{
    struct vm_effects context;
    bool minded;

    spin_lock(&vm->lock);
    context = effects_of(vm, EFFECTS_NO_VCPU);
    minded = machine_press_power_button(vm->machine, &context.effects);
    spin_unlock(&vm->lock);
    return minded;
}

void vm_raise_nmi(struct vm *vm)
{
    struct vm_effects context;

    spin_lock(&vm->lock);
    context = effects_of(vm, EFFECTS_NO_VCPU);
    machine_nmi(vm->machine, &context.effects);
    spin_unlock(&vm->lock);
}

/* vm->lock held. */
static void update_hold(struct vm *vm)
{
    struct vm_effects context;

    if (!vm->vcpus ||
        (vm->state != VM_RUNNING && vm->state != VM_PAUSING && vm->state != VM_PAUSED))
        return;
    context = effects_of(vm, EFFECTS_NO_VCPU);
    machine_hold_output(vm->machine, console_must_wait(&vm->console), &context.effects);
}

void vm_pace(struct vm *vm, u64 limit)
{
    spin_lock(&vm->lock);
    vm->console.limit = limit;
    update_hold(vm);
    spin_unlock(&vm->lock);
}

void vm_grow_console(struct vm *vm)
{
    void *page;

    if (!console_must_grow(&vm->console))
        return;
    page = pool_alloc(1);
    if (!page)
        log_warn("'%s': no memory for more than the last %u KiB of its console", vm->config.name,
                 vm->console.space / 1024);
    spin_lock(&vm->lock);
    console_grow(&vm->console, page);
    update_hold(vm);
    spin_unlock(&vm->lock);
}

void vcpu_apic_written(struct vcpu *vcpu, const struct exit *exit)
{
    struct vm *vm = vcpu->vm;
    struct vm_effects context = effects_of(vm, vcpu->index);

    spin_lock(&vm->lock);
    if (exit->kind == EXIT_EOI)
        machine_eoi(vm->machine, exit->apic.vector, &context.effects);
    else
        machine_lapic_written(vm->machine, vcpu->index, exit->apic.offset, &context.effects);
    refresh_deadline(vcpu);
    spin_unlock(&vm->lock);
    vcpu->interrupts_stale = true;
}

void vcpu_raise(struct vcpu *vcpu, u8 vector, u32 error_code)
{
    host.hvm->inject(vcpu, EVENT_EXCEPTION, vector, error_code);
}

/* INIT and SIPI replace the vCPU's state. vm->lock held. */
static void take_resets(struct vcpu *vcpu)
{
    struct lapic *lapic = vcpu->lapic;
    struct vcpu_state state;

    host.hvm->save_state(vcpu, &state);
    if (lapic->events & LAPIC_EVENT_INIT)
        vcpu_state_reset(&state, true);
    if (lapic->events & LAPIC_EVENT_SIPI)
        vcpu_state_sipi(&state, lapic->sipi_vector);
    lapic->events &= ~LAPIC_RESETS;
    vcpu->activity = lapic->wait_for_sipi ? ACTIVITY_WAIT_FOR_SIPI : ACTIVITY_ACTIVE;
    host.hvm->load_state(vcpu, &state);
}

static bool interrupt_waits(const struct vcpu *vcpu)
{
    bool waits = host.hvm->interrupt_waits ? host.hvm->interrupt_waits(vcpu)
                                           : lapic_pending_vector(vcpu->lapic) >= 0;

    return waits || machine_extint_pending(vcpu->vm->machine, vcpu->index);
}

static bool is_deaf(struct vcpu *vcpu)
{
    return vcpu->activity == ACTIVITY_WAIT_FOR_SIPI ||
           !(host.hvm->read_register(vcpu, HVM_RFLAGS) & RFLAGS_IF);
}

/* vm->lock held. */
static bool should_block(struct vcpu *vcpu)
{
    if (vcpu->activity == ACTIVITY_ACTIVE)
        return false;
    if (vcpu->activity == ACTIVITY_HALTED &&
        ((vcpu->lapic->events & LAPIC_EVENT_NMI) ||
         (interrupt_waits(vcpu) && (host.hvm->read_register(vcpu, HVM_RFLAGS) & RFLAGS_IF)))) {
        vcpu->activity = ACTIVITY_ACTIVE;
        return false;
    }
    return true;
}

static void offer_nmi(struct vcpu *vcpu)
{
    bool pending = vcpu->lapic->events & LAPIC_EVENT_NMI;

    if (pending && host.hvm->can_inject(vcpu, EVENT_NMI)) {
        vcpu->lapic->events &= ~LAPIC_EVENT_NMI;
        host.hvm->inject(vcpu, EVENT_NMI, 0, 0);
        pending = false;
    }
    if (pending || vcpu->nmi_window)
        host.hvm->request_window(vcpu, EVENT_NMI, pending);
    vcpu->nmi_window = pending;
}

static void accept(struct vcpu *vcpu, u8 vector)
{
    struct lapic *lapic = vcpu->lapic;
    bool alone = pv_eoi_wanted(vcpu) && lapic_highest_isr(lapic) < 0;

    lapic_accept(lapic, vector);
    if (alone && lapic_highest_irr(lapic) < 0 && !lapic_is_level(lapic, vector))
        pv_offer_eoi(vcpu);
}

/* Says whether it asks for another one. */
static NOINLINE bool take_extint(struct vcpu *vcpu)
{
    struct vm_effects context = effects_of(vcpu->vm, vcpu->index);
    struct machine *machine = vcpu->vm->machine;

    host.hvm->inject(vcpu, EVENT_INTERRUPT, machine_acknowledge_pic(machine, &context.effects), 0);
    return machine_extint_pending(machine, vcpu->index);
}

/* The PIC's first, as it waits for nobody's EOI. */
static void offer_interrupt(struct vcpu *vcpu)
{
    bool virtualised = host.hvm->sync_interrupts && host.hvm->sync_interrupts(vcpu);
    bool extint = machine_extint_pending(vcpu->vm->machine, vcpu->index);
    int vector = virtualised ? -1 : lapic_pending_vector(vcpu->lapic);
    bool waits = extint || vector >= 0;

    if (waits && host.hvm->can_inject(vcpu, EVENT_INTERRUPT)) {
        if (extint) {
            waits = take_extint(vcpu) || vector >= 0;
        } else {
            accept(vcpu, vector);
            host.hvm->inject(vcpu, EVENT_INTERRUPT, (u8)vector, 0);
            waits = false;
        }
    }
    /* Unless hardware delivers them, TPR may hold others back, too. */
    if (!virtualised || waits || vcpu->interrupt_window)
        host.hvm->request_window(vcpu, EVENT_INTERRUPT, waits);
    vcpu->interrupt_window = waits;
}

/* vm->lock held. */
static void offer(struct vcpu *vcpu)
{
    vcpu->interrupts_stale = false;
    take_eoi(vcpu);
    if (vcpu->lapic->events & LAPIC_RESETS)
        take_resets(vcpu);
    if (should_block(vcpu)) {
        vcpu->deaf = is_deaf(vcpu);
        sched_block(vcpu);
    } else {
        offer_nmi(vcpu);
        offer_interrupt(vcpu);
    }
}

/* vm->lock held. */
static NOINLINE void tick(struct vcpu *vcpu)
{
    struct vm_effects context = effects_of(vcpu->vm, vcpu->index);

    machine_tick(vcpu->vm->machine, vcpu->index, &context.effects);
}

void vcpu_offer_interrupts(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;

    spin_lock(&vm->lock);
    if (rdtsc() >= vcpu->timer_deadline)
        tick(vcpu);
    lapic_take_posted(vcpu->lapic);
    refresh_deadline(vcpu);
    offer(vcpu);
    spin_unlock(&vm->lock);
}

enum exit_kind vcpu_fast_deadline(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;

    if (rdtsc() < vcpu->timer_deadline)
        return EXIT_NONE;
    spin_lock(&vm->lock);
    tick(vcpu);
    refresh_deadline(vcpu);
    spin_unlock(&vm->lock);
    return EXIT_DEADLINE;
}

/* What moved a deadline has refreshed it. */
bool vcpu_fast_offer(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    bool simple;

    spin_lock(&vm->lock);
    simple = !cpu_must_pass(vcpu->cpu) && !(vcpu->lapic->events & LAPIC_RESETS);
    if (simple) {
        lapic_take_posted(vcpu->lapic);
        offer(vcpu);
    }
    spin_unlock(&vm->lock);
    return simple && vcpu->run_state == VCPU_RUNNING;
}
