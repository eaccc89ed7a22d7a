/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "monitor/command.h"

#include "core/host.h"
#include "lib/edit_distance.h"
#include "lib/string.h"

#include <stdarg.h>

#define ERROR_SIZE    256
#define SHOWN_WORD    40 /* of a word in an error */
#define NEAR_ENOUGH   2  /* letters that a mistyped command may differ in */
#define OVERVIEW_WORD 13
#define OVERVIEW_HALF 39

static enum progress run_help(struct request *request);

#define ONE_PARTITION .arguments = "NAME", .least = 1, .most = 1, .completion = COMPLETE_PARTITION

/* clang-format 14 crashes on this table. */
/* clang-format off */
static const struct command commands[] = {
    {
        .name = "list",
        .summary = "all partitions",
        .details = "Lists the partitions: state, size, time used, number of exits and what\n"
                   "there is to say about their last end.",
        .example = "list",
        .run = run_list,
    },
    {
        .name = "info",
        .summary = "all about one partition",
        .details = "Shows a partition's state, configuration and memory, and what each of its\n"
                   "virtual CPUs has used.",
        .example = "info web",
        ONE_PARTITION,
        .run = run_info,
    },
    {
        .name = "start",
        .summary = "start a partition",
        .details = "Starts a stopped partition and waits until it runs. Ctrl-C gives up waiting,\n"
                   "not the start.",
        .example = "start web",
        ONE_PARTITION,
        .run = run_start,
    },
    {
        .name = "shutdown",
        .summary = "press its power button",
        .details = "Presses the partition's ACPI power button: its system is to shut down and to\n"
                   "switch itself off. Refused when it does not listen to the button.",
        .example = "shutdown web",
        ONE_PARTITION,
        .run = run_shutdown,
    },
    {
        .name = "destroy",
        .summary = "stop one at once",
        .details = "Stops a partition as if its plug were pulled and gives its memory back.",
        .example = "destroy web",
        ONE_PARTITION,
        .run = run_destroy,
    },
    {
        .name = "reboot",
        .summary = "shut down, start again",
        .details = "Presses the power button, too, and starts the partition again when it has\n"
                   "switched itself off.",
        .example = "reboot web",
        ONE_PARTITION,
        .run = run_reboot,
    },
    {
        .name = "reset",
        .summary = "start it anew at once",
        .details = "Starts the partition anew as its reset button would, whatever on_reboot says;\n"
                   "a paused or crashed one too.",
        .example = "reset web",
        ONE_PARTITION,
        .run = run_reset,
    },
    {
        .name = "nmi",
        .summary = "send it an NMI",
        .details = "Raises the NMI line of the partition's board, for systems that dump or enter\n"
                   "a debugger then. Virtual CPUs whose LINT1 is masked do not notice.",
        .example = "nmi web",
        ONE_PARTITION,
        .run = run_nmi,
    },
    {
        .name = "pause",
        .summary = "let one stand still",
        .details = "Takes a partition's virtual CPUs off the CPUs; its memory stays.",
        .example = "pause db",
        ONE_PARTITION,
        .run = run_pause,
    },
    {
        .name = "resume",
        .summary = "let it go on",
        .details = "Lets a paused partition go on where it was.",
        .example = "resume db",
        ONE_PARTITION,
        .run = run_resume,
    },
    {
        .name = "console",
        .summary = "type to its serial port",
        .details = "Connects this terminal with the partition's first serial port, after showing\n"
                   "what was printed since you last looked. Ctrl-] leaves; twice sends one.",
        .example = "console web",
        ONE_PARTITION,
        .run = run_console,
    },
    {
        .name = "log",
        .summary = "what it has printed",
        .details = "Prints the last 64 KiB that the partition sent to its serial port, by the page\n"
                   "where the terminal can. With -f goes on with what comes, until q or Ctrl-C.",
        .example = "log web -f",
        .arguments = "NAME [-f]",
        .least = 1,
        .most = 1,
        .completion = COMPLETE_PARTITION,
        .option = "-f",
        .run = run_log,
    },
    {
        .name = "exits",
        .summary = "what its exits cost",
        .details = "Counts the partition's exits by kind since it was created, with the time\n"
                   "that the hypervisor spent on them, the costliest first.",
        .example = "exits web",
        ONE_PARTITION,
        .run = run_exits,
    },
    {
        .name = "dump",
        .summary = "registers, last exits",
        .details = "Shows each virtual CPU as it is at this moment: registers, the bytes at RIP,\n"
                   "segments, and its last exits, the oldest first.",
        .example = "dump web",
        ONE_PARTITION,
        .run = run_dump,
    },
    {
        .name = "create",
        .arguments = "NAME KEY=VALUE...",
        .summary = "add a partition",
        .details = "Adds a partition, with the keys and values of tenants.conf, and starts it\n"
                   "unless autostart=no. One that cannot be started is not added; Ctrl-C gives up\n"
                   "waiting for that, and then it stays.",
        .example = "create web kernel=vmlinuz memory=256M cmdline=\"console=ttyS0 quiet\"",
        .least = 2,
        .most = WORDS_MAX,
        .completion = COMPLETE_NEW,
        .run = run_create,
    },
    {
        .name = "set",
        .arguments = "NAME KEY=VALUE...",
        .summary = "change its configuration",
        .details = "Changes keys of a partition's configuration. While it runs, some are followed\n"
                   "from its next start on only, and the answer says which.",
        .example = "set web weight=200 cap=50%",
        .least = 2,
        .most = WORDS_MAX,
        .completion = COMPLETE_SETTINGS,
        .run = run_set,
    },
    {
        .name = "config",
        .summary = "print its configuration",
        .details = "Prints a partition as the section of tenants.conf that makes the same one.",
        .example = "config web",
        ONE_PARTITION,
        .run = run_config,
    },
    {
        .name = "undefine",
        .summary = "remove a stopped one",
        .details = "Forgets a stopped partition, its output too.",
        .example = "undefine web",
        ONE_PARTITION,
        .run = run_undefine,
    },
    {
        .name = "images",
        .summary = "files for partitions",
        .details = "Lists the images that the boot loader has brought along.",
        .example = "images",
        .run = run_images,
    },
    {
        .name = "capabilities",
        .summary = "what the CPU can do",
        .details = "Tells which parts of hardware virtualisation this CPU has, which are used\n"
                   "and, where it cannot be used at all, why not; and what is done about what its\n"
                   "speculative execution betrays.",
        .example = "capabilities",
        .run = run_capabilities,
    },
    {
        .name = "host",
        .summary = "memory, CPUs, clock",
        .details = "Tells what the machine has, how much of it is in use, and whose it is.",
        .example = "host -o json",
        .run = run_host,
    },
    {
        .name = "dmesg",
        .summary = "the hypervisor's log",
        .details = "Prints the last 64 KiB of the hypervisor's log.",
        .example = "dmesg",
        .run = run_dmesg,
    },
    {
        .name = "top",
        .summary = "who uses the CPUs now",
        .details = "Shows each second what the partitions used of it, in percent of one CPU; those\n"
                   "that are too many for the screen are left out. The keys c, s, e and m sort by\n"
                   "CPU, steal (waiting for a CPU), exits and memory; q ends. On a terminal that\n"
                   "does not say that it is one, and as JSON, once.",
        .example = "top",
        .run = run_top,
    },
    {
        .name = "metrics",
        .summary = "numbers for Prometheus",
        .details = "Prints all counters in the text format of Prometheus, under the names of\n"
                   "prometheus-libvirt-exporter where it has them.",
        .example = "metrics",
        .run = run_metrics,
    },
    {
        .name = "version",
        .summary = "which Bulkhead this is",
        .details = "Prints the version.",
        .example = "version",
        .run = run_version,
    },
    {
        .name = "uptime",
        .summary = "time since boot",
        .details = "Tells how long ago the boot loader handed over.",
        .example = "uptime",
        .run = run_uptime,
    },
    {
        .name = "batch",
        .summary = "talk to a program",
        .details = "From here on there is no echo and no prompt; every command answers with one\n"
                   "line of JSON, and events come as lines of their own.",
        .example = "batch",
        .run = run_batch,
    },
    {
        .name = "interactive",
        .summary = "talk to a person",
        .details = "Ends batch.",
        .example = "interactive",
        .run = run_interactive,
    },
    {
        .name = "poweroff",
        .summary = "turn the machine off",
        .details = "Turns the machine off at once, whatever the partitions are doing.",
        .example = "poweroff",
        .run = run_poweroff,
    },
    {
        .name = "reboot-host",
        .summary = "restart the machine",
        .details = "Resets the machine at once, whatever the partitions are doing.",
        .example = "reboot-host",
        .run = run_reboot_host,
    },
    {
        .name = "help",
        .arguments = "[COMMAND]",
        .summary = "this, or about one",
        .details = "Lists the commands, or tells about one.",
        .example = "help console",
        .most = 1,
        .completion = COMPLETE_COMMAND,
        .run = run_help,
    },
};
/* clang-format on */

