/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "tests/unit/device_fixture.h"

enum {
    DATA = 0x3F8,
    IER = 0x3F9,
    IIR = 0x3FA,
    FCR = 0x3FA,
    LCR = 0x3FB,
    MCR = 0x3FC,
    LSR = 0x3FD,
    MSR = 0x3FE,
    SCR = 0x3FF,
};

/* Takes IRQ 4 from the PIC if it is there, and ends it. */
static bool take_irq(void)
{
    if (!machine_extint_pending(f.machine, 0))
        return false;
    assert_int_equal(machine_acknowledge_pic(f.machine, &f.effects), 0x24);
    outb(0x20, 0x20);
    return true;
}

static int setup(void **state)
{
    fixture_setup(state);
    pic_program();
    outb(MCR, 0x0B); /* DTR, RTS, OUT2 */
    outb(FCR, 0x01);
    return 0;
}

#define UART_TEST(function) cmocka_unit_test_setup_teardown(function, setup, fixture_teardown)

static void feed(const char *text)
{
    for (; *text != '\0'; text++)
        assert_true(machine_receive(f.machine, *text, &f.effects));
}

static void test_transmit_is_instant(void **state)
{
    assert_int_equal(inb(LSR), 0x60);
    outb(DATA, 'h');
    outb(DATA, 'i');
    assert_int_equal(inb(LSR), 0x60);
    assert_int_equal(f.sent_count, 2);
    assert_memory_equal(f.sent, "hi", 2);
    assert_false(take_irq());
}

static void test_divisor_latch_and_scratch(void **state)
{
    outb(LCR, 0x83);
    outb(DATA, 0x01);
    outb(IER, 0x02);
    assert_int_equal(inb(DATA), 0x01);
    assert_int_equal(inb(IER), 0x02);
    outb(LCR, 0x03);
    assert_int_equal(f.sent_count, 0);
    assert_int_equal(inb(IER), 0x00);
    assert_int_equal(inb(LCR), 0x03);
    outb(SCR, 0xA7);
    assert_int_equal(inb(SCR), 0xA7);
    outb(IER, 0xFF);
    assert_int_equal(inb(IER), 0x0F);
}

/* What autoconfig of Linux's 8250 driver looks at. */
static void test_is_a_16550a(void **state)
{
    outb(FCR, 0x00);
    assert_int_equal(inb(IIR), 0x01);
    outb(FCR, 0x01);
    assert_int_equal(inb(IIR), 0xC1);
    outb(IER, 0x00);
    assert_int_equal(inb(IER), 0x00);
    outb(MCR, 0x1A);
    assert_int_equal(inb(MSR) & 0xF0, 0x90); /* loop-back: RTS to CTS, OUT2 to DCD */
    outb(MCR, 0x0B);
}

static void test_transmitter_interrupt(void **state)
{
    outb(IER, 0x02);
    assert_true(take_irq());
    assert_int_equal(inb(IIR), 0xC2);
    assert_int_equal(inb(IIR), 0xC1); /* reading it was the acknowledgement */
    assert_false(take_irq());
    outb(DATA, 'a');
    assert_true(take_irq());
    outb(DATA, 'b'); /* without reading IIR: still a new edge */
    assert_true(take_irq());
    assert_int_equal(inb(IIR), 0xC2);
    outb(IER, 0x00);
    outb(IER, 0x02); /* enabling it with the register empty raises it */
    assert_true(take_irq());
    outb(IER, 0x02); /* enabled already: nothing new */
    assert_int_equal(inb(IIR), 0xC2);
    outb(IER, 0x02);
    assert_int_equal(inb(IIR), 0xC1);
}

static void test_receive_and_trigger_level(void **state)
{
    outb(FCR, 0x81); /* 8 bytes */
    outb(IER, 0x01);
    feed("1234567");
    assert_true(take_irq());
    assert_int_equal(inb(IIR), 0xCC); /* below the level: character timeout */
    feed("8");
    assert_int_equal(inb(IIR), 0xC4);
    assert_int_equal(inb(LSR), 0x61);
    for (u32 i = 0; i < 8; i++)
        assert_int_equal(inb(DATA), '1' + i);
    assert_int_equal(inb(LSR), 0x60);
    assert_int_equal(inb(IIR), 0xC1);
    feed("x"); /* the line went low in between */
    assert_true(take_irq());
}

static void test_fifo_is_bounded(void **state)
{
    for (u32 i = 0; i < 16; i++) {
        assert_true(machine_can_receive(f.machine));
        assert_true(machine_receive(f.machine, i, &f.effects));
    }
    assert_false(machine_can_receive(f.machine));
    assert_false(machine_receive(f.machine, 99, &f.effects));
    assert_int_equal(inb(DATA), 0);
    assert_true(machine_receive(f.machine, 16, &f.effects));
    for (u32 i = 1; i <= 16; i++)
        assert_int_equal(inb(DATA), i);
    assert_int_equal(inb(LSR), 0x60); /* nothing lost, no overrun */
    feed("abc");
    outb(FCR, 0x03); /* clear the receiver */
    assert_int_equal(inb(LSR), 0x60);
}

