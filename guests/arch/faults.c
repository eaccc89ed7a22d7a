/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* Exceptions: which, where, with what error code. */
#include "arch/arch.h"

#define CR0_EM        (1ULL << 2)
#define CR0_TS        (1ULL << 3)
#define CR0_WP        (1ULL << 16)
#define CR4_DE        (1ULL << 3)
#define CR4_SMEP      (1ULL << 20)
#define CR4_SMAP      (1ULL << 21)
#define CPUID7_SMEP   (1 << 7)
#define CPUID7_SMAP   (1 << 20)
#define MSR_EFER      0xC0000080
#define EFER_NXE      (1 << 11)
#define RFLAGS_TF     0x100
#define DR6_RESET     0xFFFF0FF0
#define CR4_OSXSAVE   (1ULL << 18)
#define LAR_DEFINED   0xF0FF00 /* the rest may hold a part of the limit */
#define NON_CANONICAL 0x800000000000UL
#define SCRATCH_PORT  0x3FF
#define RET           0xC3

struct table_pointer {
    u16 limit;
    u64 base;
} __attribute__((packed));

void ask_exceptions(void)
{
    u64 cr0 = read_cr0();

    ASK("ud2", "ud2");
    ASK("int3", "int3");
    ASK("push es", ".byte 0x06");
    ASK("into", ".byte 0xCE");
    ASK("lock nop", ".byte 0xF0, 0x90");
    ASK("divide by 0", "xorl %%ebx, %%ebx; divl %%ebx", "a"(1), "d"(0), "b"(0));
    ASK("quotient too large", "idivl %%ebx", "a"(0x80000000), "d"(-1), "b"(-1));
    ASK("non-canonical", "movb (%0), %%r14b", "r"(NON_CANONICAL));
    ASK("16 bytes long", ".fill 15, 1, 0x66; nop");
    write_cr0(cr0 | CR0_TS);
    ASK("x87 with TS", "fnop");
    ASK("clts", "clts; fnop");
    answer("CR0 after clts", read_cr0());
    write_cr0(cr0 | CR0_EM);
    ASK("x87 with EM", "fnop");
    write_cr0(cr0);
}

/* A single step over `code`: where it traps. */
#define STEP(name, code, ...)                                                                      \
    do {                                                                                           \
        write_dr6(DR6_RESET);                                                                      \
        __asm__ volatile(GUARDED("pushfq; orl $0x100, (%%rsp); popfq; " code "; nop; nop; nop")    \
                         : "=a"(out.eax), "=b"(out.ebx), "=c"(out.ecx), "=d"(out.edx)              \
                         : __VA_ARGS__                                                             \
                         : "r14", GUARD);                                                          \
        answer_trap(name);                                                                         \
        answer(name " DR6", trap.dr6);                                                             \
    } while (0)

void ask_debug(void)
{
    struct cpuid out;
    u64 flags, cr4 = read_cr4();

    STEP("step nop", "nop");
    STEP("step cpuid", "cpuid", "a"(0), "c"(0));
    STEP("step out", "outb %%al, %%dx", "a"(0), "d"(SCRATCH_PORT));
    STEP("step in", "inb %%dx, %%al", "d"(SCRATCH_PORT));
    STEP("step rdmsr", "rdmsr", "c"(MSR_EFER));
    STEP("step rdtsc", "rdtsc");
    STEP("step wbinvd", "wbinvd");
    STEP("step mov ss", "movl %%ss, %%eax; movl %%eax, %%ss", "a"(0));
    STEP("step into mov ss", "movl %%eax, %%ss; cpuid", "a"(DATA), "c"(0));
    STEP("step mmio", "movl (%%rdx), %%eax", "d"(LAPIC_BASE + LAPIC_VERSION));
    STEP("step rep insb", "rep insb", "d"(SCRATCH_PORT), "c"(2), "D"(TEST_RAM));
    __asm__ volatile(GUARDED("pushfq; orl $0x100, (%%rsp); popfq; pushfq; popq %0")
                     : "=r"(flags)
                     :
                     : GUARD);
    answer("TF in the handler's frame", trap.rflags & RFLAGS_TF);
    write_dr6(DR6_RESET);
    write_cr4(cr4 | CR4_DE);
    ASK("DR4 with DE", "movq %%dr4, %%r14");
    write_cr4(cr4);
    ASK("DR4 without DE", "movq %%dr4, %%r14");
    answer("DR6", read_dr6());
    write_dr0(0x123456789);
    write_dr3(0x987654321);
    cpuid(0, 0);
    answer("DR0", read_dr0());
    answer("DR3", read_dr3());
    write_dr0(0);
    write_dr3(0);
}

