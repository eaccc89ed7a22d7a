/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* The commonest exits, answered before a struct exit is built and before all registers are
 * saved. */

#include "core/cpu.h"
#include "core/vm.h"
#include "drivers/cpu.h"
#include "mm/guest_walk.h"
#include "svm/svm.h"

/* Instructions without prefixes as the first bytes of their code. */
#define CODE_CPUID   0xA20F
#define CODE_RDMSR   0x320F
#define CODE_WRMSR   0x300F
#define CODE_HLT     0xF4
#define CODE_VMMCALL 0xD9010F

/* MOV to and from a control register: 0F, 22 or 20, and ModRM, whose fields are mod, the control
 * register and the register. */
#define CODE_MOV_TO_CR0    0xC0220F
#define CODE_MOV_TO_CR4    0xE0220F
#define CODE_MOV_FROM_CR0  0xC0200F
#define CODE_MOV_CR_LENGTH 3
#define CODE_CR_MASK       0xF8FFFF
#define CODE_RM_SHIFT      16
#define CODE_RM_MASK       7

static NOINLINE const volatile u32 *find_code(struct vcpu *vcpu, u64 rip)
{
    struct hvm_vcpu *hvm = vcpu->hvm;
    u64 cr3 = vmcb_cr3(hvm->vmcb), offset = rip & (PAGE_SIZE - 1);
    const u8 *at = guest_code_find(&vcpu->code, &vcpu->vm->memory.ram, cr3, rip, sizeof(u32));

    if (at) {
        hvm->code = at - offset;
        hvm->code_linear = rip - offset;
        hvm->code_cr3 = cr3;
    }
    return (const volatile u32 *)at;
}

/* The code at RIP, or where the page that it was on was last found: good enough to tell whether an
 * instruction that is known has prefixes. NULL: on two pages, or not found. */
static inline const volatile u32 *code_at(struct vcpu *vcpu, u64 rip)
{
    const struct hvm_vcpu *hvm = vcpu->hvm;
    u64 offset = rip - hvm->code_linear;

    if (offset > PAGE_SIZE - sizeof(u32) || hvm->code_cr3 != vmcb_cr3(hvm->vmcb))
        return find_code(vcpu, rip);
    return (const volatile u32 *)(hvm->code + offset);
}

/* Sets where the guest goes on. Without next-RIP save that takes a look at the code: what it was
 * when the CPU fetched it, unless the guest has changed it, or has it in another mode, with a
 * prefix or on two pages; then it is false. */
static inline bool find_next(struct vcpu *vcpu, u32 code, u8 length)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;
    u64 rip = vmcb_rip(vmcb);
    const volatile u32 *at;

    if (svm_cpuid.features & SVM_NRIP_SAVE) {
        vcpu->hvm->next_rip = vmcb_next_rip(vmcb);
        return true;
    }
    if (!svm_in_64bit_code(vmcb))
        return false;
    at = code_at(vcpu, rip);
    vcpu->hvm->next_rip = rip + length;
    return at && (*at & (BIT(8 * length) - 1)) == code;
}

/* MOV between CR0 or CR4 and a register that is known already. */
static NOINLINE enum exit_kind cr_access(struct vcpu *vcpu)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;
    const volatile u32 *at;
    u64 *gpr;
    u32 code;

    if (!svm_in_64bit_code(vmcb))
        return EXIT_NONE;
    at = guest_code_at(&vcpu->code, &vcpu->vm->memory.ram, vmcb_cr3(vmcb), vmcb_rip(vmcb),
                       sizeof(*at));
    code = at ? *at : 0;
    gpr = &vcpu->gpr[code >> CODE_RM_SHIFT & CODE_RM_MASK];
    vcpu->hvm->next_rip = vmcb_rip(vmcb) + CODE_MOV_CR_LENGTH;
    if (gpr == &vcpu->gpr[GPR_RSP] || gpr == &vcpu->gpr[GPR_RBP])
        return EXIT_NONE;
    switch (code & CODE_CR_MASK) {
    case CODE_MOV_TO_CR0:
        return svm_mov_to_cr0(vcpu, *gpr) ? EXIT_CR : EXIT_NONE;
    case CODE_MOV_TO_CR4:
        return svm_mov_to_cr4(vcpu, *gpr) ? EXIT_CR : EXIT_NONE;
    case CODE_MOV_FROM_CR0:
        *gpr = svm_cr0(vcpu);
        return EXIT_CR;
    default:
        return EXIT_NONE;
    }
}

static NOINLINE enum exit_kind msr_access(struct vcpu *vcpu)
{
    bool write = vmcb_exit_info1(vcpu->hvm->vmcb) == MSR_EXIT_WRITE;

    if (!find_next(vcpu, write ? CODE_WRMSR : CODE_RDMSR, 2))
        return EXIT_NONE;
    return write ? vcpu_fast_wrmsr(vcpu) : vcpu_fast_rdmsr(vcpu);
}

static NOINLINE enum exit_kind port_access(struct vcpu *vcpu)
{
    u64 info = vmcb_exit_info1(vcpu->hvm->vmcb);

    if (IOIO_STRING(info))
        return EXIT_NONE;
    vcpu->hvm->next_rip = vmcb_exit_info2(vcpu->hvm->vmcb);
    return vcpu_fast_port(vcpu, IOIO_PORT(info), IOIO_SIZE(info), !IOIO_IN(info));
}

