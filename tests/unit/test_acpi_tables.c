/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* The guest's ACPI tables, read as a guest would, and by iasl where it is installed. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "devices/machine.h"
#include "devices/pc_ports.h"
#include "loader/acpi_tables.h"
#include "loader/dsdt.h"
#include "loader/e820.h"

#define HEADER_SIZE 36
#define RSDP_SIZE   36

static struct guest_ram ram;

static int set_up(void **state)
{
    ram = (struct guest_ram){.base = calloc(1, MIB), .low_size = MIB};
    return ram.base == NULL;
}

static int tear_down(void **state)
{
    free(ram.base);
    return 0;
}

static u64 number(const u8 *at, u32 size)
{
    u64 value = 0;

    memcpy(&value, at, size);
    return value;
}

static u8 sum(const u8 *bytes, u64 size)
{
    u8 total = 0;

    for (u64 i = 0; i < size; i++)
        total = (u8)(total + bytes[i]);
    return total;
}

/* The table of this signature, after a check of its place, length and checksum. */
static const u8 *table_at(u64 gpa, const char *signature)
{
    const u8 *table = ram.base + gpa;
    u64 length;

    assert_in_range(gpa, GUEST_ACPI_TABLES, GUEST_ACPI_TABLES + GUEST_ACPI_SIZE - HEADER_SIZE);
    assert_memory_equal(table, signature, 4);
    length = number(table + 4, 4);
    assert_in_range(gpa + length, gpa + HEADER_SIZE, GUEST_ACPI_TABLES + GUEST_ACPI_SIZE);
    assert_int_equal(sum(table, length), 0);
    return table;
}

static const u8 *find_table(const char *signature)
{
    const u8 *xsdt = table_at(number(ram.base + GUEST_ACPI_TABLES + 24, 8), "XSDT");

    for (u64 at = HEADER_SIZE; at < number(xsdt + 4, 4); at += 8)
        if (memcmp(ram.base + number(xsdt + at, 8), signature, 4) == 0)
            return table_at(number(xsdt + at, 8), signature);
    fail_msg("no %s", signature);
    return NULL;
}

static void test_rsdp(void **state)
{
    const u8 *rsdp = ram.base + GUEST_ACPI_TABLES;

    assert_true(acpi_tables_write(&ram, 1));
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(rsdp[15], 2);
    assert_int_equal(number(rsdp + 20, 4), RSDP_SIZE);
    assert_int_equal(sum(rsdp, 20), 0);
    assert_int_equal(sum(rsdp, RSDP_SIZE), 0);
    table_at(number(rsdp + 24, 8), "XSDT");
}

/* Field offsets of ACPI 6.5, table 5.9. */
static void test_fadt(void **state)
{
    const u8 *fadt, *facs;

    assert_true(acpi_tables_write(&ram, 1));
    fadt = find_table("FACP");
    assert_int_equal(number(fadt + 46, 2), IRQ_SCI);
    assert_int_equal(number(fadt + 48, 4), PORT_SMI_COMMAND);
    assert_int_equal(fadt[52], SMI_ACPI_ENABLE);
    assert_int_equal(fadt[53], SMI_ACPI_DISABLE);
    assert_int_equal(number(fadt + 56, 4), PORT_PM1A_EVENT);
    assert_int_equal(number(fadt + 64, 4), PORT_PM1A_CONTROL);
    assert_int_equal(number(fadt + 76, 4), PORT_PM_TIMER);
    assert_int_equal(fadt[88], 4);
    assert_int_equal(fadt[89], 2);
    assert_int_equal(fadt[91], 4);
    assert_int_equal(fadt[108], RTC_CENTURY_REGISTER);
    assert_int_equal(number(fadt + 112, 4) & BIT(4), 0);  /* PWR_BUTTON: a fixed button */
    assert_true(number(fadt + 112, 4) & BIT(8));          /* TMR_VAL_EXT */
    assert_true(number(fadt + 112, 4) & BIT(10));         /* RESET_REG_SUP */
    assert_int_equal(number(fadt + 112, 4) & BIT(20), 0); /* HW_REDUCED_ACPI */
    assert_int_equal(fadt[116], 1);
    assert_int_equal(fadt[117], 8);
    assert_int_equal(number(fadt + 120, 8), PORT_RESET_CONTROL);
    assert_int_equal(fadt[128], RESET_VALUE);
    assert_int_equal(number(fadt + 140, 8), number(fadt + 40, 4));
    assert_int_equal(number(fadt + 152, 8), PORT_PM1A_EVENT);
    assert_int_equal(number(fadt + 176, 8), PORT_PM1A_CONTROL);
    assert_int_equal(number(fadt + 212, 8), PORT_PM_TIMER);
    assert_memory_equal(table_at(number(fadt + 40, 4), "DSDT"), dsdt_aml, sizeof(dsdt_aml));
    facs = ram.base + number(fadt + 36, 4);
    assert_memory_equal(facs, "FACS", 4);
    assert_int_equal(number(facs + 4, 4), 64);
    assert_int_equal(number(fadt + 36, 4) % 64, 0);
}

