/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "boot/boot_info.h"

#define KERNEL_START 0x100000
#define KERNEL_END   0x180000

/* Multiboot2 specification 2.0, section 3.6. */
enum {
    END = 0,
    COMMAND_LINE = 1,
    MODULE = 3,
    MEMORY_MAP = 6,
    FRAMEBUFFER = 8,
    EFI64_SYSTEM_TABLE = 12,
    OLD_RSDP = 14,
    NEW_RSDP = 15,
    EFI_MEMORY_MAP = 17,
    EFI_BOOT_SERVICES = 18,
};

enum {
    AVAILABLE = 1,
    RESERVED = 2,
    RECLAIMABLE = 3,
    NVS = 4,
    BAD = 5,
};

static u8 data[64 * 1024];
static u32 used;
static struct boot_info info;
static char error[BOOT_ERROR_SIZE];

static void put(const void *bytes, u32 size)
{
    memcpy(data + used, bytes, size);
    used += size;
}

static void put_u32(u32 value)
{
    put(&value, sizeof(value));
}

static void put_u64(u64 value)
{
    put(&value, sizeof(value));
}

static void begin(void)
{
    memset(data, 0, sizeof(data));
    used = 8;
}

static void tag(u32 type, u32 content)
{
    used = (u32)ALIGN_UP(used, 8);
    put_u32(type);
    put_u32(8 + content);
}

static void put_entry(u64 start, u64 size, u32 type)
{
    put_u64(start);
    put_u64(size);
    put_u32(type);
    put_u32(0);
}

static void map_tag(u32 entries)
{
    tag(MEMORY_MAP, 8 + entries * 24);
    put_u32(24);
    put_u32(0);
}

static void put_descriptor(u32 type, u64 start, u64 pages)
{
    put_u32(type);
    put_u32(0);
    put_u64(start);
    put_u64(0);
    put_u64(pages);
    put_u64(0xF);
    put_u64(0); /* firmware's descriptors are longer than the structure */
}

static void efi_map_tag(u32 entries)
{
    tag(EFI_MEMORY_MAP, 8 + entries * 48);
    put_u32(48);
    put_u32(1);
}

static void text_tag(u32 type, const char *text)
{
    tag(type, (u32)strlen(text) + 1);
    put(text, (u32)strlen(text) + 1);
}

static void module(u32 start, u32 end, const char *text)
{
    tag(MODULE, 8 + (u32)strlen(text) + 1);
    put_u32(start);
    put_u32(end);
    put(text, (u32)strlen(text) + 1);
}

/* 1 MiB to 64 MiB usable. */
static void usual_map(void)
{
    map_tag(1);
    put_entry(0x100000, 0x3F00000, AVAILABLE);
}

/* Parses a copy that ends where the memory of the allocation ends. */
static bool parse_size(u32 size)
{
    u8 *copy = malloc(size);
    bool parsed;

    memcpy(copy, data, size);
    memset(&info, 0xA5, sizeof(info));
    error[0] = '\0';
    parsed = multiboot2_parse(copy, size, KERNEL_START, KERNEL_END, &info, error);
    free(copy);
    return parsed;
}

static void finish(void)
{
    tag(END, 0);
    memcpy(data, &used, sizeof(used));
}

static bool parse(void)
{
    finish();
    return parse_size(used);
}

static void refused(const char *sentence)
{
    assert_false(parse());
    assert_string_equal(error, sentence);
}

static void assert_region(u32 index, u64 start, u64 end, enum boot_region_type type)
{
    assert_true(index < info.region_count);
    assert_int_equal(info.regions[index].start, start);
    assert_int_equal(info.regions[index].start + info.regions[index].size, end);
    assert_int_equal(info.regions[index].type, type);
}

