/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/lifecycle.h"

#include "core/guest_port.h"
#include "core/host.h"
#include "core/log.h"
#include "core/sched.h"
#include "core/vm_parts.h"
#include "drivers/cpu.h"
#include "lib/string.h"
#include "loader/loader.h"
#include "mm/host_space.h"
#include "mm/pool.h"

/* Bytes of an image that one step copies: as instructions, about 32,000. */
#define COPY_STEP (256 * KIB)

/* A partition that crashes this soon after its start, so often in a row, is not started again. */
#define QUICK_CRASH_NS    10000000000ULL
#define QUICK_CRASHES_MAX 5

/* How long one must have hung. */
#define HANG_NS 2000000000ULL

enum phase {
    PHASE_VCPUS,
    PHASE_MEMORY,
    PHASE_REZERO,
    PHASE_PLAN,
    PHASE_COPY,
    PHASE_FINISH,
    PHASE_BOARD,
    PHASE_LAUNCH,
    PHASE_TEARDOWN,
};

static struct list works = LIST_INIT(works);
static bool attention;             /* a partition wants to be looked at; atomic */
static u64 next_look = UINT64_MAX; /* host TSC at which one has hung long enough */
static void (*listener)(struct vm *vm, enum vm_event what);

void lifecycle_set_listener(void (*event)(struct vm *vm, enum vm_event what))
{
    listener = event;
}

static void tell(struct vm *vm, enum vm_event what)
{
    if (listener)
        listener(vm, what);
}

void lifecycle_attend(void)
{
    __atomic_store_n(&attention, true, __ATOMIC_RELEASE);
    sched_wake_boot_cpu();
}

bool vm_settled(const struct vm *vm)
{
    return vm->state != VM_STARTING && vm->state != VM_PAUSING && vm->state != VM_STOPPING &&
           vm->stop_reason == STOP_NONE;
}

static void begin_work(struct vm *vm, enum phase phase, bool restart)
{
    vm->work = (struct lifecycle_work){.vm = vm, .phase = phase, .restart = restart};
    vm->state = phase == PHASE_TEARDOWN ? VM_STOPPING : VM_STARTING;
    list_append(&works, &vm->work.node);
}

static void end_work(struct lifecycle_work *work, enum vm_state state)
{
    list_remove(&work->node);
    work->vm->state = state;
    work->vm = NULL;
}

static bool require(const struct vm *vm, bool holds, const char *what, char error[VM_ERROR_SIZE])
{
    if (!holds)
        snprintf(error, VM_ERROR_SIZE, "'%s' is %s, not %s", vm->config.name, vm_state_name(vm),
                 what);
    return holds;
}

static bool require_running(const struct vm *vm, char error[VM_ERROR_SIZE])
{
    return require(vm, vm->state == VM_RUNNING && vm->stop_reason == STOP_NONE, "running", error);
}

/* ---- start ----------------------------------------------------------------------------------- */

static bool missing_image(const struct vm *vm, char error[VM_ERROR_SIZE])
{
    const char *name;

    for (u32 i = 0; config_image(&vm->config, i, &name) != NULL; i++) {
        if (host_image(name))
            continue;
        snprintf(error, VM_ERROR_SIZE, "'%s': there is no image '%s'", vm->config.name, name);
        return true;
    }
    return false;
}

static bool tsc_possible(const struct vm *vm, char error[VM_ERROR_SIZE])
{
    u64 hz = vm->config.tsc_mhz * 1000000UL;

    if (hz && !host.report.tsc_scaling)
        snprintf(error, VM_ERROR_SIZE, "'%s': tsc_mhz = %u needs TSC scaling, which this CPU lacks",
                 vm->config.name, vm->config.tsc_mhz);
    else if (mul_div(hz, BIT(TSC_RATIO_BITS), host.tsc_hz) >= TSC_RATIO_LIMIT)
        snprintf(error, VM_ERROR_SIZE, "'%s': tsc_mhz = %u is too far above the host's %lu",
                 vm->config.name, vm->config.tsc_mhz, host.tsc_hz / 1000000);
    else
        return true;
    return false;
}

