/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/guest_port.h"

#include "core/host.h"
#include "core/port.h"
#include "drivers/cpu.h"
#include "drivers/uart.h"
#include "lib/string.h"

#define CHUNK       512
#define CHUNKS_MAX  2  /* a poll */
#define TYPED_MAX   64 /* bytes a poll */
#define NOTICE_SIZE 48
#define AHEAD_MAX   32768         /* that a guest may print ahead of the line */
#define PATIENCE_NS 1000000000ULL /* with a line that stands still */

static struct guest_port {
    struct port *port;
    u16 address;
    struct vm *vm; /* NULL: nobody's */
    u64 shown;     /* number of the next byte that goes out */
    u64 progress;  /* TSC when the line last took any */
} guest_ports[PORTS_MAX];

static struct guest_port *find(const struct vm *vm)
{
    for (u32 i = 0; i < PORTS_MAX; i++) {
        if (guest_ports[i].vm == vm)
            return &guest_ports[i];
    }
    return NULL;
}

void guest_port_detach(struct vm *vm)
{
    struct guest_port *guest = find(vm);

    if (guest == NULL)
        return;
    guest->vm = NULL;
    vm->console.watchers--;
    vm_pace(vm, 0);
}

/* The entry of a port that is open already or can be opened. */
static struct guest_port *open_port(u16 address, u32 baud, const char **problem)
{
    struct guest_port *guest = guest_ports;

    while (guest < guest_ports + PORTS_MAX && guest->port != NULL && guest->address != address)
        guest++;
    *problem = "is one port too many";
    if (guest == guest_ports + PORTS_MAX)
        return NULL;
    *problem = "is another partition's";
    if (guest->vm != NULL)
        return NULL;
    if (guest->port == NULL)
        guest->port = port_open(address, baud, problem);
    guest->address = address;
    return guest->port != NULL ? guest : NULL;
}

bool guest_port_attach(struct vm *vm, char error[VM_ERROR_SIZE])
{
    const char *name = vm->config.console, *problem = "is no port";
    struct guest_port *guest = NULL;
    u16 address;
    u32 baud;

    guest_port_detach(vm);
    if (name[0] == '\0')
        return true;
    if (console_parse(name, &address, &baud))
        guest = open_port(address, baud, &problem);
    if (guest == NULL) {
        snprintf(error, VM_ERROR_SIZE, "'%s': console: %s %s", vm->config.name, name, problem);
        return false;
    }
    guest->vm = vm;
    guest->shown = vm->console.written;
    guest->progress = rdtsc();
    vm->console.watchers++;
    return true;
}

static void notice(struct port *port, u64 lost)
{
    char text[NOTICE_SIZE];

    snprintf(text, sizeof(text), "\r\n[%lu bytes dropped]\r\n", lost);
    port_write(port, text, strlen(text));
}

/* True when there may be more. */
static bool pass_output(struct guest_port *guest)
{
    struct vm *vm = guest->vm;
    char chunk[CHUNK];

    for (u32 i = 0; i < CHUNKS_MAX && port_room(guest->port) >= CHUNK + NOTICE_SIZE; i++) {
        u64 before = guest->shown;
        size_t size;

        spin_lock(&vm->lock);
        size = console_read(&vm->console, &guest->shown, chunk, sizeof(chunk));
        spin_unlock(&vm->lock);
        if (size == 0)
            return false;
        if (guest->shown - size > before)
            notice(guest->port, guest->shown - size - before);
        port_write(guest->port, chunk, size);
        guest->progress = rdtsc();
        vm_pace(vm, guest->shown + AHEAD_MAX);
    }
    if (rdtsc() - guest->progress > host_ns_to_tsc(PATIENCE_NS))
        vm_pace(vm, 0);
    return true;
}

/* A guest that is off takes nothing, and nothing waits for it. True when there may be more. */
static bool pass_input(struct guest_port *guest)
{
    struct vm *vm = guest->vm;
    bool off = vm->state == VM_STOPPED || vm->state == VM_CRASHED;
    u32 room = TYPED_MAX, count = 0;
    char byte;

    if (!off) {
        spin_lock(&vm->lock);
        room = MIN(room, CONSOLE_INPUT_SIZE - (vm->console.input_head - vm->console.input_tail));
        spin_unlock(&vm->lock);
    }
    if (!off && vm->state != VM_RUNNING)
        return false;
    for (; count < room && port_read(guest->port, &byte, 1) == 1; count++)
        vm_input(vm, (u8)byte);
    return count == TYPED_MAX;
}

bool guest_ports_poll(void)
{
    bool soon = false;

    for (u32 i = 0; i < PORTS_MAX; i++) {
        if (guest_ports[i].vm == NULL)
            continue;
        soon |= pass_input(&guest_ports[i]);
        soon |= pass_output(&guest_ports[i]);
    }
    return soon;
}