static void a_usual_boot(void **state)
{
    const u8 old_rsdp[20] = "RSD PTR 1";
    const u8 new_rsdp[36] = "RSD PTR 2";

    begin();
    text_tag(COMMAND_LINE, "console=com1,115200 log=info");
    text_tag(2, "GRUB 2.06");
    module(0x200000, 0x200123, "tenants.conf");
    module(0x201000, 0x901000, "vmlinuz the rest is not the name");
    usual_map();
    tag(NEW_RSDP, sizeof(new_rsdp));
    put(new_rsdp, sizeof(new_rsdp));
    tag(OLD_RSDP, sizeof(old_rsdp));
    put(old_rsdp, sizeof(old_rsdp));
    assert_true(parse());

    assert_string_equal(info.cmdline, "console=com1,115200 log=info");
    assert_int_equal(info.module_count, 2);
    assert_int_equal(info.modules[0].start, 0x200000);
    assert_int_equal(info.modules[0].size, 0x123);
    assert_string_equal(info.modules[0].name, "tenants.conf");
    assert_string_equal(info.modules[1].name, "vmlinuz");
    assert_int_equal(info.region_count, 1);
    assert_region(0, 0x100000, 0x4000000, REGION_USABLE);
    assert_int_equal(info.rsdp_size, sizeof(new_rsdp));
    assert_memory_equal(info.rsdp, new_rsdp, sizeof(new_rsdp));
    assert_int_equal(info.framebuffer.kind, FRAMEBUFFER_NONE);
    assert_false(info.efi);
}

static void the_old_rsdp_will_do(void **state)
{
    const u8 rsdp[20] = "RSD PTR 1";

    begin();
    usual_map();
    tag(OLD_RSDP, sizeof(rsdp));
    put(rsdp, sizeof(rsdp));
    assert_true(parse());
    assert_int_equal(info.rsdp_size, sizeof(rsdp));
    assert_memory_equal(info.rsdp, rsdp, sizeof(rsdp));
}

static void without_an_rsdp(void **state)
{
    begin();
    usual_map();
    assert_true(parse());
    assert_int_equal(info.rsdp_size, 0);
    assert_string_equal(info.cmdline, "");
}

static void framebuffer_tag(u8 type, u32 extra)
{
    const u8 kind[] = {type == 1 ? 32 : 16, type, 0, 0};

    tag(FRAMEBUFFER, 24 + extra);
    put_u64(type == 1 ? 0xE0000000 : 0xB8000);
    put_u32(160);
    put_u32(80);
    put_u32(25);
    put(kind, sizeof(kind));
}

static void text_framebuffer(void **state)
{
    begin();
    usual_map();
    framebuffer_tag(2, 0);
    assert_true(parse());
    assert_int_equal(info.framebuffer.kind, FRAMEBUFFER_TEXT);
    assert_int_equal(info.framebuffer.address, 0xB8000);
    assert_int_equal(info.framebuffer.pitch, 160);
    assert_int_equal(info.framebuffer.width, 80);
    assert_int_equal(info.framebuffer.height, 25);
    assert_int_equal(info.framebuffer.bits_per_pixel, 16);
}

static void rgb_framebuffer(void **state)
{
    const u8 colors[] = {16, 8, 9, 7, 1, 6};

    begin();
    usual_map();
    framebuffer_tag(1, sizeof(colors));
    put(colors, sizeof(colors));
    assert_true(parse());
    assert_int_equal(info.framebuffer.kind, FRAMEBUFFER_RGB);
    assert_int_equal(info.framebuffer.red_position, 16);
    assert_int_equal(info.framebuffer.red_size, 8);
    assert_int_equal(info.framebuffer.green_position, 9);
    assert_int_equal(info.framebuffer.green_size, 7);
    assert_int_equal(info.framebuffer.blue_position, 1);
    assert_int_equal(info.framebuffer.blue_size, 6);
}

static void palette_framebuffer_is_left_alone(void **state)
{
    begin();
    usual_map();
    framebuffer_tag(0, 0);
    assert_true(parse());
    assert_int_equal(info.framebuffer.kind, FRAMEBUFFER_NONE);
}

