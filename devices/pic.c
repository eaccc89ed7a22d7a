/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/pic.h"

#include "devices/pc_ports.h"
#include "lib/string.h"

enum {
    MASTER,
    SLAVE,
    NO_LINE = 8, /* also "of less than the lowest priority" */
    SPURIOUS_LINE = 7,
};

enum pic_icw {
    ICW1_IC4 = 1 << 0,
    ICW1_SNGL = 1 << 1,
    ICW1_SELECT = 1 << 4,
    ICW2_BASE_MASK = 0xF8,
    ICW4_AEOI = 1 << 1,
    ICW4_SFNM = 1 << 4,
};

enum pic_ocw {
    OCW2_LEVEL_MASK = 7,
    OCW2_EOI = 1 << 5,
    OCW2_SPECIFIC = 1 << 6,
    OCW2_ROTATE = 1 << 7,
    OCW3_RIS = 1 << 0,
    OCW3_RR = 1 << 1,
    OCW3_POLL = 1 << 2,
    OCW3_SELECT = 1 << 3,
    OCW3_SMM = 1 << 5,
    OCW3_ESMM = 1 << 6,
    POLL_REQUEST = 1 << 7,
};

/* Lines that may be level-triggered: not the timer, the keyboard, the cascade, the RTC, the
 * FPU. */
static const u8 elcr_writable[2] = {0xF8, 0xDE};

void pic_init(struct pic *pic)
{
    memset(pic, 0, sizeof *pic);
    for (u32 i = 0; i < ARRAY_SIZE(pic->chips); i++) {
        pic->chips[i].imr = 0xFF;
        pic->chips[i].lowest = 7;
    }
    pic->chips[MASTER].vector_base = 0x08;
    pic->chips[SLAVE].vector_base = 0x70;
    pic->chips[SLAVE].elcr = 1 << (IRQ_SCI - 8);
}

static u8 chip_requests(const struct pic_chip *chip)
{
    return chip->edges | (chip->lines & chip->elcr);
}

/* The line of highest priority among `lines`, or NO_LINE. */
static u32 chip_highest(const struct pic_chip *chip, u8 lines)
{
    for (u32 i = 1; lines != 0 && i <= 8; i++) {
        u32 line = (chip->lowest + i) & 7;

        if (lines & (1 << line))
            return line;
    }
    return NO_LINE;
}

static u32 chip_rank(const struct pic_chip *chip, u32 line)
{
    return line == NO_LINE ? NO_LINE : (line - chip->lowest - 1) & 7;
}

/* The line that the chip asks the CPU to serve now, or NO_LINE. */
static u32 chip_resolve(const struct pic_chip *chip, bool is_master)
{
    u32 request = chip_highest(chip, chip_requests(chip) & ~chip->imr);
    u8 blocking = chip->isr;

    if (request == NO_LINE || chip->next_icw != 0)
        return NO_LINE;
    if (chip->special_mask)
        blocking &= ~chip->imr;
    /* Specially fully nested: a slave in service may ask again for a line of its own that is
     * of higher priority there. */
    if (is_master && chip->special_fully_nested && request == IRQ_CASCADE)
        blocking &= ~(1 << IRQ_CASCADE);
    if (chip_rank(chip, request) >= chip_rank(chip, chip_highest(chip, blocking)))
        return NO_LINE;
    return request;
}

static void chip_set_line(struct pic_chip *chip, u32 line, bool high)
{
    u8 bit = 1 << line;

    if (!high)
        chip->edges &= ~bit;
    else if (!(chip->lines & bit) && !(chip->elcr & bit))
        chip->edges |= bit;
    chip->lines = high ? chip->lines | bit : chip->lines & ~bit;
}

/* The slave's output is the master's line 2. It stays high over the slave's next request, so
 * the master sees it as a level. */
static void pic_cascade(struct pic *pic)
{
    struct pic_chip *master = &pic->chips[MASTER];
    u8 bit = 1 << IRQ_CASCADE;
    bool high = chip_resolve(&pic->chips[SLAVE], false) != NO_LINE;

    master->edges = high ? master->edges | bit : master->edges & ~bit;
}

void pic_set_line(struct pic *pic, u32 line, bool high)
{
    if (line == IRQ_CASCADE || line > 15)
        return;
    chip_set_line(&pic->chips[line >> 3], line & 7, high);
    if (line >= 8)
        pic_cascade(pic);
}

bool pic_output(const struct pic *pic)
{
    return chip_resolve(&pic->chips[MASTER], true) != NO_LINE;
}

bool pic_line_unmasked(const struct pic *pic, u32 line)
{
    return !(pic->chips[line >> 3].imr & (1 << (line & 7)));
}

static void chip_accept(struct pic_chip *chip, u32 line)
{
    chip->edges &= ~(1 << line);
    if (!chip->auto_eoi)
        chip->isr |= 1 << line;
    else if (chip->rotate_in_auto_eoi)
        chip->lowest = line;
}

