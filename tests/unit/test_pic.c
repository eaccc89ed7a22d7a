/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "devices/pic.h"

static struct pic pic;

static int setup(void **state)
{
    static const struct {
        u16 port;
        u8 value;
    } program[] = {
        {0x20, 0x11},
        {0xA0, 0x11},
        {0x21, 0x20},
        {0xA1, 0x28},
        {0x21, 0x04},
        {0xA1, 0x02},
        {0x21, 0x01},
        {0xA1, 0x01},
        {0x21, 0x00},
        {0xA1, 0x00},
    };

    pic_init(&pic);
    for (u32 i = 0; i < ARRAY_SIZE(program); i++)
        pic_write(&pic, program[i].port, program[i].value);
    return 0;
}

static void pulse(u32 line)
{
    pic_set_line(&pic, line, false);
    pic_set_line(&pic, line, true);
}

static u8 irr(u16 port)
{
    pic_write(&pic, port, 0x0A);
    return pic_read(&pic, port);
}

static u8 isr(u16 port)
{
    pic_write(&pic, port, 0x0B);
    return pic_read(&pic, port);
}

static void test_power_on_masks_everything(void **state)
{
    pic_init(&pic);
    assert_int_equal(pic_read(&pic, 0x21), 0xFF);
    assert_int_equal(pic_read(&pic, 0xA1), 0xFF);
    assert_int_equal(pic_read(&pic, 0x4D0), 0x00);
    assert_int_equal(pic_read(&pic, 0x4D1), 0x02); /* IRQ 9 */
    for (u32 line = 0; line < 16; line++)
        pulse(line);
    assert_false(pic_output(&pic));
    pic_write(&pic, 0x21, 0x00);
    pic_write(&pic, 0xA1, 0x00);
    assert_int_equal(pic_acknowledge(&pic), 0x08);
    pic_write(&pic, 0x20, 0x20);
    assert_int_equal(pic_acknowledge(&pic), 0x09);
    pic_write(&pic, 0x20, 0x20);
    assert_int_equal(pic_acknowledge(&pic), 0x70);
}

static void test_edge_is_taken_once(void **state)
{
    pic_set_line(&pic, 4, true);
    assert_true(pic_output(&pic));
    assert_int_equal(irr(0x20), 0x10);
    assert_int_equal(pic_acknowledge(&pic), 0x24);
    assert_false(pic_output(&pic));
    assert_int_equal(irr(0x20), 0x00);
    assert_int_equal(isr(0x20), 0x10);
    pic_write(&pic, 0x20, 0x20);
    assert_int_equal(isr(0x20), 0x00);
    assert_false(pic_output(&pic)); /* still high, but no new edge */
    pulse(4);
    assert_true(pic_output(&pic));
}

static void test_withdrawn_edge_gives_spurious_vector(void **state)
{
    pulse(3);
    pic_set_line(&pic, 3, false);
    assert_false(pic_output(&pic));
    assert_int_equal(pic_acknowledge(&pic), 0x27);
    assert_int_equal(isr(0x20), 0x00);
}

static void test_slave_spurious_leaves_the_cascade_in_service(void **state)
{
    struct pic_chip *master = &pic.chips[0];

    pulse(14);
    pic.chips[1].edges = 0; /* gone between the two acknowledge pulses */
    assert_int_equal(pic_acknowledge(&pic), 0x2F);
    assert_int_equal(master->isr, 0x04);
    assert_int_equal(pic.chips[1].isr, 0);
}

static void test_level_asks_again_after_eoi(void **state)
{
    pic_write(&pic, 0x4D1, 0x02);
    pic_set_line(&pic, 9, true);
    assert_int_equal(pic_acknowledge(&pic), 0x29);
    assert_false(pic_output(&pic));
    pic_write(&pic, 0xA0, 0x20);
    pic_write(&pic, 0x20, 0x20);
    assert_true(pic_output(&pic));
    assert_int_equal(pic_acknowledge(&pic), 0x29);
    pic_set_line(&pic, 9, false);
    pic_write(&pic, 0xA0, 0x20);
    pic_write(&pic, 0x20, 0x20);
    assert_false(pic_output(&pic));
}

static void test_elcr_keeps_edge_lines(void **state)
{
    pic_write(&pic, 0x4D0, 0xFF);
    pic_write(&pic, 0x4D1, 0xFF);
    assert_int_equal(pic_read(&pic, 0x4D0), 0xF8);
    assert_int_equal(pic_read(&pic, 0x4D1), 0xDE);
}

