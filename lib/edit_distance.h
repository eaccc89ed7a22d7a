/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_LIB_EDIT_DISTANCE_H
#define BULKHEAD_LIB_EDIT_DISTANCE_H

#include "lib/types.h"

#define EDIT_DISTANCE_MAX 20 /* letters of `b` */

/* How many letters must be added, left out or changed to make the first `size` of `a`, upper or
 * lower case, into `b`, which is in lower case. */
size_t edit_distance(const char *a, size_t size, const char *b);

#endif
