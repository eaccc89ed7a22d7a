/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "devices/lapic.h"

#include "devices/lapic_device.h"
#include "lib/string.h"

#define VERSION            0x00050014U /* six LVT entries, no EOI-broadcast suppression */
#define SVR_ENABLE         (1U << 8)
#define SVR_RESET          0xFFU
#define DFR_FIXED_ONES     0x0FFFFFFFU
#define DFR_CLUSTER        0U
#define BROADCAST_XAPIC    0xFFU
#define BROADCAST_X2APIC   UINT32_MAX
#define ID_SHIFT           24
#define PRIORITY_CLASS     0xF0U
#define LVT_EXTINT         (DELIVERY_EXTINT << INTERRUPT_MODE_SHIFT)
#define LVT_NMI            (DELIVERY_NMI << INTERRUPT_MODE_SHIFT)
#define LVT_MODE_MASK      (7U << INTERRUPT_MODE_SHIFT)
#define LVT_READ_ONLY      (INTERRUPT_PENDING | INTERRUPT_REMOTE_IRR)
#define LVT_TIMER_WRITABLE 0x000700FFU
#define LVT_MODE_WRITABLE  0x000107FFU
#define LVT_LINT_WRITABLE  0x0001A7FFU
#define LVT_ERROR_WRITABLE 0x000100FFU
#define ICR_WRITABLE       0x000CCFFFU
#define DIVIDE_WRITABLE    0x0000000BU

enum {
    WORDS = 8, /* of 32 bits in IRR, ISR and TMR */
};

/* Which accesses a register takes, and in which mode it is one at all. */
enum register_access {
    R = 1 << 0,
    W = 1 << 1,
    XAPIC_ONLY = 1 << 2,
    X2APIC_ONLY = 1 << 3,
    X2APIC_READ_ONLY = 1 << 4,
};

struct register_rule {
    u8 access;    /* enum register_access; 0: reserved */
    u32 writable; /* other bits are reserved, */
    u32 ignored;  /* except that these may be written to no effect */
};

static const struct register_rule rules[64] = {
    [LAPIC_ID >> 4] = {R,                        0,                  0                },
    [LAPIC_VERSION >> 4] = {R,                        0,                  0                },
    [LAPIC_TPR >> 4] = {R | W,                    0xFF,               0                },
    [LAPIC_APR >> 4] = {R | XAPIC_ONLY,           0,                  0                },
    [LAPIC_PPR >> 4] = {R,                        0,                  0                },
    [LAPIC_EOI >> 4] = {W,                        0,                  0                },
    [LAPIC_RRD >> 4] = {R | XAPIC_ONLY,           0,                  0                },
    [LAPIC_LDR >> 4] = {R | W | X2APIC_READ_ONLY, 0xFF000000,         0                },
    [LAPIC_DFR >> 4] = {R | W | XAPIC_ONLY,       0xF0000000,         0                },
    [LAPIC_SVR >> 4] = {R | W,                    0x3FF,              0                },
    [LAPIC_ISR >> 4 ...(LAPIC_IRR >> 4) + WORDS - 1] = {R,                        0,                  0                },
    [LAPIC_ESR >> 4] = {R | W,                    0,                  0                },
    [LAPIC_ICR_LOW >> 4] = {R | W,                    ICR_WRITABLE,       INTERRUPT_PENDING},
    [LAPIC_ICR_HIGH >> 4] = {R | W | XAPIC_ONLY,       0xFF000000,         0                },
    [LAPIC_LVT_TIMER >> 4] = {R | W,                    LVT_TIMER_WRITABLE, LVT_READ_ONLY    },
    [LAPIC_LVT_THERMAL >> 4] = {R | W,                    LVT_MODE_WRITABLE,  LVT_READ_ONLY    },
    [LAPIC_LVT_PMC >> 4] = {R | W,                    LVT_MODE_WRITABLE,  LVT_READ_ONLY    },
    [LAPIC_LVT_LINT0 >> 4] = {R | W,                    LVT_LINT_WRITABLE,  LVT_READ_ONLY    },
    [LAPIC_LVT_LINT1 >> 4] = {R | W,                    LVT_LINT_WRITABLE,  LVT_READ_ONLY    },
    [LAPIC_LVT_ERROR >> 4] = {R | W,                    LVT_ERROR_WRITABLE, LVT_READ_ONLY    },
    [LAPIC_TIMER_INITIAL >> 4] = {R | W,                    UINT32_MAX,         0                },
    [LAPIC_TIMER_CURRENT >> 4] = {R,                        0,                  0                },
    [LAPIC_TIMER_DIVIDE >> 4] = {R | W,                    DIVIDE_WRITABLE,    0                },
    [LAPIC_SELF_IPI >> 4] = {W | X2APIC_ONLY,          0xFF,               0                },
};

