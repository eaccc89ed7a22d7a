/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "drivers/cpu.h"
#include "lib/string.h"
#include "vmx/vmx.h"

#define RFLAGS_RESERVED_1 BIT(1)

/* Access rights have bits 11:8 of the neutral attributes, and the one for "unusable" behind them,
 * four places higher (SDM volume 3, "Format of Access Rights"). */
#define ATTRIBUTES_LOW        0xFF
#define ATTRIBUTES_HIGH       0x1F00
#define ATTRIBUTES_HIGH_SHIFT 4

#define SEGMENT_FIELD(first, which) ((enum vmcs_field)((first) + (which)*VMCS_SEGMENT_STRIDE))

/* Registers that are fields without further ado. */
static const enum vmcs_field register_fields[HVM_REGISTER_COUNT] = {
    [HVM_RIP] = VMCS_GUEST_RIP,
    [HVM_RSP] = VMCS_GUEST_RSP,
    [HVM_RFLAGS] = VMCS_GUEST_RFLAGS,
    [HVM_CR3] = VMCS_GUEST_CR3,
    [HVM_EFER] = VMCS_GUEST_IA32_EFER,
    [HVM_PAT] = VMCS_GUEST_IA32_PAT,
    [HVM_DEBUGCTL] = VMCS_GUEST_IA32_DEBUGCTL,
    [HVM_FS_BASE] = VMCS_GUEST_FS_BASE,
    [HVM_GS_BASE] = VMCS_GUEST_GS_BASE,
    [HVM_SYSENTER_CS] = VMCS_GUEST_IA32_SYSENTER_CS,
    [HVM_SYSENTER_ESP] = VMCS_GUEST_IA32_SYSENTER_ESP,
    [HVM_SYSENTER_EIP] = VMCS_GUEST_IA32_SYSENTER_EIP,
};

u64 vmx_read_register(struct vcpu *vcpu, enum hvm_register which)
{
    if (which == HVM_CR0)
        return vmx_read_cr0(vcpu->hvm);
    if (which == HVM_CR2)
        return read_cr2();
    if (which == HVM_CR4)
        return vmx_read_cr4(vcpu->hvm);
    return vmread(register_fields[which]);
}

void vmx_write_register(struct vcpu *vcpu, enum hvm_register which, u64 value)
{
    if (which == HVM_CR0)
        vmx_write_cr0(value);
    else if (which == HVM_CR2)
        write_cr2(value);
    else if (which == HVM_CR4)
        vmx_write_cr4(value);
    else if (which == HVM_EFER)
        vmx_write_efer(value);
    else
        vmwrite(register_fields[which], value);
}

void vmx_read_segment(struct vcpu *vcpu, enum segment_register which, struct segment *segment)
{
    u32 rights = (u32)vmread(SEGMENT_FIELD(VMCS_GUEST_ES_ACCESS_RIGHTS, which));

    segment->base = vmread(SEGMENT_FIELD(VMCS_GUEST_ES_BASE, which));
    segment->limit = (u32)vmread(SEGMENT_FIELD(VMCS_GUEST_ES_LIMIT, which));
    segment->selector = (u16)vmread(SEGMENT_FIELD(VMCS_GUEST_ES_SELECTOR, which));
    segment->attributes =
        (u16)((rights & ATTRIBUTES_LOW) | (rights >> ATTRIBUTES_HIGH_SHIFT & ATTRIBUTES_HIGH));
}

static void write_segment(enum segment_register which, const struct segment *segment)
{
    u32 rights = (segment->attributes & ATTRIBUTES_LOW) |
                 (u32)(segment->attributes & ATTRIBUTES_HIGH) << ATTRIBUTES_HIGH_SHIFT;

    vmwrite(SEGMENT_FIELD(VMCS_GUEST_ES_BASE, which), segment->base);
    vmwrite(SEGMENT_FIELD(VMCS_GUEST_ES_LIMIT, which), segment->limit);
    vmwrite(SEGMENT_FIELD(VMCS_GUEST_ES_SELECTOR, which), segment->selector);
    vmwrite(SEGMENT_FIELD(VMCS_GUEST_ES_ACCESS_RIGHTS, which), rights);
}

