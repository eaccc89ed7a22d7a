/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <asm/prctl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

/* The whole monitor against a machine of paper: typed bytes in, the terminal's text out. */

#include "core/console.c"
#include "core/cpu.h"
#include "core/host.h"
#include "core/lifecycle.h"
#include "core/log.h"
#include "core/mitigations.h"
#include "core/sched.h"
#include "core/terminal.h"
#include "monitor/command.h"
#include "monitor/monitor.h"

#define PROMPT        "bulkhead> "
#define RING_SIZE     65536
#define SCREEN_SIZE   (1 << 20)
#define FLEET         1000
#define LONG_TURN     512 /* more than a turn of the monitor writes */
#define MANY_POLLS    200000
#define POLLS_AT_REST 20

/* ---- the machine of paper ---- */

static struct {
    char screen[SCREEN_SIZE];
    size_t size;
    size_t queued; /* in the terminal's ring */
    size_t drain;  /* bytes that the line sends between two polls */
    char input[SCREEN_SIZE];
    size_t input_size, input_taken;
} line;

static struct vm *vms[FLEET];
static u32 vm_total;
static bool settled;
static const char *done;    /* the last thing that was done at once */
static const char *refusal; /* what vm_start and the others answer; NULL: they begin */
static u64 patience;
static void (*listener)(struct vm *vm, enum vm_event what);
static char guest_got[SCREEN_SIZE];
static size_t guest_got_size;
static const char *kernel_log;
static u32 wakes;
static jmp_buf shutdown;
static struct cpu paper_cpus[2];
static struct cpu *paper_cpu_table[] = {&paper_cpus[0], &paper_cpus[1]};

const char bulkhead_version[] = "1.2-test";
struct host host;
struct cpu **cpus = paper_cpu_table;
u32 cpu_count = 2;

static bool short_of_memory;

static struct vm *add_vm(const char *name, enum vm_state state)
{
    struct vm *vm = calloc(1, sizeof(*vm));

    assert_true(vm_total < FLEET);
    config_partition_defaults(&vm->config, name);
    vm->config.memory = 256 * MIB;
    vm->state = state;
    vms[vm_total++] = vm;
    if (state != VM_STOPPED) {
        vm->vcpu_count = 1;
        vm->memory.size = vm->config.memory;
        vm->vcpus = calloc(1, sizeof(struct vcpu *));
        vm->vcpus[0] = calloc(1, sizeof(struct vcpu));
        vm->vcpus[0]->cpu = &paper_cpus[0];
        vm->vcpus[0]->vm = vm;
        assert_true(console_prepare(&vm->console));
    }
    return vm;
}

void *vm_alloc(struct vm *vm, u64 pages)
{
    assert_int_equal(pages, 1);
    return short_of_memory ? NULL : calloc(1, sizeof(struct vcpu_capture));
}

static void free_vm(struct vm *vm)
{
    console_free(&vm->console);
    if (vm->vcpus != NULL) {
        free(vm->vcpus[0]->capture);
        free(vm->vcpus[0]);
    }
    free(vm->vcpus);
    free(vm);
}

static void remove_vm(struct vm *vm)
{
    u32 index = 0;

    while (vms[index] != vm)
        index++;
    memmove(&vms[index], &vms[index + 1], (--vm_total - index) * sizeof(vms[0]));
    free_vm(vm);
}

void terminal_write(const char *text, size_t size)
{
    assert_true(line.size + size < SCREEN_SIZE);
    memcpy(line.screen + line.size, text, size);
    line.size += size;
    line.screen[line.size] = '\0';
    line.queued += size;
    assert_true(line.queued <= RING_SIZE);
}

size_t terminal_room(void)
{
    return RING_SIZE - line.queued;
}

size_t terminal_read(char *to, size_t size)
{
    size_t count = 0;

    while (count < size && line.input_taken < line.input_size)
        to[count++] = line.input[line.input_taken++];
    return count;
}

size_t log_read(u64 *position, char *to, size_t size)
{
    size_t length = strlen(kernel_log), count = 0;

    while (count < size && *position < length)
        to[count++] = kernel_log[(*position)++];
    return count;
}

struct vm *vm_next(const struct vm *vm)
{
    u32 index = 0;

    while (vm != NULL && index < vm_total && vms[index++] != vm)
        ;
    return index < vm_total ? vms[index] : NULL;
}

struct vm *vm_find(const char *name)
{
    for (u32 i = 0; i < vm_total; i++) {
        if (strcmp(vms[i]->config.name, name) == 0)
            return vms[i];
    }
    return NULL;
}

const struct boot_module *host_image(const char *name)
{
    for (u32 i = 0; i < host.boot.module_count; i++) {
        if (strcmp(host.boot.modules[i].name, name) == 0)
            return &host.boot.modules[i];
    }
    return NULL;
}

const char *vm_state_name(const struct vm *vm)
{
    static const char *const names[] = {
        [VM_STOPPED] = "stopped", [VM_STARTING] = "starting", [VM_RUNNING] = "running",
        [VM_PAUSING] = "running", [VM_PAUSED] = "paused",     [VM_STOPPING] = "stopping",
        [VM_CRASHED] = "crashed",
    };

    return names[vm->state];
}

static bool begin_transition(char error[VM_ERROR_SIZE])
{
    if (refusal != NULL)
        snprintf(error, VM_ERROR_SIZE, "%s", refusal);
    settled = false;
    return refusal == NULL;
}

bool vm_start(struct vm *vm, char error[VM_ERROR_SIZE])
{
    return begin_transition(error);
}

bool vm_destroy(struct vm *vm, char error[VM_ERROR_SIZE])
{
    return begin_transition(error);
}

bool vm_pause(struct vm *vm, char error[VM_ERROR_SIZE])
{
    return begin_transition(error);
}

bool vm_resume(struct vm *vm, char error[VM_ERROR_SIZE])
{
    return begin_transition(error);
}

bool vm_reset(struct vm *vm, char error[VM_ERROR_SIZE])
{
    return begin_transition(error);
}

struct vm *vm_create(const struct partition_config *config, char error[VM_ERROR_SIZE])
{
    struct vm *vm;

    if (vm_find(config->name) != NULL) {
        snprintf(error, VM_ERROR_SIZE, "there is a partition '%s' already", config->name);
        return NULL;
    }
    vm = add_vm(config->name, VM_STOPPED);
    vm->config = *config;
    return vm;
}

bool vm_configure(struct vm *vm, const struct partition_config *config, char error[VM_ERROR_SIZE])
{
    if (refusal != NULL)
        snprintf(error, VM_ERROR_SIZE, "%s", refusal);
    else
        vm->config = *config;
    return refusal == NULL;
}

bool vm_undefine(struct vm *vm, char error[VM_ERROR_SIZE])
{
    if (vm->state != VM_STOPPED) {
        snprintf(error, VM_ERROR_SIZE, "'%s' is running, not stopped", vm->config.name);
        return false;
    }
    if (listener != NULL)
        listener(vm, VM_EVENT_UNDEFINE);
    remove_vm(vm);
    return true;
}

/* What is over when it returns. */
static bool act(const char *what, char error[VM_ERROR_SIZE])
{
    if (refusal != NULL)
        snprintf(error, VM_ERROR_SIZE, "%s", refusal);
    else
        done = what;
    return refusal == NULL;
}

bool vm_shutdown(struct vm *vm, char error[VM_ERROR_SIZE])
{
    return act("shutdown", error);
}

bool vm_reboot(struct vm *vm, char error[VM_ERROR_SIZE])
{
    return act("reboot", error);
}

bool vm_nmi(struct vm *vm, char error[VM_ERROR_SIZE])
{
    return act("nmi", error);
}

/* The owner of a vCPU is asked now and answers when `answer_captures` is called. */
void vcpu_post(struct vcpu *vcpu, u32 requests)
{
    vcpu->requests |= requests;
}

void sched_capture_parked(struct vcpu *vcpu)
{
    vcpu->capture->trace_next = vcpu->trace_next;
    memcpy(vcpu->capture->trace, vcpu->trace, sizeof(vcpu->trace));
    vcpu->capture->done = true;
}

bool vm_settled(const struct vm *vm)
{
    return settled;
}

void lifecycle_set_listener(void (*event)(struct vm *vm, enum vm_event what))
{
    listener = event;
}

void vm_input(struct vm *vm, u8 byte)
{
    assert_true(console_type(&vm->console, byte));
}

void vm_pace(struct vm *vm, u64 limit)
{
    vm->console.limit = limit;
}

void sched_wake_boot_cpu(void)
{
    wakes++;
}

void *pool_alloc(u64 pages)
{
    return calloc(pages, PAGE_SIZE);
}

void pool_free(void *memory, u64 pages)
{
    free(memory);
}

struct memory_stats memory_stats(void)
{
    return (struct memory_stats){
        .total = GIB, .free = 512 * MIB, .pool = 8 * MIB, .pool_used = MIB};
}

