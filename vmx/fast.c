/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* The commonest exits, answered before a struct exit is built and before all registers are
 * saved. */

#include "drivers/cpu.h"
#include "vmx/vmx.h"

static enum exit_kind port_access(struct vcpu *vcpu)
{
    u64 qualification = vmread_unchecked(VMCS_EXIT_QUALIFICATION);

    if (qualification & IO_STRING)
        return EXIT_NONE;
    return vcpu_fast_port(vcpu, (u16)(qualification >> IO_PORT_SHIFT),
                          (u8)((qualification & IO_SIZE_MASK) + 1), !(qualification & IO_IN));
}

static NOINLINE enum exit_kind memory_access(struct vcpu *vcpu)
{
    u64 qualification = vmread_unchecked(VMCS_EXIT_QUALIFICATION);

    if (qualification & (EPT_FETCH | EPT_NMI_UNBLOCKED) ||
        vmread_unchecked(VMCS_IDT_VECTORING_INFORMATION) & INTERRUPTION_VALID ||
        !vmx_in_64bit_code())
        return EXIT_NONE;
    return vcpu_fast_memory(vcpu, vmread_unchecked(VMCS_GUEST_PHYSICAL_ADDRESS),
                            vmread_unchecked(VMCS_GUEST_CR3), vmread_unchecked(VMCS_GUEST_RIP),
                            qualification & EPT_WRITE);
}

enum exit_kind vmx_fast_answer(struct vcpu *vcpu)
{
    switch (vmread_unchecked(VMCS_EXIT_REASON)) {
    case REASON_WRMSR:
        return vcpu_fast_wrmsr(vcpu);
    case REASON_IO_INSTRUCTION:
        return port_access(vcpu);
    case REASON_PREEMPTION_TIMER:
        return vcpu_fast_deadline(vcpu);
    case REASON_CPUID:
        return vcpu_fast_cpuid(vcpu);
    case REASON_HLT:
        return vcpu_fast_hlt(vcpu);
    case REASON_RDMSR:
        return vcpu_fast_rdmsr(vcpu);
    case REASON_EPT_VIOLATION:
        return memory_access(vcpu);
    case REASON_VMCALL:
        return vcpu_fast_hypercall(vcpu);
    default:
        return EXIT_NONE;
    }
}

/* Moves behind an instruction that is not stepped through and does not end at 4 GiB; or not. */
static inline bool skip(u64 length)
{
    u64 rip = vmread_unchecked(VMCS_GUEST_RIP);
    u64 next = rip + length;
    u64 state;

    if ((rip ^ next) >> 32 || (vmread_unchecked(VMCS_GUEST_RFLAGS) & RFLAGS_TF))
        return false;
    vmwrite_unchecked(VMCS_GUEST_RIP, next);
    state = vmread_unchecked(VMCS_GUEST_INTERRUPTIBILITY_STATE);
    if (state & BLOCKED_BY_SHADOW)
        vmwrite_unchecked(VMCS_GUEST_INTERRUPTIBILITY_STATE, state & ~(u64)BLOCKED_BY_SHADOW);
    return true;
}

static enum vmx_outcome leave(struct vcpu *vcpu, u64 answered)
{
    vcpu->hvm->served = answered;
    return VMX_SERVED;
}

static NOINLINE enum vmx_outcome arm_timer(struct vcpu *vcpu, u64 answered)
{
    if (!vmx_arm_timer(vcpu->hvm, vcpu->deadline))
        return leave(vcpu, answered);
    vcpu->statistics.exits[answered]++;
    return VMX_RESUME;
}

static inline enum vmx_outcome resume(struct vcpu *vcpu, u64 answered)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    if (cpu_must_pass(vcpu->cpu))
        return leave(vcpu, answered);
    if (hvm->armed_deadline != vcpu->deadline || --hvm->coasting_exits < 0)
        return arm_timer(vcpu, answered);
    vcpu->statistics.exits[answered]++;
    return VMX_RESUME;
}

static NOINLINE enum vmx_outcome offer(struct vcpu *vcpu, u64 answered)
{
    enum vmx_outcome outcome;

    if (!vcpu_fast_offer(vcpu))
        return leave(vcpu, answered);
    outcome = resume(vcpu, answered);
    if (outcome == VMX_RESUME && vcpu->hvm->queued.information != 0)
        vmx_write_event(&vcpu->hvm->queued);
    return outcome;
}

static inline enum vmx_outcome go_on(struct vcpu *vcpu, u64 answered)
{
    return vcpu->interrupts_stale ? offer(vcpu, answered) : resume(vcpu, answered);
}

static NOINLINE enum vmx_outcome skip_slowly(struct vcpu *vcpu, u64 answered)
{
    vmx_skip_instruction(vcpu, answered == EXIT_MEMORY ? vcpu->insn_length : 0);
    return leave(vcpu, answered);
}

/* Exits whose instruction's length the CPU does not tell, or that are not an instruction's. */
#define WITHOUT_LENGTH (BIT(EXIT_NONE) | BIT(EXIT_DEADLINE) | BIT(EXIT_MEMORY))

static NOINLINE enum vmx_outcome finish_without_length(struct vcpu *vcpu, u64 answered)
{
    if (answered == EXIT_NONE)
        return VMX_EXITED;
    if (answered == EXIT_MEMORY && !skip(vcpu->insn_length))
        return skip_slowly(vcpu, answered);
    return go_on(vcpu, answered);
}

/* Calls nothing on its way to VMX_RESUME, so that it need not save registers. */
enum vmx_outcome vmx_fast_finish(struct vcpu *vcpu, u64 answered)
{
    if (WITHOUT_LENGTH >> answered & 1)
        return finish_without_length(vcpu, answered);
    if (!skip(vmread_unchecked(VMCS_EXIT_INSTRUCTION_LENGTH)))
        return skip_slowly(vcpu, answered);
    return go_on(vcpu, answered);
}
