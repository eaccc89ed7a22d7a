/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Loads to be measured, under the hypervisor or on a machine alone: mode=NAME chooses one. Each
 * prints `work NAME: N` with what it took in ticks of the TSC, from behind its start to its end;
 * `tick` says how many interrupts came instead. Needs 16 MiB. */
#include "lib/guest.h"

#define PIT_1KHZ        1193 /* divisor */
#define ARENA           0x800000UL
#define ARENA_SIZE      0x400000UL
#define PAGE_SIZE       4096
#define LINE_SIZE       64
#define MULTIPLIER      6364136223846793005UL
#define COPY_SIZE       0x100000UL
#define PORT_POST       0x80
#define UART_FIFO       16
#define SAMPLES         256
#define GAP_IS_A_SWITCH 1500 /* ticks: more than any exit that switches nothing */

static u64 loops;
static volatile u64 ticks, sink;

/* ---- busy ---- */
static void compute(void)
{
    u64 value = 1;

    for (u64 i = 0; i < loops; i++)
        value = value * MULTIPLIER + i;
    sink = value;
}

/* Each line of the arena in turn, from page to page so that each access needs another
 * translation. */
static void touch_memory(void)
{
    for (u64 i = 0, at = 0; i < loops; i++) {
        *(volatile u64 *)(ARENA + at) += i;
        at += PAGE_SIZE + LINE_SIZE;
        if (at >= ARENA_SIZE)
            at -= ARENA_SIZE;
    }
}

static void copy_by_string_output(void)
{
    const void *from = (const void *)ARENA;
    u64 count = COPY_SIZE;

    __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(PORT_POST) : "memory");
}

/* ---- output by polling ---- */
static void polled(void)
{
    for (u64 i = 0; i < loops; i++)
        guest_putc('x');
}

static void bursts(void)
{
    for (u64 i = 0; i < loops; i += UART_FIFO) {
        guest_putc('x');
        for (u32 j = 1; j < UART_FIFO; j++)
            outb(COM1 + UART_DATA, 'x');
    }
}

/* ---- ticks ---- */
static void on_tick(struct interrupt_frame *frame)
{
    (void)frame;
    ticks++;
    pic_eoi(IRQ_PIT);
}

/* A timer of 1 kHz, halted in between. */
static void tick(void)
{
    guest_set_handler(PIC_VECTOR + IRQ_PIT, on_tick);
    pic_init();
    pit_periodic(PIT_1KHZ);
    pic_unmask(IRQ_PIT);
    while (ticks < loops) {
        wait_for_interrupt();
        interrupts_off();
    }
}

/* ---- being switched away from ---- */
/* Beside a partition in mode `tick` on the same CPU: how long that, and the way there and back,
 * kept this one. */
static void watch_gaps(void)
{
    static u64 gaps[SAMPLES];
    u64 last = rdtsc();

    for (u32 count = 0; count < SAMPLES;) {
        u64 now = rdtsc();

        if (now - last > GAP_IS_A_SWITCH)
            gaps[count++] = now - last;
        last = now;
    }
    guest_sort(gaps, SAMPLES);
    guest_print("work gap: %u %u %u\n", gaps[0], gaps[SAMPLES / 2], gaps[SAMPLES - 1]);
}

/* ---- choosing ---- */
static const struct mode {
    const char *name;
    void (*run)(void);
} modes[] = {
    {"compute", compute              },
    {"memory",  touch_memory         },
    {"copy",    copy_by_string_output},
    {"polled",  polled               },
    {"bursts",  bursts               },
    {"tick",    tick                 },
    {"gaps",    watch_gaps           },
};

void guest_main(const struct multiboot_info *info)
{
    guest_init(info);
    loops = guest_option_number("loops", 1000);
    for (u32 i = 0; i < ARRAY_SIZE(modes); i++) {
        u64 start;

        if (!guest_option_is("mode", modes[i].name))
            continue;
        start = rdtsc();
        modes[i].run();
        guest_print("work %s: %u\n", modes[i].name, rdtsc() - start);
        guest_exit(0);
    }
    guest_print("work FAIL: no such mode\n");
    guest_exit(1);
}
