/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <stdlib.h>

#include "monitor/line_editor.h"
#include "tests/unit/screen.h"

/* The input is what is typed; its first byte chooses between a person and a program. */

static const char *candidate(void *context, const char *line, size_t word, const void **cursor)
{
    static const char *const words[] = {"start", "status", "\xc3\xa4hnlich", "web", NULL};
    const char *const *next = *cursor != NULL ? (const char *const *)*cursor + 1 : words;

    *cursor = next;
    return *next;
}

static const struct line_editor_ops ops = {
    .write = screen_write,
    .candidate = candidate,
};

static void require(int holds)
{
    if (!holds)
        abort();
}

static void check(const struct line_editor *editor)
{
    require(editor->length <= LINE_MAX_BYTES);
    require(editor->cursor <= editor->length);
    require(editor->first <= editor->cursor);
    require(strlen(editor->line) == editor->length);
    require(editor->history_used <= LINE_HISTORY_BYTES);
    require(editor->history_at <= editor->history_used);
    require(editor->history_at == 0 || editor->history[editor->history_at - 1] == '\0');
    require(editor->pattern_length == strlen(editor->pattern));
    require(editor->drawn < SCREEN_COLUMNS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct line_editor editor;
    struct screen screen = {0};

    line_editor_init(&editor, "bulkhead> ", &ops, &screen);
    line_editor_begin(&editor);
    editor.silent = size > 0 && (data[0] & 1) != 0;
    for (size_t i = 1; i < size; i++) {
        if (line_editor_byte(&editor, data[i]) != LINE_EDITING)
            line_editor_begin(&editor);
        check(&editor);
    }
    line_editor_hide(&editor);
    require(editor.silent || screen_text(&screen)[0] == '\0');
    return 0;
}
