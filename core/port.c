/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/port.h"

#include "core/cpu.h"
#include "core/host.h"
#include "core/interrupts.h"
#include "drivers/ioapic.h"
#include "drivers/uart.h"
#include "lib/spinlock.h"
#include "lib/string.h"
#include "mm/pool.h"

#define FIRST_TRANSMIT_SIZE 65536
#define FIRST_RECEIVE_SIZE  16384
#define OTHER_SIZE          4096 /* of each of the rings, one page */
#define ROUNDS_MAX          8    /* of looking at all UARTs in one interrupt */

/* Sizes are powers of two, as heads and tails run free. */
struct ring {
    char *bytes;
    u32 size, head, tail;
};

struct port {
    struct spinlock lock; /* covers all below but the receive ring's tail, which is CPU 0's */
    struct host_uart uart;
    bool interrupts, transmitting, held; /* what is asked of the UART; held: not to receive */
    struct ring transmit, receive;
};

static struct port ports[PORTS_MAX];
static u32 port_count;
static bool interrupts_usable;
static char first_transmit[FIRST_TRANSMIT_SIZE], first_receive[FIRST_RECEIVE_SIZE];

static u32 used(const struct ring *ring)
{
    return ring->head - ring->tail;
}

static void set_interrupts(struct port *port)
{
    if (port->interrupts)
        host_uart_enable_interrupts(&port->uart, !port->held, port->transmitting);
}

/* Sends what fits now. */
static void drain(struct port *port)
{
    struct ring *ring = &port->transmit;

    while (used(ring) > 0) {
        u32 at = ring->tail % ring->size;
        u32 run = MIN(used(ring), ring->size - at);
        size_t sent = host_uart_try_write(&port->uart, &ring->bytes[at], run);

        ring->tail += sent;
        if (sent == 0)
            break;
    }
    if (port->transmitting != (used(ring) > 0)) {
        port->transmitting = used(ring) > 0;
        set_interrupts(port);
    }
}

static void send_oldest(struct port *port, u32 count)
{
    struct ring *ring = &port->transmit;
    u32 at = ring->tail % ring->size;

    count = MIN(count, ring->size - at);
    host_uart_write(&port->uart, &ring->bytes[at], count);
    ring->tail += count;
}

static void hold(struct port *port, bool held)
{
    port->held = held;
    host_uart_set_rts(&port->uart, !held);
    set_interrupts(port);
}

static void receive(struct port *port)
{
    struct ring *ring = &port->receive;
    char bytes[16];
    size_t count;

    while (!port->held && (count = host_uart_read(&port->uart, bytes, sizeof(bytes))) > 0) {
        for (size_t i = 0; i < count; i++)
            ring->bytes[ring->head++ % ring->size] = bytes[i];
        if (ring->size - used(ring) < sizeof(bytes))
            hold(port, true);
    }
}

void port_write(struct port *port, const char *text, size_t size)
{
    struct ring *ring = &port->transmit;

    spin_lock(&port->lock);
    while (size > 0) {
        u32 at = ring->head % ring->size, taken = used(ring);
        u32 run = (u32)MIN(size, ring->size - MAX(taken, at));

        if (taken == ring->size)
            send_oldest(port, port->uart.fifo_depth);
        memcpy(&ring->bytes[at], text, run);
        ring->head += run;
        text += run;
        size -= run;
    }
    /* Else the UART's interrupt does. */
    if (!port->interrupts || !port->transmitting)
        drain(port);
    spin_unlock(&port->lock);
}

size_t port_room(const struct port *port)
{
    return port->transmit.size - used(&port->transmit);
}

size_t port_read(struct port *port, char *to, size_t size)
{
    struct ring *ring = &port->receive;
    size_t count = 0;

    while (count < size && ring->tail != ring->head)
        to[count++] = ring->bytes[ring->tail++ % ring->size];
    if (port->held && used(ring) <= ring->size / 2) {
        spin_lock(&port->lock);
        hold(port, false);
        receive(port);
        spin_unlock(&port->lock);
    }
    return count;
}

void port_flush(struct port *port)
{
    while (used(&port->transmit) > 0)
        send_oldest(port, used(&port->transmit));
    host_uart_drain(&port->uart);
}

void port_write_unlocked(struct port *port, const char *text, size_t size)
{
    port_flush(port);
    host_uart_write(&port->uart, text, size);
}

/* True when the UART had something to tell. */
static bool serve(struct port *port)
{
    bool pending;

    spin_lock(&port->lock);
    pending = host_uart_acknowledge(&port->uart);
    receive(port);
    drain(port);
    spin_unlock(&port->lock);
    return pending;
}

/* COM1 and COM3, COM2 and COM4 share a line that is edge-triggered: the next edge comes only after
 * none of them asked for anything. */
static void on_interrupt(struct cpu *cpu)
{
    bool pending = true;

    for (u32 round = 0; pending && round < ROUNDS_MAX; round++) {
        pending = false;
        for (u32 i = 0; i < port_count; i++)
            pending |= ports[i].interrupts && serve(&ports[i]);
    }
    cpu->reschedule = true;
}

static void use_interrupts(struct port *port)
{
    u8 irq = port->uart.irq;

    if (irq >= ACPI_ISA_IRQS ||
        !host_ioapic_route(&host.acpi.isa_irqs[irq], VECTOR_UART, cpus[0]->apic_id))
        return;
    spin_lock(&port->lock);
    port->interrupts = true;
    set_interrupts(port);
    drain(port);
    spin_unlock(&port->lock);
    host_ioapic_mask(host.acpi.isa_irqs[irq].gsi, false);
}

void ports_use_interrupts(void)
{
    interrupts_set_handler(VECTOR_UART, on_interrupt);
    interrupts_usable = true;
    for (u32 i = 0; i < port_count; i++)
        use_interrupts(&ports[i]);
}

bool ports_poll(void)
{
    bool polled = false;

    for (u32 i = 0; i < port_count; i++) {
        if (ports[i].interrupts && !ports[i].transmitting)
            continue;
        serve(&ports[i]);
        polled |= !ports[i].interrupts;
    }
    return polled;
}

static bool get_rings(struct port *port)
{
    char *pages;

    if (port_count == 0) {
        port->transmit = (struct ring){.bytes = first_transmit, .size = FIRST_TRANSMIT_SIZE};
        port->receive = (struct ring){.bytes = first_receive, .size = FIRST_RECEIVE_SIZE};
        return true;
    }
    pages = pool_alloc(2);
    port->transmit = (struct ring){.bytes = pages, .size = OTHER_SIZE};
    port->receive = (struct ring){.bytes = pages + OTHER_SIZE, .size = OTHER_SIZE};
    return pages != NULL;
}

struct port *port_open(u16 address, u32 baud, const char **problem)
{
    struct port *port = &ports[port_count];

    for (u32 i = 0; i < port_count; i++) {
        if (ports[i].uart.port != address)
            continue;
        *problem = "is in use";
        return NULL;
    }
    *problem = "has no UART that works";
    if (port_count == PORTS_MAX || !host_uart_init(&port->uart, address, baud))
        return NULL;
    *problem = "has no memory";
    if (!get_rings(port))
        return NULL;
    port_count++;
    if (interrupts_usable)
        use_interrupts(port);
    return port;
}
