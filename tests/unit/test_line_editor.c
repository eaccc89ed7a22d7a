/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "monitor/line_editor.h"
#include "tests/unit/screen.h"

#define UP     "\x1b[A"
#define DOWN   "\x1b[B"
#define RIGHT  "\x1b[C"
#define LEFT   "\x1b[D"
#define HOME   "\x1b[H"
#define END    "\x1b[F"
#define DELETE "\x1b[3~"

static struct screen screen;
static struct line_editor editor;
static const char *const *candidates;
static size_t asked_word;

static const char *candidate(void *context, const char *line, size_t word, const void **cursor)
{
    const char *const *next = *cursor != NULL ? (const char *const *)*cursor + 1 : candidates;

    asked_word = word;
    *cursor = next;
    return *next;
}

static const struct line_editor_ops ops = {
    .write = screen_write,
    .candidate = candidate,
};

static int setup(void **state)
{
    static const char *const none[] = {NULL};

    memset(&screen, 0, sizeof(screen));
    candidates = none;
    line_editor_init(&editor, "> ", &ops, &screen);
    line_editor_begin(&editor);
    return 0;
}

/* Types all of it; the last event. After a line's end begins the next line. */
static enum line_event type(const char *text)
{
    enum line_event event = LINE_EDITING;

    for (; *text != '\0'; text++) {
        if (event != LINE_EDITING)
            line_editor_begin(&editor);
        event = line_editor_byte(&editor, (u8)*text);
    }
    return event;
}

static void expect(const char *line, size_t cursor)
{
    char row[128];

    assert_string_equal(editor.line, line);
    assert_int_equal(editor.cursor, cursor);
    snprintf(row, sizeof(row), "> %s", line);
    for (size_t end = strlen(row); end > 0 && row[end - 1] == ' '; end--)
        row[end - 1] = '\0';
    assert_string_equal(screen_text(&screen), row);
}

static void test_typing_is_echoed(void **state)
{
    assert_string_equal(screen_text(&screen), ">");
    assert_int_equal(type("list -o json"), LINE_EDITING);
    expect("list -o json", 12);
    assert_int_equal(screen.column, 14);
    assert_int_equal(type("\r"), LINE_ENTERED);
    assert_string_equal(editor.line, "list -o json");
    assert_int_equal(screen.line_feeds, 1);
}

static void test_cr_lf_and_crlf_are_one_line_each(void **state)
{
    static const char text[] = "a\rb\nc\r\nd\r\r\n\n";
    static const char *const lines[] = {"a", "b", "c", "d", "", ""};
    size_t count = 0;

    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        if (line_editor_byte(&editor, (u8)text[i]) != LINE_ENTERED)
            continue;
        assert_true(count < ARRAY_SIZE(lines));
        assert_string_equal(editor.line, lines[count++]);
        line_editor_begin(&editor);
    }
    assert_int_equal(count, ARRAY_SIZE(lines));
}

static void test_the_lf_of_crlf_can_be_taken_apart(void **state)
{
    type("a\r");
    assert_true(line_editor_is_tail(&editor, '\n'));
    assert_false(line_editor_is_tail(&editor, '\n'));
    type("b\r");
    assert_false(line_editor_is_tail(&editor, 'x'));
    assert_false(line_editor_is_tail(&editor, '\n'));
}

static void test_moving_and_inserting(void **state)
{
    type("bcd" HOME "a" END "e" LEFT LEFT "X" RIGHT "Y");
    expect("abcXdYe", 6);
    assert_int_equal(screen.column, 2 + 6);
    type("\x01"
         "1\x05"
         "2\x02\x06"
         "3");
    expect("1abcXdYe23", 10);
    type("\x1bOH0\x1bOF9\x1b[1~<\x1b[4~>\x1b[7~(\x1b[8~)");
    expect("(<01abcXdYe239>)", 16);
    type("\x1b[1;5D!");
    expect("(<01abcXdYe239>!)", 16);
}

static void test_moving_stops_at_the_ends(void **state)
{
    type("ab" RIGHT RIGHT "c" HOME LEFT LEFT "d");
    expect("dabc", 1);
}

