/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* Local APIC, interrupt shadows, NMIs, ports and MMIO, the second CPU's start. */
#include "arch/arch.h"

#define MSR_EFER       0xC0000080
#define SVR_ENABLE     0x1FF
#define ICR_SELF       0x40000
#define ICR_NMI        0x400
#define ICR_INIT       0x4500
#define ICR_STARTUP    0x4600
#define VECTOR         0x51
#define LAPIC_ESR      0x280
#define ESR_WAIT       1000
#define RFLAGS_IF      0x200
#define UNCLAIMED_PORT 0x1234
#define UNCLAIMED_MMIO 0xFE412000UL
#define SCRATCH_PORT   0x3FF
#define AP_BASE        0x8000
#define CR0_WP         (1ULL << 16)
#define TSC_ROUNDS     50

static u32 lapic(u32 offset)
{
    return mmio_read(LAPIC_BASE + offset);
}

static void lapic_write(u32 offset, u32 value)
{
    mmio_write(LAPIC_BASE + offset, value);
}

static void answer_registers(const char *when)
{
    for (u32 offset = 0; offset < 0x400; offset += 0x10)
        guest_print("LAPIC %s, %x: %x\n", when, (u64)offset, (u64)lapic(offset));
}

void ask_lapic_reset(void)
{
    answer_registers("at reset");
}

void ask_lapic(void)
{
    for (u32 offset = LAPIC_LVT_TIMER; offset <= 0x370; offset += 0x10)
        lapic_write(offset, 0xFF);
    lapic_write(LAPIC_SVR, 0xFF); /* disabled: masks stay */
    answer_registers("disabled");
    lapic_write(LAPIC_SVR, SVR_ENABLE);
    for (u32 offset = 0; offset < 0x400; offset += 0x10)
        if (offset != LAPIC_EOI && offset != LAPIC_ICR_LOW && offset != LAPIC_SVR)
            lapic_write(offset, offset < 0x300 ? 0xFFFFFFFF : 0x10000);
    answer_registers("written");
    lapic_write(LAPIC_TPR, 0);
    lapic_write(LAPIC_ESR, 0);
    lapic_write(LAPIC_ICR_LOW, ICR_SELF | 5); /* vectors below 16 can't be sent */
    lapic_write(LAPIC_ESR, 0);
    answer("ESR after vector 5", lapic(LAPIC_ESR));
    lapic_write(LAPIC_ESR, 0);
}

/* ---- interrupt shadows ---- */
static volatile u64 came_at, flags_then, count;

static void on_interrupt(struct interrupt_frame *frame)
{
    came_at = frame->rip - arch_start;
    flags_then = frame->rflags & (RFLAGS_IF | 0x100);
    count++;
    lapic_write(LAPIC_EOI, 0);
}

/* With an interrupt pending, where does it come in this code? */
#define SHADOW(name, code, ...)                                                                    \
    do {                                                                                           \
        count = came_at = 0;                                                                       \
        lapic_write(LAPIC_ICR_LOW, ICR_SELF | VECTOR);                                             \
        __asm__ volatile(GUARDED(code)                                                             \
                         : "=a"(out.eax), "=b"(out.ebx), "=c"(out.ecx), "=d"(out.edx)              \
                         : __VA_ARGS__                                                             \
                         : "r14", GUARD);                                                          \
        __asm__ volatile("sti; nop; cli" : : : "memory");                                          \
        if (trap.vector != NO_TRAP)                                                                \
            answer_trap(name);                                                                     \
        else                                                                                       \
            guest_print("%s: %u interrupts, the last at +%x, flags %x\n", name, count,             \
                        came_at < 0x100 ? came_at : NO_TRAP, flags_then);                          \
    } while (0)

