/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DRIVERS_FRAMEBUFFER_H
#define BULKHEAD_DRIVERS_FRAMEBUFFER_H

/* Text on a linear framebuffer of RGB pixels, written and never read, as it is not cached: below
 * the last row it goes on in the first, one blank row ahead of it. One CPU at a time. */

#include "lib/types.h"

#define FONT_FIRST  ' '
#define FONT_GLYPHS 95 /* of ASCII */
#define FONT_WIDTH  8
#define FONT_HEIGHT 16

#define FRAMEBUFFER_DIMENSION_MAX 16384
#define FRAMEBUFFER_PIXEL_MAX     4 /* bytes */
#define PATTERN_PIXELS            4

/* Made by scripts/font; the leftmost pixel of a row is the highest bit. */
extern const u32 font_count; /* 0: there was no font when this was built */
extern const u8 font_glyphs[FONT_GLYPHS][FONT_HEIGHT];

struct framebuffer_format {
    u32 pitch, width, height;
    u8 bits_per_pixel;
    u8 red_position, red_size, green_position, green_size, blue_position, blue_size;
};

struct framebuffer {
    u8 *memory;
    u32 pitch, bytes_per_pixel;
    u32 color;
    u32 columns, rows;
    u32 column, row;
    u8 patterns[1 << PATTERN_PIXELS][PATTERN_PIXELS * FRAMEBUFFER_PIXEL_MAX]; /* by their bits */
    u16 used[FRAMEBUFFER_DIMENSION_MAX / FONT_HEIGHT]; /* by row: columns, from the left */
};

/* Clears the screen of this format at `memory`, where the caller mapped it. False when its
 * dimensions or format make no sense, or there is no font. */
bool framebuffer_init(struct framebuffer *framebuffer, void *memory,
                      const struct framebuffer_format *info);

/* Understands \n and \r; other control characters are left out, what is not ASCII is shown as '?'.
 */
void framebuffer_write(struct framebuffer *framebuffer, const char *text, size_t size);

#endif
