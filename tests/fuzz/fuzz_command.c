/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* A command line of any content: its words stay in their place, and what they set of a partition is
 * printed as words that set the same. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "lib/edit_distance.h"
#include "monitor/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_words(const struct words *words)
{
    require(words->count <= WORDS_MAX);
    for (u32 i = 0; i < words->count; i++) {
        require(words->word[i] >= words->text);
        require(words->word[i] + strlen(words->word[i]) < words->text + sizeof(words->text));
    }
}

static void check_round_trip(const struct partition_config *partition)
{
    static struct partition_config copy;
    static char text[CONFIG_VALUE_SIZE + 32], value[CONFIG_VALUE_SIZE], again[CONFIG_VALUE_SIZE];
    char error[CONFIG_ERROR_SIZE];
    u32 keys = 0;

    config_partition_defaults(&copy, "copy");
    for (u32 i = 0; config_partition_key(i) != NULL; i++) {
        config_partition_get(partition, i, value);
        require(config_value_is_plain(value) || strchr(value, '"') == NULL);
        snprintf(text, sizeof(text), "%s=%s", config_partition_key(i), value);
        if (value[0] != '\0')
            require(config_partition_assign(&copy, text, &keys, error));
        config_partition_get(&copy, i, again);
        require(strcmp(value, again) == 0);
    }
}

/* Byte 0 of the input is the number of the key that the first word is a value of, and so on. */
static void check_settings(struct words *words, u8 first)
{
    static struct partition_config partition;
    char text[LINE_MAX_BYTES + 32], error[CONFIG_ERROR_SIZE];
    u32 key_count = 0, keys = 0;

    while (config_partition_key(key_count) != NULL)
        key_count++;
    config_partition_defaults(&partition, "web");
    for (u32 i = 0; i < words->count; i++) {
        snprintf(text, sizeof(text), "%s=%s", config_partition_key((first + i) % key_count),
                 words->word[i]);
        if (config_partition_assign(&partition, text, &keys, error) && partition.kernel[0] != '\0')
            check_round_trip(&partition);
        error[0] = '\0';
        if (!config_partition_assign(&partition, words->word[i], &keys, error))
            require(error[0] != '\0' && strlen(error) < sizeof(error));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct words words;
    char line[LINE_MAX_BYTES + 1];
    const char *error;
    bool json = false;

    if (size < 1)
        return 0;
    size = size - 1 < LINE_MAX_BYTES ? size - 1 : LINE_MAX_BYTES;
    memcpy(line, data + 1, size);
    line[size] = '\0';
    error = words_split(&words, line);
    check_words(&words);
    if (error == NULL)
        error = words_take_output(&words, &json);
    check_words(&words);
    if (words.count > 0)
        edit_distance(words.word[0], strlen(words.word[0]), "reboot-host");
    if (error == NULL)
        check_settings(&words, data[0]);
    return 0;
}
