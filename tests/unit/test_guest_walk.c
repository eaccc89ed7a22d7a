/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* The walk through a guest's page tables in every paging mode. RAM lies between pages that may
 * not be touched. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "mm/guest_walk.h"

#define LOW_SIZE  (8 * MIB)
#define HIGH_SIZE (8 * MIB)
#define ROOT      0x10000
#define TABLES    0x20000 /* the table of level N is at TABLES + N pages */

#define P  (1 << 0)
#define W  (1 << 1)
#define U  (1 << 2)
#define PS (1 << 7)
#define NX (1ULL << 63)
#define G  (1 << 8)

#define CR0_PE BIT(0)
#define CR0_WP BIT(16)
#define CR0_PG BIT(31)
#define PSE    BIT(4)
#define PAE    BIT(5)
#define LA57   BIT(12)
#define LMA    BIT(10)
#define LME    BIT(8)

static struct guest_ram ram;

static int setup(void **state)
{
    u8 *base = mmap(NULL, GUEST_RAM_HIGH + 16 * MIB, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_ptr_not_equal(base, MAP_FAILED);
    assert_int_equal(mprotect(base, LOW_SIZE, PROT_READ | PROT_WRITE), 0);
    assert_int_equal(mprotect(base + GUEST_RAM_HIGH, HIGH_SIZE, PROT_READ | PROT_WRITE), 0);
    ram = (struct guest_ram){.base = base, .low_size = LOW_SIZE, .high_size = HIGH_SIZE};
    return 0;
}

static int teardown(void **state)
{
    return munmap(ram.base, GUEST_RAM_HIGH + 16 * MIB);
}

/* The field's three trees. */
struct mode {
    const char *name;
    struct guest_paging paging;
    int levels;
    unsigned index_bits, entry_size;
    u64 linear; /* whose index differs from level to level */
};

static const struct mode modes[] = {
    {"32-bit",          {CR0_PG | CR0_PE, ROOT, 0, 0, false},                  2, 10, 4, 0xC1803ABC        },
    {"32-bit with PSE", {CR0_PG | CR0_PE, ROOT | 0x18, PSE, 0, false},         2, 10, 4, 0xC1803ABC        },
    {"PAE",             {CR0_PG | CR0_PE, ROOT + 0x20, PAE, LME, false},       3, 9,  8, 0xC1803ABC        },
    {"4-level",         {CR0_PG | CR0_PE, ROOT | 0x18, PAE, LME | LMA, false}, 4, 9,  8, 0xFFFF83456789AABC},
    {"5-level",
     {CR0_PG | CR0_PE, ROOT | 0x18, PAE | LA57, LME | LMA, false},
     5,                                                                           9,
     8,                                                                                  0xFF12345678765ABC},
};

#define PAE_MODE   2
#define LONG_MODE  3
#define LONG_MODE5 4

static u64 entry_at(const struct mode *mode, u64 linear, int level)
{
    unsigned shift = 12 + mode->index_bits * (level - 1);
    u64 index = linear >> shift & ((1 << mode->index_bits) - 1);
    u64 table = level == mode->levels ? ROOT : TABLES + level * 4096;

    if (level == 3 && mode->levels == 3)
        return ROOT + 0x20 + (linear >> 30 & 3) * 8;
    return table + index * mode->entry_size;
}

static void put(const struct mode *mode, u64 linear, int level, u64 entry)
{
    memcpy(ram.base + entry_at(mode, linear, level), &entry, mode->entry_size);
}

/* Tables down to `level`, and there the entry. */
static void map(const struct mode *mode, u64 linear, int level, u64 entry)
{
    memset(ram.base, 0, LOW_SIZE);
    for (int above = mode->levels; above > level; above--) {
        u64 bits = mode->levels == 3 && above == 3 ? P : P | W | U;

        put(mode, linear, above, (TABLES + (above - 1) * 4096) | bits);
    }
    put(mode, linear, level, entry);
}

#define NOT_MAPPED UINT64_MAX

static u64 walk(const struct guest_paging *paging, u64 linear, bool write)
{
    u64 gpa = 0;

    if (!guest_walk(&ram, paging, linear, write, &gpa))
        return NOT_MAPPED;
    assert_int_not_equal(gpa, NOT_MAPPED);
    return gpa;
}

static u64 read_walk(const struct mode *mode)
{
    return walk(&mode->paging, mode->linear, false);
}

static void test_no_paging_is_identity(void **state)
{
    struct guest_paging paging = {.cr0 = CR0_PE, .cr3 = UINT64_MAX, .cr4 = PAE, .user = true};

    assert_int_equal(walk(&paging, 0, true), 0);
    assert_int_equal(walk(&paging, 0xFFFFFFF0, true), 0xFFFFFFF0);
    assert_int_equal(walk(&paging, 0x100000010, true), 0x10);
}

static void test_small_pages_in_every_mode(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        map(&modes[i], modes[i].linear, 1, 0x345000 | P | W | U | G);
        assert_int_equal(read_walk(&modes[i]), 0x345ABC);
        assert_int_equal(walk(&modes[i].paging, modes[i].linear ^ 0x1000, false), NOT_MAPPED);
        /* NX, protection keys and ignored bits are no part of the address. */
        if (modes[i].entry_size == 8) {
            map(&modes[i], modes[i].linear, 1, 0x7FF0000123345000 | NX | P);
            assert_int_equal(read_walk(&modes[i]), 0x123345ABC);
        }
    }
}

