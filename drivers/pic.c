/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "drivers/pic.h"

#include "drivers/io.h"

enum pic_port {
    MASTER_COMMAND = 0x20,
    MASTER_DATA = 0x21,
    SLAVE_COMMAND = 0xA0,
    SLAVE_DATA = 0xA1,
};

enum pic_word {
    ICW1_INIT_WITH_ICW4 = 0x11,
    ICW3_MASTER_SLAVE_ON_2 = 1 << 2,
    ICW3_SLAVE_ID = 2,
    ICW4_8086 = 0x01,
    OCW1_MASK_ALL = 0xFF,
};

#define PIC_INPUTS 8

static void initialize(u16 command, u16 data, u8 vector, u8 cascade)
{
    outb(command, ICW1_INIT_WITH_ICW4);
    outb(data, vector);
    outb(data, cascade);
    outb(data, ICW4_8086);
    outb(data, OCW1_MASK_ALL);
}

void host_pic_disable(u8 first_vector)
{
    initialize(MASTER_COMMAND, MASTER_DATA, first_vector, ICW3_MASTER_SLAVE_ON_2);
    initialize(SLAVE_COMMAND, SLAVE_DATA, first_vector + PIC_INPUTS, ICW3_SLAVE_ID);
}
