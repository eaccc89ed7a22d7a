/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/cpu.h"
#include "core/host.h"
#include "core/lifecycle.h"
#include "core/sched.h"
#include "lib/arith.h"
#include "lib/string.h"
#include "monitor/command.h"

#define NS_PER_S   1000000000ULL
#define PAGE_BYTES 4096

static u64 cycles_to_ns(u64 cycles)
{
    return host.tsc_hz != 0 ? mul_div(cycles, NS_PER_S, host.tsc_hz) : 0;
}

/* The vCPU, or NULL where there is none (yet, or any more). */
static const struct vcpu *vcpu_at(const struct vm *vm, u32 index)
{
    return vm->vcpus != NULL && index < vm->vcpu_count ? vm->vcpus[index] : NULL;
}

/* All that was charged to it: in the guest and, for it, in the hypervisor. */
static u64 cpu_time_ns(const struct run_statistics *statistics)
{
    return cycles_to_ns(statistics->guest_cycles + statistics->host_cycles);
}

/* ---- list ---- */

static const struct column list_columns[] = {
    {"NAME",     "name",        VALUE_TEXT    },
    {"STATE",    "state",       VALUE_TEXT    },
    {"VCPUS",    "vcpus",       VALUE_COUNT   },
    {"MEMORY",   "memory",      VALUE_SIZE    },
    {"CPU-TIME", "cpu_time_ns", VALUE_DURATION},
    {"EXITS",    "exits",       VALUE_COUNT   },
    {"MESSAGE",  "message",     VALUE_TEXT    },
};

static bool list_row(struct request *request, u32 index, struct value *values)
{
    const struct vm *vm = vm_next(index == 0 ? NULL : request->vm);
    struct run_statistics sum;

    if (vm == NULL)
        return false;
    request->vm = (struct vm *)(uintptr_t)vm;
    request->looked_at += vm->vcpu_count;
    vm_statistics(vm, &sum);
    values[0].text = vm->config.name;
    values[1].text = vm_state_name(vm);
    values[2].number = vm_vcpus(vm);
    values[3].number = vm_memory(vm);
    values[4].number = cpu_time_ns(&sum);
    values[5].number = statistics_exits(&sum);
    values[6].text = vm->message;
    return true;
}

static const struct rows list_rows = {
    .key = "partitions",
    .columns = list_columns,
    .count = ARRAY_SIZE(list_columns),
    .row = list_row,
};

enum progress run_list(struct request *request)
{
    if (request->step == 0) {
        output_begin(&request->output);
        if (vm_next(NULL) == NULL)
            output_line(&request->output, "There are no partitions.");
    }
    return request_rows(request, &list_rows);
}

/* ---- info ---- */

static const char *const action_names[] = {
    [ACTION_DESTROY] = "destroy",
    [ACTION_RESTART] = "restart",
    [ACTION_ROLLBACK] = "rollback",
    [ACTION_PRESERVE] = "preserve",
};

static const char *const run_state_names[] = {
    [VCPU_PARKED] = "parked",   [VCPU_RUNNABLE] = "runnable", [VCPU_RUNNING] = "running",
    [VCPU_BLOCKED] = "blocked", [VCPU_CAPPED] = "capped",
};

static const char *run_state_name(const struct vcpu *vcpu)
{
    u8 state = vcpu->run_state;

    return state < ARRAY_SIZE(run_state_names) ? run_state_names[state] : "?";
}

static bool in_set(const u64 *set, u32 cpu)
{
    return (set[cpu / 64] & BIT(cpu % 64)) != 0;
}

/* CPUs of this machine, one bit each: "0-3,6"; what does not fit is left out. */
static void format_cpus(const u64 set[CONFIG_CPUS_MAX / 64], char to[CPU_SET_TEXT])
{
    size_t size = 0;

    to[0] = '\0';
    for (u32 i = 0; i < cpu_count && i < CONFIG_CPUS_MAX; i++) {
        u32 first = i;

        if (!in_set(set, i))
            continue;
        while (i + 1 < cpu_count && i + 1 < CONFIG_CPUS_MAX && in_set(set, i + 1))
            i++;
        if (size + 12 > CPU_SET_TEXT)
            break;
        size +=
            (size_t)snprintf(to + size, CPU_SET_TEXT - size, "%s%u", size > 0 ? "," : "", first);
        if (i > first)
            size += (size_t)snprintf(to + size, CPU_SET_TEXT - size, "-%u", i);
    }
}