u64 guest_memory_table_pages(const struct guest_memory *memory)
{
    return 3;
}

u64 host_uptime_ns(void)
{
    return 90000000000ULL;
}

u64 host_ns_to_tsc(u64 ns)
{
    return patience;
}

u64 sched_resting(const struct cpu *cpu)
{
    return 0;
}

void host_shutdown(bool reboot)
{
    longjmp(shutdown, reboot ? 2 : 1);
}

const char *exit_kind_name(enum exit_kind kind)
{
    static const char *const names[EXIT_KIND_COUNT] = {
        [EXIT_NONE] = "none",
        [EXIT_CPUID] = "cpuid",
        [EXIT_HLT] = "hlt",
        [EXIT_PORT] = "port",
    };

    return names[kind];
}

/* ---- helpers ---- */

/* Polls until nothing more comes. */
static void settle(void)
{
    u32 rest = 0;

    for (u32 i = 0; i < MANY_POLLS && rest < POLLS_AT_REST; i++) {
        size_t before = line.size;
        bool more = monitor_poll();

        line.queued -= MIN(line.queued, line.drain);
        rest = more || line.size != before || line.queued > 0 ? 0 : rest + 1;
        if (more && line.size == before && line.queued == 0 && i > POLLS_AT_REST * 100)
            return; /* it waits */
    }
}

static void type_bytes(const char *bytes, size_t size)
{
    assert_true(line.input_size + size < SCREEN_SIZE);
    memcpy(line.input + line.input_size, bytes, size);
    line.input_size += size;
    settle();
}

static void type(const char *text)
{
    type_bytes(text, strlen(text));
}

static void clear(void)
{
    line.size = 0;
    line.screen[0] = '\0';
}

/* Types a command; what it answered, without its echo and the next prompt. */
static const char *answer(const char *command)
{
    char *start, *end;

    clear();
    type(command);
    type("\r");
    start = strstr(line.screen, "\r\n");
    assert_non_null(start);
    start += 2;
    end = strstr(start, "\r" PROMPT);
    assert_non_null(end);
    *end = '\0';
    return start;
}

/* The guest takes what was typed to it. */
static const char *guest_read(struct vm *vm)
{
    struct console *console = &vm->console;

    guest_got_size = 0;
    while (console->input_tail != console->input_head)
        guest_got[guest_got_size++] =
            (char)console->input[console->input_tail++ % CONSOLE_INPUT_SIZE];
    guest_got[guest_got_size] = '\0';
    return guest_got;
}

static void guest_put(struct vm *vm, char byte)
{
    if (console_must_grow(&vm->console))
        console_grow(&vm->console, pool_alloc(1));
    console_put(&vm->console, (u8)byte);
}

static void guest_print(struct vm *vm, const char *text)
{
    for (; *text != '\0'; text++)
        guest_put(vm, *text);
}

/* No row is wrapped by a terminal of 80 columns. */
static void assert_lines_fit(const char *text)
{
    for (const char *end; (end = strstr(text, "\r\n")) != NULL; text = end + 2)
        assert_true(end - text <= 80);
}

#define EXPECT(text) assert_non_null(strstr(line.screen, text))
#define REFUSE(text) assert_null(strstr(line.screen, text))

static int setup(void **state)
{
    memset(&line, 0, sizeof(line));
    memset(&host, 0, sizeof(host));
    memset(paper_cpus, 0, sizeof(paper_cpus));
    paper_cpus[0].self = &paper_cpus[0];
    paper_cpus[1].self = &paper_cpus[1];
    paper_cpus[1].index = 1;
    syscall(SYS_arch_prctl, ARCH_SET_GS, &paper_cpus[0]);
    line.drain = RING_SIZE;
    host.tsc_hz = 1000000000;
    patience = UINT64_MAX / 4;
    refusal = NULL;
    settled = true;
    kernel_log = "";
    wakes = 0;
    monitor_init();
    settle();
    return 0;
}

static int teardown(void **state)
{
    clear();
    type("\x1d\r\x03interactive\r");
    while (vm_total > 0)
        remove_vm(vms[0]);
    return 0;
}

/* ---- JSON: a checker ---- */

static const char *json_value(const char *at);

static const char *json_string(const char *at)
{
    if (at == NULL || *at++ != '"')
        return NULL;
    for (; *at != '"'; at++) {
        if ((u8)*at < ' ')
            return NULL;
        if (*at == '\\' && *++at == 'u')
            at += 4;
    }
    return at + 1;
}

static const char *json_members(const char *at, char close, bool keys)
{
    if (*++at == close)
        return at + 1;
    for (;; at++) {
        if (keys) {
            at = json_string(at);
            if (at == NULL || *at++ != ':')
                return NULL;
        }
        at = json_value(at);
        if (at == NULL || (*at != ',' && *at != close))
            return NULL;
        if (*at == close)
            return at + 1;
    }
}

static const char *json_value(const char *at)
{
    static const char *const words[] = {"true", "false"};

    if (*at == '{')
        return json_members(at, '}', true);
    if (*at == '[')
        return json_members(at, ']', false);
    if (*at == '"')
        return json_string(at);
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strncmp(at, words[i], strlen(words[i])) == 0)
            return at + strlen(words[i]);
    }
    return strspn(at, "0123456789.") > 0 ? at + strspn(at, "0123456789.") : NULL;
}

static const char *json_answer(const char *command)
{
    const char *text = answer(command);
    const char *end = json_value(text);

    assert_non_null(end);
    assert_string_equal(end, "\r\n");
    return text;
}

/* ---- the prompt ---- */

static void test_the_prompt_stands_there(void **state)
{
    EXPECT(PROMPT);
    clear();
    type("\r");
    EXPECT("\r\n\r" PROMPT);
    REFUSE("error");
}

static void test_mistakes(void **state)
{
    add_vm("web", VM_RUNNING);
    assert_string_equal(answer("lst"), "error: unknown command 'lst', did you mean 'list'?\r\n");
    assert_string_equal(answer("frobnicate"),
                        "error: unknown command 'frobnicate', 'help' lists them\r\n");
    assert_string_equal(answer("info"), "error: usage: info NAME\r\n");
    assert_string_equal(answer("list web"), "error: usage: list\r\n");
    assert_string_equal(answer("info nobody"), "error: there is no partition 'nobody'\r\n");
    assert_string_equal(answer("info \"web"), "error: a double quote is not closed\r\n");
    assert_string_equal(answer("list -o xml"), "error: -o wants the word json behind it\r\n");
    assert_string_equal(json_answer("info nobody -o json"),
                        "{\"ok\":false,\"error\":\"there is no partition 'nobody'\"}\r\n");
}

static void test_completion(void **state)
{
    add_vm("web", VM_RUNNING);
    add_vm("db", VM_RUNNING);
    clear();
    type("inf\tw\t\r");
    EXPECT("Name                web\r\n");
    clear();
    type("help cons\t\r");
    EXPECT("console NAME\r\n");
    clear();
    type("list w\t\r");
    EXPECT("error: usage: list\r\n");
    clear();
    type("start \t\x15");
    EXPECT("\r\nweb  db\r\n");
    clear();
    type("start web d\t\x15");
    EXPECT("\a");
    clear();
    type("log -\t\t\x15");
    EXPECT("\r\n-o  -f\r\n");
    clear();
    type("list -o\tj\t\r");
    EXPECT("{\"ok\":true");
    clear();
    type("log -o json -f d\t\x15");
    EXPECT("-f db ");
    clear();
    type("nonsense \t\x15");
    EXPECT("\a");
}

/* ---- list and info ---- */

static void test_list(void **state)
{
    struct vm *web = add_vm("web", VM_RUNNING);

    strcpy(add_vm("small", VM_CRASHED)->message, "triple fault");
    web->config.vcpus = 2; /* from its next start on */
    web->vcpus[0]->statistics.guest_cycles = 1500000;
    web->vcpus[0]->statistics.host_cycles = 500000;
    web->vcpus[0]->statistics.exits[EXIT_HLT] = 40;
    web->vcpus[0]->statistics.exits[EXIT_PORT] = 2;
    assert_string_equal(answer("list"),
                        "NAME   STATE    VCPUS   MEMORY  CPU-TIME  EXITS  MESSAGE\r\n"
                        "web    running      1  256 MiB      2 ms     42  \r\n"
                        "small  crashed      1  256 MiB      0 ns      0  triple fault\r\n");
    assert_string_equal(json_answer("list -o json"),
                        "{\"ok\":true,\"partitions\":["
                        "{\"name\":\"web\",\"state\":\"running\",\"vcpus\":1,"
                        "\"memory\":268435456,\"cpu_time_ns\":2000000,\"exits\":42,"
                        "\"message\":\"\"},"
                        "{\"name\":\"small\",\"state\":\"crashed\",\"vcpus\":1,"
                        "\"memory\":268435456,\"cpu_time_ns\":0,\"exits\":0,"
                        "\"message\":\"triple fault\"}]}\r\n");
}

