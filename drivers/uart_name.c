/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* What names and rates of serial ports mean. Pure. */

#include "drivers/uart.h"

#include "lib/string.h"

#define UART_CLOCK 115200 /* 1.8432 MHz / 16 */
#define UART_PORTS 8
#define BAUD_ERROR 32 /* a rate may be off by 1/32: 8N1 stands about 1/25 */

static const struct {
    u16 port;
    u8 irq;
} com_ports[] = {
    {0x3F8, 4},
    {0x2F8, 3},
    {0x3E8, 4},
    {0x2E8, 3},
};

u32 host_uart_divisor(u32 baud)
{
    u64 divisor = baud == 0 ? 0 : (UART_CLOCK + baud / 2) / baud;
    u64 actual = divisor * baud;
    u64 error = actual > UART_CLOCK ? actual - UART_CLOCK : UART_CLOCK - actual;

    return divisor <= UINT16_MAX && error * BAUD_ERROR <= UART_CLOCK ? (u32)divisor : 0;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Moves `*text` behind a number of at least one digit and at most `limit`. */
static bool parse_number(const char **text, u32 base, u32 limit, u32 *number)
{
    const char *first = *text;
    u64 value = 0;

    for (;; (*text)++) {
        int digit = digit_of(**text);

        if (digit < 0 || digit >= (int)base)
            break;
        value = value * base + (u32)digit;
        if (value > limit)
            return false;
    }
    *number = (u32)value;
    return *text != first;
}

static bool parse_port(const char **text, u16 *port)
{
    u32 number;

    if (strncmp(*text, "com", 3) == 0) {
        *text += 3;
        if (!parse_number(text, 10, ARRAY_SIZE(com_ports), &number) || number == 0)
            return false;
        *port = com_ports[number - 1].port;
        return true;
    }
    if (strncmp(*text, "0x", 2) != 0)
        return false;
    *text += 2;
    if (!parse_number(text, 16, UINT16_MAX - (UART_PORTS - 1), &number) || number == 0)
        return false;
    *port = (u16)number;
    return true;
}

bool console_parse(const char *value, u16 *port, u32 *baud)
{
    *baud = HOST_UART_BAUD;
    if (!parse_port(&value, port))
        return false;
    if (*value == ',') {
        value++;
        if (!parse_number(&value, 10, UART_CLOCK, baud))
            return false;
    }
    return *value == '\0' && host_uart_divisor(*baud) != 0;
}

u8 host_uart_irq(u16 port)
{
    for (u32 i = 0; i < ARRAY_SIZE(com_ports); i++) {
        if (com_ports[i].port == port)
            return com_ports[i].irq;
    }
    return HOST_UART_NO_IRQ;
}
