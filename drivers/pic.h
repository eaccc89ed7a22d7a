/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DRIVERS_PIC_H
#define BULKHEAD_DRIVERS_PIC_H

#include "lib/types.h"

/* Masks the pair of 8259A and moves its vectors to `first_vector`.. + 15 (a multiple of 8), where
 * a spurious interrupt does no harm (Intel 8259A data sheet, initialization command words).
 * Harmless where there is none. */
void host_pic_disable(u8 first_vector);

#endif
