/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_XSTATE_H
#define BULKHEAD_CORE_XSTATE_H

/* The vector registers of vCPUs, which the hypervisor itself never touches. All components are
 * saved and restored, whatever the guest has enabled in XCR0: what it has not enabled would
 * otherwise leak to the next one (SDM volume 1, "Managing State Using the XSAVE Feature Set"). */

#include "core/cpu.h"
#include "core/vcpu.h"

/* The area as after RESET. Any CPU. */
void xstate_reset(struct vcpu *vcpu);

/* On the CPU to which the vCPU is being attached, or from which detached. */
void xstate_load(const struct vcpu *vcpu);
void xstate_save(struct vcpu *vcpu);

#endif
