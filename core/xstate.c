/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/xstate.h"

#include "core/host.h"
#include "drivers/cpu.h"
#include "lib/string.h"

/* SDM volume 1, "Format of an FXSAVE Image". */
#define FXSAVE_FCW   0
#define FXSAVE_MXCSR 24
#define FCW_RESET    0x0040
#define MXCSR_RESET  0x1F80

void xstate_reset(struct vcpu *vcpu)
{
    u8 *area = vcpu->xsave_area;
    u16 fcw = FCW_RESET;
    u32 mxcsr = MXCSR_RESET;

    memset(area, 0, host.features.xsave_size);
    memcpy(area + FXSAVE_FCW, &fcw, sizeof(fcw));
    memcpy(area + FXSAVE_MXCSR, &mxcsr, sizeof(mxcsr));
    /* x87 is not in its initial configuration (FCW 37Fh) after RESET: XSTATE_BV says to load it. */
    if (host.features.xsave)
        area[512] = 1;
    vcpu->xcr0 = 1;
}

void xstate_load(const struct vcpu *vcpu)
{
    if (!host.features.xsave) {
        __asm__ volatile("fxrstor64 (%0)" ::"r"(vcpu->xsave_area) : "memory");
        return;
    }
    __asm__ volatile("xrstor64 (%0)" ::"r"(vcpu->xsave_area), "a"(-1), "d"(-1) : "memory");
    if (vcpu->xcr0 != host.features.xcr0)
        write_xcr0(vcpu->xcr0);
}

void xstate_save(struct vcpu *vcpu)
{
    if (!host.features.xsave) {
        __asm__ volatile("fxsave64 (%0)" ::"r"(vcpu->xsave_area) : "memory");
        return;
    }
    if (read_xcr0() != host.features.xcr0)
        write_xcr0(host.features.xcr0);
    __asm__ volatile("xsave64 (%0)" ::"r"(vcpu->xsave_area), "a"(-1), "d"(-1) : "memory");
}
