/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/uart.h"

#include "lib/string.h"

enum uart_register {
    UART_DATA,    /* RBR, THR; divisor low with DLAB */
    UART_IER,     /* divisor high with DLAB */
    UART_IIR_FCR, /* IIR when read */
    UART_LCR,
    UART_MCR,
    UART_LSR,
    UART_MSR,
    UART_SCR,
};

enum uart_bits {
    IER_RDA = 1 << 0,
    IER_THRE = 1 << 1,
    IER_LINE = 1 << 2,
    IER_MODEM = 1 << 3,
    IER_MASK = 0x0F,
    IIR_NONE = 0x01,
    IIR_MODEM = 0x00,
    IIR_THRE = 0x02,
    IIR_RDA = 0x04,
    IIR_LINE = 0x06,
    IIR_TIMEOUT = 0x0C,
    IIR_FIFOS = 0xC0,
    FCR_ENABLE = 1 << 0,
    FCR_CLEAR_RX = 1 << 1,
    FCR_KEPT = 0xC9,
    FCR_TRIGGER_SHIFT = 6,
    LCR_DLAB = 1 << 7,
    MCR_DTR = 1 << 0,
    MCR_RTS = 1 << 1,
    MCR_OUT1 = 1 << 2,
    MCR_OUT2 = 1 << 3,
    MCR_LOOP = 1 << 4,
    MCR_MASK = 0x1F,
    LSR_DR = 1 << 0,
    LSR_OE = 1 << 1,
    LSR_THRE = 1 << 5,
    LSR_TEMT = 1 << 6,
    MSR_DCTS = 1 << 0,
    MSR_DDSR = 1 << 1,
    MSR_TERI = 1 << 2,
    MSR_DDCD = 1 << 3,
    MSR_CTS = 1 << 4,
    MSR_DSR = 1 << 5,
    MSR_RI = 1 << 6,
    MSR_DCD = 1 << 7,
    MSR_CABLE = MSR_CTS | MSR_DSR | MSR_DCD,
    DIVISOR_9600 = 12,
};

static u32 rx_capacity(const struct uart *uart)
{
    return uart->fcr & FCR_ENABLE ? UART_FIFO_SIZE : 1;
}

static u32 rx_trigger(const struct uart *uart)
{
    static const u8 levels[] = {1, 4, 8, 14};

    return uart->fcr & FCR_ENABLE ? levels[uart->fcr >> FCR_TRIGGER_SHIFT] : 1;
}

/* The pending interrupt of highest priority as IIR reports it. Below the trigger level the
 * character timeout is taken to be over at once, so input never waits. */
static u8 uart_interrupt(const struct uart *uart)
{
    if ((uart->ier & IER_LINE) && uart->line_errors != 0)
        return IIR_LINE;
    if ((uart->ier & IER_RDA) && uart->rx_count != 0)
        return uart->rx_count >= rx_trigger(uart) ? IIR_RDA : IIR_TIMEOUT;
    if ((uart->ier & IER_THRE) && uart->thre_pending)
        return IIR_THRE;
    if ((uart->ier & IER_MODEM) && uart->modem_deltas != 0)
        return IIR_MODEM;
    return IIR_NONE;
}

