/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/vcpu_state.h"

static struct vcpu_state vcpu;

static void expect_segment(enum segment_register which, u16 selector, u64 base, u32 limit,
                           u16 attributes)
{
    assert_int_equal(vcpu.segments[which].selector, selector);
    assert_int_equal(vcpu.segments[which].base, base);
    assert_int_equal(vcpu.segments[which].limit, limit);
    assert_int_equal(vcpu.segments[which].attributes, attributes);
}

/* What RESET and INIT have in common. */
static void expect_start(void)
{
    static const enum segment_register data[] = {SEG_ES, SEG_SS, SEG_DS, SEG_FS, SEG_GS};

    assert_int_equal(vcpu.rip, 0xFFF0);
    assert_int_equal(vcpu.rflags, 2);
    for (u32 i = GPR_RAX; i < GPR_COUNT; i++)
        assert_int_equal(vcpu.gpr[i], i == GPR_RDX ? 0x600 : 0);
    expect_segment(SEG_CS, 0xF000, 0xFFFF0000, 0xFFFF, 0x93);
    for (u32 i = 0; i < ARRAY_SIZE(data); i++)
        expect_segment(data[i], 0, 0, 0xFFFF, 0x93);
    expect_segment(SEG_LDTR, 0, 0, 0xFFFF, 0x82);
    expect_segment(SEG_TR, 0, 0, 0xFFFF, 0x8B);
    assert_int_equal(vcpu.gdtr.base, 0);
    assert_int_equal(vcpu.gdtr.limit, 0xFFFF);
    assert_int_equal(vcpu.idtr.base, 0);
    assert_int_equal(vcpu.idtr.limit, 0xFFFF);
    assert_int_equal(vcpu.cr2 | vcpu.cr3 | vcpu.cr4 | vcpu.cr8 | vcpu.efer, 0);
    assert_int_equal(vcpu.dr[0] | vcpu.dr[1] | vcpu.dr[2] | vcpu.dr[3], 0);
    assert_int_equal(vcpu.dr6, 0xFFFF0FF0);
    assert_int_equal(vcpu.dr7, 0x400);
    assert_int_equal(vcpu.debugctl, 0);
    assert_int_equal(vcpu.interruptibility, 0);
    assert_int_equal(vcpu.activity, ACTIVITY_ACTIVE);
}

static void test_reset(void **state)
{
    memset(&vcpu, 0xA5, sizeof(vcpu));
    vcpu_state_reset(&vcpu, false);
    expect_start();
    assert_int_equal(vcpu.cr0, 0x60000010);
    assert_int_equal(vcpu.pat, 0x0007040600070406);
    assert_int_equal(vcpu.xcr0, 1);
    assert_int_equal(vcpu.star | vcpu.lstar | vcpu.cstar | vcpu.fmask | vcpu.kernel_gs_base, 0);
    assert_int_equal(vcpu.sysenter_cs | vcpu.sysenter_esp | vcpu.sysenter_eip, 0);
    assert_int_equal(vcpu.tsc_aux | vcpu.xss, 0);
}

static void test_init(void **state)
{
    struct vcpu_state before;

    memset(&before, 0xA5, sizeof(before));
    before.cr0 = 0xC0000033; /* CD set, NW clear */
    vcpu = before;
    vcpu_state_reset(&vcpu, true);
    expect_start();
    assert_int_equal(vcpu.cr0, 0x40000010);
    assert_int_equal(vcpu.pat, before.pat);
    assert_int_equal(vcpu.xcr0, before.xcr0);
    assert_int_equal(vcpu.xss, before.xss);
    assert_int_equal(vcpu.star, before.star);
    assert_int_equal(vcpu.lstar, before.lstar);
    assert_int_equal(vcpu.cstar, before.cstar);
    assert_int_equal(vcpu.fmask, before.fmask);
    assert_int_equal(vcpu.kernel_gs_base, before.kernel_gs_base);
    assert_int_equal(vcpu.sysenter_cs, before.sysenter_cs);
    assert_int_equal(vcpu.sysenter_esp, before.sysenter_esp);
    assert_int_equal(vcpu.sysenter_eip, before.sysenter_eip);
    assert_int_equal(vcpu.tsc_aux, before.tsc_aux);
}

static void test_sipi(void **state)
{
    vcpu_state_reset(&vcpu, true);
    vcpu.activity = ACTIVITY_WAIT_FOR_SIPI;
    vcpu_state_sipi(&vcpu, 0x9A);
    expect_segment(SEG_CS, 0x9A00, 0x9A000, 0xFFFF, 0x93);
    assert_int_equal(vcpu.rip, 0);
    assert_int_equal(vcpu.activity, ACTIVITY_ACTIVE);
}

static void test_flat64(void **state)
{
    memset(&vcpu, 0xA5, sizeof(vcpu));
    vcpu_state_flat64(&vcpu, 0x1000200, 0x12000);
    assert_int_equal(vcpu.rip, 0x1000200);
    assert_int_equal(vcpu.cr3, 0x12000);
    assert_int_equal(vcpu.cr0, 0x80000031);
    assert_int_equal(vcpu.cr4, 0x20);
    assert_int_equal(vcpu.efer, 0x500);
    assert_int_equal(vcpu.rflags, 2);
    expect_segment(SEG_CS, 0x10, 0, 0xFFFFFFFF, 0xA9B);
    expect_segment(SEG_SS, 0x18, 0, 0xFFFFFFFF, 0xC93);
    expect_segment(SEG_GS, 0x18, 0, 0xFFFFFFFF, 0xC93);
    expect_segment(SEG_TR, 0, 0, 0xFFFF, 0x8B);
    assert_true(vcpu.segments[SEG_LDTR].attributes & SEG_ATTR_UNUSABLE);
    assert_int_equal(vcpu.gpr[GPR_RDX], 0);
}

static void test_flat32(void **state)
{
    memset(&vcpu, 0xA5, sizeof(vcpu));
    vcpu_state_flat32(&vcpu, 0x100020);
    assert_int_equal(vcpu.rip, 0x100020);
    assert_int_equal(vcpu.cr0, 0x31);
    assert_int_equal(vcpu.cr3 | vcpu.cr4 | vcpu.efer, 0);
    expect_segment(SEG_CS, 0x10, 0, 0xFFFFFFFF, 0xC9B);
    expect_segment(SEG_ES, 0x18, 0, 0xFFFFFFFF, 0xC93);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reset),  cmocka_unit_test(test_init),   cmocka_unit_test(test_sipi),
        cmocka_unit_test(test_flat64), cmocka_unit_test(test_flat32),
    };

    return cmocka_run_group_tests_name("vcpu_state", tests, NULL, NULL);
}
