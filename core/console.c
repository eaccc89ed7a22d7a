/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/console.h"

#include "mm/pool.h"

void console_init(struct console *console)
{
    *console = (struct console){0};
}

void console_free(struct console *console)
{
    for (size_t i = 0; i < CONSOLE_RING_PAGES; i++)
        pool_free(console->pages[i], 1);
    *console = (struct console){.watched = console->watched};
}

static char **page_of(struct console *console, u64 position)
{
    return &console->pages[position % CONSOLE_RING_SIZE / PAGE_SIZE];
}

void console_put(struct console *console, u8 byte)
{
    char **page = page_of(console, console->written);

    if (!*page)
        *page = pool_alloc(1);
    if (!*page) {
        console->dropped++;
        return;
    }
    (*page)[console->written++ % PAGE_SIZE] = byte;
}

size_t console_read(const struct console *console, u64 *position, char *to, size_t size)
{
    size_t count = 0;

    if (console->written > CONSOLE_RING_SIZE)
        *position = MAX(*position, console->written - CONSOLE_RING_SIZE);
    while (count < size && *position < console->written) {
        to[count++] =
            console->pages[*position % CONSOLE_RING_SIZE / PAGE_SIZE][*position % PAGE_SIZE];
        (*position)++;
    }
    return count;
}

bool console_type(struct console *console, u8 byte)
{
    if (console->input_head - console->input_tail == CONSOLE_INPUT_SIZE)
        return false;
    console->input[console->input_head++ % CONSOLE_INPUT_SIZE] = byte;
    return true;
}
