/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_TESTS_UNIT_DEVICE_FIXTURE_H
#define BULKHEAD_TESTS_UNIT_DEVICE_FIXTURE_H

/* A virtual PC on the host, driven as a guest drives it, and a record of its effects. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/machine.h"
#include "devices/pc_ports.h"

#define TSC_HZ       2000000000ULL
#define MILLISECOND  (TSC_HZ / 1000)
#define MICROSECOND  (TSC_HZ / 1000000)
#define UNIX_TIME    1700000000ULL /* 2023-11-14 22:13:20 UTC, a Tuesday */
#define EXIT_PORT    0xF4
#define FIXTURE_CPUS 4

struct fixture {
    struct effects effects; /* first: effects callbacks cast it back */
    struct machine *machine;
    u32 cpu; /* the vCPU that accesses */
    u32 kicks[FIXTURE_CPUS];
    u8 sent[256];
    u32 sent_count;
    u32 power_count;
    enum power_event power;
    u32 power_detail;
};

static struct fixture f;

static void on_kick(struct effects *effects, u32 vcpu)
{
    assert_true(vcpu < FIXTURE_CPUS);
    f.kicks[vcpu]++;
    /* As its owner does before it lets the vCPU run on. */
    lapic_take_posted(&f.machine->lapics[vcpu]);
}

static void on_transmit(struct effects *effects, u8 byte)
{
    f.sent[f.sent_count++ % sizeof f.sent] = byte;
}

static void on_power(struct effects *effects, enum power_event event, u32 detail)
{
    f.power_count++;
    f.power = event;
    f.power_detail = detail;
}

static const struct effects_ops fixture_ops = {on_kick, on_transmit, on_power};

static int fixture_setup(void **state)
{
    memset(&f, 0, sizeof f);
    f.effects.ops = &fixture_ops;
    f.machine = aligned_alloc(CACHE_LINE_SIZE, machine_size(FIXTURE_CPUS));
    memset(f.machine, 0xA5, machine_size(FIXTURE_CPUS));
    machine_init(f.machine, FIXTURE_CPUS, TSC_HZ, UNIX_TIME, EXIT_PORT);
    return 0;
}

static int fixture_teardown(void **state)
{
    free(f.machine);
    return 0;
}

#define DEVICE_TEST(function)                                                                      \
    cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

static inline bool access_space(enum access_space space, u64 address, u8 size, bool write,
                                u64 *value)
{
    struct access access = {.address = address, .size = size, .write = write, .space = space};
    bool claimed;

    access.value = write ? *value : 0x5A5A5A5A5A5A5A5AULL;
    f.effects.vcpu = f.cpu;
    claimed = machine_access(f.machine, f.cpu, &access, &f.effects);
    *value = access.value;
    return claimed;
}

static inline u32 in(u16 port, u8 size)
{
    u64 value;

    access_space(SPACE_PORT, port, size, false, &value);
    return value;
}

static inline u8 inb(u16 port)
{
    return in(port, 1);
}

static inline void out(u16 port, u8 size, u64 value)
{
    access_space(SPACE_PORT, port, size, true, &value);
}

static inline void outb(u16 port, u8 value)
{
    out(port, 1, value);
}

static inline u32 mmio_read(u64 address)
{
    u64 value;

    assert_true(access_space(SPACE_MEMORY, address, 4, false, &value));
    return value;
}

static inline void mmio_write(u64 address, u64 value)
{
    assert_true(access_space(SPACE_MEMORY, address, 4, true, &value));
}

static inline bool rdmsr(u32 msr, u64 *value)
{
    return access_space(SPACE_MSR, msr, 8, false, value);
}

static inline bool wrmsr(u32 msr, u64 value)
{
    return access_space(SPACE_MSR, msr, 8, true, &value);
}

/* Lets time pass on all vCPUs as the scheduler does: from deadline to deadline. */
static inline void run_until(u64 time)
{
    for (;;) {
        u64 next = time;
        u32 cpu = FIXTURE_CPUS;

        for (u32 i = 0; i < FIXTURE_CPUS; i++) {
            u64 deadline = machine_deadline(f.machine, i);

            if (deadline <= next) {
                next = deadline;
                cpu = i;
            }
        }
        f.effects.now = f.effects.now > next ? f.effects.now : next;
        if (cpu == FIXTURE_CPUS)
            return;
        machine_tick(f.machine, cpu, &f.effects);
        assert_true(machine_deadline(f.machine, cpu) > f.effects.now);
    }
}

static inline void run_for(u64 ticks)
{
    run_until(f.effects.now + ticks);
}

/* Programs the PIC pair as PC operating systems do: vectors 20h and 28h, all lines open. */
static inline void pic_program(void)
{
    outb(0x20, 0x11);
    outb(0xA0, 0x11);
    outb(0x21, 0x20);
    outb(0xA1, 0x28);
    outb(0x21, 0x04);
    outb(0xA1, 0x02);
    outb(0x21, 0x01);
    outb(0xA1, 0x01);
    outb(0x21, 0x00);
    outb(0xA1, 0x00);
}

static inline u32 ioapic_reg_read(u8 index)
{
    mmio_write(IOAPIC_BASE, index);
    return mmio_read(IOAPIC_BASE + 0x10);
}

static inline void ioapic_reg_write(u8 index, u32 value)
{
    mmio_write(IOAPIC_BASE, index);
    mmio_write(IOAPIC_BASE + 0x10, value);
}

static inline void ioapic_route(u32 pin, u32 low, u8 destination)
{
    ioapic_reg_write(0x11 + 2 * pin, (u32)destination << 24);
    ioapic_reg_write(0x10 + 2 * pin, low);
}

#endif
