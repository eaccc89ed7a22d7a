/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "drivers/tsc.h"

#include "drivers/cpu.h"
#include "drivers/io.h"
#include "lib/arith.h"
#include "mm/host_space.h"

/* SDM volume 2, CPUID. */
enum cpuid_leaf {
    CPUID_MAX = 0,
    CPUID_FEATURES = 1,
    CPUID_TSC_RATIO = 0x15,
    CPUID_FREQUENCIES = 0x16,
    CPUID_HYPERVISOR_MAX = 0x40000000,
    CPUID_HYPERVISOR_TIMING = 0x40000010, /* EAX: TSC frequency in kHz */
};

#define CPUID_ECX_HYPERVISOR BIT(31)

#define KHZ 1000ULL
#define MHZ 1000000ULL

/* ACPI 6.5, 4.8.3.3. */
#define PM_TIMER_HZ   3579545
#define PM_TIMER_MASK 0xFFFFFF

/* HPET 1.0a, section 2.3. */
#define HPET_SIZE               0x400
#define HPET_PERIOD             (0x004 / sizeof(u32))
#define HPET_CONFIGURATION      (0x010 / sizeof(u32))
#define HPET_COUNTER            (0x0F0 / sizeof(u32))
#define HPET_ENABLE             BIT(0)
#define HPET_PERIOD_MAX         100000000ULL /* femtoseconds */
#define FEMTOSECONDS_PER_SECOND 1000000000000000ULL

/* Intel 8254 data sheet; channel 2 hangs on bits 0 and 1 of port 61h in a PC. */
#define PIT_HZ             1193182
#define PIT_MASK           0xFFFF
#define PIT_CHANNEL2       0x42
#define PIT_CONTROL        0x43
#define PIT_CHANNEL2_MODE2 0xB4 /* low byte, then high byte, rate generator */
#define PIT_LATCH_CHANNEL2 0x80
#define PORT_B             0x61
#define PORT_B_GATE2       BIT(0)
#define PORT_B_SPEAKER     BIT(1)

#define RUNS_PER_SECOND 100 /* a run takes this part of a second */
#define ALIVE_READS     10000
#define RUN_READS       1000000
#define CLAIM_TOLERANCE 16   /* a claim may be off by 1/16 of it */
#define RUN_TOLERANCE   4096 /* and a run from another by that */

struct clock {
    u32 (*read)(const struct clock *clock);
    u32 mask;
    u64 hz;
    u16 port;
    volatile u32 *registers;
};

static u64 from_cpuid(const char **source)
{
    u32 max = cpuid(CPUID_MAX, 0).eax;
    struct cpuid_result ratio;

    if (max < CPUID_TSC_RATIO)
        return 0;
    ratio = cpuid(CPUID_TSC_RATIO, 0);
    if (ratio.eax == 0 || ratio.ebx == 0)
        return 0;
    *source = "CPUID leaf 15h";
    if (ratio.ecx != 0)
        return mul_div(ratio.ecx, ratio.ebx, ratio.eax);
    if (max < CPUID_FREQUENCIES)
        return 0;
    *source = "CPUID leaf 16h";
    return (cpuid(CPUID_FREQUENCIES, 0).eax & 0xFFFF) * MHZ;
}

static u64 from_hypervisor(const char **source)
{
    if ((cpuid(CPUID_FEATURES, 0).ecx & CPUID_ECX_HYPERVISOR) == 0 ||
        cpuid(CPUID_HYPERVISOR_MAX, 0).eax < CPUID_HYPERVISOR_TIMING)
        return 0;
    *source = "hypervisor leaf 40000010h";
    return cpuid(CPUID_HYPERVISOR_TIMING, 0).eax * KHZ;
}

/* One run: TSC ticks against the clock's, or 0 when it stands still. */
static u64 measure_once(const struct clock *clock)
{
    u32 wanted = (u32)(clock->hz / RUNS_PER_SECOND);
    u32 first = clock->read(clock);
    u64 start = rdtsc_ordered();

    for (u32 reads = 0; reads < RUN_READS; reads++) {
        u32 elapsed = (clock->read(clock) - first) & clock->mask;
        u64 now = rdtsc_ordered();

        if (elapsed >= wanted)
            return mul_div(now - start, clock->hz, elapsed);
        if (elapsed == 0 && reads == ALIVE_READS)
            break;
    }
    return 0;
}

