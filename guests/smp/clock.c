/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* Time: the TSC is one on all CPUs, agrees with the PM timer and the PIT, and a periodic local
 * APIC timer ticks at most once in every period. */
#include "smp/smp.h"

#define PM_TIMER_HZ         3579545
#define PM_TIMER_MASK       0xFFFFFF
#define PIT_CHANNEL0        0x40
#define PIT_CONTROL         0x43
#define PIT_LATCH           0x00
#define PIT_PERIOD          0x10000
#define PERIOD_MS           10
#define READS               32
#define BILLION             1000000000ULL
#define LVT_PERIODIC        (1 << 17)
#define LVT_MASKED          (1 << 16)
#define DIVIDE_BY_1         0xB
#define CPUID_TSC_RATIO     0x15
#define CPUID_TIMING        0x40000010
#define CPUID_KVM           0x40000100
#define CPUID_KVM_SIGNATURE 0x4B4D564B /* KVMK */
#define MSR_KVM_WALL_CLOCK  0x4B564D00
#define MSR_KVM_CLOCK       0x4B564D01
#define MSR_KVM_ASYNC_PF    0x4B564D02
#define MSR_KVM_STEAL       0x4B564D03
#define FALLBACK_APIC_HZ    1000000000ULL

static u64 tsc_hz, apic_khz, run_ticks;
static struct acpi acpi;

/* ---- one TSC ---- */
static volatile u64 turn, latest;
static u64 stamps;
static volatile u64 backwards;

static void stamp(struct cpu *cpu)
{
    u64 start = rdtsc();

    while (turn < stamps) {
        if (turn % cpu_count != cpu->index) {
            pause();
            check_patience("TSC stamps", start);
            continue;
        }
        start = rdtsc();
        backwards += start < latest;
        latest = start;
        turn++;
    }
}

/* ---- clocks ---- */
struct sample {
    u64 tsc;
    u32 pm, pit; /* as they count: up, down */
    u64 pit_tsc;
};

static u32 read_pm(void)
{
    return inl(acpi.pm_timer) & PM_TIMER_MASK;
}

static u32 read_pit(void)
{
    outb(PIT_CONTROL, PIT_LATCH);
    u32 low = inb(PIT_CHANNEL0);
    return low | (u32)inb(PIT_CHANNEL0) << 8;
}

/* The counter together with the TSC at that moment, of several tries the one that took least. */
static u32 read_closely(u32 (*read)(void), u64 *tsc)
{
    u64 least = ~0ULL;
    u32 result = 0;

    for (u32 i = 0; i < READS; i++) {
        u64 before = rdtsc();
        u32 value = read();
        u64 took = rdtsc() - before;
        if (took < least) {
            least = took;
            result = value;
            *tsc = before + took / 2;
        }
    }
    return result;
}

static struct sample sample(void)
{
    struct sample s;

    s.pm = read_closely(read_pm, &s.tsc);
    s.pit = read_closely(read_pit, &s.pit_tsc);
    return s;
}

/* a * b / c where a * b exceeds 64 bits. */
static u64 scale(u64 a, u64 b, u64 c)
{
    return a / c * b + a % c * b / c;
}

/* How far a counter of `hz` and the TSC are apart, in parts per billion. The counter has wrapped
 * every `period` counts, as often as fits best. */
static u64 deviation(u64 tsc_ticks, u64 counts, u64 hz, u64 period)
{
    u64 expected = scale(tsc_ticks, hz, tsc_hz);
    u64 wraps = expected > counts ? (expected - counts + period / 2) / period : 0;
    u64 apart;

    counts += wraps * period;
    apart = counts > expected ? counts - expected : expected - counts;
    return scale(apart, BILLION, expected);
}

static void report_clocks(const struct sample *start, const struct sample *end)
{
    u64 ticks = end->tsc - start->tsc;

    guest_print(
        "clock: ticks=%u pm_ppb=%u pit_ppb=%u\n", ticks,
        deviation(ticks, (end->pm - start->pm) & PM_TIMER_MASK, PM_TIMER_HZ, PM_TIMER_MASK + 1),
        deviation(end->pit_tsc - start->pit_tsc, (start->pit - end->pit) % PIT_PERIOD, PIT_HZ,
                  PIT_PERIOD));
}

/* ---- what KVM would offer (Linux, Documentation/virt/kvm/x86/msr.rst) ---- */
static volatile struct {
    u32 version, reserved0;
    u64 tsc_timestamp, system_time;
    u32 multiplier;
    signed char shift;
    u8 flags, reserved1[2];
} kvm_clock __attribute__((aligned(64)));

static volatile struct {
    u64 steal;
    u32 version, flags, reserved[12];
} kvm_steal __attribute__((aligned(64)));

/* Nanoseconds of `ticks` as the KVM clock's fields have it. */
static u64 kvm_nanoseconds(u64 ticks)
{
    ticks = kvm_clock.shift < 0 ? ticks >> -kvm_clock.shift : ticks << kvm_clock.shift;
    return (ticks >> 32) * kvm_clock.multiplier +
           ((ticks & 0xFFFFFFFF) * kvm_clock.multiplier >> 32);
}

