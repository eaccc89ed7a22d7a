/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* lib/format.c and lib/string.c under other names, against the C library's. */

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define vsnprintf bulkhead_vsnprintf
#define snprintf  bulkhead_snprintf
#include "../../lib/format.c"
#undef vsnprintf
#undef snprintf

#define memcpy  bulkhead_memcpy
#define memmove bulkhead_memmove
#define memset  bulkhead_memset
#define memcmp  bulkhead_memcmp
#define memchr  bulkhead_memchr
#define strlen  bulkhead_strlen
#define strnlen bulkhead_strnlen
#define strcmp  bulkhead_strcmp
#define strncmp bulkhead_strncmp
#define strchr  bulkhead_strchr
void *memcpy(void *restrict, const void *restrict, size_t);
void *memmove(void *, const void *, size_t);
void *memset(void *, int, size_t);
int memcmp(const void *, const void *, size_t);
void *memchr(const void *, int, size_t);
size_t strlen(const char *);
size_t strnlen(const char *, size_t);
int strcmp(const char *, const char *);
int strncmp(const char *, const char *, size_t);
char *strchr(const char *, int);
#include "../../lib/string.c"
#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef memchr
#undef strlen
#undef strnlen
#undef strcmp
#undef strncmp
#undef strchr

#pragma GCC diagnostic ignored "-Wformat"

#define ROUNDS 300000

static u64 random_state = 88172645463325252ULL;

/* xorshift64 */
static u64 random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static u32 random_below(u32 limit)
{
    return (u32)(random_u64() % limit);
}

/* Short and long values, and those at the edges. */
static u64 random_value(void)
{
    static const u64 edges[] = {0, 1, INT_MAX, (u64)INT_MIN, UINT32_MAX, INT64_MAX, UINT64_MAX};

    if (random_below(4) == 0)
        return edges[random_below(ARRAY_SIZE(edges))];
    return random_u64() >> random_below(64);
}

static void append(char *format, const char *text)
{
    strcat(format, text);
}

static void random_flags(char *format, const char *flags)
{
    for (; *flags != '\0'; flags++) {
        if (random_below(3) == 0)
            append(format, (char[]){*flags, '\0'});
    }
}

static void random_counts(char *format, bool with_precision)
{
    char text[16];

    if (random_below(2) == 0) {
        snprintf(text, sizeof(text), "%u", 1 + random_below(30));
        append(format, text);
    }
    if (with_precision && random_below(2) == 0) {
        snprintf(text, sizeof(text), random_below(5) == 0 ? "." : ".%u", random_below(25));
        append(format, text);
    }
}

