/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/pv.h"

#include "core/host.h"
#include "core/vcpu_run.h"
#include "core/vm.h"
#include "drivers/cpu.h"
#include "lib/arith.h"

#define NS_PER_SECOND 1000000000ULL
#define ENABLE        BIT(0)
#define CLOCK_ALIGN   4
#define STEAL_ALIGN   64
#define EOI_ALIGN     4
#define TSC_STABLE    1 /* flags of the clock: one for all vCPUs */

struct kvm_wall_clock {
    u32 version, seconds, nanoseconds;
};

/* Nanoseconds: system_time + (TSC - tsc_timestamp) * 2^tsc_shift * tsc_to_system_mul / 2^32. */
struct kvm_clock {
    u32 version, reserved0;
    u64 tsc_timestamp, system_time;
    u32 tsc_to_system_mul;
    s8 tsc_shift;
    u8 flags;
    u8 reserved1[2];
} __attribute__((packed, aligned(CLOCK_ALIGN)));

struct kvm_steal_time {
    u64 steal; /* ns */
    u32 version, flags;
    u8 preempted;
    u8 reserved[47];
};

_Static_assert(sizeof(struct kvm_wall_clock) == 12, "msr.rst");
_Static_assert(sizeof(struct kvm_clock) == 32, "msr.rst");
_Static_assert(sizeof(struct kvm_steal_time) == 64, "msr.rst");

u32 pv_features(const struct vm *vm)
{
    u32 features = 0;

    if (vm->pv & PV_CLOCK)
        features |= KVM_FEATURE_CLOCKSOURCE2 | KVM_FEATURE_CLOCKSOURCE_STABLE;
    if (vm->pv & PV_STEAL_TIME)
        features |= KVM_FEATURE_STEAL_TIME;
    if (vm->pv & PV_EOI)
        features |= KVM_FEATURE_PV_EOI;
    return features ? features | KVM_FEATURE_NOP_IO_DELAY : 0;
}