static void set(struct lapic *lapic, enum lapic_register which, u32 value)
{
    lapic->registers[which >> 4].value = value;
}

/* ---- bits and priorities -------------------------------------------------------------------- */

static inline u32 *vector_word(struct lapic *lapic, enum lapic_register bits, u8 vector)
{
    return &(&lapic->registers[vector / 32])[bits >> 4].value;
}

/* Written so, it is one instruction. `value` is not 0. */
static u32 highest_bit(u32 value)
{
    return 31 ^ (u32)__builtin_clz(value);
}

static NOINLINE int search(const struct lapic *lapic, enum lapic_register bits)
{
#pragma GCC unroll 8
    for (int word = WORDS - 1; word >= 0; word--) {
        u32 value = lapic->registers[(bits >> 4) + word].value;

        if (value != 0)
            return word * 32 + highest_bit(value);
    }
    return -1;
}

static inline int highest_vector(const struct lapic *lapic, enum lapic_register bits, u32 words)
{
    u32 word, value;

    if (words == 0)
        return -1;
    if (words == LAPIC_ALL_WORDS)
        return search(lapic, bits);
    word = highest_bit(words);
    value = lapic->registers[(bits >> 4) + word].value;
    return value != 0 ? (int)(word * 32 + highest_bit(value)) : search(lapic, bits);
}

int lapic_highest_irr(const struct lapic *lapic)
{
    return highest_vector(lapic, LAPIC_IRR, lapic->irr_words & LAPIC_ALL_WORDS);
}

int lapic_raised(const struct lapic *lapic)
{
    return highest_vector(lapic, LAPIC_IRR, lapic->irr_words >> LAPIC_RAISED_SHIFT);
}

int lapic_highest_isr(const struct lapic *lapic)
{
    return highest_vector(lapic, LAPIC_ISR, lapic->isr_words);
}

u8 lapic_processor_priority(const struct lapic *lapic)
{
    u32 tpr = lapic_read(lapic, LAPIC_TPR) & 0xFF;
    int vector = lapic_highest_isr(lapic);
    u32 in_service = vector < 0 ? 0 : (u32)vector & PRIORITY_CLASS;

    return (tpr & PRIORITY_CLASS) >= in_service ? tpr : in_service;
}

int lapic_pending_vector(const struct lapic *lapic)
{
    int vector = lapic_highest_irr(lapic);

    if (vector < 0 || !lapic_is_enabled(lapic))
        return -1;
    if (((u32)vector & PRIORITY_CLASS) <= (lapic_processor_priority(lapic) & PRIORITY_CLASS))
        return -1;
    return vector;
}

static void update_ppr(struct lapic *lapic)
{
    set(lapic, LAPIC_PPR, lapic_processor_priority(lapic));
}

