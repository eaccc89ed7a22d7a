/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* The page-table builder against a list of mappings. A walker of its own reads the tables as the
 * hardware would, before and after every single write of an entry: each address must translate
 * as before the operation or as after it, and once it has changed it stays. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/types.h"

static void observed_store(u64 *entry, u64 value);
#define __atomic_store_n(entry, value, order) observed_store(entry, value)
#include "mm/page_table.c"
#undef __atomic_store_n

/* ---- memory for tables ------------------------------------------------------------------- */

/* High enough to use all 52 bits of an entry's address. A page's number is never used again, so
 * that a table that is used after it was freed is noticed. */
#define TABLES_BASE 0x000FF00000000000ULL
#define TABLES_MAX  32768
#define UNLIMITED   UINT32_MAX

static struct {
    void *pages[TABLES_MAX];
    u32 made, live;
    u32 allowed; /* allocations until memory is short */
} tables;

static void *table_alloc(void *context)
{
    void *page;

    if (tables.allowed == 0)
        return NULL;
    if (tables.allowed != UNLIMITED)
        tables.allowed--;
    assert_true(tables.made < TABLES_MAX);
    page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
    memset(page, 0, PAGE_SIZE);
    tables.pages[tables.made++] = page;
    tables.live++;
    return page;
}

static u64 *table_access(void *context, paddr_t physical)
{
    u64 number = (physical - TABLES_BASE) / PAGE_SIZE;

    assert_true(physical >= TABLES_BASE && number < tables.made && IS_ALIGNED(physical, PAGE_SIZE));
    assert_non_null(tables.pages[number]);
    return tables.pages[number];
}

static paddr_t table_physical(void *context, const void *page)
{
    for (u32 i = tables.made; i-- > 0;)
        if (tables.pages[i] == page)
            return TABLES_BASE + i * PAGE_SIZE;
    fail_msg("no table at %p", page);
    return 0;
}

static bool is_linked(const struct page_table *table, paddr_t in, int level, paddr_t physical)
{
    const u64 *entries = table_access(NULL, in);

    for (unsigned i = 0; level > 1 && i < ENTRIES; i++) {
        if (!is_present(table, entries[i]) || is_leaf(table, entries[i], level))
            continue;
        if ((entries[i] & ADDRESS_MASK) == physical ||
            is_linked(table, entries[i] & ADDRESS_MASK, level - 1, physical))
            return true;
    }
    return false;
}

/* The context is the page table: nothing in it may point to what is freed. */
static void table_free(void *context, void *page)
{
    const struct page_table *table = context;
    paddr_t physical = table_physical(NULL, page);

    if (physical != table->root)
        assert_false(is_linked(table, table->root, LEVELS, physical));
    tables.pages[(physical - TABLES_BASE) / PAGE_SIZE] = NULL;
    tables.live--;
    free(page);
}

static void make_table(struct page_table *table, const struct page_table_format *format,
                       u32 large_sizes)
{
    *table = (struct page_table){
        .format = format,
        .large_sizes = large_sizes,
        .alloc = table_alloc,
        .free = table_free,
        .access = table_access,
        .physical = table_physical,
        .context = table,
    };
    assert_true(page_table_init(table));
}

static void drop_table(struct page_table *table)
{
    assert_int_equal(tables.live, table->tables);
    assert_true(page_table_clear(table, 0, ENTRIES - 1, UINT32_MAX));
    assert_int_equal(table->tables, 1);
    page_table_destroy(table);
    assert_int_equal(table->tables, 0);
    assert_int_equal(tables.live, 0);
}

static int setup(void **state)
{
    memset(&tables, 0, sizeof(tables));
    tables.allowed = UNLIMITED;
    return 0;
}

/* ---- the hardware's view ----------------------------------------------------------------- */

struct seen {
    bool mapped;
    paddr_t physical;
    u32 rights;
};

/* What of the rights a format can say. */
static u32 expressible(const struct page_table_format *format, u32 rights)
{
    return format == &page_format_ept ? rights & ~(PAGE_USER | PAGE_GLOBAL) : rights | PAGE_READ;
}

/* SDM volume 3, tables "Format of a PML4 Entry" to "Format of a Page-Table Entry that Maps a
 * 4-KByte Page"; the PAT entry is chosen by PCD and PWT alone. */