#define READ  "movb (%0), %%r14b"
#define WRITE "movb $0, (%0)"
#define CALL  "call *%0"

void ask_paging(void)
{
    u64 cr0 = read_cr0(), cr4 = read_cr4();
    volatile u64 *entry = map_test_page(0);

    ASK("read of no page", READ, "r"(TEST_PAGE));
    ASK("write to no page", WRITE, "r"(TEST_PAGE + 5));
    map_test_page(PAGE_PRESENT);
    ASK("read only, read", READ, "r"(TEST_PAGE));
    answer("accessed", *entry & (PAGE_ACCESSED | PAGE_DIRTY));
    write_cr0(cr0 | CR0_WP);
    ASK("read only, write with WP", WRITE, "r"(TEST_PAGE));
    write_cr0(cr0 & ~CR0_WP);
    ASK("read only, write without WP", WRITE, "r"(TEST_PAGE));
    answer("dirty", *entry & (PAGE_ACCESSED | PAGE_DIRTY));
    write_cr0(cr0);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    map_test_page(PAGE_PRESENT | PAGE_WRITE | PAGE_NX);
    *(volatile u8 *)TEST_PAGE = RET;
    ASK("NX, read", READ, "r"(TEST_PAGE));
    ASK("NX, call", CALL, "r"(TEST_PAGE));
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(u64)EFER_NXE);
    map_test_page(PAGE_PRESENT | PAGE_WRITE | PAGE_USER);
    ASK("call of a user page", CALL, "r"(TEST_PAGE));
    if (cpuid(7, 0).ebx & CPUID7_SMEP) {
        write_cr4(cr4 | CR4_SMEP);
        ASK("call of a user page with SMEP", CALL, "r"(TEST_PAGE));
    }
    if (cpuid(7, 0).ebx & CPUID7_SMAP) {
        write_cr4(cr4 | CR4_SMAP);
        ASK("read of a user page with SMAP", READ, "r"(TEST_PAGE));
        ASK("the same with AC", "stac; " READ "; clac", "r"(TEST_PAGE));
    }
    write_cr4(cr4);
    ASK("read over the edge", "movq (%0), %%r14", "r"(TEST_END - 3));
    ASK("write over the edge", "movq %%r14, (%0)", "r"(TEST_END - 3));
}

/* ---- segments and user mode ---- */
static u64 gdt[] = {
    0,
    0x00AF9B000000FFFF, /* CODE_64 */
    0x00CF93000000FFFF, /* DATA */
    0x00CF9B000000FFFF, /* CODE_32 */
    0x00009B000000FFFF,
    0x000093000000FFFF,
    0x00CFF3000000FFFF, /* USER_DATA */
    0x00AFFB000000FFFF, /* USER_CODE */
    0x00CF13000000FFFF, /* NOT_PRESENT */
    0,                  /* TASK */
    0,
};
static u8 exception_stack[8192] __attribute__((aligned(16)));
static struct {
    u32 reserved;
    u64 rsp[3];
    u64 reserved2, ist[7], reserved3;
    u16 reserved4, io_map;
} __attribute__((packed)) tss;

void load_segments(void)
{
    struct table_pointer pointer = {sizeof(gdt) - 1, (u64)gdt};
    u64 base = (u64)&tss;

    tss.rsp[0] = (u64)exception_stack + sizeof(exception_stack);
    tss.io_map = sizeof(tss);
    gdt[TASK / 8] =
        (sizeof(tss) - 1) | (base & 0xFFFFFF) << 16 | 0x89ULL << 40 | (base >> 24 & 0xFF) << 56;
    gdt[TASK / 8 + 1] = base >> 32;
    __asm__ volatile("lgdt %0; ltr %w1" : : "m"(pointer), "r"(TASK) : "memory");
}

static void ask_selector(const char *name, u32 selector)
{
    u32 rights = 0, limit = 0;
    u8 has_rights, has_limit, readable, writable;

    __asm__ volatile("lar %2, %0; setz %1" : "+r"(rights), "=q"(has_rights) : "r"(selector) : "cc");
    __asm__ volatile("lsl %2, %0; setz %1" : "+r"(limit), "=q"(has_limit) : "r"(selector) : "cc");
    __asm__ volatile("verr %w1; setz %0" : "=q"(readable) : "r"(selector) : "cc");
    __asm__ volatile("verw %w1; setz %0" : "=q"(writable) : "r"(selector) : "cc");
    guest_print("%s: LAR %u %x, LSL %u %x, VERR %u, VERW %u\n", name, (u64)has_rights,
                (u64)(rights & LAR_DEFINED), (u64)has_limit, (u64)limit, (u64)readable,
                (u64)writable);
}

