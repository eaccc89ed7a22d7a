/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "vmx/vmx.h"

#include "core/log.h"
#include "core/mitigations.h"
#include "drivers/cpu.h"
#include "lib/string.h"
#include "mm/pool.h"
#include "vmx/msr.h"

#define HVM_CPU_PAGES DIV_ROUND_UP(sizeof(struct hvm_cpu), PAGE_SIZE)

/* What KVM and Xen use too: a loop is PAUSEs at most GAP cycles apart, for WINDOW cycles. */
#define PLE_GAP    128
#define PLE_WINDOW 4096

#define LINEAR_SPARE_BITS 16 /* of an address, copies of the highest of the 48 others */

#define VPID_COUNT 4096 /* vCPUs beyond it do without */

_Static_assert(GPR_RAX == 0 && GPR_RCX == 1 && GPR_RDX == 2 && GPR_RBX == 3 && GPR_RBP == 5 &&
                   GPR_RSI == 6 && GPR_RDI == 7 && GPR_R8 == 8 && GPR_R15 == 15,
               "entry.asm relies on it");

static const u32 switched_msrs[SWITCHED_MSR_COUNT] = {
    [SWITCHED_STAR] = MSR_STAR,
    [SWITCHED_LSTAR] = MSR_LSTAR,
    [SWITCHED_CSTAR] = MSR_CSTAR,
    [SWITCHED_FMASK] = MSR_FMASK,
    [SWITCHED_KERNEL_GS_BASE] = MSR_KERNEL_GS_BASE,
    [SWITCHED_TSC_AUX] = MSR_TSC_AUX,
};

/* The tables that lead to the APIC-access page, for all partitions. */
static struct page_table apic_access;

/* Bit N: VPID N is in use. VPID 0 is the host's. */
static u64 vpids[VPID_COUNT / 64] = {BIT(0)};

/* ---- instructions (SDM volume 3, "VMX Instruction Reference") ---------------------------- */

struct invalidation {
    u64 context; /* EPTP or VPID */
    u64 address;
};

enum {
    INVALIDATE_SINGLE_CONTEXT = 1,
};

_Noreturn void vmcs_access_failed(const char *instruction, enum vmcs_field field)
{
    panic("%s of VMCS field %04Xh failed", instruction, field);
}

void vmwrite_table(const struct vmcs_value *table, size_t count)
{
    for (size_t i = 0; i < count; i++)
        vmwrite(table[i].field, table[i].value);
}

static bool vmxon(paddr_t region)
{
    bool failed;

    __asm__ volatile("vmxon %1" : "=@ccbe"(failed) : "m"(region) : "memory");
    return !failed;
}

static void vmclear(const paddr_t *vmcs)
{
    bool failed;

    __asm__ volatile("vmclear %1" : "=@ccbe"(failed) : "m"(*vmcs) : "memory");
    ASSERT(!failed);
}

static void vmptrld(const paddr_t *vmcs)
{
    bool failed;

    __asm__ volatile("vmptrld %1" : "=@ccbe"(failed) : "m"(*vmcs) : "memory");
    ASSERT(!failed);
}

static void invept(u64 ept_pointer)
{
    struct invalidation what = {.context = ept_pointer};
    bool failed;

    __asm__ volatile("invept %2, %1"
                     : "=@ccbe"(failed)
                     : "r"((u64)INVALIDATE_SINGLE_CONTEXT), "m"(what)
                     : "memory");
    ASSERT(!failed);
}

static void invvpid(u16 vpid)
{
    struct invalidation what = {.context = vpid};
    bool failed;

    __asm__ volatile("invvpid %2, %1"
                     : "=@ccbe"(failed)
                     : "r"((u64)INVALIDATE_SINGLE_CONTEXT), "m"(what)
                     : "memory");
    ASSERT(!failed);
}

void vmx_flush_linear(const struct hvm_vcpu *hvm)
{
    if (hvm->vpid != 0)
        invvpid(hvm->vpid);
}