/* The names stand one after the other, each with its NUL. */
static void format_modules(const struct partition_config *config, char to[CONFIG_MODULES_SIZE])
{
    const char *from = config->modules;
    size_t size = 0;

    to[0] = '\0';
    for (u32 i = 0; i < config->module_count; i++) {
        size_t length = strnlen(from, (size_t)(config->modules + CONFIG_MODULES_SIZE - from));

        if (size + length + 2 > CONFIG_MODULES_SIZE)
            break;
        if (i > 0)
            to[size++] = ' ';
        memcpy(to + size, from, length);
        to[size += length] = '\0';
        from += length + 1;
    }
}

static void info_state(struct request *request)
{
    static const struct column columns[] = {
        {"Name",        "name",        VALUE_TEXT    },
        {"State",       "state",       VALUE_TEXT    },
        {"Message",     "message",     VALUE_TEXT    },
        {"Exit status", "exit_status", VALUE_COUNT   },
        {"Starts",      "starts",      VALUE_COUNT   },
        {"Up for",      "uptime_ns",   VALUE_DURATION},
        {"CPU time",    "cpu_time_ns", VALUE_DURATION},
        {"Waited",      "steal_ns",    VALUE_DURATION},
        {"Exits",       "exits",       VALUE_COUNT   },
    };
    const struct vm *vm = request->vm;
    bool up = vm->vcpus != NULL;
    struct run_statistics sum;

    vm_statistics(vm, &sum);
    request_fields(request, columns,
                   (const struct value[]){
                       {.text = vm->config.name},
                       {.text = vm_state_name(vm)},
                       {.text = vm->message},
                       {.number = vm->exit_status},
                       {.number = vm->starts},
                       {.number = up ? cycles_to_ns(__builtin_ia32_rdtsc() - vm->start_tsc) : 0},
                       {.number = cpu_time_ns(&sum)},
                       {.number = cycles_to_ns(sum.steal_cycles)},
                       {.number = statistics_exits(&sum)},
                   },
                   ARRAY_SIZE(columns));
}

static void info_image(struct request *request)
{
    static const struct column columns[] = {
        {"Kernel",       "kernel",  VALUE_TEXT},
        {"Initrd",       "initrd",  VALUE_TEXT},
        {"Modules",      "modules", VALUE_TEXT},
        {"Command line", "cmdline", VALUE_TEXT},
    };
    const struct partition_config *config = &request->vm->config;
    char modules[CONFIG_MODULES_SIZE];

    format_modules(config, modules);
    request_fields(request, columns,
                   (const struct value[]){
                       {.text = config->kernel},
                       {.text = config->initrd},
                       {.text = modules},
                       {.text = config->cmdline},
                   },
                   ARRAY_SIZE(columns));
}

static void info_share(struct request *request)
{
    static const struct column columns[] = {
        {"vCPUs",            "vcpus",       VALUE_COUNT},
        {"May run on CPUs",  "cpus",        VALUE_TEXT },
        {"Weight",           "weight",      VALUE_COUNT},
        {"Cap, % of a CPU",  "cap_percent", VALUE_COUNT},
        {"Starts by itself", "autostart",   VALUE_FLAG },
        {"On crash",         "on_crash",    VALUE_TEXT },
        {"On hang",          "on_hang",     VALUE_TEXT },
        {"On reboot",        "on_reboot",   VALUE_TEXT },
        {"On unknown MSR",   "unknown_msr", VALUE_TEXT },
    };
    const struct partition_config *config = &request->vm->config;
    bool ignore = config->unknown_msr == UNKNOWN_MSR_IGNORE;
    char cpu_set[CPU_SET_TEXT];

    format_cpus(request->vm->config.cpus, cpu_set);
    request_fields(request, columns,
                   (const struct value[]){
                       {.number = vm_vcpus(request->vm)},
                       {.text = cpu_set},
                       {.number = config->weight},
                       {.number = config->cap_percent},
                       {.number = config->autostart},
                       {.text = action_names[config->on_crash]},
                       {.text = action_names[config->on_hang]},
                       {.text = action_names[config->on_reboot]},
                       {.text = ignore ? "ignore" : "fault"},
                   },
                   ARRAY_SIZE(columns));
}

