/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/cpuid.h"

#include "core/host.h"
#include "core/pv.h"
#include "core/vm.h"
#include "devices/lapic.h"
#include "lib/string.h"

enum leaf {
    LEAF_VENDOR = 0x0,
    LEAF_FEATURES = 0x1,
    LEAF_CACHE = 0x4,
    LEAF_POWER = 0x6,
    LEAF_EXTENDED_FEATURES = 0x7,
    LEAF_TOPOLOGY = 0xB,
    LEAF_XSAVE = 0xD,
};

enum {
    CR4_OSXSAVE = 1 << 18,
    FEATURES_ECX_OSXSAVE = 1 << 27,
    XSAVE_COMPACTED = 1 << 1 | 1 << 3, /* leaf Dh, subleaf 1: XSAVEC, XSAVES */
};

/* Bits of a leaf that a guest may see of what the hardware says, and those it sees in any case.
 * What is in neither list is hidden: VMX, MONITOR, performance counters, SGX, MPX, SVM and
 * whatever future CPUs bring (SDM volume 2, CPUID; APM volume 3, appendix E). */
struct rule {
    u32 leaf;
    struct cpuid_result pass;
    struct cpuid_result set;
};

#define B(n) (1u << (n))

/* Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, FMA, CX16, PCID, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE,
 * AVX, F16C, RDRAND; x2APIC, TSC-deadline and the hypervisor bit are the virtual machine's own. */
#define PASS_1_ECX                                                                                 \
    (B(0) | B(1) | B(9) | B(12) | B(13) | B(17) | B(19) | B(20) | B(22) | B(23) | B(25) | B(26) |  \
     B(28) | B(29) | B(30))
#define SET_1_ECX (B(21) | B(24) | B(31))
/* Leaf 1 EDX: all but thermal monitoring, debug store, PBE, PSN. APIC and MTRR are emulated. */
#define PASS_1_EDX 0x0F8BFBFFu
#define SET_1_EDX  (B(9) | B(12))
/* Leaf 7 EBX: FSGSBASE, BMI1, AVX2, SMEP, BMI2, ERMS, INVPCID, AVX512F/DQ, RDSEED, ADX, SMAP,
 * IFMA, CLFLUSHOPT, CLWB, AVX512CD, SHA, AVX512BW/VL. TSC_ADJUST is emulated. */
#define PASS_7_EBX                                                                                 \
    (B(0) | B(3) | B(5) | B(7) | B(8) | B(9) | B(10) | B(16) | B(17) | B(18) | B(19) | B(20) |     \
     B(21) | B(23) | B(24) | B(28) | B(29) | B(30) | B(31))
#define SET_7_EBX B(1)
/* Leaf 7 ECX: VBMI, UMIP, PKU, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ, RDPID. */
#define PASS_7_ECX (B(1) | B(2) | B(3) | B(6) | B(8) | B(9) | B(10) | B(11) | B(12) | B(14) | B(22))
/* Leaf 7 EDX: FSRM, MD_CLEAR. */
#define PASS_7_EDX (B(4) | B(10))
/* Leaf 80000001h ECX: LAHF, ABM, SSE4A, misaligned SSE, PREFETCHW. */
#define PASS_81_ECX (B(0) | B(5) | B(6) | B(7) | B(8))
/* Leaf 80000001h EDX: as leaf 1's, with SYSCALL, NX, MMXEXT, FFXSR, 1 GiB pages, RDTSCP, LM. */
#define PASS_81_EDX (0x0183F3FFu | B(11) | B(20) | B(22) | B(25) | B(26) | B(27) | B(29))

static const struct rule rules[] = {
    {LEAF_VENDOR,            {~0u, ~0u, ~0u, ~0u},                    {0}                         },
    {LEAF_FEATURES,          {~0u, 0xFFFF, PASS_1_ECX, PASS_1_EDX},   {0, 0, SET_1_ECX, SET_1_EDX}},
    {2,                      {~0u, ~0u, ~0u, ~0u},                    {0}                         },
    {LEAF_POWER,             {0},                                     {.eax = B(2)}               }, /* ARAT */
    {LEAF_EXTENDED_FEATURES, {0, PASS_7_EBX, PASS_7_ECX, PASS_7_EDX}, {.ebx = SET_7_EBX}          },
    {0x80000000,             {~0u, ~0u, ~0u, ~0u},                    {0}                         },
    {0x80000001,             {~0u, ~0u, PASS_81_ECX, PASS_81_EDX},    {0}                         },
    {0x80000002,             {~0u, ~0u, ~0u, ~0u},                    {0}                         },
    {0x80000003,             {~0u, ~0u, ~0u, ~0u},                    {0}                         },
    {0x80000004,             {~0u, ~0u, ~0u, ~0u},                    {0}                         },
    {0x80000005,             {~0u, ~0u, ~0u, ~0u},                    {0}                         },
    {0x80000006,             {~0u, ~0u, ~0u, ~0u},                    {0}                         },
    {0x80000007,             {0},                                     {.edx = B(8)}               }, /* invariant TSC: all its clocks are the TSC */
    {0x80000008,             {.eax = 0xFFFF},                         {0}                         },
};