void ask_shadows(void)
{
    struct cpuid out;

    guest_set_handler(VECTOR, on_interrupt);
    lapic_write(LAPIC_SVR, SVR_ENABLE);
    SHADOW("sti", "sti; nop; nop; nop; cli", "a"(0));
    SHADOW("sti; cpuid", "sti; cpuid; nop; nop; cli", "a"(0), "c"(0));
    SHADOW("sti; sti", "sti; sti; nop; nop; cli", "a"(0));
    SHADOW("sti; hlt", "sti; hlt; nop; cli", "a"(0));
    SHADOW("sti; out", "sti; outb %%al, %%dx; nop; nop; cli", "a"(0), "d"(SCRATCH_PORT));
    SHADOW("sti; mmio", "sti; movl (%%rdx), %%eax; nop; nop; cli", "d"(LAPIC_BASE));
    SHADOW("sti; rdmsr", "sti; rdmsr; nop; nop; cli", "c"(MSR_EFER));
    SHADOW("popfq", "pushfq; orl $0x200, (%%rsp); popfq; nop; nop; cli", "a"(0));
    SHADOW("cr8 lowered", "movq %%rcx, %%cr8; sti; nop; nop; movq %%rax, %%cr8; nop; nop; cli",
           "a"(0L), "c"(15L));
    SHADOW("iretq",
           "movq %%rsp, %%r14; pushq $0x10; pushq %%r14; pushq $0x202; pushq $8;"
           "pushq $7f; iretq; 7: nop; nop; cli",
           "a"(0));
    SHADOW("int", "sti; int $0x51; nop; cli", "a"(0));
}

/* ---- NMIs ---- */
static volatile u64 nmis, nested, depth;

static void send_nmi(void)
{
    lapic_write(LAPIC_ICR_HIGH, lapic(LAPIC_ID));
    lapic_write(LAPIC_ICR_LOW, ICR_NMI);
}

static void on_nmi(struct interrupt_frame *frame)
{
    (void)frame;
    nested += depth++;
    if (nmis++ == 0) {
        send_nmi();
        send_nmi();
        cpuid(0, 0);
        delay(5000);
    }
    depth--;
}

void ask_nmi(void)
{
    guest_set_handler(VECTOR_NMI, on_nmi);
    send_nmi();
    delay(200000);
    answer("NMIs of three", nmis); /* one runs, one waits, one is lost */
    answer("NMIs within NMIs", nested);
    send_nmi();
    delay(200000);
    answer("one more", nmis);
}

/* ---- ports and MMIO ---- */
static void ask_string(const char *name, u64 to, u64 port, u64 n, bool words)
{
    if (words)
        __asm__ volatile(GUARDED("rep insw") : "+D"(to), "+c"(n) : "d"(port) : GUARD);
    else
        __asm__ volatile(GUARDED("rep insb") : "+D"(to), "+c"(n) : "d"(port) : GUARD);
    answer_trap(name);
    guest_print("%s: RDI %x, RCX %u\n", name, to, n);
}

static void ask_outs(const char *name, u64 from, u64 n)
{
    __asm__ volatile(GUARDED("rep outsb") : "+S"(from), "+c"(n) : "d"(SCRATCH_PORT) : GUARD);
    answer_trap(name);
    guest_print("%s: RSI %x, RCX %u\n", name, from, n);
}

void ask_ports(void)
{
    u64 value;

    answer("port, 1 byte", inb(UNCLAIMED_PORT));
    answer("port, 2 bytes", inw(UNCLAIMED_PORT));
    answer("port, 4 bytes", inl(UNCLAIMED_PORT));
    outb(SCRATCH_PORT, 0x5A);
    __asm__ volatile("movq $-1, %%rax; inb %%dx, %%al" : "=a"(value) : "d"(SCRATCH_PORT));
    answer("in al, rest of rax", value);
    __asm__ volatile("movq $-1, %%rax; inw %%dx, %%ax" : "=a"(value) : "d"(SCRATCH_PORT));
    answer("in ax, rest of rax", value);
    __asm__ volatile("movq $-1, %%rax; inl %%dx, %%eax" : "=a"(value) : "d"(UNCLAIMED_PORT));
    answer("in eax, rest of rax", value);
    answer("mmio, 4 bytes", mmio_read(UNCLAIMED_MMIO));
    __asm__ volatile("movq $0, %0; movb (%1), %b0" : "=&q"(value) : "r"(UNCLAIMED_MMIO));
    answer("mmio, 1 byte, rest", value);
    __asm__ volatile("movq $0, %0; movw (%1), %w0" : "=&q"(value) : "r"(UNCLAIMED_MMIO));
    answer("mmio, 2 bytes, rest", value);
    __asm__ volatile("movq (%1), %0" : "=r"(value) : "r"(UNCLAIMED_MMIO));
    answer("mmio, 8 bytes", value);
    map_test_page(PAGE_PRESENT | PAGE_WRITE);
    ask_string("insb", TEST_PAGE, SCRATCH_PORT, 8, false);
    answer("insb, read", *(volatile u64 *)TEST_PAGE);
    ask_string("insb over the edge", TEST_END - 4, SCRATCH_PORT, 8, false);
    ask_string("insw over the edge", TEST_END - 3, UNCLAIMED_PORT, 4, true);
    ask_outs("outsb over the edge", TEST_END - 4, 8);
    ask_string("insb, 0 times", 0x800000000000, SCRATCH_PORT, 0, false);
    ask_string("insb, non-canonical", 0x800000000000, SCRATCH_PORT, 2, false);
    write_cr0(read_cr0() | CR0_WP);
    map_test_page(PAGE_PRESENT);
    ask_string("insb, read only", TEST_PAGE, SCRATCH_PORT, 8, false);
    write_cr0(read_cr0() & ~CR0_WP);
    ask_string("insb, to mmio", UNCLAIMED_MMIO, SCRATCH_PORT, 2, false);
}

