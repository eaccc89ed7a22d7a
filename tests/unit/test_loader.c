/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Image loaders, with images made here byte by byte. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loader/e820.h"
#include "loader/loader.h"

#define RAM_SIZE (32 * MIB)

static struct guest_ram ram;
static u8 file[64 * KIB]; /* of the kernel */
static struct loader_request request;
static struct loader_plan plan;
static struct vcpu_state vcpu;

static int set_up(void **state)
{
    ram = (struct guest_ram){.base = calloc(1, RAM_SIZE), .low_size = RAM_SIZE};
    memset(file, 0, sizeof(file));
    request = (struct loader_request){
        .kernel = {.name = "kernel", .data = file, .size = sizeof(file)},
        .cmdline = "console=ttyS0",
        .vcpu_count = 2,
    };
    return ram.base == NULL;
}

static int tear_down(void **state)
{
    free(ram.base);
    return 0;
}

static void put(u64 offset, u64 value, u32 size)
{
    memcpy(file + offset, &value, size);
}

static u64 in_ram(u64 gpa, u32 size)
{
    u64 value = 0;

    assert_true(range_within(gpa, size, RAM_SIZE));
    memcpy(&value, ram.base + gpa, size);
    return value;
}

static const char *text_in_ram(u64 gpa)
{
    return (const char *)ram.base + gpa;
}

static void add_module(const char *name, u8 fill, u64 size)
{
    u8 *data = malloc(size);

    memset(data, fill, size);
    request.modules[request.module_count++] = (struct image){name, data, size};
}

static void free_modules(void)
{
    for (u32 i = 0; i < request.module_count; i++)
        free((void *)request.modules[i].data);
}

/* A plan, checked: every entry in RAM that the map calls free, and none over another. */
static void expect_planned(enum image_kind kind)
{
    if (!loader_plan(&request, &ram, &plan))
        fail_msg("%s", plan.error);
    assert_int_equal(plan.kind, kind);
    for (u32 i = 0; i < plan.copy_count; i++) {
        const struct loader_copy *copy = &plan.copies[i];

        assert_true(copy->gpa >= MIB || range_within(copy->gpa, copy->size, GUEST_EBDA));
        assert_non_null(guest_ram_at(&ram, copy->gpa, copy->size));
        for (u32 j = 0; j < i; j++)
            assert_true(copy->gpa + copy->size <= plan.copies[j].gpa ||
                        plan.copies[j].gpa + plan.copies[j].size <= copy->gpa);
    }
}

static void expect_refused(const char *error)
{
    assert_false(loader_plan(&request, &ram, &plan));
    assert_string_equal(plan.error, error);
}

static void carry_out(void)
{
    for (u32 i = 0; i < plan.copy_count; i++)
        if (plan.copies[i].from != NULL)
            memcpy(ram.base + plan.copies[i].gpa, plan.copies[i].from, plan.copies[i].size);
    if (!loader_finish(&request, &ram, &plan, &vcpu))
        fail_msg("%s", plan.error);
    assert_memory_equal(ram.base + GUEST_ACPI_TABLES, "RSD PTR ", 8);
}

/* The copies must be where they were put after the boot information was written. */
static void expect_intact(void)
{
    for (u32 i = 0; i < plan.copy_count; i++)
        if (plan.copies[i].from != NULL)
            assert_memory_equal(ram.base + plan.copies[i].gpa, plan.copies[i].from,
                                plan.copies[i].size);
}

/* ---- bzImage ----------------------------------------------------------------------------- */

#define SETUP_SIZE 1024
#define LOAD       (16 * MIB)

/* Boot protocol 2.15, 8 KiB that need 1 MiB at 16 MiB. */
static void make_bzimage(void)
{
    const u64 code_size = 8 * KIB;

    put(0x1F1, 1, 1);
    put(0x1F4, code_size / 16, 4);
    put(0x1FE, 0xAA55, 2);
    put(0x200, 0x6AEB, 2); /* the header ends at 26Ch */
    put(0x202, 0x53726448, 4);
    put(0x206, 0x020F, 2);
    put(0x211, 0x81, 1);
    put(0x22C, 0x7FFFFFFF, 4);
    put(0x230, 2 * MIB, 4);
    put(0x234, 1, 1);
    put(0x236, 1, 2);
    put(0x238, 2047, 4);
    put(0x250, 0x1234, 8);
    put(0x258, LOAD, 8);
    put(0x260, MIB, 4);
    put(0x268, 0xCAFE, 4);
    memset(file + SETUP_SIZE, 0xC3, code_size);
    request.kernel.size = SETUP_SIZE + code_size;
}

static u64 entry_of(u64 table, u64 address, u32 shift)
{
    return in_ram(table + (address >> shift & 511) * 8, 8);
}

/* Where the guest's page tables map an address that is a multiple of 2 MiB. */
static u64 translate(u64 address)
{
    u64 pml4e = entry_of(vcpu.cr3, address, 39);
    u64 pdpte = entry_of(pml4e & ~0xFFFULL, address, 30);
    u64 pde = entry_of(pdpte & ~0xFFFULL, address, 21);

    assert_int_equal(pml4e & 0xFFF, 3);
    assert_int_equal(pdpte & 0xFFF, 3);
    assert_int_equal(pde & 0xFFF, 0x83);
    return pde & ~0xFFFULL;
}

