/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "monitor/monitor.h"

#include "core/cpu.h"
#include "core/host.h"
#include "core/lifecycle.h"
#include "core/sched.h"
#include "core/terminal.h"
#include "lib/string.h"
#include "monitor/command.h"
#include "monitor/completion.h"
#include "monitor/console.h"

#define PROMPT         "bulkhead> "
#define CTRL_C         0x03
#define WHERE_IS_IT    "\x1b[6n" /* DSR; the answer is CPR (ECMA-48, 8.3.35 and 8.3.14) */
#define ANSWER_NS      300000000ULL
#define AHEAD_SIZE     1024 /* bytes typed while a command runs */
#define LOG_QUEUE_SIZE 8192
#define EVENTS_MAX     64
#define BYTES_A_POLL   64
#define STEPS_A_POLL   4
#define OUTPUT_A_POLL  256  /* bytes, or vCPUs looked at, after which nothing else is begun */
#define QUEUED_MAX     4096 /* of a command's output in the terminal's ring, for Ctrl-C's sake */
#define ECHO_ROOM      8192 /* more than any one key makes the editor write */

struct event_note {
    struct vm *vm;
    enum vm_event what;
};

static struct {
    bool ready;
    bool polling; /* CPU 0 is in monitor_poll */
    bool batch;
    bool watching; /* a console has the terminal */
    bool running;  /* a command is not done */
    enum progress progress;
    struct request request;
    struct line_editor editor;
    bool asked;       /* the terminal, for this command */
    u64 answer_due;   /* TSC */
    size_t idle_room; /* of the terminal with nothing queued: the most ever seen */
    size_t written;   /* of answers, free-running */

    u32 ahead_head, ahead_tail; /* free-running, as all heads and tails here */
    u8 ahead[AHEAD_SIZE];

    u32 log_head; /* written under the log's lock, by any CPU */
    u32 log_tail;
    u32 log_lost; /* lines that did not fit */
    char log[LOG_QUEUE_SIZE];

    u32 event_head, event_tail;
    struct event_note events[EVENTS_MAX];
} session;

static void write_terminal(void *context, const char *text, size_t size)
{
    terminal_write(text, size);
    session.written += size;
}

/* ---- log lines and events ---- */

/* Text that belongs to nobody's answer may be written now. */
static bool between_lines(void)
{
    return !session.running || session.progress == COMMAND_WAITING;
}

static u32 queued_log(void)
{
    return __atomic_load_n(&session.log_head, __ATOMIC_ACQUIRE) - session.log_tail;
}

/* Of whole lines: those that begin in the first bytes. */
static u32 next_lines(void)
{
    u32 queued = queued_log(), size = MIN(queued, OUTPUT_A_POLL);

    while (size < queued && session.log[(session.log_tail + size - 1) % LOG_QUEUE_SIZE] != '\n')
        size++;
    return size;
}

static void write_queued_log(void)
{
    u32 size = next_lines();
    u32 lost =
        size == queued_log() ? __atomic_exchange_n(&session.log_lost, 0, __ATOMIC_RELAXED) : 0;
    char note[64];

    while (size > 0) {
        u32 at = session.log_tail % LOG_QUEUE_SIZE;
        u32 run = MIN(size, LOG_QUEUE_SIZE - at);

        terminal_write(&session.log[at], run);
        __atomic_store_n(&session.log_tail, session.log_tail + run, __ATOMIC_RELEASE);
        size -= run;
    }
    if (lost > 0) {
        snprintf(note, sizeof(note), "[%u lines of the log not shown, see dmesg]\r\n", lost);
        terminal_write(note, strlen(note));
    }
}

/* True when it has more to show. */
static bool show_log(void)
{
    if (queued_log() == 0 || session.batch || session.watching || !between_lines())
        return false;
    if (!session.running)
        line_editor_hide(&session.editor);
    write_queued_log();
    if (!session.running)
        line_editor_show(&session.editor);
    return queued_log() > 0;
}

/* The log's lock is held: one CPU at a time is here. */
static bool queue_log(const char *text, size_t size)
{
    u32 tail = __atomic_load_n(&session.log_tail, __ATOMIC_ACQUIRE);

    if (size > LOG_QUEUE_SIZE - (session.log_head - tail))
        return false;
    for (size_t i = 0; i < size; i++)
        session.log[(session.log_head + i) % LOG_QUEUE_SIZE] = text[i];
    __atomic_store_n(&session.log_head, session.log_head + (u32)size, __ATOMIC_RELEASE);
    return true;
}