static void info_exit_port(struct request *request)
{
    static const struct column column = {"Exit port", "exit_port", VALUE_HEX};

    if (request->vm->config.exit_port >= 0)
        output_field(&request->output, &column,
                     (struct value){.number = (u64)request->vm->config.exit_port});
}

/* The tables stand still only between transitions. */
static u64 table_pages(const struct vm *vm)
{
    return vm->vcpus != NULL && vm_settled(vm) ? guest_memory_table_pages(&vm->memory) : 0;
}

static void info_memory(struct request *request)
{
    static const struct column columns[] = {
        {"Memory",             "memory",             VALUE_SIZE },
        {"  laid out",         "memory_mapped",      VALUE_SIZE },
        {"  page tables",      "page_tables",        VALUE_SIZE },
        {"  of Bulkhead's",    "hypervisor_memory",  VALUE_SIZE },
        {"Console, sent",      "console_bytes",      VALUE_SIZE },
        {"Console, lost",      "console_dropped",    VALUE_SIZE },
        {"Unknown MSR access", "unknown_msr_access", VALUE_COUNT},
    };
    const struct vm *vm = request->vm;

    request_fields(request, columns,
                   (const struct value[]){
                       {.number = vm_memory(vm)},
                       {.number = vm->vcpus != NULL ? vm->memory.mapped : 0},
                       {.number = table_pages(vm) * PAGE_BYTES},
                       {.number = (u64)vm->hypervisor_pages * PAGE_BYTES + vm->console.space},
                       {.number = vm->console.written},
                       {.number = console_lost(&vm->console)},
                       {.number = vm->unknown_msrs},
                   },
                   ARRAY_SIZE(columns));
}

static const struct column vcpu_columns[] = {
    {"VCPU",   "index",        VALUE_COUNT },
    {"CPU",    "cpu",          VALUE_COUNT },
    {"STATE",  "state",        VALUE_TEXT  },
    {"GUEST",  "guest_cycles", VALUE_CYCLES},
    {"HOST",   "host_cycles",  VALUE_CYCLES},
    {"EXITS",  "exits",        VALUE_COUNT },
    {"MOVES",  "moves",        VALUE_COUNT },
    {"RAN ON", "ran_on",       VALUE_TEXT  },
};

static bool vcpu_row(struct request *request, u32 index, struct value *values)
{
    const struct vcpu *vcpu = vcpu_at(request->vm, index);

    if (vcpu == NULL)
        return false;
    values[0].number = vcpu->index;
    values[1].number = vcpu->cpu != NULL ? vcpu->cpu->index : 0;
    values[2].text = run_state_name(vcpu);
    values[3].number = vcpu->statistics.guest_cycles;
    values[4].number = vcpu->statistics.host_cycles;
    values[5].number = statistics_exits(&vcpu->statistics);
    values[6].number = vcpu->moves;
    format_cpus(vcpu->ran_on, request->cpu_set);
    values[7].text = request->cpu_set;
    return true;
}

static const struct rows vcpu_rows = {
    .key = "vcpu",
    .columns = vcpu_columns,
    .count = ARRAY_SIZE(vcpu_columns),
    .row = vcpu_row,
};

enum progress run_info(struct request *request)
{
    switch (request->step) {
    case 0:
        output_begin(&request->output);
        info_state(request);
        return COMMAND_MORE;
    case 1:
        info_image(request);
        return COMMAND_MORE;
    case 2:
        info_share(request);
        info_exit_port(request);
        info_memory(request);
        return COMMAND_MORE;
    default:
        return request_rows(request, &vcpu_rows);
    }
}

