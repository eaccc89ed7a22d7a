/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_PV_H
#define BULKHEAD_CORE_PV_H

/* What stock Linux knows of KVM and is offered beside our own leaves: the KVM clock, steal time and
 * an EOI without an exit (Linux, Documentation/virt/kvm/x86: cpuid.rst, msr.rst). The guest chooses
 * where in its memory they are kept; addresses that are no RAM of its are refused. */

#include "core/vcpu.h"

#define CPUID_KVM 0x40000100

/* Leaf CPUID_KVM + 1, EAX. */
enum kvm_feature {
    KVM_FEATURE_NOP_IO_DELAY = 1 << 1, /* port 80h need not be written to slow down: each exits */
    KVM_FEATURE_CLOCKSOURCE2 = 1 << 3,
    KVM_FEATURE_STEAL_TIME = 1 << 5,
    KVM_FEATURE_PV_EOI = 1 << 6,
    KVM_FEATURE_CLOCKSOURCE_STABLE = 1 << 24,
};

enum kvm_msr {
    MSR_KVM_FIRST = 0x4B564D00,
    MSR_KVM_WALL_CLOCK_NEW = MSR_KVM_FIRST,
    MSR_KVM_SYSTEM_TIME_NEW,
    MSR_KVM_ASYNC_PF,
    MSR_KVM_STEAL_TIME,
    MSR_KVM_PV_EOI,
};

/* The features that the partition is offered; 0: not even the leaves. */
u32 pv_features(const struct vm *vm);

/* For core/msr.c: false where the MSR must fault. The vCPU is being served. */
bool pv_read_msr(struct vcpu *vcpu, u32 index, u64 *value);
bool pv_write_msr(struct vcpu *vcpu, u32 index, u64 value);

/* The guest has changed its TSC: the KVM clock goes on as before. The vCPU is being served. */
void pv_tsc_changed(struct vcpu *vcpu);

/* A turn of the vCPU begins: tells it how long it has waited. Its memory is mapped. */
void pv_turn(struct vcpu *vcpu);

/* The end of an interrupt without an exit: has the guest set up a flag for it in its memory? Then
 * pv_offer_eoi lets it end the only interrupt in service, an edge with no other behind it, by
 * clearing that. pv_take_eoi: has it done so? Either way the offer is over; who is to see or to
 * change what is in service, or delivers another, asks first. The vCPU is being served. */
static inline bool pv_eoi_wanted(const struct vcpu *vcpu)
{
    return vcpu->msrs.kvm[MSR_KVM_PV_EOI - MSR_KVM_FIRST] != 0;
}

void pv_offer_eoi(struct vcpu *vcpu);
bool pv_take_eoi(struct vcpu *vcpu);

#endif
