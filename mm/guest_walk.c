/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "mm/guest_walk.h"

#include "lib/string.h"

enum paging_bits {
    CR0_WP = 1 << 16,
    CR4_PSE = 1 << 4,
    CR4_PAE = 1 << 5,
    CR4_LA57 = 1 << 12,
    ENTRY_PRESENT = 1 << 0,
    ENTRY_WRITE = 1 << 1,
    ENTRY_USER = 1 << 2,
    ENTRY_LARGE = 1 << 7,
};
#define CR0_PG        BIT(31)
#define EFER_LMA      BIT(10)
#define ADDRESS_MASK  0x000FFFFFFFFFF000ULL
#define LEGACY_MASK   0xFFFFF000ULL
#define PAE_ROOT_MASK 0xFFFFFFE0ULL

/* Four levels of long mode: bits of an index, and the lowest of the first one. */
#define LONG_MODE_INDEX 9
#define LONG_MODE_TOP   39

/* How deep the tree is, how many address bits a level takes, how wide an entry is. */
struct shape {
    int levels;
    unsigned index_bits;
    unsigned entry_size;
    u64 root;
};

static struct shape shape_of(const struct guest_paging *paging)
{
    if (paging->efer & EFER_LMA)
        return (struct shape){paging->cr4 & CR4_LA57 ? 5 : 4, 9, 8, paging->cr3 & ADDRESS_MASK};
    if (paging->cr4 & CR4_PAE)
        return (struct shape){3, 9, 8, paging->cr3 & PAE_ROOT_MASK};
    return (struct shape){2, 10, 4, paging->cr3 & LEGACY_MASK};
}

/* In 64-bit mode all bits above those that the tables translate are the same. */
static bool is_canonical(const struct guest_paging *paging, const struct shape *shape, u64 linear)
{
    unsigned unused = 64 - PAGE_SHIFT - shape->index_bits * shape->levels;

    return !(paging->efer & EFER_LMA) || (u64)((s64)(linear << unused) >> unused) == linear;
}

static bool is_allowed(const struct guest_paging *paging, u64 entry, bool write)
{
    if (paging->user && !(entry & ENTRY_USER))
        return false;
    return !write || (entry & ENTRY_WRITE) || !(paging->user || (paging->cr0 & CR0_WP));
}

static bool read_entry(const struct guest_ram *ram, u64 gpa, unsigned size, u64 *entry)
{
    const void *at = guest_ram_at(ram, gpa, size);

    *entry = 0;
    if (at)
        memcpy(entry, at, size);
    return at && (*entry & ENTRY_PRESENT);
}

/* Bits 20:13 of a 4 MiB page's entry are bits 39:32 of the address (PSE-36); those below bit 22 are
 * left to the caller to clear. */
static u64 legacy_large(u64 entry)
{
    return (entry & LEGACY_MASK) | (entry >> 13 & 0xFF) << 32;
}

static bool is_large(const struct guest_paging *paging, const struct shape *shape, u64 entry,
                     int level)
{
    if (level == 1 || !(entry & ENTRY_LARGE))
        return level == 1;
    return shape->entry_size == 4 ? (paging->cr4 & CR4_PSE) != 0 : level <= 3;
}

bool guest_walk(const struct guest_ram *ram, const struct guest_paging *paging, u64 linear,
                bool write, u64 *gpa)
{
    struct shape shape;
    u64 table;

    if (!(paging->cr0 & CR0_PG)) {
        *gpa = linear & UINT32_MAX;
        return true;
    }
    shape = shape_of(paging);
    table = shape.root;
    if (!is_canonical(paging, &shape, linear))
        return false;
    for (int level = shape.levels;; level--) {
        unsigned shift = PAGE_SHIFT + shape.index_bits * (level - 1);
        u64 index = linear >> shift & (BIT(shape.index_bits) - 1);
        bool pae_root = shape.levels == 3 && level == 3;
        u64 entry, offset = BIT(shift) - 1;

        if (pae_root)
            index &= 3;
        if (!read_entry(ram, table + index * shape.entry_size, shape.entry_size, &entry))
            return false;
        if (!pae_root && !is_allowed(paging, entry, write))
            return false;
        table = entry & ADDRESS_MASK;
        if (pae_root || !is_large(paging, &shape, entry, level))
            continue;
        if (level > 1 && shape.entry_size == 4)
            table = legacy_large(entry);
        *gpa = (table & ~offset) | (linear & offset);
        return true;
    }
}

/* A page of RAM: its size is in pages. */
static inline const u8 *page_at(const struct guest_ram *ram, u64 gpa)
{
    if (gpa < ram->low_size || gpa - GUEST_RAM_HIGH < ram->high_size)
        return ram->base + gpa;
    return NULL;
}

const void *guest_code_find(struct guest_code *code, const struct guest_ram *ram, u64 cr3,
                            u64 linear, size_t size)
{
    u64 entry = cr3, offset = linear & (PAGE_SIZE - 1), within;
    unsigned shift = LONG_MODE_TOP;
    u32 level = 0;

    code->linear = GUEST_CODE_NOWHERE;
    for (;; shift -= LONG_MODE_INDEX) {
        const volatile u64 *table = (const volatile u64 *)page_at(ram, entry & ADDRESS_MASK);

        if (!table)
            return NULL;
        table += linear >> shift & (BIT(LONG_MODE_INDEX) - 1);
        entry = *table;
        if (!(entry & ENTRY_PRESENT))
            return NULL;
        code->entries[level].at = table;
        code->entries[level++].value = entry;
        if (level == GUEST_CODE_LEVELS || (level > 1 && (entry & ENTRY_LARGE)))
            break;
    }
    for (; level < GUEST_CODE_LEVELS; level++)
        code->entries[level] = code->entries[level - 1];
    within = BIT(shift) - 1;
    code->page = page_at(ram, ((entry & ~within) | (linear & within)) & ADDRESS_MASK);
    if (!code->page || offset + size > PAGE_SIZE)
        return NULL;
    code->linear = linear - offset;
    code->cr3 = cr3;
    return code->page + offset;
}

static size_t copy_linear(const struct guest_ram *ram, const struct guest_paging *paging,
                          u64 linear, void *host, size_t size, bool write)
{
    size_t done = 0;

    while (done < size) {
        u64 at = linear + done, gpa;
        size_t piece = MIN(size - done, PAGE_SIZE - (at & (PAGE_SIZE - 1)));
        void *guest;

        if (!guest_walk(ram, paging, at, write, &gpa))
            break;
        guest = guest_ram_at(ram, gpa, piece);
        if (!guest)
            break;
        if (write)
            memcpy(guest, (char *)host + done, piece);
        else
            memcpy((char *)host + done, guest, piece);
        done += piece;
    }
    return done;
}

size_t guest_read_linear(const struct guest_ram *ram, const struct guest_paging *paging, u64 linear,
                         void *to, size_t size)
{
    return copy_linear(ram, paging, linear, to, size, false);
}

size_t guest_write_linear(const struct guest_ram *ram, const struct guest_paging *paging,
                          u64 linear, const void *from, size_t size)
{
    return copy_linear(ram, paging, linear, (void *)from, size, true);
}
