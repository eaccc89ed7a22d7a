/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/terminal.h"

#include "core/port.h"

static struct port *port; /* NULL: there is none */

bool terminal_init(u16 address, u32 baud)
{
    const char *problem;

    port = port_open(address, baud, &problem);
    return port != NULL;
}

void terminal_write(const char *text, size_t size)
{
    if (port != NULL)
        port_write(port, text, size);
}

size_t terminal_room(void)
{
    return port != NULL ? port_room(port) : TERMINAL_NO_LIMIT;
}

size_t terminal_read(char *to, size_t size)
{
    return port != NULL ? port_read(port, to, size) : 0;
}

void terminal_write_unlocked(const char *text, size_t size)
{
    if (port != NULL)
        port_write_unlocked(port, text, size);
}

void terminal_flush(void)
{
    if (port != NULL)
        port_flush(port);
}
