/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* What keeps CPUs busy, or does not. */
#include "smp/smp.h"

#define CHUNK_LOOPS 5000
#define PERMILLE    1000

static void loop(u64 loops)
{
    while (loops--)
        __asm__ volatile("" : : : "memory");
}

/* ---- spin ---- */
static volatile u64 handover;
static u64 handovers, loops_each;

static void take_turns(struct cpu *cpu)
{
    u64 start = rdtsc();

    for (;;) {
        u64 now = handover;

        if (now >= handovers)
            return;
        if (now % cpu_count != cpu->index) {
            pause();
            check_patience("lock handed over", start);
            continue;
        }
        loop(loops_each);
        cpu->work++;
        start = rdtsc();
        handover = now + 1;
    }
}

void mode_spin(void)
{
    u64 start;

    handovers = guest_option_number("handovers", 1000);
    loops_each = guest_option_number("work", 1000);
    start = rdtsc();
    run_on_all(take_turns);
    guest_print("spin: handovers=%u ticks=%u\n", handovers, rdtsc() - start);
    for (u32 i = 0; i < cpu_count; i++)
        if (cpus[i].work != (handovers + cpu_count - 1 - i) / cpu_count)
            fail("turns of a CPU", cpus[i].work, handovers / cpu_count);
}

/* ---- burn ---- */
static u64 window_ticks;

/* Tells how far all CPUs came. The share is that of one CPU which this one got, as its fastest
 * chunk ever would have it. */
static void report(u64 window, u64 ticks, u64 chunks, u64 fastest)
{
    u64 all = 0;

    for (u32 i = 0; i < cpu_count; i++)
        all += cpus[i].work;
    guest_print("burn: window=%u ticks=%u chunks=%u share=%u total=%u\n", window, ticks, chunks,
                chunks * fastest * PERMILLE / ticks, all);
}

static void burn(struct cpu *cpu)
{
    u64 start = rdtsc(), last = start, chunks = 0, window = 0, fastest = ~0ULL;

    for (;;) {
        loop(CHUNK_LOOPS);
        u64 now = rdtsc();
        if (now - last < fastest)
            fastest = now - last;
        last = now;
        chunks++;
        cpu->work++;
        if (cpu->index != 0 || now - start < window_ticks)
            continue;
        report(++window, now - start, chunks, fastest);
        start = last = rdtsc();
        chunks = 0;
    }
}

_Noreturn void mode_burn(void)
{
    window_ticks = guest_option_number("window", 500) * tsc_khz;
    start_on_all(burn);
    for (;;) {
    }
}

/* ---- halt ---- */
static bool interrupts_wanted;

static void halt(struct cpu *cpu)
{
    (void)cpu;
    for (;;)
        if (interrupts_wanted)
            wait_for_interrupt();
        else
            __asm__ volatile("cli; hlt");
}

_Noreturn void mode_halt(void)
{
    interrupts_wanted = guest_option_is("interrupts", "on");
    guest_print("halt: from here on\n");
    start_on_all(halt);
    for (;;) {
    }
}
