/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "mm/pool.h"

#include "lib/arith.h"
#include "lib/spinlock.h"
#include "lib/string.h"
#include "mm/pool_internal.h"
#include "mm/sections.h"

#define LOW_MEMORY 0x100000ULL

/* Pages that stay free for the tables that map the pool's next chunk. */
#define POOL_RESERVE 4

static struct {
    struct spinlock lock; /* covers frames */
    struct frame_allocator frames;
    pool_chunk_mapper *map; /* NULL until the final tables are there */
    bool growing;
} pool;

static bool overlaps(paddr_t a, u64 a_size, paddr_t b, u64 b_size)
{
    return a < b + b_size && b < a + a_size;
}

static bool is_taken(const struct boot_info *info, paddr_t start, u64 size)
{
    paddr_t image = (paddr_t)image_start;

    if (overlaps(start, size, image, (paddr_t)image_end - image))
        return true;
    for (u32 i = 0; i < info->module_count; i++)
        if (overlaps(start, size, info->modules[i].start, info->modules[i].size))
            return true;
    return false;
}

/* Whole chunks of usable memory below 4 GiB, where the boot tables reach; 0 when there are none. */
static paddr_t find_first_chunks(const struct boot_info *info, u64 size)
{
    for (u32 i = 0; i < info->region_count; i++) {
        const struct boot_region *region = &info->regions[i];
        paddr_t end = MIN(region->start + region->size, 4 * GIB);

        if (region->type != REGION_USABLE)
            continue;
        for (paddr_t at = MAX(ALIGN_UP(region->start, CHUNK_SIZE), CHUNK_SIZE); at + size <= end;
             at += CHUNK_SIZE)
            if (!is_taken(info, at, size))
                return at;
    }
    return 0;
}

static void reserve_taken(const struct boot_info *info)
{
    paddr_t image = (paddr_t)image_start;

    frame_reserve(&pool.frames, 0, LOW_MEMORY);
    frame_reserve(&pool.frames, image, (paddr_t)image_end - image);
    for (u32 i = 0; i < info->module_count; i++)
        frame_reserve(&pool.frames, info->modules[i].start, info->modules[i].size);
}

bool pool_init(const struct boot_info *info, char error[BOOT_ERROR_SIZE])
{
    u64 used = frame_chunks_needed(info) * sizeof(struct chunk);
    u64 size = ALIGN_UP(used + POOL_RESERVE * PAGE_SIZE, CHUNK_SIZE);
    paddr_t first = find_first_chunks(info, size);

    if (!first) {
        snprintf(error, BOOT_ERROR_SIZE, "no memory: %llu MiB in one piece below 4 GiB are needed",
                 (unsigned long long)(size / MIB));
        return false;
    }
    frame_init(&pool.frames, info, pool_virtual(first));
    reserve_taken(info);
    for (u64 at = 0; at < size; at += CHUNK_SIZE)
        frame_claim(&pool.frames, first + at, used > at ? used - at : 0);
    return true;
}

static void *table_alloc(void *context)
{
    return pool_alloc(1);
}

bool pool_map_with(pool_chunk_mapper *map)
{
    for (u64 i = 0; i < pool.frames.chunk_count; i++)
        if (pool.frames.chunks[i].owner == OWNER_POOL && !map(i * CHUNK_SIZE, table_alloc))
            return false;
    pool.map = map;
    return true;
}

static void *pool_alloc_locked(u64 pages);

static void *table_alloc_locked(void *context)
{
    void *table = pool_alloc_locked(1);

    if (table)
        memset(table, 0, PAGE_SIZE);
    return table;
}

/* Takes one more chunk. It is mapped first, from the reserve: nothing may be taken from it
 * before. */
static bool pool_grow(void)
{
    paddr_t chunk = frame_alloc_chunk(&pool.frames, OWNER_GUEST, PHYSICAL_MAX);
    bool mapped;

    if (!chunk)
        return false;
    pool.growing = true;
    mapped = pool.map(chunk, table_alloc_locked);
    pool.growing = false;
    frame_free_chunk(&pool.frames, chunk);
    if (mapped)
        frame_claim(&pool.frames, chunk, 0);
    return mapped;
}

