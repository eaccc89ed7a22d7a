/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/acpi.h"

/* A machine's physical memory from BASE on. Every mapping is a copy of exactly the bytes asked
 * for, so that a read beyond them is seen. */
#define BASE 0x10000

static u8 memory[64 * 1024];
static u32 used;
static u32 open_mappings;
static char warnings[1024];
static u8 rsdp[36];
static u32 roots[16], root_count;
static struct acpi_info info;
static struct acpi_cpu cpus[4];

static const void *map(void *context, paddr_t physical, u64 size)
{
    u8 *copy;

    if (physical < BASE || physical - BASE > sizeof(memory) ||
        size > sizeof(memory) - (physical - BASE))
        return NULL;
    copy = malloc(size);
    memcpy(copy, memory + (physical - BASE), size);
    open_mappings++;
    return copy;
}

static void unmap(void *context, const void *bytes, u64 size)
{
    open_mappings--;
    free((void *)(uintptr_t)bytes);
}

static void warning(void *context, const char *sentence)
{
    strncat(warnings, sentence, sizeof(warnings) - strlen(warnings) - 2);
    strcat(warnings, "|");
}

static const struct acpi_access machine = {map, unmap, warning, NULL};

static u8 sum(const u8 *bytes, size_t size)
{
    u8 total = 0;

    for (size_t i = 0; i < size; i++)
        total += bytes[i];
    return total;
}

static void fix(u8 *bytes, size_t size, u8 *checksum)
{
    *checksum = 0;
    *checksum = (u8)-sum(bytes, size);
}

static void store(u8 *at, u64 value, u32 size)
{
    memcpy(at, &value, size);
}

static void begin(void)
{
    memset(memory, 0, sizeof(memory));
    used = 0;
    root_count = 0;
}

/* A table with this content behind its header; its physical address. */
static u32 table(const char *signature, u8 revision, const void *content, u32 size)
{
    u8 *at = memory + used;
    u32 address = BASE + used;

    memcpy(at, signature, 4);
    store(at + 4, 36 + size, 4);
    at[8] = revision;
    if (size > 0)
        memcpy(at + 36, content, size);
    fix(at, 36 + size, at + 9);
    used += 36 + size;
    used += (16 - used % 16) % 16 + 4; /* tables need not be aligned */
    return address;
}

static void add(u32 address)
{
    roots[root_count++] = address;
}

static u32 root_table(const char *signature, u32 entry_size)
{
    u8 content[16 * 8];

    for (u32 i = 0; i < root_count; i++)
        store(content + i * entry_size, roots[i], entry_size);
    return table(signature, 1, content, root_count * entry_size);
}

static void make_rsdp(u32 rsdt, u64 xsdt)
{
    memset(rsdp, 0, sizeof(rsdp));
    memcpy(rsdp, "RSD PTR ", 8);
    rsdp[15] = xsdt != 0 ? 2 : 0;
    store(rsdp + 16, rsdt, 4);
    store(rsdp + 20, 36, 4);
    store(rsdp + 24, xsdt, 8);
    fix(rsdp, 20, rsdp + 8);
    fix(rsdp, 36, rsdp + 32);
}

static bool parse_rsdp(u32 size)
{
    u8 *copy = malloc(size + 1);
    bool parsed;

    memcpy(copy, rsdp, size);
    warnings[0] = '\0';
    memset(&info, 0xA5, sizeof(info));
    memset(cpus, 0xA5, sizeof(cpus));
    parsed = acpi_parse(&machine, copy, size, cpus, ARRAY_SIZE(cpus), &info);
    free(copy);
    assert_int_equal(open_mappings, 0);
    return parsed;
}

static bool parse(void)
{
    make_rsdp(0, root_table("XSDT", 8));
    return parse_rsdp(36);
}

/* ---- MADT ---- */

static u8 madt[1024];
static u32 madt_size;

