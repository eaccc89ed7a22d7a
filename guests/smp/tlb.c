/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* A page is mapped to one of two frames and the other in turn, by one CPU after the other; all
 * others are told by an IPI to forget the old mapping. The frame of round N holds N, so who reads
 * less than the round that was finished has used a stale entry. */
#include "smp/smp.h"

#define WINDOW        0x10000000000UL /* an address that start.asm's tables leave free */
#define PAGE          4096
#define TABLE_ENTRIES 512
#define PRESENT       3 /* and writable */
#define CHECKS        1024

extern u64 page_map[];

static u64 pointers[TABLE_ENTRIES] __attribute__((aligned(PAGE)));
static u64 directory[TABLE_ENTRIES] __attribute__((aligned(PAGE)));
static volatile u64 table[TABLE_ENTRIES] __attribute__((aligned(PAGE)));
static volatile u64 frames[2][PAGE / sizeof(u64)] __attribute__((aligned(PAGE)));

static volatile u64 finished; /* round */
static volatile u32 acknowledged;
static u64 rounds;

static void flush(void)
{
    __asm__ volatile("invlpg (%0)" : : "r"(WINDOW) : "memory");
}

static void on_shoot_down(struct interrupt_frame *frame)
{
    (void)frame;
    flush();
    __atomic_add_fetch(&acknowledged, 1, __ATOMIC_SEQ_CST);
    apic_eoi();
}

static void shoot_down(u64 round)
{
    u64 start = rdtsc();

    frames[round % 2][0] = round;
    table[0] = (u64)frames[round % 2] | PRESENT;
    flush();
    acknowledged = 0;
    if (cpu_count > 1)
        apic_send(0, ICR_OTHERS | VECTOR_TLB);
    while (acknowledged != cpu_count - 1) {
        pause();
        check_patience("shoot-downs acknowledged", start);
    }
    finished = round;
}

static void check_window(struct cpu *cpu)
{
    for (int i = 0; i < CHECKS; i++) {
        u64 least = finished, got = *(volatile u64 *)WINDOW, most = finished + 1;

        if (got < least || got > most)
            fail("round read through the window", got, got < least ? least : most);
        cpu->work++;
        if ((least + 1) % cpu_count == cpu->index)
            return;
    }
    pause();
}

static void take_rounds(struct cpu *cpu)
{
    while (finished < rounds) {
        if ((finished + 1) % cpu_count == cpu->index)
            shoot_down(finished + 1);
        else
            check_window(cpu);
    }
}

void mode_tlb(void)
{
    u64 checks = 0;

    rounds = guest_option_number("rounds", 1000);
    page_map[WINDOW >> 39] = (u64)pointers | PRESENT;
    pointers[0] = (u64)directory | PRESENT;
    directory[0] = (u64)table | PRESENT;
    table[0] = (u64)frames[0] | PRESENT;
    guest_set_handler(VECTOR_TLB, on_shoot_down);
    run_on_all(take_rounds);
    for (u32 i = 0; i < cpu_count; i++)
        checks += cpus[i].work;
    guest_print("tlb: rounds=%u checks=%u\n", finished, checks);
}