void lapic_accept(struct lapic *lapic, u8 vector)
{
    u32 *irr = vector_word(lapic, LAPIC_IRR, vector);

    *irr &= ~(1U << vector % 32);
    if (*irr == 0)
        lapic->irr_words &= ~(1U << vector / 32);
    *vector_word(lapic, LAPIC_ISR, vector) |= 1U << vector % 32;
    lapic->isr_words |= 1U << vector / 32;
    set(lapic, LAPIC_PPR, vector & PRIORITY_CLASS); /* it was above all others */
}

void lapic_move_posted(struct lapic *lapic)
{
    lapic->irr_words |= lapic->posted_words;
    for (u32 words = lapic->posted_words & LAPIC_ALL_WORDS; words != 0; words &= words - 1) {
        u32 word = (u32)__builtin_ctz(words);

        lapic->registers[(LAPIC_IRR >> 4) + word].value |= lapic->posted[word];
        lapic->posted[word] = 0;
    }
    lapic->posted_words = 0;
}

static bool software_enabled(const struct lapic *lapic)
{
    return lapic_read(lapic, LAPIC_SVR) & SVR_ENABLE;
}

void lapic_error(struct lapic *lapic, enum lapic_error error, struct effects *effects)
{
    u32 lvt = lapic_read(lapic, LAPIC_LVT_ERROR);
    u8 vector = lvt & INTERRUPT_VECTOR_MASK;

    if (lapic->esr_pending & error)
        return;
    lapic->esr_pending |= error;
    /* An illegal vector here would be the next error, without end. */
    if (!(lvt & INTERRUPT_MASKED) && vector >= INTERRUPT_VECTOR_MIN)
        lapic_raise(lapic, vector, false, effects);
}

bool lapic_raise(struct lapic *lapic, u8 vector, bool level, struct effects *effects)
{
    u32 bit = 1U << vector % 32;
    u32 *tmr = vector_word(lapic, LAPIC_TMR, vector);
    bool own = lapic->id == effects->vcpu;
    u32 *irr = own ? vector_word(lapic, LAPIC_IRR, vector) : &lapic->posted[vector / 32];
    u16 *words = own ? &lapic->irr_words : &lapic->posted_words;

    if (!software_enabled(lapic))
        return false;
    if (vector < INTERRUPT_VECTOR_MIN) {
        lapic_error(lapic, ESR_RECEIVE_ILLEGAL_VECTOR, effects);
        return true;
    }
    if (level)
        *tmr |= bit;
    else
        *tmr &= ~bit;
    if (!(*irr & bit)) {
        *irr |= bit;
        *words |= (1 | 1U << LAPIC_RAISED_SHIFT) << vector / 32;
        effects->ops->kick(effects, lapic->id);
    }
    return true;
}

/* ---- modes and reset ------------------------------------------------------------------------ */

static void set_id(struct lapic *lapic)
{
    if (!lapic_is_x2apic(lapic)) {
        set(lapic, LAPIC_ID, lapic->id << ID_SHIFT);
        return;
    }
    set(lapic, LAPIC_ID, lapic->id);
    set(lapic, LAPIC_LDR, lapic->id >> 4 << 16 | 1U << (lapic->id & 15));
}

/* The registers after RESET and INIT alike. */
static void reset_registers(struct lapic *lapic)
{
    memset(lapic->registers, 0, sizeof lapic->registers);
    set(lapic, LAPIC_VERSION, VERSION);
    set(lapic, LAPIC_DFR, UINT32_MAX);
    set(lapic, LAPIC_SVR, SVR_RESET);
    for (u32 lvt = LAPIC_LVT_TIMER; lvt <= LAPIC_LVT_ERROR; lvt += 0x10)
        set(lapic, lvt, INTERRUPT_MASKED);
    set_id(lapic);
    memset(lapic->posted, 0, sizeof lapic->posted);
    lapic->posted_words = lapic->irr_words = lapic->isr_words = 0;
    lapic->esr_pending = 0;
    lapic_timer_reset(lapic);
}