const struct command *command_next(const struct command *command)
{
    const struct command *next = command == NULL ? commands : command + 1;

    return next < commands + ARRAY_SIZE(commands) ? next : NULL;
}

const struct command *command_find(const char *name)
{
    const struct command *command = NULL;

    while ((command = command_next(command)) != NULL) {
        if (strcmp(command->name, name) == 0)
            break;
    }
    return command;
}

/* ---- answers ---- */

enum progress request_fail(struct request *request, const char *format, ...)
{
    char sentence[ERROR_SIZE];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    output_error(&request->output, sentence);
    return COMMAND_DONE;
}

void request_begin(struct request *request, const char *name)
{
    output_begin(&request->output);
    output_member(&request->output, "name", name);
}

void request_fields(struct request *request, const struct column *columns,
                    const struct value *values, u32 count)
{
    for (u32 i = 0; i < count; i++)
        output_field(&request->output, &columns[i], values[i]);
}

/* The first row says whether the table needs measuring; `measured` and `row` are 0 then. */
static bool begin_pass(struct request *request, const struct rows *rows)
{
    if (!request->measured && !request->output.json) {
        table_init(&request->table, rows->columns, rows->count);
        return false;
    }
    if (request->output.json)
        table_init(&request->table, rows->columns, rows->count);
    request->measured = true;
    output_table(&request->output, &request->table, rows->key);
    return true;
}

