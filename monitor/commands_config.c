/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/host.h"
#include "core/lifecycle.h"
#include "lib/string.h"
#include "monitor/command.h"

static struct partition_config scratch; /* too large for the stack */
static char value[CONFIG_VALUE_SIZE];

static bool images_are_there(struct request *request)
{
    const char *key, *name;

    for (u32 i = 0; (key = config_image(&scratch, i, &name)) != NULL; i++) {
        if (name[0] != '\0' && host_image(name) != NULL)
            continue;
        request_fail(request, name[0] == '\0' ? "%s: is missing" : "%s: there is no module '%s'",
                     key, name);
        return false;
    }
    return true;
}

/* The words behind the name, into `scratch`. Bit I of *keys: key I was given. */
static bool assign(struct request *request, u32 *keys)
{
    char error[CONFIG_ERROR_SIZE];

    *keys = 0;
    for (u32 i = 2; i < request->words.count; i++) {
        if (config_partition_assign(&scratch, request->words.word[i], keys, error))
            continue;
        request_fail(request, "%s", error);
        return false;
    }
    return images_are_there(request);
}

static enum progress create(struct request *request)
{
    const char *name = request->words.word[1];
    char error[VM_ERROR_SIZE];
    u32 keys;

    if (!config_name_is_legal(name))
        return request_fail(request, "'%.*s' is not a name: letters, digits, - _ . (at most %u)",
                            CONFIG_NAME_SIZE, name, CONFIG_NAME_SIZE - 1);
    config_partition_defaults(&scratch, name);
    if (!assign(request, &keys))
        return COMMAND_DONE;
    request->vm = vm_create(&scratch, error);
    if (request->vm == NULL)
        return request_fail(request, "%s", error);
    if (!scratch.autostart)
        return request_answer(request, "created");
    return request_start(request, "created and started");
}

/* One that cannot be started is not kept. */
enum progress run_create(struct request *request)
{
    char error[VM_ERROR_SIZE];
    enum progress progress =
        request->step == 0 ? create(request) : request_start(request, "created and started");
    struct vm *vm = request->vm;

    if (progress == COMMAND_DONE && vm != NULL && vm->config.autostart && vm->starts == 0)
        vm_undefine(vm, error);
    return progress;
}

/* The keys of `keys` that a partition that is not stopped follows from its next start on. */
static void tell_of_later_ones(struct request *request, u32 keys)
{
    const char *name;

    output_open(&request->output, "at_next_start", '[');
    for (u32 i = 0; (name = config_partition_key(i)) != NULL; i++) {
        if (!(keys & BIT(i)) || config_key_at_once(i) || request->vm->state == VM_STOPPED)
            continue;
        output_member(&request->output, NULL, name);
        output_line(&request->output, "%s: from its next start on", name);
    }
    output_close(&request->output, '[');
}

enum progress run_set(struct request *request)
{
    struct vm *vm = request->vm;
    char error[VM_ERROR_SIZE];
    u32 keys;

    if (!vm_settled(vm))
        return COMMAND_WAITING;
    scratch = vm->config;
    if (!assign(request, &keys))
        return COMMAND_DONE;
    if (!vm_configure(vm, &scratch, error))
        return request_fail(request, "%s", error);
    request_begin(request, vm->config.name);
    output_line(&request->output, "'%s' changed", vm->config.name);
    tell_of_later_ones(request, keys);
    output_end(&request->output);
    return COMMAND_DONE;
}

enum progress run_undefine(struct request *request)
{
    const char *name = request->words.word[1];
    char error[VM_ERROR_SIZE];

    if (!vm_undefine(request->vm, error))
        return request_fail(request, "%s", error);
    request->vm = NULL;
    request_begin(request, name);
    output_line(&request->output, "'%s' undefined", name);
    output_end(&request->output);
    return COMMAND_DONE;
}

static void put(struct request *request, const char *text)
{
    output_text(&request->output, text, strlen(text), true);
}

static void put_setting(struct request *request, const char *key)
{
    const char *quote = config_value_is_plain(value) ? "" : "\"";
    char start[32];

    snprintf(start, sizeof(start), "%-11s = %s", key, quote);
    put(request, start);
    put(request, value);
    put(request, quote);
    put(request, "\r\n");
}

enum progress run_config(struct request *request)
{
    const struct vm *vm = request->vm;
    const char *key;

    if (request->step == 0) {
        request_begin(request, vm->config.name);
        output_line(&request->output, "[%s]", vm->config.name);
        output_open(&request->output, "config", '{');
        return COMMAND_MORE;
    }
    key = config_partition_key(request->step - 1);
    if (key == NULL) {
        output_close(&request->output, '{');
        output_end(&request->output);
        return COMMAND_DONE;
    }
    config_partition_get(&vm->config, request->step - 1, value);
    if (value[0] == '\0') /* no image, no command line */
        return COMMAND_MORE;
    output_member(&request->output, key, value);
    if (!request->output.json)
        put_setting(request, key);
    return COMMAND_MORE;
}
