/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* From the boot loader's jump to the prompt. */

#include "core/features.h"
#include "core/guest_port.h"
#include "core/host.h"
#include "core/interrupts.h"
#include "core/lifecycle.h"
#include "core/log.h"
#include "core/mitigations.h"
#include "core/panic.h"
#include "core/port.h"
#include "core/sched.h"
#include "core/screen.h"
#include "core/smp.h"
#include "core/terminal.h"
#include "core/version.h"
#include "drivers/cpu.h"
#include "drivers/ioapic.h"
#include "drivers/lapic.h"
#include "drivers/pic.h"
#include "drivers/power.h"
#include "drivers/rtc.h"
#include "drivers/tsc.h"
#include "drivers/uart.h"
#include "lib/arith.h"
#include "lib/string.h"
#include "mm/host_space.h"
#include "mm/pool.h"
#include "mm/sections.h"
#include "monitor/monitor.h"

#define MULTIBOOT2_BOOTLOADER_MAGIC 0x36D76289
#define COM1                        0x3F8
#define LIFECYCLE_TURN_NS           20000
#define CONSOLE_POLL_NS             500000ULL
#define CPUS_LIMIT                  4096
#define LOG_NOTE_SIZE               40
#define NAME_MWAIT                  "MWAIT" /* for host_without */

struct host host;

static struct port *log_port; /* NULL: none besides the monitor's */
static u32 log_port_lost;     /* lines */

/* Of linker.ld: what HVM_BACKEND announces. */
extern const struct hvm_ops *const backends_start[], *const backends_end[];

_Noreturn void boot_main(u32 magic, u32 information, u64 tsc);

/* A line that the second port has no room for is left out and counted: the log waits for nobody. */
static void log_port_write(const char *text, size_t size)
{
    char note[LOG_NOTE_SIZE];

    if (!log_port)
        return;
    if (port_room(log_port) < size + sizeof(note)) {
        log_port_lost++;
        return;
    }
    if (log_port_lost) {
        snprintf(note, sizeof(note), "[%u lines left out]\r\n", log_port_lost);
        port_write(log_port, note, strlen(note));
        log_port_lost = 0;
    }
    port_write(log_port, text, size);
}

static void early_output(const char *text, size_t size)
{
    terminal_write(text, size);
    log_port_write(text, size);
    screen_write(text, size);
}

static void log_output(const char *text, size_t size)
{
    monitor_log_output(text, size);
    log_port_write(text, size);
    if (this_cpu()->index != 0)
        sched_wake_boot_cpu(); /* for the screen */
}

/* What stops the machine before there is a monitor: a sentence, then a halt. */
static _Noreturn void refuse(const char *sentence)
{
    log_error("%s", sentence);
    terminal_flush();
    for (;;) {
        cpu_cli();
        cpu_hlt();
    }
}

static void set_up_terminal(void)
{
    char value[32];
    u16 port = COM1;
    u32 baud = HOST_UART_BAUD;
    bool bad = false;

    if (cmdline_get(host.boot.cmdline, "console", value, sizeof(value)))
        bad = !console_parse(value, &port, &baud);
    if (bad) {
        port = COM1;
        baud = HOST_UART_BAUD;
    }
    terminal_init(port, baud);
    log_set_output(early_output);
    if (bad)
        log_warn("command line: console=%s is none of com1..com4|0xPORT[,BAUD]: com1 is used",
                 value);
}

static void set_without(void)
{
    if (cmdline_get(host.boot.cmdline, "without", host.without, sizeof(host.without)))
        log_info("treated as absent: %s", host.without);
}

static void set_log_level(void)
{
    char value[16];

    if (cmdline_get(host.boot.cmdline, "log", value, sizeof(value)) && !log_set_level(value))
        log_warn("command line: log=%s is none of error|warn|info|debug", value);
}

static void set_up_mitigations(void)
{
    static const char *const modes[] = {
        [MITIGATIONS_AUTO] = "auto",
        [MITIGATIONS_OFF] = "off",
        [MITIGATIONS_FORCE] = "force",
    };
    struct speculation_facts facts = speculation_facts();
    u32 mode = MITIGATIONS_AUTO;
    struct mitigations_text text;
    char value[16];

    if (cmdline_get(host.boot.cmdline, "mitigations", value, sizeof(value)))
        while (mode < ARRAY_SIZE(modes) && strcmp(value, modes[mode]) != 0)
            mode++;
    if (mode == ARRAY_SIZE(modes)) {
        mode = MITIGATIONS_AUTO;
        log_warn("command line: mitigations=%s is none of auto|off|force", value);
    }
    mitigations = mitigations_choose(&facts, mode);
    mitigations_describe(&mitigations, &text);
    log_info("mitigations: %s", text.used[0] ? text.used : "none");
    if (text.open[0])
        log_info("not countered: %s", text.open);
    mitigations_enable();
}

