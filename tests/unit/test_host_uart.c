/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* drivers/uart.c against a model of a UART in place of ports. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/types.h"

#define BULKHEAD_DRIVERS_IO_H
static u8 inb(u16 port);
static void outb(u16 port, u8 value);
#include "../../drivers/uart.c"

#define PORT 0x3F8

static struct {
    bool present;
    bool has_fifo;
    bool no_loop; /* RAM, not a UART */
    bool jammed;  /* never has room again once its FIFO is full */
    u32 reads;
    u32 busy;     /* reads of LSR until there is room */
    u32 shifting; /* reads of LSR until the last byte is out */
    u8 ier, lcr, mcr, fcr, scr;
    u16 divisor;
    char sent[256];
    u32 sent_count, since_room;
    u8 received[64], status[64];
    u32 receive_next, receive_count;
} model;

static u8 line_status(void)
{
    u8 status = 0;

    if (model.busy > 0 && !model.jammed)
        model.busy--;
    if (model.busy == 0) {
        model.since_room = 0;
        status |= LSR_TRANSMITTER_EMPTY;
        if (model.shifting == 0)
            status |= LSR_IDLE;
        else
            model.shifting--;
    }
    if (model.receive_next < model.receive_count)
        status |= LSR_DATA_READY | model.status[model.receive_next];
    return status;
}

