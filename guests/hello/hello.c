/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* Says hello, counts seconds and echoes what is typed, halted in between. Tells of NMIs, and
 * switches itself off at its power button. */
#include "lib/guest.h"

#define TICKS_PER_SECOND 20

static volatile u64 ticks;
static volatile u32 nmis;
static struct acpi acpi;

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

static void on_nmi(struct interrupt_frame *frame)
{
    (void)frame;
    nmis++;
}

static void on_sci(struct interrupt_frame *frame)
{
    (void)frame;
    if (acpi_power_button_pressed(&acpi)) {
        guest_print("hello: power button\n");
        acpi_power_off(&acpi);
    }
    pic_eoi(IRQ_SCI);
}

static void listen_to_power_button(void)
{
    if (!acpi_find(&acpi))
        return;
    guest_set_handler(PIC_VECTOR + IRQ_SCI, on_sci);
    pic_unmask(IRQ_SCI);
    acpi_enable_power_button(&acpi);
}

void guest_main(const struct multiboot_info *info)
{
    u64 seconds = 0;
    u32 told = 0;

    guest_init(info);
    guest_print("hello: a small guest with %u KiB of memory\n", (u64)info->mem_upper + 1024);
    guest_set_handler(PIC_VECTOR + IRQ_PIT, on_tick);
    guest_set_handler(PIC_VECTOR + IRQ_COM1, on_uart);
    pic_init();
    pit_periodic(PIT_HZ / TICKS_PER_SECOND);
    outb(COM1 + UART_IER, UART_IER_RDI);
    pic_unmask(IRQ_PIT);
    pic_unmask(IRQ_COM1);
    guest_set_handler(VECTOR_NMI, on_nmi);
    if (!guest_option_number("deaf", 0))
        listen_to_power_button();
    for (;;) {
        wait_for_interrupt();
        interrupts_off();
        if (told != nmis)
            guest_print("hello: NMI %u\n", ++told);
        if (ticks / TICKS_PER_SECOND != seconds)
            guest_print("hello: heartbeat %u\n", seconds = ticks / TICKS_PER_SECOND);
    }
}