static void read_boot_information(u32 magic, u32 information)
{
    char error[BOOT_ERROR_SIZE];
    const u32 *total = (const u32 *)(u64)information;
    bool parsed = false;

    if (magic != MULTIBOOT2_BOOTLOADER_MAGIC)
        snprintf(error, sizeof(error), "not loaded by a Multiboot2 boot loader (EAX is %xh)",
                 magic);
    else
        parsed = multiboot2_parse(total, *total, (paddr_t)image_start, (paddr_t)image_end,
                                  &host.boot, error);
    set_up_terminal();
    set_log_level();
    set_without();
    log_info("Bulkhead %s", bulkhead_version);
    if (!parsed)
        refuse(error);
}

static void show_earlier(void)
{
    char earlier[128];
    size_t count;
    u64 shown = 0;

    while ((count = log_read(&shown, earlier, sizeof(earlier))) > 0)
        log_port_write(earlier, count);
}

static void set_up_log_port(void)
{
    const char *problem = "is none of com1..com4|0xPORT[,BAUD]";
    char value[32];
    u16 address;
    u32 baud;

    if (!cmdline_get(host.boot.cmdline, "logport", value, sizeof(value)))
        return;
    if (console_parse(value, &address, &baud))
        log_port = port_open(address, baud, &problem);
    if (log_port)
        show_earlier();
    else
        log_warn("command line: logport=%s %s", value, problem);
}

static const void *acpi_map(void *context, paddr_t physical, u64 size)
{
    return mmio_map(physical, size, MMIO_CACHED_READ_ONLY);
}

static void acpi_unmap(void *context, const void *memory, u64 size)
{
    mmio_unmap((void *)memory, size);
}

static void acpi_warning(void *context, const char *sentence)
{
    log_warn("ACPI: %s", sentence);
}

/* The CPUs that ACPI lists, in memory that is kept; `*count` of them. */
static struct acpi_cpu *read_acpi(u32 *count)
{
    static const struct acpi_access access = {
        .map = acpi_map, .unmap = acpi_unmap, .warning = acpi_warning};
    u64 pages = 1;

    for (;;) {
        u32 capacity = pages * PAGE_SIZE / sizeof(struct acpi_cpu);
        struct acpi_cpu *listed = pool_alloc(pages);

        if (!listed)
            refuse("no memory for the list of CPUs");
        if (!host.boot.rsdp_size)
            log_warn("ACPI: the boot loader found no RSDP: only this CPU is used");
        else if (!acpi_parse(&access, host.boot.rsdp, host.boot.rsdp_size, listed, capacity,
                             &host.acpi))
            log_warn("ACPI: tables not usable: only this CPU is used");
        *count = MIN(host.acpi.cpu_count, CPUS_LIMIT);
        if (*count <= capacity)
            return listed;
        pool_free(listed, pages);
        pages = DIV_ROUND_UP(*count * sizeof(struct acpi_cpu), PAGE_SIZE);
    }
}

static void set_up_interrupts(const struct acpi_cpu *listed, u32 count)
{
    u32 highest = 0;

    for (u32 i = 0; i < count; i++) {
        highest = MAX(highest, listed[i].apic_id);
        host.cpus_in_tables += listed[i].enabled;
    }
    host_pic_disable(VECTOR_PIC);
    if (!host_lapic_init(highest))
        refuse("this CPU has no local APIC that can be used");
    host_ioapic_init(&host.acpi);
}

static void enable_lapic(void)
{
    static const struct host_lapic_vectors vectors = {
        .timer = VECTOR_TIMER,
        .error = VECTOR_ERROR,
        .spurious = VECTOR_SPURIOUS,
    };

    host_lapic_enable(&vectors);
}

static void set_up_time(void)
{
    host.tsc_hz = host_tsc_hz(&host.acpi, &host.tsc_source);
    if (!host.tsc_hz)
        refuse("the TSC's frequency could not be found out");
    log_set_clock(host.tsc_hz, host.boot_tsc);
    log_info("TSC %lu.%03lu MHz, %s", host.tsc_hz / 1000000, host.tsc_hz / 1000 % 1000,
             host.tsc_source);
    if (!host_rtc_read(host.acpi.century, &host.boot_unix_seconds))
        log_warn("the CMOS clock is not readable: guests begin in 1970");
    if (!host_lapic_timer_init(host.tsc_hz))
        refuse("the local APIC's timer does not run");
}

