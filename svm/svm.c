/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* AMD-V (AMD APM volume 2, "Secure Virtual Machine"): CPUs, vCPUs, entry. */

#include "svm/svm.h"

#include "core/cpu.h"
#include "core/log.h"
#include "core/mitigations.h"
#include "core/vm.h"
#include "drivers/cpu.h"
#include "mm/pool.h"
#include "svm/msr.h"

#define ASID_FIRST 1 /* 0 is the host's */
#define OPCODE_HLT 0xF4

/* Spinning vCPUs exit after this many PAUSEs that come within so many cycles of each other. */
#define PAUSE_COUNT     3000
#define PAUSE_THRESHOLD 128

_Static_assert(GPR_RCX == 1 && GPR_RDX == 2 && GPR_RBX == 3 && GPR_RBP == 5 && GPR_RSI == 6 &&
                   GPR_RDI == 7 && GPR_R8 == 8 && GPR_R15 == 15 && GPR_COUNT == 16,
               "entry.asm names the slots by number");

/* What every guest exits for, besides control registers and permission maps. */
static const u8 intercepts[] = {
    INTERCEPT_INTR,
    INTERCEPT_NMI,
    INTERCEPT_SMI,
    INTERCEPT_INIT,
    INTERCEPT_RDPMC,
    INTERCEPT_CPUID,
    INTERCEPT_INVD,
    INTERCEPT_WBINVD, /* empties caches that others share */
    INTERCEPT_HLT,
    INTERCEPT_INVLPGA, /* would reach other guests' ASIDs */
    INTERCEPT_IOIO,
    INTERCEPT_MSR,
    INTERCEPT_TASK_SWITCH,
    INTERCEPT_FERR_FREEZE,
    INTERCEPT_SHUTDOWN,
    INTERCEPT_VMRUN, /* this and the next six: EFER.SVME is on for real while the guest runs */
    INTERCEPT_VMMCALL,
    INTERCEPT_VMLOAD,
    INTERCEPT_VMSAVE,
    INTERCEPT_STGI,
    INTERCEPT_CLGI,
    INTERCEPT_SKINIT,
    INTERCEPT_MONITOR,
    INTERCEPT_MWAIT,
    INTERCEPT_XSETBV,
};

#define INTERCEPTED_EXCEPTIONS (BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC))

static void free_cpu(struct hvm_cpu *hvm)
{
    if (hvm->host_save)
        pool_free(hvm->host_save, 1);
    if (hvm->host_vmcb)
        pool_free(hvm->host_vmcb, 1);
    pool_free(hvm, 1);
}

static struct hvm_cpu *alloc_cpu(void)
{
    struct hvm_cpu *hvm = pool_alloc(1);

    if (!hvm)
        return NULL;
    hvm->host_save = pool_alloc(1);
    hvm->host_vmcb = pool_alloc(1);
    /* As if the last generation had just ended: the first entry flushes what firmware left. */
    hvm->next_asid = svm_cpuid.asids;
    if (hvm->host_save && hvm->host_vmcb)
        return hvm;
    free_cpu(hvm);
    return NULL;
}

static bool cpu_on(struct cpu *cpu)
{
    if (!svm_check_features(cpu->index))
        return false;
    if (!svm_unlock(NULL)) {
        log_error("CPU %u: the firmware has disabled AMD-V and locked that", cpu->index);
        return false;
    }
    cpu->hvm = alloc_cpu();
    if (!cpu->hvm || !svm_permissions_init()) {
        log_error("CPU %u: no memory for AMD-V", cpu->index);
        return false;
    }
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_VM_HSAVE_PA, pool_physical(cpu->hvm->host_save));
    svm_vmsave(pool_physical(cpu->hvm->host_vmcb));
    return true;
}

static bool vcpu_init(struct vcpu *vcpu)
{
    vcpu->hvm->vmcb = vm_alloc(vcpu->vm, 1);
    if (!vcpu->hvm->vmcb)
        return false;
    svm_set_controls(vcpu);
    return true;
}

static void vcpu_free(struct vcpu *vcpu)
{
    vm_free(vcpu->vm, vcpu->hvm->vmcb, 1);
}