/* INVEPT drops combined mappings of all VPIDs too. */
void vmx_flush(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    if (hvm->attached)
        invept(hvm->ept_pointer);
    else
        hvm->last_cpu = NULL;
}

static u32 switched_msr_count(void)
{
    return vmx_has(WORD_SECONDARY, SECONDARY_RDTSCP) ? SWITCHED_MSR_COUNT : SWITCHED_TSC_AUX;
}

/* ---- physical CPUs ----------------------------------------------------------------------- */

/* The first call, on the boot CPU, makes them. */
static bool apic_access_init(void)
{
    return apic_access.root || guest_hole_init(&apic_access, &page_format_ept, LAPIC_BASE_DEFAULT);
}

static bool vmx_cpu_on(struct cpu *cpu)
{
    if (!vmx_check_cpu(cpu->index))
        return false;
    if (!vmx_msr_bitmaps_init() || !apic_access_init()) {
        log_error("no memory for MSR bitmaps and the APIC-access page");
        return false;
    }
    cpu->hvm = pool_alloc(HVM_CPU_PAGES);
    if (!cpu->hvm) {
        log_error("CPU %u: no memory for its VMXON region", cpu->index);
        return false;
    }
    cpu->hvm->vmxon.revision = vmx_used.revision;
    for (u32 i = 0; i < switched_msr_count(); i++)
        cpu->hvm->msrs[i] = rdmsr(switched_msrs[i]);
    write_cr0(read_cr0() | vmx_used.cr0_fixed);
    write_cr4(read_cr4() | vmx_used.cr4_fixed);
    if (vmxon(pool_physical(&cpu->hvm->vmxon)))
        return true;
    log_error("CPU %u: VMXON failed", cpu->index);
    write_cr4(read_cr4() & ~CR4_VMXE);
    pool_free(cpu->hvm, HVM_CPU_PAGES);
    cpu->hvm = NULL;
    return false;
}

/* ---- making and freeing a vCPU ----------------------------------------------------------- */

/* Never two live vCPUs with one VPID. What a former owner left in a CPU's TLB goes at the first
 * attach there. */
static u16 vpid_alloc(void)
{
    for (u32 word = 0; word < ARRAY_SIZE(vpids); word++) {
        u64 taken = __atomic_load_n(&vpids[word], __ATOMIC_RELAXED);

        while (~taken) {
            u32 bit = (u32)__builtin_ctzll(~taken);

            taken = __atomic_fetch_or(&vpids[word], BIT(bit), __ATOMIC_ACQ_REL);
            if (!(taken & BIT(bit)))
                return (u16)(word * 64 + bit);
        }
    }
    return 0;
}

static void vpid_free(u16 vpid)
{
    if (vpid != 0)
        __atomic_fetch_and(&vpids[vpid / 64], ~BIT(vpid % 64), __ATOMIC_ACQ_REL);
}

static void choose_controls(struct vcpu *vcpu, struct hvm_vcpu *hvm)
{
    hvm->tpr_threshold = 0;
    hvm->primary = (u32)vmx_used.words[WORD_PRIMARY];
    if (!vmx_has(WORD_PRIMARY, PRIMARY_TPR_SHADOW))
        hvm->primary |= PRIMARY_CR8_LOAD_EXITING | PRIMARY_CR8_STORE_EXITING;
    /* As a LAPIC begins; vmx_sync_interrupts follows its mode. */
    hvm->secondary = (u32)vmx_used.words[WORD_SECONDARY] & ~(u32)SECONDARY_VIRTUALIZE_X2APIC_MODE;
    if (vcpu->vm->config.vcpus == 1)
        hvm->secondary &= ~(u32)SECONDARY_PAUSE_LOOP_EXITING;
    if (!vcpu->vm->tsc_ratio)
        hvm->secondary &= ~(u32)SECONDARY_TSC_SCALING;
    if (hvm->vpid == 0)
        hvm->secondary &= ~(u32)SECONDARY_VPID;
    hvm->ept_pointer = vcpu->vm->memory.nested.root | EPTP_WRITE_BACK | EPTP_PAGE_WALK_4;
    if (vmx_has(WORD_EPT_VPID, EPT_VPID_ACCESSED_DIRTY))
        hvm->ept_pointer |= EPTP_ACCESSED_DIRTY;
}

