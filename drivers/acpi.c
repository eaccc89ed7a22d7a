/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "drivers/acpi.h"

#include "lib/arith.h"
#include "lib/string.h"

/* Section numbers are those of the ACPI specification 6.5. */

#define SIGNATURE_SIZE     4
#define TABLE_SIZE_MAX     (16 * MIB)
#define SENTENCE_SIZE      96
#define LAPIC_ADDRESS      0xFEE00000
#define XAPIC_ID_BROADCAST 0xFF

/* 5.2.5.3: version 1 ends before `length`. */
struct rsdp {
    char signature[8];
    u8 checksum;
    char oem_id[6];
    u8 revision;
    u32 rsdt;
    u32 length;
    u64 xsdt;
    u8 extended_checksum;
    u8 reserved[3];
} __attribute__((packed));

#define RSDP_V1_SIZE       20
#define RSDP_REVISION_XSDT 2

/* 5.2.6 */
struct header {
    char signature[SIGNATURE_SIZE];
    u32 length;
    u8 revision;
    u8 checksum;
    char oem_id[6];
    char oem_table_id[8];
    u32 oem_revision;
    char creator_id[4];
    u32 creator_revision;
} __attribute__((packed));

/* 5.2.3.2 */
struct generic_address {
    u8 space;
    u8 bit_width;
    u8 bit_offset;
    u8 access_size;
    u64 address;
} __attribute__((packed));

/* 5.2.9; older and shorter tables are read as if the rest were 0. */
struct fadt {
    struct header header;
    u32 facs;
    u32 dsdt;
    u8 reserved1;
    u8 preferred_profile;
    u16 sci;
    u32 smi_cmd;
    u8 acpi_enable;
    u8 acpi_disable;
    u8 s4bios_request;
    u8 pstate_control;
    u32 pm1a_event;
    u32 pm1b_event;
    u32 pm1a_control;
    u32 pm1b_control;
    u32 pm2_control;
    u32 pm_timer;
    u32 gpe0;
    u32 gpe1;
    u8 pm1_event_length;
    u8 pm1_control_length;
    u8 pm2_control_length;
    u8 pm_timer_length;
    u8 gpe_and_latencies[16];
    u8 century;
    u16 boot_flags;
    u8 reserved2;
    u32 flags;
    struct generic_address reset;
    u8 reset_value;
    u16 arm_boot_flags;
    u8 minor_version;
    u64 x_facs;
    u64 x_dsdt;
    struct generic_address x_pm1a_event;
    struct generic_address x_pm1b_event;
    struct generic_address x_pm1a_control;
    struct generic_address x_pm1b_control;
    struct generic_address x_pm2_control;
    struct generic_address x_pm_timer;
} __attribute__((packed));

enum fadt_flags {
    FADT_TMR_VAL_EXT = 1 << 8,
    FADT_RESET_REG_SUP = 1 << 10,
    FADT_HW_REDUCED_ACPI = 1 << 20,
};

#define FADT_V1_SIZE             116
#define FADT_REVISION_BOOT_FLAGS 3
#define PM_TIMER_LENGTH          4

/* 5.2.12 */
struct madt {
    struct header header;
    u32 lapic_address;
    u32 flags;
} __attribute__((packed));

#define MADT_PCAT_COMPAT 1

enum madt_type {
    MADT_LAPIC = 0,
    MADT_IOAPIC = 1,
    MADT_INTERRUPT_OVERRIDE = 2,
    MADT_LAPIC_ADDRESS = 5,
    MADT_X2APIC = 9,
};

enum madt_cpu_flags {
    CPU_ENABLED = 1 << 0,
    CPU_ONLINE_CAPABLE = 1 << 1,
};

struct madt_entry {
    u8 type;
    u8 length;
};

struct madt_lapic {
    struct madt_entry entry;
    u8 uid;
    u8 apic_id;
    u32 flags;
} __attribute__((packed));

struct madt_ioapic {
    struct madt_entry entry;
    u8 id;
    u8 reserved;
    u32 address;
    u32 gsi_base;
} __attribute__((packed));

struct madt_override {
    struct madt_entry entry;
    u8 bus;
    u8 source;
    u32 gsi;
    u16 flags;
} __attribute__((packed));

/* Table 5.26, MPS INTI flags. */
#define INTI_POLARITY   0x3
#define INTI_ACTIVE_LOW 0x3
#define INTI_TRIGGER    0xC
#define INTI_LEVEL      0xC

struct madt_lapic_address {
    struct madt_entry entry;
    u16 reserved;
    u64 address;
} __attribute__((packed));

