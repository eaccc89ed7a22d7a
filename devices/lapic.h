/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_DEVICES_LAPIC_H
#define BULKHEAD_DEVICES_LAPIC_H

/* A local APIC, xAPIC and x2APIC (Intel SDM volume 3, chapter "Advanced Programmable Interrupt
 * Controller").
 *
 * The first KiB is the virtual-APIC page as VT-x and AMD's AVIC know it, so that hardware which
 * virtualises the APIC and this code share one state (SDM volume 3, "APIC Virtualization and
 * Virtual Interrupts"). What hardware does not know follows at 400h. */

#include "devices/device.h"

#define LAPIC_BASE_DEFAULT 0xFEE00000ULL
#define LAPIC_SIZE         4096ULL
#define LAPIC_OWN_SIZE     1152  /* of the page, in whole lines of the cache */
#define LAPIC_ALL_WORDS    0xFFU /* eight of 32 bits in IRR and ISR */
#define LAPIC_RAISED_SHIFT 8

/* The clock of the timer, before the divide register: what CPUID 15h should report as crystal
 * frequency. */
#define LAPIC_TIMER_HZ 1000000000ULL

enum apic_msr {
    MSR_IA32_APIC_BASE = 0x1B,
    MSR_IA32_TSC_DEADLINE = 0x6E0,
    MSR_X2APIC_FIRST = 0x800,
    MSR_X2APIC_LAST = 0x8FF,
};

enum apic_base_bit {
    APIC_BASE_BSP = 1 << 8,
    APIC_BASE_EXTD = 1 << 10,
    APIC_BASE_ENABLE = 1 << 11,
};
#define APIC_BASE_ADDRESS_MASK 0x000FFFFFFFFFF000ULL

enum lapic_register {
    LAPIC_ID = 0x020,
    LAPIC_VERSION = 0x030,
    LAPIC_TPR = 0x080,
    LAPIC_APR = 0x090,
    LAPIC_PPR = 0x0A0,
    LAPIC_EOI = 0x0B0,
    LAPIC_RRD = 0x0C0,
    LAPIC_LDR = 0x0D0,
    LAPIC_DFR = 0x0E0,
    LAPIC_SVR = 0x0F0,
    LAPIC_ISR = 0x100,
    LAPIC_TMR = 0x180,
    LAPIC_IRR = 0x200,
    LAPIC_ESR = 0x280,
    LAPIC_LVT_CMCI = 0x2F0,
    LAPIC_ICR_LOW = 0x300,
    LAPIC_ICR_HIGH = 0x310,
    LAPIC_LVT_TIMER = 0x320,
    LAPIC_LVT_THERMAL = 0x330,
    LAPIC_LVT_PMC = 0x340,
    LAPIC_LVT_LINT0 = 0x350,
    LAPIC_LVT_LINT1 = 0x360,
    LAPIC_LVT_ERROR = 0x370,
    LAPIC_TIMER_INITIAL = 0x380,
    LAPIC_TIMER_CURRENT = 0x390,
    LAPIC_TIMER_DIVIDE = 0x3E0,
    LAPIC_SELF_IPI = 0x3F0, /* x2APIC only */
};

/* What happened to a vCPU besides interrupts in IRR; core takes and clears them. */
enum lapic_event {
    LAPIC_EVENT_NMI = 1 << 0,
    LAPIC_EVENT_INIT = 1 << 1, /* comes before a SIPI that is pending with it */
    LAPIC_EVENT_SIPI = 1 << 2, /* sipi_vector holds the vector */
};

struct lapic {
    struct {
        u32 value;
        u32 reserved[3];
    } registers[64];

    u32 id;           /* APIC ID, also the vCPU's index in its machine */
    u32 events;       /* enum lapic_event */
    u64 apic_base;    /* IA32_APIC_BASE */
    u64 tsc_adjust;   /* what the guest added to its TSC: guest TSC = machine time + tsc_adjust */
    u64 tsc_deadline; /* IA32_TSC_DEADLINE, in guest TSC; 0 = disarmed */
    u64 timer_start;  /* machine time at which the count was started */
    u64 timer_expiry; /* machine time of the next expiry in any mode, or DEADLINE_NONE */
    u32 esr_pending;  /* errors since the last write of ESR */
    u32 posted[8];    /* as IRR: vectors raised while the vCPU may have been in guest mode, where
                         hardware that virtualises interrupts changes IRR at any time */
    /* Bit N: word N of posted, IRR, ISR may have a bit set; clear: it has none. Hardware that
     * virtualises interrupts knows nothing of it: lapic_hardware_delivers. Bit 8 + N of the first
     * two: software has set a bit there since lapic_hardware_delivers. */
    u16 posted_words, irr_words, isr_words;
    u8 sipi_vector;
    u8 wait_for_sipi; /* set by INIT on all but vCPU 0, cleared by the SIPI that it waits for */
    u8 timer_mode;    /* the mode last written to LVT_TIMER, in place */

