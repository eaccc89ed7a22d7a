/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Any memory as page tables. A little RAM, so that entries often point into it; the input fills
 * it and chooses registers and address. */

#include <stdlib.h>
#include <string.h>

#include "mm/guest_walk.h"
#include "mm/page.h"

#define RAM_SIZE    (16 * PAGE_SIZE)
#define COPY_SIZE   300
#define CR0_PG      BIT(31)
#define MAPPED_MASK (RAM_SIZE - 1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

struct input {
    struct guest_paging paging;
    u64 linear;
};

/* The input from its ninth byte on, again and again; entries are kept near RAM, as most of what
 * they may point to is none. */
static void fill(u8 *ram, const u8 *data, size_t size)
{
    for (size_t i = 0; i < RAM_SIZE; i++)
        ram[i] = data[i * 31 % size];
    for (size_t i = 0; i + 8 <= RAM_SIZE; i += 16) {
        u64 entry;

        memcpy(&entry, ram + i, 8);
        entry &= 0x80000000000000FF | (2 * RAM_SIZE - PAGE_SIZE);
        memcpy(ram + i, &entry, 8);
    }
}

static void read_input(struct input *input, const u8 *data)
{
    static const u64 linears[] = {0, 0xFFFFFFFF, 0xFFFF800000000000, UINT64_MAX};
    u8 flags = data[0];

    *input = (struct input){
        .paging =
            {
                     .cr0 = CR0_PG | (flags & 1 ? BIT(16) : 0),
                     .cr3 = data[1] * 64 & MAPPED_MASK,
                     .cr4 = (u64)data[2] << 4 | (flags & 2 ? BIT(12) : 0),
                     .efer = flags & 4 ? BIT(10) : 0,
                     .user = flags & 8,
                     },
        .linear = linears[flags >> 4 & 3],
    };
    for (int i = 3; i < 8; i++)
        input->linear ^= (u64)data[i] << (8 * i - 24);
}

/* More rights never map less, or elsewhere. */
static void check_rights(const struct guest_ram *ram, const struct input *input)
{
    struct guest_paging supervisor = input->paging;
    u64 read = 0, write = 0, any = 0;
    bool readable = guest_walk(ram, &input->paging, input->linear, false, &read);
    bool writable = guest_walk(ram, &input->paging, input->linear, true, &write);

    supervisor.user = false;
    require(!writable || (readable && read == write));
    require(!readable || (guest_walk(ram, &supervisor, input->linear, false, &any) && any == read));
    require(!readable || ((read ^ input->linear) & (PAGE_SIZE - 1)) == 0);
}

/* What is copied is what the walk says, byte by byte. */
static void check_copies(const struct guest_ram *ram, const struct input *input)
{
    u8 bytes[COPY_SIZE];
    size_t count = guest_read_linear(ram, &input->paging, input->linear, bytes, sizeof(bytes));
    u64 gpa;

    require(count <= sizeof(bytes));
    for (size_t i = 0; i < count; i++) {
        require(guest_walk(ram, &input->paging, input->linear + i, false, &gpa));
        require(gpa < RAM_SIZE && ram->base[gpa] == bytes[i]);
    }
    if (count < sizeof(bytes))
        require(!guest_walk(ram, &input->paging, input->linear + count, false, &gpa) ||
                gpa >= RAM_SIZE);
    require(guest_write_linear(ram, &input->paging, input->linear, bytes, count) <= count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct guest_ram ram = {.low_size = RAM_SIZE};
    struct input input;

    if (size < 16)
        return 0;
    ram.base = malloc(RAM_SIZE);
    fill(ram.base, data + 8, size - 8);
    read_input(&input, data);
    check_rights(&ram, &input);
    check_copies(&ram, &input);
    free(ram.base);
    return 0;
}