struct madt_x2apic {
    struct madt_entry entry;
    u16 reserved;
    u32 apic_id;
    u32 flags;
    u32 uid;
} __attribute__((packed));

/* IA-PC HPET specification 1.0a, section 3.2.4. */
struct hpet {
    struct header header;
    u32 event_timer_block;
    struct generic_address base;
    u8 number;
    u16 minimum_tick;
    u8 attributes;
} __attribute__((packed));

/* 20.2: the AML that a \_S5 package is written in. */
enum aml {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_NAME = 0x08,
    AML_BYTE_PREFIX = 0x0A,
    AML_WORD_PREFIX = 0x0B,
    AML_DWORD_PREFIX = 0x0C,
    AML_PACKAGE = 0x12,
    AML_ROOT = '\\',
};

#define SLP_TYP_MAX 7

_Static_assert(sizeof(struct rsdp) == 36, "5.2.5.3");
_Static_assert(sizeof(struct header) == 36, "5.2.6");
_Static_assert(sizeof(struct generic_address) == 12, "5.2.3.2");
_Static_assert(offsetof(struct fadt, pm_timer) == 76, "5.2.9");
_Static_assert(offsetof(struct fadt, boot_flags) == 109, "5.2.9");
_Static_assert(offsetof(struct fadt, reset) == FADT_V1_SIZE, "5.2.9");
_Static_assert(offsetof(struct fadt, x_pm_timer) == 208, "5.2.9");
_Static_assert(sizeof(struct madt) == 44, "5.2.12");
_Static_assert(sizeof(struct madt_lapic) == 8, "5.2.12.2");
_Static_assert(sizeof(struct madt_ioapic) == 12, "5.2.12.3");
_Static_assert(sizeof(struct madt_override) == 10, "5.2.12.5");
_Static_assert(sizeof(struct madt_lapic_address) == 12, "5.2.12.8");
_Static_assert(sizeof(struct madt_x2apic) == 16, "5.2.12.12");
_Static_assert(sizeof(struct hpet) == 56, "HPET 3.2.4");

struct parser {
    const struct acpi_access *access;
    struct acpi_cpu *cpus;
    u32 capacity;
    struct acpi_info *info;
};

struct table {
    const u8 *bytes;
    u32 length;
};

/* Address 0: unknown, the boot loader copied the table. */
static void warn(const struct parser *parser, const char *table, paddr_t address,
                 const char *problem)
{
    char sentence[SENTENCE_SIZE];
    char place[24] = "";

    if (parser->access->warning == NULL)
        return;
    if (address != 0)
        snprintf(place, sizeof(place), " at %#llx", (unsigned long long)address);
    snprintf(sentence, sizeof(sentence), "ACPI: the %.8s%s %s.", table, place, problem);
    parser->access->warning(parser->access->context, sentence);
}

static bool checksum_ok(const u8 *bytes, size_t size)
{
    u8 sum = 0;

    for (size_t i = 0; i < size; i++)
        sum += bytes[i];
    return sum == 0;
}

static bool signature_is(const struct header *header, const char *signature)
{
    return memcmp(header->signature, signature, SIGNATURE_SIZE) == 0;
}

static void printable_name(const struct header *header, char name[SIGNATURE_SIZE + 1])
{
    for (u32 i = 0; i < SIGNATURE_SIZE; i++) {
        char c = header->signature[i];

        name[i] = c > ' ' && c <= '~' ? c : '?';
    }
    name[SIGNATURE_SIZE] = '\0';
}

static void table_close(const struct parser *parser, const struct table *table)
{
    parser->access->unmap(parser->access->context, table->bytes, table->length);
}

static bool read_header(const struct parser *parser, paddr_t address, struct header *header)
{
    const struct acpi_access *access = parser->access;
    const void *bytes = access->map(access->context, address, sizeof(*header));

    if (bytes == NULL)
        return false;
    memcpy(header, bytes, sizeof(*header));
    access->unmap(access->context, bytes, sizeof(*header));
    return true;
}

/* Maps a whole table whose length and checksum are right. */
static bool table_open(const struct parser *parser, paddr_t address, struct header *header,
                       struct table *table)
{
    const struct acpi_access *access = parser->access;
    char name[SIGNATURE_SIZE + 1];

