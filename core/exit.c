/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/exit.h"

#include "core/dump.h"
#include "core/host.h"
#include "core/interrupts.h"
#include "core/lifecycle.h"
#include "core/log.h"
#include "core/panic.h"
#include "core/sched.h"
#include "core/vcpu_run.h"
#include "core/vm.h"
#include "drivers/cpu.h"

#define XCR0_X87        BIT(0)
#define XCR0_SSE        BIT(1)
#define XCR0_AVX        BIT(2)
#define XCR0_AVX512     (BIT(5) | BIT(6) | BIT(7))
#define HYPERCALL_ERROR (-38LL) /* no such call */

static void handle_nothing(struct vcpu *vcpu, struct exit *exit)
{
}

static void handle_interrupt(struct vcpu *vcpu, struct exit *exit)
{
    interrupts_take();
}

static void handle_window(struct vcpu *vcpu, struct exit *exit)
{
    vcpu->interrupts_stale = true;
}

static void handle_cpuid(struct vcpu *vcpu, struct exit *exit)
{
    if (host.hvm->skip_instruction(vcpu, 0))
        vcpu_fast_cpuid(vcpu);
}

enum exit_kind vcpu_fast_hlt(struct vcpu *vcpu)
{
    vcpu->activity = ACTIVITY_HALTED;
    vcpu->interrupts_stale = true;
    return EXIT_HLT;
}

static void handle_hlt(struct vcpu *vcpu, struct exit *exit)
{
    if (host.hvm->skip_instruction(vcpu, 0))
        vcpu_fast_hlt(vcpu);
}

static void handle_pause(struct vcpu *vcpu, struct exit *exit)
{
    if (host.hvm->skip_instruction(vcpu, 0))
        sched_yield(vcpu);
}

/* SDM volume 1, "Extended Control Registers": x87 always, AVX needs SSE, AVX-512 needs all of its
 * parts and AVX. */
static bool xcr0_valid(u64 value)
{
    u64 avx512 = value & XCR0_AVX512;

    return !(value & ~host.features.xcr0) && (value & XCR0_X87) &&
           (!(value & XCR0_AVX) || (value & XCR0_SSE)) &&
           (!avx512 || (avx512 == XCR0_AVX512 && (value & XCR0_AVX)));
}

static void handle_xsetbv(struct vcpu *vcpu, struct exit *exit)
{
    u64 value = vcpu->gpr[GPR_RDX] << 32 | (u32)vcpu->gpr[GPR_RAX];

    if ((u32)vcpu->gpr[GPR_RCX] != 0 || !host.features.xsave || !xcr0_valid(value)) {
        vcpu_raise_gp(vcpu);
        return;
    }
    if (!host.hvm->skip_instruction(vcpu, 0))
        return;
    vcpu->xcr0 = value;
    write_xcr0(value);
}

enum exit_kind vcpu_fast_hypercall(struct vcpu *vcpu)
{
    vcpu->gpr[GPR_RAX] = HYPERCALL_ERROR;
    return EXIT_HYPERCALL;
}

static void handle_hypercall(struct vcpu *vcpu, struct exit *exit)
{
    if (host.hvm->skip_instruction(vcpu, 0))
        vcpu_fast_hypercall(vcpu);
}

static void handle_undefined(struct vcpu *vcpu, struct exit *exit)
{
    vcpu_raise_ud(vcpu);
}

static void handle_triple_fault(struct vcpu *vcpu, struct exit *exit)
{
    vcpu_crash(vcpu, exit, "triple fault");
}

static void handle_machine_check(struct vcpu *vcpu, struct exit *exit)
{
    panic("machine check while '%s' ran", vcpu->vm->config.name);
}

static void handle_entry_failure(struct vcpu *vcpu, struct exit *exit)
{
    vcpu_crash(vcpu, exit, "the CPU refused its state");
}

static void handle_unhandled(struct vcpu *vcpu, struct exit *exit)
{
    vcpu_crash(vcpu, exit, "unhandled exit");
}