static void madt_begin(u32 flags)
{
    memset(madt, 0, sizeof(madt));
    store(madt, 0xFEE00000, 4);
    store(madt + 4, flags, 4);
    madt_size = 8;
}

static u8 *madt_entry(u8 type, u8 length)
{
    u8 *at = madt + madt_size;

    at[0] = type;
    at[1] = length;
    madt_size += length;
    return at;
}

static void madt_lapic(u8 uid, u8 id, u32 flags)
{
    u8 *at = madt_entry(0, 8);

    at[2] = uid;
    at[3] = id;
    store(at + 4, flags, 4);
}

static void madt_x2apic(u32 uid, u32 id, u32 flags)
{
    u8 *at = madt_entry(9, 16);

    store(at + 4, id, 4);
    store(at + 8, flags, 4);
    store(at + 12, uid, 4);
}

static void madt_ioapic(u8 id, u32 address, u32 gsi)
{
    u8 *at = madt_entry(1, 12);

    at[2] = id;
    store(at + 4, address, 4);
    store(at + 8, gsi, 4);
}

static void madt_override(u8 bus, u8 source, u32 gsi, u16 flags)
{
    u8 *at = madt_entry(2, 10);

    at[2] = bus;
    at[3] = source;
    store(at + 4, gsi, 4);
    store(at + 8, flags, 2);
}

static bool parse_madt(void)
{
    begin();
    add(table("APIC", 3, madt, madt_size));
    return parse();
}

static void cpus_of_both_kinds(void **state)
{
    madt_begin(1);
    madt_lapic(0, 0, 1);
    madt_lapic(1, 2, 0); /* not there */
    madt_lapic(2, 4, 2); /* could be plugged in */
    madt_lapic(3, 255, 1);
    madt_x2apic(4, 4, 1); /* the same CPU again */
    madt_x2apic(5, 300, 1);
    madt_x2apic(6, UINT32_MAX, 1);
    assert_true(parse_madt());
    assert_string_equal(warnings, "");
    assert_int_equal(info.cpu_count, 3);
    assert_int_equal(cpus[0].apic_id, 0);
    assert_true(cpus[0].enabled);
    assert_int_equal(cpus[1].apic_id, 4);
    assert_int_equal(cpus[1].uid, 2);
    assert_false(cpus[1].enabled);
    assert_int_equal(cpus[2].apic_id, 300);
    assert_int_equal(cpus[2].uid, 5);
}

static void more_cpus_than_room_are_counted(void **state)
{
    madt_begin(1);
    for (u8 i = 0; i < 7; i++)
        madt_lapic(i, i, 1);
    assert_true(parse_madt());
    assert_int_equal(info.cpu_count, 7);
    assert_int_equal(cpus[3].apic_id, 3);
}

static void ioapics_and_overrides(void **state)
{
    madt_begin(0);
    madt_ioapic(8, 0xFEC00000, 0);
    madt_ioapic(9, 0xFEC01000, 24);
    madt_override(0, 0, 2, 0);
    madt_override(0, 9, 20, 0xF);
    madt_override(0, 5, 5, 0x5);  /* says what is the default */
    madt_override(1, 6, 22, 0xF); /* another bus */
    madt_override(0, 16, 23, 0xF);
    assert_true(parse_madt());
    assert_false(info.pcat_compatible);
    assert_int_equal(info.lapic_address, 0xFEE00000);
    assert_int_equal(info.ioapic_count, 2);
    assert_int_equal(info.ioapics[1].id, 9);
    assert_int_equal(info.ioapics[1].address, 0xFEC01000);
    assert_int_equal(info.ioapics[1].gsi_base, 24);
    assert_int_equal(info.isa_irqs[0].gsi, 2);
    assert_false(info.isa_irqs[0].active_low);
    assert_int_equal(info.isa_irqs[9].gsi, 20);
    assert_true(info.isa_irqs[9].active_low);
    assert_true(info.isa_irqs[9].level_triggered);
    assert_int_equal(info.isa_irqs[5].gsi, 5);
    assert_false(info.isa_irqs[5].level_triggered);
    assert_int_equal(info.isa_irqs[6].gsi, 6);
    assert_false(info.isa_irqs[6].active_low);
}

