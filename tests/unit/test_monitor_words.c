/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/edit_distance.h"
#include "monitor/escape.h"
#include "monitor/words.h"

static struct words words;

static void expect_words(const char *line, u32 count, const char *const *expected)
{
    assert_null(words_split(&words, line));
    assert_int_equal(words.count, count);
    for (u32 i = 0; i < count; i++)
        assert_string_equal(words.word[i], expected[i]);
}

#define EXPECT_WORDS(line, ...)                                                                    \
    do {                                                                                           \
        static const char *const expected[] = {__VA_ARGS__};                                       \
        expect_words(line, ARRAY_SIZE(expected), expected);                                        \
    } while (0)

static void test_splitting(void **state)
{
    expect_words("", 0, NULL);
    expect_words(" \t ", 0, NULL);
    EXPECT_WORDS("list", "list");
    EXPECT_WORDS("  start\t web  ", "start", "web");
    EXPECT_WORDS("create x cmdline=\"console=ttyS0 quiet\" y", "create", "x",
                 "cmdline=console=ttyS0 quiet", "y");
    EXPECT_WORDS("\"\" a\"b c\"d \"\"", "", "ab cd", "");
    EXPECT_WORDS("\"a\\\"b\\\\c\" d\\e", "a\"b\\c", "d\\e");
}

static void test_open_quotes_are_refused(void **state)
{
    assert_non_null(words_split(&words, "a \"b c"));
    assert_non_null(words_split(&words, "\""));
    assert_non_null(words_split(&words, "\"\\"));
    assert_non_null(words_split(&words, "\"\\\""));
}

static void test_as_many_words_as_fit(void **state)
{
    char line[LINE_MAX_BYTES + 1] = "";

    for (int i = 0; i < WORDS_MAX; i++)
        strcat(line, "a ");
    assert_null(words_split(&words, line));
    assert_int_equal(words.count, WORDS_MAX);
    strcat(line, "a");
    assert_non_null(words_split(&words, line));
}

static void test_the_longest_line_fits(void **state)
{
    char line[LINE_MAX_BYTES + 1];

    memset(line, 'a', LINE_MAX_BYTES);
    line[LINE_MAX_BYTES] = '\0';
    assert_null(words_split(&words, line));
    assert_int_equal(strlen(words.word[0]), LINE_MAX_BYTES);
}

static void test_the_output_option(void **state)
{
    static const char *const lines[] = {"-o json info web", "info -o json web", "info web -o json"};
    bool json;

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        json = false;
        assert_null(words_split(&words, lines[i]));
        assert_null(words_take_output(&words, &json));
        assert_true(json);
        assert_int_equal(words.count, 2);
        assert_string_equal(words.word[0], "info");
        assert_string_equal(words.word[1], "web");
    }
    json = false;
    words_split(&words, "list json");
    assert_null(words_take_output(&words, &json));
    assert_false(json);
    assert_int_equal(words.count, 2);
    words_split(&words, "list -o");
    assert_non_null(words_take_output(&words, &json));
    words_split(&words, "list -o xml");
    assert_non_null(words_take_output(&words, &json));
    assert_false(json);
}

static void test_distance(void **state)
{
    assert_int_equal(edit_distance("", 0, ""), 0);
    assert_int_equal(edit_distance("list", 4, "list"), 0);
    assert_int_equal(edit_distance("lst", 3, "list"), 1);
    assert_int_equal(edit_distance("lisst", 5, "list"), 1);
    assert_int_equal(edit_distance("lixt", 4, "list"), 1);
    assert_int_equal(edit_distance("ilst", 4, "list"), 2);
    assert_int_equal(edit_distance("kitten", 6, "sitting"), 3);
    assert_int_equal(edit_distance("", 0, "help"), 4);
    assert_int_equal(edit_distance("LIST", 4, "list"), 0);
    assert_int_equal(edit_distance("0123456789012345678901234567890123456789", 40, "help"), 40);
}

#define KEY      0x1D
#define PATIENCE 100

static const struct escape fresh = {.byte = KEY, .patience = PATIENCE};

static void test_other_bytes_pass(void **state)
{
    struct escape escape = fresh;

    for (int byte = 0; byte < 0x100; byte++) {
        if (byte != KEY)
            assert_int_equal(escape_byte(&escape, (u8)byte, 0), ESCAPE_PASS);
    }
    assert_false(escape_expired(&escape, UINT64_MAX));
}

static void test_twice_passes_once(void **state)
{
    struct escape escape = fresh;

    assert_int_equal(escape_byte(&escape, KEY, 5), ESCAPE_WAIT);
    assert_int_equal(escape_byte(&escape, KEY, 6), ESCAPE_PASS);
    assert_false(escape_expired(&escape, 1000));
    assert_int_equal(escape_byte(&escape, KEY, 7), ESCAPE_WAIT);
}

static void test_another_byte_leaves(void **state)
{
    struct escape escape = fresh;

    assert_int_equal(escape_byte(&escape, KEY, 5), ESCAPE_WAIT);
    assert_int_equal(escape_byte(&escape, 'l', 6), ESCAPE_LEAVE);
    assert_false(escape_expired(&escape, 1000));
    assert_int_equal(escape_byte(&escape, 'l', 7), ESCAPE_PASS);
}

static void test_silence_leaves(void **state)
{
    struct escape escape = fresh;

    assert_int_equal(escape_byte(&escape, KEY, UINT64_MAX - 9), ESCAPE_WAIT);
    assert_false(escape_expired(&escape, UINT64_MAX));
    assert_false(escape_expired(&escape, PATIENCE - 11));
    assert_true(escape_expired(&escape, PATIENCE - 10));
    assert_false(escape_expired(&escape, PATIENCE));
}

static void test_names_of_the_escape(void **state)
{
    u8 byte = 0xFF;

    assert_true(escape_parse("^]", &byte));
    assert_int_equal(byte, 0x1D);
    assert_true(escape_parse("^a", &byte));
    assert_int_equal(byte, 1);
    assert_true(escape_parse("^A", &byte));
    assert_int_equal(byte, 1);
    assert_false(escape_parse("", &byte));
    assert_false(escape_parse("]", &byte));
    assert_false(escape_parse("^", &byte));
    assert_false(escape_parse("^1", &byte));
    assert_false(escape_parse("^]]", &byte));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_splitting),
        cmocka_unit_test(test_open_quotes_are_refused),
        cmocka_unit_test(test_as_many_words_as_fit),
        cmocka_unit_test(test_the_longest_line_fits),
        cmocka_unit_test(test_the_output_option),
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_other_bytes_pass),
        cmocka_unit_test(test_twice_passes_once),
        cmocka_unit_test(test_another_byte_leaves),
        cmocka_unit_test(test_silence_leaves),
        cmocka_unit_test(test_names_of_the_escape),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
