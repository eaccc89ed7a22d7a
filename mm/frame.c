/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "mm/frame.h"

#include "lib/arith.h"
#include "lib/string.h"

static bool is_used(const struct chunk *chunk, u64 frame)
{
    return chunk->used[frame / 64] & BIT(frame % 64);
}

static void set_used(struct chunk *chunk, u64 frame, bool used)
{
    if (used)
        chunk->used[frame / 64] |= BIT(frame % 64);
    else
        chunk->used[frame / 64] &= ~BIT(frame % 64);
    chunk->free_count += used ? -1 : 1;
}

static u64 chunk_index(paddr_t address)
{
    return address / CHUNK_SIZE;
}

u64 frame_chunks_needed(const struct boot_info *info)
{
    paddr_t end = 0;

    for (u32 i = 0; i < info->region_count; i++) {
        const struct boot_region *region = &info->regions[i];

        if (region->type == REGION_USABLE)
            end = MAX(end, region->start + region->size);
    }
    return DIV_ROUND_UP(end, CHUNK_SIZE);
}

static void add_region(struct frame_allocator *frames, paddr_t start, paddr_t end)
{
    start = MAX(ALIGN_UP(start, PAGE_SIZE), PAGE_SIZE);
    end = ALIGN_DOWN(end, PAGE_SIZE);
    if (start >= end)
        return;
    frames->total_frames += (end - start) / PAGE_SIZE;
    for (paddr_t at = start; at < end;) {
        struct chunk *chunk = &frames->chunks[chunk_index(at)];

        if (IS_ALIGNED(at, CHUNK_SIZE) && end - at >= CHUNK_SIZE) {
            memset(chunk->used, 0, sizeof(chunk->used));
            chunk->free_count = PAGES_PER_CHUNK;
            at += CHUNK_SIZE;
        } else {
            set_used(chunk, at / PAGE_SIZE % PAGES_PER_CHUNK, false);
            at += PAGE_SIZE;
        }
    }
}

void frame_init(struct frame_allocator *frames, const struct boot_info *info, struct chunk *chunks)
{
    *frames = (struct frame_allocator){
        .chunks = chunks,
        .chunk_count = frame_chunks_needed(info),
    };
    for (u64 i = 0; i < frames->chunk_count; i++) {
        memset(&chunks[i], 0, sizeof(chunks[i]));
        memset(chunks[i].used, 0xFF, sizeof(chunks[i].used));
    }
    for (u32 i = 0; i < info->region_count; i++) {
        const struct boot_region *region = &info->regions[i];

        if (region->type == REGION_USABLE)
            add_region(frames, region->start, region->start + region->size);
    }
    for (u64 i = 0; i < frames->chunk_count; i++)
        if (chunks[i].free_count == PAGES_PER_CHUNK)
            chunks[i].owner = OWNER_FREE;
        else if (chunks[i].free_count > 0)
            chunks[i].owner = OWNER_GUEST_SPLIT;
    frames->free_frames = frames->total_frames;
}

void frame_reserve(struct frame_allocator *frames, paddr_t start, u64 size)
{
    paddr_t end = MIN(add_saturating(start, size), frames->chunk_count * CHUNK_SIZE);

    for (paddr_t at = ALIGN_DOWN(start, PAGE_SIZE); at < end; at += PAGE_SIZE) {
        struct chunk *chunk = &frames->chunks[chunk_index(at)];
        u64 frame = at / PAGE_SIZE % PAGES_PER_CHUNK;

        if (is_used(chunk, frame))
            continue;
        set_used(chunk, frame, true);
        chunk->owner = OWNER_GUEST_SPLIT;
        frames->free_frames--;
    }
}

void frame_claim(struct frame_allocator *frames, paddr_t at, u64 used)
{
    struct chunk *chunk = &frames->chunks[chunk_index(at)];
    u64 taken = MIN(DIV_ROUND_UP(used, PAGE_SIZE), PAGES_PER_CHUNK);

    chunk->owner = OWNER_POOL;
    for (u64 frame = 0; frame < taken; frame++)
        set_used(chunk, frame, true);
    frames->split_hint[OWNER_POOL] = MIN(frames->split_hint[OWNER_POOL], chunk_index(at));
    frames->free_frames -= taken;
    frames->pool_frames += PAGES_PER_CHUNK;
    frames->pool_free += PAGES_PER_CHUNK - taken;
}

static paddr_t take_chunk(struct frame_allocator *frames, u64 index, enum frame_owner owner)
{
    struct chunk *chunk = &frames->chunks[index];

    chunk->owner = owner;
    if (owner == OWNER_GUEST) {
        memset(chunk->used, 0xFF, sizeof(chunk->used));
        chunk->free_count = 0;
        frames->free_frames -= PAGES_PER_CHUNK;
    } else {
        frames->split_hint[owner] = MIN(frames->split_hint[owner], index);
    }
    return index * CHUNK_SIZE;
}