static void test_bzimage_state(void **state)
{
    make_bzimage();
    expect_planned(IMAGE_BZIMAGE);
    memset(ram.base + 0x1000, 0xEE, 0x30000); /* what was there must not show */
    carry_out();
    expect_intact();
    assert_int_equal(in_ram(LOAD, 1), 0xC3);
    assert_int_equal(vcpu.rip, LOAD + 0x200);
    assert_int_equal(vcpu.efer, 0x500);
    assert_int_equal(vcpu.rflags, 2);
    for (u64 address = 0; address < 4 * GIB; address += 2 * MIB)
        assert_int_equal(translate(address), address);
    assert_int_equal(entry_of(vcpu.cr3, 512 * GIB, 39), 0);
    assert_int_equal(entry_of(entry_of(vcpu.cr3, 0, 39) & ~0xFFFULL, 4 * GIB, 30), 0);
    assert_int_equal(vcpu.segments[SEG_CS].selector, 0x10);
    assert_int_equal(vcpu.segments[SEG_DS].selector, 0x18);
    assert_int_equal(vcpu.gdtr.limit, 0x1F);
    assert_true(in_ram(vcpu.gdtr.base + 0x10, 8) == 0x00AF9B000000FFFF);
    assert_true(in_ram(vcpu.gdtr.base + 0x18, 8) == 0x00CF93000000FFFF);
}

static void test_bzimage_zero_page(void **state)
{
    u64 page;

    make_bzimage();
    expect_planned(IMAGE_BZIMAGE);
    memset(ram.base + 0x1000, 0xEE, 0x30000); /* what was there must not show */
    carry_out();
    page = vcpu.gpr[GPR_RSI];
    assert_int_equal(in_ram(page + 0x1F1, 1), 1);
    assert_int_equal(in_ram(page + 0x202, 4), 0x53726448);
    assert_int_equal(in_ram(page + 0x210, 1), 0xFF);
    assert_int_equal(in_ram(page + 0x211, 1), 0x01);
    assert_int_equal(in_ram(page + 0x214, 4), LOAD);
    assert_int_equal(in_ram(page + 0x218, 8), 0); /* no initrd */
    assert_int_equal(in_ram(page + 0x250, 8), 0);
    assert_int_equal(in_ram(page + 0x268, 4), 0xCAFE);
    assert_int_equal(in_ram(page + 0x26C, 4), 0);
    assert_int_equal(in_ram(page + 0x070, 8), GUEST_ACPI_TABLES);
    assert_string_equal(text_in_ram(in_ram(page + 0x228, 4)), "console=ttyS0");
    assert_int_equal(in_ram(page + 0x1E8, 1), 3);
    assert_int_equal(in_ram(page + 0x2D0, 8), 0);
    assert_int_equal(in_ram(page + 0x2D8, 8), GUEST_EBDA);
    assert_int_equal(in_ram(page + 0x2E0, 4), E820_RAM);
    assert_int_equal(in_ram(page + 0x2E4, 8), GUEST_EBDA);
    assert_int_equal(in_ram(page + 0x2F4, 4), E820_RESERVED);
    assert_int_equal(in_ram(page + 0x2F8, 8), MIB);
    assert_int_equal(in_ram(page + 0x300, 8), RAM_SIZE - MIB);
    assert_int_equal(in_ram(page + 0x000, 8), 0);
}

static void test_bzimage_initrd(void **state)
{
    make_bzimage();
    add_module("initrd", 0x11, 5000);
    expect_planned(IMAGE_BZIMAGE);
    assert_int_equal(plan.module_gpa[0], RAM_SIZE - 8192);
    carry_out();
    expect_intact();
    assert_int_equal(in_ram(vcpu.gpr[GPR_RSI] + 0x218, 4), RAM_SIZE - 8192);
    assert_int_equal(in_ram(vcpu.gpr[GPR_RSI] + 0x21C, 4), 5000);
    put(0x22C, 20 * MIB - 1, 4);
    request.modules[0].size = 4096;
    expect_planned(IMAGE_BZIMAGE);
    assert_int_equal(plan.module_gpa[0], 20 * MIB - 4096);
    request.modules[0].size = 5000;
    put(0x22C, 17 * MIB - 1, 4); /* only the room below the kernel is left */
    expect_planned(IMAGE_BZIMAGE);
    assert_int_equal(plan.module_gpa[0], 16 * MIB - 8192);
    free_modules();
}

static void test_bzimage_initrd_does_not_fit(void **state)
{
    make_bzimage();
    add_module("web.cpio.gz", 0x11, 12 * MIB);
    put(0x258, 2 * MIB, 8);
    ram.low_size = 14 * MIB;
    expect_refused("initrd 'web.cpio.gz' (12 MiB) does not fit into 14 MiB of memory");
    ram.low_size = 12 * MIB;
    expect_refused("initrd 'web.cpio.gz' (12 MiB) does not fit into 12 MiB of memory");
    ram.low_size = 15 * MIB;
    expect_planned(IMAGE_BZIMAGE);
    assert_int_equal(plan.module_gpa[0], 3 * MIB);
    add_module("second", 0x22, 1);
    expect_refused("kernel 'kernel' takes one initrd, not 2 modules");
    free_modules();
}

