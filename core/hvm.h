/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_HVM_H
#define BULKHEAD_CORE_HVM_H

/* The seam between shared code and the CPU vendor's virtualisation: one const table per backend,
 * chosen once at boot. Vendor code answers small questions; shared code decides.
 *
 * Unless it says otherwise, a function is called on the physical CPU that owns the vCPU, with
 * interrupts off, while the vCPU is not in guest mode. */

#include "core/exit.h"
#include "core/insn.h"
#include "core/vcpu.h"
#include "core/vcpu_state.h"
#include "mm/page_table.h"

/* Registers that the hardware keeps and that shared code reads or writes one at a time. */
enum hvm_register {
    HVM_RIP,
    HVM_RSP,
    HVM_RFLAGS,
    HVM_CR0,
    HVM_CR2,
    HVM_CR3,
    HVM_CR4,
    HVM_EFER,
    HVM_PAT,
    HVM_DEBUGCTL,
    HVM_FS_BASE,
    HVM_GS_BASE,
    HVM_SYSENTER_CS,
    HVM_SYSENTER_ESP,
    HVM_SYSENTER_EIP,
    HVM_REGISTER_COUNT,
};

/* An event to deliver on the next entry. */
enum event_type {
    EVENT_INTERRUPT, /* external interrupt, `vector` */
    EVENT_NMI,
    EVENT_EXCEPTION, /* hardware exception, `vector` */
};

/* Exceptions that push an error code: #DF, #TS, #NP, #SS, #GP, #PF and #AC (SDM volume 3,
 * "Exceptions and Interrupts"; APM volume 2, "Vectors"). */
#define EXCEPTIONS_WITH_ERROR_CODE                                                                 \
    (BIT(8) | BIT(10) | BIT(11) | BIT(12) | BIT(13) | BIT(14) | BIT(17))

static inline bool exception_has_error_code(u8 vector)
{
    return vector < 32 && (EXCEPTIONS_WITH_ERROR_CODE >> vector & 1);
}

/* One line of the capability report: what the feature is, and its fate. */
enum feature_state {
    FEATURE_USED,
    FEATURE_UNUSED, /* the CPU has it; nothing here needs it */
    FEATURE_ABSENT,
    FEATURE_MISSING, /* absent, and required */
};

struct hvm_feature {
    const char *name;
    enum feature_state state;
};

#define HVM_FEATURES_MAX 64
#define HVM_REFUSAL_SIZE 256

struct hvm_report {
    bool usable;
    char refusal[HVM_REFUSAL_SIZE]; /* why not, one sentence that says what to change */
    char note[HVM_REFUSAL_SIZE];    /* e.g. "enabled here, as the firmware had left it unlocked" */
    struct hvm_feature features[HVM_FEATURES_MAX];
    u32 feature_count;
    u32 nested_large_sizes; /* page sizes of the nested tables: bit 0 2 MiB, bit 1 1 GiB */
    bool tsc_scaling;       /* vm->tsc_ratio is honoured */
    bool virtual_apic;      /* the guest reads its LAPIC's registers, or writes EOI, without an
                               exit */
    bool entry_deadline;    /* enter() comes back at its deadline by itself; else shared code arms
                               the host's local APIC timer */
};

struct hvm_ops {
    const char *name; /* "VT-x" or "AMD-V" */
    const struct page_table_format *nested_format;
    u64 vcpu_size; /* bytes of struct hvm_vcpu */

    /* True when this CPU is of the backend's vendor family or has its feature bit in CPUID. When
     * true, fills the report; touches no MSR that CPUID does not announce. Called once, on the
     * boot CPU, before anything else. */
    bool (*probe)(struct hvm_report *report);

    /* Turns virtualisation on, for good, on the calling CPU. Checks that the CPU has all that the
     * boot CPU has; false after logging, by name, what it lacks. `cpu->hvm` is the backend's
     * own. */
    bool (*cpu_on)(struct cpu *cpu);

    /* Fills vcpu->hvm, which is zeroed, and allocates (vm_alloc) and frees what else the backend
     * keeps for a vCPU. CPU 0; false when memory is short. vcpu_free: after detach. */
    bool (*vcpu_init)(struct vcpu *vcpu);
    void (*vcpu_free)(struct vcpu *vcpu);

    /* Makes the vCPU this CPU's (VMPTRLD and host state; switches in debug registers and the
     * MSRs that hardware does not switch), and takes it off again. Between two attach calls on
     * one CPU stands one detach. The caller has switched XCR0 and the XSAVE area, and CR3 to the
     * partition's host address space. After detach the vCPU may be attached on another CPU. */
    void (*attach)(struct cpu *cpu, struct vcpu *vcpu);
    void (*detach)(struct cpu *cpu, struct vcpu *vcpu);

    /* Runs the guest until its next exit, at the latest about when the host's TSC reaches
     * `deadline`, and says why it came back. Attached vCPUs only. An event whose delivery the
     * exit interrupted is queued again by the backend. */
    void (*enter)(struct vcpu *vcpu, u64 deadline, struct exit *exit);

