/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Registers and segments between VMCB and neutral form. Source of the rules: AMD APM volume 2,
 * "VMRUN Instruction" and "Canonicalization and Consistency Checks". */

#include "drivers/cpu.h"
#include "svm/msr.h"
#include "svm/svm.h"

#define SEG_ATTR_VMCB_MASK 0xFFF /* the attributes that the VMCB keeps */
#define RFLAGS_FIXED       BIT(1)
#define DR_HIGH_MASK       0xFFFFFFFFULL /* DR6 and DR7 have 32 bits */
#define TYPE_ACCESSED      1
#define TYPE_TSS_BUSY_BIT  2
#define LIMIT_BYTES_MAX    0xFFFFF

static const u8 segment_index[SEG_COUNT] = {
    [SEG_ES] = VMCB_ES, [SEG_CS] = VMCB_CS, [SEG_SS] = VMCB_SS,     [SEG_DS] = VMCB_DS,
    [SEG_FS] = VMCB_FS, [SEG_GS] = VMCB_GS, [SEG_LDTR] = VMCB_LDTR, [SEG_TR] = VMCB_TR,
};

static void write_segment(struct vcpu *vcpu, enum segment_register which,
                          const struct segment *segment)
{
    struct vmcb_segment value = {
        .selector = segment->selector,
        .attributes = segment->attributes & SEG_ATTR_VMCB_MASK,
        .limit = segment->limit,
        .base = segment->base,
    };

    /* A null selector is one that is not present. */
    if (segment->attributes & SEG_ATTR_UNUSABLE)
        value.attributes = 0;
    vmcb_set_segment(vcpu->hvm->vmcb, (enum vmcb_segment_index)segment_index[which], value);
    if (which == SEG_SS)
        vmcb_set_cpl(vcpu->hvm->vmcb, segment->attributes >> SEG_ATTR_DPL_SHIFT & 3);
}

/* Which bits CPUs store truly differs between models; the rest follows from what is certain. */
void svm_read_segment(struct vcpu *vcpu, enum segment_register which, struct segment *segment)
{
    const struct vmcb *vmcb = vcpu->hvm->vmcb;
    struct vmcb_segment value = vmcb_segment(vmcb, (enum vmcb_segment_index)segment_index[which]);

    *segment = (struct segment){
        .base = value.base,
        .limit = value.limit,
        .selector = value.selector,
        .attributes = value.attributes & SEG_ATTR_VMCB_MASK,
    };
    if (which == SEG_SS) {
        segment->attributes &= (u16) ~(3 << SEG_ATTR_DPL_SHIFT);
        segment->attributes |= (u16)(vmcb_cpl(vmcb) << SEG_ATTR_DPL_SHIFT);
    }
    if (!(segment->attributes & SEG_ATTR_P)) {
        segment->attributes |= SEG_ATTR_UNUSABLE;
        return;
    }
    if (which == SEG_TR)
        segment->attributes |= TYPE_TSS_BUSY_BIT;
    else if (which != SEG_LDTR)
        segment->attributes |= TYPE_ACCESSED;
    if (segment->limit > LIMIT_BYTES_MAX)
        segment->attributes |= SEG_ATTR_G;
}

static struct vmcb_segment table_to_vmcb(const struct descriptor_table *table)
{
    return (struct vmcb_segment){.limit = table->limit, .base = table->base};
}

static struct descriptor_table table_from_vmcb(struct vmcb_segment segment)
{
    return (struct descriptor_table){.base = segment.base, .limit = (u16)segment.limit};
}

static void read_debug_addresses(u64 dr[4])
{
    __asm__ volatile("movq %%dr0, %0" : "=r"(dr[0]));
    __asm__ volatile("movq %%dr1, %0" : "=r"(dr[1]));
    __asm__ volatile("movq %%dr2, %0" : "=r"(dr[2]));
    __asm__ volatile("movq %%dr3, %0" : "=r"(dr[3]));
}

static void write_debug_addresses(const u64 dr[4])
{
    __asm__ volatile("movq %0, %%dr0" ::"r"(dr[0]));
    __asm__ volatile("movq %0, %%dr1" ::"r"(dr[1]));
    __asm__ volatile("movq %0, %%dr2" ::"r"(dr[2]));
    __asm__ volatile("movq %0, %%dr3" ::"r"(dr[3]));
}

/* VMRUN and #VMEXIT move CR2 between register and VMCB, and leave the host what the guest had:
 * emulators that forget one half are set right here. */
void svm_switch_in(struct vcpu *vcpu)
{
    write_cr2(vmcb_cr2(vcpu->hvm->vmcb));
    write_debug_addresses(vcpu->hvm->dr);
    if (svm_cpuid.rdtscp)
        wrmsr(MSR_TSC_AUX, vcpu->hvm->tsc_aux);
}