void ask_segments(void)
{
    u64 limit;
    struct table_pointer pointer;

    ask_selector("null selector", 0);
    ask_selector("code selector", CODE_64);
    ask_selector("data selector", DATA);
    ask_selector("user selector", USER_DATA);
    ask_selector("absent selector", NOT_PRESENT);
    ask_selector("task selector", TASK);
    ask_selector("outside selector", OUTSIDE);
    ASK("mov ds, outside", "movl %0, %%ds", "r"(OUTSIDE));
    ASK("mov ds, absent", "movl %0, %%ds", "r"(NOT_PRESENT));
    ASK("mov ss, absent", "movl %0, %%ss", "r"(NOT_PRESENT));
    ASK("mov ss, code", "movl %0, %%ss", "r"(CODE_64));
    ASK("mov ds, null", "movl %0, %%ds; movl %1, %%ds", "r"(0), "r"(DATA));
    ASK("mov cs", ".byte 0x8E, 0xC8");
    ASK("ltr, busy", "ltr %w0", "r"(TASK));
    ASK("ltr, data", "ltr %w0", "r"(DATA));
    ASK("lldt, null", "lldt %w0", "r"(0));
    ASK("iretq to null", "pushq $0; pushq $0; pushq $2; pushq $0; pushq $0; iretq");
    ASK("iretq", "movq %%rsp, %%r14; pushq %0; pushq %%r14; pushq $2; pushq %1; pushq $9f; iretq",
        "i"(DATA), "i"(CODE_64));
    ASK("lretq to data", "pushq %0; pushq $0; lretq", "i"(DATA));
    __asm__ volatile("str %w0" : "=r"(limit) : "0"(0));
    answer("STR", limit);
    __asm__ volatile("sidt %0" : "=m"(pointer));
    answer("SIDT limit", pointer.limit);
}

/* Each of these runs in user mode at TEST_PAGE and must raise an exception. */
extern const u8 user_code[], user_code_end[];
__asm__(".pushsection .rodata; .balign 16; user_code:"
        "cli; .balign 16, 0xCC; hlt; .balign 16, 0xCC; inb $0x80, %al; .balign 16, 0xCC;"
        "movq %cr0, %rax; .balign 16, 0xCC; rdmsr; .balign 16, 0xCC; int $0x80; .balign 16, 0xCC;"
        "int3; .balign 16, 0xCC; movb (0x100000), %al; .balign 16, 0xCC;"
        "movb %al, (0x100000); .balign 16, 0xCC; movq $0x100000, %rax; jmp *%rax;"
        ".balign 16, 0xCC; syscall; .balign 16, 0xCC; wbinvd; .balign 16, 0xCC; invlpg (%rax);"
        ".balign 16, 0xCC; xorl %eax, %eax; cpuid; ud2; .balign 16, 0xCC; rdpmc;"
        ".balign 16, 0xCC; movq %rax, %dr0; .balign 16, 0xCC; lmsw %ax; .balign 16, 0xCC;"
        "pushfq; orl $0x100, (%rsp); popfq; cpuid; nop; nop; .balign 16, 0xCC;"
        "vmcall; ud2; .balign 16, 0xCC; sti; .balign 16, 0xCC; clts; .balign 16, 0xCC;"
        "xorl %ecx, %ecx; xsetbv; .balign 16, 0xCC;"
        "user_code_end: .popsection");

static const char *const user_names[] = {
    "cli",   "hlt",  "in",      "mov cr0", "rdmsr",  NULL,     NULL,    "read",
    "write", "jump", "syscall", "wbinvd",  "invlpg", "cpuid",  "rdpmc", "mov dr0",
    "lmsw",  "step", NULL,      "sti",     "clts",   "xsetbv",
};

static void run_user(u64 start)
{
    __asm__ volatile(GUARDED("pushq %0; pushq %1; pushq $2; pushq %2; pushq %3; iretq")
                     :
                     : "i"(USER_DATA), "r"(TEST_END), "i"(USER_CODE), "r"(start)
                     : "rax", "rbx", "rcx", "rdx", GUARD);
}

void ask_user_mode(void)
{
    u64 cr4 = read_cr4();

    write_cr4(cr4 | CR4_OSXSAVE);
    map_test_page(PAGE_PRESENT | PAGE_WRITE | PAGE_USER);
    for (const u8 *p = user_code; p < user_code_end; p++)
        ((volatile u8 *)TEST_PAGE)[p - user_code] = *p;
    for (size_t i = 0; i < ARRAY_SIZE(user_names); i++) {
        if (!user_names[i])
            continue;
        run_user(TEST_PAGE + 16 * i);
        trap.offset -= 16 * i;
        guest_print("user mode, ");
        answer_trap(user_names[i]);
    }
    write_dr6(DR6_RESET);
    write_cr4(cr4);
}