static u32 x86_rights(u64 entry, int level, bool leaf)
{
    u32 rights = PAGE_READ;

    rights |= entry & X86_WRITE ? PAGE_WRITE : 0;
    rights |= entry & X86_USER ? PAGE_USER : 0;
    rights |= entry >> 63 ? 0 : PAGE_EXECUTE;
    assert_int_equal(entry >> 52 & 0x7FF, 0);
    if (!leaf)
        return rights | PAGE_UNCACHED | PAGE_GLOBAL;
    if (level == 1)
        assert_int_equal(entry & BIT(7), 0); /* PAT */
    else
        assert_int_equal(entry & (level_size(level) - 1) & ADDRESS_MASK, 0); /* reserved, PAT */
    assert_true(!(entry & X86_CACHE_DISABLE) == !(entry & X86_WRITE_THROUGH));
    rights |= entry & X86_CACHE_DISABLE ? PAGE_UNCACHED : 0;
    return rights | (entry & X86_GLOBAL ? PAGE_GLOBAL : 0);
}

/* SDM volume 3, tables "Format of an EPT PML4 Entry" and following; bits 5:3 are the type. */
static u32 ept_rights(u64 entry, int level, bool leaf)
{
    u32 rights = entry & (EPT_READ | EPT_WRITE | EPT_EXECUTE);

    assert_true((rights & EPT_READ) || !(rights & EPT_WRITE)); /* a misconfiguration */
    assert_int_equal(entry >> 52, 0);
    if (!leaf) {
        assert_int_equal(entry & 0xF8, 0);
        return rights | PAGE_UNCACHED;
    }
    assert_int_equal(entry & (level_size(level) - 1) & ADDRESS_MASK, 0);
    assert_true((entry >> 3 & 7) == 6 || (entry >> 3 & 7) == 0);
    return rights | ((entry >> 3 & 7) == 0 ? PAGE_UNCACHED : 0);
}

static struct seen hardware_walk(const struct page_table *table, u64 address)
{
    bool ept = table->format == &page_format_ept;
    struct seen seen = {.mapped = true, .rights = UINT32_MAX};
    paddr_t at = table->root;

    for (int level = LEVELS;; level--) {
        u64 entry = table_access(NULL, at)[address >> (12 + 9 * (level - 1)) & 511];
        bool leaf = level == 1 || (level <= 3 && (entry & BIT(7)));

        if ((entry & (ept ? 7 : 1)) == 0)
            return (struct seen){0};
        seen.rights &= (ept ? ept_rights : x86_rights)(entry, level, leaf);
        at = entry & 0x000FFFFFFFFFF000ULL;
        if (leaf) {
            seen.physical = at + (address & ((PAGE_SIZE << (9 * (level - 1))) - 1));
            return seen;
        }
    }
}

/* ---- the model --------------------------------------------------------------------------- */

#define SEGMENTS_MAX 512

struct segment {
    u64 address, size;
    paddr_t physical;
    u32 rights;
};

struct model {
    struct segment segments[SEGMENTS_MAX];
    u32 count;
};

static void model_add(struct model *model, struct segment segment)
{
    assert_true(model->count < SEGMENTS_MAX);
    if (segment.size > 0)
        model->segments[model->count++] = segment;
}

static void model_remove(struct model *model, u64 address, u64 size)
{
    struct model old = *model;
    u64 end = address + size;

    model->count = 0;
    for (u32 i = 0; i < old.count; i++) {
        struct segment low = old.segments[i], high = low;
        u64 low_end = low.address + low.size;

        if (low_end <= address || end <= low.address) {
            model_add(model, low);
            continue;
        }
        low.size = low.address < address ? address - low.address : 0;
        high.size = low_end > end ? low_end - end : 0;
        high.physical += end - high.address;
        high.address = end;
        model_add(model, low);
        model_add(model, high);
    }
}

static struct seen model_walk(const struct model *model, u64 address)
{
    for (u32 i = 0; i < model->count; i++) {
        const struct segment *segment = &model->segments[i];

        if (address >= segment->address && address - segment->address < segment->size)
            return (struct seen){
                .mapped = true,
                .physical = segment->physical + address - segment->address,
                .rights = segment->rights,
            };
    }
    return (struct seen){0};
}

/* Where mapping [address, address + size) first meets something. */
static u64 model_room(const struct model *model, u64 address, u64 size)
{
    u64 room = size;

    for (u32 i = 0; i < model->count; i++) {
        const struct segment *segment = &model->segments[i];

        if (segment->address + segment->size > address)
            room = MIN(room, segment->address > address ? segment->address - address : 0);
    }
    return room;
}

