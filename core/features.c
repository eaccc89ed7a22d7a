/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/features.h"

#include "core/cpu.h"
#include "drivers/cpu.h"
#include "lib/string.h"

#define MSR_EFER 0xC0000080
#define EFER_NXE BIT(11)

#define FXSAVE_SIZE 512

enum control_bits {
    CR0_MP = 1 << 1,
    CR0_EM = 1 << 2,
    CR0_TS = 1 << 3,
    CR0_NE = 1 << 5,
    CR0_WP = 1 << 16,
    CR4_MCE = 1 << 6,
    CR4_PGE = 1 << 7,
    CR4_OSFXSR = 1 << 9,
    CR4_OSXMMEXCPT = 1 << 10,
    CR4_OSXSAVE = 1 << 18,
    CR4_SMEP = 1 << 20,
    CR4_SMAP = 1 << 21,
};

/* Components that plain XSAVE keeps and that need no further virtualisation (SDM volume 1,
 * "XSAVE-Supported Features and State-Component Bitmaps"): x87, SSE, AVX, AVX-512, PKRU. */
#define XSTATE_SUPPORTED (0x7 | 0xE0 | BIT(9))

struct cpuid_bit {
    u32 leaf;
    u8 reg; /* 0 EAX .. 3 EDX */
    u8 bit;
    size_t field; /* a bool of struct cpu_features */
};

#define FEATURE(leaf, reg, bit, name)                                                              \
    {                                                                                              \
        leaf, reg, bit, offsetof(struct cpu_features, name)                                        \
    }

enum {
    EAX,
    EBX,
    ECX,
    EDX,
};

static const struct cpuid_bit bits[] = {
    FEATURE(1, ECX, 17, pcid),
    FEATURE(1, ECX, 21, x2apic),
    FEATURE(1, ECX, 26, xsave),
    FEATURE(1, EDX, 7, mce),
    FEATURE(1, EDX, 13, pge),
    FEATURE(7, EBX, 7, smep),
    FEATURE(7, EBX, 20, smap),
    FEATURE(0x80000001, EDX, 20, nx),
    FEATURE(0x80000001, EDX, 26, huge_pages),
    FEATURE(0x80000001, EDX, 27, rdtscp),
    FEATURE(0x80000007, EDX, 8, invariant_tsc),
};

static bool has_bit(const struct cpuid_bit *bit)
{
    struct cpuid_result r;
    u32 values[4];

    if (cpuid(bit->leaf & 0x80000000, 0).eax < bit->leaf)
        return false;
    r = cpuid(bit->leaf, 0);
    values[EAX] = r.eax;
    values[EBX] = r.ebx;
    values[ECX] = r.ecx;
    values[EDX] = r.edx;
    return values[bit->reg] & BIT(bit->bit);
}

static void read_names(struct cpu_features *features)
{
    struct cpuid_result r = cpuid(0, 0);
    u32 vendor[3] = {r.ebx, r.edx, r.ecx};

    memcpy(features->vendor, vendor, sizeof(vendor));
    if (cpuid(0x80000000, 0).eax < 0x80000004)
        return;
    for (u32 i = 0; i < 3; i++) {
        r = cpuid(0x80000002 + i, 0);
        memcpy(features->model + 16 * i, &r, sizeof(r));
    }
}

enum {
    CPUID_MWAIT = 5,
    CPUID_POWER = 6,
    ECX_MONITOR = 1 << 3,      /* of leaf 1 */
    ECX_MWAIT_STATES = 1 << 0, /* of leaf 5: EDX is there */
    EAX_ARAT = 1 << 2,         /* of leaf 6: the APIC timer always runs */
    C_STATES = 8,
};

/* SDM volume 2, "CPUID", leaves 5 and 6, and "MWAIT". C1 is no better than HLT. */
static u32 deepest_mwait_hint(const struct cpu_features *features)
{
    struct cpuid_result r;
    u32 hint = 0;

    if (cpuid(0, 0).eax < CPUID_POWER || !(cpuid(1, 0).ecx & ECX_MONITOR) ||
        !(cpuid(CPUID_POWER, 0).eax & EAX_ARAT) || !features->invariant_tsc)
        return 0;
    r = cpuid(CPUID_MWAIT, 0);
    if (!(r.ecx & ECX_MWAIT_STATES))
        return 0;
    for (u32 state = 2; state < C_STATES; state++)
        if (r.edx >> (4 * state) & 0xF)
            hint = (state - 1) << 4;
    return hint;
}

void features_probe(struct cpu_features *features)
{
    for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
        *(bool *)((char *)features + bits[i].field) = has_bit(&bits[i]);
    read_names(features);
    features->mwait_hint = deepest_mwait_hint(features);
    features->xsave_size = FXSAVE_SIZE;
    features->xcr0 = 3;
    if (features->xsave) {
        struct cpuid_result r = cpuid(0xD, 0);

        features->xcr0 = ((u64)r.edx << 32 | r.eax) & XSTATE_SUPPORTED;
        features->xsaves = cpuid(0xD, 1).eax & BIT(3);
    }
}

void features_enable(struct cpu_features *features)
{
    u64 cr4 = read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT;

    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | (features->nx ? EFER_NXE : 0));
    write_cr0((read_cr0() & ~(u64)(CR0_EM | CR0_TS)) | CR0_WP | CR0_NE | CR0_MP);
    cr4 |= features->mce ? CR4_MCE : 0;
    cr4 |= features->pge ? CR4_PGE : 0;
    cr4 |= features->smep ? CR4_SMEP : 0;
    cr4 |= features->smap ? CR4_SMAP : 0;
    cr4 |= features->xsave ? CR4_OSXSAVE : 0;
    write_cr4(cr4);
    if (features->xsave) {
        write_xcr0(features->xcr0);
        features->xsave_size = cpuid(0xD, 0).ebx;
    }
}
