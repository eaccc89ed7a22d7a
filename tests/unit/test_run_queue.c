/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* core/run_queue.c: the order, and what comes of it in a CPU that is played through. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/run_queue.h"
#include "core/vm.h"

#define SLICE  10000
#define PEOPLE 8

static struct vm vms[PEOPLE];
static struct vcpu vcpus[PEOPLE];
static struct run_queue queue;

/* vCPU n alone in partition n. */
static int set_up(void **state)
{
    memset(vms, 0, sizeof(vms));
    memset(vcpus, 0, sizeof(vcpus));
    run_queue_init(&queue);
    for (u32 i = 0; i < PEOPLE; i++) {
        vms[i].config.weight = CONFIG_WEIGHT_DEFAULT;
        vms[i].active_vcpus = 1;
        vcpus[i].vm = &vms[i];
        list_init(&vcpus[i].run);
    }
    return 0;
}

static void share_partition(u32 a, u32 b)
{
    vcpus[b].vm = vcpus[a].vm;
    vcpus[a].vm->active_vcpus = 2;
}

static void insert(u32 index, u64 virtual_time, u64 now)
{
    vcpus[index].virtual_time = virtual_time;
    run_queue_insert(&queue, &vcpus[index], now);
}

static void assert_order(const char *order)
{
    struct list *node = queue.waiting.next;

    assert_int_equal(queue.count, strlen(order));
    for (; *order; order++, node = node->next)
        assert_ptr_equal(LIST_ENTRY(node, struct vcpu, run), &vcpus[*order - '0']);
    assert_ptr_equal(node, &queue.waiting);
}

static void orders_by_virtual_time(void **state)
{
    assert_null(run_queue_first(&queue));
    insert(0, 30, 0);
    insert(1, 10, 0);
    insert(2, 20, 0);
    insert(3, 20, 0);
    assert_order("1230");
    vcpus[4].virtual_time = 20;
    run_queue_insert_first(&queue, &vcpus[4], 0);
    assert_order("14230");
    assert_ptr_equal(run_queue_first(&queue), &vcpus[1]);
}

static void orders_across_the_wrap(void **state)
{
    insert(0, 5, 0);
    insert(1, UINT64_MAX - 5, 0);
    insert(2, 0, 0);
    assert_order("120");
}

static void charges_what_was_waited(void **state)
{
    insert(0, 0, 100);
    run_queue_remove(&queue, &vcpus[0], 130);
    assert_int_equal(vcpus[0].statistics.steal_cycles, 30);
    assert_order("");
}

static void sleep_is_not_saved_up(void **state)
{
    run_queue_advance(&queue, 5 * SLICE);
    run_queue_advance(&queue, 4 * SLICE);
    run_queue_adapt(&queue, &vcpus[0], SLICE);
    assert_int_equal(vcpus[0].virtual_time, 4 * SLICE);
    vcpus[1].virtual_time = 9 * SLICE;
    run_queue_adapt(&queue, &vcpus[1], SLICE);
    assert_int_equal(vcpus[1].virtual_time, 6 * SLICE);
    vcpus[2].virtual_time = 5 * SLICE + 1;
    run_queue_adapt(&queue, &vcpus[2], SLICE);
    assert_int_equal(vcpus[2].virtual_time, 5 * SLICE + 1);
}

/* It owes what its part of the weight lets it: a nap must not wipe that out. */
static void a_debt_is_not_slept_away(void **state)
{
    vms[0].config.weight = 1;
    charge_virtual_time(&vcpus[0], SLICE, 1);
    run_queue_adapt(&queue, &vcpus[0], SLICE);
    assert_int_equal(vcpus[0].virtual_time, 100 * SLICE);
    vms[1].active_vcpus = 8;
    charge_virtual_time(&vcpus[1], SLICE, 1);
    run_queue_adapt(&queue, &vcpus[1], SLICE);
    assert_int_equal(vcpus[1].virtual_time, 8 * SLICE);
}

/* Siblings that rest just when a turn is charged are charged for all the same. */
static void sharers_at_the_start_count(void **state)
{
    charge_virtual_time(&vcpus[0], SLICE, 4);
    assert_int_equal(vcpus[0].virtual_time, 4 * SLICE);
}

static void a_weight_is_shared_by_the_active(void **state)
{
    vms[0].config.weight = 300;
    charge_virtual_time(&vcpus[0], 3000, 1);
    assert_int_equal(vcpus[0].virtual_time, 1000);
    vms[0].active_vcpus = 4;
    charge_virtual_time(&vcpus[0], 3000, 1);
    assert_int_equal(vcpus[0].virtual_time, 5000);
}

