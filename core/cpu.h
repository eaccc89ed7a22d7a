/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_CPU_H
#define BULKHEAD_CORE_CPU_H

/* A physical CPU. GS points to its struct cpu in host mode. */

#include "core/run_queue.h"
#include "lib/list.h"
#include "lib/spinlock.h"
#include "lib/types.h"

struct vcpu;
struct hvm_cpu; /* the backend's own */

/* SDM volume 3, "64-Bit Task State Segment". */
struct tss {
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3;
    u16 iomap_base;
} __attribute__((packed));

_Static_assert(sizeof(struct tss) == 104, "64-bit TSS");

enum gdt_selector {
    SELECTOR_CODE = 0x08,
    SELECTOR_DATA = 0x10,
    SELECTOR_TSS = 0x18,
};

struct cpu {
    struct cpu *self; /* at GS:0 */
    u32 index;
    u32 apic_id;
    struct hvm_cpu *hvm;
    bool hvm_on;
    bool online; /* set by the CPU itself once it has come up */

    struct vcpu *attached; /* whose state the hardware holds; may not be running */
    u64 trained_by;        /* serial of the partition that ran last, 0: none did */
    struct vcpu *running;
    struct vcpu *interrupted; /* waits, but its slice is not over; NULL: none */

    struct run_queue queue; /* this CPU's alone, as is `timers` */
    struct list timers;     /* vCPUs that wait for a time (wake_deadline), earliest first */
    u32 vcpu_count;         /* vCPUs that it owns; atomic */
    u32 load;               /* vCPUs that run or wait; written by this CPU, others may read it */
    u64 horizon;            /* virtual time of the vCPU that runs; the same */
    bool reschedule;        /* housekeeping is asked for: who runs gives way; set by any CPU */
    bool woken;             /* VECTOR_WAKE came: there may be mail */
    bool nmi_seen;          /* set in the NMI handler, logged by the loop */
    u32 interrupts;         /* taken; wraps */
    u32 vain_mwaits;        /* that ended without an interrupt, since one ended with it */

    struct spinlock mailbox_lock; /* covers mailbox, the mail nodes in it, and serving */
    struct list mailbox;
    struct vcpu *serving; /* whose requests are being looked at: it may not be freed */

    u64 slice;          /* TSC ticks, as the next */
    u64 busy_max;       /* how long it may be without a vCPU before the rest waits */
    u64 housekeep_at;   /* host TSC: when the housekeeping wants to be called again */
    u64 housekeep_by;   /* when it is called even if vCPUs wait: that, or a slice after the last */
    u64 housekeep_from; /* if vCPUs wait, not before: they get as long as it took */
    u64 busy_since;     /* host TSC: since then no vCPU has run, nor has the CPU rested */
    u64 timer_armed;    /* host TSC the local APIC timer is armed for, DEADLINE_NONE: it is not */

    /* Every TSC tick since `started` is charged to a vCPU, to a partition (its start and stop), to
     * `idle_cycles` or to `own_cycles`: those of the monitor, and of what nobody caused. */
    u64 started;
    u64 charged;  /* TSC up to which that is done */
    bool resting; /* `idle_cycles` lacks what passed since `charged` */
    u64 idle_cycles;
    u64 own_cycles;
    u64 longest_host_cycles; /* longest stretch in host mode seen, idle excluded */

    struct tss tss;
    u64 gdt[5]; /* null, code, data, TSS (two slots) */
};

_Static_assert(offsetof(struct cpu, self) == 0, "this_cpu reads GS:0");

static inline struct cpu *this_cpu(void)
{
    struct cpu *cpu;

    __asm__ volatile("movq %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

/* Who runs on this CPU has to come back to the scheduler. */
static inline bool cpu_must_pass(const struct cpu *cpu)
{
    return cpu->reschedule || cpu->woken;
}

extern struct cpu **cpus; /* cpu_count of them; fixed after boot */
extern u32 cpu_count;

#endif