/* ---- transitions ---- */

struct transition {
    bool (*begin)(struct vm *vm, char error[VM_ERROR_SIZE]);
    bool (*reached)(const struct request *request);
    const char *done;
};

enum progress request_answer(struct request *request, const char *done)
{
    const struct vm *vm = request->vm;

    request_begin(request, vm->config.name);
    output_member(&request->output, "state", vm_state_name(vm));
    output_line(&request->output, "'%s' %s", vm->config.name, done);
    output_end(&request->output);
    return COMMAND_DONE;
}

static enum progress run_transition(struct request *request, const struct transition *transition)
{
    struct vm *vm = request->vm;
    char error[VM_ERROR_SIZE] = "";

    if (request->step == 0) {
        request->before = vm->starts;
        if (!transition->begin(vm, error))
            return request_fail(request, "%s", error);
    }
    if (!vm_settled(vm))
        return COMMAND_WAITING;
    if (transition->reached(request))
        return request_answer(request, transition->done);
    if (vm->message[0] != '\0')
        return request_fail(request, "%s", vm->message);
    return request_fail(request, "'%s' is %s", vm->config.name, vm_state_name(vm));
}

/* One that is over when it returns. */
static enum progress run_action(struct request *request,
                                bool (*act)(struct vm *vm, char error[VM_ERROR_SIZE]),
                                const char *done)
{
    char error[VM_ERROR_SIZE];

    if (!act(request->vm, error))
        return request_fail(request, "%s", error);
    return request_answer(request, done);
}

/* A guest may have run and ended while the start was waited for. */
static bool has_started(const struct request *request)
{
    return request->vm->starts != request->before || request->vm->state == VM_RUNNING;
}

static bool has_stopped(const struct request *request)
{
    return request->vm->state == VM_STOPPED;
}

static bool has_paused(const struct request *request)
{
    return request->vm->state == VM_PAUSED;
}

static bool has_resumed(const struct request *request)
{
    return request->vm->state == VM_RUNNING;
}

enum progress request_start(struct request *request, const char *done)
{
    return run_transition(request, &(struct transition){vm_start, has_started, done});
}

enum progress run_start(struct request *request)
{
    return request_start(request, "started");
}

enum progress run_destroy(struct request *request)
{
    return run_transition(request, &(struct transition){vm_destroy, has_stopped, "destroyed"});
}

enum progress run_reset(struct request *request)
{
    return run_transition(request, &(struct transition){vm_reset, has_started, "reset"});
}

enum progress run_shutdown(struct request *request)
{
    return run_action(request, vm_shutdown, "is asked to shut down");
}

enum progress run_reboot(struct request *request)
{
    return run_action(request, vm_reboot, "is asked to shut down, then it is started again");
}

enum progress run_nmi(struct request *request)
{
    return run_action(request, vm_nmi, "got an NMI");
}

enum progress run_pause(struct request *request)
{
    return run_transition(request, &(struct transition){vm_pause, has_paused, "paused"});
}

enum progress run_resume(struct request *request)
{
    return run_transition(request, &(struct transition){vm_resume, has_resumed, "resumed"});
}

/* ---- exits ---- */

static void collect_exits(struct request *request)
{
    struct run_statistics sum;

    vm_statistics(request->vm, &sum);
    for (u32 kind = 0; kind < EXIT_KIND_COUNT; kind++)
        request->exits[kind] = (struct exit_total){
            .count = sum.exits[kind],
            .cycles = sum.exit_cycles[kind],
            .kind = (u8)kind,
        };
}

static bool is_costlier(const struct exit_total *a, const struct exit_total *b)
{
    return a->cycles != b->cycles ? a->cycles > b->cycles : a->count > b->count;
}

