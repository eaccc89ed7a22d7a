/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_GUESTS_PC_H
#define BULKHEAD_GUESTS_PC_H

#include "lib/guest.h"

/* The parts; each is handed its name and calls pc_fail for what is wrong. Interrupts are off and
 * the PICs masked when a part begins. */
typedef void part_test(const char *part);

part_test test_acpi, test_cpuid, test_osxsave, test_unknown_msr, test_exceptions, test_single_step;
part_test test_modes, test_smp;
part_test test_unclaimed_port, test_unclaimed_mmio, test_string_io, test_mmio_forms;
part_test test_pic, test_pit, test_pit_channel2, test_rtc, test_pm_timer, test_uart;
part_test test_ioapic, test_lapic, test_lapic_timer, test_tsc_deadline, test_nmi, test_x2apic;

void pc_fail(const char *part, const char *what, u64 got);

#define EXPECT(condition, got)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            pc_fail(part, #condition, (u64)(got));                                                 \
            return;                                                                                \
        }                                                                                          \
    } while (0)

/* Ticks of the TSC in a second, measured once against the PIT. */
u64 tsc_hz(void);

/* Waits with interrupts on until *counter is at least `count` or `milliseconds` have passed. */
bool wait_for(volatile u64 *counter, u64 count, u64 milliseconds);
void delay_ms(u64 milliseconds);

#define MSR_APIC_BASE    0x1B
#define APIC_BASE_ENABLE (1 << 11)
#define APIC_BASE_X2APIC (1 << 10)
#define LVT_MASKED       (1 << 16)

#endif
