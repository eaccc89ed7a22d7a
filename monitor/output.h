/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MONITOR_OUTPUT_H
#define BULKHEAD_MONITOR_OUTPUT_H

/* What commands answer, for people (aligned text of at most 80 columns) or for programs (one line
 * of JSON, RFC 8259), from one description of the columns. Pure. */

#include "lib/types.h"

#define OUTPUT_COLUMNS_MAX 12

enum value_kind {
    VALUE_TEXT, /* for people: control characters as '?' */
    VALUE_COUNT,
    VALUE_SIZE,     /* bytes; for people with a unit */
    VALUE_DURATION, /* nanoseconds; for people with a unit */
    VALUE_CYCLES,   /* of the TSC; for people the time that they take */
    VALUE_HEX,      /* JSON: a string, since many parsers lose digits of large numbers */
    VALUE_TENTHS,   /* with one decimal */
    VALUE_FLAG,     /* yes and no, true and false */
};

struct column {
    const char *title;
    const char *key;
    enum value_kind kind;
};

struct value {
    const char *text; /* VALUE_TEXT */
    u64 number;       /* all others */
};

struct output {
    void (*write)(void *context, const char *text, size_t size);
    void *context;
    u64 tsc_hz;
    bool json;
    bool comma; /* JSON: something stands before the next member */
    bool open;  /* JSON: the line is not complete */
};

/* An answer: begin, any of the others, end. JSON: {"ok":true,...} and a line's end. */
void output_begin(struct output *output);
void output_end(struct output *output);

/* Begins a line that answers nothing: {"event":... ; JSON only. */
void output_begin_event(struct output *output, const char *event);

/* The answer of a command that failed, in place of the above: a sentence without its dot. */
void output_error(struct output *output, const char *sentence);

/* A line for people only. */
void output_line(struct output *output, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A member of the answer; for people a line of its own, in full, however long. */
void output_field(struct output *output, const struct column *column, struct value value);

/* A member for programs only; `key` NULL inside of an array. */
void output_member(struct output *output, const char *key, const char *text);

/* Nested members, for programs only: `bracket` is '{' or '['; key NULL inside of an array. */
void output_open(struct output *output, const char *key, char bracket);
void output_close(struct output *output, char bracket);

/* A table. Rows that were measured stand aligned in the text; the last column is cut off at the
 * 80th. */
struct table {
    const struct column *columns;
    u32 count; /* at most OUTPUT_COLUMNS_MAX */
    u32 width[OUTPUT_COLUMNS_MAX];
};

void table_init(struct table *table, const struct column *columns, u32 count);
void table_measure(struct table *table, const struct output *output, const struct value *values);
void output_table(struct output *output, const struct table *table, const char *key);
void output_row(struct output *output, const struct table *table, const struct value *values);
void output_table_end(struct output *output);

/* A member that is a long text, in pieces: open, pieces, close. A piece returns how many bytes it
 * took: for JSON it leaves the beginning of a UTF-8 character at its end to the next piece,
 * unless `last`. For people the bytes pass as they are. */
void output_text_open(struct output *output, const char *key);
size_t output_text(struct output *output, const char *text, size_t size, bool last);
void output_text_close(struct output *output);

/* Appends a JSON string's inside: quotes, backslashes and control characters escaped, bytes that
 * are not UTF-8 as U+FFFD. Returns what was taken, see output_text. */
size_t json_escape(struct output *output, const char *text, size_t size, bool last);

/* "1.5 GiB", "12 ms", "3 h 02 min". */
void format_size(char *to, size_t size, u64 bytes);
void format_duration(char *to, size_t size, u64 ns);

#endif