static void test_list_of_none(void **state)
{
    assert_non_null(strstr(answer("list"), "There are no partitions."));
    assert_string_equal(json_answer("list -o json"), "{\"ok\":true,\"partitions\":[]}\r\n");
}

static void test_list_of_a_fleet_on_a_slow_line(void **state)
{
    char name[32];
    const char *text;
    u32 lines = 0;

    line.drain = 100;
    for (u32 i = 0; i < FLEET; i++) {
        snprintf(name, sizeof(name), "partition-number-%u", i);
        add_vm(name, VM_STOPPED);
    }
    for (text = answer("list"); (text = strstr(text, "\r\n")) != NULL; text++)
        lines++;
    assert_int_equal(lines, FLEET + 1);
    assert_non_null(strstr(json_answer("list -o json"), "partition-number-999"));
}

static void test_info(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);
    const char *text;

    strcpy(vm->config.cmdline, "console=ttyS0 name=\"x y\" \\");
    memcpy(vm->config.modules, "a\0bc", 5);
    vm->config.module_count = 2;
    vm->exit_status = 33;
    vm->hypervisor_pages = 10;
    vm->memory.mapped = 256 * MIB;
    vm->config.exit_port = 0xF4;
    vm->vcpus[0]->moves = 2;
    vm->vcpus[0]->ran_on[0] = 3;
    vm->starts = 3;
    text = answer("info web");
    assert_non_null(strstr(text, "Command line        console=ttyS0 name=\"x y\" \\\r\n"));
    assert_non_null(strstr(text, "Modules             a bc\r\n"));
    assert_non_null(strstr(text, "May run on CPUs     0-1\r\n"));
    assert_non_null(strstr(text, "Exit port           0xf4\r\n"));
    assert_non_null(strstr(text, "  page tables       12 KiB\r\n"));
    assert_non_null(strstr(text, "VCPU  CPU  STATE "));
    text = json_answer("info web -o json");
    assert_non_null(strstr(text, "\"cmdline\":\"console=ttyS0 name=\\\"x y\\\" \\\\\""));
    assert_non_null(strstr(text, "\"exit_status\":33"));
    assert_non_null(strstr(text, "\"hypervisor_memory\":45056"));
    assert_non_null(strstr(text, "\"vcpu\":[{\"index\":0,\"cpu\":0,\"state\":\"parked\""));
    assert_non_null(strstr(text, "\"moves\":2,\"ran_on\":\"0-1\""));
}

static void test_info_of_a_stopped_one(void **state)
{
    add_vm("web", VM_STOPPED);
    assert_non_null(strstr(json_answer("info web -o json"), "\"vcpu\":[]"));
}

/* ---- transitions ---- */

static void test_start_waits_and_tells(void **state)
{
    struct vm *vm = add_vm("web", VM_STOPPED);

    clear();
    type("start web\r");
    type("version\r");
    REFUSE("started");
    REFUSE("Bulkhead");
    vm->state = VM_RUNNING;
    settled = true;
    settle();
    EXPECT("start web\r\n'web' started\r\n\r" PROMPT);
    EXPECT("Bulkhead 1.2-test\r\n\r" PROMPT);
}

static void test_start_that_ended_already(void **state)
{
    struct vm *vm = add_vm("small", VM_STOPPED);

    clear();
    type("start small -o json\r");
    vm->starts = 1;
    settled = true;
    settle();
    EXPECT("{\"ok\":true,\"name\":\"small\",\"state\":\"stopped\"}\r\n");
}

static void test_start_refused(void **state)
{
    add_vm("web", VM_RUNNING);
    refusal = "'web' is already running";
    assert_string_equal(answer("start web"), "error: 'web' is already running\r\n");
    assert_string_equal(json_answer("start web -o json"),
                        "{\"ok\":false,\"error\":\"'web' is already running\"}\r\n");
}

static void test_start_that_fails_later(void **state)
{
    struct vm *vm = add_vm("web", VM_STOPPED);

    clear();
    type("start web\r");
    strcpy(vm->message, "vmlinuz is truncated");
    settled = true;
    settle();
    EXPECT("error: vmlinuz is truncated\r\n\r" PROMPT);
}

static void test_the_other_transitions(void **state)
{
    static const struct {
        const char *command, *done;
        enum vm_state reached, missed;
    } cases[] = {
        {"destroy web\r", "'web' destroyed", VM_STOPPED, VM_RUNNING},
        {"pause web\r",   "'web' paused",    VM_PAUSED,  VM_STOPPED},
        {"resume web\r",  "'web' resumed",   VM_RUNNING, VM_STOPPED},
        {"reset web\r",   "'web' reset",     VM_RUNNING, VM_STOPPED},
    };
    struct vm *vm = add_vm("web", VM_RUNNING);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        clear();
        type(cases[i].command);
        REFUSE(cases[i].done);
        vm->state = cases[i].reached;
        settled = true;
        settle();
        EXPECT(cases[i].done);
        clear();
        type(cases[i].command);
        vm->state = cases[i].missed;
        settled = true;
        settle();
        EXPECT("error: 'web' is ");
    }
}

static void test_ctrl_c_gives_up_waiting(void **state)
{
    add_vm("web", VM_STOPPED);
    clear();
    type("start web\r");
    type("list\r\x03");
    EXPECT("^C\r\n\r" PROMPT);
    settled = true;
    settle();
    REFUSE("started");
    REFUSE("NAME");
}

/* ---- console ---- */

static void attach(struct vm *vm)
{
    char command[64];

    clear();
    snprintf(command, sizeof(command), "console %s\r\n", vm->config.name);
    type(command);
    EXPECT("Ctrl-] leaves");
    assert_int_equal(vm->console.watchers, 1);
}

static void test_console_passes_every_byte(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);
    char all[256];
    size_t size = 0;

    attach(vm);
    assert_string_equal(guest_read(vm), "");
    for (int byte = 0; byte < 256; byte++) {
        if (byte != 0x1D)
            all[size++] = (char)byte;
    }
    type_bytes(all, size);
    guest_read(vm);
    assert_int_equal(guest_got_size, size);
    assert_memory_equal(guest_got, all, size);
    clear();
    for (size_t i = 0; i < size; i++)
        console_put(&vm->console, (u8)all[i]);
    settle();
    assert_int_equal(line.size, size);
    assert_memory_equal(line.screen, all, size);
    clear();
    type("\x1d\r");
    EXPECT("\r\n\r" PROMPT);
    assert_int_equal(vm->console.watchers, 0);
}

static void test_the_escape_twice_goes_to_the_guest(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    attach(vm);
    type("a\x1d\x1d"
         "b");
    assert_string_equal(guest_read(vm), "a\x1d"
                                        "b");
    REFUSE(PROMPT "l");
    type("\x1dlist\r");
    EXPECT("NAME  STATE");
    assert_string_equal(guest_read(vm), "");
}

static void test_the_escape_alone_leaves_after_a_while(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    attach(vm);
    clear();
    type("\x1d");
    REFUSE(PROMPT);
    type("\x1d");
    assert_string_equal(guest_read(vm), "\x1d");
    patience = 0;
    type("\x1d\r");
    patience = UINT64_MAX / 4;
    attach(vm);
    clear();
    patience = 0;
    type("\x1d\r");
    attach(vm);
    clear();
    type("\x1d");
    EXPECT("\r" PROMPT);
}

static void test_another_escape_can_be_chosen(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    strcpy(host.boot.cmdline, "console=com1 escape=^A");
    clear();
    type("console web\r\x1d");
    EXPECT("Ctrl-A leaves");
    assert_string_equal(guest_read(vm), "\x1d");
    clear();
    type("\x01\r");
    EXPECT(PROMPT);
}

static void test_console_replays_what_was_missed(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    guest_print(vm, "first boot line\r\n");
    attach(vm);
    EXPECT("first boot line\r\n");
    type("\x1d\r");
    guest_print(vm, "second line\r\n");
    attach(vm);
    REFUSE("first boot line");
    EXPECT("second line\r\n");
    REFUSE("dropped");
    type("\x1d\r");
}

static void test_a_console_grows_before_it_is_full(void **state)
{
    struct console *console = &add_vm("web", VM_RUNNING)->console;

    while (!console_must_grow(console))
        console_put(console, 'x');
    assert_int_equal(console->written, CONSOLE_PAGE_SIZE - CONSOLE_AHEAD);
    assert_false(console_must_wait(console));
    while (!console_must_wait(console))
        console_put(console, 'x');
    for (int i = 0; i < CONSOLE_BURST; i++)
        console_put(console, 'x');
    assert_int_equal(console->written, CONSOLE_PAGE_SIZE);
    assert_int_equal(console_lost(console), 0);
    console_put(console, 'y');
    assert_int_equal(console->written, CONSOLE_PAGE_SIZE);
    assert_int_equal(console_lost(console), 1);
    console_grow(console, pool_alloc(1));
    assert_false(console_must_wait(console) || console_must_grow(console));
}