static void ioapics_that_are_too_many(void **state)
{
    madt_begin(1);
    for (u32 i = 0; i < ACPI_IOAPICS_MAX + 3; i++)
        madt_ioapic((u8)i, 0xFEC00000 + i * 0x1000, i * 24);
    assert_true(parse_madt());
    assert_int_equal(info.ioapic_count, ACPI_IOAPICS_MAX);
    assert_int_equal(info.ioapics_left_out, 3);
}

static void the_lapic_address_is_overridden(void **state)
{
    madt_begin(1);
    store(madt_entry(5, 12) + 4, 0x1FEE00000, 8);
    assert_true(parse_madt());
    assert_int_equal(info.lapic_address, 0x1FEE00000);
}

static void madt_entries_with_bad_lengths(void **state)
{
    madt_begin(1);
    madt_lapic(0, 0, 1);
    madt_entry(0, 0);
    madt_size += 2;
    assert_true(parse_madt());
    assert_int_equal(info.cpu_count, 1);
    assert_non_null(strstr(warnings, "the APIC at 0x10000 has an entry with a bad length"));

    madt_begin(1);
    madt_lapic(0, 0, 1);
    madt_lapic(1, 1, 1);
    madt_size -= 1;
    assert_true(parse_madt());
    assert_int_equal(info.cpu_count, 1);
    assert_non_null(strstr(warnings, "has an entry with a bad length"));

    madt_begin(1);
    madt_entry(9, 8); /* too short for its kind: skipped */
    madt_entry(200, 6);
    madt_lapic(1, 1, 1);
    assert_true(parse_madt());
    assert_int_equal(info.cpu_count, 1);
    assert_int_equal(cpus[0].apic_id, 1);
}

static void a_madt_that_is_too_short(void **state)
{
    begin();
    add(table("APIC", 1, "abcdefg", 7));
    assert_true(parse());
    assert_string_equal(warnings, "ACPI: the APIC at 0x10000 is too short.|");
    assert_int_equal(info.cpu_count, 0);
}

/* ---- FADT and DSDT ---- */

static u8 fadt[276 - 36];

static u8 *fadt_at(u32 offset)
{
    return fadt + offset - 36;
}

static void fadt_begin(void)
{
    memset(fadt, 0, sizeof(fadt));
    store(fadt_at(46), 9, 2);
    store(fadt_at(48), 0xB2, 4);
    fadt[52 - 36] = 0xF1;
    store(fadt_at(64), 0x604, 4);
    store(fadt_at(76), 0x608, 4);
    fadt[91 - 36] = 4;
    fadt[108 - 36] = 0x32;
    store(fadt_at(109), 0x2, 2);
    store(fadt_at(112), 1 << 8 | 1 << 10, 4);
    store(fadt_at(116), 1 | 8 << 8, 4);
    store(fadt_at(120), 0xCF9, 8);
    fadt[128 - 36] = 6;
}

static bool parse_fadt(u8 revision, u32 size)
{
    add(table("FACP", revision, fadt, size - 36));
    return parse();
}

static void a_whole_fadt(void **state)
{
    begin();
    fadt_begin();
    assert_true(parse_fadt(3, 276));
    assert_string_equal(warnings, "");
    assert_int_equal(info.sci, 9);
    assert_int_equal(info.smi_cmd, 0xB2);
    assert_int_equal(info.acpi_enable, 0xF1);
    assert_int_equal(info.pm1a_control, 0x604);
    assert_int_equal(info.pm1b_control, 0);
    assert_int_equal(info.pm_timer, 0x608);
    assert_true(info.pm_timer_32bit);
    assert_int_equal(info.century, 0x32);
    assert_int_equal(info.boot_flags, ACPI_BOOT_8042);
    assert_int_equal(info.reset.address, 0xCF9);
    assert_int_equal(info.reset.space, ACPI_SPACE_IO);
    assert_int_equal(info.reset.bit_width, 8);
    assert_int_equal(info.reset_value, 6);
    assert_false(info.s5_known);
    assert_false(info.hardware_reduced);
}

