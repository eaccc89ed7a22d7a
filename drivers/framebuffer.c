/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "drivers/framebuffer.h"

#include "lib/string.h"

#define DIMENSION_MAX 16384
#define PIXEL_MAX     4 /* bytes */
#define WORD          sizeof(u32)
#define BRIGHTNESS    3 / 4 /* of the text */

static u32 component(u32 position, u32 size)
{
    u32 full = (u32)BIT(size) - 1;

    return (full * BRIGHTNESS) << position;
}

static bool is_component(u32 position, u32 size)
{
    return size > 0 && size <= 8 && position + size <= 32;
}

/* FONT_WIDTH pixels, in words: framebuffers are slow to write, and slower byte by byte. */
static void put_pixels(const struct framebuffer *framebuffer, u8 *to, u8 bits)
{
    u8 pixels[FONT_WIDTH * PIXEL_MAX];
    u32 bytes = framebuffer->bytes_per_pixel;

    for (u32 i = 0; i < FONT_WIDTH; i++) {
        u32 color = bits & (0x80 >> i) ? framebuffer->color : 0;

        for (u32 byte = 0; byte < bytes; byte++)
            pixels[i * bytes + byte] = (u8)(color >> 8 * byte);
    }
    for (u32 i = 0; i < FONT_WIDTH * bytes; i += WORD)
        __builtin_memcpy(to + i, pixels + i, WORD);
}

static void put_glyph(const struct framebuffer *framebuffer, u32 column, u32 row, const u8 *glyph)
{
    u8 *to = framebuffer->memory + (u64)row * FONT_HEIGHT * framebuffer->pitch +
             column * FONT_WIDTH * framebuffer->bytes_per_pixel;

    for (u32 y = 0; y < FONT_HEIGHT; y++, to += framebuffer->pitch)
        put_pixels(framebuffer, to, glyph[y]);
}

/* By the widest store: a line of the log must not take long. */
static void clear_row(const struct framebuffer *framebuffer, u32 row)
{
    u8 *to = framebuffer->memory + (u64)row * FONT_HEIGHT * framebuffer->pitch;
    u32 size = framebuffer->columns * FONT_WIDTH * framebuffer->bytes_per_pixel;
    u64 black = 0;

    for (u32 y = 0; y < FONT_HEIGHT; y++, to += framebuffer->pitch)
        for (u32 i = 0; i < size; i += sizeof(black))
            __builtin_memcpy(to + i, &black, sizeof(black));
}

_Static_assert(FONT_WIDTH * 2 % sizeof(u64) == 0, "two bytes are the least for a pixel");

bool framebuffer_init(struct framebuffer *framebuffer, void *memory,
                      const struct framebuffer_format *info)
{
    u32 bytes = DIV_ROUND_UP(info->bits_per_pixel, 8);

    if (font_count == 0 || bytes < 2 || bytes > PIXEL_MAX || info->width < FONT_WIDTH ||
        info->width > DIMENSION_MAX || info->height < FONT_HEIGHT || info->height > DIMENSION_MAX ||
        info->pitch < info->width * bytes || info->pitch > DIMENSION_MAX * PIXEL_MAX)
        return false;
    if (!is_component(info->red_position, info->red_size) ||
        !is_component(info->green_position, info->green_size) ||
        !is_component(info->blue_position, info->blue_size))
        return false;
    *framebuffer = (struct framebuffer){
        .memory = memory,
        .pitch = info->pitch,
        .bytes_per_pixel = bytes,
        .color = component(info->red_position, info->red_size) |
                 component(info->green_position, info->green_size) |
                 component(info->blue_position, info->blue_size),
        .columns = info->width / FONT_WIDTH,
        .rows = info->height / FONT_HEIGHT,
    };
    for (u32 row = 0; row < framebuffer->rows; row++)
        clear_row(framebuffer, row);
    return true;
}

static void new_line(struct framebuffer *framebuffer)
{
    framebuffer->column = 0;
    framebuffer->row = (framebuffer->row + 1) % framebuffer->rows;
    /* The next row is clear already. */
    clear_row(framebuffer, (framebuffer->row + 1) % framebuffer->rows);
}

static void put_character(struct framebuffer *framebuffer, u8 c)
{
    if (c < FONT_FIRST + FONT_GLYPHS)
        c -= FONT_FIRST;
    else
        c = '?' - FONT_FIRST;
    if (framebuffer->column == framebuffer->columns)
        new_line(framebuffer);
    put_glyph(framebuffer, framebuffer->column++, framebuffer->row, font_glyphs[c]);
}

void framebuffer_write(struct framebuffer *framebuffer, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n')
            new_line(framebuffer);
        else if (text[i] == '\r')
            framebuffer->column = 0;
        else if ((u8)text[i] >= ' ')
            put_character(framebuffer, (u8)text[i]);
    }
}