enum progress request_rows(struct request *request, const struct rows *rows)
{
    struct value values[OUTPUT_COLUMNS_MAX];
    bool printing = request->measured;

    if (request->row == 0)
        printing = begin_pass(request, rows);
    if (rows->row(request, request->row, values)) {
        request->row++;
        if (printing)
            output_row(&request->output, &request->table, values);
        else
            table_measure(&request->table, &request->output, values);
        return COMMAND_MORE;
    }
    request->row = 0;
    request->measured = !printing;
    if (!printing)
        return COMMAND_MORE;
    output_table_end(&request->output);
    output_end(&request->output);
    return COMMAND_DONE;
}

/* ---- from a line to a command ---- */

static bool fail_unknown(struct request *request, const char *name)
{
    const struct command *command = NULL, *nearest = NULL;
    size_t least = NEAR_ENOUGH + 1;

    while ((command = command_next(command)) != NULL) {
        size_t distance = edit_distance(name, MIN(strlen(name), SHOWN_WORD), command->name);

        if (distance < least) {
            least = distance;
            nearest = command;
        }
    }
    if (nearest != NULL)
        request_fail(request, "unknown command '%.*s', did you mean '%s'?", SHOWN_WORD, name,
                     nearest->name);
    else
        request_fail(request, "unknown command '%.*s', 'help' lists them", SHOWN_WORD, name);
    return false;
}

static bool fail_usage(struct request *request)
{
    const struct command *command = request->command;

    request_fail(request, "usage: %s%s%s", command->name, command->arguments != NULL ? " " : "",
                 command->arguments != NULL ? command->arguments : "");
    return false;
}

static bool find_partition(struct request *request)
{
    const char *name = request->words.word[1];

    request->vm = vm_find(name);
    if (request->vm == NULL)
        request_fail(request, "there is no partition '%.*s'", SHOWN_WORD, name);
    return request->vm != NULL;
}

static void reset(struct request *request)
{
    struct output output = request->output;

    memset(request, 0, sizeof(*request));
    request->output = (struct output){
        .write = output.write,
        .context = output.context,
        .json = output.json,
        .tsc_hz = host.tsc_hz,
    };
}

