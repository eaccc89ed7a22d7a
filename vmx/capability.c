/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "vmx/capability.h"

#include "core/log.h"
#include "drivers/cpu.h"
#include "lib/string.h"
#include "vmx/msr.h"
#include "vmx/vmx.h"

enum {
    CPUID_1_ECX_VMX = 1 << 5,
    CPUID_EXTENDED_1_EDX_LONG_MODE = 1 << 29,
    FEATURE_CONTROL_LOCK = 1 << 0,
    FEATURE_CONTROL_VMXON_OUTSIDE_SMX = 1 << 2,
    VMX_BASIC_REVISION_MASK = 0x7FFFFFFF,
    VMX_MISC_TIMER_SHIFT_MASK = 0x1F,
};

#define CPUID_EXTENDED_1        0x80000001U
#define VMX_BASIC_TRUE_CONTROLS BIT(55)

enum need {
    REQUIRED,
    OPTIONAL,
    UNUSED,
};

/* A feature whose bits are all set is there. `needs` names bits that must be in use as well, in
 * an earlier row. */
struct feature {
    const char *name;
    u64 bits;
    enum capability_word word;
    enum need need;
    enum capability_word needs_word;
    u64 needs_bits;
};

#define FEATURE(in_word, its_need, its_name, its_bits, ...)                                        \
    {                                                                                              \
        .name = its_name, .bits = its_bits, .word = WORD_##in_word, .need = its_need, __VA_ARGS__  \
    }
#define NEEDS_TPR_SHADOW .needs_word = WORD_PRIMARY, .needs_bits = PRIMARY_TPR_SHADOW

