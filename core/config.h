/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_CONFIG_H
#define BULKHEAD_CORE_CONFIG_H

/* tenants.conf: an INI text in, partition configurations out. Pure: it knows nothing of which
 * images exist (the caller resolves names), allocates nothing and keeps no pointer into the
 * text. The table of keys in config.c is the only place that knows them. */

#include "lib/types.h"

#define CONFIG_NAME_SIZE      32 /* with the NUL: letters, digits, '-', '_', '.' */
#define CONFIG_IMAGE_SIZE     64
#define CONFIG_MODULES_MAX    16
#define CONFIG_MODULES_SIZE   512
#define CONFIG_PORT_SIZE      16
#define CONFIG_CMDLINE_SIZE   2048
#define CONFIG_ERROR_SIZE     160
#define CONFIG_CPUS_MAX       1024
#define CONFIG_VCPUS_MAX      500
#define CONFIG_WEIGHT_DEFAULT 100
#define CONFIG_VALUE_SIZE     4096 /* the longest lists CPUs */
#define CONFIG_MODULE         "tenants.conf"

enum fault_action {
    ACTION_DESTROY,
    ACTION_RESTART,
    ACTION_ROLLBACK,
    ACTION_PRESERVE,
};

enum unknown_msr_action {
    UNKNOWN_MSR_FAULT,
    UNKNOWN_MSR_IGNORE,
};

/* What is offered of KVM's: bits of partition_config.pv. */
enum pv_offer {
    PV_CLOCK = 1 << 0,
    PV_STEAL_TIME = 1 << 1,
    PV_EOI = 1 << 2,
    PV_ALL = PV_CLOCK | PV_STEAL_TIME | PV_EOI,
};

struct partition_config {
    char name[CONFIG_NAME_SIZE];
    char kernel[CONFIG_IMAGE_SIZE];
    char initrd[CONFIG_IMAGE_SIZE];    /* empty: none */
    char modules[CONFIG_MODULES_SIZE]; /* names one after the other, each NUL-terminated */
    u32 module_count;
    char cmdline[CONFIG_CMDLINE_SIZE];
    u64 memory; /* bytes, a multiple of 4 KiB */
    u32 vcpus;
    u64 cpus[CONFIG_CPUS_MAX / 64]; /* bit N: may run on physical CPU N; all ones by default */
    u32 weight;
    u32 tsc_mhz;     /* 0: the host's */
    u32 cap_percent; /* of one physical CPU; 0: none */
    bool autostart;
    enum fault_action on_crash;
    enum fault_action on_hang;
    enum fault_action on_reboot;
    enum unknown_msr_action unknown_msr;
    u32 pv;                         /* enum pv_offer */
    s32 exit_port;                  /* -1: none */
    char console[CONFIG_PORT_SIZE]; /* serial port of the machine's own; empty: none */
};

_Static_assert(sizeof(struct partition_config) % sizeof(u64) == 0, "copied in words");

struct host_config {
    u64 slice_ns;
};

struct config_reader {
    void *context;
    /* The [host] section, once, if there is one. */
    void (*host)(void *context, const struct host_config *host);
    /* A partition without errors; `line` is that of its section header. */
    void (*partition)(void *context, const struct partition_config *partition, u32 line);
    /* One sentence without the file's name, e.g. "12: [web] memory: '12Q' is not a size". Every
     * error is reported, one call each; a partition with any is left out. */
    void (*error)(void *context, u32 line, const char *message);
};

/* Defaults of the interfaces page; `name` may be NULL. */
void config_partition_defaults(struct partition_config *partition, const char *name);

/* The name of partition key number `index`, in the order of the documentation; NULL behind the
 * last. */
const char *config_partition_key(u32 index);

/* True when a partition that is not stopped follows that key, too, and not at its next start. */
bool config_key_at_once(u32 index);

/* Sets one key as the file would: "key=value". False with a sentence in `error` (without file, line
 * and partition) when the key is unknown or the value bad: it names the word, and for an unknown
 * key the nearest known one. Bit I of *seen: key I was given before, which is an error, too. */
bool config_partition_assign(struct partition_config *partition, const char *text, u32 *seen,
                             char error[CONFIG_ERROR_SIZE]);

/* The value of key number `index`, as it is set. In the file it stands between double quotes unless
 * it is plain. */
void config_partition_get(const struct partition_config *partition, u32 index,
                          char value[CONFIG_VALUE_SIZE]);
bool config_value_is_plain(const char *value);

/* Letters, digits, '-', '_', '.', and not the name of the host's section. */
bool config_name_is_legal(const char *name);

/* Image number `index` that it names: its key and the image; NULL behind the last. */
const char *config_image(const struct partition_config *partition, u32 index, const char **name);

/* Parses `size` bytes. The scratch partition is the caller's, as it is too large for a stack.
 * Duplicate partition names, keys outside a section, a key given twice, a missing kernel, a NUL
 * or other control character in the text are errors. */
void config_parse(const char *text, size_t size, struct partition_config *scratch,
                  const struct config_reader *reader);

#endif