/* One CPU for `total` ticks, all in the queue busy. Vcpu `spinner` does nothing but yield. */
static void play(u64 ran[PEOPLE], u64 total, u32 spinner)
{
    for (u64 now = 0; now < total;) {
        struct vcpu *vcpu = run_queue_first(&queue);
        u64 used = vcpu == &vcpus[spinner] ? SLICE / 100 : SLICE;

        run_queue_remove(&queue, vcpu, now);
        run_queue_advance(&queue, vcpu->virtual_time);
        now += used;
        ran[vcpu - vcpus] += used;
        charge_virtual_time(vcpu, used, 1);
        if (vcpu == &vcpus[spinner])
            run_queue_yield(&queue, vcpu, now);
        run_queue_insert(&queue, vcpu, now);
    }
}

static void shares_by_weight(void **state)
{
    u64 ran[PEOPLE] = {0};

    vms[1].config.weight = 300;
    insert(0, 0, 0);
    insert(1, 0, 0);
    play(ran, 400 * SLICE, PEOPLE);
    assert_in_range(ran[0], 99 * SLICE, 101 * SLICE);
}

static void many_vcpus_gain_a_partition_nothing(void **state)
{
    u64 ran[PEOPLE] = {0};

    share_partition(0, 1);
    insert(0, 0, 0);
    insert(1, 0, 0);
    insert(2, 0, 0);
    play(ran, 400 * SLICE, PEOPLE);
    assert_in_range(ran[2], 198 * SLICE, 202 * SLICE);
    assert_in_range(ran[0], 99 * SLICE, 101 * SLICE);
}

static void a_spinner_lets_the_longest_waiting_sibling_go_first(void **state)
{
    share_partition(0, 1);
    vcpus[3].vm = vcpus[0].vm;
    insert(1, 70, 2);
    insert(2, 20, 0);
    insert(3, 60, 1);
    vcpus[0].virtual_time = 10;
    run_queue_yield(&queue, &vcpus[0], 5);
    assert_int_equal(vcpus[3].virtual_time, 10);
    assert_int_equal(vcpus[0].virtual_time, 60);
    run_queue_insert(&queue, &vcpus[0], 5);
    assert_order("3201");
}

static void a_spinner_without_sibling_keeps_its_place(void **state)
{
    insert(1, 70, 0);
    vcpus[0].virtual_time = 10;
    run_queue_yield(&queue, &vcpus[0], 5);
    assert_int_equal(vcpus[0].virtual_time, 10);
    assert_int_equal(vcpus[1].virtual_time, 70);
}

/* A guest could have one vCPU give its turns to another, over and over. */
static void yielding_gains_a_partition_nothing(void **state)
{
    u64 ran[PEOPLE] = {0};

    share_partition(0, 1);
    insert(0, 0, 0);
    insert(1, 0, 0);
    insert(2, 0, 0);
    play(ran, 400 * SLICE, 0);
    assert_true(ran[2] >= 195 * SLICE);
    assert_true(ran[1] > 90 * SLICE);
}

static u64 play_capped(struct vm *vm, u64 total)
{
    u64 ran = 0;

    for (u64 now = 0; now < total;) {
        u64 until = cap_wait(vm, now);

        if (until == 0) {
            cap_charge(vm, now, SLICE);
            ran += SLICE;
            now += SLICE;
        } else {
            now = until;
        }
    }
    return ran;
}

static void a_cap_holds(void **state)
{
    vms[0].config.cap_percent = 30;
    assert_in_range(play_capped(&vms[0], 1000 * SLICE), 290 * SLICE, 301 * SLICE);
    vms[1].config.cap_percent = 0;
    assert_int_equal(play_capped(&vms[1], 1000 * SLICE), 1000 * SLICE);
}

static void a_cap_saves_nothing_up(void **state)
{
    vms[0].config.cap_percent = 50;
    cap_charge(&vms[0], 0, SLICE);
    assert_int_equal(cap_wait(&vms[0], SLICE), 2 * SLICE);
    assert_int_equal(cap_wait(&vms[0], 2 * SLICE), 0);
    cap_charge(&vms[0], 100 * SLICE, SLICE);
    assert_int_equal(cap_wait(&vms[0], 101 * SLICE), 102 * SLICE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(orders_by_virtual_time, set_up),
        cmocka_unit_test_setup(orders_across_the_wrap, set_up),
        cmocka_unit_test_setup(charges_what_was_waited, set_up),
        cmocka_unit_test_setup(sleep_is_not_saved_up, set_up),
        cmocka_unit_test_setup(a_debt_is_not_slept_away, set_up),
        cmocka_unit_test_setup(sharers_at_the_start_count, set_up),
        cmocka_unit_test_setup(a_weight_is_shared_by_the_active, set_up),
        cmocka_unit_test_setup(shares_by_weight, set_up),
        cmocka_unit_test_setup(many_vcpus_gain_a_partition_nothing, set_up),
        cmocka_unit_test_setup(a_spinner_lets_the_longest_waiting_sibling_go_first, set_up),
        cmocka_unit_test_setup(a_spinner_without_sibling_keeps_its_place, set_up),
        cmocka_unit_test_setup(yielding_gains_a_partition_nothing, set_up),
        cmocka_unit_test_setup(a_cap_holds, set_up),
        cmocka_unit_test_setup(a_cap_saves_nothing_up, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