bool vm_start(struct vm *vm, char error[VM_ERROR_SIZE])
{
    u64 free = memory_stats().free;

    if (vm->state == VM_CRASHED)
        return vm_reset(vm, error);
    if (!require(vm, vm->state == VM_STOPPED, "stopped", error))
        return false;
    if (!host.hvm) {
        snprintf(error, VM_ERROR_SIZE, "no hardware virtualisation: %s", host.report.refusal);
        return false;
    }
    if (missing_image(vm, error))
        return false;
    if (!tsc_possible(vm, error) || !guest_port_attach(vm, error))
        return false;
    if (vm->config.memory > free) {
        snprintf(error, VM_ERROR_SIZE, "'%s' wants %lu MiB of memory, %lu MiB are free",
                 vm->config.name, vm->config.memory / MIB, free / MIB);
        return false;
    }
    begin_work(vm, PHASE_VCPUS, false);
    vm->message[0] = 0;
    vm->stop_reason = STOP_NONE;
    if (!vm_make_parts(vm)) {
        snprintf(vm->message, sizeof(vm->message), "no memory");
        vm->work.phase = PHASE_TEARDOWN;
        vm->state = VM_STOPPING;
    }
    return true;
}

static void fail_start(struct lifecycle_work *work, const char *message)
{
    struct vm *vm = work->vm;

    snprintf(vm->message, sizeof(vm->message), "%s", message);
    log_error("'%s' not started: %s", vm->config.name, message);
    work->phase = PHASE_TEARDOWN;
    vm->state = VM_STOPPING;
}

static void step_vcpus(struct lifecycle_work *work)
{
    struct vm *vm = work->vm;

    if (vm->vcpu_count == vm->vcpu_limit)
        work->phase = PHASE_MEMORY;
    else if (!vm_make_vcpu(vm))
        fail_start(work, "no memory, or no CPU that it may run on");
}

static void step_memory(struct lifecycle_work *work)
{
    bool done;

    if (!guest_memory_step(&work->vm->memory, &done))
        fail_start(work, "memory is short");
    else if (done)
        work->phase = PHASE_PLAN;
}

static void step_rezero(struct lifecycle_work *work)
{
    if (guest_memory_rezero_step(&work->vm->memory, &work->offset))
        work->phase = PHASE_PLAN;
}

static struct image map_image(struct vm *vm, const char *name)
{
    const struct boot_module *module = host_image(name);

    return (struct image){
        .name = name,
        .data = guest_memory_map_image(&vm->memory, module->start, module->size),
        .size = module->size,
    };
}

static bool map_images(struct vm *vm, struct loader_request *request)
{
    const char *name;
    bool mapped = true;

    for (u32 i = 0; config_image(&vm->config, i, &name) != NULL; i++) {
        struct image image = map_image(vm, name);

        mapped = mapped && image.data;
        if (i == 0)
            request->kernel = image;
        else if (request->module_count < LOADER_MODULES_MAX)
            request->modules[request->module_count++] = image;
    }
    return mapped;
}

static void step_plan(struct lifecycle_work *work)
{
    struct vm *vm = work->vm;

    work->request = (struct loader_request){
        .cmdline = vm->config.cmdline,
        .vcpu_count = vm->vcpu_count,
    };
    if (!map_images(vm, &work->request)) {
        fail_start(work, "no memory to map its images");
        return;
    }
    if (!loader_plan(&work->request, &vm->memory.ram, &work->plan)) {
        fail_start(work, work->plan.error);
        return;
    }
    work->offset = 0;
    work->phase = PHASE_COPY;
}

static void step_copy(struct lifecycle_work *work)
{
    const struct loader_copy *copy = &work->plan.copies[work->copy];
    u64 size;
    void *to;

    if (work->copy == work->plan.copy_count) {
        work->phase = PHASE_FINISH;
        return;
    }
    size = copy->from ? MIN(copy->size - work->offset, COPY_STEP) : 0;
    to = guest_ram_at(&work->vm->memory.ram, copy->gpa + work->offset, size);
    if (!to) {
        fail_start(work, "its image lies outside its memory");
        return;
    }
    memcpy(to, copy->from + work->offset, size);
    work->offset += size;
    if (!copy->from || work->offset == copy->size) {
        work->copy++;
        work->offset = 0;
    }
}

static void launch(struct vm *vm)
{
    spin_lock(&vm->lock);
    vm->state = VM_RUNNING;
    vm->live_vcpus = vm->vcpu_count;
    vm->start_tsc = rdtsc();
    vm->starts++;
    vm->reboots = false;
    vm->capped_until = vm->hang_due = 0;
    spin_unlock(&vm->lock);
    for (u32 i = 0; i < vm->vcpu_count; i++)
        vcpu_post(vm->vcpus[i], REQUEST_UNPARK);
}

static u64 unix_seconds(void)
{
    return host.boot_unix_seconds + host_uptime_ns() / 1000000000;
}

static void step_finish(struct lifecycle_work *work)
{
    struct vm *vm = work->vm;

    if (!loader_finish(&work->request, &vm->memory.ram, &work->plan, &vm->vcpus[0]->start_state)) {
        fail_start(work, work->plan.error);
        return;
    }
    guest_memory_unmap_images(&vm->memory);
    work->phase = PHASE_BOARD;
}

