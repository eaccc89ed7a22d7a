/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MM_FRAME_H
#define BULKHEAD_MM_FRAME_H

/* Physical memory, in chunks of 2 MiB that have one owner each: free, the hypervisor's pool, or
 * partitions. A chunk may be split into 4 KiB frames among its owner kind, so that a
 * partition's frame never lies in a chunk that the hypervisor maps. Pure: it only keeps the
 * books, in a table that the caller provides. Not locked: mm/pool.h serialises. */

#include "boot/boot_info.h"
#include "mm/page.h"

enum frame_owner {
    OWNER_NONE,        /* not RAM, or reserved: the table's zero */
    OWNER_FREE,        /* whole chunk free */
    OWNER_POOL,        /* the hypervisor's, mapped in its pool */
    OWNER_GUEST,       /* a partition's whole chunk */
    OWNER_GUEST_SPLIT, /* 4 KiB frames of partitions */
};

struct chunk {
    u64 used[PAGES_PER_CHUNK / 64]; /* bit N: frame N is taken, reserved or no RAM */
    u16 free_count;                 /* clear bits in `used` */
    u8 owner;                       /* enum frame_owner */
    u8 reserved[5];
};

struct frame_allocator {
    struct chunk *chunks; /* chunk_count of them, for physical addresses from 0 */
    u64 chunk_count;
    u64 total_frames;                      /* 4 KiB frames of usable RAM */
    u64 free_frames;                       /* that nobody has, wherever they lie */
    u64 pool_frames;                       /* in the pool's chunks, taken or not */
    u64 pool_free;                         /* of which not taken */
    u64 chunk_hint;                        /* below it no chunk is free */
    u64 split_hint[OWNER_GUEST_SPLIT + 1]; /* below it no chunk of that owner has a free frame */
};

/* Chunks up to the end of the last usable region. */
u64 frame_chunks_needed(const struct boot_info *info);

/* Takes all usable regions of `info`; `chunks` has frame_chunks_needed() elements and is
 * cleared here. Frames that usable regions cover only in part are left out, and so is frame 0. */
void frame_init(struct frame_allocator *frames, const struct boot_info *info, struct chunk *chunks);

/* Takes [start, start + size) out, rounded outwards to frames. Before any allocation. */
void frame_reserve(struct frame_allocator *frames, paddr_t start, u64 size);

/* Makes a wholly free chunk the pool's, its first `used` bytes taken: the first memory, in which
 * the table itself lies, and each chunk that is mapped for the pool later. */
void frame_claim(struct frame_allocator *frames, paddr_t chunk, u64 used);

/* A 2 MiB chunk below `limit`, whole (OWNER_GUEST) or to be split (OWNER_GUEST_SPLIT); 0 when
 * there is none. */
paddr_t frame_alloc_chunk(struct frame_allocator *frames, enum frame_owner owner, paddr_t limit);

/* `count` (a power of two, at most 512) 2 MiB chunks that lie one behind the other, aligned to
 * their size: a 1 GiB page. 0 when there are none. */
paddr_t frame_alloc_run(struct frame_allocator *frames, u64 count);
void frame_free_chunk(struct frame_allocator *frames, paddr_t chunk);

/* `count` contiguous frames inside one split chunk of `owner` (pool or guest split); 0 when no
 * such chunk has room. A free chunk is split for guests when none has; the pool's chunks are
 * added by frame_claim. */
paddr_t frame_alloc(struct frame_allocator *frames, enum frame_owner owner, u64 count);
/* A chunk that becomes wholly free is free again, unless it is the pool's. */
void frame_free(struct frame_allocator *frames, paddr_t frame, u64 count);

enum frame_owner frame_owner_of(const struct frame_allocator *frames, paddr_t address);

#endif
