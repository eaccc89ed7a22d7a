/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* MSRs that exit (SDM volume 4; APM volume 2, appendix A). One that is not in the table faults. */

#include "core/host.h"
#include "core/log.h"
#include "core/pv.h"
#include "core/vcpu_run.h"
#include "core/vm.h"
#include "devices/machine.h"
#include "drivers/cpu.h"

enum msr {
    MSR_TSC = 0x10,
    MSR_PLATFORM_ID = 0x17,
    MSR_APIC_BASE = 0x1B,
    MSR_FEATURE_CONTROL = 0x3A,
    MSR_TSC_ADJUST = 0x3B,
    MSR_BIOS_UPDT_TRIG = 0x79,
    MSR_BIOS_SIGN_ID = 0x8B,
    MSR_MTRRCAP = 0xFE,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17A,
    MSR_MISC_ENABLE = 0x1A0,
    MSR_DEBUGCTL = 0x1D9,
    MSR_MTRR_PHYSBASE0 = 0x200,
    MSR_MTRR_FIX64K = 0x250,
    MSR_MTRR_FIX16K = 0x258,
    MSR_MTRR_FIX4K = 0x268,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF_TYPE = 0x2FF,
    MSR_TSC_DEADLINE = 0x6E0,
    MSR_X2APIC = 0x800,
    MSR_X2APIC_EOI = 0x80B,
    MSR_X2APIC_ICR = 0x830,
    MSR_X2APIC_SELF_IPI = 0x83F,
    MSR_XSS = 0xDA0,
    MSR_EFER = 0xC0000080,
    MSR_AMD_SYSCFG = 0xC0010010,
    MSR_AMD_HWCR = 0xC0010015,
    MSR_AMD_NB_CFG = 0xC001001F,
    MSR_AMD_PATCH_LOADER = 0xC0010020,
    MSR_AMD_DE_CFG = 0xC0011029,
};

#define X2APIC_COUNT           0x100
#define MTRRCAP_FIXED          BIT(8)
#define MTRRCAP_WC             BIT(10)
#define FEATURE_CONTROL_LOCKED BIT(0)
#define MISC_FAST_STRINGS      BIT(0)
#define MISC_BTS_UNAVAILABLE   BIT(11)
#define MISC_PEBS_UNAVAILABLE  BIT(12)
#define DEBUGCTL_BTF           BIT(1)
#define EFER_LME               BIT(8)
#define EFER_LMA               BIT(10)
#define CR0_PG                 BIT(31)
#define DE_CFG_LFENCE          BIT(1) /* LFENCE is dispatch-serialising */

/* In two registers. */
struct msr_value {
    u64 value;
    bool readable; /* else it faults */
};

struct msr_range {
    u32 first;
    u32 more;                                               /* MSRs behind it */
    struct msr_value (*read)(struct vcpu *vcpu, u32 index); /* NULL: faults */
    bool (*write)(struct vcpu *vcpu, u32 index, u64 value); /* NULL: faults */
};

static struct msr_value readable(u64 value)
{
    return (struct msr_value){value, true};
}

static struct msr_value read_zero(struct vcpu *vcpu, u32 index)
{
    return readable(0);
}

static bool write_ignored(struct vcpu *vcpu, u32 index, u64 value)
{
    return true;
}

static u64 guest_tsc(const struct vcpu *vcpu)
{
    return vm_scale_tsc(vcpu->vm, rdtsc()) + vcpu->tsc_offset;
}

static struct msr_value read_tsc(struct vcpu *vcpu, u32 index)
{
    return readable(guest_tsc(vcpu));
}

static void set_adjust(struct vcpu *vcpu, u64 adjust)
{
    struct vm *vm = vcpu->vm;

    spin_lock(&vm->lock);
    lapic_set_tsc_adjust(vcpu->lapic, adjust, vm_scale_tsc(vm, rdtsc() - vm->tsc_base));
    vcpu->tsc_offset = vm_tsc_offset(vm, vcpu);
    spin_unlock(&vm->lock);
    /* An armed TSC deadline has moved. */
    vcpu->timer_deadline = vcpu->deadline = 0;
    host.hvm->set_tsc_offset(vcpu, vcpu->tsc_offset);
    pv_tsc_changed(vcpu);
}

