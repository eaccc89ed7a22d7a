/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Linux by its 64-bit entry (Linux kernel documentation, "The Linux/x86 Boot Protocol", sections
 * "The Real-Mode Kernel Header" and "64-bit Boot Protocol"). */

#include "lib/string.h"
#include "loader/formats.h"

#define SETUP_HEADER_OFFSET  0x1F1
#define SETUP_JUMP_OFFSET    0x201 /* the jump's displacement, relative to 202h, ends the header */
#define SETUP_HEADER_END_MAX 0x290 /* where the zero page goes on with other things */
#define SETUP_MAGIC          0x53726448 /* "HdrS" */
#define BOOT_FLAG            0xAA55
#define SECTOR_SIZE          512
#define DEFAULT_SETUP_SECTS  4
#define PARAGRAPH_SIZE       16
#define VERSION_NEEDED       0x020C
#define ENTRY_64_OFFSET      0x200
#define LOADER_UNDEFINED     0xFF

enum loadflags {
    LOADED_HIGH = 1 << 0,
    CAN_USE_HEAP = 1 << 7,
};

enum xloadflags {
    XLF_KERNEL_64 = 1 << 0,
};

struct setup_header {
    u8 setup_sects;
    u16 root_flags;
    u32 syssize;
    u16 ram_size;
    u16 vid_mode;
    u16 root_dev;
    u16 boot_flag;
    u16 jump;
    u32 header;
    u16 version;
    u32 realmode_swtch;
    u16 start_sys_seg;
    u16 kernel_version;
    u8 type_of_loader;
    u8 loadflags;
    u16 setup_move_size;
    u32 code32_start;
    u32 ramdisk_image;
    u32 ramdisk_size;
    u32 bootsect_kludge;
    u16 heap_end_ptr;
    u8 ext_loader_ver;
    u8 ext_loader_type;
    u32 cmd_line_ptr;
    u32 initrd_addr_max;
    u32 kernel_alignment;
    u8 relocatable_kernel;
    u8 min_alignment;
    u16 xloadflags;
    u32 cmdline_size;
    u32 hardware_subarch;
    u64 hardware_subarch_data;
    u32 payload_offset;
    u32 payload_length;
    u64 setup_data;
    u64 pref_address;
    u32 init_size;
} __attribute__((packed));