void lapic_init(struct lapic *lapic, u32 id)
{
    memset(lapic, 0, offsetof(struct lapic, spare));
    lapic->id = id;
    lapic->apic_base = LAPIC_BASE_DEFAULT | APIC_BASE_ENABLE | (id == 0 ? APIC_BASE_BSP : 0);
    lapic->wait_for_sipi = id != 0;
    reset_registers(lapic);
    if (id != 0)
        return;
    set(lapic, LAPIC_SVR, SVR_ENABLE | SVR_RESET);
    set(lapic, LAPIC_LVT_LINT0, LVT_EXTINT);
    set(lapic, LAPIC_LVT_LINT1, LVT_NMI);
}

/* Bits 11:10 of IA32_APIC_BASE; the fourth combination is never legal. */
enum apic_mode {
    MODE_DISABLED = 0,
    MODE_XAPIC = APIC_BASE_ENABLE >> 10,
    MODE_X2APIC = (APIC_BASE_ENABLE | APIC_BASE_EXTD) >> 10,
};

static enum apic_mode mode_of(u64 apic_base)
{
    return apic_base >> 10 & 3;
}

static enum lapic_outcome write_apic_base(struct lapic *lapic, u64 value)
{
    static const bool legal[4][4] = {
        [MODE_DISABLED] = {[MODE_DISABLED] = true, [MODE_XAPIC] = true},
        [MODE_XAPIC] = {[MODE_DISABLED] = true, [MODE_XAPIC] = true, [MODE_X2APIC] = true},
        [MODE_X2APIC] = {[MODE_DISABLED] = true,                      [MODE_X2APIC] = true                   },
    };
    u64 writable = APIC_BASE_ADDRESS_MASK | APIC_BASE_EXTD | APIC_BASE_ENABLE;
    enum apic_mode old = mode_of(lapic->apic_base), new = mode_of(value);

    if (value & ~(writable | APIC_BASE_BSP) || !legal[old][new])
        return LAPIC_FAULT;
    lapic->apic_base = (value & writable) | (lapic->apic_base & APIC_BASE_BSP);
    if (new == MODE_DISABLED && old != MODE_DISABLED)
        reset_registers(lapic);
    if (new == MODE_X2APIC && old == MODE_XAPIC) {
        set(lapic, LAPIC_ICR_HIGH, 0);
        set_id(lapic);
    }
    return LAPIC_DONE;
}

bool lapic_takes_extint(const struct lapic *lapic)
{
    u32 lint0 = lapic_read(lapic, LAPIC_LVT_LINT0);

    return !lapic_is_enabled(lapic) || (lint0 & (INTERRUPT_MASKED | LVT_MODE_MASK)) == LVT_EXTINT;
}

/* ---- messages ------------------------------------------------------------------------------- */

static bool matches_logical(const struct lapic *lapic, u32 destination)
{
    u32 ldr = lapic_read(lapic, LAPIC_LDR);

    if (lapic_is_x2apic(lapic))
        return ldr >> 16 == destination >> 16 && (ldr & destination & 0xFFFF);
    ldr >>= ID_SHIFT;
    if (destination > 0xFF)
        return false;
    if (lapic_read(lapic, LAPIC_DFR) >> 28 == DFR_CLUSTER)
        return ldr >> 4 == destination >> 4 && (ldr & destination & 0xF);
    return ldr & destination;
}

bool lapic_matches(const struct lapic *lapic, const struct interrupt_message *message)
{
    if (message->broadcast)
        return true;
    if (message->logical)
        return matches_logical(lapic, message->destination);
    return lapic->id == message->destination;
}

static void receive_init(struct lapic *lapic)
{
    reset_registers(lapic);
    lapic->wait_for_sipi = !(lapic->apic_base & APIC_BASE_BSP);
    lapic->events = LAPIC_EVENT_INIT; /* whatever was pending is gone */
}

