/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MM_GUEST_MEMORY_H
#define BULKHEAD_MM_GUEST_MEMORY_H

/* A partition's memory: nested page tables for the hardware, and a window in a host address
 * space of its own for the hypervisor. */

#include "lib/guest_ram.h"
#include "mm/page_table.h"

struct guest_memory {
    struct page_table nested; /* EPT or NPT */
    struct page_table host;   /* the host's address space with this partition's window */
    struct guest_ram ram;     /* base is GUEST_WINDOW_BASE: valid while `host` is in CR3 */
    u64 size;
    u64 mapped; /* bytes of RAM that have frames, from offset 0 on */
    u64 zeroed; /* of which are cleared */
};

/* Prepares empty tables for `size` bytes (a multiple of 4 KiB). False when memory is short. Any
 * CPU. */
bool guest_memory_init(struct guest_memory *memory, u64 size,
                       const struct page_table_format *format, u32 large_sizes);

/* One bounded step: allocates, maps and zeroes the next piece. The caller has host.root in CR3.
 * Sets *done when all is there; false when memory is short. */
bool guest_memory_step(struct guest_memory *memory, bool *done);

/* One bounded step of clearing all RAM again, for a restart; *offset begins at 0. True when done.
 * The caller has host.root in CR3. */
bool guest_memory_rezero_step(struct guest_memory *memory, u64 *offset);

/* One bounded step of giving everything back; true when done. Serve the partition no more: CR3
 * must be another root on every CPU. */
bool guest_memory_free_step(struct guest_memory *memory);

/* Pages of the hypervisor's in both tables. */
u64 guest_memory_table_pages(const struct guest_memory *memory);

/* Tables with one page at `gpa`, in the hole of the RAM, that partitions may have in common as it
 * is no RAM: the APIC-access page (VT-x). False when memory is short. */
bool guest_hole_init(struct page_table *hole, const struct page_table_format *format, u64 gpa);

/* Gives the partition's hole what `hole` has in it; NULL: nothing, to be so before
 * guest_memory_free_step. False when memory is short, but never in a partition that has had a hole.
 * The caller flushes. */
bool guest_memory_share_hole(struct guest_memory *memory, struct page_table *hole);

/* Maps [physical, physical + size) read-only at IMAGE_WINDOW_BASE + physical in this partition's
 * host space, and takes all of them away again: the caller has host.root in CR3. */
const void *guest_memory_map_image(struct guest_memory *memory, paddr_t physical, u64 size);
void guest_memory_unmap_images(struct guest_memory *memory);

#endif