/* ---- watching every write ---------------------------------------------------------------- */

#define PROBES_MAX 160

static struct {
    const struct page_table *table; /* NULL: nobody watches */
    u64 probes[PROBES_MAX];
    struct seen before[PROBES_MAX], after[PROBES_MAX];
    bool moved[PROBES_MAX];
    u32 count;
    u32 writes;
} watch;

static bool same(const struct seen *a, const struct seen *b)
{
    return a->mapped == b->mapped && a->physical == b->physical && a->rights == b->rights;
}

static void check_probes(void)
{
    for (u32 i = 0; i < watch.count; i++) {
        struct seen seen = hardware_walk(watch.table, watch.probes[i]);

        if (!watch.moved[i] && same(&seen, &watch.before[i]))
            continue;
        watch.moved[i] = true;
        if (!same(&seen, &watch.after[i]))
            fail_msg("after write %u: 0x%lx -> 0x%lx with rights %x", watch.writes, watch.probes[i],
                     seen.physical, seen.rights);
    }
}

static void observed_store(u64 *entry, u64 value)
{
    if (watch.table)
        check_probes();
    *(volatile u64 *)entry = value;
    watch.writes++;
    if (watch.table)
        check_probes();
}

static void add_probe(u64 address)
{
    if (watch.count < PROBES_MAX && address < BIT(48))
        watch.probes[watch.count++] = address;
}

/* Both sides of an address, and of the boundaries of larger pages next to it. */
static void add_probes_around(u64 address)
{
    static const u64 sizes[] = {PAGE_SIZE, CHUNK_SIZE, HUGE_SIZE, 512 * GIB};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        add_probe(ALIGN_DOWN(address, sizes[i]) - 8);
        add_probe(ALIGN_DOWN(address, sizes[i]));
        add_probe(ALIGN_DOWN(address, sizes[i]) + sizes[i] - 8);
        add_probe(ALIGN_DOWN(address, sizes[i]) + sizes[i]);
    }
}

static void watch_begin(const struct page_table *table, const struct model *before,
                        const struct model *after, u64 address, u64 size)
{
    watch.count = 0;
    add_probes_around(address);
    add_probes_around(address + size);
    add_probes_around(address + size / 2);
    for (u32 i = 0; i < after->count; i++) {
        add_probe(after->segments[i].address);
        add_probe(after->segments[i].address + after->segments[i].size - 1);
    }
    for (u32 i = 0; i < watch.count; i++) {
        watch.before[i] = model_walk(before, watch.probes[i]);
        watch.after[i] = model_walk(after, watch.probes[i]);
        watch.moved[i] = false;
    }
    watch.table = table;
    watch.writes = 0;
    check_probes();
}

/* `whole`: the operation has come to its end, so everything must be as after it. */
static void watch_end(bool whole)
{
    check_probes();
    for (u32 i = 0; i < watch.count && whole; i++) {
        struct seen seen = hardware_walk(watch.table, watch.probes[i]);
        struct page_translation found = page_table_lookup(watch.table, watch.probes[i]);

        assert_true(same(&seen, &watch.after[i]));
        assert_true((found.entry != 0) == seen.mapped);
        assert_int_equal(found.physical, seen.physical);
    }
    watch.table = NULL;
}

/* ---- the whole tree ---------------------------------------------------------------------- */

struct tally {
    const struct page_table *table;
    u64 end; /* of the leaf before */
    u64 bytes;
    u64 leaves[5]; /* by level */
    u64 writable_and_executable;
};

static void tally_leaf(void *context, u64 address, u64 entry, u64 size)
{
    struct tally *tally = context;
    struct page_translation found = page_table_lookup(tally->table, address);

    assert_true(address >= tally->end);
    assert_true(found.entry == entry && found.page_size == size);
    tally->end = address + size;
    tally->bytes += size;
    for (int level = 1; level <= 3; level++)
        tally->leaves[level] += size == PAGE_SIZE << (9 * (level - 1));
    if ((entry & BIT(1)) && !(entry >> 63))
        tally->writable_and_executable++;
}

static struct tally tally_of(const struct page_table *table)
{
    struct tally tally = {.table = table};

    page_table_walk(table, tally_leaf, &tally);
    assert_int_equal(tally.leaves[1] * PAGE_SIZE + tally.leaves[2] * CHUNK_SIZE +
                         tally.leaves[3] * HUGE_SIZE,
                     tally.bytes);
    return tally;
}