static void a_fadt_of_acpi_1(void **state)
{
    begin();
    fadt_begin();
    assert_true(parse_fadt(1, 116));
    assert_int_equal(info.pm1a_control, 0x604);
    assert_int_equal(info.boot_flags, ACPI_BOOT_LEGACY_DEVICES | ACPI_BOOT_8042);
    assert_int_equal(info.reset.address, 0);
}

static void a_fadt_without_optional_parts(void **state)
{
    begin();
    fadt_begin();
    fadt[91 - 36] = 0;               /* no PM timer */
    store(fadt_at(112), 1 << 20, 4); /* no reset register, hardware-reduced */
    store(fadt_at(64), 0x12345, 4);
    assert_true(parse_fadt(5, 276));
    assert_int_equal(info.pm_timer, 0);
    assert_int_equal(info.reset.address, 0);
    assert_int_equal(info.pm1a_control, 0);
    assert_true(info.hardware_reduced);
}

static void extended_addresses_stand_in(void **state)
{
    begin();
    fadt_begin();
    store(fadt_at(64), 0, 4);
    store(fadt_at(172), 1, 4);
    store(fadt_at(176), 0x1804, 8);
    store(fadt_at(184), 0, 4); /* PM1b in memory is not for us */
    store(fadt_at(188), 0x1804, 8);
    assert_true(parse_fadt(5, 276));
    assert_int_equal(info.pm1a_control, 0x1804);
    assert_int_equal(info.pm1b_control, 0);
}

static void a_fadt_that_is_too_short(void **state)
{
    begin();
    fadt_begin();
    assert_true(parse_fadt(1, 115));
    assert_int_equal(info.pm1a_control, 0);
    assert_string_equal(warnings, "ACPI: the FACP at 0x10000 is too short.|");
}

static bool parse_dsdt(const void *aml, u32 size)
{
    u32 dsdt;

    begin();
    fadt_begin();
    dsdt = table("DSDT", 1, aml, size);
    store(fadt_at(40), dsdt, 4);
    assert_true(parse_fadt(3, 276));
    return info.s5_known;
}

/* In the last one a mention that is no definition comes first. */
static void s5_in_its_usual_forms(void **state)
{
    static const struct {
        const char *aml;
        u32 size;
        u8 a, b;
    } cases[] = {
        {"\x10\x20\x08_S5_\x12\x06\x04\x0A\x05\x0A\x07\0\0",       17, 5, 7},
        {"\x08_S5_\x12\x08\x04\x00\x01\0\0",                       12, 0, 1},
        {"\x08\\_S5_\x12\x0A\x02\x0B\x07\x00\x0C\x03\x00\x00\x00", 17, 7, 3},
        {"\x08_S5_\x12\x40\x01\x04\x0A\x06\x01\0\0",               14, 6, 1},
        {"\x70_S5_\x12\x08_S5_\x12\x06\x04\x01\x01",               16, 1, 1},
    };

    for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_true(parse_dsdt(cases[i].aml, cases[i].size));
        assert_int_equal(info.s5_type_a, cases[i].a);
        assert_int_equal(info.s5_type_b, cases[i].b);
    }
}