/* A vCPU that virtualises APIC accesses never reads or writes the page itself, any other could. So
 * all partitions have the same one, and each only while all of its vCPUs do so: else what is
 * accessed there is not mapped, and shared code's to answer. Translations of the page that stay
 * cached are of no use to others: who ceases flushes, and who comes to another CPU. */
void vmx_share_apic_access_page(struct vm *vm)
{
    bool all = true;

    for (u32 i = 0; i < vm->vcpu_count; i++)
        all = all && (vm->vcpus[i]->hvm->secondary & SECONDARY_VIRTUALIZE_APIC_ACCESSES);
    guest_memory_share_hole(&vm->memory, all ? &apic_access : NULL);
}

static bool vmx_vcpu_init(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;
    struct vmcs *vmcs;

    /* Makes the table that vmx_share_apic_access_page needs. */
    if (!guest_memory_share_hole(&vcpu->vm->memory, NULL))
        return false;
    vmcs = vm_alloc(vcpu->vm, 1);
    if (!vmcs)
        return false;
    if (vmx_has(WORD_SECONDARY, SECONDARY_VPID))
        hvm->vpid = vpid_alloc();
    choose_controls(vcpu, hvm);
    vmx_share_apic_access_page(vcpu->vm);
    vmcs->revision = vmx_used.revision;
    hvm->vmcs = pool_physical(vmcs);
    return true;
}

static void vmx_vcpu_free(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    guest_memory_share_hole(&vcpu->vm->memory, NULL);
    vpid_free(hvm->vpid);
    vm_free(vcpu->vm, pool_virtual(hvm->vmcs), 1);
}

/* ---- the constant part of a VMCS --------------------------------------------------------- */

/* #MC is the host's. #DB and #AC, which a guest could make recur for ever while one of them is
 * being delivered, are handed on by vmx_handle_exit: so that interrupts get in between. */
#define INTERCEPTED_EXCEPTIONS (BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC))

static void write_controls(const struct hvm_vcpu *hvm)
{
    const struct vmcs_value controls[] = {
        {VMCS_PIN_BASED_CONTROLS,             vmx_used.words[WORD_PIN]  },
        {VMCS_PRIMARY_CONTROLS,               hvm->primary              },
        {VMCS_SECONDARY_CONTROLS,             hvm->secondary            },
        {VMCS_EXIT_CONTROLS,                  vmx_used.words[WORD_EXIT] },
        {VMCS_ENTRY_CONTROLS,                 vmx_used.words[WORD_ENTRY]},
        {VMCS_EXCEPTION_BITMAP,               INTERCEPTED_EXCEPTIONS    },
        {VMCS_PAGE_FAULT_ERROR_CODE_MASK,     0                         },
        {VMCS_PAGE_FAULT_ERROR_CODE_MATCH,    0                         },
        {VMCS_CR3_TARGET_COUNT,               0                         },
        {VMCS_EXIT_MSR_STORE_COUNT,           0                         },
        {VMCS_EXIT_MSR_LOAD_COUNT,            0                         },
        {VMCS_ENTRY_MSR_LOAD_COUNT,           0                         },
        {VMCS_ENTRY_INTERRUPTION_INFORMATION, 0                         },
        {VMCS_MSR_BITMAP_ADDRESS,             vmx_msr_bitmap(false)     },
        {VMCS_EPT_POINTER,                    hvm->ept_pointer          },
        {VMCS_LINK_POINTER,                   UINT64_MAX                },
    };

    vmwrite_table(controls, ARRAY_SIZE(controls));
}

/* Fraction bits of the TSC multiplier (SDM volume 3, "TSC Multiplier"). */
#define TSC_MULTIPLIER_BITS 48

