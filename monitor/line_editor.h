/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MONITOR_LINE_EDITOR_H
#define BULKHEAD_MONITOR_LINE_EDITOR_H

/* A line editor: typed bytes in, echo out. Pure. It asks nothing of the terminal but CR, LF, BS and
 * BEL (and ECMA-48 for Ctrl-L alone), so that a dumb one shows the same as any other. The line
 * takes one row; what does not fit is scrolled sideways. A person's line is UTF-8 without control
 * characters, one column a character; a program's may hold any other bytes too. */

#include "lib/types.h"

#define LINE_MAX_BYTES     12287 /* without the NUL */
#define LINE_HISTORY_BYTES 16384
#define LINE_PATTERN_SIZE  32
#define LINE_CANDIDATE     128 /* longest word that is completed, with the NUL */

enum line_event {
    LINE_EDITING,
    LINE_ENTERED,     /* editor->line is what was typed */
    LINE_TOO_LONG,    /* a line ended that did not fit in LINE_MAX_BYTES */
    LINE_INTERRUPTED, /* Ctrl-C */
};

struct line_editor_ops {
    void (*write)(void *context, const char *text, size_t size);
    /* The next word that may stand where the word at byte `word` of `line` begins; whether it fits
     * what is typed of it is the editor's to see. *cursor is NULL at first, then the callee's.
     * Holds until the next call; NULL: no more. One that ends with '=' is only a word's beginning.
     */
    const char *(*candidate)(void *context, const char *line, size_t word, const void **cursor);
};

struct line_editor {
    const struct line_editor_ops *ops;
    void *context;
    const char *prompt; /* ASCII, shorter than a row */
    bool silent;        /* for a program: no echo, no history */

    char line[LINE_MAX_BYTES + 1];
    size_t length, cursor;
    size_t first;             /* byte that the row begins with */
    size_t drawn;             /* columns of the row that are written on, prompt included */
    char character[4];        /* UTF-8, being typed: */
    u8 character_size, tails; /* bytes that are there, bytes that it lacks */
    bool too_long;

    u8 escape;     /* enum escape_state of line_editor.c */
    u32 parameter; /* first one of the control sequence */
    bool parameter_ended;
    bool passive;  /* sequences move nothing */
    bool reported; /* the terminal told where its cursor is (CPR): it understands ECMA-48 */
    bool after_cr;

    char history[LINE_HISTORY_BYTES]; /* lines with their NULs, the oldest first */
    size_t history_used;
    size_t history_at;              /* of the line shown; history_used: it is being typed */
    char draft[LINE_MAX_BYTES + 1]; /* what was typed before going back */

    bool searching;
    char pattern[LINE_PATTERN_SIZE];
    size_t pattern_length;
};

void line_editor_init(struct line_editor *editor, const char *prompt,
                      const struct line_editor_ops *ops, void *context);

/* Begins an empty line and shows the prompt. */
void line_editor_begin(struct line_editor *editor);

/* Takes one typed byte. After any other event than LINE_EDITING the caller calls
 * line_editor_begin before the next byte. */
enum line_event line_editor_byte(struct line_editor *editor, u8 byte);

/* True for the LF of a CR LF whose CR ended the last line; who gives typed bytes to somebody else
 * drops this one. Forgets the CR either way. */
bool line_editor_is_tail(struct line_editor *editor, u8 byte);

/* Takes a typed byte that belongs to an escape sequence, which then does nothing; false for any
 * other byte. For whoever gives typed bytes to somebody else. */
bool line_editor_sequence(struct line_editor *editor, u8 byte);

/* Takes the row off the screen, and puts it back. */
void line_editor_hide(struct line_editor *editor);
void line_editor_show(struct line_editor *editor);

#endif
