/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_LOADER_FORMATS_H
#define BULKHEAD_LOADER_FORMATS_H

/* What the image formats share among themselves; not for use outside of loader/. */

#include "loader/e820.h"
#include "loader/loader.h"

struct image_format {
    const char *name;
    /* True when the image has the format's magic; says nothing about the rest. */
    bool (*identify)(const struct image *image);
    bool (*plan)(const struct loader_request *request, const struct guest_ram *ram,
                 struct loader_plan *plan);
    bool (*finish)(const struct loader_request *request, const struct guest_ram *ram,
                   struct loader_plan *plan, struct vcpu_state *state);
};

extern const struct image_format bzimage_format;
extern const struct image_format multiboot1_format;
extern const struct image_format multiboot2_format;
extern const struct image_format pvh_format;

#define GUEST_PAGE_SIZE 4096ULL
#define LOADER_NAME     "Bulkhead"
#define LOADER_NOWHERE  UINT64_MAX
#define GUEST_LOW_START 0x1000ULL /* the first page is left to the guest's real mode */

/* The little-endian word there, in a single load. */
static inline u32 loader_word(const u8 *at)
{
    u32 word;

    __builtin_memcpy(&word, at, sizeof(word));
    return word;
}

/* Sets plan->error; returns false, so that callers can return it. */
bool loader_refuse(struct loader_plan *plan, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A size in words, e.g. "12 MiB"; rounded up to KiB or MiB. */
struct size_text {
    char text[24];
};
struct size_text loader_size(u64 size);

/* All RAM of the guest, in bytes. */
static inline u64 loader_ram_size(const struct guest_ram *ram)
{
    return ram->low_size + ram->high_size;
}

/* True where [gpa, gpa + size) is free RAM by the map of e820_build. */
bool loader_is_ram(const struct guest_ram *ram, u64 gpa, u64 size);

/* True where an entry of the plan has a byte in [gpa, gpa + size), which does not wrap. */
bool loader_overlaps(const struct loader_plan *plan, u64 gpa, u64 size);

/* Adds a segment of the kernel: `file_size` bytes at `offset` of the image, then zeros up to
 * `memory_size`. Refuses what is not in the image, not in free RAM, or over another segment. */
bool loader_add_segment(const struct loader_request *request, const struct guest_ram *ram,
                        struct loader_plan *plan, u64 gpa, u64 memory_size, u64 offset,
                        u64 file_size);

/* Refuses an entry point that is in none of the kernel's pieces or above 4 GiB. */
bool loader_check_entry(const struct loader_request *request, struct loader_plan *plan);

/* Adds an entry whose place is known to be good; refuses when the plan is full. */
bool loader_add_copy(struct loader_plan *plan, u64 gpa, const u8 *from, u64 size);

/* The lowest multiple of `align` from `start` on where `size` bytes end by `limit` and overlap no
 * entry of the plan; LOADER_NOWHERE when there is none. */
u64 loader_first_fit(const struct loader_plan *plan, u64 start, u64 limit, u64 size, u64 align);

/* Gives every module of the request its page-aligned place behind the kernel, or else wherever
 * there is room above 1 MiB and below 4 GiB. */
bool loader_place_modules(const struct loader_request *request, const struct guest_ram *ram,
                          struct loader_plan *plan);

/* The address fields of a Multiboot header, for images that are not ELF (Multiboot specification
 * 0.6.96, section 3.1.3). */
struct flat_addresses {
    u32 header;
    u32 load;
    u32 load_end; /* 0: to the end of the image */
    u32 bss_end;  /* 0: no BSS */
};

bool loader_add_flat(const struct loader_request *request, const struct guest_ram *ram,
                     struct loader_plan *plan, u64 header_offset,
                     const struct flat_addresses *addresses);

/* Boot information under construction, in low memory where the plan has nothing. */
struct info_area {
    u8 *base;
    u64 gpa;
    u64 size;
    u64 used;
    bool full; /* something did not fit; all later puts do nothing */
};

/* Room for the command line, all names and `fixed` bytes more. */
bool info_open(struct info_area *area, const struct loader_request *request,
               const struct guest_ram *ram, struct loader_plan *plan, u64 fixed);

/* Appends, aligned to `align`; returns the guest-physical address. */
u64 info_put(struct info_area *area, const void *data, u64 size, u64 align);
u64 info_put_text(struct info_area *area, const char *text);

/* False, with plan->error set, where something did not fit. */
bool info_close(const struct info_area *area, struct loader_plan *plan);

#endif
