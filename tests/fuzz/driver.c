/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Runs a fuzz target without libFuzzer: on the files that are named, or else on a number of
 * pseudo-random inputs that are the same every time. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define INPUTS  2000
#define LONGEST 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state = 0x9E3779B97F4A7C15;

/* xorshift64 */
static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint8_t any_byte(void)
{
    return (uint8_t)(next() >> 32);
}

static uint8_t small_byte(void)
{
    return next() % 4 == 0 ? (uint8_t)(next() % 16) : 0;
}

static uint8_t edge_byte(void)
{
    static const uint8_t edges[] = {0, 1, 0x7F, 0x80, 0xFE, 0xFF, 0x10, 0x40};

    return edges[next() % sizeof(edges)];
}

static uint8_t text_byte(void)
{
    static const char text[] = "[]=#;,\n\n  \"abcdefghijklmnopqrstuvwxyz0123456789-_.%KMGx\t\x1b[A";

    return (uint8_t)text[next() % (sizeof(text) - 1)];
}

static void run_random(void)
{
    static uint8_t (*const kinds[])(void) = {any_byte, small_byte, edge_byte, text_byte};

    for (int i = 0; i < INPUTS; i++) {
        size_t size = next() % (i % 4 == 0 ? 64 : LONGEST);
        /* As large as its content, for the sanitizer to see what is read behind it. */
        uint8_t *data = malloc(size + !size);

        for (size_t at = 0; at < size; at++)
            data[at] = kinds[(i + (at % 64 == 63)) % 4]();
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
}

static void run_file(const char *name)
{
    FILE *file = fopen(name, "rb");
    uint8_t *data;
    long size;

    if (!file || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0) {
        perror(name);
        exit(2);
    }
    rewind(file);
    data = malloc((size_t)size + !size);
    if (fread(data, 1, (size_t)size, file) == (size_t)size)
        LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    fclose(file);
}

int main(int count, char **names)
{
    for (int i = 1; i < count; i++)
        run_file(names[i]);
    if (count == 1)
        run_random();
    return 0;
}