static void sort_exits(struct exit_total *totals)
{
    for (u32 i = 1; i < EXIT_KIND_COUNT; i++) {
        struct exit_total moving = totals[i];
        u32 at = i;

        for (; at > 0 && is_costlier(&moving, &totals[at - 1]); at--)
            totals[at] = totals[at - 1];
        totals[at] = moving;
    }
}

static const struct column exit_columns[] = {
    {"EXIT",   "kind",    VALUE_TEXT    },
    {"COUNT",  "count",   VALUE_COUNT   },
    {"TIME",   "time_ns", VALUE_DURATION},
    {"EACH",   "each_ns", VALUE_DURATION},
    {"CYCLES", "cycles",  VALUE_COUNT   },
};

static bool exit_row(struct request *request, u32 index, struct value *values)
{
    const struct exit_total *total = &request->exits[index];

    if (index >= EXIT_KIND_COUNT || total->count == 0)
        return false;
    values[0].text = exit_kind_name((enum exit_kind)total->kind);
    values[1].number = total->count;
    values[2].number = cycles_to_ns(total->cycles);
    values[3].number = cycles_to_ns(total->cycles / total->count);
    values[4].number = total->cycles;
    return true;
}

static const struct rows exit_rows = {
    .key = "exits",
    .columns = exit_columns,
    .count = ARRAY_SIZE(exit_columns),
    .row = exit_row,
};

static bool fail_without_vcpus(struct request *request)
{
    const struct vm *vm = request->vm;

    if (vcpu_at(vm, 0) != NULL)
        return false;
    request_fail(request, "'%s' is %s and has no virtual CPUs now", vm->config.name,
                 vm_state_name(vm));
    return true;
}

enum progress run_exits(struct request *request)
{
    if (request->step == 0) {
        collect_exits(request);
        sort_exits(request->exits);
        request_begin(request, request->vm->config.name);
    }
    return request_rows(request, &exit_rows);
}

/* ---- dump ---- */

#define DUMPED_AT_ONCE      (4 * REGISTERS_IN_A_LINE)
#define REGISTERS_IN_A_LINE 3
#define BYTE_TEXT           3 /* of a byte of code, with its blank */

static const struct {
    char name[7];
    u8 word; /* of struct vcpu_state */
} dumped_registers[] = {
#define WORD(member) offsetof(struct vcpu_state, member) / sizeof(u64)
    {"rax",    WORD(gpr[GPR_RAX])},
          {"rbx",    WORD(gpr[GPR_RBX])},
          {"rcx",    WORD(gpr[GPR_RCX])},
    {"rdx",    WORD(gpr[GPR_RDX])},
          {"rsi",    WORD(gpr[GPR_RSI])},
          {"rdi",    WORD(gpr[GPR_RDI])},
    {"rbp",    WORD(gpr[GPR_RBP])},
          {"rsp",    WORD(gpr[GPR_RSP])},
          {"r8",     WORD(gpr[GPR_R8]) },
    {"r9",     WORD(gpr[GPR_R9]) },
          {"r10",    WORD(gpr[GPR_R10])},
          {"r11",    WORD(gpr[GPR_R11])},
    {"r12",    WORD(gpr[GPR_R12])},
          {"r13",    WORD(gpr[GPR_R13])},
          {"r14",    WORD(gpr[GPR_R14])},
    {"r15",    WORD(gpr[GPR_R15])},
          {"rip",    WORD(rip)         },
          {"rflags", WORD(rflags)      },
    {"cr0",    WORD(cr0)         },
          {"cr2",    WORD(cr2)         },
          {"cr3",    WORD(cr3)         },
    {"cr4",    WORD(cr4)         },
          {"efer",   WORD(efer)        },
          {"dr7",    WORD(dr7)         },
#undef WORD
};

_Static_assert(sizeof(struct vcpu_state) / sizeof(u64) <= UINT8_MAX, "register words");

