/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_SVM_MSR_H
#define BULKHEAD_SVM_MSR_H

/* MSRs that the backend names (AMD APM volume 2, appendix A). */
enum svm_msr {
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_STATUS = 0x17A,
    MSR_EFER = 0xC0000080,
    MSR_STAR = 0xC0000081,
    MSR_LSTAR = 0xC0000082,
    MSR_CSTAR = 0xC0000083,
    MSR_SFMASK = 0xC0000084,
    MSR_FS_BASE = 0xC0000100,
    MSR_GS_BASE = 0xC0000101,
    MSR_KERNEL_GS_BASE = 0xC0000102,
    MSR_TSC_AUX = 0xC0000103,
    MSR_TSC_RATIO = 0xC0000104,
    MSR_VM_CR = 0xC0010114,
    MSR_VM_HSAVE_PA = 0xC0010117,
};

#endif
