/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* Says hello, counts seconds and echoes what is typed, halted in between. */
#include "lib/guest.h"

#define TICKS_PER_SECOND 20

static volatile u64 ticks;

static void on_tick(struct interrupt_frame *frame)
{
    (void)frame;
    ticks++;
    pic_eoi(IRQ_PIT);
}

static void on_uart(struct interrupt_frame *frame)
{
    (void)frame;
    while (inb(COM1 + UART_LSR) & UART_LSR_DR) {
        char c = (char)inb(COM1 + UART_DATA);
        guest_print(c == '\r' ? "\n" : "%c", c);
    }
    pic_eoi(IRQ_COM1);
}

void guest_main(const struct multiboot_info *info)
{
    u64 seconds = 0;

    guest_init(info);
    guest_print("hello: a small guest with %u KiB of memory\n", (u64)info->mem_upper + 1024);
    guest_set_handler(PIC_VECTOR + IRQ_PIT, on_tick);
    guest_set_handler(PIC_VECTOR + IRQ_COM1, on_uart);
    pic_init();
    pit_periodic(PIT_HZ / TICKS_PER_SECOND);
    outb(COM1 + UART_IER, UART_IER_RDI);
    pic_unmask(IRQ_PIT);
    pic_unmask(IRQ_COM1);
    for (;;) {
        wait_for_interrupt();
        interrupts_off();
        if (ticks / TICKS_PER_SECOND != seconds)
            guest_print("hello: heartbeat %u\n", seconds = ticks / TICKS_PER_SECOND);
    }
}