static void s5_that_makes_no_sense(void **state)
{
    static const struct {
        const char *aml;
        u32 size;
    } cases[] = {
        {"",                                 0 },
        {"_S5_\x12\x06\x04\x01\x01",         9 }, /* no name operator */
        {"\\_S5_\x12\x06\x04\x01\x01",       10}, /* the same with a root prefix */
        {"\x08_S5_\x11\x06\x04\x01\x01",     10}, /* no package */
        {"\x08_S5_\x12\x06\x01\x01\x01",     10}, /* of one element */
        {"\x08_S5_\x12\x06\x04\x0A\x08\x01", 11}, /* 8 is no sleep type */
        {"\x08_S5_\x12\x06\x04\x0D\x01\x01", 11}, /* a string */
        {"\x08_S5_\x12\x06\x04\x01",         9 }, /* ends in the middle */
        {"\x08_S5_\x12\xC6",                 7 },
        {"\x08_S5_",                         5 },
        {"\x08_S4_\x12\x06\x04\x01\x01",     10},
    };

    for (u32 i = 0; i < ARRAY_SIZE(cases); i++)
        assert_false(parse_dsdt(cases[i].aml, cases[i].size));
}

static void the_64_bit_dsdt_comes_first(void **state)
{
    static const char aml[] = "\x08_S5_\x12\x06\x04\x01\x01";
    u32 dsdt;

    begin();
    fadt_begin();
    dsdt = table("DSDT", 1, aml, sizeof(aml) - 1);
    store(fadt_at(140), dsdt, 8);
    store(fadt_at(40), 0x10, 4);
    assert_true(parse_fadt(3, 276));
    assert_true(info.s5_known);
    assert_string_equal(warnings, "");
}

/* ---- HPET and the way to the tables ---- */

static u32 hpet_table(u8 space, u64 address)
{
    u8 content[20] = {0};

    content[4] = space;
    store(content + 8, address, 8);
    return table("HPET", 1, content, sizeof(content));
}

static void the_hpet(void **state)
{
    begin();
    add(hpet_table(0, 0xFED00000));
    assert_true(parse());
    assert_int_equal(info.hpet, 0xFED00000);
    begin();
    add(hpet_table(1, 0x500));
    assert_true(parse());
    assert_int_equal(info.hpet, 0);
}

static void the_first_of_a_kind_counts(void **state)
{
    begin();
    add(table("SSDT", 1, "abc", 3));
    add(hpet_table(0, 0xFED00000));
    add(hpet_table(0, 0xFED10000));
    add(0);
    assert_true(parse());
    assert_int_equal(info.hpet, 0xFED00000);
    assert_string_equal(warnings, "");
}

static void bad_checksums_are_named(void **state)
{
    u32 address;

    begin();
    address = hpet_table(0, 0xFED00000);
    add(address);
    memory[address - BASE + 50]++;
    add(table("SSDT", 1, "abc", 3));
    memory[roots[1] - BASE + 37]++;
    memory[roots[1] - BASE] = '\n';
    assert_true(parse());
    assert_int_equal(info.hpet, 0);
    assert_string_equal(warnings, "ACPI: the HPET at 0x10000 has a bad checksum.|"
                                  "ACPI: the ?SDT at 0x10044 has a bad checksum.|");
}

static void tables_with_bad_lengths_or_places(void **state)
{
    begin();
    add(hpet_table(0, 0xFED00000));
    store(memory + 4, 35, 4);
    add(hpet_table(0, 0xFED00000));
    store(memory + roots[1] - BASE + 4, UINT32_MAX, 4);
    add(hpet_table(0, 0xFED00000));
    store(memory + roots[2] - BASE + 4, sizeof(memory), 4);
    add(BASE - 1);
    assert_true(parse());
    assert_int_equal(info.hpet, 0);
    assert_string_equal(warnings, "ACPI: the HPET at 0x10000 has a bad length.|"
                                  "ACPI: the HPET at 0x10044 has a bad length.|"
                                  "ACPI: the HPET at 0x10084 cannot be read.|"
                                  "ACPI: the table at 0xffff cannot be read.|");
}

static void the_rsdt_of_acpi_1(void **state)
{
    begin();
    add(hpet_table(0, 0xFED00000));
    make_rsdp(root_table("RSDT", 4), 0);
    assert_true(parse_rsdp(20));
    assert_int_equal(info.hpet, 0xFED00000);
}