    /* The whole state at once: start, SIPI, INIT, snapshot, dump. Attached vCPUs only.
     * gpr[] is copied to and from vcpu->gpr. */
    void (*load_state)(struct vcpu *vcpu, const struct vcpu_state *state);
    void (*save_state)(struct vcpu *vcpu, struct vcpu_state *state);

    u64 (*read_register)(struct vcpu *vcpu, enum hvm_register which);
    void (*write_register)(struct vcpu *vcpu, enum hvm_register which, u64 value);
    void (*read_segment)(struct vcpu *vcpu, enum segment_register which, struct segment *segment);

    /* Moves RIP behind the instruction that exited and ends an STI or MOV SS shadow. `length` 0:
     * the one that exited for what it is, the backend finds its length; false when it cannot
     * (the guest's code changed under it): then nothing moved, just enter again. */
    bool (*skip_instruction)(struct vcpu *vcpu, u8 length);

    /* Can the guest take an event of this type at its next instruction: RFLAGS.IF, shadows, NMI
     * blocking, no event queued already? */
    bool (*can_inject)(struct vcpu *vcpu, enum event_type type);
    /* Queues an event for the next entry, with an error code where the exception has one. An
     * exception replaces a queued interrupt, which the caller has not lost: can_inject said no to
     * it. */
    void (*inject)(struct vcpu *vcpu, enum event_type type, u8 vector, u32 error_code);
    /* Asks for EXIT_WINDOW as soon as can_inject(type) would hold, or no longer. */
    void (*request_window)(struct vcpu *vcpu, enum event_type type, bool wanted);

    /* Tells the hardware that the LAPIC's IRR, ISR, TPR or mode, or the EOI-exit bitmap, changed;
     * call it, under vm->lock, whenever vcpu->interrupts_stale. True: the hardware delivers the
     * LAPIC's vectors from the virtual-APIC page by itself, so shared code injects nothing but
     * ExtINT and NMI. False: shared code uses can_inject and inject for them as well. */
    bool (*sync_interrupts)(struct vcpu *vcpu);
    /* Whether the LAPIC has a vector that may be delivered now, under vm->lock; NULL where
     * lapic_pending_vector says it. */
    bool (*interrupt_waits)(const struct vcpu *vcpu);

    /* Guest TSC = host TSC, scaled by vm->tsc_ratio, + vcpu->tsc_offset from the next entry on. */
    void (*set_tsc_offset)(struct vcpu *vcpu, u64 offset);
};

_Static_assert(sizeof(struct hvm_ops) / sizeof(void *) - 3 < 20, "fewer than twenty functions");

/* A backend announces its table with this, and nothing outside its folder names it. */
#define HVM_BACKEND(ops)                                                                           \
    static const struct hvm_ops *const ops##_announced                                             \
        __attribute__((used, section(".backends"))) = &(ops)

/* What a backend may ask of shared code. */

/* Copies up to `size` instruction bytes at the guest's CS:RIP through its page tables; returns
 * how many could be read. */
size_t vcpu_fetch(struct vcpu *vcpu, u8 *bytes, size_t size);

/* The mode that CS and EFER put the guest's decoder into. */
enum insn_mode vcpu_insn_mode(struct vcpu *vcpu);

/* Does the administrator want this feature, named as in the report, treated as absent (`without=`
 * on the command line)? */
bool host_without(const char *feature);

/* Answers to exits that a backend need not describe; it then moves RIP on by itself. They look at
 * RAX, RCX, RDX, RBX, RSI, RDI and R8 to R11 in vcpu->gpr only. The kind of exit that was answered,
 * or EXIT_NONE: nothing has happened, and the exit is to be described. */
enum exit_kind vcpu_fast_cpuid(struct vcpu *vcpu);
enum exit_kind vcpu_fast_hypercall(struct vcpu *vcpu);
enum exit_kind vcpu_fast_hlt(struct vcpu *vcpu);
enum exit_kind vcpu_fast_rdmsr(struct vcpu *vcpu);
enum exit_kind vcpu_fast_wrmsr(struct vcpu *vcpu);
/* A load or store (`write`) of a device's register by 64-bit code; also sets vcpu->insn_length. */
enum exit_kind vcpu_fast_memory(struct vcpu *vcpu, u64 gpa, u64 cr3, u64 rip, bool write);
enum exit_kind vcpu_fast_port(struct vcpu *vcpu, u16 port, u8 size, bool write);
/* The deadline has passed, and a timer of the machine is due: else EXIT_NONE. */
enum exit_kind vcpu_fast_deadline(struct vcpu *vcpu);

/* After such an answer, while vcpu->interrupts_stale: vcpu_offer_interrupts, where that takes no
 * more than these registers. False: the vCPU has to be left to the scheduler. */
bool vcpu_fast_offer(struct vcpu *vcpu);

/* What the guest may have in CR4, EFER and XCR0 by the CPUID policy of its partition; and what it
 * may not have in CR4 although this CPU knows it. */
u64 vcpu_cr4_allowed(const struct vcpu *vcpu);
u64 vcpu_cr4_withheld(const struct vcpu *vcpu);
u64 vcpu_efer_allowed(const struct vcpu *vcpu);

#endif
