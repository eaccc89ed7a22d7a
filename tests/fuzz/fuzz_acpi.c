/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/acpi.h"

/* The input is physical memory from 0 on and begins with the RSDP. */
struct input {
    const uint8_t *data;
    size_t size;
    size_t mappings;
    uint64_t bytes;
};

/* A root table may name one large table many times: bounds the work, as a machine would not. */
#define BYTES_MAX (4 * 1024 * 1024)
#define CPUS      8

/* The parser counts on checksums; most inputs have none, so each mapped table gets one. */
static const void *map(void *context, paddr_t physical, u64 size)
{
    struct input *input = context;
    uint8_t *copy, sum = 0;

    if (physical > input->size || size > input->size - physical || input->bytes + size > BYTES_MAX)
        return NULL;
    copy = malloc(size);
    memcpy(copy, input->data + physical, size);
    if (size > 36) {
        for (u64 i = 0; i < size; i++)
            sum += copy[i];
        copy[9] = (uint8_t)(copy[9] - sum);
    }
    input->mappings++;
    input->bytes += size;
    return copy;
}

static void unmap(void *context, const void *memory, u64 size)
{
    struct input *input = context;

    input->mappings--;
    free((void *)(uintptr_t)memory);
}

static void warning(void *context, const char *sentence)
{
    if (strncmp(sentence, "ACPI: ", 6) != 0)
        abort();
}

static void fix_rsdp(uint8_t rsdp[36])
{
    uint8_t sum = 0;

    memcpy(rsdp, "RSD PTR ", 8);
    for (int i = 0; i < 20; i++)
        sum += rsdp[i];
    rsdp[8] = (uint8_t)(rsdp[8] - sum);
    sum = 0;
    for (int i = 0; i < 36; i++)
        sum += rsdp[i];
    rsdp[32] = (uint8_t)(rsdp[32] - sum);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size, 0, 0};
    const struct acpi_access access = {map, unmap, warning, &input};
    struct acpi_cpu cpus[CPUS];
    static struct acpi_info info;
    uint8_t rsdp[36] = {0};

    memcpy(rsdp, data, size < sizeof(rsdp) ? size : sizeof(rsdp));
    fix_rsdp(rsdp);
    acpi_parse(&access, rsdp, size % 2 == 0 ? 36 : 20, cpus, CPUS, &info);
    if (input.mappings != 0 || info.ioapic_count > ACPI_IOAPICS_MAX ||
        (info.s5_known && (info.s5_type_a > 7 || info.s5_type_b > 7)))
        abort();
    return 0;
}
