/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_DEVICE_H
#define BULKHEAD_DEVICES_DEVICE_H

/* What every virtual device sees of the world: one access, and the effects it may have.
 * Devices are pure: their state is a plain struct without pointers, and nothing here reaches
 * the hypervisor. */

#include "lib/types.h"

enum access_space {
    SPACE_PORT,   /* I/O port, 0..FFFFh */
    SPACE_MEMORY, /* guest-physical address */
    SPACE_MSR,    /* MSR index: IA32_APIC_BASE, IA32_TSC_DEADLINE, x2APIC 800h-8FFh; size 8 */
};

struct access {
    u64 address;
    u64 value; /* written; or read, zero-extended */
    u8 size;   /* 1, 2, 4 or 8 bytes */
    bool write;
    enum access_space space;
};

enum power_event {
    POWER_RESET, /* port CF9h, keyboard controller, ACPI reset register, port 92h */
    POWER_OFF,   /* ACPI S5 */
    POWER_EXIT,  /* the configured exit port was written; `detail` is the value */
};

struct effects;

struct effects_ops {
    /* vCPU `vcpu` has something new to look at: an interrupt, NMI, INIT or SIPI. */
    void (*kick)(struct effects *effects, u32 vcpu);
    /* The UART sent `byte`. */
    void (*transmit)(struct effects *effects, u8 byte);
    void (*power)(struct effects *effects, enum power_event event, u32 detail);
};

/* Passed to every device function. Time is in ticks of the machine's TSC, counted from the
 * machine's start; it stands still while the machine is paused. */
struct effects {
    const struct effects_ops *ops;
    u64 now;
    u32 vcpu;    /* the one that is being served, and so not in guest mode; or EFFECTS_NO_VCPU */
    bool timers; /* set by machine_access where machine_deadline may have come nearer */
};

#define EFFECTS_NO_VCPU UINT32_MAX

/* "Never", for deadlines. */
#define DEADLINE_NONE UINT64_MAX

#endif
