/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_MONITOR_COMMAND_H
#define BULKHEAD_MONITOR_COMMAND_H

/* The table of commands, and a command being carried out. CPU 0 only. */

#include "core/exit.h"
#include "core/vm.h"
#include "monitor/output.h"
#include "monitor/words.h"

/* Free bytes in the terminal's ring that a step may count on: more than any one writes. */
#define COMMAND_ROOM 8192

enum progress {
    COMMAND_DONE,
    COMMAND_MORE,    /* call again when there is room for more output */
    COMMAND_WAITING, /* call again later: a transition is under way */
    COMMAND_LIVE,    /* call again later or when a key is typed; the screen is the command's */
};

/* What is shown by the page. */
struct page {
    bool on, waiting; /* for a key */
    u32 row, column;
};

struct exit_total {
    u64 count, cycles;
    u8 kind;
};

#define CPU_SET_TEXT 64

struct request {
    const struct command *command;
    struct words words; /* word[0] is the command's name */
    struct output output;
    struct vm *vm; /* of a command that names one; else the row's */
    u32 step;      /* how often the command was called before */
    u64 position;  /* in a ring that is printed */
    u64 end;       /* where to stop */
    bool option;   /* command->option is given */
    bool begun;    /* the answer is */
    u8 key;        /* typed since the last step while it was live; 0: none */
    u32 looked_at; /* vCPUs in this turn: each takes as long as a byte of output */
    struct page page;
    u64 before; /* vm->starts at the beginning */
    struct table table;
    bool measured; /* the table's rows were, and are being printed */
    u32 row;
    struct run_statistics sum; /* of the row's partition, or of the first `summed` of its vCPUs */
    u32 summed;
    char cpu_set[CPU_SET_TEXT]; /* of that row */
    struct exit_total exits[EXIT_KIND_COUNT];
};

enum completion_kind {
    COMPLETE_NOTHING,
    COMPLETE_PARTITION, /* the first argument names one: request->vm */
    COMPLETE_COMMAND,
    COMPLETE_SETTINGS, /* a partition as above, then key=value */
    COMPLETE_NEW,      /* a new name, then key=value */
};

struct command {
    const char *name;
    const char *arguments; /* as in "NAME", "[COMMAND]" */
    const char *summary;   /* a few words for the overview */
    const char *details;   /* lines for `help COMMAND` */
    const char *example;
    u8 least, most;                  /* number of arguments */
    enum completion_kind completion; /* of the arguments */
    const char *option;              /* one that it takes besides -o, as in "-f"; NULL: none */
    /* One bounded step. Before COMMAND_DONE it has written a whole answer, by output_begin and
     * output_end or by request_fail. */
    enum progress (*run)(struct request *request);
};

/* The commands in the order of the overview; NULL ends. */
const struct command *command_next(const struct command *command);
const struct command *command_find(const char *name);

/* Splits `line` and finds its command and partition. False when there is nothing to run: the line
 * is empty or an error was answered. request->output.write and json are set by the caller. */
bool command_begin(struct request *request, const char *line);

/* Runs one step. */
enum progress command_step(struct request *request);

/* Answers with an error; returns COMMAND_DONE. */
enum progress request_fail(struct request *request, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* output_begin, and for programs the partition's name. */
void request_begin(struct request *request, const char *name);

/* Fields of one description and their values, in the same order. */
void request_fields(struct request *request, const struct column *columns,
                    const struct value *values, u32 count);

/* Whether the terminal understands ECMA-48, by its own account: it is asked once, and a command
 * that stays live meanwhile asks again here. Who does not answer gets no live screen. */
enum answer {
    ANSWER_AWAITED,
    ANSWER_YES,
    ANSWER_NO,
};
enum answer monitor_ask_terminal(void);

/* A table as the last part of an answer, one row a step: first measured (for people), then
 * printed, then output_end. `row` fills the values of row `index`, texts to live until its next
 * call; false when there is none. Call it until it returns COMMAND_DONE. */
struct rows {
    const char *key;
    const struct column *columns;
    u32 count;
    bool (*row)(struct request *request, u32 index, struct value *values);
};
enum progress request_rows(struct request *request, const struct rows *rows);

/* commands_partition.c: answers that request->vm is as `done` says; starts it, waits and answers
 * that. */
enum progress request_answer(struct request *request, const char *done);
enum progress request_start(struct request *request, const char *done);

enum progress run_list(struct request *request);
enum progress run_info(struct request *request);
enum progress run_start(struct request *request);
enum progress run_shutdown(struct request *request);
enum progress run_destroy(struct request *request);
enum progress run_reset(struct request *request);
enum progress run_reboot(struct request *request);
enum progress run_nmi(struct request *request);
enum progress run_pause(struct request *request);
enum progress run_resume(struct request *request);
enum progress run_exits(struct request *request);
enum progress run_dump(struct request *request);

/* commands_config.c */
enum progress run_create(struct request *request);
enum progress run_set(struct request *request);
enum progress run_undefine(struct request *request);
enum progress run_config(struct request *request);

/* commands_host.c */
enum progress run_capabilities(struct request *request);
enum progress run_host(struct request *request);
enum progress run_images(struct request *request);
enum progress run_version(struct request *request);
enum progress run_uptime(struct request *request);
enum progress run_poweroff(struct request *request);
enum progress run_reboot_host(struct request *request);

/* commands_metrics.c */
enum progress run_metrics(struct request *request);

/* commands_top.c */
enum progress run_top(struct request *request);

/* commands_log.c */
enum progress run_log(struct request *request);
enum progress run_dmesg(struct request *request);

/* monitor.c */
enum progress run_console(struct request *request);
enum progress run_batch(struct request *request);
enum progress run_interactive(struct request *request);

#endif