static void regions_are_sorted_and_merged(void **state)
{
    begin();
    map_tag(6);
    put_entry(0x200000, 0x100000, AVAILABLE);
    put_entry(0x9F000, 0x1000, 77);
    put_entry(0x100000, 0x100000, AVAILABLE);
    put_entry(0, 0x9F000, AVAILABLE);
    put_entry(0x5000, 0, BAD);
    put_entry(0x300000, 0x1000, RECLAIMABLE);
    assert_true(parse());
    assert_int_equal(info.region_count, 4);
    assert_region(0, 0, 0x9F000, REGION_USABLE);
    assert_region(1, 0x9F000, 0xA0000, REGION_RESERVED);
    assert_region(2, 0x100000, 0x300000, REGION_USABLE);
    assert_region(3, 0x300000, 0x301000, REGION_ACPI_RECLAIMABLE);
}

static void the_less_usable_type_wins(void **state)
{
    begin();
    map_tag(5);
    put_entry(0x100000, 0xA00000, AVAILABLE);
    put_entry(0x300000, 0x400000, RECLAIMABLE);
    put_entry(0x400000, 0x200000, NVS);
    put_entry(0x480000, 0x100000, RESERVED);
    put_entry(0x4C0000, 0x1000, BAD);
    assert_true(parse());
    assert_int_equal(info.region_count, 9);
    assert_region(0, 0x100000, 0x300000, REGION_USABLE);
    assert_region(1, 0x300000, 0x400000, REGION_ACPI_RECLAIMABLE);
    assert_region(2, 0x400000, 0x480000, REGION_ACPI_NVS);
    assert_region(3, 0x480000, 0x4C0000, REGION_RESERVED);
    assert_region(4, 0x4C0000, 0x4C1000, REGION_BAD);
    assert_region(5, 0x4C1000, 0x580000, REGION_RESERVED);
    assert_region(6, 0x580000, 0x600000, REGION_ACPI_NVS);
    assert_region(7, 0x600000, 0x700000, REGION_ACPI_RECLAIMABLE);
    assert_region(8, 0x700000, 0xB00000, REGION_USABLE);
}

static void a_region_that_wraps_ends_at_the_top(void **state)
{
    begin();
    map_tag(2);
    put_entry(0x100000, 0x100000, AVAILABLE);
    put_entry(UINT64_MAX - 0xFFF, UINT64_MAX, RESERVED);
    assert_true(parse());
    assert_int_equal(info.region_count, 2);
    assert_region(1, UINT64_MAX - 0xFFF, UINT64_MAX, REGION_RESERVED);
}

/* What a map says of each page, by asking every entry, and what the regions say of it. */
static void random_maps_agree_page_by_page(void **state)
{
    static const u8 types[] = {AVAILABLE, RECLAIMABLE, NVS, RESERVED, BAD};
    static const u8 kinds[] = {REGION_USABLE, REGION_ACPI_RECLAIMABLE, REGION_ACPI_NVS,
                               REGION_RESERVED, REGION_BAD};
    enum {
        PAGES = 64
    };

    srand(1);
    for (u32 round = 0; round < 2000; round++) {
        u32 count = 1 + (u32)rand() % 12;
        int expected[PAGES], actual[PAGES];

        memset(expected, -1, sizeof(expected));
        memset(actual, -1, sizeof(actual));
        begin();
        map_tag(count + 1);
        put_entry(GIB, 0x1000, AVAILABLE);
        for (u32 i = 0; i < count; i++) {
            u32 start = (u32)rand() % PAGES;
            u32 size = (u32)rand() % (PAGES - start + 1);
            int rank = rand() % (int)sizeof(types);

            put_entry(start * 0x1000ULL, size * 0x1000ULL, types[rank]);
            for (u32 page = start; page < start + size; page++)
                expected[page] = MAX(expected[page], rank);
        }
        assert_true(parse());
        for (u32 i = 0; i < info.region_count; i++) {
            const struct boot_region *region = &info.regions[i];

            assert_true(region->size > 0);
            if (i > 0) {
                const struct boot_region *last = region - 1;

                assert_true(last->start + last->size <= region->start);
                assert_false(last->start + last->size == region->start &&
                             last->type == region->type);
            }
            for (u64 at = region->start; at < region->start + region->size && at < GIB;
                 at += 0x1000) {
                for (int rank = 0; rank < (int)sizeof(kinds); rank++) {
                    if (kinds[rank] == region->type)
                        actual[at / 0x1000] = rank;
                }
            }
        }
        assert_memory_equal(expected, actual, sizeof(expected));
    }
}

