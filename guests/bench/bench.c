/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Counts what operations cost that may leave the guest, in ticks of the TSC: instructions, where
 * an emulator's TSC counts them. Each line is
 *     bench NAME: MINIMUM MEDIAN MAXIMUM
 * of 64 batches of 16 operations one after the other, for one operation, without the clock's own
 * cost. Needs 16 MiB; a second vCPU on the same physical CPU for the last rows. */
#include "lib/guest.h"

#define BATCHES       64
#define BATCH         16
#define REPEAT4(...)  __VA_ARGS__ __VA_ARGS__ __VA_ARGS__ __VA_ARGS__
#define REPEAT16(...) REPEAT4(REPEAT4(__VA_ARGS__))

#define MSR_APIC_BASE    0x1B
#define MSR_TSC_ADJUST   0x3B
#define MSR_TSC_DEADLINE 0x6E0
#define MSR_X2APIC_ID    0x802
#define MSR_X2APIC_EOI   0x80B
#define MSR_X2APIC_SVR   0x80F
#define MSR_X2APIC_ICR   0x830
#define MSR_X2APIC_TIMER 0x832
#define MSR_X2APIC_SELF  0x83F
#define APIC_BASE_X2APIC (1 << 10)
#define SVR_ENABLE       0x1FF
#define LVT_DEADLINE     (2 << 17)
#define ICR_SELF         0x40000
#define ICR_INIT_OTHERS  0xC4500
#define ICR_SIPI_OTHERS  0xC4600
#define CPUID1_X2APIC    (1U << 21)
#define CR0_WP           (1UL << 16)
#define CR4_PGE          (1UL << 7)
#define PORT_PIC_MASK    0x21
#define PORT_POST        0x80
#define PORT_UNCLAIMED   0x2A0
#define IOAPIC_SELECT    0xFEC00000UL
#define IOAPIC_WINDOW    0xFEC00010UL
#define IOAPIC_VERSION   1
#define FRESH_MEMORY     0x800000UL
#define PAGE_SIZE        4096
#define STRING_SIZE      1024
#define AP_BASE          0x8000UL
#define VENDOR_AMD       0x68747541 /* EBX of leaf 0 */
#define HALT_TICKS       20000
#define AP_PATIENCE      100000

/* bench.asm has them too. */
enum {
    VECTOR_TEST = 0x51,
    VECTOR_IPI = 0x52,
};

struct gate {
    u16 offset_low, selector;
    u8 ist, type;
    u16 offset_middle;
    u32 offset_high, reserved;
};

struct table_pointer {
    u16 limit;
    u64 base;
} __attribute__((packed));

extern char bench_handler[], bench_reply_handler[], ap_start[], ap_end[];
extern volatile u64 bench_interrupts, ap_up;
extern struct table_pointer ap_idt;
void ap_main(void);

static u64 clock_cost; /* of a batch without operations */
static bool amd;
static volatile u64 ap_id;
static u8 *fresh = (u8 *)FRESH_MEMORY;

/* ---- operations: a batch each, which returns what it took ---------------------------------- */

#define DEFINE_BATCH(name, ...)                                                                    \
    static u64 name(void)                                                                          \
    {                                                                                              \
        u64 start = rdtsc();                                                                       \
        REPEAT16(__VA_ARGS__)                                                                      \
        return rdtsc() - start;                                                                    \
    }

