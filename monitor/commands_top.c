/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* `top`: what the partitions used of the last second. Refreshed in place where the terminal answers
 * that it understands ECMA-48; else once. */

#include "core/cpu.h"
#include "core/host.h"
#include "core/lifecycle.h"
#include "core/sched.h"
#include "lib/arith.h"
#include "lib/string.h"
#include "mm/pool.h"
#include "monitor/command.h"

#define INTERVAL_NS  1000000000UL
#define SCREEN_ROWS  20
#define CLEAR_SCREEN "\x1b[2J"
#define HOME         "\x1b[H"
#define CLEAR_LINE   "\x1b[K"
#define CLEAR_BELOW  "\x1b[J"

/* Another one with each key. */
static const char sort_keys[] = "csem";

static u32 sort; /* enum top_value; kept from one use to the next */
static u64 idle; /* of all CPUs, as struct vm's sample */
static u64 idle_before;

static void take_one(struct vm *vm)
{
    struct run_statistics sum;

    vm_statistics(vm, &sum);
    const u64 counters[TOP_COUNTERS] = {
        [TOP_CPU] = sum.guest_cycles + sum.host_cycles,
        [TOP_STEAL] = sum.steal_cycles,
        [TOP_EXITS] = statistics_exits(&sum),
    };

    for (u32 i = 0; i < TOP_COUNTERS; i++) {
        vm->top.values[i] = counters[i] - vm->top.counters[i];
        vm->top.counters[i] = counters[i];
    }
    vm->top.values[TOP_MEMORY] = vm->vcpus != NULL ? vm->memory.mapped : 0;
}

/* That behind request->vm; true when all are taken, and then that is NULL. */
static bool take_next(struct request *request)
{
    request->vm = vm_next(request->vm);
    if (request->vm == NULL)
        return true;
    request->looked_at += request->vm->vcpu_count;
    take_one(request->vm);
    return false;
}

static void take_idle(void)
{
    u64 sum = 0;

    for (u32 i = 0; i < cpu_count; i++)
        sum += cpus[i]->idle_cycles + sched_resting(cpus[i]);
    idle = (sum - idle_before) / cpu_count;
    idle_before = sum;
}

/* In tenths of a percent of the interval. */
static u64 share(const struct request *request, u64 ticks)
{
    return mul_div(ticks, 1000, request->before);
}

static const struct column columns[] = {
    {"NAME",    "name",          VALUE_TEXT  },
    {"STATE",   "state",         VALUE_TEXT  },
    {"VCPUS",   "vcpus",         VALUE_COUNT },
    {"MEMORY",  "memory",        VALUE_SIZE  },
    {"CPU%",    "cpu_percent",   VALUE_TENTHS},
    {"STEAL%",  "steal_percent", VALUE_TENTHS},
    {"EXITS/S", "exits_per_s",   VALUE_COUNT },
};

/* Behind `last`, which may be NULL, in descending order; equal ones as they were created. */
static struct vm *next_in_order(const struct vm *last)
{
    struct vm *best = NULL;
    bool behind = last == NULL; /* in the order of creation */

    for (struct vm *vm = vm_next(NULL); vm != NULL; vm = vm_next(vm)) {
        u64 value = vm->top.values[sort];

        if (vm == last)
            behind = true;
        else if ((last == NULL || value < last->top.values[sort] ||
                  (value == last->top.values[sort] && behind)) &&
                 (best == NULL || value > best->top.values[sort]))
            best = vm;
    }
    return best;
}

static void write_text(struct request *request, const char *text)
{
    request->output.write(request->output.context, text, strlen(text));
}