static void test_deleting(void **state)
{
    type("abcdef" LEFT LEFT "\x7f");
    expect("abcef", 3);
    type("\b");
    expect("abef", 2);
    type(DELETE);
    expect("abf", 2);
    type("\x04");
    expect("ab", 2);
    assert_int_equal(screen.bells, 0);
    type("\x04" HOME "\x7f");
    expect("ab", 0);
    assert_int_equal(screen.bells, 2);
}

static void test_killing(void **state)
{
    type("one two  three" HOME RIGHT RIGHT RIGHT "\x0b");
    expect("one", 3);
    type(" two  three  \x17");
    expect("one two  ", 9);
    type("\x17");
    expect("one ", 4);
    type("x" LEFT "\x15");
    expect("x", 0);
}

static void test_clearing_the_screen_keeps_the_line(void **state)
{
    type("abc" LEFT "\x0c");
    expect("abc", 2);
    assert_int_equal(screen.clears, 1);
    assert_int_equal(screen.column, 4);
}

static void test_interrupt(void **state)
{
    assert_int_equal(type("abc\x03"), LINE_INTERRUPTED);
    line_editor_begin(&editor);
    expect("", 0);
    type(UP);
    expect("", 0);
}

static void test_utf8_moves_by_characters(void **state)
{
    type("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z");
    assert_int_equal(screen.column, 2 + 5);
    type(LEFT LEFT "\x7f");
    expect("a\xc3\xa4\xf0\x9f\x98\x80z", 3);
    assert_int_equal(screen.column, 4);
    type("\xc3\xb6");
    expect("a\xc3\xa4\xc3\xb6\xf0\x9f\x98\x80z", 5);
    type(DELETE);
    expect("a\xc3\xa4\xc3\xb6z", 5);
}

static void test_unknown_keys_do_nothing(void **state)
{
    type("ab\x1b[5~\x1b[15;2~\x1b[Z\x1b[?1;2c\x1bx\x1bOQ\x1b[200~\x07\x0f\x1d");
    expect("ab", 2);
    type("\x1b[\x01"
         "c");
    expect("cab", 1);
}

static void test_history(void **state)
{
    type("one\rtwo\rtwo\r\rthree\r");
    line_editor_begin(&editor);
    type("draft" UP);
    expect("three", 5);
    type(UP);
    expect("two", 3);
    type("\x10");
    expect("one", 3);
    type(UP);
    expect("one", 3);
    assert_int_equal(screen.bells, 1);
    type("\x0e" DOWN DOWN);
    expect("draft", 5);
    type(DOWN);
    assert_int_equal(screen.bells, 2);
}

static void test_history_holds_the_last_lines(void **state)
{
    char line[32];
    const int kept = LINE_HISTORY_BYTES / sizeof("line 1000");

    for (int i = 1000; i < 1005 + kept; i++) {
        snprintf(line, sizeof(line), "line %d\r", i);
        type(line);
        line_editor_begin(&editor);
    }
    for (int i = 0; i < kept; i++)
        type(UP);
    expect("line 1005", 9);
    assert_int_equal(screen.bells, 0);
    type(UP);
    expect("line 1005", 9);
    assert_int_equal(screen.bells, 1);
}

static void test_an_edited_history_line_is_a_new_one(void **state)
{
    type("list\r");
    line_editor_begin(&editor);
    type(UP " web\r");
    line_editor_begin(&editor);
    type(UP);
    expect("list web", 8);
    type(UP);
    expect("list", 4);
}

static void test_the_longest_line(void **state)
{
    for (int i = 0; i < LINE_MAX_BYTES; i++)
        line_editor_byte(&editor, (u8)('a' + i % 26));
    assert_int_equal(screen.bells, 0);
    assert_int_equal(type("\r"), LINE_ENTERED);
    assert_int_equal(strlen(editor.line), LINE_MAX_BYTES);
    assert_int_equal(editor.line[LINE_MAX_BYTES - 1], 'a' + (LINE_MAX_BYTES - 1) % 26);
    line_editor_begin(&editor);
    type(UP);
    assert_int_equal(editor.length, LINE_MAX_BYTES);
}

