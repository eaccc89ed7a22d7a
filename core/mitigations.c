/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/mitigations.h"

#include "drivers/cpu.h"
#include "lib/string.h"

enum {
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_ARCH_CAPABILITIES = 0x10A,
    SPEC_CTRL_IBRS = 1 << 0,
    SPEC_CTRL_BHI_DIS_S = 1 << 10,
    PRED_CMD_IBPB = 1 << 0,
};

#define MSR_EFER    0xC0000080
#define EFER_AIBRSE BIT(21)

/* Leaf 7. */
#define EBX_RTM               BIT(11)
#define EDX_MD_CLEAR          BIT(10)
#define EDX_IBRS_AND_IBPB     BIT(26)
#define EDX_L1D_FLUSH         BIT(28)
#define EDX_ARCH_CAPABILITIES BIT(29)
#define EDX_2_BHI_CTRL        BIT(4)

/* IA32_ARCH_CAPABILITIES. */
#define CAP_RDCL_NO            BIT(0)
#define CAP_IBRS_ALL           BIT(1)
#define CAP_SKIP_L1DFL_VMENTRY BIT(3)
#define CAP_MDS_NO             BIT(5)
#define CAP_TAA_NO             BIT(8)
#define CAP_FB_CLEAR           BIT(17)
#define CAP_BHI_NO             BIT(20)
#define CAP_PBRSB_NO           BIT(24)
#define CAP_RFDS_NO            BIT(27)
#define CAP_RFDS_CLEAR         BIT(28)

/* Fn8000_0008 EBX. */
#define EBX_IBPB           BIT(12)
#define EBX_IBRS           BIT(14)
#define EBX_IBRS_ALWAYS_ON BIT(16)
#define EBX_IBRS_PREFERRED BIT(18)

/* Fn8000_0021. */
#define EAX_VERW_CLEAR     BIT(5)
#define EAX_AUTOMATIC_IBRS BIT(8)
#define ECX_TSA_SQ_NO      BIT(1)
#define ECX_TSA_L1_NO      BIT(2)

#define IBRS_ANY (MITIGATION_IBRS_AT_EXIT | MITIGATION_IBRS_ALWAYS | MITIGATION_AUTO_IBRS)

struct mitigations mitigations;

static const struct {
    const char *name;
    u32 countered_by; /* any of these */
} weaknesses[] = {
    {"Spectre v2 between guests", MITIGATION_IBPB     },
    {"Spectre v2",                IBRS_ANY            },
    {"RSB",                       MITIGATION_RSB      },
    {"L1TF",                      MITIGATION_L1D_FLUSH},
    {"MDS",                       MITIGATION_VERW     },
    {"TAA",                       MITIGATION_VERW     },
    {"RFDS",                      MITIGATION_VERW     },
    {"TSA",                       MITIGATION_VERW     },
    {"BHI",                       MITIGATION_BHI_DIS_S},
};

static const char *const names[] = {
    "IBPB",         "RSB stuffing", "VERW",     "L1D flush",
    "IBRS at exit", "IBRS always",  "AutoIBRS", "BHI_DIS_S",
};

static struct cpuid_result leaf(u32 number, u32 subleaf)
{
    if (cpuid(number & 0x80000000, 0).eax < number)
        return (struct cpuid_result){0};
    return cpuid(number, subleaf);
}

struct speculation_facts speculation_facts(void)
{
    struct speculation_facts facts = {0};
    struct cpuid_result r = cpuid(0, 0);
    u32 vendor[3] = {r.ebx, r.edx, r.ecx};

    memcpy(facts.vendor, vendor, sizeof(vendor));
    r = leaf(7, 0);
    facts.leaf_7_ebx = r.ebx;
    facts.leaf_7_edx = r.edx;
    if (r.eax >= 2)
        facts.leaf_7_2_edx = cpuid(7, 2).edx;
    if (r.edx & EDX_ARCH_CAPABILITIES)
        facts.arch_capabilities = rdmsr(MSR_ARCH_CAPABILITIES);
    facts.leaf_80000008_ebx = leaf(0x80000008, 0).ebx;
    r = leaf(0x80000021, 0);
    facts.leaf_80000021_eax = r.eax;
    facts.leaf_80000021_ecx = r.ecx;
    return facts;
}

/* What Intel's CPUs do not deny, they have. Stale data of MMIO registers is left out: a guest needs
 * a device of the machine's to get at it. */
static u32 intel_weaknesses(const struct speculation_facts *facts)
{
    u64 caps = facts->arch_capabilities;
    u32 found = 0;

    if (!(caps & (CAP_RDCL_NO | CAP_SKIP_L1DFL_VMENTRY)))
        found |= WEAKNESS_L1TF;
    if (!(caps & CAP_MDS_NO))
        found |= WEAKNESS_MDS;
    if (!(caps & CAP_TAA_NO) && facts->leaf_7_ebx & EBX_RTM)
        found |= WEAKNESS_TAA;
    if (caps & CAP_RFDS_CLEAR && !(caps & CAP_RFDS_NO))
        found |= WEAKNESS_RFDS;
    if (!(caps & CAP_IBRS_ALL) || !(caps & CAP_PBRSB_NO))
        found |= WEAKNESS_RETURNS;
    if (caps & CAP_IBRS_ALL && !(caps & CAP_BHI_NO))
        found |= WEAKNESS_BHI;
    return found;
}