    if (!read_header(parser, address, header)) {
        warn(parser, "table", address, "cannot be read");
        return false;
    }
    printable_name(header, name);
    table->length = header->length;
    if (table->length < sizeof(*header) || table->length > TABLE_SIZE_MAX) {
        warn(parser, name, address, "has a bad length");
        return false;
    }
    table->bytes = access->map(access->context, address, table->length);
    if (table->bytes == NULL) {
        warn(parser, name, address, "cannot be read");
        return false;
    }
    if (checksum_ok(table->bytes, table->length))
        return true;
    warn(parser, name, address, "has a bad checksum");
    table_close(parser, table);
    return false;
}

static void defaults(struct acpi_info *info)
{
    memset(info, 0, sizeof(*info));
    info->lapic_address = LAPIC_ADDRESS;
    info->pcat_compatible = true;
    info->boot_flags = ACPI_BOOT_LEGACY_DEVICES | ACPI_BOOT_8042;
    for (u32 irq = 0; irq < ACPI_ISA_IRQS; irq++)
        info->isa_irqs[irq].gsi = irq;
}

static void add_cpu(struct parser *parser, u32 apic_id, u32 uid, u32 flags)
{
    struct acpi_info *info = parser->info;

    if ((flags & (CPU_ENABLED | CPU_ONLINE_CAPABLE)) == 0)
        return;
    for (u32 i = 0; i < MIN(info->cpu_count, parser->capacity); i++) {
        if (parser->cpus[i].apic_id == apic_id)
            return;
    }
    if (info->cpu_count < parser->capacity)
        parser->cpus[info->cpu_count] = (struct acpi_cpu){apic_id, uid, (flags & CPU_ENABLED) != 0};
    info->cpu_count++;
}

static void take_lapic(struct parser *parser, const u8 *bytes)
{
    struct madt_lapic entry;

    memcpy(&entry, bytes, sizeof(entry));
    if (entry.apic_id != XAPIC_ID_BROADCAST)
        add_cpu(parser, entry.apic_id, entry.uid, entry.flags);
}

static void take_x2apic(struct parser *parser, const u8 *bytes)
{
    struct madt_x2apic entry;

    memcpy(&entry, bytes, sizeof(entry));
    if (entry.apic_id != UINT32_MAX)
        add_cpu(parser, entry.apic_id, entry.uid, entry.flags);
}

static void take_ioapic(struct parser *parser, const u8 *bytes)
{
    struct acpi_info *info = parser->info;
    struct madt_ioapic entry;

    memcpy(&entry, bytes, sizeof(entry));
    if (info->ioapic_count == ACPI_IOAPICS_MAX) {
        info->ioapics_left_out++;
        return;
    }
    info->ioapics[info->ioapic_count++] =
        (struct acpi_ioapic){entry.address, entry.gsi_base, entry.id};
}

static void take_override(struct parser *parser, const u8 *bytes)
{
    struct madt_override entry;

    memcpy(&entry, bytes, sizeof(entry));
    if (entry.bus != 0 || entry.source >= ACPI_ISA_IRQS)
        return;
    parser->info->isa_irqs[entry.source] =
        (struct acpi_irq){entry.gsi, (entry.flags & INTI_POLARITY) == INTI_ACTIVE_LOW,
                          (entry.flags & INTI_TRIGGER) == INTI_LEVEL};
}

static void take_lapic_address(struct parser *parser, const u8 *bytes)
{
    struct madt_lapic_address entry;

    memcpy(&entry, bytes, sizeof(entry));
    parser->info->lapic_address = entry.address;
}

static const struct {
    void (*take)(struct parser *parser, const u8 *bytes);
    u8 size;
} madt_entries[] = {
    [MADT_LAPIC] = {take_lapic,         sizeof(struct madt_lapic)        },
    [MADT_IOAPIC] = {take_ioapic,        sizeof(struct madt_ioapic)       },
    [MADT_INTERRUPT_OVERRIDE] = {take_override,      sizeof(struct madt_override)     },
    [MADT_LAPIC_ADDRESS] = {take_lapic_address, sizeof(struct madt_lapic_address)},
    [MADT_X2APIC] = {take_x2apic,        sizeof(struct madt_x2apic)       },
};

