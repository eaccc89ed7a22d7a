/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* CPUID, MSRs, control registers, instructions that a guest may not have. */
#include "arch/arch.h"

#define MSR_TSC        0x10
#define MSR_APIC_BASE  0x1B
#define MSR_TSC_ADJUST 0x3B
#define MSR_PAT        0x277
#define MSR_EFER       0xC0000080
#define PAT_RESET      0x0007040600070406ULL
#define CR4_PAE        (1ULL << 5)
#define CR4_OSFXSR     (1ULL << 9)
#define CR4_OSXSAVE    (1ULL << 18)
#define LEAF_OUTSIDE   0x3FFFFFFF

static void answer_leaf(const char *name, u32 leaf, u32 subleaf)
{
    struct cpuid r = cpuid(leaf, subleaf);

    guest_print("%s: %x %x %x %x\n", name, (u64)r.eax, (u64)r.ebx, (u64)r.ecx, (u64)r.edx);
}

void ask_cpuid(void)
{
    struct cpuid one = cpuid(1, 0);
    u64 cr4 = read_cr4();

    answer_leaf("hypervisor leaf", 0x40000000, 0);
    answer("highest of its leaves", cpuid(0x40000000, 0).eax);
    answer("APIC timer, kHz", cpuid(0x40000010, 0).ebx);
    answer_leaf("leaf 40000001", 0x40000001, 0);
    answer_leaf("leaf outside", LEAF_OUTSIDE, 0);
    answer("APIC ID", one.ebx >> 24);
    answer("logical CPUs", one.ebx >> 16 & 0xFF);
    /* MONITOR, VMX, SMX, TM2, PDCM, x2APIC, TSC deadline, hypervisor; CMPXCHG16B, PCID no more. */
    answer("leaf 1 ECX, a hypervisor's bits", one.ecx & 0x812081E8U);
    /* All of the baseline but VME, which TCG lacks. */
    answer("leaf 1 EDX, a hypervisor's bits", one.edx & 0x7078BBFDU);
    answer("SVM", cpuid(0x80000001, 0).ecx >> 2 & 1);
    answer_leaf("topology 0", 0xB, 0);
    answer_leaf("topology 1", 0xB, 1);
    answer_leaf("topology 2", 0xB, 2);
    answer("TSC_ADJUST", cpuid(7, 0).ebx >> 1 & 1);
    write_cr4(cr4 & ~CR4_OSXSAVE);
    answer("OSXSAVE, off", cpuid(1, 0).ecx >> 27 & 1);
    write_cr4(cr4 | CR4_OSXSAVE);
    answer("OSXSAVE, on", cpuid(1, 0).ecx >> 27 & 1);
    answer("XSAVE area, x87", cpuid(0xD, 0).ebx);
    write_cr4(cr4);
    __asm__ volatile("cpuid"
                     : "=a"(one.eax), "=b"(one.ebx), "=c"(one.ecx), "=d"(one.edx)
                     : "a"(0xFFFFFFFF40000000), "c"(0));
    answer("CPUID with a high half", one.eax);
}

static u64 read_msr(u32 msr)
{
    u64 low = 0, high = 0;

    __asm__ volatile(GUARDED("rdmsr") : "+a"(low), "+d"(high) : "c"(msr) : GUARD);
    return low | high << 32;
}

static void write_msr(u32 msr, u64 value)
{
    __asm__ volatile(GUARDED("wrmsr") : : "c"(msr), "a"((u32)value), "d"(value >> 32) : GUARD);
}

static void ask_read(const char *name, u32 msr)
{
    u64 value = read_msr(msr);

    if (trap.vector == NO_TRAP)
        answer(name, value);
    else
        answer_trap(name);
}

static void ask_write(const char *name, u32 msr, u64 value)
{
    u64 old = read_msr(msr);

    write_msr(msr, value);
    guest_print("write of %x to ", value);
    answer_trap(name);
    answer(name, read_msr(msr));
    write_msr(msr, old);
}