static NOINLINE enum exit_kind memory_access(struct vcpu *vcpu)
{
    const struct vmcb *vmcb = vcpu->hvm->vmcb;
    u64 info = vmcb_exit_info1(vmcb);
    enum exit_kind answered;

    if (info & NPF_FETCH || vmcb_exit_int_info(vmcb) & EVENT_VALID || !svm_in_64bit_code(vmcb))
        return EXIT_NONE;
    answered = vcpu_fast_memory(vcpu, vmcb_exit_info2(vmcb), vmcb_cr3(vmcb), vmcb_rip(vmcb),
                                info & NPF_WRITE);
    vcpu->hvm->next_rip = vmcb_rip(vmcb) + vcpu->insn_length;
    return answered;
}

static NOINLINE enum exit_kind answer_cpuid(struct vcpu *vcpu)
{
    svm_notice_xcr0(vcpu);
    return find_next(vcpu, CODE_CPUID, 2) ? vcpu_fast_cpuid(vcpu) : EXIT_NONE;
}

static NOINLINE enum exit_kind answer_hlt(struct vcpu *vcpu)
{
    return find_next(vcpu, CODE_HLT, 1) ? vcpu_fast_hlt(vcpu) : EXIT_NONE;
}

static NOINLINE enum exit_kind answer_hypercall(struct vcpu *vcpu)
{
    return find_next(vcpu, CODE_VMMCALL, 3) ? vcpu_fast_hypercall(vcpu) : EXIT_NONE;
}

/* Whether a window has opened is found out when interrupts are next offered. */
static NOINLINE bool must_describe(struct vcpu *vcpu)
{
    const struct hvm_vcpu *hvm = vcpu->hvm;

    vcpu->interrupts_stale = true;
    return hvm->nmi_iret || hvm->nmi_wanted || hvm->cr0_read_once;
}

enum exit_kind svm_fast_answer(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    vmcb_set_all_clean(hvm->vmcb);
    vcpu->gpr[GPR_RAX] = vmcb_rax(hvm->vmcb);
    if ((hvm->watched && must_describe(vcpu)) ||
        (vmcb_vintr(hvm->vmcb) & VINTR_TPR) != svm_tpr_class(vcpu))
        return EXIT_NONE;
    switch (vmcb_exit_code(hvm->vmcb)) {
    case VMEXIT_MSR:
        return msr_access(vcpu);
    case VMEXIT_IOIO:
        return port_access(vcpu);
    case VMEXIT_CPUID:
        return answer_cpuid(vcpu);
    case VMEXIT_CR0_SELECTIVE:
    case VMEXIT_CR0_WRITE:
    case VMEXIT_CR4_WRITE:
    case VMEXIT_CR0_READ:
        return cr_access(vcpu);
    case VMEXIT_NPF:
        return memory_access(vcpu);
    case VMEXIT_HLT:
        return answer_hlt(vcpu);
    case VMEXIT_VMMCALL:
        return answer_hypercall(vcpu);
    default:
        return EXIT_NONE;
    }
}

/* Asked for by what the exit did; or the APIC timer, which stands for the deadline, has to be moved
 * forward, or has not been heeded: Bochs interrupts no guest that has RFLAGS.IF clear. */
static inline bool must_leave(const struct vcpu *vcpu)
{
    return cpu_must_pass(vcpu->cpu) || vcpu->deadline < vcpu->cpu->timer_armed ||
           rdtsc() >= vcpu->deadline;
}

/* Exits whose answer may have changed TPR, or what the guest's translations depend on. */
#define CHANGING_EXITS (BIT(EXIT_WRMSR) | BIT(EXIT_MEMORY) | BIT(EXIT_CR))

static NOINLINE enum svm_outcome follow_changes(struct vcpu *vcpu)
{
    svm_tpr_to_vmcb(vcpu);
    vmcb_set_tlb_control(vcpu->hvm->vmcb, TLB_KEEP);
    if (vcpu->hvm->flush)
        svm_prepare_asid(vcpu);
    return SVM_RESUME;
}

static inline enum svm_outcome resume(struct vcpu *vcpu, u64 answered)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;

    vcpu->statistics.exits[answered]++;
    vmcb_set_rax(vmcb, vcpu->gpr[GPR_RAX]);
    if (CHANGING_EXITS >> answered & 1)
        return follow_changes(vcpu);
    vmcb_set_tlb_control(vmcb, TLB_KEEP);
    return SVM_RESUME;
}

/* Moves behind an instruction that is not stepped through and does not end at 4 GiB; or not. */
static inline bool move_on(struct hvm_vcpu *hvm)
{
    if (vmcb_rflags(hvm->vmcb) & RFLAGS_TF || (vmcb_rip(hvm->vmcb) ^ hvm->next_rip) >> 32)
        return false;
    vmcb_set_rip(hvm->vmcb, hvm->next_rip);
    vmcb_set_interrupt_shadow(hvm->vmcb, 0);
    hvm->next_rip = 0; /* of no exit that enter() makes up */
    return true;
}

static NOINLINE enum svm_outcome finish_slowly(struct vcpu *vcpu, u64 answered)
{
    svm_events_after_exit(vcpu);
    if (!move_on(vcpu->hvm))
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
    if (vcpu->interrupts_stale || must_leave(vcpu) || !move_on(vcpu->hvm))
        return finish_slowly(vcpu, answered);
    vmcb_set_event_injection(vcpu->hvm->vmcb, 0);
    return resume(vcpu, answered);
}