static void set_optional_controls(struct vmcb *vmcb)
{
    bool pause_filter = svm_cpuid.features & SVM_PAUSE_FILTER;

    vmcb_set_intercept(vmcb, INTERCEPT_PAUSE, pause_filter);
    vmcb_set_pause_filter_count(vmcb, pause_filter ? PAUSE_COUNT : 0);
    if (svm_cpuid.features & SVM_PAUSE_FILTER_THRESHOLD)
        vmcb_set_pause_filter_threshold(vmcb, PAUSE_THRESHOLD);
    vmcb_set_intercept(vmcb, INTERCEPT_RDPRU, svm_cpuid.rdpru);
    vmcb_set_intercept(vmcb, INTERCEPT_MCOMMIT, svm_cpuid.mcommit);
    vmcb_set_intercept(vmcb, INTERCEPT_INVLPGB, svm_cpuid.invlpgb);
    vmcb_set_intercept(vmcb, INTERCEPT_INVLPGB_ILLEGAL, svm_cpuid.invlpgb);
    vmcb_set_intercept(vmcb, INTERCEPT_TLBSYNC, svm_cpuid.invlpgb);
}

void svm_set_controls(struct vcpu *vcpu)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;

    for (size_t i = 0; i < ARRAY_SIZE(intercepts); i++)
        vmcb_set_intercept(vmcb, (enum vmcb_intercept)intercepts[i], true);
    vmcb_set_exception_intercepts(vmcb, INTERCEPTED_EXCEPTIONS);
    set_optional_controls(vmcb);
    vmcb_set_iopm_base(vmcb, svm_io_permissions());
    vmcb_set_msrpm_base(vmcb, svm_msr_permissions());
    vmcb_set_tsc_offset(vmcb, vcpu->tsc_offset);
    vmcb_set_vintr(vmcb, VINTR_MASKING);
    vmcb_set_interrupt_shadow(vmcb, 0);
    vmcb_set_np_control(vmcb, NP_ENABLE);
    svm_reset_events(vcpu);
    vmcb_set_all_dirty(vmcb);
    vcpu->hvm->flush = true;
    vcpu->hvm->code_linear = GUEST_CODE_NOWHERE;
}

/* APM volume 2, "TSC Ratio MSR": 8 integer bits, 32 of fraction. */
#define TSC_RATIO_ONE BIT(TSC_RATIO_BITS)
_Static_assert(TSC_RATIO_BITS == 32 && TSC_RATIO_LIMIT == BIT(40), "as in the MSR");

static void attach(struct cpu *cpu, struct vcpu *vcpu)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;

    vmcb_set_n_cr3(vmcb, vcpu->vm->memory.nested.root);
    vmcb_set_all_dirty(vmcb);
    if (svm_cpuid.features & SVM_TSC_RATIO)
        wrmsr(MSR_TSC_RATIO, vcpu->vm->tsc_ratio ? vcpu->vm->tsc_ratio : TSC_RATIO_ONE);
    svm_switch_in(vcpu);
}

static void detach(struct cpu *cpu, struct vcpu *vcpu)
{
    svm_switch_out(vcpu);
}

/* ASIDs are handed out in turn, those of each physical CPU by itself. When they end a new
 * generation begins with a flush of all, and every vCPU fetches a new one at its next entry. */
static void take_asid(struct hvm_vcpu *hvm, struct hvm_cpu *cpu)
{
    if (cpu->next_asid >= svm_cpuid.asids) {
        cpu->next_asid = ASID_FIRST;
        cpu->asid_generation++;
        vmcb_set_tlb_control(hvm->vmcb, TLB_FLUSH_ALL);
    }
    hvm->asid_cpu = cpu;
    hvm->asid_generation = cpu->asid_generation;
    vmcb_set_asid(hvm->vmcb, cpu->next_asid++);
}

/* A fresh ASID is a flush; one that came from another CPU is none, as this CPU may remember what
 * the guest has since changed there. */
void svm_prepare_asid(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;
    struct hvm_cpu *cpu = vcpu->cpu->hvm;
    bool valid = hvm->asid_cpu == cpu && hvm->asid_generation == cpu->asid_generation;

    vmcb_set_tlb_control(hvm->vmcb, TLB_KEEP);
    if (!valid || (hvm->flush && !(svm_cpuid.features & SVM_FLUSH_BY_ASID)))
        take_asid(hvm, cpu);
    else if (hvm->flush)
        vmcb_set_tlb_control(hvm->vmcb, TLB_FLUSH_THIS_ASID);
    hvm->flush = false;
}

/* CR8 and the local APIC's TPR are one register: the guest changes CR8 without an exit, and TPR
 * without the VMCB. */
static u32 *lapic_tpr(struct vcpu *vcpu)
{
    return &vcpu->lapic->registers[LAPIC_TPR >> 4].value;
}

