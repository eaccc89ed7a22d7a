/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MM_POOL_H
#define BULKHEAD_MM_POOL_H

/* The hypervisor's own memory: pages of chunks that it owns, mapped at POOL_BASE + physical. All
 * functions may be called on any CPU; they take the allocator's lock for a short time. */

#include "boot/boot_info.h"
#include "mm/page.h"

/* Virtual layout of the host, by PML4 slot. */
#define POOL_BASE         0xFFFF800000000000ULL /* slot 256 */
#define MMIO_BASE         0xFFFF810000000000ULL /* slot 258: physical address added */
#define PHYSICAL_MAX      (1 * TIB)             /* what the pool and MMIO windows can name */
#define GUEST_WINDOW_BASE 0xFFFF900000000000ULL /* slot 288: the served partition's memory */
#define IMAGE_WINDOW_BASE 0xFFFFA00000000000ULL /* slot 320: boot modules, while being loaded */
#define STACK_BASE        0xFFFFB00000000000ULL /* slot 352: stacks with guard pages */
#define KERNEL_BASE       0xFFFFFFFF80000000ULL

struct memory_stats {
    u64 total, free, pool; /* bytes: usable RAM, free, chunks that the hypervisor owns */
    u64 pool_used;         /* of which handed out */
};

/* `pages` zeroed pages that are contiguous, virtually and physically (at most 512); NULL when
 * memory is short. */
void *pool_alloc(u64 pages);

/* The same, with what their last owner left in them. */
void *pool_alloc_dirty(u64 pages);

void pool_free(void *memory, u64 pages);

paddr_t pool_physical(const void *memory);
void *pool_virtual(paddr_t physical);

/* A partition's memory: not mapped anywhere, its content that of its last owner. 0 when short. */
paddr_t guest_chunk_alloc(void);
paddr_t guest_huge_alloc(void); /* 1 GiB */
paddr_t guest_frame_alloc(void);
void guest_chunk_free(paddr_t chunk);
void guest_frame_free(paddr_t frame);

struct memory_stats memory_stats(void);

#endif