static void the_efi_map_is_used_alone(void **state)
{
    begin();
    efi_map_tag(9);
    put_descriptor(7, 0x100000, 0x100); /* conventional */
    put_descriptor(2, 0x200000, 0x100); /* loader data */
    put_descriptor(4, 0x300000, 0x100); /* boot services data */
    put_descriptor(6, 0x400000, 0x10);  /* runtime services data */
    put_descriptor(9, 0x410000, 0x10);
    put_descriptor(10, 0x420000, 0x10);
    put_descriptor(8, 0x430000, 0x10);
    put_descriptor(14, 0x440000, 0x10); /* persistent memory */
    put_descriptor(11, 0xFFFFF000, UINT64_MAX);
    assert_true(parse());
    assert_true(info.efi);
    assert_int_equal(info.region_count, 7);
    assert_region(0, 0x100000, 0x400000, REGION_USABLE);
    assert_region(1, 0x400000, 0x410000, REGION_RESERVED);
    assert_region(2, 0x410000, 0x420000, REGION_ACPI_RECLAIMABLE);
    assert_region(3, 0x420000, 0x430000, REGION_ACPI_NVS);
    assert_region(4, 0x430000, 0x440000, REGION_BAD);
    assert_region(5, 0x440000, 0x450000, REGION_RESERVED);
    assert_region(6, 0xFFFFF000, UINT64_MAX, REGION_RESERVED);
}

static void the_usual_map_comes_before_the_efi_map(void **state)
{
    begin();
    efi_map_tag(1);
    put_descriptor(7, 0x100000, 0x10);
    usual_map();
    tag(EFI64_SYSTEM_TABLE, 8);
    put_u64(0x1000);
    assert_true(parse());
    assert_true(info.efi);
    assert_int_equal(info.region_count, 1);
    assert_region(0, 0x100000, 0x4000000, REGION_USABLE);
}

static void an_efi_system_table_alone_means_efi(void **state)
{
    begin();
    usual_map();
    tag(EFI64_SYSTEM_TABLE, 8);
    put_u64(0x1000);
    assert_true(parse());
    assert_true(info.efi);
}

static void no_memory_map(void **state)
{
    begin();
    refused("The boot loader gave no memory map.");
}

static void no_usable_memory(void **state)
{
    begin();
    map_tag(1);
    put_entry(0, 0x100000, RESERVED);
    refused("The memory map has no usable memory.");
}

static void no_end_tag(void **state)
{
    begin();
    usual_map();
    memcpy(data, &used, sizeof(used));
    assert_false(parse_size(used));
    assert_string_equal(error, "The boot information has no end tag.");
}

static void total_size_beyond_the_data(void **state)
{
    begin();
    usual_map();
    finish();
    assert_true(parse_size(used));
    assert_false(parse_size(used - 1));
    assert_string_equal(error, "The boot information is truncated.");
    assert_false(parse_size(7));
    assert_string_equal(error, "The boot information is truncated.");
}

static void a_tag_beyond_the_end(void **state)
{
    begin();
    usual_map();
    tag(99, 64);
    refused("The boot information's tag of type 99 is truncated.");
}

static void a_tag_smaller_than_its_header(void **state)
{
    begin();
    usual_map();
    tag(99, 0);
    data[used - 4] = 7;
    refused("The boot information's tag of type 99 is truncated.");
}

