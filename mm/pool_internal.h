/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MM_POOL_INTERNAL_H
#define BULKHEAD_MM_POOL_INTERNAL_H

/* Between pool.c and host_space.c only. */

#include "mm/frame.h"
#include "mm/page_table.h"

/* Finds the first chunks for the frame table and the first page tables, and fills the table. To
 * be called while the boot tables map the first 4 GiB at POOL_BASE. */
bool pool_init(const struct boot_info *info, char error[BOOT_ERROR_SIZE]);

/* Maps one of the pool's chunks, with `alloc` for the tables that takes: it may be called with the
 * pool's lock held. False when memory is short. */
typedef bool pool_chunk_mapper(paddr_t chunk, void *(*alloc)(void *context));

/* Calls `map` for each chunk that the pool has, and for each that it takes from now on. */
bool pool_map_with(pool_chunk_mapper *map);

/* A page table whose memory comes from the pool. */
void pool_page_table(struct page_table *table, const struct page_table_format *format,
                     u32 large_sizes);

#endif