/* Both give one text, one length and nothing beyond `size`. */
#define COMPARE(format, ...)                                                                       \
    do {                                                                                           \
        char ours[160], theirs[160];                                                               \
        size_t size = random_below(4) == 0 ? random_below(40) : sizeof(ours);                      \
        memset(ours, 0x5A, sizeof(ours));                                                          \
        memset(theirs, 0x5A, sizeof(theirs));                                                      \
        int our_length = bulkhead_snprintf(ours, size, format, ##__VA_ARGS__);                     \
        int their_length = snprintf(theirs, size, format, ##__VA_ARGS__);                          \
        if (our_length != their_length || memcmp(ours, theirs, sizeof(ours)) != 0)                 \
            fail_msg("%s: %d '%.100s' instead of %d '%.100s'", format, our_length, ours,           \
                     their_length, theirs);                                                        \
    } while (0)

static void integers_match_the_c_library(void **state)
{
    static const char *const lengths[] = {"hh", "h", "", "l", "ll", "z"};
    static const struct {
        char letter[2];
        const char *flags;
    } kinds[] = {
        {"d", "-0+ "},
        {"i", "-0+ "},
        {"u", "-0"  },
        {"x", "-0#" },
        {"X", "-0#" }
    };

    for (u32 i = 0; i < ROUNDS; i++) {
        u32 kind = random_below(ARRAY_SIZE(kinds));
        u32 length = random_below(ARRAY_SIZE(lengths));
        u64 value = random_value();
        char format[64] = "<%";

        random_flags(format, kinds[kind].flags);
        random_counts(format, true);
        append(format, lengths[length]);
        append(format, kinds[kind].letter);
        append(format, ">");
        if (length >= 3)
            COMPARE(format, value);
        else
            COMPARE(format, (u32)value);
    }
}

static void texts_match_the_c_library(void **state)
{
    static const char *const texts[] = {"", "a", "web", "a somewhat longer text"};

    for (u32 i = 0; i < ROUNDS / 4; i++) {
        char format[64] = "<%";
        bool character = random_below(3) == 0;
        const char *text = texts[random_below(ARRAY_SIZE(texts))];
        int letter = 'a' + (int)random_below(26);

        random_flags(format, "-");
        random_counts(format, !character);
        append(format, character ? "c%%>" : "s%%>");
        if (character)
            COMPARE(format, letter);
        else
            COMPARE(format, text);
    }
}

static void stars_match_the_c_library(void **state)
{
    for (u32 i = 0; i < ROUNDS / 4; i++) {
        int width = (int)random_below(40) - 20;
        int precision = (int)random_below(30) - 8;
        u32 value = (u32)random_value();

        COMPARE("[%*d|%-*x]", width, value, width, value);
        COMPARE("[%0*.*u]", width, precision, value);
        COMPARE("[%*.*s]", width, precision, "hypervisor");
    }
}

static void pointers_match_the_c_library(void **state)
{
    for (u32 i = 0; i < 1000; i++) {
        u64 value = random_value() | 1;

        COMPARE("%p %20p %-20p|", (void *)value, (void *)value, (void *)value);
    }
}

static void several_in_one_format(void **state)
{
    COMPARE("%s: %d of %u%% at %#lx, %c%c", "web", -5, 50U, 0xFEE00000UL, 'o', 'k');
    COMPARE("%%%d%%", 7);
    COMPARE("no conversion");
    COMPARE("%hhd %hd %hhu %hu", 300, 70000, 300, 70000);
    COMPARE("%lld %llu %zu", LLONG_MIN, ULLONG_MAX, SIZE_MAX);
}

static void null_string_is_named(void **state)
{
    char text[16];
    const char *volatile none = NULL;

    assert_int_equal(bulkhead_snprintf(text, sizeof(text), "%s", none), 6);
    assert_string_equal(text, "(null)");
}

static void nothing_is_written_without_room(void **state)
{
    char byte = 'x';

    assert_int_equal(bulkhead_snprintf(&byte, 0, "%d", 1234), 4);
    assert_int_equal(byte, 'x');
    assert_int_equal(bulkhead_snprintf(NULL, 0, "%20s", ""), 20);
    assert_int_equal(bulkhead_snprintf(&byte, 1, "%d", 1234), 4);
    assert_int_equal(byte, '\0');
}

static void a_format_cut_short_ends(void **state)
{
    static const char *const formats[] = {"ab%", "ab%-", "ab%5", "ab%.", "ab%l", "ab%08.3ll"};

    for (u32 i = 0; i < ARRAY_SIZE(formats); i++) {
        char text[16];

        assert_int_equal(bulkhead_snprintf(text, sizeof(text), formats[i], 0, 0), 2);
        assert_string_equal(text, "ab");
    }
}

#define BYTES 80

static void fill_random(u8 *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (u8)random_u64();
}

static void copies_match_the_c_library(void **state)
{
    u8 ours[BYTES], theirs[BYTES], source[BYTES];

    for (u32 i = 0; i < ROUNDS / 10; i++) {
        u32 to = random_below(BYTES), from = random_below(BYTES);
        u32 size = random_below(BYTES - MAX(to, from) + 1);

        fill_random(ours, BYTES);
        fill_random(source, BYTES);
        memcpy(theirs, ours, BYTES);
        assert_ptr_equal(bulkhead_memmove(ours + to, ours + from, size), ours + to);
        memmove(theirs + to, theirs + from, size);
        assert_memory_equal(ours, theirs, BYTES);
        assert_ptr_equal(bulkhead_memcpy(ours + to, source + from, size), ours + to);
        memcpy(theirs + to, source + from, size);
        assert_memory_equal(ours, theirs, BYTES);
        assert_ptr_equal(bulkhead_memset(ours + to, (int)to + 0x1F0, size), ours + to);
        memset(theirs + to, (int)to + 0x1F0, size);
        assert_memory_equal(ours, theirs, BYTES);
    }
}

static int sign(int value)
{
    return (value > 0) - (value < 0);
}

static void comparisons_match_the_c_library(void **state)
{
    for (u32 i = 0; i < ROUNDS / 10; i++) {
        char a[9], b[9];
        u32 size = random_below(9);
        int c = "ab\xFF\0"[random_below(4)];

        for (u32 j = 0; j < 8; j++) {
            a[j] = "ab\xFF"[random_below(3)];
            b[j] = random_below(4) == 0 ? "ab\xFF"[random_below(3)] : a[j];
        }
        a[random_below(9)] = a[8] = b[random_below(9)] = b[8] = '\0';
        assert_int_equal(bulkhead_strlen(a), strlen(a));
        assert_int_equal(bulkhead_strnlen(a, size), strnlen(a, size));
        assert_int_equal(sign(bulkhead_memcmp(a, b, size)), sign(memcmp(a, b, size)));
        assert_int_equal(sign(bulkhead_strcmp(a, b)), sign(strcmp(a, b)));
        assert_int_equal(sign(bulkhead_strncmp(a, b, size)), sign(strncmp(a, b, size)));
        assert_ptr_equal(bulkhead_strchr(a, c), strchr(a, c));
        assert_ptr_equal(bulkhead_memchr(a, c, size), memchr(a, c, size));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_match_the_c_library),
        cmocka_unit_test(texts_match_the_c_library),
        cmocka_unit_test(stars_match_the_c_library),
        cmocka_unit_test(pointers_match_the_c_library),
        cmocka_unit_test(several_in_one_format),
        cmocka_unit_test(null_string_is_named),
        cmocka_unit_test(nothing_is_written_without_room),
        cmocka_unit_test(a_format_cut_short_ends),
        cmocka_unit_test(copies_match_the_c_library),
        cmocka_unit_test(comparisons_match_the_c_library),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
