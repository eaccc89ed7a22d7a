/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MM_SECTIONS_H
#define BULKHEAD_MM_SECTIONS_H

/* Symbols of linker.ld: the image's page-aligned parts. Their addresses are the values. */

#include "mm/pool.h"

extern char image_start[], image_end[]; /* physical: all that GRUB loaded, bss included */
extern char text_start[], text_end[];
extern char rodata_start[], rodata_end[];
extern char data_start[], data_end[]; /* bss included */

static inline paddr_t image_physical(const void *address)
{
    return (u64)address - KERNEL_BASE;
}

#endif
