/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/config.h"

#define MAX_PARTITIONS 8

/* Everything that the reader was told. */
struct seen {
    struct host_config host;
    u32 hosts;
    struct partition_config partitions[MAX_PARTITIONS];
    u32 lines[MAX_PARTITIONS];
    u32 partition_count;
    char errors[4096]; /* one a line */
    u32 error_count;
};

static struct seen seen;

static void on_host(void *context, const struct host_config *host)
{
    struct seen *to = context;

    to->host = *host;
    to->hosts++;
}

static void on_partition(void *context, const struct partition_config *partition, u32 line)
{
    struct seen *to = context;

    assert_in_range(to->partition_count, 0, MAX_PARTITIONS - 1);
    to->partitions[to->partition_count] = *partition;
    to->lines[to->partition_count++] = line;
}

static void on_error(void *context, u32 line, const char *message)
{
    struct seen *to = context;
    size_t used = strlen(to->errors);
    char number[16];

    snprintf(number, sizeof(number), "%u: ", line);
    assert_memory_equal(message, number, strlen(number));
    snprintf(to->errors + used, sizeof(to->errors) - used, "%s\n", message);
    to->error_count++;
}

static void parse_bytes(const char *text, size_t size)
{
    static const struct config_reader reader = {
        .context = &seen, .host = on_host, .partition = on_partition, .error = on_error};
    static struct partition_config scratch;
    char *exact = malloc(size + (size == 0)); /* so that the sanitizer sees a read behind it */

    memcpy(exact, text, size);
    memset(&seen, 0, sizeof(seen));
    memset(&scratch, 0xA5, sizeof(scratch));
    config_parse(exact, size, &scratch, &reader);
    free(exact);
}

static void parse(const char *text)
{
    parse_bytes(text, strlen(text));
}

static void expect_errors(const char *text, const char *errors)
{
    parse(text);
    assert_string_equal(seen.errors, errors);
}

/* The example of the manual, with every key. */
static void test_example(void **state)
{
    const struct partition_config *web = &seen.partitions[0];

    parse("[host]\n"
          "slice     = 20ms\n"
          "\n"
          "[web]\n"
          "kernel    = vmlinuz           # bzImage, ELF (PVH), Multiboot\n"
          "initrd    = web.cpio.gz\n"
          "cmdline   = console=ttyS0 quiet\n"
          "memory    = 512M\n"
          "vcpus     = 2\n"
          "cpus      = 0-1, 3            # physical CPUs\n"
          "weight    = 200\n"
          "cap       = 50%\n"
          "autostart = no\n"
          "on_crash  = preserve\n"
          "on_hang   = destroy\n"
          "on_reboot = rollback\n"
          "unknown_msr = ignore\n"
          "exit_port = 0xf4\n");
    assert_string_equal(seen.errors, "");
    assert_int_equal(seen.hosts, 1);
    assert_int_equal(seen.host.slice_ns, 20000000);
    assert_int_equal(seen.partition_count, 1);
    assert_int_equal(seen.lines[0], 4);
    assert_string_equal(web->name, "web");
    assert_string_equal(web->kernel, "vmlinuz");
    assert_string_equal(web->initrd, "web.cpio.gz");
    assert_string_equal(web->cmdline, "console=ttyS0 quiet");
    assert_int_equal(web->memory, 512 * MIB);
    assert_int_equal(web->vcpus, 2);
    assert_int_equal(web->cpus[0], 0xB);
    assert_int_equal(web->cpus[1], 0);
    assert_int_equal(web->weight, 200);
    assert_int_equal(web->cap_percent, 50);
    assert_false(web->autostart);
    assert_int_equal(web->on_crash, ACTION_PRESERVE);
    assert_int_equal(web->on_hang, ACTION_DESTROY);
    assert_int_equal(web->on_reboot, ACTION_ROLLBACK);
    assert_int_equal(web->unknown_msr, UNKNOWN_MSR_IGNORE);
    assert_int_equal(web->exit_port, 0xF4);
}

