/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* What this CPU has of AMD-V, and why it can't be used. Sources: AMD APM volume 2, "Enabling SVM"
 * and volume 3, appendix E (CPUID). */

#include "core/log.h"
#include "drivers/cpu.h"
#include "lib/string.h"
#include "svm/msr.h"
#include "svm/svm.h"

enum cpuid_leaf {
    CPUID_VENDOR = 0,
    CPUID_FEATURES = 1,
    CPUID_HYPERVISOR = 0x40000000,
    CPUID_EXTENDED_MAX = 0x80000000,
    CPUID_EXTENDED_FEATURES = 0x80000001,
    CPUID_SIZES = 0x80000008,
    CPUID_SVM = 0x8000000A,
    CPUID_CORE = 0x8000001E,
};

/* Fn0000_0001 */
#define ECX_HYPERVISOR BIT(31)
/* Fn8000_0001 */
#define ECX_SVM      BIT(2)
#define EDX_PAGE1GB  BIT(26)
#define EDX_RDTSCP   BIT(27)
#define ECX_TOPOLOGY BIT(22)
/* Fn8000_0008 EBX */
#define EBX_INVLPGB BIT(3)
#define EBX_RDPRU   BIT(4)
#define EBX_MCOMMIT BIT(8)

/* Fn8000_001E EBX */
#define EBX_THREADS_LESS_1(ebx) ((u8)((ebx) >> 8))

#define VM_CR_LOCK   BIT(3)
#define VM_CR_SVMDIS BIT(4)

#define ASIDS_MIN 2 /* the host's and one guest's */

#define NESTED_2M BIT(0)
#define NESTED_1G BIT(1)

#define NAME_SVM        "SVM"
#define NAME_HUGE_PAGES "1 GiB nested pages"
#define NAME_RDTSCP     "RDTSCP"
#define NAME_OWN_CR     "guest-owned CR0 and CR4"

struct svm_cpuid svm_cpuid;

/* Every feature by its name, and its fate where the CPU has it. */
static const struct {
    const char *name;
    u32 bit;
    enum feature_state present;
    enum feature_state lacking;
} features[] = {
    {"nested paging",             SVM_NESTED_PAGING,          FEATURE_USED,   FEATURE_MISSING},
    {"NRIP save",                 SVM_NRIP_SAVE,              FEATURE_USED,   FEATURE_ABSENT },
    {"decode assists",            SVM_DECODE_ASSISTS,         FEATURE_USED,   FEATURE_ABSENT },
    {"flush by ASID",             SVM_FLUSH_BY_ASID,          FEATURE_USED,   FEATURE_ABSENT },
    {"VMCB clean bits",           SVM_VMCB_CLEAN,             FEATURE_USED,   FEATURE_ABSENT },
    {"pause filter",              SVM_PAUSE_FILTER,           FEATURE_USED,   FEATURE_ABSENT },
    {"pause filter threshold",    SVM_PAUSE_FILTER_THRESHOLD, FEATURE_USED,   FEATURE_ABSENT },
    {"LBR virtualization",        SVM_LBR_VIRTUALIZATION,     FEATURE_USED,   FEATURE_ABSENT },
    {"SVM lock",                  SVM_LOCK,                   FEATURE_UNUSED, FEATURE_ABSENT },
    {"TSC ratio",                 SVM_TSC_RATIO,              FEATURE_USED,   FEATURE_ABSENT },
    {"AVIC",                      SVM_AVIC,                   FEATURE_UNUSED, FEATURE_ABSENT },
    {"x2AVIC",                    SVM_X2AVIC,                 FEATURE_UNUSED, FEATURE_ABSENT },
    {"virtual VMLOAD and VMSAVE", SVM_VIRTUAL_VMLOAD,         FEATURE_UNUSED, FEATURE_ABSENT },
    {"virtual GIF",               SVM_VIRTUAL_GIF,            FEATURE_UNUSED, FEATURE_ABSENT },
    {"virtual NMI",               SVM_VIRTUAL_NMI,            FEATURE_UNUSED, FEATURE_ABSENT },
};