bool uart_irq(const struct uart *uart)
{
    return uart_interrupt(uart) != IIR_NONE && (uart->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
}

static void rx_clear(struct uart *uart)
{
    uart->rx_head = 0;
    uart->rx_count = 0;
}

static void rx_push(struct uart *uart, u8 byte)
{
    uart->rx[(uart->rx_head + uart->rx_count) % UART_FIFO_SIZE] = byte;
    uart->rx_count++;
}

static u8 rx_pop(struct uart *uart)
{
    u8 byte = uart->rx[uart->rx_head];

    if (uart->rx_count != 0) {
        uart->rx_head = (uart->rx_head + 1) % UART_FIFO_SIZE;
        uart->rx_count--;
    }
    return byte;
}

bool uart_can_receive(const struct uart *uart)
{
    return uart->rx_count < rx_capacity(uart) && !(uart->mcr & MCR_LOOP);
}

bool uart_receive(struct uart *uart, u8 byte)
{
    if (!uart_can_receive(uart))
        return false;
    rx_push(uart, byte);
    return true;
}

static u8 read_iir(struct uart *uart)
{
    u8 interrupt = uart_interrupt(uart);

    if (interrupt == IIR_THRE)
        uart->thre_pending = false;
    return interrupt | (uart->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static u8 line_status(const struct uart *uart)
{
    return (uart->held ? 0 : LSR_THRE | LSR_TEMT) | uart->line_errors |
           (uart->rx_count != 0 ? LSR_DR : 0);
}

static u8 read_lsr(struct uart *uart)
{
    u8 value = line_status(uart);

    uart->line_errors = 0;
    return value;
}

int uart_peek(const struct uart *uart, u32 offset)
{
    return offset == UART_LSR && uart->line_errors == 0 ? line_status(uart) : -1;
}

static u8 read_msr(struct uart *uart)
{
    u8 value = uart->modem_inputs | uart->modem_deltas;

    uart->modem_deltas = 0;
    return value;
}

u8 uart_read(struct uart *uart, u32 offset)
{
    switch (offset) {
    case UART_DATA:
        return uart->lcr & LCR_DLAB ? uart->divisor_low : rx_pop(uart);
    case UART_IER:
        return uart->lcr & LCR_DLAB ? uart->divisor_high : uart->ier;
    case UART_IIR_FCR:
        return read_iir(uart);
    case UART_LCR:
        return uart->lcr;
    case UART_MCR:
        return uart->mcr;
    case UART_LSR:
        return read_lsr(uart);
    case UART_MSR:
        return read_msr(uart);
    default:
        return uart->scr;
    }
}

static void loop_back(struct uart *uart, u8 byte)
{
    if (uart->rx_count < rx_capacity(uart)) {
        rx_push(uart, byte);
        return;
    }
    uart->line_errors |= LSR_OE;
    /* The FIFO keeps what it has; without one the register is overwritten. */
    if (!(uart->fcr & FCR_ENABLE))
        uart->rx[uart->rx_head] = byte;
}

/* The byte is gone at once: the interrupt that this write acknowledged comes again. */
static void transmit(struct uart *uart, u8 byte, struct effects *effects)
{
    if (uart->mcr & MCR_LOOP)
        loop_back(uart, byte);
    else
        effects->ops->transmit(effects, byte);
    uart->thre_pending = !uart->held;
}

void uart_hold(struct uart *uart, bool held)
{
    uart->thre_pending = held ? false : uart->thre_pending || uart->held;
    uart->held = held;
}

static void write_ier(struct uart *uart, u8 value)
{
    /* Enabling the transmitter's interrupt while the register is empty raises it. */
    if (value & ~uart->ier & IER_THRE)
        uart->thre_pending = !uart->held;
    uart->ier = value & IER_MASK;
}

static void write_fcr(struct uart *uart, u8 value)
{
    if ((value ^ uart->fcr) & FCR_ENABLE || value & FCR_CLEAR_RX)
        rx_clear(uart);
    uart->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
}

static void write_mcr(struct uart *uart, u8 value)
{
    u8 inputs = MSR_CABLE;
    u8 changed;

    uart->mcr = value & MCR_MASK;
    if (value & MCR_LOOP)
        inputs = (value & MCR_RTS ? MSR_CTS : 0) | (value & MCR_DTR ? MSR_DSR : 0) |
                 (value & MCR_OUT1 ? MSR_RI : 0) | (value & MCR_OUT2 ? MSR_DCD : 0);
    changed = inputs ^ uart->modem_inputs;
    uart->modem_inputs = inputs;
    uart->modem_deltas |= changed >> 4 & (MSR_DCTS | MSR_DDSR | MSR_DDCD);
    if (changed & ~inputs & MSR_RI)
        uart->modem_deltas |= MSR_TERI; /* only its end counts */
}

bool uart_write(struct uart *uart, u32 offset, u8 value, struct effects *effects)
{
    bool only_transmitter = uart_interrupt(uart) == IIR_THRE;

    if (offset <= UART_IER && (uart->lcr & LCR_DLAB)) {
        *(offset == UART_DATA ? &uart->divisor_low : &uart->divisor_high) = value;
        return false;
    }
    switch (offset) {
    case UART_DATA:
        transmit(uart, value, effects);
        return only_transmitter;
    case UART_IER:
        write_ier(uart, value);
        break;
    case UART_IIR_FCR:
        write_fcr(uart, value);
        break;
    case UART_LCR:
        uart->lcr = value;
        break;
    case UART_MCR:
        write_mcr(uart, value);
        break;
    case UART_SCR:
        uart->scr = value;
        break;
    }
    return false;
}

void uart_init(struct uart *uart)
{
    memset(uart, 0, sizeof *uart);
    uart->divisor_low = DIVISOR_9600;
    uart->modem_inputs = MSR_CABLE;
}