void monitor_log_output(const char *text, size_t size)
{
    if (!session.ready) {
        terminal_write(text, size);
        return;
    }
    if (session.batch || session.watching)
        return;
    if (!queue_log(text, size))
        __atomic_fetch_add(&session.log_lost, 1, __ATOMIC_RELAXED);
    if (this_cpu()->index != 0)
        sched_wake_boot_cpu();
    else if (!session.polling)
        show_log();
}

static const char *const event_names[] = {
    [VM_EVENT_START] = "start",     [VM_EVENT_STOP] = "stop",         [VM_EVENT_CRASH] = "crash",
    [VM_EVENT_RESTART] = "restart", [VM_EVENT_UNDEFINE] = "undefine", [VM_EVENT_HANG] = "hang",
};

static void write_event(const struct event_note *note)
{
    static const struct column columns[] = {
        {"Name",    "name",    VALUE_TEXT},
        {"State",   "state",   VALUE_TEXT},
        {"Message", "message", VALUE_TEXT},
    };
    struct output output = {.write = write_terminal, .json = true};

    output_begin_event(&output, event_names[note->what]);
    output_field(&output, &columns[0], (struct value){.text = note->vm->config.name});
    output_field(&output, &columns[1], (struct value){.text = vm_state_name(note->vm)});
    output_field(&output, &columns[2], (struct value){.text = note->vm->message});
    output_end(&output);
}

/* What was wrong with the configuration at boot; nobody can have listened then. */
static void write_config_problems(void)
{
    static const struct column column = {"Message", "message", VALUE_TEXT};
    struct output output = {.write = write_terminal, .json = true};

    for (u32 i = 0; i < host.config_problem_count; i++) {
        output_begin_event(&output, "configuration-error");
        output_field(&output, &column, (struct value){.text = host.config_problems[i]});
        output_end(&output);
    }
}

static void write_next_event(void)
{
    write_event(&session.events[session.event_tail++ % EVENTS_MAX]);
}

/* True when it has more to show. */
static bool show_events(void)
{
    size_t written = session.written;

    while (between_lines() && session.event_tail != session.event_head &&
           session.written - written < OUTPUT_A_POLL)
        write_next_event();
    return session.event_tail != session.event_head;
}

/* CPU 0, from lifecycle_step or from within a command. */
static void on_event(struct vm *vm, enum vm_event what)
{
    struct event_note note = {vm, what};

    if (!session.batch)
        return;
    /* What is queued may be about it, and the command that removes it has not answered yet. */
    while (what == VM_EVENT_UNDEFINE && session.event_tail != session.event_head)
        write_next_event();
    if (what == VM_EVENT_UNDEFINE || between_lines())
        write_event(&note);
    else if (session.event_head - session.event_tail < EVENTS_MAX)
        session.events[session.event_head++ % EVENTS_MAX] = note;
}

/* ---- commands that change the session ---- */

enum progress run_console(struct request *request)
{
    if (request->output.json)
        return request_fail(request, "a console is for people: it cannot be JSON");
    session.watching = true;
    watch_begin(request->vm);
    return COMMAND_DONE;
}

static enum progress change_mode(struct request *request, bool batch)
{
    request->output.json |= batch;
    output_begin(&request->output);
    output_end(&request->output);
    if (batch)
        write_config_problems();
    session.batch = batch;
    session.editor.silent = batch;
    return COMMAND_DONE;
}

enum progress run_batch(struct request *request)
{
    return change_mode(request, true);
}

enum progress run_interactive(struct request *request)
{
    return change_mode(request, false);
}

/* ---- what the terminal is ---- */

enum answer monitor_ask_terminal(void)
{
    u64 now = __builtin_ia32_rdtsc();

    if (session.editor.reported)
        return ANSWER_YES;
    if (!session.asked) {
        terminal_write(WHERE_IS_IT, strlen(WHERE_IS_IT));
        session.asked = true;
        session.answer_due = now + host_ns_to_tsc(ANSWER_NS);
    }
    return now < session.answer_due ? ANSWER_AWAITED : ANSWER_NO;
}

/* ---- the line ---- */

static bool next_byte(u8 *byte)
{
    char received;

    if (session.ahead_tail != session.ahead_head) {
        *byte = session.ahead[session.ahead_tail++ % AHEAD_SIZE];
        return true;
    }
    if (terminal_read(&received, 1) == 0)
        return false;
    *byte = (u8)received;
    return true;
}