/* Fields that exist only with the feature that uses them. */
static void write_optional(const struct vcpu *vcpu, const struct hvm_vcpu *hvm)
{
    u64 access_page = page_table_lookup(&apic_access, LAPIC_BASE_DEFAULT).physical;
    const struct {
        enum capability_word word;
        u32 control;
        struct vmcs_value value;
    } optional[] = {
        {WORD_PRIMARY,   PRIMARY_TPR_SHADOW,                   {VMCS_VIRTUAL_APIC_ADDRESS, pool_physical(vcpu->lapic)}                             },
        {WORD_PRIMARY,   PRIMARY_TPR_SHADOW,                   {VMCS_TPR_THRESHOLD, 0}                                                             },
        {WORD_SECONDARY, SECONDARY_VPID,                       {VMCS_VIRTUAL_PROCESSOR_ID, hvm->vpid}                                              },
        {WORD_SECONDARY,
         SECONDARY_VIRTUALIZE_APIC_ACCESSES,                   {VMCS_APIC_ACCESS_ADDRESS, access_page}                                             },
        {WORD_SECONDARY, SECONDARY_VIRTUAL_INTERRUPT_DELIVERY, {VMCS_GUEST_INTERRUPT_STATUS, 0}                                                    },
        {WORD_SECONDARY, SECONDARY_PAUSE_LOOP_EXITING,         {VMCS_PLE_GAP, PLE_GAP}                                                             },
        {WORD_SECONDARY, SECONDARY_PAUSE_LOOP_EXITING,         {VMCS_PLE_WINDOW, PLE_WINDOW}                                                       },
        {WORD_SECONDARY,
         SECONDARY_TSC_SCALING,                                {VMCS_TSC_MULTIPLIER, vcpu->vm->tsc_ratio << (TSC_MULTIPLIER_BITS - TSC_RATIO_BITS)}},
        {WORD_SECONDARY, SECONDARY_XSAVES,                     {VMCS_XSS_EXITING_BITMAP, 0}                                                        },
        {WORD_SECONDARY, SECONDARY_ENCLS_EXITING,              {VMCS_ENCLS_EXITING_BITMAP, UINT64_MAX}                                             },
    };

    for (u32 i = 0; i < ARRAY_SIZE(optional); i++)
        if (vmx_has(optional[i].word, optional[i].control))
            vmwrite(optional[i].value.field, optional[i].value.value);
}

static void write_host_state(const struct vcpu *vcpu)
{
    bool guarded = mitigations.used & MITIGATIONS_AT_ENTRY;
    void (*exit_point)(void) = guarded ? vmx_guarded_exit_point : vmx_exit_point;
    const struct vmcs_value host[] = {
        {VMCS_HOST_CS_SELECTOR,       SELECTOR_CODE             },
        {VMCS_HOST_SS_SELECTOR,       SELECTOR_DATA             },
        {VMCS_HOST_DS_SELECTOR,       SELECTOR_DATA             },
        {VMCS_HOST_ES_SELECTOR,       SELECTOR_DATA             },
        {VMCS_HOST_FS_SELECTOR,       0                         },
        {VMCS_HOST_GS_SELECTOR,       0                         },
        {VMCS_HOST_TR_SELECTOR,       SELECTOR_TSS              },
        {VMCS_HOST_CR0,               read_cr0()                },
        {VMCS_HOST_CR3,               vcpu->vm->memory.host.root},
        {VMCS_HOST_CR4,               read_cr4()                },
        {VMCS_HOST_IA32_PAT,          rdmsr(MSR_PAT)            },
        {VMCS_HOST_IA32_EFER,         rdmsr(MSR_EFER)           },
        {VMCS_HOST_IA32_SYSENTER_CS,  0                         },
        {VMCS_HOST_IA32_SYSENTER_ESP, 0                         },
        {VMCS_HOST_IA32_SYSENTER_EIP, 0                         },
        {VMCS_HOST_FS_BASE,           0                         },
        {VMCS_HOST_RIP,               (u64)exit_point           },
    };

    vmwrite_table(host, ARRAY_SIZE(host));
}

/* The part of the host's state that differs between CPUs. Exits leave the limits of GDTR and IDTR
 * at FFFFh: nothing in the host loads a selector or raises a vector beyond the tables' ends. */
