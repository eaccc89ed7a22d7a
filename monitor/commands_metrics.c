/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* `metrics`: Prometheus's text format 0.0.4, one line a step. What prometheus-libvirt-exporter has
 * stands under its names. */

#include "core/cpu.h"
#include "core/host.h"
#include "core/lifecycle.h"
#include "lib/arith.h"
#include "lib/string.h"
#include "mm/pool.h"
#include "monitor/command.h"

#define NS_PER_S   1000000000UL
#define LINE_SIZE  256
#define LABELS     96
#define VALUES_MAX 12
#define PAGE_BYTES 4096
#define SUM_STEP   16 /* vCPUs */

extern const char bulkhead_version[]; /* the Makefile's */

/* The name says the type, "_total" a counter, and the unit: "_seconds" for TSC ticks. */
struct family {
    const char *name, *help;
};

/* Families that have a sample for each of the same things, values in the same order. */
struct scope {
    const struct family *families;
    u32 count;
    /* Samples of a partition; of the machine where `vm` is NULL. */
    u32 (*samples)(const struct vm *vm);
    void (*fill)(const struct request *request, char *labels, u64 *values);
    bool sums; /* from request->sum */
};

static u32 one(const struct vm *vm)
{
    return 1;
}

static const struct family host_families[] = {
    {"libvirt_up",                            "The monitor answers."         },
    {"bulkhead_uptime_seconds",               "Time since boot."             },
    {"bulkhead_memory_bytes",                 "Usable memory of the machine."},
    {"bulkhead_memory_free_bytes",            "Memory that is nobody's."     },
    {"bulkhead_hypervisor_memory_bytes",      "The hypervisor's own memory." },
    {"bulkhead_hypervisor_memory_used_bytes", "Of which in use."             },
};

static void fill_host(const struct request *request, char *labels, u64 *values)
{
    struct memory_stats stats = memory_stats();
    const u64 all[] = {1,           __builtin_ia32_rdtsc() - host.boot_tsc,
                       stats.total, stats.free,
                       stats.pool,  stats.pool_used};

    memcpy(values, all, sizeof(all));
}

static const struct family version_families[] = {
    {"bulkhead_build_info", "Its version, as a label."},
};

static void fill_version(const struct request *request, char *labels, u64 *values)
{
    snprintf(labels, LABELS, "{version=\"%s\"}", bulkhead_version);
    values[0] = 1;
}

static const struct family cpu_families[] = {
    {"bulkhead_cpu_idle_seconds_total", "CPU time that nobody wanted."                      },
    {"bulkhead_cpu_own_seconds_total",  "CPU time of the monitor and of what nobody caused."},
    {"bulkhead_cpu_seconds_total",      "CPU time in all."                                  },
};

static u32 count_cpus(const struct vm *vm)
{
    return cpu_count;
}

static void fill_cpu(const struct request *request, char *labels, u64 *values)
{
    const struct cpu *cpu = cpus[request->row];
    const u64 all[] = {cpu->idle_cycles, cpu->own_cycles, cpu->charged - cpu->started};

    snprintf(labels, LABELS, "{cpu=\"%u\"}", request->row);
    memcpy(values, all, sizeof(all));
}

static const struct family domain_families[] = {
    {"libvirt_domain_info_vstate",
     "1 running, 2 blocked, 3 paused, 4 stopping, 5 stopped, 6 crashed."                    },
    {"libvirt_domain_info_virtual_cpus",           "Virtual CPUs."                          },
    {"libvirt_domain_info_maximum_memory_bytes",   "Memory when it runs."                   },
    {"libvirt_domain_info_memory_usage_bytes",     "Memory that it holds."                  },
    {"libvirt_domain_info_cpu_time_seconds_total", "CPU time, in the guest and for it."     },
    {"bulkhead_domain_guest_seconds_total",        "CPU time in the guest."                 },
    {"bulkhead_domain_host_seconds_total",         "CPU time in the hypervisor for it."     },
    {"bulkhead_domain_steal_seconds_total",        "Time that its virtual CPUs had to wait."},
    {"bulkhead_domain_hypervisor_memory_bytes",    "Memory of the hypervisor held for it."  },
    {"bulkhead_domain_starts_total",               "Starts and restarts."                   },
    {"bulkhead_domain_console_bytes_total",        "Bytes that its serial port sent."       },
};

/* enum virDomainState of libvirt's libvirt-domain.h. */
static u64 vstate(const struct vm *vm)
{
    static const u8 states[] = {
        [VM_STOPPED] = 5, [VM_STARTING] = 1, [VM_RUNNING] = 1, [VM_PAUSING] = 3,
        [VM_PAUSED] = 3,  [VM_STOPPING] = 4, [VM_CRASHED] = 6,
    };

    return strcmp(vm_state_name(vm), "blocked") == 0 ? 2 : states[vm->state];
}

static void fill_domain(const struct request *request, char *labels, u64 *values)
{
    const struct vm *vm = request->vm;
    const struct run_statistics *sum = &request->sum;
    const u64 all[] = {
        vstate(vm),
        vm_vcpus(vm),
        vm_memory(vm),
        vm->vcpus != NULL ? vm->memory.mapped : 0,
        sum->guest_cycles + sum->host_cycles,
        sum->guest_cycles,
        sum->host_cycles,
        sum->steal_cycles,
        (u64)vm->hypervisor_pages * PAGE_BYTES + vm->console.space,
        vm->starts,
        vm->console.written,
    };

    snprintf(labels, LABELS, "{domain=\"%s\"}", vm->config.name);
    memcpy(values, all, sizeof(all));
}

