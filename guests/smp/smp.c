/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* Uses all its CPUs as mode=NAME tells:
 *   up     starts them (start=all: by broadcast) and ends
 *   ipi    count=N interprocessor interrupts of every kind (or only=KIND; nmis=off: but NMIs), each
 *          acknowledged
 *   masked sends interrupts to all rounds=N times while these are off
 *   spin   handovers=N of a lock that passes round, work=N loops for each
 *   burn   counts loops on every CPU for ever, and prints the count every window=MS
 *   halt   halts all, interrupts=on or off, for ever
 *   clock  compares timers and ticks for ms=N, and before and behind that stamps=N TSCs
 *   tlb    rounds=N of TLB shoot-downs
 * The last line is `smp PASS mode=NAME`, or `smp FAIL` with what was wrong. */
#include "smp/smp.h"

#define AP_BASE          0x8000
#define CPUID_HYPERVISOR 0x40000000
#define CPUID_TIMING     0x40000010
#define FALLBACK_KHZ     1000000
#define START_DELAY      1000000 /* TSC ticks between INIT and SIPI */
#define PATIENCE_SECONDS 60
#define MSR_GS_BASE      0xC0000101
#define MADT_ENTRIES     44
#define MADT_LAPIC       0
#define MADT_ENABLED     1

extern char ap_start[], ap_end[];
extern volatile u32 ap_count;
extern char ap_stacks[];
_Noreturn void ap_main(void);

struct cpu cpus[CPUS_MAX];
/* All but the first CPU's, whose stack is start.asm's. */
char ap_stacks[(CPUS_MAX - 1) * STACK_SIZE] __attribute__((aligned(64)));
u32 cpu_count = 1;
u64 tsc_khz;

static void (*volatile current_job)(struct cpu *cpu);
static volatile u32 generation; /* of current_job */
static volatile u32 done;
static volatile u32 failing;

_Noreturn void fail(const char *what, u64 got, u64 expected)
{
    interrupts_off();
    if (__atomic_exchange_n(&failing, 1, __ATOMIC_SEQ_CST) == 0) {
        guest_print("smp FAIL %s is %u, not %u\n", what, got, expected);
        guest_exit(1);
    }
    for (;;)
        __asm__ volatile("cli; hlt");
}

void check_patience(const char *what, u64 since)
{
    if (rdtsc() - since > PATIENCE_SECONDS * 1000 * tsc_khz)
        fail(what, 0, 1);
}

/* ---- jobs ---- */
static void on_wake(struct interrupt_frame *frame)
{
    (void)frame;
    apic_eoi();
}

static void idle_until(u32 wanted)
{
    interrupts_off();
    while (generation != wanted) {
        wait_for_interrupt(); /* STI takes effect behind HLT: no wake-up falls in between */
        interrupts_off();
    }
}

static _Noreturn void work_for_ever(struct cpu *cpu)
{
    for (u32 next = 1;; next++) {
        idle_until(next);
        interrupts_on();
        current_job(cpu);
        interrupts_off();
        __atomic_add_fetch(&done, 1, __ATOMIC_SEQ_CST);
    }
}

void start_on_all(void (*job)(struct cpu *cpu))
{
    done = 0;
    current_job = job;
    __atomic_add_fetch(&generation, 1, __ATOMIC_SEQ_CST);
    if (cpu_count > 1)
        apic_send(0, ICR_OTHERS | VECTOR_WAKE);
    interrupts_on();
    job(&cpus[0]);
    interrupts_off();
}

void run_on_all(void (*job)(struct cpu *cpu))
{
    u64 start;

    start_on_all(job);
    start = rdtsc();
    interrupts_on();
    while (done != cpu_count - 1) {
        pause();
        check_patience("CPUs that finished", start);
    }
    interrupts_off();
}

/* ---- start ---- */
/* Logical x2APIC IDs follow from APIC IDs, so these, without gaps, are the CPUs' numbers. */
static struct cpu *set_up_cpu(void)
{
    u32 id = cpuid(1, 0).ebx >> 24;
    struct cpu *cpu = &cpus[id];