/* CR4 bits that need a feature, and those that every x86-64 CPU has. */
#define CR4_BASE 0x7FFULL /* VME to OSXMMEXCPT */
struct cr4_rule {
    u8 bit;
    u8 leaf, subleaf;
    u8 reg;
    u8 feature;
};
enum {
    EAX,
    EBX,
    ECX,
    EDX,
};
static const struct cr4_rule cr4_rules[] = {
    {11, LEAF_EXTENDED_FEATURES, 0, ECX, 2 }, /* UMIP */
    {12, LEAF_EXTENDED_FEATURES, 0, ECX, 16}, /* LA57, in no policy, as are CET to FRED */
    {16, LEAF_EXTENDED_FEATURES, 0, EBX, 0 }, /* FSGSBASE */
    {17, LEAF_FEATURES,          0, ECX, 17}, /* PCIDE */
    {18, LEAF_FEATURES,          0, ECX, 26}, /* OSXSAVE */
    {20, LEAF_EXTENDED_FEATURES, 0, EBX, 7 }, /* SMEP */
    {21, LEAF_EXTENDED_FEATURES, 0, EBX, 20}, /* SMAP */
    {22, LEAF_EXTENDED_FEATURES, 0, ECX, 3 }, /* PKE */
    {23, LEAF_EXTENDED_FEATURES, 0, ECX, 7 }, /* CET */
    {24, LEAF_EXTENDED_FEATURES, 0, ECX, 31}, /* PKS */
    {28, LEAF_EXTENDED_FEATURES, 1, EAX, 26}, /* LAM */
    {32, LEAF_EXTENDED_FEATURES, 1, EAX, 17}, /* FRED */
};

static bool has_feature(const struct cr4_rule *rule, const struct cpuid_result *r)
{
    const u32 values[] = {r->eax, r->ebx, r->ecx, r->edx};

    return values[rule->reg] & B(rule->feature);
}

static struct cpuid_result *slot(struct cpuid_policy *policy, u32 leaf)
{
    return leaf >= 0x80000000 ? &policy->extended[leaf - 0x80000000] : &policy->basic[leaf];
}

static void apply(struct cpuid_policy *policy, const struct rule *rule)
{
    struct cpuid_result r = {0};
    u32 highest = rule->leaf >= 0x80000000 ? policy->extended_max : policy->basic_max;

    if (rule->leaf > highest)
        return;
    r = cpuid(rule->leaf, 0);
    *slot(policy, rule->leaf) = (struct cpuid_result){
        .eax = (r.eax & rule->pass.eax) | rule->set.eax,
        .ebx = (r.ebx & rule->pass.ebx) | rule->set.ebx,
        .ecx = (r.ecx & rule->pass.ecx) | rule->set.ecx,
        .edx = (r.edx & rule->pass.edx) | rule->set.edx,
    };
}

/* One thread a core, one package: SMT and core counts in leaves 1, 4 and Bh agree. */
static void set_topology(struct cpuid_policy *policy, u32 vcpus)
{
    struct cpuid_result *features = slot(policy, LEAF_FEATURES);

    features->ebx |= MIN(vcpus, 255) << 16;
    if (vcpus > 1)
        features->edx |= B(28); /* HTT: the count is valid */
    else
        features->edx &= ~B(28);
    for (u32 i = 0; i < CPUID_CACHE_LEAVES && policy->basic_max >= LEAF_CACHE; i++) {
        struct cpuid_result r = cpuid(LEAF_CACHE, i);
        u32 sharing = (r.eax & 0x1F) ? (r.eax >> 5 & 7) == 3 ? vcpus : 1 : 0;

        if (i == CPUID_CACHE_LEAVES - 1 || (r.eax & 0x1F) == 0)
            break;
        r.eax &= 0x3FFF;
        r.eax |= (MIN(sharing, 4096) - 1) << 14 | (MIN(vcpus, 64) - 1) << 26;
        policy->cache[i] = r;
    }
    if (policy->extended_max >= 0x80000008 && vcpus > 1)
        slot(policy, 0x80000008)->ecx = vcpus - 1;
}

