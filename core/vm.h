/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_VM_H
#define BULKHEAD_CORE_VM_H

/* A partition: its configuration, its memory, its machine, its vCPUs. */

#include "core/config.h"
#include "core/console.h"
#include "core/cpuid.h"
#include "core/vcpu.h"
#include "devices/machine.h"
#include "lib/arith.h"
#include "lib/spinlock.h"
#include "loader/loader.h"
#include "mm/guest_memory.h"

enum vm_state {
    VM_STOPPED,
    VM_STARTING, /* memory and image are being laid out, in steps */
    VM_RUNNING,
    VM_PAUSING,
    VM_PAUSED,
    VM_STOPPING, /* vCPUs are being parked, then memory is given back, in steps */
    VM_CRASHED,  /* stopped by its own fault and kept for a look (on_crash = preserve), or
                    destroyed by it */
};

/* Why a partition stops, and so what happens next. */
enum stop_reason {
    STOP_NONE,
    STOP_DESTROY,  /* the monitor's */
    STOP_POWEROFF, /* the guest's S5 */
    STOP_EXIT,     /* the guest's exit port */
    STOP_REBOOT,   /* the guest's reset */
    STOP_RESET,    /* the monitor's */
    STOP_CRASH,
    STOP_HANG, /* nothing can wake it: vm_suspect_hang */
};

#define VM_MESSAGE_SIZE 160
#define VM_LOGGED_MSRS  16
#define TSC_RATIO_BITS  32
#define TSC_RATIO_LIMIT BIT(TSC_RATIO_BITS + 8) /* what AMD's MSR holds */

/* What the monitor's `top` shows and sorts by. */
enum top_value {
    TOP_CPU,
    TOP_STEAL,
    TOP_EXITS,
    TOP_COUNTERS, /* those above are counted; the ones below are as they are */
    TOP_MEMORY = TOP_COUNTERS,
    TOP_VALUES,
};

/* A start or teardown under way (core/lifecycle.c); CPU 0's alone. */
struct lifecycle_work {
    struct list node;
    struct vm *vm; /* NULL: there is none */
    u32 phase;
    bool restart;
    u64 offset; /* of the RAM to be cleared, or within the copy */
    u32 copy;
    struct loader_request request;
    struct loader_plan plan;
};

struct vm {
    struct list node;               /* in the list of partitions; CPU 0's alone */
    u64 serial;                     /* from 1 on; no other partition ever has it */
    struct partition_config config; /* of the next start, partly followed at once: vm_configure */

    enum vm_state state;           /* written by CPU 0 only */
    char message[VM_MESSAGE_SIZE]; /* why it did not start or how it ended; empty: nothing to say */
    u64 starts;                    /* times started or restarted */
    u64 start_tsc;                 /* host TSC of the last start */
    u32 exit_status;               /* of STOP_EXIT: V << 1 | 1 */
    bool reboots;                  /* a power-off is to be a restart: `reboot` was asked for */

    struct spinlock lock; /* covers machine, console, stop_reason, live_vcpus */
    struct machine *machine;
    struct console console;
    enum stop_reason stop_reason;
    u32 live_vcpus; /* not parked */

    u32 active_vcpus; /* that run or could run: they share the weight; atomic */
    u64 capped_until; /* host TSC, see cap_charge; atomic */
    u64 hang_due;     /* host TSC at which it has hung long enough; 0: it does not, UINT64_MAX: it
                         does, and that has been told; atomic */
    u64 hang_cycles;  /* its guest_cycles when hang_due was set */

    void *parts;         /* that lie together, see vm_make_parts */
    struct vcpu **vcpus; /* machine->vcpu_count of them; NULL while stopped */
    u32 vcpu_count;
    u32 vcpu_limit; /* that there is room for; the configuration may have another number by now */
    struct guest_memory memory;
    struct cpuid_policy cpuid;
    u32 pv;           /* enum pv_offer: what it was started with */
    u64 tsc_hz;       /* of its virtual CPUs */
    u64 tsc_ratio;    /* guest ticks a host tick, TSC_RATIO_BITS of them fraction; 0: one to one */
    u64 tsc_base;     /* host TSC at machine time 0 */
    u64 paused_tsc;   /* host TSC at which it was paused */
    u64 unknown_msrs; /* accesses */
    u32 logged_msrs[VM_LOGGED_MSRS]; /* unknown ones that the log has named, 0: free */
    u32 quick_crashes;               /* in a row, each soon after the start */
    u32 hypervisor_pages;            /* 4 KiB pages of the hypervisor's own memory that it holds,
                                        the console's ring excepted */
    struct run_statistics retired;   /* of its vCPUs of earlier starts */

    struct {
        u64 counters[TOP_COUNTERS]; /* at the last sample */
        u64 values[TOP_VALUES];     /* of the interval before it */
    } top;                          /* the monitor's */

    struct lifecycle_work work;
};

/* Iterates over all partitions in the order of creation; CPU 0 only. NULL starts and ends. */
struct vm *vm_next(const struct vm *vm);
struct vm *vm_find(const char *name);

/* Host TSC ticks as ticks of the partition's virtual TSC, and back, rounded up. */
static inline u64 vm_scale_tsc(const struct vm *vm, u64 ticks)
{
    if (!vm->tsc_ratio)
        return ticks;
    return (u64)(((unsigned __int128)ticks * vm->tsc_ratio) >> TSC_RATIO_BITS);
}

static inline u64 vm_unscale_tsc(const struct vm *vm, u64 ticks)
{
    return vm->tsc_ratio ? mul_div(ticks, BIT(TSC_RATIO_BITS), vm->tsc_ratio) + 1 : ticks;
}

/* What the hardware adds to the scaled host TSC to make the vCPU's. */
static inline u64 vm_tsc_offset(const struct vm *vm, const struct vcpu *vcpu)
{
    return vcpu->lapic->tsc_adjust - vm_scale_tsc(vm, vm->tsc_base);
}

/* The pool's pages (mm/pool.h) that are held on a partition's account. CPU 0 only. */
void *vm_alloc(struct vm *vm, u64 pages);
void vm_free(struct vm *vm, void *memory, u64 pages);

const char *vm_state_name(const struct vm *vm);

/* What it has; while stopped, what it is to have. CPU 0. */
static inline u32 vm_vcpus(const struct vm *vm)
{
    return vm->vcpus ? vm->vcpu_count : vm->config.vcpus;
}

static inline u64 vm_memory(const struct vm *vm)
{
    return vm->vcpus ? vm->memory.size : vm->config.memory;
}

#endif