#define HEADER_AT(field, offset)                                                                   \
    _Static_assert(SETUP_HEADER_OFFSET + offsetof(struct setup_header, field) == (offset), #field)
HEADER_AT(syssize, 0x1F4);
HEADER_AT(boot_flag, 0x1FE);
HEADER_AT(header, 0x202);
HEADER_AT(type_of_loader, 0x210);
HEADER_AT(ramdisk_image, 0x218);
HEADER_AT(cmd_line_ptr, 0x228);
HEADER_AT(kernel_alignment, 0x230);
HEADER_AT(cmdline_size, 0x238);
HEADER_AT(setup_data, 0x250);
HEADER_AT(init_size, 0x260);
#define SETUP_HEADER_NEEDED (SETUP_HEADER_OFFSET + sizeof(struct setup_header))

#define ZERO_PAGE_E820_MAX 128

/* struct boot_params (the same, section "The zero page"). */
struct zero_page {
    u8 unused_000[0x070];
    u64 acpi_rsdp_addr;
    u8 unused_078[0x1E8 - 0x078];
    u8 e820_entries;
    u8 unused_1e9[SETUP_HEADER_OFFSET - 0x1E9];
    struct setup_header setup;
    u8 unused_264[0x2D0 - 0x264];
    struct e820_entry e820_table[ZERO_PAGE_E820_MAX];
    u8 unused_cd0[0x1000 - 0xCD0];
} __attribute__((packed));

_Static_assert(offsetof(struct zero_page, acpi_rsdp_addr) == 0x070, "boot_params");
_Static_assert(offsetof(struct zero_page, e820_entries) == 0x1E8, "boot_params");
_Static_assert(offsetof(struct zero_page, setup) == SETUP_HEADER_OFFSET, "boot_params");
_Static_assert(offsetof(struct zero_page, e820_table) == 0x2D0, "boot_params");
_Static_assert(sizeof(struct zero_page) == GUEST_PAGE_SIZE, "boot_params");
_Static_assert(E820_MAX <= ZERO_PAGE_E820_MAX, "boot_params");

/* What the entry needs, all below GUEST_EBDA. */
enum {
    LINUX_ZERO_PAGE = 0x10000,
    LINUX_GDT = 0x11000,
    LINUX_PML4 = 0x12000,
    LINUX_PDPT = 0x13000,
    LINUX_PD = 0x14000,
    LINUX_PD_COUNT = 4, /* a GiB each */
    LINUX_CMDLINE = 0x20000,
    LINUX_CMDLINE_MAX = 0x10000,
};

enum page_table_entry {
    PTE_PRESENT = 1 << 0,
    PTE_WRITE = 1 << 1,
    PTE_PAGE_SIZE = 1 << 7,
};
#define ENTRIES_PER_TABLE 512
#define LARGE_PAGE_SIZE   (2 * MIB)

#define GDT_CODE_64 0x00AF9B000000FFFFULL
#define GDT_DATA    0x00CF93000000FFFFULL

static void read_setup(const struct image *image, struct setup_header *setup)
{
    memcpy(setup, image->data + SETUP_HEADER_OFFSET, sizeof(*setup));
}

static bool identify(const struct image *image)
{
    struct setup_header setup;

    if (image->size < SETUP_HEADER_NEEDED)
        return false;
    read_setup(image, &setup);
    return setup.boot_flag == BOOT_FLAG && setup.header == SETUP_MAGIC;
}

/* Where the protected-mode part begins in the file. */
static u64 setup_size(const struct setup_header *setup)
{
    u32 sectors = setup->setup_sects != 0 ? setup->setup_sects : DEFAULT_SETUP_SECTS;

    return (sectors + 1) * SECTOR_SIZE;
}

static bool check_image(const struct image *image, const struct setup_header *setup,
                        struct loader_plan *plan)
{
    u64 needed = setup_size(setup) + (u64)setup->syssize * PARAGRAPH_SIZE;

    if (setup->version < VERSION_NEEDED)
        return loader_refuse(plan, "kernel '%.40s' speaks boot protocol %u.%02u; 2.12 is needed",
                             image->name, setup->version >> 8, setup->version & 0xFF);
    if (!(setup->loadflags & LOADED_HIGH) || !(setup->xloadflags & XLF_KERNEL_64))
        return loader_refuse(plan, "kernel '%.40s' has no 64-bit entry", image->name);
    /* The last paragraph may be cut short. */
    if (image->size + PARAGRAPH_SIZE <= needed || image->size <= setup_size(setup))
        return loader_refuse(plan, "kernel '%.40s' is truncated: %llu of %llu bytes", image->name,
                             (unsigned long long)image->size, (unsigned long long)needed);
    return true;
}

static bool check_cmdline(const struct loader_request *request, const struct setup_header *setup,
                          struct loader_plan *plan)
{
    size_t length = strlen(request->cmdline);
    u32 limit = MIN(setup->cmdline_size, (u32)LINUX_CMDLINE_MAX - 1);

    if (length > limit)
        return loader_refuse(plan, "the command line has %zu bytes; kernel '%.40s' takes %u",
                             length, request->kernel.name, limit);
    return true;
}

/* A kernel moves itself up to pref_address when it finds itself below, so no lower place than
 * that helps where memory is short. */
static u64 load_address(const struct setup_header *setup)
{
    u64 align = setup->kernel_alignment;
    u64 address = MAX(setup->pref_address, MIB);

    if (!setup->relocatable_kernel || align == 0 || (align & (align - 1)) != 0 ||
        address > GUEST_RAM_HOLE)
        return setup->pref_address;
    return ALIGN_UP(address, align);
}

static bool place_kernel(const struct loader_request *request, const struct guest_ram *ram,
                         const struct setup_header *setup, struct loader_plan *plan)
{
    const struct image *image = &request->kernel;
    u64 start = setup_size(setup);
    u64 size = MIN((u64)setup->syssize * PARAGRAPH_SIZE, image->size - start);
    u64 memory = MAX((u64)setup->init_size, size);
    u64 load = load_address(setup);

    if (load < MIB || !range_within(load, memory, ram->low_size))
        return loader_refuse(plan, "kernel '%.40s' needs %s of memory from 0x%llx on; there are %s",
                             image->name, loader_size(memory).text, (unsigned long long)load,
                             loader_size(loader_ram_size(ram)).text);
    plan->entry = load + ENTRY_64_OFFSET;
    return loader_add_segment(request, ram, plan, load, memory, start, size);
}

/* As high as it fits, or LOADER_NOWHERE. */
static u64 initrd_address(const struct loader_plan *plan, u64 size, u64 limit)
{
    u64 kernel_start = plan->entry - ENTRY_64_OFFSET;
    u64 gpa;

    if (!range_within(MIB, size, limit))
        return LOADER_NOWHERE;
    gpa = ALIGN_DOWN(limit - size, GUEST_PAGE_SIZE);
    if (!loader_overlaps(plan, gpa, size))
        return gpa;
    if (!range_within(MIB, size, kernel_start))
        return LOADER_NOWHERE;
    return ALIGN_DOWN(kernel_start - size, GUEST_PAGE_SIZE);
}

static bool place_initrd(const struct loader_request *request, const struct guest_ram *ram,
                         const struct setup_header *setup, struct loader_plan *plan)
{
    const struct image *initrd = &request->modules[0];
    u64 limit = MIN(ram->low_size, (u64)setup->initrd_addr_max + 1);
    u64 gpa = initrd_address(plan, initrd->size, limit);

    if (gpa == LOADER_NOWHERE)
        return loader_refuse(plan, "initrd '%.40s' (%s) does not fit into %s of memory",
                             initrd->name, loader_size(initrd->size).text,
                             loader_size(loader_ram_size(ram)).text);
    plan->module_gpa[0] = gpa;
    return loader_add_copy(plan, gpa, initrd->data, initrd->size);
}

static bool plan_bzimage(const struct loader_request *request, const struct guest_ram *ram,
                         struct loader_plan *plan)
{
    struct setup_header setup;

    read_setup(&request->kernel, &setup);
    if (request->module_count > 1)
        return loader_refuse(plan, "kernel '%.40s' takes one initrd, not %u modules",
                             request->kernel.name, request->module_count);
    return check_image(&request->kernel, &setup, plan) && check_cmdline(request, &setup, plan) &&
           place_kernel(request, ram, &setup, plan) &&
           (request->module_count == 0 || place_initrd(request, ram, &setup, plan));
}

/* The image's setup header with what a boot loader has to fill in. */
static void write_setup(const struct loader_request *request, const struct loader_plan *plan,
                        u8 *page)
{
    struct setup_header *setup = &((struct zero_page *)page)->setup;
    const u8 *data = request->kernel.data;
    u64 end = 0x202 + data[SETUP_JUMP_OFFSET];

    end = MIN(MIN(MAX(end, SETUP_HEADER_NEEDED), SETUP_HEADER_END_MAX), request->kernel.size);
    memcpy(page + SETUP_HEADER_OFFSET, data + SETUP_HEADER_OFFSET, end - SETUP_HEADER_OFFSET);
    setup->type_of_loader = LOADER_UNDEFINED;
    setup->loadflags &= (u8)~CAN_USE_HEAP;
    setup->code32_start = (u32)(plan->entry - ENTRY_64_OFFSET);
    setup->cmd_line_ptr = LINUX_CMDLINE;
    setup->setup_data = 0;
    if (request->module_count > 0) {
        setup->ramdisk_image = (u32)plan->module_gpa[0];
        setup->ramdisk_size = (u32)request->modules[0].size;
    }
}

static void write_zero_page(const struct loader_request *request, const struct guest_ram *ram,
                            const struct loader_plan *plan)
{
    struct zero_page *page = (struct zero_page *)(ram->base + LINUX_ZERO_PAGE);
    struct e820_entry map[E820_MAX];

    memset(page, 0, sizeof(*page));
    write_setup(request, plan, (u8 *)page);
    page->acpi_rsdp_addr = GUEST_ACPI_TABLES;
    page->e820_entries = (u8)e820_build(ram, map);
    memcpy(page->e820_table, map, page->e820_entries * sizeof(map[0]));
}

/* An identity map of the first 4 GiB. */
static void write_page_tables(const struct guest_ram *ram)
{
    u64 *pml4 = (u64 *)(ram->base + LINUX_PML4);
    u64 *pdpt = (u64 *)(ram->base + LINUX_PDPT);
    u64 *pd = (u64 *)(ram->base + LINUX_PD);

    memset(pml4, 0, GUEST_PAGE_SIZE);
    memset(pdpt, 0, GUEST_PAGE_SIZE);
    pml4[0] = LINUX_PDPT | PTE_PRESENT | PTE_WRITE;
    for (u64 i = 0; i < LINUX_PD_COUNT; i++)
        pdpt[i] = (LINUX_PD + i * GUEST_PAGE_SIZE) | PTE_PRESENT | PTE_WRITE;
    for (u64 i = 0; i < LINUX_PD_COUNT * ENTRIES_PER_TABLE; i++)
        pd[i] = i * LARGE_PAGE_SIZE | PTE_PAGE_SIZE | PTE_PRESENT | PTE_WRITE;
}

static bool finish_bzimage(const struct loader_request *request, const struct guest_ram *ram,
                           struct loader_plan *plan, struct vcpu_state *state)
{
    static const u64 gdt[] = {0, 0, GDT_CODE_64, GDT_DATA};

    write_zero_page(request, ram, plan);
    write_page_tables(ram);
    memcpy(ram->base + LINUX_GDT, gdt, sizeof(gdt));
    memcpy(ram->base + LINUX_CMDLINE, request->cmdline, strlen(request->cmdline) + 1);
    vcpu_state_flat64(state, plan->entry, LINUX_PML4);
    state->gdtr = (struct descriptor_table){.base = LINUX_GDT, .limit = sizeof(gdt) - 1};
    state->gpr[GPR_RSI] = LINUX_ZERO_PAGE;
    return true;
}

const struct image_format bzimage_format = {
    .name = "Linux bzImage",
    .identify = identify,
    .plan = plan_bzimage,
    .finish = finish_bzimage,
};