static void test_a_program_is_told_of_a_longer_line(void **state)
{
    editor.silent = true;
    for (int i = 0; i < LINE_MAX_BYTES + 1; i++)
        line_editor_byte(&editor, 'a');
    assert_int_equal(type("\n"), LINE_TOO_LONG);
    line_editor_begin(&editor);
    assert_int_equal(type("ok\n"), LINE_ENTERED);
    assert_string_equal(editor.line, "ok");
    assert_string_equal(screen_text(&screen), ">");
}

static void test_a_long_line_scrolls_by_half_a_row(void **state)
{
    char expected[SCREEN_COLUMNS] = "> ";

    for (int i = 0; i < 100; i++)
        line_editor_byte(&editor, (u8)('0' + i % 10));
    for (int i = 0; i < 60; i++)
        expected[2 + i] = (char)('0' + (78 - 38 + i) % 10);
    assert_string_equal(screen_text(&screen), expected);
    assert_int_equal(screen.column, 62);
    type(HOME);
    assert_int_equal(screen.column, 2);
    for (int i = 0; i < 77; i++)
        expected[2 + i] = (char)('0' + i % 10);
    assert_string_equal(screen_text(&screen), expected);
    type(END);
    assert_int_equal(screen.column, 2 + 38);
}

/* What a terminal gets must not grow with the line's length, or a paste would take for ever. */
static void test_a_paste_is_echoed_at_little_cost(void **state)
{
    for (int i = 0; i < 10000; i++)
        line_editor_byte(&editor, (u8)('a' + i % 26));
    assert_int_equal(editor.length, 10000);
    assert_true(screen.written < 4 * 10000);
}

static void test_a_character_is_shown_whole(void **state)
{
    type("ab" LEFT "\xe2\x82");
    assert_string_equal(screen_text(&screen), "> ab");
    type("\xac");
    expect("a\xe2\x82\xac"
           "b",
           4);
    type(END "\xc3"
             "c\x80");
    assert_string_equal(editor.line, "a\xe2\x82\xac"
                                     "bc");
    assert_int_equal(screen.bells, 1);
}

static void test_no_escape_sequence_but_for_clearing(void **state)
{
    type("one\rtwo words" LEFT LEFT "\x17" HOME "x" END "\x0b" UP DOWN "\x12o\x12\x07\x15");
    line_editor_hide(&editor);
    line_editor_show(&editor);
    assert_int_equal(screen.escapes, 0);
    type("\x0c");
    assert_int_equal(screen.escapes, 2);
}

static void test_search_goes_back_and_ends_with_any_key(void **state)
{
    type("start web\rinfo web\rlist\r");
    line_editor_begin(&editor);
    type("draft\x12w");
    assert_string_equal(screen_text(&screen), "(reverse-i-search)`w': info web");
    type("\x12");
    assert_string_equal(screen_text(&screen), "(reverse-i-search)`w': start web");
    type("\x12");
    assert_int_equal(screen.bells, 1);
    type("\x7f");
    assert_string_equal(screen_text(&screen), "(reverse-i-search)`': list");
    type("inf");
    assert_string_equal(screen_text(&screen), "(reverse-i-search)`inf': info web");
    type(LEFT);
    expect("info web", 7);
    type("\x12zzz\x07");
    expect("draft", 5);
    type("\x12st\r");
    assert_string_equal(editor.line, "list");
}

static void test_search_of_nothing(void **state)
{
    type("\x12x\x12\x12");
    assert_string_equal(screen_text(&screen), "(reverse-i-search)`x':");
    assert_int_equal(screen.bells, 3);
    type("0123456789012345678901234567890123456789");
    type("\x15");
    expect("", 0);
}

static void test_a_line_too_long_is_not_run(void **state)
{
    for (int i = 0; i < LINE_MAX_BYTES + 1; i++)
        line_editor_byte(&editor, 'a');
    assert_int_equal(screen.bells, 1);
    assert_int_equal(type("\r"), LINE_TOO_LONG);
    line_editor_begin(&editor);
    for (int i = 0; i < LINE_MAX_BYTES + 1; i++)
        line_editor_byte(&editor, 'a');
    assert_int_equal(type("\x7f\r"), LINE_ENTERED);
}

