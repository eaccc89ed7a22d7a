/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "vmx/vmx.h"

#define STATUS_SERVICED_SHIFT 8 /* SVI in the guest interrupt status; RVI is below it */

/* What must not be pending for an event of a type to be taken. Whether STI's shadow blocks NMIs
 * depends on the CPU (SDM volume 3, "Interruptibility State"), so it does. */
static const u32 blocking[] = {
    [EVENT_INTERRUPT] = BLOCKED_BY_SHADOW,
    [EVENT_NMI] = BLOCKED_BY_SHADOW | BLOCKED_BY_NMI,
    [EVENT_EXCEPTION] = 0,
};

bool vmx_can_inject(struct vcpu *vcpu, enum event_type type)
{
    if (vcpu->hvm->queued.information != 0)
        return false;
    if (type == EVENT_INTERRUPT && !(vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF))
        return false;
    return !(vmread(VMCS_GUEST_INTERRUPTIBILITY_STATE) & blocking[type]);
}

/* In real mode an exception has no error code: VM entry checks that. */
static u32 exception_information(u8 vector)
{
    u32 information = INTERRUPTION_VALID | INTERRUPTION_HARDWARE_EXCEPTION | vector;

    if (exception_has_error_code(vector) && (vmread(VMCS_GUEST_CR0) & CR0_PE))
        information |= INTERRUPTION_ERROR_CODE;
    return information;
}

void vmx_inject(struct vcpu *vcpu, enum event_type type, u8 vector, u32 error_code)
{
    struct queued_event *queued = &vcpu->hvm->queued;

    *queued = (struct queued_event){.error_code = error_code};
    if (type == EVENT_EXCEPTION)
        queued->information = exception_information(vector);
    else if (type == EVENT_NMI)
        queued->information = INTERRUPTION_VALID | INTERRUPTION_NMI | VECTOR_NMI;
    else
        queued->information = INTERRUPTION_VALID | INTERRUPTION_EXTERNAL | vector;
}

void vmx_inject_gp(struct vcpu *vcpu)
{
    vmx_inject(vcpu, EVENT_EXCEPTION, VECTOR_GP, 0);
}

void vmx_request_window(struct vcpu *vcpu, enum event_type type, bool wanted)
{
    struct hvm_vcpu *hvm = vcpu->hvm;
    u32 control = type == EVENT_NMI ? PRIMARY_NMI_WINDOW_EXITING : PRIMARY_INTERRUPT_WINDOW_EXITING;
    u32 primary = wanted ? hvm->primary | control : hvm->primary & ~control;

    if (primary == hvm->primary)
        return;
    hvm->primary = primary;
    vmwrite(VMCS_PRIMARY_CONTROLS, primary);
}

void vmx_set_nmi_blocking(bool blocked)
{
    u64 state = vmread(VMCS_GUEST_INTERRUPTIBILITY_STATE);
    u64 wanted = blocked ? state | BLOCKED_BY_NMI : state & ~(u64)BLOCKED_BY_NMI;

    if (wanted != state)
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY_STATE, wanted);
}

/* SDM volume 3, "Event Injection": software interrupts and exceptions push the address behind the
 * instruction, which takes its length. */
static void requeue(struct hvm_vcpu *hvm, u32 information, enum vmcs_field error_code)
{
    u32 type = information & INTERRUPTION_TYPE_MASK;
    struct queued_event *queued = &hvm->queued;

    *queued = (struct queued_event){.information = information & ~(u32)INTERRUPTION_NMI_UNBLOCKED};
    if (information & INTERRUPTION_ERROR_CODE)
        queued->error_code = (u32)vmread(error_code);
    if (type == INTERRUPTION_SOFTWARE_INTERRUPT || type == INTERRUPTION_SOFTWARE_EXCEPTION ||
        type == INTERRUPTION_PRIVILEGED_SOFTWARE_EXCEPTION)
        queued->instruction_length = (u32)vmread(VMCS_EXIT_INSTRUCTION_LENGTH);
}

void vmx_requeue_vectoring(struct hvm_vcpu *hvm)
{
    u32 information = (u32)vmread(VMCS_IDT_VECTORING_INFORMATION);

    if (!(information & INTERRUPTION_VALID))
        return;
    requeue(hvm, information, VMCS_IDT_VECTORING_ERROR_CODE);
    /* Its delivery had blocked further ones already, and injecting it wants that not to be so. */
    if ((information & INTERRUPTION_TYPE_MASK) == INTERRUPTION_NMI)
        vmx_set_nmi_blocking(false);
}

void vmx_requeue_exception(struct hvm_vcpu *hvm, u32 information)
{
    requeue(hvm, information, VMCS_EXIT_INTERRUPTION_ERROR_CODE);
}

/* ---- APIC virtualisation (SDM volume 3, "APIC Virtualization and Virtual Interrupts") ------ */

/* The guest may have moved the APIC's page or turned the APIC off. */
static u32 apic_mode_controls(const struct lapic *lapic)
{
    if (lapic_is_x2apic(lapic))
        return SECONDARY_VIRTUALIZE_X2APIC_MODE;
    if (lapic_is_enabled(lapic) && ALIGN_DOWN(lapic->apic_base, LAPIC_SIZE) == LAPIC_BASE_DEFAULT)
        return SECONDARY_VIRTUALIZE_APIC_ACCESSES;
    return 0;
}