/* clang-format off */
static const struct feature features[] = {
    FEATURE(PIN, REQUIRED, "external-interrupt exiting", PIN_EXTERNAL_INTERRUPT_EXITING),
    FEATURE(PIN, REQUIRED, "NMI exiting", PIN_NMI_EXITING),
    FEATURE(PIN, REQUIRED, "virtual NMIs", PIN_VIRTUAL_NMIS),
    FEATURE(PIN, OPTIONAL, "VMX-preemption timer", PIN_PREEMPTION_TIMER),
    FEATURE(PIN, UNUSED, "posted interrupts", PIN_POSTED_INTERRUPTS),

    FEATURE(PRIMARY, REQUIRED, "TSC offsetting", PRIMARY_TSC_OFFSETTING),
    FEATURE(PRIMARY, REQUIRED, "HLT exiting", PRIMARY_HLT_EXITING),
    FEATURE(PRIMARY, REQUIRED, "MWAIT exiting", PRIMARY_MWAIT_EXITING),
    FEATURE(PRIMARY, REQUIRED, "RDPMC exiting", PRIMARY_RDPMC_EXITING),
    FEATURE(PRIMARY, REQUIRED, "MONITOR exiting", PRIMARY_MONITOR_EXITING),
    FEATURE(PRIMARY, REQUIRED, "unconditional I/O exiting", PRIMARY_UNCONDITIONAL_IO_EXITING),
    FEATURE(PRIMARY, REQUIRED, "MSR bitmaps", PRIMARY_MSR_BITMAPS),
    FEATURE(PRIMARY, REQUIRED, "secondary controls", PRIMARY_SECONDARY_CONTROLS),
    FEATURE(PRIMARY, OPTIONAL, "TPR shadow", PRIMARY_TPR_SHADOW),

    FEATURE(SECONDARY, REQUIRED, "EPT", SECONDARY_EPT),
    FEATURE(SECONDARY, REQUIRED, "unrestricted guest", SECONDARY_UNRESTRICTED_GUEST),
    FEATURE(EPT_VPID, REQUIRED, "EPT page walk of 4 levels", EPT_VPID_PAGE_WALK_4),
    FEATURE(EPT_VPID, REQUIRED, "EPT write-back memory", EPT_VPID_WRITE_BACK),
    FEATURE(EPT_VPID, REQUIRED, "INVEPT", EPT_VPID_INVEPT | EPT_VPID_INVEPT_SINGLE_CONTEXT),
    FEATURE(EPT_VPID, OPTIONAL, "EPT 2 MiB pages", EPT_VPID_2MIB_PAGES),
    FEATURE(EPT_VPID, OPTIONAL, "EPT 1 GiB pages", EPT_VPID_1GIB_PAGES),
    FEATURE(EPT_VPID, OPTIONAL, "EPT accessed and dirty flags", EPT_VPID_ACCESSED_DIRTY),
    FEATURE(EPT_VPID, OPTIONAL, "INVVPID", EPT_VPID_INVVPID | EPT_VPID_INVVPID_SINGLE_CONTEXT),
    FEATURE(SECONDARY, OPTIONAL, "VPID", SECONDARY_VPID,
            .needs_word = WORD_EPT_VPID, .needs_bits = EPT_VPID_INVVPID),
    FEATURE(SECONDARY, OPTIONAL, "APIC-access page", SECONDARY_VIRTUALIZE_APIC_ACCESSES,
            NEEDS_TPR_SHADOW),
    FEATURE(SECONDARY, OPTIONAL, "virtual x2APIC mode", SECONDARY_VIRTUALIZE_X2APIC_MODE,
            NEEDS_TPR_SHADOW),
    FEATURE(SECONDARY, OPTIONAL, "APIC-register virtualisation", SECONDARY_APIC_REGISTER_VIRTUALIZATION,
            NEEDS_TPR_SHADOW),
    FEATURE(SECONDARY, OPTIONAL, "virtual-interrupt delivery", SECONDARY_VIRTUAL_INTERRUPT_DELIVERY,
            NEEDS_TPR_SHADOW),
    FEATURE(SECONDARY, OPTIONAL, "RDTSCP", SECONDARY_RDTSCP),
    FEATURE(SECONDARY, OPTIONAL, "INVPCID", SECONDARY_INVPCID),
    FEATURE(SECONDARY, OPTIONAL, "XSAVES", SECONDARY_XSAVES),
    FEATURE(SECONDARY, OPTIONAL, "PAUSE-loop exiting", SECONDARY_PAUSE_LOOP_EXITING),
    FEATURE(SECONDARY, OPTIONAL, "ENCLS exiting", SECONDARY_ENCLS_EXITING),
    FEATURE(SECONDARY, OPTIONAL, "TSC scaling", SECONDARY_TSC_SCALING),
    FEATURE(SECONDARY, UNUSED, "VM functions", SECONDARY_VM_FUNCTIONS),
    FEATURE(SECONDARY, UNUSED, "VMCS shadowing", SECONDARY_VMCS_SHADOWING),
    FEATURE(SECONDARY, UNUSED, "page-modification logging", SECONDARY_PAGE_MODIFICATION_LOGGING),

    FEATURE(EXIT, REQUIRED, "64-bit host", EXIT_CONTROL_HOST_ADDRESS_SPACE_SIZE),
    FEATURE(EXIT, REQUIRED, "saving of debug controls", EXIT_CONTROL_SAVE_DEBUG_CONTROLS),
    FEATURE(EXIT, REQUIRED, "saving of IA32_PAT", EXIT_CONTROL_SAVE_PAT),
    FEATURE(EXIT, REQUIRED, "loading of the host's IA32_PAT", EXIT_CONTROL_LOAD_PAT),
    FEATURE(EXIT, REQUIRED, "saving of IA32_EFER", EXIT_CONTROL_SAVE_EFER),
    FEATURE(EXIT, REQUIRED, "loading of the host's IA32_EFER", EXIT_CONTROL_LOAD_EFER),
    FEATURE(EXIT, OPTIONAL, "saving of the VMX-preemption timer", EXIT_CONTROL_SAVE_PREEMPTION_TIMER,
            .needs_word = WORD_PIN, .needs_bits = PIN_PREEMPTION_TIMER),
    FEATURE(ENTRY, REQUIRED, "loading of debug controls", ENTRY_CONTROL_LOAD_DEBUG_CONTROLS),
    FEATURE(ENTRY, REQUIRED, "64-bit guest", ENTRY_CONTROL_IA32E_MODE_GUEST),
    FEATURE(ENTRY, REQUIRED, "loading of the guest's IA32_PAT", ENTRY_CONTROL_LOAD_PAT),
    FEATURE(ENTRY, REQUIRED, "loading of the guest's IA32_EFER", ENTRY_CONTROL_LOAD_EFER),
};
/* clang-format on */