static void test_a_console_that_cannot_grow_wraps(void **state)
{
    struct console *console = &add_vm("web", VM_RUNNING)->console;
    u64 position = 0;
    char byte;

    while (!console_must_grow(console))
        console_put(console, 'x');
    console_grow(console, NULL);
    assert_false(console_must_wait(console) || console_must_grow(console));
    while (console->written <= CONSOLE_PAGE_SIZE)
        console_put(console, 'y');
    assert_int_equal(console_lost(console), 1);
    assert_int_equal(console_read(console, &position, &byte, 1), 1);
    assert_int_equal(position, 2);
}

static void test_console_says_what_was_overwritten(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    for (int i = 0; i < CONSOLE_RING_SIZE + 123; i++)
        guest_put(vm, 'x');
    attach(vm);
    EXPECT("[123 bytes dropped]");
    type("\x1d\r");
}

static void test_a_flood_leaves_room_for_the_person(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);
    size_t most = 0;

    attach(vm);
    line.drain = 16;
    clear();
    for (int i = 0; i < 300; i++) {
        for (int j = 0; j < 1000; j++)
            guest_put(vm, 'x');
        monitor_poll();
        line.queued -= MIN(line.queued, line.drain);
        most = MAX(most, line.queued);
    }
    assert_true(most <= 4096);
    line.drain = RING_SIZE;
    type("\x1d\r");
    EXPECT("bytes dropped]");
    EXPECT("\r" PROMPT);
}

static void test_a_watched_guest_keeps_to_the_line_while_it_moves(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    attach(vm);
    guest_print(vm, "x");
    settle();
    assert_int_equal(vm->console.limit, 1 + 32768);
    line.drain = 0;
    for (int i = 0; i < 40000; i++)
        guest_put(vm, 'x');
    settle();
    assert_true(vm->console.limit < vm->console.written);
    patience = 0; /* the line has been standing for long */
    monitor_poll();
    assert_int_equal(vm->console.limit, 0);
    patience = UINT64_MAX / 4;
    line.drain = RING_SIZE;
    settle();
    assert_int_equal(vm->console.limit, 40001 + 32768);
    type("\x1d\r");
    assert_int_equal(vm->console.limit, 0);
}

static void test_typed_bytes_wait_for_a_guest_that_starts_or_pauses(void **state)
{
    struct vm *vm = add_vm("web", VM_STARTING);

    attach(vm);
    type("early");
    assert_string_equal(guest_read(vm), "");
    vm->state = VM_RUNNING;
    settle();
    assert_string_equal(guest_read(vm), "early");
    vm->state = VM_PAUSED;
    type("late");
    assert_string_equal(guest_read(vm), "");
    vm->state = VM_RUNNING;
    settle();
    assert_string_equal(guest_read(vm), "late");
    type("\x1d\r");
}

static void test_console_outlives_the_guest(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    attach(vm);
    guest_print(vm, "last words");
    strcpy(vm->message, "triple fault");
    vm->state = VM_CRASHED;
    settle();
    assert_non_null(strstr(strstr(line.screen, "last words"), "[web is crashed: triple fault]"));
    clear();
    type("x");
    EXPECT("\a");
    console_free(&vm->console);
    assert_true(console_prepare(&vm->console));
    vm->message[0] = '\0';
    vm->state = VM_RUNNING;
    vm->starts++;
    guest_print(vm, "hello again");
    settle();
    EXPECT("hello again");
    EXPECT("[web runs]");
    type("x");
    assert_string_equal(guest_read(vm), "x");
    type("\x1d\r");
}

static void test_a_paste_waits_for_a_slow_guest(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);
    static char paste[12000];
    size_t got = 0;

    for (size_t i = 0; i < sizeof(paste); i++)
        paste[i] = (char)('a' + i % 26);
    attach(vm);
    memcpy(line.input + line.input_size, paste, sizeof(paste));
    line.input_size += sizeof(paste);
    for (int i = 0; i < 5000 && got < sizeof(paste); i++) {
        monitor_poll();
        if (i % 10 == 0) {
            guest_read(vm);
            assert_memory_equal(guest_got, paste + got, guest_got_size);
            got += guest_got_size;
        }
    }
    assert_int_equal(got, sizeof(paste));
    REFUSE("\a");
    type("\x1d\r");
}

static void test_a_guest_that_does_not_read_can_be_left(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);
    static char paste[8000];

    memset(paste, 'p', sizeof(paste));
    attach(vm);
    patience = 0;
    type_bytes(paste, sizeof(paste));
    EXPECT("\a");
    clear();
    type("\x1d\r");
    EXPECT(PROMPT);
}

/* ---- what it has to tell about one ---- */

static void test_log(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    guest_print(vm, "Linux version\r\n\x1b[1m\"ok\"\xff\xc3\xa4");
    patience = 0; /* no terminal answers */
    assert_string_equal(answer("log web"), "\x1b[6nLinux version\r\n\x1b[1m\"ok\"\xff\xc3\xa4\r\n");
    assert_string_equal(json_answer("log web -o json"),
                        "{\"ok\":true,\"name\":\"web\",\"log\":\"Linux version\\r\\n"
                        "\\u001b[1m\\\"ok\\\"\xEF\xBF\xBD\xc3\xa4\"}\r\n");
}

static void print_lines(struct vm *vm, int first, int count)
{
    char text[32];

    for (int i = first; i < first + count; i++) {
        snprintf(text, sizeof(text), "line %d\r\n", i);
        guest_print(vm, text);
    }
}

static void test_log_by_the_page(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    print_lines(vm, 1, 100);
    clear();
    type("log web\r\n");
    EXPECT("\x1b[6n");
    REFUSE("line 1\r");
    type("\x1b[24;80R");
    EXPECT("line 23\r\n--More--");
    REFUSE("line 24");
    type("\r\x1b[B");
    EXPECT("line 24\r\n--More--");
    REFUSE("line 25");
    type(" ");
    EXPECT("line 47\r\n--More--");
    REFUSE("line 48");
    type("q");
    EXPECT("\r" PROMPT);
    REFUSE("line 48");
    clear();
    type("log web\r"); /* it has answered once */
    REFUSE("\x1b");
    EXPECT("line 23\r\n--More--");
    type("     ");
    EXPECT("line 100\r\n\r\n\r" PROMPT);
    assert_null(strstr(answer("log web -o json"), "More"));
}

static void test_log_of_wide_lines_by_the_page(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    for (int i = 0; i < 30 * 80; i++)
        console_put(&vm->console, i % 80 == 0 ? '|' : 'x');
    clear();
    type("log web\r");
    type("\x1b[1;1R");
    assert_int_equal(strchr(line.screen, '-') - strchr(line.screen, '|'), 23 * 80);
    type("q");
}

static void test_log_follows(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    guest_print(vm, "first\r\n");
    clear();
    type("log -f web\r");
    EXPECT("first\r\n");
    REFUSE(PROMPT "\r");
    guest_print(vm, "second\r\n");
    settle();
    EXPECT("second\r\n");
    type("list\r");
    REFUSE("NAME");
    line.drain = 16;
    for (int i = 0; i < CONSOLE_RING_SIZE * 2; i++)
        guest_put(vm, 'x');
    monitor_poll();
    line.drain = RING_SIZE;
    settle();
    EXPECT("[65536 bytes dropped]");
    clear();
    type("q");
    EXPECT("\r" PROMPT);
    clear();
    type("log web -f\r");
    type("\x03");
    EXPECT("^C\r\n\r" PROMPT);
    assert_string_equal(json_answer("log web -f -o json"),
                        "{\"ok\":false,\"error\":\"-f is for people: it cannot be JSON\"}\r\n");
    assert_string_equal(answer("log web -x"), "error: usage: log NAME [-f]\r\n");
}

static void test_log_of_a_full_ring_keeps_characters_whole(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);
    const char *text;

    for (int i = 0; i < 30000; i++)
        guest_print(vm, "\xe2\x82\xac");
    line.drain = 700;
    text = json_answer("log web -o json");
    assert_int_equal(strlen(text), strlen("{\"ok\":true,\"name\":\"web\",\"log\":\"\"}\r\n") +
                                       CONSOLE_RING_SIZE - 1 + 3);
    assert_non_null(strstr(text, "\"log\":\"\xEF\xBF\xBD\xe2\x82\xac\xe2\x82\xac"));
}