static void receive_sipi(struct lapic *lapic, u8 vector)
{
    if (!lapic->wait_for_sipi)
        return;
    lapic->wait_for_sipi = 0;
    lapic->sipi_vector = vector;
    lapic->events |= LAPIC_EVENT_SIPI;
}

bool lapic_deliver(struct lapic *lapic, const struct interrupt_message *message,
                   struct effects *effects)
{
    u32 before = lapic->events;

    if (!lapic_is_enabled(lapic))
        return false;
    switch ((enum delivery_mode)message->mode) {
    case DELIVERY_FIXED:
    case DELIVERY_LOWEST:
        return lapic_raise(lapic, message->vector, message->level, effects);
    case DELIVERY_NMI:
        lapic->events |= LAPIC_EVENT_NMI;
        break;
    case DELIVERY_INIT:
        receive_init(lapic);
        break;
    case DELIVERY_SIPI:
        receive_sipi(lapic, message->vector);
        break;
    case DELIVERY_EXTINT: /* only a reason to look at the PIC */
        effects->ops->kick(effects, lapic->id);
        return true;
    default: /* there is no SMM to enter */
        return true;
    }
    /* What is pending already is no news, however often it is sent. */
    if (lapic->events != before)
        effects->ops->kick(effects, lapic->id);
    return true;
}

void lapic_lint_rose(struct lapic *lapic, u32 lvt, struct effects *effects)
{
    u32 entry = lapic_read(lapic, lvt);
    struct interrupt_message message = {
        .mode = interrupt_mode(entry),
        .vector = entry & INTERRUPT_VECTOR_MASK,
    };

    if (lapic_is_enabled(lapic)) {
        if (!(entry & INTERRUPT_MASKED))
            lapic_deliver(lapic, &message, effects);
        return;
    }
    /* The pins are the CPU's own INTR and NMI. */
    if (lvt == LAPIC_LVT_LINT1)
        lapic->events |= LAPIC_EVENT_NMI;
    effects->ops->kick(effects, lapic->id);
}

struct interrupt_message lapic_icr_message(const struct lapic *lapic)
{
    u32 low = lapic_read(lapic, LAPIC_ICR_LOW);
    u32 high = lapic_read(lapic, LAPIC_ICR_HIGH);
    bool x2apic = lapic_is_x2apic(lapic);
    u32 destination = x2apic ? high : high >> ID_SHIFT;

    return (struct interrupt_message){
        .destination = destination,
        .broadcast = destination == (x2apic ? BROADCAST_X2APIC : BROADCAST_XAPIC),
        .logical = low & INTERRUPT_LOGICAL,
        .mode = interrupt_mode(low),
        .vector = low & INTERRUPT_VECTOR_MASK,
    };
}

/* ---- registers ------------------------------------------------------------------------------ */

static u32 read_register(struct lapic *lapic, u32 offset, u64 tsc_hz, struct effects *effects)
{
    lapic_timer_tick(lapic, tsc_hz, effects);
    lapic_take_posted(lapic);
    if (offset == LAPIC_TIMER_CURRENT)
        return lapic_timer_count(lapic, tsc_hz, effects->now);
    if (offset == LAPIC_PPR || offset == LAPIC_APR)
        return lapic_processor_priority(lapic);
    return lapic_read(lapic, offset);
}

bool lapic_is_level(const struct lapic *lapic, u8 vector)
{
    return lapic_read(lapic, LAPIC_TMR + vector / 32 * 16) >> vector % 32 & 1;
}

int lapic_end_of_interrupt(struct lapic *lapic)
{
    int vector = lapic_highest_isr(lapic);
    u32 *isr;

    if (vector < 0)
        return -1;
    isr = vector_word(lapic, LAPIC_ISR, vector);
    /* An INIT that another CPU sends meanwhile may have cleared it. */
    __atomic_and_fetch(isr, ~(1U << vector % 32), __ATOMIC_RELAXED);
    if (*isr == 0)
        lapic->isr_words &= ~(1U << vector / 32);
    update_ppr(lapic);
    return lapic_is_level(lapic, vector) ? vector : -1;
}