static void every_tag_has_a_smallest_size(void **state)
{
    static const struct {
        u32 type;
        u32 content;
        const char *sentence;
    } cases[] = {
        {COMMAND_LINE,       0,  "The command line tag is truncated."      },
        {MODULE,             7,  "The module tag is truncated."            },
        {MODULE,             8,  "A module tag is truncated."              },
        {MEMORY_MAP,         7,  "The memory map tag is truncated."        },
        {FRAMEBUFFER,        23, "The framebuffer tag is truncated."       },
        {11,                 3,  "The EFI32 system table tag is truncated."},
        {EFI64_SYSTEM_TABLE, 7,  "The EFI64 system table tag is truncated."},
        {OLD_RSDP,           19, "The ACPI 1.0 RSDP tag is truncated."     },
        {NEW_RSDP,           35, "The ACPI 2.0 RSDP tag is truncated."     },
        {EFI_MEMORY_MAP,     7,  "The EFI memory map tag is truncated."    },
    };

    for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
        begin();
        tag(cases[i].type, cases[i].content);
        used += cases[i].content;
        refused(cases[i].sentence);
    }
}

static void an_rgb_framebuffer_without_colors(void **state)
{
    begin();
    usual_map();
    framebuffer_tag(1, 5);
    used += 5;
    refused("The framebuffer tag is truncated.");
}

static void a_map_that_ends_in_an_entry(void **state)
{
    begin();
    tag(MEMORY_MAP, 8 + 30);
    put_u32(24);
    put_u32(0);
    put_entry(0x100000, 0x100000, AVAILABLE);
    used += 6;
    refused("The memory map tag is truncated.");
    begin();
    tag(EFI_MEMORY_MAP, 8 + 41);
    put_u32(40);
    put_u32(1);
    used += 41;
    refused("The EFI memory map tag is truncated.");
}

static void map_entries_that_are_too_small(void **state)
{
    begin();
    tag(MEMORY_MAP, 8 + 20);
    put_u32(20);
    put_u32(0);
    used += 20;
    refused("The memory map has entries of 20 bytes.");
    begin();
    tag(EFI_MEMORY_MAP, 8);
    put_u32(0);
    put_u32(1);
    refused("The EFI memory map has entries of 0 bytes.");
}

static void tags_that_may_come_once(void **state)
{
    begin();
    text_tag(COMMAND_LINE, "a");
    text_tag(COMMAND_LINE, "b");
    refused("There are two command line tags.");
    begin();
    usual_map();
    usual_map();
    refused("There are two memory map tags.");
    begin();
    framebuffer_tag(2, 0);
    framebuffer_tag(2, 0);
    refused("There are two framebuffer tags.");
}

static void boot_services_still_running(void **state)
{
    begin();
    usual_map();
    tag(EFI_BOOT_SERVICES, 0);
    refused("The boot loader left the EFI boot services running.");
}

static void text_without_an_end(void **state)
{
    begin();
    tag(COMMAND_LINE, 3);
    put("abc", 3);
    refused("The command line tag is truncated.");
    begin();
    tag(MODULE, 8 + 3);
    put_u32(0x200000);
    put_u32(0x201000);
    put("abc", 3);
    refused("A module tag is truncated.");
}

static void a_command_line_that_is_too_long(void **state)
{
    char text[BOOT_CMDLINE_SIZE + 1];

    memset(text, 'x', sizeof(text));
    text[BOOT_CMDLINE_SIZE - 1] = '\0';
    begin();
    usual_map();
    text_tag(COMMAND_LINE, text);
    assert_true(parse());
    assert_string_equal(info.cmdline, text);

    text[BOOT_CMDLINE_SIZE - 1] = 'x';
    text[BOOT_CMDLINE_SIZE] = '\0';
    begin();
    text_tag(COMMAND_LINE, text);
    refused("The command line is longer than 1023 characters.");
}

static void a_module_name_that_is_too_long(void **state)
{
    char text[BOOT_MODULE_NAME_SIZE + 1];

    memset(text, 'n', sizeof(text));
    text[BOOT_MODULE_NAME_SIZE - 1] = '\0';
    begin();
    usual_map();
    module(0x200000, 0x201000, text);
    assert_true(parse());
    assert_string_equal(info.modules[0].name, text);

    text[BOOT_MODULE_NAME_SIZE - 1] = 'n';
    text[BOOT_MODULE_NAME_SIZE] = '\0';
    begin();
    module(0x200000, 0x201000, text);
    refused("A module's name is longer than 63 characters: nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn...");
}