_Static_assert(ARRAY_SIZE(features) <= HVM_FEATURES_MAX, "all fit into the report");

/* Refusals with a sentence of their own, the most basic first. */
static const struct {
    enum capability_word word;
    u64 bit;
    const char *sentence;
} refusals[] = {
    {WORD_PRIMARY,   PRIMARY_SECONDARY_CONTROLS,
     "this CPU's VT-x has no secondary processor-based controls, on which EPT and unrestricted "
     "guest depend: a newer CPU is needed"                                     },
    {WORD_SECONDARY, SECONDARY_EPT,
     "this CPU's VT-x has no EPT (extended page tables): a newer CPU is needed"},
    {WORD_SECONDARY, SECONDARY_UNRESTRICTED_GUEST,
     "this CPU's VT-x has EPT but no unrestricted guest: a newer CPU is needed"},
};

/* What one CPU says. */
struct capabilities {
    u64 basic, misc;
    u64 allowed[WORD_COUNT]; /* bits that may be 1 */
    u64 forced[WORD_COUNT];  /* bits that must be 1 */
    u64 cr0_fixed0, cr4_fixed0;
};

static const struct {
    enum capability_word word;
    u32 msr, true_msr;
} control_msrs[] = {
    {WORD_PIN,     MSR_VMX_PINBASED_CTLS,  MSR_VMX_TRUE_PINBASED_CTLS },
    {WORD_PRIMARY, MSR_VMX_PROCBASED_CTLS, MSR_VMX_TRUE_PROCBASED_CTLS},
    {WORD_EXIT,    MSR_VMX_EXIT_CTLS,      MSR_VMX_TRUE_EXIT_CTLS     },
    {WORD_ENTRY,   MSR_VMX_ENTRY_CTLS,     MSR_VMX_TRUE_ENTRY_CTLS    },
};

struct vmx_used vmx_used;

static void read_control(struct capabilities *caps, enum capability_word word, u32 msr)
{
    u64 value = rdmsr(msr);

    caps->forced[word] = (u32)value;
    caps->allowed[word] = value >> 32;
}

/* What must be 1 cannot be done without. */
static void drop_unwanted(struct capabilities *caps)
{
    for (u32 i = 0; i < ARRAY_SIZE(features); i++)
        if (host_without(features[i].name))
            caps->allowed[features[i].word] &= ~features[i].bits | caps->forced[features[i].word];
}

/* CPUID has said VMX; each further MSR is announced by one before it. */
static void read_capabilities(struct capabilities *caps)
{
    memset(caps, 0, sizeof(*caps));
    caps->basic = rdmsr(MSR_VMX_BASIC);
    caps->misc = rdmsr(MSR_VMX_MISC);
    caps->cr0_fixed0 = rdmsr(MSR_VMX_CR0_FIXED0);
    caps->cr4_fixed0 = rdmsr(MSR_VMX_CR4_FIXED0);
    for (u32 i = 0; i < ARRAY_SIZE(control_msrs); i++)
        read_control(caps, control_msrs[i].word,
                     caps->basic & VMX_BASIC_TRUE_CONTROLS ? control_msrs[i].true_msr
                                                           : control_msrs[i].msr);
    if (caps->allowed[WORD_PRIMARY] & PRIMARY_SECONDARY_CONTROLS)
        read_control(caps, WORD_SECONDARY, MSR_VMX_PROCBASED_CTLS2);
    if (caps->allowed[WORD_SECONDARY] & (SECONDARY_EPT | SECONDARY_VPID))
        caps->allowed[WORD_EPT_VPID] = rdmsr(MSR_VMX_EPT_VPID_CAP);
    drop_unwanted(caps);
}

