/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Events into the guest (AMD APM volume 2, "Event Injection", "Interrupt and Local APIC Support"
 * and "EXITINTINFO"). The queue is one deep: EVENTINJ itself.
 *
 * NMIs are blocked from the injection of one until its handler's IRET. That exits before it
 * executes; blocking ends with the first exit that finds RIP elsewhere. So an NMI that comes
 * while one is handled waits for the next exit after the IRET, at the latest the slice's end. */

#include "svm/svm.h"

#define EVENTS_SOFT (BIT(VECTOR_BP) | BIT(VECTOR_OF)) /* raised by INT3, INTO */

static bool event_queued(const struct vcpu *vcpu)
{
    return vcpu->hvm->virtual_interrupt || vmcb_event_injection(vcpu->hvm->vmcb) & EVENT_VALID;
}

bool svm_can_inject(struct vcpu *vcpu, enum event_type type)
{
    const struct vmcb *vmcb = vcpu->hvm->vmcb;
    bool shadow = vmcb_interrupt_shadow(vmcb) & INTERRUPT_SHADOW;

    if (event_queued(vcpu))
        return false;
    switch (type) {
    case EVENT_INTERRUPT:
        return !shadow && vmcb_rflags(vmcb) & RFLAGS_IF;
    case EVENT_NMI:
        return !shadow && !vcpu->hvm->nmi_blocked;
    default:
        return true;
    }
}

void svm_set_nmi_blocked(struct vcpu *vcpu, bool blocked)
{
    vcpu->hvm->nmi_blocked = blocked;
    vcpu->hvm->nmi_iret = false;
    vmcb_set_intercept(vcpu->hvm->vmcb, INTERCEPT_IRET, blocked);
}

/* V_IRQ is one for two: the window, which is a virtual interrupt of the highest priority whose
 * delivery exits, and on TCG an interrupt that waits for its delivery. That one goes first. */
static void update_virtual_interrupt(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;
    u64 vintr = vmcb_vintr(hvm->vmcb) & ~(VINTR_REQUEST | VINTR_VECTOR);

    if (hvm->virtual_interrupt)
        vintr |= VINTR_REQUEST | (u64)hvm->virtual_vector << VINTR_VECTOR_SHIFT;
    else if (hvm->window_wanted)
        vintr |= VINTR_REQUEST;
    vmcb_set_vintr(hvm->vmcb, vintr);
    vmcb_set_intercept(hvm->vmcb, INTERCEPT_VINTR, hvm->window_wanted && !hvm->virtual_interrupt);
}

void svm_inject(struct vcpu *vcpu, enum event_type type, u8 vector, u32 error_code)
{
    static const u8 kinds[] = {
        [EVENT_INTERRUPT] = EVENT_KIND_INTR,
        [EVENT_NMI] = EVENT_KIND_NMI,
        [EVENT_EXCEPTION] = EVENT_KIND_EXCEPTION,
    };
    struct hvm_vcpu *hvm = vcpu->hvm;
    u64 value = EVENT_VALID | vector | (u64)kinds[type] << EVENT_KIND_SHIFT;

    /* TCG (seen in QEMU 7.2) delivers an interrupt of EVENTINJ twice when something makes it leave
     * its inner loop before the next exit. */
    if (svm_cpuid.tcg && type == EVENT_INTERRUPT) {
        hvm->virtual_interrupt = true;
        hvm->virtual_vector = vector;
        update_virtual_interrupt(vcpu);
        return;
    }
    /* In real mode no exception pushes an error code. */
    if (type == EVENT_EXCEPTION && exception_has_error_code(vector) && vmcb_cr0(hvm->vmcb) & CR0_PE)
        value |= EVENT_ERROR_VALID | (u64)error_code << EVENT_ERROR_CODE_SHIFT;
    if (type == EVENT_NMI)
        svm_set_nmi_blocked(vcpu, true);
    vmcb_set_event_injection(hvm->vmcb, value);
}

/* True when nothing but the TPR, or the TPR first, holds the LAPIC's next interrupt back. */
static bool tpr_masks_interrupt(const struct vcpu *vcpu)
{
    int vector = lapic_highest_irr(vcpu->lapic);

    return vector >= 0 &&
           (u32)vector >> TPR_CLASS_SHIFT <= lapic_read(vcpu->lapic, LAPIC_TPR) >> TPR_CLASS_SHIFT;
}

/* For NMIs there is no window: see above. */
void svm_request_window(struct vcpu *vcpu, enum event_type type, bool wanted)
{
    if (type == EVENT_NMI)
        vcpu->hvm->nmi_wanted = wanted;
    if (type != EVENT_INTERRUPT)
        return;
    if (vcpu->hvm->window_wanted != wanted) {
        vcpu->hvm->window_wanted = wanted;
        update_virtual_interrupt(vcpu);
    }
    /* QEMU's TCG ends with an assertion when CR8 is written while V_IRQ waits. */
    svm_watch_tpr(vcpu, wanted ? svm_cpuid.tcg : tpr_masks_interrupt(vcpu));
}

void svm_reset_events(struct vcpu *vcpu)
{
    vmcb_set_event_injection(vcpu->hvm->vmcb, 0);
    vcpu->hvm->virtual_interrupt = vcpu->hvm->window_wanted = vcpu->hvm->nmi_wanted = false;
    update_virtual_interrupt(vcpu);
    svm_set_nmi_blocked(vcpu, false);
}

/* INTn, INT3 and INTO have not moved RIP: they run again instead. TCG calls a V_IRQ that it was
 * about to deliver an exception, and leaves it requested. */
static u64 event_to_redeliver(const struct hvm_vcpu *hvm)
{
    u64 event = vmcb_exit_int_info(hvm->vmcb);
    u8 vector = EVENT_VECTOR(event);

    if (!(event & EVENT_VALID) || EVENT_KIND(event) == EVENT_KIND_SOFTWARE)
        return 0;
    if (EVENT_KIND(event) != EVENT_KIND_EXCEPTION)
        return event;
    return vector >= VECTOR_FIRST_FREE || EVENTS_SOFT & BIT(vector) ? 0 : event;
}

void svm_events_after_exit(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    vmcb_set_event_injection(hvm->vmcb, event_to_redeliver(hvm));
    if (hvm->virtual_interrupt && !(vmcb_vintr(hvm->vmcb) & VINTR_IRQ)) {
        hvm->virtual_interrupt = false;
        if (hvm->window_wanted)
            update_virtual_interrupt(vcpu);
    }
    if (hvm->nmi_iret && vmcb_rip(hvm->vmcb) != hvm->nmi_iret_rip)
        svm_set_nmi_blocked(vcpu, false);
}

void svm_exit_iret(struct vcpu *vcpu, struct exit *exit)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    vmcb_set_intercept(hvm->vmcb, INTERCEPT_IRET, false);
    hvm->nmi_iret = true;
    hvm->nmi_iret_rip = vmcb_rip(hvm->vmcb);
    exit->kind = EXIT_NONE;
}
