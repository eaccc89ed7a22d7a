/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "core/log.h"
#include "vmx/vmx.h"

/* How an exit reason becomes a struct exit. A handler may change the kind that its row gives.
 * Where nothing is set, the reason is unknown here. */
struct exit_row {
    void (*handle)(struct vcpu *vcpu, struct exit *exit);
    u8 kind; /* enum exit_kind */
    bool known;
    bool qualification; /* wanted */
    bool vectoring;     /* may come while an event is being delivered */
};

/* ---- VM entries that failed -------------------------------------------------------------- */

/* SDM volume 3, "VM Instruction Error Numbers". */
static const char *const instruction_errors[] = {
    [1] = "VMCALL in VMX root operation",
    [2] = "VMCLEAR with invalid physical address",
    [3] = "VMCLEAR with VMXON pointer",
    [4] = "VMLAUNCH with non-clear VMCS",
    [5] = "VMRESUME with non-launched VMCS",
    [6] = "VMRESUME after VMXOFF",
    [7] = "VM entry with invalid control fields",
    [8] = "VM entry with invalid host-state fields",
    [9] = "VMPTRLD with invalid physical address",
    [10] = "VMPTRLD with VMXON pointer",
    [11] = "VMPTRLD with incorrect VMCS revision identifier",
    [12] = "VMREAD or VMWRITE of unsupported VMCS component",
    [13] = "VMWRITE to read-only VMCS component",
    [15] = "VMXON in VMX root operation",
    [16] = "VM entry with invalid executive-VMCS pointer",
    [17] = "VM entry with non-launched executive VMCS",
    [18] = "VM entry with executive-VMCS pointer not VMXON pointer",
    [19] = "VMCALL with non-clear VMCS",
    [20] = "VMCALL with invalid VM-exit control fields",
    [22] = "VMCALL with incorrect MSEG revision identifier",
    [23] = "VMXOFF under dual-monitor treatment of SMIs and SMM",
    [24] = "VMCALL with invalid SMM-monitor features",
    [25] = "VM entry with invalid VM-execution control fields in executive VMCS",
    [26] = "VM entry with events blocked by MOV SS",
    [28] = "invalid operand to INVEPT or INVVPID",
};

/* SDM volume 3, "Information for VM Exits That Occur Before or During Event Delivery": exit
 * qualifications of failures due to invalid guest state. */
static const char *const guest_state_errors[] = {
    [0] = "invalid guest state",
    [2] = "invalid PDPTE",
    [3] = "NMI injected while blocked by STI",
    [4] = "invalid VMCS link pointer",
};

static const struct {
    const char *name;
    enum vmcs_field field;
} shown_fields[] = {
    {"pin-based controls",             VMCS_PIN_BASED_CONTROLS            },
    {"primary controls",               VMCS_PRIMARY_CONTROLS              },
    {"secondary controls",             VMCS_SECONDARY_CONTROLS            },
    {"exit controls",                  VMCS_EXIT_CONTROLS                 },
    {"entry controls",                 VMCS_ENTRY_CONTROLS                },
    {"entry interruption information", VMCS_ENTRY_INTERRUPTION_INFORMATION},
    {"EPT pointer",                    VMCS_EPT_POINTER                   },
    {"CR0",                            VMCS_GUEST_CR0                     },
    {"CR3",                            VMCS_GUEST_CR3                     },
    {"CR4",                            VMCS_GUEST_CR4                     },
    {"EFER",                           VMCS_GUEST_IA32_EFER               },
    {"RIP",                            VMCS_GUEST_RIP                     },
    {"RFLAGS",                         VMCS_GUEST_RFLAGS                  },
    {"DR7",                            VMCS_GUEST_DR7                     },
    {"DEBUGCTL",                       VMCS_GUEST_IA32_DEBUGCTL           },
    {"PAT",                            VMCS_GUEST_IA32_PAT                },
    {"interruptibility",               VMCS_GUEST_INTERRUPTIBILITY_STATE  },
    {"pending debug exceptions",       VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS},
    {"host CR0",                       VMCS_HOST_CR0                      },
    {"host CR3",                       VMCS_HOST_CR3                      },
    {"host CR4",                       VMCS_HOST_CR4                      },
    {"host EFER",                      VMCS_HOST_IA32_EFER                },
};

static const char *const segment_names[SEG_COUNT] = {
    [SEG_ES] = "ES", [SEG_CS] = "CS", [SEG_SS] = "SS",     [SEG_DS] = "DS",
    [SEG_FS] = "FS", [SEG_GS] = "GS", [SEG_LDTR] = "LDTR", [SEG_TR] = "TR",
};