static bool has_feature(const struct capabilities *caps, const struct feature *feature)
{
    return (caps->allowed[feature->word] & feature->bits) == feature->bits;
}

static bool is_used(const struct feature *feature)
{
    return feature->need != UNUSED &&
           (vmx_used.words[feature->word] & feature->bits) == feature->bits;
}

static void choose(const struct capabilities *caps)
{
    memset(&vmx_used, 0, sizeof(vmx_used));
    for (u32 i = 0; i < ARRAY_SIZE(features); i++) {
        const struct feature *feature = &features[i];
        u64 needed = vmx_used.words[feature->needs_word] & feature->needs_bits;

        if (feature->need != UNUSED && has_feature(caps, feature) && needed == feature->needs_bits)
            vmx_used.words[feature->word] |= feature->bits;
    }
    for (u32 word = 0; word < WORD_COUNT; word++)
        vmx_used.words[word] |= caps->forced[word];
    vmx_used.revision = caps->basic & VMX_BASIC_REVISION_MASK;
    vmx_used.timer_shift = caps->misc & VMX_MISC_TIMER_SHIFT_MASK;
    vmx_used.cr0_fixed = caps->cr0_fixed0 & ~(CR0_PE | CR0_PG); /* unrestricted guest */
    vmx_used.cr4_fixed = caps->cr4_fixed0;
}

static enum feature_state feature_state(const struct capabilities *caps,
                                        const struct feature *feature)
{
    if (!has_feature(caps, feature))
        return feature->need == REQUIRED ? FEATURE_MISSING : FEATURE_ABSENT;
    return is_used(feature) ? FEATURE_USED : FEATURE_UNUSED;
}

static void refuse(struct hvm_report *report, const char *sentence)
{
    snprintf(report->refusal, sizeof(report->refusal), "%s", sentence);
}

/* Sets the refusal unless all that is required is there. */
static bool check_required(const struct capabilities *caps, struct hvm_report *report)
{
    for (u32 i = 0; i < ARRAY_SIZE(refusals); i++)
        if (!(caps->allowed[refusals[i].word] & refusals[i].bit)) {
            refuse(report, refusals[i].sentence);
            return false;
        }
    for (u32 i = 0; i < ARRAY_SIZE(features); i++)
        if (feature_state(caps, &features[i]) == FEATURE_MISSING) {
            snprintf(report->refusal, sizeof(report->refusal),
                     "this CPU's VT-x lacks what is needed here: %s", features[i].name);
            return false;
        }
    if (!(caps->basic & VMX_BASIC_TRUE_CONTROLS)) {
        refuse(report, "this CPU's VT-x cannot let a guest write CR3 without an exit (it has no "
                       "IA32_VMX_TRUE_* MSRs): a newer CPU is needed");
        return false;
    }
    return true;
}

static bool cpu_has_vmx(void)
{
    return (cpuid(1, 0).ecx & CPUID_1_ECX_VMX) != 0 &&
           cpuid(CPUID_EXTENDED_1 - 1, 0).eax >= CPUID_EXTENDED_1 &&
           (cpuid(CPUID_EXTENDED_1, 0).edx & CPUID_EXTENDED_1_EDX_LONG_MODE) != 0;
}

static bool vendor_is_intel(void)
{
    struct cpuid_result leaf = cpuid(0, 0);

    return memcmp(&leaf.ebx, "Genu", 4) == 0 && memcmp(&leaf.edx, "ineI", 4) == 0 &&
           memcmp(&leaf.ecx, "ntel", 4) == 0;
}

static bool locked_off(u64 feature_control)
{
    return (feature_control & FEATURE_CONTROL_LOCK) != 0 &&
           (feature_control & FEATURE_CONTROL_VMXON_OUTSIDE_SMX) == 0;
}

