/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MONITOR_WORDS_H
#define BULKHEAD_MONITOR_WORDS_H

/* A command line, split into words. Pure. */

#include "monitor/line_editor.h"

#define WORDS_MAX 64

struct words {
    u32 count;
    char *word[WORDS_MAX]; /* in `text` */
    char text[LINE_MAX_BYTES + 1];
};

/* Splits at blanks. Double quotes keep blanks in a word; inside of them a backslash takes the
 * next character as it is. NULL, or a sentence that says what is wrong. `line` has at most
 * LINE_MAX_BYTES. */
const char *words_split(struct words *words, const char *line);

/* Takes "-o FORMAT" out of the words, wherever it stands, and sets *json where FORMAT is json.
 * NULL, or a sentence that says what is wrong. */
const char *words_take_output(struct words *words, bool *json);

/* Takes a word out, wherever it stands behind the first; false when it is not there. */
bool words_take(struct words *words, const char *word);

#endif