static void check_all(const struct page_table *table, const struct model *model)
{
    struct tally tally = tally_of(table);
    u64 bytes = 0;

    for (u32 i = 0; i < model->count; i++)
        bytes += model->segments[i].size;
    assert_int_equal(tally.bytes, bytes);
    assert_int_equal(table->tables, tables.live);
    if (!(table->large_sizes & 1))
        assert_int_equal(tally.leaves[2], 0);
    if (!(table->large_sizes & 2))
        assert_int_equal(tally.leaves[3], 0);
}

/* Carries out one operation under watch, and in the model. */
static void map_watched(struct page_table *table, struct model *model, struct segment segment)
{
    struct model before = *model;
    u64 room = model_room(model, segment.address, segment.size);
    u64 size = segment.size;

    segment.size = room;
    model_add(model, (struct segment){segment.address, room, segment.physical,
                                      expressible(table->format, segment.rights)});
    watch_begin(table, &before, model, segment.address, size);
    assert_int_equal(page_table_map(table, segment.address, segment.physical, size, segment.rights),
                     room == size);
    watch_end(true);
}

static void unmap_watched(struct page_table *table, struct model *model, u64 address, u64 size)
{
    struct model before = *model;

    model_remove(model, address, size);
    watch_begin(table, &before, model, address, size);
    assert_true(page_table_unmap(table, address, size));
    watch_end(true);
}

/* ---- tests ------------------------------------------------------------------------------- */

static const struct page_table_format *const formats[] = {&page_format_x86, &page_format_ept};

static u64 random_number(u64 *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Near boundaries of all levels, and in the last slot. */
static u64 random_address(u64 *seed)
{
    static const u64 places[] = {0, 3 * GIB, 512 * GIB - 2 * GIB, 0x7FFFFFFFF000 - GIB,
                                 BIT(48) - 6 * GIB};
    u64 address = places[random_number(seed) % ARRAY_SIZE(places)];

    address += random_number(seed) % 4 * GIB + random_number(seed) % 6 * CHUNK_SIZE;
    return ALIGN_DOWN(address, PAGE_SIZE) + random_number(seed) % 3 % 2 * 3 * PAGE_SIZE;
}

static u64 random_size(u64 *seed, u32 large_sizes)
{
    u64 size = (random_number(seed) % 8 + 1) * PAGE_SIZE;

    if (random_number(seed) % 2 == 0)
        size = random_number(seed) % 3 * CHUNK_SIZE + random_number(seed) % 2 * PAGE_SIZE;
    if ((large_sizes & 1) && random_number(seed) % 3 == 0)
        size += (random_number(seed) % 40) * CHUNK_SIZE;
    if ((large_sizes & 2) && random_number(seed) % 4 == 0)
        size += (random_number(seed) % 2 + 1) * GIB;
    return size;
}

static void run_random(const struct page_table_format *format, u32 large_sizes, u64 seed)
{
    static struct model model;
    struct page_table table;

    model.count = 0;
    make_table(&table, format, large_sizes);
    for (int i = 0; i < 120; i++) {
        u64 address = random_address(&seed);
        u64 size = MIN(random_size(&seed, large_sizes), BIT(48) - address);
        /* Mostly in step with the address, so that large pages fit. */
        paddr_t physical = 0x123400000000 + address + random_number(&seed) % 7 / 6 * PAGE_SIZE;

        if (physical % CHUNK_SIZE != address % CHUNK_SIZE)
            size = MIN(size, 3 * CHUNK_SIZE);
        if (random_number(&seed) % 5 < 3)
            map_watched(
                &table, &model,
                (struct segment){address, size, physical, PAGE_READ | random_number(&seed) % 64});
        else
            unmap_watched(&table, &model, address, size);
        check_all(&table, &model);
    }
    drop_table(&table);
}

static void test_random_operations(void **state)
{
    static const u32 sizes[] = {0, 1, 3};

    for (size_t f = 0; f < ARRAY_SIZE(formats); f++)
        for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
            for (u64 seed = 1; seed <= 2; seed++) {
                setup(state);
                run_random(formats[f], sizes[s], seed * 0x9E3779B97F4A7C15);
            }
}

static void test_split_keeps_rights_and_type(void **state)
{
    for (size_t f = 0; f < ARRAY_SIZE(formats); f++)
        for (u32 rights = 0; rights < 64; rights++) {
            struct model model = {.count = 0};
            struct page_table table;
            struct tally tally;

            setup(state);
            make_table(&table, formats[f], 3);
            map_watched(&table, &model,
                        (struct segment){5 * GIB, GIB, 7 * GIB, rights | PAGE_READ});
            assert_int_equal(tally_of(&table).leaves[3], 1);
            unmap_watched(&table, &model, 5 * GIB + 9 * CHUNK_SIZE + 17 * PAGE_SIZE, PAGE_SIZE);
            assert_int_equal(watch.writes, 3); /* two tables put in, one page taken out */
            tally = tally_of(&table);
            assert_int_equal(tally.leaves[3], 0);
            assert_int_equal(tally.leaves[2], 511);
            assert_int_equal(tally.leaves[1], 511);
            drop_table(&table);
        }
}

static void test_unmaps_the_middle(void **state)
{
    for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
        struct model model = {.count = 0};
        struct page_table table;

        setup(state);
        make_table(&table, formats[f], 3);
        map_watched(&table, &model,
                    (struct segment){GIB, 3 * GIB, 9 * GIB, PAGE_READ | PAGE_WRITE | PAGE_USER});
        unmap_watched(&table, &model, 2 * GIB - CHUNK_SIZE - PAGE_SIZE, GIB + 3 * CHUNK_SIZE);
        /* Holes are no error. */
        unmap_watched(&table, &model, GIB - CHUNK_SIZE, 2 * GIB);
        check_all(&table, &model);
        unmap_watched(&table, &model, 0, 8 * GIB);
        assert_int_equal(tally_of(&table).bytes, 0);
        drop_table(&table);
    }
}

