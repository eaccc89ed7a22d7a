/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MM_GUEST_WALK_H
#define BULKHEAD_MM_GUEST_WALK_H

/* Guest-linear to guest-physical, by the guest's own page tables (SDM volume 3, chapter "Paging").
 * Pure. Accessed and dirty flags are not set: the instruction that made the walk necessary has
 * been through the hardware's walk already, or is only looked at. */

#include "lib/guest_ram.h"
#include "mm/page.h"

#define GUEST_CODE_LEVELS  4
#define GUEST_CODE_NOWHERE BIT(62) /* no code is near it, as it is not canonical */

struct guest_paging {
    u64 cr0, cr3, cr4, efer;
    bool user; /* at privilege level 3 */
};

/* False when the address is not mapped or not canonical, a table lies outside RAM, or the mapping
 * does not allow a read, or with `write` a write, at this privilege level. Execution rights, SMAP
 * and protection keys are not looked at, nor are reserved bits. Without paging every address below
 * 4 GiB is its own. */
bool guest_walk(const struct guest_ram *ram, const struct guest_paging *paging, u64 linear,
                bool write, u64 *gpa);

/* The page of code that was found last, and the entries of the guest's tables that led there. */
struct guest_code {
    u64 linear;     /* of the page, or GUEST_CODE_NOWHERE */
    u64 cr3;        /* of a walk in long mode with four levels */
    const u8 *page; /* the host's address of it */
    struct {
        const volatile u64 *at;
        u64 value;
    } entries[GUEST_CODE_LEVELS]; /* of a large page the last one fills up */
};

/* Where the host finds the `size` bytes of code at `linear`, in long mode with four levels. Asks no
 * rights: for what the CPU has just fetched. NULL: not mapped, no RAM, or on two pages. What was
 * found stays in *code as long as RAM is where it is. */
const void *guest_code_find(struct guest_code *code, const struct guest_ram *ram, u64 cr3,
                            u64 linear, size_t size);

/* The same, without a walk where all the entries of the last one are what they were. */
static inline const void *guest_code_at(struct guest_code *code, const struct guest_ram *ram,
                                        u64 cr3, u64 linear, size_t size)
{
    u64 offset = linear - code->linear, changed = 0;

    if (offset > PAGE_SIZE - size || cr3 != code->cr3)
        return guest_code_find(code, ram, cr3, linear, size);
#pragma GCC unroll 4
    for (u32 i = 0; i < GUEST_CODE_LEVELS; i++)
        changed |= *code->entries[i].at ^ code->entries[i].value;
    return changed ? guest_code_find(code, ram, cr3, linear, size) : code->page + offset;
}

/* Copies to and from guest-linear memory, page by page; how many bytes went before the first that
 * is not mapped or no RAM. */
size_t guest_read_linear(const struct guest_ram *ram, const struct guest_paging *paging, u64 linear,
                         void *to, size_t size);
size_t guest_write_linear(const struct guest_ram *ram, const struct guest_paging *paging,
                          u64 linear, const void *from, size_t size);

#endif