static void take_madt(struct parser *parser, const struct table *table, paddr_t address)
{
    struct madt madt;
    struct madt_entry entry;
    u32 offset = sizeof(madt);

    if (table->length < sizeof(madt)) {
        warn(parser, "APIC", address, "is too short");
        return;
    }
    memcpy(&madt, table->bytes, sizeof(madt));
    parser->info->lapic_address = madt.lapic_address;
    parser->info->pcat_compatible = (madt.flags & MADT_PCAT_COMPAT) != 0;
    for (; offset < table->length; offset += entry.length) {
        if (!range_within(offset, sizeof(entry), table->length))
            break;
        memcpy(&entry, table->bytes + offset, sizeof(entry));
        if (entry.length < sizeof(entry) || !range_within(offset, entry.length, table->length))
            break;
        if (entry.type >= ARRAY_SIZE(madt_entries) || madt_entries[entry.type].take == NULL)
            continue;
        if (entry.length >= madt_entries[entry.type].size)
            madt_entries[entry.type].take(parser, table->bytes + offset);
    }
    if (offset != table->length)
        warn(parser, "APIC", address, "has an entry with a bad length");
}

static u16 port_of(u32 legacy, const struct generic_address *extended)
{
    if (legacy != 0)
        return legacy <= UINT16_MAX ? (u16)legacy : 0;
    if (extended->space == ACPI_SPACE_IO && extended->address <= UINT16_MAX)
        return (u16)extended->address;
    return 0;
}

/* What AML reads of a package: `next` never passes `end`. */
struct aml_reader {
    const u8 *next, *end;
};

static u32 aml_bytes(struct aml_reader *reader, u32 count)
{
    u32 value = 0;

    for (u32 i = 0; i < count && reader->next < reader->end; i++)
        value |= (u32)*reader->next++ << (8 * i);
    return value;
}

/* 20.2.4: the two top bits of the first byte count those that follow. */
static void aml_skip_package_length(struct aml_reader *reader)
{
    aml_bytes(reader, aml_bytes(reader, 1) >> 6);
}

static bool aml_sleep_type(struct aml_reader *reader, u8 *type)
{
    u32 value;

    if (reader->next == reader->end)
        return false;
    switch (*reader->next++) {
    case AML_ZERO:
        value = 0;
        break;
    case AML_ONE:
        value = 1;
        break;
    case AML_BYTE_PREFIX:
        value = aml_bytes(reader, 1);
        break;
    case AML_WORD_PREFIX:
        value = aml_bytes(reader, 2);
        break;
    case AML_DWORD_PREFIX:
        value = aml_bytes(reader, 4);
        break;
    default:
        return false;
    }
    *type = (u8)value;
    return value <= SLP_TYP_MAX;
}

/* `name` points to "_S5_" within the table that starts at `begin`. */
static bool aml_take_s5(const u8 *begin, const u8 *name, const u8 *end, struct acpi_info *info)
{
    struct aml_reader reader = {name + SIGNATURE_SIZE, end};
    const u8 *before = name;

    if (before > begin && before[-1] == AML_ROOT)
        before--;
    if (before == begin || before[-1] != AML_NAME || aml_bytes(&reader, 1) != AML_PACKAGE)
        return false;
    aml_skip_package_length(&reader);
    if (aml_bytes(&reader, 1) < 2)
        return false;
    return aml_sleep_type(&reader, &info->s5_type_a) && aml_sleep_type(&reader, &info->s5_type_b);
}

/* 7.4.2: without an interpreter for AML, the package is found by its name. */
static void take_dsdt(struct parser *parser, paddr_t address)
{
    struct header header;
    struct table table;

    if (address == 0 || !table_open(parser, address, &header, &table))
        return;
    for (u32 i = sizeof(header); i + SIGNATURE_SIZE <= table.length; i++) {
        if (memcmp(table.bytes + i, "_S5_", SIGNATURE_SIZE) != 0)
            continue;
        parser->info->s5_known = aml_take_s5(table.bytes + sizeof(header), table.bytes + i,
                                             table.bytes + table.length, parser->info);
        if (parser->info->s5_known)
            break;
    }
    table_close(parser, &table);
}

static void take_fadt_registers(struct acpi_info *info, const struct fadt *fadt)
{
    info->pm1a_control = port_of(fadt->pm1a_control, &fadt->x_pm1a_control);
    info->pm1b_control = port_of(fadt->pm1b_control, &fadt->x_pm1b_control);
    if (fadt->pm_timer_length == PM_TIMER_LENGTH)
        info->pm_timer = port_of(fadt->pm_timer, &fadt->x_pm_timer);
    info->pm_timer_32bit = (fadt->flags & FADT_TMR_VAL_EXT) != 0;
    if ((fadt->flags & FADT_RESET_REG_SUP) == 0)
        return;
    info->reset.address = fadt->reset.address;
    info->reset.space = fadt->reset.space;
    info->reset.bit_width = fadt->reset.bit_width;
    info->reset_value = fadt->reset_value;
}