void svm_switch_out(struct vcpu *vcpu)
{
    vmcb_set_cr2(vcpu->hvm->vmcb, read_cr2());
    read_debug_addresses(vcpu->hvm->dr);
    if (svm_cpuid.rdtscp)
        vcpu->hvm->tsc_aux = rdmsr(MSR_TSC_AUX);
}

static void load_system_registers(struct vcpu *vcpu, const struct vcpu_state *state)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;

    vmcb_set_efer(vmcb, state->efer | EFER_SVME);
    svm_set_cr0(vcpu, state->cr0);
    svm_set_cr4(vcpu, state->cr4);
    vmcb_set_cr2(vmcb, state->cr2);
    vmcb_set_cr3(vmcb, state->cr3);
    vmcb_set_dr6(vmcb, state->dr6 & DR_HIGH_MASK);
    vmcb_set_dr7(vmcb, state->dr7 & DR_HIGH_MASK);
    vmcb_set_g_pat(vmcb, state->pat);
    svm_write_register(vcpu, HVM_DEBUGCTL, state->debugctl);
    vmcb_set_segment(vmcb, VMCB_GDTR, table_to_vmcb(&state->gdtr));
    vmcb_set_segment(vmcb, VMCB_IDTR, table_to_vmcb(&state->idtr));
}

static void load_msrs(struct vmcb *vmcb, const struct vcpu_state *state)
{
    vmcb_set_star(vmcb, state->star);
    vmcb_set_lstar(vmcb, state->lstar);
    vmcb_set_cstar(vmcb, state->cstar);
    vmcb_set_sfmask(vmcb, state->fmask);
    vmcb_set_kernel_gs_base(vmcb, state->kernel_gs_base);
    vmcb_set_sysenter_cs(vmcb, state->sysenter_cs);
    vmcb_set_sysenter_esp(vmcb, state->sysenter_esp);
    vmcb_set_sysenter_eip(vmcb, state->sysenter_eip);
}

void svm_load_state(struct vcpu *vcpu, const struct vcpu_state *state)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    svm_set_controls(vcpu);
    for (u32 i = 0; i < GPR_COUNT; i++)
        vcpu->gpr[i] = state->gpr[i];
    vmcb_set_rsp(hvm->vmcb, state->gpr[GPR_RSP]);
    vmcb_set_rip(hvm->vmcb, state->rip);
    vmcb_set_rflags(hvm->vmcb, state->rflags | RFLAGS_FIXED);
    load_system_registers(vcpu, state);
    load_msrs(hvm->vmcb, state);
    for (u32 i = 0; i < SEG_COUNT; i++)
        write_segment(vcpu, (enum segment_register)i, &state->segments[i]);
    for (u32 i = 0; i < ARRAY_SIZE(hvm->dr); i++)
        hvm->dr[i] = state->dr[i];
    hvm->tsc_aux = state->tsc_aux;
    svm_switch_in(vcpu);
    if (lapic_read(vcpu->lapic, LAPIC_TPR) >> TPR_CLASS_SHIFT != state->cr8)
        vcpu->lapic->registers[LAPIC_TPR >> 4].value = (u32)state->cr8 << TPR_CLASS_SHIFT;
    if (state->interruptibility & (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS))
        vmcb_set_interrupt_shadow(hvm->vmcb, INTERRUPT_SHADOW);
    svm_set_nmi_blocked(vcpu, state->interruptibility & BLOCKED_BY_NMI);
}

static void save_system_registers(struct vcpu *vcpu, struct vcpu_state *state)
{
    const struct vmcb *vmcb = vcpu->hvm->vmcb;

    state->cr0 = svm_cr0(vcpu);
    state->cr2 = vmcb_cr2(vmcb);
    state->cr3 = vmcb_cr3(vmcb);
    state->cr4 = vmcb_cr4(vmcb);
    state->cr8 = lapic_read(vcpu->lapic, LAPIC_TPR) >> TPR_CLASS_SHIFT;
    state->dr6 = vmcb_dr6(vmcb);
    state->dr7 = vmcb_dr7(vmcb);
    state->efer = vmcb_efer(vmcb) & ~EFER_SVME;
    state->pat = vmcb_g_pat(vmcb);
    state->debugctl = vmcb_debugctl(vmcb);
    state->gdtr = table_from_vmcb(vmcb_segment(vmcb, VMCB_GDTR));
    state->idtr = table_from_vmcb(vmcb_segment(vmcb, VMCB_IDTR));
}