/* ---- the second CPU ---- */
struct second_cpu { /* as ap.asm has it */
    u32 done;
    u32 eax, ebx, ecx, edx, esi, edi, ebp, esp;
    u32 eflags, cr0, cr2, cr3, cr4, dr6, dr7, efer;
    u16 cs, ds, es, ss, fs, gs;
    u16 idt_limit, gdt_limit, ldtr_or_0, spare;
    u32 backwards;
    u32 turn, tsc_low, tsc_high;
};
extern char ap_start[], ap_end[], ap_result[];

static const struct {
    const char *name;
    size_t offset;
} ap_registers[] = {
#define REGISTER(name)                                                                             \
    {                                                                                              \
#name, offsetof(struct second_cpu, name)                                                   \
    }
    REGISTER(eax), REGISTER(ebx), REGISTER(ecx), REGISTER(edx),    REGISTER(esi), REGISTER(edi),
    REGISTER(ebp), REGISTER(esp), REGISTER(cr0), REGISTER(eflags), REGISTER(cr2), REGISTER(cr3),
    REGISTER(cr4), REGISTER(dr6), REGISTER(dr7), REGISTER(efer),
};

static void start_second_cpu(void)
{
    volatile char *to = (volatile char *)AP_BASE;

    for (const char *p = ap_start; p < ap_end; p++)
        *to++ = *p;
    lapic_write(LAPIC_ICR_HIGH, 1 << 24);
    lapic_write(LAPIC_ICR_LOW, ICR_INIT);
    delay(40000);
    lapic_write(LAPIC_ICR_HIGH, 1 << 24);
    lapic_write(LAPIC_ICR_LOW, ICR_STARTUP | AP_BASE >> 12);
}

/* Each in turn looks whether its TSC is behind what the other last saw. */
static u64 compare_tscs(volatile struct second_cpu *ap)
{
    u64 backwards = 0;

    for (u32 i = 0; i < TSC_ROUNDS; i++) {
        while (ap->turn)
            __asm__ volatile("pause");
        u64 last = ap->tsc_low | (u64)ap->tsc_high << 32, now = rdtsc();
        backwards += now < last;
        ap->tsc_low = (u32)now;
        ap->tsc_high = (u32)(now >> 32);
        ap->turn = 1;
    }
    return backwards + ap->backwards;
}

void ask_second_cpu(void)
{
    volatile struct second_cpu *ap = (void *)(AP_BASE + (ap_result - ap_start));

    start_second_cpu();
    for (u32 i = 0; i < 2000 && !ap->done; i++)
        delay(3580);
    answer("second CPU started", ap->done);
    if (!ap->done)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(ap_registers); i++)
        guest_print("second CPU, %s: %x\n", ap_registers[i].name,
                    (u64) * (volatile u32 *)((volatile char *)ap + ap_registers[i].offset));
    guest_print("second CPU, segments: %x %x %x %x %x %x\n", (u64)ap->cs, (u64)ap->ds, (u64)ap->es,
                (u64)ap->ss, (u64)ap->fs, (u64)ap->gs);
    guest_print("second CPU, IDT and GDT limit: %x %x\n", (u64)ap->idt_limit, (u64)ap->gdt_limit);
    answer("TSC behind the other CPU's", compare_tscs(ap));
    lapic_write(LAPIC_ICR_HIGH, 1 << 24);
    lapic_write(LAPIC_ICR_LOW, ICR_INIT); /* and there it waits */
    delay(40000);
}