static void the_rsdt_stands_in_for_a_bad_xsdt(void **state)
{
    u32 rsdt, xsdt;

    begin();
    add(hpet_table(0, 0xFED00000));
    rsdt = root_table("RSDT", 4);
    xsdt = root_table("XSDT", 8);
    memory[xsdt - BASE + 20]++;
    make_rsdp(rsdt, xsdt);
    assert_true(parse_rsdp(36));
    assert_int_equal(info.hpet, 0xFED00000);
    assert_non_null(strstr(warnings, "the XSDT at "));

    make_rsdp(rsdt, rsdt);
    assert_true(parse_rsdp(36));
    assert_int_equal(info.hpet, 0xFED00000);
    assert_non_null(strstr(warnings, "has another table's signature"));

    make_rsdp(rsdt, BASE);
    rsdp[33]++;
    assert_true(parse_rsdp(36));
    assert_int_equal(info.hpet, 0xFED00000);
    assert_string_equal(warnings, "ACPI: the RSDP has a bad extended checksum.|");
}

static void assert_defaults(void)
{
    assert_int_equal(info.cpu_count, 0);
    assert_int_equal(info.ioapic_count, 0);
    assert_int_equal(info.isa_irqs[15].gsi, 15);
    assert_int_equal(info.lapic_address, 0xFEE00000);
    assert_true(info.pcat_compatible);
}

static void no_usable_rsdp(void **state)
{
    begin();
    add(hpet_table(0, 0xFED00000));
    make_rsdp(root_table("RSDT", 4), 0);
    for (u32 size = 0; size < 20; size++)
        assert_false(parse_rsdp(size));
    assert_string_equal(warnings, "ACPI: the RSDP is missing.|");
    assert_defaults();
    rsdp[9]++;
    assert_false(parse_rsdp(36));
    assert_string_equal(warnings, "ACPI: the RSDP has a bad checksum.|");
    assert_defaults();
    make_rsdp(0, 0);
    assert_false(parse_rsdp(36));
    assert_defaults();
}

static void warnings_may_go_nowhere(void **state)
{
    const struct acpi_access quiet = {map, unmap, NULL, NULL};

    assert_false(acpi_parse(&quiet, rsdp, 0, NULL, 0, &info));
    madt_begin(1);
    madt_lapic(0, 0, 1);
    begin();
    add(table("APIC", 1, madt, madt_size));
    make_rsdp(0, root_table("XSDT", 8));
    assert_true(acpi_parse(&quiet, rsdp, 36, NULL, 0, &info));
    assert_int_equal(info.cpu_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpus_of_both_kinds),
        cmocka_unit_test(more_cpus_than_room_are_counted),
        cmocka_unit_test(ioapics_and_overrides),
        cmocka_unit_test(ioapics_that_are_too_many),
        cmocka_unit_test(the_lapic_address_is_overridden),
        cmocka_unit_test(madt_entries_with_bad_lengths),
        cmocka_unit_test(a_madt_that_is_too_short),
        cmocka_unit_test(a_whole_fadt),
        cmocka_unit_test(a_fadt_of_acpi_1),
        cmocka_unit_test(a_fadt_without_optional_parts),
        cmocka_unit_test(extended_addresses_stand_in),
        cmocka_unit_test(a_fadt_that_is_too_short),
        cmocka_unit_test(s5_in_its_usual_forms),
        cmocka_unit_test(s5_that_makes_no_sense),
        cmocka_unit_test(the_64_bit_dsdt_comes_first),
        cmocka_unit_test(the_hpet),
        cmocka_unit_test(the_first_of_a_kind_counts),
        cmocka_unit_test(bad_checksums_are_named),
        cmocka_unit_test(tables_with_bad_lengths_or_places),
        cmocka_unit_test(the_rsdt_of_acpi_1),
        cmocka_unit_test(the_rsdt_stands_in_for_a_bad_xsdt),
        cmocka_unit_test(no_usable_rsdp),
        cmocka_unit_test(warnings_may_go_nowhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
