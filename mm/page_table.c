/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "mm/page_table.h"

#include "lib/arith.h"

#define LEVELS         4
#define ENTRIES        512
#define ADDRESS_MASK   0x000FFFFFFFFFF000ULL
#define CANONICAL_BITS 48
#define PHYSICAL_BITS  52

/* Entries of the host's own tables (SDM volume 3, table "Format of a Page-Table Entry"). */
enum x86_bits {
    X86_PRESENT = 1 << 0,
    X86_WRITE = 1 << 1,
    X86_USER = 1 << 2,
    X86_WRITE_THROUGH = 1 << 3,
    X86_CACHE_DISABLE = 1 << 4,
    X86_ACCESSED = 1 << 5,
    X86_DIRTY = 1 << 6,
    X86_LARGE = 1 << 7,
    X86_GLOBAL = 1 << 8,
};
#define X86_NO_EXECUTE BIT(63)

/* SDM volume 3, table "Format of an EPT Page-Table Entry that Maps a 4-KByte Page". */
enum ept_bits {
    EPT_READ = 1 << 0,
    EPT_WRITE = 1 << 1,
    EPT_EXECUTE = 1 << 2,
    EPT_WRITE_BACK = 6 << 3,
    EPT_LARGE = 1 << 7,
};

static u64 x86_leaf(u32 rights)
{
    /* Accessed and dirty are set beforehand: nobody asks for them, and the CPU needs not write. */
    u64 bits = X86_PRESENT | X86_ACCESSED | X86_DIRTY;

    if (rights & PAGE_WRITE)
        bits |= X86_WRITE;
    if (rights & PAGE_USER)
        bits |= X86_USER;
    if (rights & PAGE_UNCACHED)
        bits |= X86_CACHE_DISABLE | X86_WRITE_THROUGH;
    if (rights & PAGE_GLOBAL)
        bits |= X86_GLOBAL;
    if (!(rights & PAGE_EXECUTE))
        bits |= X86_NO_EXECUTE;
    return bits;
}

static u64 ept_leaf(u32 rights)
{
    u64 bits = 0;

    if (rights & PAGE_READ)
        bits |= EPT_READ;
    if (rights & PAGE_WRITE)
        bits |= EPT_WRITE;
    if (rights & PAGE_EXECUTE)
        bits |= EPT_EXECUTE;
    if (!(rights & PAGE_UNCACHED))
        bits |= EPT_WRITE_BACK;
    return bits;
}

const struct page_table_format page_format_x86 = {
    .table = X86_PRESENT | X86_WRITE | X86_USER | X86_ACCESSED,
    .large = X86_LARGE,
    .present = X86_PRESENT,
    .leaf = x86_leaf,
};

const struct page_table_format page_format_ept = {
    .table = EPT_READ | EPT_WRITE | EPT_EXECUTE,
    .large = EPT_LARGE,
    .present = EPT_READ | EPT_WRITE | EPT_EXECUTE,
    .leaf = ept_leaf,
};

/* Level 1 holds 4 KiB pages, level 4 is the root. */
static u64 level_size(int level)
{
    return PAGE_SIZE << (9 * (level - 1));
}

static unsigned index_of(u64 address, int level)
{
    return (address >> (PAGE_SHIFT + 9 * (level - 1))) & (ENTRIES - 1);
}

static u64 *entries_of(const struct page_table *table, paddr_t physical)
{
    return table->access(table->context, physical);
}

static bool is_present(const struct page_table *table, u64 entry)
{
    return (entry & table->format->present) != 0;
}

static bool is_leaf(const struct page_table *table, u64 entry, int level)
{
    return level == 1 || (entry & table->format->large);
}