static enum lapic_outcome write_eoi(struct lapic *lapic, u8 *eoi_vector)
{
    int vector = lapic_end_of_interrupt(lapic);

    *eoi_vector = (u8)vector;
    return vector < 0 ? LAPIC_DONE : LAPIC_BROADCAST_EOI;
}

static void write_svr(struct lapic *lapic, u64 tsc_hz, struct effects *effects)
{
    if (software_enabled(lapic))
        return;
    for (u32 lvt = LAPIC_LVT_TIMER; lvt <= LAPIC_LVT_ERROR; lvt += 0x10)
        set(lapic, lvt, lapic_read(lapic, lvt) | INTERRUPT_MASKED);
    lapic_timer_mode_written(lapic, tsc_hz, effects);
}

static void write_esr(struct lapic *lapic)
{
    set(lapic, LAPIC_ESR, lapic->esr_pending);
    lapic->esr_pending = 0;
}

/* Acts on a register whose new value, without reserved bits, is `value`. */
static enum lapic_outcome apply_write(struct lapic *lapic, u32 offset, u32 value, u64 tsc_hz,
                                      struct effects *effects, u8 *eoi_vector)
{
    bool is_lvt = offset >= LAPIC_LVT_TIMER && offset <= LAPIC_LVT_ERROR;

    if (is_lvt && !software_enabled(lapic))
        value |= INTERRUPT_MASKED;
    if (offset == LAPIC_TIMER_DIVIDE) {
        lapic_timer_set_divide(lapic, value, tsc_hz, effects);
        return LAPIC_DONE;
    }
    set(lapic, offset, value);
    switch (offset) {
    case LAPIC_EOI:
        return write_eoi(lapic, eoi_vector);
    case LAPIC_ICR_LOW:
        return LAPIC_SEND;
    case LAPIC_SELF_IPI:
        lapic_raise(lapic, value, false, effects);
        break;
    case LAPIC_TPR:
        update_ppr(lapic);
        break;
    case LAPIC_DFR:
        set(lapic, LAPIC_DFR, value | DFR_FIXED_ONES);
        break;
    case LAPIC_SVR:
        write_svr(lapic, tsc_hz, effects);
        break;
    case LAPIC_ESR:
        write_esr(lapic);
        break;
    case LAPIC_LVT_TIMER:
        lapic_timer_mode_written(lapic, tsc_hz, effects);
        break;
    case LAPIC_TIMER_INITIAL:
        lapic_timer_started(lapic, tsc_hz, effects);
        break;
    }
    return LAPIC_DONE;
}

/* The rule of the register at `offset` if the mode has it and it takes the access, or NULL. */
static const struct register_rule *find_rule(const struct lapic *lapic, u32 offset, u8 access)
{
    const struct register_rule *rule = &rules[offset >> 4 & 63];
    bool x2apic = lapic_is_x2apic(lapic);

    if (!(rule->access & access) || rule->access & (x2apic ? XAPIC_ONLY : X2APIC_ONLY))
        return NULL;
    if (x2apic && access == W && rule->access & X2APIC_READ_ONLY)
        return NULL;
    return offset < sizeof lapic->registers ? rule : NULL;
}

u32 lapic_mmio_read(struct lapic *lapic, u32 offset, u64 tsc_hz, struct effects *effects)
{
    if (find_rule(lapic, offset, R) != NULL)
        return read_register(lapic, offset, tsc_hz, effects);
    if (find_rule(lapic, offset, W) == NULL) /* EOI may be read, as 0 */
        lapic_error(lapic, ESR_ILLEGAL_REGISTER, effects);
    return 0;
}

enum lapic_outcome lapic_mmio_write(struct lapic *lapic, u32 offset, u32 value, u64 tsc_hz,
                                    struct effects *effects, u8 *eoi_vector)
{
    const struct register_rule *rule = find_rule(lapic, offset, W);

