/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/cpu.h"
#include "core/host.h"
#include "core/log.h"
#include "core/mitigations.h"
#include "core/sched.h"
#include "lib/string.h"
#include "mm/pool.h"
#include "monitor/command.h"

#define TEXT_COLUMNS 80
#define LIST_INDENT  20

extern const char bulkhead_version[]; /* the Makefile's */

/* ---- capabilities ---- */

static const char *const feature_states[] = {
    [FEATURE_USED] = "used",
    [FEATURE_UNUSED] = "unused",
    [FEATURE_ABSENT] = "absent",
    [FEATURE_MISSING] = "missing",
};

static void capabilities_summary(struct request *request)
{
    static const struct column columns[] = {
        {"Vendor",         "vendor",      VALUE_TEXT},
        {"Model",          "model",       VALUE_TEXT},
        {"Virtualisation", "backend",     VALUE_TEXT},
        {"Usable",         "usable",      VALUE_FLAG},
        {"Refusal",        "refusal",     VALUE_TEXT},
        {"Note",           "note",        VALUE_TEXT},
        {"Affected by",    "affected_by", VALUE_TEXT},
        {"Mitigations",    "mitigations", VALUE_TEXT},
        {"Not countered",  "unmitigated", VALUE_TEXT},
    };
    const struct hvm_report *report = &host.report;
    struct mitigations_text text;

    mitigations_describe(&mitigations, &text);
    request_fields(request, columns,
                   (const struct value[]){
                       {.text = host.features.vendor},
                       {.text = host.features.model},
                       {.text = host.hvm != NULL ? host.hvm->name : "none"},
                       {.number = report->usable && host.hvm != NULL},
                       {.text = report->refusal},
                       {.text = report->note},
                       {.text = text.affected},
                       {.text = text.used},
                       {.text = text.open},
                   },
                   ARRAY_SIZE(columns));
}

static u32 feature_count(void)
{
    return MIN(host.report.feature_count, (u32)HVM_FEATURES_MAX);
}

/* One state's features, separated by commas, in as many lines as they need. */
static void list_features(struct request *request, enum feature_state state, const char *title)
{
    char line[TEXT_COLUMNS + 1];
    size_t size = (size_t)snprintf(line, sizeof(line), "%-*s", LIST_INDENT, title);
    bool any = false;

    for (u32 i = 0; i < feature_count(); i++) {
        const struct hvm_feature *feature = &host.report.features[i];

        if (feature->state != state)
            continue;
        if (any && size + 2 + strlen(feature->name) + 1 > TEXT_COLUMNS) {
            output_line(&request->output, "%s,", line);
            size = (size_t)snprintf(line, sizeof(line), "%*s", LIST_INDENT, "");
            any = false;
        }
        snprintf(line + size, sizeof(line) - size, "%s%s", any ? ", " : "", feature->name);
        size = strlen(line);
        any = true;
    }
    if (any)
        output_line(&request->output, "%s", line);
}

static const struct column feature_columns[] = {
    {"FEATURE", "name",  VALUE_TEXT},
    {"STATE",   "state", VALUE_TEXT},
};

static bool feature_row(struct request *request, u32 index, struct value *values)
{
    if (index >= feature_count())
        return false;
    values[0].text = host.report.features[index].name;
    values[1].text = feature_states[host.report.features[index].state];
    return true;
}

static const struct rows feature_rows = {
    .key = "features",
    .columns = feature_columns,
    .count = ARRAY_SIZE(feature_columns),
    .row = feature_row,
};

enum progress run_capabilities(struct request *request)
{
    if (request->step == 0) {
        output_begin(&request->output);
        capabilities_summary(request);
    }
    if (request->output.json)
        return request_rows(request, &feature_rows);
    list_features(request, FEATURE_USED, "Used");
    list_features(request, FEATURE_UNUSED, "There, not used");
    list_features(request, FEATURE_ABSENT, "Absent");
    list_features(request, FEATURE_MISSING, "Absent but needed");
    output_end(&request->output);
    return COMMAND_DONE;
}

/* ---- host ---- */

static void host_machine(struct request *request)
{
    static const struct column columns[] = {
        {"Version",         "version",        VALUE_TEXT    },
        {"Up for",          "uptime_ns",      VALUE_DURATION},
        {"Firmware",        "firmware",       VALUE_TEXT    },
        {"CPU vendor",      "vendor",         VALUE_TEXT    },
        {"CPU model",       "model",          VALUE_TEXT    },
        {"Virtualisation",  "backend",        VALUE_TEXT    },
        {"CPUs in use",     "cpus",           VALUE_COUNT   },
        {"CPUs listed",     "cpus_in_tables", VALUE_COUNT   },
        {"TSC, Hz",         "tsc_hz",         VALUE_COUNT   },
        {"TSC known from",  "tsc_source",     VALUE_TEXT    },
        {"Boot, TSC ticks", "boot_ticks",     VALUE_COUNT   },
    };

    request_fields(request, columns,
                   (const struct value[]){
                       {.text = bulkhead_version},
                       {.number = host_uptime_ns()},
                       {.text = host.boot.efi ? "UEFI" : "BIOS"},
                       {.text = host.features.vendor},
                       {.text = host.features.model},
                       {.text = host.hvm != NULL ? host.hvm->name : "none"},
                       {.number = cpu_count},
                       {.number = host.cpus_in_tables},
                       {.number = host.tsc_hz},
                       {.text = host.tsc_source != NULL ? host.tsc_source : "nowhere"},
                       {.number = host.prompt_tsc - host.boot_tsc},
                   },
                   ARRAY_SIZE(columns));
}

