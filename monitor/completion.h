/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MONITOR_COMPLETION_H
#define BULKHEAD_MONITOR_COMPLETION_H

#include "lib/types.h"

/* The next word that may stand where the word at byte `word` of `line` begins: a command, an
 * option, a partition, a key or an image, as the words before it ask for; see line_editor_ops.
 * `context` is not used. CPU 0 only. */
const char *completion_candidate(void *context, const char *line, size_t word, const void **cursor);

#endif
