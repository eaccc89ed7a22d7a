/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_MITIGATIONS_H
#define BULKHEAD_CORE_MITIGATIONS_H

/* What speculative execution of this CPU betrays to guests, by what the CPU says of itself, and
 * what is done against it.
 *
 * Sources: Intel SDM volume 4, "Architectural MSRs" (IA32_SPEC_CTRL, IA32_PRED_CMD,
 * IA32_FLUSH_CMD, IA32_ARCH_CAPABILITIES) and volume 2, CPUID leaf 7; Intel, "CPUID Enumeration and
 * Architectural MSRs", "Post-barrier Return Stack Buffer Predictions", "Retpoline: A Branch Target
 * Injection Mitigation"; AMD APM volume 2, "Speculation Control MSRs" and volume 3, appendix E
 * (Fn8000_0008 EBX, Fn8000_0021); AMD, "Software Techniques for Managing Speculation on AMD
 * Processors", "Technical Guidance for Mitigating Transient Scheduler Attacks". */

#include "lib/types.h"

/* What a guest might do, and to whom. */
enum weakness {
    WEAKNESS_GUESTS = 1 << 0,  /* steer indirect branches of another guest (Spectre variant 2) */
    WEAKNESS_HOST = 1 << 1,    /* the same, of the hypervisor */
    WEAKNESS_RETURNS = 1 << 2, /* the same with returns: the CPU keeps the guest's addresses */
    WEAKNESS_L1TF = 1 << 3,
    WEAKNESS_MDS = 1 << 4,
    WEAKNESS_TAA = 1 << 5,
    WEAKNESS_RFDS = 1 << 6,
    WEAKNESS_TSA = 1 << 7,
    WEAKNESS_BHI = 1 << 8,
};

enum mitigation {
    MITIGATION_IBPB = 1 << 0,         /* when a CPU goes from one partition to another */
    MITIGATION_RSB = 1 << 1,          /* fill the return stack buffer behind an exit */
    MITIGATION_VERW = 1 << 2,         /* empty the CPU's buffers before each entry */
    MITIGATION_L1D_FLUSH = 1 << 3,    /* empty the L1 data cache before entries by the scheduler */
    MITIGATION_IBRS_AT_EXIT = 1 << 4, /* set IBRS behind each exit and clear it before each entry */
    MITIGATION_IBRS_ALWAYS = 1 << 5,  /* set IBRS once */
    MITIGATION_AUTO_IBRS = 1 << 6,    /* the same in EFER (AMD) */
    MITIGATION_BHI_DIS_S = 1 << 7,    /* no branch history of guests in host mode */
};

#define MITIGATIONS_AT_ENTRY (MITIGATION_VERW | MITIGATION_L1D_FLUSH | MITIGATION_IBRS_AT_EXIT)

/* `mitigations=` on the command line. */
enum mitigation_mode {
    MITIGATIONS_AUTO,
    MITIGATIONS_OFF,
    MITIGATIONS_FORCE, /* whatever the CPU is able to, needed or not: for tests */
};

/* Registers as CPUID gives them; 0 where the CPU lacks the leaf or the MSR. */
struct speculation_facts {
    char vendor[13];
    u32 leaf_7_ebx, leaf_7_edx, leaf_7_2_edx;
    u64 arch_capabilities;
    u32 leaf_80000008_ebx;
    u32 leaf_80000021_eax, leaf_80000021_ecx;
};

struct mitigations {
    u32 affected;  /* enum weakness */
    u32 used;      /* enum mitigation */
    u32 spec_ctrl; /* IA32_SPEC_CTRL in host mode; 0: is not written */
};

/* What all CPUs do. Written by the boot CPU before the others start, read-only afterwards. */
extern struct mitigations mitigations;

/* Asks the calling CPU. */
struct speculation_facts speculation_facts(void);

/* Pure. */
struct mitigations mitigations_choose(const struct speculation_facts *facts,
                                      enum mitigation_mode mode);

/* The names of `affected`, of `used` and of the weaknesses that nothing used counters, each in one
 * line with commas between them. */
#define MITIGATIONS_TEXT_SIZE 128
struct mitigations_text {
    char affected[MITIGATIONS_TEXT_SIZE];
    char used[MITIGATIONS_TEXT_SIZE];
    char open[MITIGATIONS_TEXT_SIZE];
};
void mitigations_describe(const struct mitigations *chosen, struct mitigations_text *text);

/* Does on the calling CPU what is done once. False, and nothing is done, where this CPU lacks what
 * the others use. */
bool mitigations_enable(void);

/* The partition that will run on the calling CPU is not the one that ran there last. */
void mitigations_change_partition(void);

#endif
