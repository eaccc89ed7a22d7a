/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* vmx/capability.c on make-believe CPUs, which fault on MSRs that they have not announced. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/types.h"

#define BULKHEAD_DRIVERS_CPU_H
struct cpuid_result {
    u32 eax, ebx, ecx, edx;
};
static struct cpuid_result cpuid(u32 leaf, u32 subleaf);
static u64 rdmsr(u32 msr);
static void wrmsr(u32 msr, u64 value);
#include "../../vmx/capability.c"

static struct {
    bool intel, vmx, long_mode;
    u64 feature_control;
    u64 basic;
    u32 forced[WORD_CONTROL_COUNT], allowed[WORD_CONTROL_COUNT];
    u64 ept_vpid;
    u32 msrs_read;
    char logged[256];
} model;

static struct hvm_report report;
static const char *without;

bool host_without(const char *feature)
{
    return without && strcmp(without, feature) == 0;
}

static struct cpuid_result cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid_result r = {0};

    if (leaf == 0) {
        memcpy(&r.ebx, model.intel ? "Genu" : "Auth", 4);
        memcpy(&r.edx, model.intel ? "ineI" : "enti", 4);
        memcpy(&r.ecx, model.intel ? "ntel" : "cAMD", 4);
    } else if (leaf == 1) {
        r.ecx = model.vmx ? CPUID_1_ECX_VMX : 0;
    } else if (leaf == CPUID_EXTENDED_1 - 1) {
        r.eax = CPUID_EXTENDED_1;
    } else if (leaf == CPUID_EXTENDED_1) {
        r.edx = model.long_mode ? CPUID_EXTENDED_1_EDX_LONG_MODE : 0;
    }
    return r;
}

static u64 control(enum capability_word word)
{
    return (u64)model.allowed[word] << 32 | model.forced[word];
}

static u64 rdmsr(u32 msr)
{
    bool secondary = model.allowed[WORD_PRIMARY] & PRIMARY_SECONDARY_CONTROLS;

    assert_true(model.vmx);
    model.msrs_read++;
    switch (msr) {
    case MSR_FEATURE_CONTROL:
        return model.feature_control;
    case MSR_VMX_BASIC:
        return model.basic;
    case MSR_VMX_MISC:
        return 5;
    case MSR_VMX_CR0_FIXED0:
        return CR0_PE | CR0_NE | CR0_PG;
    case MSR_VMX_CR4_FIXED0:
        return CR4_VMXE;
    case MSR_VMX_PROCBASED_CTLS2:
        assert_true(secondary);
        return control(WORD_SECONDARY);
    case MSR_VMX_EPT_VPID_CAP:
        assert_true(secondary);
        assert_true(model.allowed[WORD_SECONDARY] & (SECONDARY_EPT | SECONDARY_VPID));
        return model.ept_vpid;
    }
    for (u32 i = 0; i < ARRAY_SIZE(control_msrs); i++) {
        bool is_true = model.basic & VMX_BASIC_TRUE_CONTROLS;

        if (msr == (is_true ? control_msrs[i].true_msr : control_msrs[i].msr))
            return control(control_msrs[i].word);
    }
    fail_msg("MSR %Xh", msr);
    return 0;
}

static void wrmsr(u32 msr, u64 value)
{
    assert_int_equal(msr, MSR_FEATURE_CONTROL);
    assert_false(model.feature_control & FEATURE_CONTROL_LOCK);
    model.feature_control = value;
}

void log_print(enum log_level level, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(model.logged, sizeof(model.logged), format, arguments);
    va_end(arguments);
}

/* A CPU with everything. */
static int set_up(void **state)
{
    memset(&model, 0, sizeof(model));
    memset(&report, 0xAA, sizeof(report));
    model.intel = model.vmx = model.long_mode = true;
    model.feature_control = FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMXON_OUTSIDE_SMX;
    model.basic = VMX_BASIC_TRUE_CONTROLS | 0x1234;
    memset(model.allowed, 0xFF, sizeof(model.allowed));
    model.ept_vpid = UINT64_MAX;
    return 0;
}

static enum feature_state state_of(const char *name)
{
    for (u32 i = 0; i < report.feature_count; i++)
        if (strcmp(report.features[i].name, name) == 0)
            return report.features[i].state;
    fail_msg("no feature %s", name);
    return FEATURE_ABSENT;
}

static void does_without(void **state)
{
    without = "TPR shadow";
    assert_true(vmx_probe(&report));
    assert_true(report.usable);
    assert_int_equal(state_of("TPR shadow"), FEATURE_ABSENT);
    assert_int_equal(state_of("virtual-interrupt delivery"), FEATURE_UNUSED);
    assert_int_equal(state_of("VPID"), FEATURE_USED);
    without = "unrestricted guest";
    assert_true(vmx_probe(&report));
    assert_false(report.usable);
    assert_non_null(strstr(report.refusal, "no unrestricted guest"));
    without = NULL;
}

static void must_use_what_is_forced(void **state)
{
    without = "VMX-preemption timer";
    model.forced[WORD_PIN] = PIN_PREEMPTION_TIMER;
    assert_true(vmx_probe(&report));
    assert_int_equal(state_of("VMX-preemption timer"), FEATURE_USED);
    without = NULL;
}

