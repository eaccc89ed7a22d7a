/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_DUMP_H
#define BULKHEAD_CORE_DUMP_H

#include "core/hvm.h"

/* Logs everything about a vCPU that its own fault stops: reason, qualification, registers, the
 * bytes at RIP, the last exits. The owner, vCPU attached; `exit` may be NULL. */
void vcpu_dump(struct vcpu *vcpu, const struct exit *exit, const char *reason);

/* Fills vcpu->capture, which is there. Any CPU, vCPU attached, its partition's host address space
 * in CR3. */
void vcpu_capture(struct vcpu *vcpu);

#endif
