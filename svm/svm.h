/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_SVM_SVM_H
#define BULKHEAD_SVM_SVM_H

/* What the files of the AMD-V backend share. See core/hvm.h for the seam. */

#include "core/hvm.h"
#include "svm/vmcb.h"

/* CPUID Fn8000_000A EDX. */
enum svm_feature {
    SVM_NESTED_PAGING = 1 << 0,
    SVM_LBR_VIRTUALIZATION = 1 << 1,
    SVM_LOCK = 1 << 2,
    SVM_NRIP_SAVE = 1 << 3,
    SVM_TSC_RATIO = 1 << 4,
    SVM_VMCB_CLEAN = 1 << 5,
    SVM_FLUSH_BY_ASID = 1 << 6,
    SVM_DECODE_ASSISTS = 1 << 7,
    SVM_PAUSE_FILTER = 1 << 10,
    SVM_PAUSE_FILTER_THRESHOLD = 1 << 12,
    SVM_AVIC = 1 << 13,
    SVM_VIRTUAL_VMLOAD = 1 << 15,
    SVM_VIRTUAL_GIF = 1 << 16,
    SVM_X2AVIC = 1 << 18,
    SVM_VIRTUAL_NMI = 1 << 25,
};

/* What else of CPUID matters here. */
struct svm_cpuid {
    u32 features; /* enum svm_feature */
    u32 asids;    /* ASIDs are 0 (the host's) to asids - 1 */
    bool svm, rdtscp, rdpru, invlpgb, mcommit, huge_pages;
    bool smt;    /* several threads a core */
    bool own_cr; /* CR0 and CR4 are the guest's own: see control_registers.c */
    bool tcg;    /* no CPU, but QEMU's TCG, some of whose faults are worked around */
};

/* The boot CPU's, from probe on; every other CPU has at least as much. */
extern struct svm_cpuid svm_cpuid;

struct svm_cpuid svm_read_cpuid(void);

/* Logs by name what this CPU lacks of the boot CPU's features; true when it lacks nothing. */
bool svm_check_features(u32 cpu_index);

/* Clears VM_CR.SVMDIS where it is set; false where the firmware has locked it. `changed` may be
 * NULL. */
bool svm_unlock(bool *changed);

struct hvm_cpu {
    void *host_save;        /* the page of VM_HSAVE_PA: the CPU's own format */
    struct vmcb *host_vmcb; /* holds what VMLOAD gives back to the host */
    u32 next_asid;
    u64 asid_generation;
};

struct hvm_vcpu {
    struct vmcb *vmcb;
    struct hvm_cpu *asid_cpu; /* the VMCB's ASID is valid there, while its generation is: */
    u64 asid_generation;
    bool flush;         /* translations of this guest must be dropped before the next entry */
    u64 next_rip;       /* of the instruction that exited, 0: hardware did not say */
    u64 cr0_cache_bits; /* CD and NW as the guest sees them: never in the VMCB */
    const u8 *code;     /* where a page of the guest's code was last found in its RAM, */
    u64 code_linear;    /* its linear address, GUEST_CODE_NOWHERE: none */
    u64 code_cr3;       /* and the tables that led there */
    u64 dr[4];          /* while detached */
    u64 tsc_aux;        /* while detached */
    bool nmi_blocked;
    union {
        struct {
            bool nmi_iret;      /* the IRET that ends it was seen at nmi_iret_rip */
            bool nmi_wanted;    /* shared code waits for its window */
            bool window_wanted; /* and for that of interrupts */
            bool cr0_read_once; /* CR0 reads do not exit until the next exit */
        };
        u32 watched; /* one of these is to be looked at after the next exit */
    };
    bool virtual_interrupt; /* virtual_vector waits in V_IRQ for its delivery */
    u8 virtual_vector;
    u64 nmi_iret_rip;
    enum exit_kind served;
    u64 injected;   /* EVENTINJ of the last entry */
    bool tpr_masks; /* an interrupt waits for the guest to lower CR8 */
};

/* LAPIC_TPR's bits 7:4 are CR8. */
#define TPR_CLASS_SHIFT 4

/* ---- probe.c (also the features above) */

bool svm_probe(struct hvm_report *report);

/* ---- entry.asm */

enum svm_outcome {
    SVM_RESUME, /* of svm_fast_finish: the guest goes on */
    SVM_EXITED, /* svm_translate_exit is to say why */
    SVM_SERVED, /* an exit of the kind hvm->served has been dealt with */
};

/* Runs the guest until an exit that needs more than the two functions of fast.c. RFLAGS.IF must be
 * 0 and is 0 again; a physical interrupt that ended it stays pending. A pending NMI is taken before
 * this returns. */
typedef enum svm_outcome svm_world_switch(struct vcpu *vcpu, paddr_t guest_vmcb, paddr_t host_vmcb);
svm_world_switch svm_run, svm_guarded_run; /* the second with VERW before each entry */

/* VMSAVE: what VMLOAD is to give back to the host later. */
void svm_vmsave(paddr_t vmcb);

/* ---- fast.c: called by entry.asm one after the other while RBP and R12 to R15 are still in the
 * CPU. Answers the exit, or EXIT_NONE; then moves behind the instruction and says how to go on. */

