/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_LIFECYCLE_H
#define BULKHEAD_CORE_LIFECYCLE_H

/* What becomes of partitions. All functions are CPU 0's, called outside of any exit; a start,
 * pause or destroy is only begun by them and goes on in bounded steps between vCPUs. */

#include "core/vm.h"

#define VM_ERROR_SIZE 320 /* a refusal of the CPU (HVM_REFUSAL_SIZE) fits */

/* Adds a stopped partition. NULL with a sentence in `error` when the name is taken or memory is
 * short. */
struct vm *vm_create(const struct partition_config *config, char error[VM_ERROR_SIZE]);

/* Each begins its transition and returns true, or returns false with a sentence in `error` when
 * the state does not allow it ("'web' is already running"), hardware virtualisation is not usable
 * or an image is missing. What fails later stands in vm->message. */
bool vm_start(struct vm *vm, char error[VM_ERROR_SIZE]);
bool vm_destroy(struct vm *vm, char error[VM_ERROR_SIZE]);
bool vm_pause(struct vm *vm, char error[VM_ERROR_SIZE]);
bool vm_resume(struct vm *vm, char error[VM_ERROR_SIZE]);

/* Starts it anew in the memory that it has, whatever it does and on_reboot says; a crashed one
 * too. */
bool vm_reset(struct vm *vm, char error[VM_ERROR_SIZE]);

/* These are done when they return. The power button asks the guest to switch itself off; after
 * vm_reboot it is started again when it does. */
bool vm_shutdown(struct vm *vm, char error[VM_ERROR_SIZE]);
bool vm_reboot(struct vm *vm, char error[VM_ERROR_SIZE]);
bool vm_nmi(struct vm *vm, char error[VM_ERROR_SIZE]);

/* Changes its configuration: at once where config_key_at_once says so, as the CPUs that run it read
 * that whenever they need it; else from its next start on. `config` has the same name; no
 * transition is under way. False with a sentence when it could not run on any CPU now. */
bool vm_configure(struct vm *vm, const struct partition_config *config, char error[VM_ERROR_SIZE]);

/* Frees a stopped partition, after telling the listener. */
bool vm_undefine(struct vm *vm, char error[VM_ERROR_SIZE]);

/* No transition is under way: the state is what it will be until somebody acts. */
bool vm_settled(const struct vm *vm);

/* Asks the partition to stop, for `reason`; the first reason wins. Any CPU, vm->lock held.
 * `message` may be NULL. */
void vm_request_stop(struct vm *vm, enum stop_reason reason, const char *message);

/* Reports that a vCPU has parked. The owner CPU, vm->lock not held. */
void vm_vcpu_parked(struct vm *vm);

/* All of the partition's vCPUs are blocked, at least the last one with interrupts off. Those that
 * only an NMI could wake, while no device is set up to send one, hang: after a moment the listener
 * is told, and on_hang decides. Any CPU, vm->lock not held. */
void vm_suspect_hang(struct vm *vm);

/* Has the next step look at all partitions: one may have parked its last vCPU, hang, or want more
 * room for what it prints. Any CPU, vm->lock of any. */
void lifecycle_attend(void);

/* One bounded step of all transitions under way, on CPU 0 with no vCPU attached. True when there
 * was something to do. */
bool lifecycle_step(void);

/* Host TSC at which a step is due even if nothing happens. CPU 0. */
u64 lifecycle_deadline(void);

/* Calls `event` on every start, stop, crash and hang, and when a partition is about to go for good;
 * for the monitor. */
enum vm_event {
    VM_EVENT_START,
    VM_EVENT_STOP,
    VM_EVENT_CRASH,
    VM_EVENT_RESTART,
    VM_EVENT_HANG,
    VM_EVENT_UNDEFINE,
};
void lifecycle_set_listener(void (*event)(struct vm *vm, enum vm_event what));

/* Lets the partition's UART seem busy from when `limit` bytes have ever been printed: somebody
 * shows them who is slower. 0: never. CPU 0; who sets it raises or removes it in time. */
void vm_pace(struct vm *vm, u64 limit);

/* Gives the ring of the partition's console another page when it is due, and lets its UART go on.
 * CPU 0, vm->lock not held. */
void vm_grow_console(struct vm *vm);

/* Offers typed bytes that wait to the partition's UART. Any CPU. */
void vm_input(struct vm *vm, u8 byte);

/* Its machine's power button and NMI line; the partition is not stopped. False when the guest
 * does not react to the button. Any CPU. */
bool vm_press_power_button(struct vm *vm);
void vm_raise_nmi(struct vm *vm);

#endif
