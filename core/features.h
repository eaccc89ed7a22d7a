/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_FEATURES_H
#define BULKHEAD_CORE_FEATURES_H

#include "core/host.h"

/* Fills in what CPUID says of the calling CPU; xsave_size is right after features_enable. */
void features_probe(struct cpu_features *features);

/* Turns on NX, write-protect, SMEP, SMAP, global pages and XSAVE, each where there is one, on the
 * calling CPU: before it uses page tables with NX. */
void features_enable(struct cpu_features *features);

#endif
