/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_LIB_GUEST_RAM_H
#define BULKHEAD_LIB_GUEST_RAM_H

#include "lib/arith.h"

/* A guest's RAM as loaders, table builders and the page walker see it: the bytes at
 * guest-physical address A are at base + A. RAM starts at 0 and leaves a hole from
 * GUEST_RAM_HOLE to 4 GiB for devices; what does not fit below the hole goes on at 4 GiB.
 * The guest may change any of it at any time, so whoever decides on a value copies it first. */
#define GUEST_RAM_HOLE 0xC0000000ULL
#define GUEST_RAM_HIGH 0x100000000ULL

struct guest_ram {
    u8 *base;
    u64 low_size;  /* bytes from 0, at most GUEST_RAM_HOLE */
    u64 high_size; /* bytes from GUEST_RAM_HIGH */
};

/* The host's address of `size` bytes at `gpa`, or NULL unless all of them are RAM. */
static inline void *guest_ram_at(const struct guest_ram *ram, u64 gpa, u64 size)
{
    if (range_within(gpa, size, ram->low_size))
        return ram->base + gpa;
    if (gpa >= GUEST_RAM_HIGH && range_within(gpa - GUEST_RAM_HIGH, size, ram->high_size))
        return ram->base + gpa;
    return NULL;
}

#endif
