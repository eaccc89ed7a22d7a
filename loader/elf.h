/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_LOADER_ELF_H
#define BULKHEAD_LOADER_ELF_H

/* ELF32 and ELF64 executables for x86 (System V ABI, "Object Files" and "Program Loading"),
 * read from a file that nobody vouches for. */

#include "loader/formats.h"

enum elf_segment_type {
    PT_LOAD = 1,
    PT_NOTE = 4,
};

struct elf {
    const u8 *data;
    u64 size;
    bool is_64;
    u64 entry; /* as the header says, usually virtual */
    u64 table; /* offset of the program headers, which lie in the file */
    u32 count;
    u32 entry_size;
};

/* A program header of either class. */
struct elf_segment {
    u32 type;
    u64 offset, virtual_address, physical_address, file_size, memory_size, align;
};

/* No kernel has more, and to look at 65,535 of them takes long. */
#define ELF_SEGMENTS_MAX 64

/* False when `image` is no little-endian ELF executable for x86 with its program headers, at most
 * ELF_SEGMENTS_MAX, in the file. */
bool elf_open(const struct image *image, struct elf *elf);

/* Program header `index`, which is below elf->count; its values are not checked. */
struct elf_segment elf_segment(const struct elf *elf, u32 index);

/* Adds every PT_LOAD segment to the plan at its physical address, and sets plan->entry to the
 * physical address of the ELF entry. */
bool elf_plan(const struct loader_request *request, const struct guest_ram *ram,
              struct loader_plan *plan);

#endif
