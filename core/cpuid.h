/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_CPUID_H
#define BULKHEAD_CORE_CPUID_H

/* What a partition's CPUID answers: worked out once when it starts, looked up at each exit. */

#include "core/vcpu.h"
#include "drivers/cpu.h"

#define CPUID_BASIC_MAX      0xD
#define CPUID_EXTENDED_MAX   0x8
#define CPUID_HYPERVISOR     0x40000000
#define CPUID_HYPERVISOR_MAX 0x10
#define CPUID_CACHE_LEAVES   5  /* subleaves of leaf 4, the terminating one included */
#define CPUID_XSAVE_LEAVES   10 /* subleaves of leaf Dh up to PKRU's */

struct cpuid_policy {
    u32 basic_max, extended_max;
    struct cpuid_result basic[CPUID_BASIC_MAX + 1];
    struct cpuid_result extended[CPUID_EXTENDED_MAX + 1];
    struct cpuid_result hypervisor[CPUID_HYPERVISOR_MAX + 1];
    struct cpuid_result kvm[2]; /* from CPUID_KVM on */
    struct cpuid_result cache[CPUID_CACHE_LEAVES];
    struct cpuid_result xsave[CPUID_XSAVE_LEAVES];
    u64 cr4_allowed, cr4_withheld, efer_allowed;
};

/* vcpu_fast_cpuid (core/hvm.h) answers by it. `kvm_features` are pv_features'. */
void cpuid_policy_init(struct cpuid_policy *policy, u32 vcpu_count, u64 tsc_hz, u32 kvm_features);

#endif
