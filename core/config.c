/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "core/config.h"

#include "drivers/uart.h"
#include "lib/edit_distance.h"
#include "lib/string.h"

#define HOST_SECTION    "host"
#define SHOWN_SIZE      40 /* of a word in a message, with the NUL */
#define MEMORY_MIN      (64 * KIB)
#define PAGE_SIZE       (4 * KIB)
#define MEMORY_MAX      (64 * TIB)
#define WEIGHT_MAX      10000
#define TSC_MHZ_MAX     100000
#define SLICE_MIN_NS    (1 * NS_PER_MS)
#define SLICE_MAX_NS    (10 * NS_PER_S)
#define NS_PER_MS       1000000ULL
#define NS_PER_S        1000000000ULL
#define DEFAULT_MEMORY  (256 * MIB)
#define DEFAULT_SLICE   (10 * NS_PER_MS)
#define EXIT_PORT_NONE  (-1)
#define LAST_PORT       0xFFFF
#define PERCENT_PER_CPU 100
#define CPU_RANGE_SIZE  12 /* ",1022-1023", with the NUL */

/* A stretch of the text; not NUL-terminated. */
struct word {
    const char *text;
    size_t size;
};

struct choice {
    const char *name;
    u32 value;
};

struct key {
    const char *name;
    const struct kind *kind;
    const char *expected;
    u64 min, max; /* texts: max is the field's size */
    const struct choice *choices;
    u16 offset;
    bool at_once; /* a partition that is not stopped follows it, too */
};

struct kind {
    /* Stores `value` in `field`; false, with nothing stored, when it is not `expected`. */
    bool (*set)(const struct key *key, struct word value, void *field);
    /* The value as `set` takes it. */
    void (*get)(const struct key *key, const void *field, char to[CONFIG_VALUE_SIZE]);
};

static const struct choice switches[] = {
    {"yes",   true },
    {"no",    false},
    {"true",  true },
    {"false", false},
    {"on",    true },
    {"off",   false},
    {NULL,    0    },
};

static const struct choice actions[] = {
    {"destroy",  ACTION_DESTROY },
    {"restart",  ACTION_RESTART },
    {"rollback", ACTION_ROLLBACK},
    {"preserve", ACTION_PRESERVE},
    {NULL,       0              },
};

#define ACTION_WORDS "destroy, restart, rollback or preserve"

static const struct choice pv_offers[] = {
    {"all",      PV_ALL       },
    {"kvmclock", PV_CLOCK     },
    {"steal",    PV_STEAL_TIME},
    {"eoi",      PV_EOI       },
    {"none",     0            },
    {NULL,       0            },
};