static void test_takes_the_largest_pages(void **state)
{
    static const struct {
        u32 large_sizes;
        u64 leaves[4];
    } cases[] = {
        {3, {0, 511, 511, 1}      },
        {1, {0, 511, 511 + 512, 0}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct page_table table;
        struct tally tally;

        setup(state);
        make_table(&table, &page_format_ept, cases[i].large_sizes);
        assert_true(page_table_map(&table, CHUNK_SIZE + PAGE_SIZE, GIB + CHUNK_SIZE + PAGE_SIZE,
                                   2 * GIB - CHUNK_SIZE - PAGE_SIZE, PAGE_READ));
        tally = tally_of(&table);
        for (int level = 1; level <= 3; level++)
            assert_int_equal(tally.leaves[level], cases[i].leaves[level] - (level == 2));
        drop_table(&table);
    }
}

static void test_small_pages_where_nothing_else_is_allowed(void **state)
{
    struct page_table table;
    struct tally tally;

    make_table(&table, &page_format_x86, 0);
    assert_true(page_table_map(&table, 0, 0, 2 * CHUNK_SIZE, PAGE_READ));
    tally = tally_of(&table);
    assert_int_equal(tally.leaves[1], 1024);
    drop_table(&table);
    /* The physical address is out of step. */
    make_table(&table, &page_format_x86, 3);
    assert_true(page_table_map(&table, 0, PAGE_SIZE, 2 * CHUNK_SIZE, PAGE_READ));
    tally = tally_of(&table);
    assert_int_equal(tally.leaves[1], 1024);
    drop_table(&table);
}

static void test_address_space_has_an_end(void **state)
{
    static const struct {
        u64 address, size;
        paddr_t physical;
        bool allowed;
    } cases[] = {
        {BIT(48) - PAGE_SIZE, PAGE_SIZE,      0,                   true },
        {BIT(48) - PAGE_SIZE, 2 * PAGE_SIZE,  0,                   false},
        {BIT(48),             PAGE_SIZE,      0,                   false},
        {0x8000 * BIT(48),    PAGE_SIZE,      0,                   false},
        {0xFFFF000000000000,  PAGE_SIZE,      0,                   true },
        {0xFFFE000000000000,  PAGE_SIZE,      0,                   false},
        {-PAGE_SIZE,          PAGE_SIZE,      0,                   true },
        {-PAGE_SIZE,          2 * PAGE_SIZE,  0,                   false},
        {PAGE_SIZE,           -PAGE_SIZE,     0,                   false},
        {PAGE_SIZE,           -2 * PAGE_SIZE, 0,                   false},
        {0,                   PAGE_SIZE + 1,  0,                   false},
        {1,                   PAGE_SIZE,      0,                   false},
        {0,                   PAGE_SIZE,      8,                   false},
        {0,                   PAGE_SIZE,      BIT(52) - PAGE_SIZE, true },
        {0,                   2 * PAGE_SIZE,  BIT(52) - PAGE_SIZE, false},
        {0,                   PAGE_SIZE,      BIT(52),             false},
        {0,                   PAGE_SIZE,      -PAGE_SIZE,          false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct page_table table;

        setup(state);
        make_table(&table, &page_format_x86, 3);
        assert_int_equal(
            page_table_map(&table, cases[i].address, cases[i].physical, cases[i].size, PAGE_READ),
            cases[i].allowed);
        assert_int_equal(tally_of(&table).bytes, cases[i].allowed ? PAGE_SIZE : 0);
        if (cases[i].physical == 0)
            assert_int_equal(page_table_unmap(&table, cases[i].address, cases[i].size),
                             cases[i].allowed);
        drop_table(&table);
    }
}

static void test_lookup_knows_canonical_addresses_only(void **state)
{
    struct page_table table;

    make_table(&table, &page_format_x86, 3);
    assert_true(page_table_map(&table, 0xFFFFFFFF80000000, GIB, PAGE_SIZE, PAGE_READ));
    assert_int_equal(page_table_lookup(&table, 0xFFFFFFFF80000123).physical, GIB + 0x123);
    assert_int_equal(page_table_lookup(&table, 0x7FFF80000123).entry, 0);
    assert_int_equal(page_table_lookup(&table, 0x1FFFF80000123).entry, 0);
    drop_table(&table);
}

static void test_refuses_what_is_mapped(void **state)
{
    static const struct {
        u64 there, there_size;
        u64 address, size;
    } cases[] = {
        {GIB,                 PAGE_SIZE,  GIB,                  PAGE_SIZE     },
        {GIB,                 PAGE_SIZE,  GIB,                  CHUNK_SIZE    },
        {GIB,                 PAGE_SIZE,  GIB,                  GIB           },
        {GIB + 5 * PAGE_SIZE, PAGE_SIZE,  GIB - CHUNK_SIZE,     2 * CHUNK_SIZE},
        {GIB,                 CHUNK_SIZE, GIB,                  CHUNK_SIZE    },
        {GIB,                 CHUNK_SIZE, GIB + 3 * PAGE_SIZE,  PAGE_SIZE     },
        {GIB + CHUNK_SIZE,    CHUNK_SIZE, GIB,                  GIB           },
        {GIB,                 GIB,        GIB + 3 * PAGE_SIZE,  PAGE_SIZE     },
        {GIB,                 GIB,        GIB + 3 * CHUNK_SIZE, CHUNK_SIZE    },
        {GIB,                 GIB,        GIB,                  GIB           },
    };

    for (size_t f = 0; f < ARRAY_SIZE(formats); f++)
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
            struct model model = {.count = 0};
            struct page_table table;

            setup(state);
            make_table(&table, formats[f], 3);
            map_watched(&table, &model,
                        (struct segment){cases[i].there, cases[i].there_size, 4 * GIB, PAGE_READ});
            assert_true(model_room(&model, cases[i].address, cases[i].size) < cases[i].size);
            map_watched(
                &table, &model,
                (struct segment){cases[i].address, cases[i].size, 8 * GIB, PAGE_READ | PAGE_WRITE});
            check_all(&table, &model);
            drop_table(&table);
        }
}

/* Memory ends after every possible number of tables: what is there is a part of what was asked
 * for, and the operation succeeds when it is tried again with memory. */
static void test_survives_memory_shortage_when_mapping(void **state)
{
    static const struct segment wanted = {512 * GIB - CHUNK_SIZE - PAGE_SIZE, 3 * GIB,
                                          CHUNK_SIZE - PAGE_SIZE, PAGE_READ | PAGE_WRITE};

    for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
        bool done = false;
        u32 tries;

        for (tries = 0; !done; tries++) {
            struct model before = {.count = 0}, after = {.count = 0};
            struct page_table table;

            setup(state);
            make_table(&table, formats[f], 1);
            model_add(&after, wanted);
            after.segments[0].rights = expressible(formats[f], wanted.rights);
            tables.allowed = tries;
            watch_begin(&table, &before, &after, wanted.address, wanted.size);
            done =
                page_table_map(&table, wanted.address, wanted.physical, wanted.size, wanted.rights);
            watch_end(done);
            assert_int_equal(done, tally_of(&table).bytes == wanted.size);
            tables.allowed = UNLIMITED;
            assert_true(page_table_unmap(&table, wanted.address, wanted.size));
            assert_int_equal(tally_of(&table).bytes, 0);
            assert_true(page_table_map(&table, wanted.address, wanted.physical, wanted.size,
                                       wanted.rights));
            drop_table(&table);
        }
        /* 2 PDPTs, 4 page directories, 1 + 1 page tables before, none behind */
        assert_int_equal(tries - 1, 8);
    }
}