static void load_fields(const struct vcpu_state *state)
{
    bool stepping = (state->rflags & RFLAGS_TF) && !(state->debugctl & DEBUGCTL_BTF);
    const struct vmcs_value fields[] = {
        {VMCS_GUEST_RIP,                      state->rip                       },
        {VMCS_GUEST_RSP,                      state->gpr[GPR_RSP]              },
        {VMCS_GUEST_RFLAGS,                   state->rflags | RFLAGS_RESERVED_1},
        {VMCS_GUEST_CR3,                      state->cr3                       },
        {VMCS_GUEST_DR7,                      state->dr7                       },
        {VMCS_GUEST_GDTR_BASE,                state->gdtr.base                 },
        {VMCS_GUEST_GDTR_LIMIT,               state->gdtr.limit                },
        {VMCS_GUEST_IDTR_BASE,                state->idtr.base                 },
        {VMCS_GUEST_IDTR_LIMIT,               state->idtr.limit                },
        {VMCS_GUEST_IA32_SYSENTER_CS,         state->sysenter_cs               },
        {VMCS_GUEST_IA32_SYSENTER_ESP,        state->sysenter_esp              },
        {VMCS_GUEST_IA32_SYSENTER_EIP,        state->sysenter_eip              },
        {VMCS_GUEST_IA32_PAT,                 state->pat                       },
        {VMCS_GUEST_IA32_DEBUGCTL,            state->debugctl                  },
        {VMCS_GUEST_INTERRUPTIBILITY_STATE,   state->interruptibility          },
        {VMCS_GUEST_ACTIVITY_STATE,           ACTIVITY_ACTIVE                  },
 /* VM entry wants a single step to be pending in an STI or MOV SS shadow. */
        {VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS,
         stepping && (state->interruptibility & BLOCKED_BY_SHADOW) ? DR6_BS : 0},
        {VMCS_ENTRY_INTERRUPTION_INFORMATION, 0                                },
    };

    vmwrite_table(fields, ARRAY_SIZE(fields));
}

/* What no field holds: in registers, as the vCPU is attached. */
static void load_registers(struct hvm_vcpu *hvm, const struct vcpu_state *state)
{
    memcpy(hvm->dr, state->dr, sizeof(hvm->dr));
    hvm->dr6 = state->dr6;
    hvm->cr2 = state->cr2;
    hvm->msrs[SWITCHED_STAR] = state->star;
    hvm->msrs[SWITCHED_LSTAR] = state->lstar;
    hvm->msrs[SWITCHED_CSTAR] = state->cstar;
    hvm->msrs[SWITCHED_FMASK] = state->fmask;
    hvm->msrs[SWITCHED_KERNEL_GS_BASE] = state->kernel_gs_base;
    hvm->msrs[SWITCHED_TSC_AUX] = state->tsc_aux;
    vmx_load_switched(hvm);
}

void vmx_load_state(struct vcpu *vcpu, const struct vcpu_state *state)
{
    struct hvm_vcpu *hvm = vcpu->hvm;
    u32 *tpr = &vcpu->lapic->registers[LAPIC_TPR >> 4].value;

    memcpy(vcpu->gpr, state->gpr, sizeof(vcpu->gpr));
    load_fields(state);
    for (u32 i = 0; i < SEG_COUNT; i++)
        write_segment(i, &state->segments[i]);
    load_registers(hvm, state);
    vmx_write_cr0(state->cr0);
    vmx_write_cr4(state->cr4);
    vmx_write_efer(state->efer);
    vmx_load_pdptes(vcpu, state->cr0, state->cr4, state->efer);
    if (*tpr >> 4 != state->cr8)
        *tpr = (u32)state->cr8 << 4;
    memset(&hvm->queued, 0, sizeof(hvm->queued));
    hvm->eoi_bitmap_valid = false;
    vmx_flush_linear(hvm);
}