DEFINE_BATCH(nothing, )
DEFINE_BATCH(nops, __asm__ volatile(".rept 1000; nop; .endr");)
DEFINE_BATCH(cpuid_vendor, cpuid(0, 0);)
DEFINE_BATCH(cpuid_features, cpuid(1, 0);)
DEFINE_BATCH(vmcall, __asm__ volatile("vmcall" : : "a"(0) : "memory");)
DEFINE_BATCH(vmmcall, __asm__ volatile("vmmcall" : : "a"(0) : "memory");)
DEFINE_BATCH(rdmsr_tsc_adjust, rdmsr(MSR_TSC_ADJUST);)
DEFINE_BATCH(port_pic, inb(PORT_PIC_MASK);)
DEFINE_BATCH(port_pit, inb(0x40);)
DEFINE_BATCH(port_uart_status, inb(COM1 + UART_LSR);)
DEFINE_BATCH(port_unclaimed, inb(PORT_UNCLAIMED);)
DEFINE_BATCH(ioapic, mmio_write(IOAPIC_SELECT, IOAPIC_VERSION); mmio_read(IOAPIC_WINDOW);)
DEFINE_BATCH(eoi, wrmsr(MSR_X2APIC_EOI, 0);)
DEFINE_BATCH(self_ipi, wrmsr(MSR_X2APIC_SELF, VECTOR_TEST);)
DEFINE_BATCH(icr_self, wrmsr(MSR_X2APIC_ICR, ICR_SELF | VECTOR_TEST);)
DEFINE_BATCH(deadline_due, wrmsr(MSR_TSC_DEADLINE, 1);)
DEFINE_BATCH(deadline_moved, wrmsr(MSR_TSC_DEADLINE, start + (1UL << 40));)
DEFINE_BATCH(cr0_wp, write_cr0(read_cr0() ^ CR0_WP); write_cr0(read_cr0() ^ CR0_WP);)
DEFINE_BATCH(cr4_pge, write_cr4(read_cr4() ^ CR4_PGE); write_cr4(read_cr4() ^ CR4_PGE);)
DEFINE_BATCH(cr8, write_cr8(0);)
DEFINE_BATCH(page_tables, write_cr3(read_cr3());)

static u64 first_touch(void)
{
    u64 start = rdtsc();

    for (u32 i = 0; i < BATCH; i++, fresh += PAGE_SIZE)
        *(volatile u8 *)fresh = 1;
    return rdtsc() - start;
}

/* From when the timer was due to behind its handler. */
static u64 halt_wakeup(void)
{
    u64 sum = 0;

    for (u32 i = 0; i < BATCH; i++) {
        u64 due = rdtsc() + HALT_TICKS;

        interrupts_off();
        wrmsr(MSR_TSC_DEADLINE, due);
        wait_for_interrupt();
        sum += rdtsc() - due;
    }
    return sum + clock_cost;
}

/* The same with other exits all the time in between. */
static u64 busy_wakeup(void)
{
    u64 sum = 0;

    for (u32 i = 0; i < BATCH; i++) {
        u64 before = bench_interrupts, due = rdtsc() + HALT_TICKS;

        wrmsr(MSR_TSC_DEADLINE, due);
        while (bench_interrupts == before)
            cpuid(0, 0);
        sum += rdtsc() - due;
    }
    return sum + clock_cost;
}

static u64 string_output(void)
{
    u64 start = rdtsc();

    for (u32 i = 0; i < BATCH; i++) {
        const void *from = (const void *)FRESH_MEMORY;
        u64 count = STRING_SIZE;

        __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(PORT_POST) : "memory");
    }
    return rdtsc() - start;
}

/* There and back again is two. */
static u64 ipi(void)
{
    u64 start = rdtsc();

    for (u32 i = 0; i < BATCH / 2; i++) {
        u64 before = bench_interrupts;

        interrupts_off();
        wrmsr(MSR_X2APIC_ICR, ap_id << 32 | VECTOR_IPI);
        while (bench_interrupts == before) {
            wait_for_interrupt();
            interrupts_off();
        }
    }
    interrupts_on();
    return rdtsc() - start;
}

static const struct row {
    const char *name;
    u64 (*batch)(void);
    u32 interrupts; /* that must come in a batch */
} rows[] = {
    {"nothing",                      nothing,          0    },
    {"1000 NOPs",                    nops,             0    },
    {"CPUID 0",                      cpuid_vendor,     0    },
    {"CPUID 1",                      cpuid_features,   0    },
    {"hypercall",                    NULL,             0    },
    {"RDMSR TSC_ADJUST",             rdmsr_tsc_adjust, 0    },
    {"port read, PIC",               port_pic,         0    },
    {"port read, PIT",               port_pit,         0    },
    {"port read, UART status",       port_uart_status, 0    },
    {"port read, unclaimed",         port_unclaimed,   0    },
    {"IOAPIC select and read",       ioapic,           0    },
    {"EOI, x2APIC",                  eoi,              0    },
    {"self-IPI by SELF_IPI, x2APIC", self_ipi,         BATCH},
    {"self-IPI by ICR, x2APIC",      icr_self,         BATCH},
    {"TSC deadline, moved",          deadline_moved,   0    },
    {"TSC deadline, due at once",    deadline_due,     BATCH},
    {"HLT to timer's handler",       halt_wakeup,      BATCH},
    {"CPUIDs to timer's handler",    busy_wakeup,      BATCH},
    {"CR0.WP toggled twice",         cr0_wp,           0    },
    {"CR4.PGE toggled twice",        cr4_pge,          0    },
    {"MOV to CR8",                   cr8,              0    },
    {"MOV to CR3",                   page_tables,      0    },
    {"first touch of a page",        first_touch,      0    },
    {"1 KiB by REP OUTSB",           string_output,    0    },
};

