/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_HOST_H
#define BULKHEAD_CORE_HOST_H

/* What was found out about the machine at boot. Written by the boot CPU before the others start,
 * read-only afterwards. */

#include "boot/boot_info.h"
#include "core/config.h"
#include "core/hvm.h"
#include "drivers/acpi.h"

/* CPU features that the hypervisor itself relies on the presence of. */
struct cpu_features {
    bool nx, mce, smep, smap, pge, pcid, huge_pages, x2apic, xsave, xsaves, invariant_tsc, rdtscp;
    u64 xcr0;       /* all components that this hardware has and the hypervisor can save */
    u32 xsave_size; /* bytes of an area that holds them */
    u32 mwait_hint; /* of the deepest C-state that interrupts end and timers run on in; 0: none */
    char vendor[13];
    char model[49];
};

#define WITHOUT_SIZE        256
#define CONFIG_PROBLEMS_MAX 16
#define CONFIG_PROBLEM_SIZE 240

struct host {
    struct boot_info boot;
    struct acpi_info acpi;
    struct cpu_features features;
    char without[WITHOUT_SIZE]; /* virtualisation features treated as absent, see list_names */
    u64 tsc_hz;
    const char *tsc_source;
    u64 boot_tsc;              /* TSC when the boot loader jumped here */
    u64 prompt_tsc;            /* TSC when the first prompt had been shown */
    u64 boot_unix_seconds;     /* wall clock then */
    u32 cpus_in_tables;        /* that ACPI lists as enabled */
    const struct hvm_ops *hvm; /* NULL: no backend is usable */
    struct hvm_report report;
    struct host_config config;
    char config_problems[CONFIG_PROBLEMS_MAX][CONFIG_PROBLEM_SIZE]; /* the first ones at boot */
    u32 config_problem_count;
    u64 wx_pages, pages; /* host pages writable and executable at once; all checked */
};

extern struct host host;

/* The module named `name`, or NULL. */
const struct boot_module *host_image(const char *name);

/* Nanoseconds since boot, and a duration in TSC ticks. */
u64 host_uptime_ns(void);
u64 host_ns_to_tsc(u64 ns);

_Noreturn void host_shutdown(bool reboot);

#endif