static void test_defaults(void **state)
{
    const struct partition_config *a = &seen.partitions[0];

    parse("[a]\nkernel=k");
    assert_int_equal(seen.partition_count, 1);
    assert_int_equal(seen.hosts, 0);
    assert_string_equal(a->initrd, "");
    assert_string_equal(a->cmdline, "");
    assert_int_equal(a->module_count, 0);
    assert_int_equal(a->memory, 256 * MIB);
    assert_int_equal(a->vcpus, 1);
    for (u32 i = 0; i < ARRAY_SIZE(a->cpus); i++)
        assert_true(a->cpus[i] == UINT64_MAX);
    assert_int_equal(a->weight, 100);
    assert_int_equal(a->cap_percent, 0);
    assert_true(a->autostart);
    assert_int_equal(a->on_crash, ACTION_RESTART);
    assert_int_equal(a->on_hang, ACTION_PRESERVE);
    assert_int_equal(a->on_reboot, ACTION_RESTART);
    assert_int_equal(a->unknown_msr, UNKNOWN_MSR_FAULT);
    assert_int_equal(a->exit_port, -1);
    parse("[host]\n");
    assert_int_equal(seen.host.slice_ns, 10000000);
}

static void test_modules(void **state)
{
    const char expected[] = "initrd\0b.bin\0c";

    parse("[a]\nkernel = k\nmodules = initrd,b.bin ,  c\n");
    assert_string_equal(seen.errors, "");
    assert_int_equal(seen.partitions[0].module_count, 3);
    assert_memory_equal(seen.partitions[0].modules, expected, sizeof(expected));
    parse("[a]\nkernel = k\nmodules = a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p\n");
    assert_int_equal(seen.partitions[0].module_count, 16);
    parse("[a]\nkernel = k\nmodules = a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q\n");
    assert_int_equal(seen.error_count, 1);
    parse("[a]\nkernel = k\nmodules = a,,b\n");
    assert_int_equal(seen.error_count, 1);
}

static void test_comments_and_quotes(void **state)
{
    parse("# one\n  ; two\n[a] # three\nkernel = k;1 ; four\ncmdline = \"x # y ; z\" # five\n"
          "[b]\nkernel=\"k\"\ncmdline=a#b c;d dyndbg=\"file # f\" e\r\n[c]\r\nkernel\t=\tk\t\n");
    assert_string_equal(seen.errors, "");
    assert_int_equal(seen.partition_count, 3);
    assert_string_equal(seen.partitions[0].kernel, "k;1");
    assert_string_equal(seen.partitions[0].cmdline, "x # y ; z");
    assert_string_equal(seen.partitions[1].kernel, "k");
    assert_string_equal(seen.partitions[1].cmdline, "a#b c;d dyndbg=\"file # f\" e");
    assert_string_equal(seen.partitions[2].kernel, "k");
}

static void test_errors_name_line_and_word(void **state)
{
    expect_errors("[web]\nkernel = k\nmemory = 12Q\n",
                  "3: [web] memory: '12Q' is not a size such as 256M, of at least 64K and in steps "
                  "of 4K\n");
    expect_errors("[web]\nkernel = k\n\nmemroy = 12M\n",
                  "4: [web] 'memroy' is not a key; the nearest is 'memory'\n");
    expect_errors("[web]\nkernel = k\nON_CRASHED = destroy\n",
                  "3: [web] 'ON_CRASHED' is not a key; the nearest is 'on_crash'\n");
    expect_errors("[web]\nvcpus = 1\n", "1: [web] kernel: is missing\n");
    expect_errors("[web]\nkernel = k\nvcpus = 1\nvcpus = 2\n", "4: [web] vcpus: is given twice\n");
    expect_errors("[web]\nkernel = k\nautostart\n",
                  "3: [web] 'autostart' is neither [section] nor key = value\n");
    expect_errors("vcpus = 1\n", "1: 'vcpus = 1' stands before the first [section]\n");
    expect_errors("[web]\nkernel = k\ncmdline = \"a\n", "3: [web] a quote is not closed\n");
    expect_errors("[web]\nkernel = k\ncmdline = \"a\" b\n",
                  "3: [web] 'cmdline = \"a\" b' has text after a closing quote\n");
    expect_errors("[host]\nslice = 10\n", "2: [host] slice: '10' is not a time from 1ms to 10s\n");
    expect_errors("[host]\nmemory = 1M\n",
                  "2: [host] 'memory' is not a key; the nearest is 'slice'\n");
    assert_int_equal(seen.hosts, 0);
}

