/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* Drives its serial port as an operating system does: receives and sends 16 bytes an interrupt,
 * never a byte while the transmitter is busy. Echoes every byte as it is; with send=N sends N
 * pseudo-random bytes after the first one typed, instead. */
#include "lib/guest.h"

#define RING_SIZE         4096
#define UART_FIFO         16
#define FCR_ON_TRIGGER_14 0xC7
#define SEED              0x9E3779B9

static u8 ring[RING_SIZE];
static u32 head, tail;
static u64 to_send;
static bool sending;
static u32 state = SEED;

/* xorshift32 */
static u8 next_random(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return (u8)(state >> 24);
}

static void set_interrupts(bool transmit)
{
    bool room = RING_SIZE - (head - tail) >= UART_FIFO;

    outb(COM1 + UART_IER, (room ? UART_IER_RDI : 0) | (transmit ? UART_IER_THRI : 0));
}

static void receive(void)
{
    while (RING_SIZE - (head - tail) >= UART_FIFO && (inb(COM1 + UART_LSR) & UART_LSR_DR)) {
        u8 byte = inb(COM1 + UART_DATA);

        if (to_send > 0)
            sending = true;
        else
            ring[head++ % RING_SIZE] = byte;
    }
}

static void send(void)
{
    if (!(inb(COM1 + UART_LSR) & UART_LSR_THRE))
        return;
    for (u32 i = 0; i < UART_FIFO && (head != tail || (sending && to_send > 0)); i++) {
        if (head != tail) {
            outb(COM1 + UART_DATA, ring[tail++ % RING_SIZE]);
            continue;
        }
        outb(COM1 + UART_DATA, next_random());
        to_send--;
    }
}

static void on_uart(struct interrupt_frame *frame)
{
    (void)frame;
    while (!(inb(COM1 + UART_IIR) & 1)) {
        receive();
        send();
        set_interrupts(head != tail || (sending && to_send > 0));
    }
    pic_eoi(IRQ_COM1);
}

void guest_main(const struct multiboot_info *info)
{
    guest_init(info);
    to_send = guest_option_number("send", 0);
    guest_set_handler(PIC_VECTOR + IRQ_COM1, on_uart);
    pic_init();
    outb(COM1 + UART_FCR, FCR_ON_TRIGGER_14);
    outb(COM1 + UART_IER, UART_IER_RDI);
    pic_unmask(IRQ_COM1);
    guest_print("serial: ready\n"); /* from here on no byte is lost */
    for (;;)
        wait_for_interrupt();
}
