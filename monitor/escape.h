/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MONITOR_ESCAPE_H
#define BULKHEAD_MONITOR_ESCAPE_H

/* The way out of a console: the escape byte leaves it, the same byte twice sends it once. Pure. */

#include "lib/types.h"

struct escape {
    u8 byte;
    bool armed;
    u64 deadline; /* while armed: when to leave without waiting for more */
    u64 patience; /* ticks to wait for the second one */
};

enum escape_verdict {
    ESCAPE_PASS, /* the byte is the guest's */
    ESCAPE_WAIT, /* taken: it was the first escape byte */
    ESCAPE_LEAVE /* leave; the byte is not the guest's, what follows an escape is the monitor's */
};

enum escape_verdict escape_byte(struct escape *escape, u8 byte, u64 now);

/* True, once, when the second byte was waited for long enough. */
bool escape_expired(struct escape *escape, u64 now);

/* The byte that "^]" or "^A" names; false when `text` is no such name. */
bool escape_parse(const char *text, u8 *byte);

#endif