static void test_bad_sections(void **state)
{
    parse("[a b]\nkernel = k\n");
    assert_int_equal(seen.error_count, 1);
    assert_int_equal(seen.partition_count, 0);
    parse("[a\nkernel = k\n");
    assert_int_equal(seen.error_count, 1);
    parse("[]\nkernel = k\n");
    assert_int_equal(seen.error_count, 1);
    parse("[a123456789012345678901234567890]\nkernel = k\n"); /* 31 characters */
    assert_int_equal(seen.error_count, 0);
    parse("[a1234567890123456789012345678901]\nkernel = k\n");
    assert_int_equal(seen.error_count, 1);
    assert_int_equal(seen.partition_count, 0);
    expect_errors("[a]\nkernel = k\n  [a]\nkernel = k\n",
                  "3: [a] there is a section of this name in line 1\n");
    assert_int_equal(seen.partition_count, 1);
    expect_errors("[host]\n[host]\n", "2: [host] there is a section of this name in line 1\n");
    assert_int_equal(seen.hosts, 1);
}

/* A bad partition is left out; its neighbours are not. */
static void test_others_stay(void **state)
{
    parse("[a]\nkernel = a\n[b]\nkernel = b\ncap = lots\nweight = 0\n[c]\nkernel = c\n");
    assert_int_equal(seen.error_count, 2);
    assert_int_equal(seen.partition_count, 2);
    assert_string_equal(seen.partitions[0].name, "a");
    assert_string_equal(seen.partitions[1].name, "c");
    assert_int_equal(seen.partitions[1].weight, 100);
}

static void test_control_characters(void **state)
{
    const char nul[] = "[a]\nkernel = k\ncmdline = a\0b\n[c]\nkernel = k\n";

    parse_bytes(nul, sizeof(nul) - 1);
    assert_non_null(strstr(seen.errors, "3: [a] control character 0x00 in column 12\n"));
    assert_int_equal(seen.partition_count, 1);
    assert_string_equal(seen.partitions[0].name, "c");
    expect_errors("[a]\nkernel = k\n# \x1b[31m\n", "3: [a] control character 0x1b in column 3\n");
    expect_errors("a\tb\n", "1: 'a?b' is neither [section] nor key = value\n");
    expect_errors("\x7f\n", "1: '?' is neither [section] nor key = value\n"
                            "1: control character 0x7f in column 1\n");
    parse("[a]\nkernel = k\ncmdline = gr\xc3\xbc\xc3\x9f\x65\n");
    assert_string_equal(seen.errors, "");
}

/* ---- values, by way of config_partition_assign ------------------------------------------- */

static struct partition_config partition;

static char error[CONFIG_ERROR_SIZE];

static bool set(const char *key, const char *value)
{
    char text[4096];
    u32 keys = 0;
    bool done;

    error[0] = '\0';
    snprintf(text, sizeof(text), "%s=%s", key, value);
    done = config_partition_assign(&partition, text, &keys, error);
    assert_int_equal(done, error[0] == '\0');
    return done;
}

static void refuse(const char *key, const char *value)
{
    struct partition_config before = partition;

    if (set(key, value))
        fail_msg("%s = %s was accepted", key, value);
    assert_memory_equal(&partition, &before, sizeof(before));
}

static void test_assignments(void **state)
{
    u32 keys = 0;

    config_partition_defaults(&partition, "a");
    assert_true(config_partition_assign(&partition, "weight=7", &keys, error));
    assert_true(config_partition_assign(&partition, "cmdline=a=b", &keys, error));
    assert_string_equal(partition.cmdline, "a=b");
    assert_false(config_partition_assign(&partition, "weight=8", &keys, error));
    assert_string_equal(error, "weight: is given twice");
    assert_int_equal(partition.weight, 7);
    assert_false(config_partition_assign(&partition, "vcpus", &keys, error));
    assert_string_equal(error, "'vcpus' is not key=value");
    assert_false(config_partition_assign(&partition, "memroy=8M", &keys, error));
    assert_string_equal(error, "'memroy' is not a key; the nearest is 'memory'");
    assert_false(config_partition_assign(&partition, "memory=12Q", &keys, error));
    assert_string_equal(error, "memory: '12Q' is not a size such as 256M, of at least 64K and in "
                               "steps of 4K");
    assert_string_equal(config_partition_key(1), "initrd");
    assert_true(config_key_at_once(7));
    assert_string_equal(config_partition_key(7), "weight");
    assert_false(config_key_at_once(1));
}

static void test_names(void **state)
{
    assert_true(config_name_is_legal("Web-1_a.b"));
    assert_true(config_name_is_legal("1234567890123456789012345678901"));
    assert_false(config_name_is_legal("12345678901234567890123456789012"));
    assert_false(config_name_is_legal("a b"));
    assert_false(config_name_is_legal("a]"));
    assert_false(config_name_is_legal(""));
    assert_false(config_name_is_legal("host"));
}