static void check_without(const struct hvm_report *report)
{
    char unknown[WITHOUT_SIZE];
    const char *at = host.without;

    while (*at) {
        const char *end = strchr(at, ',') ? strchr(at, ',') : at + strlen(at);
        bool known;

        snprintf(unknown, sizeof(unknown), "%s", at);
        unknown[end - at] = '\0';
        known = list_names(unknown, NAME_MWAIT);
        for (u32 i = 0; i < report->feature_count; i++)
            known = known || list_names(unknown, report->features[i].name);
        if (!known)
            log_warn("command line: without=%s: no feature has this name here", unknown);
        at = end + (*end == ',');
    }
}

bool host_without(const char *feature)
{
    return list_names(host.without, feature);
}

static void set_up_virtualisation(void)
{
    struct hvm_report *report = &host.report;

    for (const struct hvm_ops *const *backend = backends_start; backend < backends_end; backend++) {
        if ((*backend)->probe(report)) {
            host.hvm = report->usable ? *backend : NULL;
            break;
        }
        *report = (struct hvm_report){0};
    }
    check_without(report);
    if (!host.hvm && !report->refusal[0])
        snprintf(report->refusal, sizeof(report->refusal),
                 "not an x86-64 CPU with VT-x or AMD-V: CPUID of this %s shows neither",
                 host.features.vendor);
    if (host.hvm && !host.hvm->cpu_on(cpus[0])) {
        snprintf(report->refusal, sizeof(report->refusal), "%s could not be turned on",
                 host.hvm->name);
        host.hvm = NULL;
    }
    cpus[0]->hvm_on = host.hvm != NULL;
    if (host.hvm)
        log_info("%s is used%s%s", host.hvm->name, report->note[0] ? ": " : "", report->note);
    else
        log_error("no guest can run: %s", report->refusal);
}

static bool enable_mitigations(const struct cpu *cpu)
{
    bool enabled = mitigations_enable();

    if (!enabled)
        log_error("CPU %u lacks mitigations that the boot CPU has", cpu->index);
    return enabled;
}

static _Noreturn void run_ap(struct cpu *cpu)
{
    enable_lapic();
    cpu->hvm_on = host.hvm && enable_mitigations(cpu) && host.hvm->cpu_on(cpu);
    if (host.hvm && !cpu->hvm_on)
        log_warn("CPU %u runs no guests", cpu->index);
    __atomic_store_n(&cpu->online, true, __ATOMIC_RELEASE);
    sched_loop(cpu, NULL);
}

static void start_other_cpus(const struct acpi_cpu *listed, u32 count)
{
    char value[16];
    u32 limit = CPUS_LIMIT;

    if (cmdline_get(host.boot.cmdline, "cpus", value, sizeof(value))) {
        limit = 0;
        for (const char *c = value; *c >= '0' && *c <= '9' && limit < CPUS_LIMIT; c++)
            limit = limit * 10 + *c - '0';
        if (limit == 0) {
            log_warn("command line: cpus=%s is not a number of CPUs", value);
            limit = CPUS_LIMIT;
        }
    }
    smp_start(listed, count, limit, run_ap);
    log_info("%u of %u CPUs are up", cpu_count, MAX(host.cpus_in_tables, 1));
}

const struct boot_module *host_image(const char *name)
{
    for (u32 i = 0; i < host.boot.module_count; i++)
        if (strcmp(host.boot.modules[i].name, name) == 0)
            return &host.boot.modules[i];
    return NULL;
}

static void on_host_config(void *context, const struct host_config *config)
{
    host.config = *config;
}

static void config_problem(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Logs it and, as long as there is room, keeps it for programs that ask later. */
static void config_problem(const char *format, ...)
{
    char text[CONFIG_PROBLEM_SIZE] = CONFIG_MODULE;
    size_t start = strlen(text);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text + start, sizeof(text) - start, format, arguments);
    va_end(arguments);
    log_error("%s", text);
    if (host.config_problem_count < CONFIG_PROBLEMS_MAX)
        memcpy(host.config_problems[host.config_problem_count++], text, sizeof(text));
}

static void on_partition(void *context, const struct partition_config *config, u32 line)
{
    char error[VM_ERROR_SIZE];
    const char *key, *name;
    bool complete = true;

    for (u32 i = 0; (key = config_image(config, i, &name)) != NULL; i++) {
        if (host_image(name))
            continue;
        config_problem(":%u: [%s] %s: there is no module '%s'", line, config->name, key, name);
        complete = false;
    }
    if (complete && !vm_create(config, error))
        config_problem(":%u: %s", line, error);
}

static void on_config_error(void *context, u32 line, const char *message)
{
    config_problem(":%s", message);
}

