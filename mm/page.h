/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MM_PAGE_H
#define BULKHEAD_MM_PAGE_H

#include "lib/types.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096ULL
#define CHUNK_SIZE (2 * MIB) /* the unit in which memory has owners */
#define HUGE_SIZE  (1 * GIB)

#define PAGES_PER_CHUNK (CHUNK_SIZE / PAGE_SIZE)

#endif