/* What config_partition_get says makes the same partition, in the file and on the monitor. */
static void expect_round_trip(void)
{
    static char text[65536], value[CONFIG_VALUE_SIZE];
    struct partition_config expected = partition;
    size_t size = (size_t)snprintf(text, sizeof(text), "[%s]\n", partition.name);

    config_partition_defaults(&partition, expected.name);
    for (u32 i = 0; config_partition_key(i) != NULL; i++) {
        const char *quote;

        config_partition_get(&expected, i, value);
        quote = config_value_is_plain(value) ? "" : "\"";
        if (value[0] != '\0' && !set(config_partition_key(i), value))
            fail_msg("%s = %s: %s", config_partition_key(i), value, error);
        if (value[0] != '\0')
            size += (size_t)snprintf(text + size, sizeof(text) - size, "%s = %s%s%s\n",
                                     config_partition_key(i), quote, value, quote);
    }
    assert_memory_equal(&partition, &expected, sizeof(expected));
    parse(text);
    assert_string_equal(seen.errors, "");
    assert_memory_equal(&seen.partitions[0], &expected, sizeof(expected));
}

static void test_what_is_printed_makes_the_same(void **state)
{
    static const char *const settings[][2] = {
        {"initrd",      "i.gz"                                         },
        {"modules",     "a,  b"                                        },
        {"cmdline",     "console=ttyS0 dyndbg=\"file a.c +p; # x\" end"},
        {"cmdline",     " blank # and ; hash "                         },
        {"memory",      "68K"                                          },
        {"memory",      "3G"                                           },
        {"memory",      "64M"                                          },
        {"vcpus",       "3"                                            },
        {"cpus",        "0-3,5,7-1023"                                 },
        {"cpus",        "1023"                                         },
        {"cpus",        "0-1023"                                       },
        {"weight",      "10000"                                        },
        {"cap",         "250%"                                         },
        {"tsc_mhz",     "2500"                                         },
        {"autostart",   "no"                                           },
        {"on_crash",    "preserve"                                     },
        {"on_hang",     "destroy"                                      },
        {"on_reboot",   "rollback"                                     },
        {"pv",          "kvmclock"                                     },
        {"pv",          "eoi"                                          },
        {"pv",          "none"                                         },
        {"unknown_msr", "ignore"                                       },
        {"exit_port",   "0xf4"                                         },
        {"console",     "0x3e8,9600"                                   },
        {"exit_port",   "none"                                         },
    };

    config_partition_defaults(&partition, "a");
    assert_true(set("kernel", "k"));
    expect_round_trip();
    for (u32 i = 0; i < ARRAY_SIZE(settings); i++) {
        config_partition_defaults(&partition, "a");
        assert_true(set("kernel", "k") && set(settings[i][0], settings[i][1]));
        expect_round_trip();
    }
    for (u32 i = 0; i < CONFIG_CPUS_MAX / 64; i++) /* the longest value */
        partition.cpus[i] = 0xDB6DB6DB6DB6DB6D;
    expect_round_trip();
    refuse("cmdline", "\"begins");
    refuse("cmdline", "open \" quote");
    refuse("cmdline", "a \"b\" # c");
    refuse("cmdline", "a \"b\" ");
}

static void test_images(void **state)
{
    static const char *const names[][2] = {
        {"kernel",  "k"},
        {"initrd",  "i"},
        {"modules", "m"},
        {"modules", "n"}
    };
    const char *name;

    config_partition_defaults(&partition, "a");
    assert_string_equal(config_image(&partition, 0, &name), "kernel");
    assert_string_equal(name, "");
    assert_null(config_image(&partition, 1, &name));
    assert_true(set("kernel", "k") && set("modules", "m,n"));
    assert_string_equal(config_image(&partition, 1, &name), "modules");
    assert_true(set("initrd", "i"));
    for (u32 i = 0; i < ARRAY_SIZE(names); i++) {
        assert_string_equal(config_image(&partition, i, &name), names[i][0]);
        assert_string_equal(name, names[i][1]);
    }
    assert_null(config_image(&partition, 4, &name));
}

static void test_sizes(void **state)
{
    config_partition_defaults(&partition, "a");
    assert_true(set("memory", "64K"));
    assert_int_equal(partition.memory, 65536);
    assert_true(set("memory", "3g"));
    assert_int_equal(partition.memory, 3 * GIB);
    assert_true(set("memory", "0x100000"));
    assert_int_equal(partition.memory, MIB);
    assert_true(set("memory", "64m"));
    assert_int_equal(partition.memory, 64 * MIB);
    refuse("memory", "60K");
    refuse("memory", "65537");
    refuse("memory", "M");
    refuse("memory", "");
    refuse("memory", "-1M");
    refuse("memory", "1.5G");
    refuse("memory", "1 M");
    refuse("memory", "1MM");
    refuse("memory", "18446744073709551616"); /* 2^64 */
    refuse("memory", "17179869185G");         /* 2^64 + 1 GiB */
    refuse("memory", "99999999999G");
}

