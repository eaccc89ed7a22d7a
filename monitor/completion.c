/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "monitor/completion.h"

#include "core/host.h"
#include "lib/string.h"
#include "monitor/command.h"

#define NAME_SIZE 32 /* longer than any command's */

/* Where in the line the word stands. */
struct place {
    const struct command *command; /* NULL: the word is the command's name, or it is unknown */
    u32 argument;                  /* 0: the command's name */
    bool after_output;             /* "-o" is before it */
};

static bool is_word(const char *text, size_t size, const char *word)
{
    return strlen(word) == size && strncmp(text, word, size) == 0;
}

static void pass_word(struct place *place, const char *text, size_t size)
{
    char name[NAME_SIZE];

    if (place->after_output || (text[0] == '-' && place->argument > 0)) {
        place->after_output = !place->after_output && is_word(text, size, "-o");
        return;
    }
    if (place->argument++ > 0)
        return;
    snprintf(name, sizeof(name), "%.*s", (int)MIN(size, sizeof(name)), text);
    place->command = command_find(name);
}

static struct place find_place(const char *line, size_t word)
{
    struct place place = {0};
    size_t at = 0;

    while (at < word) {
        size_t start = at;

        while (at < word && line[at] != ' ')
            at++;
        if (at > start)
            pass_word(&place, line + start, at - start);
        while (at < word && line[at] == ' ')
            at++;
    }
    return place;
}

/* The strings of an array, NULL behind the last. */
static const char *next_string(const char *const *strings, const void **cursor)
{
    const char *const *next = *cursor != NULL ? (const char *const *)*cursor + 1 : strings;

    *cursor = next;
    return *next;
}

static const char *next_option(const struct command *command, const void **cursor)
{
    static const char *options[3];

    options[0] = "-o";
    options[1] = command->option;
    return next_string(options, cursor);
}

static const char *next_command(const void **cursor)
{
    const struct command *command = command_next(*cursor);

    *cursor = command;
    return command != NULL ? command->name : NULL;
}

static const char *next_partition(const void **cursor)
{
    const struct vm *vm = vm_next(*cursor);

    *cursor = vm;
    return vm != NULL ? vm->config.name : NULL;
}

static const char *next_key(const void **cursor)
{
    static char text[LINE_CANDIDATE];
    u32 index = (u32)(u64)*cursor;
    const char *name = config_partition_key(index);

    *cursor = (const void *)(u64)(index + 1);
    snprintf(text, sizeof(text), "%s=", name != NULL ? name : "");
    return name != NULL ? text : NULL;
}

/* Images behind `head`, what stands up to the '=' or the last ',' of the word. */
static const char *next_image(const char *head, size_t size, const void **cursor)
{
    static char text[LINE_CANDIDATE];
    const struct boot_module *image = *cursor;

    image = image != NULL ? image + 1 : host.boot.modules;
    *cursor = image;
    if (image >= host.boot.modules + host.boot.module_count)
        return NULL;
    snprintf(text, sizeof(text), "%.*s%s", (int)MIN(size, sizeof(text)), head, image->name);
    return text;
}

static const char *next_setting(const char *word, const void **cursor)
{
    static const char *const image_keys[] = {"kernel=", "initrd=", "modules="};
    size_t head = 0;

    while (word[head] != ' ' && word[head] != '\0')
        head++;
    while (head > 0 && word[head - 1] != '=' && word[head - 1] != ',')
        head--;
    if (head == 0)
        return next_key(cursor);
    for (u32 i = 0; i < ARRAY_SIZE(image_keys); i++) {
        if (strncmp(word, image_keys[i], strlen(image_keys[i])) == 0)
            return next_image(word, head, cursor);
    }
    return NULL;
}

static const char *next_argument(const struct place *place, const char *word, const void **cursor)
{
    switch (place->command->completion) {
    case COMPLETE_COMMAND:
        return next_command(cursor);
    case COMPLETE_PARTITION:
        return place->argument == 1 ? next_partition(cursor) : NULL;
    case COMPLETE_SETTINGS:
        return place->argument == 1 ? next_partition(cursor) : next_setting(word, cursor);
    case COMPLETE_NEW:
        return place->argument == 1 ? NULL : next_setting(word, cursor);
    default:
        return NULL;
    }
}

const char *completion_candidate(void *context, const char *line, size_t word, const void **cursor)
{
    static const char *const formats[] = {"json", NULL};
    static struct place place; /* of the word whose candidates are asked for */

    if (*cursor == NULL)
        place = find_place(line, word);
    if (place.after_output)
        return next_string(formats, cursor);
    if (place.argument == 0)
        return next_command(cursor);
    if (place.command == NULL)
        return NULL;
    if (line[word] == '-')
        return next_option(place.command, cursor);
    return next_argument(&place, line + word, cursor);
}