/* Translations of the APIC's page may be cached for what they were, so they go. */
static NOINLINE void change_mode(struct vcpu *vcpu)
{
    const u32 modes = SECONDARY_VIRTUALIZE_APIC_ACCESSES | SECONDARY_VIRTUALIZE_X2APIC_MODE;
    struct hvm_vcpu *hvm = vcpu->hvm;
    u32 mode = apic_mode_controls(vcpu->lapic) & (u32)vmx_used.words[WORD_SECONDARY];
    u32 secondary = (hvm->secondary & ~modes) | mode;

    hvm->apic_base = vcpu->lapic->apic_base;
    if (secondary == hvm->secondary)
        return;
    hvm->secondary = secondary;
    vmwrite(VMCS_SECONDARY_CONTROLS, secondary);
    vmwrite(VMCS_MSR_BITMAP_ADDRESS, vmx_msr_bitmap(mode == SECONDARY_VIRTUALIZE_X2APIC_MODE));
    vmx_share_apic_access_page(vcpu->vm);
    vmx_flush(vcpu);
}

/* The generation first: a change while the bitmap is being computed then counts as a new one. */
static NOINLINE void write_eoi_bitmap(struct vcpu *vcpu)
{
    const struct machine *machine = vcpu->vm->machine;
    u32 generation = machine->ioapic.generation;
    u64 bitmap[4];

    machine_eoi_exit_bitmap(machine, vcpu->index, bitmap);
    vmwrite(VMCS_EOI_EXIT_BITMAP_0, bitmap[0]);
    vmwrite(VMCS_EOI_EXIT_BITMAP_1, bitmap[1]);
    vmwrite(VMCS_EOI_EXIT_BITMAP_2, bitmap[2]);
    vmwrite(VMCS_EOI_EXIT_BITMAP_3, bitmap[3]);
    vcpu->hvm->ioapic_generation = generation;
    vcpu->hvm->eoi_bitmap_valid = true;
}

static void sync_eoi_bitmap(struct vcpu *vcpu)
{
    const struct hvm_vcpu *hvm = vcpu->hvm;

    if (!hvm->eoi_bitmap_valid || vcpu->vm->machine->ioapic.generation != hvm->ioapic_generation)
        write_eoi_bitmap(vcpu);
}

/* As hardware has it, which alone puts vectors in service, unless software has ended it since. */
static u8 highest_in_service(const struct lapic *lapic, u8 known)
{
    if (known != 0 && !lapic_is_in_service(lapic, known))
        return MAX(lapic_highest_isr(lapic), 0);
    return known;
}

/* As hardware has it, or what software has raised since, unless a reset has taken it away. */
static u8 highest_requested(const struct lapic *lapic, u8 known)
{
    int raised = lapic_raised(lapic);

    if (raised > known)
        return raised;
    if (known != 0 && !lapic_is_requested(lapic, known))
        return MAX(lapic_highest_irr(lapic), 0);
    return known;
}

static u16 interrupt_status(const struct lapic *lapic, u16 known)
{
    return highest_in_service(lapic, known >> STATUS_SERVICED_SHIFT) << STATUS_SERVICED_SHIFT |
           highest_requested(lapic, (u8)known);
}

static void sync_interrupt_status(struct lapic *lapic)
{
    u16 known = (u16)vmread_unchecked(VMCS_GUEST_INTERRUPT_STATUS);
    u16 status = interrupt_status(lapic, known);

    lapic_hardware_delivers(lapic);
    if (status != known)
        vmwrite_unchecked(VMCS_GUEST_INTERRUPT_STATUS, status);
}

bool vmx_interrupt_waits(const struct vcpu *vcpu)
{
    const struct lapic *lapic = vcpu->lapic;
    u32 status, class, priority;

    if (!vmx_has(WORD_SECONDARY, SECONDARY_VIRTUAL_INTERRUPT_DELIVERY))
        return lapic_pending_vector(lapic) >= 0;
    status = interrupt_status(lapic, (u16)vmread_unchecked(VMCS_GUEST_INTERRUPT_STATUS));
    class = status >> 4 & 0xF;
    priority = MAX(status >> 12, lapic_read(lapic, LAPIC_TPR) >> 4 & 0xF);
    return class > priority;
}

/* An exit when the guest lowers TPR below the class of a vector that TPR holds back. */
static void sync_tpr_threshold(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;
    u32 priority = lapic_read(vcpu->lapic, LAPIC_TPR) >> 4 & 0xF;
    int requested = lapic_highest_irr(vcpu->lapic);
    u32 class = requested < 0 ? 0 : (u32)requested >> 4;
    u32 threshold = class <= priority ? class : 0;

    if (threshold == hvm->tpr_threshold)
        return;
    hvm->tpr_threshold = threshold;
    vmwrite(VMCS_TPR_THRESHOLD, threshold);
}

bool vmx_sync_interrupts(struct vcpu *vcpu)
{
    if (vcpu->hvm->apic_base != vcpu->lapic->apic_base)
        change_mode(vcpu);
    if (vmx_has(WORD_SECONDARY, SECONDARY_VIRTUAL_INTERRUPT_DELIVERY)) {
        sync_eoi_bitmap(vcpu);
        sync_interrupt_status(vcpu->lapic);
        return true;
    }
    if (vmx_has(WORD_PRIMARY, PRIMARY_TPR_SHADOW))
        sync_tpr_threshold(vcpu);
    return false;
}
