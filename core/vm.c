/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/vm.h"

#include "core/cpuid.h"
#include "core/host.h"
#include "core/lifecycle.h"
#include "core/pv.h"
#include "core/sched.h"
#include "core/vm_parts.h"
#include "core/xstate.h"
#include "lib/string.h"
#include "mm/pool.h"

static struct list vms = LIST_INIT(vms);

struct vm *vm_next(const struct vm *vm)
{
    const struct list *next = vm ? vm->node.next : vms.next;

    return next == &vms ? NULL : LIST_ENTRY(next, struct vm, node);
}

struct vm *vm_find(const char *name)
{
    for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm))
        if (strcmp(vm->config.name, name) == 0)
            return vm;
    return NULL;
}

/* Running, but all of its vCPUs wait for something. */
static bool is_blocked(const struct vm *vm)
{
    for (u32 i = 0; i < vm->vcpu_count; i++)
        if (vm->vcpus[i]->run_state != VCPU_BLOCKED)
            return false;
    return true;
}

const char *vm_state_name(const struct vm *vm)
{
    static const char *const names[] = {
        [VM_STOPPED] = "stopped", [VM_STARTING] = "starting", [VM_RUNNING] = "running",
        [VM_PAUSING] = "pausing", [VM_PAUSED] = "paused",     [VM_STOPPING] = "stopping",
        [VM_CRASHED] = "crashed",
    };

    return vm->state == VM_RUNNING && is_blocked(vm) ? "blocked" : names[vm->state];
}

struct vm *vm_create(const struct partition_config *config, char error[VM_ERROR_SIZE])
{
    static u64 serial;
    struct vm *vm;

    if (vm_find(config->name)) {
        snprintf(error, VM_ERROR_SIZE, "there is a partition '%s' already", config->name);
        return NULL;
    }
    vm = pool_alloc(VM_PAGES);
    if (!vm) {
        snprintf(error, VM_ERROR_SIZE, "no memory for partition '%s'", config->name);
        return NULL;
    }
    vm->serial = ++serial;
    vm->config = *config;
    vm->hypervisor_pages = VM_PAGES;
    list_append(&vms, &vm->node);
    return vm;
}

void vm_delete(struct vm *vm)
{
    list_remove(&vm->node);
    console_free(&vm->console);
    pool_free(vm, VM_PAGES);
}

void *vm_alloc(struct vm *vm, u64 pages)
{
    void *part = pool_alloc(pages);

    if (part)
        vm->hypervisor_pages += pages;
    return part;
}

void vm_free(struct vm *vm, void *part, u64 pages)
{
    if (part)
        vm->hypervisor_pages -= pages;
    pool_free(part, pages);
}

static u64 pages_of(u64 size)
{
    return DIV_ROUND_UP(size, PAGE_SIZE);
}

/* A vCPU and behind it, in lines of the cache of its own, what the backend keeps for it. */
static u64 vcpu_own_size(void)
{
    return ALIGN_UP(sizeof(struct vcpu), CACHE_LINE_SIZE);
}

static u64 vcpu_size(void)
{
    return vcpu_own_size() + ALIGN_UP(host.hvm->vcpu_size, CACHE_LINE_SIZE);
}

/* What a small partition has lies together: its first vCPU, the table of all, and the machine,
 * whose LAPICs begin the next page. */
static u64 parts_before_lapics(u32 count)
{
    return ALIGN_UP(vcpu_size() + count * sizeof(struct vcpu *) + offsetof(struct machine, lapics),
                    PAGE_SIZE);
}

static u64 parts_pages(u32 count)
{
    return parts_before_lapics(count) / PAGE_SIZE + count * pages_of(sizeof(struct lapic));
}

/* The LAPICs are zeroed with their vCPUs: for many it takes long. */
static bool make_shared_parts(struct vm *vm, u32 count)
{
    u8 *parts = pool_alloc_dirty(parts_pages(count));

    if (!parts)
        return false;
    vm->hypervisor_pages += parts_pages(count);
    memset(parts, 0, parts_before_lapics(count));
    vm->parts = parts;
    vm->vcpus = (struct vcpu **)(parts + vcpu_size());
    vm->machine =
        (struct machine *)(parts + parts_before_lapics(count) - offsetof(struct machine, lapics));
    return true;
}

/* In the LAPIC's page, unless the CPU has more state than that has room for. */
static void *make_xsave_area(struct vm *vm, struct lapic *lapic)
{
    if (host.features.xsave_size <= sizeof(lapic->spare))
        return lapic->spare;
    return vm_alloc(vm, pages_of(host.features.xsave_size));
}