static const char *name_of(const char *const *names, size_t count, u64 number)
{
    return number < count && names[number] ? names[number] : "unknown error";
}

static void log_fields(struct vcpu *vcpu)
{
    struct segment segment;

    for (u32 i = 0; i < ARRAY_SIZE(shown_fields); i++)
        log_error("  %s %llX", shown_fields[i].name,
                  (unsigned long long)vmread(shown_fields[i].field));
    for (u32 i = 0; i < SEG_COUNT; i++) {
        vmx_read_segment(vcpu, i, &segment);
        log_error("  %s %04X base %llX limit %X attributes %04X", segment_names[i],
                  segment.selector, (unsigned long long)segment.base, segment.limit,
                  segment.attributes);
    }
}

/* Whatever is wrong in the VMCS goes with it: the next attach makes it anew. */
static void show_and_distrust(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    log_fields(vcpu);
    hvm->prepared = false;
    hvm->last_cpu = NULL;
    hvm->host_rsp = 0;
}

void vmx_entry_refused(struct vcpu *vcpu, struct exit *exit)
{
    u32 error = (u32)vmread(VMCS_INSTRUCTION_ERROR);

    exit->kind = EXIT_ENTRY_FAILURE;
    exit->served = false;
    exit->reason = EXIT_REASON_ENTRY_FAILURE;
    exit->qualification = error;
    log_error("%s: vCPU %u: VM entry refused: error %u, %s", vcpu->vm->config.name, vcpu->index,
              error, name_of(instruction_errors, ARRAY_SIZE(instruction_errors), error));
    show_and_distrust(vcpu);
}

static void entry_failed(struct vcpu *vcpu, struct exit *exit)
{
    u32 reason = exit->reason & EXIT_REASON_BASIC_MASK;

    exit->kind = reason == REASON_ENTRY_MACHINE_CHECK ? EXIT_MACHINE_CHECK : EXIT_ENTRY_FAILURE;
    exit->qualification = vmread(VMCS_EXIT_QUALIFICATION);
    log_error("%s: vCPU %u: VM entry failed: reason %u, %s (qualification %llX)",
              vcpu->vm->config.name, vcpu->index, reason,
              reason == REASON_INVALID_GUEST_STATE
                  ? name_of(guest_state_errors, ARRAY_SIZE(guest_state_errors), exit->qualification)
                  : "not the guest's state",
              (unsigned long long)exit->qualification);
    show_and_distrust(vcpu);
}

/* ---- handlers ---------------------------------------------------------------------------- */

/* The CPU blocks NMIs until the next IRET, which the handler's return is. */
static void take_host_nmi(void)
{
    __asm__ volatile("int $2" ::: "memory");
}

/* What the delivery of #DB would have done (SDM volume 3, "Debug Exceptions": DR6 and DR7.GD).
 * Where a shadow ends with a single step due, VM entry wants the step to be pending. */
static void prepare_debug_exception(void)
{
    u64 causes = vmread(VMCS_EXIT_QUALIFICATION) & DEBUG_QUALIFICATION_MASK;
    u64 dr6;

    __asm__ volatile("movq %%dr6, %0" : "=r"(dr6));
    dr6 = (dr6 & ~DR6_BREAKPOINTS) | causes;
    __asm__ volatile("movq %0, %%dr6" ::"r"(dr6));
    vmwrite(VMCS_GUEST_DR7, vmread(VMCS_GUEST_DR7) & ~DR7_GD);
    if (vmx_single_stepping() && (vmread(VMCS_GUEST_INTERRUPTIBILITY_STATE) & BLOCKED_BY_SHADOW))
        vmwrite(VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, DR6_BS);
}

static void handle_exception_or_nmi(struct vcpu *vcpu, struct exit *exit)
{
    struct hvm_vcpu *hvm = vcpu->hvm;
    u32 information = (u32)vmread(VMCS_EXIT_INTERRUPTION_INFORMATION);
    u32 vector = information & INTERRUPTION_VECTOR_MASK;
    u32 type = information & INTERRUPTION_TYPE_MASK;

    if (type == INTERRUPTION_NMI) {
        take_host_nmi();
        return;
    }
    if ((information & INTERRUPTION_NMI_UNBLOCKED) && hvm->queued.information == 0)
        vmx_set_nmi_blocking(true);
    if (vector == VECTOR_MC) {
        exit->kind = EXIT_MACHINE_CHECK;
        return;
    }
    if (vector == VECTOR_DB && type == INTERRUPTION_HARDWARE_EXCEPTION)
        prepare_debug_exception();
    vmx_requeue_exception(hvm, information);
}

static void handle_invd(struct vcpu *vcpu, struct exit *exit)
{
    vmx_skip_instruction(vcpu, 0);
}