static void test_survives_memory_shortage_when_unmapping(void **state)
{
    u64 hole = GIB + CHUNK_SIZE + PAGE_SIZE, hole_size = GIB;

    for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
        bool done = false;
        u32 tries;

        for (tries = 0; !done; tries++) {
            struct model before = {.count = 0}, after;
            struct page_table table;

            setup(state);
            make_table(&table, formats[f], 3);
            map_watched(&table, &before, (struct segment){GIB, 2 * GIB, 4 * GIB, PAGE_READ});
            after = before;
            model_remove(&after, hole, hole_size);
            tables.allowed = tries;
            watch_begin(&table, &before, &after, hole, hole_size);
            done = page_table_unmap(&table, hole, hole_size);
            watch_end(done);
            tables.allowed = UNLIMITED;
            watch_begin(&table, done ? &after : &before, &after, hole, hole_size);
            assert_true(page_table_unmap(&table, hole, hole_size) || done);
            watch_end(true);
            check_all(&table, &after);
            drop_table(&table);
        }
        assert_int_equal(tries - 1, 4);
    }
}

static void test_no_root_without_memory(void **state)
{
    struct page_table table = {.format = &page_format_x86, .alloc = table_alloc};

    tables.allowed = 0;
    assert_false(page_table_init(&table));
    assert_int_equal(table.tables, 0);
    assert_int_equal(table.root, 0);
}