/* How many of the addresses that a guest must not name raise #GP. */
static u64 count_refusals(void)
{
    static const struct {
        u32 msr;
        u64 value;
    } bad[] = {
        {MSR_KVM_CLOCK,      0xF0000001        }, /* no RAM */
        {MSR_KVM_CLOCK,      0xFFFFFFFFFFFFFFE1}, /* wraps */
        {MSR_KVM_CLOCK,      0x200003          }, /* not aligned */
        {MSR_KVM_STEAL,      0xF0000001        },
        {MSR_KVM_STEAL,      0x200021          },
        {MSR_KVM_WALL_CLOCK, 0xF0000000        },
        {MSR_KVM_ASYNC_PF,   0                 }, /* not offered */
    };
    u64 refused = 0;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        refused += try_wrmsr(bad[i].msr, bad[i].value) == VECTOR_GP;
    return refused;
}

static void check_kvm(u64 ticks)
{
    u64 expected = scale(ticks, BILLION, tsc_hz), got;

    if (cpuid(CPUID_KVM, 0).ebx != CPUID_KVM_SIGNATURE) {
        guest_print("clock: kvm=0 refused=%u\n", count_refusals());
        return;
    }
    wrmsr(MSR_KVM_CLOCK, (u64)&kvm_clock | 1);
    wrmsr(MSR_KVM_STEAL, (u64)&kvm_steal | 1);
    got = kvm_nanoseconds(ticks);
    guest_print("clock: kvm=1 ppb=%u flags=%u version=%u refused=%u steal=%u\n",
                scale(got > expected ? got - expected : expected - got, BILLION, expected),
                (u64)kvm_clock.flags, (u64)kvm_clock.version, count_refusals(), kvm_steal.steal);
}

/* ---- ticks ---- */
static struct ticks {
    u64 start;  /* TSC, not behind the timer's */
    u64 period; /* of them */
    u64 count, skipped, bunched;
    u64 last;   /* the period of the last one */
    bool twice; /* that had two: one may wait while another is in service, no more */
} all_ticks[CPUS_MAX];

static void on_timer(struct interrupt_frame *frame)
{
    struct ticks *ticks = &all_ticks[this_cpu()->index];
    u64 period = (rdtsc() - ticks->start) / ticks->period;

    (void)frame;
    ticks->count++;
    if (period > ticks->last) {
        ticks->skipped += period - ticks->last - 1;
        ticks->twice = false;
    } else {
        ticks->skipped--; /* it was late */
        ticks->bunched += ticks->twice;
        ticks->twice = true;
    }
    ticks->last = period;
    apic_eoi();
}

static void count_ticks(struct cpu *cpu)
{
    struct ticks *ticks = &all_ticks[cpu->index];

    interrupts_off();
    *ticks = (struct ticks){.period = PERIOD_MS * tsc_hz / 1000};
    apic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
    apic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | VECTOR_TIMER);
    ticks->start = rdtsc();
    apic_write(LAPIC_TIMER_INITIAL, (u32)(PERIOD_MS * apic_khz));
    while (rdtsc() - ticks->start < run_ticks) {
        wait_for_interrupt();
        interrupts_off();
    }
    apic_write(LAPIC_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
    apic_write(LAPIC_TIMER_INITIAL, 0);
    interrupts_on();
}

static void report_ticks(void)
{
    struct ticks sum = {0};

    for (u32 i = 0; i < cpu_count; i++) {
        sum.count += all_ticks[i].count;
        sum.skipped += all_ticks[i].skipped;
        sum.bunched += all_ticks[i].bunched;
    }
    guest_print("clock: timer ticks=%u skipped=%u bunched=%u expected=%u\n", sum.count, sum.skipped,
                sum.bunched, cpu_count * (run_ticks / all_ticks[0].period));
}

static void find_rates(void)
{
    struct cpuid ratio =
        cpuid(0, 0).eax >= CPUID_TSC_RATIO ? cpuid(CPUID_TSC_RATIO, 0) : (struct cpuid){0};

    tsc_hz = tsc_khz * 1000;
    if (ratio.eax && ratio.ebx && ratio.ecx)
        tsc_hz = scale(ratio.ecx, ratio.ebx, ratio.eax);
    apic_khz = cpuid(CPUID_TIMING, 0).ebx;
    if (!apic_khz)
        apic_khz = FALLBACK_APIC_HZ / 1000;
}

void mode_clock(void)
{
    struct sample start, end;

    acpi_find(&acpi);
    find_rates();
    stamps = guest_option_number("stamps", 2000);
    run_ticks = guest_option_number("ms", 2000) * tsc_khz;
    guest_set_handler(VECTOR_TIMER, on_timer);
    pit_periodic(0);
    run_on_all(stamp);
    start = sample();
    run_on_all(count_ticks);
    end = sample();
    turn = 0;
    run_on_all(stamp);
    guest_print("clock: cpus=%u backwards=%u\n", (u64)cpu_count, backwards);
    report_clocks(&start, &end);
    report_ticks();
    check_kvm(end.tsc - start.tsc);
}
