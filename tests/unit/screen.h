/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_TESTS_UNIT_SCREEN_H
#define BULKHEAD_TESTS_UNIT_SCREEN_H

/* One row of a terminal: does what the line editor asks for, and nothing else. */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SCREEN_COLUMNS 80

struct screen {
    char row[SCREEN_COLUMNS][5]; /* a character each; empty: blank */
    size_t column;
    size_t bells, line_feeds, clears, escapes, written;
    char sequence[16];
    size_t sequence_size;
};

static inline void screen_erase(struct screen *screen, size_t from)
{
    memset(screen->row[from], 0, sizeof(screen->row[0]) * (SCREEN_COLUMNS - from));
}

static inline void screen_sequence(struct screen *screen, char final)
{
    if (final == 'J' || final == 'H') {
        screen->clears += final == 'J';
        screen->column = 0;
        screen_erase(screen, 0);
    } else {
        assert(!"a sequence that the editor has no business with");
    }
}

static inline void screen_print(struct screen *screen, char byte)
{
    if (((uint8_t)byte & 0xC0) == 0x80) { /* goes with the character before it */
        char *cell = screen->row[screen->column > 0 ? screen->column - 1 : 0];

        if (strlen(cell) < 4)
            cell[strlen(cell)] = byte;
        return;
    }
    assert(screen->column < SCREEN_COLUMNS - 1);
    memset(screen->row[screen->column], 0, sizeof(screen->row[0]));
    screen->row[screen->column++][0] = byte;
}

static inline void screen_put(struct screen *screen, char byte)
{
    if (screen->sequence_size > 0) {
        assert(screen->sequence_size < sizeof(screen->sequence) - 1);
        screen->sequence[screen->sequence_size++] = byte;
        screen->sequence[screen->sequence_size] = '\0';
        if (screen->sequence_size > 2 && byte >= '@') {
            screen->sequence_size = 0;
            screen_sequence(screen, byte);
        }
    } else if (byte == '\x1b') {
        screen->escapes++;
        screen->sequence[screen->sequence_size++] = byte;
    } else if (byte == '\r') {
        screen->column = 0;
    } else if (byte == '\b') {
        assert(screen->column > 0);
        screen->column--;
    } else if (byte == '\n') {
        screen->line_feeds++;
        screen_erase(screen, 0);
    } else if (byte == '\a') {
        screen->bells++;
    } else {
        assert((uint8_t)byte >= ' ' && byte != 0x7F);
        screen_print(screen, byte);
    }
}

static inline void screen_write(void *context, const char *text, size_t size)
{
    struct screen *screen = context;

    screen->written += size;
    for (size_t i = 0; i < size; i++)
        screen_put(context, text[i]);
}

/* The row's text without the blanks at its end. */
static inline const char *screen_text(const struct screen *screen)
{
    static char text[SCREEN_COLUMNS * 4 + 1];
    size_t end = SCREEN_COLUMNS;

    text[0] = '\0';
    while (end > 0 && (screen->row[end - 1][0] == '\0' || screen->row[end - 1][0] == ' '))
        end--;
    for (size_t i = 0; i < end; i++)
        strcat(text, screen->row[i][0] != '\0' ? screen->row[i] : " ");
    return text;
}

#endif
