/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* tenants.conf of any content: what comes out keeps the promises of core/config.h. */

#include <stdlib.h>
#include <string.h>

#include "core/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_host(void *context, const struct host_config *host)
{
    require(host->slice_ns >= 1000000 && host->slice_ns <= 10000000000);
}

static void check_modules(const struct partition_config *partition)
{
    const char *name = partition->modules;

    require(partition->module_count <= CONFIG_MODULES_MAX);
    for (u32 i = 0; i < partition->module_count; i++) {
        size_t length = strnlen(name, CONFIG_IMAGE_SIZE);

        require(length > 0 && length < CONFIG_IMAGE_SIZE);
        name += length + 1;
    }
    require(name <= partition->modules + CONFIG_MODULES_SIZE);
}

static void check_partition(void *context, const struct partition_config *partition, u32 line)
{
    size_t name = strnlen(partition->name, CONFIG_NAME_SIZE);
    size_t kernel = strnlen(partition->kernel, CONFIG_IMAGE_SIZE);

    require(name > 0 && name < CONFIG_NAME_SIZE && strcmp(partition->name, "host") != 0);
    require(kernel > 0 && kernel < CONFIG_IMAGE_SIZE);
    require(strnlen(partition->initrd, CONFIG_IMAGE_SIZE) < CONFIG_IMAGE_SIZE);
    require(strnlen(partition->cmdline, CONFIG_CMDLINE_SIZE) < CONFIG_CMDLINE_SIZE);
    require(partition->memory >= 64 * KIB && IS_ALIGNED(partition->memory, 4096));
    require(partition->vcpus >= 1 && partition->vcpus <= CONFIG_CPUS_MAX);
    require(partition->weight >= 1 && partition->on_crash <= ACTION_PRESERVE);
    require(partition->exit_port >= -1 && partition->exit_port <= 0xFFFF);
    require(line > 0);
    check_modules(partition);
}

static void check_error(void *context, u32 line, const char *message)
{
    u32 *errors = context;

    require(line > 0 && strlen(message) > 3);
    for (; *message != '\0'; message++)
        require((u8)*message >= ' ' && *message != 0x7F);
    ++*errors;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct partition_config scratch;
    u32 errors = 0;
    const struct config_reader reader = {
        .context = &errors,
        .host = check_host,
        .partition = check_partition,
        .error = check_error,
    };

    config_parse((const char *)data, size, &scratch, &reader);
    require(errors > 0 || memchr(data, 0, size) == NULL);
    return 0;
}
