/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/console.h"

#include "lib/string.h"
#include "mm/pool.h"

bool console_prepare(struct console *console)
{
    if (console->space == 0)
        console->size = CONSOLE_RING_SIZE;
    if (console_must_grow(console))
        console_grow(console, pool_alloc(1));
    return console->space > 0;
}

void console_free(struct console *console)
{
    for (u32 i = 0; i < CONSOLE_RING_PAGES; i++)
        pool_free(console->pages[i], 1);
    *console = (struct console){.watchers = console->watchers};
}

void console_grow(struct console *console, void *page)
{
    if (page) {
        console->pages[console->space / CONSOLE_PAGE_SIZE] = page;
        console->space += CONSOLE_PAGE_SIZE;
    } else {
        console->size = console->space;
    }
}

/* The bytes from there on that lie in one page, `*run` of them. */
static char *bytes_at(const struct console *console, u64 position, size_t *run)
{
    u32 at = position % console->size;

    *run = CONSOLE_PAGE_SIZE - at % CONSOLE_PAGE_SIZE;
    return &console->pages[at / CONSOLE_PAGE_SIZE][at % CONSOLE_PAGE_SIZE];
}

void console_put(struct console *console, u8 byte)
{
    size_t run;

    if (console->space < console->size && console->written >= console->space)
        console->dropped++;
    else
        *bytes_at(console, console->written++, &run) = (char)byte;
}

static u64 oldest(const struct console *console)
{
    return console->written > console->size ? console->written - console->size : 0;
}

u64 console_lost(const struct console *console)
{
    return console->dropped + MAX(console->shown, oldest(console)) - console->shown;
}

size_t console_read(const struct console *console, u64 *position, char *to, size_t size)
{
    size_t count = 0;

    *position = MAX(*position, oldest(console));
    while (count < size && *position < console->written) {
        size_t run, left = (size_t)MIN(size - count, console->written - *position);
        const char *from = bytes_at(console, *position, &run);

        run = MIN(run, left);
        memcpy(&to[count], from, run);
        count += run;
        *position += run;
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
