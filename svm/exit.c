/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* From exit codes to struct exit (AMD APM volume 2, appendix C and the sections on intercepts). */

#include "core/log.h"
#include "core/vm.h"
#include "drivers/cpu.h"
#include "svm/msr.h"
#include "svm/svm.h"

#define EXIT_CODE_MASK 0xFFFFFFFFU

#define PREFIX_ADDRESS_SIZE 0x67
#define MCG_STATUS_MCIP     BIT(2)

/* What the CPU does not say of a string instruction is in its prefixes: OUTS's segment, where
 * there are no decode assists, and the address size, which emulators leave out. */
static void decode_string(struct vcpu *vcpu, struct exit *exit)
{
    static const u8 segments[UINT8_MAX + 1] = {
        [0x26] = SEG_ES + 1, [0x2E] = SEG_CS + 1, [0x36] = SEG_SS + 1,
        [0x3E] = SEG_DS + 1, [0x64] = SEG_FS + 1, [0x65] = SEG_GS + 1,
    };
    static const u8 sizes[][2] = {
        [INSN_MODE_16] = {2, 4},
          [INSN_MODE_32] = {4, 2},
          [INSN_MODE_64] = {8, 4}
    };
    enum insn_mode mode = vcpu_insn_mode(vcpu);
    u8 bytes[INSN_MAX_LENGTH];
    size_t count = insn_length(bytes, vcpu_fetch(vcpu, bytes, sizeof(bytes)), mode);
    bool resized = false;

    exit->port.segment = SEG_DS;
    for (size_t i = 0; i < count; i++) {
        if (segments[bytes[i]])
            exit->port.segment = segments[bytes[i]] - 1;
        resized |= bytes[i] == PREFIX_ADDRESS_SIZE;
    }
    exit->port.address_size = sizes[mode][resized];
}

static void exit_ioio(struct vcpu *vcpu, struct exit *exit)
{
    u64 info = exit->qualification;

    exit->kind = EXIT_PORT;
    exit->port.number = IOIO_PORT(info);
    exit->port.size = IOIO_SIZE(info);
    exit->port.write = !IOIO_IN(info);
    exit->port.string = IOIO_STRING(info);
    exit->port.rep = IOIO_REP(info);
    vcpu->hvm->next_rip = vmcb_exit_info2(vcpu->hvm->vmcb);
    if (!exit->port.string)
        return;
    if (svm_cpuid.features & SVM_DECODE_ASSISTS) {
        exit->port.address_size = IOIO_ADDRESS_SIZE(info);
        exit->port.segment = IOIO_SEGMENT(info);
    } else {
        decode_string(vcpu, exit);
    }
    if (!exit->port.write)
        exit->port.segment = SEG_ES;
}

static void exit_msr(struct vcpu *vcpu, struct exit *exit)
{
    exit->kind = exit->qualification == MSR_EXIT_WRITE ? EXIT_WRMSR : EXIT_RDMSR;
    exit->msr.index = (u32)vcpu->gpr[GPR_RCX];
    exit->msr.value = vcpu->gpr[GPR_RDX] << 32 | (u32)vcpu->gpr[GPR_RAX];
}

static void exit_nested_page_fault(struct vcpu *vcpu, struct exit *exit)
{
    const struct vmcb *vmcb = vcpu->hvm->vmcb;

    /* An event's delivery, not the instruction at RIP, made an access to what is no RAM. */
    exit->kind = vmcb_exit_int_info(vmcb) & EVENT_VALID ? EXIT_UNHANDLED : EXIT_MEMORY;
    exit->memory.gpa = vmcb_exit_info2(vmcb);
    exit->memory.write = exit->qualification & NPF_WRITE;
    exit->memory.fetch = exit->qualification & NPF_FETCH;
    if (svm_cpuid.features & SVM_DECODE_ASSISTS)
        exit->memory.bytes_count = vmcb_fetched_bytes(vmcb, exit->memory.bytes);
}

/* #DB and #AC are only intercepted because their delivery can raise them again, for ever and
 * within one instruction. Going through the host lets its interrupts in. */