static void take_fadt(struct parser *parser, const struct table *table, paddr_t address)
{
    struct acpi_info *info = parser->info;
    struct fadt fadt;

    if (table->length < FADT_V1_SIZE) {
        warn(parser, "FACP", address, "is too short");
        return;
    }
    memset(&fadt, 0, sizeof(fadt));
    memcpy(&fadt, table->bytes, MIN(table->length, sizeof(fadt)));
    info->sci = fadt.sci;
    info->smi_cmd = fadt.smi_cmd;
    info->acpi_enable = fadt.acpi_enable;
    info->century = fadt.century;
    info->hardware_reduced = (fadt.flags & FADT_HW_REDUCED_ACPI) != 0;
    if (fadt.header.revision >= FADT_REVISION_BOOT_FLAGS)
        info->boot_flags = fadt.boot_flags;
    take_fadt_registers(info, &fadt);
    take_dsdt(parser, fadt.x_dsdt != 0 ? fadt.x_dsdt : fadt.dsdt);
}

static void take_hpet(struct parser *parser, const struct table *table, paddr_t address)
{
    struct hpet hpet;

    if (table->length < sizeof(hpet)) {
        warn(parser, "HPET", address, "is too short");
        return;
    }
    memcpy(&hpet, table->bytes, sizeof(hpet));
    if (hpet.base.space == ACPI_SPACE_MEMORY)
        parser->info->hpet = hpet.base.address;
}

static const struct {
    char signature[SIGNATURE_SIZE + 1];
    void (*take)(struct parser *parser, const struct table *table, paddr_t address);
} tables[] = {
    {"APIC", take_madt},
    {"FACP", take_fadt},
    {"HPET", take_hpet},
};

/* Each kind counts once: `taken` has a bit for those that were there already. */
static void take_table(struct parser *parser, paddr_t address, u32 *taken)
{
    struct header header;
    struct table table;

    if (!table_open(parser, address, &header, &table))
        return;
    for (u32 i = 0; i < ARRAY_SIZE(tables); i++) {
        if (!signature_is(&header, tables[i].signature) || (*taken & BIT(i)) != 0)
            continue;
        *taken |= (u32)BIT(i);
        tables[i].take(parser, &table, address);
    }
    table_close(parser, &table);
}

/* 5.2.7 and 5.2.8: addresses of 4 bytes in an RSDT, of 8 in an XSDT, unaligned. */
static bool take_root(struct parser *parser, paddr_t address, const char *signature,
                      u32 address_size)
{
    struct header header;
    struct table table;
    u32 taken = 0;

    if (address == 0 || !table_open(parser, address, &header, &table))
        return false;
    if (!signature_is(&header, signature)) {
        warn(parser, signature, address, "has another table's signature");
        table_close(parser, &table);
        return false;
    }
    for (u32 offset = sizeof(header); range_within(offset, address_size, table.length);
         offset += address_size) {
        u64 entry = 0;

        memcpy(&entry, table.bytes + offset, address_size);
        if (entry != 0)
            take_table(parser, entry, &taken);
    }
    table_close(parser, &table);
    return true;
}

static bool read_rsdp(struct parser *parser, const void *bytes, size_t size, struct rsdp *rsdp)
{
    memset(rsdp, 0, sizeof(*rsdp));
    if (size < RSDP_V1_SIZE || memcmp(bytes, "RSD PTR ", sizeof(rsdp->signature)) != 0) {
        warn(parser, "RSDP", 0, "is missing");
        return false;
    }
    if (!checksum_ok(bytes, RSDP_V1_SIZE)) {
        warn(parser, "RSDP", 0, "has a bad checksum");
        return false;
    }
    memcpy(rsdp, bytes, MIN(size, sizeof(*rsdp)));
    if (rsdp->revision < RSDP_REVISION_XSDT || size < sizeof(*rsdp)) {
        rsdp->xsdt = 0;
    } else if (!checksum_ok(bytes, sizeof(*rsdp))) {
        warn(parser, "RSDP", 0, "has a bad extended checksum");
        rsdp->xsdt = 0;
    }
    return true;
}

bool acpi_parse(const struct acpi_access *access, const void *rsdp, size_t rsdp_size,
                struct acpi_cpu *cpus, u32 capacity, struct acpi_info *info)
{
    struct parser parser = {access, cpus, capacity, info};
    struct rsdp root;

    defaults(info);
    if (!read_rsdp(&parser, rsdp, rsdp_size, &root))
        return false;
    return take_root(&parser, root.xsdt, "XSDT", sizeof(u64)) ||
           take_root(&parser, root.rsdt, "RSDT", sizeof(u32));
}
