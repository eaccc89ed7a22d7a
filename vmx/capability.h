/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_VMX_CAPABILITY_H
#define BULKHEAD_VMX_CAPABILITY_H

/* What the CPUs can do, by name (SDM volume 3, appendix A, "VMX Capability Reporting
 * Facility"). */

#include "core/hvm.h"

/* Where a feature's bit is: the five control fields and IA32_VMX_EPT_VPID_CAP. */
enum capability_word {
    WORD_PIN,
    WORD_PRIMARY,
    WORD_SECONDARY,
    WORD_EXIT,
    WORD_ENTRY,
    WORD_EPT_VPID,
    WORD_COUNT,
    WORD_CONTROL_COUNT = WORD_EPT_VPID,
};

/* What this hypervisor uses, on all CPUs alike. Written by vmx_probe only. */
struct vmx_used {
    u64 words[WORD_COUNT];    /* initial values of the control fields; features used */
    u32 revision;             /* of a VMCS */
    u32 timer_shift;          /* the preemption timer counts TSC ticks divided by 2^this */
    u64 cr0_fixed, cr4_fixed; /* bits that must be 1 while the CPU is in VMX operation */
};

extern struct vmx_used vmx_used;

/* hvm_ops.probe */
bool vmx_probe(struct hvm_report *report);

/* Checks that this CPU has all that vmx_probe found on the boot CPU, and enables VMXON where
 * firmware left it open. False after logging what is missing. */
bool vmx_check_cpu(u32 index);

#endif
