/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "loader/e820.h"

static u32 add(struct e820_entry *entries, u32 count, u64 start, u64 end, u32 type)
{
    if (start >= end)
        return count;
    entries[count] = (struct e820_entry){.start = start, .size = end - start, .type = type};
    return count + 1;
}

u32 e820_build(const struct guest_ram *ram, struct e820_entry entries[E820_MAX])
{
    u32 count = 0;

    count = add(entries, count, 0, MIN(ram->low_size, GUEST_EBDA), E820_RAM);
    count = add(entries, count, GUEST_EBDA, MIB, E820_RESERVED);
    count = add(entries, count, MIB, ram->low_size, E820_RAM);
    return add(entries, count, GUEST_RAM_HIGH, GUEST_RAM_HIGH + ram->high_size, E820_RAM);
}
