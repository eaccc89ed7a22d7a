/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "core/vcpu_state.h"

#include "lib/string.h"

enum {
    CR0_PE = 1 << 0,
    CR0_ET = 1 << 4,
    CR0_NE = 1 << 5,
    CR0_NW = 1 << 29,
    CR0_CD = 1 << 30,
    CR4_PAE = 1 << 5,
    EFER_LME = 1 << 8,
    EFER_LMA = 1 << 10,
    RFLAGS_RESERVED_1 = 1 << 1,
    XCR0_X87 = 1 << 0,
};

#define CR0_PG        BIT(31)
#define DR6_RESET     0xFFFF0FF0ULL
#define DR7_RESET     0x400ULL
#define PAT_RESET     0x0007040600070406ULL
#define RESET_RIP     0xFFF0ULL
#define RESET_CS      0xF000
#define RESET_CS_BASE 0xFFFF0000ULL
#define RESET_RDX     0x600ULL /* family 6; model and stepping are CPUID's to tell */
#define REAL_LIMIT    0xFFFF
#define FLAT_LIMIT    0xFFFFFFFFU
#define FLAT_CODE     0x10
#define FLAT_DATA     0x18

/* Types of code, data and system descriptors (SDM volume 3, tables 3-1 and 3-2). */
enum descriptor_type {
    TYPE_LDT = 2,
    TYPE_DATA_RW_ACCESSED = 3,
    TYPE_TSS_BUSY = 11,
    TYPE_CODE_RX_ACCESSED = 11,
};

enum {
    ATTR_REAL = SEG_ATTR_P | SEG_ATTR_S | TYPE_DATA_RW_ACCESSED,
    ATTR_FLAT_DATA = SEG_ATTR_P | SEG_ATTR_S | SEG_ATTR_DB | SEG_ATTR_G | TYPE_DATA_RW_ACCESSED,
    ATTR_FLAT_CODE = SEG_ATTR_P | SEG_ATTR_S | SEG_ATTR_G | TYPE_CODE_RX_ACCESSED,
};

/* What INIT leaves as it is: everything else is as after RESET. EFER is not among them, as it
 * would be inconsistent with the cleared CR0.PG. */
static void keep_over_init(struct vcpu_state *state, const struct vcpu_state *old)
{
    state->cr0 = (state->cr0 & ~(u64)(CR0_CD | CR0_NW)) | (old->cr0 & (CR0_CD | CR0_NW));
    state->star = old->star;
    state->lstar = old->lstar;
    state->cstar = old->cstar;
    state->fmask = old->fmask;
    state->kernel_gs_base = old->kernel_gs_base;
    state->sysenter_cs = old->sysenter_cs;
    state->sysenter_esp = old->sysenter_esp;
    state->sysenter_eip = old->sysenter_eip;
    state->pat = old->pat;
    state->tsc_aux = old->tsc_aux;
    state->xcr0 = old->xcr0;
    state->xss = old->xss;
}

static void set_real_mode_segments(struct vcpu_state *state)
{
    for (u32 i = SEG_ES; i <= SEG_GS; i++)
        state->segments[i] = (struct segment){.limit = REAL_LIMIT, .attributes = ATTR_REAL};
    state->segments[SEG_CS].selector = RESET_CS;
    state->segments[SEG_CS].base = RESET_CS_BASE;
    state->segments[SEG_LDTR] =
        (struct segment){.limit = REAL_LIMIT, .attributes = SEG_ATTR_P | TYPE_LDT};
    state->segments[SEG_TR] =
        (struct segment){.limit = REAL_LIMIT, .attributes = SEG_ATTR_P | TYPE_TSS_BUSY};
}

void vcpu_state_reset(struct vcpu_state *state, bool init)
{
    struct vcpu_state old = *state;

    memset(state, 0, sizeof(*state));
    state->gpr[GPR_RDX] = RESET_RDX;
    state->rip = RESET_RIP;
    state->rflags = RFLAGS_RESERVED_1;
    state->cr0 = CR0_CD | CR0_NW | CR0_ET;
    state->dr6 = DR6_RESET;
    state->dr7 = DR7_RESET;
    state->gdtr.limit = REAL_LIMIT;
    state->idtr.limit = REAL_LIMIT;
    state->pat = PAT_RESET;
    state->xcr0 = XCR0_X87;
    state->activity = ACTIVITY_ACTIVE;
    set_real_mode_segments(state);
    if (init)
        keep_over_init(state, &old);
}

void vcpu_state_sipi(struct vcpu_state *state, u8 vector)
{
    state->segments[SEG_CS].selector = (u16)(vector << 8);
    state->segments[SEG_CS].base = (u64)vector << 12;
    state->rip = 0;
    state->activity = ACTIVITY_ACTIVE;
}

static void set_flat(struct vcpu_state *state, u64 rip, u16 code_mode)
{
    memset(state, 0, sizeof(*state));
    vcpu_state_reset(state, false);
    for (u32 i = SEG_ES; i <= SEG_GS; i++)
        state->segments[i] = (struct segment){
            .limit = FLAT_LIMIT, .selector = FLAT_DATA, .attributes = ATTR_FLAT_DATA};
    state->segments[SEG_CS].selector = FLAT_CODE;
    state->segments[SEG_CS].attributes = ATTR_FLAT_CODE | code_mode;
    state->segments[SEG_LDTR].attributes = SEG_ATTR_UNUSABLE;
    state->cr0 = CR0_PE | CR0_ET | CR0_NE;
    state->gpr[GPR_RDX] = 0;
    state->rip = rip;
}

void vcpu_state_flat64(struct vcpu_state *state, u64 rip, u64 cr3)
{
    set_flat(state, rip, SEG_ATTR_L);
    state->cr0 |= CR0_PG;
    state->cr3 = cr3;
    state->cr4 = CR4_PAE;
    state->efer = EFER_LME | EFER_LMA;
}

void vcpu_state_flat32(struct vcpu_state *state, u32 eip)
{
    set_flat(state, eip, SEG_ATTR_DB);
}
