/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MM_HOST_SPACE_H
#define BULKHEAD_MM_HOST_SPACE_H

/* The host's own address space: the kernel image with W^X, the pool, device registers, stacks.
 * Each partition has a copy of its root with the partition's memory added. */

#include "boot/boot_info.h"
#include "mm/page_table.h"

/* Builds the final tables from the memory map and switches to them. Boot CPU, once. False with a
 * sentence in `error` when there is no memory for it. */
bool host_space_init(const struct boot_info *info, char error[BOOT_ERROR_SIZE]);

/* The root that serves nobody. */
paddr_t host_space_root(void);

/* A new address space that shares all of the host's: root and slots; NULL-initialised `table`.
 * False when memory is short. */
bool host_space_clone(struct page_table *table);

enum mmio_kind {
    MMIO_UNCACHED,
    MMIO_CACHED_READ_ONLY, /* firmware tables, boot modules */
};

/* Maps physical memory that is not the pool's, for the host alone, in every address space.
 * Returns its address, or NULL when memory is short or the range is beyond PHYSICAL_MAX. Mapping
 * the same page twice is allowed; it stays until it is unmapped as often. */
void *mmio_map(paddr_t physical, u64 size, enum mmio_kind kind);
void mmio_unmap(void *address, u64 size);

/* A stack of 16 KiB below the returned top, with unmapped pages on both sides; NULL when memory
 * is short. */
#define STACK_SIZE (16 * KIB)
u8 *stack_alloc(void);

/* Walks every leaf; returns how many are writable and executable at once, and their number. */
u64 host_space_check_wx(u64 *pages);

#endif