static void test_exits(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    vm->vcpus[0]->statistics.exits[EXIT_CPUID] = 10;
    vm->vcpus[0]->statistics.exit_cycles[EXIT_CPUID] = 10000;
    vm->vcpus[0]->statistics.exits[EXIT_PORT] = 2;
    vm->vcpus[0]->statistics.exit_cycles[EXIT_PORT] = 50000;
    assert_string_equal(answer("exits web"), "EXIT   COUNT   TIME   EACH  CYCLES\r\n"
                                             "port       2  50 us  25 us   50000\r\n"
                                             "cpuid     10  10 us   1 us   10000\r\n");
    assert_string_equal(json_answer("exits web -o json"),
                        "{\"ok\":true,\"name\":\"web\",\"exits\":["
                        "{\"kind\":\"port\",\"count\":2,\"time_ns\":50000,\"each_ns\":25000,"
                        "\"cycles\":50000},"
                        "{\"kind\":\"cpuid\",\"count\":10,\"time_ns\":10000,\"each_ns\":1000,"
                        "\"cycles\":10000}]}\r\n");
    add_vm("db", VM_STOPPED)->retired.exits[EXIT_HLT] = 3;
    assert_string_equal(json_answer("exits db -o json"),
                        "{\"ok\":true,\"name\":\"db\",\"exits\":["
                        "{\"kind\":\"hlt\",\"count\":3,\"time_ns\":0,\"each_ns\":0,"
                        "\"cycles\":0}]}\r\n");
}

static void test_dump(void **state)
{
    struct vm *vm = add_vm("web", VM_CRASHED);
    struct vcpu_capture *capture = vm->vcpus[0]->capture = vm_alloc(vm, 1);
    const char *text, *older;

    strcpy(vm->message, "triple fault");
    capture->state.gpr[GPR_R15] = 0xABC;
    capture->state.cr3 = 0x1000;
    capture->state.segments[SEG_CS] = (struct segment){.selector = 0x10, .limit = 0xFFFFFFFF};
    capture->state.idtr.base = 0x7777;
    capture->code_size = 2;
    memcpy(capture->code, "\x0F\x0B", 2);
    vm->vcpus[0]->trace_next = EXIT_TRACE_SIZE + 1;
    vm->vcpus[0]->trace[0] =
        (struct exit_trace){.reason = 12, .kind = EXIT_HLT, .qualification = 5};
    vm->vcpus[0]->trace[1] = (struct exit_trace){.reason = 10, .kind = EXIT_CPUID};
    text = answer("dump web");
    older = strstr(text, "cpuid");
    assert_non_null(older);
    assert_non_null(strstr(older, "hlt"));
    assert_non_null(strstr(text, "r15    0000000000000abc"));
    assert_non_null(strstr(text, "Bytes at RIP        0f 0b \r\n"));
    assert_non_null(strstr(text, "Message             triple fault\r\n"));
    assert_lines_fit(text);
    text = json_answer("dump web -o json");
    assert_non_null(strstr(text, "\"r15\":\"0xabc\""));
    assert_non_null(strstr(text, "\"cr3\":\"0x1000\""));
    assert_non_null(strstr(text, "{\"name\":\"cs\",\"selector\":\"0x10\",\"base\":\"0x0\","
                                 "\"limit\":\"0xffffffff\",\"attributes\":\"0x0\"}"));
    assert_non_null(strstr(text, "{\"name\":\"idtr\",\"selector\":\"0x0\",\"base\":\"0x7777\""));
    assert_non_null(
        strstr(text, "{\"kind\":\"hlt\",\"reason\":\"0xc\",\"qualification\":\"0x5\"}]}]}"));
}

static void test_dump_of_a_running_one_waits_for_its_owner(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    vm->vcpus[0]->capture = vm_alloc(vm, 1);
    vm->vcpus[0]->capture->done = true; /* of an earlier dump */
    clear();
    type("dump web\r");
    REFUSE("rax");
    assert_int_equal(vm->vcpus[0]->requests, REQUEST_CAPTURE);
    vm->vcpus[0]->requests = 0;
    vm->starts++; /* the request is lost with a restart */
    settle();
    REFUSE("rax");
    assert_int_equal(vm->vcpus[0]->requests, REQUEST_CAPTURE);
    vm->vcpus[0]->capture->done = true;
    settle();
    EXPECT("rax");
    EXPECT("\r" PROMPT);
}

static void test_dump_without_memory(void **state)
{
    add_vm("web", VM_RUNNING);
    short_of_memory = true;
    assert_non_null(strstr(answer("dump web"), "no memory to dump 'web' into"));
    short_of_memory = false;
    settle();
}

static void test_what_is_done_at_once(void **state)
{
    static const struct {
        const char *name, *answer;
    } cases[] = {
        {"shutdown", "'web' is asked"},
        {"reboot",   "'web' is asked"},
        {"nmi",      "'web' got"     },
    };
    char command[64];

    add_vm("web", VM_RUNNING);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        snprintf(command, sizeof(command), "%s web", cases[i].name);
        refusal = NULL;
        assert_non_null(strstr(answer(command), cases[i].answer));
        assert_string_equal(done, cases[i].name);
        refusal = "it does not listen";
        assert_string_equal(answer(command), "error: it does not listen\r\n");
        strcat(command, " -o json");
        refusal = NULL;
        assert_string_equal(json_answer(command),
                            "{\"ok\":true,\"name\":\"web\",\"state\":\"running\"}\r\n");
    }
}

static void test_metrics(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);
    const char *text;

    add_vm("db", VM_STOPPED);
    vm->vcpus[0]->statistics.guest_cycles = 2500000001;
    vm->vcpus[0]->statistics.exits[EXIT_HLT] = 7;
    vm->starts = 3;
    text = answer("metrics");
    assert_non_null(strstr(text, "# HELP libvirt_domain_info_vstate "));
    assert_non_null(strstr(text, "# TYPE libvirt_domain_info_vstate gauge\r\n"
                                 "libvirt_domain_info_vstate{domain=\"web\"} 1\r\n"
                                 "libvirt_domain_info_vstate{domain=\"db\"} 5\r\n#"));
    assert_non_null(strstr(text, "# TYPE libvirt_domain_info_cpu_time_seconds_total counter\r\n"
                                 "libvirt_domain_info_cpu_time_seconds_total{domain=\"web\"} "
                                 "2.500000001\r\n"));
    assert_non_null(
        strstr(text, "libvirt_domain_vcpu_time_seconds_total{domain=\"web\",vcpu=\"0\"} 2.5"));
    assert_non_null(strstr(text, "bulkhead_domain_exits_total{domain=\"web\",kind=\"hlt\"} 7\r\n"));
    assert_non_null(strstr(text, "bulkhead_domain_starts_total{domain=\"web\"} 3\r\n"));
    assert_non_null(strstr(text, "bulkhead_cpu_idle_seconds_total{cpu=\"1\"} 0.000000000\r\n"));
    text = json_answer("metrics -o json");
    assert_non_null(strstr(text, "{\"ok\":true,\"metrics\":\"# HELP libvirt_up "));
    assert_null(strstr(text, "\\r"));
}

#define MANY 1000

static void discard(void *context, const char *text, size_t size)
{
}

/* However many vCPUs there are, a step adds up a few. */
static void test_metrics_of_many_vcpus(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);
    struct vcpu *one = vm->vcpus[0];
    struct request request = {
        .output = {.write = discard, .tsc_hz = host.tsc_hz}
    };
    u32 few = 0, many = 0;

    assert_true(command_begin(&request, "metrics"));
    for (few = 0; command_step(&request) != COMMAND_DONE; few++)
        ;
    free(vm->vcpus);
    vm->vcpus = calloc(MANY, sizeof(vm->vcpus[0]));
    vm->vcpu_count = MANY;
    for (u32 i = 0; i < MANY; i++)
        vm->vcpus[i] = one;
    one->statistics.exits[EXIT_HLT] = 7;
    vm->retired.exits[EXIT_HLT] = 5;
    assert_true(command_begin(&request, "metrics"));
    for (many = 0; command_step(&request) != COMMAND_DONE; many++)
        ;
    /* The samples of each vCPU, and the steps of 13 sums. */
    assert_true(many > few + 2 * (MANY - 1) + 13 * MANY / 100);
    assert_non_null(strstr(answer("metrics"),
                           "bulkhead_domain_exits_total{domain=\"web\",kind=\"hlt\"} 7005\r\n"));
}

/* Has the partition use as many ticks as two CPUs have in the interval, at most, as the test's
 * clock is the host's. */
static void use(struct vm *vm, u64 cycles, u64 exits)
{
    vm->vcpus[0]->statistics.guest_cycles += cycles;
    vm->vcpus[0]->statistics.exits[EXIT_HLT] += exits;
}