static void handle_rdpmc(struct vcpu *vcpu, struct exit *exit)
{
    vmx_inject_gp(vcpu);
}

static void handle_io(struct vcpu *vcpu, struct exit *exit)
{
    u64 qualification = exit->qualification;
    u32 information;

    exit->port.number = (u16)(qualification >> IO_PORT_SHIFT);
    exit->port.size = (u8)((qualification & IO_SIZE_MASK) + 1);
    exit->port.write = !(qualification & IO_IN);
    exit->port.string = (qualification & IO_STRING) != 0;
    exit->port.rep = (qualification & IO_REP) != 0;
    if (!exit->port.string)
        return;
    information = (u32)vmread(VMCS_EXIT_INSTRUCTION_INFORMATION);
    exit->port.address_size =
        (u8)(2 << (information >> IO_ADDRESS_SIZE_SHIFT & IO_ADDRESS_SIZE_MASK));
    exit->port.segment = (u8)(information >> IO_SEGMENT_SHIFT & IO_SEGMENT_MASK);
}

static void handle_rdmsr(struct vcpu *vcpu, struct exit *exit)
{
    exit->msr.index = (u32)vcpu->gpr[GPR_RCX];
}

static void handle_wrmsr(struct vcpu *vcpu, struct exit *exit)
{
    exit->msr.index = (u32)vcpu->gpr[GPR_RCX];
    exit->msr.value = vcpu->gpr[GPR_RDX] << 32 | (u32)vcpu->gpr[GPR_RAX];
    exit->served = vmx_write_msr(vcpu, exit->msr.index, exit->msr.value);
}

static void handle_tpr_below_threshold(struct vcpu *vcpu, struct exit *exit)
{
    vcpu->interrupts_stale = true;
}

static void handle_apic_access(struct vcpu *vcpu, struct exit *exit)
{
    u64 type = exit->qualification & APIC_ACCESS_TYPE_MASK;

    exit->memory.gpa = LAPIC_BASE_DEFAULT + (exit->qualification & APIC_ACCESS_OFFSET_MASK);
    exit->memory.write = type == APIC_ACCESS_WRITE;
    exit->memory.fetch = type == APIC_ACCESS_FETCH;
    exit->memory.bytes_count = 0;
}

static void handle_virtualized_eoi(struct vcpu *vcpu, struct exit *exit)
{
    exit->apic.vector = (u8)exit->qualification;
}

static void handle_apic_write(struct vcpu *vcpu, struct exit *exit)
{
    exit->apic.offset = exit->qualification & APIC_ACCESS_OFFSET_MASK;
}

static void handle_ept_violation(struct vcpu *vcpu, struct exit *exit)
{
    u64 qualification = exit->qualification;

    if ((qualification & EPT_NMI_UNBLOCKED) && vcpu->hvm->queued.information == 0)
        vmx_set_nmi_blocking(true);
    exit->memory.gpa = vmread(VMCS_GUEST_PHYSICAL_ADDRESS);
    exit->memory.write = (qualification & EPT_WRITE) != 0;
    exit->memory.fetch = (qualification & EPT_FETCH) != 0;
    exit->memory.bytes_count = 0;
}

static void handle_ept_misconfiguration(struct vcpu *vcpu, struct exit *exit)
{
    exit->qualification = vmread(VMCS_GUEST_PHYSICAL_ADDRESS);
    log_error("%s: vCPU %u: EPT entry for %llX is misconfigured", vcpu->vm->config.name,
              vcpu->index, (unsigned long long)exit->qualification);
}

#define KNOWN(its_kind, ...)                                                                       \
    {                                                                                              \
        .known = true, .kind = its_kind, __VA_ARGS__                                               \
    }