bool vm_make_vcpu(struct vm *vm)
{
    u32 index = vm->vcpu_count;
    struct cpu *cpu = sched_place(vm);
    struct vcpu *vcpu;

    if (!cpu)
        return false;
    vcpu = index == 0 ? vm->parts : vm_alloc(vm, pages_of(vcpu_size()));
    if (!vcpu)
        return false;
    vm->vcpus[index] = vcpu;
    vm->vcpu_count = index + 1;
    vcpu->vm = vm;
    vcpu->hvm = (struct hvm_vcpu *)((u8 *)vcpu + vcpu_own_size());
    vcpu->index = index;
    vcpu->lapic = &vm->machine->lapics[index];
    memset(vcpu->lapic, 0, sizeof(*vcpu->lapic));
    vcpu->code.linear = GUEST_CODE_NOWHERE;
    list_init(&vcpu->mail);
    list_init(&vcpu->run);
    vcpu->xsave_area = make_xsave_area(vm, vcpu->lapic);
    vcpu->cpu = cpu;
    if (!vcpu->xsave_area || !host.hvm->vcpu_init(vcpu))
        return false;
    vcpu->hvm_ready = true;
    __atomic_fetch_add(&vcpu->cpu->vcpu_count, 1, __ATOMIC_RELAXED);
    return true;
}

bool vm_make_parts(struct vm *vm)
{
    u32 count = vm->config.vcpus;

    vm->vcpu_limit = count;
    vm->pv = vm->config.pv & (host.report.virtual_apic ? ~PV_EOI : ~0);
    vm->tsc_hz = vm->config.tsc_mhz ? vm->config.tsc_mhz * 1000000UL : host.tsc_hz;
    vm->tsc_ratio = vm->config.tsc_mhz ? mul_div(vm->tsc_hz, BIT(TSC_RATIO_BITS), host.tsc_hz) : 0;
    if (!guest_memory_init(&vm->memory, vm->config.memory, host.hvm->nested_format,
                           host.report.nested_large_sizes))
        return false;
    if (!console_prepare(&vm->console))
        return false;
    if (!make_shared_parts(vm, count))
        return false;
    cpuid_policy_init(&vm->cpuid, count, vm->tsc_hz, pv_features(vm));
    return true;
}

static void free_vcpu(struct vm *vm, struct vcpu *vcpu)
{
    sched_forget(vcpu);
    if (vcpu->hvm_ready) {
        __atomic_fetch_sub(&vcpu->cpu->vcpu_count, 1, __ATOMIC_RELAXED);
        host.hvm->vcpu_free(vcpu);
    }
    statistics_add(&vm->retired, &vcpu->statistics);
    if (vcpu->xsave_area != vcpu->lapic->spare)
        vm_free(vm, vcpu->xsave_area, pages_of(host.features.xsave_size));
    vm_free(vm, vcpu->capture, 1);
    if (vcpu->index > 0)
        vm_free(vm, vcpu, pages_of(vcpu_size()));
}

bool vm_free_parts(struct vm *vm)
{
    bool done = vm->vcpu_count == 0;

    spin_lock(&vm->lock);
    if (done) {
        vm_free(vm, vm->parts, parts_pages(vm->vcpu_limit));
        vm->parts = NULL;
        vm->vcpus = NULL;
        vm->machine = NULL;
    } else {
        free_vcpu(vm, vm->vcpus[--vm->vcpu_count]);
    }
    spin_unlock(&vm->lock);
    return done;
}

static void reset_msrs(struct vcpu *vcpu)
{
    /* What firmware leaves: MTRRs on, write-back (SDM volume 3, "IA32_MTRR_DEF_TYPE MSR"). */
    vcpu->msrs = (struct vcpu_msrs){.mtrr_def_type = BIT(11) | 6};
}

void vm_reset_vcpu(struct vcpu *vcpu)
{
    if (vcpu->index != 0)
        vcpu_state_reset(&vcpu->start_state, false);
    vcpu->activity = vcpu->index == 0 ? ACTIVITY_ACTIVE : ACTIVITY_WAIT_FOR_SIPI;
    vcpu->start_pending = true;
    vcpu->tsc_offset = vm_tsc_offset(vcpu->vm, vcpu);
    vcpu->tsc_offset_stale = true;
    vcpu->timer_deadline = 0;
    vcpu->requests = 0;
    reset_msrs(vcpu);
    xstate_reset(vcpu);
}