static void step_board(struct lifecycle_work *work)
{
    struct vm *vm = work->vm;

    machine_init(vm->machine, vm->vcpu_count, vm->tsc_hz, unix_seconds(), vm->config.exit_port);
    vm->tsc_base = rdtsc();
    work->offset = 0;
    work->phase = PHASE_LAUNCH;
}

static void step_launch(struct lifecycle_work *work)
{
    struct vm *vm = work->vm;
    bool restart = work->restart;

    if (work->offset < vm->vcpu_count) {
        vm_reset_vcpu(vm->vcpus[work->offset++]);
        return;
    }
    end_work(work, VM_STARTING);
    launch(vm);
    log_info("'%s' %s: %s, %lu MiB, %u vCPU%s", vm->config.name, restart ? "restarted" : "started",
             vm->config.kernel, vm->memory.size / MIB, vm->vcpu_count,
             vm->vcpu_count == 1 ? "" : "s");
    tell(vm, restart ? VM_EVENT_RESTART : VM_EVENT_START);
}

/* ---- stop ------------------------------------------------------------------------------------ */

static void step_teardown(struct lifecycle_work *work)
{
    struct vm *vm = work->vm;

    if (vm->vcpus && !vm_free_parts(vm))
        return;
    if (!guest_memory_free_step(&vm->memory))
        return;
    vm->stop_reason = STOP_NONE;
    end_work(work, VM_STOPPED);
    tell(vm, VM_EVENT_STOP);
}

void vm_request_stop(struct vm *vm, enum stop_reason reason, const char *message)
{
    if (vm->stop_reason != STOP_NONE)
        return;
    vm->stop_reason = reason;
    if (message)
        snprintf(vm->message, sizeof(vm->message), "crashed: %s", message);
    for (u32 i = 0; i < vm->vcpu_count; i++)
        vcpu_post(vm->vcpus[i], REQUEST_PARK);
    if (vm->live_vcpus == 0)
        lifecycle_attend();
}

void vm_vcpu_parked(struct vm *vm)
{
    spin_lock(&vm->lock);
    vm->live_vcpus--;
    if (vm->live_vcpus == 0)
        lifecycle_attend();
    spin_unlock(&vm->lock);
}

bool vm_destroy(struct vm *vm, char error[VM_ERROR_SIZE])
{
    if (vm->state == VM_STOPPED || vm->state == VM_STOPPING) {
        snprintf(error, VM_ERROR_SIZE, "'%s' is %s", vm->config.name, vm_state_name(vm));
        return false;
    }
    spin_lock(&vm->lock);
    vm_request_stop(vm, STOP_DESTROY, NULL);
    /* The administrator's word goes before a restart that is about to begin. */
    vm->stop_reason = STOP_DESTROY;
    spin_unlock(&vm->lock);
    return true;
}

bool vm_reset(struct vm *vm, char error[VM_ERROR_SIZE])
{
    if (!require(vm, vm->state == VM_RUNNING || vm->state == VM_PAUSED || vm->state == VM_CRASHED,
                 "running, paused or crashed", error))
        return false;
    spin_lock(&vm->lock);
    vm_request_stop(vm, STOP_RESET, NULL);
    spin_unlock(&vm->lock);
    return true;
}

static bool press_power_button(struct vm *vm, bool reboots, char error[VM_ERROR_SIZE])
{
    if (!require_running(vm, error))
        return false;
    if (vm_press_power_button(vm)) {
        vm->reboots = reboots;
        return true;
    }
    snprintf(error, VM_ERROR_SIZE, "'%s' does not listen to its power button, try '%s'",
             vm->config.name, reboots ? "reset" : "destroy");
    return false;
}

bool vm_shutdown(struct vm *vm, char error[VM_ERROR_SIZE])
{
    return press_power_button(vm, false, error);
}

bool vm_reboot(struct vm *vm, char error[VM_ERROR_SIZE])
{
    return press_power_button(vm, true, error);
}

bool vm_nmi(struct vm *vm, char error[VM_ERROR_SIZE])
{
    if (!require_running(vm, error))
        return false;
    vm->hang_due = 0;
    vm_raise_nmi(vm);
    return true;
}

static bool has_cpu(const struct partition_config *config)
{
    for (u32 i = 0; i < cpu_count && i < CONFIG_CPUS_MAX; i++)
        if (cpus[i]->hvm_on && (config->cpus[i / 64] & BIT(i % 64)))
            return true;
    return false;
}