static void test_not_present_at_any_level(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
        for (int level = 1; level <= modes[i].levels; level++) {
            map(&modes[i], modes[i].linear, 1, 0x345000 | P | W | U);
            assert_int_equal(read_walk(&modes[i]), 0x345ABC);
            put(&modes[i], modes[i].linear, level,
                (level == 1 ? 0x345000 : TABLES + (level - 1) * 4096) | W | U);
            assert_int_equal(read_walk(&modes[i]), NOT_MAPPED);
        }
}

static void test_table_outside_ram_at_any_level(void **state)
{
    static const u64 places[] = {LOW_SIZE, 0xC0000000, 0xFEE00000, 0xFFFFF000};

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
        for (size_t place = 0; place < ARRAY_SIZE(places); place++) {
            struct guest_paging paging = modes[i].paging;

            for (int level = 2; level <= modes[i].levels; level++) {
                map(&modes[i], modes[i].linear, level, places[place] | P);
                assert_int_equal(read_walk(&modes[i]), NOT_MAPPED);
            }
            paging.cr3 = places[place];
            assert_int_equal(walk(&paging, modes[i].linear, false), NOT_MAPPED);
        }
    map(&modes[LONG_MODE], modes[LONG_MODE].linear, 4, 0x000FFFFFFFFFF000 | P);
    assert_int_equal(read_walk(&modes[LONG_MODE]), NOT_MAPPED);
}

static void test_table_above_4_gib(void **state)
{
    const struct mode *mode = &modes[LONG_MODE];
    u64 entry = 0x345000 | P, index = mode->linear >> 12 & 511;

    map(mode, mode->linear, 2, GUEST_RAM_HIGH | P);
    memcpy(ram.base + GUEST_RAM_HIGH + index * 8, &entry, 8);
    assert_int_equal(read_walk(mode), 0x345ABC);
    map(mode, mode->linear, 2, (GUEST_RAM_HIGH + HIGH_SIZE) | P);
    assert_int_equal(read_walk(mode), NOT_MAPPED);
}

static void test_legacy_large_pages(void **state)
{
    u64 linear = modes[0].linear;

    map(&modes[1], linear, 2, 0x400000 | P | PS);
    assert_int_equal(read_walk(&modes[1]), 0x400000 | (linear & 0x3FFFFF));
    /* PSE-36: bits 20:13 are 39:32 of the address; bit 12 is PAT, bit 21 reserved. */
    map(&modes[1], linear, 2, 0xFFC00000 | 0xA5 << 13 | 1 << 12 | P | PS);
    assert_int_equal(read_walk(&modes[1]), 0xA5FFC00000 | (linear & 0x3FFFFF));
    /* Without CR4.PSE bit 7 means nothing. */
    map(&modes[0], linear, 1, 0x345000 | P);
    put(&modes[0], linear, 2, (TABLES + 4096) | P | PS);
    assert_int_equal(read_walk(&modes[0]), 0x345ABC);
}

static void test_large_pages(void **state)
{
    for (size_t i = PAE_MODE; i < ARRAY_SIZE(modes); i++) {
        u64 linear = modes[i].linear;

        map(&modes[i], linear, 2, 0x1234200000 | 1 << 12 | P | PS | NX);
        assert_int_equal(read_walk(&modes[i]), 0x1234200000 | (linear & 0x1FFFFF));
        if (i == PAE_MODE)
            continue;
        map(&modes[i], linear, 3, 0x12C0000000 | 1 << 12 | P | PS);
        assert_int_equal(read_walk(&modes[i]), 0x12C0000000 | (linear & 0x3FFFFFFF));
    }
}

