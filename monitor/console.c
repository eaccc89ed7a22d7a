/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "monitor/console.h"

#include "core/host.h"
#include "core/lifecycle.h"
#include "core/terminal.h"
#include "lib/string.h"
#include "monitor/escape.h"

#include <stdarg.h>

#define DEFAULT_ESCAPE  "^]"
#define ESCAPE_SIZE     8
#define PATIENCE_NS     500000000ULL  /* for the second Ctrl-] */
#define NO_TAKER_NS     1000000000ULL /* after which a guest is not expected to read */
#define TYPED_SIZE      4096          /* bytes that wait beside those in the console */
#define QUEUED_MAX      2048          /* in the terminal's ring, to be quick about Ctrl-] */
#define CHUNK           512
#define CHUNKS_A_POLL   2
#define AHEAD_MAX       32768 /* that a guest may print ahead of what is shown */
#define NOTICE_SIZE     256
#define CARET_TO_LETTER 0x40

static struct {
    struct vm *vm;
    struct escape escape;
    enum vm_state state; /* last one told */
    u64 starts;
    u64 taken;    /* TSC when the guest last took a byte or was not behind */
    u64 progress; /* TSC when the terminal last took a byte of the guest's */
    u32 head, tail;
    u8 typed[TYPED_SIZE];
} watch;

static u64 now(void)
{
    return __builtin_ia32_rdtsc();
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line of the monitor's between the guest's. */
static void say(const char *format, ...)
{
    char text[NOTICE_SIZE] = "\r\n[";
    size_t start = strlen(text), size;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text + start, sizeof(text) - start - 3, format, arguments);
    va_end(arguments);
    size = strlen(text);
    for (size_t i = start; i < size; i++) {
        if ((u8)text[i] < ' ')
            text[i] = '?';
    }
    terminal_write(text, size);
    terminal_write("]\r\n", 3);
}

static u8 escape_key(void)
{
    char text[ESCAPE_SIZE];
    u8 byte = 0;

    if (!cmdline_get(host.boot.cmdline, "escape", text, sizeof(text)) || !escape_parse(text, &byte))
        escape_parse(DEFAULT_ESCAPE, &byte);
    return byte;
}

static void tell_state(void)
{
    const struct vm *vm = watch.vm;
    const char *message = vm->message;

    watch.state = vm->state;
    watch.starts = vm->starts;
    if (vm->state == VM_RUNNING)
        say("%s runs", vm->config.name);
    else
        say("%s is %s%s%s", vm->config.name, vm_state_name(vm), message[0] != '\0' ? ": " : "",
            message);
}

void watch_begin(struct vm *vm)
{
    u8 key = escape_key();

    memset(&watch, 0, sizeof(watch));
    watch.vm = vm;
    watch.escape.byte = key;
    watch.escape.patience = host_ns_to_tsc(PATIENCE_NS);
    watch.taken = watch.progress = now();
    watch.state = vm->state;
    watch.starts = vm->starts;
    vm->console.watchers++;
    say("console of %s; Ctrl-%c leaves, twice sends it", vm->config.name, key | CARET_TO_LETTER);
    if (vm->state != VM_RUNNING)
        tell_state();
}

/* ---- typed bytes ---- */

static u32 typed_count(void)
{
    return watch.head - watch.tail;
}

static bool guest_reads(void)
{
    return watch.vm->state != VM_STOPPED && watch.vm->state != VM_CRASHED;
}

bool watch_ready(void)
{
    return typed_count() < TYPED_SIZE || now() - watch.taken > host_ns_to_tsc(NO_TAKER_NS);
}

bool watch_byte(u8 byte)
{
    enum escape_verdict verdict = escape_byte(&watch.escape, byte, now());

    if (verdict != ESCAPE_PASS)
        return verdict == ESCAPE_WAIT;
    if (guest_reads() && typed_count() < TYPED_SIZE)
        watch.typed[watch.head++ % TYPED_SIZE] = byte;
    else
        terminal_write("\a", 1);
    return true;
}

static u32 console_space(struct vm *vm)
{
    u32 space;

    spin_lock(&vm->lock);
    space = CONSOLE_INPUT_SIZE - (vm->console.input_head - vm->console.input_tail);
    spin_unlock(&vm->lock);
    return space;
}

/* Nobody else types here, so the space can only have grown when it is used. */
static void pass_typed(void)
{
    u32 count = watch.vm->state == VM_RUNNING ? MIN(typed_count(), console_space(watch.vm)) : 0;

    if (!guest_reads())
        watch.tail = watch.head;
    if (count > 0 || typed_count() == 0)
        watch.taken = now();
    for (; count > 0 && typed_count() > 0; count--)
        vm_input(watch.vm, watch.typed[watch.tail++ % TYPED_SIZE]);
}

/* ---- output ---- */

/* The next piece of output; *dropped is how much went by unseen before it. */
static size_t take_output(char *to, size_t size, u64 *dropped)
{
    struct console *console = &watch.vm->console;
    size_t count;
    u64 position;

    spin_lock(&watch.vm->lock);
    if (console->shown > console->written)
        console->shown = 0;
    position = console->shown;
    count = console_read(console, &console->shown, to, size);
    *dropped = console->shown - count - position;
    spin_unlock(&watch.vm->lock);
    return count;
}

/* True when all has been shown. */
static bool pass_output(size_t idle_room)
{
    char chunk[CHUNK];
    u64 dropped;

    for (u32 i = 0; i < CHUNKS_A_POLL && terminal_room() + QUEUED_MAX >= idle_room + CHUNK; i++) {
        size_t size = take_output(chunk, sizeof(chunk), &dropped);

        if (dropped > 0)
            say("%llu bytes dropped", (unsigned long long)dropped);
        if (size == 0)
            return true;
        terminal_write(chunk, size);
        watch.progress = now();
        vm_pace(watch.vm, watch.vm->console.shown + AHEAD_MAX);
    }
    if (now() - watch.progress > host_ns_to_tsc(NO_TAKER_NS))
        vm_pace(watch.vm, 0);
    return false;
}

bool watch_poll(size_t idle_room, bool *more)
{
    const struct vm *vm = watch.vm;
    bool all_shown;

    pass_typed();
    all_shown = pass_output(idle_room);
    if (all_shown && vm_settled(vm) && (vm->state != watch.state || vm->starts != watch.starts))
        tell_state();
    *more = !all_shown || typed_count() > 0 || watch.escape.armed;
    return !escape_expired(&watch.escape, now());
}

void watch_end(void)
{
    watch.vm->console.watchers--;
    vm_pace(watch.vm, 0);
}