static bool write_tsc(struct vcpu *vcpu, u32 index, u64 value)
{
    set_adjust(vcpu, vcpu->lapic->tsc_adjust + value - guest_tsc(vcpu));
    return true;
}

static struct msr_value read_adjust(struct vcpu *vcpu, u32 index)
{
    return readable(vcpu->lapic->tsc_adjust);
}

static bool write_adjust(struct vcpu *vcpu, u32 index, u64 value)
{
    set_adjust(vcpu, value);
    return true;
}

/* The local APIC's belong to the machine. */
static struct msr_value read_apic(struct vcpu *vcpu, u32 index)
{
    struct access access = {.space = SPACE_MSR, .address = index, .size = 8};
    bool claimed = vcpu_access(vcpu, &access);

    return (struct msr_value){access.value, claimed};
}

static bool write_apic(struct vcpu *vcpu, u32 index, u64 value)
{
    struct access access = {
        .space = SPACE_MSR,
        .address = index,
        .size = 8,
        .write = true,
        .value = value,
    };

    return vcpu_access(vcpu, &access);
}

static bool write_eoi(struct vcpu *vcpu, u32 index, u64 value)
{
    if (value != 0 || !lapic_is_x2apic(vcpu->lapic))
        return false;
    vcpu_end_interrupt(vcpu);
    return true;
}

static bool write_icr(struct vcpu *vcpu, u32 index, u64 value)
{
    return vcpu_send_ipi(vcpu, value);
}

static bool write_self_ipi(struct vcpu *vcpu, u32 index, u64 value)
{
    return vcpu_send_to_self(vcpu, value);
}

static bool write_deadline(struct vcpu *vcpu, u32 index, u64 value)
{
    vcpu_set_tsc_deadline(vcpu, value);
    return true;
}

static struct msr_value read_feature_control(struct vcpu *vcpu, u32 index)
{
    return readable(FEATURE_CONTROL_LOCKED);
}

static struct msr_value read_mtrrcap(struct vcpu *vcpu, u32 index)
{
    return readable(MTRR_VARIABLE_COUNT | MTRRCAP_FIXED | MTRRCAP_WC);
}

/* Only stored: EPT and NPT make all RAM write-back, whatever MTRRs say. */
static u64 *mtrr(struct vcpu *vcpu, u32 index)
{
    if (index == MSR_MTRR_DEF_TYPE)
        return &vcpu->msrs.mtrr_def_type;
    if (index == MSR_MTRR_FIX64K)
        return &vcpu->msrs.mtrr_fixed[0];
    if (index >= MSR_MTRR_FIX4K)
        return &vcpu->msrs.mtrr_fixed[3 + index - MSR_MTRR_FIX4K];
    if (index >= MSR_MTRR_FIX16K)
        return &vcpu->msrs.mtrr_fixed[1 + index - MSR_MTRR_FIX16K];
    return &vcpu->msrs.mtrr_variable[index - MSR_MTRR_PHYSBASE0];
}

static struct msr_value read_mtrr(struct vcpu *vcpu, u32 index)
{
    return readable(*mtrr(vcpu, index));
}

static bool write_mtrr(struct vcpu *vcpu, u32 index, u64 value)
{
    *mtrr(vcpu, index) = value;
    return true;
}

static bool memory_type_valid(u8 type)
{
    return type <= 7 && type != 2 && type != 3;
}

static bool write_pat(struct vcpu *vcpu, u32 index, u64 value)
{
    for (unsigned i = 0; i < 8; i++)
        if (!memory_type_valid(value >> (8 * i)))
            return false;
    host.hvm->write_register(vcpu, HVM_PAT, value);
    return true;
}

static enum hvm_register register_of(u32 index)
{
    switch (index) {
    case MSR_SYSENTER_CS:
        return HVM_SYSENTER_CS;
    case MSR_SYSENTER_ESP:
        return HVM_SYSENTER_ESP;
    case MSR_SYSENTER_EIP:
        return HVM_SYSENTER_EIP;
    case MSR_PAT:
        return HVM_PAT;
    case MSR_DEBUGCTL:
        return HVM_DEBUGCTL;
    default:
        return HVM_EFER;
    }
}

static struct msr_value read_register(struct vcpu *vcpu, u32 index)
{
    return readable(host.hvm->read_register(vcpu, register_of(index)));
}