    /* The rest of the page is not the LAPIC's, but who allocates it may use it. */
    u8 spare[LAPIC_SIZE - LAPIC_OWN_SIZE] __attribute__((aligned(CACHE_LINE_SIZE)));
};

_Static_assert(sizeof(struct lapic) == LAPIC_SIZE, "one page");
_Static_assert(offsetof(struct lapic, id) == 1024, "hardware's part is the first KiB");

static inline u32 lapic_read(const struct lapic *lapic, enum lapic_register which)
{
    return lapic->registers[which >> 4].value;
}

void lapic_move_posted(struct lapic *lapic);

/* Moves what was posted into IRR. While the vCPU is not in guest mode; lapic_pending_vector and
 * lapic_highest_irr are complete only after it. */
static inline void lapic_take_posted(struct lapic *lapic)
{
    if (lapic->posted_words != 0)
        lapic_move_posted(lapic);
}

/* The vector of highest priority that may be delivered now (IRR above PPR, APIC enabled), or -1.
 * Pure: PPR is computed from TPR and ISR, the stored PPR is not trusted. */
int lapic_pending_vector(const struct lapic *lapic);

/* Highest vector in IRR and in ISR, or -1: what virtual-interrupt delivery wants as RVI and
 * SVI. */
int lapic_highest_irr(const struct lapic *lapic);
int lapic_highest_isr(const struct lapic *lapic);

/* The highest vector in IRR that software has raised since lapic_hardware_delivers, or -1. Not
 * before lapic_take_posted. */
int lapic_raised(const struct lapic *lapic);

/* Hardware has been told what software has raised, and may change IRR and ISR from now on whenever
 * the vCPU is in guest mode; to be said again after each reset, as INIT is one. */
static inline void lapic_hardware_delivers(struct lapic *lapic)
{
    lapic->irr_words = lapic->isr_words = LAPIC_ALL_WORDS;
}

/* Moves `vector` from IRR to ISR and updates PPR: the CPU took it. `vector` is what
 * lapic_pending_vector has said; after this, that says -1. */
void lapic_accept(struct lapic *lapic, u8 vector);

static inline bool lapic_is_requested(const struct lapic *lapic, u8 vector)
{
    return lapic->registers[(LAPIC_IRR >> 4) + vector / 32].value >> vector % 32 & 1;
}

static inline bool lapic_is_in_service(const struct lapic *lapic, u8 vector)
{
    return lapic->registers[(LAPIC_ISR >> 4) + vector / 32].value >> vector % 32 & 1;
}

/* As what was the vector last raised: TMR. */
bool lapic_is_level(const struct lapic *lapic, u8 vector);

/* True where a PIC interrupt (ExtINT) reaches this CPU: APIC disabled in IA32_APIC_BASE or LINT0
 * unmasked in ExtINT mode. */
bool lapic_takes_extint(const struct lapic *lapic);

/* True in x2APIC mode, and true where the APIC is enabled in IA32_APIC_BASE in either mode. */
static inline bool lapic_is_enabled(const struct lapic *lapic)
{
    return lapic->apic_base & APIC_BASE_ENABLE;
}

static inline bool lapic_is_x2apic(const struct lapic *lapic)
{
    const u64 x2apic = APIC_BASE_ENABLE | APIC_BASE_EXTD;

    return (lapic->apic_base & x2apic) == x2apic;
}

/* Changes tsc_adjust, as a write of IA32_TSC or IA32_TSC_ADJUST does, at machine time `now`: the
 * TSC deadline, which is in guest TSC, moves with it. */
void lapic_set_tsc_adjust(struct lapic *lapic, u64 tsc_adjust, u64 now);

#endif
