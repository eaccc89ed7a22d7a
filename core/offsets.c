/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Not linked: compiled to assembly, from which the Makefile takes these lines for NASM. */

#include "core/cpu.h"
#include "core/vcpu.h"

#define DEFINE(name, value) __asm__ volatile("\n#=> " #name " %0" ::"i"(value))

void offsets(void);

void offsets(void)
{
    DEFINE(VCPU_GPR, offsetof(struct vcpu, gpr));
}