static void test_top_once(void **state)
{
    const char *text;

    add_vm("idle", VM_RUNNING);
    use(add_vm("busy", VM_RUNNING), 1000, 5);
    add_vm("off", VM_STOPPED);
    patience = 0;
    text = json_answer("top -o json");
    assert_non_null(strstr(text, "{\"ok\":true,\"interval_ns\":"));
    text = strstr(text, "\"partitions\":[{\"name\":\"idle\",\"state\":\"running\",\"vcpus\":1,"
                        "\"memory\":0,\"cpu_percent\":0.0,\"steal_percent\":0.0,"
                        "\"exits_per_s\":0},{\"name\":\"busy\""); /* used nothing since */
    assert_non_null(text);
    patience = UINT64_MAX / 4;
    clear();
    type("top -o json\r"); /* takes the first sample and waits */
    use(vms[1], 1 << 20, 9);
    use(vms[0], 1 << 19, 10);
    assert_non_null(strchr(line.screen, '\r'));
    REFUSE("ok");
    type("\x03");
    EXPECT("{\"ok\":false,\"error\":\"abandoned\"}");
}

/* What is typed, until a screen is whole: with patience 0, top shows one interval. */
static const char *poll_once(const char *typed)
{
    clear();
    line.input_size += (size_t)sprintf(line.input + line.input_size, "%s", typed);
    for (u32 i = 0; i < POLLS_AT_REST && strstr(line.screen, "\x1b[J") == NULL; i++)
        monitor_poll();
    line.queued = 0;
    return line.screen;
}

static void quit_top(void)
{
    patience = UINT64_MAX / 4;
    clear();
    type("q");
    EXPECT("\r" PROMPT);
}

static void test_top_on_a_terminal(void **state)
{
    struct vm *idle = add_vm("idle", VM_RUNNING), *busy = add_vm("busy", VM_RUNNING);

    clear();
    type("top\r");
    EXPECT("\x1b[6n");
    REFUSE("CPU%");
    patience = 0;
    poll_once("\x1b[1;1R");
    EXPECT("\x1b[2J\x1b[H");
    EXPECT("; by CPU%; keys");
    EXPECT("\x1b[KNAME  STATE    VCPUS  MEMORY  CPU%  STEAL%  EXITS/S\r\n\x1b[Kidle  running");
    EXPECT("\x1b[J");
    use(busy, 1000000, 1);
    use(idle, 1000, 9);
    poll_once("");
    assert_true(strstr(line.screen, "busy  run") < strstr(line.screen, "idle  run"));
    poll_once("e"); /* sorts what it has, at once */
    EXPECT("; by EXITS/S; keys");
    assert_true(strstr(line.screen, "busy  run") > strstr(line.screen, "idle  run"));
    poll_once("c");
    EXPECT("; by CPU%; keys");
    quit_top();
}

static void test_top_shows_as_many_as_fit(void **state)
{
    char name[16];
    u32 count = 0;

    for (u32 i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "p%u", i);
        add_vm(name, VM_STOPPED);
    }
    type("top\r");
    patience = 0;
    for (u32 i = 0; i < 100 && strstr(poll_once(i == 0 ? "\x1b[1;1R" : ""), "; by") == NULL; i++)
        ;
    for (u32 i = 0; i < 100 && strstr(poll_once(""), "\x1b[J") == NULL; i++)
        for (const char *at = line.screen; (at = strstr(at, "stopped")) != NULL; at++)
            count++;
    for (const char *at = line.screen; (at = strstr(at, "stopped")) != NULL; at++)
        count++;
    assert_in_range(count, 1, 20);
    quit_top();
    patience = 0;
    assert_non_null(strstr(json_answer("top -o json"), "\"p99\""));
}

/* ---- configuration ---- */

static void add_image(const char *name)
{
    struct boot_module *module = &host.boot.modules[host.boot.module_count++];

    snprintf(module->name, sizeof(module->name), "%s", name);
}

static void test_create(void **state)
{
    struct vm *vm;

    add_image("k");
    clear();
    type("create web kernel=k memory=8M cmdline=\"a b\"\r");
    vm = vm_find("web");
    assert_non_null(vm);
    assert_int_equal(vm->config.memory, 8 * MIB);
    assert_string_equal(vm->config.cmdline, "a b");
    REFUSE("created");
    vm->state = VM_RUNNING;
    vm->starts = 1;
    settled = true;
    settle();
    EXPECT("'web' created and started\r\n");
    assert_string_equal(json_answer("create db kernel=k autostart=no -o json"),
                        "{\"ok\":true,\"name\":\"db\",\"state\":\"stopped\"}\r\n");
}

static void test_create_refused(void **state)
{
    static const struct {
        const char *command, *error;
    } cases[] = {
        {"create web",                      "usage: create NAME KEY=VALUE..."                          },
        {"create host kernel=k",            "'host' is not a name: letters, digits, - _ . (at most 31)"},
        {"create w/b kernel=k",             "'w/b' is not a name: letters, digits, - _ . (at most 31)" },
        {"create web memory=8M",            "kernel: is missing"                                       },
        {"create web kernel=x",             "kernel: there is no module 'x'"                           },
        {"create web kernel=k initrd=x",    "initrd: there is no module 'x'"                           },
        {"create web kernel=k modules=k,x", "modules: there is no module 'x'"                          },
        {"create web kernel=k memroy=1M",   "'memroy' is not a key; the nearest is 'memory'"           },
        {"create web kernel=k vcpus",       "'vcpus' is not key=value"                                 },
        {"create old kernel=k",             "there is a partition 'old' already"                       },
    };
    char expected[256];

    add_image("k");
    add_vm("old", VM_STOPPED);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        snprintf(expected, sizeof(expected), "error: %s\r\n", cases[i].error);
        assert_string_equal(answer(cases[i].command), expected);
        assert_int_equal(vm_total, 1);
    }
}

static void test_create_that_cannot_start_leaves_nothing(void **state)
{
    add_image("k");
    refusal = "memory is short";
    assert_string_equal(answer("create web kernel=k"), "error: memory is short\r\n");
    assert_null(vm_find("web"));
    refusal = NULL;
    clear();
    type("create web kernel=k\r");
    strcpy(vm_find("web")->message, "k is truncated");
    settled = true;
    settle();
    EXPECT("error: k is truncated\r\n");
    assert_null(vm_find("web"));
}

static void test_create_abandoned_stays(void **state)
{
    add_image("k");
    type("create web kernel=k\r");
    clear();
    type("\x03");
    EXPECT("^C\r\n\r" PROMPT);
    strcpy(vm_find("web")->message, "k is truncated");
    settled = true;
    assert_non_null(strstr(answer("list"), "k is truncated"));
}

static void test_set(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    add_image("k");
    strcpy(vm->config.kernel, "k");
    assert_string_equal(answer("set web weight=7 cap=50%"), "'web' changed\r\n");
    assert_int_equal(vm->config.weight, 7);
    assert_string_equal(answer("set web memory=8M weight=8 vcpus=2"),
                        "'web' changed\r\n"
                        "memory: from its next start on\r\n"
                        "vcpus: from its next start on\r\n");
    assert_string_equal(json_answer("set web memory=9M weight=9 -o json"),
                        "{\"ok\":true,\"name\":\"web\",\"at_next_start\":[\"memory\"]}\r\n");
    assert_string_equal(answer("set web weight=10 memory=12Q"),
                        "error: memory: '12Q' is not a size such as 256M, of at least 64K and in "
                        "steps of 4K\r\n");
    assert_int_equal(vm->config.weight, 9);
    refusal = "cpus: this machine has none of these CPUs";
    assert_string_equal(answer("set web cpus=9"),
                        "error: cpus: this machine has none of these CPUs\r\n");
    refusal = NULL;
    vm->state = VM_STOPPED;
    assert_string_equal(answer("set web memory=10M"), "'web' changed\r\n");
    assert_int_equal(vm->config.memory, 10 * MIB);
}

static void test_config(void **state)
{
    struct vm *vm = add_vm("web", VM_STOPPED);
    const char *text;

    strcpy(vm->config.kernel, "k");
    strcpy(vm->config.cmdline, "a ; b");
    vm->config.cap_percent = 50;
    text = answer("config web");
    assert_string_equal(text, "[web]\r\n"
                              "kernel      = k\r\n"
                              "cmdline     = \"a ; b\"\r\n"
                              "memory      = 256M\r\n"
                              "vcpus       = 1\r\n"
                              "cpus        = all\r\n"
                              "weight      = 100\r\n"
                              "cap         = 50%\r\n"
                              "tsc_mhz     = 0\r\n"
                              "autostart   = yes\r\n"
                              "on_crash    = restart\r\n"
                              "on_hang     = preserve\r\n"
                              "on_reboot   = restart\r\n"
                              "unknown_msr = fault\r\n"
                              "pv          = all\r\n"
                              "exit_port   = none\r\n"
                              "console     = none\r\n");
    text = json_answer("config web -o json");
    assert_non_null(strstr(text, "{\"ok\":true,\"name\":\"web\",\"config\":{\"kernel\":\"k\","
                                 "\"cmdline\":\"a ; b\",\"memory\":\"256M\""));
}

static void test_undefine(void **state)
{
    add_vm("web", VM_RUNNING);
    add_vm("db", VM_STOPPED);
    assert_string_equal(answer("undefine web"), "error: 'web' is running, not stopped\r\n");
    assert_string_equal(answer("undefine db"), "'db' undefined\r\n");
    assert_null(vm_find("db"));
}

