/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "monitor/output.h"

#define NS_PER_MS 1000000ULL
#define NS_PER_S  1000000000ULL

static char written[4096];
static size_t written_size;
static struct output output;

static void write_text(void *context, const char *text, size_t size)
{
    assert_true(written_size + size < sizeof(written));
    memcpy(written + written_size, text, size);
    written_size += size;
    written[written_size] = '\0';
}

static void begin(bool json)
{
    written_size = 0;
    written[0] = '\0';
    output = (struct output){.write = write_text, .json = json, .tsc_hz = NS_PER_S};
}

static int setup(void **state)
{
    begin(true);
    return 0;
}

/* ---- JSON strings ---- */

static const char *escaped(const char *text, size_t size)
{
    begin(true);
    assert_int_equal(json_escape(&output, text, size, true), size);
    return written;
}

static void test_every_ascii_byte(void **state)
{
    for (int byte = 0; byte < 0x80; byte++) {
        char text = (char)byte, expected[8];

        snprintf(expected, sizeof(expected), byte < ' ' || byte == 0x7F ? "\\u%04x" : "%c", byte);
        switch (byte) {
        case '"':
            strcpy(expected, "\\\"");
            break;
        case '\\':
            strcpy(expected, "\\\\");
            break;
        case '\b':
            strcpy(expected, "\\b");
            break;
        case '\f':
            strcpy(expected, "\\f");
            break;
        case '\n':
            strcpy(expected, "\\n");
            break;
        case '\r':
            strcpy(expected, "\\r");
            break;
        case '\t':
            strcpy(expected, "\\t");
            break;
        }
        assert_string_equal(escaped(&text, 1), expected);
    }
}

static void test_lone_high_bytes_are_replaced(void **state)
{
    for (int byte = 0x80; byte < 0x100; byte++) {
        char text[3] = {'a', (char)byte, 'b'};

        assert_string_equal(escaped(text, 3), "a\xEF\xBF\xBD"
                                              "b");
    }
}

#define BAD "\xEF\xBF\xBD"