static const struct {
    const char *name;
    u32 msr;
} read_msrs[] = {
    {"APIC_BASE",       0x1B      },
    {"FEATURE_CONTROL", 0x3A      },
    {"TSC_ADJUST",      0x3B      },
    {"SPEC_CTRL",       0x48      },
    {"PRED_CMD",        0x49      },
    {"BIOS_SIGN_ID",    0x8B      },
    {"PMC0",            0xC1      },
    {"MTRRCAP",         0xFE      },
    {"SYSENTER_CS",     0x174     },
    {"SYSENTER_ESP",    0x175     },
    {"SYSENTER_EIP",    0x176     },
    {"MCG_CAP",         0x179     },
    {"MCG_STATUS",      0x17A     },
    {"MISC_ENABLE",     0x1A0     },
    {"DEBUGCTL",        0x1D9     },
    {"MTRR_PHYSBASE0",  0x200     },
    {"MTRR_PHYSMASK7",  0x20F     },
    {"MTRR_PHYSBASE8",  0x210     },
    {"MTRR_FIX64K",     0x250     },
    {"PAT",             0x277     },
    {"MC0_CTL",         0x400     },
    {"VMX_BASIC",       0x480     },
    {"TSC_DEADLINE",    0x6E0     },
    {"X2APIC_ID",       0x802     },
    {"MSR 4321h",       0x4321    },
    {"MSR 40000000h",   0x40000000},
    {"EFER",            0xC0000080},
    {"STAR",            0xC0000081},
    {"LSTAR",           0xC0000082},
    {"CSTAR",           0xC0000083},
    {"SFMASK",          0xC0000084},
    {"KERNEL_GS_BASE",  0xC0000102},
    {"TSC_AUX",         0xC0000103},
    {"TSC_RATIO",       0xC0000104},
    {"MSR C0001234h",   0xC0001234},
    {"HWCR",            0xC0010015},
    {"VM_CR",           0xC0010114},
    {"VM_HSAVE_PA",     0xC0010117},
    {"MSR C0011FFFh",   0xC0011FFF},
    {"MSR FFFFFFFFh",   0xFFFFFFFF},
};

static const struct {
    const char *name;
    u32 msr;
    u64 value;
} written_msrs[] = {
    {"PAT",             MSR_PAT,    PAT_RESET & ~0xFFULL   },
    {"PAT",             MSR_PAT,    2                      },
    {"PAT",             MSR_PAT,    3ULL << 56             },
    {"PAT",             MSR_PAT,    8                      },
    {"EFER",            MSR_EFER,   0x501                  },
    {"EFER",            MSR_EFER,   0x500 | 1 << 1         },
    {"EFER",            MSR_EFER,   0x500 | 1 << 12        },
    {"EFER",            MSR_EFER,   0x500 | 1 << 13        },
    {"EFER",            MSR_EFER,   0x500 | 1ULL << 63     },
    {"EFER",            MSR_EFER,   0x400                  }, /* LME off under paging */
    {"EFER",            MSR_EFER,   0x100                  }, /* LMA is not the guest's */
    {"APIC_BASE",       0x1B,       LAPIC_BASE | 0x901     },
    {"APIC_BASE",       0x1B,       LAPIC_BASE | 0x500     }, /* x2APIC without xAPIC */
    {"APIC_BASE",       0x1B,       LAPIC_BASE | 1ULL << 62},
    {"FEATURE_CONTROL", 0x3A,       5                      },
    {"MTRRCAP",         0xFE,       0                      },
    {"MTRR_PHYSBASE0",  0x200,      0x80000006             },
    {"MCG_CAP",         0x179,      0                      },
    {"DEBUGCTL",        0x1D9,      2                      },
    {"DEBUGCTL",        0x1D9,      0x40                   },
    {"SYSENTER_ESP",    0x175,      0x1234                 },
    {"LSTAR",           0xC0000082, 0xFFFF800000001234     },
    {"STAR",            0xC0000081, 0x0023001000000000     },
    {"KERNEL_GS_BASE",  0xC0000102, 0x7FFFFFFFF000         },
    {"TSC_AUX",         0xC0000103, 5                      },
    {"SPEC_CTRL",       0x48,       0                      },
    {"X2APIC_EOI",      0x80B,      0                      },
    {"MSR 4321h",       0x4321,     0                      },
    {"MSR C0001234h",   0xC0001234, 0                      },
    {"VM_CR",           0xC0010114, 0x10                   },
    {"VM_HSAVE_PA",     0xC0010117, 0x1000                 },
};

