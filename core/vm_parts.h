/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_VM_PARTS_H
#define BULKHEAD_CORE_VM_PARTS_H

/* Between vm.c and lifecycle.c: what a partition has while it is not stopped. CPU 0 only. */

#include "core/vm.h"
#include "mm/page.h"

#define VM_PAGES DIV_ROUND_UP(sizeof(struct vm), PAGE_SIZE)

/* Allocates the machine and empty page tables. False when memory is short; vm_free_parts frees what
 * there is in any case. */
bool vm_make_parts(struct vm *vm);

/* Makes the next vCPU, one of vm->vcpu_limit. False when memory is short or no CPU is allowed. */
bool vm_make_vcpu(struct vm *vm);

/* Frees the last vCPU, or all else if there is none any more: true then. */
bool vm_free_parts(struct vm *vm);

/* Frees a stopped partition. */
void vm_delete(struct vm *vm);

/* Power-on state for one that is parked: the first gets its start_state, which the loader has made,
 * the others wait for SIPI. vm->tsc_base is set already. */
void vm_reset_vcpu(struct vcpu *vcpu);

#endif