/* ---- measuring ----------------------------------------------------------------------------- */

static u64 each(u64 ticks)
{
    return ticks > clock_cost ? (ticks - clock_cost + BATCH / 2) / BATCH : 0;
}

/* Where a debugger of Bochs's may begin to trace. */
static void magic_break(void)
{
    __asm__ volatile("xchg %bx, %bx");
}

static void measure(const char *name, u64 (*batch)(void), u32 interrupts)
{
    static u64 row;
    u64 ticks[BATCHES], before = bench_interrupts;

    row++;
    for (u32 i = 0; i < BATCHES; i++) {
        if (i == BATCHES / 2 && row == guest_option_number("trace", 0))
            magic_break();
        ticks[i] = batch();
    }
    guest_sort(ticks, BATCHES);
    if (bench_interrupts - before != (u64)interrupts * BATCHES)
        guest_print("FAIL %s: %u interrupts came\n", name, bench_interrupts - before);
    guest_print("bench %s: %u %u %u\n", name, each(ticks[0]), each(ticks[BATCHES / 2]),
                each(ticks[BATCHES - 1]));
}

static void set_gate(struct gate *gate, const char *handler)
{
    u64 address = (u64)handler;

    gate->offset_low = (u16)address;
    gate->offset_middle = (u16)(address >> 16);
    gate->offset_high = (u32)(address >> 32);
}

static bool prepare_apic(void)
{
    struct gate *gates;

    if (!(cpuid(1, 0).ecx & CPUID1_X2APIC))
        return false;
    __asm__ volatile("sidt %0" : "=m"(ap_idt));
    gates = (struct gate *)ap_idt.base;
    set_gate(&gates[VECTOR_TEST], bench_handler);
    set_gate(&gates[VECTOR_IPI], bench_reply_handler);
    pic_init();
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2APIC);
    wrmsr(MSR_X2APIC_SVR, SVR_ENABLE);
    wrmsr(MSR_X2APIC_TIMER, LVT_DEADLINE | VECTOR_TEST);
    interrupts_on();
    return true;
}

/* ---- the second CPU ------------------------------------------------------------------------ */

void ap_main(void)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2APIC);
    wrmsr(MSR_X2APIC_SVR, SVR_ENABLE);
    ap_id = rdmsr(MSR_X2APIC_ID);
    ap_up = 1;
    for (;;)
        wait_for_interrupt();
}

static bool start_ap(void)
{
    u8 *to = (u8 *)AP_BASE;

    for (const char *from = ap_start; from < ap_end; from++)
        *to++ = (u8)*from;
    wrmsr(MSR_X2APIC_ICR, ICR_INIT_OTHERS);
    wrmsr(MSR_X2APIC_ICR, ICR_SIPI_OTHERS | AP_BASE / PAGE_SIZE);
    for (u32 i = 0; i < AP_PATIENCE && !ap_up; i++)
        inb(PORT_UNCLAIMED);
    return ap_up;
}

void guest_main(const struct multiboot_info *info)
{
    guest_init(info);
    amd = cpuid(0, 0).ebx == VENDOR_AMD;
    if (!prepare_apic()) {
        guest_print("bench FAIL: no x2APIC\n");
        guest_exit(1);
    }
    nothing();
    clock_cost = nothing();
    for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
        measure(rows[i].name,
                rows[i].batch ? rows[i].batch
                : amd         ? vmmcall
                              : vmcall,
                rows[i].interrupts);
    if (start_ap())
        measure("IPI to another vCPU and its switch", ipi, BATCH / 2);
    guest_print("bench done\n");
    guest_exit(0);
}