static void test_without_fifo_one_byte(void **state)
{
    outb(FCR, 0x00);
    outb(IER, 0x01);
    feed("a");
    assert_false(machine_receive(f.machine, 'b', &f.effects));
    assert_true(take_irq());
    assert_int_equal(inb(IIR), 0x04);
    assert_int_equal(inb(DATA), 'a');
    assert_true(machine_receive(f.machine, 'b', &f.effects));
    assert_true(take_irq());
}

static void test_loop_back(void **state)
{
    inb(MSR);
    outb(MCR, 0x1F);
    assert_int_equal(inb(MSR), 0xF0); /* no input changed that counts: RI only when it ends */
    outb(DATA, 0x55);
    assert_int_equal(f.sent_count, 0);
    assert_int_equal(inb(LSR), 0x61);
    assert_int_equal(inb(DATA), 0x55);
    assert_false(machine_can_receive(f.machine));
    assert_false(machine_receive(f.machine, 'x', &f.effects));
    outb(MCR, 0x10);
    assert_int_equal(inb(MSR), 0x0F); /* all four went away */
    assert_int_equal(inb(MSR), 0x00);
    outb(IER, 0x01);
    outb(DATA, 0x66);
    assert_int_equal(inb(IIR), 0xCC & 0xC4); /* level 1: data available */
    assert_false(take_irq());                /* but OUT2 does not reach the board */
}

static void test_overrun_in_loop_back(void **state)
{
    outb(MCR, 0x18);
    outb(IER, 0x04);
    for (u32 i = 0; i < 17; i++)
        outb(DATA, i);
    assert_int_equal(inb(IIR), 0xC6); /* line status comes first */
    assert_int_equal(inb(LSR), 0x63);
    assert_int_equal(inb(LSR), 0x61); /* reading clears it */
    assert_int_equal(inb(DATA), 0);
    assert_int_equal(inb(MCR), 0x18);
    outb(FCR, 0x00); /* without FIFO the newer byte is what is read */
    outb(DATA, 'a');
    outb(DATA, 'b');
    assert_int_equal(inb(LSR), 0x63);
    assert_int_equal(inb(DATA), 'b');
}

static void test_modem_status_interrupt(void **state)
{
    outb(IER, 0x08);
    inb(MSR);
    outb(MCR, 0x18); /* CTS and DSR fall */
    assert_int_equal(inb(IIR), 0xC0);
    outb(MCR, 0x0B);
    assert_true(take_irq());
    assert_int_equal(inb(MSR), 0xB3);
    assert_int_equal(inb(IIR), 0xC1);
}

static void test_a_held_transmitter_seems_busy(void **state)
{
    outb(MCR, 0x0B);
    outb(IER, 0x02);
    assert_true(take_irq());
    machine_hold_output(f.machine, true, &f.effects);
    assert_int_equal(inb(LSR) & 0x60, 0);
    assert_int_equal(inb(IIR), 0xC1);
    outb(DATA, 'x'); /* is sent all the same */
    outb(IER, 0x00);
    outb(IER, 0x02);
    assert_int_equal(inb(IIR), 0xC1);
    assert_false(take_irq());
    machine_hold_output(f.machine, false, &f.effects);
    assert_true(take_irq());
    assert_int_equal(inb(LSR) & 0x60, 0x60);
    assert_int_equal(inb(IIR), 0xC2);
    machine_hold_output(f.machine, false, &f.effects); /* was not: nothing new */
    assert_int_equal(inb(IIR), 0xC1);
}

static void test_out2_gates_the_interrupt(void **state)
{
    outb(MCR, 0x03);
    outb(IER, 0x01);
    feed("a");
    assert_false(take_irq());
    outb(MCR, 0x0B);
    assert_true(take_irq());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UART_TEST(test_transmit_is_instant),
        UART_TEST(test_divisor_latch_and_scratch),
        UART_TEST(test_is_a_16550a),
        UART_TEST(test_transmitter_interrupt),
        UART_TEST(test_receive_and_trigger_level),
        UART_TEST(test_fifo_is_bounded),
        UART_TEST(test_without_fifo_one_byte),
        UART_TEST(test_loop_back),
        UART_TEST(test_overrun_in_loop_back),
        UART_TEST(test_modem_status_interrupt),
        UART_TEST(test_a_held_transmitter_seems_busy),
        UART_TEST(test_out2_gates_the_interrupt),
    };

    return cmocka_run_group_tests_name("uart", tests, NULL, NULL);
}