static void exit_debug_exception(struct vcpu *vcpu, struct exit *exit)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;

    vmcb_set_dr7(vmcb, vmcb_dr7(vmcb) & ~DR7_GD);
    svm_inject(vcpu, EVENT_EXCEPTION, VECTOR_DB, 0);
    exit->kind = EXIT_NONE;
}

static void exit_alignment_check(struct vcpu *vcpu, struct exit *exit)
{
    svm_inject(vcpu, EVENT_EXCEPTION, VECTOR_AC, 0);
    exit->kind = EXIT_NONE;
}

/* No virtual device does DMA past the caches, so they need no flush; and INVD would drop what
 * others have written. */
static void exit_cache_flush(struct vcpu *vcpu, struct exit *exit)
{
    svm_skip_instruction(vcpu, 0);
    exit->kind = EXIT_CR;
}

/* CPUID shows no performance counter, so there is none that RDPMC could name. */
static void exit_rdpmc(struct vcpu *vcpu, struct exit *exit)
{
    svm_inject(vcpu, EVENT_EXCEPTION, VECTOR_GP, 0);
    exit->kind = EXIT_CR;
}

/* With the guest's CR4.MCE clear a machine check shuts down. */
static void exit_shutdown(struct vcpu *vcpu, struct exit *exit)
{
    u64 status;

    exit->kind = rdmsr_try(MSR_MCG_STATUS, &status) && status & MCG_STATUS_MCIP ? EXIT_MACHINE_CHECK
                                                                                : EXIT_TRIPLE_FAULT;
}

/* A code has a function, or else a kind; without both it is unhandled. */
static const struct {
    enum exit_kind kind;
    void (*translate)(struct vcpu *vcpu, struct exit *exit);
} exits[VMEXIT_TABLE_END] = {
    [VMEXIT_CR0_READ] = {.translate = svm_exit_cr0_read},
    [VMEXIT_CR0_WRITE] = {.translate = svm_exit_cr0_write},
    [VMEXIT_CR0_SELECTIVE] = {.translate = svm_exit_cr0_write},
    [VMEXIT_CR4_WRITE] = {.translate = svm_exit_cr4_write},
    [VMEXIT_CR8_WRITE] = {.translate = svm_exit_cr8_write},
    [VMEXIT_EXCEPTION + VECTOR_DB] = {.translate = exit_debug_exception},
    [VMEXIT_EXCEPTION + VECTOR_AC] = {.translate = exit_alignment_check},
    [VMEXIT_EXCEPTION + VECTOR_MC] = {.kind = EXIT_MACHINE_CHECK},
    [VMEXIT_INTR] = {.kind = EXIT_INTERRUPT},
    /* Held back by GIF, these reached the host at STGI. */
    [VMEXIT_NMI] = {.kind = EXIT_INTERRUPT},
    [VMEXIT_SMI] = {.kind = EXIT_INTERRUPT},
    [VMEXIT_INIT] = {.kind = EXIT_INTERRUPT},
    [VMEXIT_VINTR] = {.kind = EXIT_WINDOW},
    [VMEXIT_RDPMC] = {.translate = exit_rdpmc},
    [VMEXIT_CPUID] = {.kind = EXIT_CPUID},
    [VMEXIT_IRET] = {.translate = svm_exit_iret},
    [VMEXIT_INVD] = {.translate = exit_cache_flush},
    [VMEXIT_WBINVD] = {.translate = exit_cache_flush},
    [VMEXIT_PAUSE] = {.kind = EXIT_PAUSE},
    [VMEXIT_HLT] = {.kind = EXIT_HLT},
    [VMEXIT_IOIO] = {.translate = exit_ioio},
    [VMEXIT_MSR] = {.translate = exit_msr},
    [VMEXIT_SHUTDOWN] = {.translate = exit_shutdown},
    [VMEXIT_VMMCALL] = {.kind = EXIT_HYPERCALL},
    [VMEXIT_XSETBV] = {.kind = EXIT_XSETBV},
    [VMEXIT_VMRUN] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_VMLOAD] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_VMSAVE] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_STGI] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_CLGI] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_SKINIT] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_INVLPGA] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_MONITOR] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_MWAIT] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_RDPRU] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_INVLPGB] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_INVLPGB_ILLEGAL] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_MCOMMIT] = {.kind = EXIT_UNDEFINED},
    [VMEXIT_TLBSYNC] = {.kind = EXIT_UNDEFINED},
};

