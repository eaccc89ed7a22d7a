/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* Checks the PC that it runs on, part by part, and says so: `ok NAME` or `FAIL NAME: ...`.
 * bare=1 leaves out what only a partition of the hypervisor has; only=NAME runs one part. */
#include "pc/pc.h"

static bool failed;

void pc_fail(const char *part, const char *what, u64 got)
{
    guest_print("FAIL %s: %s (%x)\n", part, what, got);
    failed = true;
}

static const struct part {
    const char *name;
    void (*run)(const char *name);
    bool hypervisor_only;
} parts[] = {
    {"acpi",           test_acpi,           false},
    {"cpuid",          test_cpuid,          true },
    {"osxsave",        test_osxsave,        false},
    {"unknown-msr",    test_unknown_msr,    true },
    {"unclaimed-port", test_unclaimed_port, false},
    {"unclaimed-mmio", test_unclaimed_mmio, true },
    {"string-io",      test_string_io,      false},
    {"mmio-forms",     test_mmio_forms,     false},
    {"exceptions",     test_exceptions,     false},
    {"single-step",    test_single_step,    false},
    {"modes",          test_modes,          false},
    {"pic",            test_pic,            false},
    {"pit",            test_pit,            false},
    {"pit-channel-2",  test_pit_channel2,   false},
    {"rtc",            test_rtc,            false},
    {"pm-timer",       test_pm_timer,       false},
    {"uart",           test_uart,           false},
    {"ioapic",         test_ioapic,         false},
    {"lapic",          test_lapic,          false},
    {"lapic-timer",    test_lapic_timer,    false},
    {"tsc-deadline",   test_tsc_deadline,   false},
    {"nmi",            test_nmi,            false},
    {"smp",            test_smp,            false},
    {"x2apic",         test_x2apic,         false},
};

void guest_main(const struct multiboot_info *info)
{
    u64 failures = 0;

    guest_init(info);
    pic_init();
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        if (guest_option("only") && !guest_option_is("only", parts[i].name))
            continue;
        if (guest_option("bare") && parts[i].hypervisor_only)
            continue;
        failed = false;
        parts[i].run(parts[i].name);
        interrupts_off();
        pic_mask_all();
        if (!failed)
            guest_print("ok %s\n", parts[i].name);
        failures += failed;
    }
    guest_print(failures ? "pc FAIL %u\n" : "pc PASS\n", failures);
    guest_exit(failures != 0);
}