static void test_bzimage_refusals(void **state)
{
    char cmdline[3000];

    make_bzimage();
    request.kernel.size -= 16;
    expect_refused("kernel 'kernel' is truncated: 9200 of 9216 bytes");
    request.kernel.size = SETUP_SIZE;
    expect_refused("kernel 'kernel' is truncated: 1024 of 9216 bytes");
    make_bzimage();
    put(0x206, 0x0204, 2);
    expect_refused("kernel 'kernel' speaks boot protocol 2.04; 2.12 is needed");
    make_bzimage();
    put(0x236, 0, 2);
    expect_refused("kernel 'kernel' has no 64-bit entry");
    make_bzimage();
    put(0x260, 40 * MIB, 4);
    expect_refused("kernel 'kernel' needs 40 MiB of memory from 0x1000000 on; there are 32 MiB");
    make_bzimage();
    ram.low_size = 16 * MIB;
    expect_refused("kernel 'kernel' needs 1 MiB of memory from 0x1000000 on; there are 16 MiB");
    ram.low_size = RAM_SIZE;
    memset(cmdline, 'x', sizeof(cmdline));
    cmdline[2048] = '\0';
    request.cmdline = cmdline;
    expect_refused("the command line has 2048 bytes; kernel 'kernel' takes 2047");
    cmdline[2047] = '\0';
    expect_planned(IMAGE_BZIMAGE);
    put(0x234, 0, 1);
    put(0x258, 64 * KIB, 8);
    put(0x260, 8 * KIB, 4);
    expect_refused("kernel 'kernel' needs 8 KiB of memory from 0x10000 on; there are 32 MiB");
    make_bzimage();
    put(0x1F4, 0, 4);
    request.kernel.size = SETUP_SIZE;
    expect_refused("kernel 'kernel' is truncated: 1024 of 1024 bytes");
}

/* The image may end within the last 16 bytes that its header counts. */
static void test_bzimage_last_paragraph(void **state)
{
    make_bzimage();
    request.kernel.size -= 15;
    expect_planned(IMAGE_BZIMAGE);
    assert_int_equal(plan.copies[0].size, 8 * KIB - 15);
}

static void test_bzimage_alignment(void **state)
{
    make_bzimage();
    put(0x258, 5 * MIB, 8);
    expect_planned(IMAGE_BZIMAGE);
    assert_int_equal(plan.entry, 6 * MIB + 0x200);
    put(0x234, 0, 1); /* not relocatable */
    expect_planned(IMAGE_BZIMAGE);
    assert_int_equal(plan.entry, 5 * MIB + 0x200);
    put(0x234, 1, 1);
    put(0x258, UINT64_MAX - 4095, 8);
    expect_refused("kernel 'kernel' needs 1 MiB of memory from 0xfffffffffffff000 on; there are "
                   "32 MiB");
}

/* ---- ELF --------------------------------------------------------------------------------- */

struct segment_spec {
    u32 type;
    u64 offset, virtual_address, physical_address, file_size, memory_size;
};

static void make_elf32(u64 entry, const struct segment_spec *segments, u32 count)
{
    memcpy(file, "\x7f\x45LF\1\1\1", 7);
    put(16, 2, 2);
    put(18, 3, 2);
    put(20, 1, 4);
    put(24, entry, 4);
    put(28, 52, 4);
    put(40, 52, 2);
    put(42, 32, 2);
    put(44, count, 2);
    for (u32 i = 0; i < count; i++) {
        put(52 + i * 32, segments[i].type, 4);
        put(56 + i * 32, segments[i].offset, 4);
        put(60 + i * 32, segments[i].virtual_address, 4);
        put(64 + i * 32, segments[i].physical_address, 4);
        put(68 + i * 32, segments[i].file_size, 4);
        put(72 + i * 32, segments[i].memory_size, 4);
    }
}

static void make_elf64(u64 entry, const struct segment_spec *segments, u32 count)
{
    memcpy(file, "\x7f\x45LF\2\1\1", 7);
    put(16, 2, 2);
    put(18, 62, 2);
    put(20, 1, 4);
    put(24, entry, 8);
    put(32, 64, 8);
    put(52, 64, 2);
    put(54, 56, 2);
    put(56, count, 2);
    for (u32 i = 0; i < count; i++) {
        put(64 + i * 56, segments[i].type, 4);
        put(72 + i * 56, segments[i].offset, 8);
        put(80 + i * 56, segments[i].virtual_address, 8);
        put(88 + i * 56, segments[i].physical_address, 8);
        put(96 + i * 56, segments[i].file_size, 8);
        put(104 + i * 56, segments[i].memory_size, 8);
    }
}

/* Text at 1 MiB; data with 8 KiB of BSS at 2 MiB, linked to run in the higher half. */
static const struct segment_spec usual[] = {
    {1, 0x1000, 0xC0100000, 0x100000, 0x800, 0x800 },
    {1, 0x2000, 0xC0200000, 0x200000, 0x100, 0x2100},
};

/* ---- Multiboot 1 ------------------------------------------------------------------------- */

#define MB1_AT 0x400

static void put_multiboot1(u32 flags)
{
    put(MB1_AT, 0x1BADB002, 4);
    put(MB1_AT + 4, flags, 4);
    put(MB1_AT + 8, -(0x1BADB002 + flags), 4);
}

static void expect_multiboot1_info(void)
{
    u64 info = vcpu.gpr[GPR_RBX];
    u64 map = in_ram(info + 48, 4), modules = in_ram(info + 24, 4);

    assert_int_equal(vcpu.gpr[GPR_RAX], 0x2BADB002);
    assert_true(info >= 0x1000 && info < GUEST_EBDA);
    assert_int_equal(in_ram(info, 4), 0x24D);
    assert_int_equal(in_ram(info + 4, 4), 639);
    assert_int_equal(in_ram(info + 8, 4), (RAM_SIZE - MIB) / KIB);
    assert_string_equal(text_in_ram(in_ram(info + 16, 4)), "console=ttyS0");
    assert_string_equal(text_in_ram(in_ram(info + 64, 4)), "Bulkhead");
    assert_int_equal(in_ram(info + 44, 4), 3 * 24);
    assert_int_equal(in_ram(map, 4), 20);
    assert_int_equal(in_ram(map + 20, 4), E820_RAM);
    assert_int_equal(in_ram(map + 24 + 20, 4), E820_RESERVED);
    assert_int_equal(in_ram(map + 48 + 4, 8), MIB);
    assert_int_equal(in_ram(map + 48 + 12, 8), RAM_SIZE - MIB);
    assert_int_equal(in_ram(info + 20, 4), request.module_count);
    for (u32 i = 0; i < request.module_count; i++) {
        u64 start = in_ram(modules + i * 16, 4);

        assert_int_equal(start, plan.module_gpa[i]);
        assert_int_equal(start % 4096, 0);
        assert_int_equal(in_ram(modules + i * 16 + 4, 4), start + request.modules[i].size);
        assert_string_equal(text_in_ram(in_ram(modules + i * 16 + 8, 4)), request.modules[i].name);
    }
}

