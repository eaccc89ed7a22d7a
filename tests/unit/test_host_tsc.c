/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* drivers/tsc.c on a machine whose time passes as its clocks are read. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/types.h"

#define BULKHEAD_DRIVERS_IO_H
#define BULKHEAD_DRIVERS_CPU_H

struct cpuid_result {
    u32 eax, ebx, ecx, edx;
};

static struct cpuid_result cpuid(u32 leaf, u32 subleaf);
static u64 rdtsc_ordered(void);
static u8 inb(u16 port);
static u32 inl(u16 port);
static void outb(u16 port, u8 value);
#include "../../drivers/tsc.c"

#define PM_TIMER 0x608
#define HPET     0xFED00000

/* 3 GHz; one read of a clock takes 1 us. */
#define TSC_HZ        3000000000ULL
#define TICKS_OF_READ 3000

static struct {
    u64 tsc;
    u32 reads;
    u32 max_leaf;
    struct cpuid_result ratio, frequencies;
    u32 hypervisor_khz;
    bool pm_timer, hpet, pit;
    bool hiccup; /* the first reading of the TSC comes half a millisecond late */
    u32 hpet_registers[HPET_SIZE / sizeof(u32)];
    u32 latched;
    bool high_byte;
    u32 mapped;
} model;

static struct cpuid_result cpuid(u32 leaf, u32 subleaf)
{
    const struct cpuid_result none = {0};

    switch (leaf) {
    case 0:
        return (struct cpuid_result){.eax = model.max_leaf};
    case 1:
        return (struct cpuid_result){.ecx = model.hypervisor_khz != 0 ? 1U << 31 : 0};
    case 0x15:
        assert_true(model.max_leaf >= 0x15);
        return model.ratio;
    case 0x16:
        assert_true(model.max_leaf >= 0x16);
        return model.frequencies;
    case 0x40000000:
        return (struct cpuid_result){.eax = 0x40000010};
    case 0x40000010:
        return (struct cpuid_result){.eax = model.hypervisor_khz};
    default:
        return none;
    }
}

static void pass_time(void)
{
    model.reads++;
    model.tsc += TICKS_OF_READ;
}

static u32 count(u64 hz)
{
    return (u32)((unsigned __int128)model.tsc * hz / TSC_HZ);
}

/* The HPET's counter is memory: it moves on whenever the TSC is read. */
static u64 rdtsc_ordered(void)
{
    if (model.hiccup) {
        model.hiccup = false;
        model.tsc += TSC_HZ / 2000;
    }
    if (model.mapped > 0) {
        pass_time();
        if (model.hpet && (model.hpet_registers[0x10 / 4] & 1))
            model.hpet_registers[0xF0 / 4] = count(14318180);
    }
    return model.tsc;
}

static u32 inl(u16 port)
{
    assert_int_equal(port, PM_TIMER);
    pass_time();
    return model.pm_timer ? (count(3579545) & 0xFFFFFF) | 0xAA000000 : UINT32_MAX;
}

static u8 inb(u16 port)
{
    if (port == 0x61)
        return 0x33;
    assert_int_equal(port, 0x42);
    model.high_byte = !model.high_byte;
    if (!model.pit)
        return 0xFF;
    return (u8)(model.high_byte ? model.latched : model.latched >> 8);
}

static void outb(u16 port, u8 value)
{
    if (port == 0x61)
        assert_int_equal(value & 3, 1);
    if (port == 0x43 && value == 0x80) {
        pass_time();
        model.latched = 0xFFFF - (count(1193182) & 0xFFFF);
    }
}

void *mmio_map(paddr_t physical, u64 size, enum mmio_kind kind)
{
    assert_int_equal(physical, HPET);
    assert_int_equal(kind, MMIO_UNCACHED);
    model.mapped++;
    return model.hpet_registers;
}

void mmio_unmap(void *address, u64 size)
{
    assert_ptr_equal(address, model.hpet_registers);
    model.mapped--;
}

static int reset(void **state)
{
    memset(&model, 0, sizeof(model));
    model.tsc = 123456789;
    model.max_leaf = 0xD;
    model.hpet_registers[1] = 69841279; /* femtoseconds: 14.318 MHz */
    return 0;
}

static struct acpi_info acpi;

static u64 find(const char **source)
{
    u64 hz = host_tsc_hz(&acpi, source);

    assert_int_equal(model.mapped, 0);
    return hz;
}

