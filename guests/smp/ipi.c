/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* A storm of IPIs: all CPUs send at once, each with a vector of its own. Requests of one vector
 * merge, so a sender waits until each of its interrupts has been counted where it was sent; one
 * that was lost, doubled or went astray shows in the counts of both ends. */
#include "smp/smp.h"

#define FLAT_CPUS_MAX     8
#define FLAT              0xFFFFFFFF
#define CLUSTER           0x0FFFFFFF
#define CLUSTER_SIZE      2 /* of at most 4, so that few CPUs make several clusters */
#define CLUSTERS_MAX      15
#define LDR_SHIFT         24
#define ID_SHIFT          24
#define X2APIC_CLUSTER    16
#define BROADCAST         0xFF
#define X2APIC_BROADCAST  0xFFFFFFFF
#define TIMER_DIVIDE_BY_1 0xB
#define MASKED_LOOPS      4096 /* at most */
#define TIMER_PER_LOOP    40   /* so that it fires before most loops end, and behind some */

/* [receiver][sender], written by the receiver and by the sender. */
static volatile u32 received[CPUS_MAX][SENDERS_MAX];
static u32 sent[CPUS_MAX][SENDERS_MAX];

struct kind {
    const char *name;
    void (*send)(struct cpu *cpu, u64 round);
    bool waits;             /* `send` does, until what it sent was counted */
    u32 destination_format; /* xAPIC; 0: as it is */
    u32 cpus_max;           /* 0: any number */
};

static const struct kind *kind;
static u64 quota; /* interrupts that each CPU sends of this kind */

static void on_ipi(struct interrupt_frame *frame)
{
    received[this_cpu()->index][frame->vector - VECTOR_IPI]++;
    apic_eoi();
}

static void on_nmi(struct interrupt_frame *frame)
{
    (void)frame;
    this_cpu()->nmis++;
}

static u32 vector_of(const struct cpu *cpu)
{
    return VECTOR_IPI + cpu->index;
}

static void expect_at(const struct cpu *cpu, u32 receiver)
{
    sent[receiver][cpu->index]++;
}

/* Bits of CPUs first, first + 1, ... */
static void expect_at_mask(const struct cpu *cpu, u32 first, u32 mask)
{
    for (u32 i = 0; mask >> i; i++)
        if (mask >> i & 1)
            expect_at(cpu, first + i);
}

static void expect_at_all(const struct cpu *cpu)
{
    for (u32 i = 0; i < cpu_count; i++)
        expect_at(cpu, i);
}

static u64 counted(const struct cpu *cpu, bool at_receivers)
{
    u64 sum = 0;

    for (u32 i = 0; i < cpu_count; i++)
        sum += at_receivers ? received[i][cpu->index] : sent[i][cpu->index];
    return sum;
}

static void wait_for_all(const struct cpu *cpu)
{
    u64 start = rdtsc();

    for (u32 i = 0; i < cpu_count; i++)
        while (received[i][cpu->index] != sent[i][cpu->index]) {
            pause();
            check_patience(kind->name, start);
        }
}

/* ---- destinations ---- */
/* Some of the `count` CPUs of a group, never none; each selection has its turn. */
static u32 some_of(u32 count, u64 round)
{
    return 1 + (u32)round % ((1U << count) - 1);
}

static void send_physical(struct cpu *cpu, u64 round)
{
    u32 to = (cpu->index + (u32)round) % cpu_count;

    expect_at(cpu, to);
    apic_send(cpus[to].apic_id, vector_of(cpu));
}

static void send_broadcast(struct cpu *cpu, u64 round)
{
    (void)round;
    expect_at_all(cpu);
    apic_send(cpu->x2apic ? X2APIC_BROADCAST : BROADCAST, vector_of(cpu));
}

static void send_flat(struct cpu *cpu, u64 round)
{
    u32 mask = some_of(cpu_count, round);

    expect_at_mask(cpu, 0, mask);
    apic_send(mask, ICR_LOGICAL | vector_of(cpu));
}

/* CPUs of a group of `size`, the last of which may be smaller. */
static u32 members(u32 group, u32 size)
{
    u32 left = cpu_count - group * size;

    return left < size ? left : size;
}

static void send_cluster(struct cpu *cpu, u64 round)
{
    u32 clusters = (cpu_count + CLUSTER_SIZE - 1) / CLUSTER_SIZE;
    u32 cluster = (cpu->index + (u32)round) % clusters;
    u32 mask = some_of(members(cluster, CLUSTER_SIZE), round / clusters);

    expect_at_mask(cpu, cluster * CLUSTER_SIZE, mask);
    apic_send(cluster << 4 | mask, ICR_LOGICAL | vector_of(cpu));
}

static void send_x2apic_logical(struct cpu *cpu, u64 round)
{
    u32 clusters = (cpu_count + X2APIC_CLUSTER - 1) / X2APIC_CLUSTER;
    u32 cluster = (cpu->index + (u32)round) % clusters;
    u32 mask = some_of(members(cluster, X2APIC_CLUSTER), round / clusters);

    expect_at_mask(cpu, cluster * X2APIC_CLUSTER, mask);
    apic_send(cluster << 16 | mask, ICR_LOGICAL | vector_of(cpu));
}

