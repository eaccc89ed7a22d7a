/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "loader/elf.h"

#include "lib/string.h"

enum elf_ident {
    EI_CLASS = 4,
    EI_DATA = 5,
    EI_VERSION = 6,
    EI_NIDENT = 16,
};

enum elf_value {
    ELFCLASS32 = 1,
    ELFCLASS64 = 2,
    ELFDATA2LSB = 1,
    EV_CURRENT = 1,
    ET_EXEC = 2,
    ET_DYN = 3,
    EM_386 = 3,
    EM_X86_64 = 62,
};

struct elf32_header {
    u8 ident[EI_NIDENT];
    u16 type, machine;
    u32 version, entry, phoff, shoff, flags;
    u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf64_header {
    u8 ident[EI_NIDENT];
    u16 type, machine;
    u32 version;
    u64 entry, phoff, shoff;
    u32 flags;
    u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf32_phdr {
    u32 type, offset, vaddr, paddr, filesz, memsz, flags, align;
};

struct elf64_phdr {
    u32 type, flags;
    u64 offset, vaddr, paddr, filesz, memsz, align;
};

_Static_assert(sizeof(struct elf32_header) == 52, "Elf32_Ehdr");
_Static_assert(sizeof(struct elf64_header) == 64, "Elf64_Ehdr");
_Static_assert(sizeof(struct elf32_phdr) == 32, "Elf32_Phdr");
_Static_assert(sizeof(struct elf64_phdr) == 56, "Elf64_Phdr");
_Static_assert(offsetof(struct elf32_header, machine) == offsetof(struct elf64_header, machine),
               "type and machine are found before the class is known");

static bool is_elf(const struct image *image)
{
    static const u8 magic[] = {0x7F, 'E', 'L', 'F'};
    struct elf32_header header;

    if (image->size < sizeof(header) || memcmp(image->data, magic, sizeof(magic)) != 0)
        return false;
    memcpy(&header, image->data, sizeof(header));
    return header.ident[EI_DATA] == ELFDATA2LSB && header.ident[EI_VERSION] == EV_CURRENT &&
           (header.type == ET_EXEC || header.type == ET_DYN) &&
           (header.machine == EM_386 || header.machine == EM_X86_64);
}

static bool open_32(const struct image *image, struct elf *elf)
{
    struct elf32_header header;

    memcpy(&header, image->data, sizeof(header));
    elf->entry = header.entry;
    elf->table = header.phoff;
    elf->count = header.phnum;
    elf->entry_size = header.phentsize;
    return header.phentsize >= sizeof(struct elf32_phdr);
}

static bool open_64(const struct image *image, struct elf *elf)
{
    struct elf64_header header;

    if (image->size < sizeof(header))
        return false;
    memcpy(&header, image->data, sizeof(header));
    elf->is_64 = true;
    elf->entry = header.entry;
    elf->table = header.phoff;
    elf->count = header.phnum;
    elf->entry_size = header.phentsize;
    return header.phentsize >= sizeof(struct elf64_phdr);
}

bool elf_open(const struct image *image, struct elf *elf)
{
    bool opened;

    if (!is_elf(image))
        return false;
    *elf = (struct elf){.data = image->data, .size = image->size};
    if (image->data[EI_CLASS] == ELFCLASS32)
        opened = open_32(image, elf);
    else
        opened = image->data[EI_CLASS] == ELFCLASS64 && open_64(image, elf);
    return opened && elf->count <= ELF_SEGMENTS_MAX &&
           range_within(elf->table, (u64)elf->count * elf->entry_size, elf->size);
}

static struct elf_segment segment_32(const u8 *at)
{
    struct elf32_phdr header;

    memcpy(&header, at, sizeof(header));
    return (struct elf_segment){header.type,   header.offset, header.vaddr, header.paddr,
                                header.filesz, header.memsz,  header.align};
}

static struct elf_segment segment_64(const u8 *at)
{
    struct elf64_phdr header;

    memcpy(&header, at, sizeof(header));
    return (struct elf_segment){header.type,   header.offset, header.vaddr, header.paddr,
                                header.filesz, header.memsz,  header.align};
}

struct elf_segment elf_segment(const struct elf *elf, u32 index)
{
    const u8 *at = elf->data + elf->table + (u64)index * elf->entry_size;

    return elf->is_64 ? segment_64(at) : segment_32(at);
}

bool elf_plan(const struct loader_request *request, const struct guest_ram *ram,
              struct loader_plan *plan)
{
    struct elf elf;

    if (!elf_open(&request->kernel, &elf))
        return loader_refuse(plan, "kernel '%.40s' is no intact ELF executable for x86",
                             request->kernel.name);
    plan->entry = elf.entry;
    for (u32 i = 0; i < elf.count; i++) {
        struct elf_segment segment = elf_segment(&elf, i);

        if (segment.type != PT_LOAD)
            continue;
        if (!loader_add_segment(request, ram, plan, segment.physical_address, segment.memory_size,
                                segment.offset, segment.file_size))
            return false;
        if (range_within(elf.entry - segment.virtual_address, 1, segment.memory_size))
            plan->entry = elf.entry - segment.virtual_address + segment.physical_address;
    }
    if (plan->copy_count == 0)
        return loader_refuse(plan, "kernel '%.40s' has nothing to load", request->kernel.name);
    return true;
}
