/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MONITOR_LINE_EDITOR_H
#define BULKHEAD_MONITOR_LINE_EDITOR_H

/* A line editor for a terminal that understands ECMA-48: typed bytes in, echo out. Pure. The line
 * takes one row of the terminal; what does not fit is scrolled sideways. A line is any bytes but
 * control characters, and is taken to be UTF-8, one column a character. */

#include "lib/types.h"

#define LINE_MAX_BYTES 1024 /* without the NUL */
#define LINE_HISTORY   32

enum line_event {
    LINE_EDITING,
    LINE_ENTERED,     /* editor->line is what was typed */
    LINE_TOO_LONG,    /* silent only: a line ended that was longer than LINE_MAX_BYTES */
    LINE_INTERRUPTED, /* Ctrl-C */
};

struct line_editor_ops {
    void (*write)(void *context, const char *text, size_t size);
    /* The next word that may stand where the word at byte `word` of `line` begins; whether it fits
     * what is typed of it is the editor's to see. *cursor is NULL at first, then the callee's.
     * NULL: no more. */
    const char *(*candidate)(void *context, const char *line, size_t word, const void **cursor);
};

struct line_editor {
    const struct line_editor_ops *ops;
    void *context;
    const char *prompt; /* ASCII, shorter than a row */
    bool silent;        /* for a program: no echo, no history */

    char line[LINE_MAX_BYTES + 1];
    size_t length, cursor;
    size_t first; /* byte that the row begins with */
    bool too_long;

    u8 escape;     /* enum escape_state of line_editor.c */
    u32 parameter; /* first one of the control sequence */
    bool parameter_ended;
    bool after_cr;

    char history[LINE_HISTORY][LINE_MAX_BYTES + 1];
    u32 history_count;              /* lines ever; line N is in slot N % LINE_HISTORY */
    u32 history_back;               /* how far back the shown line is; 0: it is being typed */
    char draft[LINE_MAX_BYTES + 1]; /* what was typed before going back */
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

/* Takes the row off the screen, and puts it back. */
void line_editor_hide(struct line_editor *editor);
void line_editor_show(struct line_editor *editor);

#endif
