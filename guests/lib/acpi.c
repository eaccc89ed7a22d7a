/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "lib/guest.h"

#define RSDP_AREA_START 0xE0000
#define RSDP_AREA_END   0x100000
#define RSDP_LENGTH_V1  20

/* Offsets of ACPI 6.5: section 5.2.5.3 (RSDP), 5.2.6 (header), 5.2.9 (FADT). */
enum acpi_offset {
    RSDP_REVISION = 15,
    RSDP_RSDT = 16,
    RSDP_LENGTH = 20,
    RSDP_XSDT = 24,
    TABLE_LENGTH = 4,
    TABLE_HEADER_SIZE = 36,
    FADT_DSDT = 40,
    FADT_SMI_COMMAND = 48,
    FADT_ACPI_ENABLE = 52,
    FADT_PM1A_EVENT = 56,
    FADT_PM1A_CONTROL = 64,
    FADT_PM_TIMER = 76,
};

/* Bits of PM1a's registers and the enable register's place, section 4.8.3. */
#define PM1_PWRBTN    (1 << 8)
#define PM1_SLP_EN    (1 << 13)
#define PM1_SLP_SHIFT 10
#define PM1_ENABLE    2

static u32 read32(const u8 *p)
{
    return p[0] | p[1] << 8 | p[2] << 16 | (u32)p[3] << 24;
}

static bool is(const u8 *p, const char *signature)
{
    while (*signature && *p == (u8)*signature)
        p++, signature++;
    return !*signature;
}

static bool checksum_good(const u8 *p, u32 size)
{
    u8 sum = 0;
    for (u32 i = 0; i < size; i++)
        sum += p[i];
    return sum == 0;
}

static const u8 *find_rsdp(void)
{
    for (u64 p = RSDP_AREA_START; p < RSDP_AREA_END; p += 16)
        if (is((const u8 *)p, "RSD PTR ") && checksum_good((const u8 *)p, RSDP_LENGTH_V1))
            return (const u8 *)p;
    return NULL;
}

/* Only addresses below 4 GiB are mapped. */
static const u8 *checked_table(u64 address)
{
    const u8 *table = (const u8 *)(address & 0xFFFFFFFF);
    return checksum_good(table, read32(table + TABLE_LENGTH)) ? table : NULL;
}

/* \_S5 is Name (_S5, Package () { SLP_TYPa, ... }): 08 "_S5_" 12 length count value. */
static u8 find_s5(const u8 *dsdt)
{
    u32 length = read32(dsdt + TABLE_LENGTH);

    for (u32 i = TABLE_HEADER_SIZE; i + 9 < length; i++)
        if (is(dsdt + i, "_S5_\x12"))
            return dsdt[i + 7] == 0x0A ? dsdt[i + 8] : dsdt[i + 7]; /* BytePrefix or not */
    return 0;
}

static bool note_table(struct acpi *acpi, u64 address)
{
    const u8 *table = checked_table(address);

    if (!table)
        return false;
    if (is(table, "APIC"))
        acpi->madt = table;
    if (is(table, "FACP")) {
        acpi->fadt = table;
        acpi->dsdt = checked_table(read32(table + FADT_DSDT));
        acpi->pm_timer = (u16)read32(table + FADT_PM_TIMER);
        acpi->pm1a_control = (u16)read32(table + FADT_PM1A_CONTROL);
    }
    return true;
}

void acpi_enable_power_button(struct acpi *acpi)
{
    outb((u16)read32(acpi->fadt + FADT_SMI_COMMAND), acpi->fadt[FADT_ACPI_ENABLE]);
    acpi->pm1a_event = (u16)read32(acpi->fadt + FADT_PM1A_EVENT);
    outw(acpi->pm1a_event + PM1_ENABLE, PM1_PWRBTN);
}

bool acpi_power_button_pressed(const struct acpi *acpi)
{
    bool pressed = inw(acpi->pm1a_event) & PM1_PWRBTN;

    outw(acpi->pm1a_event, PM1_PWRBTN);
    return pressed;
}

void acpi_power_off(const struct acpi *acpi)
{
    outw(acpi->pm1a_control, (u16)(acpi->s5_type << PM1_SLP_SHIFT | PM1_SLP_EN));
}

bool acpi_find(struct acpi *acpi)
{
    const u8 *rsdp = find_rsdp();
    bool good = true;

    *acpi = (struct acpi){0};
    if (!rsdp)
        return false;
    bool v2 = rsdp[RSDP_REVISION] >= 2 && read32(rsdp + RSDP_XSDT);
    if (v2)
        good = checksum_good(rsdp, read32(rsdp + RSDP_LENGTH));
    const u8 *root = checked_table(read32(rsdp + (v2 ? RSDP_XSDT : RSDP_RSDT)));
    if (!root)
        return false;
    u32 step = v2 ? 8 : 4;
    for (u32 i = TABLE_HEADER_SIZE; i + step <= read32(root + TABLE_LENGTH); i += step)
        good &= note_table(acpi, read32(root + i));
    if (acpi->dsdt)
        acpi->s5_type = find_s5(acpi->dsdt);
    return good && acpi->fadt && acpi->madt && acpi->dsdt;
}
