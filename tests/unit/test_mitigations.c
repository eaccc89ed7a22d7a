/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/mitigations.h"

#define INTEL .vendor = "GenuineIntel"
#define AMD   .vendor = "AuthenticAMD"

/* MD_CLEAR, IBRS and IBPB, STIBP, L1D_FLUSH, ARCH_CAPABILITIES, SSBD. */
#define INTEL_EDX 0xBC000400u
#define RTM       (1u << 11)
/* IBPB, IBRS, STIBP, IBRS preferred, SSBD. */
#define ZEN_2_EBX 0x0104D000u

#define BRANCHES (WEAKNESS_GUESTS | WEAKNESS_HOST)

static const struct {
    const char *name;
    struct speculation_facts facts;
    u32 affected, used, spec_ctrl;
} cpus[] = {
    {
     "Skylake-SP",                                                                    {INTEL, .leaf_7_ebx = RTM, .leaf_7_edx = INTEL_EDX, .arch_capabilities = 1 << 2},
     BRANCHES | WEAKNESS_RETURNS | WEAKNESS_L1TF | WEAKNESS_MDS | WEAKNESS_TAA,
     MITIGATION_IBPB | MITIGATION_RSB | MITIGATION_VERW | MITIGATION_L1D_FLUSH |
            MITIGATION_IBRS_AT_EXIT,                                                                                                                                                       1,
     },
    {
     "Skylake-SP with the microcode it was sold with",                                                                               {INTEL, .leaf_7_ebx = RTM},
     BRANCHES | WEAKNESS_RETURNS | WEAKNESS_L1TF | WEAKNESS_MDS | WEAKNESS_TAA,
     MITIGATION_RSB,                           0,
     },
    {
     "Cascade Lake: RDCL_NO, IBRS_ALL, SKIP_L1DFL, MDS_NO, TSX_CTRL",                                                                  {INTEL, .leaf_7_ebx = RTM, .leaf_7_edx = INTEL_EDX, .arch_capabilities = 0xAB},
     BRANCHES | WEAKNESS_RETURNS | WEAKNESS_TAA | WEAKNESS_BHI,
     MITIGATION_IBPB | MITIGATION_RSB | MITIGATION_VERW | MITIGATION_IBRS_ALWAYS,
     1, },
    {
     "Ice Lake-SP: the same with TAA_NO, FB_CLEAR",{INTEL, .leaf_7_ebx = RTM, .leaf_7_edx = INTEL_EDX, .arch_capabilities = 0x201EB},
     BRANCHES | WEAKNESS_RETURNS | WEAKNESS_BHI,
     MITIGATION_IBPB | MITIGATION_RSB | MITIGATION_IBRS_ALWAYS,
     1, },
    {
     "Sapphire Rapids: the same with SBDR_SSDP_NO, FBSDP_NO, PSDP_NO; BHI_CTRL",                                                                                {INTEL, .leaf_7_ebx = RTM, .leaf_7_edx = INTEL_EDX, .leaf_7_2_edx = 1 << 4,
         .arch_capabilities = 0xE1EB},
     BRANCHES | WEAKNESS_RETURNS | WEAKNESS_BHI,
     MITIGATION_IBPB | MITIGATION_RSB | MITIGATION_IBRS_ALWAYS | MITIGATION_BHI_DIS_S,
     1 | 1 << 10,
     },
    {
     "Gracemont: the same with RFDS_CLEAR",                                                                              {INTEL, .leaf_7_edx = INTEL_EDX, .leaf_7_2_edx = 1 << 4, .arch_capabilities = 0x1000E16B},
     BRANCHES | WEAKNESS_RETURNS | WEAKNESS_RFDS | WEAKNESS_BHI,
     MITIGATION_IBPB | MITIGATION_RSB | MITIGATION_VERW | MITIGATION_IBRS_ALWAYS |
            MITIGATION_BHI_DIS_S,                                                                                                           1 | 1 << 10,
     },
    {
     "one that denies all: PBRSB_NO, BHI_NO, RFDS_NO too",                                      {INTEL, .leaf_7_edx = INTEL_EDX, .leaf_7_2_edx = 1 << 4, .arch_capabilities = 0x0910E16B},
     BRANCHES,                                                                                                                                                                                   MITIGATION_IBPB | MITIGATION_IBRS_ALWAYS,
     1, },
    {
     "Zen 2",                                           {AMD, .leaf_80000008_ebx = ZEN_2_EBX},
     BRANCHES | WEAKNESS_RETURNS,
     MITIGATION_IBPB | MITIGATION_RSB | MITIGATION_IBRS_ALWAYS,
     1, },
    {
     "Zen 4: automatic IBRS, VERW_CLEAR",                                                                               {AMD, .leaf_80000008_ebx = ZEN_2_EBX, .leaf_80000021_eax = 1 << 8 | 1 << 5},
     BRANCHES | WEAKNESS_TSA,
     MITIGATION_IBPB | MITIGATION_VERW | MITIGATION_AUTO_IBRS,
     0, },
    {
     "Zen 5: the same with TSA_SQ_NO, TSA_L1_NO",                                       {AMD, .leaf_80000008_ebx = ZEN_2_EBX, .leaf_80000021_eax = 1 << 8 | 1 << 5,
         .leaf_80000021_ecx = 1 << 2 | 1 << 1},
     BRANCHES,                                                                                                                                                                                          MITIGATION_IBPB | MITIGATION_AUTO_IBRS,
     0, },
    {
     "Bochs's tigerlake",{INTEL, .leaf_7_ebx = 0xF1BF27EB, .leaf_7_edx = 0xFC100510, .arch_capabilities = 0x1F},
     BRANCHES | WEAKNESS_RETURNS | WEAKNESS_MDS | WEAKNESS_BHI,
     MITIGATION_IBPB | MITIGATION_RSB | MITIGATION_VERW | MITIGATION_IBRS_ALWAYS,
     1, },
    {
     "QEMU's EPYC",                                                                                {AMD},
     BRANCHES | WEAKNESS_RETURNS,
     MITIGATION_RSB,                                                                                                                                                              0,
     },
};

