/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MM_PAGE_TABLE_H
#define BULKHEAD_MM_PAGE_TABLE_H

/* The one builder of four-level page tables: the host's, EPT and NPT are the same radix tree with
 * other bits. It writes every entry once and in an order that leaves no moment with a wrong
 * translation: a table is filled before the entry that points to it. Pure: memory comes from
 * callbacks. */

#include "lib/types.h"
#include "mm/page.h"

enum page_rights {
    PAGE_READ = 1 << 0,
    PAGE_WRITE = 1 << 1,
    PAGE_EXECUTE = 1 << 2,
    PAGE_USER = 1 << 3, /* NPT walks as user accesses; EPT has no such bit */
    PAGE_UNCACHED = 1 << 4,
    PAGE_GLOBAL = 1 << 5,
};

struct page_table_format {
    u64 table;               /* bits of an entry that points to a table */
    u64 large;               /* bit of an entry above the last level that maps a page */
    u64 present;             /* an entry with none of these bits is empty */
    u64 (*leaf)(u32 rights); /* bits of a leaf for these rights */
};

/* SDM volume 3, "4-Level Paging" (the host's tables; AMD's nested tables are the same, APM
 * volume 2, "Nested Paging") and "EPT Translation Mechanism". */
extern const struct page_table_format page_format_x86;
extern const struct page_table_format page_format_ept;

struct page_table {
    const struct page_table_format *format;
    paddr_t root;
    u64 tables;                    /* pages in use, the root's included */
    u32 large_sizes;               /* bit 0: 2 MiB pages may be used, bit 1: 1 GiB pages */
    void *(*alloc)(void *context); /* a zeroed page, or NULL */
    void (*free)(void *context, void *table);
    u64 *(*access)(void *context, paddr_t table); /* the host's address of a table */
    paddr_t (*physical)(void *context, const void *table);
    void *context;
};

/* Allocates the root; false when memory is short. The caller has set all but root and tables. */
bool page_table_init(struct page_table *table);

/* Maps [address, address + size) to `physical` onwards, in the largest pages that alignment and
 * large_sizes allow. All multiples of 4 KiB. False, with what was mapped left in place, when
 * memory is short, something is mapped there already, `address` is not canonical or the range
 * leaves its 48 bits, or `physical` the 52 that an entry has. */
bool page_table_map(struct page_table *table, u64 address, paddr_t physical, u64 size, u32 rights);

/* Unmaps it; holes are no error. A large page that the range covers only in part is split first,
 * with its rights. Tables that become empty stay. False when a split found no memory. The caller
 * flushes. */
bool page_table_unmap(struct page_table *table, u64 address, u64 size);

/* The physical address and rights-carrying entry that `address` maps to; 0 when it does not. */
struct page_translation {
    u64 entry; /* the leaf as it stands, 0: none */
    paddr_t physical;
    u64 page_size;
};
struct page_translation page_table_lookup(const struct page_table *table, u64 address);

/* Makes sure that the root's entry for `slot` points to a table, so that it can be shared before
 * anything is mapped there. False when memory is short. */
bool page_table_prepare(struct page_table *table, u32 slot);

/* Copies the root's entry for `slot` (0..511) from another table: the two share what is below. */
void page_table_share(struct page_table *table, const struct page_table *from, u32 slot);

/* Gives the GiB at `address` what `from` has there, so that the two share what is below; nothing
 * where it is NULL, which is to be before page_table_clear comes. No part of the GiB is mapped
 * otherwise. False when memory is short. The caller flushes. */
bool page_table_share_gib(struct page_table *table, struct page_table *from, u64 address);

/* Frees the tables below the root's slots [first, last] and clears those; the pages they mapped
 * are the caller's. `step` bounds the work: at most that many tables are freed; true when done.
 * No CPU may have the root in CR3, or it must not walk there before it has flushed. */
bool page_table_clear(struct page_table *table, u32 first, u32 last, u32 step);

/* Frees the root. */
void page_table_destroy(struct page_table *table);

/* Calls `visit` for every leaf, in ascending order. */
void page_table_walk(const struct page_table *table,
                     void (*visit)(void *context, u64 address, u64 entry, u64 size), void *context);

#endif