bool command_begin(struct request *request, const char *line)
{
    const char *error;
    u32 arguments;

    reset(request);
    error = words_split(&request->words, line);
    if (error == NULL)
        error = words_take_output(&request->words, &request->output.json);
    if (error != NULL) {
        request_fail(request, "%s", error);
        return false;
    }
    if (request->words.count == 0)
        return false;
    request->command = command_find(request->words.word[0]);
    if (request->command == NULL)
        return fail_unknown(request, request->words.word[0]);
    if (request->command->option != NULL)
        request->option = words_take(&request->words, request->command->option);
    arguments = request->words.count - 1;
    if (arguments < request->command->least || arguments > request->command->most)
        return fail_usage(request);
    return (request->command->completion != COMPLETE_PARTITION &&
            request->command->completion != COMPLETE_SETTINGS) ||
           find_partition(request);
}

enum progress command_step(struct request *request)
{
    enum progress progress = request->command->run(request);

    request->step++;
    return progress;
}

/* ---- help ---- */

static const struct column help_columns[] = {
    {"Command",   "name",      VALUE_TEXT},
    {"Arguments", "arguments", VALUE_TEXT},
    {"Summary",   "summary",   VALUE_TEXT},
    {"Details",   "details",   VALUE_TEXT},
    {"Example",   "example",   VALUE_TEXT},
};

static void help_values(const struct command *command, struct value *values)
{
    values[0].text = command->name;
    values[1].text = command->arguments != NULL ? command->arguments : "";
    values[2].text = command->summary;
    values[3].text = command->details;
    values[4].text = command->example;
}

static bool help_row(struct request *request, u32 index, struct value *values)
{
    if (index >= ARRAY_SIZE(commands))
        return false;
    help_values(&commands[index], values);
    return true;
}

static const struct rows help_rows = {
    .key = "commands",
    .columns = help_columns,
    .count = ARRAY_SIZE(help_columns),
    .row = help_row,
};

/* Two columns, to fit a screen; a line each step. */
static enum progress help_overview(struct request *request)
{
    const u32 half = DIV_ROUND_UP(ARRAY_SIZE(commands), 2);
    const struct command *first = &commands[request->step];
    const struct command *other = request->step + half < ARRAY_SIZE(commands) ? first + half : NULL;
    char left[OVERVIEW_HALF + 1];

    if (request->step == half) {
        output_line(&request->output, "'help COMMAND' tells more; any command takes '-o json'.");
        return COMMAND_DONE;
    }
    snprintf(left, sizeof(left), "%-*s %s", OVERVIEW_WORD, first->name, first->summary);
    if (other != NULL)
        output_line(&request->output, "%-*s %-*s %s", OVERVIEW_HALF, left, OVERVIEW_WORD,
                    other->name, other->summary);
    else
        output_line(&request->output, "%s", left);
    return COMMAND_MORE;
}

static void put_lines(struct request *request, const char *lines)
{
    while (*lines != '\0') {
        const char *end = strchr(lines, '\n');
        size_t size = end != NULL ? (size_t)(end - lines) : strlen(lines);

        output_line(&request->output, "%.*s", (int)size, lines);
        lines += size + (end != NULL);
    }
}

static enum progress help_command(struct request *request)
{
    const struct command *command = command_find(request->words.word[1]);
    struct value values[ARRAY_SIZE(help_columns)] = {};

    if (command == NULL) {
        fail_unknown(request, request->words.word[1]);
        return COMMAND_DONE;
    }
    output_begin(&request->output);
    help_values(command, values);
    if (request->output.json)
        request_fields(request, help_columns, values, ARRAY_SIZE(help_columns));
    output_line(&request->output, "%s %s", command->name, values[1].text);
    put_lines(request, command->details);
    output_line(&request->output, "Example: %s", command->example);
    output_end(&request->output);
    return COMMAND_DONE;
}

static enum progress run_help(struct request *request)
{
    if (request->words.count > 1)
        return help_command(request);
    if (!request->output.json)
        return help_overview(request);
    if (request->step == 0)
        output_begin(&request->output);
    return request_rows(request, &help_rows);
}