static void test_pae_root_holds_no_pages(void **state)
{
    map(&modes[PAE_MODE], modes[PAE_MODE].linear, 1, 0x345000 | P);
    put(&modes[PAE_MODE], modes[PAE_MODE].linear, 3, (TABLES + 2 * 4096) | P | PS);
    assert_int_equal(read_walk(&modes[PAE_MODE]), 0x345ABC);
}

static void test_bit_7_of_a_last_entry_is_pat(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        map(&modes[i], modes[i].linear, 1, 0x345000 | P | PS);
        assert_int_equal(read_walk(&modes[i]), 0x345ABC);
    }
}

/* Read-only at one level is read-only; a supervisor may write nevertheless while CR0.WP is 0. */
static void test_read_only(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
        for (int level = 1; level <= modes[i].levels; level++) {
            struct guest_paging paging = modes[i].paging;
            u64 linear = modes[i].linear;
            bool pae_root = modes[i].levels == 3 && level == 3;

            map(&modes[i], linear, 1, 0x345000 | P | W | U);
            paging.cr0 |= CR0_WP;
            assert_int_equal(walk(&paging, linear, true), 0x345ABC);
            put(&modes[i], linear, level,
                (level == 1 ? 0x345000 : TABLES + (level - 1) * 4096) | P | (pae_root ? 0 : U));
            assert_int_equal(walk(&paging, linear, false), 0x345ABC);
            /* A PDPTE of PAE has no such bit. */
            assert_int_equal(walk(&paging, linear, true), pae_root ? 0x345ABC : NOT_MAPPED);
            paging.cr0 &= ~CR0_WP;
            assert_int_equal(walk(&paging, linear, true), 0x345ABC);
            paging.user = true;
            assert_int_equal(walk(&paging, linear, false), 0x345ABC);
            assert_int_equal(walk(&paging, linear, true), pae_root ? 0x345ABC : NOT_MAPPED);
        }
}

static void test_supervisor_page_is_not_the_users(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
        for (int level = 1; level <= modes[i].levels; level++) {
            struct guest_paging paging = modes[i].paging;
            u64 linear = modes[i].linear;
            bool pae_root = modes[i].levels == 3 && level == 3;

            map(&modes[i], linear, 1, 0x345000 | P | W | U);
            put(&modes[i], linear, level,
                (level == 1 ? 0x345000 : TABLES + (level - 1) * 4096) | P | (pae_root ? 0 : W));
            assert_int_equal(walk(&paging, linear, true), 0x345ABC);
            paging.user = true;
            assert_int_equal(walk(&paging, linear, false), pae_root ? 0x345ABC : NOT_MAPPED);
            assert_int_equal(walk(&paging, linear, true), pae_root ? 0x345ABC : NOT_MAPPED);
        }
}

static void test_upper_bits_count_in_64_bit_mode_alone(void **state)
{
    static const struct {
        size_t mode;
        u64 linear, canonical_flip;
    } cases[] = {
        {LONG_MODE,  0xFFFF83456789AABC, BIT(48)},
        {LONG_MODE,  0x000003456789AABC, BIT(63)},
        {LONG_MODE,  0x000003456789AABC, BIT(47)},
        {LONG_MODE5, 0x0012345678765ABC, BIT(57)},
        {LONG_MODE5, 0x0012345678765ABC, BIT(56)},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct mode *mode = &modes[cases[i].mode];

        map(mode, cases[i].linear, 1, 0x345000 | P);
        assert_int_equal(walk(&mode->paging, cases[i].linear, false), 0x345ABC);
        map(mode, cases[i].linear ^ cases[i].canonical_flip, 1, 0x345000 | P);
        assert_int_equal(walk(&mode->paging, cases[i].linear ^ cases[i].canonical_flip, false),
                         NOT_MAPPED);
    }
    for (size_t i = 0; i <= PAE_MODE; i++) {
        map(&modes[i], modes[i].linear, 1, 0x345000 | P);
        assert_int_equal(walk(&modes[i].paging, modes[i].linear | 5 * BIT(32), false), 0x345ABC);
    }
}

static void fill(u64 gpa, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ram.base[gpa + i] = (u8)(gpa + i) ^ (u8)((gpa + i) >> 12);
}