static void save_fields(struct vcpu_state *state)
{
    state->rip = vmread(VMCS_GUEST_RIP);
    state->gpr[GPR_RSP] = vmread(VMCS_GUEST_RSP);
    state->rflags = vmread(VMCS_GUEST_RFLAGS);
    state->cr3 = vmread(VMCS_GUEST_CR3);
    state->dr7 = vmread(VMCS_GUEST_DR7);
    state->gdtr.base = vmread(VMCS_GUEST_GDTR_BASE);
    state->gdtr.limit = (u16)vmread(VMCS_GUEST_GDTR_LIMIT);
    state->idtr.base = vmread(VMCS_GUEST_IDTR_BASE);
    state->idtr.limit = (u16)vmread(VMCS_GUEST_IDTR_LIMIT);
    state->efer = vmread(VMCS_GUEST_IA32_EFER);
    state->sysenter_cs = vmread(VMCS_GUEST_IA32_SYSENTER_CS);
    state->sysenter_esp = vmread(VMCS_GUEST_IA32_SYSENTER_ESP);
    state->sysenter_eip = vmread(VMCS_GUEST_IA32_SYSENTER_EIP);
    state->pat = vmread(VMCS_GUEST_IA32_PAT);
    state->debugctl = vmread(VMCS_GUEST_IA32_DEBUGCTL);
    state->interruptibility = (u32)vmread(VMCS_GUEST_INTERRUPTIBILITY_STATE);
}

static void save_registers(struct hvm_vcpu *hvm, struct vcpu_state *state)
{
    vmx_save_switched(hvm);
    memcpy(state->dr, hvm->dr, sizeof(state->dr));
    state->dr6 = hvm->dr6;
    state->cr2 = hvm->cr2;
    state->star = hvm->msrs[SWITCHED_STAR];
    state->lstar = hvm->msrs[SWITCHED_LSTAR];
    state->cstar = hvm->msrs[SWITCHED_CSTAR];
    state->fmask = hvm->msrs[SWITCHED_FMASK];
    state->kernel_gs_base = hvm->msrs[SWITCHED_KERNEL_GS_BASE];
    state->tsc_aux = hvm->msrs[SWITCHED_TSC_AUX];
}

void vmx_save_state(struct vcpu *vcpu, struct vcpu_state *state)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    memset(state, 0, sizeof(*state));
    memcpy(state->gpr, vcpu->gpr, sizeof(state->gpr));
    save_fields(state);
    for (u32 i = 0; i < SEG_COUNT; i++)
        vmx_read_segment(vcpu, i, &state->segments[i]);
    save_registers(hvm, state);
    state->cr0 = vmx_read_cr0(hvm);
    state->cr4 = vmx_read_cr4(hvm);
    state->cr8 = lapic_read(vcpu->lapic, LAPIC_TPR) >> 4;
    state->xcr0 = vcpu->xcr0;
    state->xss = vcpu->xss;
    state->activity = vcpu->activity;
}

bool vmx_single_stepping(void)
{
    return (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_TF) &&
           !(vmread(VMCS_GUEST_IA32_DEBUGCTL) & DEBUGCTL_BTF);
}

/* The end of an instruction: its shadow goes, and a single step of it is due. */
static void end_instruction(void)
{
    u64 state = vmread(VMCS_GUEST_INTERRUPTIBILITY_STATE);

    if (state & BLOCKED_BY_SHADOW)
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY_STATE, state & ~(u64)BLOCKED_BY_SHADOW);
    if (vmx_single_stepping())
        vmwrite(VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS,
                vmread(VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS) | DR6_BS);
}

bool vmx_skip_instruction(struct vcpu *vcpu, u8 length)
{
    u64 rip = vmread(VMCS_GUEST_RIP);
    u64 next = rip + (length ? length : vmread(VMCS_EXIT_INSTRUCTION_LENGTH));

    if ((rip ^ next) >> 32 && !vmx_in_64bit_code())
        next = (u32)next;
    vmwrite(VMCS_GUEST_RIP, next);
    end_instruction();
    return true;
}
