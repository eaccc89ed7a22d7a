/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Not linked: compiled to assembly, from which the Makefile takes these lines for NASM. */

#include "core/cpu.h"
#include "core/mitigations.h"
#include "core/vcpu.h"

#define DEFINE(name, value) __asm__ volatile("\n#=> " #name " %0" ::"i"(value))

void offsets(void);

void offsets(void)
{
    DEFINE(VCPU_GPR, offsetof(struct vcpu, gpr));
    DEFINE(MITIGATIONS_USED, offsetof(struct mitigations, used));
    DEFINE(MITIGATIONS_SPEC_CTRL, offsetof(struct mitigations, spec_ctrl));
    DEFINE(MITIGATION_RSB, MITIGATION_RSB);
    DEFINE(MITIGATION_L1D_FLUSH, MITIGATION_L1D_FLUSH);
    DEFINE(MITIGATION_IBRS_AT_EXIT, MITIGATION_IBRS_AT_EXIT);
    DEFINE(MITIGATIONS_AT_ENTRY, MITIGATIONS_AT_ENTRY);
    DEFINE(SELECTOR_DATA, SELECTOR_DATA);
}