static void test_clears_in_steps(void **state)
{
    struct page_table table;
    struct model model = {.count = 0}, after;
    u64 slot = 512 * GIB;
    bool done = false;
    u32 steps = 0;

    make_table(&table, &page_format_x86, 1);
    for (u64 i = 0; i < 12; i++)
        map_watched(&table, &model,
                    (struct segment){3 * slot + i * GIB / 2 + i * slot / 4,
                                     2 * PAGE_SIZE + i % 2 * CHUNK_SIZE, i * GIB, PAGE_READ});
    map_watched(&table, &model, (struct segment){slot, CHUNK_SIZE, GIB, PAGE_READ});
    map_watched(&table, &model, (struct segment){7 * slot, PAGE_SIZE, GIB, PAGE_READ});
    after = model;
    model_remove(&after, 3 * slot, 4 * slot);
    watch_begin(&table, &model, &after, 3 * slot, 4 * slot);
    while (!done) {
        u64 before = table.tables;

        done = page_table_clear(&table, 3, 6, 3);
        assert_true(before - table.tables <= 3);
        assert_true(done || before - table.tables == 3);
        assert_int_equal(table.tables, tables.live);
        assert_true(++steps < 100);
    }
    watch_end(true);
    assert_true(steps > 5);
    check_all(&table, &after);
    assert_int_equal(table.tables, 1 + 2 + 3);
    drop_table(&table);
}

static void test_shares_what_is_below_a_slot(void **state)
{
    struct page_table host, clone;
    u64 base = 256 * 512 * GIB;

    make_table(&host, &page_format_x86, 1);
    assert_true(page_table_prepare(&host, 256));
    assert_true(page_table_prepare(&host, 256));
    assert_int_equal(host.tables, 2);
    make_table(&clone, &page_format_x86, 1);
    page_table_share(&clone, &host, 256);
    assert_int_equal(clone.tables, 1);
    /* What is mapped later on, in either, is there in both. */
    assert_true(page_table_map(&host, base, GIB, CHUNK_SIZE, PAGE_READ));
    assert_true(page_table_map(&host, base + GIB, 2 * GIB, PAGE_SIZE, PAGE_READ));
    assert_int_equal(hardware_walk(&clone, base + 5).physical, GIB + 5);
    assert_int_equal(hardware_walk(&clone, base + GIB).physical, 2 * GIB);
    assert_true(page_table_map(&clone, 0, 0, PAGE_SIZE, PAGE_READ));
    assert_false(hardware_walk(&host, 0).mapped);
    assert_true(page_table_clear(&clone, 0, 255, UINT32_MAX));
    assert_int_equal(clone.tables, 1);
    page_table_destroy(&clone);
    assert_int_equal(hardware_walk(&host, base).physical, GIB);
    drop_table(&host);
}