    lapic_timer_tick(lapic, tsc_hz, effects);
    if (rule != NULL)
        return apply_write(lapic, offset, value & rule->writable, tsc_hz, effects, eoi_vector);
    if (find_rule(lapic, offset, R) == NULL)
        lapic_error(lapic, ESR_ILLEGAL_REGISTER, effects);
    else if (offset == LAPIC_ID)
        set_id(lapic); /* hardware that virtualises the APIC has stored what was written */
    return LAPIC_DONE;
}

static u64 read_deadline(struct lapic *lapic, u64 tsc_hz, struct effects *effects)
{
    lapic_timer_tick(lapic, tsc_hz, effects);
    return lapic->tsc_deadline;
}

bool lapic_msr_read(struct lapic *lapic, u32 msr, u64 *value, u64 tsc_hz, struct effects *effects)
{
    u32 offset = (msr - MSR_X2APIC_FIRST) << 4;

    if (msr == MSR_IA32_APIC_BASE) {
        *value = lapic->apic_base;
        return true;
    }
    if (msr == MSR_IA32_TSC_DEADLINE) {
        *value = read_deadline(lapic, tsc_hz, effects);
        return true;
    }
    if (msr < MSR_X2APIC_FIRST || msr > MSR_X2APIC_LAST || !lapic_is_x2apic(lapic) ||
        find_rule(lapic, offset, R) == NULL)
        return false;
    *value = read_register(lapic, offset, tsc_hz, effects);
    if (offset == LAPIC_ICR_LOW)
        *value |= (u64)lapic_read(lapic, LAPIC_ICR_HIGH) << 32;
    return true;
}

bool lapic_set_icr(struct lapic *lapic, u64 value)
{
    u32 high = value >> ICR_X2APIC_DESTINATION_SHIFT;

    if (!lapic_is_x2apic(lapic) || (u32)value & ~(ICR_WRITABLE | INTERRUPT_PENDING))
        return false;
    set(lapic, LAPIC_ICR_LOW, value & ICR_WRITABLE);
    set(lapic, LAPIC_ICR_HIGH, high);
    /* Where hardware looks for the upper half of the 64-bit register. */
    lapic->registers[LAPIC_ICR_LOW >> 4].reserved[0] = high;
    return true;
}

static enum lapic_outcome write_x2apic(struct lapic *lapic, u32 offset, u64 value, u64 tsc_hz,
                                       struct effects *effects, u8 *eoi_vector)
{
    const struct register_rule *rule = find_rule(lapic, offset, W);

    if (offset == LAPIC_ICR_LOW)
        return lapic_set_icr(lapic, value) ? LAPIC_SEND : LAPIC_FAULT;
    if (rule == NULL || value & ~(u64)(rule->writable | rule->ignored))
        return LAPIC_FAULT;
    lapic_timer_tick(lapic, tsc_hz, effects);
    return apply_write(lapic, offset, value & rule->writable, tsc_hz, effects, eoi_vector);
}

enum lapic_outcome lapic_msr_write(struct lapic *lapic, u32 msr, u64 value, u64 tsc_hz,
                                   struct effects *effects, u8 *eoi_vector)
{
    if (msr == MSR_IA32_TSC_DEADLINE) {
        lapic_timer_set_deadline(lapic, value, tsc_hz, effects);
        return LAPIC_DONE;
    }
    if (msr == MSR_IA32_APIC_BASE)
        return write_apic_base(lapic, value);
    if (msr < MSR_X2APIC_FIRST || msr > MSR_X2APIC_LAST || !lapic_is_x2apic(lapic))
        return LAPIC_FAULT;
    return write_x2apic(lapic, (msr - MSR_X2APIC_FIRST) << 4, value, tsc_hz, effects, eoi_vector);
}
