/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Sections are those of the ACPI Specification 6.5. */

#include "loader/acpi_tables.h"

#include "devices/pc_ports.h"
#include "lib/string.h"
#include "loader/dsdt.h"
#include "loader/e820.h"

#define ACPI_OEM_ID       "BLKHD "
#define ACPI_OEM_TABLE_ID "BULKHEAD"
#define ACPI_CREATOR_ID   "BLKH"
#define ACPI_CREATOR_REV  1
#define ACPI_OEM_REVISION 1

#define LOCAL_APIC_ADDRESS  0xFEE00000
#define IO_APIC_ADDRESS     0xFEC00000
#define XAPIC_IDS           255 /* an xAPIC has IDs 0 to 254 */
#define ALL_PROCESSORS      0xFF
#define ALL_PROCESSORS_X2   0xFFFFFFFF
#define LATENCY_UNSUPPORTED 0xFFFF
#define FACS_ALIGN          64
#define TABLE_ALIGN         16

enum acpi_revision {
    RSDP_REVISION = 2,
    XSDT_REVISION = 1,
    FADT_REVISION = 6,
    FADT_MINOR_REVISION = 5,
    MADT_REVISION = 6,
    FACS_VERSION = 2,
};

struct rsdp {
    char signature[8];
    u8 checksum; /* of the first 20 bytes */
    char oem_id[6];
    u8 revision;
    u32 rsdt;
    u32 length;
    u64 xsdt;
    u8 extended_checksum;
    u8 reserved[3];
} __attribute__((packed));

#define RSDP_V1_SIZE 20

struct acpi_header {
    char signature[4];
    u32 length;
    u8 revision;
    u8 checksum;
    char oem_id[6];
    char oem_table_id[8];
    u32 oem_revision;
    char creator_id[4];
    u32 creator_revision;
} __attribute__((packed));

enum xsdt_entry {
    XSDT_FADT,
    XSDT_MADT,
    XSDT_COUNT,
};

struct xsdt {
    struct acpi_header header;
    u64 tables[XSDT_COUNT];
} __attribute__((packed));

enum gas_space {
    GAS_SYSTEM_IO = 1,
};

enum gas_access {
    GAS_BYTE = 1,
    GAS_WORD = 2,
    GAS_DWORD = 3,
};

/* Generic address structure, section 5.2.3.2. */
struct gas {
    u8 space;
    u8 bit_width;
    u8 bit_offset;
    u8 access;
    u64 address;
} __attribute__((packed));

enum fadt_flag {
    FADT_WBINVD = 1 << 0,
    FADT_PROC_C1 = 1 << 2,
    FADT_NO_FIXED_SLEEP_BUTTON = 1 << 5,
    FADT_NO_FIXED_RTC_WAKE = 1 << 6,
    FADT_TMR_VAL_EXT = 1 << 8,
    FADT_RESET_REG_SUP = 1 << 10,
};

enum fadt_boot_architecture {
    BOOT_LEGACY_DEVICES = 1 << 0,
    BOOT_VGA_NOT_PRESENT = 1 << 2,
};

/* Section 5.2.9. */
struct fadt {
    struct acpi_header header;
    u32 firmware_ctrl;
    u32 dsdt;
    u8 reserved_44;
    u8 preferred_pm_profile;
    u16 sci_int;
    u32 smi_cmd;
    u8 acpi_enable;
    u8 acpi_disable;
    u8 s4bios_req;
    u8 pstate_cnt;
    u32 pm1a_evt_blk;
    u32 pm1b_evt_blk;
    u32 pm1a_cnt_blk;
    u32 pm1b_cnt_blk;
    u32 pm2_cnt_blk;
    u32 pm_tmr_blk;
    u32 gpe0_blk;
    u32 gpe1_blk;
    u8 pm1_evt_len;
    u8 pm1_cnt_len;
    u8 pm2_cnt_len;
    u8 pm_tmr_len;
    u8 gpe0_blk_len;
    u8 gpe1_blk_len;
    u8 gpe1_base;
    u8 cst_cnt;
    u16 p_lvl2_lat;
    u16 p_lvl3_lat;
    u16 flush_size;
    u16 flush_stride;
    u8 duty_offset;
    u8 duty_width;
    u8 day_alarm;
    u8 month_alarm;
    u8 century;
    u16 iapc_boot_arch;
    u8 reserved_111;
    u32 flags;
    struct gas reset_reg;
    u8 reset_value;
    u16 arm_boot_arch;
    u8 minor_version;
    u64 x_firmware_ctrl;
    u64 x_dsdt;
    struct gas x_pm1a_evt_blk;
    struct gas x_pm1b_evt_blk;
    struct gas x_pm1a_cnt_blk;
    struct gas x_pm1b_cnt_blk;
    struct gas x_pm2_cnt_blk;
    struct gas x_pm_tmr_blk;
    struct gas x_gpe0_blk;
    struct gas x_gpe1_blk;
    struct gas sleep_control_reg;
    struct gas sleep_status_reg;
    u64 hypervisor_vendor;
} __attribute__((packed));