void ask_msrs(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(read_msrs); i++)
        ask_read(read_msrs[i].name, read_msrs[i].msr);
    for (size_t i = 0; i < ARRAY_SIZE(written_msrs); i++)
        ask_write(written_msrs[i].name, written_msrs[i].msr, written_msrs[i].value);
}

static u64 write_and_read_cr0(u64 value)
{
    u64 old = read_cr0();

    __asm__ volatile(GUARDED("movq %0, %%cr0") : : "r"(value) : GUARD);
    value = read_cr0();
    write_cr0(old);
    return value;
}

static u64 write_and_read_cr4(u64 value)
{
    u64 old = read_cr4();

    __asm__ volatile(GUARDED("movq %0, %%cr4") : : "r"(value) : GUARD);
    value = read_cr4();
    write_cr4(old);
    return value;
}

/* Bits to flip, one after another. QEMU's TCG refuses none of the last four of CR0, nor the last of
 * CR4: `unchecked=skip` leaves them out. */
static const u64 cr0_bits[] = {
    1 << 1,  1 << 2,     1 << 3,     1 << 4,  1 << 5, 1 << 6,     1 << 16,
    1 << 18, 1ULL << 30, 3ULL << 29, 1 << 28, 1 << 0, 1ULL << 29, 1ULL << 31,
};
static const u8 cr4_bits[] = {0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15, 19, 20, 21, 24, 63, 5};
#define CR0_UNCHECKED 4
#define CR4_UNCHECKED 1

static void ask_msw(void)
{
    u64 value;

    __asm__ volatile("smsw %0" : "=r"(value));
    answer("SMSW", value & 0xFFFF);
    __asm__ volatile("lmsw %w0" : : "r"(0xA) : "memory");
    answer("CR0 after LMSW of MP and TS", read_cr0());
    __asm__ volatile("lmsw %w0" : : "r"(0) : "memory");
    answer("CR0 after LMSW of 0", read_cr0());
}

void ask_control_registers(void)
{
    bool skip = guest_option_is("unchecked", "skip");

    answer("CR0", read_cr0());
    for (size_t i = 0; i < ARRAY_SIZE(cr0_bits) - (skip ? CR0_UNCHECKED : 0); i++) {
        u64 value = write_and_read_cr0(read_cr0() ^ cr0_bits[i]);
        guest_print("CR0 with %x flipped: %x, ", cr0_bits[i], value);
        answer_trap("write");
    }
    ask_msw();
    answer("CR4", read_cr4());
    for (size_t i = 0; i < ARRAY_SIZE(cr4_bits) - (skip ? CR4_UNCHECKED : 0); i++) {
        u64 value = write_and_read_cr4(read_cr4() ^ 1ULL << cr4_bits[i]);
        guest_print("CR4 with bit %u flipped: %x, ", (u64)cr4_bits[i], value);
        answer_trap("write");
    }
    ASK("CR1", "movq %%cr1, %%r14");
    ASK("CR5", "movq %%r14, %%cr5");
    write_cr8(9);
    answer("TPR after CR8 of 9", mmio_read(LAPIC_BASE + LAPIC_TPR));
    mmio_write(LAPIC_BASE + LAPIC_TPR, 0x5F);
    answer("CR8 after TPR of 5Fh", read_cr8());
    write_cr8(0);
    answer("TPR after CR8 of 0", mmio_read(LAPIC_BASE + LAPIC_TPR));
}

static u64 xgetbv(void)
{
    u32 low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low | (u64)high << 32;
}

static void ask_xsetbv(const char *name, u32 index, u64 value)
{
    ASK(name, "xsetbv", "c"(index), "a"((u32)value), "d"(value >> 32));
    answer("XCR0", xgetbv());
}

