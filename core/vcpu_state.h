/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_VCPU_STATE_H
#define BULKHEAD_CORE_VCPU_STATE_H

/* The architectural state of a vCPU in neutral terms, without pointers: what loaders produce,
 * backends load and save, and snapshots keep. The vector state (XSAVE area) lies beside it. */

#include "lib/types.h"

enum gpr {
    GPR_RAX,
    GPR_RCX,
    GPR_RDX,
    GPR_RBX,
    GPR_RSP,
    GPR_RBP,
    GPR_RSI,
    GPR_RDI,
    GPR_R8,
    GPR_R9,
    GPR_R10,
    GPR_R11,
    GPR_R12,
    GPR_R13,
    GPR_R14,
    GPR_R15,
    GPR_COUNT,
};

/* In the order of the instruction encoding, then the system segments. */
enum segment_register {
    SEG_ES,
    SEG_CS,
    SEG_SS,
    SEG_DS,
    SEG_FS,
    SEG_GS,
    SEG_LDTR,
    SEG_TR,
    SEG_COUNT,
};

/* Attributes as in bytes 5 and 6 of a descriptor: type 3:0, S 4, DPL 6:5, P 7, AVL 8, L 9,
 * D/B 10, G 11. */
enum segment_attribute {
    SEG_ATTR_TYPE_MASK = 0xF,
    SEG_ATTR_S = 1 << 4,
    SEG_ATTR_DPL_SHIFT = 5,
    SEG_ATTR_P = 1 << 7,
    SEG_ATTR_L = 1 << 9,
    SEG_ATTR_DB = 1 << 10,
    SEG_ATTR_G = 1 << 11,
    SEG_ATTR_UNUSABLE = 1 << 12, /* a null selector was loaded */
};

struct segment {
    u64 base;
    u32 limit; /* in bytes, whatever G says */
    u16 selector;
    u16 attributes;
};

struct descriptor_table {
    u64 base;
    u16 limit;
};

enum vcpu_activity {
    ACTIVITY_ACTIVE,
    ACTIVITY_HALTED,
    ACTIVITY_WAIT_FOR_SIPI,
};

enum interruptibility {
    BLOCKED_BY_STI = 1 << 0,
    BLOCKED_BY_MOV_SS = 1 << 1,
    BLOCKED_BY_NMI = 1 << 3,
};

struct vcpu_state {
    u64 gpr[GPR_COUNT];
    u64 rip;
    u64 rflags;
    u64 cr0, cr2, cr3, cr4, cr8;
    u64 dr[4], dr6, dr7;
    struct segment segments[SEG_COUNT];
    struct descriptor_table gdtr, idtr;
    u64 efer, star, lstar, cstar, fmask, kernel_gs_base;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 pat, debugctl, tsc_aux, xcr0, xss;
    u32 interruptibility; /* enum interruptibility */
    u32 activity;         /* enum vcpu_activity */
};

/* The state after RESET, or after INIT when `init` (SDM volume 3, table "IA-32 and Intel 64
 * Processor States Following Power-up, Reset, or INIT"). What INIT preserves stays. Either way the
 * vCPU is active: the caller sets ACTIVITY_WAIT_FOR_SIPI where it is not the boot processor. */
void vcpu_state_reset(struct vcpu_state *state, bool init);

/* Real-mode start at `vector` << 12, on top of the state after INIT, which it does not set. */
void vcpu_state_sipi(struct vcpu_state *state, u8 vector);

/* Flat segments as boot protocols ask for: 64-bit code (CS 10h, DS 18h) or 32-bit protected mode
 * without paging (the same selectors). The rest is as after RESET. */
void vcpu_state_flat64(struct vcpu_state *state, u64 rip, u64 cr3);
void vcpu_state_flat32(struct vcpu_state *state, u32 eip);

#endif