static void modules_that_are_too_many(void **state)
{
    char name[16];

    begin();
    usual_map();
    for (u32 i = 0; i < BOOT_MODULES_MAX; i++) {
        snprintf(name, sizeof(name), "m%u", i);
        module(0x200000 + i * 0x1000, 0x201000 + i * 0x1000, name);
    }
    u32 full = used;

    assert_true(parse());
    assert_int_equal(info.module_count, BOOT_MODULES_MAX);
    used = full;
    module(0x1000000, 0x1001000, "last");
    refused("There are more than 64 modules.");
}

static void regions_that_are_too_many(void **state)
{
    begin();
    map_tag(BOOT_REGIONS_MAX);
    for (u32 i = 0; i < BOOT_REGIONS_MAX; i++)
        put_entry(i * 0x2000ULL, 0x1000, AVAILABLE);
    assert_true(parse());
    assert_int_equal(info.region_count, BOOT_REGIONS_MAX);
    begin();
    map_tag(BOOT_REGIONS_MAX + 1);
    for (u32 i = 0; i <= BOOT_REGIONS_MAX; i++)
        put_entry(i * 0x2000ULL, 0x1000, AVAILABLE);
    refused("The memory map has more than 512 regions.");
}

static void modules_in_the_wrong_place(void **state)
{
    static const struct {
        u32 start, end;
        const char *sentence;
    } cases[] = {
        {KERNEL_END - 1, KERNEL_END + 1,   "The module m lies over the hypervisor."  },
        {KERNEL_START,   KERNEL_START + 1, "The module m lies over the hypervisor."  },
        {0x4000000,      0x4000001,        "The module m lies outside usable memory."},
        {0x3FFFFFF,      0x4000001,        "The module m lies outside usable memory."},
        {0,              0x1000,           "The module m lies outside usable memory."},
        {0x200001,       0x200000,         "The module m ends before it begins."     },
    };

    for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
        begin();
        module(cases[i].start, cases[i].end, "m");
        usual_map();
        refused(cases[i].sentence);
    }
    begin();
    module(KERNEL_END, KERNEL_END + 1, "after");
    module(0x3FFFFFF, 0x4000000, "last");
    module(0, 0, "empty");
    usual_map();
    assert_true(parse());
}

static void a_module_over_a_reserved_hole(void **state)
{
    begin();
    map_tag(2);
    put_entry(0x100000, 0x3F00000, AVAILABLE);
    put_entry(0x300000, 0x1000, RESERVED);
    module(0x2FF000, 0x302000, "m");
    refused("The module m lies outside usable memory.");
}

static void modules_that_overlap(void **state)
{
    begin();
    usual_map();
    module(0x200000, 0x300000, "a");
    module(0x2FFFFF, 0x400000, "b");
    refused("The modules a and b overlap.");
    begin();
    usual_map();
    module(0x200000, 0x400000, "a");
    module(0x300000, 0x301000, "b");
    refused("The modules a and b overlap.");
    begin();
    usual_map();
    module(0x300000, 0x400000, "b");
    module(0x200000, 0x300000, "a");
    assert_true(parse());
}

static void modules_of_one_name(void **state)
{
    begin();
    usual_map();
    module(0x200000, 0x300000, "vmlinuz a");
    module(0x300000, 0x400000, "vmlinuz b");
    refused("Two modules have the name vmlinuz.");
    begin();
    usual_map();
    module(0x200000, 0x300000, "");
    module(0x300000, 0x400000, "");
    assert_true(parse());
}

/* No prefix is read beyond its end, and none is accepted. */
static void every_truncation_is_refused(void **state)
{
    u32 full;

    begin();
    text_tag(COMMAND_LINE, "console=com1");
    module(0x200000, 0x201000, "tenants.conf");
    usual_map();
    framebuffer_tag(2, 0);
    finish();
    full = used;
    for (u32 size = 8; size < full; size++) {
        memcpy(data, &size, sizeof(size));
        assert_false(parse_size(size));
        assert_string_not_equal(error, "");
    }
}