static void save_msrs(const struct vmcb *vmcb, struct vcpu_state *state)
{
    state->star = vmcb_star(vmcb);
    state->lstar = vmcb_lstar(vmcb);
    state->cstar = vmcb_cstar(vmcb);
    state->fmask = vmcb_sfmask(vmcb);
    state->kernel_gs_base = vmcb_kernel_gs_base(vmcb);
    state->sysenter_cs = vmcb_sysenter_cs(vmcb);
    state->sysenter_esp = vmcb_sysenter_esp(vmcb);
    state->sysenter_eip = vmcb_sysenter_eip(vmcb);
}

void svm_save_state(struct vcpu *vcpu, struct vcpu_state *state)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    svm_switch_out(vcpu);
    for (u32 i = 0; i < GPR_COUNT; i++)
        state->gpr[i] = vcpu->gpr[i];
    state->gpr[GPR_RSP] = vmcb_rsp(hvm->vmcb);
    state->rip = vmcb_rip(hvm->vmcb);
    state->rflags = vmcb_rflags(hvm->vmcb);
    save_system_registers(vcpu, state);
    save_msrs(hvm->vmcb, state);
    for (u32 i = 0; i < SEG_COUNT; i++)
        svm_read_segment(vcpu, (enum segment_register)i, &state->segments[i]);
    for (u32 i = 0; i < ARRAY_SIZE(hvm->dr); i++)
        state->dr[i] = hvm->dr[i];
    state->tsc_aux = hvm->tsc_aux;
    state->xcr0 = vcpu->xcr0;
    state->xss = vcpu->xss;
    state->activity = vcpu->activity;
    /* SVM does not tell an STI shadow from a MOV SS one. */
    state->interruptibility =
        (vmcb_interrupt_shadow(hvm->vmcb) & INTERRUPT_SHADOW ? BLOCKED_BY_STI : 0) |
        (hvm->nmi_blocked ? BLOCKED_BY_NMI : 0);
}

/* Registers whose reading or writing takes more than the VMCB's field have none here. */
static const struct {
    u64 (*read)(const struct vmcb *vmcb);
    void (*write)(struct vmcb *vmcb, u64 value);
} fields[HVM_REGISTER_COUNT] = {
    [HVM_RIP] = {vmcb_rip,          vmcb_set_rip         },
    [HVM_RSP] = {vmcb_rsp,          vmcb_set_rsp         },
    [HVM_RFLAGS] = {vmcb_rflags,       vmcb_set_rflags      },
    [HVM_CR2] = {vmcb_cr2,          vmcb_set_cr2         },
    [HVM_CR3] = {vmcb_cr3,          NULL                 },
    [HVM_PAT] = {vmcb_g_pat,        NULL                 },
    [HVM_DEBUGCTL] = {vmcb_debugctl,     NULL                 },
    [HVM_FS_BASE] = {vmcb_fs_base,      vmcb_set_fs_base     },
    [HVM_GS_BASE] = {vmcb_gs_base,      vmcb_set_gs_base     },
    [HVM_SYSENTER_CS] = {vmcb_sysenter_cs,  vmcb_set_sysenter_cs },
    [HVM_SYSENTER_ESP] = {vmcb_sysenter_esp, vmcb_set_sysenter_esp},
    [HVM_SYSENTER_EIP] = {vmcb_sysenter_eip, vmcb_set_sysenter_eip},
};

u64 svm_read_register(struct vcpu *vcpu, enum hvm_register which)
{
    switch (which) {
    case HVM_CR0:
        return svm_cr0(vcpu);
    case HVM_CR4:
        return vmcb_cr4(vcpu->hvm->vmcb);
    case HVM_EFER:
        return vmcb_efer(vcpu->hvm->vmcb) & ~EFER_SVME;
    default:
        return fields[which].read(vcpu->hvm->vmcb);
    }
}

/* The guest's own translations depend on these registers. */
static void write_translation_register(struct vcpu *vcpu, enum hvm_register which, u64 value)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;

    if (which == HVM_CR0)
        svm_set_cr0(vcpu, value);
    else if (which == HVM_CR4)
        svm_set_cr4(vcpu, value);
    else if (which == HVM_CR3)
        vmcb_set_cr3(vmcb, value);
    else if (which == HVM_EFER)
        vmcb_set_efer(vmcb, value | EFER_SVME);
    else
        vmcb_set_g_pat(vmcb, value);
    vcpu->hvm->flush = true;
}

void svm_write_register(struct vcpu *vcpu, enum hvm_register which, u64 value)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;

    if (fields[which].write) {
        fields[which].write(vmcb, value);
    } else if (which == HVM_DEBUGCTL) {
        vmcb_set_debugctl(vmcb, value);
        /* The VMCB's DEBUGCTL is in force only with LBR virtualization. */
        vmcb_set_lbr_control(
            vmcb, value && svm_cpuid.features & SVM_LBR_VIRTUALIZATION ? LBR_VIRTUALIZED : 0);
    } else {
        write_translation_register(vcpu, which, value);
    }
}
