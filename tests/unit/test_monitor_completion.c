/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/host.h"
#include "monitor/command.h"
#include "monitor/completion.c"

/* Its own small world: three commands, two partitions, two images. */

static const struct command table[] = {
    {.name = "create",                 .completion = COMPLETE_NEW},
    {.name = "set",                                .completion = COMPLETE_SETTINGS},
    {.name = "list"},
};
static struct vm vms[2] = {{.config.name = "web"}, {.config.name = "db"}};

struct host host;

const struct command *command_next(const struct command *command)
{
    const struct command *next = command == NULL ? table : command + 1;

    return next < table + ARRAY_SIZE(table) ? next : NULL;
}

const struct command *command_find(const char *name)
{
    for (u32 i = 0; i < ARRAY_SIZE(table); i++) {
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    }
    return NULL;
}

struct vm *vm_next(const struct vm *vm)
{
    return vm == NULL ? &vms[0] : vm == &vms[0] ? &vms[1] : NULL;
}

/* All candidates for the last word of the line that begin with it, in one string. */
static const char *candidates(const char *line)
{
    static char all[1024];
    const char *space = strrchr(line, ' ');
    size_t word = space != NULL ? (size_t)(space + 1 - line) : 0;
    const void *cursor = NULL;
    const char *candidate;

    all[0] = '\0';
    while ((candidate = completion_candidate(NULL, line, word, &cursor)) != NULL) {
        if (strncmp(candidate, line + word, strlen(line + word)) == 0) {
            strcat(all, candidate);
            strcat(all, " ");
        }
    }
    return all;
}

static int setup(void **state)
{
    memset(&host, 0, sizeof(host));
    strcpy(host.boot.modules[0].name, "vmlinuz");
    strcpy(host.boot.modules[1].name, "web.cpio.gz");
    host.boot.module_count = 2;
    return 0;
}

static void test_commands_and_partitions(void **state)
{
    assert_string_equal(candidates(""), "create set list ");
    assert_string_equal(candidates("  s"), "set ");
    assert_string_equal(candidates("set "), "web db ");
    assert_string_equal(candidates("set  d"), "db ");
    assert_string_equal(candidates("create "), "");
    assert_string_equal(candidates("list "), "");
    assert_string_equal(candidates("unknown "), "");
}

static void test_keys_and_images(void **state)
{
    assert_string_equal(candidates("set web mem"), "memory= ");
    assert_string_equal(candidates("create new vcpus=2 cpu"), "cpus= ");
    assert_string_equal(candidates("create new kernel="), "kernel=vmlinuz kernel=web.cpio.gz ");
    assert_string_equal(candidates("set web initrd=w"), "initrd=web.cpio.gz ");
    assert_string_equal(candidates("set web modules=vmlinuz,w"), "modules=vmlinuz,web.cpio.gz ");
    assert_string_equal(candidates("set web memory=2"), "");
    host.boot.module_count = 0;
    assert_string_equal(candidates("set web kernel="), "");
}

static void test_options_count_for_no_argument(void **state)
{
    assert_string_equal(candidates("list -"), "-o ");
    assert_string_equal(candidates("list -o "), "json ");
    assert_string_equal(candidates("set -o json w"), "web ");
    assert_string_equal(candidates("set -o json web weig"), "weight= ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_commands_and_partitions, setup),
        cmocka_unit_test_setup(test_keys_and_images, setup),
        cmocka_unit_test_setup(test_options_count_for_no_argument, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
