/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_VMX_VMX_H
#define BULKHEAD_VMX_VMX_H

/* What the files of the VT-x backend share. Nothing outside of vmx/ includes this. */

#include "core/cpu.h"
#include "core/hvm.h"
#include "core/vm.h"
#include "vmx/capability.h"
#include "vmx/vmcs.h"

/* SDM volume 3, "Control Registers". */
#define CR0_PE    BIT(0)
#define CR0_MP    BIT(1)
#define CR0_EM    BIT(2)
#define CR0_TS    BIT(3)
#define CR0_ET    BIT(4)
#define CR0_NE    BIT(5)
#define CR0_WP    BIT(16)
#define CR0_AM    BIT(18)
#define CR0_NW    BIT(29)
#define CR0_CD    BIT(30)
#define CR0_PG    BIT(31)
#define CR4_PSE   BIT(4)
#define CR4_PAE   BIT(5)
#define CR4_MCE   BIT(6)
#define CR4_PGE   BIT(7)
#define CR4_VMXE  BIT(13)
#define CR4_SMXE  BIT(14)
#define CR4_PCIDE BIT(17)
#define CR4_SMEP  BIT(20)

#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)

#define ACCESS_RIGHTS_L BIT(13)

#define RFLAGS_TF BIT(8)
#define RFLAGS_IF BIT(9)

#define DR6_BREAKPOINTS 0xFULL
#define DR6_BS          BIT(14)
#define DR7_GD          BIT(13)

#define DEBUGCTL_BTF BIT(1)

/* The instruction behind STI or MOV SS. */
#define BLOCKED_BY_SHADOW (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS)

/* SDM volume 3, "Exceptions and Interrupts", table of vectors. */
enum exception_vector {
    VECTOR_DB = 1,
    VECTOR_NMI = 2,
    VECTOR_DF = 8,
    VECTOR_TS = 10,
    VECTOR_NP = 11,
    VECTOR_SS = 12,
    VECTOR_GP = 13,
    VECTOR_PF = 14,
    VECTOR_AC = 17,
    VECTOR_MC = 18,
};

/* MSRs that are switched with the vCPU, as the VMCS does not. Guests write them with an exit, but
 * for KERNEL_GS_BASE, which SWAPGS changes. */
enum switched_msr {
    SWITCHED_STAR,
    SWITCHED_LSTAR,
    SWITCHED_CSTAR,
    SWITCHED_FMASK,
    SWITCHED_KERNEL_GS_BASE,
    SWITCHED_TSC_AUX, /* the last: only where there is RDTSCP */
    SWITCHED_MSR_COUNT,
};

struct hvm_cpu {
    struct vmcs vmxon;
    u64 msrs[SWITCHED_MSR_COUNT]; /* what the CPU holds; not KERNEL_GS_BASE while a vCPU may run */
};

struct queued_event {
    u32 information; /* VM-entry interruption information; 0: none */
    u32 error_code;
    u32 instruction_length;
};

struct hvm_vcpu {
    paddr_t vmcs; /* its page */

    bool prepared; /* the VMCS has its constant part */
    bool attached;
    bool launched; /* since the VMCS was cleared: VMRESUME from now on */
    bool eoi_bitmap_valid;
    u32 ioapic_generation; /* that the EOI-exit bitmap was computed for */
    u16 vpid;              /* 0: none, so that every entry and exit flushes */
    u64 host_rsp;          /* as in the VMCS */
    struct cpu *last_cpu;  /* NULL: cached translations must be dropped at the next attach */

    /* Copies of control fields, to save VMREADs and needless VMWRITEs. */
    u32 primary;
    u32 secondary;
    u32 tpr_threshold;
    u64 cr0_mask, cr4_mask;
    u64 ept_pointer;
    u64 apic_base; /* that `secondary` was chosen for */

    /* What the preemption timer is armed for, and after how many more exits it has to be armed
     * anew, as it stands still in the host. */
    u64 armed_deadline;
    s32 coasting_exits;

    struct queued_event queued;
    enum exit_kind served;

    u64 msrs[SWITCHED_MSR_COUNT]; /* KERNEL_GS_BASE and what follows: while it is not attached */
    u64 dr[4], dr6, cr2;
};

/* The guest is in 64-bit code. */
static inline bool vmx_in_64bit_code(void)
{
    return (vmread_unchecked(VMCS_GUEST_IA32_EFER) & EFER_LMA) &&
           (vmread_unchecked(VMCS_GUEST_CS_ACCESS_RIGHTS) & ACCESS_RIGHTS_L);
}

static inline bool vmx_has(enum capability_word word, u64 bit)
{
    return (vmx_used.words[word] & bit) != 0;
}