static void assert_near(u64 hz)
{
    assert_in_range(hz, TSC_HZ - TSC_HZ / 10000, TSC_HZ + TSC_HZ / 10000);
    assert_int_equal(hz % 1000, 0);
}

static void measured_against_each_clock(void **state)
{
    static const char *const names[] = {"ACPI PM timer", "HPET", "PIT"};
    const char *source;

    for (u32 clock = 0; clock < 3; clock++) {
        reset(NULL);
        acpi = (struct acpi_info){.pm_timer = PM_TIMER, .hpet = HPET};
        model.pm_timer = clock == 0;
        model.hpet = clock == 1;
        model.pit = clock == 2;
        assert_near(find(&source));
        assert_string_equal(source, names[clock]);
    }
}

static void a_measurement_is_short(void **state)
{
    const char *source;

    acpi = (struct acpi_info){.pm_timer = PM_TIMER};
    model.pm_timer = true;
    find(&source);
    assert_true(model.tsc - 123456789 < TSC_HZ / 40);
}

static void one_hiccup_does_no_harm(void **state)
{
    const char *source;

    acpi = (struct acpi_info){.pm_timer = PM_TIMER};
    model.pm_timer = true;
    model.hiccup = true;
    assert_near(find(&source));
}

static void no_clock_at_all(void **state)
{
    const char *source;

    acpi = (struct acpi_info){.pm_timer = PM_TIMER, .hpet = HPET};
    assert_int_equal(find(&source), 0);
    assert_true(model.reads < 100000);
}

static void an_hpet_with_a_bad_period(void **state)
{
    const char *source;

    acpi = (struct acpi_info){.hpet = HPET};
    model.hpet = true;
    model.hpet_registers[1] = 0;
    assert_int_equal(find(&source), 0);
    model.hpet_registers[1] = UINT32_MAX;
    assert_int_equal(find(&source), 0);
}

static void cpuid_is_believed(void **state)
{
    const char *source;

    acpi = (struct acpi_info){.pm_timer = PM_TIMER};
    model.pm_timer = true;
    model.max_leaf = 0x16;
    model.ratio = (struct cpuid_result){.eax = 2, .ebx = 250, .ecx = 24000000};
    assert_int_equal(find(&source), 3000000000);
    assert_string_equal(source, "CPUID leaf 15h");
    model.ratio.ecx = 0;
    model.frequencies.eax = 0xABC0000 | 3000;
    assert_int_equal(find(&source), 3000000000);
    assert_string_equal(source, "CPUID leaf 16h");
    model.pm_timer = false;
    assert_int_equal(find(&source), 3000000000);
}

static void cpuid_is_not_believed(void **state)
{
    const char *source;

    acpi = (struct acpi_info){.pm_timer = PM_TIMER};
    model.pm_timer = true;
    model.max_leaf = 0x16;
    model.ratio = (struct cpuid_result){.eax = 2, .ebx = 300, .ecx = 24000000};
    assert_near(find(&source));
    assert_string_equal(source, "ACPI PM timer");
    model.ratio = (struct cpuid_result){.eax = 0, .ebx = 250, .ecx = 24000000};
    assert_near(find(&source));
    assert_string_equal(source, "ACPI PM timer");
    model.ratio = (struct cpuid_result){.eax = 2, .ebx = 250};
    model.max_leaf = 0x15; /* and no word on the crystal */
    assert_near(find(&source));
    assert_string_equal(source, "ACPI PM timer");
}

static void the_hypervisor_is_believed(void **state)
{
    const char *source;

    acpi = (struct acpi_info){.pm_timer = PM_TIMER};
    model.hypervisor_khz = 3000001;
    assert_int_equal(find(&source), 3000001000);
    assert_string_equal(source, "hypervisor leaf 40000010h");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(measured_against_each_clock, reset),
        cmocka_unit_test_setup(a_measurement_is_short, reset),
        cmocka_unit_test_setup(one_hiccup_does_no_harm, reset),
        cmocka_unit_test_setup(no_clock_at_all, reset),
        cmocka_unit_test_setup(an_hpet_with_a_bad_period, reset),
        cmocka_unit_test_setup(cpuid_is_believed, reset),
        cmocka_unit_test_setup(cpuid_is_not_believed, reset),
        cmocka_unit_test_setup(the_hypervisor_is_believed, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
