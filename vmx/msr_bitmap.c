/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "lib/string.h"
#include "mm/pool.h"
#include "vmx/msr.h"
#include "vmx/vmx.h"

enum access_allowed {
    READ = 1 << 0,
    WRITE = 1 << 1,
};

/* MSRs without exits; everything else exits. */
static const struct {
    u32 msr;
    u8 access;
    u32 needs; /* secondary control */
} passed[] = {
  /* Guest-state fields of the VMCS hold these. */
    {MSR_SYSENTER_CS,    READ | WRITE, 0               },
    {MSR_SYSENTER_ESP,   READ | WRITE, 0               },
    {MSR_SYSENTER_EIP,   READ | WRITE, 0               },
    {MSR_PAT,            READ | WRITE, 0               },
    {MSR_FS_BASE,        READ | WRITE, 0               },
    {MSR_GS_BASE,        READ | WRITE, 0               },
 /* Switched with the vCPU, and of no meaning for the host. */
    {MSR_KERNEL_GS_BASE, READ | WRITE, 0               },
    {MSR_STAR,           READ,         0               },
    {MSR_LSTAR,          READ,         0               },
    {MSR_CSTAR,          READ,         0               },
    {MSR_FMASK,          READ,         0               },
    {MSR_TSC_AUX,        READ,         SECONDARY_RDTSCP},
 /* Hardware adds the TSC offset. */
    {MSR_TSC,            READ,         0               },
};

/* x2APIC registers that hardware serves as the virtual LAPIC would, in x2APIC mode. Reads of the
 * others exit: hardware would not fault on those that do not exist, and computes none. */
static const struct {
    u16 offset;
    u8 count;
    u8 access;
    u32 needs;
} passed_x2apic[] = {
    {LAPIC_TPR,      1, READ | WRITE, SECONDARY_VIRTUALIZE_X2APIC_MODE      },
    {LAPIC_ISR,      8, READ,         SECONDARY_APIC_REGISTER_VIRTUALIZATION},
    {LAPIC_TMR,      8, READ,         SECONDARY_APIC_REGISTER_VIRTUALIZATION},
    {LAPIC_IRR,      8, READ,         SECONDARY_APIC_REGISTER_VIRTUALIZATION},
    {LAPIC_EOI,      1, WRITE,        SECONDARY_VIRTUAL_INTERRUPT_DELIVERY  },
    {LAPIC_SELF_IPI, 1, WRITE,        SECONDARY_VIRTUAL_INTERRUPT_DELIVERY  },
};

/* By whether the hardware serves x2APIC registers. Written once, by the boot CPU. */
static struct msr_bitmap *bitmaps[2];

static void clear_bit(u8 *bits, u32 bit)
{
    bits[bit / 8] &= (u8) ~(1 << bit % 8);
}

static void pass(struct msr_bitmap *bitmap, u32 msr, u8 access)
{
    bool high = msr >= MSR_BITMAP_HIGH_BASE;
    u32 bit = high ? msr - MSR_BITMAP_HIGH_BASE : msr;

    if (access & READ)
        clear_bit(high ? bitmap->read_high : bitmap->read_low, bit);
    if (access & WRITE)
        clear_bit(high ? bitmap->write_high : bitmap->write_low, bit);
}

static bool is_served(u32 needs)
{
    return (vmx_used.words[WORD_SECONDARY] & needs) == needs;
}

static void fill(struct msr_bitmap *bitmap)
{
    memset(bitmap, 0xFF, sizeof(*bitmap));
    for (u32 i = 0; i < ARRAY_SIZE(passed); i++)
        if (is_served(passed[i].needs))
            pass(bitmap, passed[i].msr, passed[i].access);
}

static void fill_x2apic(struct msr_bitmap *bitmap)
{
    for (u32 i = 0; i < ARRAY_SIZE(passed_x2apic); i++)
        for (u32 j = 0; is_served(passed_x2apic[i].needs) && j < passed_x2apic[i].count; j++)
            pass(bitmap, MSR_X2APIC_FIRST + passed_x2apic[i].offset / 16 + j,
                 passed_x2apic[i].access);
}

bool vmx_msr_bitmaps_init(void)
{
    if (bitmaps[0])
        return true;
    bitmaps[0] = pool_alloc(ARRAY_SIZE(bitmaps));
    if (!bitmaps[0])
        return false;
    bitmaps[1] = bitmaps[0] + 1;
    fill(bitmaps[0]);
    fill(bitmaps[1]);
    fill_x2apic(bitmaps[1]);
    return true;
}

paddr_t vmx_msr_bitmap(bool x2apic)
{
    return pool_physical(bitmaps[x2apic]);
}
