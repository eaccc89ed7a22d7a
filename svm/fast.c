/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* The commonest exits, answered before a struct exit is built and before all registers are
 * saved. */

#include "core/cpu.h"
#include "core/vm.h"
#include "mm/guest_walk.h"
#include "svm/svm.h"

/* Instructions without prefixes as the first bytes of their code. */
struct code {
    u32 bytes, mask;
    u8 length;
};

static const struct code cpuid_code = {0xA20F, 0xFFFF, 2};
static const struct code rdmsr_code = {0x320F, 0xFFFF, 2};
static const struct code wrmsr_code = {0x300F, 0xFFFF, 2};
static const struct code hlt_code = {0xF4, 0xFF, 1};
static const struct code vmmcall_code = {0xD9010F, 0xFFFFFF, 3};

/* Sets where the guest goes on. Without next-RIP save that takes a look at the code: what it
 * was when the CPU fetched it, unless the guest changes it right now, or has it in another mode,
 * with a prefix or on two pages; then it is false. */
static bool find_next(struct vcpu *vcpu, const struct code *code)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;
    const void *at;
    u32 bytes;

    if (svm_cpuid.features & SVM_NRIP_SAVE) {
        vcpu->hvm->next_rip = vmcb_next_rip(vmcb);
        return true;
    }
    if (!svm_in_64bit_code(vmcb))
        return false;
    at = guest_code_at(&vcpu->vm->memory.ram, vmcb_cr3(vmcb), vmcb_rip(vmcb), sizeof(bytes));
    if (!at)
        return false;
    bytes = *(const volatile u32 *)at;
    vcpu->hvm->next_rip = vmcb_rip(vmcb) + code->length;
    return (bytes & code->mask) == code->bytes;
}

static enum exit_kind msr_access(struct vcpu *vcpu)
{
    bool write = vmcb_exit_info1(vcpu->hvm->vmcb) == MSR_EXIT_WRITE;

    if (!find_next(vcpu, write ? &wrmsr_code : &rdmsr_code))
        return EXIT_NONE;
    return write ? vcpu_fast_wrmsr(vcpu) : vcpu_fast_rdmsr(vcpu);
}

static enum exit_kind port_access(struct vcpu *vcpu)
{
    u64 info = vmcb_exit_info1(vcpu->hvm->vmcb);

    if (IOIO_STRING(info))
        return EXIT_NONE;
    vcpu->hvm->next_rip = vmcb_exit_info2(vcpu->hvm->vmcb);
    return vcpu_fast_port(vcpu, IOIO_PORT(info), IOIO_SIZE(info), !IOIO_IN(info));
}

static enum exit_kind memory_access(struct vcpu *vcpu)
{
    const struct vmcb *vmcb = vcpu->hvm->vmcb;
    enum exit_kind answered;

    if (vmcb_exit_info1(vmcb) & NPF_FETCH || vmcb_exit_int_info(vmcb) & EVENT_VALID ||
        !svm_in_64bit_code(vmcb))
        return EXIT_NONE;
    answered = vcpu_fast_memory(vcpu, vmcb_exit_info2(vmcb), vmcb_cr3(vmcb), vmcb_rip(vmcb));
    vcpu->hvm->next_rip = vmcb_rip(vmcb) + vcpu->insn_length;
    return answered;
}

/* Something waits for an exit. */
static bool is_watched(const struct hvm_vcpu *hvm)
{
    return hvm->cr0_read_once | hvm->nmi_iret | hvm->nmi_wanted | hvm->window_wanted;
}

enum exit_kind svm_fast_answer(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    vmcb_set_all_clean(hvm->vmcb);
    vcpu->gpr[GPR_RAX] = vmcb_rax(hvm->vmcb);
    if (is_watched(hvm) || (vmcb_vintr(hvm->vmcb) & VINTR_TPR) != svm_tpr_class(vcpu))
        return EXIT_NONE;
    switch (vmcb_exit_code(hvm->vmcb)) {
    case VMEXIT_MSR:
        return msr_access(vcpu);
    case VMEXIT_IOIO:
        return port_access(vcpu);
    case VMEXIT_CPUID:
        svm_notice_xcr0(vcpu);
        return find_next(vcpu, &cpuid_code) ? vcpu_fast_cpuid(vcpu) : EXIT_NONE;
    case VMEXIT_NPF:
        return memory_access(vcpu);
    case VMEXIT_HLT:
        return find_next(vcpu, &hlt_code) ? vcpu_fast_hlt(vcpu) : EXIT_NONE;
    case VMEXIT_VMMCALL:
        return find_next(vcpu, &vmmcall_code) ? vcpu_fast_hypercall(vcpu) : EXIT_NONE;
    default:
        return EXIT_NONE;
    }
}

/* Asked for by what the exit did; or the APIC timer, which stands for the deadline, has to be moved
 * forward. */
static inline bool must_leave(const struct vcpu *vcpu)
{
    return cpu_must_pass(vcpu->cpu) || vcpu->hvm->flush || vcpu->deadline < vcpu->cpu->timer_armed;
}

static inline enum svm_outcome resume(struct vcpu *vcpu, u64 answered)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;

    vcpu->statistics.exits[answered]++;
    vmcb_set_tlb_control(vmcb, TLB_KEEP);
    vmcb_set_rax(vmcb, vcpu->gpr[GPR_RAX]);
    if (answered == EXIT_WRMSR || answered == EXIT_MEMORY)
        svm_tpr_to_vmcb(vcpu);
    return SVM_RESUME;
}

/* Moves behind an instruction that is not stepped through and does not end at 4 GiB; or not. */
static inline bool skip(struct hvm_vcpu *hvm)
{
    if (vmcb_rflags(hvm->vmcb) & RFLAGS_TF || (vmcb_rip(hvm->vmcb) ^ hvm->next_rip) >> 32)
        return false;
    vmcb_set_rip(hvm->vmcb, hvm->next_rip);
    vmcb_set_interrupt_shadow(hvm->vmcb, 0);
    return true;
}

static __attribute__((noinline)) enum svm_outcome finish_slowly(struct vcpu *vcpu, u64 answered)
{
    svm_events_after_exit(vcpu);
    if (!skip(vcpu->hvm))
        svm_skip_instruction(vcpu, 0);
    if ((!vcpu->interrupts_stale || vcpu_fast_offer(vcpu)) && !must_leave(vcpu))
        return resume(vcpu, answered);
    vcpu->hvm->served = answered;
    return SVM_SERVED;
}

enum svm_outcome svm_fast_finish(struct vcpu *vcpu, u64 answered)
{
    if (answered == EXIT_NONE)
        return SVM_EXITED;
    if (vcpu->interrupts_stale || must_leave(vcpu) || !skip(vcpu->hvm))
        return finish_slowly(vcpu, answered);
    vmcb_set_event_injection(vcpu->hvm->vmcb, 0);
    return resume(vcpu, answered);
}