/* Automatic IBRS empties the return stack at each exit. */
static u32 amd_weaknesses(const struct speculation_facts *facts)
{
    u32 tsa_no = ECX_TSA_SQ_NO | ECX_TSA_L1_NO;
    u32 found = 0;

    if (!(facts->leaf_80000021_eax & EAX_AUTOMATIC_IBRS))
        found |= WEAKNESS_RETURNS;
    if (facts->leaf_80000021_eax & EAX_VERW_CLEAR && (facts->leaf_80000021_ecx & tsa_no) != tsa_no)
        found |= WEAKNESS_TSA;
    return found;
}

static u32 intel_offer(const struct speculation_facts *facts)
{
    u64 caps = facts->arch_capabilities;
    u32 offer = 0;

    if (facts->leaf_7_edx & EDX_MD_CLEAR || caps & (CAP_FB_CLEAR | CAP_RFDS_CLEAR))
        offer |= MITIGATION_VERW;
    if (facts->leaf_7_edx & EDX_L1D_FLUSH)
        offer |= MITIGATION_L1D_FLUSH;
    if (!(facts->leaf_7_edx & EDX_IBRS_AND_IBPB))
        return offer;
    if (facts->leaf_7_2_edx & EDX_2_BHI_CTRL)
        offer |= MITIGATION_BHI_DIS_S;
    return offer | MITIGATION_IBPB |
           (caps & CAP_IBRS_ALL ? MITIGATION_IBRS_ALWAYS : MITIGATION_IBRS_AT_EXIT);
}

static u32 amd_offer(const struct speculation_facts *facts)
{
    u32 sizes = facts->leaf_80000008_ebx;
    u32 offer = 0;

    if (facts->leaf_80000021_eax & EAX_VERW_CLEAR)
        offer |= MITIGATION_VERW;
    if (sizes & EBX_IBPB)
        offer |= MITIGATION_IBPB;
    if (facts->leaf_80000021_eax & EAX_AUTOMATIC_IBRS)
        offer |= MITIGATION_AUTO_IBRS;
    else if (sizes & EBX_IBRS && sizes & (EBX_IBRS_ALWAYS_ON | EBX_IBRS_PREFERRED))
        offer |= MITIGATION_IBRS_ALWAYS;
    return offer;
}

/* VERW is there in any case, without an effect where the CPU does not announce one. */
static u32 force(u32 offer)
{
    if (offer & MITIGATION_IBRS_ALWAYS)
        offer |= MITIGATION_IBRS_AT_EXIT;
    return offer | MITIGATION_VERW;
}

struct mitigations mitigations_choose(const struct speculation_facts *facts,
                                      enum mitigation_mode mode)
{
    bool intel = strcmp(facts->vendor, "GenuineIntel") == 0;
    u32 offer = MITIGATION_RSB | (intel ? intel_offer(facts) : amd_offer(facts));
    struct mitigations chosen = {
        .affected = WEAKNESS_GUESTS | WEAKNESS_HOST |
                    (intel ? intel_weaknesses(facts) : amd_weaknesses(facts)),
    };

    if (mode == MITIGATIONS_OFF)
        return chosen;
    for (u32 i = 0; i < ARRAY_SIZE(weaknesses); i++)
        if (chosen.affected & BIT(i))
            chosen.used |= weaknesses[i].countered_by & offer;
    if (mode == MITIGATIONS_FORCE)
        chosen.used = force(offer);
    if (chosen.used & (MITIGATION_IBRS_AT_EXIT | MITIGATION_IBRS_ALWAYS))
        chosen.spec_ctrl |= SPEC_CTRL_IBRS;
    if (chosen.used & MITIGATION_BHI_DIS_S)
        chosen.spec_ctrl |= SPEC_CTRL_BHI_DIS_S;
    return chosen;
}

static void append(char *text, const char *name)
{
    size_t size = strlen(text);

    snprintf(text + size, MITIGATIONS_TEXT_SIZE - size, "%s%s", size > 0 ? ", " : "", name);
}

void mitigations_describe(const struct mitigations *chosen, struct mitigations_text *text)
{
    *text = (struct mitigations_text){0};
    for (u32 i = 0; i < ARRAY_SIZE(weaknesses); i++) {
        if (!(chosen->affected & BIT(i)))
            continue;
        append(text->affected, weaknesses[i].name);
        if (!(chosen->used & weaknesses[i].countered_by))
            append(text->open, weaknesses[i].name);
    }
    for (u32 i = 0; i < ARRAY_SIZE(names); i++)
        if (chosen->used & BIT(i))
            append(text->used, names[i]);
}

bool mitigations_enable(void)
{
    struct speculation_facts facts = speculation_facts();
    struct mitigations able = mitigations_choose(&facts, MITIGATIONS_FORCE);

    if (mitigations.used & ~able.used)
        return false;
    if (mitigations.spec_ctrl != 0)
        wrmsr(MSR_SPEC_CTRL, mitigations.spec_ctrl);
    if (mitigations.used & MITIGATION_AUTO_IBRS)
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_AIBRSE);
    return true;
}

/* Not every IBPB empties the return stack. */
static void fill_return_stack(void)
{
    u64 pairs = 16;

    __asm__ volatile("1: call 2f\n\t"
                     "int3\n"
                     "2: call 3f\n\t"
                     "int3\n"
                     "3: decq %0\n\t"
                     "jnz 1b\n\t"
                     "addq $32 * 8, %%rsp\n\t"
                     "lfence"
                     : "+r"(pairs)
                     :
                     : "memory", "cc");
}

void mitigations_change_partition(void)
{
    if (mitigations.used & MITIGATION_IBPB)
        wrmsr(MSR_PRED_CMD, PRED_CMD_IBPB);
    if (mitigations.used & (MITIGATION_IBPB | MITIGATION_RSB))
        fill_return_stack();
}