/* From `first` to before `end`, both at the begin of a line. */
static void dump_registers(struct request *request, const struct vcpu_state *state, u32 first,
                           u32 end)
{
    const u64 *words = (const u64 *)state;
    char line[80];
    size_t size = 0;

    for (u32 i = first; i < end; i++) {
        const char *name = dumped_registers[i].name;
        u64 value = words[dumped_registers[i].word];

        if (request->output.json)
            output_field(&request->output, &(struct column){name, name, VALUE_HEX},
                         (struct value){.number = value});
        size += (size_t)snprintf(line + size, sizeof(line) - size, "%-6s %016llx  ", name,
                                 (unsigned long long)value);
        if ((i + 1) % REGISTERS_IN_A_LINE == 0) {
            output_line(&request->output, "%s", line);
            size = 0;
        }
    }
}

static void dump_segments(struct request *request, const struct vcpu_state *state)
{
    static const struct column columns[] = {
        {"SEGMENT",    "name",       VALUE_TEXT},
        {"SELECTOR",   "selector",   VALUE_HEX },
        {"BASE",       "base",       VALUE_HEX },
        {"LIMIT",      "limit",      VALUE_HEX },
        {"ATTRIBUTES", "attributes", VALUE_HEX },
    };
    static const char names[][5] = {
        [SEG_ES] = "es", [SEG_CS] = "cs",     [SEG_SS] = "ss", [SEG_DS] = "ds", [SEG_FS] = "fs",
        [SEG_GS] = "gs", [SEG_LDTR] = "ldtr", [SEG_TR] = "tr", "gdtr",          "idtr",
    };
    const struct segment last[] = {
        {.base = state->gdtr.base, .limit = state->gdtr.limit},
        {.base = state->idtr.base, .limit = state->idtr.limit},
    };
    struct table table = {
        columns, ARRAY_SIZE(columns), {7, 8, 18, 10, 10}
    };

    output_table(&request->output, &table, "segments");
    for (u32 i = 0; i < ARRAY_SIZE(names); i++) {
        const struct segment *segment = i < SEG_COUNT ? &state->segments[i] : &last[i - SEG_COUNT];

        output_row(&request->output, &table,
                   (const struct value[]){
                       {.text = names[i]},
                       {.number = segment->selector},
                       {.number = segment->base},
                       {.number = segment->limit},
                       {.number = segment->attributes},
                   });
    }
    output_table_end(&request->output);
}

static void dump_code(struct request *request, const struct vcpu_capture *capture)
{
    static const struct column column = {"Bytes at RIP", "code", VALUE_TEXT};
    char text[BYTE_TEXT * INSN_MAX_LENGTH + 1] = "";

    for (u32 i = 0; i < capture->code_size; i++)
        snprintf(text + (size_t)BYTE_TEXT * i, BYTE_TEXT + 1, "%02x ", capture->code[i]);
    output_field(&request->output, &column, (struct value){.text = text});
}

static void dump_trace(struct request *request, const struct vcpu_capture *capture)
{
    static const struct column columns[] = {
        {"LAST EXITS",    "kind",          VALUE_TEXT},
        {"REASON",        "reason",        VALUE_HEX },
        {"QUALIFICATION", "qualification", VALUE_HEX },
    };
    struct table table = {
        columns, ARRAY_SIZE(columns), {18, 10, 18}
    };
    u32 count = MIN(capture->trace_next, (u32)EXIT_TRACE_SIZE);

    output_table(&request->output, &table, "trace");
    for (u32 i = capture->trace_next - count; i != capture->trace_next; i++) {
        const struct exit_trace *trace = &capture->trace[i % EXIT_TRACE_SIZE];

        output_row(&request->output, &table,
                   (const struct value[]){
                       {.text = exit_kind_name((enum exit_kind)trace->kind)},
                       {.number = trace->reason},
                       {.number = trace->qualification},
                   });
    }
    output_table_end(&request->output);
}

