/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_VCPU_H
#define BULKHEAD_CORE_VCPU_H

#include "core/config.h"
#include "core/exit.h"
#include "core/insn.h"
#include "core/statistics.h"
#include "core/vcpu_state.h"
#include "devices/lapic.h"
#include "lib/list.h"
#include "mm/guest_walk.h"

struct cpu;
struct vm;
struct hvm_vcpu; /* the backend's own */
struct exit_trace {
    u64 qualification;
    u32 reason;
    u32 kind;
};

/* Of the scheduler; changed only on the CPU that owns the vCPU. */
enum vcpu_run_state {
    VCPU_PARKED,   /* not started, paused or stopped: in no queue */
    VCPU_RUNNABLE, /* in the run queue of its CPU */
    VCPU_RUNNING,
    VCPU_BLOCKED, /* halted or waiting for SIPI: waits for an event or its deadline */
    VCPU_CAPPED,  /* could run, but its partition has used up its cap: waits for its deadline */
};

/* Asked by any CPU, answered by the owner; bits of vcpu->requests. */
enum vcpu_request {
    REQUEST_EVENT = 1 << 0, /* look at the LAPIC again */
    REQUEST_PARK = 1 << 1,  /* pause or stop: leave the queue and report to the partition */
    REQUEST_UNPARK = 1 << 2,
    REQUEST_CAPTURE = 1 << 3, /* vcpu_capture, unless it is parked */
    REQUEST_ADOPT = 1 << 4,   /* the vCPU has come from another CPU: queue it */
    REQUEST_UNCAP = 1 << 5,   /* the cap is another: it may be able to run */
};

#define EXIT_TRACE_SIZE 16

/* Instructions that accessed a device, found again by their code. */
#define DECODED_BITS 3

struct decoded {
    u64 code[2];      /* the 16 bytes at RIP, and all ones in those behind the instruction */
    u64 behind[2];    /* those bytes */
    struct insn insn; /* of length 0: there is none */
};

/* MTRRs and other MSRs that are only stored (SDM volume 4). */
#define MTRR_VARIABLE_COUNT 8
#define MTRR_FIXED_COUNT    11
#define KVM_MSRS            5

struct vcpu_msrs {
    u64 mtrr_def_type;
    u64 mtrr_fixed[MTRR_FIXED_COUNT];
    u64 mtrr_variable[2 * MTRR_VARIABLE_COUNT];
    u64 misc_enable;
    u64 kvm[KVM_MSRS]; /* core/pv.h: wall clock, clock, nothing, steal time, EOI */
    bool eoi_offered;  /* by pv_offer_eoi, and not yet taken back */
};

/* A vCPU as it was at one moment, for the monitor. Under vm->lock; a page of its own. */
struct vcpu_capture {
    bool done;
    u8 code_size;
    u8 code[INSN_MAX_LENGTH]; /* at CS:RIP */
    struct vcpu_state state;
    u32 trace_next;
    struct exit_trace trace[EXIT_TRACE_SIZE]; /* as in struct vcpu */
};

struct vcpu {
    u64 gpr[GPR_COUNT]; /* as the guest has them, RSP excepted (HVM_RSP); asm uses the offset */

    struct vm *vm;
    struct lapic *lapic; /* element of the machine's array: the virtual-APIC page */
    struct hvm_vcpu *hvm;
    bool hvm_ready;  /* vcpu_init has succeeded */
    struct cpu *cpu; /* the owner; changed by the owner alone, under its mailbox_lock */
    u32 index;       /* in its partition; also the initial APIC ID */

    u64 tsc_offset;
    u64 xcr0; /* the guest's; in the register while attached */
    u64 xss;
    void *xsave_area; /* cpu_features.xsave_size bytes */
    struct vcpu_msrs msrs;

    u32 requests;          /* enum vcpu_request; atomic */
    struct list mail;      /* in the owner's mailbox, under its lock */
    u8 run_state;          /* enum vcpu_run_state */
    u8 activity;           /* enum vcpu_activity */
    bool start_pending;    /* start_state is to be loaded when it is next attached */
    bool tsc_offset_stale; /* tsc_offset is to be loaded then */
    bool nmi_window;       /* has been asked for */
    bool interrupt_window;
    bool interrupts_stale; /* LAPIC, PIC or board changed since interrupts were last offered */
    bool active;           /* counted in vm->active_vcpus */
    bool yielding;         /* its slice ends because it spins */
    bool fresh;            /* woken or moved, and has not run since */
    bool deaf;             /* as it last blocked: only NMI, INIT or SIPI can wake it */
    struct list run;       /* in the run queue or, with a deadline, in the timer list */
    u64 wake_deadline;     /* host TSC */
    u64 timer_deadline;    /* host TSC of its machine's next timer, as last computed */
    u64 slice_end;         /* host TSC, while running */
    u64 run_limit;         /* host TSC at which the scheduler wants it back, while running */
    u64 deadline;          /* the earlier of that and timer_deadline */
    u64 slice_used;        /* TSC ticks of a slice that was cut short */
    u64 virtual_time;      /* see core/run_queue.h */
    u64 waiting_since;     /* host TSC, while in the run queue or capped */
    u32 moves;             /* from one CPU to another */
    u64 ran_on[CONFIG_CPUS_MAX / 64]; /* bit N: on physical CPU N, since its start */

    struct vcpu_state start_state;

    struct run_statistics statistics;
    struct exit_trace trace[EXIT_TRACE_SIZE];
    u32 trace_next;
    struct guest_code code;
    u8 insn_length; /* of the instruction that vcpu_fast_memory has carried out */
    struct decoded decoded[1 << DECODED_BITS];

    struct vcpu_capture *capture; /* NULL: never asked for */
};

#endif