bool vm_configure(struct vm *vm, const struct partition_config *config, char error[VM_ERROR_SIZE])
{
    const u64 *from = (const u64 *)config;
    u64 *to = (u64 *)&vm->config;

    if (vm->vcpus && !has_cpu(config)) {
        snprintf(error, VM_ERROR_SIZE, "cpus: this machine has none of these CPUs");
        return false;
    }
    for (size_t i = 0; i < sizeof(*config) / sizeof(u64); i++)
        __atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
    sched_config_changed(vm);
    return true;
}

bool vm_undefine(struct vm *vm, char error[VM_ERROR_SIZE])
{
    if (!require(vm, vm->state == VM_STOPPED && !vm->work.vm, "stopped", error))
        return false;
    tell(vm, VM_EVENT_UNDEFINE);
    guest_port_detach(vm);
    vm_delete(vm);
    return true;
}

bool vm_pause(struct vm *vm, char error[VM_ERROR_SIZE])
{
    if (!require_running(vm, error))
        return false;
    vm->state = VM_PAUSING;
    for (u32 i = 0; i < vm->vcpu_count; i++)
        vcpu_post(vm->vcpus[i], REQUEST_PARK);
    return true;
}

bool vm_resume(struct vm *vm, char error[VM_ERROR_SIZE])
{
    u64 paused;

    if (!require(vm, vm->state == VM_PAUSED && vm->stop_reason == STOP_NONE, "paused", error))
        return false;
    /* Its time stood still. */
    paused = rdtsc() - vm->paused_tsc;
    spin_lock(&vm->lock);
    vm->tsc_base += paused;
    vm->live_vcpus = vm->vcpu_count;
    vm->state = VM_RUNNING;
    for (u32 i = 0; i < vm->vcpu_count; i++) {
        vm->vcpus[i]->tsc_offset = vm_tsc_offset(vm, vm->vcpus[i]);
        vm->vcpus[i]->tsc_offset_stale = true;
        vm->vcpus[i]->timer_deadline = 0;
        vcpu_post(vm->vcpus[i], REQUEST_UNPARK);
    }
    spin_unlock(&vm->lock);
    return true;
}

static const char *stop_word(enum stop_reason reason)
{
    static const char *const words[] = {
        [STOP_NONE] = "stopped",  [STOP_DESTROY] = "destroyed", [STOP_POWEROFF] = "powered off",
        [STOP_EXIT] = "exited",   [STOP_REBOOT] = "reboots",    [STOP_RESET] = "is reset",
        [STOP_CRASH] = "crashed", [STOP_HANG] = "hung",
    };

    return words[reason];
}

/* What the configuration wants after this stop; ACTION_DESTROY for those it has no say in. */
static enum fault_action action_after(struct vm *vm, enum stop_reason reason)
{
    enum fault_action action;

    if (reason == STOP_REBOOT)
        return vm->config.on_reboot;
    if (reason == STOP_RESET || (reason == STOP_POWEROFF && vm->reboots))
        return ACTION_RESTART;
    if (reason != STOP_CRASH && reason != STOP_HANG)
        return ACTION_DESTROY;
    action = reason == STOP_CRASH ? vm->config.on_crash : vm->config.on_hang;
    if (action != ACTION_RESTART && action != ACTION_ROLLBACK)
        return action;
    if (rdtsc() - vm->start_tsc > host_ns_to_tsc(QUICK_CRASH_NS))
        vm->quick_crashes = 0;
    if (++vm->quick_crashes < QUICK_CRASHES_MAX)
        return action;
    log_error("'%s' %s %u times soon after its start: left stopped", vm->config.name,
              stop_word(reason), vm->quick_crashes);
    vm->quick_crashes = 0;
    return ACTION_DESTROY;
}

/* All vCPUs are parked, and there is a reason. */
static void decide(struct vm *vm)
{
    enum stop_reason reason = vm->stop_reason;
    enum fault_action action = action_after(vm, reason);

    log_info("'%s' %s", vm->config.name, stop_word(reason));
    if (reason == STOP_CRASH)
        tell(vm, VM_EVENT_CRASH);
    if (reason == STOP_EXIT)
        snprintf(vm->message, sizeof(vm->message), "exited with status %u", vm->exit_status);
    else if (reason != STOP_CRASH && reason != STOP_HANG)
        snprintf(vm->message, sizeof(vm->message), "%s",
                 reason == STOP_POWEROFF ? "powered off" : "");
    if (action == ACTION_PRESERVE) {
        vm->stop_reason = STOP_NONE;
        vm->state = VM_CRASHED;
        return;
    }
    /* There are no snapshots to roll back to: the start is what there is. */
    if (action == ACTION_RESTART || action == ACTION_ROLLBACK)
        vm->stop_reason = STOP_NONE;
    begin_work(vm, action == ACTION_DESTROY ? PHASE_TEARDOWN : PHASE_REZERO,
               action != ACTION_DESTROY);
}

