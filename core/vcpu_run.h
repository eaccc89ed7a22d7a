/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_VCPU_RUN_H
#define BULKHEAD_CORE_VCPU_RUN_H

/* What happens to a vCPU between two entries. All functions: the owner CPU, vCPU attached, its
 * partition's host address space in CR3, vm->lock not held. */

#include "core/hvm.h"
#include "core/vm.h"
#include "devices/device.h"
#include "drivers/cpu.h"

/* Machine time: ticks of its virtual TSC since its start. */
static inline u64 vm_now(const struct vm *vm)
{
    return vm_scale_tsc(vm, rdtsc() - vm->tsc_base);
}

/* Fires the machine's timers that are due, then takes INIT, SIPI, NMI and interrupts from the
 * machine to the hardware, or asks for a window. Blocks the vCPU when it is halted and nothing
 * has come for it. */
void vcpu_offer_interrupts(struct vcpu *vcpu);

/* Host TSC at which the machine's next timer for this vCPU is due. */
u64 vcpu_timer_deadline(struct vcpu *vcpu);

/* Deals with one exit to its end. */
void vcpu_handle_exit(struct vcpu *vcpu, struct exit *exit);

/* Carries out one access to the machine; see machine_access. */
bool vcpu_access(struct vcpu *vcpu, struct access *access);

/* EOI; and writes of IA32_TSC_DEADLINE, and in x2APIC mode of ICR and SELF_IPI, where false is #GP.
 */
void vcpu_end_interrupt(struct vcpu *vcpu);
bool vcpu_send_to_self(struct vcpu *vcpu, u64 vector);
void vcpu_set_tsc_deadline(struct vcpu *vcpu, u64 deadline);
bool vcpu_send_ipi(struct vcpu *vcpu, u64 icr);

/* After EXIT_APIC_WRITE and EXIT_EOI. */
void vcpu_apic_written(struct vcpu *vcpu, const struct exit *exit);

/* Queues an exception, with `error_code` if it is one that has such. */
void vcpu_raise(struct vcpu *vcpu, u8 vector, u32 error_code);
void vcpu_raise_gp(struct vcpu *vcpu);
void vcpu_raise_ud(struct vcpu *vcpu);

/* Stops the partition by its own fault, after a dump of this vCPU. `exit` may be NULL. */
void vcpu_crash(struct vcpu *vcpu, const struct exit *exit, const char *reason);

/* Handlers of exits that have files of their own: msr.c, access.c. */
void handle_rdmsr(struct vcpu *vcpu, struct exit *exit);
void handle_wrmsr(struct vcpu *vcpu, struct exit *exit);
void handle_port(struct vcpu *vcpu, struct exit *exit);
void handle_memory(struct vcpu *vcpu, struct exit *exit);

#endif