static const struct family vcpu_families[] = {
    {"libvirt_domain_vcpu_time_seconds_total",  "CPU time, in the guest and for it."},
    {"libvirt_domain_vcpu_delay_seconds_total", "Time that it had to wait."         },
};

static u32 count_vcpus(const struct vm *vm)
{
    return vm->vcpus != NULL ? vm->vcpu_count : 0;
}

static void fill_vcpu(const struct request *request, char *labels, u64 *values)
{
    const struct vm *vm = request->vm;
    const struct run_statistics *statistics = &vm->vcpus[request->row]->statistics;

    snprintf(labels, LABELS, "{domain=\"%s\",vcpu=\"%u\"}", vm->config.name, request->row);
    values[0] = statistics->guest_cycles + statistics->host_cycles;
    values[1] = statistics->steal_cycles;
}

static const struct family exit_families[] = {
    {"bulkhead_domain_exits_total",        "Exits."                               },
    {"bulkhead_domain_exit_seconds_total", "CPU time in the hypervisor for exits."},
};

static u32 count_exits(const struct vm *vm)
{
    return EXIT_KIND_COUNT;
}

static void fill_exit(const struct request *request, char *labels, u64 *values)
{
    u32 kind = request->row;

    snprintf(labels, LABELS, "{domain=\"%s\",kind=\"%s\"}", request->vm->config.name,
             exit_kind_name((enum exit_kind)kind));
    values[0] = request->sum.exits[kind];
    values[1] = request->sum.exit_cycles[kind];
}

#define FAMILIES(of) of, ARRAY_SIZE(of)

static const struct scope scopes[] = {
    {FAMILIES(host_families),    one,         fill_host,    false},
    {FAMILIES(version_families), one,         fill_version, false},
    {FAMILIES(cpu_families),     count_cpus,  fill_cpu,     false},
#define FIRST_OF_PARTITIONS 3
    {FAMILIES(domain_families),  one,         fill_domain,  true },
    {FAMILIES(vcpu_families),    count_vcpus, fill_vcpu,    false},
    {FAMILIES(exit_families),    count_exits, fill_exit,    true },
};

_Static_assert(ARRAY_SIZE(domain_families) <= VALUES_MAX, "the largest scope");

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), length = strlen(end);

    return size >= length && strcmp(text + size - length, end) == 0;
}

static void put_line(struct request *request, const char *line)
{
    const char *end = request->output.json ? "\n" : "\r\n";

    output_text(&request->output, line, strlen(line), true);
    output_text(&request->output, end, strlen(end), true);
}

static void put_head(struct request *request, const struct family *family)
{
    char line[LINE_SIZE];

    snprintf(line, sizeof(line), "# HELP %s %s", family->name, family->help);
    put_line(request, line);
    snprintf(line, sizeof(line), "# TYPE %s %s", family->name,
             ends_with(family->name, "_total") ? "counter" : "gauge");
    put_line(request, line);
}

static void put_sample(struct request *request, const struct scope *scope,
                       const struct family *family)
{
    char line[LINE_SIZE], labels[LABELS] = "";
    u64 values[VALUES_MAX], value;

    scope->fill(request, labels, values);
    value = values[family - scope->families];
    if (ends_with(family->name, "_seconds") || ends_with(family->name, "_seconds_total")) {
        value = mul_div(value, NS_PER_S, host.tsc_hz);
        snprintf(line, sizeof(line), "%s%s %lu.%09lu", family->name, labels, value / NS_PER_S,
                 value % NS_PER_S);
    } else {
        snprintf(line, sizeof(line), "%s%s %lu", family->name, labels, value);
    }
    put_line(request, line);
}

/* To the next sample of the family, if there is one. */
static bool find_sample(struct request *request, const struct scope *scope)
{
    if (scope < scopes + FIRST_OF_PARTITIONS)
        return request->row < scope->samples(NULL);
    while (request->vm != NULL && request->row >= scope->samples(request->vm)) {
        request->vm = vm_next(request->vm);
        request->row = request->summed = 0;
    }
    return request->vm != NULL;
}

/* Adds up some of the partition's vCPUs; true when request->sum has all. */
static bool sum_up(struct request *request)
{
    const struct vm *vm = request->vm;
    u32 end;

    if (request->summed == 0 || request->summed > vm->vcpu_count) { /* it has stopped meanwhile */
        request->sum = vm->retired;
        request->summed = 0;
    }
    end = MIN(request->summed + SUM_STEP, vm->vcpu_count);
    for (; request->summed < end; request->summed++)
        statistics_add(&request->sum, &vm->vcpus[request->summed]->statistics);
    return end == vm->vcpu_count;
}

static enum progress end(struct request *request)
{
    output_text_close(&request->output);
    output_end(&request->output);
    return COMMAND_DONE;
}

/* request->end counts scopes, position the families of one, row the samples of a partition. */
enum progress run_metrics(struct request *request)
{
    const struct scope *scope = &scopes[request->end];
    const struct family *family = &scope->families[request->position];

    if (!request->begun) {
        request->begun = true;
        output_begin(&request->output);
        output_text_open(&request->output, "metrics");
    }
    if (!request->measured) {
        put_head(request, family);
        request->measured = true;
        request->row = request->summed = 0;
        request->vm = scope < scopes + FIRST_OF_PARTITIONS ? NULL : vm_next(NULL);
    } else if (find_sample(request, scope)) {
        if (scope->sums && !sum_up(request))
            return COMMAND_MORE;
        put_sample(request, scope, family);
        request->row++;
    } else {
        request->measured = false;
        request->position = (request->position + 1) % scope->count;
        request->end += request->position == 0;
        if (request->end == ARRAY_SIZE(scopes))
            return end(request);
    }
    return COMMAND_MORE;
}