static void test_madt(void **state)
{
    static const u8 rest[] = {
        1, 12, IOAPIC_ID, 0, 0x00, 0x00, 0xC0, 0xFE, 0,    0, 0, 0, /* IOAPIC */
        2, 10, 0,         0, 2,    0,    0,    0,    0,    0,       /* IRQ 0 at pin 2 */
        2, 10, 0,         9, 9,    0,    0,    0,    0x0D, 0,       /* SCI: level, active high */
        4, 6,  0xFF,      0, 0,    1,                               /* NMI at LINT1 of all */
    };
    const u8 *madt;

    assert_true(acpi_tables_write(&ram, 3));
    madt = find_table("APIC");
    assert_int_equal(number(madt + 36, 4), LAPIC_BASE_DEFAULT);
    assert_int_equal(number(madt + 40, 4), 1);
    for (u32 id = 0; id < 3; id++) {
        const u8 expected[] = {0, 8, (u8)id, (u8)id, 1, 0, 0, 0};

        assert_memory_equal(madt + 44 + id * 8, expected, sizeof(expected));
    }
    assert_memory_equal(madt + 44 + 3 * 8, rest, sizeof(rest));
    assert_int_equal(number(madt + 4, 4), 44 + 3 * 8 + sizeof(rest));
    assert_int_equal(IOAPIC_BASE, 0xFEC00000);
}

static void test_madt_of_many(void **state)
{
    u32 xapic = 0, x2apic = 0, nmi_of_all = 0, next = 0;
    const u8 *madt;

    assert_true(acpi_tables_write(&ram, 1024));
    madt = find_table("APIC");
    for (u64 at = 44; at < number(madt + 4, 4); at += madt[at + 1]) {
        assert_true(madt[at + 1] >= 6);
        if (madt[at] == 0) {
            assert_int_equal(madt[at + 3], next++);
            xapic++;
        } else if (madt[at] == 9) {
            assert_int_equal(number(madt + at + 4, 4), next);
            assert_int_equal(number(madt + at + 12, 4), next++);
            x2apic++;
        } else if (madt[at] == 10) {
            assert_int_equal(number(madt + at + 4, 4), 0xFFFFFFFF);
            assert_int_equal(madt[at + 8], 1);
            nmi_of_all++;
        }
    }
    assert_int_equal(xapic, 255);
    assert_int_equal(x2apic, 1024 - 255);
    assert_int_equal(nmi_of_all, 1);
}

static void test_no_room(void **state)
{
    const struct guest_ram small = {.base = ram.base, .low_size = GUEST_ACPI_TABLES};

    assert_false(acpi_tables_write(&ram, 100000));
    for (u64 i = 0; i < GUEST_ACPI_TABLES; i++)
        assert_int_equal(ram.base[i], 0);
    assert_false(acpi_tables_write(&small, 1));
}

/* ---- iasl -------------------------------------------------------------------------------- */

static char folder[] = "/tmp/bulkhead-acpi-XXXXXX";

static int run(const char *format, const char *name)
{
    char arguments[256], command[512];

    snprintf(arguments, sizeof(arguments), format, folder, name);
    snprintf(command, sizeof(command), "iasl %s > %s/log 2>&1", arguments, folder);
    return system(command);
}

static void need_iasl(void)
{
    if (system("command -v iasl > /dev/null 2>&1") != 0)
        skip();
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static void remove_folder(void)
{
    char command[64];

    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static u64 file_text(const char *name, char *text, u64 size)
{
    char path[64];
    u64 read;
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "rb");
    assert_non_null(file);
    read = fread(text, 1, size - 1, file);
    text[read] = '\0';
    fclose(file);
    return read;
}

static void disassemble(const char *name, const u8 *table)
{
    static char text[64 * 1024];
    char path[64];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s.dat", folder, name);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(table, 1, number(table + 4, 4), file), number(table + 4, 4));
    fclose(file);
    assert_int_equal(run("-d %s/%s.dat", name), 0);
    file_text("log", text, sizeof(text));
    if (strstr(text, "rror") != NULL || strstr(text, "nvalid") != NULL ||
        strstr(text, "ncorrect") != NULL)
        fail_msg("%s", text);
    snprintf(path, sizeof(path), "%s.dsl", name);
    file_text(path, text, sizeof(text));
    if (strstr(text, "rror") != NULL || strstr(text, "nvalid") != NULL ||
        strstr(text, "ncorrect") != NULL)
        fail_msg("%s", text);
}

static void test_iasl_accepts_tables(void **state)
{
    const u8 *fadt;

    need_iasl();
    assert_true(acpi_tables_write(&ram, 300));
    fadt = find_table("FACP");
    disassemble("facp", fadt);
    disassemble("apic", find_table("APIC"));
    disassemble("xsdt", ram.base + number(ram.base + GUEST_ACPI_TABLES + 24, 8));
    disassemble("facs", ram.base + number(fadt + 36, 4));
    disassemble("dsdt", ram.base + number(fadt + 40, 4));
    remove_folder();
}

/* loader/dsdt.h is loader/dsdt.asl compiled. The header names the compiler's version. */
static void test_dsdt_is_compiled_source(void **state)
{
    static char aml[64 * 1024];

    need_iasl();
    assert_int_equal(run("-p %s/%s loader/dsdt.asl", "dsdt"), 0);
    assert_int_equal(file_text("dsdt.aml", aml, sizeof(aml)), sizeof(dsdt_aml));
    assert_memory_equal(aml + HEADER_SIZE, dsdt_aml + HEADER_SIZE, sizeof(dsdt_aml) - HEADER_SIZE);
    remove_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rsdp, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fadt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_madt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_madt_of_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_iasl_accepts_tables, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dsdt_is_compiled_source, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("acpi_tables", tests, NULL, NULL);
}
