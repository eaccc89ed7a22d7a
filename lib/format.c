/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "lib/string.h"
#include "lib/types.h"

#include <limits.h>

struct output {
    char *to;
    size_t size;
    size_t length; /* of the whole text, also of what did not fit */
};

/* A va_list cannot be passed by pointer where it is an array type; in a struct it can. */
struct arguments {
    va_list list;
};

struct conversion {
    bool left, zero, plus, space, alternate;
    int width;
    int precision; /* negative: none given */
    u8 size;       /* of the argument, in bytes */
};

static void put(struct output *output, char c)
{
    if (output->length + 1 < output->size)
        output->to[output->length] = c;
    output->length++;
}

static void put_all(struct output *output, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        put(output, text[i]);
}

static void pad(struct output *output, char c, int count)
{
    while (count-- > 0)
        put(output, c);
}

/* `prefix`, zeros up to the precision or, where asked for, the width, then the digits. */
static void put_padded(struct output *output, const struct conversion *conversion,
                       const char *prefix, const char *text, int length)
{
    int prefix_length = (int)strlen(prefix);
    int zeros = MAX(conversion->precision - length, 0);
    int fill;

    if (conversion->zero && !conversion->left && conversion->precision < 0)
        zeros = MAX(conversion->width - prefix_length - length, 0);
    fill = conversion->width - prefix_length - zeros - length;
    if (!conversion->left)
        pad(output, ' ', fill);
    put_all(output, prefix, (size_t)prefix_length);
    pad(output, '0', zeros);
    put_all(output, text, (size_t)length);
    if (conversion->left)
        pad(output, ' ', fill);
}

static void put_number(struct output *output, const struct conversion *conversion,
                       const char *prefix, u64 value, u32 base, const char *digits)
{
    char text[20]; /* the digits of 2^64 - 1 */
    char *first = text + sizeof(text);

    for (; value != 0; value /= base)
        *--first = digits[value % base];
    if (first == text + sizeof(text) && conversion->precision != 0)
        *--first = '0';
    put_padded(output, conversion, prefix, first, (int)(text + sizeof(text) - first));
}

static u64 take_unsigned(struct arguments *arguments, const struct conversion *conversion)
{
    if (conversion->size == sizeof(u64))
        return va_arg(arguments->list, u64);
    return va_arg(arguments->list, u32) & (BIT(conversion->size * 8) - 1);
}

static s64 take_signed(struct arguments *arguments, const struct conversion *conversion)
{
    u32 unused_bits = 64 - conversion->size * 8;

    return (s64)(take_unsigned(arguments, conversion) << unused_bits) >> unused_bits;
}

static void put_signed(struct output *output, const struct conversion *conversion, s64 value)
{
    const char *prefix = conversion->plus ? "+" : conversion->space ? " " : "";

    put_number(output, conversion, value < 0 ? "-" : prefix, value < 0 ? -(u64)value : (u64)value,
               10, "0123456789");
}

static void put_hexadecimal(struct output *output, const struct conversion *conversion, u64 value,
                            bool upper)
{
    const char *prefix = upper ? "0X" : "0x";

    put_number(output, conversion, conversion->alternate && value != 0 ? prefix : "", value, 16,
               upper ? "0123456789ABCDEF" : "0123456789abcdef");
}

static void put_string(struct output *output, const struct conversion *conversion, const char *s)
{
    struct conversion text = *conversion;
    size_t limit = conversion->precision < 0 ? INT_MAX : (size_t)conversion->precision;

    text.precision = -1;
    text.zero = false;
    if (s == NULL)
        s = "(null)";
    put_padded(output, &text, "", s, (int)strnlen(s, limit));
}

static void put_character(struct output *output, const struct conversion *conversion, char c)
{
    struct conversion text = *conversion;

    text.precision = -1;
    text.zero = false;
    put_padded(output, &text, "", &c, 1);
}

static const char *parse_flags(const char *format, struct conversion *conversion)
{
    for (;; format++) {
        switch (*format) {
        case '-':
            conversion->left = true;
            break;
        case '0':
            conversion->zero = true;
            break;
        case '+':
            conversion->plus = true;
            break;
        case ' ':
            conversion->space = true;
            break;
        case '#':
            conversion->alternate = true;
            break;
        default:
            return format;
        }
    }
}

static const char *parse_count(const char *format, struct arguments *arguments, int *count)
{
    *count = 0;
    if (*format == '*') {
        *count = va_arg(arguments->list, int);
        return format + 1;
    }
    for (; *format >= '0' && *format <= '9'; format++) {
        if (*count < INT_MAX / 10)
            *count = *count * 10 + (*format - '0');
    }
    return format;
}

static const char *parse_length(const char *format, struct conversion *conversion)
{
    static const struct {
        char name[3];
        u8 size;
    } lengths[] = {
        {"hh", sizeof(char)     },
        {"h",  sizeof(short)    },
        {"ll", sizeof(long long)},
        {"l",  sizeof(long)     },
        {"z",  sizeof(size_t)   },
    };

    conversion->size = sizeof(int);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        size_t length = strlen(lengths[i].name);

        if (strncmp(format, lengths[i].name, length) == 0) {
            conversion->size = lengths[i].size;
            return format + length;
        }
    }
    return format;
}

static const char *parse_conversion(const char *format, struct arguments *arguments,
                                    struct conversion *conversion)
{
    *conversion = (struct conversion){.precision = -1};
    format = parse_flags(format, conversion);
    format = parse_count(format, arguments, &conversion->width);
    if (conversion->width < 0) {
        conversion->left = true;
        conversion->width = -MAX(conversion->width, -INT_MAX);
    }
    if (*format == '.')
        format = parse_count(format + 1, arguments, &conversion->precision);
    return parse_length(format, conversion);
}

/* False at the end of the format. An unknown conversion prints its letter. */
static bool convert(struct output *output, struct conversion *conversion, char letter,
                    struct arguments *arguments)
{
    switch (letter) {
    case '\0':
        return false;
    case 'd':
    case 'i':
        put_signed(output, conversion, take_signed(arguments, conversion));
        return true;
    case 'u':
        put_number(output, conversion, "", take_unsigned(arguments, conversion), 10, "0123456789");
        return true;
    case 'x':
    case 'X':
        put_hexadecimal(output, conversion, take_unsigned(arguments, conversion), letter == 'X');
        return true;
    case 'p':
        conversion->alternate = true;
        put_hexadecimal(output, conversion, (uintptr_t)va_arg(arguments->list, void *), false);
        return true;
    case 'c':
        put_character(output, conversion, (char)va_arg(arguments->list, int));
        return true;
    case 's':
        put_string(output, conversion, va_arg(arguments->list, const char *));
        return true;
    default:
        put(output, letter);
        return true;
    }
}

int vsnprintf(char *restrict to, size_t size, const char *restrict format, va_list list)
{
    struct output output = {.to = to, .size = size};
    struct arguments arguments;
    struct conversion conversion;

    va_copy(arguments.list, list);
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            put(&output, *format);
            continue;
        }
        format = parse_conversion(format + 1, &arguments, &conversion);
        if (!convert(&output, &conversion, *format, &arguments))
            break;
    }
    va_end(arguments.list);
    if (size > 0)
        to[MIN(output.length, size - 1)] = '\0';
    return output.length > INT_MAX ? -1 : (int)output.length;
}

int snprintf(char *restrict to, size_t size, const char *restrict format, ...)
{
    va_list list;
    int length;

    va_start(list, format);
    length = vsnprintf(to, size, format, list);
    va_end(list);
    return length;
}