static void end_command(void)
{
    session.running = false;
    if (!session.watching)
        line_editor_begin(&session.editor);
}

static void set_output(void)
{
    session.request.output = (struct output){.write = write_terminal, .json = session.batch};
}

static void begin_command(void)
{
    set_output();
    session.running = command_begin(&session.request, session.editor.line);
    session.progress = COMMAND_MORE;
    session.asked = false;
    if (!session.running)
        end_command();
}

static void take_byte(u8 byte)
{
    switch (line_editor_byte(&session.editor, byte)) {
    case LINE_EDITING:
        return;
    case LINE_ENTERED:
        begin_command();
        return;
    case LINE_TOO_LONG:
        set_output();
        output_error(&session.request.output, "the line is too long");
        break;
    case LINE_INTERRUPTED:
        break;
    }
    line_editor_begin(&session.editor);
}

/* True when there may be more. */
static bool poll_line(void)
{
    size_t written = session.written;
    u8 byte;

    for (u32 i = 0; i < BYTES_A_POLL && session.written - written < OUTPUT_A_POLL; i++) {
        if (session.running || session.watching || terminal_room() < ECHO_ROOM)
            return true;
        if (!next_byte(&byte))
            return false;
        take_byte(byte);
    }
    return true;
}

/* ---- a running command ---- */

/* What is typed meanwhile waits for the prompt, but Ctrl-C is noticed. */
static bool read_ahead(void)
{
    char byte;

    while (session.ahead_head - session.ahead_tail < AHEAD_SIZE && terminal_read(&byte, 1) == 1) {
        if (byte == CTRL_C && !session.request.output.open) {
            session.ahead_tail = session.ahead_head;
            return true;
        }
        session.ahead[session.ahead_head++ % AHEAD_SIZE] = (u8)byte;
    }
    return false;
}

/* The next key for a live command; what the terminal reports is none, nor is a cursor key. */
static void take_key(void)
{
    u8 byte;

    while (session.request.key == 0 && next_byte(&byte)) {
        if (!line_editor_is_tail(&session.editor, byte) &&
            !line_editor_sequence(&session.editor, byte))
            session.request.key = byte;
    }
}

static void abandon(void)
{
    if (session.request.output.json)
        output_error(&session.request.output, "abandoned");
    else
        terminal_write("^C\r\n", 4);
    end_command();
}

static bool has_room(void)
{
    size_t room = terminal_room();

    return room >= COMMAND_ROOM && session.idle_room - MIN(room, session.idle_room) < QUEUED_MAX;
}

static void poll_command(void)
{
    size_t written = session.written;

    if (read_ahead()) {
        abandon();
        return;
    }
    if (session.progress == COMMAND_LIVE && session.request.key == 0)
        take_key();
    session.request.looked_at = 0;
    for (u32 i = 0; i < STEPS_A_POLL && has_room(); i++) {
        session.progress = command_step(&session.request);
        session.request.key = 0;
        if (session.progress == COMMAND_DONE)
            end_command();
        if (session.progress != COMMAND_MORE ||
            session.written - written + session.request.looked_at >= OUTPUT_A_POLL)
            return;
    }
}

/* ---- a watched console ---- */

static void end_watch(void)
{
    watch_end();
    session.watching = false;
    terminal_write("\r\n", 2);
    line_editor_begin(&session.editor);
}

/* True when it wants to be called again soon. */
static bool poll_watch(void)
{
    bool more;
    u32 count;
    u8 byte;

    for (count = 0; count < BYTES_A_POLL && watch_ready() && next_byte(&byte); count++) {
        if (line_editor_is_tail(&session.editor, byte) || watch_byte(byte))
            continue;
        end_watch();
        take_byte(byte);
        return true;
    }
    if (watch_poll(session.idle_room, &more))
        return more || count == BYTES_A_POLL;
    end_watch();
    return true;
}

void monitor_init(void)
{
    static const struct line_editor_ops ops = {
        .write = write_terminal,
        .candidate = completion_candidate,
    };

    line_editor_init(&session.editor, PROMPT, &ops, NULL);
    lifecycle_set_listener(on_event);
    line_editor_begin(&session.editor);
    session.ready = true;
}

bool monitor_poll(void)
{
    bool more = true;

    session.polling = true;
    session.idle_room = MAX(session.idle_room, terminal_room());
    if (session.watching)
        more = poll_watch();
    else if (session.running)
        poll_command();
    else
        more = poll_line();
    more |= show_log();
    more |= show_events();
    session.polling = false;
    return more;
}