paddr_t frame_alloc_chunk(struct frame_allocator *frames, enum frame_owner owner, paddr_t limit)
{
    u64 end = MIN(frames->chunk_count, chunk_index(limit));

    for (u64 i = frames->chunk_hint; i < end; i++)
        if (frames->chunks[i].owner == OWNER_FREE) {
            frames->chunk_hint = i + 1;
            return take_chunk(frames, i, owner);
        }
    return 0;
}

static bool run_is_free(const struct frame_allocator *frames, u64 first, u64 count)
{
    for (u64 i = 0; i < count; i++)
        if (frames->chunks[first + i].owner != OWNER_FREE)
            return false;
    return true;
}

paddr_t frame_alloc_run(struct frame_allocator *frames, u64 count)
{
    for (u64 first = ALIGN_DOWN(frames->chunk_hint, count); first + count <= frames->chunk_count;
         first += count) {
        if (!run_is_free(frames, first, count))
            continue;
        for (u64 i = 0; i < count; i++)
            take_chunk(frames, first + i, OWNER_GUEST);
        return first * CHUNK_SIZE;
    }
    return 0;
}

static void release_chunk(struct frame_allocator *frames, u64 index)
{
    frames->chunks[index].owner = OWNER_FREE;
    frames->chunk_hint = MIN(frames->chunk_hint, index);
}

void frame_free_chunk(struct frame_allocator *frames, paddr_t at)
{
    struct chunk *chunk = &frames->chunks[chunk_index(at)];

    memset(chunk->used, 0, sizeof(chunk->used));
    chunk->free_count = PAGES_PER_CHUNK;
    frames->free_frames += PAGES_PER_CHUNK;
    release_chunk(frames, chunk_index(at));
}

/* The first of `count` free frames in a row, or PAGES_PER_CHUNK. */
static u64 find_frames(const struct chunk *chunk, u64 count)
{
    u64 run = 0;

    for (u64 frame = 0; frame < PAGES_PER_CHUNK; frame++) {
        u64 free = ~chunk->used[frame / 64] >> frame % 64; /* from this one on */

        if (!(free & 1)) {
            frame = free ? frame + (u64)__builtin_ctzll(free) : frame | 63;
            run = 0;
        }
        if (free && ++run == count)
            return frame + 1 - count;
    }
    return PAGES_PER_CHUNK;
}

static paddr_t take_frames(struct frame_allocator *frames, u64 index, u64 count)
{
    struct chunk *chunk = &frames->chunks[index];
    u64 first = find_frames(chunk, count);

    if (first == PAGES_PER_CHUNK)
        return 0;
    for (u64 i = 0; i < count; i++)
        set_used(chunk, first + i, true);
    frames->free_frames -= count;
    if (chunk->owner == OWNER_POOL)
        frames->pool_free -= count;
    return index * CHUNK_SIZE + first * PAGE_SIZE;
}

paddr_t frame_alloc(struct frame_allocator *frames, enum frame_owner owner, u64 count)
{
    bool skipped = false;

    for (u64 i = frames->split_hint[owner]; i < frames->chunk_count; i++) {
        paddr_t frame;

        if (frames->chunks[i].owner != owner || frames->chunks[i].free_count == 0)
            continue;
        if (!skipped)
            frames->split_hint[owner] = i;
        skipped = true;
        frame = take_frames(frames, i, count);
        if (frame)
            return frame;
    }
    if (owner != OWNER_GUEST_SPLIT || count > PAGES_PER_CHUNK ||
        !frame_alloc_chunk(frames, owner, UINT64_MAX))
        return 0;
    return frame_alloc(frames, owner, count);
}

void frame_free(struct frame_allocator *frames, paddr_t frame, u64 count)
{
    u64 index = chunk_index(frame);
    struct chunk *chunk = &frames->chunks[index];

    for (u64 i = 0; i < count; i++)
        set_used(chunk, frame / PAGE_SIZE % PAGES_PER_CHUNK + i, false);
    frames->free_frames += count;
    if (chunk->owner == OWNER_POOL)
        frames->pool_free += count;
    if (chunk->owner == OWNER_GUEST_SPLIT && chunk->free_count == PAGES_PER_CHUNK)
        release_chunk(frames, index);
    else
        frames->split_hint[chunk->owner] = MIN(frames->split_hint[chunk->owner], index);
}

enum frame_owner frame_owner_of(const struct frame_allocator *frames, paddr_t address)
{
    u64 index = chunk_index(address);

    return index < frames->chunk_count ? frames->chunks[index].owner : OWNER_NONE;
}
