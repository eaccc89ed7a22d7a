/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../drivers/framebuffer.c"

#define COLUMNS 4
#define ROWS    3

/* A font whose glyphs have their number in every row. */
const u32 font_count = FONT_GLYPHS;
const u8 font_glyphs[FONT_GLYPHS][FONT_HEIGHT] = {
    ['a' - ' '] = {[0 ... FONT_HEIGHT - 1] = 'a'},
    ['b' - ' '] = {[0 ... FONT_HEIGHT - 1] = 'b'},
    ['?' - ' '] = {[0 ... FONT_HEIGHT - 1] = '?'},
};

static struct framebuffer_format info;
static struct framebuffer framebuffer;
static u8 *memory;
static size_t memory_size;

static void open_screen(u32 bytes, u32 slack)
{
    info = (struct framebuffer_format){
        .width = COLUMNS * FONT_WIDTH + 3,
        .height = ROWS * FONT_HEIGHT + 5,
        .bits_per_pixel = (u8)(bytes * 8),
        .red_position = 10,
        .red_size = 5,
        .green_position = 5,
        .green_size = 5,
        .blue_position = 0,
        .blue_size = 5,
    };
    info.pitch = info.width * bytes + slack;
    memory_size = (size_t)info.pitch * info.height;
    memory = malloc(memory_size);
    memset(memory, 0xEE, memory_size);
    assert_true(framebuffer_init(&framebuffer, memory, &info));
}

static u32 pixel(u32 x, u32 y)
{
    u32 value = 0;

    memcpy(&value, memory + y * info.pitch + x * framebuffer.bytes_per_pixel,
           framebuffer.bytes_per_pixel);
    return value;
}

/* Reads the screen back; every pixel must be the text's color or black. */
static char shown(u32 column, u32 row)
{
    u8 bits = 0;

    for (u32 y = 0; y < FONT_HEIGHT; y++) {
        u8 these = 0;

        for (u32 x = 0; x < FONT_WIDTH; x++) {
            u32 value = pixel(column * FONT_WIDTH + x, row * FONT_HEIGHT + y);

            assert_true(value == 0 || value == framebuffer.color);
            these |= (u8)(value != 0) << (7 - x);
        }
        assert_true(y == 0 || these == bits);
        bits = these;
    }
    return bits != 0 ? (char)bits : ' ';
}

static void shows(const char *const rows[ROWS])
{
    for (u32 row = 0; row < ROWS; row++) {
        char text[COLUMNS + 1] = "";

        for (u32 column = 0; column < COLUMNS; column++)
            text[column] = shown(column, row);
        assert_string_equal(text, rows[row]);
    }
    for (u32 y = 0; y < ROWS * FONT_HEIGHT; y++) /* nothing beside the text */
        assert_int_equal(
            memory[y * info.pitch + COLUMNS * FONT_WIDTH * framebuffer.bytes_per_pixel], 0xEE);
    free(memory);
}

static void text_in_every_depth(void **state)
{
    for (u32 bytes = 2; bytes <= 4; bytes++) {
        open_screen(bytes, bytes == 3 ? 7 : 0);
        framebuffer_write(&framebuffer, "ab\r\nb\xE4\a", 7);
        assert_int_equal(framebuffer.color, 23 << 10 | 23 << 5 | 23);
        shows((const char *const[]){"ab  ", "b?  ", "    "});
    }
}

static void below_the_last_row_comes_the_first(void **state)
{
    open_screen(4, 0);
    framebuffer_write(&framebuffer, "aaaabb\nab\na", 11);
    shows((const char *const[]){"a   ", "    ", "ab  "});
}

/* Only what was used of a row is cleared; a shorter line that began anew does not count. */
static void nothing_is_left_of_an_older_line(void **state)
{
    for (u32 bytes = 2; bytes <= 4; bytes++) {
        open_screen(bytes, 0);
        framebuffer_write(&framebuffer, "aaaa\rb\r\nbbbb\naaaa\nb", 19);
        shows((const char *const[]){"b   ", "    ", "aaaa"});
    }
}

static void formats_that_make_no_sense(void **state)
{
    struct framebuffer_format bad[8];

    open_screen(4, 0);
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
        bad[i] = info;
    bad[0].bits_per_pixel = 8;
    bad[1].bits_per_pixel = 64;
    bad[2].width = 7;
    bad[3].height = 0;
    bad[4].pitch = info.width * 4 - 1;
    bad[5].red_size = 0;
    bad[6].blue_position = 30;
    bad[7].width = 0x40000000;
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(framebuffer_init(&framebuffer, memory, &bad[i]));
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_in_every_depth),
        cmocka_unit_test(below_the_last_row_comes_the_first),
        cmocka_unit_test(nothing_is_left_of_an_older_line),
        cmocka_unit_test(formats_that_make_no_sense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