/* clang-format off */
static const struct exit_row exit_rows[] = {
    [REASON_EXCEPTION_OR_NMI] = KNOWN(EXIT_NONE, .handle = handle_exception_or_nmi, .vectoring = true),
    [REASON_EXTERNAL_INTERRUPT] = KNOWN(EXIT_INTERRUPT),
    [REASON_TRIPLE_FAULT] = KNOWN(EXIT_TRIPLE_FAULT),
    [REASON_INIT_SIGNAL] = KNOWN(EXIT_NONE), /* of the host: nobody sends one on purpose */
    [REASON_INTERRUPT_WINDOW] = KNOWN(EXIT_WINDOW),
    [REASON_NMI_WINDOW] = KNOWN(EXIT_WINDOW),
    [REASON_TASK_SWITCH] = KNOWN(EXIT_UNHANDLED, .qualification = true, .vectoring = true),
    [REASON_CPUID] = KNOWN(EXIT_CPUID),
    [REASON_GETSEC] = KNOWN(EXIT_UNDEFINED),
    [REASON_HLT] = KNOWN(EXIT_HLT),
    [REASON_INVD] = KNOWN(EXIT_CR, .handle = handle_invd),
    [REASON_RDPMC] = KNOWN(EXIT_CR, .handle = handle_rdpmc),
    [REASON_RSM] = KNOWN(EXIT_UNDEFINED),
    [REASON_VMCALL] = KNOWN(EXIT_HYPERCALL),
    [REASON_VMCLEAR] = KNOWN(EXIT_UNDEFINED),
    [REASON_VMLAUNCH] = KNOWN(EXIT_UNDEFINED),
    [REASON_VMPTRLD] = KNOWN(EXIT_UNDEFINED),
    [REASON_VMPTRST] = KNOWN(EXIT_UNDEFINED),
    [REASON_VMREAD] = KNOWN(EXIT_UNDEFINED),
    [REASON_VMRESUME] = KNOWN(EXIT_UNDEFINED),
    [REASON_VMWRITE] = KNOWN(EXIT_UNDEFINED),
    [REASON_VMXOFF] = KNOWN(EXIT_UNDEFINED),
    [REASON_VMXON] = KNOWN(EXIT_UNDEFINED),
    [REASON_CR_ACCESS] = KNOWN(EXIT_CR, .handle = vmx_handle_cr_access, .qualification = true),
    [REASON_IO_INSTRUCTION] = KNOWN(EXIT_PORT, .handle = handle_io, .qualification = true),
    [REASON_RDMSR] = KNOWN(EXIT_RDMSR, .handle = handle_rdmsr),
    [REASON_WRMSR] = KNOWN(EXIT_WRMSR, .handle = handle_wrmsr),
    [REASON_MWAIT] = KNOWN(EXIT_UNDEFINED),
    [REASON_MONITOR] = KNOWN(EXIT_UNDEFINED),
    [REASON_PAUSE] = KNOWN(EXIT_PAUSE),
    [REASON_TPR_BELOW_THRESHOLD] = KNOWN(EXIT_NONE, .handle = handle_tpr_below_threshold),
    [REASON_APIC_ACCESS] = KNOWN(EXIT_MEMORY, .handle = handle_apic_access, .qualification = true, .vectoring = true),
    [REASON_VIRTUALIZED_EOI] = KNOWN(EXIT_EOI, .handle = handle_virtualized_eoi, .qualification = true),
    [REASON_EPT_VIOLATION] = KNOWN(EXIT_MEMORY, .handle = handle_ept_violation, .qualification = true, .vectoring = true),
    [REASON_EPT_MISCONFIGURATION] = KNOWN(EXIT_UNHANDLED, .handle = handle_ept_misconfiguration, .vectoring = true),
    [REASON_INVEPT] = KNOWN(EXIT_UNDEFINED),
    [REASON_PREEMPTION_TIMER] = KNOWN(EXIT_DEADLINE),
    [REASON_INVVPID] = KNOWN(EXIT_UNDEFINED),
    [REASON_XSETBV] = KNOWN(EXIT_XSETBV),
    [REASON_APIC_WRITE] = KNOWN(EXIT_APIC_WRITE, .handle = handle_apic_write, .qualification = true),
    [REASON_ENCLS] = KNOWN(EXIT_UNDEFINED),
};
/* clang-format on */

static const struct exit_row unknown_row = {.kind = EXIT_UNHANDLED, .qualification = true};

void vmx_handle_exit(struct vcpu *vcpu, struct exit *exit)
{
    struct hvm_vcpu *hvm = vcpu->hvm;
    u32 reason = (u32)vmread(VMCS_EXIT_REASON);
    u32 basic = reason & EXIT_REASON_BASIC_MASK;
    const struct exit_row *row = &unknown_row;

    exit->reason = reason;
    exit->served = false;
    if (reason & EXIT_REASON_ENTRY_FAILURE) {
        entry_failed(vcpu, exit);
        return;
    }
    hvm->launched = true;
    if (basic < ARRAY_SIZE(exit_rows) && exit_rows[basic].known)
        row = &exit_rows[basic];
    exit->kind = row->kind;
    exit->qualification = row->qualification ? vmread(VMCS_EXIT_QUALIFICATION) : 0;
    if (row->vectoring)
        vmx_requeue_vectoring(hvm);
    if (row->handle)
        row->handle(vcpu, exit);
    /* An event's delivery, not the instruction at RIP, made an access to what is no RAM. */
    if (exit->kind == EXIT_MEMORY && hvm->queued.information)
        exit->kind = EXIT_UNHANDLED;
}