static const struct choice msr_actions[] = {
    {"fault",  UNKNOWN_MSR_FAULT },
    {"ignore", UNKNOWN_MSR_IGNORE},
    {NULL,     0                 },
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char to_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_control(char c)
{
    return ((u8)c < ' ' && c != '\t') || (u8)c == 0x7F;
}

static struct word word_of(const char *text)
{
    return (struct word){text, strlen(text)};
}

static struct word skip(struct word word, size_t count)
{
    return (struct word){word.text + count, word.size - count};
}

static struct word trim(struct word word)
{
    while (word.size > 0 && is_space(word.text[0]))
        word = skip(word, 1);
    while (word.size > 0 && is_space(word.text[word.size - 1]))
        word.size--;
    return word;
}

static bool word_is(struct word word, const char *text)
{
    return word.size == strlen(text) && memcmp(word.text, text, word.size) == 0;
}

/* Cuts off and returns what comes before the first `c`; all of it where there is none. */
static struct word take_until(struct word *rest, char c)
{
    const char *end = memchr(rest->text, c, rest->size);
    struct word taken = *rest;

    if (end != NULL)
        taken.size = (size_t)(end - rest->text);
    *rest = skip(*rest, MIN(taken.size + 1, rest->size));
    return taken;
}

static void copy_text(char *to, struct word word)
{
    memcpy(to, word.text, word.size);
    to[word.size] = '\0';
}

/* A word as messages show it. */
static const char *show(char shown[SHOWN_SIZE], struct word word)
{
    size_t size = MIN(word.size, SHOWN_SIZE - 1);

    for (size_t i = 0; i < size; i++)
        shown[i] = is_control(word.text[i]) || word.text[i] == '\t' ? '?' : word.text[i];
    if (size < word.size)
        memcpy(shown + size - 3, "...", 3);
    shown[size] = '\0';
    return shown;
}

/* ---- values ---------------------------------------------------------------------------- */

static u32 digit_value(char c)
{
    c = to_lower(c);
    if (is_digit(c))
        return (u32)(c - '0');
    return c >= 'a' && c <= 'f' ? (u32)(c - 'a') + 10 : UINT32_MAX;
}

/* Takes the digits that *rest begins with; false where there are none or too many. */
static bool take_number(struct word *rest, u64 *value)
{
    bool hex = rest->size > 2 && rest->text[0] == '0' && to_lower(rest->text[1]) == 'x';
    struct word digits = hex ? skip(*rest, 2) : *rest;
    u32 base = hex ? 16 : 10;
    size_t count = 0;

    *value = 0;
    for (; count < digits.size && digit_value(digits.text[count]) < base; count++)
        if (__builtin_mul_overflow(*value, base, value) ||
            __builtin_add_overflow(*value, digit_value(digits.text[count]), value))
            return false;
    *rest = skip(digits, count);
    return count > 0;
}

/* A number with one of the units, times what the unit stands for. */
struct unit {
    const char *name;
    u64 factor;
};

static bool parse_with_unit(struct word word, const struct unit *units, u64 *value)
{
    u64 number;

    if (!take_number(&word, &number))
        return false;
    for (; units->name != NULL; units++)
        if (word_is(word, units->name))
            return !__builtin_mul_overflow(number, units->factor, value);
    return false;
}

static bool in_range(const struct key *key, u64 value)
{
    return value >= key->min && value <= key->max;
}

static bool set_size(const struct key *key, struct word value, void *field)
{
    static const struct unit units[] = {
        {"",   1  },
        {"K",  KIB},
        {"M",  MIB},
        {"G",  GIB},
        {"k",  KIB},
        {"m",  MIB},
        {"g",  GIB},
        {NULL, 0  },
    };
    u64 bytes;

    if (!parse_with_unit(value, units, &bytes) || !in_range(key, bytes) ||
        !IS_ALIGNED(bytes, PAGE_SIZE))
        return false;
    *(u64 *)field = bytes;
    return true;
}

static void get_size(const struct key *key, const void *field, char to[CONFIG_VALUE_SIZE])
{
    static const char units[] = "\0KMG";
    u64 size = *(const u64 *)field;
    u32 unit = 0;

    while (unit < 3 && IS_ALIGNED(size, KIB)) {
        size /= KIB;
        unit++;
    }
    snprintf(to, CONFIG_VALUE_SIZE, "%lu%.1s", size, units + unit);
}

static const struct kind size_kind = {set_size, get_size};

static bool set_time(const struct key *key, struct word value, void *field)
{
    static const struct unit units[] = {
        {"ms", NS_PER_MS},
        {"s",  NS_PER_S },
        {NULL, 0        }
    };
    u64 ns;

    if (!parse_with_unit(value, units, &ns) || !in_range(key, ns))
        return false;
    *(u64 *)field = ns;
    return true;
}

static const struct kind time_kind = {set_time, NULL};

static bool set_number(const struct key *key, struct word value, void *field)
{
    static const struct unit units[] = {
        {"",   1},
        {NULL, 0}
    };
    u64 number;

    if (!parse_with_unit(value, units, &number) || !in_range(key, number))
        return false;
    *(u32 *)field = (u32)number;
    return true;
}

static void get_number(const struct key *key, const void *field, char to[CONFIG_VALUE_SIZE])
{
    snprintf(to, CONFIG_VALUE_SIZE, "%u", *(const u32 *)field);
}

static const struct kind number_kind = {set_number, get_number};

static bool set_percent(const struct key *key, struct word value, void *field)
{
    static const struct unit units[] = {
        {"%",  1},
        {NULL, 0}
    };
    u64 percent = 0;

    if (!word_is(value, "none") &&
        (!parse_with_unit(value, units, &percent) || !in_range(key, percent)))
        return false;
    *(u32 *)field = (u32)percent;
    return true;
}

static void get_percent(const struct key *key, const void *field, char to[CONFIG_VALUE_SIZE])
{
    u32 percent = *(const u32 *)field;

    snprintf(to, CONFIG_VALUE_SIZE, percent == 0 ? "none" : "%u%%", percent);
}

static const struct kind percent_kind = {set_percent, get_percent};

static bool set_port(const struct key *key, struct word value, void *field)
{
    if (!word_is(value, "none"))
        return set_number(key, value, field);
    *(s32 *)field = EXIT_PORT_NONE;
    return true;
}

static void get_port(const struct key *key, const void *field, char to[CONFIG_VALUE_SIZE])
{
    s32 port = *(const s32 *)field;

    snprintf(to, CONFIG_VALUE_SIZE, port == EXIT_PORT_NONE ? "none" : "0x%x", (u32)port);
}

static const struct kind port_kind = {set_port, get_port};

static const struct choice *find_choice(const struct choice *choices, struct word value)
{
    for (; choices->name != NULL; choices++)
        if (word_is(value, choices->name))
            return choices;
    return NULL;
}

static bool set_choice(const struct key *key, struct word value, void *field)
{
    const struct choice *choice = find_choice(key->choices, value);

    if (choice != NULL)
        *(u32 *)field = choice->value;
    return choice != NULL;
}

static void get_choice(const struct key *key, const void *field, char to[CONFIG_VALUE_SIZE])
{
    const struct choice *choice = key->choices;

    while (choice->value != *(const u32 *)field)
        choice++;
    copy_text(to, word_of(choice->name));
}

static const struct kind choice_kind = {set_choice, get_choice};

static bool set_switch(const struct key *key, struct word value, void *field)
{
    const struct choice *choice = find_choice(switches, value);

    if (choice != NULL)
        *(bool *)field = choice->value;
    return choice != NULL;
}

static void get_switch(const struct key *key, const void *field, char to[CONFIG_VALUE_SIZE])
{
    copy_text(to, word_of(*(const bool *)field ? "yes" : "no"));
}

static const struct kind switch_kind = {set_switch, get_switch};

static bool set_text(const struct key *key, struct word value, void *field)
{
    for (size_t i = 0; i < value.size; i++)
        if (is_control(value.text[i]))
            return false;
    if (value.size < key->min || value.size >= key->max)
        return false;
    copy_text(field, value);
    return true;
}

static void get_text(const struct key *key, const void *field, char to[CONFIG_VALUE_SIZE])
{
    copy_text(to, word_of(field));
}

static const struct kind text_kind = {set_text, get_text};

static bool set_console(const struct key *key, struct word value, void *field)
{
    char name[CONFIG_PORT_SIZE] = "";
    u16 port;
    u32 baud;

    if (value.size >= sizeof(name))
        return false;
    if (!word_is(value, "none")) {
        copy_text(name, value);
        if (!console_parse(name, &port, &baud))
            return false;
    }
    memcpy(field, name, sizeof(name));
    return true;
}

static void get_console(const struct key *key, const void *field, char to[CONFIG_VALUE_SIZE])
{
    const char *name = field;

    snprintf(to, CONFIG_VALUE_SIZE, "%s", name[0] != '\0' ? name : "none");
}

static const struct kind console_kind = {set_console, get_console};

static bool set_image(const struct key *key, struct word value, void *field)
{
    for (size_t i = 0; i < value.size; i++)
        if (is_space(value.text[i]))
            return false;
    return set_text(key, value, field);
}

static const struct kind image_kind = {set_image, get_text};

static bool parse_cpu_range(struct word element, u64 *first, u64 *last)
{
    if (!take_number(&element, first))
        return false;
    *last = *first;
    if (element.size > 0 && element.text[0] == '-') {
        element = skip(element, 1);
        if (!take_number(&element, last))
            return false;
    }
    return element.size == 0 && *first <= *last && *last < CONFIG_CPUS_MAX;
}

static bool set_cpus(const struct key *key, struct word value, void *field)
{
    u64 cpus[CONFIG_CPUS_MAX / 64] = {0};
    u64 first, last;

    if (word_is(value, "all")) {
        memset(field, 0xFF, sizeof(cpus));
        return true;
    }
    do {
        if (!parse_cpu_range(trim(take_until(&value, ',')), &first, &last))
            return false;
        for (; first <= last; first++)
            cpus[first / 64] |= BIT(first % 64);
    } while (value.size > 0);
    memcpy(field, cpus, sizeof(cpus));
    return true;
}

static bool has_cpu(const u64 *cpus, u32 cpu)
{
    return cpu < CONFIG_CPUS_MAX && (cpus[cpu / 64] & BIT(cpu % 64));
}

static void get_cpus(const struct key *key, const void *field, char to[CONFIG_VALUE_SIZE])
{
    const char *comma = "";
    u32 last;

    for (u32 first = 0; first < CONFIG_CPUS_MAX; first = last + 1) {
        for (last = first; has_cpu(field, first) && has_cpu(field, last + 1);)
            last++;
        if (last - first + 1 == CONFIG_CPUS_MAX)
            copy_text(to, word_of("all"));
        else if (has_cpu(field, first)) {
            to +=
                snprintf(to, CPU_RANGE_SIZE, last > first ? "%s%u-%u" : "%s%u", comma, first, last);
            comma = ",";
        }
    }
}

static const struct kind cpus_kind = {set_cpus, get_cpus};

static bool count_modules(struct word list, u32 *count)
{
    char name[CONFIG_IMAGE_SIZE];
    const struct key text = {.min = 1, .max = sizeof(name)};
    size_t size = list.size + 1;

    for (*count = 0; list.size > 0; ++*count)
        if (!set_image(&text, trim(take_until(&list, ',')), name))
            return false;
    return *count <= CONFIG_MODULES_MAX && size <= CONFIG_MODULES_SIZE;
}

static bool set_modules(const struct key *key, struct word value, void *field)
{
    struct partition_config *partition = CONTAINER_OF(field, struct partition_config, modules);
    char *to = field;
    u32 count;

    if (!count_modules(value, &count))
        return false;
    memset(partition->modules, 0, sizeof(partition->modules));
    for (u32 i = 0; i < count; i++) {
        struct word name = trim(take_until(&value, ','));

        copy_text(to, name);
        to += name.size + 1;
    }
    partition->module_count = count;
    return true;
}

static void get_modules(const struct key *key, const void *field, char to[CONFIG_VALUE_SIZE])
{
    const struct partition_config *partition =
        CONTAINER_OF(field, const struct partition_config, modules);
    const char *name = field;

    *to = '\0';
    for (u32 i = 0; i < partition->module_count; i++) {
        to += snprintf(to, CONFIG_IMAGE_SIZE + 2, i > 0 ? ", %s" : "%s", name);
        name += strlen(name) + 1;
    }
}

static const struct kind modules_kind = {set_modules, get_modules};

/* ---- keys ------------------------------------------------------------------------------ */

#define FIELD(name) offsetof(struct partition_config, name)

/* clang-format off */
static const struct key partition_keys[] = {
    {"kernel", &image_kind, "the name of an image",
     .offset = FIELD(kernel), .min = 1, .max = CONFIG_IMAGE_SIZE},
    {"initrd", &image_kind, "the name of an image",
     .offset = FIELD(initrd), .max = CONFIG_IMAGE_SIZE},
    {"modules", &modules_kind, "a list of at most 16 images such as a, b",
     .offset = FIELD(modules)},
    {"cmdline", &text_kind, "a command line of fewer than 2048 bytes",
     .offset = FIELD(cmdline), .max = CONFIG_CMDLINE_SIZE},
    {"memory", &size_kind, "a size such as 256M, of at least 64K and in steps of 4K",
     .offset = FIELD(memory), .min = MEMORY_MIN, .max = MEMORY_MAX},
    {"vcpus", &number_kind, "a number from 1 to 500",
     .offset = FIELD(vcpus), .min = 1, .max = CONFIG_VCPUS_MAX},
    {"cpus", &cpus_kind, "a list of CPUs such as 0-1,3",
     .offset = FIELD(cpus), .at_once = true},
    {"weight", &number_kind, "a number from 1 to 10000",
     .offset = FIELD(weight), .min = 1, .max = WEIGHT_MAX, .at_once = true},
    {"cap", &percent_kind, "a percentage such as 50%, or none",
     .offset = FIELD(cap_percent), .min = 1, .max = CONFIG_CPUS_MAX * PERCENT_PER_CPU,
     .at_once = true},
    {"tsc_mhz", &number_kind, "a number of MHz from 1 to 100000, or 0 for the host's",
     .offset = FIELD(tsc_mhz), .max = TSC_MHZ_MAX},
    {"autostart", &switch_kind, "yes or no", .offset = FIELD(autostart), .at_once = true},
    {"on_crash", &choice_kind, ACTION_WORDS,
     .offset = FIELD(on_crash), .choices = actions, .at_once = true},
    {"on_hang", &choice_kind, ACTION_WORDS,
     .offset = FIELD(on_hang), .choices = actions, .at_once = true},
    {"on_reboot", &choice_kind, ACTION_WORDS,
     .offset = FIELD(on_reboot), .choices = actions, .at_once = true},
    {"unknown_msr", &choice_kind, "fault or ignore",
     .offset = FIELD(unknown_msr), .choices = msr_actions, .at_once = true},
    {"pv", &choice_kind, "all, kvmclock, steal, eoi or none", .offset = FIELD(pv), .choices = pv_offers},
    {"exit_port", &port_kind, "a port from 0 to 0xffff, or none",
     .offset = FIELD(exit_port), .max = LAST_PORT},
    {"console", &console_kind, "com1..com4|0xPORT[,BAUD], or none", .offset = FIELD(console)},
};

static const struct key host_keys[] = {
    {"slice", &time_kind, "a time from 1ms to 10s",
     .offset = offsetof(struct host_config, slice_ns), .min = SLICE_MIN_NS, .max = SLICE_MAX_NS},
};
/* clang-format on */

struct key_table {
    const struct key *keys;
    size_t count;
};

static const struct key_table partition_table = {partition_keys, ARRAY_SIZE(partition_keys)};
static const struct key_table host_table = {host_keys, ARRAY_SIZE(host_keys)};

_Static_assert(ARRAY_SIZE(partition_keys) <= 32, "keys seen are bits of a u32");

static void unknown_key(const struct key_table *table, struct word key,
                        char error[CONFIG_ERROR_SIZE])
{
    size_t least = SIZE_MAX;
    u32 nearest = 0;
    char shown[SHOWN_SIZE];

    for (u32 i = 0; i < table->count; i++) {
        size_t distance = edit_distance(key.text, MIN(key.size, SHOWN_SIZE), table->keys[i].name);

        if (distance < least) {
            least = distance;
            nearest = i;
        }
    }
    snprintf(error, CONFIG_ERROR_SIZE, "'%s' is not a key; the nearest is '%s'", show(shown, key),
             table->keys[nearest].name);
}

/* The key's index in the table, or -1 with a sentence in `error`. */
static int find_key(const struct key_table *table, struct word key, char error[CONFIG_ERROR_SIZE])
{
    for (u32 i = 0; i < table->count; i++)
        if (word_is(key, table->keys[i].name))
            return (int)i;
    unknown_key(table, key, error);
    return -1;
}

static bool set_key(const struct key *key, void *target, struct word value,
                    char error[CONFIG_ERROR_SIZE])
{
    char shown[SHOWN_SIZE];

    if (key->kind->set(key, value, (char *)target + key->offset))
        return true;
    snprintf(error, CONFIG_ERROR_SIZE, "%s: '%s' is not %s", key->name, show(shown, value),
             key->expected);
    return false;
}

/* Bit I of *seen: key I was given before. */
static bool assign(const struct key_table *table, void *target, struct word key, struct word value,
                   u32 *seen, char error[CONFIG_ERROR_SIZE])
{
    int index = find_key(table, key, error);

    if (index < 0)
        return false;
    if (*seen & BIT(index)) {
        snprintf(error, CONFIG_ERROR_SIZE, "%s: is given twice", table->keys[index].name);
        return false;
    }
    *seen |= (u32)BIT(index);
    return set_key(&table->keys[index], target, value, error);
}

/* Cuts the comment off and trims. False where a quote is not closed. */
static bool strip(struct word *line)
{
    bool quoted = false;

    for (size_t i = 0; i < line->size; i++) {
        char c = line->text[i];

        if (c == '"')
            quoted = !quoted;
        if (!quoted && (c == '#' || c == ';') && (i == 0 || is_space(line->text[i - 1])))
            line->size = i;
    }
    *line = trim(*line);
    return !quoted;
}

static bool is_name(struct word word)
{
    for (size_t i = 0; i < word.size; i++) {
        char c = to_lower(word.text[i]);

        if (!is_digit(c) && !(c >= 'a' && c <= 'z') && c != '-' && c != '_' && c != '.')
            return false;
    }
    return word.size > 0 && word.size < CONFIG_NAME_SIZE;
}

bool config_name_is_legal(const char *name)
{
    return is_name(word_of(name)) && strcmp(name, HOST_SECTION) != 0;
}

void config_partition_defaults(struct partition_config *partition, const char *name)
{
    memset(partition, 0, sizeof(*partition));
    if (name != NULL)
        snprintf(partition->name, sizeof(partition->name), "%s", name);
    partition->memory = DEFAULT_MEMORY;
    partition->vcpus = 1;
    memset(partition->cpus, 0xFF, sizeof(partition->cpus));
    partition->weight = CONFIG_WEIGHT_DEFAULT;
    partition->autostart = true;
    partition->on_crash = ACTION_RESTART;
    partition->on_hang = ACTION_PRESERVE;
    partition->on_reboot = ACTION_RESTART;
    partition->unknown_msr = UNKNOWN_MSR_FAULT;
    partition->pv = PV_ALL;
    partition->exit_port = EXIT_PORT_NONE;
}

const char *config_partition_key(u32 index)
{
    return index < ARRAY_SIZE(partition_keys) ? partition_keys[index].name : NULL;
}

const char *config_image(const struct partition_config *partition, u32 index, const char **name)
{
    bool initrd = partition->initrd[0] != '\0';

    *name = index == 0 ? partition->kernel : partition->initrd;
    if (index == 0 || (index == 1 && initrd))
        return partition_keys[index].name;
    index -= 1 + initrd;
    *name = partition->modules;
    for (u32 i = 0; i < index; i++)
        *name += strlen(*name) + 1;
    return index < partition->module_count ? "modules" : NULL;
}

bool config_value_is_plain(const char *value)
{
    struct word word = word_of(value);

    return strip(&word) && word.size == strlen(value) && *value != '"';
}

bool config_partition_assign(struct partition_config *partition, const char *text, u32 *seen,
                             char error[CONFIG_ERROR_SIZE])
{
    struct word value = word_of(text);
    struct word key = take_until(&value, '=');
    const char *wrong = NULL;
    char shown[SHOWN_SIZE];

    if (strchr(text, '=') == NULL)
        wrong = "is not key=value";
    else if (strchr(value.text, '"') != NULL && !config_value_is_plain(value.text))
        wrong = "has a quote where " CONFIG_MODULE " could not have it";
    if (wrong == NULL)
        return assign(&partition_table, partition, key, value, seen, error);
    snprintf(error, CONFIG_ERROR_SIZE, "'%s' %s", show(shown, word_of(text)), wrong);
    return false;
}

bool config_key_at_once(u32 index)
{
    return partition_keys[index].at_once;
}

void config_partition_get(const struct partition_config *partition, u32 index,
                          char value[CONFIG_VALUE_SIZE])
{
    const struct key *key = &partition_keys[index];

    key->kind->get(key, (const char *)partition + key->offset, value);
}

/* ---- the file -------------------------------------------------------------------------- */

struct parser {
    const struct config_reader *reader;
    struct partition_config *partition;
    struct host_config host;
    struct word text;
    u32 line;
    /* The section that is being read. */
    const struct key_table *keys; /* NULL before the first */
    u32 section_line;
    u32 seen; /* bit I: key I was given */
    bool failed;
};

/* Reports an error in the current section or, before the first, outside of any. */
static void fail(struct parser *parser, u32 line, const char *error)
{
    char message[CONFIG_ERROR_SIZE + CONFIG_NAME_SIZE + 16];
    const char *name = parser->keys == &host_table ? HOST_SECTION : parser->partition->name;

    parser->failed = true;
    if (parser->keys != NULL && name[0] != '\0')
        snprintf(message, sizeof(message), "%u: [%s] %s", line, name, error);
    else
        snprintf(message, sizeof(message), "%u: %s", line, error);
    parser->reader->error(parser->reader->context, line, message);
}

static void end_section(struct parser *parser)
{
    const struct config_reader *reader = parser->reader;

    if (parser->keys == &partition_table && !parser->failed && parser->partition->kernel[0] == '\0')
        fail(parser, parser->section_line, "kernel: is missing");
    if (parser->keys == NULL || parser->failed)
        return;
    if (parser->keys == &host_table)
        reader->host(reader->context, &parser->host);
    else
        reader->partition(reader->context, parser->partition, parser->section_line);
}

/* The name in a line that begins with '['; empty where it is not a legal one. */
static struct word section_name(struct word line)
{
    struct word name = {line.text + 1, line.size - MIN(line.size, (size_t)2)};

    if (line.text[line.size - 1] != ']' || !is_name(name))
        name.size = 0;
    return name;
}

/* The line above `end` that begins a section of this name, or 0. */
static u32 find_section(struct word text, u32 end, struct word name)
{
    for (u32 line = 1; line < end; line++) {
        struct word other = take_until(&text, '\n');

        strip(&other);
        if (other.size == 0 || other.text[0] != '[')
            continue;
        other = section_name(other);
        if (other.size == name.size && memcmp(other.text, name.text, name.size) == 0)
            return line;
    }
    return 0;
}

static void begin_section(struct parser *parser, struct word line)
{
    struct word name = section_name(line);
    u32 other = name.size > 0 ? find_section(parser->text, parser->line, name) : 0;
    char error[CONFIG_ERROR_SIZE], shown[SHOWN_SIZE];

    end_section(parser);
    config_partition_defaults(parser->partition, NULL);
    copy_text(parser->partition->name, name);
    parser->keys = word_is(name, HOST_SECTION) ? &host_table : &partition_table;
    parser->section_line = parser->line;
    parser->seen = 0;
    parser->failed = false;
    if (name.size == 0) {
        snprintf(error, sizeof(error),
                 "'%s' is not a section: [, a name of letters, digits, - _ . (at most %u), ]",
                 show(shown, line), CONFIG_NAME_SIZE - 1);
        fail(parser, parser->line, error);
    } else if (other != 0) {
        snprintf(error, sizeof(error), "there is a section of this name in line %u", other);
        fail(parser, parser->line, error);
    }
}

/* Takes the quotes off a value that begins with one. */
static bool unquote(struct word *value)
{
    struct word rest;

    if (value->size == 0 || value->text[0] != '"')
        return true;
    rest = skip(*value, 1);
    *value = take_until(&rest, '"');
    return rest.size == 0;
}

static void read_key(struct parser *parser, struct word key, struct word value)
{
    void *target = parser->keys == &host_table ? (void *)&parser->host : parser->partition;
    char error[CONFIG_ERROR_SIZE];

    if (!assign(parser->keys, target, key, value, &parser->seen, error))
        fail(parser, parser->line, error);
}

static void read_assignment(struct parser *parser, struct word line)
{
    char error[CONFIG_ERROR_SIZE], shown[SHOWN_SIZE];
    struct word rest = line;
    struct word key = trim(take_until(&rest, '='));
    const char *wrong = NULL;

    rest = trim(rest);
    if (memchr(line.text, '=', line.size) == NULL)
        wrong = "is neither [section] nor key = value";
    else if (parser->keys == NULL)
        wrong = "stands before the first [section]";
    else if (!unquote(&rest))
        wrong = "has text after a closing quote";
    if (wrong == NULL) {
        read_key(parser, key, rest);
        return;
    }
    snprintf(error, sizeof(error), "'%s' %s", show(shown, line), wrong);
    fail(parser, parser->line, error);
}

static void check_controls(struct parser *parser, struct word line)
{
    char error[CONFIG_ERROR_SIZE];

    if (line.size > 0 && line.text[line.size - 1] == '\r')
        line.size--;
    for (size_t i = 0; i < line.size; i++) {
        if (!is_control(line.text[i]))
            continue;
        snprintf(error, sizeof(error), "control character 0x%02x in column %zu", (u8)line.text[i],
                 i + 1);
        fail(parser, parser->line, error);
        return;
    }
}

static void read_line(struct parser *parser, struct word whole)
{
    struct word line = whole;
    bool closed = strip(&line);

    if (line.size > 0 && line.text[0] == '[')
        begin_section(parser, line);
    else if (line.size > 0 && closed)
        read_assignment(parser, line);
    if (!closed)
        fail(parser, parser->line, "a quote is not closed");
    check_controls(parser, whole);
}

void config_parse(const char *text, size_t size, struct partition_config *scratch,
                  const struct config_reader *reader)
{
    struct parser parser = {
        .reader = reader,
        .partition = scratch,
        .host = {.slice_ns = DEFAULT_SLICE},
        .text = { text,                     size},
    };
    struct word rest = parser.text;

    while (rest.size > 0) {
        parser.line++;
        read_line(&parser, take_until(&rest, '\n'));
    }
    end_section(&parser);
}
