/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "monitor/output.h"

#include "lib/arith.h"
#include "lib/string.h"

#include <stdarg.h>

#define TEXT_COLUMNS    80
#define COLUMN_GAP      2
#define FIELD_WIDTH     20
#define FIRST_PRINTABLE 0x20
#define DELETE          0x7F
#define C1_LEAD         0xC2
#define C1_END          0xA0
#define CELL_SIZE       32
#define LINE_SIZE       256
#define REPLACEMENT     "\xEF\xBF\xBD" /* U+FFFD */

#define NS_PER_US 1000ULL
#define NS_PER_MS 1000000ULL
#define NS_PER_S  1000000000ULL

static void put(struct output *output, const char *text)
{
    output->write(output->context, text, strlen(text));
}

static void put_spaces(struct output *output, size_t count)
{
    static const char spaces[] = "                ";
    size_t run = sizeof(spaces) - 1;

    for (; count > run; count -= run)
        output->write(output->context, spaces, run);
    output->write(output->context, spaces, count);
}

/* ---- UTF-8 (RFC 3629, section 4) ---- */

struct utf8_lead {
    u8 first, last;
    u8 length;
    u8 low, high; /* bounds of the second byte; the others are 80h-BFh */
};

static const struct utf8_lead utf8_leads[] = {
    {0x00, 0x7F, 1, 0,    0   },
    {0xC2, 0xDF, 2, 0x80, 0xBF},
    {0xE0, 0xE0, 3, 0xA0, 0xBF},
    {0xE1, 0xEC, 3, 0x80, 0xBF},
    {0xED, 0xED, 3, 0x80, 0x9F},
    {0xEE, 0xEF, 3, 0x80, 0xBF},
    {0xF0, 0xF0, 4, 0x90, 0xBF},
    {0xF1, 0xF3, 4, 0x80, 0xBF},
    {0xF4, 0xF4, 4, 0x80, 0x8F},
};

/* The length of the character at `text`; 0 when it is none. *cut where the text ends inside of
 * it. */
static size_t utf8_length(const char *text, size_t size, bool *cut)
{
    const struct utf8_lead *lead = utf8_leads;
    const struct utf8_lead *end = lead + ARRAY_SIZE(utf8_leads);
    const u8 *bytes = (const u8 *)text;

    *cut = false;
    while (lead < end && (bytes[0] < lead->first || bytes[0] > lead->last))
        lead++;
    if (lead == end)
        return 0;
    for (size_t i = 1; i < lead->length; i++) {
        if (i == size) {
            *cut = true;
            return 0;
        }
        if (bytes[i] < (i == 1 ? lead->low : 0x80) || bytes[i] > (i == 1 ? lead->high : 0xBF))
            return 0;
    }
    return lead->length;
}

/* ---- JSON ---- */

static void put_escaped(struct output *output, char c)
{
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* what, and the letter for it */
    char text[8];

    for (const char *pair = named; *pair != '\0'; pair += 2) {
        if (*pair == c) {
            snprintf(text, sizeof(text), "\\%c", pair[1]);
            put(output, text);
            return;
        }
    }
    snprintf(text, sizeof(text), "\\u%04x", (u8)c);
    put(output, text);
}

static bool needs_escape(char c)
{
    return (u8)c < FIRST_PRINTABLE || c == '"' || c == '\\' || c == DELETE;
}

size_t json_escape(struct output *output, const char *text, size_t size, bool last)
{
    size_t at = 0, run = 0; /* the bytes from `run` on are not written yet */

    while (at < size) {
        bool cut;
        size_t length = utf8_length(text + at, size - at, &cut);

        if (cut && !last)
            break;
        if (length > 0 && !needs_escape(text[at])) {
            at += length;
            continue;
        }
        output->write(output->context, text + run, at - run);
        if (length > 0)
            put_escaped(output, text[at]);
        else
            put(output, REPLACEMENT);
        run = ++at;
    }
    output->write(output->context, text + run, at - run);
    return at;
}

static void put_json_string(struct output *output, const char *text)
{
    put(output, "\"");
    json_escape(output, text, strlen(text), true);
    put(output, "\"");
}

static void put_key(struct output *output, const char *key)
{
    if (output->comma)
        put(output, ",");
    output->comma = true;
    if (key == NULL)
        return;
    put_json_string(output, key);
    put(output, ":");
}

static void format_tenths(char cell[CELL_SIZE], u64 tenths)
{
    snprintf(cell, CELL_SIZE, "%llu.%llu", (unsigned long long)tenths / 10,
             (unsigned long long)tenths % 10);
}

static void put_json_value(struct output *output, enum value_kind kind, struct value value)
{
    char text[CELL_SIZE];

    switch (kind) {
    case VALUE_TEXT:
        put_json_string(output, value.text);
        return;
    case VALUE_FLAG:
        put(output, value.number != 0 ? "true" : "false");
        return;
    case VALUE_HEX:
        snprintf(text, sizeof(text), "\"0x%llx\"", (unsigned long long)value.number);
        break;
    case VALUE_TENTHS:
        format_tenths(text, value.number);
        break;
    default:
        snprintf(text, sizeof(text), "%llu", (unsigned long long)value.number);
        break;
    }
    put(output, text);
}