static void test_numbers(void **state)
{
    config_partition_defaults(&partition, "a");
    assert_true(set("vcpus", "500"));
    refuse("vcpus", "0");
    refuse("vcpus", "1025");
    refuse("vcpus", "4294967297");
    refuse("weight", "10001");
    refuse("tsc_mhz", "100001");
    assert_true(set("cap", "150%"));
    assert_int_equal(partition.cap_percent, 150);
    refuse("cap", "150");
    refuse("cap", "0%");
    assert_true(set("cap", "none"));
    assert_int_equal(partition.cap_percent, 0);
    assert_true(set("exit_port", "65535"));
    assert_int_equal(partition.exit_port, 65535);
    refuse("exit_port", "0x10000");
    assert_true(set("exit_port", "none"));
    assert_int_equal(partition.exit_port, -1);
    assert_true(set("console", "com2,9600"));
    assert_string_equal(partition.console, "com2,9600");
    refuse("console", "com5");
    refuse("console", "com2,9600,8N1xxxxxxx");
    assert_true(set("console", "none"));
    assert_string_equal(partition.console, "");
}

static void test_words(void **state)
{
    static const char *const yes[] = {"yes", "true", "on"}, *const no[] = {"no", "false", "off"};

    config_partition_defaults(&partition, "a");
    for (u32 i = 0; i < 3; i++) {
        assert_true(set("autostart", no[i]));
        assert_false(partition.autostart);
        assert_true(set("autostart", yes[i]));
        assert_true(partition.autostart);
    }
    refuse("autostart", "maybe");
    refuse("on_crash", "restar");
    refuse("on_crash", "restarts");
    refuse("unknown_msr", "restart");
    refuse("nonsense", "1");
}

static void test_cpu_lists(void **state)
{
    config_partition_defaults(&partition, "a");
    assert_true(set("cpus", "62-65,1023"));
    assert_true(partition.cpus[0] == (3ULL << 62));
    assert_true(partition.cpus[1] == 3);
    assert_true(partition.cpus[15] == (1ULL << 63));
    refuse("cpus", "1024");
    refuse("cpus", "3-1");
    refuse("cpus", "1-");
    refuse("cpus", "-1");
    refuse("cpus", ",1");
    refuse("cpus", "");
    refuse("cpus", "0-99999999999999999999");
    assert_true(set("cpus", "all"));
    assert_true(partition.cpus[7] == UINT64_MAX);
}

static void test_texts(void **state)
{
    char text[CONFIG_CMDLINE_SIZE + 1];

    config_partition_defaults(&partition, "a");
    memset(text, 'x', sizeof(text));
    text[CONFIG_CMDLINE_SIZE] = '\0';
    refuse("cmdline", text);
    text[CONFIG_CMDLINE_SIZE - 1] = '\0';
    assert_true(set("cmdline", text));
    assert_string_equal(partition.cmdline, text);
    assert_true(set("cmdline", ""));
    refuse("cmdline", "a\nb");
    text[CONFIG_IMAGE_SIZE] = '\0';
    refuse("kernel", text);
    text[CONFIG_IMAGE_SIZE - 1] = '\0';
    assert_true(set("kernel", text));
    refuse("kernel", "");
    refuse("kernel", "a b");
    assert_true(set("initrd", ""));
    assert_true(set("modules", "a, b"));
    assert_true(set("modules", ""));
    assert_int_equal(partition.module_count, 0);
    assert_int_equal(partition.modules[0], 0);
}

static void test_names_are_cut(void **state)
{
    config_partition_defaults(&partition, "a2345678901234567890123456789012345");
    assert_int_equal(strlen(partition.name), CONFIG_NAME_SIZE - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_modules),
        cmocka_unit_test(test_comments_and_quotes),
        cmocka_unit_test(test_errors_name_line_and_word),
        cmocka_unit_test(test_bad_sections),
        cmocka_unit_test(test_others_stay),
        cmocka_unit_test(test_control_characters),
        cmocka_unit_test(test_assignments),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_what_is_printed_makes_the_same),
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_cpu_lists),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_names_are_cut),
    };

    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