/* Three pages, none next to the other and the third one unmapped at first. */
static void test_copies_cross_pages(void **state)
{
    u8 buffer[3 * 4096];

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        const struct mode *mode = &modes[i];
        u64 linear = ALIGN_DOWN(mode->linear, 4 * 4096);

        map(mode, linear, 1, 0x345000 | P | W);
        put(mode, linear + 4096, 1, 0x123000 | P);
        fill(0x345000, 4096);
        fill(0x123000, 4096);
        memset(buffer, 0xEE, sizeof(buffer));
        assert_int_equal(
            guest_read_linear(&ram, &mode->paging, linear + 100, buffer, sizeof(buffer)), 8092);
        assert_memory_equal(buffer, ram.base + 0x345000 + 100, 3996);
        assert_memory_equal(buffer + 3996, ram.base + 0x123000, 4096);
        assert_int_equal(buffer[8092], 0xEE);
        assert_int_equal(guest_read_linear(&ram, &mode->paging, linear + 8192, buffer, 1), 0);
        assert_int_equal(guest_read_linear(&ram, &mode->paging, linear + 8191, buffer, 0), 0);
    }
}

static void test_writes_end_at_the_first_read_only_page(void **state)
{
    u8 buffer[8192];

    memset(buffer, 0x77, sizeof(buffer));
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        struct guest_paging paging = modes[i].paging;
        u64 linear = ALIGN_DOWN(modes[i].linear, 4 * 4096);

        map(&modes[i], linear, 1, 0x345000 | P | W);
        put(&modes[i], linear + 4096, 1, 0x123000 | P);
        paging.cr0 |= CR0_WP;
        assert_int_equal(guest_write_linear(&ram, &paging, linear + 4000, buffer, 200), 96);
        assert_int_equal(ram.base[0x345000 + 3999], 0);
        assert_memory_equal(ram.base + 0x345000 + 4000, buffer, 96);
        assert_int_equal(ram.base[0x346000], 0);
        assert_int_equal(ram.base[0x123000], 0);
        paging.cr0 &= ~CR0_WP;
        assert_int_equal(guest_write_linear(&ram, &paging, linear + 4000, buffer, 200), 200);
        assert_memory_equal(ram.base + 0x123000, buffer, 104);
        assert_int_equal(ram.base[0x123000 + 104], 0);
    }
}

static void test_copies_end_where_ram_ends(void **state)
{
    const struct mode *mode = &modes[LONG_MODE];
    u64 linear = ALIGN_DOWN(mode->linear, 4 * 4096);
    u8 buffer[8192];

    map(mode, linear, 1, (LOW_SIZE - 4096) | P | W);
    put(mode, linear + 4096, 1, LOW_SIZE | P | W);
    assert_int_equal(guest_read_linear(&ram, &mode->paging, linear, buffer, 8192), 4096);
    assert_int_equal(guest_write_linear(&ram, &mode->paging, linear, buffer, 8192), 4096);
    put(mode, linear, 1, (GUEST_RAM_HIGH + HIGH_SIZE - 4096) | P | W);
    assert_int_equal(guest_write_linear(&ram, &mode->paging, linear + 4095, "x", 2), 1);
    assert_int_equal(ram.base[GUEST_RAM_HIGH + HIGH_SIZE - 1], 'x');
}

static void test_copies_wrap_with_the_address_space(void **state)
{
    struct guest_paging paging = {.cr0 = CR0_PE};
    const struct mode *mode = &modes[0];
    u8 buffer[16];

    /* Without paging the end of the 4 GiB is no RAM. */
    assert_int_equal(guest_read_linear(&ram, &paging, 0xFFFFFFF8, buffer, 16), 0);
    assert_int_equal(guest_read_linear(&ram, &paging, LOW_SIZE - 8, buffer, 16), 8);
    /* With it the last page and the first are neighbours. */
    map(mode, 0xFFFFF000, 1, 0x345000 | P);
    put(mode, 0, 2, (TABLES + 2 * 4096) | P);
    memcpy(ram.base + TABLES + 2 * 4096, &(u32){0x123000 | P}, 4);
    fill(0x345000, 4096);
    fill(0x123000, 4096);
    assert_int_equal(guest_read_linear(&ram, &mode->paging, 0xFFFFFFF8, buffer, 16), 16);
    assert_memory_equal(buffer, ram.base + 0x345FF8, 8);
    assert_memory_equal(buffer + 8, ram.base + 0x123000, 8);
}

#define CODE_SIZE 16

/* What the walk finds is found again, and it is no walk that finds it. */
static void check_code(struct guest_code *code, u64 linear, u64 gpa)
{
    struct guest_code other = *code;

    assert_ptr_equal(guest_code_at(code, &ram, ROOT | 0x18, linear, CODE_SIZE), ram.base + gpa);
    assert_ptr_equal(guest_code_find(&other, &ram, ROOT | 0x18, linear, CODE_SIZE), ram.base + gpa);
    other.page += 4096;
    assert_ptr_equal(guest_code_at(&other, &ram, ROOT | 0x18, linear, CODE_SIZE),
                     ram.base + gpa + 4096);
}