/* Section 5.2.10. */
struct facs {
    char signature[4];
    u32 length;
    u32 hardware_signature;
    u32 waking_vector;
    u32 global_lock;
    u32 flags;
    u64 x_waking_vector;
    u8 version;
    u8 reserved[31];
} __attribute__((packed));

enum madt_type {
    MADT_LOCAL_APIC = 0,
    MADT_IO_APIC = 1,
    MADT_SOURCE_OVERRIDE = 2,
    MADT_LOCAL_APIC_NMI = 4,
    MADT_LOCAL_X2APIC = 9,
    MADT_LOCAL_X2APIC_NMI = 10,
};

enum madt_flag {
    MADT_PCAT_COMPAT = 1 << 0, /* there are two 8259s */
    MADT_ENABLED = 1 << 0,
    MADT_ACTIVE_HIGH = 1 << 0,
    MADT_LEVEL = 3 << 2,
};

#define LINT1 1

/* Section 5.2.12. */
struct madt {
    struct acpi_header header;
    u32 local_apic_address;
    u32 flags;
} __attribute__((packed));

struct madt_local_apic {
    u8 type, length;
    u8 processor_uid;
    u8 apic_id;
    u32 flags;
} __attribute__((packed));

struct madt_io_apic {
    u8 type, length;
    u8 id;
    u8 reserved;
    u32 address;
    u32 interrupt_base;
} __attribute__((packed));

struct madt_source_override {
    u8 type, length;
    u8 bus;
    u8 source;
    u32 interrupt;
    u16 flags;
} __attribute__((packed));

struct madt_local_apic_nmi {
    u8 type, length;
    u8 processor_uid;
    u16 flags;
    u8 lint;
} __attribute__((packed));

struct madt_local_x2apic {
    u8 type, length;
    u16 reserved;
    u32 apic_id;
    u32 flags;
    u32 processor_uid;
} __attribute__((packed));

struct madt_local_x2apic_nmi {
    u8 type, length;
    u16 flags;
    u32 processor_uid;
    u8 lint;
    u8 reserved[3];
} __attribute__((packed));

_Static_assert(sizeof(struct rsdp) == 36, "section 5.2.5.3");
_Static_assert(sizeof(struct acpi_header) == 36, "section 5.2.6");
_Static_assert(sizeof(struct gas) == 12, "section 5.2.3.2");
_Static_assert(offsetof(struct fadt, pm_tmr_blk) == 76, "section 5.2.9");
_Static_assert(offsetof(struct fadt, century) == 108, "section 5.2.9");
_Static_assert(offsetof(struct fadt, flags) == 112, "section 5.2.9");
_Static_assert(offsetof(struct fadt, x_firmware_ctrl) == 132, "section 5.2.9");
_Static_assert(offsetof(struct fadt, x_pm_tmr_blk) == 208, "section 5.2.9");
_Static_assert(sizeof(struct fadt) == 276, "section 5.2.9");
_Static_assert(sizeof(struct facs) == 64, "section 5.2.10");
_Static_assert(sizeof(struct madt) == 44, "section 5.2.12");
_Static_assert(sizeof(struct madt_local_apic) == 8, "section 5.2.12.2");
_Static_assert(sizeof(struct madt_io_apic) == 12, "section 5.2.12.3");
_Static_assert(sizeof(struct madt_source_override) == 10, "section 5.2.12.5");
_Static_assert(sizeof(struct madt_local_apic_nmi) == 6, "section 5.2.12.7");
_Static_assert(sizeof(struct madt_local_x2apic) == 16, "section 5.2.12.12");
_Static_assert(sizeof(struct madt_local_x2apic_nmi) == 12, "section 5.2.12.13");

/* The stretch of guest memory that the tables fill from its start. */
struct tables {
    u8 *base; /* of GUEST_ACPI_TABLES */
    u64 used;
    bool full;
};

/* Appends `size` bytes at the current end; later calls do nothing once one did not fit. */
static void append(struct tables *tables, const void *data, u64 size)
{
    if (tables->full || !range_within(tables->used, size, GUEST_ACPI_SIZE)) {
        tables->full = true;
        return;
    }
    memcpy(tables->base + tables->used, data, size);
    tables->used += size;
}