/* Events that were queued while the command waited for its turn go out before the partition. */
static void test_undefine_with_an_event_under_way(void **state)
{
    struct vm *vm = add_vm("web", VM_STOPPED);

    clear();
    type("batch\r");
    line.input_size += (size_t)sprintf(line.input + line.input_size, "undefine web\r");
    monitor_poll(); /* takes the line, does not yet run it */
    assert_non_null(vm_find("web"));
    listener(vm, VM_EVENT_STOP);
    clear();
    settle();
    assert_string_equal(
        line.screen,
        "{\"event\":\"stop\",\"name\":\"web\",\"state\":\"stopped\",\"message\":\"\"}\r\n"
        "{\"event\":\"undefine\",\"name\":\"web\",\"state\":\"stopped\",\"message\":\"\"}\r\n"
        "{\"ok\":true,\"name\":\"web\"}\r\n");
}

/* ---- the host ---- */

static void test_capabilities_without_virtualisation(void **state)
{
    strcpy(host.features.vendor, "GenuineIntel");
    strcpy(host.report.refusal, "VT-x is turned off and locked by the firmware");
    host.report.features[0] = (struct hvm_feature){"VT-x", FEATURE_USED};
    host.report.features[1] = (struct hvm_feature){"EPT", FEATURE_MISSING};
    host.report.feature_count = 2;
    mitigations =
        (struct mitigations){.affected = WEAKNESS_HOST | WEAKNESS_MDS, .used = MITIGATION_VERW};
    assert_string_equal(answer("capabilities"),
                        "Vendor              GenuineIntel\r\n"
                        "Model               \r\n"
                        "Virtualisation      none\r\n"
                        "Usable              no\r\n"
                        "Refusal             VT-x is turned off and locked by the firmware\r\n"
                        "Note                \r\n"
                        "Affected by         Spectre v2, MDS\r\n"
                        "Mitigations         VERW\r\n"
                        "Not countered       Spectre v2\r\n"
                        "Used                VT-x\r\n"
                        "Absent but needed   EPT\r\n");
    assert_non_null(strstr(json_answer("capabilities -o json"),
                           "\"usable\":false,\"refusal\":\"VT-x is turned off and locked by the "
                           "firmware\",\"note\":\"\",\"affected_by\":\"Spectre v2, MDS\","
                           "\"mitigations\":\"VERW\",\"unmitigated\":\"Spectre v2\","
                           "\"features\":["
                           "{\"name\":\"VT-x\",\"state\":\"used\"},"
                           "{\"name\":\"EPT\",\"state\":\"missing\"}]"));
}

static void test_capabilities_fit_the_screen(void **state)
{
    const char *text;

    for (u32 i = 0; i < HVM_FEATURES_MAX; i++)
        host.report.features[i] = (struct hvm_feature){"virtual-interrupt delivery", i % 2};
    host.report.feature_count = HVM_FEATURES_MAX;
    text = answer("capabilities");
    while (*text != '\0') {
        size_t length = strcspn(text, "\r");

        assert_true(length <= 80);
        text += length + 2;
    }
}

static void test_host(void **state)
{
    const char *text;

    host.wx_pages = 0;
    host.pages = 1234;
    host.cpus_in_tables = 3;
    host.tsc_source = "CPUID leaf 15h";
    paper_cpus[1].apic_id = 6;
    text = answer("host");
    assert_non_null(strstr(text, "CPUs in use         2\r\nCPUs listed         3\r\n"));
    assert_non_null(strstr(text, "Host pages checked  1234\r\n  W and X at once   0\r\n"));
    assert_non_null(strstr(text, "  free              512 MiB\r\n"));
    text = json_answer("host -o json");
    assert_non_null(strstr(text, "\"host_pages\":1234,\"host_pages_wx\":0"));
    assert_non_null(strstr(text, "{\"index\":1,\"apic_id\":6,"));
}

static void test_images(void **state)
{
    strcpy(host.boot.modules[0].name, "vmlinuz");
    host.boot.modules[0].size = 8 * MIB;
    host.boot.module_count = 1;
    assert_string_equal(answer("images"), "IMAGE     SIZE\r\nvmlinuz  8 MiB\r\n");
    assert_string_equal(json_answer("images -o json"),
                        "{\"ok\":true,\"images\":[{\"name\":\"vmlinuz\",\"size\":8388608}]}\r\n");
}

static void test_dmesg(void **state)
{
    kernel_log = "[0.0] one\r\n[0.1] \"two\"\r\n";
    patience = 0;
    assert_string_equal(answer("dmesg"), "\x1b[6n[0.0] one\r\n[0.1] \"two\"\r\n");
    assert_string_equal(json_answer("dmesg -o json"),
                        "{\"ok\":true,\"log\":\"[0.0] one\\n[0.1] \\\"two\\\"\\n\"}\r\n");
}

static void test_version_and_uptime(void **state)
{
    assert_string_equal(answer("version"), "Bulkhead 1.2-test\r\n");
    assert_string_equal(json_answer("version -o json"),
                        "{\"ok\":true,\"version\":\"1.2-test\"}\r\n");
    assert_string_equal(answer("uptime"), "up for 1 min 30 s\r\n");
    assert_string_equal(json_answer("uptime -o json"),
                        "{\"ok\":true,\"uptime_ns\":90000000000}\r\n");
}

static void test_the_end(void **state)
{
    int how = setjmp(shutdown);

    if (how == 0)
        type("poweroff\r");
    assert_int_equal(how, 1);
    EXPECT("Turning off.\r\n");
}

/* ---- help ---- */

static void test_help_fits_a_screen(void **state)
{
    const struct command *command = NULL;
    const char *text;
    char line_of_help[64];
    u32 lines = 0;

    for (text = answer("help"); *text != '\0'; lines++) {
        size_t length = strcspn(text, "\r");

        assert_true(length <= 80);
        text += length + 2;
    }
    assert_true(lines + 2 <= 24);
    while ((command = command_next(command)) != NULL) {
        snprintf(line_of_help, sizeof(line_of_help), "%-13s %s", command->name, command->summary);
        assert_non_null(strstr(answer("help"), line_of_help));
    }
}

static void test_help_about_each_command(void **state)
{
    const struct command *command = NULL;
    char text[64];

    while ((command = command_next(command)) != NULL) {
        snprintf(text, sizeof(text), "help %s", command->name);
        assert_non_null(strstr(answer(text), "Example: "));
        snprintf(text, sizeof(text), "help %s -o json", command->name);
        assert_non_null(strstr(json_answer(text), command->name));
        assert_true(strlen(command->summary) <= 25);
        assert_int_equal(strncmp(command->example, command->name, strlen(command->name)), 0);
    }
    assert_non_null(strstr(answer("help lst"), "did you mean 'list'?"));
    json_answer("help -o json");
}

/* ---- batch ---- */

static void test_batch(void **state)
{
    add_vm("web", VM_RUNNING);
    assert_string_equal(json_answer("version -o json"),
                        "{\"ok\":true,\"version\":\"1.2-test\"}\r\n");
    clear();
    type("batch\r");
    assert_string_equal(line.screen, "batch\r\n{\"ok\":true}\r\n");
    clear();
    type("version\nlst\n\n\"\nconsole web\nuptime\n");
    assert_string_equal(
        line.screen, "{\"ok\":true,\"version\":\"1.2-test\"}\r\n"
                     "{\"ok\":false,\"error\":\"unknown command 'lst', did you mean 'list'?\"}\r\n"
                     "{\"ok\":false,\"error\":\"a double quote is not closed\"}\r\n"
                     "{\"ok\":false,\"error\":\"a console is for people: it cannot be JSON\"}\r\n"
                     "{\"ok\":true,\"uptime_ns\":90000000000}\r\n");
    clear();
    type("interactive\r");
    assert_string_equal(line.screen, "{\"ok\":true}\r\n\r" PROMPT);
}

static void test_batch_tells_of_the_configuration(void **state)
{
    strcpy(host.config_problems[0], "tenants.conf:3: [web] memory: '1Q' is not a size");
    strcpy(host.config_problems[1], "tenants.conf:9: a quote is not closed");
    host.config_problem_count = 2;
    clear();
    type("batch\r");
    assert_string_equal(line.screen,
                        "batch\r\n{\"ok\":true}\r\n"
                        "{\"event\":\"configuration-error\",\"message\":\"tenants.conf:3: [web] "
                        "memory: '1Q' is not a size\"}\r\n"
                        "{\"event\":\"configuration-error\",\"message\":\"tenants.conf:9: a quote "
                        "is not closed\"}\r\n");
    host.config_problem_count = 0;
}

static void test_batch_refuses_what_does_not_fit(void **state)
{
    type("batch\r");
    clear();
    for (int i = 0; i <= LINE_MAX_BYTES; i++)
        line.input[line.input_size++] = 'x';
    type("\n");
    assert_string_equal(line.screen, "{\"ok\":false,\"error\":\"the line is too long\"}\r\n");
}

