/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/terminal.h"

#include "core/cpu.h"
#include "core/interrupts.h"
#include "drivers/uart.h"
#include "lib/spinlock.h"

#define TRANSMIT_SIZE 65536
#define RECEIVE_SIZE  16384

static struct {
    struct spinlock lock; /* covers all below but the receive ring's tail, which is CPU 0's */
    struct host_uart uart;
    bool present;
    bool interrupts;
    bool transmitting;                /* THRE interrupt is on */
    u32 transmit_head, transmit_tail; /* free-running */
    u32 receive_head, receive_tail;
    char transmit[TRANSMIT_SIZE];
    char receive[RECEIVE_SIZE];
} terminal;

bool terminal_init(u16 port, u32 baud)
{
    terminal.present = host_uart_init(&terminal.uart, port, baud);
    return terminal.present;
}

static u32 queued(void)
{
    return terminal.transmit_head - terminal.transmit_tail;
}

/* Sends what fits now. */
static void drain(void)
{
    while (queued() > 0) {
        u32 at = terminal.transmit_tail % TRANSMIT_SIZE;
        u32 run = MIN(queued(), TRANSMIT_SIZE - at);
        size_t sent = host_uart_try_write(&terminal.uart, &terminal.transmit[at], run);

        terminal.transmit_tail += sent;
        if (sent == 0)
            break;
    }
    if (terminal.interrupts && terminal.transmitting != (queued() > 0)) {
        terminal.transmitting = queued() > 0;
        host_uart_enable_interrupts(&terminal.uart, true, terminal.transmitting);
    }
}

static void send_oldest(u32 count)
{
    u32 at = terminal.transmit_tail % TRANSMIT_SIZE;

    count = MIN(count, TRANSMIT_SIZE - at);
    host_uart_write(&terminal.uart, &terminal.transmit[at], count);
    terminal.transmit_tail += count;
}

void terminal_write(const char *text, size_t size)
{
    if (!terminal.present)
        return;
    spin_lock(&terminal.lock);
    for (size_t i = 0; i < size; i++) {
        if (queued() == TRANSMIT_SIZE)
            send_oldest(terminal.uart.fifo_depth);
        terminal.transmit[terminal.transmit_head++ % TRANSMIT_SIZE] = text[i];
    }
    drain();
    spin_unlock(&terminal.lock);
}

size_t terminal_room(void)
{
    return TRANSMIT_SIZE - queued();
}

void terminal_flush(void)
{
    while (terminal.present && queued() > 0)
        send_oldest(queued());
}

void terminal_write_unlocked(const char *text, size_t size)
{
    terminal_flush();
    if (terminal.present)
        host_uart_write(&terminal.uart, text, size);
}

static void receive(void)
{
    char bytes[16];
    size_t count;

    while ((count = host_uart_read(&terminal.uart, bytes, sizeof(bytes))) > 0)
        for (size_t i = 0; i < count; i++)
            if (terminal.receive_head - terminal.receive_tail < RECEIVE_SIZE)
                terminal.receive[terminal.receive_head++ % RECEIVE_SIZE] = bytes[i];
}

size_t terminal_read(char *to, size_t size)
{
    size_t count = 0;

    while (count < size && terminal.receive_tail != terminal.receive_head)
        to[count++] = terminal.receive[terminal.receive_tail++ % RECEIVE_SIZE];
    return count;
}

void terminal_poll(void)
{
    if (!terminal.present || terminal.interrupts)
        return;
    spin_lock(&terminal.lock);
    receive();
    drain();
    spin_unlock(&terminal.lock);
}

static void on_interrupt(struct cpu *cpu)
{
    spin_lock(&terminal.lock);
    host_uart_acknowledge(&terminal.uart);
    receive();
    drain();
    spin_unlock(&terminal.lock);
    cpu->reschedule = true;
}

u8 terminal_irq(void)
{
    return terminal.present ? terminal.uart.irq : HOST_UART_NO_IRQ;
}

bool terminal_is_polled(void)
{
    return terminal.present && !terminal.interrupts;
}

bool terminal_use_interrupts(void)
{
    if (terminal_irq() == HOST_UART_NO_IRQ)
        return false;
    interrupts_set_handler(VECTOR_UART, on_interrupt);
    spin_lock(&terminal.lock);
    terminal.interrupts = true;
    host_uart_enable_interrupts(&terminal.uart, true, false);
    drain();
    spin_unlock(&terminal.lock);
    return true;
}