static void send_self(struct cpu *cpu, u64 round)
{
    expect_at(cpu, cpu->index);
    if (cpu->x2apic && round % 2)
        apic_write(LAPIC_SELF_IPI, vector_of(cpu));
    else
        apic_send(0, ICR_SELF | vector_of(cpu));
}

static void send_others(struct cpu *cpu, u64 round)
{
    (void)round;
    expect_at_all(cpu);
    sent[cpu->index][cpu->index]--;
    apic_send(0, ICR_OTHERS | vector_of(cpu));
}

static void send_all(struct cpu *cpu, u64 round)
{
    (void)round;
    expect_at_all(cpu);
    apic_send(0, ICR_ALL | vector_of(cpu));
}

/* One of them gets it, no matter which. */
static void send_lowest(struct cpu *cpu, u64 round)
{
    u64 start = rdtsc(), before = counted(cpu, true);

    apic_send(some_of(cpu_count, round), ICR_LOGICAL | ICR_LOWEST | vector_of(cpu));
    while (counted(cpu, true) == before) {
        pause();
        check_patience(kind->name, start);
    }
    if (counted(cpu, true) != before + 1)
        fail("receivers of a lowest-priority IPI", counted(cpu, true) - before, 1);
    for (u32 i = 0; i < cpu_count; i++)
        sent[i][cpu->index] = received[i][cpu->index];
}

/* Until all CPUs have come here. */
static void wait_for_others(struct cpu *cpu)
{
    u64 start = rdtsc();

    cpu->work = 1;
    for (u32 i = 0; i < cpu_count; i++)
        while (!cpus[i].work) {
            pause();
            check_patience(kind->name, start);
        }
}

/* NMIs have no vector, but each CPU has one sender: the one before it, then itself. */
static void send_nmi(struct cpu *cpu, u64 round)
{
    bool own = round >= quota / 2;
    struct cpu *to = own ? cpu : &cpus[(cpu->index + 1) % cpu_count];
    u64 start = rdtsc(), before;

    if (own && !cpu->work)
        wait_for_others(cpu);
    before = to->nmis;
    expect_at(cpu, to->index);
    apic_send(to->apic_id, ICR_NMI | ICR_ASSERT);
    while (to->nmis == before) {
        pause();
        check_patience(kind->name, start);
    }
}

/* Pairs of CPUs that wake each other from HLT: a wake-up that is lost ends all. */
static void send_halted(struct cpu *cpu, u64 round)
{
    u32 partner = (cpu->index ^ 1) < cpu_count ? cpu->index ^ 1 : cpu->index;
    u32 before = (u32)cpu->work++;

    (void)round;
    if (cpu->index % 2 == 0) {
        expect_at(cpu, partner);
        apic_send(cpus[partner].apic_id, vector_of(cpu));
    }
    interrupts_off();
    while (received[cpu->index][partner] == before) {
        wait_for_interrupt();
        interrupts_off();
    }
    interrupts_on();
    if (cpu->index % 2 == 1) {
        expect_at(cpu, partner);
        apic_send(cpus[partner].apic_id, vector_of(cpu));
    }
}

/* ---- the storm ---- */
static const struct kind xapic_kinds[] = {
    {"physical",  send_physical,  false, 0,       0                         },
    {"broadcast", send_broadcast, false, 0,       0                         },
    {"flat",      send_flat,      false, FLAT,    FLAT_CPUS_MAX             },
    {"lowest",    send_lowest,    false, FLAT,    FLAT_CPUS_MAX             },
    {"cluster",   send_cluster,   false, CLUSTER, CLUSTERS_MAX *CLUSTER_SIZE},
    {"self",      send_self,      false, 0,       0                         },
    {"others",    send_others,    false, 0,       0                         },
    {"all",       send_all,       false, 0,       0                         },
    {"nmi",       send_nmi,       true,  0,       0                         },
    {"halted",    send_halted,    true,  0,       0                         },
};

static const struct kind x2apic_kinds[] = {
    {"x2apic-physical",  send_physical,       false, 0, 0},
    {"x2apic-broadcast", send_broadcast,      false, 0, 0},
    {"x2apic-logical",   send_x2apic_logical, false, 0, 0},
    {"x2apic-self",      send_self,           false, 0, 0},
    {"x2apic-others",    send_others,         false, 0, 0},
    {"x2apic-all",       send_all,            false, 0, 0},
    {"x2apic-nmi",       send_nmi,            true,  0, 0},
    {"x2apic-halted",    send_halted,         true,  0, 0},
};

static void set_logical_id(struct cpu *cpu)
{
    u32 id = 1U << cpu->index;

    if (kind->destination_format == CLUSTER)
        id = cpu->index / CLUSTER_SIZE << 4 | 1U << cpu->index % CLUSTER_SIZE;
    apic_write(LAPIC_DFR, kind->destination_format);
    apic_write(LAPIC_LDR, id << LDR_SHIFT);
}

