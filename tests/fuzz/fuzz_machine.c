/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* A guest that does anything to its devices, at any time, and what must hold nevertheless. The
 * input is a list of operations of eight bytes each. */

#include <stdlib.h>
#include <string.h>

#include "devices/machine.h"
#include "devices/pc_ports.h"

#define CPUS   3
#define TSC_HZ 2000000000ULL

#define MSR_X2APIC_ICR (MSR_X2APIC_FIRST + (LAPIC_ICR_LOW >> 4))

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static u32 kicked; /* bit N: vCPU N */

static void on_kick(struct effects *effects, u32 vcpu)
{
    REQUIRE(vcpu < CPUS);
    kicked |= 1U << vcpu;
}

static void on_transmit(struct effects *effects, u8 byte)
{
}

static void on_power(struct effects *effects, enum power_event event, u32 detail)
{
    REQUIRE(event == POWER_RESET || event == POWER_OFF || event == POWER_EXIT);
}

static const struct effects_ops ops = {on_kick, on_transmit, on_power};

/* Most of the ports that exist, so that the input need not guess them. */
static const u16 ports[] = {
    0x20,  0x21,  0xA0,  0xA1,  0x4D0, 0x4D1, 0x40,  0x41,   0x42,  0x43,  0x60,
    0x61,  0x64,  0x70,  0x71,  0x80,  0x92,  0xB2,  0x3F8,  0x3F9, 0x3FA, 0x3FB,
    0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x600, 0x601, 0x602, 0x604,  0x605, 0x608, 0x60C,
    0xCF8, 0xCF9, 0xCFC, 0xF4,  0x3FD, 0x607, 0xCFF, 0xFFFE,
};

struct step {
    u8 kind;
    u8 where;
    u8 flags; /* 1:0 log2 of the size, 3:2 vCPU, 4 write */
    u8 scale;
    u8 value[4];
};

static u64 step_value(const struct step *step)
{
    u64 value = 0;

    memcpy(&value, step->value, sizeof step->value);
    return value;
}

/* What a load reads by the short ways that core/ tries first, or -1. What a timer that is due will
 * change they do not wait for. */
static s64 quick_answer(const struct machine *machine, u32 cpu, const struct access *access,
                        u64 now)
{
    if (access->write)
        return -1;
    if (access->space == SPACE_MEMORY && machine_deadline(machine, 0) > now)
        return machine_peek_memory(machine, cpu, access->address);
    return access->space == SPACE_PORT && access->size == 1 ? machine_peek(machine, access->address)
                                                            : -1;
}

/* A machine where the short way was taken that core/ tries first, when it is a write of ICR. */
static struct machine *send_quickly(const struct machine *machine, u32 cpu,
                                    const struct access *access, struct effects *effects)
{
    size_t size = machine_size(CPUS);
    struct machine *copy;

    if (access->space != SPACE_MSR || !access->write || access->address != MSR_X2APIC_ICR)
        return NULL;
    copy = malloc(size);
    memcpy(copy, machine, size);
    machine_send_ipi(copy, cpu, access->value, effects);
    return copy;
}

static void compare_lapics(struct machine *quick, const struct machine *machine)
{
    if (quick)
        REQUIRE(memcmp(quick->lapics, machine->lapics, CPUS * sizeof(struct lapic)) == 0);
    free(quick);
}