static void test_multiboot1_elf(void **state)
{
    for (u32 class = 0; class < 2; class ++) {
        memset(ram.base, 0, RAM_SIZE);
        memset(file, 0, sizeof(file));
        memset(file + 0x1000, 0x90, 0x1100);
        (class ? make_elf64 : make_elf32)(0xC0100010, usual, 2);
        put_multiboot1(3);
        if (request.module_count == 0) {
            add_module("first", 0x11, 100);
            add_module("second", 0x22, 5000);
        }
        expect_planned(IMAGE_MULTIBOOT1);
        assert_int_equal(plan.entry, 0x100010);
        assert_int_equal(plan.module_gpa[0], 0x203000);
        assert_int_equal(plan.module_gpa[1], 0x204000);
        carry_out();
        expect_intact();
        assert_int_equal(in_ram(0x100000, 1), 0x90);
        assert_int_equal(in_ram(0x2000FF, 1), 0x90);
        assert_int_equal(in_ram(0x200100, 1), 0);
        assert_int_equal(vcpu.rip, 0x100010);
        assert_int_equal(vcpu.cr0 & 0x80000001, 1);
        assert_int_equal(vcpu.rflags & 0x200, 0);
        expect_multiboot1_info();
    }
    free_modules();
}

static void put_flat(u32 header, u32 load, u32 load_end, u32 bss_end, u32 entry)
{
    put_multiboot1(BIT(16));
    put(MB1_AT + 12, header, 4);
    put(MB1_AT + 16, load, 4);
    put(MB1_AT + 20, load_end, 4);
    put(MB1_AT + 24, bss_end, 4);
    put(MB1_AT + 28, entry, 4);
}

static void test_multiboot1_flat(void **state)
{
    put_flat(0x100300, 0x100000, 0x101000, 0x104000, 0x100800);
    expect_planned(IMAGE_MULTIBOOT1);
    assert_int_equal(plan.copy_count, 2);
    assert_ptr_equal(plan.copies[0].from, file + MB1_AT - 0x300);
    assert_int_equal(plan.copies[0].gpa, 0x100000);
    assert_int_equal(plan.copies[0].size, 0x1000);
    assert_int_equal(plan.copies[1].gpa, 0x101000);
    assert_int_equal(plan.copies[1].size, 0x3000);
    assert_null(plan.copies[1].from);
    put_flat(0x100300, 0x100000, 0, 0, 0x100800);
    expect_planned(IMAGE_MULTIBOOT1);
    assert_int_equal(plan.copy_count, 1);
    assert_int_equal(plan.copies[0].size, sizeof(file) - 0x100);
    put_flat(0x100500, 0x100000, 0, 0, 0x100800); /* begins before the file */
    expect_refused("kernel 'kernel' has a load address that its header contradicts");
    put_flat(0x100000, 0x100300, 0, 0, 0x100800);
    expect_refused("kernel 'kernel' has a load address that its header contradicts");
    put_flat(0x100300, 0x100000, 0x80000, 0, 0x100800);
    expect_refused("kernel 'kernel' ends before it begins");
    put_flat(0x100300, 0x100000, 0x200000, 0, 0x100800);
    expect_refused("kernel 'kernel' is truncated: a segment ends behind its 65536 bytes");
    put_flat(0x100300, 0x100000, 0, 0x100001, 0x100000);
    expect_refused("kernel 'kernel' has a segment larger than its memory");
    put_flat(0x100300, 0x100000, 0, 0, 0x200800);
    expect_refused("kernel 'kernel' has its entry at 0x200800, where nothing is loaded");
}

static void test_multiboot1_refusals(void **state)
{
    make_elf32(0xC0100010, usual, 2);
    put_multiboot1(7);
    expect_refused("kernel 'kernel' requires Multiboot features that are not there: flags 0x4");
    put_multiboot1(3);
    put(MB1_AT + 8, 0, 4);
    expect_refused("'kernel' is not a kernel: no bzImage, Multiboot or PVH image");
    put_multiboot1(3);
    request.kernel.size = MB1_AT + 12;
    expect_refused("kernel 'kernel' is truncated: a segment ends behind its 1036 bytes");
    request.kernel.size = MB1_AT + 11;
    expect_refused("'kernel' is not a kernel: no bzImage, Multiboot or PVH image");
    request.kernel.size = sizeof(file);
    file[1] = 'e';
    expect_refused("kernel 'kernel' is no intact ELF executable for x86");
    file[1] = 'E';
    add_module("big.img", 0, 31 * MIB);
    expect_refused("module 'big.img' (31 MiB) does not fit into 32 MiB of memory");
    free_modules();
}

static void refuse_segments(const struct segment_spec *segments, u32 count, const char *error)
{
    make_elf64(segments[0].virtual_address, segments, count);
    put_multiboot1(0);
    expect_refused(error);
}

