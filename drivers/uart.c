/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "drivers/uart.h"

#include "drivers/cpu.h"
#include "drivers/io.h"
#include "lib/string.h"

/* PC16550D data sheet, table II: registers by offset from the port. */
enum uart_register {
    UART_DATA = 0, /* RBR and THR; DLL while LCR.DLAB is set */
    UART_IER = 1,  /* DLM while LCR.DLAB is set */
    UART_IIR = 2,  /* read */
    UART_FCR = 2,  /* written */
    UART_LCR = 3,
    UART_MCR = 4,
    UART_LSR = 5,
    UART_MSR = 6,
    UART_SCR = 7,
};

enum uart_bits {
    IER_RECEIVED_DATA = 1 << 0,
    IER_TRANSMITTER_EMPTY = 1 << 1,
    IIR_NONE = 1 << 0,
    IIR_FIFOS_ENABLED = 0xC0,
    FCR_ENABLE = 1 << 0,
    FCR_CLEAR_RECEIVER = 1 << 1,
    FCR_CLEAR_TRANSMITTER = 1 << 2,
    FCR_TRIGGER_8 = 0x80,
    LCR_8N1 = 0x03,
    LCR_DLAB = 0x80,
    MCR_DTR = 1 << 0,
    MCR_RTS = 1 << 1,
    MCR_OUT2 = 1 << 3, /* connects the interrupt line in a PC */
    MCR_LOOP = 1 << 4,
    LSR_DATA_READY = 1 << 0,
    LSR_PARITY_ERROR = 1 << 2,
    LSR_FRAMING_ERROR = 1 << 3,
    LSR_BREAK = 1 << 4,
    LSR_TRANSMITTER_EMPTY = 1 << 5,
    LSR_IDLE = 1 << 6, /* the shift register is empty, too */
    MSR_CTS = 1 << 4,
    MSR_DCD = 1 << 7,
    MSR_LINES = 0xF0,
};

#define UART_FIFO_DEPTH 16

/* A port takes about a microsecond to read on a real machine; a full FIFO takes 17 ms at 9600
 * baud, and more at less. */
#define STALL_READS 200000
#define STALL_BAUD  9600

static bool scratch_holds(u16 port, u8 value)
{
    outb(port + UART_SCR, value);
    return inb(port + UART_SCR) == value;
}

/* In loop-back RTS comes back as CTS and OUT2 as DCD. */
static bool loops_back(u16 port)
{
    u8 lines;

    outb(port + UART_MCR, MCR_LOOP | MCR_RTS | MCR_OUT2);
    lines = inb(port + UART_MSR) & MSR_LINES;
    outb(port + UART_MCR, 0);
    return lines == (MSR_CTS | MSR_DCD);
}

static void set_rate(u16 port, u32 baud)
{
    u32 divisor = host_uart_divisor(baud);

    outb(port + UART_LCR, LCR_DLAB);
    outb(port + UART_DATA, (u8)divisor);
    outb(port + UART_IER, (u8)(divisor >> 8));
    outb(port + UART_LCR, LCR_8N1);
}

bool host_uart_init(struct host_uart *uart, u16 port, u32 baud)
{
    if (host_uart_divisor(baud) == 0)
        return false;
    outb(port + UART_LCR, LCR_8N1);
    if (!scratch_holds(port, 0x55) || !scratch_holds(port, 0xAA) || !loops_back(port))
        return false;
    outb(port + UART_IER, 0);
    set_rate(port, baud);
    outb(port + UART_FCR, FCR_ENABLE | FCR_CLEAR_RECEIVER | FCR_CLEAR_TRANSMITTER | FCR_TRIGGER_8);
    outb(port + UART_MCR, MCR_DTR | MCR_RTS | MCR_OUT2);
    *uart = (struct host_uart){.port = port,
                               .irq = host_uart_irq(port),
                               .fifo_depth = 1,
                               .patience = STALL_READS * (1 + STALL_BAUD / baud)};
    if ((inb(port + UART_IIR) & IIR_FIFOS_ENABLED) == IIR_FIFOS_ENABLED)
        uart->fifo_depth = UART_FIFO_DEPTH;
    return true;
}

size_t host_uart_try_write(struct host_uart *uart, const void *bytes, size_t size)
{
    const u8 *next = bytes;

    if ((inb(uart->port + UART_LSR) & LSR_TRANSMITTER_EMPTY) == 0)
        return 0;
    uart->stalled = false;
    size = MIN(size, (size_t)uart->fifo_depth);
    for (size_t i = 0; i < size; i++)
        outb(uart->port + UART_DATA, next[i]);
    return size;
}

void host_uart_write(struct host_uart *uart, const void *bytes, size_t size)
{
    const u8 *next = bytes;
    u32 reads = 0;

    while (size > 0) {
        size_t sent = host_uart_try_write(uart, next, size);

        next += sent;
        size -= sent;
        reads = sent > 0 ? 0 : reads + 1;
        if (uart->stalled || reads == uart->patience) {
            uart->stalled = true;
            return;
        }
        if (sent == 0)
            cpu_pause();
    }
}

void host_uart_drain(const struct host_uart *uart)
{
    for (u32 reads = 0; !uart->stalled && reads < uart->patience; reads++)
        if (inb(uart->port + UART_LSR) & LSR_IDLE)
            return;
}

size_t host_uart_read(struct host_uart *uart, void *bytes, size_t size)
{
    const u8 errors = LSR_PARITY_ERROR | LSR_FRAMING_ERROR | LSR_BREAK;
    u8 *to = bytes;
    size_t taken = 0;

    for (size_t i = 0; i < size; i++) {
        u8 status = inb(uart->port + UART_LSR);
        u8 byte;

        if ((status & LSR_DATA_READY) == 0)
            break;
        byte = inb(uart->port + UART_DATA);
        if ((status & errors) == 0)
            to[taken++] = byte;
    }
    return taken;
}

void host_uart_enable_interrupts(struct host_uart *uart, bool receive, bool transmit)
{
    outb(uart->port + UART_IER,
         (receive ? IER_RECEIVED_DATA : 0) | (transmit ? IER_TRANSMITTER_EMPTY : 0));
}

bool host_uart_acknowledge(struct host_uart *uart)
{
    return (inb(uart->port + UART_IIR) & IIR_NONE) == 0;
}

void host_uart_set_rts(struct host_uart *uart, bool on)
{
    outb(uart->port + UART_MCR, MCR_DTR | MCR_OUT2 | (on ? MCR_RTS : 0));
}