static void read_configuration(void)
{
    static const struct config_reader reader = {
        .host = on_host_config,
        .partition = on_partition,
        .error = on_config_error,
    };
    static struct partition_config scratch;
    const struct boot_module *module = host_image(CONFIG_MODULE);
    const char *text;

    host.config.slice_ns = 10000000;
    if (!module || module->size == 0) {
        log_warn("no module '" CONFIG_MODULE "', or it is empty: there are no partitions");
        return;
    }
    text = mmio_map(module->start, module->size, MMIO_CACHED_READ_ONLY);
    if (!text) {
        log_error(CONFIG_MODULE " could not be mapped");
        return;
    }
    config_parse(text, module->size, &scratch, &reader);
    mmio_unmap((void *)text, module->size);
}

static void autostart(void)
{
    char error[VM_ERROR_SIZE];

    for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm))
        if (vm->config.autostart && !vm_start(vm, error))
            log_error("%s", error);
}

static void open_monitor(void)
{
    ports_use_interrupts();
    monitor_init();
    host.prompt_tsc = rdtsc();
    log_set_output(log_output);
}

/* Starts and stops share CPU 0 with its guests, a moment each by turns. When to go on. */
static u64 do_lifecycle(struct cpu *cpu)
{
    u64 turn = host_ns_to_tsc(LIFECYCLE_TURN_NS);
    u64 begin = rdtsc(), now;

    sched_charge(cpu, &cpu->own_cycles);
    while (lifecycle_step()) {
        interrupts_take();
        now = rdtsc();
        if (cpu->reschedule || cpu->woken || now - begin >= turn)
            return 0;
    }
    return lifecycle_deadline();
}

static u64 housekeeping(struct cpu *cpu)
{
    bool soon = ports_poll();
    u64 next;

    soon |= guest_ports_poll();
    soon |= monitor_poll();
    next = do_lifecycle(cpu);
    soon |= screen_poll();
    return soon ? MIN(next, rdtsc() + host_ns_to_tsc(CONSOLE_POLL_NS)) : next;
}

u64 host_ns_to_tsc(u64 ns)
{
    return mul_div(ns, host.tsc_hz, 1000000000);
}

u64 host_uptime_ns(void)
{
    return mul_div(rdtsc() - host.boot_tsc, 1000000000, host.tsc_hz);
}

void host_shutdown(bool reboot)
{
    log_info(reboot ? "rebooting" : "powering off");
    screen_flush();
    terminal_flush();
    if (!reboot)
        host_power_off(&host.acpi);
    if (!reboot)
        log_error("the machine does not power off: it may be switched off now");
    screen_flush();
    terminal_flush();
    if (reboot)
        host_reboot(&host.acpi);
    for (;;)
        cpu_hlt();
}

/* All that needs the final page tables. */
static _Noreturn void start(void)
{
    struct acpi_cpu *listed;
    u32 count;

    interrupts_init();
    if (!smp_init(CPUS_LIMIT))
        refuse("no memory for the boot CPU");
    screen_init(&host.boot.framebuffer);
    set_up_log_port();
    listed = read_acpi(&count);
    set_up_interrupts(listed, count);
    enable_lapic();
    set_up_time();
    sched_init();
    set_up_mitigations();
    set_up_virtualisation();
    read_configuration();
    start_other_cpus(listed, count);
    host.wx_pages = host_space_check_wx(&host.pages);
    log_info("host page tables: %lu of %lu pages are writable and executable", host.wx_pages,
             host.pages);
    open_monitor();
    if (host.hvm)
        autostart();
    sched_loop(cpus[0], housekeeping);
}

/* The stack that boot.asm gives has no guard page: from here on there is another. */
static _Noreturn void start_on_new_stack(void)
{
    u8 *stack = stack_alloc();

    if (!stack)
        refuse("no memory for the boot CPU's stack");
    __asm__ volatile("movq %0, %%rsp\n\t"
                     "xorl %%ebp, %%ebp\n\t" /* the end of every backtrace */
                     "callq *%1"
                     :
                     : "r"(stack), "r"((void (*)(void))start)
                     : "memory");
    __builtin_unreachable();
}

void boot_main(u32 magic, u32 information, u64 tsc)
{
    char error[BOOT_ERROR_SIZE];

    panic_set_stack_guard(tsc);
    host.boot_tsc = tsc;
    read_boot_information(magic, information);
    features_probe(&host.features);
    if (host_without(NAME_MWAIT))
        host.features.mwait_hint = 0;
    if (!host.features.nx)
        refuse(
            "this CPU shows no NX (no-execute pages): turn on \"Execute Disable\" (XD, NX) in the "
            "firmware's setup");
    features_enable(&host.features);
    if (!host_space_init(&host.boot, error))
        refuse(error);
    start_on_new_stack();
}