enum exit_kind svm_fast_answer(struct vcpu *vcpu);
enum svm_outcome svm_fast_finish(struct vcpu *vcpu, u64 answered);

/* ---- permissions.c */

/* Makes the two maps, once; false when memory is short. */
bool svm_permissions_init(void);
paddr_t svm_msr_permissions(void);
paddr_t svm_io_permissions(void);

/* ---- svm.c */

/* Sets all of the control area, for a guest that has not run yet or whose VMCB a shutdown left
 * undefined. */
void svm_set_controls(struct vcpu *vcpu);

/* For the next entry: an ASID that is this CPU's, without old translations if hvm->flush says so.
 */
void svm_prepare_asid(struct vcpu *vcpu);

/* The class that CR8 has. */
static inline u32 svm_tpr_class(const struct vcpu *vcpu)
{
    return lapic_read(vcpu->lapic, LAPIC_TPR) >> TPR_CLASS_SHIFT & VINTR_TPR;
}

static inline void svm_tpr_to_vmcb(struct vcpu *vcpu)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;

    vmcb_set_vintr(vmcb, (vmcb_vintr(vmcb) & ~VINTR_TPR) | svm_tpr_class(vcpu));
}

/* QEMU's TCG knows no intercept of XSETBV: there the guest's XCR0 changes without an exit. */
void svm_notice_xcr0(struct vcpu *vcpu);

/* ---- state.c */

/* RFLAGS, CR0, CR4, EFER. */
#define RFLAGS_TF BIT(8)
#define RFLAGS_IF BIT(9)

#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)

#define CR4_PAE     BIT(5)
#define CR4_LA57    BIT(12)
#define CR4_PCIDE   BIT(17)
#define CR4_OSXSAVE BIT(18)

#define EFER_LME  BIT(8)
#define EFER_LMA  BIT(10)
#define EFER_SVME BIT(12)

void svm_load_state(struct vcpu *vcpu, const struct vcpu_state *state);
void svm_save_state(struct vcpu *vcpu, struct vcpu_state *state);
u64 svm_read_register(struct vcpu *vcpu, enum hvm_register which);
void svm_write_register(struct vcpu *vcpu, enum hvm_register which, u64 value);
void svm_read_segment(struct vcpu *vcpu, enum segment_register which, struct segment *segment);

/* DR0-3 and TSC_AUX between struct hvm_vcpu and this CPU. */
void svm_switch_in(struct vcpu *vcpu);
void svm_switch_out(struct vcpu *vcpu);

/* ---- control_registers.c */

u64 svm_cr0(const struct vcpu *vcpu);
/* As the guest is to see them; unchecked. */
void svm_set_cr0(struct vcpu *vcpu, u64 value);
void svm_set_cr4(struct vcpu *vcpu, u64 value);

/* MOV to CR0 and CR4; false, and nothing has changed, where it faults. */
bool svm_mov_to_cr0(struct vcpu *vcpu, u64 value);
bool svm_mov_to_cr4(struct vcpu *vcpu, u64 value);

void svm_exit_cr0_read(struct vcpu *vcpu, struct exit *exit);
void svm_exit_cr0_write(struct vcpu *vcpu, struct exit *exit);
void svm_exit_cr4_write(struct vcpu *vcpu, struct exit *exit);
void svm_exit_cr8_write(struct vcpu *vcpu, struct exit *exit);

/* Was the guest about to write to CR4 what must fault? On QEMU's TCG (7.2) such a write ends in
 * VMEXIT_INVALID. */
bool svm_refuses_cr4(struct vcpu *vcpu);

/* Lets CR8 writes exit, or no longer: while they do, one may open an interrupt's way. */
void svm_watch_tpr(struct vcpu *vcpu, bool masks);
void svm_control_registers_after_exit(struct vcpu *vcpu);

/* ---- events.c */

bool svm_can_inject(struct vcpu *vcpu, enum event_type type);
void svm_inject(struct vcpu *vcpu, enum event_type type, u8 vector, u32 error_code);
void svm_request_window(struct vcpu *vcpu, enum event_type type, bool wanted);
void svm_set_nmi_blocked(struct vcpu *vcpu, bool blocked);

/* Nothing queued, nothing wanted, nothing blocked. */
void svm_reset_events(struct vcpu *vcpu);
void svm_exit_iret(struct vcpu *vcpu, struct exit *exit);

/* After an exit: queues the event again whose delivery it interrupted, and notices that an NMI
 * handler has ended. */
void svm_events_after_exit(struct vcpu *vcpu);

enum exception_vector {
    VECTOR_DB = 1,
    VECTOR_BP = 3,
    VECTOR_OF = 4,
    VECTOR_GP = 13,
    VECTOR_AC = 17,
    VECTOR_MC = 18,
    VECTOR_FIRST_FREE = 32, /* those below are exceptions or reserved for them */
};

/* DR6 and DR7 (APM volume 2, "Debug Registers"). */
#define DR6_BS BIT(14)
#define DR7_GD BIT(13)

/* ---- exit.c */

/* Says in neutral words why the vCPU came back. */
void svm_translate_exit(struct vcpu *vcpu, struct exit *exit);

bool svm_skip_instruction(struct vcpu *vcpu, u8 length);

#endif