static void test_hide_and_show(void **state)
{
    type("abc" LEFT);
    line_editor_hide(&editor);
    assert_string_equal(screen_text(&screen), "");
    assert_int_equal(screen.column, 0);
    line_editor_show(&editor);
    expect("abc", 2);
    assert_int_equal(screen.column, 4);
}

static const char *const names[] = {"web", "web-two", "web-three", "db", NULL};

static void test_completion_of_a_single_candidate(void **state)
{
    candidates = names;
    type("start d\t");
    expect("start db ", 9);
    assert_int_equal(asked_word, 6);
}

static void test_completion_up_to_where_candidates_part(void **state)
{
    static const char *const parting[] = {"poweroff", "power-on", NULL};

    candidates = parting;
    type("p\t");
    expect("power", 5);
    assert_int_equal(screen.bells, 0);
}

static void test_completion_lists_what_is_possible(void **state)
{
    candidates = names;
    type("web\t");
    assert_int_equal(screen.line_feeds, 2);
    expect("web", 3);
    type("-th\t");
    expect("web-three ", 10);
}

static void test_completion_inside_of_a_line(void **state)
{
    candidates = names;
    type("start d now" LEFT LEFT LEFT LEFT "\t");
    expect("start db  now", 9);
}

static void test_completion_of_nothing_rings(void **state)
{
    candidates = names;
    type("x\t");
    expect("x", 1);
    assert_int_equal(screen.bells, 1);
}

static void test_completion_does_not_overflow_the_line(void **state)
{
    candidates = names;
    for (int i = 0; i < LINE_MAX_BYTES - 2; i++)
        line_editor_byte(&editor, i == LINE_MAX_BYTES - 3 ? ' ' : 'a');
    type("d\t");
    assert_int_equal(editor.length, LINE_MAX_BYTES);
    assert_string_equal(editor.line + LINE_MAX_BYTES - 3, " db");
    type("\x7f\x7f web\t");
    assert_int_equal(editor.length, LINE_MAX_BYTES);
}

static void test_silence(void **state)
{
    editor.silent = true;
    memset(&screen, 0, sizeof(screen));
    assert_int_equal(type("one\x7f\x7ftwo" UP "\x0c\r"), LINE_ENTERED);
    assert_string_equal(editor.line, "otwo");
    assert_int_equal(screen.column + screen.bells + screen.line_feeds + screen.clears, 0);
    assert_int_equal(editor.history_used, 0);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_typing_is_echoed),
        TEST(test_cr_lf_and_crlf_are_one_line_each),
        TEST(test_the_lf_of_crlf_can_be_taken_apart),
        TEST(test_moving_and_inserting),
        TEST(test_moving_stops_at_the_ends),
        TEST(test_deleting),
        TEST(test_killing),
        TEST(test_clearing_the_screen_keeps_the_line),
        TEST(test_interrupt),
        TEST(test_utf8_moves_by_characters),
        TEST(test_unknown_keys_do_nothing),
        TEST(test_history),
        TEST(test_history_holds_the_last_lines),
        TEST(test_an_edited_history_line_is_a_new_one),
        TEST(test_the_longest_line),
        TEST(test_a_program_is_told_of_a_longer_line),
        TEST(test_a_long_line_scrolls_by_half_a_row),
        TEST(test_a_paste_is_echoed_at_little_cost),
        TEST(test_a_character_is_shown_whole),
        TEST(test_no_escape_sequence_but_for_clearing),
        TEST(test_search_goes_back_and_ends_with_any_key),
        TEST(test_search_of_nothing),
        TEST(test_a_line_too_long_is_not_run),
        TEST(test_hide_and_show),
        TEST(test_completion_of_a_single_candidate),
        TEST(test_completion_up_to_where_candidates_part),
        TEST(test_completion_lists_what_is_possible),
        TEST(test_completion_inside_of_a_line),
        TEST(test_completion_of_nothing_rings),
        TEST(test_completion_does_not_overflow_the_line),
        TEST(test_silence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