static bool agree(u64 a, u64 b, u64 tolerance)
{
    return (a > b ? a - b : b - a) <= a / tolerance;
}

/* The mean of two, or the median of three: an SMI or a pause of the host falls into one of them. */
static u64 measure(const struct clock *clock)
{
    u64 first = measure_once(clock);
    u64 second = first == 0 ? 0 : measure_once(clock);

    if (agree(first, second, RUN_TOLERANCE))
        return (first + second) / 2;
    return MIN(MAX(MIN(first, second), measure_once(clock)), MAX(first, second));
}

static u32 read_pm_timer(const struct clock *clock)
{
    return inl(clock->port);
}

static u64 from_pm_timer(const struct acpi_info *acpi, const char **source)
{
    struct clock clock = {
        .read = read_pm_timer, .mask = PM_TIMER_MASK, .hz = PM_TIMER_HZ, .port = acpi->pm_timer};

    *source = "ACPI PM timer";
    return acpi->pm_timer == 0 ? 0 : measure(&clock);
}

static u32 read_hpet(const struct clock *clock)
{
    return clock->registers[HPET_COUNTER];
}

static u64 measure_hpet(volatile u32 *registers)
{
    u64 period = registers[HPET_PERIOD];
    struct clock clock = {.read = read_hpet, .mask = UINT32_MAX, .registers = registers};

    if (period == 0 || period > HPET_PERIOD_MAX)
        return 0;
    clock.hz = FEMTOSECONDS_PER_SECOND / period;
    registers[HPET_CONFIGURATION] |= HPET_ENABLE;
    return measure(&clock);
}

static u64 from_hpet(const struct acpi_info *acpi, const char **source)
{
    void *registers;
    u64 hz;

    *source = "HPET";
    if (acpi->hpet == 0)
        return 0;
    registers = mmio_map(acpi->hpet, HPET_SIZE, MMIO_UNCACHED);
    if (registers == NULL)
        return 0;
    hz = measure_hpet(registers);
    mmio_unmap(registers, HPET_SIZE);
    return hz;
}

/* The PIT counts down. */
static u32 read_pit(const struct clock *clock)
{
    u32 low;

    outb(PIT_CONTROL, PIT_LATCH_CHANNEL2);
    low = inb(PIT_CHANNEL2);
    return ~(low | (u32)inb(PIT_CHANNEL2) << 8) & PIT_MASK;
}

static u64 from_pit(const struct acpi_info *acpi, const char **source)
{
    static const struct clock clock = {.read = read_pit, .mask = PIT_MASK, .hz = PIT_HZ};

    *source = "PIT";
    outb(PORT_B, (inb(PORT_B) & (u8)~PORT_B_SPEAKER) | (u8)PORT_B_GATE2);
    outb(PIT_CONTROL, PIT_CHANNEL2_MODE2);
    outb(PIT_CHANNEL2, 0);
    outb(PIT_CHANNEL2, 0);
    return measure(&clock);
}

static u64 from_clocks(const struct acpi_info *acpi, const char **source)
{
    static u64 (*const clocks[])(const struct acpi_info *, const char **) = {
        from_pm_timer,
        from_hpet,
        from_pit,
    };
    u64 hz = 0;

    for (u32 i = 0; hz == 0 && i < ARRAY_SIZE(clocks); i++)
        hz = clocks[i](acpi, source);
    return hz;
}

/* Guests are told kHz: what they compute from it and what their timers do must not differ. */
static u64 whole_khz(u64 hz)
{
    return (hz + KHZ / 2) / KHZ * KHZ;
}

/* Emulators pass on the CPUID of a CPU that is much faster than they are. */
u64 host_tsc_hz(const struct acpi_info *acpi, const char **source)
{
    const char *clock;
    u64 measured = from_clocks(acpi, &clock);
    u64 claimed = from_cpuid(source);

    if (claimed == 0)
        claimed = from_hypervisor(source);
    if (claimed != 0 && (measured == 0 || agree(claimed, measured, CLAIM_TOLERANCE)))
        return whole_khz(claimed);
    *source = clock;
    return whole_khz(measured);
}
