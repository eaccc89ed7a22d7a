/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "lib/edit_distance.h"

#include "lib/arith.h"
#include "lib/string.h"

static char to_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Levenshtein's, by one row of his table. */
size_t edit_distance(const char *a, size_t size, const char *b)
{
    size_t row[EDIT_DISTANCE_MAX + 1];
    size_t columns = MIN(strlen(b), (size_t)EDIT_DISTANCE_MAX);

    for (size_t i = 0; i <= columns; i++)
        row[i] = i;
    for (; size > 0; a++, size--) {
        size_t diagonal = row[0]++;

        for (size_t i = 1; i <= columns; i++) {
            size_t changed = diagonal + (to_lower(*a) != b[i - 1]);

            diagonal = row[i];
            row[i] = MIN(changed, MIN(row[i], row[i - 1]) + 1);
        }
    }
    return row[columns];
}
