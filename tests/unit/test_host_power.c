/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* drivers/power.c: what it writes to which port, and that it waits for nothing for ever. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/types.h"

#define BULKHEAD_DRIVERS_IO_H
#define BULKHEAD_DRIVERS_CPU_H
static u8 inb(u16 port);
static u16 inw(u16 port);
static void outb(u16 port, u8 value);
static void outw(u16 port, u16 value);
static void outl(u16 port, u32 value);
static void cpu_pause(void);
static void cpu_cli(void);
#include "../../drivers/power.c"

#define PM1A    0x604
#define PM1B    0x704
#define SMI_CMD 0xB2
#define EVER    10000000 /* more pauses than all waits together */

static struct {
    char log[512]; /* "port=value " for each write */
    u16 pm1;
    bool smi_works;
    u8 keyboard_status;
    u32 pauses;
    u8 memory;
    jmp_buf end; /* taken when the keyboard controller is told to reset */
} model;

static void cpu_pause(void)
{
    model.pauses++;
    assert_true(model.pauses < EVER);
}

static void cpu_cli(void)
{
}

static u8 inb(u16 port)
{
    assert_int_equal(port, 0x64);
    return model.keyboard_status;
}

static u16 inw(u16 port)
{
    assert_true(port == PM1A || port == PM1B);
    return model.pm1;
}

static void log_write(u16 port, u32 value)
{
    size_t used = strlen(model.log);

    assert_true(used + 20 < sizeof(model.log));
    snprintf(model.log + used, sizeof(model.log) - used, "%x=%x ", port, value);
}

static void outb(u16 port, u8 value)
{
    log_write(port, value);
    if (port == SMI_CMD && model.smi_works)
        model.pm1 |= 1;
    if (port == 0x64)
        longjmp(model.end, 1);
}

static void outw(u16 port, u16 value)
{
    log_write(port, value);
}

static void outl(u16 port, u32 value)
{
    log_write(port, value);
}

void *mmio_map(paddr_t physical, u64 size, enum mmio_kind kind)
{
    assert_int_equal(physical, 0xFED80000);
    return &model.memory;
}

static int reset(void **state)
{
    memset(&model, 0, sizeof(model));
    return 0;
}

#define EMULATORS                                                                                  \
    "8900=53 8900=68 8900=75 8900=74 8900=64 8900=6f 8900=77 8900=6e 604=2000 b004=2000 "

static void off_through_acpi(void **state)
{
    const struct acpi_info acpi = {.pm1a_control = PM1A,
                                   .pm1b_control = PM1B,
                                   .s5_known = true,
                                   .s5_type_a = 5,
                                   .s5_type_b = 7};

    model.pm1 = 0x1C03; /* what sleep type was there before goes, the rest stays */
    host_power_off(&acpi);
    assert_string_equal(model.log, "604=3403 704=3c03 " EMULATORS);
}

static void off_enters_acpi_mode_first(void **state)
{
    const struct acpi_info acpi = {
        .pm1a_control = PM1A, .s5_known = true, .smi_cmd = SMI_CMD, .acpi_enable = 0xF1};

    model.smi_works = true;
    host_power_off(&acpi);
    assert_string_equal(model.log, "b2=f1 604=2001 " EMULATORS);

    reset(NULL); /* firmware that does not answer is not waited for for ever */
    host_power_off(&acpi);
    assert_string_equal(model.log, "b2=f1 604=2000 " EMULATORS);

    reset(NULL);
    model.pm1 = 1;
    host_power_off(&acpi);
    assert_string_equal(model.log, "604=2001 " EMULATORS);
}

static void off_without_acpi(void **state)
{
    const struct acpi_info no_port = {.s5_known = true};
    const struct acpi_info no_s5 = {.pm1a_control = PM1A};

    host_power_off(&no_port);
    assert_string_equal(model.log, EMULATORS);
    reset(NULL);
    host_power_off(&no_s5);
    assert_string_equal(model.log, EMULATORS);
}

static void reboot(const struct acpi_info *acpi)
{
    if (setjmp(model.end) == 0)
        host_reboot(acpi);
}

static void reset_by_port(void **state)
{
    const struct acpi_info acpi = {
        .reset = {.address = 0xCF9, .space = ACPI_SPACE_IO},
          .reset_value = 0xF
    };

    reboot(&acpi);
    assert_string_equal(model.log, "cf9=f cf9=2 cf9=6 64=fe ");
}

static void reset_by_memory_register(void **state)
{
    const struct acpi_info acpi = {
        .reset = {.address = 0xFED80000, .space = ACPI_SPACE_MEMORY},
          .reset_value = 0x5A
    };

    reboot(&acpi);
    assert_int_equal(model.memory, 0x5A);
}

static void reset_by_pci_register(void **state)
{
    const struct acpi_info acpi = {
        .reset = {.address = 0x0000001F00020046, .space = ACPI_SPACE_PCI_CONFIG},
        .reset_value = 0x77
    };

    reboot(&acpi);
    assert_string_equal(model.log, "cf8=8000fa44 cfe=77 cf9=2 cf9=6 64=fe ");
}

static void a_keyboard_controller_that_is_never_ready(void **state)
{
    const struct acpi_info acpi = {0};

    model.keyboard_status = KEYBOARD_INPUT_FULL;
    reboot(&acpi);
    assert_string_equal(model.log, "cf9=2 cf9=6 64=fe ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(off_through_acpi, reset),
        cmocka_unit_test_setup(off_enters_acpi_mode_first, reset),
        cmocka_unit_test_setup(off_without_acpi, reset),
        cmocka_unit_test_setup(reset_by_port, reset),
        cmocka_unit_test_setup(reset_by_memory_register, reset),
        cmocka_unit_test_setup(reset_by_pci_register, reset),
        cmocka_unit_test_setup(a_keyboard_controller_that_is_never_ready, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