void output_member(struct output *output, const char *key, const char *text)
{
    if (!output->json)
        return;
    put_key(output, key);
    put_json_string(output, text);
}

void output_open(struct output *output, const char *key, char bracket)
{
    if (!output->json)
        return;
    put_key(output, key);
    put(output, bracket == '{' ? "{" : "[");
    output->comma = false;
}

void output_close(struct output *output, char bracket)
{
    if (!output->json)
        return;
    put(output, bracket == '{' ? "}" : "]");
    output->comma = true;
}

/* ---- text ---- */

/* A fraction of 1000 to three digits: 1.5, 23.4, 123. */
static void format_scaled(char *to, size_t size, u64 thousandths, const char *unit)
{
    u64 whole = thousandths / 1000;
    u64 tenth = thousandths % 1000 / 100;

    if (whole < 100 && tenth != 0)
        snprintf(to, size, "%llu.%llu %s", (unsigned long long)whole, (unsigned long long)tenth,
                 unit);
    else
        snprintf(to, size, "%llu %s", (unsigned long long)whole, unit);
}

void format_size(char *to, size_t size, u64 bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    u32 unit = 0;

    while (bytes >> (10 * unit) >= 1024)
        unit++;
    format_scaled(to, size, mul_div(bytes, 1000, 1ULL << (10 * unit)), units[unit]);
}

static void format_long_duration(char *to, size_t size, u64 seconds)
{
    u64 minutes = seconds / 60;
    u64 hours = minutes / 60;

    if (hours >= 24)
        snprintf(to, size, "%llu d %02u h", (unsigned long long)hours / 24, (u32)(hours % 24));
    else if (hours > 0)
        snprintf(to, size, "%u h %02u min", (u32)hours, (u32)(minutes % 60));
    else
        snprintf(to, size, "%u min %02u s", (u32)minutes, (u32)(seconds % 60));
}

void format_duration(char *to, size_t size, u64 ns)
{
    if (ns < NS_PER_US)
        snprintf(to, size, "%u ns", (u32)ns);
    else if (ns < NS_PER_MS)
        format_scaled(to, size, ns, "us");
    else if (ns < NS_PER_S)
        format_scaled(to, size, ns / NS_PER_US, "ms");
    else if (ns < 60 * NS_PER_S)
        format_scaled(to, size, ns / NS_PER_MS, "s");
    else
        format_long_duration(to, size, ns / NS_PER_S);
}

static void format_cycles(const struct output *output, char *to, size_t size, u64 cycles)
{
    if (output->tsc_hz == 0)
        snprintf(to, size, "%llu", (unsigned long long)cycles);
    else
        format_duration(to, size, mul_div(cycles, NS_PER_S, output->tsc_hz));
}

/* The value's text, in `cell` unless it is one already. */
static const char *cell_text(const struct output *output, enum value_kind kind, struct value value,
                             char cell[CELL_SIZE])
{
    switch (kind) {
    case VALUE_TEXT:
        return value.text;
    case VALUE_FLAG:
        return value.number != 0 ? "yes" : "no";
    case VALUE_SIZE:
        format_size(cell, CELL_SIZE, value.number);
        return cell;
    case VALUE_DURATION:
        format_duration(cell, CELL_SIZE, value.number);
        return cell;
    case VALUE_CYCLES:
        format_cycles(output, cell, CELL_SIZE, value.number);
        return cell;
    case VALUE_HEX:
        snprintf(cell, CELL_SIZE, "0x%llx", (unsigned long long)value.number);
        return cell;
    case VALUE_TENTHS:
        format_tenths(cell, value.number);
        return cell;
    case VALUE_COUNT:
        break;
    }
    snprintf(cell, CELL_SIZE, "%llu", (unsigned long long)value.number);
    return cell;
}

/* Length of the next character; a byte that is not UTF-8 is one. */
static size_t character_length(const char *text, size_t size)
{
    bool cut;

    return MAX(utf8_length(text, size, &cut), (size_t)1);
}

static size_t columns_of(const char *text)
{
    size_t size = strlen(text), columns = 0;

    for (size_t at = 0; at < size; at += character_length(text + at, size - at))
        columns++;
    return columns;
}

/* Not a control character, of ASCII or of ISO 6429's second set (U+0080 to U+009F), nor half a
 * character. */
static bool is_printable(const char *character, size_t length)
{
    u8 lead = (u8)character[0];

    if (length == 1)
        return lead >= FIRST_PRINTABLE && lead < DELETE;
    return lead != C1_LEAD || (u8)character[1] >= C1_END;
}