static void access_device(struct machine *machine, const struct step *step, struct effects *effects)
{
    static const u32 msrs[] = {0x1B, 0x6E0, 0x10, 0x8FF};
    struct access access = {
        .value = step_value(step),
        .size = 1 << (step->flags & 3),
        .write = step->flags & 16,
    };
    u32 cpu = (step->flags >> 2 & 3) % CPUS;
    u64 deadlines[CPUS];
    struct machine *sent;
    s64 quick;
    bool claimed;

    switch (step->kind % 4) {
    case 0:
        access.space = SPACE_PORT;
        access.address = ports[step->where % ARRAY_SIZE(ports)];
        break;
    case 1:
        access.space = SPACE_MEMORY;
        access.address = (machine->lapics[cpu].apic_base & APIC_BASE_ADDRESS_MASK) +
                         step->where * 16 + (step->scale > 250 ? step->scale & 15 : 0);
        break;
    case 2:
        access.space = SPACE_MEMORY;
        access.address = IOAPIC_BASE + (step->where & 0x70);
        break;
    default:
        access.space = SPACE_MSR;
        access.size = 8;
        access.address =
            step->scale < 64 ? msrs[step->where % ARRAY_SIZE(msrs)] : 0x800U + (step->where & 0x7F);
        access.value |= step->scale & 1 ? access.value << 32 : 0;
        access.value |= step->scale & 2 ? LAPIC_BASE_DEFAULT : 0;
        break;
    }
    for (u32 i = 0; i < CPUS; i++)
        deadlines[i] = machine_deadline(machine, i);
    effects->timers = false;
    quick = quick_answer(machine, cpu, &access, effects->now);
    sent = send_quickly(machine, cpu, &access, effects);
    claimed = machine_access(machine, cpu, &access, effects);
    compare_lapics(sent, machine);
    for (u32 i = 0; i < CPUS; i++)
        REQUIRE(effects->timers || machine_deadline(machine, i) >= deadlines[i]);
    if (access.space != SPACE_MSR && !access.write && access.size < 8) {
        REQUIRE(access.value >> 8 * access.size == 0);
        REQUIRE(claimed || access.value == BIT(8 * access.size) - 1);
        REQUIRE(quick < 0 || ((u64)quick & (BIT(8 * access.size) - 1)) == access.value);
    }
}

/* The scheduler's part: what is due is fired, and then nothing is. */
static void let_time_pass(struct machine *machine, u64 ticks, struct effects *effects)
{
    u64 end = effects->now + ticks;

    for (u32 rounds = 0; rounds < 8; rounds++) {
        u64 next = end;

        for (u32 i = 0; i < CPUS; i++)
            next = MIN(next, machine_deadline(machine, i));
        effects->now = MAX(effects->now, next);
        for (u32 i = 0; i < CPUS; i++) {
            machine_tick(machine, i, effects);
            REQUIRE(machine_deadline(machine, i) > effects->now);
        }
        if (effects->now >= end)
            return;
    }
    effects->now = end;
}

/* The CPU's part: takes an interrupt as the vCPU loop does. */
static void take_interrupt(struct machine *machine, u32 cpu, struct effects *effects)
{
    struct lapic *lapic = &machine->lapics[cpu];
    int vector = lapic_pending_vector(lapic);

    lapic->events = 0;
    if (machine_extint_pending(machine, cpu))
        machine_acknowledge_pic(machine, effects);
    if (vector < 0)
        return;
    REQUIRE(vector >= 16 && vector <= 255);
    REQUIRE(lapic_is_enabled(lapic));
    REQUIRE(vector == lapic_highest_irr(lapic));
    lapic_accept(lapic, vector);
    REQUIRE(lapic_highest_isr(lapic) == vector);
    REQUIRE(lapic_pending_vector(lapic) < 0);
}

/* A count on a ramp is the count, now and later. */
static void check_ramps(const struct pit *pit, u64 now, u64 later)
{
    for (u32 i = 0; i < PIT_CHANNELS; i++) {
        struct pit tried = *pit, other;
        int quick;

        pit_read(&tried, PORT_PIT + i, TSC_HZ, now);
        other = tried;
        quick = pit_try_read(&tried, i, TSC_HZ, later);
        REQUIRE(quick < 0 || quick == pit_read(&other, PORT_PIT + i, TSC_HZ, later));
        REQUIRE(quick < 0 || tried.channels[i].read_high == other.channels[i].read_high);
    }
}