static void storm(struct cpu *cpu)
{
    for (u64 round = 0; counted(cpu, false) < quota; round++) {
        kind->send(cpu, round);
        if (!kind->waits)
            wait_for_all(cpu);
    }
}

static void clear(struct cpu *cpu)
{
    for (u32 i = 0; i < cpu_count; i++)
        received[cpu->index][i] = sent[i][cpu->index] = 0;
    cpu->work = cpu->nmis = 0;
}

static u64 run_kind(const struct kind *next)
{
    u64 all_sent = 0, all_received = 0;

    kind = next;
    if ((kind->cpus_max && cpu_count > kind->cpus_max) ||
        (guest_option("only") && !guest_option_is("only", kind->name)) ||
        (guest_option_is("nmis", "off") && kind->send == send_nmi))
        return 0;
    run_on_all(clear);
    if (kind->destination_format)
        run_on_all(set_logical_id);
    run_on_all(storm);
    for (u32 i = 0; i < cpu_count; i++) {
        all_sent += counted(&cpus[i], false);
        all_received += counted(&cpus[i], true) + cpus[i].nmis;
    }
    guest_print("ipi: kind=%s sent=%u received=%u\n", kind->name, all_sent, all_received);
    if (all_sent != all_received)
        fail(kind->name, all_received, all_sent);
    return all_received;
}

static u32 changed; /* CPUs below are in x2APIC mode */

static void change_one(struct cpu *cpu)
{
    if (cpu->index == changed)
        apic_use_x2apic(cpu);
}

/* In x2APIC mode there is nothing in the APIC's page; the others have theirs there. */
static void look_into_page(struct cpu *cpu)
{
    u32 expected = cpu->index < changed ? 0xFFFFFFFF : cpu->apic_id << ID_SHIFT;

    mmio_write(LAPIC_BASE + LAPIC_ID, cpu->apic_id << ID_SHIFT);
    if (mmio_read(LAPIC_BASE + LAPIC_ID) != expected)
        fail("LAPIC ID in memory", mmio_read(LAPIC_BASE + LAPIC_ID), expected);
}

void mode_ipi(void)
{
    u32 kinds = ARRAY_SIZE(xapic_kinds) + (x2apic_possible() ? ARRAY_SIZE(x2apic_kinds) : 0);
    u64 total = 0, spared = 0;

    if (cpu_count > SENDERS_MAX)
        fail("CPUs", cpu_count, SENDERS_MAX);
    if (guest_option("only"))
        kinds = 1;
    quota = guest_option_number("count", 10000) / (kinds * cpu_count) + 1;
    guest_set_handler(VECTOR_NMI, on_nmi);
    for (u32 i = 0; i < cpu_count; i++)
        guest_set_handler((u8)(VECTOR_IPI + i), on_ipi);
    for (size_t i = 0; i < ARRAY_SIZE(xapic_kinds); i++)
        total += run_kind(&xapic_kinds[i]);
    if (x2apic_possible()) {
        while (changed < cpu_count) {
            run_on_all(change_one);
            changed++;
            run_on_all(look_into_page);
        }
        for (size_t i = 0; i < ARRAY_SIZE(x2apic_kinds); i++)
            total += run_kind(&x2apic_kinds[i]);
    }
    for (u32 i = 0; i < cpu_count; i++)
        spared += cpus[i].spared;
    guest_print("ipi: total=%u spared=%u\n", total, spared);
}

/* ---- interrupts off ---- */
static void on_masked(struct interrupt_frame *frame)
{
    (void)frame;
    this_cpu()->work++;
    apic_eoi();
}

/* Interrupts that come while they are off, from all sides: none may get in. The CPUs must not fall
 * into step, or all that is sent would come while the receiver sends. */
static void send_masked(struct cpu *cpu)
{
    u64 rounds = guest_option_number("rounds", 1000);

    apic_write(LAPIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    apic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
    for (u64 round = 0; round < rounds; round++) {
        u64 before, loops = 1 + (round * 997 + cpu->index * 331) % MASKED_LOOPS;

        interrupts_off();
        before = cpu->work;
        apic_write(LAPIC_TIMER_INITIAL, (u32)loops * TIMER_PER_LOOP);
        if (round % 2)
            apic_send(0, (round % 4 == 1 ? ICR_ALL : ICR_OTHERS) | VECTOR_IPI);
        for (u64 i = 0; i < loops; i++)
            interrupts_off();
        if (cpu->work != before)
            fail("interrupts that came while they were off", cpu->work - before, 0);
        interrupts_on();
        while (cpu->work == before)
            pause();
    }
}

void mode_masked(void)
{
    guest_set_handler(VECTOR_IPI, on_masked);
    guest_set_handler(VECTOR_TIMER, on_masked);
    run_on_all(send_masked);
    if (x2apic_possible()) {
        run_on_all(apic_use_x2apic);
        run_on_all(send_masked);
    }
}