static void test_elf_segments(void **state)
{
    const struct segment_spec overlapping[] = {
        {1, 0x1000, 0x100000, 0x100000, 0x800, 0x1801},
        {1, 0x2000, 0x101800, 0x101800, 0x100, 0x100 },
    };
    const struct segment_spec beyond[] = {
        {1, 0x1000, 0x1FFF000, 0x1FFF000, 0x800, 0x1001}
    };
    const struct segment_spec wrapping[] = {
        {1, 0x1000, 0, UINT64_MAX - 0xFFF, 0x800, 0x1001}
    };
    const struct segment_spec reserved[] = {
        {1, 0x1000, 0x9F000, 0x9F000, 0x800, 0x1000}
    };
    const struct segment_spec acpi[] = {
        {1, 0x1000, 0xE0000, 0xE0000, 0x800, 0x1000}
    };
    const struct segment_spec long_file[] = {
        {1, 0xFFFFFFFFFFFFF800, 0x100000, 0x100000, 0x1000, 0x1000}
    };
    const struct segment_spec note[] = {
        {4, 0x1000, 0x100000, 0x100000, 0x800, 0x800}
    };

    refuse_segments(overlapping, 2, "kernel 'kernel' has segments that overlap at 0x101800");
    refuse_segments(beyond, 1,
                    "kernel 'kernel' wants 5 KiB at 0x1fff000: not in the 32 MiB of memory");
    refuse_segments(wrapping, 1,
                    "kernel 'kernel' wants 5 KiB at 0xfffffffffffff000: not in the 32 "
                    "MiB of memory");
    refuse_segments(reserved, 1,
                    "kernel 'kernel' wants 4 KiB at 0x9f000: not in the 32 MiB of memory");
    refuse_segments(acpi, 1, "kernel 'kernel' wants 4 KiB at 0xe0000: not in the 32 MiB of memory");
    refuse_segments(long_file, 1,
                    "kernel 'kernel' is truncated: a segment ends behind its 65536 bytes");
    refuse_segments(note, 1, "kernel 'kernel' has nothing to load");
}

static void test_too_many_segments(void **state)
{
    struct segment_spec many[40];

    for (u32 i = 0; i < ARRAY_SIZE(many); i++)
        many[i] = (struct segment_spec){1, 0x1000, MIB + i * 4096, MIB + i * 4096, 16, 16};
    memset(file, 0, sizeof(file));
    make_elf32(MIB, many, ARRAY_SIZE(many));
    put(0x700, 0x1BADB002, 4);
    put(0x708, -0x1BADB002, 4);
    expect_refused("the kernel and its modules have more than 32 pieces");
}

static void test_entry_above_4_gib(void **state)
{
    const struct segment_spec high[] = {
        {1, 0x1000, 4 * GIB, 4 * GIB, 0x800, 0x800}
    };

    ram.high_size = GIB;
    refuse_segments(high, 1,
                    "kernel 'kernel' has its entry at 0x100000000, where nothing is loaded");
}

static void test_not_elf(void **state)
{
    const char error[] = "kernel 'kernel' is no intact ELF executable for x86";

    refuse_segments(usual, 0, "kernel 'kernel' has nothing to load");
    file[5] = 2; /* big-endian */
    expect_refused(error);
    refuse_segments(usual, 0, "kernel 'kernel' has nothing to load");
    put(18, 40, 2); /* ARM */
    expect_refused(error);
    refuse_segments(usual, 0, "kernel 'kernel' has nothing to load");
    put(54, 55, 2); /* program headers too small */
    expect_refused(error);
    refuse_segments(usual, 0, "kernel 'kernel' has nothing to load");
    put(56, 0xFFFF, 2); /* program headers beyond the file */
    expect_refused(error);
}

/* A kernel that sits where the boot information would go first. */
static void test_information_avoids_kernel(void **state)
{
    const struct segment_spec low[] = {
        {1, 0x1000, 0x1000, 0x1000, 0x800, 0x7000}
    };
    const struct segment_spec unsorted[] = {
        {1, 0x1000, 0x3000, 0x3000, 0x800, 0x1000},
        {1, 0x2000, 0x1000, 0x1000, 0x100, 0x2000},
    };
    const struct segment_spec all[] = {
        {1, 0x1000, 0x1000, 0x1000, 0x800, 0x9E000}
    };

    make_elf32(0x1000, low, 1);
    put_multiboot1(0);
    add_module("module", 0x44, 4096);
    expect_planned(IMAGE_MULTIBOOT1);
    assert_int_equal(plan.module_gpa[0], MIB);
    carry_out();
    expect_intact();
    assert_in_range(vcpu.gpr[GPR_RBX], 0x8000, GUEST_EBDA);
    free_modules();
    request.module_count = 0;
    make_elf32(0x1000, unsorted, 2);
    expect_planned(IMAGE_MULTIBOOT1);
    carry_out();
    expect_intact();
    assert_in_range(vcpu.gpr[GPR_RBX], 0x4000, GUEST_EBDA);
    make_elf32(0x1000, all, 1);
    expect_planned(IMAGE_MULTIBOOT1);
    assert_false(loader_finish(&request, &ram, &plan, &vcpu));
    assert_string_equal(plan.error, "kernel 'kernel' leaves no room below 640 KiB for 8 KiB of "
                                    "boot information");
}

/* ---- Multiboot 2 ------------------------------------------------------------------------- */

#define MB2_AT 0x800

static u32 mb2_used;

static void begin_multiboot2(void)
{
    mb2_used = 16;
}