static void test_batch_tells_events_between_answers(void **state)
{
    struct vm *vm = add_vm("web", VM_CRASHED);

    strcpy(vm->message, "triple fault");
    listener(vm, VM_EVENT_CRASH);
    type("batch\r");
    clear();
    listener(vm, VM_EVENT_CRASH);
    assert_string_equal(line.screen, "{\"event\":\"crash\",\"name\":\"web\",\"state\":\"crashed\","
                                     "\"message\":\"triple fault\"}\r\n");
    clear();
    for (int i = 0; i < 2000; i++)
        guest_print(vm, "much output");
    line.drain = 0;
    type("log web\n");
    listener(vm, VM_EVENT_RESTART);
    REFUSE("event");
    line.drain = RING_SIZE;
    settle();
    EXPECT("\"}\r\n{\"event\":\"restart\"");
    clear();
    monitor_log_output("a log line\r\n", 12);
    settle();
    assert_string_equal(line.screen, "");
}

static void test_giving_up_answers_in_batch(void **state)
{
    add_vm("web", VM_STOPPED);
    type("batch\r");
    clear();
    type("start web\n");
    type("\x03");
    assert_string_equal(line.screen, "{\"ok\":false,\"error\":\"abandoned\"}\r\n");
}

/* ---- the log between the lines ---- */

static void test_log_lines_do_not_tear_the_typed_line(void **state)
{
    type("lis");
    clear();
    monitor_log_output("[1.0] news\r\n", 12);
    assert_string_equal(line.screen, "\r             \r[1.0] news\r\n\r" PROMPT "lis");
    type("\x15");
}

static void test_log_lines_of_other_cpus_wait_for_a_poll(void **state)
{
    clear();
    syscall(SYS_arch_prctl, ARCH_SET_GS, &paper_cpus[1]);
    monitor_log_output("[1.0] news\r\n", 12);
    syscall(SYS_arch_prctl, ARCH_SET_GS, &paper_cpus[0]);
    assert_string_equal(line.screen, "");
    assert_int_equal(wakes, 1);
    settle();
    EXPECT("[1.0] news\r\n\r" PROMPT);
}

static void test_log_lines_that_do_not_fit_are_counted(void **state)
{
    static const char news[] = "a line of the log that is not too short\r\n";
    u32 shown = 0;
    char note[64];

    clear();
    syscall(SYS_arch_prctl, ARCH_SET_GS, &paper_cpus[1]);
    for (int i = 0; i < 1000; i++)
        monitor_log_output(news, sizeof(news) - 1);
    syscall(SYS_arch_prctl, ARCH_SET_GS, &paper_cpus[0]);
    assert_true(monitor_poll());
    assert_in_range(line.size, sizeof(news), LONG_TURN);
    settle();
    for (const char *at = line.screen; (at = strstr(at, news)) != NULL; at++)
        shown++;
    assert_true(shown > 100 && shown < 1000);
    snprintf(note, sizeof(note), "[%u lines of the log not shown, see dmesg]\r\n", 1000 - shown);
    EXPECT(note);
}

/* Each key draws the rest of the row anew. */
static void test_keys_in_a_long_line_take_several_turns(void **state)
{
    static const char keys[] = "0123456789012345678901234567890";

    type("set web cmdline=a line that is about as long as the terminal's row is wide\x01");
    clear();
    memcpy(line.input + line.input_size, keys, sizeof(keys) - 1);
    line.input_size += sizeof(keys) - 1;
    assert_true(monitor_poll());
    assert_in_range(line.size, sizeof(keys), LONG_TURN);
    settle();
    assert_true(line.size > LONG_TURN);
    type("\x15");
}

static u32 polls_of(const char *command)
{
    u32 polls = 0;

    clear();
    memcpy(line.input + line.input_size, command, strlen(command));
    line.input_size += strlen(command);
    do {
        monitor_poll();
        line.queued = 0;
        polls++;
    } while (polls < MANY_POLLS && strstr(line.screen, "\n\r" PROMPT) == NULL);
    return polls;
}

static void test_a_turn_looks_at_one_partition_with_many_vcpus(void **state)
{
    static struct vcpu *no_vcpus[300];
    char name[] = "a";

    for (; name[0] <= 'h'; name[0]++)
        add_vm(name, VM_STOPPED);
    assert_in_range(polls_of("list\r"), 2, 8);
    for (u32 i = 0; i < vm_total; i++) {
        vms[i]->vcpus = no_vcpus;
        vms[i]->vcpu_count = ARRAY_SIZE(no_vcpus);
    }
    assert_in_range(polls_of("list\r"), 16, 32);
    for (u32 i = 0; i < vm_total; i++)
        vms[i]->vcpus = NULL;
}

static void test_log_lines_show_while_a_command_waits(void **state)
{
    add_vm("web", VM_STOPPED);
    clear();
    type("start web\r");
    monitor_log_output("[1.0] news\r\n", 12);
    assert_string_equal(line.screen, "start web\r\n[1.0] news\r\n");
    type("\x03");
}

static void test_log_lines_stay_out_of_a_console(void **state)
{
    struct vm *vm = add_vm("web", VM_RUNNING);

    attach(vm);
    clear();
    monitor_log_output("[1.0] news\r\n", 12);
    settle();
    assert_string_equal(line.screen, "");
    type("\x1d\r");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
    TEST(test_the_prompt_stands_there),
    TEST(test_mistakes),
    TEST(test_completion),
    TEST(test_list),
    TEST(test_list_of_none),
    TEST(test_list_of_a_fleet_on_a_slow_line),
    TEST(test_info),
    TEST(test_info_of_a_stopped_one),
    TEST(test_start_waits_and_tells),
    TEST(test_start_that_ended_already),
    TEST(test_start_refused),
    TEST(test_start_that_fails_later),
    TEST(test_the_other_transitions),
    TEST(test_ctrl_c_gives_up_waiting),
    TEST(test_console_passes_every_byte),
    TEST(test_the_escape_twice_goes_to_the_guest),
    TEST(test_the_escape_alone_leaves_after_a_while),
    TEST(test_another_escape_can_be_chosen),
    TEST(test_console_replays_what_was_missed),
    TEST(test_a_console_grows_before_it_is_full),
    TEST(test_a_console_that_cannot_grow_wraps),
    TEST(test_console_says_what_was_overwritten),
    TEST(test_a_flood_leaves_room_for_the_person),
    TEST(test_a_watched_guest_keeps_to_the_line_while_it_moves),
    TEST(test_typed_bytes_wait_for_a_guest_that_starts_or_pauses),
    TEST(test_console_outlives_the_guest),
    TEST(test_a_paste_waits_for_a_slow_guest),
    TEST(test_a_guest_that_does_not_read_can_be_left),
    TEST(test_log),
    TEST(test_log_by_the_page),
    TEST(test_log_of_wide_lines_by_the_page),
    TEST(test_log_follows),
    TEST(test_log_of_a_full_ring_keeps_characters_whole),
    TEST(test_exits),
    TEST(test_dump),
    TEST(test_dump_of_a_running_one_waits_for_its_owner),
    TEST(test_dump_without_memory),
    TEST(test_what_is_done_at_once),
    TEST(test_metrics),
    TEST(test_metrics_of_many_vcpus),
    TEST(test_top_once),
    TEST(test_top_on_a_terminal),
    TEST(test_top_shows_as_many_as_fit),
    TEST(test_create),
    TEST(test_create_refused),
    TEST(test_create_that_cannot_start_leaves_nothing),
    TEST(test_create_abandoned_stays),
    TEST(test_set),
    TEST(test_config),
    TEST(test_undefine),
    TEST(test_undefine_with_an_event_under_way),
    TEST(test_capabilities_without_virtualisation),
    TEST(test_capabilities_fit_the_screen),
    TEST(test_host),
    TEST(test_images),
    TEST(test_dmesg),
    TEST(test_version_and_uptime),
    TEST(test_help_fits_a_screen),
    TEST(test_help_about_each_command),
    TEST(test_batch),
    TEST(test_batch_tells_of_the_configuration),
    TEST(test_batch_refuses_what_does_not_fit),
    TEST(test_batch_tells_events_between_answers),
    TEST(test_giving_up_answers_in_batch),
    TEST(test_log_lines_do_not_tear_the_typed_line),
    TEST(test_log_lines_of_other_cpus_wait_for_a_poll),
    TEST(test_log_lines_that_do_not_fit_are_counted),
    TEST(test_keys_in_a_long_line_take_several_turns),
    TEST(test_a_turn_looks_at_one_partition_with_many_vcpus),
    TEST(test_log_lines_show_while_a_command_waits),
    TEST(test_log_lines_stay_out_of_a_console),
    cmocka_unit_test_setup(test_the_end, setup), /* the last: the monitor does not return */
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
