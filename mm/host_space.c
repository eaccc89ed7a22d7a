/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "mm/host_space.h"

#include "drivers/cpu.h"
#include "lib/spinlock.h"
#include "lib/string.h"
#include "mm/pool_internal.h"
#include "mm/sections.h"

#define PAGE_NO_EXECUTE_BIT BIT(63)
#define PAGE_WRITE_BIT      BIT(1)

/* CPUID 80000001h:EDX, "1-GByte pages are available". */
#define CPUID_EXTENDED   0x80000001
#define CPUID_HUGE_PAGES BIT(26)

static struct {
    struct spinlock lock; /* covers the table outside the pool's slot, and the cursors */
    struct page_table table;
    u64 mmio_next;
    u64 stack_next;
} space = {.mmio_next = MMIO_BASE, .stack_next = STACK_BASE};

static u32 slot_of(u64 address)
{
    return address >> 39 & 511;
}

/* What every partition's address space has in common with the host's. */
static const struct {
    u64 base, size;
} shared[] = {
    {POOL_BASE,   PHYSICAL_MAX},
    {MMIO_BASE,   PHYSICAL_MAX},
    {STACK_BASE,  1           },
    {KERNEL_BASE, 1           },
};

static bool for_each_shared_slot(bool (*act)(struct page_table *table, u32 slot),
                                 struct page_table *table)
{
    for (size_t i = 0; i < ARRAY_SIZE(shared); i++)
        for (u32 slot = slot_of(shared[i].base);
             slot <= slot_of(shared[i].base + shared[i].size - 1); slot++)
            if (!act(table, slot))
                return false;
    return true;
}

static bool share_slot(struct page_table *table, u32 slot)
{
    page_table_share(table, &space.table, slot);
    return true;
}

static bool map_section(const char *start, const char *end, u32 rights)
{
    return page_table_map(&space.table, (u64)start, image_physical(start), end - start,
                          rights | PAGE_GLOBAL);
}

static bool map_image(void)
{
    return map_section(text_start, text_end, PAGE_READ | PAGE_EXECUTE) &&
           map_section(rodata_start, rodata_end, PAGE_READ) &&
           map_section(data_start, data_end, PAGE_READ | PAGE_WRITE);
}

/* The pool's slots are changed under the pool's lock alone. */
static bool map_chunk(paddr_t chunk, void *(*alloc)(void *context))
{
    struct page_table table = space.table;

    table.alloc = alloc;
    return page_table_map(&table, POOL_BASE + chunk, chunk, CHUNK_SIZE,
                          PAGE_READ | PAGE_WRITE | PAGE_GLOBAL);
}

bool host_space_init(const struct boot_info *info, char error[BOOT_ERROR_SIZE])
{
    bool huge = cpuid(CPUID_EXTENDED, 0).edx & CPUID_HUGE_PAGES;

    if (!pool_init(info, error))
        return false;
    pool_page_table(&space.table, &page_format_x86, huge ? 3 : 1);
    if (!page_table_init(&space.table) || !for_each_shared_slot(page_table_prepare, &space.table) ||
        !map_image() || !pool_map_with(map_chunk)) {
        snprintf(error, BOOT_ERROR_SIZE, "no memory for the hypervisor's page tables");
        return false;
    }
    write_cr3(space.table.root);
    return true;
}

paddr_t host_space_root(void)
{
    return space.table.root;
}

bool host_space_clone(struct page_table *table)
{
    pool_page_table(table, &page_format_x86, space.table.large_sizes);
    return page_table_init(table) && for_each_shared_slot(share_slot, table);
}

static u64 mapped_size(u64 address, u64 size)
{
    return ALIGN_UP((address & (PAGE_SIZE - 1)) + size, PAGE_SIZE);
}

void *mmio_map(paddr_t physical, u64 size, enum mmio_kind kind)
{
    u32 rights = kind == MMIO_UNCACHED ? PAGE_READ | PAGE_WRITE | PAGE_UNCACHED : PAGE_READ;
    u64 length, at;
    bool mapped;

    if (size == 0 || size > PHYSICAL_MAX || physical > BIT(52) - size)
        return NULL;
    length = mapped_size(physical, size);
    spin_lock(&space.lock);
    at = space.mmio_next;
    mapped = at + length <= MMIO_BASE + PHYSICAL_MAX &&
             page_table_map(&space.table, at, ALIGN_DOWN(physical, PAGE_SIZE), length,
                            rights | PAGE_GLOBAL);
    space.mmio_next += length + PAGE_SIZE;
    spin_unlock(&space.lock);
    return mapped ? (void *)(at + (physical & (PAGE_SIZE - 1))) : NULL;
}

void mmio_unmap(void *address, u64 size)
{
    u64 start = ALIGN_DOWN((u64)address, PAGE_SIZE);
    u64 length = mapped_size((u64)address, size);

    spin_lock(&space.lock);
    page_table_unmap(&space.table, start, length);
    spin_unlock(&space.lock);
    for (u64 at = start; at < start + length; at += PAGE_SIZE)
        invlpg((void *)at);
}

u8 *stack_alloc(void)
{
    u64 bottom;
    bool mapped = true;

    spin_lock(&space.lock);
    bottom = space.stack_next + PAGE_SIZE;
    space.stack_next = bottom + STACK_SIZE;
    for (u64 at = bottom; at < bottom + STACK_SIZE && mapped; at += PAGE_SIZE) {
        void *page = pool_alloc(1);

        mapped = page && page_table_map(&space.table, at, pool_physical(page), PAGE_SIZE,
                                        PAGE_READ | PAGE_WRITE | PAGE_GLOBAL);
    }
    spin_unlock(&space.lock);
    return mapped ? (u8 *)bottom + STACK_SIZE : NULL;
}

struct wx_check {
    u64 pages, bad;
};

static void check_leaf(void *context, u64 address, u64 entry, u64 size)
{
    struct wx_check *check = context;

    check->pages++;
    if ((entry & PAGE_WRITE_BIT) && !(entry & PAGE_NO_EXECUTE_BIT))
        check->bad++;
}

u64 host_space_check_wx(u64 *pages)
{
    struct wx_check check = {0};

    page_table_walk(&space.table, check_leaf, &check);
    *pages = check.pages;
    return check.bad;
}