static void tpr_from_vmcb(struct vcpu *vcpu)
{
    u32 class = (u32)(vmcb_vintr(vcpu->hvm->vmcb) & VINTR_TPR);

    if (*lapic_tpr(vcpu) >> TPR_CLASS_SHIFT == class)
        return;
    *lapic_tpr(vcpu) = class << TPR_CLASS_SHIFT;
    vcpu->interrupts_stale = true;
}

void svm_notice_xcr0(struct vcpu *vcpu)
{
    if (svm_cpuid.tcg && vmcb_cr4(vcpu->hvm->vmcb) & CR4_OSXSAVE)
        vcpu->xcr0 = read_xcr0();
}

/* VMRUN on QEMU's TCG (7.2) forgets the interrupt shadow, so that a window opens before the HLT
 * which that interrupt was to end: the guest would halt behind its handler. */
static bool halts_in_shadow(struct vcpu *vcpu)
{
    u8 opcode;

    return svm_cpuid.tcg && vmcb_interrupt_shadow(vcpu->hvm->vmcb) & INTERRUPT_SHADOW &&
           vcpu_fetch(vcpu, &opcode, 1) == 1 && opcode == OPCODE_HLT;
}

/* Where PAUSEs cannot be counted, each one exits that could be to the good of a sibling. */
static void watch_pauses(struct vcpu *vcpu)
{
    if (!(svm_cpuid.features & SVM_PAUSE_FILTER) && vcpu->vm->vcpu_count > 1)
        vmcb_set_intercept(vcpu->hvm->vmcb, INTERCEPT_PAUSE, vcpu->cpu->queue.count != 0);
}

static void enter(struct vcpu *vcpu, u64 deadline, struct exit *exit)
{
    svm_world_switch *run = mitigations.used & MITIGATION_VERW ? svm_guarded_run : svm_run;
    struct hvm_cpu *cpu = vcpu->cpu->hvm;
    struct hvm_vcpu *hvm = vcpu->hvm;

    /* A window that is open already needs no entry to be told of; and Bochs heeds a V_IRQ only
     * when the guest changes RFLAGS.IF, not one that VMRUN finds with IF set. */
    if ((hvm->window_wanted && svm_can_inject(vcpu, EVENT_INTERRUPT)) ||
        (hvm->nmi_wanted && svm_can_inject(vcpu, EVENT_NMI))) {
        *exit = (struct exit){.kind = EXIT_WINDOW, .reason = VMEXIT_VINTR};
        return;
    }
    if (hvm->window_wanted && halts_in_shadow(vcpu)) {
        *exit = (struct exit){.kind = EXIT_HLT, .reason = VMEXIT_HLT};
        return;
    }
    watch_pauses(vcpu);
    svm_prepare_asid(vcpu);
    svm_tpr_to_vmcb(vcpu);
    vmcb_set_rax(hvm->vmcb, vcpu->gpr[GPR_RAX]);
    hvm->injected = vmcb_event_injection(hvm->vmcb);
    if (run(vcpu, pool_physical(hvm->vmcb), pool_physical(cpu->host_vmcb)) == SVM_SERVED) {
        svm_notice_xcr0(vcpu);
        exit->kind = hvm->served;
        exit->served = true;
        return;
    }
    tpr_from_vmcb(vcpu);
    svm_notice_xcr0(vcpu);
    svm_events_after_exit(vcpu);
    svm_control_registers_after_exit(vcpu);
    svm_translate_exit(vcpu, exit);
}

static void set_tsc_offset(struct vcpu *vcpu, u64 offset)
{
    vcpu->tsc_offset = offset;
    vmcb_set_tsc_offset(vcpu->hvm->vmcb, offset);
}

static const struct hvm_ops svm_ops = {
    .name = "AMD-V",
    .nested_format = &page_format_x86,
    .vcpu_size = sizeof(struct hvm_vcpu),
    .probe = svm_probe,
    .cpu_on = cpu_on,
    .vcpu_init = vcpu_init,
    .vcpu_free = vcpu_free,
    .attach = attach,
    .detach = detach,
    .enter = enter,
    .load_state = svm_load_state,
    .save_state = svm_save_state,
    .read_register = svm_read_register,
    .write_register = svm_write_register,
    .read_segment = svm_read_segment,
    .skip_instruction = svm_skip_instruction,
    .can_inject = svm_can_inject,
    .inject = svm_inject,
    .request_window = svm_request_window,
    .set_tsc_offset = set_tsc_offset,
};

HVM_BACKEND(svm_ops);