static void host_memory(struct request *request)
{
    static const struct column columns[] = {
        {"Memory",             "memory",          VALUE_SIZE    },
        {"  free",             "memory_free",     VALUE_SIZE    },
        {"  Bulkhead's",       "hypervisor",      VALUE_SIZE    },
        {"    in use",         "hypervisor_used", VALUE_SIZE    },
        {"Time slice",         "slice_ns",        VALUE_DURATION},
        {"Host pages checked", "host_pages",      VALUE_COUNT   },
        {"  W and X at once",  "host_pages_wx",   VALUE_COUNT   },
    };
    struct memory_stats stats = memory_stats();

    request_fields(request, columns,
                   (const struct value[]){
                       {.number = stats.total},
                       {.number = stats.free},
                       {.number = stats.pool},
                       {.number = stats.pool_used},
                       {.number = host.config.slice_ns},
                       {.number = host.pages},
                       {.number = host.wx_pages},
                   },
                   ARRAY_SIZE(columns));
}

static const struct column cpu_columns[] = {
    {"CPU",          "index",               VALUE_COUNT },
    {"APIC ID",      "apic_id",             VALUE_COUNT },
    {"VCPUS",        "vcpus",               VALUE_COUNT },
    {"ELAPSED",      "elapsed_cycles",      VALUE_CYCLES},
    {"IDLE",         "idle_cycles",         VALUE_CYCLES},
    {"OWN",          "own_cycles",          VALUE_CYCLES},
    {"LONGEST HOST", "longest_host_cycles", VALUE_CYCLES},
    {"WHOSE",        "whose",               VALUE_TEXT  },
};

/* The vCPUs that it owns now: "web/0 web/1 db/0"; those that do not fit are left out. */
static const char *whose(const struct cpu *cpu)
{
    static char text[512];
    size_t size = 0;

    text[0] = '\0';
    for (const struct vm *vm = vm_next(NULL); vm != NULL; vm = vm_next(vm))
        for (u32 i = 0; vm->vcpus != NULL && i < vm->vcpu_count; i++) {
            if (size + CONFIG_NAME_SIZE + 12 >= sizeof(text))
                return text;
            if (vm->vcpus[i]->cpu == cpu)
                size += (size_t)snprintf(text + size, sizeof(text) - size, "%s%s/%u",
                                         size > 0 ? " " : "", vm->config.name, i);
        }
    return text;
}

static bool cpu_row(struct request *request, u32 index, struct value *values)
{
    u64 resting;

    if (index >= cpu_count)
        return false;
    resting = sched_resting(cpus[index]);
    values[0].number = cpus[index]->index;
    values[1].number = cpus[index]->apic_id;
    values[2].number = cpus[index]->vcpu_count;
    values[3].number = cpus[index]->charged - cpus[index]->started + resting;
    values[4].number = cpus[index]->idle_cycles + resting;
    values[5].number = cpus[index]->own_cycles;
    values[6].number = cpus[index]->longest_host_cycles;
    values[7].text = whose(cpus[index]);
    return true;
}

static const struct rows cpu_rows = {
    .key = "cpu",
    .columns = cpu_columns,
    .count = ARRAY_SIZE(cpu_columns),
    .row = cpu_row,
};

enum progress run_host(struct request *request)
{
    if (request->step == 0) {
        output_begin(&request->output);
        host_machine(request);
        host_memory(request);
    }
    return request_rows(request, &cpu_rows);
}

/* ---- images ---- */

static const struct column image_columns[] = {
    {"IMAGE", "name", VALUE_TEXT},
    {"SIZE",  "size", VALUE_SIZE},
};

static bool image_row(struct request *request, u32 index, struct value *values)
{
    if (index >= host.boot.module_count)
        return false;
    values[0].text = host.boot.modules[index].name;
    values[1].number = host.boot.modules[index].size;
    return true;
}

static const struct rows image_rows = {
    .key = "images",
    .columns = image_columns,
    .count = ARRAY_SIZE(image_columns),
    .row = image_row,
};

enum progress run_images(struct request *request)
{
    if (request->step == 0)
        output_begin(&request->output);
    return request_rows(request, &image_rows);
}

/* ---- the small ones ---- */

static enum progress answer(struct request *request, const struct column *column,
                            struct value value, const char *text)
{
    output_begin(&request->output);
    if (request->output.json && column != NULL)
        output_field(&request->output, column, value);
    output_line(&request->output, "%s", text);
    output_end(&request->output);
    return COMMAND_DONE;
}

enum progress run_version(struct request *request)
{
    static const struct column column = {"Version", "version", VALUE_TEXT};
    char text[TEXT_COLUMNS];

    snprintf(text, sizeof(text), "Bulkhead %s", bulkhead_version);
    return answer(request, &column, (struct value){.text = bulkhead_version}, text);
}

enum progress run_uptime(struct request *request)
{
    static const struct column column = {"Up for", "uptime_ns", VALUE_DURATION};
    u64 ns = host_uptime_ns();
    char text[TEXT_COLUMNS] = "up for ";

    format_duration(text + strlen(text), sizeof(text) - strlen(text), ns);
    return answer(request, &column, (struct value){.number = ns}, text);
}

enum progress run_poweroff(struct request *request)
{
    answer(request, NULL, (struct value){}, "Turning off.");
    host_shutdown(false);
}

enum progress run_reboot_host(struct request *request)
{
    answer(request, NULL, (struct value){}, "Restarting.");
    host_shutdown(true);
}
