/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* Fills the CPU's state with a pattern of its own (command line: seed=N), spins for longer than
 * a time slice and checks that the pattern still stands: rounds=N times, spin=N loops each.
 * Before that it checks that it was given a CPU in reset state and memory of zeros; bare=1 leaves
 * that out, for a machine whose firmware was there before. With lapic=x2apic or lapic=off it looks
 * for memory where the local APIC was, too. */
#include "lib/guest.h"

#define AREA_SIZE      16384
#define XSTATE_HEADER  512
#define X87_REGISTERS  32
#define XMM_REGISTERS  160
#define FXSAVE_MXCSR   24
#define MXCSR_RESET    0x1F80
#define FCW_RESET      0x0040
#define FCW_INIT       0x037F
#define DR6_RESET      0xFFFF0FF0
#define DR7_RESET      0x400
#define PAT_RESET      0x0007040600070406
#define CR4_OSFXSR     (3 << 9) /* and OSXMMEXCPT */
#define CR4_OSXSAVE    (1 << 18)
#define CPUID1_XSAVE   (1u << 26)
#define CANONICAL      0x00007FFFFFFFFFFF
#define XCR0_MANAGED   0xE7 /* x87, SSE, AVX, AVX-512 */
#define FIRST_EXTENDED 2
#define ALL_ONES       0xFFFFFFFF

#define MSR_APIC_BASE    0x1B
#define APIC_BASE_X2APIC (1 << 10)
#define APIC_BASE_ENABLE (1 << 11)

#define MSR_KERNEL_GS_BASE 0xC0000102
#define MSR_TSC_AUX        0xC0000103
#define MSR_PAT            0x277

/* A register that holds any value of `mask`, beside the constant bits `base`. PAT holds memory
 * types 4 to 7 but in its first entry, write-back, which is the one that the guest's own mappings
 * use. */
struct msr {
    const char *name;
    u32 number;
    u64 mask, base, reset;
};

static const struct msr msrs[] = {
    {"STAR",           0xC0000081,         ~0ULL,              0,                  0        },
    {"LSTAR",          0xC0000082,         CANONICAL,          0,                  0        },
    {"CSTAR",          0xC0000083,         CANONICAL,          0,                  0        },
    {"FMASK",          0xC0000084,         0xFFFFFFFF,         0,                  0        },
    {"FS_BASE",        0xC0000100,         CANONICAL,          0,                  0        },
    {"GS_BASE",        0xC0000101,         CANONICAL,          0,                  0        },
    {"KERNEL_GS_BASE", MSR_KERNEL_GS_BASE, CANONICAL,          0,                  0        },
    {"TSC_AUX",        MSR_TSC_AUX,        0xFFFFFFFF,         0,                  0        },
    {"SYSENTER_CS",    0x174,              0xFFFF,             0,                  0        },
    {"SYSENTER_ESP",   0x175,              CANONICAL,          0,                  0        },
    {"SYSENTER_EIP",   0x176,              CANONICAL,          0,                  0        },
    {"PAT",            MSR_PAT,            0x0303030303030300, 0x0404040404040406, PAT_RESET},
};

static u8 area[2][AREA_SIZE] __attribute__((aligned(64)));
static u64 xcr0; /* 0: no XSAVE, FXSAVE is used */
static u64 failures;

static void fail(const char *what, u64 got, u64 expected)
{
    guest_print("isolation: %s is %x, not %x\n", what, got, expected);
    failures++;
}

static void expect(const char *what, u64 got, u64 expected)
{
    if (got != expected)
        fail(what, got, expected);
}