static void set_entry(u64 *entry, u64 value)
{
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

static void *alloc_table(struct page_table *table)
{
    void *page = table->alloc(table->context);

    if (page)
        table->tables++;
    return page;
}

static void free_table(struct page_table *table, paddr_t physical)
{
    table->free(table->context, entries_of(table, physical));
    table->tables--;
}

bool page_table_init(struct page_table *table)
{
    void *root;

    table->tables = 0;
    root = alloc_table(table);
    table->root = root ? table->physical(table->context, root) : 0;
    return root != NULL;
}

/* The table that `entry` points to, made when the entry is empty; NULL when memory is short or a
 * large page is in the way. */
static u64 *next_table(struct page_table *table, u64 *entry, int level)
{
    void *page;

    if (is_present(table, *entry))
        return is_leaf(table, *entry, level) ? NULL : entries_of(table, *entry & ADDRESS_MASK);
    page = alloc_table(table);
    if (page)
        set_entry(entry, table->physical(table->context, page) | table->format->table);
    return page;
}

static bool page_fits(const struct page_table *table, u64 address, paddr_t physical, u64 size,
                      int level)
{
    u64 page = level_size(level);
    bool allowed = level == 1 || (level <= 3 && (table->large_sizes & BIT(level - 2)));

    return allowed && size >= page && IS_ALIGNED(address, page) && IS_ALIGNED(physical, page);
}

/* Maps the one largest page that fits at `address`; its size, or 0. */
static u64 map_one(struct page_table *table, u64 address, paddr_t physical, u64 size, u64 bits)
{
    u64 *entries = entries_of(table, table->root);

    for (int level = LEVELS;; level--) {
        u64 *entry = &entries[index_of(address, level)];

        if (page_fits(table, address, physical, size, level) && !is_present(table, *entry)) {
            set_entry(entry, physical | bits | (level > 1 ? table->format->large : 0));
            return level_size(level);
        }
        if (level == 1)
            return 0;
        entries = next_table(table, entry, level);
        if (!entries)
            return 0;
    }
}

/* Both halves of the canonical space count as one of 48 bits. */
static bool is_canonical(u64 address)
{
    u64 high = address >> CANONICAL_BITS;

    return high == 0 || high == UINT64_MAX >> CANONICAL_BITS;
}

static bool range_ok(u64 address, u64 size)
{
    return is_canonical(address) &&
           range_within(address & (BIT(CANONICAL_BITS) - 1), size, BIT(CANONICAL_BITS)) &&
           IS_ALIGNED(address, PAGE_SIZE) && IS_ALIGNED(size, PAGE_SIZE);
}

bool page_table_map(struct page_table *table, u64 address, paddr_t physical, u64 size, u32 rights)
{
    u64 bits = table->format->leaf(rights);

    if (!range_ok(address, size) || !range_within(physical, size, BIT(PHYSICAL_BITS)) ||
        !IS_ALIGNED(physical, PAGE_SIZE))
        return false;
    while (size > 0) {
        u64 done = map_one(table, address, physical, size, bits);

        if (done == 0)
            return false;
        address += done;
        physical += done;
        size -= done;
    }
    return true;
}

/* Replaces a large page by a full table of the next smaller ones with the same rights: filled
 * first, then put in with one write. */
static bool split(struct page_table *table, u64 *entry, int level)
{
    u64 leaf = level - 1 > 1 ? *entry : *entry & ~table->format->large;
    u64 *small = alloc_table(table);

    if (!small)
        return false;
    for (u64 i = 0; i < ENTRIES; i++)
        small[i] = leaf + i * level_size(level - 1);
    set_entry(entry, table->physical(table->context, small) | table->format->table);
    return true;
}

/* Clears what covers `address`; the number of bytes dealt with, or 0. */
static u64 unmap_one(struct page_table *table, u64 address, u64 size)
{
    u64 *entries = entries_of(table, table->root);

    for (int level = LEVELS;; level--) {
        u64 *entry = &entries[index_of(address, level)];
        u64 page = level_size(level);
        u64 to_end = page - (address & (page - 1));

        if (!is_present(table, *entry))
            return MIN(to_end, size);
        if (is_leaf(table, *entry, level)) {
            if (to_end == page && size >= page) {
                set_entry(entry, 0);
                return page;
            }
            if (!split(table, entry, level))
                return 0;
        }
        entries = entries_of(table, *entry & ADDRESS_MASK);
    }
}

bool page_table_unmap(struct page_table *table, u64 address, u64 size)
{
    if (!range_ok(address, size))
        return false;
    while (size > 0) {
        u64 done = unmap_one(table, address, size);

        if (done == 0)
            return false;
        address += done;
        size -= done;
    }
    return true;
}

struct page_translation page_table_lookup(const struct page_table *table, u64 address)
{
    struct page_translation none = {0};
    const u64 *entries = entries_of(table, table->root);

    for (int level = LEVELS; level >= 1 && is_canonical(address); level--) {
        u64 entry = entries[index_of(address, level)];
        u64 offset = address & (level_size(level) - 1);

        if (!is_present(table, entry))
            return none;
        if (is_leaf(table, entry, level))
            return (struct page_translation){
                .entry = entry,
                .physical = (entry & ADDRESS_MASK & ~(level_size(level) - 1)) + offset,
                .page_size = level_size(level),
            };
        entries = entries_of(table, entry & ADDRESS_MASK);
    }
    return none;
}

bool page_table_prepare(struct page_table *table, u32 slot)
{
    return next_table(table, &entries_of(table, table->root)[slot], LEVELS) != NULL;
}

void page_table_share(struct page_table *table, const struct page_table *from, u32 slot)
{
    set_entry(&entries_of(table, table->root)[slot], entries_of(from, from->root)[slot]);
}

static u64 *gib_entry(struct page_table *table, u64 address)
{
    u64 *slot = &entries_of(table, table->root)[index_of(address, LEVELS)];
    u64 *entries = next_table(table, slot, LEVELS);

    return entries ? &entries[index_of(address, LEVELS - 1)] : NULL;
}

bool page_table_share_gib(struct page_table *table, struct page_table *from, u64 address)
{
    u64 *entry = gib_entry(table, address);

    if (entry)
        set_entry(entry, from ? *gib_entry(from, address) : 0);
    return entry != NULL;
}

/* Frees the table that *entry points to, children first, as far as *budget goes; true when it is
 * gone. The entry is cleared before: nothing points to what somebody else may own next. */
static bool clear_below(struct page_table *table, u64 *entry, int level, u32 *budget)
{
    paddr_t physical = *entry & ADDRESS_MASK;
    u64 *entries = entries_of(table, physical);

    for (unsigned i = 0; level > 1 && i < ENTRIES; i++)
        if (is_present(table, entries[i]) && !is_leaf(table, entries[i], level) &&
            !clear_below(table, &entries[i], level - 1, budget))
            return false;
    if (*budget == 0)
        return false;
    (*budget)--;
    set_entry(entry, 0);
    free_table(table, physical);
    return true;
}

bool page_table_clear(struct page_table *table, u32 first, u32 last, u32 step)
{
    u64 *root = entries_of(table, table->root);

    for (u32 slot = first; slot <= last; slot++)
        if (is_present(table, root[slot]) && !clear_below(table, &root[slot], LEVELS - 1, &step))
            return false;
    return true;
}

void page_table_destroy(struct page_table *table)
{
    free_table(table, table->root);
    table->root = 0;
}

struct walk {
    const struct page_table *table;
    void (*visit)(void *context, u64 address, u64 entry, u64 size);
    void *context;
};

static void walk_level(const struct walk *walk, paddr_t physical, int level, u64 address)
{
    const u64 *entries = entries_of(walk->table, physical);

    for (unsigned i = 0; i < ENTRIES; i++) {
        u64 at = address + i * level_size(level);

        if (!is_present(walk->table, entries[i]))
            continue;
        if (is_leaf(walk->table, entries[i], level))
            walk->visit(walk->context, at, entries[i], level_size(level));
        else
            walk_level(walk, entries[i] & ADDRESS_MASK, level - 1, at);
    }
}

void page_table_walk(const struct page_table *table,
                     void (*visit)(void *context, u64 address, u64 entry, u64 size), void *context)
{
    struct walk walk = {.table = table, .visit = visit, .context = context};

    walk_level(&walk, table->root, LEVELS, 0);
}