/* ---- hangs ----------------------------------------------------------------------------------- */

void vm_suspect_hang(struct vm *vm)
{
    if (__atomic_load_n(&vm->hang_due, __ATOMIC_SEQ_CST) == 0)
        lifecycle_attend();
}

static bool is_hung(const struct vm *vm, u64 *guest_cycles)
{
    bool hung = vm->state == VM_RUNNING && vm->stop_reason == STOP_NONE;

    *guest_cycles = 0;
    for (u32 i = 0; hung && i < vm->vcpu_count; i++) {
        hung = vm->vcpus[i]->run_state == VCPU_BLOCKED && vm->vcpus[i]->deaf;
        *guest_cycles += vm->vcpus[i]->statistics.guest_cycles;
    }
    return hung && !machine_may_send_nmi(vm->machine);
}

static void hang(struct vm *vm)
{
    snprintf(vm->message, sizeof(vm->message), "hung: halted with interrupts off");
    log_warn("'%s' %s", vm->config.name, vm->message);
    tell(vm, VM_EVENT_HANG);
    if (vm->config.on_hang == ACTION_PRESERVE)
        return;
    spin_lock(&vm->lock);
    vm_request_stop(vm, STOP_HANG, NULL);
    spin_unlock(&vm->lock);
}

static void look_for_hang(struct vm *vm)
{
    u64 due = vm->hang_due, now = rdtsc(), guest_cycles;

    if (due <= now) {
        /* First: a vCPU that blocks from here on calls. */
        __atomic_exchange_n(&vm->hang_due, 0, __ATOMIC_SEQ_CST);
        if (!is_hung(vm, &guest_cycles))
            return;
        if (due != 0 && guest_cycles == vm->hang_cycles) {
            vm->hang_due = UINT64_MAX;
            hang(vm);
            return;
        }
        vm->hang_cycles = guest_cycles;
        vm->hang_due = due = now + host_ns_to_tsc(HANG_NS);
    }
    next_look = MIN(next_look, due);
}

u64 lifecycle_deadline(void)
{
    return next_look;
}

static void look_at(struct vm *vm)
{
    bool parked;

    vm_grow_console(vm);
    look_for_hang(vm);
    spin_lock(&vm->lock);
    parked = vm->live_vcpus == 0;
    spin_unlock(&vm->lock);
    if (!parked || vm->work.vm || vm->state == VM_STOPPED)
        return;
    if (vm->stop_reason != STOP_NONE) {
        decide(vm);
    } else if (vm->state == VM_PAUSING) {
        vm->paused_tsc = rdtsc();
        vm->state = VM_PAUSED;
    }
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void (*const steps[])(struct lifecycle_work *work) = {
    [PHASE_VCPUS] = step_vcpus, [PHASE_MEMORY] = step_memory, [PHASE_REZERO] = step_rezero,
    [PHASE_PLAN] = step_plan,   [PHASE_COPY] = step_copy,     [PHASE_FINISH] = step_finish,
    [PHASE_BOARD] = step_board, [PHASE_LAUNCH] = step_launch, [PHASE_TEARDOWN] = step_teardown,
};

/* In the partition's own address space, but for teardown, which takes that away. */
static void step_one(struct lifecycle_work *work)
{
    struct vm *vm = work->vm;

    if (vm->stop_reason == STOP_DESTROY && work->phase != PHASE_TEARDOWN) {
        work->phase = PHASE_TEARDOWN;
        vm->state = VM_STOPPING;
    }
    if (work->phase == PHASE_TEARDOWN) {
        step_teardown(work);
        return;
    }
    write_cr3(vm->memory.host.root);
    steps[work->phase](work);
    write_cr3(host_space_root());
}

bool lifecycle_step(void)
{
    struct lifecycle_work *work;
    struct vm *vm;

    if (__atomic_exchange_n(&attention, false, __ATOMIC_ACQ_REL) || rdtsc() >= next_look) {
        next_look = UINT64_MAX;
        for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm))
            look_at(vm);
    }
    if (list_empty(&works))
        return false;
    work = LIST_ENTRY(works.next, struct lifecycle_work, node);
    vm = work->vm;
    /* Each in turn. */
    list_remove(&work->node);
    list_append(&works, &work->node);
    step_one(work);
    sched_charge(this_cpu(), &vm->retired.host_cycles);
    return true;
}
