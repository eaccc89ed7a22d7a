/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "mm/guest_memory.h"

#include "drivers/cpu.h"
#include "lib/string.h"
#include "mm/host_space.h"
#include "mm/pool.h"
#include "mm/pool_internal.h"

/* What one step zeroes, and how many pages or tables one step gives back: about 50,000
 * instructions each. */
#define ZERO_STEP  (256 * KIB)
#define FREE_STEP  64
#define TABLE_STEP 16

#define NESTED_RIGHTS (PAGE_READ | PAGE_WRITE | PAGE_EXECUTE | PAGE_USER)
#define WINDOW_RIGHTS (PAGE_READ | PAGE_WRITE)

static u32 window_slot(u64 base)
{
    return base >> 39 & 511;
}

/* Guest-physical address of the byte `offset` of the partition's RAM. */
static u64 gpa_of(const struct guest_memory *memory, u64 offset)
{
    return offset < memory->ram.low_size ? offset : GUEST_RAM_HIGH + offset - memory->ram.low_size;
}

/* Bytes from `offset` to the end of the RAM on this side of the hole. */
static u64 room_at(const struct guest_memory *memory, u64 offset)
{
    return (offset < memory->ram.low_size ? memory->ram.low_size : memory->size) - offset;
}

bool guest_memory_init(struct guest_memory *memory, u64 size,
                       const struct page_table_format *format, u32 large_sizes)
{
    *memory = (struct guest_memory){
        .size = size,
        .ram =
            {
                  .base = (u8 *)GUEST_WINDOW_BASE,
                  .low_size = MIN(size, GUEST_RAM_HOLE),
                  .high_size = size > GUEST_RAM_HOLE ? size - GUEST_RAM_HOLE : 0,
                  },
    };
    pool_page_table(&memory->nested, format, large_sizes);
    return page_table_init(&memory->nested) && host_space_clone(&memory->host);
}

static paddr_t alloc_frames(u64 size)
{
    if (size == HUGE_SIZE)
        return guest_huge_alloc();
    return size == CHUNK_SIZE ? guest_chunk_alloc() : guest_frame_alloc();
}

static void free_frames(paddr_t frames, u64 size)
{
    if (size == PAGE_SIZE)
        guest_frame_free(frames);
    else
        for (u64 at = 0; at < size; at += CHUNK_SIZE)
            guest_chunk_free(frames + at);
}

/* Maps `size` bytes of frames for the hardware and in the window; false when memory is short. */
static bool map_frames(struct guest_memory *memory, u64 gpa, u64 size)
{
    paddr_t frames = alloc_frames(size);

    if (!frames)
        return false;
    if (page_table_map(&memory->nested, gpa, frames, size, NESTED_RIGHTS) &&
        page_table_map(&memory->host, GUEST_WINDOW_BASE + gpa, frames, size, WINDOW_RIGHTS))
        return true;
    page_table_unmap(&memory->nested, gpa, size);
    free_frames(frames, size);
    return false;
}

/* Maps the largest page that fits next; smaller ones where memory has no such piece left. */
static bool map_next(struct guest_memory *memory)
{
    static const u64 sizes[] = {HUGE_SIZE, CHUNK_SIZE, PAGE_SIZE};
    u64 gpa = gpa_of(memory, memory->mapped);

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        u64 size = sizes[i];
        bool fits = IS_ALIGNED(gpa, size) && room_at(memory, memory->mapped) >= size;

        if (size == HUGE_SIZE && !(memory->nested.large_sizes & BIT(1)))
            continue;
        if (fits && map_frames(memory, gpa, size)) {
            memory->mapped += size;
            return true;
        }
    }
    return false;
}

bool guest_memory_step(struct guest_memory *memory, bool *done)
{
    *done = memory->zeroed == memory->size;
    if (*done)
        return true;
    if (memory->zeroed == memory->mapped && !map_next(memory))
        return false;
    u64 size = MIN(memory->mapped - memory->zeroed, ZERO_STEP);

    memset(memory->ram.base + gpa_of(memory, memory->zeroed), 0, size);
    memory->zeroed += size;
    return true;
}

bool guest_memory_rezero_step(struct guest_memory *memory, u64 *offset)
{
    u64 size = MIN(room_at(memory, *offset), ZERO_STEP);

    memset(memory->ram.base + gpa_of(memory, *offset), 0, size);
    *offset += size;
    return *offset == memory->size;
}

bool guest_memory_free_step(struct guest_memory *memory)
{
    for (int i = 0; i < FREE_STEP && memory->mapped > 0; i++) {
        /* From the end: `mapped` then always says what is left. */
        u64 gpa = gpa_of(memory, memory->mapped - PAGE_SIZE);
        struct page_translation leaf = page_table_lookup(&memory->nested, gpa);

        free_frames(ALIGN_DOWN(leaf.physical, leaf.page_size), leaf.page_size);
        memory->mapped -= leaf.page_size;
    }
    if (memory->mapped > 0)
        return false;
    if (memory->nested.root) {
        if (!page_table_clear(&memory->nested, 0, 511, TABLE_STEP))
            return false;
        page_table_destroy(&memory->nested);
    }
    if (memory->host.root) {
        u32 first = window_slot(GUEST_WINDOW_BASE), last = window_slot(IMAGE_WINDOW_BASE + TIB - 1);

        if (!page_table_clear(&memory->host, first, last, TABLE_STEP))
            return false;
        page_table_destroy(&memory->host);
    }
    return true;
}

u64 guest_memory_table_pages(const struct guest_memory *memory)
{
    return memory->nested.tables + memory->host.tables;
}

_Static_assert(GUEST_RAM_HOLE % GIB == 0 && GUEST_RAM_HIGH - GUEST_RAM_HOLE == GIB,
               "the hole is what page_table_share_gib shares");

bool guest_hole_init(struct page_table *hole, const struct page_table_format *format, u64 gpa)
{
    void *page = pool_alloc(1);

    pool_page_table(hole, format, 0);
    return page && page_table_init(hole) &&
           page_table_map(hole, gpa, pool_physical(page), PAGE_SIZE, PAGE_READ | PAGE_WRITE);
}

bool guest_memory_share_hole(struct guest_memory *memory, struct page_table *hole)
{
    return page_table_share_gib(&memory->nested, hole, GUEST_RAM_HOLE);
}

const void *guest_memory_map_image(struct guest_memory *memory, paddr_t physical, u64 size)
{
    paddr_t start = ALIGN_DOWN(physical, PAGE_SIZE);
    u64 length = ALIGN_UP(physical + size, PAGE_SIZE) - start;

    /* An image that is mapped already (two modules of one name) may stay as it is. */
    if (!page_table_lookup(&memory->host, IMAGE_WINDOW_BASE + start).entry &&
        !page_table_map(&memory->host, IMAGE_WINDOW_BASE + start, start, length, PAGE_READ))
        return NULL;
    return (const void *)(IMAGE_WINDOW_BASE + physical);
}

void guest_memory_unmap_images(struct guest_memory *memory)
{
    /* The CPU must not walk through tables that are freed, not even speculatively. */
    write_cr3(host_space_root());
    page_table_clear(&memory->host, window_slot(IMAGE_WINDOW_BASE),
                     window_slot(IMAGE_WINDOW_BASE + TIB - 1), UINT32_MAX);
    write_cr3(memory->host.root);
}