static void header_tag(u16 type, u16 flags, const u32 *values, u32 count)
{
    put(MB2_AT + mb2_used, type, 2);
    put(MB2_AT + mb2_used + 2, flags, 2);
    put(MB2_AT + mb2_used + 4, 8 + count * 4, 4);
    for (u32 i = 0; i < count; i++)
        put(MB2_AT + mb2_used + 8 + i * 4, values[i], 4);
    mb2_used = (mb2_used + 8 + count * 4 + 7) & ~7U;
}

static void end_multiboot2(bool with_end)
{
    if (with_end)
        header_tag(0, 0, NULL, 0);
    put(MB2_AT, 0xE85250D6, 4);
    put(MB2_AT + 4, 0, 4);
    put(MB2_AT + 8, mb2_used, 4);
    put(MB2_AT + 12, -(0xE85250D6 + mb2_used), 4);
}

static u64 find_info_tag(u32 type, u32 nth)
{
    u64 info = vcpu.gpr[GPR_RBX], end = info + in_ram(info, 4);
    u64 at = info + 8;

    for (;;) {
        assert_true(at + 8 <= end);
        if (in_ram(at, 4) == type && nth-- == 0)
            return at;
        assert_true(in_ram(at, 4) != 0);
        at = (at + in_ram(at + 4, 4) + 7) & ~7ULL;
    }
}

static void expect_multiboot2_info(void)
{
    u64 info = vcpu.gpr[GPR_RBX], map, end;

    assert_int_equal(vcpu.gpr[GPR_RAX], 0x36D76289);
    assert_int_equal(info % 8, 0);
    assert_string_equal(text_in_ram(find_info_tag(1, 0) + 8), "console=ttyS0");
    assert_int_equal(in_ram(find_info_tag(1, 0) + 4, 4), 8 + sizeof("console=ttyS0"));
    assert_string_equal(text_in_ram(find_info_tag(2, 0) + 8), "Bulkhead");
    for (u32 i = 0; i < request.module_count; i++) {
        u64 tag = find_info_tag(3, i);

        assert_int_equal(in_ram(tag + 8, 4), plan.module_gpa[i]);
        assert_int_equal(in_ram(tag + 12, 4), plan.module_gpa[i] + request.modules[i].size);
        assert_string_equal(text_in_ram(tag + 16), request.modules[i].name);
    }
    assert_int_equal(in_ram(find_info_tag(4, 0) + 8, 4), 639);
    map = find_info_tag(6, 0);
    assert_int_equal(in_ram(map + 4, 4), 16 + 3 * 24);
    assert_int_equal(in_ram(map + 8, 8), 24);
    assert_int_equal(in_ram(map + 16 + 48, 8), MIB);
    assert_int_equal(in_ram(map + 16 + 48 + 16, 4), E820_RAM);
    assert_memory_equal(ram.base + find_info_tag(14, 0) + 8, ram.base + GUEST_ACPI_TABLES, 20);
    assert_int_equal(in_ram(find_info_tag(14, 0) + 4, 4), 28);
    assert_memory_equal(ram.base + find_info_tag(15, 0) + 8, ram.base + GUEST_ACPI_TABLES, 36);
    assert_int_equal(in_ram(find_info_tag(15, 0) + 4, 4), 44);
    assert_int_equal(in_ram(find_info_tag(21, 0) + 8, 4), 0x100000);
    end = find_info_tag(0, 0);
    assert_int_equal(in_ram(end + 4, 4), 8);
    assert_int_equal(end + 8, info + in_ram(info, 4));
}

static void test_multiboot2_elf(void **state)
{
    const u32 wanted[] = {1, 2, 3, 4, 6, 14, 15, 21}, entry[] = {0x100040};

    memset(file + 0x1000, 0x90, 0x1100);
    make_elf64(0xC0100010, usual, 2);
    begin_multiboot2();
    header_tag(1, 0, wanted, ARRAY_SIZE(wanted));
    header_tag(5, 1, wanted, 3); /* framebuffer, optional */
    header_tag(6, 0, NULL, 0);
    header_tag(4, 0, wanted, 1);
    end_multiboot2(true);
    add_module("first", 0x11, 100);
    add_module("empty", 0, 0);
    expect_planned(IMAGE_MULTIBOOT2);
    assert_int_equal(plan.entry, 0x100010);
    carry_out();
    expect_intact();
    expect_multiboot2_info();
    begin_multiboot2();
    header_tag(3, 0, entry, 1);
    end_multiboot2(true);
    expect_planned(IMAGE_MULTIBOOT2);
    assert_int_equal(plan.entry, 0x100040);
    free_modules();
}

static void test_multiboot2_flat(void **state)
{
    const u32 entry[] = {0x100900}, address[] = {0x100800, 0x100000, 0x101000, 0x102000};
    const u32 from_file[] = {0x100800, 0xFFFFFFFF, 0, 0};

    begin_multiboot2();
    header_tag(2, 0, address, 4);
    header_tag(3, 0, entry, 1);
    end_multiboot2(true);
    expect_planned(IMAGE_MULTIBOOT2);
    assert_int_equal(plan.copies[0].gpa, 0x100000);
    assert_ptr_equal(plan.copies[0].from, file);
    assert_int_equal(plan.copies[0].size, 0x1000);
    assert_int_equal(plan.copies[1].size, 0x1000);
    assert_int_equal(plan.entry, 0x100900);
    begin_multiboot2();
    header_tag(2, 0, from_file, 4);
    header_tag(3, 0, entry, 1);
    end_multiboot2(true);
    expect_planned(IMAGE_MULTIBOOT2);
    assert_int_equal(plan.copies[0].gpa, 0x100000);
    assert_int_equal(plan.copies[0].size, sizeof(file));
    begin_multiboot2();
    header_tag(2, 0, address, 4);
    end_multiboot2(true);
    expect_refused("kernel 'kernel' has an address tag but no entry tag");
}