/* Begins a table at the next multiple of `align`; returns its offset. */
static u64 begin(struct tables *tables, u64 align)
{
    tables->used = MIN(ALIGN_UP(tables->used, align), GUEST_ACPI_SIZE);
    return tables->used;
}

static u64 address_of(u64 offset)
{
    return GUEST_ACPI_TABLES + offset;
}

/* What must be added to the sum of the bytes to make it 0. */
static u8 checksum(const void *data, u64 size)
{
    const u8 *bytes = data;
    u8 sum = 0;

    for (u64 i = 0; i < size; i++)
        sum = (u8)(sum + bytes[i]);
    return (u8)-sum;
}

static struct acpi_header header(const char *signature, u8 revision)
{
    struct acpi_header header = {
        .revision = revision,
        .oem_revision = ACPI_OEM_REVISION,
        .creator_revision = ACPI_CREATOR_REV,
    };

    memcpy(header.signature, signature, sizeof(header.signature));
    memcpy(header.oem_id, ACPI_OEM_ID, sizeof(header.oem_id));
    memcpy(header.oem_table_id, ACPI_OEM_TABLE_ID, sizeof(header.oem_table_id));
    memcpy(header.creator_id, ACPI_CREATOR_ID, sizeof(header.creator_id));
    return header;
}

/* Fills in length and checksum of the table that begins at `start` and ends here. */
static void end(struct tables *tables, u64 start)
{
    struct acpi_header *header = (struct acpi_header *)(tables->base + start);

    if (tables->full)
        return;
    header->length = (u32)(tables->used - start);
    header->checksum = 0;
    header->checksum = checksum(header, header->length);
}

static u64 write_facs(struct tables *tables)
{
    struct facs facs = {.length = sizeof(facs), .version = FACS_VERSION};
    u64 start = begin(tables, FACS_ALIGN);

    memcpy(facs.signature, "FACS", sizeof(facs.signature));
    append(tables, &facs, sizeof(facs));
    return address_of(start);
}

static u64 write_dsdt(struct tables *tables)
{
    u64 start = begin(tables, TABLE_ALIGN);

    append(tables, dsdt_aml, sizeof(dsdt_aml));
    return address_of(start);
}

static struct gas io_register(u16 port, u8 bytes, enum gas_access access)
{
    return (struct gas){
        .space = GAS_SYSTEM_IO, .bit_width = (u8)(bytes * 8), .access = access, .address = port};
}

static void describe_power_management(struct fadt *fadt)
{
    fadt->sci_int = IRQ_SCI;
    fadt->smi_cmd = PORT_SMI_COMMAND;
    fadt->acpi_enable = SMI_ACPI_ENABLE;
    fadt->acpi_disable = SMI_ACPI_DISABLE;
    fadt->pm1a_evt_blk = PORT_PM1A_EVENT;
    fadt->pm1a_cnt_blk = PORT_PM1A_CONTROL;
    fadt->pm_tmr_blk = PORT_PM_TIMER;
    fadt->pm1_evt_len = 4;
    fadt->pm1_cnt_len = 2;
    fadt->pm_tmr_len = 4;
    fadt->x_pm1a_evt_blk = io_register(PORT_PM1A_EVENT, 4, GAS_WORD);
    fadt->x_pm1a_cnt_blk = io_register(PORT_PM1A_CONTROL, 2, GAS_WORD);
    fadt->x_pm_tmr_blk = io_register(PORT_PM_TIMER, 4, GAS_DWORD);
    fadt->p_lvl2_lat = LATENCY_UNSUPPORTED;
    fadt->p_lvl3_lat = LATENCY_UNSUPPORTED;
    fadt->reset_reg = io_register(PORT_RESET_CONTROL, 1, GAS_BYTE);
    fadt->reset_value = RESET_VALUE;
}

static u64 write_fadt(struct tables *tables, u64 facs, u64 dsdt)
{
    struct fadt fadt = {
        .header = header("FACP", FADT_REVISION),
        .minor_version = FADT_MINOR_REVISION,
        .firmware_ctrl = (u32)facs,
        .dsdt = (u32)dsdt,
        .x_dsdt = dsdt,
        .century = RTC_CENTURY_REGISTER,
        .iapc_boot_arch = BOOT_LEGACY_DEVICES | BOOT_VGA_NOT_PRESENT,
        .flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_FIXED_SLEEP_BUTTON | FADT_NO_FIXED_RTC_WAKE |
                 FADT_TMR_VAL_EXT | FADT_RESET_REG_SUP,
    };
    u64 start = begin(tables, TABLE_ALIGN);

    describe_power_management(&fadt);
    append(tables, &fadt, sizeof(fadt));
    end(tables, start);
    return address_of(start);
}