/* At most `limit` columns of the text; returns how many. */
static size_t put_printable(struct output *output, const char *text, size_t limit)
{
    size_t size = strlen(text), columns = 0, at = 0, run = 0; /* from `run` on: not written yet */

    for (; at < size && columns < limit; columns++) {
        size_t length = character_length(text + at, size - at);
        bool printable = is_printable(text + at, length);

        if (!printable) {
            output->write(output->context, text + run, at - run);
            put(output, "?");
        }
        at += length;
        run = printable ? run : at;
    }
    output->write(output->context, text + run, at - run);
    return columns;
}

void output_begin(struct output *output)
{
    if (!output->json)
        return;
    put(output, "{\"ok\":true");
    output->comma = true;
    output->open = true;
}

void output_begin_event(struct output *output, const char *event)
{
    put(output, "{\"event\":");
    put_json_string(output, event);
    output->comma = true;
    output->open = true;
}

void output_end(struct output *output)
{
    if (!output->json)
        return;
    put(output, "}\r\n");
    output->open = false;
}

void output_error(struct output *output, const char *sentence)
{
    if (output->json) {
        put(output, "{\"ok\":false,\"error\":");
        put_json_string(output, sentence);
        put(output, "}\r\n");
        output->open = false;
    } else {
        put(output, "error: ");
        put_printable(output, sentence, SIZE_MAX);
        put(output, "\r\n");
    }
}

void output_line(struct output *output, const char *format, ...)
{
    char line[LINE_SIZE];
    va_list arguments;

    if (output->json)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    put_printable(output, line, SIZE_MAX);
    put(output, "\r\n");
}

void output_field(struct output *output, const struct column *column, struct value value)
{
    char cell[CELL_SIZE];
    size_t width = strlen(column->title);

    if (output->json) {
        put_key(output, column->key);
        put_json_value(output, column->kind, value);
        return;
    }
    put(output, column->title);
    put_spaces(output, width < FIELD_WIDTH ? FIELD_WIDTH - width : 1);
    put_printable(output, cell_text(output, column->kind, value, cell), SIZE_MAX);
    put(output, "\r\n");
}

/* ---- tables ---- */

void table_init(struct table *table, const struct column *columns, u32 count)
{
    table->columns = columns;
    table->count = count;
    for (u32 i = 0; i < count; i++)
        table->width[i] = (u32)strlen(columns[i].title);
}

void table_measure(struct table *table, const struct output *output, const struct value *values)
{
    char cell[CELL_SIZE];

    for (u32 i = 0; i < table->count; i++) {
        const char *text = cell_text(output, table->columns[i].kind, values[i], cell);

        table->width[i] = (u32)MAX(table->width[i], columns_of(text));
    }
}

/* Texts stand at the left of their column, numbers at the right. Returns the column behind it. */
static size_t put_cell(struct output *output, const struct table *table, u32 index,
                       const char *text, size_t column)
{
    bool left = table->columns[index].kind == VALUE_TEXT;
    size_t width = table->width[index];
    size_t size = columns_of(text);
    size_t pad = size < width ? width - size : 0;
    bool last = index + 1 == table->count;

    if (!left)
        put_spaces(output, pad);
    put_printable(output, text, last && left ? TEXT_COLUMNS - MIN(column, TEXT_COLUMNS) : SIZE_MAX);
    if (!last)
        put_spaces(output, (left ? pad : 0) + COLUMN_GAP);
    return column + MAX(width, size) + COLUMN_GAP;
}

void output_table(struct output *output, const struct table *table, const char *key)
{
    size_t column = 0;

    if (output->json) {
        output_open(output, key, '[');
        return;
    }
    for (u32 i = 0; i < table->count; i++)
        column = put_cell(output, table, i, table->columns[i].title, column);
    put(output, "\r\n");
}

static void put_json_row(struct output *output, const struct table *table,
                         const struct value *values)
{
    output_open(output, NULL, '{');
    for (u32 i = 0; i < table->count; i++) {
        put_key(output, table->columns[i].key);
        put_json_value(output, table->columns[i].kind, values[i]);
    }
    output_close(output, '{');
}

void output_row(struct output *output, const struct table *table, const struct value *values)
{
    char cell[CELL_SIZE];
    size_t column = 0;

    if (output->json) {
        put_json_row(output, table, values);
        return;
    }
    for (u32 i = 0; i < table->count; i++) {
        const char *text = cell_text(output, table->columns[i].kind, values[i], cell);

        column = put_cell(output, table, i, text, column);
    }
    put(output, "\r\n");
}

void output_table_end(struct output *output)
{
    output_close(output, '[');
}

/* ---- long texts ---- */

void output_text_open(struct output *output, const char *key)
{
    if (!output->json)
        return;
    put_key(output, key);
    put(output, "\"");
}

size_t output_text(struct output *output, const char *text, size_t size, bool last)
{
    if (output->json)
        return json_escape(output, text, size, last);
    output->write(output->context, text, size);
    return size;
}

void output_text_close(struct output *output)
{
    if (output->json)
        put(output, "\"");
}