static void refuse_tag(u16 type, const u32 *values, u32 count, const char *error)
{
    make_elf64(0xC0100010, usual, 2);
    begin_multiboot2();
    header_tag(type, 0, values, count);
    end_multiboot2(true);
    expect_refused(error);
    begin_multiboot2();
    header_tag(type, 1, values, count);
    end_multiboot2(true);
    expect_planned(IMAGE_MULTIBOOT2);
}

static void test_multiboot2_refusals(void **state)
{
    const u32 video[] = {1, 7}, odd[] = {77};

    refuse_tag(1, video, 2, "kernel 'kernel' requires Multiboot2 information of type 7");
    refuse_tag(1, odd, 1, "kernel 'kernel' requires Multiboot2 information of type 77");
    refuse_tag(5, video, 2, "kernel 'kernel' requires Multiboot2 header tag 5");
    refuse_tag(99, NULL, 0, "kernel 'kernel' requires Multiboot2 header tag 99");
    begin_multiboot2();
    header_tag(3, 0, NULL, 0);
    end_multiboot2(true);
    expect_refused("kernel 'kernel' has a short entry tag");
    begin_multiboot2();
    end_multiboot2(false);
    expect_refused("kernel 'kernel' has a Multiboot2 header without end");
    begin_multiboot2();
    for (u32 i = 0; i < 63; i++)
        header_tag(6, 0, NULL, 0);
    end_multiboot2(true);
    expect_planned(IMAGE_MULTIBOOT2);
    header_tag(6, 0, NULL, 0);
    put(MB2_AT + 16 + 63 * 8, 6, 2); /* instead of the end, which comes as the 65th */
    put(MB2_AT + 20 + 63 * 8, 8, 4);
    end_multiboot2(true);
    expect_refused("kernel 'kernel' has a Multiboot2 header without end");
    begin_multiboot2();
    end_multiboot2(false);
    put(MB2_AT + 8, 0x7800, 4); /* its end tag behind 32 KiB */
    put(MB2_AT + 12, -(0xE85250D6 + 0x7800), 4);
    expect_refused("kernel 'kernel' has a Multiboot2 header without end");
    begin_multiboot2();
    header_tag(6, 0, NULL, 0);
    end_multiboot2(true);
    put(MB2_AT + 16 + 4, 0xFFFFFFFF, 4);
    expect_refused("kernel 'kernel' has a Multiboot2 header without end");
    put(MB2_AT + 16 + 4, 0, 4);
    expect_refused("kernel 'kernel' has a Multiboot2 header without end");
    put(MB2_AT + 16 + 4, 8, 4);
    request.kernel.size = MB2_AT + 24;
    expect_refused("kernel 'kernel' has a Multiboot2 header without end");
    put(MB2_AT + 4, 4, 4); /* for MIPS */
    put(MB2_AT + 12, -(0xE85250D6 + 4 + mb2_used), 4);
    expect_refused("'kernel' is not a kernel: no bzImage, Multiboot or PVH image");
}

/* ---- PVH --------------------------------------------------------------------------------- */

static const struct segment_spec with_note[] = {
    {1, 0x1000, 0xFFFFFFFF81000000, 0x1000000, 0x800, 0x2000},
    {4, 0x3000, 0,                  0,         0x60,  0x60  },
};

static void make_pvh(void)
{
    make_elf64(0xFFFFFFFF81000000, with_note, 2);
    put(0x3000, 4, 4); /* another owner's note with the same type */
    put(0x3004, 8, 4);
    put(0x3008, 18, 4);
    memcpy(file + 0x300C, "GNU", 4);
    put(0x3018, 4, 4);
    put(0x301C, 8, 4);
    put(0x3020, 18, 4);
    memcpy(file + 0x3024, "Xen", 4);
    put(0x3028, 0x1000100, 8);
}

static void test_pvh(void **state)
{
    u64 info, module, map;

    make_pvh();
    add_module("initrd", 0x33, 4097);
    expect_planned(IMAGE_PVH);
    carry_out();
    expect_intact();
    assert_int_equal(vcpu.rip, 0x1000100);
    assert_int_equal(vcpu.cr0 & 0x80000001, 1);
    info = vcpu.gpr[GPR_RBX];
    assert_int_equal(in_ram(info, 4), 0x336EC578);
    assert_int_equal(in_ram(info + 4, 4), 1);
    assert_int_equal(in_ram(info + 12, 4), 1);
    module = in_ram(info + 16, 8);
    assert_int_equal(in_ram(module, 8), plan.module_gpa[0]);
    assert_int_equal(in_ram(module + 8, 8), 4097);
    assert_string_equal(text_in_ram(in_ram(module + 16, 8)), "initrd");
    assert_string_equal(text_in_ram(in_ram(info + 24, 8)), "console=ttyS0");
    assert_int_equal(in_ram(info + 32, 8), GUEST_ACPI_TABLES);
    map = in_ram(info + 40, 8);
    assert_int_equal(in_ram(info + 48, 4), 3);
    assert_int_equal(in_ram(map + 48, 8), MIB);
    assert_int_equal(in_ram(map + 48 + 8, 8), RAM_SIZE - MIB);
    assert_int_equal(in_ram(map + 48 + 16, 4), E820_RAM);
    free_modules();
}