/* What the backend relies on once the boot CPU had it. */
#define FEATURES_RELIED_ON                                                                         \
    (SVM_NESTED_PAGING | SVM_NRIP_SAVE | SVM_DECODE_ASSISTS | SVM_FLUSH_BY_ASID |                  \
     SVM_PAUSE_FILTER | SVM_PAUSE_FILTER_THRESHOLD | SVM_LBR_VIRTUALIZATION | SVM_TSC_RATIO)

static bool vendor_is_amd(void)
{
    static const char *const vendors[] = {"AuthenticAMD", "HygonGenuine"};
    struct cpuid_result r = cpuid(CPUID_VENDOR, 0);
    u32 text[3] = {r.ebx, r.edx, r.ecx};

    for (size_t i = 0; i < ARRAY_SIZE(vendors); i++)
        if (memcmp(text, vendors[i], sizeof(text)) == 0)
            return true;
    return false;
}

static bool is_tcg(void)
{
    struct cpuid_result r;

    if (!(cpuid(CPUID_FEATURES, 0).ecx & ECX_HYPERVISOR))
        return false;
    r = cpuid(CPUID_HYPERVISOR, 0);
    return memcmp(&r.ebx, "TCGT", 4) == 0 && memcmp(&r.ecx, "CGTC", 4) == 0;
}

static void drop_unwanted(struct svm_cpuid *found)
{
    for (size_t i = 0; i < ARRAY_SIZE(features); i++)
        if (host_without(features[i].name))
            found->features &= ~features[i].bit;
    found->svm = found->svm && !host_without(NAME_SVM);
    found->huge_pages = found->huge_pages && !host_without(NAME_HUGE_PAGES);
    found->rdtscp = found->rdtscp && !host_without(NAME_RDTSCP);
}

struct svm_cpuid svm_read_cpuid(void)
{
    u32 max = cpuid(CPUID_EXTENDED_MAX, 0).eax;
    struct svm_cpuid found = {.tcg = is_tcg(), .own_cr = !host_without(NAME_OWN_CR)};

    if (max >= CPUID_EXTENDED_FEATURES) {
        struct cpuid_result r = cpuid(CPUID_EXTENDED_FEATURES, 0);

        found.svm = r.ecx & ECX_SVM;
        found.rdtscp = r.edx & EDX_RDTSCP;
        found.huge_pages = r.edx & EDX_PAGE1GB;
        found.smt = r.ecx & ECX_TOPOLOGY && EBX_THREADS_LESS_1(cpuid(CPUID_CORE, 0).ebx) != 0;
    }
    if (max >= CPUID_SIZES) {
        struct cpuid_result r = cpuid(CPUID_SIZES, 0);

        found.rdpru = r.ebx & EBX_RDPRU;
        found.invlpgb = r.ebx & EBX_INVLPGB;
        found.mcommit = r.ebx & EBX_MCOMMIT;
    }
    if (found.svm && max >= CPUID_SVM) {
        struct cpuid_result r = cpuid(CPUID_SVM, 0);

        found.asids = r.ebx;
        found.features = r.edx;
    }
    drop_unwanted(&found);
    return found;
}

bool svm_unlock(bool *changed)
{
    u64 control;

    if (changed)
        *changed = false;
    if (!rdmsr_try(MSR_VM_CR, &control) || !(control & VM_CR_SVMDIS))
        return true;
    if (control & VM_CR_LOCK)
        return false;
    wrmsr(MSR_VM_CR, control & ~VM_CR_SVMDIS);
    if (rdmsr(MSR_VM_CR) & VM_CR_SVMDIS)
        return false;
    if (changed)
        *changed = true;
    return true;
}

