/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/interrupts.h"

#include "core/log.h"
#include "core/panic.h"
#include "drivers/cpu.h"
#include "drivers/lapic.h"
#include "lib/string.h"
#include "mm/host_space.h"

#define VECTORS     256
#define MSR_GS_BASE 0xC0000101

/* SDM volume 3, "64-Bit IDT Gate Descriptors". */
struct idt_gate {
    u16 offset_low;
    u16 selector;
    u8 ist;
    u8 attributes;
    u16 offset_middle;
    u32 offset_high;
    u32 reserved;
};

_Static_assert(sizeof(struct idt_gate) == 16, "64-bit gate");

#define GATE_INTERRUPT 0x8E /* present, DPL 0, interrupt gate */

enum ist {
    IST_DOUBLE_FAULT = 1,
    IST_NMI,
    IST_MACHINE_CHECK,
    IST_COUNT = IST_MACHINE_CHECK,
};

struct table_register {
    u16 limit;
    u64 base;
} __attribute__((packed));

#define DESCRIPTOR_CODE64   0x00AF9B000000FFFFULL
#define DESCRIPTOR_DATA     0x00CF93000000FFFFULL
#define DESCRIPTOR_TSS      0x0000890000000000ULL /* available 64-bit TSS, present */
#define DESCRIPTOR_BASE_LOW 0xFFFFFFULL

extern void (*const interrupt_stubs[VECTORS])(void);
void interrupt_dispatch(struct trap_frame *frame);

static struct idt_gate idt[VECTORS];
static void (*handlers[VECTORS])(struct cpu *cpu);

static const u8 ist_of[EXCEPTION_COUNT] = {
    [EXCEPTION_NMI] = IST_NMI,
    [EXCEPTION_DF] = IST_DOUBLE_FAULT,
    [EXCEPTION_MC] = IST_MACHINE_CHECK,
};

static const char *const exception_names[EXCEPTION_COUNT] = {
    "divide error",
    "debug exception",
    "NMI",
    "breakpoint",
    "overflow",
    "BOUND range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack-segment fault",
    "general protection",
    "page fault",
    "reserved",
    "x87 FPU error",
    "alignment check",
    "machine check",
    "SIMD floating-point exception",
    "virtualization exception",
    "control protection exception",
};

void interrupts_init(void)
{
    for (unsigned vector = 0; vector < VECTORS; vector++) {
        u64 stub = (u64)interrupt_stubs[vector];

        idt[vector] = (struct idt_gate){
            .offset_low = stub,
            .offset_middle = stub >> 16,
            .offset_high = stub >> 32,
            .selector = SELECTOR_CODE,
            .ist = vector < EXCEPTION_COUNT ? ist_of[vector] : 0,
            .attributes = GATE_INTERRUPT,
        };
    }
}

static void fill_gdt(struct cpu *cpu)
{
    u64 tss = (u64)&cpu->tss;

    cpu->gdt[SELECTOR_CODE / 8] = DESCRIPTOR_CODE64;
    cpu->gdt[SELECTOR_DATA / 8] = DESCRIPTOR_DATA;
    cpu->gdt[SELECTOR_TSS / 8] = DESCRIPTOR_TSS | (sizeof(struct tss) - 1) |
                                 (tss & DESCRIPTOR_BASE_LOW) << 16 | (tss >> 24 & 0xFF) << 56;
    cpu->gdt[SELECTOR_TSS / 8 + 1] = tss >> 32;
    cpu->tss.iomap_base = sizeof(struct tss);
}

static void load_segments(void)
{
    u64 code = SELECTOR_CODE;

    __asm__ volatile("pushq %0\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:"
                     :
                     : "r"(code)
                     : "rax", "memory");
    __asm__ volatile("movl %0, %%ds; movl %0, %%es; movl %0, %%ss" ::"r"(SELECTOR_DATA));
    __asm__ volatile("movl %0, %%fs; movl %0, %%gs" ::"r"(0));
}

bool interrupts_load(struct cpu *cpu)
{
    struct table_register gdtr = {sizeof(cpu->gdt) - 1, (u64)cpu->gdt};
    struct table_register idtr = {sizeof(idt) - 1, (u64)idt};

    for (unsigned i = 0; i < IST_COUNT; i++) {
        cpu->tss.ist[i] = (u64)stack_alloc();
        if (!cpu->tss.ist[i])
            return false;
    }
    fill_gdt(cpu);
    __asm__ volatile("lgdt %0" ::"m"(gdtr));
    load_segments();
    __asm__ volatile("ltr %w0" ::"r"(SELECTOR_TSS));
    __asm__ volatile("lidt %0" ::"m"(idtr));
    wrmsr(MSR_GS_BASE, (u64)cpu);
    return true;
}

void interrupts_set_handler(u8 vector, void (*handler)(struct cpu *cpu))
{
    handlers[vector] = handler;
}

static _Noreturn void die_of_exception(const struct trap_frame *frame)
{
    const char *name = exception_names[frame->vector];

    log_begin_panic();
    log_error("rax %016lx rbx %016lx rcx %016lx rdx %016lx", frame->rax, frame->rbx, frame->rcx,
              frame->rdx);
    log_error("rsi %016lx rdi %016lx rbp %016lx rsp %016lx", frame->rsi, frame->rdi, frame->rbp,
              frame->rsp);
    log_error("r8  %016lx r9  %016lx r10 %016lx r11 %016lx", frame->r8, frame->r9, frame->r10,
              frame->r11);
    log_error("r12 %016lx r13 %016lx r14 %016lx r15 %016lx", frame->r12, frame->r13, frame->r14,
              frame->r15);
    log_error("rip %016lx rflags %08lx cr2 %016lx cr3 %016lx cr4 %08lx", frame->rip, frame->rflags,
              read_cr2(), read_cr3(), read_cr4());
    panic_at(frame->rip, frame->rbp, "exception %lu (%s), error code %lx", frame->vector,
             name ? name : "reserved", frame->error_code);
}

/* Instructions that may fault, each with the address to go on at (drivers/cpu.h, rdmsr_try). */
struct fixup {
    u64 rip;
    u64 next;
};

extern const struct fixup fixups_start[], fixups_end[];

/* A debug exception is none of the host's, which steps through nothing: Bochs takes the trap of
 * an AMD-V guest that steps through an instruction that exits over into the host. GS may still be
 * the guest's then. */
static bool fix_up(struct trap_frame *frame)
{
    if (frame->vector == EXCEPTION_DB)
        return true;
    for (const struct fixup *fixup = fixups_start; fixup != fixups_end; fixup++) {
        if (frame->vector == EXCEPTION_GP && frame->rip == fixup->rip) {
            frame->rip = fixup->next;
            return true;
        }
    }
    return false;
}

void interrupt_dispatch(struct trap_frame *frame)
{
    struct cpu *cpu;

    if (frame->vector < EXCEPTION_COUNT && fix_up(frame))
        return;
    cpu = this_cpu();
    cpu->interrupts++;
    if (frame->vector == EXCEPTION_NMI) {
        panic_check_stop();
        /* It may have come anywhere, also where the log's lock is held: the loop logs it. */
        cpu->nmi_seen = true;
        return;
    }
    if (frame->vector < EXCEPTION_COUNT)
        die_of_exception(frame);
    if (handlers[frame->vector])
        handlers[frame->vector](cpu);
    if (frame->vector >= VECTOR_UART && frame->vector != VECTOR_SPURIOUS)
        host_lapic_eoi();
}