static bool row(struct request *request, u32 index, struct value *values)
{
    struct vm *vm = next_in_order(index == 0 ? NULL : request->vm);

    if (vm == NULL || (request->page.on && index == SCREEN_ROWS))
        return false;
    if (request->page.on && request->measured)
        write_text(request, CLEAR_LINE);
    request->vm = vm;
    values[0].text = vm->config.name;
    values[1].text = vm_state_name(vm);
    values[2].number = vm_vcpus(vm);
    values[3].number = vm->top.values[TOP_MEMORY];
    values[4].number = share(request, vm->top.values[TOP_CPU]);
    values[5].number = share(request, vm->top.values[TOP_STEAL]);
    values[6].number = mul_div(vm->top.values[TOP_EXITS], host.tsc_hz, request->before);
    return true;
}

static const struct rows rows = {
    .key = "partitions",
    .columns = columns,
    .count = ARRAY_SIZE(columns),
    .row = row,
};

static void begin_screen(struct request *request)
{
    static const struct column host_columns[] = {
        {"", "interval_ns",  VALUE_DURATION},
        {"", "idle_percent", VALUE_TENTHS  },
        {"", "memory_free",  VALUE_SIZE    },
    };
    struct memory_stats stats = memory_stats();
    u64 idle_tenths = share(request, idle);

    output_begin(&request->output);
    if (request->output.json)
        request_fields(request, host_columns,
                       (const struct value[]){
                           {.number = mul_div(request->before, INTERVAL_NS, host.tsc_hz)},
                           {.number = idle_tenths},
                           {.number = stats.free},
                       },
                       ARRAY_SIZE(host_columns));
    if (request->page.on)
        write_text(request, HOME CLEAR_LINE);
    output_line(&request->output, "%u CPUs, %lu.%lu%% idle; %lu of %lu MiB free; by %s%s",
                cpu_count, idle_tenths / 10, idle_tenths % 10, stats.free / MIB, stats.total / MIB,
                columns[(u32[]){4, 5, 6, 3}[sort]].title,
                request->page.on ? "; keys: c s e m sort, q ends" : "");
    if (request->page.on)
        write_text(request, CLEAR_LINE);
}

/* position is the time of the last sample, end that of the next, before the interval, vm the last
 * partition that was looked at while a sample is being taken. */
static enum progress wait_and_take(struct request *request)
{
    u64 now = __builtin_ia32_rdtsc();

    if (request->vm == NULL && now < request->end)
        return request->page.on ? COMMAND_LIVE : COMMAND_WAITING;
    if (request->vm == NULL) {
        take_idle();
        request->before = request->position == 0 ? 0 : now - request->position;
        request->position = now;
        request->end = now + host_ns_to_tsc(INTERVAL_NS);
    }
    request->begun = take_next(request) && request->before != 0;
    return COMMAND_MORE;
}

static enum progress show(struct request *request)
{
    enum progress progress;

    if (request->row == 0 && !request->measured)
        begin_screen(request);
    progress = request_rows(request, &rows);
    if (progress != COMMAND_DONE || !request->page.on)
        return progress;
    write_text(request, CLEAR_BELOW);
    request->begun = false;
    request->vm = NULL;
    return COMMAND_LIVE;
}

static void take_key(struct request *request)
{
    const char *key = strchr(sort_keys, request->key);

    if (key == NULL)
        return;
    sort = (u32)(key - sort_keys);
    if (request->vm != NULL && !request->begun)
        return; /* a sample is being taken */
    request->begun = request->before != 0;
    request->measured = false;
    request->row = 0;
}

enum progress run_top(struct request *request)
{
    enum answer answer = ANSWER_NO;

    if (request->position == 0 && !request->output.json) {
        answer = monitor_ask_terminal();
        if (answer == ANSWER_AWAITED)
            return COMMAND_LIVE;
        request->page.on = answer == ANSWER_YES;
        if (request->page.on)
            write_text(request, CLEAR_SCREEN HOME);
    }
    if (request->key == 'q' || request->key == 'Q')
        return COMMAND_DONE;
    if (request->key != 0)
        take_key(request);
    return request->begun ? show(request) : wait_and_take(request);
}
