/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/dump.h"

#include "core/host.h"
#include "core/log.h"
#include "core/vm.h"
#include "lib/string.h"

static const char *const segment_names[SEG_COUNT] = {
    [SEG_ES] = "es", [SEG_CS] = "cs", [SEG_SS] = "ss",     [SEG_DS] = "ds",
    [SEG_FS] = "fs", [SEG_GS] = "gs", [SEG_LDTR] = "ldtr", [SEG_TR] = "tr",
};

static void dump_registers(const struct vcpu_state *s)
{
    const u64 *r = s->gpr;

    log_error("  rip %016lx rsp %016lx rflags %08lx", s->rip, r[GPR_RSP], s->rflags);
    log_error("  rax %016lx rbx %016lx rcx %016lx rdx %016lx", r[GPR_RAX], r[GPR_RBX], r[GPR_RCX],
              r[GPR_RDX]);
    log_error("  rsi %016lx rdi %016lx rbp %016lx r8  %016lx", r[GPR_RSI], r[GPR_RDI], r[GPR_RBP],
              r[GPR_R8]);
    log_error("  r9  %016lx r10 %016lx r11 %016lx r12 %016lx", r[GPR_R9], r[GPR_R10], r[GPR_R11],
              r[GPR_R12]);
    log_error("  r13 %016lx r14 %016lx r15 %016lx", r[GPR_R13], r[GPR_R14], r[GPR_R15]);
    log_error("  cr0 %08lx cr2 %016lx cr3 %016lx cr4 %08lx efer %04lx", s->cr0, s->cr2, s->cr3,
              s->cr4, s->efer);
}

static void dump_segments(const struct vcpu_state *s)
{
    for (int i = 0; i < SEG_COUNT; i++)
        log_error("  %-4s %04x base %016lx limit %08x attributes %04x", segment_names[i],
                  s->segments[i].selector, s->segments[i].base, s->segments[i].limit,
                  s->segments[i].attributes);
    log_error("  gdtr %016lx/%04x idtr %016lx/%04x", s->gdtr.base, s->gdtr.limit, s->idtr.base,
              s->idtr.limit);
}

static void dump_code(struct vcpu *vcpu)
{
    u8 bytes[INSN_MAX_LENGTH];
    size_t count = vcpu_fetch(vcpu, bytes, sizeof(bytes));
    char text[3 * INSN_MAX_LENGTH + 1] = "";

    for (size_t i = 0; i < count; i++)
        snprintf(text + 3 * i, 4, " %02x", bytes[i]);
    log_error("  bytes at rip:%s", count ? text : " not readable");
}

static void dump_trace(const struct vcpu *vcpu)
{
    u32 first = vcpu->trace_next > EXIT_TRACE_SIZE ? vcpu->trace_next - EXIT_TRACE_SIZE : 0;

    for (u32 i = first; i < vcpu->trace_next; i++) {
        const struct exit_trace *entry = &vcpu->trace[i % EXIT_TRACE_SIZE];

        log_error("  exit %d: %s, reason %x, qualification %lx", (int)(i - vcpu->trace_next),
                  exit_kind_name(entry->kind), entry->reason, entry->qualification);
    }
}

void vcpu_capture(struct vcpu *vcpu)
{
    struct vcpu_capture *capture = vcpu->capture;

    spin_lock(&vcpu->vm->lock);
    host.hvm->save_state(vcpu, &capture->state);
    capture->code_size = (u8)vcpu_fetch(vcpu, capture->code, sizeof(capture->code));
    memcpy(capture->trace, vcpu->trace, sizeof(capture->trace));
    capture->trace_next = vcpu->trace_next;
    capture->done = true;
    spin_unlock(&vcpu->vm->lock);
}

void vcpu_dump(struct vcpu *vcpu, const struct exit *exit, const char *reason)
{
    struct vcpu_state state;

    host.hvm->save_state(vcpu, &state);
    log_error("'%s' vCPU %u: %s", vcpu->vm->config.name, vcpu->index, reason);
    if (exit) {
        log_error("  exit %s, reason %x, qualification %lx", exit_kind_name(exit->kind),
                  exit->reason, exit->qualification);
        if (exit->kind == EXIT_MEMORY)
            log_error("  guest-physical %lx, %s", exit->memory.gpa,
                      exit->memory.fetch   ? "fetch"
                      : exit->memory.write ? "write"
                                           : "read");
    }
    dump_registers(&state);
    dump_segments(&state);
    dump_code(vcpu);
    dump_trace(vcpu);
}