static void log_invalid(struct vcpu *vcpu)
{
    const struct vmcb *vmcb = vcpu->hvm->vmcb;
    struct vmcb_segment cs = vmcb_segment(vmcb, VMCB_CS);

    log_error("%s: vCPU %u: VM entry refused: VMEXIT_INVALID", vcpu->vm->config.name, vcpu->index);
    log_error("  CR0 %#llx CR3 %#llx CR4 %#llx EFER %#llx", (unsigned long long)vmcb_cr0(vmcb),
              (unsigned long long)vmcb_cr3(vmcb), (unsigned long long)vmcb_cr4(vmcb),
              (unsigned long long)vmcb_efer(vmcb));
    log_error("  CS %#x attributes %#x, RIP %#llx, RFLAGS %#llx, DR6 %#llx, DR7 %#llx", cs.selector,
              cs.attributes, (unsigned long long)vmcb_rip(vmcb),
              (unsigned long long)vmcb_rflags(vmcb), (unsigned long long)vmcb_dr6(vmcb),
              (unsigned long long)vmcb_dr7(vmcb));
    log_error("  ASID %u, EVENTINJ %#llx, N_CR3 %#llx, G_PAT %#llx", vmcb_asid(vmcb),
              (unsigned long long)vcpu->hvm->injected, (unsigned long long)vmcb_n_cr3(vmcb),
              (unsigned long long)vmcb_g_pat(vmcb));
}

void svm_translate_exit(struct vcpu *vcpu, struct exit *exit)
{
    struct hvm_vcpu *hvm = vcpu->hvm;
    u32 code = (u32)(vmcb_exit_code(hvm->vmcb) & EXIT_CODE_MASK);

    *exit = (struct exit){
        .kind = EXIT_UNHANDLED,
        .reason = code,
        .qualification = vmcb_exit_info1(hvm->vmcb),
    };
    hvm->next_rip = svm_cpuid.features & SVM_NRIP_SAVE ? vmcb_next_rip(hvm->vmcb) : 0;
    if (code == VMEXIT_NPF) {
        exit_nested_page_fault(vcpu, exit);
    } else if (code == (u32)VMEXIT_INVALID && svm_cpuid.tcg && svm_refuses_cr4(vcpu)) {
        svm_inject(vcpu, EVENT_EXCEPTION, VECTOR_GP, 0);
        exit->kind = EXIT_CR;
    } else if (code == (u32)VMEXIT_INVALID) {
        log_invalid(vcpu);
        exit->kind = EXIT_ENTRY_FAILURE;
    } else if (code < VMEXIT_TABLE_END && exits[code].translate) {
        exits[code].translate(vcpu, exit);
    } else if (code < VMEXIT_TABLE_END && exits[code].kind != EXIT_NONE) {
        exit->kind = exits[code].kind;
    }
}

/* 0 when the guest's code is no longer what exited. */
static u64 find_next_rip(struct vcpu *vcpu, u8 length)
{
    u8 bytes[INSN_MAX_LENGTH];

    if (length == 0 && vcpu->hvm->next_rip != 0)
        return vcpu->hvm->next_rip;
    if (length == 0)
        length = insn_length(bytes, vcpu_fetch(vcpu, bytes, sizeof(bytes)), vcpu_insn_mode(vcpu));
    if (length == 0)
        return 0;
    return vmcb_rip(vcpu->hvm->vmcb) + length;
}

/* An instruction that is stepped through raises its #DB also when the hypervisor executes it. */
bool svm_skip_instruction(struct vcpu *vcpu, u8 length)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;
    u64 next = find_next_rip(vcpu, length);

    vcpu->hvm->next_rip = 0;
    if (next == 0)
        return false;
    vmcb_set_rip(vmcb, vcpu_insn_mode(vcpu) == INSN_MODE_64 ? next : (u32)next);
    vmcb_set_interrupt_shadow(vmcb, 0);
    if (vmcb_rflags(vmcb) & RFLAGS_TF) {
        vmcb_set_dr6(vmcb, vmcb_dr6(vmcb) | DR6_BS);
        svm_inject(vcpu, EVENT_EXCEPTION, VECTOR_DB, 0);
    }
    return true;
}