static void set_xsave(struct cpuid_policy *policy)
{
    u64 xcr0 = host.features.xcr0;
    struct cpuid_result *main = &policy->xsave[0];

    if (!host.features.xsave || policy->basic_max < LEAF_XSAVE)
        return;
    main->eax = xcr0;
    main->edx = xcr0 >> 32;
    main->ecx = host.features.xsave_size;
    policy->xsave[1] = cpuid(LEAF_XSAVE, 1);
    policy->xsave[1].eax &= host.features.xsaves ? 0xF : 0x7;
    policy->xsave[1].ecx = 0; /* IA32_XSS has no bit */
    policy->xsave[1].edx = 0;
    for (u32 i = 2; i < CPUID_XSAVE_LEAVES; i++)
        if (xcr0 & BIT(i))
            policy->xsave[i] = cpuid(LEAF_XSAVE, i);
}

static void set_hypervisor(struct cpuid_policy *policy, u64 tsc_hz)
{
    struct cpuid_result *names = &policy->hypervisor[0];
    struct cpuid_result *timing = &policy->hypervisor[CPUID_HYPERVISOR_MAX];

    names->eax = CPUID_HYPERVISOR + CPUID_HYPERVISOR_MAX;
    memcpy(&names->ebx, "Bulk", 4);
    memcpy(&names->ecx, "head", 4);
    memcpy(&names->edx, "Bulk", 4);
    /* The convention of most hypervisors: TSC and local APIC timer in kHz. */
    timing->eax = tsc_hz / 1000;
    timing->ebx = LAPIC_TIMER_HZ / 1000;
}

static void set_kvm(struct cpuid_policy *policy, u32 features)
{
    struct cpuid_result *names = &policy->kvm[0];

    if (features == 0)
        return;
    names->eax = CPUID_KVM + 1;
    memcpy(&names->ebx, "KVMK", 4);
    memcpy(&names->ecx, "VMKV", 4);
    memcpy(&names->edx, "M\0\0", 4);
    policy->kvm[1].eax = features;
}

static void set_allowed(struct cpuid_policy *policy)
{
    policy->cr4_allowed = CR4_BASE;
    for (size_t i = 0; i < ARRAY_SIZE(cr4_rules); i++) {
        const struct cr4_rule *rule = &cr4_rules[i];
        struct cpuid_result r = {0};

        if (rule->leaf <= policy->basic_max)
            r = cpuid(rule->leaf, rule->subleaf);
        if (rule->subleaf == 0 && has_feature(rule, slot(policy, rule->leaf)))
            policy->cr4_allowed |= BIT(rule->bit);
        else if (has_feature(rule, &r))
            policy->cr4_withheld |= BIT(rule->bit);
    }
    policy->efer_allowed = BIT(0) | BIT(8) | BIT(10); /* SCE, LME, LMA */
    if (slot(policy, 0x80000001)->edx & B(20))
        policy->efer_allowed |= BIT(11); /* NXE */
    if (slot(policy, 0x80000001)->edx & B(25))
        policy->efer_allowed |= BIT(14); /* FFXSR */
}

void cpuid_policy_init(struct cpuid_policy *policy, u32 vcpu_count, u64 tsc_hz, u32 kvm_features)
{
    policy->basic_max = MIN(cpuid(0, 0).eax, CPUID_BASIC_MAX);
    policy->extended_max = MIN(cpuid(0x80000000, 0).eax, 0x80000000u + CPUID_EXTENDED_MAX);
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
        apply(policy, &rules[i]);
    slot(policy, LEAF_VENDOR)->eax = policy->basic_max;
    slot(policy, 0x80000000)->eax = policy->extended_max;
    if (!(slot(policy, LEAF_FEATURES)->ecx & B(26)) || !host.features.xsave)
        slot(policy, LEAF_FEATURES)->ecx &= ~(B(12) | B(26) | B(28) | B(29));
    if (!host.features.rdtscp)
        slot(policy, 0x80000001)->edx &= ~B(27);
    set_topology(policy, vcpu_count);
    set_xsave(policy);
    set_hypervisor(policy, tsc_hz);
    set_kvm(policy, kvm_features);
    set_allowed(policy);
}

u64 vcpu_cr4_allowed(const struct vcpu *vcpu)
{
    return vcpu->vm->cpuid.cr4_allowed;
}

u64 vcpu_cr4_withheld(const struct vcpu *vcpu)
{
    return vcpu->vm->cpuid.cr4_withheld;
}

u64 vcpu_efer_allowed(const struct vcpu *vcpu)
{
    return vcpu->vm->cpuid.efer_allowed;
}

static struct cpuid_result topology(const struct vcpu *vcpu, u32 level)
{
    u32 count = vcpu->vm->vcpu_count, shift = 0;

    while (BIT(shift) < count)
        shift++;
    return (struct cpuid_result){
        .eax = level == 1 ? shift : 0,
        .ebx = level == 0   ? 1
               : level == 1 ? count
                            : 0,
        .ecx = level | (level < 2 ? (level + 1) << 8 : 0),
        .edx = vcpu->index,
    };
}

