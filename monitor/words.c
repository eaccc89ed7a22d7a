/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "monitor/words.h"

#include "lib/string.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Copies the word at *line to `to` and moves both behind it; false when its quotes stay open. */
static bool take_word(const char **line, char **to)
{
    bool quoted = false;
    const char *at = *line;

    for (; *at != '\0' && (quoted || !is_blank(*at)); at++) {
        if (*at == '"') {
            quoted = !quoted;
            continue;
        }
        if (quoted && *at == '\\' && at[1] != '\0')
            at++;
        *(*to)++ = *at;
    }
    *(*to)++ = '\0';
    *line = at;
    return !quoted;
}

const char *words_split(struct words *words, const char *line)
{
    char *to = words->text;

    words->count = 0;
    for (;;) {
        while (is_blank(*line))
            line++;
        if (*line == '\0')
            return NULL;
        if (words->count == WORDS_MAX)
            return "the line has too many words";
        words->word[words->count++] = to;
        if (!take_word(&line, &to))
            return "a double quote is not closed";
    }
}

static void remove_words(struct words *words, u32 at, u32 count)
{
    words->count -= count;
    for (u32 i = at; i < words->count; i++)
        words->word[i] = words->word[i + count];
}

const char *words_take_output(struct words *words, bool *json)
{
    for (u32 i = 0; i < words->count;) {
        if (strcmp(words->word[i], "-o") != 0) {
            i++;
            continue;
        }
        if (i + 1 == words->count || strcmp(words->word[i + 1], "json") != 0)
            return "-o wants the word json behind it";
        *json = true;
        remove_words(words, i, 2);
    }
    return NULL;
}

bool words_take(struct words *words, const char *word)
{
    u32 before = words->count;

    for (u32 i = words->count; i > 1; i--) {
        if (strcmp(words->word[i - 1], word) == 0)
            remove_words(words, i - 1, 1);
    }
    return words->count < before;
}
