/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DRIVERS_VGA_TEXT_H
#define BULKHEAD_DRIVERS_VGA_TEXT_H

/* EGA text: cells of a character and an attribute (IBM VGA Technical Reference, alphanumeric
 * modes), written and never read, as it is not cached: below the last row it goes on in the first,
 * one blank row ahead of it. One CPU at a time. */

#include "lib/types.h"

struct vga_text {
    u16 *cells;
    u32 cells_per_row; /* from the pitch */
    u32 width, height;
    u32 column, row;
};

/* Clears the screen of `width` by `height` characters, `pitch` bytes a row, at `memory`, which
 * the caller mapped. False when the dimensions make no sense. */
bool vga_text_init(struct vga_text *vga, void *memory, u32 width, u32 height, u32 pitch);

/* Understands \n, \r, \b and \t; other control characters are left out. */
void vga_text_write(struct vga_text *vga, const char *text, size_t size);

#endif