static void test_shares_a_gib(void **state)
{
    struct page_table common, table;

    make_table(&common, &page_format_ept, 0);
    make_table(&table, &page_format_ept, 1);
    assert_true(page_table_map(&common, 3 * GIB + CHUNK_SIZE, 5 * GIB, PAGE_SIZE, PAGE_READ));
    tables.allowed = 0;
    assert_false(page_table_share_gib(&table, &common, 3 * GIB));
    tables.allowed = UNLIMITED;
    assert_true(page_table_map(&table, 0, GIB, CHUNK_SIZE, PAGE_READ));
    assert_true(page_table_map(&table, 4 * GIB, 2 * GIB, CHUNK_SIZE, PAGE_READ));
    for (int times = 0; times < 2; times++) {
        u64 own = table.tables;

        assert_true(page_table_share_gib(&table, &common, 3 * GIB));
        assert_int_equal(table.tables, own);
        assert_int_equal(hardware_walk(&table, 3 * GIB + CHUNK_SIZE + 5).physical, 5 * GIB + 5);
        assert_false(hardware_walk(&table, 3 * GIB).mapped);
        assert_int_equal(hardware_walk(&table, 4 * GIB).physical, 2 * GIB);
        assert_true(page_table_share_gib(&table, NULL, 3 * GIB));
        assert_false(hardware_walk(&table, 3 * GIB + CHUNK_SIZE).mapped);
    }
    assert_true(page_table_clear(&table, 0, 511, UINT32_MAX));
    assert_int_equal(table.tables, 1);
    page_table_destroy(&table);
    assert_int_equal(hardware_walk(&common, 3 * GIB + CHUNK_SIZE).physical, 5 * GIB);
    drop_table(&common);
}

static void test_prepare_needs_memory(void **state)
{
    struct page_table table;

    make_table(&table, &page_format_x86, 1);
    tables.allowed = 0;
    assert_false(page_table_prepare(&table, 511));
    drop_table(&table);
}

static void test_walk_finds_writable_and_executable(void **state)
{
    struct page_table table;

    make_table(&table, &page_format_x86, 3);
    assert_true(page_table_map(&table, 0xFFFFFFFF80000000, 0, PAGE_SIZE,
                               PAGE_READ | PAGE_EXECUTE | PAGE_GLOBAL));
    assert_true(page_table_map(&table, 0xFFFFFFFF80001000, PAGE_SIZE, PAGE_SIZE, PAGE_READ));
    assert_true(page_table_map(&table, 0xFFFF800000000000, GIB, 2 * GIB, PAGE_READ | PAGE_WRITE));
    assert_int_equal(tally_of(&table).writable_and_executable, 0);
    assert_true(page_table_map(&table, 0xFFFF900000000000, GIB, GIB,
                               PAGE_READ | PAGE_WRITE | PAGE_EXECUTE));
    assert_true(page_table_map(&table, 0xFFFFFFFFFFFFF000, 0, PAGE_SIZE,
                               PAGE_READ | PAGE_WRITE | PAGE_EXECUTE));
    assert_int_equal(tally_of(&table).writable_and_executable, 2);
    drop_table(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_random_operations, setup),
        cmocka_unit_test_setup(test_split_keeps_rights_and_type, setup),
        cmocka_unit_test_setup(test_unmaps_the_middle, setup),
        cmocka_unit_test_setup(test_takes_the_largest_pages, setup),
        cmocka_unit_test_setup(test_small_pages_where_nothing_else_is_allowed, setup),
        cmocka_unit_test_setup(test_address_space_has_an_end, setup),
        cmocka_unit_test_setup(test_lookup_knows_canonical_addresses_only, setup),
        cmocka_unit_test_setup(test_refuses_what_is_mapped, setup),
        cmocka_unit_test_setup(test_survives_memory_shortage_when_mapping, setup),
        cmocka_unit_test_setup(test_survives_memory_shortage_when_unmapping, setup),
        cmocka_unit_test_setup(test_no_root_without_memory, setup),
        cmocka_unit_test_setup(test_clears_in_steps, setup),
        cmocka_unit_test_setup(test_shares_what_is_below_a_slot, setup),
        cmocka_unit_test_setup(test_shares_a_gib, setup),
        cmocka_unit_test_setup(test_prepare_needs_memory, setup),
        cmocka_unit_test_setup(test_walk_finds_writable_and_executable, setup),
    };

    return cmocka_run_group_tests_name("page_table", tests, NULL, NULL);
}