static void handle_apic(struct vcpu *vcpu, struct exit *exit)
{
    vcpu_apic_written(vcpu, exit);
}

static void (*const handlers[EXIT_KIND_COUNT])(struct vcpu *vcpu, struct exit *exit) = {
    [EXIT_NONE] = handle_nothing,
    [EXIT_INTERRUPT] = handle_interrupt,
    [EXIT_DEADLINE] = handle_nothing,
    [EXIT_WINDOW] = handle_window,
    [EXIT_CPUID] = handle_cpuid,
    [EXIT_HLT] = handle_hlt,
    [EXIT_PAUSE] = handle_pause,
    [EXIT_RDMSR] = handle_rdmsr,
    [EXIT_WRMSR] = handle_wrmsr,
    [EXIT_XSETBV] = handle_xsetbv,
    [EXIT_PORT] = handle_port,
    [EXIT_MEMORY] = handle_memory,
    [EXIT_HYPERCALL] = handle_hypercall,
    [EXIT_CR] = handle_nothing,
    [EXIT_APIC_WRITE] = handle_apic,
    [EXIT_EOI] = handle_apic,
    [EXIT_UNDEFINED] = handle_undefined,
    [EXIT_TRIPLE_FAULT] = handle_triple_fault,
    [EXIT_MACHINE_CHECK] = handle_machine_check,
    [EXIT_ENTRY_FAILURE] = handle_entry_failure,
    [EXIT_UNHANDLED] = handle_unhandled,
};

static const char *const names[EXIT_KIND_COUNT] = {
    [EXIT_NONE] = "other",
    [EXIT_INTERRUPT] = "interrupt",
    [EXIT_DEADLINE] = "deadline",
    [EXIT_WINDOW] = "window",
    [EXIT_CPUID] = "cpuid",
    [EXIT_HLT] = "hlt",
    [EXIT_PAUSE] = "pause",
    [EXIT_RDMSR] = "rdmsr",
    [EXIT_WRMSR] = "wrmsr",
    [EXIT_XSETBV] = "xsetbv",
    [EXIT_PORT] = "port",
    [EXIT_MEMORY] = "memory",
    [EXIT_HYPERCALL] = "hypercall",
    [EXIT_CR] = "control register",
    [EXIT_APIC_WRITE] = "apic write",
    [EXIT_EOI] = "eoi",
    [EXIT_UNDEFINED] = "undefined",
    [EXIT_TRIPLE_FAULT] = "triple fault",
    [EXIT_MACHINE_CHECK] = "machine check",
    [EXIT_ENTRY_FAILURE] = "entry failure",
    [EXIT_UNHANDLED] = "unhandled",
};

const char *exit_kind_name(enum exit_kind kind)
{
    return names[kind];
}

/* Host interrupts say nothing about the guest: they don't push its own exits out of the trace. */
static void trace(struct vcpu *vcpu, const struct exit *exit)
{
    struct exit_trace *entry;

    if (exit->kind == EXIT_INTERRUPT || exit->kind == EXIT_DEADLINE)
        return;
    entry = &vcpu->trace[vcpu->trace_next++ % EXIT_TRACE_SIZE];
    entry->kind = exit->kind;
    entry->reason = exit->reason;
    entry->qualification = exit->qualification;
}

void vcpu_handle_exit(struct vcpu *vcpu, struct exit *exit)
{
    trace(vcpu, exit);
    handlers[exit->kind](vcpu, exit);
}

void vcpu_raise_gp(struct vcpu *vcpu)
{
    vcpu_raise(vcpu, EXCEPTION_GP, 0);
}

void vcpu_raise_ud(struct vcpu *vcpu)
{
    vcpu_raise(vcpu, EXCEPTION_UD, 0);
}

void vcpu_crash(struct vcpu *vcpu, const struct exit *exit, const char *reason)
{
    vcpu_dump(vcpu, exit, reason);
    spin_lock(&vcpu->vm->lock);
    vm_request_stop(vcpu->vm, STOP_CRASH, reason);
    spin_unlock(&vcpu->vm->lock);
}
