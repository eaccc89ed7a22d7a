/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/console.h"

#include "mm/pool.h"

bool console_prepare(struct console *console)
{
    if (!console->ring)
        console->ring = pool_alloc(CONSOLE_RING_PAGES);
    return console->ring != NULL;
}

void console_free(struct console *console)
{
    pool_free(console->ring, CONSOLE_RING_PAGES);
    *console = (struct console){.watchers = console->watchers};
}

void console_put(struct console *console, u8 byte)
{
    console->ring[console->written++ % CONSOLE_RING_SIZE] = (char)byte;
}

static u64 oldest(const struct console *console)
{
    return console->written > CONSOLE_RING_SIZE ? console->written - CONSOLE_RING_SIZE : 0;
}

u64 console_lost(const struct console *console)
{
    return MAX(console->shown, oldest(console)) - console->shown;
}

size_t console_read(const struct console *console, u64 *position, char *to, size_t size)
{
    size_t count = 0;

    *position = MAX(*position, oldest(console));
    while (count < size && *position < console->written)
        to[count++] = console->ring[(*position)++ % CONSOLE_RING_SIZE];
    return count;
}

bool console_type(struct console *console, u8 byte)
{
    if (console->input_head - console->input_tail == CONSOLE_INPUT_SIZE)
        return false;
    console->input[console->input_head++ % CONSOLE_INPUT_SIZE] = byte;
    return true;
}