/* The legacy region and the header. */
#define XSAVE_HEADER_END (512 + 64)

/* Bytes of a standard-format XSAVE area for what XCR0 enables now. */
static u32 xsave_size(const struct cpuid_policy *policy, u64 xcr0)
{
    u32 size = XSAVE_HEADER_END;

    for (u32 i = 2; i < CPUID_XSAVE_LEAVES; i++)
        if (xcr0 & BIT(i))
            size = MAX(size, policy->xsave[i].ebx + policy->xsave[i].eax);
    return size;
}

/* The same in the compacted format, whose components follow each other (SDM volume 1, "Compacted
 * Format"): bit 1 of a component's ECX aligns it to 64 bytes. */
static u32 xsave_compacted_size(const struct cpuid_policy *policy, u64 xcr0)
{
    u32 size = XSAVE_HEADER_END;

    for (u32 i = 2; i < CPUID_XSAVE_LEAVES; i++) {
        if (!(xcr0 & BIT(i)))
            continue;
        if (policy->xsave[i].ecx & B(1))
            size = ALIGN_UP(size, 64);
        size += policy->xsave[i].eax;
    }
    return size;
}

static struct cpuid_result computed(struct vcpu *vcpu, u32 leaf, u32 subleaf)
{
    const struct cpuid_policy *policy = &vcpu->vm->cpuid;
    struct cpuid_result r = policy->basic[leaf];

    switch (leaf) {
    case LEAF_FEATURES:
        r.ebx |= vcpu->index << 24;
        if (host.hvm->read_register(vcpu, HVM_CR4) & CR4_OSXSAVE)
            r.ecx |= FEATURES_ECX_OSXSAVE;
        return r;
    case LEAF_CACHE:
        return subleaf < CPUID_CACHE_LEAVES ? policy->cache[subleaf] : (struct cpuid_result){0};
    case LEAF_EXTENDED_FEATURES:
        return subleaf == 0 ? r : (struct cpuid_result){0};
    case LEAF_TOPOLOGY:
        return topology(vcpu, subleaf);
    case LEAF_XSAVE:
        if (subleaf >= CPUID_XSAVE_LEAVES)
            return (struct cpuid_result){0};
        r = policy->xsave[subleaf];
        if (subleaf == 0 && r.eax)
            r.ebx = xsave_size(policy, vcpu->xcr0);
        if (subleaf == 1)
            r.ebx = r.eax & XSAVE_COMPACTED ? xsave_compacted_size(policy, vcpu->xcr0) : 0;
        return r;
    default:
        return r;
    }
}

static struct cpuid_result answer(struct vcpu *vcpu, u32 leaf, u32 subleaf)
{
    const struct cpuid_policy *policy = &vcpu->vm->cpuid;
    struct cpuid_result r = {0};

    if (leaf <= policy->basic_max)
        r = computed(vcpu, leaf, subleaf);
    else if (leaf >= 0x80000000 && leaf <= policy->extended_max)
        r = policy->extended[leaf - 0x80000000];
    else if (leaf >= CPUID_HYPERVISOR && leaf <= CPUID_HYPERVISOR + CPUID_HYPERVISOR_MAX)
        r = policy->hypervisor[leaf - CPUID_HYPERVISOR];
    else if (leaf - CPUID_KVM < ARRAY_SIZE(policy->kvm))
        r = policy->kvm[leaf - CPUID_KVM];
    return r;
}

/* Basic leaves whose answer depends on the vCPU, its state or ECX. */
#define COMPUTED_LEAVES                                                                            \
    (BIT(LEAF_FEATURES) | BIT(LEAF_CACHE) | BIT(LEAF_EXTENDED_FEATURES) | BIT(LEAF_TOPOLOGY) |     \
     BIT(LEAF_XSAVE))

static void set_registers(struct vcpu *vcpu, const struct cpuid_result *r)
{
    vcpu->gpr[GPR_RAX] = r->eax;
    vcpu->gpr[GPR_RBX] = r->ebx;
    vcpu->gpr[GPR_RCX] = r->ecx;
    vcpu->gpr[GPR_RDX] = r->edx;
}

static NOINLINE void set_answer(struct vcpu *vcpu, u32 leaf)
{
    struct cpuid_result r = answer(vcpu, leaf, vcpu->gpr[GPR_RCX]);

    set_registers(vcpu, &r);
}

enum exit_kind vcpu_fast_cpuid(struct vcpu *vcpu)
{
    const struct cpuid_policy *policy = &vcpu->vm->cpuid;
    u32 leaf = vcpu->gpr[GPR_RAX];

    if (leaf <= policy->basic_max && !(COMPUTED_LEAVES & BIT(leaf)))
        set_registers(vcpu, &policy->basic[leaf]);
    else
        set_answer(vcpu, leaf);
    return EXIT_CPUID;
}
