/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../drivers/vga_text.c"

#define WIDTH  10
#define HEIGHT 3
#define PITCH  24 /* two cells more than are seen */

static u16 *screen;
static struct vga_text vga;

static int open_screen(void **state)
{
    screen = malloc(HEIGHT * PITCH);
    memset(screen, 0xEE, HEIGHT * PITCH);
    assert_true(vga_text_init(&vga, screen, WIDTH, HEIGHT, PITCH));
    return 0;
}

static int close_screen(void **state)
{
    free(screen);
    return 0;
}

static void write_text(const char *text)
{
    vga_text_write(&vga, text, strlen(text));
}

static void shows(const char *const rows[HEIGHT])
{
    for (u32 row = 0; row < HEIGHT; row++) {
        char text[WIDTH + 1] = "";

        for (u32 column = 0; column < WIDTH; column++) {
            u16 cell = screen[row * PITCH / 2 + column];

            assert_int_equal(cell >> 8, 0x07);
            text[column] = (char)cell;
        }
        assert_string_equal(text, rows[row]);
        assert_int_equal(screen[row * PITCH / 2 + WIDTH] >> 8, 0xEE);
    }
}

static void lines_and_wrapping(void **state)
{
    shows((const char *const[]){"          ", "          ", "          "});
    write_text("ab\ncdefghijklm");
    shows((const char *const[]){"          ", "cdefghijkl", "m         "});
}

static void below_the_last_row_comes_the_first(void **state)
{
    write_text("1\n2\n3\n4");
    shows((const char *const[]){"4         ", "          ", "3         "});
    write_text("\n\n\n");
    shows((const char *const[]){"          ", "          ", "          "});
}

static void a_full_row_does_not_end_yet(void **state)
{
    write_text("1\n0123456789");
    shows((const char *const[]){"1         ", "0123456789", "          "});
    write_text("\n");
    shows((const char *const[]){"          ", "0123456789", "          "});
}

static void control_characters(void **state)
{
    write_text("abc\rX\n\b12\b3\a\x1B");
    shows((const char *const[]){"Xbc       ", "13        ", "          "});
    write_text("\n\tT\t\tU");
    shows((const char *const[]){"        U ", "          ", "        T "});
}

static void dimensions_that_make_no_sense(void **state)
{
    static const struct {
        u32 width, height, pitch;
    } cases[] = {
        {0,          25,  160 },
        {80,         0,   160 },
        {80,         25,  159 },
        {513,        25,  1026},
        {80,         513, 160 },
        {80,         25,  1025},
        {0x80000050, 25,  160 }
    };
    struct vga_text text;

    for (u32 i = 0; i < ARRAY_SIZE(cases); i++)
        assert_false(vga_text_init(&text, NULL, cases[i].width, cases[i].height, cases[i].pitch));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_and_wrapping, open_screen, close_screen),
        cmocka_unit_test_setup_teardown(below_the_last_row_comes_the_first, open_screen,
                                        close_screen),
        cmocka_unit_test_setup_teardown(a_full_row_does_not_end_yet, open_screen, close_screen),
        cmocka_unit_test_setup_teardown(control_characters, open_screen, close_screen),
        cmocka_unit_test(dimensions_that_make_no_sense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
