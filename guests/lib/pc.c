/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "lib/guest.h"

#define PIC_MASTER    0x20
#define PIC_SLAVE     0xA0
#define PIC_ICW1_INIT 0x11
#define PIC_ICW4_8086 0x01
#define PIC_CASCADE   2
#define PIC_EOI       0x20
#define PIT_CHANNEL0  0x40
#define PIT_CONTROL   0x43
#define PIT_MODE2     0x34 /* channel 0, low byte then high byte, rate generator */
#define SVR_ENABLE    0x1FF
#define LVT_EXTINT    0x700

static void pic_init_one(u16 port, u8 vector, u8 cascade)
{
    outb(port, PIC_ICW1_INIT);
    outb(port + 1, vector);
    outb(port + 1, cascade);
    outb(port + 1, PIC_ICW4_8086);
}

void pic_init(void)
{
    mmio_write(LAPIC_BASE + LAPIC_SVR, SVR_ENABLE);
    mmio_write(LAPIC_BASE + LAPIC_LVT_LINT0, LVT_EXTINT);
    pic_init_one(PIC_MASTER, PIC_VECTOR, 1 << PIC_CASCADE);
    pic_init_one(PIC_SLAVE, PIC_VECTOR + 8, PIC_CASCADE);
    pic_mask_all();
}

void pic_mask_all(void)
{
    outb(PIC_MASTER + 1, 0xFF & ~(1 << PIC_CASCADE));
    outb(PIC_SLAVE + 1, 0xFF);
}

void pic_unmask(u8 irq)
{
    u16 port = irq < 8 ? PIC_MASTER + 1 : PIC_SLAVE + 1;
    outb(port, (u8)(inb(port) & ~(1 << (irq & 7))));
}

void pic_eoi(u8 irq)
{
    if (irq >= 8)
        outb(PIC_SLAVE, PIC_EOI);
    outb(PIC_MASTER, PIC_EOI);
}

void pit_periodic(u16 divisor)
{
    outb(PIT_CONTROL, PIT_MODE2);
    outb(PIT_CHANNEL0, (u8)divisor);
    outb(PIT_CHANNEL0, (u8)(divisor >> 8));
}