enum vmx_outcome {
    VMX_RESUME = 0,  /* of vmx_fast_finish: the guest goes on */
    VMX_REFUSED = 0, /* of vmx_run: VMfail */
    VMX_EXITED,      /* vmx_handle_exit is to say why */
    VMX_SERVED,      /* an exit of the kind hvm->served has been dealt with */
};

/* entry.asm. Enters the guest with the registers in vcpu->gpr and comes back with those that it
 * had at an exit that needs more than the two functions below. host_rsp is the cache of
 * VMCS_HOST_RSP. */
enum vmx_outcome vmx_run(struct vcpu *vcpu, u64 *host_rsp, bool launched);
void vmx_exit_point(void);
void vmx_guarded_exit_point(void);

/* fast.c, called by entry.asm one after the other while RBP and R12 to R15 are still in the CPU.
 * Answers the exit, or EXIT_NONE; then moves behind the instruction and says how to go on. */
enum exit_kind vmx_fast_answer(struct vcpu *vcpu);
enum vmx_outcome vmx_fast_finish(struct vcpu *vcpu, u64 answered);

/* vmx.c */
/* Arms the preemption timer. False: there is none, or the deadline is due, and ends the next entry
 * at once. */
bool vmx_arm_timer(struct hvm_vcpu *hvm, u64 deadline);
void vmx_load_switched(const struct hvm_vcpu *hvm);
void vmx_save_switched(struct hvm_vcpu *hvm);
/* Carries out a WRMSR by the guest, or raises #GP; false where it is not a switched MSR. */
bool vmx_write_msr(struct vcpu *vcpu, u32 msr, u64 value);
/* Called under vm->lock, or before the partition runs, whenever hvm->secondary of one of its vCPUs
 * has begun or ceased to virtualise APIC accesses; that vCPU is to be flushed. */
void vmx_share_apic_access_page(struct vm *vm);
/* The linear translations of this vCPU on this CPU, and all of its partition's memory as well. */
void vmx_flush_linear(const struct hvm_vcpu *hvm);
void vmx_flush(struct vcpu *vcpu);

/* msr_bitmap.c: the two bitmaps that all vCPUs share; the first call, on the boot CPU, makes them.
 * False when memory is short. */
bool vmx_msr_bitmaps_init(void);
paddr_t vmx_msr_bitmap(bool x2apic);

/* exit.c: fills `exit` from the VMCS after an exit, or after VMfail on VMLAUNCH or VMRESUME. */
void vmx_handle_exit(struct vcpu *vcpu, struct exit *exit);
void vmx_entry_refused(struct vcpu *vcpu, struct exit *exit);

/* state.c */
void vmx_load_state(struct vcpu *vcpu, const struct vcpu_state *state);
void vmx_save_state(struct vcpu *vcpu, struct vcpu_state *state);
u64 vmx_read_register(struct vcpu *vcpu, enum hvm_register which);
void vmx_write_register(struct vcpu *vcpu, enum hvm_register which, u64 value);
void vmx_read_segment(struct vcpu *vcpu, enum segment_register which, struct segment *segment);
/* A single step is due at the end of its instruction. */
bool vmx_single_stepping(void);
bool vmx_skip_instruction(struct vcpu *vcpu, u8 length);

/* cr.c */
void vmx_init_cr_masks(struct vcpu *vcpu);
u64 vmx_read_cr0(const struct hvm_vcpu *hvm);
u64 vmx_read_cr4(const struct hvm_vcpu *hvm);
/* Without checks, but with the bits that must have a value in VMX operation. */
void vmx_write_cr0(u64 value);
void vmx_write_cr4(u64 value);
/* Computes LMA, and keeps the entry control in agreement with it. After CR0. */
void vmx_write_efer(u64 value);
/* Where CR0, CR4 and EFER say PAE paging, fills the PDPTE fields from the guest's memory. False
 * when one is invalid. */
bool vmx_load_pdptes(struct vcpu *vcpu, u64 cr0, u64 cr4, u64 efer);
void vmx_handle_cr_access(struct vcpu *vcpu, struct exit *exit);

/* interrupt.c */
bool vmx_can_inject(struct vcpu *vcpu, enum event_type type);
void vmx_inject(struct vcpu *vcpu, enum event_type type, u8 vector, u32 error_code);
void vmx_inject_gp(struct vcpu *vcpu);
void vmx_request_window(struct vcpu *vcpu, enum event_type type, bool wanted);
bool vmx_sync_interrupts(struct vcpu *vcpu);
bool vmx_interrupt_waits(const struct vcpu *vcpu);
/* For the next entry and no other. */
void vmx_write_event(struct queued_event *event);
/* Queues again the event whose delivery the exit interrupted, if it did; or what caused the
 * exit, an exception. */
void vmx_requeue_vectoring(struct hvm_vcpu *hvm);
void vmx_requeue_exception(struct hvm_vcpu *hvm, u32 information);
void vmx_set_nmi_blocking(bool blocked);

#endif