static void test_utf8_passes_and_what_is_not_utf8_does_not(void **state)
{
    static const struct {
        const char *text, *json;
    } cases[] = {
        {"\xC2\x80\xDF\xBF",         "\xC2\x80\xDF\xBF"        },
        {"\xE0\xA0\x80\xEF\xBF\xBF", "\xE0\xA0\x80\xEF\xBF\xBF"},
        {"\xF0\x90\x80\x80",         "\xF0\x90\x80\x80"        },
        {"\xF4\x8F\xBF\xBF",         "\xF4\x8F\xBF\xBF"        },
        {"\xC1\xBF",                 BAD BAD                   }, /* overlong */
        {"\xE0\x9F\xBF",             BAD BAD BAD               },
        {"\xF0\x8F\xBF\xBF",         BAD BAD BAD BAD           },
        {"\xED\xA0\x80",             BAD BAD BAD               }, /* a surrogate */
        {"\xF4\x90\x80\x80",         BAD BAD BAD BAD           }, /* above U+10FFFF */
        {"\xE2\x82",                 BAD BAD                   }, /* cut off */
        {"\xE2\x82\"",               BAD BAD "\\\""            },
        {"\xF5\x80",                 BAD BAD                   },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_string_equal(escaped(cases[i].text, strlen(cases[i].text)), cases[i].json);
}

static void test_a_character_cut_by_a_piece_waits_for_the_next(void **state)
{
    static const char text[] = "x\xF0\x9F\x98\x80y";

    for (size_t cut = 0; cut <= 6; cut++) {
        size_t taken;

        begin(true);
        taken = json_escape(&output, text, cut, false);
        assert_int_equal(taken, cut >= 2 && cut <= 4 ? 1 : cut);
        assert_int_equal(json_escape(&output, text + taken, 6 - taken, true), 6 - taken);
        assert_string_equal(written, text);
    }
}

static void test_an_error_is_one_line(void **state)
{
    output_error(&output, "no \"such\"\nthing");
    assert_string_equal(written, "{\"ok\":false,\"error\":\"no \\\"such\\\"\\nthing\"}\r\n");
    begin(false);
    output_error(&output, "no\x1b[2J such");
    assert_string_equal(written, "error: no?[2J such\r\n");
}

/* ---- numbers for people ---- */

static void test_sizes(void **state)
{
    static const struct {
        u64 bytes;
        const char *text;
    } cases[] = {
        {0,             "0 B"     },
        {1023,          "1023 B"  },
        {1024,          "1 KiB"   },
        {1536,          "1.5 KiB" },
        {256 * MIB,     "256 MiB" },
        {GIB + GIB / 4, "1.2 GiB" },
        {1023 * GIB,    "1023 GiB"},
        {3 * TIB,       "3 TiB"   },
        {UINT64_MAX,    "15.9 EiB"},
    };
    char text[32];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        format_size(text, sizeof(text), cases[i].bytes);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_durations(void **state)
{
    static const struct {
        u64 ns;
        const char *text;
    } cases[] = {
        {0,                    "0 ns"      },
        {999,                  "999 ns"    },
        {1500,                 "1.5 us"    },
        {12 * NS_PER_MS,       "12 ms"     },
        {1234 * NS_PER_MS,     "1.2 s"     },
        {59 * NS_PER_S,        "59 s"      },
        {61 * NS_PER_S,        "1 min 01 s"},
        {3723 * NS_PER_S,      "1 h 02 min"},
        {25 * 3600 * NS_PER_S, "1 d 01 h"  },
    };
    char text[32];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        format_duration(text, sizeof(text), cases[i].ns);
        assert_string_equal(text, cases[i].text);
    }
}

/* ---- fields and tables ---- */

static const struct column all_kinds[] = {
    {"NAME",   "name",   VALUE_TEXT    },
    {"COUNT",  "count",  VALUE_COUNT   },
    {"SIZE",   "size",   VALUE_SIZE    },
    {"TIME",   "ns",     VALUE_DURATION},
    {"CYCLES", "cycles", VALUE_CYCLES  },
    {"HEX",    "hex",    VALUE_HEX     },
    {"FLAG",   "flag",   VALUE_FLAG    },
};

static const struct value first_row[] = {
    {.text = "web"},  {.number = 7},     {.number = 2048}, {.number = 1500},
    {.number = 2000}, {.number = 0xCF9}, {.number = 1},
};

static const struct value second_row[] = {
    {.text = "d\"b"}, {.number = UINT64_MAX}, {.number = 0}, {.number = 0},
    {.number = 0},    {.number = UINT64_MAX}, {.number = 0},
};

static void test_a_table_as_json(void **state)
{
    struct table table;

    table_init(&table, all_kinds, ARRAY_SIZE(all_kinds));
    output_begin(&output);
    output_field(&output, &all_kinds[1], (struct value){.number = 2});
    output_table(&output, &table, "rows");
    output_row(&output, &table, first_row);
    assert_true(output.open);
    output_row(&output, &table, second_row);
    output_table_end(&output);
    output_field(&output, &all_kinds[6], (struct value){.number = 1});
    output_line(&output, "not for programs");
    output_end(&output);
    assert_false(output.open);
    assert_string_equal(
        written,
        "{\"ok\":true,\"count\":2,\"rows\":["
        "{\"name\":\"web\",\"count\":7,\"size\":2048,\"ns\":1500,\"cycles\":2000,"
        "\"hex\":\"0xcf9\",\"flag\":true},"
        "{\"name\":\"d\\\"b\",\"count\":18446744073709551615,\"size\":0,\"ns\":0,\"cycles\":0,"
        "\"hex\":\"0xffffffffffffffff\",\"flag\":false}],\"flag\":true}\r\n");
}

static void test_an_empty_table_as_json(void **state)
{
    struct table table;

    table_init(&table, all_kinds, ARRAY_SIZE(all_kinds));
    output_begin(&output);
    output_table(&output, &table, "rows");
    output_table_end(&output);
    output_end(&output);
    assert_string_equal(written, "{\"ok\":true,\"rows\":[]}\r\n");
}

static void test_nested_objects(void **state)
{
    output_begin(&output);
    output_open(&output, "outer", '[');
    output_open(&output, NULL, '{');
    output_field(&output, &all_kinds[0], (struct value){.text = ""});
    output_close(&output, '{');
    output_open(&output, NULL, '{');
    output_close(&output, '{');
    output_close(&output, '[');
    output_end(&output);
    assert_string_equal(written, "{\"ok\":true,\"outer\":[{\"name\":\"\"},{}]}\r\n");
}

static void test_a_table_for_people_is_aligned(void **state)
{
    struct table table;

    begin(false);
    table_init(&table, all_kinds, ARRAY_SIZE(all_kinds));
    table_measure(&table, &output, first_row);
    output_table(&output, &table, "rows");
    output_row(&output, &table, first_row);
    output_row(
        &output, &table,
        (const struct value[]){{.text = "d\xC3\xBC"}, {.number = 12345}, {}, {}, {}, {}, {}});
    output_table_end(&output);
    assert_string_equal(written, "NAME  COUNT   SIZE    TIME  CYCLES    HEX  FLAG\r\n"
                                 "web       7  2 KiB  1.5 us    2 us  0xcf9   yes\r\n"
                                 "d\xC3\xBC    12345    0 B    0 ns    0 ns    0x0    no\r\n");
}

static void test_the_last_column_ends_at_the_80th(void **state)
{
    static const struct column columns[] = {
        {"NAME",    "name",    VALUE_TEXT},
        {"MESSAGE", "message", VALUE_TEXT},
    };
    struct value row[2] = {{.text = "0123456789012345678901234567890"}};
    char message[100];
    struct table table;

    memset(message, 'm', sizeof(message) - 1);
    message[99] = '\0';
    message[0] = '\n';
    row[1].text = message;
    begin(false);
    table_init(&table, columns, 2);
    table_measure(&table, &output, row);
    output_row(&output, &table, row);
    assert_int_equal(written_size, 80 + 2);
    assert_memory_equal(written + 31, "  ?mmm", 6);
}

static void test_fields_for_people(void **state)
{
    begin(false);
    output_begin(&output);
    output_field(&output, &all_kinds[0], (struct value){.text = "a\xC2\x9B\xFFz\xC3\xA4"});
    output_field(&output, &all_kinds[6], (struct value){.number = 1});
    output_end(&output);
    assert_string_equal(written, "NAME                a??z\xC3\xA4\r\n"
                                 "FLAG                yes\r\n");
}

static void test_a_long_text(void **state)
{
    output_begin(&output);
    output_text_open(&output, "log");
    output_text(&output, "a\r\n", 3, false);
    output_text(&output, "b", 1, true);
    output_text_close(&output);
    output_end(&output);
    assert_string_equal(written, "{\"ok\":true,\"log\":\"a\\r\\nb\"}\r\n");
    begin(false);
    output_text_open(&output, "log");
    assert_int_equal(output_text(&output, "\x1b[1m\xE2", 5, false), 5);
    output_text_close(&output);
    assert_string_equal(written, "\x1b[1m\xE2");
}

static void test_an_event(void **state)
{
    output_begin_event(&output, "crash");
    output_field(&output, &all_kinds[0], (struct value){.text = "web"});
    output_end(&output);
    assert_string_equal(written, "{\"event\":\"crash\",\"name\":\"web\"}\r\n");
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_ascii_byte),
        TEST(test_lone_high_bytes_are_replaced),
        TEST(test_utf8_passes_and_what_is_not_utf8_does_not),
        TEST(test_a_character_cut_by_a_piece_waits_for_the_next),
        TEST(test_an_error_is_one_line),
        TEST(test_sizes),
        TEST(test_durations),
        TEST(test_a_table_as_json),
        TEST(test_an_empty_table_as_json),
        TEST(test_nested_objects),
        TEST(test_a_table_for_people_is_aligned),
        TEST(test_the_last_column_ends_at_the_80th),
        TEST(test_fields_for_people),
        TEST(test_a_long_text),
        TEST(test_an_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