static u8 chip_acknowledge(struct pic_chip *chip, bool is_master, u32 *line)
{
    *line = chip_resolve(chip, is_master);
    if (*line == NO_LINE)
        return chip->vector_base + SPURIOUS_LINE;
    chip_accept(chip, *line);
    return chip->vector_base + *line;
}

u8 pic_acknowledge(struct pic *pic)
{
    u32 line;
    u8 vector = chip_acknowledge(&pic->chips[MASTER], true, &line);

    if (line == IRQ_CASCADE) {
        vector = chip_acknowledge(&pic->chips[SLAVE], false, &line);
        pic_cascade(pic);
    }
    return vector;
}

static void chip_write_icw1(struct pic_chip *chip, u8 value)
{
    *chip = (struct pic_chip){
        .lines = chip->lines,
        .elcr = chip->elcr,
        .vector_base = chip->vector_base,
        .lowest = 7,
        .next_icw = 2,
        .wants_icw4 = value & ICW1_IC4,
        .single = value & ICW1_SNGL,
    };
}

static void chip_write_icw(struct pic_chip *chip, u8 value)
{
    switch (chip->next_icw) {
    case 2:
        chip->vector_base = value & ICW2_BASE_MASK;
        chip->next_icw = !chip->single ? 3 : chip->wants_icw4 ? 4 : 0;
        break;
    case 3: /* the cascade's wiring, which is fixed */
        chip->next_icw = chip->wants_icw4 ? 4 : 0;
        break;
    default:
        chip->auto_eoi = value & ICW4_AEOI;
        chip->special_fully_nested = value & ICW4_SFNM;
        chip->next_icw = 0;
    }
}

static void chip_end_of_interrupt(struct pic_chip *chip, u8 value)
{
    u8 candidates = chip->special_mask ? chip->isr & ~chip->imr : chip->isr;
    u32 line = value & OCW2_SPECIFIC ? value & OCW2_LEVEL_MASK : chip_highest(chip, candidates);

    if (line == NO_LINE)
        return;
    chip->isr &= ~(1 << line);
    if (value & OCW2_ROTATE)
        chip->lowest = line;
}

static void chip_write_ocw2(struct pic_chip *chip, u8 value)
{
    if (value & OCW2_EOI)
        chip_end_of_interrupt(chip, value);
    else if (!(value & OCW2_SPECIFIC))
        chip->rotate_in_auto_eoi = value & OCW2_ROTATE;
    else if (value & OCW2_ROTATE)
        chip->lowest = value & OCW2_LEVEL_MASK;
}

static void chip_write_ocw3(struct pic_chip *chip, u8 value)
{
    if (value & OCW3_ESMM)
        chip->special_mask = value & OCW3_SMM;
    if (value & OCW3_POLL)
        chip->poll = true;
    else if (value & OCW3_RR)
        chip->read_isr = value & OCW3_RIS;
}

static void chip_write_command(struct pic_chip *chip, u8 value)
{
    if (value & ICW1_SELECT)
        chip_write_icw1(chip, value);
    else if (value & OCW3_SELECT)
        chip_write_ocw3(chip, value);
    else
        chip_write_ocw2(chip, value);
}

static u8 chip_poll(struct pic_chip *chip, bool is_master)
{
    u32 line;

    chip->poll = false;
    chip_acknowledge(chip, is_master, &line);
    return line == NO_LINE ? 0 : POLL_REQUEST | line;
}

static u8 chip_read(struct pic_chip *chip, bool is_master, bool data_port)
{
    if (chip->poll)
        return chip_poll(chip, is_master);
    if (data_port)
        return chip->imr;
    return chip->read_isr ? chip->isr : chip_requests(chip);
}

int pic_peek(const struct pic *pic, u16 port)
{
    const struct pic_chip *chip = &pic->chips[port == PORT_PIC_MASTER + 1 ? MASTER : SLAVE];

    if (chip->poll || (port != PORT_PIC_MASTER + 1 && port != PORT_PIC_SLAVE + 1))
        return -1;
    return chip->imr;
}

u8 pic_read(struct pic *pic, u16 port)
{
    u32 which = port >= PORT_PIC_SLAVE && port != PORT_ELCR_MASTER;
    u8 value;

    if (port == PORT_ELCR_MASTER || port == PORT_ELCR_SLAVE)
        return pic->chips[which].elcr;
    value = chip_read(&pic->chips[which], which == MASTER, port & 1);
    pic_cascade(pic);
    return value;
}

static void chip_write_elcr(struct pic_chip *chip, u8 value)
{
    chip->elcr = value;
    chip->edges &= ~value;
}

void pic_write(struct pic *pic, u16 port, u8 value)
{
    u32 which = port >= PORT_PIC_SLAVE && port != PORT_ELCR_MASTER;
    struct pic_chip *chip = &pic->chips[which];

    if (port == PORT_ELCR_MASTER || port == PORT_ELCR_SLAVE)
        chip_write_elcr(chip, value & elcr_writable[which]);
    else if (!(port & 1))
        chip_write_command(chip, value);
    else if (chip->next_icw != 0)
        chip_write_icw(chip, value);
    else
        chip->imr = value;
    pic_cascade(pic);
}