static void write_host_cpu(const struct cpu *cpu)
{
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) idtr;

    __asm__ volatile("sidt %0" : "=m"(idtr));
    const struct vmcs_value host[] = {
        {VMCS_HOST_GS_BASE,   (u64)cpu      },
        {VMCS_HOST_TR_BASE,   (u64)&cpu->tss},
        {VMCS_HOST_GDTR_BASE, (u64)cpu->gdt },
        {VMCS_HOST_IDTR_BASE, idtr.base     },
    };

    vmwrite_table(host, ARRAY_SIZE(host));
}

static void prepare(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    write_controls(hvm);
    write_optional(vcpu, hvm);
    write_host_state(vcpu);
    vmx_init_cr_masks(vcpu);
    hvm->prepared = true;
}

/* ---- switching --------------------------------------------------------------------------- */

static void load_msr(struct hvm_cpu *cpu, const struct hvm_vcpu *hvm, u32 index)
{
    if (cpu->msrs[index] == hvm->msrs[index])
        return;
    cpu->msrs[index] = hvm->msrs[index];
    wrmsr(switched_msrs[index], hvm->msrs[index]);
}

void vmx_load_switched(const struct hvm_vcpu *hvm)
{
    struct hvm_cpu *cpu = this_cpu()->hvm;

#pragma GCC unroll 8
    for (u32 i = 0; i < SWITCHED_TSC_AUX; i++)
        load_msr(cpu, hvm, i);
    if (vmx_has(WORD_SECONDARY, SECONDARY_RDTSCP))
        load_msr(cpu, hvm, SWITCHED_TSC_AUX);
    __asm__ volatile("movq %0, %%dr0" ::"r"(hvm->dr[0]));
    __asm__ volatile("movq %0, %%dr1" ::"r"(hvm->dr[1]));
    __asm__ volatile("movq %0, %%dr2" ::"r"(hvm->dr[2]));
    __asm__ volatile("movq %0, %%dr3" ::"r"(hvm->dr[3]));
    __asm__ volatile("movq %0, %%dr6" ::"r"(hvm->dr6));
    write_cr2(hvm->cr2);
}

void vmx_save_switched(struct hvm_vcpu *hvm)
{
    u64 kernel_gs_base = rdmsr(MSR_KERNEL_GS_BASE);

    this_cpu()->hvm->msrs[SWITCHED_KERNEL_GS_BASE] = kernel_gs_base;
    hvm->msrs[SWITCHED_KERNEL_GS_BASE] = kernel_gs_base;
    __asm__ volatile("movq %%dr0, %0" : "=r"(hvm->dr[0]));
    __asm__ volatile("movq %%dr1, %0" : "=r"(hvm->dr[1]));
    __asm__ volatile("movq %%dr2, %0" : "=r"(hvm->dr[2]));
    __asm__ volatile("movq %%dr3, %0" : "=r"(hvm->dr[3]));
    __asm__ volatile("movq %%dr6, %0" : "=r"(hvm->dr6));
    hvm->cr2 = read_cr2();
}

/* What the CPU itself would refuse (SDM volume 4). */
static bool is_msr_value(u32 index, u64 value)
{
    if (index == SWITCHED_LSTAR || index == SWITCHED_CSTAR)
        return (u64)((s64)(value << LINEAR_SPARE_BITS) >> LINEAR_SPARE_BITS) == value;
    return index == SWITCHED_STAR || value >> 32 == 0;
}

bool vmx_write_msr(struct vcpu *vcpu, u32 msr, u64 value)
{
    for (u32 i = 0; i < switched_msr_count(); i++) {
        if (switched_msrs[i] != msr)
            continue;
        if (!is_msr_value(i, value)) {
            vmx_inject_gp(vcpu);
            return true;
        }
        vcpu->hvm->msrs[i] = value;
        load_msr(vcpu->cpu->hvm, vcpu->hvm, i);
        vmx_skip_instruction(vcpu, 0);
        return true;
    }
    return false;
}

