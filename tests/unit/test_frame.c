/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* The books of physical memory against a plain array with one byte for each frame. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mm/frame.h"

#define FRAMES_MAX (6 * GIB / PAGE_SIZE)
#define CHUNKS_MAX (FRAMES_MAX / PAGES_PER_CHUNK)
#define PIECES_MAX 4096

enum frame_state {
    NO_RAM,
    FREE,
    TAKEN,
};

/* What was handed out and not given back. */
struct piece {
    paddr_t start;
    u64 frames;
    enum frame_owner owner;
};

static struct {
    u8 frames[FRAMES_MAX]; /* enum frame_state */
    u8 owners[CHUNKS_MAX]; /* enum frame_owner */
    struct piece pieces[PIECES_MAX];
    u32 piece_count;
    u64 total;
} model;

static struct boot_info info;
static struct frame_allocator frames;
static struct chunk *chunks;

static u64 random_number(u64 *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static int setup(void **state)
{
    memset(&model, 0, sizeof(model));
    memset(&info, 0, sizeof(info));
    return 0;
}

static int teardown(void **state)
{
    free(chunks);
    chunks = NULL;
    return 0;
}

static void add_region(paddr_t start, paddr_t end, enum boot_region_type type)
{
    info.regions[info.region_count++] =
        (struct boot_region){.start = start, .size = end - start, .type = type};
}

/* ---- the model --------------------------------------------------------------------------- */

static u64 free_in_chunk(u64 chunk)
{
    u64 count = 0;

    for (u64 i = 0; i < PAGES_PER_CHUNK; i++)
        count += model.frames[chunk * PAGES_PER_CHUNK + i] == FREE;
    return count;
}

static void model_find_owners(void)
{
    for (u64 i = 0; i < CHUNKS_MAX; i++) {
        u64 count = free_in_chunk(i);

        model.owners[i] = count == 0                 ? OWNER_NONE
                          : count == PAGES_PER_CHUNK ? OWNER_FREE
                                                     : OWNER_GUEST_SPLIT;
    }
}

static void model_init(void)
{
    for (u64 i = 1; i < FRAMES_MAX; i++)
        for (u32 r = 0; r < info.region_count; r++) {
            const struct boot_region *region = &info.regions[r];

            if (region->type == REGION_USABLE && region->start <= i * PAGE_SIZE &&
                (i + 1) * PAGE_SIZE <= region->start + region->size) {
                model.frames[i] = FREE;
                model.total++;
            }
        }
    model_find_owners();
}

/* An allocator of exactly as many chunks as are needed, for the sanitizer to watch its end. */
static void start(void)
{
    u64 count = frame_chunks_needed(&info);

    assert_true(count <= CHUNKS_MAX);
    chunks = malloc(count * sizeof(*chunks) + 1);
    memset(chunks, 0xA5, count * sizeof(*chunks));
    frame_init(&frames, &info, chunks);
    model_init();
}

static void model_take(struct piece piece)
{
    u64 first = piece.start / PAGE_SIZE;

    for (u64 i = 0; i < piece.frames; i++) {
        assert_int_equal(model.frames[first + i], FREE);
        model.frames[first + i] = TAKEN;
    }
    assert_true(model.piece_count < PIECES_MAX);
    model.pieces[model.piece_count++] = piece;
}

static void model_give_back(u32 number)
{
    struct piece piece = model.pieces[number];
    u64 chunk = piece.start / CHUNK_SIZE;

    model.pieces[number] = model.pieces[--model.piece_count];
    for (u64 i = 0; i < piece.frames; i++)
        model.frames[piece.start / PAGE_SIZE + i] = FREE;
    if (piece.owner == OWNER_GUEST ||
        (piece.owner == OWNER_GUEST_SPLIT && free_in_chunk(chunk) == PAGES_PER_CHUNK))
        model.owners[chunk] = OWNER_FREE;
}

static bool model_has_frames(enum frame_owner owner, u64 count)
{
    for (u64 chunk = 0; chunk < CHUNKS_MAX; chunk++) {
        u64 run = 0;

        if (owner == OWNER_GUEST_SPLIT && model.owners[chunk] == OWNER_FREE)
            return true;
        if (model.owners[chunk] != owner)
            continue;
        for (u64 i = 0; i < PAGES_PER_CHUNK; i++) {
            run = model.frames[chunk * PAGES_PER_CHUNK + i] == FREE ? run + 1 : 0;
            if (run == count)
                return true;
        }
    }
    return false;
}

static bool model_has_run(u64 count, paddr_t limit)
{
    for (u64 first = 0; first + count <= CHUNKS_MAX; first += count) {
        u64 free = 0;

        while (free < count && model.owners[first + free] == OWNER_FREE)
            free++;
        if (free == count && first < limit / CHUNK_SIZE)
            return true;
    }
    return false;
}

static void check_books(void)
{
    u64 free = 0, pool = 0, pool_free = 0;

    for (u64 chunk = 0; chunk < frames.chunk_count; chunk++) {
        u64 count = free_in_chunk(chunk);

        free += count;
        pool += model.owners[chunk] == OWNER_POOL ? PAGES_PER_CHUNK : 0;
        pool_free += model.owners[chunk] == OWNER_POOL ? count : 0;
        assert_int_equal(frame_owner_of(&frames, chunk * CHUNK_SIZE + 5), model.owners[chunk]);
        assert_int_equal(chunks[chunk].free_count, count);
    }
    assert_int_equal(frames.free_frames, free);
    assert_int_equal(frames.pool_frames, pool);
    assert_int_equal(frames.pool_free, pool_free);
    assert_int_equal(frames.total_frames, model.total);
}

/* ---- operations on both ------------------------------------------------------------------ */

static bool take_chunks(u64 count, paddr_t limit)
{
    paddr_t start = count == 1 ? frame_alloc_chunk(&frames, OWNER_GUEST, limit)
                               : frame_alloc_run(&frames, count);

    if (start == 0) {
        assert_false(model_has_run(count, limit));
        return false;
    }
    assert_true(IS_ALIGNED(start, count * CHUNK_SIZE));
    assert_true(count > 1 || start + CHUNK_SIZE <= limit);
    for (u64 i = 0; i < count; i++) {
        assert_int_equal(model.owners[start / CHUNK_SIZE + i], OWNER_FREE);
        model.owners[start / CHUNK_SIZE + i] = OWNER_GUEST;
        model_take((struct piece){start + i * CHUNK_SIZE, PAGES_PER_CHUNK, OWNER_GUEST});
    }
    return true;
}

static bool take_frames(enum frame_owner owner, u64 count)
{
    paddr_t start = frame_alloc(&frames, owner, count);
    u64 chunk = start / CHUNK_SIZE;

    if (start == 0) {
        assert_false(model_has_frames(owner, count));
        return false;
    }
    assert_true(IS_ALIGNED(start, PAGE_SIZE));
    assert_int_equal((start + count * PAGE_SIZE - 1) / CHUNK_SIZE, chunk);
    if (owner == OWNER_GUEST_SPLIT && model.owners[chunk] == OWNER_FREE)
        model.owners[chunk] = OWNER_GUEST_SPLIT;
    assert_int_equal(model.owners[chunk], owner);
    model_take((struct piece){start, count, owner});
    return true;
}

static void give_back(u32 number)
{
    struct piece piece = model.pieces[number];

    if (piece.owner == OWNER_GUEST)
        frame_free_chunk(&frames, piece.start);
    else
        frame_free(&frames, piece.start, piece.frames);
    model_give_back(number);
}

/* As pool.c does it: the chunk is out of reach while tables for it are made. */
static void grow_pool(u64 used)
{
    paddr_t chunk = frame_alloc_chunk(&frames, OWNER_GUEST, UINT64_MAX);
    u64 taken = DIV_ROUND_UP(used, PAGE_SIZE);

    if (chunk == 0) {
        assert_false(model_has_run(1, UINT64_MAX));
        return;
    }
    frame_free_chunk(&frames, chunk);
    frame_claim(&frames, chunk, used);
    assert_int_equal(model.owners[chunk / CHUNK_SIZE], OWNER_FREE);
    model.owners[chunk / CHUNK_SIZE] = OWNER_POOL;
    for (u64 i = 0; i < taken; i++)
        model.frames[chunk / PAGE_SIZE + i] = TAKEN;
}

static void random_operation(u64 *seed)
{
    u64 count = 1 + random_number(seed) % (random_number(seed) % 8 == 0 ? 512 : 6);

    switch (random_number(seed) % 16) {
    case 0:
        take_chunks(1, random_number(seed) % 2 ? UINT64_MAX : random_number(seed) % (5 * GIB));
        break;
    case 1:
        take_chunks(1ULL << random_number(seed) % 5, UINT64_MAX);
        break;
    case 2:
        if (random_number(seed) % 8 == 0)
            grow_pool(random_number(seed) % 2 ? 0 : random_number(seed) % CHUNK_SIZE);
        break;
    case 3 ... 5:
        take_frames(OWNER_GUEST_SPLIT, count);
        break;
    case 6 ... 8:
        take_frames(OWNER_POOL, count);
        break;
    default:
        if (model.piece_count > 0)
            give_back(random_number(seed) % model.piece_count);
    }
}

/* Sometimes much is taken, sometimes much is given back, so that memory runs out and comes back. */
static void run_random(u64 *seed)
{
    for (int i = 0; i < 6000; i++) {
        random_operation(seed);
        if (i % 2000 > 1000 && model.piece_count < PIECES_MAX - 600)
            take_frames(i % 2 ? OWNER_POOL : OWNER_GUEST_SPLIT, 1 + random_number(seed) % 40);
        if (i % 500 == 0)
            check_books();
    }
    while (model.piece_count > 0)
        give_back(model.piece_count - 1);
    check_books();
}

/* ---- tests ------------------------------------------------------------------------------- */

static void test_random_operations(void **state)
{
    for (u64 seed = 7; seed < 12; seed++) {
        u64 random = seed * 0x9E3779B97F4A7C15;

        setup(state);
        add_region(0, 0x9FC00, REGION_USABLE);
        add_region(MIB, 2 * MIB + random_number(&random) % (30 * MIB), REGION_USABLE);
        add_region(40 * MIB + random_number(&random) % MIB, 60 * MIB + random_number(&random) % MIB,
                   REGION_USABLE);
        add_region(4 * GIB, 4 * GIB + 70 * MIB + 0x5000, REGION_USABLE);
        start();
        frame_reserve(&frames, 0, MIB);
        memset(model.frames, NO_RAM, MIB / PAGE_SIZE);
        model_find_owners();
        model.owners[0] = frame_owner_of(&frames, 0);
        check_books();
        run_random(&random);
        teardown(state);
    }
}

/* Boundaries anywhere: a frame counts when one usable region covers all of it. */
static void test_partial_frames_and_chunks_are_left_out(void **state)
{
    for (u64 seed = 1; seed < 40; seed++) {
        u64 random = seed * 0x9E3779B97F4A7C15;
        paddr_t at = random_number(&random) % 3 * 0x800;

        setup(state);
        for (int i = 0; i < 12; i++) {
            paddr_t end =
                at + 1 + random_number(&random) % (i % 2 ? 3 * PAGE_SIZE : 3 * CHUNK_SIZE);

            if (random_number(&random) % 4 == 0)
                end = ALIGN_UP(end, CHUNK_SIZE);
            add_region(at, end, random_number(&random) % 4 ? REGION_USABLE : i % REGION_BAD + 1);
            at = end + random_number(&random) % 3 * (random_number(&random) % 6000);
        }
        add_region(at, at + 1, REGION_USABLE);
        start();
        check_books();
        teardown(state);
    }
}

static void test_table_ends_with_usable_memory(void **state)
{
    add_region(MIB, 16 * MIB + 1, REGION_USABLE);
    add_region(4 * GIB, 5 * GIB, REGION_RESERVED);
    assert_int_equal(frame_chunks_needed(&info), 9);
    start();
    check_books();
    assert_int_equal(frame_owner_of(&frames, 16 * MIB), OWNER_NONE);
    assert_int_equal(frame_owner_of(&frames, 18 * MIB), OWNER_NONE);
    assert_int_equal(frame_owner_of(&frames, UINT64_MAX), OWNER_NONE);
}

static void test_frame_0_is_nobodys(void **state)
{
    add_region(0, CHUNK_SIZE, REGION_USABLE);
    start();
    check_books();
    assert_int_equal(frames.total_frames, PAGES_PER_CHUNK - 1);
    while (take_frames(OWNER_GUEST_SPLIT, 1))
        ;
    assert_int_equal(frames.free_frames, 0);
}

static void test_reserves_outwards(void **state)
{
    static const struct {
        paddr_t start;
        u64 size, frames;
    } cases[] = {
        {0x400000,         0,              0                   },
        {0x400000,         1,              1                   },
        {0x400FFF,         2,              2                   },
        {0x400800,         PAGE_SIZE,      2                   },
        {0x3FF000,         CHUNK_SIZE,     512                 },
        {0x400000,         3 * CHUNK_SIZE, 3 * 512             },
        {16 * MIB - 0x800, PAGE_SIZE,      1                   },
        {16 * MIB - 0x800, UINT64_MAX,     1                   },
        {16 * MIB,         PAGE_SIZE,      0                   },
        {4 * MIB,          UINT64_MAX,     12 * MIB / PAGE_SIZE},
        {0,                UINT64_MAX,     14 * MIB / 4096     },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        setup(state);
        add_region(2 * MIB, 16 * MIB, REGION_USABLE);
        start();
        frame_reserve(&frames, cases[i].start, cases[i].size);
        assert_int_equal(frames.free_frames, frames.total_frames - cases[i].frames);
        /* Twice is as good as once. */
        frame_reserve(&frames, cases[i].start, cases[i].size);
        assert_int_equal(frames.free_frames, frames.total_frames - cases[i].frames);
        if (cases[i].size > 0) {
            u64 end = cases[i].start / PAGE_SIZE + cases[i].frames;

            for (u64 f = cases[i].start / PAGE_SIZE; f < end && f < FRAMES_MAX; f++)
                model.frames[f] = NO_RAM;
        }
        if (cases[i].start == 0)
            memset(model.frames, NO_RAM, sizeof(model.frames));
        model_find_owners();
        while (frames.free_frames > 0)
            assert_true(take_chunks(1, UINT64_MAX) || take_frames(OWNER_GUEST_SPLIT, 1));
        teardown(state);
    }
}

static void test_reserved_frames_never_make_a_whole_chunk(void **state)
{
    add_region(2 * MIB, 8 * MIB, REGION_USABLE);
    start();
    frame_reserve(&frames, 4 * MIB, 1);
    model.frames[4 * MIB / PAGE_SIZE] = NO_RAM;
    model_find_owners();
    check_books();
    while (take_frames(OWNER_GUEST_SPLIT, 1))
        ;
    while (model.piece_count > 0)
        give_back(0);
    check_books();
    assert_true(take_chunks(1, UINT64_MAX));
    assert_true(take_chunks(1, UINT64_MAX));
    assert_false(take_chunks(1, UINT64_MAX));
}

static void test_runs_of_a_gibibyte(void **state)
{
    add_region(MIB, 3 * GIB, REGION_USABLE);
    add_region(4 * GIB, 6 * GIB - CHUNK_SIZE, REGION_USABLE);
    start();
    /* [1, 2), [2, 3) and [4, 5) GiB: the first lacks its first MiB, the last its last chunk. */
    assert_true(take_chunks(512, UINT64_MAX));
    assert_true(take_chunks(1, UINT64_MAX));
    assert_true(take_chunks(512, UINT64_MAX));
    assert_true(take_chunks(512, UINT64_MAX));
    assert_false(take_chunks(512, UINT64_MAX));
    check_books();
    assert_true(take_chunks(256, UINT64_MAX));
    /* One chunk of a run that comes back is not yet a run; all of them are. */
    for (u32 i = 0; i < 511; i++)
        give_back(0);
    assert_false(take_chunks(512, UINT64_MAX));
    while (model.piece_count > 0)
        give_back(0);
    check_books();
    assert_true(take_chunks(512, UINT64_MAX));
}

static void test_run_may_end_with_memory(void **state)
{
    add_region(2 * MIB, 8 * MIB, REGION_USABLE);
    start();
    assert_true(take_chunks(2, UINT64_MAX));
    assert_false(take_chunks(2, UINT64_MAX));
    assert_true(take_chunks(1, UINT64_MAX));
    assert_int_equal(frames.free_frames, 0);
}

static void test_chunks_keep_below_the_limit(void **state)
{
    add_region(4 * MIB, 8 * MIB, REGION_USABLE);
    add_region(4 * GIB, 4 * GIB + 4 * MIB, REGION_USABLE);
    start();
    assert_false(take_chunks(1, 6 * MIB - 1));
    assert_true(take_chunks(1, 6 * MIB));
    assert_true(take_chunks(1, 4 * GIB));
    assert_false(take_chunks(1, 4 * GIB));
    assert_true(take_chunks(1, UINT64_MAX));
    assert_true(take_chunks(1, UINT64_MAX));
    assert_false(take_chunks(1, UINT64_MAX));
}

static void test_pool_grows_by_claims_alone(void **state)
{
    add_region(2 * MIB, 16 * MIB, REGION_USABLE);
    start();
    assert_false(take_frames(OWNER_POOL, 1));
    grow_pool(3 * PAGE_SIZE + 1);
    check_books();
    assert_int_equal(frames.pool_free, PAGES_PER_CHUNK - 4);
    while (take_frames(OWNER_POOL, 1))
        ;
    assert_int_equal(frames.pool_free, 0);
    assert_true(take_frames(OWNER_GUEST_SPLIT, 1));
    assert_false(take_frames(OWNER_POOL, 1));
    while (model.piece_count > 0)
        give_back(0);
    /* The pool keeps its chunks. */
    check_books();
    assert_int_equal(frames.pool_frames, PAGES_PER_CHUNK);
    grow_pool(CHUNK_SIZE);
    check_books();
}

static void test_pieces_lie_in_one_chunk(void **state)
{
    add_region(2 * MIB, 6 * MIB, REGION_USABLE);
    start();
    assert_true(take_frames(OWNER_GUEST_SPLIT, 300));
    assert_true(take_frames(OWNER_GUEST_SPLIT, 300));
    assert_false(take_frames(OWNER_GUEST_SPLIT, 213));
    assert_true(take_frames(OWNER_GUEST_SPLIT, 212));
    assert_true(take_frames(OWNER_GUEST_SPLIT, 212));
    assert_int_equal(frames.free_frames, 0);
    give_back(0);
    assert_true(take_frames(OWNER_GUEST_SPLIT, 300));
    assert_int_equal(frame_alloc(&frames, OWNER_GUEST_SPLIT, 513), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random_operations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_partial_frames_and_chunks_are_left_out, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_table_ends_with_usable_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frame_0_is_nobodys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reserves_outwards, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reserved_frames_never_make_a_whole_chunk, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_runs_of_a_gibibyte, setup, teardown),
        cmocka_unit_test_setup_teardown(test_run_may_end_with_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chunks_keep_below_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pool_grows_by_claims_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pieces_lie_in_one_chunk, setup, teardown),
    };

    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