static void test_code_is_found_again(void **state)
{
    const struct mode *mode = &modes[LONG_MODE];
    struct guest_code code = {.linear = GUEST_CODE_NOWHERE};
    u64 page = mode->linear & ~0xFFFULL;

    map(mode, mode->linear, 1, 0x300000 | P);
    check_code(&code, mode->linear, 0x300ABC);
    check_code(&code, page, 0x300000);
    check_code(&code, page + 4096 - CODE_SIZE, 0x301000 - CODE_SIZE);
    assert_null(guest_code_at(&code, &ram, ROOT, page + 4096 - CODE_SIZE + 1, CODE_SIZE));
    assert_null(guest_code_at(&code, &ram, ROOT, page - 1, CODE_SIZE));
    map(mode, mode->linear, 1, (GUEST_RAM_HIGH + 0x5000) | NX | P);
    check_code(&code, mode->linear, GUEST_RAM_HIGH + 0x5ABC);
    map(mode, mode->linear, 2, 0x200000 | PS | P);
    check_code(&code, mode->linear, 0x200000 | (mode->linear & 0x1FFFFF));
    map(mode, mode->linear, 3, PS | P);
    assert_null(guest_code_at(&code, &ram, ROOT, mode->linear, CODE_SIZE)); /* no RAM there */
    check_code(&code, page & ~0x3FFFFFFFULL, 0);
}

/* The guest tells nobody. */
static void test_code_moves_with_every_entry(void **state)
{
    const struct mode *mode = &modes[LONG_MODE];
    struct guest_code code = {.linear = GUEST_CODE_NOWHERE};

    for (int level = 1; level <= 4; level++) {
        u64 at = entry_at(mode, mode->linear, level), elsewhere = 0x100000;

        map(mode, mode->linear, 1, 0x300000 | P);
        check_code(&code, mode->linear, 0x300ABC);
        put(mode, mode->linear, level, elsewhere | P);
        /* From there on through one page that all entries lead to. */
        for (u32 i = 0; level > 1 && i < 512; i++)
            memcpy(ram.base + elsewhere + 8 * i, &(u64){(elsewhere + 4096) | P}, 8);
        for (u32 i = 0; i < 512; i++)
            memcpy(ram.base + elsewhere + 4096 + 8 * i, &(u64){(elsewhere + 4096) | P}, 8);
        check_code(&code, mode->linear, elsewhere + (level > 1 ? 4096 : 0) + 0xABC);
        memset(ram.base + at, 0, 8);
        assert_null(guest_code_at(&code, &ram, ROOT | 0x18, mode->linear, CODE_SIZE));
    }
    map(mode, mode->linear, 1, 0x300000 | P);
    check_code(&code, mode->linear, 0x300ABC);
    memcpy(ram.base + 0x40000, ram.base + ROOT, 4096);
    memset(ram.base + ROOT, 0, 4096);
    assert_ptr_equal(guest_code_at(&code, &ram, 0x40000, mode->linear, CODE_SIZE),
                     ram.base + 0x300ABC);
    assert_null(guest_code_at(&code, &ram, ROOT | 0x18, mode->linear, CODE_SIZE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_paging_is_identity),
        cmocka_unit_test(test_small_pages_in_every_mode),
        cmocka_unit_test(test_not_present_at_any_level),
        cmocka_unit_test(test_table_outside_ram_at_any_level),
        cmocka_unit_test(test_table_above_4_gib),
        cmocka_unit_test(test_legacy_large_pages),
        cmocka_unit_test(test_large_pages),
        cmocka_unit_test(test_pae_root_holds_no_pages),
        cmocka_unit_test(test_bit_7_of_a_last_entry_is_pat),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_supervisor_page_is_not_the_users),
        cmocka_unit_test(test_upper_bits_count_in_64_bit_mode_alone),
        cmocka_unit_test(test_copies_cross_pages),
        cmocka_unit_test(test_writes_end_at_the_first_read_only_page),
        cmocka_unit_test(test_copies_end_where_ram_ends),
        cmocka_unit_test(test_copies_wrap_with_the_address_space),
        cmocka_unit_test(test_code_is_found_again),
        cmocka_unit_test(test_code_moves_with_every_entry),
    };

    return cmocka_run_group_tests_name("guest_walk", tests, setup, teardown);
}
