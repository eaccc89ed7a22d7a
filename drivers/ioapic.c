/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "drivers/ioapic.h"

#include "mm/host_space.h"

/* 82093AA data sheet, sections 3.1 and 3.2. */
enum ioapic_register {
    IOAPICVER = 0x01,
    IOREDTBL = 0x10, /* two registers for each input */
};

#define IOREGSEL             (0x00 / sizeof(u32))
#define IOWIN                (0x10 / sizeof(u32))
#define IOAPIC_SIZE          0x20
#define VERSION_MISSING      UINT32_MAX
#define MAX_ENTRY(version)   ((version) >> 16 & 0xFF)
#define ENTRY_ACTIVE_LOW     BIT(13)
#define ENTRY_LEVEL          BIT(15)
#define ENTRY_MASKED         BIT(16)
#define ENTRY_DESTINATION(n) ((n) << 24)
#define DESTINATION_MAX      254

struct host_ioapic {
    volatile u32 *registers;
    u32 gsi_base;
    u32 inputs;
};

static struct host_ioapic ioapics[ACPI_IOAPICS_MAX];
static u32 ioapic_count;

static u32 ioapic_read(const struct host_ioapic *ioapic, u32 index)
{
    ioapic->registers[IOREGSEL] = index;
    return ioapic->registers[IOWIN];
}

static void ioapic_write(const struct host_ioapic *ioapic, u32 index, u32 value)
{
    ioapic->registers[IOREGSEL] = index;
    ioapic->registers[IOWIN] = value;
}

static u32 entry_low(u32 input)
{
    return IOREDTBL + 2 * input;
}

static u32 entry_high(u32 input)
{
    return IOREDTBL + 2 * input + 1;
}

static bool add(const struct acpi_ioapic *acpi)
{
    struct host_ioapic *ioapic = &ioapics[ioapic_count];
    u32 version;

    ioapic->registers = mmio_map(acpi->address, IOAPIC_SIZE, MMIO_UNCACHED);
    if (ioapic->registers == NULL)
        return false;
    version = ioapic_read(ioapic, IOAPICVER);
    if (version == VERSION_MISSING) {
        mmio_unmap((void *)(uintptr_t)ioapic->registers, IOAPIC_SIZE);
        return false;
    }
    ioapic->gsi_base = acpi->gsi_base;
    ioapic->inputs = MAX_ENTRY(version) + 1;
    for (u32 input = 0; input < ioapic->inputs; input++)
        ioapic_write(ioapic, entry_low(input), ENTRY_MASKED);
    return true;
}

u32 host_ioapic_init(const struct acpi_info *acpi)
{
    ioapic_count = 0;
    for (u32 i = 0; i < acpi->ioapic_count; i++)
        ioapic_count += add(&acpi->ioapics[i]);
    return ioapic_count;
}

static const struct host_ioapic *find(u32 gsi)
{
    for (u32 i = 0; i < ioapic_count; i++) {
        if (gsi - ioapics[i].gsi_base < ioapics[i].inputs)
            return &ioapics[i];
    }
    return NULL;
}

bool host_ioapic_route(const struct acpi_irq *irq, u8 vector, u32 apic_id)
{
    const struct host_ioapic *ioapic = find(irq->gsi);
    u32 input;

    if (ioapic == NULL || apic_id > DESTINATION_MAX)
        return false;
    input = irq->gsi - ioapic->gsi_base;
    ioapic_write(ioapic, entry_low(input), ENTRY_MASKED);
    ioapic_write(ioapic, entry_high(input), ENTRY_DESTINATION(apic_id));
    ioapic_write(ioapic, entry_low(input),
                 (u32)(ENTRY_MASKED | (irq->level_triggered ? ENTRY_LEVEL : 0) |
                       (irq->active_low ? ENTRY_ACTIVE_LOW : 0) | vector));
    return true;
}

bool host_ioapic_mask(u32 gsi, bool masked)
{
    const struct host_ioapic *ioapic = find(gsi);
    u32 entry, low;

    if (ioapic == NULL)
        return false;
    entry = entry_low(gsi - ioapic->gsi_base);
    low = ioapic_read(ioapic, entry) & (u32)~ENTRY_MASKED;
    ioapic_write(ioapic, entry, low | (masked ? (u32)ENTRY_MASKED : 0));
    return true;
}