static bool write_register(struct vcpu *vcpu, u32 index, u64 value)
{
    host.hvm->write_register(vcpu, register_of(index), value);
    return true;
}

static bool write_debugctl(struct vcpu *vcpu, u32 index, u64 value)
{
    return !(value & ~DEBUGCTL_BTF) && write_register(vcpu, index, value);
}

/* LMA is the CPU's to set; LME can't change while paging is on. */
static bool write_efer(struct vcpu *vcpu, u32 index, u64 value)
{
    u64 old = host.hvm->read_register(vcpu, HVM_EFER);
    bool paging = host.hvm->read_register(vcpu, HVM_CR0) & CR0_PG;

    if ((value & ~vcpu_efer_allowed(vcpu)) || (paging && ((value ^ old) & EFER_LME)))
        return false;
    host.hvm->write_register(vcpu, HVM_EFER, (value & ~EFER_LMA) | (old & EFER_LMA));
    return true;
}

static struct msr_value read_misc_enable(struct vcpu *vcpu, u32 index)
{
    return readable(vcpu->msrs.misc_enable | MISC_FAST_STRINGS | MISC_BTS_UNAVAILABLE |
                    MISC_PEBS_UNAVAILABLE);
}

static bool write_misc_enable(struct vcpu *vcpu, u32 index, u64 value)
{
    vcpu->msrs.misc_enable = value;
    return true;
}

static struct msr_value read_xss(struct vcpu *vcpu, u32 index)
{
    return (struct msr_value){.readable = host.features.xsaves};
}

static bool write_xss(struct vcpu *vcpu, u32 index, u64 value)
{
    return host.features.xsaves && value == 0;
}

static struct msr_value read_de_cfg(struct vcpu *vcpu, u32 index)
{
    return readable(DE_CFG_LFENCE);
}

static struct msr_value read_pv(struct vcpu *vcpu, u32 index)
{
    struct msr_value result;

    result.readable = pv_read_msr(vcpu, index, &result.value);
    return result;
}

/* Those that guests access all the time come first; the last is any other. */
static const struct msr_range ranges[] = {
    {MSR_TSC_DEADLINE,     0,                           read_apic,            write_deadline   },
    {MSR_X2APIC_EOI,       0,                           NULL,                 write_eoi        },
    {MSR_TSC_ADJUST,       0,                           read_adjust,          write_adjust     },
    {MSR_X2APIC_ICR,       0,                           read_apic,            write_icr        },
    {MSR_X2APIC_SELF_IPI,  0,                           NULL,                 write_self_ipi   },
    {MSR_X2APIC,           X2APIC_COUNT - 1,            read_apic,            write_apic       },
    {MSR_TSC,              0,                           read_tsc,             write_tsc        },
    {MSR_PLATFORM_ID,      0,                           read_zero,            NULL             },
    {MSR_APIC_BASE,        0,                           read_apic,            write_apic       },
    {MSR_FEATURE_CONTROL,  0,                           read_feature_control, NULL             },
    {MSR_BIOS_UPDT_TRIG,   0,                           NULL,                 write_ignored    },
    {MSR_BIOS_SIGN_ID,     0,                           read_zero,            write_ignored    },
    {MSR_MTRRCAP,          0,                           read_mtrrcap,         NULL             },
    {MSR_SYSENTER_CS,      2,                           read_register,        write_register   },
    {MSR_MCG_CAP,          0,                           read_zero,            NULL             },
    {MSR_MCG_STATUS,       0,                           read_zero,            write_ignored    },
    {MSR_MISC_ENABLE,      0,                           read_misc_enable,     write_misc_enable},
    {MSR_DEBUGCTL,         0,                           read_register,        write_debugctl   },
    {MSR_MTRR_PHYSBASE0,   2 * MTRR_VARIABLE_COUNT - 1, read_mtrr,            write_mtrr       },
    {MSR_MTRR_FIX64K,      0,                           read_mtrr,            write_mtrr       },
    {MSR_MTRR_FIX16K,      1,                           read_mtrr,            write_mtrr       },
    {MSR_MTRR_FIX4K,       7,                           read_mtrr,            write_mtrr       },
    {MSR_PAT,              0,                           read_register,        write_pat        },
    {MSR_MTRR_DEF_TYPE,    0,                           read_mtrr,            write_mtrr       },
    {MSR_XSS,              0,                           read_xss,             write_xss        },
    {MSR_KVM_FIRST,        KVM_MSRS - 1,                read_pv,              pv_write_msr     },
    {MSR_EFER,             0,                           read_register,        write_efer       },
    {MSR_AMD_SYSCFG,       0,                           read_zero,            write_ignored    },
    {MSR_AMD_HWCR,         0,                           read_zero,            write_ignored    },
    {MSR_AMD_NB_CFG,       0,                           read_zero,            write_ignored    },
    {MSR_AMD_PATCH_LOADER, 0,                           NULL,                 write_ignored    },
    {MSR_AMD_DE_CFG,       0,                           read_de_cfg,          write_ignored    },
    {0,                    UINT32_MAX,                  NULL,                 NULL             },
};