/* So many notes of 12 bytes before the one that counts. */
static bool identify_behind_notes(u32 count)
{
    enum image_kind kind;

    make_pvh();
    memset(file + 0x3000, 0, 0x4000);
    put(0x3000 + 12 * count, 4, 4);
    put(0x3004 + 12 * count, 8, 4);
    put(0x3008 + 12 * count, 18, 4);
    memcpy(file + 0x300C + 12 * count, "Xen", 4);
    put(0x3010 + 12 * count, 0x1000100, 8);
    put(64 + 56 + 32, 0x4000, 8); /* what the segment of notes has */
    return loader_identify(&request.kernel, &kind);
}

static void test_pvh_many_notes(void **state)
{
    assert_true(identify_behind_notes(255));
    assert_false(identify_behind_notes(256));
}

static void test_pvh_bad_notes(void **state)
{
    enum image_kind kind;

    make_pvh();
    assert_true(loader_identify(&request.kernel, &kind));
    put(0x3004, 0xFFFFFFFF, 4);
    assert_false(loader_identify(&request.kernel, &kind));
    make_pvh();
    put(0x3018, 0xFFFFFFFD, 4);
    assert_false(loader_identify(&request.kernel, &kind));
    make_pvh();
    request.kernel.size = 0x302C; /* within the entry */
    assert_false(loader_identify(&request.kernel, &kind));
    request.kernel.size = sizeof(file);
    put(0x301C, 2, 4); /* an entry of two bytes */
    assert_false(loader_identify(&request.kernel, &kind));
    make_pvh();
    put(56, 64, 2); /* the others are no segments at all */
    assert_true(loader_identify(&request.kernel, &kind));
    put(56, 65, 2);
    assert_false(loader_identify(&request.kernel, &kind));
    make_pvh();
    put(0x3028, 0x900000, 4);
    expect_refused("kernel 'kernel' has its entry at 0x900000, where nothing is loaded");
}

/* ---- the rest ---------------------------------------------------------------------------- */

static void test_little_memory(void **state)
{
    make_bzimage();
    ram.low_size = 512 * KIB;
    expect_refused("kernel 'kernel' needs at least 1 MiB of memory; there are 512 KiB");
}

static void test_not_a_kernel(void **state)
{
    expect_refused("'kernel' is not a kernel: no bzImage, Multiboot or PVH image");
    request.kernel.size = 0;
    expect_refused("'kernel' is not a kernel: no bzImage, Multiboot or PVH image");
    request.module_count = LOADER_MODULES_MAX + 1;
    expect_refused("kernel 'kernel' is given more than 16 modules");
    request.module_count = 0;
    assert_string_equal(image_kind_name(IMAGE_BZIMAGE), "Linux bzImage");
    assert_string_equal(image_kind_name(IMAGE_MULTIBOOT1), "Multiboot 1");
}

/* Every prefix of every kind of image ends in an answer, and reads nothing behind its end. */
static void test_truncated(void **state)
{
    void (*const makers[])(void) = {make_bzimage, make_pvh};

    for (u32 i = 0; i < ARRAY_SIZE(makers); i++) {
        memset(file, 0, sizeof(file));
        makers[i]();
        if (i == 1)
            put_multiboot1(3);
        for (u64 size = 0; size < 0x3100; size++) {
            u8 *exact = malloc(size + (size == 0));
            struct loader_request cut = request;

            memcpy(exact, file, size);
            cut.kernel.data = exact;
            cut.kernel.size = size;
            if (!loader_plan(&cut, &ram, &plan))
                assert_true(plan.error[0] != '\0');
            free(exact);
        }
    }
}

static void test_e820(void **state)
{
    const struct guest_ram large = {.low_size = GUEST_RAM_HOLE, .high_size = 5 * GIB};
    const struct guest_ram tiny = {.low_size = 64 * KIB};
    struct e820_entry map[E820_MAX];

    assert_int_equal(e820_build(&large, map), 4);
    assert_int_equal(map[2].start + map[2].size, GUEST_RAM_HOLE);
    assert_true(map[3].start == 4 * GIB && map[3].size == 5 * GIB && map[3].type == E820_RAM);
    assert_int_equal(e820_build(&tiny, map), 2);
    assert_int_equal(map[0].size, 64 * KIB);
    assert_int_equal(map[1].start, GUEST_EBDA);
}

#define LOADER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOADER_TEST(test_bzimage_state),
        LOADER_TEST(test_bzimage_zero_page),
        LOADER_TEST(test_bzimage_initrd),
        LOADER_TEST(test_bzimage_initrd_does_not_fit),
        LOADER_TEST(test_bzimage_refusals),
        LOADER_TEST(test_bzimage_last_paragraph),
        LOADER_TEST(test_bzimage_alignment),
        LOADER_TEST(test_multiboot1_elf),
        LOADER_TEST(test_multiboot1_flat),
        LOADER_TEST(test_multiboot1_refusals),
        LOADER_TEST(test_elf_segments),
        LOADER_TEST(test_too_many_segments),
        LOADER_TEST(test_entry_above_4_gib),
        LOADER_TEST(test_not_elf),
        LOADER_TEST(test_information_avoids_kernel),
        LOADER_TEST(test_multiboot2_elf),
        LOADER_TEST(test_multiboot2_flat),
        LOADER_TEST(test_multiboot2_refusals),
        LOADER_TEST(test_pvh),
        LOADER_TEST(test_pvh_bad_notes),
        LOADER_TEST(test_pvh_many_notes),
        LOADER_TEST(test_little_memory),
        LOADER_TEST(test_not_a_kernel),
        LOADER_TEST(test_truncated),
        LOADER_TEST(test_e820),
    };

    return cmocka_run_group_tests_name("loader", tests, NULL, NULL);
}