static void *pool_alloc_locked(u64 pages)
{
    paddr_t frame = 0;

    if (pool.growing || !pool.map || pool.frames.pool_free >= pages + POOL_RESERVE)
        frame = frame_alloc(&pool.frames, OWNER_POOL, pages);
    if (!frame && pool.map && !pool.growing && pool_grow())
        frame = frame_alloc(&pool.frames, OWNER_POOL, pages);
    return frame ? pool_virtual(frame) : NULL;
}

void *pool_alloc_dirty(u64 pages)
{
    void *memory;

    if (pages == 0 || pages > PAGES_PER_CHUNK)
        return NULL;
    spin_lock(&pool.lock);
    memory = pool_alloc_locked(pages);
    spin_unlock(&pool.lock);
    return memory;
}

void *pool_alloc(u64 pages)
{
    void *memory = pool_alloc_dirty(pages);

    if (memory)
        memset(memory, 0, pages * PAGE_SIZE);
    return memory;
}

void pool_free(void *memory, u64 pages)
{
    if (!memory)
        return;
    spin_lock(&pool.lock);
    frame_free(&pool.frames, pool_physical(memory), pages);
    spin_unlock(&pool.lock);
}

paddr_t pool_physical(const void *memory)
{
    return (u64)memory - POOL_BASE;
}

void *pool_virtual(paddr_t physical)
{
    return (void *)(POOL_BASE + physical);
}

paddr_t guest_chunk_alloc(void)
{
    paddr_t chunk;

    spin_lock(&pool.lock);
    chunk = frame_alloc_chunk(&pool.frames, OWNER_GUEST, UINT64_MAX);
    spin_unlock(&pool.lock);
    return chunk;
}

paddr_t guest_huge_alloc(void)
{
    paddr_t huge;

    spin_lock(&pool.lock);
    huge = frame_alloc_run(&pool.frames, HUGE_SIZE / CHUNK_SIZE);
    spin_unlock(&pool.lock);
    return huge;
}

paddr_t guest_frame_alloc(void)
{
    paddr_t frame;

    spin_lock(&pool.lock);
    frame = frame_alloc(&pool.frames, OWNER_GUEST_SPLIT, 1);
    spin_unlock(&pool.lock);
    return frame;
}

void guest_chunk_free(paddr_t chunk)
{
    spin_lock(&pool.lock);
    frame_free_chunk(&pool.frames, chunk);
    spin_unlock(&pool.lock);
}

void guest_frame_free(paddr_t frame)
{
    spin_lock(&pool.lock);
    frame_free(&pool.frames, frame, 1);
    spin_unlock(&pool.lock);
}

struct memory_stats memory_stats(void)
{
    struct memory_stats stats;

    spin_lock(&pool.lock);
    stats = (struct memory_stats){
        .total = pool.frames.total_frames * PAGE_SIZE,
        .free = pool.frames.free_frames * PAGE_SIZE,
        .pool = pool.frames.pool_frames * PAGE_SIZE,
        .pool_used = (pool.frames.pool_frames - pool.frames.pool_free) * PAGE_SIZE,
    };
    spin_unlock(&pool.lock);
    return stats;
}

static void table_free(void *context, void *table)
{
    pool_free(table, 1);
}

static u64 *table_access(void *context, paddr_t table)
{
    return pool_virtual(table);
}

static paddr_t table_physical(void *context, const void *table)
{
    return pool_physical(table);
}

void pool_page_table(struct page_table *table, const struct page_table_format *format,
                     u32 large_sizes)
{
    *table = (struct page_table){
        .format = format,
        .large_sizes = large_sizes,
        .alloc = table_alloc,
        .free = table_free,
        .access = table_access,
        .physical = table_physical,
    };
}