static void vmx_attach(struct cpu *cpu, struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    if (!hvm->prepared)
        vmclear(&hvm->vmcs);
    vmptrld(&hvm->vmcs);
    if (!hvm->prepared)
        prepare(vcpu);
    if (hvm->last_cpu != cpu) {
        write_host_cpu(cpu);
        invept(hvm->ept_pointer);
        vmx_flush_linear(hvm);
        hvm->last_cpu = cpu;
    }
    vmwrite(VMCS_TSC_OFFSET, vcpu->tsc_offset);
    vmx_load_switched(hvm);
    hvm->attached = true;
}

static void vmx_detach(struct cpu *cpu, struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    vmx_save_switched(hvm);
    vmclear(&hvm->vmcs);
    hvm->launched = false;
    hvm->attached = false;
}

static void vmx_set_tsc_offset(struct vcpu *vcpu, u64 offset)
{
    vcpu->tsc_offset = offset;
    if (vcpu->hvm->attached)
        vmwrite(VMCS_TSC_OFFSET, offset);
}

/* ---- entering ---------------------------------------------------------------------------- */

/* So many exits are some microseconds of the host's. */
#define COASTING_EXITS 16

/* The timer counts down whenever a bit of the TSC changes. A count beyond the field's 32 bits is
 * cut short, and ends too early. */
bool vmx_arm_timer(struct hvm_vcpu *hvm, u64 deadline)
{
    u32 shift = vmx_used.timer_shift;
    u64 now = rdtsc();
    bool due = now >= deadline;

    hvm->armed_deadline = deadline;
    hvm->coasting_exits =
        vmx_has(WORD_EXIT, EXIT_CONTROL_SAVE_PREEMPTION_TIMER) ? COASTING_EXITS : 0;
    if (!vmx_has(WORD_PIN, PIN_PREEMPTION_TIMER))
        return false;
    vmwrite(VMCS_PREEMPTION_TIMER_VALUE, due ? 0 : ((deadline - 1) >> shift) - (now >> shift) + 1);
    return !due;
}

void vmx_write_event(struct queued_event *event)
{
    vmwrite(VMCS_ENTRY_INTERRUPTION_INFORMATION, event->information);
    if (event->information & INTERRUPTION_ERROR_CODE)
        vmwrite(VMCS_ENTRY_EXCEPTION_ERROR_CODE, event->error_code);
    if (event->instruction_length != 0)
        vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, event->instruction_length);
    event->information = 0;
}

static void vmx_enter(struct vcpu *vcpu, u64 deadline, struct exit *exit)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    vmx_arm_timer(hvm, deadline);
    if (hvm->queued.information != 0)
        vmx_write_event(&hvm->queued);
    switch (vmx_run(vcpu, &hvm->host_rsp, hvm->launched)) {
    case VMX_SERVED:
        hvm->launched = true;
        exit->kind = hvm->served;
        exit->served = true;
        break;
    case VMX_EXITED:
        vmx_handle_exit(vcpu, exit);
        break;
    default:
        vmx_entry_refused(vcpu, exit);
    }
}

static const struct hvm_ops vmx_ops = {
    .name = "VT-x",
    .nested_format = &page_format_ept,
    .vcpu_size = sizeof(struct hvm_vcpu),
    .probe = vmx_probe,
    .cpu_on = vmx_cpu_on,
    .vcpu_init = vmx_vcpu_init,
    .vcpu_free = vmx_vcpu_free,
    .attach = vmx_attach,
    .detach = vmx_detach,
    .enter = vmx_enter,
    .load_state = vmx_load_state,
    .save_state = vmx_save_state,
    .read_register = vmx_read_register,
    .write_register = vmx_write_register,
    .read_segment = vmx_read_segment,
    .skip_instruction = vmx_skip_instruction,
    .can_inject = vmx_can_inject,
    .inject = vmx_inject,
    .request_window = vmx_request_window,
    .sync_interrupts = vmx_sync_interrupts,
    .interrupt_waits = vmx_interrupt_waits,
    .set_tsc_offset = vmx_set_tsc_offset,
};

HVM_BACKEND(vmx_ops);