/* Of a CPU that is refused, nothing is used. */
static void report_features(const struct capabilities *caps, struct hvm_report *report)
{
    for (u32 i = 0; i < ARRAY_SIZE(features); i++) {
        enum feature_state state = feature_state(caps, &features[i]);

        if (state == FEATURE_USED && !report->usable)
            state = FEATURE_UNUSED;
        report->features[i] = (struct hvm_feature){features[i].name, state};
    }
    report->feature_count = ARRAY_SIZE(features);
    report->nested_large_sizes = (vmx_has(WORD_EPT_VPID, EPT_VPID_2MIB_PAGES) ? BIT(0) : 0) |
                                 (vmx_has(WORD_EPT_VPID, EPT_VPID_1GIB_PAGES) ? BIT(1) : 0);
    report->tsc_scaling = vmx_has(WORD_SECONDARY, SECONDARY_TSC_SCALING);
    report->virtual_apic = vmx_has(WORD_SECONDARY, SECONDARY_APIC_REGISTER_VIRTUALIZATION) ||
                           vmx_has(WORD_SECONDARY, SECONDARY_VIRTUAL_INTERRUPT_DELIVERY);
    report->entry_deadline = vmx_has(WORD_PIN, PIN_PREEMPTION_TIMER);
}

bool vmx_probe(struct hvm_report *report)
{
    struct capabilities caps;
    u64 feature_control;

    memset(report, 0, sizeof(*report));
    if (!cpu_has_vmx()) {
        refuse(report, "this CPU is not an x86-64 CPU with VT-x: its CPUID does not have VMX "
                       "(leaf 1, ECX bit 5)");
        return vendor_is_intel();
    }
    feature_control = rdmsr(MSR_FEATURE_CONTROL);
    read_capabilities(&caps);
    choose(&caps);
    if (locked_off(feature_control))
        refuse(report, "VT-x is turned off and locked by the firmware (in IA32_FEATURE_CONTROL bit "
                       "2 is 0 and bit 0 is 1): turn on \"Intel Virtualization Technology\" (VT-x, "
                       "VMX) in the firmware's setup, then power-cycle");
    else
        report->usable = check_required(&caps, report);
    report_features(&caps, report);
    if (!(feature_control & FEATURE_CONTROL_LOCK))
        snprintf(report->note, sizeof(report->note),
                 "VT-x is enabled here (bits 2 and 0 of IA32_FEATURE_CONTROL), as the firmware had "
                 "left it unlocked");
    return true;
}

static bool open_feature_control(u32 index)
{
    u64 value = rdmsr(MSR_FEATURE_CONTROL);

    if (locked_off(value)) {
        log_error("CPU %u: VT-x is turned off and locked by the firmware", index);
        return false;
    }
    if (!(value & FEATURE_CONTROL_LOCK))
        wrmsr(MSR_FEATURE_CONTROL,
              value | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMXON_OUTSIDE_SMX);
    return true;
}

static bool matches_first(const struct capabilities *caps, u32 index)
{
    bool matches = true;

    for (u32 i = 0; i < ARRAY_SIZE(features); i++)
        if (is_used(&features[i]) && !has_feature(caps, &features[i])) {
            log_error("CPU %u lacks what CPU 0 has: %s", index, features[i].name);
            matches = false;
        }
    for (u32 word = 0; word < WORD_CONTROL_COUNT; word++)
        if (caps->forced[word] & ~vmx_used.words[word]) {
            log_error("CPU %u forces other VM-execution controls than CPU 0", index);
            matches = false;
        }
    if ((caps->basic & VMX_BASIC_REVISION_MASK) != vmx_used.revision ||
        (caps->misc & VMX_MISC_TIMER_SHIFT_MASK) != vmx_used.timer_shift) {
        log_error("CPU %u: VMCS revision or timer rate differ from CPU 0's", index);
        matches = false;
    }
    return matches;
}

bool vmx_check_cpu(u32 index)
{
    struct capabilities caps;

    if (!cpu_has_vmx()) {
        log_error("CPU %u has no VT-x, unlike CPU 0", index);
        return false;
    }
    read_capabilities(&caps);
    return matches_first(&caps, index) && open_feature_control(index);
}