/* A sentence that says what to change, or NULL. */
static const char *find_refusal(bool *unlocked)
{
    *unlocked = false;
    if (!svm_cpuid.svm)
        return "this AMD CPU does not offer AMD-V (CPUID Fn8000_0001 ECX bit 2, SVM): use one that "
               "does, or let the hypervisor below pass it through (QEMU: -cpu EPYC,+svm,+npt)";
    if (!svm_unlock(unlocked))
        return "the firmware has disabled AMD-V and locked that (VM_CR.SVMDIS): enable \"SVM\" or "
               "\"virtualization\" in the firmware's setup and power-cycle the machine";
    if (!(svm_cpuid.features & SVM_NESTED_PAGING))
        return "this CPU's AMD-V has no nested paging (CPUID Fn8000_000A EDX bit 0, NP), which is "
               "required: use an AMD CPU of family 10h or later (QEMU: -cpu EPYC,+svm,+npt)";
    if (svm_cpuid.asids < ASIDS_MIN)
        return "this CPU's AMD-V offers no ASID for guests (CPUID Fn8000_000A EBX): it must have "
               "at least two";
    return NULL;
}

/* Of a CPU that is refused, nothing is used. */
static void report_feature(struct hvm_report *report, const char *name, enum feature_state state)
{
    if (state == FEATURE_USED && !report->usable)
        state = FEATURE_UNUSED;
    if (report->feature_count < HVM_FEATURES_MAX)
        report->features[report->feature_count++] =
            (struct hvm_feature){.name = name, .state = state};
}

static void fill_report(struct hvm_report *report)
{
    report_feature(report, NAME_SVM, svm_cpuid.svm ? FEATURE_USED : FEATURE_MISSING);
    for (size_t i = 0; i < ARRAY_SIZE(features); i++)
        report_feature(report, features[i].name,
                       svm_cpuid.features & features[i].bit ? features[i].present
                                                            : features[i].lacking);
    report_feature(report, NAME_HUGE_PAGES, svm_cpuid.huge_pages ? FEATURE_USED : FEATURE_ABSENT);
    report_feature(report, NAME_RDTSCP, svm_cpuid.rdtscp ? FEATURE_USED : FEATURE_ABSENT);
    report_feature(report, NAME_OWN_CR, svm_cpuid.own_cr ? FEATURE_USED : FEATURE_UNUSED);
    report->nested_large_sizes = NESTED_2M | (svm_cpuid.huge_pages ? NESTED_1G : 0);
    report->tsc_scaling = svm_cpuid.features & SVM_TSC_RATIO;
    report->entry_deadline = false;
}

bool svm_probe(struct hvm_report *report)
{
    const char *refusal;
    bool unlocked;

    svm_cpuid = svm_read_cpuid();
    if (!vendor_is_amd() && !svm_cpuid.svm)
        return false;
    memset(report, 0, sizeof(*report));
    refusal = find_refusal(&unlocked);
    report->usable = !refusal;
    fill_report(report);
    snprintf(report->refusal, sizeof(report->refusal), "%s", refusal ? refusal : "");
    if (unlocked)
        snprintf(report->note, sizeof(report->note),
                 "enabled here, as the firmware had disabled it but left it unlocked");
    return true;
}

bool svm_check_features(u32 cpu_index)
{
    struct svm_cpuid here = svm_read_cpuid();
    u32 lacking = svm_cpuid.features & FEATURES_RELIED_ON & ~here.features;

    for (size_t i = 0; i < ARRAY_SIZE(features); i++)
        if (lacking & features[i].bit)
            log_error("CPU %u lacks the boot CPU's %s", cpu_index, features[i].name);
    if (!here.svm)
        log_error("CPU %u lacks the boot CPU's AMD-V", cpu_index);
    if (here.asids < svm_cpuid.asids)
        log_error("CPU %u has %u ASIDs, the boot CPU %u", cpu_index, here.asids, svm_cpuid.asids);
    if (here.rdtscp < svm_cpuid.rdtscp)
        log_error("CPU %u lacks the boot CPU's RDTSCP", cpu_index);
    if (here.huge_pages < svm_cpuid.huge_pages)
        log_error("CPU %u lacks the boot CPU's 1 GiB pages", cpu_index);
    return lacking == 0 && here.svm && here.asids >= svm_cpuid.asids &&
           here.rdtscp >= svm_cpuid.rdtscp && here.huge_pages >= svm_cpuid.huge_pages;
}