static void test_priority_and_nesting(void **state)
{
    pulse(5);
    pulse(10);
    pulse(1);
    assert_int_equal(pic_acknowledge(&pic), 0x21);
    assert_false(pic_output(&pic)); /* 10 and 5 wait for 1 */
    pic_write(&pic, 0x20, 0x20);
    assert_int_equal(pic_acknowledge(&pic), 0x2A);
    assert_int_equal(isr(0x20), 0x04);
    pulse(0);
    assert_int_equal(pic_acknowledge(&pic), 0x20); /* interrupts the slave's */
    pulse(8);
    pic_write(&pic, 0x20, 0x20); /* ends 0, not the cascade */
    assert_int_equal(isr(0x20), 0x04);
    assert_false(pic_output(&pic)); /* 8 outranks 10, but the cascade is in service */
}

static void test_special_fully_nested_mode(void **state)
{
    pic_write(&pic, 0x20, 0x11);
    pic_write(&pic, 0x21, 0x20);
    pic_write(&pic, 0x21, 0x04);
    pic_write(&pic, 0x21, 0x11);
    pulse(10);
    assert_int_equal(pic_acknowledge(&pic), 0x2A);
    pulse(8);
    assert_true(pic_output(&pic));
    assert_int_equal(pic_acknowledge(&pic), 0x28);
    pulse(3);
    assert_false(pic_output(&pic)); /* lower than the cascade: has to wait */
}

static void test_mask(void **state)
{
    pic_write(&pic, 0x21, 0xEF);
    assert_int_equal(pic_read(&pic, 0x21), 0xEF);
    pulse(5);
    assert_false(pic_output(&pic));
    assert_int_equal(irr(0x20), 0x20); /* remembered while masked */
    pic_write(&pic, 0x21, 0xCF);
    assert_int_equal(pic_acknowledge(&pic), 0x25);
    assert_false(pic_line_unmasked(&pic, 0));
    assert_true(pic_line_unmasked(&pic, 5));
    assert_true(pic_line_unmasked(&pic, 15));
}

static void test_special_mask_mode(void **state)
{
    pulse(2 + 1);
    assert_int_equal(pic_acknowledge(&pic), 0x23);
    pulse(5);
    assert_false(pic_output(&pic));
    pic_write(&pic, 0x21, 0x08); /* mask what is in service */
    assert_false(pic_output(&pic));
    pic_write(&pic, 0x20, 0x68);
    assert_true(pic_output(&pic)); /* lower ones come through now */
    pic_write(&pic, 0x20, 0x20);   /* and a non-specific EOI spares it */
    assert_int_equal(isr(0x20), 0x08);
    pic_write(&pic, 0x20, 0x63);
    assert_int_equal(isr(0x20), 0x00);
    pic_write(&pic, 0x20, 0x48);
    assert_false(pic.chips[0].special_mask);
}

static void test_specific_eoi(void **state)
{
    pulse(6);
    pic_acknowledge(&pic);
    pulse(1);
    pic_acknowledge(&pic);
    assert_int_equal(isr(0x20), 0x42);
    pic_write(&pic, 0x20, 0x66);
    assert_int_equal(isr(0x20), 0x02);
}

static void test_rotation(void **state)
{
    pulse(3);
    pic_acknowledge(&pic);
    pic_write(&pic, 0x20, 0xA0); /* 3 is the lowest now */
    pulse(3);
    pulse(4);
    pulse(1);
    assert_int_equal(pic_acknowledge(&pic), 0x24);
    pic_write(&pic, 0x20, 0x20);
    assert_int_equal(pic_acknowledge(&pic), 0x21);
    pic_write(&pic, 0x20, 0x20);
    assert_int_equal(pic_acknowledge(&pic), 0x23);
    pic_write(&pic, 0x20, 0xE3); /* rotate on specific EOI */
    assert_int_equal(isr(0x20), 0);
    pic_write(&pic, 0x20, 0xC5); /* set priority: 6 is the highest */
    pulse(0);
    pulse(6);
    assert_int_equal(pic_acknowledge(&pic), 0x26);
}

