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

struct msr_range {
    u32 first, count;
    bool (*read)(struct vcpu *vcpu, u32 index, u64 *value); /* NULL: faults */
    bool (*write)(struct vcpu *vcpu, u32 index, u64 value); /* NULL: faults */
};

static bool read_zero(struct vcpu *vcpu, u32 index, u64 *value)
{
    *value = 0;
    return true;
}

static bool write_ignored(struct vcpu *vcpu, u32 index, u64 value)
{
    return true;
}

static u64 guest_tsc(const struct vcpu *vcpu)
{
    return vm_scale_tsc(vcpu->vm, rdtsc()) + vcpu->tsc_offset;
}

static bool read_tsc(struct vcpu *vcpu, u32 index, u64 *value)
{
    *value = guest_tsc(vcpu);
    return true;
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

static bool read_adjust(struct vcpu *vcpu, u32 index, u64 *value)
{
    *value = vcpu->lapic->tsc_adjust;
    return true;
}

static bool write_adjust(struct vcpu *vcpu, u32 index, u64 value)
{
    set_adjust(vcpu, value);
    return true;
}

/* The local APIC's belong to the machine. */
static bool read_apic(struct vcpu *vcpu, u32 index, u64 *value)
{
    struct access access = {.space = SPACE_MSR, .address = index, .size = 8};
    bool claimed = vcpu_access(vcpu, &access);

    *value = access.value;
    return claimed;
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

static bool write_deadline(struct vcpu *vcpu, u32 index, u64 value)
{
    vcpu_set_tsc_deadline(vcpu, value);
    return true;
}

static bool read_feature_control(struct vcpu *vcpu, u32 index, u64 *value)
{
    *value = FEATURE_CONTROL_LOCKED;
    return true;
}

static bool read_mtrrcap(struct vcpu *vcpu, u32 index, u64 *value)
{
    *value = MTRR_VARIABLE_COUNT | MTRRCAP_FIXED | MTRRCAP_WC;
    return true;
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

static bool read_mtrr(struct vcpu *vcpu, u32 index, u64 *value)
{
    *value = *mtrr(vcpu, index);
    return true;
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

static bool read_register(struct vcpu *vcpu, u32 index, u64 *value)
{
    *value = host.hvm->read_register(vcpu, register_of(index));
    return true;
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

static bool read_misc_enable(struct vcpu *vcpu, u32 index, u64 *value)
{
    *value =
        vcpu->msrs.misc_enable | MISC_FAST_STRINGS | MISC_BTS_UNAVAILABLE | MISC_PEBS_UNAVAILABLE;
    return true;
}

static bool write_misc_enable(struct vcpu *vcpu, u32 index, u64 value)
{
    vcpu->msrs.misc_enable = value;
    return true;
}

static bool read_xss(struct vcpu *vcpu, u32 index, u64 *value)
{
    *value = 0;
    return host.features.xsaves;
}

static bool write_xss(struct vcpu *vcpu, u32 index, u64 value)
{
    return host.features.xsaves && value == 0;
}

static bool read_de_cfg(struct vcpu *vcpu, u32 index, u64 *value)
{
    *value = DE_CFG_LFENCE;
    return true;
}

/* Those that guests write all the time come first. */
static const struct msr_range ranges[] = {
    {MSR_TSC_DEADLINE,     1,                       read_apic,            write_deadline   },
    {MSR_X2APIC_EOI,       1,                       NULL,                 write_eoi        },
    {MSR_TSC_ADJUST,       1,                       read_adjust,          write_adjust     },
    {MSR_X2APIC,           X2APIC_COUNT,            read_apic,            write_apic       },
    {MSR_TSC,              1,                       read_tsc,             write_tsc        },
    {MSR_PLATFORM_ID,      1,                       read_zero,            NULL             },
    {MSR_APIC_BASE,        1,                       read_apic,            write_apic       },
    {MSR_FEATURE_CONTROL,  1,                       read_feature_control, NULL             },
    {MSR_BIOS_UPDT_TRIG,   1,                       NULL,                 write_ignored    },
    {MSR_BIOS_SIGN_ID,     1,                       read_zero,            write_ignored    },
    {MSR_MTRRCAP,          1,                       read_mtrrcap,         NULL             },
    {MSR_SYSENTER_CS,      3,                       read_register,        write_register   },
    {MSR_MCG_CAP,          1,                       read_zero,            NULL             },
    {MSR_MCG_STATUS,       1,                       read_zero,            write_ignored    },
    {MSR_MISC_ENABLE,      1,                       read_misc_enable,     write_misc_enable},
    {MSR_DEBUGCTL,         1,                       read_register,        write_debugctl   },
    {MSR_MTRR_PHYSBASE0,   2 * MTRR_VARIABLE_COUNT, read_mtrr,            write_mtrr       },
    {MSR_MTRR_FIX64K,      1,                       read_mtrr,            write_mtrr       },
    {MSR_MTRR_FIX16K,      2,                       read_mtrr,            write_mtrr       },
    {MSR_MTRR_FIX4K,       8,                       read_mtrr,            write_mtrr       },
    {MSR_PAT,              1,                       read_register,        write_pat        },
    {MSR_MTRR_DEF_TYPE,    1,                       read_mtrr,            write_mtrr       },
    {MSR_XSS,              1,                       read_xss,             write_xss        },
    {MSR_KVM_FIRST,        KVM_MSRS,                pv_read_msr,          pv_write_msr     },
    {MSR_EFER,             1,                       read_register,        write_efer       },
    {MSR_AMD_SYSCFG,       1,                       read_zero,            write_ignored    },
    {MSR_AMD_HWCR,         1,                       read_zero,            write_ignored    },
    {MSR_AMD_NB_CFG,       1,                       read_zero,            write_ignored    },
    {MSR_AMD_PATCH_LOADER, 1,                       NULL,                 write_ignored    },
    {MSR_AMD_DE_CFG,       1,                       read_de_cfg,          write_ignored    },
};

static const struct msr_range *find(u32 index)
{
    for (const struct msr_range *range = ranges; range < ranges + ARRAY_SIZE(ranges); range++)
        if (index - range->first < range->count)
            return range;
    return NULL;
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

static bool read_msr(struct vcpu *vcpu, u32 index, u64 *value)
{
    const struct msr_range *range = find(index);

    return range && range->read && range->read(vcpu, index, value);
}

static void set_value(struct vcpu *vcpu, u64 value)
{
    vcpu->gpr[GPR_RAX] = (u32)value;
    vcpu->gpr[GPR_RDX] = value >> 32;
}

enum exit_kind vcpu_fast_rdmsr(struct vcpu *vcpu)
{
    u64 value;

    if (!read_msr(vcpu, (u32)vcpu->gpr[GPR_RCX], &value))
        return EXIT_NONE;
    set_value(vcpu, value);
    return EXIT_RDMSR;
}

/* A write that is refused has changed nothing. */
enum exit_kind vcpu_fast_wrmsr(struct vcpu *vcpu)
{
    u32 index = (u32)vcpu->gpr[GPR_RCX];
    u64 value = vcpu->gpr[GPR_RDX] << 32 | (u32)vcpu->gpr[GPR_RAX];
    const struct msr_range *range = find(index);

    return range && range->write && range->write(vcpu, index, value) ? EXIT_WRMSR : EXIT_NONE;
}

void handle_rdmsr(struct vcpu *vcpu, struct exit *exit)
{
    u64 value = 0;

    if (!read_msr(vcpu, exit->msr.index, &value) &&
        !unknown_ignored(vcpu, exit->msr.index, "reads"))
        vcpu_raise_gp(vcpu);
    else if (host.hvm->skip_instruction(vcpu, 0))
        set_value(vcpu, value);
}

/* What this partition's virtual CPUs lack cannot be read either. */
static bool is_there(struct vcpu *vcpu, const struct msr_range *range, u32 index)
{
    u64 value;

    return range && range->write && (!range->read || range->read(vcpu, index, &value));
}

void handle_wrmsr(struct vcpu *vcpu, struct exit *exit)
{
    u32 index = exit->msr.index;
    const struct msr_range *range = find(index);
    bool written = range && range->write && range->write(vcpu, index, exit->msr.value);

    /* It may end in a skip that finds no instruction: better to write twice than never. */
    if (written || (!is_there(vcpu, range, index) && unknown_ignored(vcpu, index, "writes")))
        host.hvm->skip_instruction(vcpu, 0);
    else
        vcpu_raise_gp(vcpu);
}