/* The guest reads again while `version` is odd or has changed; only one vCPU's CPU writes. */
static void begin_update(u32 *version)
{
    __atomic_store_n(version, (*version | 1), __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void end_update(u32 *version)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(version, (*version | 1) + 1, __ATOMIC_RELAXED);
}

static void *guest_struct(const struct vcpu *vcpu, u64 gpa, u64 size)
{
    return guest_ram_at(&vcpu->vm->memory.ram, gpa, size);
}

/* Multiplier and shift for a clock of `hz`, the multiplier with all of its 32 bits. */
static void set_rate(struct kvm_clock *clock, u64 hz)
{
    clock->tsc_shift = 0;
    for (; hz > 2 * NS_PER_SECOND; hz /= 2)
        clock->tsc_shift--;
    for (; hz <= NS_PER_SECOND; hz *= 2)
        clock->tsc_shift++;
    clock->tsc_to_system_mul = (u32)mul_div(NS_PER_SECOND, BIT(32), hz);
}

/* It counts machine time, as the TSC does: all that can ever change is the TSC. */
static bool write_clock(const struct vcpu *vcpu, u64 msr)
{
    struct kvm_clock *clock = guest_struct(vcpu, msr & ~ENABLE, sizeof(*clock));

    if (!(msr & ENABLE))
        return true;
    if (!clock || (msr & (CLOCK_ALIGN - 1) & ~ENABLE))
        return false;
    begin_update(&clock->version);
    clock->tsc_timestamp = vcpu->lapic->tsc_adjust;
    clock->system_time = 0;
    set_rate(clock, vcpu->vm->tsc_hz);
    clock->flags = TSC_STABLE;
    end_update(&clock->version);
    return true;
}

/* The date at which the KVM clock was 0. */
static bool write_wall_clock(const struct vcpu *vcpu, u64 gpa)
{
    struct vm *vm = vcpu->vm;
    u64 ran = mul_div(vm_scale_tsc(vm, rdtsc() - vm->tsc_base), NS_PER_SECOND, vm->tsc_hz);
    u64 date = host.boot_unix_seconds * NS_PER_SECOND + host_uptime_ns() - ran;
    struct kvm_wall_clock *clock = guest_struct(vcpu, gpa, sizeof(*clock));

    if (!clock || gpa % CLOCK_ALIGN != 0)
        return false;
    begin_update(&clock->version);
    clock->seconds = (u32)(date / NS_PER_SECOND);
    clock->nanoseconds = date % NS_PER_SECOND;
    end_update(&clock->version);
    return true;
}

static bool write_steal_time(const struct vcpu *vcpu, u64 msr)
{
    struct kvm_steal_time *steal = guest_struct(vcpu, msr & ~ENABLE, sizeof(*steal));

    if (!(msr & ENABLE))
        return true;
    if (!steal || (msr & (STEAL_ALIGN - 1) & ~ENABLE))
        return false;
    begin_update(&steal->version);
    steal->steal = mul_div(vcpu->statistics.steal_cycles, NS_PER_SECOND, host.tsc_hz);
    end_update(&steal->version);
    return true;
}

/* Bit 0: an interrupt is in service that the guest may end by clearing it. */
static u32 *eoi_flag(const struct vcpu *vcpu, u64 msr)
{
    return msr & ENABLE ? guest_struct(vcpu, msr & ~ENABLE, sizeof(u32)) : NULL;
}

static bool write_eoi(const struct vcpu *vcpu, u64 msr)
{
    return !(msr & ENABLE) || (eoi_flag(vcpu, msr) && !(msr & (EOI_ALIGN - 1) & ~ENABLE));
}

static const struct {
    enum pv_offer offer; /* 0: no MSR */
    bool (*write)(const struct vcpu *vcpu, u64 value);
} msrs[KVM_MSRS] = {
    [MSR_KVM_WALL_CLOCK_NEW - MSR_KVM_FIRST] = {PV_CLOCK,      write_wall_clock},
    [MSR_KVM_SYSTEM_TIME_NEW - MSR_KVM_FIRST] = {PV_CLOCK,      write_clock     },
    [MSR_KVM_STEAL_TIME - MSR_KVM_FIRST] = {PV_STEAL_TIME, write_steal_time},
    [MSR_KVM_PV_EOI - MSR_KVM_FIRST] = {PV_EOI,        write_eoi       },
};

bool pv_read_msr(struct vcpu *vcpu, u32 index, u64 *value)
{
    u32 i = index - MSR_KVM_FIRST;

    *value = vcpu->msrs.kvm[i];
    return vcpu->vm->pv & msrs[i].offer;
}

bool pv_write_msr(struct vcpu *vcpu, u32 index, u64 value)
{
    u32 i = index - MSR_KVM_FIRST;

    if (!(vcpu->vm->pv & msrs[i].offer) || !msrs[i].write(vcpu, value))
        return false;
    if (index == MSR_KVM_PV_EOI && pv_take_eoi(vcpu))
        vcpu_end_interrupt(vcpu);
    vcpu->msrs.kvm[i] = value;
    return true;
}

void pv_tsc_changed(struct vcpu *vcpu)
{
    write_clock(vcpu, vcpu->msrs.kvm[MSR_KVM_SYSTEM_TIME_NEW - MSR_KVM_FIRST]);
}

void pv_turn(struct vcpu *vcpu)
{
    u64 msr = vcpu->msrs.kvm[MSR_KVM_STEAL_TIME - MSR_KVM_FIRST];

    if (msr & ENABLE)
        write_steal_time(vcpu, msr);
}

void pv_offer_eoi(struct vcpu *vcpu)
{
    u32 *flag = eoi_flag(vcpu, vcpu->msrs.kvm[MSR_KVM_PV_EOI - MSR_KVM_FIRST]);

    if (!flag)
        return;
    __atomic_store_n(flag, 1, __ATOMIC_RELAXED);
    vcpu->msrs.eoi_offered = true;
}

bool pv_take_eoi(struct vcpu *vcpu)
{
    u32 *flag = eoi_flag(vcpu, vcpu->msrs.kvm[MSR_KVM_PV_EOI - MSR_KVM_FIRST]);

    if (!vcpu->msrs.eoi_offered)
        return false;
    vcpu->msrs.eoi_offered = false;
    return flag && !(__atomic_exchange_n(flag, 0, __ATOMIC_RELAXED) & 1);
}