static u8 modem_status(void)
{
    if ((model.mcr & MCR_LOOP) == 0 || model.no_loop)
        return 0xB0;
    return (model.mcr & MCR_RTS ? MSR_CTS : 0) | (model.mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static u8 inb(u16 port)
{
    assert_in_range(port, PORT, PORT + 7);
    model.reads++;
    if (!model.present)
        return 0xFF;
    switch (port - PORT) {
    case UART_DATA:
        return model.received[model.receive_next++];
    case UART_IER:
        return model.ier;
    case UART_IIR:
        return model.has_fifo && (model.fcr & FCR_ENABLE) ? 0xC1 : 0x01;
    case UART_LSR:
        return line_status();
    case UART_MSR:
        return modem_status();
    case UART_SCR:
        return model.scr;
    default:
        fail();
        return 0;
    }
}

static void send(u8 value)
{
    assert_true(model.since_room < (model.has_fifo ? 16 : 1));
    assert_true(model.sent_count < sizeof(model.sent));
    model.sent[model.sent_count++] = (char)value;
    model.since_room++;
    model.busy = 3;
}

static void outb(u16 port, u8 value)
{
    assert_in_range(port, PORT, PORT + 7);
    switch (port - PORT) {
    case UART_DATA:
        if (model.lcr & LCR_DLAB)
            model.divisor = (model.divisor & 0xFF00) | value;
        else
            send(value);
        break;
    case UART_IER:
        if (model.lcr & LCR_DLAB)
            model.divisor = (u16)((model.divisor & 0xFF) | value << 8);
        else
            model.ier = value;
        break;
    case UART_FCR:
        model.fcr = value;
        break;
    case UART_LCR:
        model.lcr = value;
        break;
    case UART_MCR:
        model.mcr = value;
        break;
    case UART_SCR:
        model.scr = value;
        break;
    default:
        fail();
    }
}

static int reset(void **state)
{
    memset(&model, 0, sizeof(model));
    model.present = true;
    model.has_fifo = true;
    return 0;
}

static void initialization(void **state)
{
    struct host_uart uart;

    model.ier = 0xF;
    assert_true(host_uart_init(&uart, PORT, 9600));
    assert_int_equal(model.divisor, 12);
    assert_int_equal(model.lcr, LCR_8N1);
    assert_int_equal(model.ier, 0);
    assert_int_equal(model.mcr, MCR_DTR | MCR_RTS | MCR_OUT2);
    assert_int_equal(uart.irq, 4);
    assert_int_equal(uart.fifo_depth, 16);
    model.has_fifo = false;
    assert_true(host_uart_init(&uart, PORT, 110));
    assert_int_equal(model.divisor, 1047);
    assert_int_equal(uart.fifo_depth, 1);
}

static void a_missing_uart_is_found_missing_soon(void **state)
{
    struct host_uart uart;

    model.present = false;
    assert_false(host_uart_init(&uart, PORT, 115200));
    assert_true(model.reads < 10);
}

static void a_scratch_register_alone_is_no_uart(void **state)
{
    struct host_uart uart;

    model.no_loop = true;
    assert_false(host_uart_init(&uart, PORT, 115200));
    assert_int_equal(model.ier, 0);
    assert_int_equal(model.sent_count, 0);
}

static void rates_that_cannot_be_made(void **state)
{
    struct host_uart uart;

    assert_false(host_uart_init(&uart, PORT, 0));
    assert_false(host_uart_init(&uart, PORT, 1));
    assert_false(host_uart_init(&uart, PORT, 100000));
    assert_int_equal(model.reads, 0);
}

static void writing_waits_for_room(void **state)
{
    static const char text[] = "The quick brown fox jumps over the lazy dog.";
    struct host_uart uart;

    for (u32 i = 0; i < 2; i++) {
        reset(NULL);
        model.has_fifo = i == 0;
        assert_true(host_uart_init(&uart, PORT, 115200));
        host_uart_write(&uart, text, sizeof(text) - 1);
        assert_int_equal(model.sent_count, sizeof(text) - 1);
        assert_memory_equal(model.sent, text, sizeof(text) - 1);
    }
}

static void try_write_never_waits(void **state)
{
    struct host_uart uart;

    assert_true(host_uart_init(&uart, PORT, 115200));
    assert_int_equal(host_uart_try_write(&uart, "abc", 3), 3);
    model.reads = 0;
    assert_int_equal(host_uart_try_write(&uart, "def", 3), 0);
    assert_int_equal(model.reads, 1);
    model.busy = 0;
    assert_int_equal(host_uart_try_write(&uart, "0123456789abcdefXYZ", 19), 16);
    assert_memory_equal(model.sent, "abc0123456789abcdef", model.sent_count);
}

static void a_uart_that_stops_is_waited_for_once(void **state)
{
    struct host_uart uart;

    assert_true(host_uart_init(&uart, PORT, 115200));
    model.jammed = true;
    host_uart_write(&uart, "0123456789abcdefghij", 20);
    assert_int_equal(model.sent_count, 16);
    assert_in_range(model.reads, STALL_READS, STALL_READS + 100);
    model.reads = 0;
    host_uart_write(&uart, "lost", 4);
    assert_int_equal(model.reads, 1);
    model.jammed = false;
    model.busy = 0;
    host_uart_write(&uart, "back again after a while", 24);
    assert_int_equal(model.sent_count, 16 + 24);
}

static void draining_waits_for_the_last_byte(void **state)
{
    struct host_uart uart;

    assert_true(host_uart_init(&uart, PORT, 115200));
    model.shifting = 5;
    model.reads = 0;
    host_uart_drain(&uart);
    assert_int_equal(model.shifting, 0);
    assert_int_equal(model.reads, 6);
    model.jammed = true;
    model.busy = 1;
    host_uart_drain(&uart);
    assert_in_range(model.reads, STALL_READS, STALL_READS + 100);
}

static void receive(u8 byte, u8 status)
{
    model.received[model.receive_count] = byte;
    model.status[model.receive_count++] = status;
}

static void reading(void **state)
{
    struct host_uart uart;
    char text[8];

    assert_true(host_uart_init(&uart, PORT, 115200));
    assert_int_equal(host_uart_read(&uart, text, sizeof(text)), 0);
    receive('a', 0);
    receive(0, LSR_BREAK);
    receive('x', LSR_FRAMING_ERROR);
    receive('y', LSR_PARITY_ERROR);
    receive('b', 1 << 1); /* overrun: this byte is good */
    assert_int_equal(host_uart_read(&uart, text, sizeof(text)), 2);
    assert_memory_equal(text, "ab", 2);
    receive('c', 0);
    receive('d', 0);
    assert_int_equal(host_uart_read(&uart, text, 1), 1);
    assert_int_equal(text[0], 'c');
    model.present = false;
    assert_int_equal(host_uart_read(&uart, text, sizeof(text)), 0);
}

static void interrupts(void **state)
{
    struct host_uart uart;

    assert_true(host_uart_init(&uart, PORT, 115200));
    host_uart_enable_interrupts(&uart, true, true);
    assert_int_equal(model.ier, 3);
    host_uart_enable_interrupts(&uart, true, false);
    assert_int_equal(model.ier, 1);
    host_uart_enable_interrupts(&uart, false, false);
    assert_int_equal(model.ier, 0);
}

static void console_values(void **state)
{
    static const struct {
        const char *value;
        u16 port;
        u32 baud;
    } cases[] = {
        {"com1",         0x3F8,  115200},
        {"com2",         0x2F8,  115200},
        {"com3,9600",    0x3E8,  9600  },
        {"com4,115200",  0x2E8,  115200},
        {"0x3f8",        0x3F8,  115200},
        {"0xE010,57600", 0xE010, 57600 },
        {"0xFff8,300",   0xFFF8, 300   },
        {"com1,38400",   0x3F8,  38400 },
        {"com1,2",       0x3F8,  2     },
    };
    u16 port;
    u32 baud;

    for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_true(console_parse(cases[i].value, &port, &baud));
        assert_int_equal(port, cases[i].port);
        assert_int_equal(baud, cases[i].baud);
    }
}

static void bad_console_values(void **state)
{
    static const char *const values[] = {
        "",
        "com",
        "com0",
        "com5",
        "com11",
        "COM1",
        "com1,",
        "com1,0",
        "com1,1",
        "com1,115201",
        "com1 ",
        "com1,9600x",
        "com1,-1",
        "0x",
        "0x0",
        "0xFFF9",
        "0x10000",
        "0xg",
        "3f8",
        "1016",
        "com1,100000",
        "com1,9600,8n1",
        "com1,99999999999999999999",
        "0x3f8,",
        ",9600",
        "com1,0x10",
    };
    u16 port;
    u32 baud;

    for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
        if (console_parse(values[i], &port, &baud))
            fail_msg("'%s' is accepted", values[i]);
    }
}

static void only_com_ports_have_an_irq(void **state)
{
    assert_int_equal(host_uart_irq(0x3F8), 4);
    assert_int_equal(host_uart_irq(0x2F8), 3);
    assert_int_equal(host_uart_irq(0x3E8), 4);
    assert_int_equal(host_uart_irq(0x2E8), 3);
    assert_int_equal(host_uart_irq(0xE010), HOST_UART_NO_IRQ);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(initialization, reset),
        cmocka_unit_test_setup(a_missing_uart_is_found_missing_soon, reset),
        cmocka_unit_test_setup(rates_that_cannot_be_made, reset),
        cmocka_unit_test_setup(a_scratch_register_alone_is_no_uart, reset),
        cmocka_unit_test_setup(writing_waits_for_room, reset),
        cmocka_unit_test_setup(try_write_never_waits, reset),
        cmocka_unit_test_setup(a_uart_that_stops_is_waited_for_once, reset),
        cmocka_unit_test_setup(draining_waits_for_the_last_byte, reset),
        cmocka_unit_test_setup(reading, reset),
        cmocka_unit_test_setup(interrupts, reset),
        cmocka_unit_test(console_values),
        cmocka_unit_test(bad_console_values),
        cmocka_unit_test(only_com_ports_have_an_irq),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