static u64 scramble(u64 x)
{
    x = (x + 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9;
    x = (x ^ x >> 27) * 0x94D049BB133111EB;
    return x ^ x >> 31;
}

/* ---- the vector state ---- */
static void vector_state_on(void)
{
    write_cr4(read_cr4() | CR4_OSFXSR);
    if (!(cpuid(1, 0).ecx & CPUID1_XSAVE))
        return;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    xcr0 = cpuid(0xD, 0).eax & XCR0_MANAGED;
    __asm__ volatile("xsetbv" : : "c"(0), "a"((u32)xcr0), "d"(0));
}

static void vector_save(u8 *to)
{
    if (xcr0)
        __asm__ volatile("xsave64 (%0)" : : "r"(to), "a"((u32)xcr0), "d"(0) : "memory");
    else
        __asm__ volatile("fxsave64 (%0)" : : "r"(to) : "memory");
}

static void vector_load(const u8 *from)
{
    if (xcr0)
        __asm__ volatile("xrstor64 (%0)" : : "r"(from), "a"((u32)xcr0), "d"(0) : "memory");
    else
        __asm__ volatile("fxrstor64 (%0)" : : "r"(from) : "memory");
}

/* Calls `each` for every run of bytes that holds registers. */
static void for_each_vector_run(void (*each)(const char *name, u32 offset, u32 size, u64 seed),
                                u64 seed)
{
    for (u32 i = 0; i < 8; i++)
        each("x87", X87_REGISTERS + 16 * i, 10, seed + i);
    each("XMM", XMM_REGISTERS, 16 * 16, seed + 8);
    for (u32 i = FIRST_EXTENDED; i < 64; i++) {
        struct cpuid component = cpuid(0xD, i);
        if (xcr0 & 1ULL << i)
            each("extended state", component.ebx, component.eax, seed + 8 + i);
    }
}

static void fill_run(const char *name, u32 offset, u32 size, u64 seed)
{
    (void)name;
    for (u32 i = 0; i < size; i++)
        area[0][offset + i] = (u8)scramble(seed * 4096 + i);
}

static void check_run(const char *name, u32 offset, u32 size, u64 seed)
{
    for (u32 i = 0; i < size; i++)
        if (area[1][offset + i] != (u8)scramble(seed * 4096 + i)) {
            guest_print("isolation: %s, byte %u\n", name, (u64)offset + i);
            fail("it", area[1][offset + i], (u8)scramble(seed * 4096 + i));
            return;
        }
}

static void check_run_zero(const char *name, u32 offset, u32 size, u64 seed)
{
    (void)seed;
    for (u32 i = 0; i < size; i++)
        if (area[0][offset + i]) {
            guest_print("isolation: %s, byte %u\n", name, (u64)offset + i);
            fail("at reset it", area[0][offset + i], 0);
            return;
        }
}

static void load_vector_pattern(u64 seed)
{
    vector_save(area[0]);
    for_each_vector_run(fill_run, seed);
    *(u16 *)area[0] = FCW_INIT;
    area[0][4] = 0xFF; /* abridged tag word: all registers hold something */
    *(u32 *)(area[0] + FXSAVE_MXCSR) = MXCSR_RESET | (seed & 0x3F);
    if (xcr0)
        *(u64 *)(area[0] + XSTATE_HEADER) = xcr0;
    vector_load(area[0]);
}

static void check_vector_pattern(u64 seed)
{
    vector_save(area[1]);
    for_each_vector_run(check_run, seed);
    expect("MXCSR", *(u32 *)(area[1] + FXSAVE_MXCSR), MXCSR_RESET | (seed & 0x3F));
}

/* ---- debug registers, CR2, CR8 and MSRs ---- */
static u64 msr_pattern(const struct msr *msr, u64 seed)
{
    return (scramble(seed + msr->number) & msr->mask) | msr->base;
}

/* No breakpoint is enabled, but their lengths are a pattern too: data writes of 1 to 8 bytes. */
static u64 dr7_pattern(u64 seed)
{
    return DR7_RESET | 0x11110000 | (scramble(seed) & 0xCCCC0000);
}

static void load_register_pattern(u64 seed)
{
    write_dr0(scramble(seed) & CANONICAL);
    write_dr1(scramble(seed + 1) & CANONICAL);
    write_dr2(scramble(seed + 2) & CANONICAL);
    write_dr3(scramble(seed + 3) & CANONICAL);
    write_dr6(DR6_RESET | (seed & 0xF));
    write_dr7(dr7_pattern(seed));
    write_cr2(scramble(seed + 4));
    write_cr8(scramble(seed + 5) & 0xF);
    for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
        wrmsr(msrs[i].number, msr_pattern(&msrs[i], seed));
}

static void check_register_pattern(u64 seed)
{
    expect("DR0", read_dr0(), scramble(seed) & CANONICAL);
    expect("DR1", read_dr1(), scramble(seed + 1) & CANONICAL);
    expect("DR2", read_dr2(), scramble(seed + 2) & CANONICAL);
    expect("DR3", read_dr3(), scramble(seed + 3) & CANONICAL);
    expect("DR6", read_dr6(), DR6_RESET | (seed & 0xF));
    expect("DR7", read_dr7(), dr7_pattern(seed));
    expect("CR2", read_cr2(), scramble(seed + 4));
    expect("CR8", read_cr8(), scramble(seed + 5) & 0xF);
    for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
        expect(msrs[i].name, rdmsr(msrs[i].number), msr_pattern(&msrs[i], seed));
}

/* ---- the page of a local APIC that is not there: no memory to meet others in ---- */
static void hide_lapic(void)
{
    u64 base = rdmsr(MSR_APIC_BASE);

    if (guest_option_is("lapic", "x2apic"))
        wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
    else if (guest_option_is("lapic", "off"))
        wrmsr(MSR_APIC_BASE, base & ~(u64)APIC_BASE_ENABLE);
}

static void write_lapic_page(u64 seed)
{
    for (u32 at = 0; at < 4096 && guest_option("lapic"); at += 512)
        mmio_write(LAPIC_BASE + at, (u32)scramble(seed + at) >> 1);
}

static void check_lapic_page(void)
{
    for (u32 at = 0; at < 4096 && guest_option("lapic"); at += 512)
        expect("LAPIC's page", mmio_read(LAPIC_BASE + at), ALL_ONES);
}

/* ---- what was there before ---- */
static void check_reset_state(void)
{
    vector_save(area[0]);
    for_each_vector_run(check_run_zero, 0);
    expect("MXCSR at reset", *(u32 *)(area[0] + FXSAVE_MXCSR), MXCSR_RESET);
    if (*(u16 *)area[0] != FCW_INIT)
        expect("FCW at reset", *(u16 *)area[0], FCW_RESET);
    expect("DR0 at reset", read_dr0(), 0);
    expect("DR1 at reset", read_dr1(), 0);
    expect("DR2 at reset", read_dr2(), 0);
    expect("DR3 at reset", read_dr3(), 0);
    expect("DR6 at reset", read_dr6(), DR6_RESET);
    expect("DR7 at reset", read_dr7(), DR7_RESET);
    expect("CR2 at reset", read_cr2(), 0);
    expect("CR8 at reset", read_cr8(), 0);
    for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
        if (rdmsr(msrs[i].number) != msrs[i].reset)
            fail(msrs[i].name, rdmsr(msrs[i].number), msrs[i].reset);
}

static u64 larger(u64 a, u64 b)
{
    return a > b ? a : b;
}

/* One word of every page behind the image and what the loader put there: must be zero, and is
 * left with something for a next owner to find. */
static void check_memory(const struct multiboot_info *info)
{
    u64 start = larger((u64)guest_end, (u64)info + sizeof(*info));
    u64 end = (u64)info->mem_upper * 1024 + 0x100000;
    u64 pages = 0;

    start = larger(start, (u64)info->cmdline + 4096);
    start = larger(start, (u64)info->mmap_addr + info->mmap_length);
    for (u64 page = (start + 4095) & ~4095ULL; page + 4096 <= end; page += 4096, pages++) {
        volatile u64 *word = (volatile u64 *)(page + (scramble(page) & 0xFF8));
        if (*word) {
            guest_print("isolation: memory at %x\n", (u64)word);
            fail("it", *word, 0);
            return;
        }
        *word = page;
    }
    guest_print("isolation: %u pages were zero\n", pages);
}

static void spin(u64 loops)
{
    while (loops--)
        __asm__ volatile("" : : : "memory");
}

void guest_main(const struct multiboot_info *info)
{
    guest_init(info); /* general registers only: leaves what is checked as it was */
    vector_state_on();
    u64 rounds = guest_option_number("rounds", 40);
    u64 loops = guest_option_number("spin", 1000000);
    u64 seed = scramble(guest_option_number("seed", 1));

    guest_print("isolation: seed %x, XCR0 %x\n", seed, xcr0);
    if (!guest_option("bare")) {
        check_reset_state();
        check_memory(info);
    }
    hide_lapic();
    for (u64 round = 0; round < rounds && !failures; round++) {
        write_lapic_page(seed + round * 64);
        load_register_pattern(seed + round * 64);
        load_vector_pattern(seed + round * 64);
        spin(loops);
        check_vector_pattern(seed + round * 64);
        check_register_pattern(seed + round * 64);
        check_lapic_page();
    }
    guest_print(failures ? "isolation FAIL failures=%u\n" : "isolation PASS rounds=%u\n",
                failures ? failures : rounds);
    guest_exit(failures != 0);
}
