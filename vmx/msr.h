/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_VMX_MSR_H
#define BULKHEAD_VMX_MSR_H

/* MSRs that the VT-x backend touches or lets a guest touch (SDM volume 4). */
enum msr {
    MSR_TSC = 0x10,
    MSR_FEATURE_CONTROL = 0x3A,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_PAT = 0x277,
    MSR_VMX_BASIC = 0x480,
    MSR_VMX_PINBASED_CTLS = 0x481,
    MSR_VMX_PROCBASED_CTLS = 0x482,
    MSR_VMX_EXIT_CTLS = 0x483,
    MSR_VMX_ENTRY_CTLS = 0x484,
    MSR_VMX_MISC = 0x485,
    MSR_VMX_CR0_FIXED0 = 0x486,
    MSR_VMX_CR4_FIXED0 = 0x488,
    MSR_VMX_PROCBASED_CTLS2 = 0x48B,
    MSR_VMX_EPT_VPID_CAP = 0x48C,
    MSR_VMX_TRUE_PINBASED_CTLS = 0x48D,
    MSR_VMX_TRUE_PROCBASED_CTLS = 0x48E,
    MSR_VMX_TRUE_EXIT_CTLS = 0x48F,
    MSR_VMX_TRUE_ENTRY_CTLS = 0x490,
};

#define MSR_EFER           0xC0000080U
#define MSR_STAR           0xC0000081U
#define MSR_LSTAR          0xC0000082U
#define MSR_CSTAR          0xC0000083U
#define MSR_FMASK          0xC0000084U
#define MSR_FS_BASE        0xC0000100U
#define MSR_GS_BASE        0xC0000101U
#define MSR_KERNEL_GS_BASE 0xC0000102U
#define MSR_TSC_AUX        0xC0000103U

#endif