static void uses_everything(void **state)
{
    model.forced[WORD_PRIMARY] = 1 << 1;
    assert_true(vmx_probe(&report));
    assert_true(report.usable);
    assert_string_equal(report.refusal, "");
    assert_string_equal(report.note, "");
    assert_int_equal(report.nested_large_sizes, 3);
    assert_true(report.entry_deadline);
    assert_int_equal(state_of("VPID"), FEATURE_USED);
    assert_int_equal(state_of("TSC scaling"), FEATURE_USED);
    assert_true(report.tsc_scaling);
    assert_int_equal(state_of("VMCS shadowing"), FEATURE_UNUSED);
    assert_true(vmx_used.words[WORD_PRIMARY] & 1 << 1);
    assert_false(vmx_used.words[WORD_SECONDARY] & SECONDARY_VMCS_SHADOWING);
    assert_int_equal(vmx_used.revision, 0x1234);
    assert_int_equal(vmx_used.cr0_fixed, CR0_NE);
    assert_true(vmx_check_cpu(0));
}

static void touches_no_msr_without_vmx(void **state)
{
    model.vmx = false;
    assert_true(vmx_probe(&report));
    assert_false(report.usable);
    assert_non_null(strstr(report.refusal, "not an x86-64 CPU with VT-x"));
    model.intel = false;
    assert_false(vmx_probe(&report));
    assert_false(vmx_check_cpu(1));
    assert_int_equal(model.msrs_read, 0);
}

static void refuses_what_firmware_locked(void **state)
{
    model.feature_control = FEATURE_CONTROL_LOCK;
    assert_true(vmx_probe(&report));
    assert_false(report.usable);
    assert_non_null(strstr(report.refusal, "locked by the firmware"));
    assert_non_null(strstr(report.refusal, "bit 2"));
    assert_int_equal(state_of("EPT"), FEATURE_UNUSED);
    assert_false(vmx_check_cpu(1));
}

static void opens_what_firmware_left(void **state)
{
    model.feature_control = 0;
    assert_true(vmx_probe(&report));
    assert_true(report.usable);
    assert_non_null(strstr(report.note, "enabled here"));
    assert_int_equal(model.feature_control, 0);
    assert_true(vmx_check_cpu(0));
    assert_int_equal(model.feature_control,
                     FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMXON_OUTSIDE_SMX);
}

static void names_what_is_missing(void **state)
{
    static const struct {
        enum capability_word word;
        u32 bit;
        const char *says;
    } cases[] = {
        {WORD_PRIMARY,   PRIMARY_SECONDARY_CONTROLS,   "no secondary processor-based controls"},
        {WORD_SECONDARY, SECONDARY_EPT,                "no EPT"                               },
        {WORD_SECONDARY, SECONDARY_UNRESTRICTED_GUEST, "no unrestricted guest"                },
        {WORD_PRIMARY,   PRIMARY_MSR_BITMAPS,          "MSR bitmaps"                          },
        {WORD_EXIT,      EXIT_CONTROL_SAVE_PAT,        "saving of IA32_PAT"                   },
    };

    for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
        set_up(state);
        model.allowed[cases[i].word] &= ~cases[i].bit;
        assert_true(vmx_probe(&report));
        assert_false(report.usable);
        assert_non_null(strstr(report.refusal, cases[i].says));
    }
    set_up(state);
    model.ept_vpid &= ~EPT_VPID_WRITE_BACK;
    vmx_probe(&report);
    assert_non_null(strstr(report.refusal, "EPT write-back memory"));
    assert_int_equal(state_of("EPT write-back memory"), FEATURE_MISSING);
    set_up(state);
    model.basic &= ~VMX_BASIC_TRUE_CONTROLS;
    vmx_probe(&report);
    assert_non_null(strstr(report.refusal, "CR3"));
}

static void does_without_options(void **state)
{
    model.allowed[WORD_PIN] &= ~PIN_PREEMPTION_TIMER;
    model.allowed[WORD_PRIMARY] &= ~PRIMARY_TPR_SHADOW;
    model.ept_vpid &= ~(EPT_VPID_1GIB_PAGES | EPT_VPID_INVVPID_SINGLE_CONTEXT);
    vmx_probe(&report);
    assert_true(report.usable);
    assert_false(report.entry_deadline);
    assert_int_equal(report.nested_large_sizes, 1);
    assert_int_equal(state_of("TPR shadow"), FEATURE_ABSENT);
    /* They are there, but need what is not. */
    assert_int_equal(state_of("virtual-interrupt delivery"), FEATURE_UNUSED);
    assert_int_equal(state_of("APIC-access page"), FEATURE_UNUSED);
    assert_int_equal(state_of("VPID"), FEATURE_UNUSED);
    assert_false(vmx_has(WORD_SECONDARY, SECONDARY_VPID));
}

static void checks_later_cpus(void **state)
{
    vmx_probe(&report);
    model.allowed[WORD_SECONDARY] &= ~SECONDARY_INVPCID;
    assert_false(vmx_check_cpu(3));
    assert_string_equal(model.logged, "CPU 3 lacks what CPU 0 has: INVPCID");
    /* What is not used may differ. */
    set_up(state);
    model.allowed[WORD_SECONDARY] &= ~SECONDARY_VMCS_SHADOWING;
    assert_true(vmx_check_cpu(3));
    model.basic++;
    assert_false(vmx_check_cpu(3));
    set_up(state);
    model.forced[WORD_EXIT] = 1 << 30;
    assert_false(vmx_check_cpu(3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(does_without, set_up),
        cmocka_unit_test_setup(must_use_what_is_forced, set_up),
        cmocka_unit_test_setup(uses_everything, set_up),
        cmocka_unit_test_setup(touches_no_msr_without_vmx, set_up),
        cmocka_unit_test_setup(refuses_what_firmware_locked, set_up),
        cmocka_unit_test_setup(opens_what_firmware_left, set_up),
        cmocka_unit_test_setup(names_what_is_missing, set_up),
        cmocka_unit_test_setup(does_without_options, set_up),
        cmocka_unit_test_setup(checks_later_cpus, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
