/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_PIC_H
#define BULKHEAD_DEVICES_PIC_H

/* The pair of 8259A interrupt controllers of a PC with the edge/level registers of the EISA
 * (Intel 8259A datasheet; ICH9 datasheet, section "8259 Interrupt Controllers"). The slave sits
 * at the master's line 2. */

#include "lib/types.h"

struct pic_chip {
    u8 lines; /* input levels */
    u8 edges; /* edge-triggered requests: a rise that was neither taken nor withdrawn */
    u8 elcr;  /* set: the line is level-triggered */
    u8 imr, isr;
    u8 vector_base; /* ICW2 */
    u8 lowest;      /* line of lowest priority */
    u8 next_icw;    /* 2, 3, 4 while the initialisation sequence waits for it; 0: done */
    bool wants_icw4, single;
    bool auto_eoi, rotate_in_auto_eoi;
    bool special_mask, special_fully_nested;
    bool read_isr, poll;
};

struct pic {
    struct pic_chip chips[2]; /* master, slave */
};

/* As firmware leaves it for a loader: vectors 08h and 70h, everything masked, SCI's line
 * level-triggered. */
void pic_init(struct pic *pic);

/* What the port reads, where that has no effects and depends on no line; else -1. */
int pic_peek(const struct pic *pic, u16 port);

/* One byte at one of the ports 20h, 21h, A0h, A1h, 4D0h, 4D1h. */
u8 pic_read(struct pic *pic, u16 port);
void pic_write(struct pic *pic, u16 port, u8 value);

/* Line 0..15 (2 is the cascade and ignored) is now high or low. */
void pic_set_line(struct pic *pic, u32 line, bool high);

/* The INTR output. */
bool pic_output(const struct pic *pic);

/* The CPU's interrupt-acknowledge cycle; with nothing requested, the spurious vector of line
 * 7. */
u8 pic_acknowledge(struct pic *pic);

/* False where a request of `line` would be masked. */
bool pic_line_unmasked(const struct pic *pic, u32 line);

#endif