static void test_choices(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(cpus); i++) {
        struct mitigations chosen = mitigations_choose(&cpus[i].facts, MITIGATIONS_AUTO);

        if (chosen.affected != cpus[i].affected || chosen.used != cpus[i].used ||
            chosen.spec_ctrl != cpus[i].spec_ctrl)
            fail_msg("%s: affected %x, used %x, SPEC_CTRL %x", cpus[i].name, chosen.affected,
                     chosen.used, chosen.spec_ctrl);
    }
}

static void test_off_does_nothing(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(cpus); i++) {
        struct mitigations chosen = mitigations_choose(&cpus[i].facts, MITIGATIONS_OFF);

        assert_int_equal(chosen.affected, cpus[i].affected);
        assert_int_equal(chosen.used, 0);
        assert_int_equal(chosen.spec_ctrl, 0);
    }
}

/* Forced is what is needed and more, but no MSR that CPUID does not announce. */
static void test_force(void **state)
{
    const struct speculation_facts bare = {INTEL};

    for (size_t i = 0; i < ARRAY_SIZE(cpus); i++) {
        struct mitigations forced = mitigations_choose(&cpus[i].facts, MITIGATIONS_FORCE);

        assert_int_equal(cpus[i].used & ~forced.used, 0);
    }
    assert_int_equal(mitigations_choose(&bare, MITIGATIONS_FORCE).used,
                     MITIGATION_RSB | MITIGATION_VERW);
}

static void test_description(void **state)
{
    struct mitigations chosen = mitigations_choose(&cpus[1].facts, MITIGATIONS_AUTO);
    struct mitigations_text text;

    mitigations_describe(&chosen, &text);
    assert_string_equal(text.affected,
                        "Spectre v2 between guests, Spectre v2, RSB, L1TF, MDS, TAA");
    assert_string_equal(text.used, "RSB stuffing");
    assert_string_equal(text.open, "Spectre v2 between guests, Spectre v2, L1TF, MDS, TAA");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_off_does_nothing),
        cmocka_unit_test(test_force),
        cmocka_unit_test(test_description),
    };

    return cmocka_run_group_tests_name("mitigations", tests, NULL, NULL);
}