/* One of its parts; request->position says which. */
static void dump_part(struct request *request, struct vcpu *vcpu)
{
    static const struct column columns[] = {
        {"vCPU",  "index", VALUE_COUNT},
        {"State", "state", VALUE_TEXT },
    };
    struct vcpu_capture capture = {0};

    spin_lock(&vcpu->vm->lock);
    if (vcpu->capture != NULL) /* else it has been stopped and started meanwhile */
        capture = *vcpu->capture;
    spin_unlock(&vcpu->vm->lock);
    switch (request->position++) {
    case 0:
        output_open(&request->output, NULL, '{');
        request_fields(request, columns,
                       (const struct value[]){
                           {.number = vcpu->index},
                           {.text = run_state_name(vcpu)},
                       },
                       ARRAY_SIZE(columns));
        dump_registers(request, &capture.state, 0, DUMPED_AT_ONCE);
        return;
    case 1:
        dump_registers(request, &capture.state, DUMPED_AT_ONCE, ARRAY_SIZE(dumped_registers));
        dump_code(request, &capture);
        return;
    case 2:
        dump_segments(request, &capture.state);
        return;
    default:
        dump_trace(request, &capture);
        output_close(&request->output, '{');
        request->position = 0;
        request->row++;
    }
}

/* Each vCPU keeps its page for the next time. False when memory is short. */
static bool ask_for_capture(struct vm *vm, struct vcpu *vcpu)
{
    if (vcpu->capture == NULL)
        vcpu->capture = vm_alloc(vm, 1);
    if (vcpu->capture == NULL)
        return false;
    spin_lock(&vm->lock);
    vcpu->capture->done = false;
    spin_unlock(&vm->lock);
    vcpu_post(vcpu, REQUEST_CAPTURE);
    return true;
}

/* Those that are parked are CPU 0's to look at, the others answer when they can. */
static bool have_capture(struct vm *vm, struct vcpu *vcpu)
{
    bool done;

    if (vm->state != VM_RUNNING)
        sched_capture_parked(vcpu);
    spin_lock(&vm->lock);
    done = vcpu->capture->done;
    spin_unlock(&vm->lock);
    return done;
}

/* The next vCPU's, if there is one: first all are asked (request->position 0), then looked at. */
static enum progress capture_next(struct request *request)
{
    struct vm *vm = request->vm;
    struct vcpu *vcpu = request->row < vm->vcpu_count ? vm->vcpus[request->row] : NULL;

    if (vcpu == NULL) {
        request->measured = request->position == 1;
        request->position = request->measured ? 0 : 1;
        request->row = 0;
        return COMMAND_MORE;
    }
    if (request->position == 0 && !ask_for_capture(vm, vcpu))
        return request_fail(request, "no memory to dump '%s' into", vm->config.name);
    if (request->position == 1 && !have_capture(vm, vcpu))
        return COMMAND_WAITING;
    request->row++;
    return COMMAND_MORE;
}

static enum progress begin_dump(struct request *request)
{
    static const struct column columns[] = {
        {"Name",    "name",    VALUE_TEXT},
        {"State",   "state",   VALUE_TEXT},
        {"Message", "message", VALUE_TEXT},
    };
    struct vm *vm = request->vm;
    enum progress progress;

    if (!vm_settled(vm))
        return COMMAND_WAITING;
    if (fail_without_vcpus(request))
        return COMMAND_DONE;
    if (request->step == 0 || request->before != vm->starts) {
        request->before = vm->starts;
        request->row = 0;
        request->position = 0;
    }
    progress = capture_next(request);
    if (!request->measured)
        return progress;
    output_begin(&request->output);
    request_fields(request, columns,
                   (const struct value[]){
                       {.text = vm->config.name},
                       {.text = vm_state_name(vm)},
                       {.text = vm->message},
                   },
                   ARRAY_SIZE(columns));
    output_open(&request->output, "vcpus", '[');
    return COMMAND_MORE;
}

enum progress run_dump(struct request *request)
{
    if (!request->measured)
        return begin_dump(request);
    if (vcpu_at(request->vm, request->row) != NULL) {
        dump_part(request, request->vm->vcpus[request->row]);
        return COMMAND_MORE;
    }
    if (request->position != 0) /* gone between two parts */
        output_close(&request->output, '{');
    output_close(&request->output, '[');
    output_end(&request->output);
    return COMMAND_DONE;
}