/* The summaries of IRR, ISR and posted say which of their words are not zero. */
static void check_words(const struct lapic *lapic)
{
    for (u32 word = 0; word < ARRAY_SIZE(lapic->posted); word++) {
        REQUIRE((lapic->posted_words >> word & 1) == (lapic->posted[word] != 0));
        REQUIRE((lapic->irr_words >> word & 1) == (lapic_read(lapic, LAPIC_IRR + word * 16) != 0));
        REQUIRE((lapic->isr_words >> word & 1) == (lapic_read(lapic, LAPIC_ISR + word * 16) != 0));
    }
}

static void check(const struct machine *machine)
{
    u64 bitmap[4];

    REQUIRE(machine->vcpu_count == CPUS && machine->tsc_hz == TSC_HZ);
    for (u32 i = 0; i < CPUS; i++) {
        const struct lapic *lapic = &machine->lapics[i];

        REQUIRE(lapic->id == i);
        check_words(lapic);
        REQUIRE((lapic_read(lapic, LAPIC_IRR) & 0xFFFF) == 0);
        REQUIRE((lapic_read(lapic, LAPIC_ISR) & 0xFFFF) == 0);
        REQUIRE(i != 0 || !lapic->wait_for_sipi);
        REQUIRE((lapic->apic_base & 0xC00) != 0x400);
        machine_eoi_exit_bitmap(machine, i, bitmap);
    }
    REQUIRE(machine->uart.rx_count <= UART_FIFO_SIZE && machine->uart.rx_head < UART_FIFO_SIZE);
    REQUIRE(machine->ioapic.pending == 0);
    for (u32 i = 0; i < 2; i++)
        REQUIRE(machine->pic.chips[i].lowest < 8 && machine->pic.chips[i].next_icw <= 4);
}

/* A vCPU that has something new to take must have been told. */
static void check_kicks(const struct machine *machine, const bool had[CPUS])
{
    for (u32 i = 0; i < CPUS; i++) {
        const struct lapic *lapic = &machine->lapics[i];

        REQUIRE(had[i] || lapic->events == 0 || kicked & 1U << i);
    }
}

static void run_step(struct machine *machine, const struct step *step, struct effects *effects)
{
    u32 cpu = step->where % CPUS;

    switch (step->kind >> 2 & 15) {
    case 0:
        let_time_pass(machine, (step_value(step) & 0xFFFFFF) << step->scale % 24, effects);
        break;
    case 1:
        take_interrupt(machine, cpu, effects);
        break;
    case 2:
        REQUIRE(machine_can_receive(machine) == machine_receive(machine, step->where, effects));
        break;
    case 3:
        machine_press_power_button(machine, effects);
        break;
    case 4:
        if (step->scale == 0)
            machine_reset(machine, effects);
        break;
    case 5:
        machine_lapic_written(machine, cpu, step_value(step) & 0xFFF, effects);
        break;
    case 6:
        machine_eoi(machine, step->scale, effects);
        break;
    case 7:
        lapic_set_tsc_adjust(&machine->lapics[cpu], step_value(step) << step->scale % 32,
                             effects->now);
        break;
    default:
        access_device(machine, step, effects);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static _Alignas(4096) u8 memory[8 * 4096];
    struct machine *machine = (struct machine *)memory;
    struct effects effects = {.ops = &ops};
    struct step step;
    bool had[CPUS];

    REQUIRE(machine_size(CPUS) <= sizeof memory);
    machine_init(machine, CPUS, TSC_HZ, 1700000000, 0xF4);
    for (; size >= sizeof step; data += sizeof step, size -= sizeof step) {
        memcpy(&step, data, sizeof step);
        for (u32 i = 0; i < CPUS; i++)
            had[i] = machine->lapics[i].events != 0;
        kicked = 0;
        run_step(machine, &step, &effects);
        check_kicks(machine, had);
        check(machine);
        check_ramps(&machine->pit, effects.now, effects.now + step_value(&step) % TSC_HZ);
    }
    return 0;
}
