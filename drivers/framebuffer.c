/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "drivers/framebuffer.h"

#include "lib/string.h"

#define WORD       sizeof(u32)
#define BRIGHTNESS 3 / 4 /* of the text */

static u32 component(u32 position, u32 size)
{
    u32 full = (u32)BIT(size) - 1;

    return (full * BRIGHTNESS) << position;
}

static bool is_component(u32 position, u32 size)
{
    return size > 0 && size <= 8 && position + size <= 32;
}

/* Framebuffers are slow to write, and slower byte by byte: hence whole words of pixels. */
static void make_patterns(struct framebuffer *framebuffer)
{
    u32 bytes = framebuffer->bytes_per_pixel;

    for (u32 bits = 0; bits < ARRAY_SIZE(framebuffer->patterns); bits++)
        for (u32 i = 0; i < PATTERN_PIXELS * bytes; i++)
            if (bits & BIT(PATTERN_PIXELS - 1) >> i / bytes)
                framebuffer->patterns[bits][i] = (u8)(framebuffer->color >> 8 * (i % bytes));
}

static u8 *row_of(const struct framebuffer *framebuffer, u32 row)
{
    return framebuffer->memory + (u64)row * FONT_HEIGHT * framebuffer->pitch;
}

static void put_glyph(const struct framebuffer *framebuffer, u32 column, u32 row, const u8 *glyph)
{
    size_t size = PATTERN_PIXELS * framebuffer->bytes_per_pixel;
    u8 *to = row_of(framebuffer, row) + column * 2 * size;

    for (u32 y = 0; y < FONT_HEIGHT; y++, to += framebuffer->pitch) {
        const u8 *left = framebuffer->patterns[glyph[y] >> PATTERN_PIXELS];
        const u8 *right = framebuffer->patterns[glyph[y] & (BIT(PATTERN_PIXELS) - 1)];

        for (size_t i = 0; i < size; i += WORD) {
            __builtin_memcpy(to + i, left + i, WORD);
            __builtin_memcpy(to + size + i, right + i, WORD);
        }
    }
}

_Static_assert(FONT_WIDTH == 2 * PATTERN_PIXELS, "two patterns side by side");
_Static_assert(PATTERN_PIXELS % WORD == 0, "patterns are whole words");

static void clear_row(struct framebuffer *framebuffer, u32 row)
{
    u8 *to = row_of(framebuffer, row);

    for (u32 y = 0; y < FONT_HEIGHT; y++, to += framebuffer->pitch)
        memset(to, 0, framebuffer->used[row] * FONT_WIDTH * framebuffer->bytes_per_pixel);
    framebuffer->used[row] = 0;
}

bool framebuffer_init(struct framebuffer *framebuffer, void *memory,
                      const struct framebuffer_format *info)
{
    u32 bytes = DIV_ROUND_UP(info->bits_per_pixel, 8);

    if (font_count == 0 || bytes < 2 || bytes > FRAMEBUFFER_PIXEL_MAX || info->width < FONT_WIDTH ||
        info->width > FRAMEBUFFER_DIMENSION_MAX || info->height < FONT_HEIGHT ||
        info->height > FRAMEBUFFER_DIMENSION_MAX || info->pitch < info->width * bytes ||
        info->pitch > FRAMEBUFFER_DIMENSION_MAX * FRAMEBUFFER_PIXEL_MAX)
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
    make_patterns(framebuffer);
    for (u32 row = 0; row < framebuffer->rows; row++) {
        framebuffer->used[row] = (u16)framebuffer->columns;
        clear_row(framebuffer, row);
    }
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
    u16 *used;

    if (c < FONT_FIRST + FONT_GLYPHS)
        c -= FONT_FIRST;
    else
        c = '?' - FONT_FIRST;
    if (framebuffer->column == framebuffer->columns)
        new_line(framebuffer);
    put_glyph(framebuffer, framebuffer->column++, framebuffer->row, font_glyphs[c]);
    used = &framebuffer->used[framebuffer->row];
    *used = (u16)MAX(*used, framebuffer->column);
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
