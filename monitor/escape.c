/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "monitor/escape.h"

#define CONTROL_MASK 0x1F

enum escape_verdict escape_byte(struct escape *escape, u8 byte, u64 now)
{
    bool armed = escape->armed;

    escape->armed = !armed && byte == escape->byte;
    if (escape->armed) {
        escape->deadline = now + escape->patience;
        return ESCAPE_WAIT;
    }
    return armed && byte != escape->byte ? ESCAPE_LEAVE : ESCAPE_PASS;
}

bool escape_expired(struct escape *escape, u64 now)
{
    if (!escape->armed || (s64)(now - escape->deadline) < 0)
        return false;
    escape->armed = false;
    return true;
}

bool escape_parse(const char *text, u8 *byte)
{
    if (text[0] != '^' || text[1] < '@' || text[1] > '~' || text[2] != '\0')
        return false;
    *byte = (u8)text[1] & CONTROL_MASK;
    return true;
}