static void test_automatic_eoi(void **state)
{
    pic_write(&pic, 0x20, 0x11);
    pic_write(&pic, 0x21, 0x40);
    pic_write(&pic, 0x21, 0x04);
    pic_write(&pic, 0x21, 0x03);
    pulse(4);
    assert_int_equal(pic_acknowledge(&pic), 0x44);
    assert_int_equal(isr(0x20), 0);
    pic_write(&pic, 0x20, 0x80); /* rotate in automatic EOI mode */
    pulse(4);
    pic_acknowledge(&pic);
    pulse(4);
    pulse(5);
    assert_int_equal(pic_acknowledge(&pic), 0x45);
    pic_write(&pic, 0x20, 0x00);
    assert_false(pic.chips[0].rotate_in_auto_eoi);
}

static void test_poll(void **state)
{
    pic_write(&pic, 0x20, 0x0C);
    assert_int_equal(pic_read(&pic, 0x20), 0x00);
    pulse(6);
    pic_write(&pic, 0x20, 0x0C);
    assert_int_equal(pic_read(&pic, 0x20), 0x86);
    assert_int_equal(isr(0x20), 0x40);
    assert_false(pic_output(&pic));
    pulse(12);
    pic_write(&pic, 0xA0, 0x0C);
    assert_int_equal(pic_read(&pic, 0xA0), 0x84);
    assert_int_equal(isr(0xA0), 0x10);
}

static void test_initialisation_sequence(void **state)
{
    pulse(4);
    pic_acknowledge(&pic);
    pic_set_line(&pic, 6, true);
    pic_write(&pic, 0x21, 0xFF);
    pic_write(&pic, 0x20, 0x11);
    assert_int_equal(irr(0x20), 0); /* the edge is forgotten */
    assert_int_equal(isr(0x20), 0);
    pulse(0);
    assert_false(pic_output(&pic)); /* not in the middle of it */
    pic_write(&pic, 0x21, 0x33);
    pic_write(&pic, 0x21, 0x04);
    assert_false(pic_output(&pic));
    pic_write(&pic, 0x21, 0x01);
    assert_int_equal(pic_read(&pic, 0x21), 0x00);
    assert_int_equal(pic_acknowledge(&pic), 0x30); /* the low bits of ICW2 do not count */
    /* Single, without ICW4: two words only. */
    pic_write(&pic, 0x20, 0x12);
    pic_write(&pic, 0x21, 0x50);
    pic_write(&pic, 0x21, 0xAA);
    assert_int_equal(pic_read(&pic, 0x21), 0xAA);
}

static void test_cascade_line_is_the_slaves(void **state)
{
    pulse(2);
    assert_false(pic_output(&pic));
    pic_set_line(&pic, 16, true);
    assert_false(pic_output(&pic));
    pulse(15);
    pulse(8);
    assert_int_equal(irr(0x20), 0x04);
    assert_int_equal(pic_acknowledge(&pic), 0x28);
    pic_write(&pic, 0xA0, 0x20);
    pic_write(&pic, 0x20, 0x20);
    assert_int_equal(pic_acknowledge(&pic), 0x2F);
    assert_int_equal(irr(0x20), 0x00);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_power_on_masks_everything, setup),
        cmocka_unit_test_setup(test_edge_is_taken_once, setup),
        cmocka_unit_test_setup(test_withdrawn_edge_gives_spurious_vector, setup),
        cmocka_unit_test_setup(test_slave_spurious_leaves_the_cascade_in_service, setup),
        cmocka_unit_test_setup(test_level_asks_again_after_eoi, setup),
        cmocka_unit_test_setup(test_elcr_keeps_edge_lines, setup),
        cmocka_unit_test_setup(test_priority_and_nesting, setup),
        cmocka_unit_test_setup(test_special_fully_nested_mode, setup),
        cmocka_unit_test_setup(test_mask, setup),
        cmocka_unit_test_setup(test_special_mask_mode, setup),
        cmocka_unit_test_setup(test_specific_eoi, setup),
        cmocka_unit_test_setup(test_rotation, setup),
        cmocka_unit_test_setup(test_automatic_eoi, setup),
        cmocka_unit_test_setup(test_poll, setup),
        cmocka_unit_test_setup(test_initialisation_sequence, setup),
        cmocka_unit_test_setup(test_cascade_line_is_the_slaves, setup),
    };

    return cmocka_run_group_tests_name("pic", tests, NULL, NULL);
}