static inline const struct msr_range *find(u32 index)
{
    const struct msr_range *range = ranges;

    while (index - range->first > range->more)
        range++;
    return range;
}

static void note_unknown(struct vcpu *vcpu, u32 index, const char *verb)
{
    struct vm *vm = vcpu->vm;
    bool named = false;

    spin_lock(&vm->lock);
    vm->unknown_msrs++;
    for (size_t i = 0; i < VM_LOGGED_MSRS && !named; i++) {
        named = vm->logged_msrs[i] == index;
        if (vm->logged_msrs[i] == 0) {
            vm->logged_msrs[i] = index;
            break;
        }
    }
    spin_unlock(&vm->lock);
    if (!named)
        log_debug("'%s' %s unknown MSR %xh", vm->config.name, verb, index);
}

/* What becomes of an access that nothing allows: true where the guest asked to have it ignored. */
static bool unknown_ignored(struct vcpu *vcpu, u32 index, const char *verb)
{
    note_unknown(vcpu, index, verb);
    return vcpu->vm->config.unknown_msr == UNKNOWN_MSR_IGNORE;
}

static inline struct msr_value read_msr(struct vcpu *vcpu, const struct msr_range *range, u32 index)
{
    return range->read ? range->read(vcpu, index) : (struct msr_value){0};
}

static void set_value(struct vcpu *vcpu, u64 value)
{
    vcpu->gpr[GPR_RAX] = (u32)value;
    vcpu->gpr[GPR_RDX] = value >> 32;
}

enum exit_kind vcpu_fast_rdmsr(struct vcpu *vcpu)
{
    u32 index = (u32)vcpu->gpr[GPR_RCX];
    struct msr_value result = read_msr(vcpu, find(index), index);

    if (!result.readable)
        return EXIT_NONE;
    set_value(vcpu, result.value);
    return EXIT_RDMSR;
}

/* A write that is refused has changed nothing. */
enum exit_kind vcpu_fast_wrmsr(struct vcpu *vcpu)
{
    u32 index = (u32)vcpu->gpr[GPR_RCX];
    u64 value = vcpu->gpr[GPR_RDX] << 32 | (u32)vcpu->gpr[GPR_RAX];
    const struct msr_range *range = find(index);

    return range->write && range->write(vcpu, index, value) ? EXIT_WRMSR : EXIT_NONE;
}

void handle_rdmsr(struct vcpu *vcpu, struct exit *exit)
{
    u32 index = exit->msr.index;
    struct msr_value result = read_msr(vcpu, find(index), index);

    if (!result.readable && !unknown_ignored(vcpu, index, "reads"))
        vcpu_raise_gp(vcpu);
    else if (host.hvm->skip_instruction(vcpu, 0))
        set_value(vcpu, result.readable ? result.value : 0);
}

/* What this partition's virtual CPUs lack cannot be read either. */
static bool is_there(struct vcpu *vcpu, const struct msr_range *range, u32 index)
{
    return range->write && (!range->read || read_msr(vcpu, range, index).readable);
}

void handle_wrmsr(struct vcpu *vcpu, struct exit *exit)
{
    u32 index = exit->msr.index;
    const struct msr_range *range = find(index);
    bool written = range->write && range->write(vcpu, index, exit->msr.value);

    /* It may end in a skip that finds no instruction: better to write twice than never. */
    if (written || (!is_there(vcpu, range, index) && unknown_ignored(vcpu, index, "writes")))
        host.hvm->skip_instruction(vcpu, 0);
    else
        vcpu_raise_gp(vcpu);
}