void ask_xcr0(void)
{
    u64 cr4 = read_cr4();

    write_cr4((cr4 | CR4_OSFXSR) & ~CR4_OSXSAVE);
    ASK("XSETBV without OSXSAVE", "xsetbv", "c"(0), "a"(1), "d"(0));
    ASK("XGETBV without OSXSAVE", "xgetbv; xorl %%eax, %%eax", "c"(0), "a"(1), "d"(0));
    write_cr4(cr4 | CR4_OSFXSR | CR4_OSXSAVE);
    answer("XCR0 at reset", xgetbv());
    ask_xsetbv("XCR0 of x87, SSE", 0, 3);
    ask_xsetbv("XCR0 of x87, SSE, AVX", 0, 7);
    ask_xsetbv("XCR0 without x87", 0, 2);
    ask_xsetbv("XCR0 with AVX, no SSE", 0, 5);
    ask_xsetbv("XCR0 with a bit too much", 0, 1ULL << 62 | 7);
    ask_xsetbv("XCR1", 1, 1);
    ask_xsetbv("XCR0 of x87", 0, 1);
    answer("XSAVE area, x87 and no more", cpuid(0xD, 0).ebx);
    ask_xsetbv("XCR0 of all", 0, 7);
    answer("XSAVE area, to AVX", cpuid(0xD, 0).ebx);
    ask_xsetbv("XCR0 back", 0, 1);
    write_cr4(cr4);
}

void ask_instructions(void)
{
    u64 page = TEST_RAM;

    ASK("vmxon", "vmxon (%0)", "r"(&page));
    ASK("vmxoff", "vmxoff");
    ASK("vmptrld", "vmptrld (%0)", "r"(&page));
    ASK("vmptrst", "vmptrst (%0)", "r"(&page));
    ASK("vmclear", "vmclear (%0)", "r"(&page));
    ASK("vmread", "vmread %0, %%r14", "r"(0L));
    ASK("vmwrite", "vmwrite %0, %0", "r"(0L));
    ASK("vmlaunch", "vmlaunch");
    ASK("vmresume", "vmresume");
    ASK("invept", "invept (%0), %0", "r"(&page));
    ASK("invvpid", "invvpid (%0), %0", "r"(&page));
    ASK("vmrun", "vmrun", "a"(page));
    ASK("vmload", "vmload", "a"(page));
    ASK("vmsave", "vmsave", "a"(page));
    ASK("stgi", "stgi");
    ASK("clgi", "clgi");
    ASK("skinit", ".byte 0x0F, 0x01, 0xDE", "a"(page));
    ASK("invlpga", ".byte 0x0F, 0x01, 0xDF", "a"(page), "c"(0));
    ASK("monitor", "monitor", "a"(page), "c"(0), "d"(0));
    ASK("mwait", "mwait", "a"(0), "c"(0));
    ASK("getsec", ".byte 0x0F, 0x37", "a"(0));
    ASK("rsm", "rsm");
    ASK("rdpmc", "rdpmc", "c"(0));
    ASK("rdpru", ".byte 0x0F, 0x01, 0xFD", "c"(0));
    ASK("encls", ".byte 0x0F, 0x01, 0xCF", "a"(0));
    ASK("wbinvd", "wbinvd");
    ASK("invd", "invd");
    ASK("invlpg", "invlpg (%0)", "r"(page));
    ASK("invlpg, non-canonical", "invlpg (%0)", "r"(0x800000000000));
    ASK("syscall without SCE", "syscall", "a"(0));
    ASK("pause", "pause");
}

#define LARGE 0x1000000000000

void ask_tsc(void)
{
    u64 before = rdtsc(), adjust;

    wrmsr(MSR_TSC, before + LARGE);
    adjust = rdmsr(MSR_TSC_ADJUST);
    answer("TSC moved", (rdtsc() - before) / LARGE);
    answer("TSC_ADJUST moved", (adjust + LARGE / 2) / LARGE);
    wrmsr(MSR_TSC_ADJUST, 0);
    answer("TSC moved back", (rdtsc() - before) / LARGE);
    wrmsr(MSR_TSC_ADJUST, 3ULL * LARGE);
    answer("TSC_ADJUST", rdmsr(MSR_TSC_ADJUST));
    answer("TSC with it", (rdtsc() - before) / LARGE);
    answer("MSR and instruction", (rdmsr(MSR_TSC) - rdtsc() + LARGE / 2) / LARGE);
    wrmsr(MSR_TSC_ADJUST, 0);
    u64 last = rdtsc(), backwards = 0;
    for (u32 i = 0; i < 1000; i++) {
        u64 now = i % 2 ? rdtsc() : rdmsr(MSR_TSC);
        backwards += now < last;
        last = now;
    }
    answer("TSC went backwards", backwards);
}