static void command_line_words(void **state)
{
    char value[8];

    assert_true(cmdline_get("console=com1 log=warn", "console", value, sizeof(value)));
    assert_string_equal(value, "com1");
    assert_true(cmdline_get("console=com1 log=warn", "log", value, sizeof(value)));
    assert_string_equal(value, "warn");
    assert_true(cmdline_get("  log=a   log=b  ", "log", value, sizeof(value)));
    assert_string_equal(value, "b");
    assert_true(cmdline_get("log=", "log", value, sizeof(value)));
    assert_string_equal(value, "");
    assert_true(cmdline_get("x=a=b", "x", value, sizeof(value)));
    assert_string_equal(value, "a=b");
    assert_true(cmdline_get("a=1234567", "a", value, sizeof(value)));
    assert_string_equal(value, "1234567");
}

static void command_line_words_that_are_not_there(void **state)
{
    char value[8] = "before";

    assert_false(cmdline_get("", "log", value, sizeof(value)));
    assert_false(cmdline_get("log", "log", value, sizeof(value)));
    assert_false(cmdline_get("catalog=1 logs=2 lo=3", "log", value, sizeof(value)));
    assert_false(cmdline_get("a=12345678", "a", value, sizeof(value)));
    assert_false(cmdline_get("a=1 a=12345678", "a", value, sizeof(value)));
    assert_string_equal(value, "before");
}

static void names_in_a_list(void **state)
{
    assert_true(list_names("tpr-shadow,VPID", "VPID"));
    assert_true(list_names("TPR-Shadow,vpid", "TPR shadow"));
    assert_true(list_names("vmx-preemption-timer", "VMX-preemption timer"));
    assert_false(list_names("vpid", "INVVPID"));
    assert_false(list_names("invvpid", "VPID"));
    assert_false(list_names("vpid2,vpi", "VPID"));
    assert_false(list_names("", "VPID"));
    assert_true(list_names(",,vpid,", "VPID"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_in_a_list),
        cmocka_unit_test(a_usual_boot),
        cmocka_unit_test(the_old_rsdp_will_do),
        cmocka_unit_test(without_an_rsdp),
        cmocka_unit_test(text_framebuffer),
        cmocka_unit_test(rgb_framebuffer),
        cmocka_unit_test(palette_framebuffer_is_left_alone),
        cmocka_unit_test(regions_are_sorted_and_merged),
        cmocka_unit_test(the_less_usable_type_wins),
        cmocka_unit_test(a_region_that_wraps_ends_at_the_top),
        cmocka_unit_test(random_maps_agree_page_by_page),
        cmocka_unit_test(the_efi_map_is_used_alone),
        cmocka_unit_test(the_usual_map_comes_before_the_efi_map),
        cmocka_unit_test(an_efi_system_table_alone_means_efi),
        cmocka_unit_test(no_memory_map),
        cmocka_unit_test(no_usable_memory),
        cmocka_unit_test(no_end_tag),
        cmocka_unit_test(total_size_beyond_the_data),
        cmocka_unit_test(a_tag_beyond_the_end),
        cmocka_unit_test(a_tag_smaller_than_its_header),
        cmocka_unit_test(every_tag_has_a_smallest_size),
        cmocka_unit_test(an_rgb_framebuffer_without_colors),
        cmocka_unit_test(a_map_that_ends_in_an_entry),
        cmocka_unit_test(map_entries_that_are_too_small),
        cmocka_unit_test(tags_that_may_come_once),
        cmocka_unit_test(boot_services_still_running),
        cmocka_unit_test(text_without_an_end),
        cmocka_unit_test(a_command_line_that_is_too_long),
        cmocka_unit_test(a_module_name_that_is_too_long),
        cmocka_unit_test(modules_that_are_too_many),
        cmocka_unit_test(regions_that_are_too_many),
        cmocka_unit_test(modules_in_the_wrong_place),
        cmocka_unit_test(a_module_over_a_reserved_hole),
        cmocka_unit_test(modules_that_overlap),
        cmocka_unit_test(modules_of_one_name),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(command_line_words),
        cmocka_unit_test(command_line_words_that_are_not_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