    cpu->self = cpu;
    cpu->index = cpu->apic_id = id;
    wrmsr(MSR_GS_BASE, (u64)cpu);
    apic_enable(cpu);
    return cpu;
}

_Noreturn void ap_main(void)
{
    struct cpu *cpu;

    guest_load_idt();
    cpu = set_up_cpu();
    __atomic_add_fetch(&done, 1, __ATOMIC_SEQ_CST);
    work_for_ever(cpu);
}

static void delay(u64 ticks)
{
    u64 start = rdtsc();

    while (rdtsc() - start < ticks)
        pause();
}

static void start_one(u32 apic_id, u32 shorthand)
{
    apic_send(apic_id, shorthand | ICR_INIT | ICR_ASSERT);
    delay(START_DELAY);
    for (int i = 0; i < 2; i++) { /* the second one finds nobody that waits */
        apic_send(apic_id, shorthand | ICR_STARTUP | ICR_ASSERT | AP_BASE >> 12);
        delay(START_DELAY / 10);
    }
}

/* Calls `each` for every other CPU of the MADT; returns how many there are. */
static u32 for_each_other(const u8 *madt, void (*each)(u32 apic_id, u32 shorthand))
{
    u32 length = *(const u32 *)(madt + 4), count = 0;

    for (u32 at = MADT_ENTRIES; at + 1 < length; at += madt[at + 1]) {
        if (madt[at] != MADT_LAPIC || !(madt[at + 4] & MADT_ENABLED) ||
            madt[at + 3] == cpus[0].apic_id)
            continue;
        count++;
        if (each)
            each(madt[at + 3], 0);
    }
    return count;
}

static void start_others(void)
{
    struct acpi acpi;
    u32 others;
    u64 start = rdtsc();

    if (!acpi_find(&acpi))
        fail("ACPI tables", 0, 1);
    for (char *from = ap_start, *to = (char *)AP_BASE; from < ap_end;)
        *(volatile char *)to++ = *from++;
    done = 0;
    others = for_each_other(acpi.madt, NULL);
    if (others && guest_option_is("start", "all"))
        start_one(0, ICR_OTHERS);
    else
        for_each_other(acpi.madt, start_one);
    while (done != others) {
        pause();
        check_patience("CPUs that started", start);
    }
    if (ap_count != others) /* a second SIPI has started one anew */
        fail("starts of CPUs", ap_count, others);
    for (u32 i = 0; i <= others; i++)
        if (cpus[i].apic_id != i || !cpus[i].self)
            fail("APIC ID of a CPU", cpus[i].apic_id, i);
    cpu_count = 1 + others;
}

static void find_tsc_rate(void)
{
    struct cpuid names = cpuid(CPUID_HYPERVISOR, 0);

    tsc_khz = FALLBACK_KHZ;
    if (names.eax >= CPUID_TIMING && cpuid(CPUID_TIMING, 0).eax)
        tsc_khz = cpuid(CPUID_TIMING, 0).eax;
}

static void mode_up(void)
{
}

static const struct {
    const char *name;
    void (*run)(void);
} modes[] = {
    {"up",     mode_up    },
    {"ipi",    mode_ipi   },
    {"masked", mode_masked},
    {"eoi",    mode_eoi   },
    {"spin",   mode_spin  },
    {"burn",   mode_burn  },
    {"halt",   mode_halt  },
    {"clock",  mode_clock },
    {"tlb",    mode_tlb   },
};

void guest_main(const struct multiboot_info *info)
{
    guest_init(info);
    pic_init();
    find_tsc_rate();
    set_up_cpu();
    guest_set_handler(VECTOR_WAKE, on_wake);
    start_others();
    guest_print("smp: cpus=%u tsc_khz=%u\n", (u64)cpu_count, tsc_khz);
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        if (!guest_option_is("mode", modes[i].name))
            continue;
        modes[i].run();
        guest_print("smp PASS mode=%s\n", modes[i].name);
        guest_exit(0);
    }
    fail("mode", 0, ARRAY_SIZE(modes));
}
