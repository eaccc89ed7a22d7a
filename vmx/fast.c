/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* The commonest exits, answered before a struct exit is built and before all registers are
 * saved. */

#include "drivers/cpu.h"
#include "vmx/vmx.h"

static enum exit_kind port_access(struct vcpu *vcpu)
{
    u64 qualification = vmread(VMCS_EXIT_QUALIFICATION);

    if (qualification & IO_STRING)
        return EXIT_NONE;
    return vcpu_fast_port(vcpu, (u16)(qualification >> IO_PORT_SHIFT),
                          (u8)((qualification & IO_SIZE_MASK) + 1), !(qualification & IO_IN));
}

static enum exit_kind memory_access(struct vcpu *vcpu)
{
    u64 qualification = vmread(VMCS_EXIT_QUALIFICATION);

    if (qualification & (EPT_FETCH | EPT_NMI_UNBLOCKED) ||
        vmread(VMCS_IDT_VECTORING_INFORMATION) & INTERRUPTION_VALID || !vmx_in_64bit_code())
        return EXIT_NONE;
    return vcpu_fast_memory(vcpu, vmread(VMCS_GUEST_PHYSICAL_ADDRESS), vmread(VMCS_GUEST_CR3),
                            vmread(VMCS_GUEST_RIP), qualification & EPT_WRITE);
}

enum exit_kind vmx_fast_answer(struct vcpu *vcpu)
{
    switch (vmread(VMCS_EXIT_REASON)) {
    case REASON_WRMSR:
        return vcpu_fast_wrmsr(vcpu);
    case REASON_IO_INSTRUCTION:
        return port_access(vcpu);
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
static bool skip(u64 length)
{
    u64 rip = vmread(VMCS_GUEST_RIP);
    u64 next = rip + length;
    u64 state;

    if ((rip ^ next) >> 32 || (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_TF))
        return false;
    vmwrite(VMCS_GUEST_RIP, next);
    state = vmread(VMCS_GUEST_INTERRUPTIBILITY_STATE);
    if (state & BLOCKED_BY_SHADOW)
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY_STATE, state & ~(u64)BLOCKED_BY_SHADOW);
    return true;
}

/* The timer starts anew with each entry. False: there is none, or it is due. */
static inline __attribute__((always_inline)) bool set_timer(const struct vcpu *vcpu)
{
    u64 now;

    if (!vmx_has(WORD_PIN, PIN_PREEMPTION_TIMER))
        return false;
    now = rdtsc();
    if (now >= vcpu->deadline)
        return false;
    vmx_set_timer(vcpu->deadline - now);
    return true;
}

static __attribute__((noinline)) enum vmx_outcome skip_slowly(struct vcpu *vcpu, u32 answered)
{
    vmx_skip_instruction(vcpu, answered == EXIT_MEMORY ? vcpu->insn_length : 0);
    vcpu->hvm->served = answered;
    return VMX_SERVED;
}

static inline enum vmx_outcome go_on(struct vcpu *vcpu, u64 answered)
{
    if (cpu_must_pass(vcpu->cpu) || !set_timer(vcpu)) {
        vcpu->hvm->served = answered;
        return VMX_SERVED;
    }
    vcpu->statistics.exits[answered]++;
    return VMX_RESUME;
}

static __attribute__((noinline)) enum vmx_outcome offer(struct vcpu *vcpu, u64 answered)
{
    enum vmx_outcome outcome = VMX_SERVED;

    if (vcpu_fast_offer(vcpu))
        outcome = go_on(vcpu, answered);
    else
        vcpu->hvm->served = answered;
    if (outcome == VMX_RESUME && vcpu->hvm->queued.information != 0)
        vmx_write_event(&vcpu->hvm->queued);
    return outcome;
}

/* Calls nothing on its way to VMX_RESUME, so that it need not save registers. */
enum vmx_outcome vmx_fast_finish(struct vcpu *vcpu, u64 answered)
{
    if (answered == EXIT_NONE)
        return VMX_EXITED;
    if (!skip(answered == EXIT_MEMORY ? vcpu->insn_length : vmread(VMCS_EXIT_INSTRUCTION_LENGTH)))
        return skip_slowly(vcpu, answered);
    if (vcpu->interrupts_stale)
        return offer(vcpu, answered);
    return go_on(vcpu, answered);
}