static void append_processor(struct tables *tables, u32 id)
{
    struct madt_local_apic xapic = {
        .type = MADT_LOCAL_APIC,
        .length = sizeof(xapic),
        .processor_uid = (u8)id,
        .apic_id = (u8)id,
        .flags = MADT_ENABLED,
    };
    struct madt_local_x2apic x2apic = {
        .type = MADT_LOCAL_X2APIC,
        .length = sizeof(x2apic),
        .processor_uid = id,
        .apic_id = id,
        .flags = MADT_ENABLED,
    };

    if (id < XAPIC_IDS)
        append(tables, &xapic, sizeof(xapic));
    else
        append(tables, &x2apic, sizeof(x2apic));
}

static void append_override(struct tables *tables, u8 irq, u32 pin, u16 flags)
{
    struct madt_source_override override = {
        .type = MADT_SOURCE_OVERRIDE,
        .length = sizeof(override),
        .source = irq,
        .interrupt = pin,
        .flags = flags,
    };

    append(tables, &override, sizeof(override));
}

static void append_nmi(struct tables *tables, u32 vcpu_count)
{
    struct madt_local_apic_nmi nmi = {
        .type = MADT_LOCAL_APIC_NMI,
        .length = sizeof(nmi),
        .processor_uid = ALL_PROCESSORS,
        .lint = LINT1,
    };
    struct madt_local_x2apic_nmi x2nmi = {
        .type = MADT_LOCAL_X2APIC_NMI,
        .length = sizeof(x2nmi),
        .processor_uid = ALL_PROCESSORS_X2,
        .lint = LINT1,
    };

    append(tables, &nmi, sizeof(nmi));
    if (vcpu_count > XAPIC_IDS)
        append(tables, &x2nmi, sizeof(x2nmi));
}

static u64 write_madt(struct tables *tables, u32 vcpu_count)
{
    struct madt madt = {
        .header = header("APIC", MADT_REVISION),
        .local_apic_address = LOCAL_APIC_ADDRESS,
        .flags = MADT_PCAT_COMPAT,
    };
    struct madt_io_apic io_apic = {
        .type = MADT_IO_APIC,
        .length = sizeof(io_apic),
        .id = IOAPIC_ID,
        .address = IO_APIC_ADDRESS,
    };
    u64 start = begin(tables, TABLE_ALIGN);

    append(tables, &madt, sizeof(madt));
    for (u32 id = 0; id < vcpu_count && !tables->full; id++)
        append_processor(tables, id);
    append(tables, &io_apic, sizeof(io_apic));
    append_override(tables, IRQ_PIT, PIN_PIT, 0);
    append_override(tables, IRQ_SCI, IRQ_SCI, MADT_ACTIVE_HIGH | MADT_LEVEL);
    append_nmi(tables, vcpu_count);
    end(tables, start);
    return address_of(start);
}

static u64 write_xsdt(struct tables *tables, u64 fadt, u64 madt)
{
    struct xsdt xsdt = {
        .header = header("XSDT", XSDT_REVISION),
        .tables = {[XSDT_FADT] = fadt, [XSDT_MADT] = madt},
    };
    u64 start = begin(tables, TABLE_ALIGN);

    append(tables, &xsdt, sizeof(xsdt));
    end(tables, start);
    return address_of(start);
}

static void write_rsdp(struct tables *tables, u64 xsdt)
{
    struct rsdp rsdp = {.revision = RSDP_REVISION, .length = sizeof(rsdp), .xsdt = xsdt};

    memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
    memcpy(rsdp.oem_id, ACPI_OEM_ID, sizeof(rsdp.oem_id));
    rsdp.checksum = checksum(&rsdp, RSDP_V1_SIZE);
    rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
    memcpy(tables->base, &rsdp, sizeof(rsdp));
}

bool acpi_tables_write(const struct guest_ram *ram, u32 vcpu_count)
{
    struct tables tables = {
        .base = guest_ram_at(ram, GUEST_ACPI_TABLES, GUEST_ACPI_SIZE),
        .used = sizeof(struct rsdp),
    };
    u64 facs, fadt, madt;

    if (tables.base == NULL)
        return false;
    facs = write_facs(&tables);
    fadt = write_fadt(&tables, facs, write_dsdt(&tables));
    madt = write_madt(&tables, vcpu_count);
    write_rsdp(&tables, write_xsdt(&tables, fadt, madt));
    return !tables.full;
}
