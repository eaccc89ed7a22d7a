/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

#include "drivers/cpu.h"
#include "vmx/vmx.h"

/* Control registers. Only writes that change a bit which the guest may not own come here: with
 * unrestricted guest, hardware itself goes through changes of mode, keeps EFER.LMA and loads
 * PDPTEs. For the same reason CLTS and LMSW never exit. */

/* VM entry and exit leave CD and NW alone, so a guest that owned them would turn off the CPU's
 * caches for everybody. */
#define CR0_GUEST_OWNED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_WP | CR0_AM | CR0_PG)
#define CR0_DEFINED     (CR0_GUEST_OWNED | CR0_ET | CR0_NE | CR0_NW | CR0_CD)
/* Without MCE a machine check in guest mode would shut the CPU down. */
#define CR4_HOST_OWNED (CR4_VMXE | CR4_MCE | CR4_SMXE)
/* A change of these loads PDPTEs (SDM volume 3, "PDPTE Registers"). */
#define CR4_PAGING (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP)

#define CPUID_ADDRESS_SIZES 0x80000008U
#define PDPTE_PRESENT       BIT(0)
#define PDPTE_RESERVED_LOW  0x1E6ULL
#define PAE_CR3_MASK        0xFFFFFFE0ULL
#define CR3_PCID_MASK       0xFFFULL
#define CR8_RESERVED        (~0xFULL)

void vmx_init_cr_masks(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    hvm->cr0_mask = ~CR0_GUEST_OWNED;
    hvm->cr4_mask = ~vcpu_cr4_allowed(vcpu) | CR4_HOST_OWNED;
    vmwrite(VMCS_CR0_GUEST_HOST_MASK, hvm->cr0_mask);
    vmwrite(VMCS_CR4_GUEST_HOST_MASK, hvm->cr4_mask);
}

u64 vmx_read_cr0(const struct hvm_vcpu *hvm)
{
    return (vmread(VMCS_GUEST_CR0) & ~hvm->cr0_mask) |
           (vmread(VMCS_CR0_READ_SHADOW) & hvm->cr0_mask);
}

u64 vmx_read_cr4(const struct hvm_vcpu *hvm)
{
    return (vmread(VMCS_GUEST_CR4) & ~hvm->cr4_mask) |
           (vmread(VMCS_CR4_READ_SHADOW) & hvm->cr4_mask);
}

void vmx_write_cr0(u64 value)
{
    u64 defined = (value & CR0_DEFINED) | CR0_ET;

    vmwrite(VMCS_GUEST_CR0, (defined & ~(CR0_CD | CR0_NW)) | vmx_used.cr0_fixed);
    vmwrite(VMCS_CR0_READ_SHADOW, defined);
}

void vmx_write_cr4(u64 value)
{
    vmwrite(VMCS_GUEST_CR4, value | CR4_MCE | vmx_used.cr4_fixed);
    vmwrite(VMCS_CR4_READ_SHADOW, value);
}

void vmx_write_efer(u64 value)
{
    bool long_mode = (value & EFER_LME) && (vmread(VMCS_GUEST_CR0) & CR0_PG);
    u64 entry = vmread(VMCS_ENTRY_CONTROLS);

    vmwrite(VMCS_GUEST_IA32_EFER, long_mode ? value | EFER_LMA : value & ~EFER_LMA);
    vmwrite(VMCS_ENTRY_CONTROLS, long_mode ? entry | ENTRY_CONTROL_IA32E_MODE_GUEST
                                           : entry & ~(u64)ENTRY_CONTROL_IA32E_MODE_GUEST);
}

bool vmx_load_pdptes(struct vcpu *vcpu, u64 cr0, u64 cr4, u64 efer)
{
    u64 address = vmread(VMCS_GUEST_CR3) & PAE_CR3_MASK;
    u64 reserved = PDPTE_RESERVED_LOW | ~(BIT(cpuid(CPUID_ADDRESS_SIZES, 0).eax & 0x3F) - 1);
    const volatile u64 *table;
    u64 entries[4];

    if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE) || (efer & EFER_LME))
        return true;
    table = guest_ram_at(&vcpu->vm->memory.ram, address, sizeof(entries));
    if (!table)
        return false;
    for (u32 i = 0; i < ARRAY_SIZE(entries); i++) {
        entries[i] = table[i];
        if ((entries[i] & PDPTE_PRESENT) && (entries[i] & reserved))
            return false;
    }
    vmwrite(VMCS_GUEST_PDPTE0, entries[0]);
    vmwrite(VMCS_GUEST_PDPTE1, entries[1]);
    vmwrite(VMCS_GUEST_PDPTE2, entries[2]);
    vmwrite(VMCS_GUEST_PDPTE3, entries[3]);
    return true;
}

/* Turning paging on or off (SDM volume 3, "Initializing IA-32e Mode"). */
static bool paging_change_legal(u64 cr0, u64 cr4, u64 efer)
{
    if (cr0 & CR0_PG)
        return !(efer & EFER_LME) ||
               ((cr4 & CR4_PAE) && !(vmread(VMCS_GUEST_CS_ACCESS_RIGHTS) & ACCESS_RIGHTS_L));
    return !(cr4 & CR4_PCIDE) && !vmx_in_64bit_code();
}

/* MOV to CR0 (SDM volume 2). False: #GP(0). */
static bool set_cr0(struct vcpu *vcpu, u64 value)
{
    u64 changed = value ^ vmx_read_cr0(vcpu->hvm);
    u64 cr4 = vmx_read_cr4(vcpu->hvm);
    u64 efer = vmread(VMCS_GUEST_IA32_EFER);

    if (value >> 32 || ((value & CR0_PG) && !(value & CR0_PE)) ||
        ((value & CR0_NW) && !(value & CR0_CD)))
        return false;
    if ((changed & CR0_PG) && !paging_change_legal(value, cr4, efer))
        return false;
    if ((changed & (CR0_PG | CR0_CD | CR0_NW)) && !vmx_load_pdptes(vcpu, value, cr4, efer))
        return false;
    vmx_write_cr0(value);
    vmx_write_efer(efer);
    vmx_flush_linear(vcpu->hvm);
    return true;
}

/* MOV to CR4. False: #GP(0). */
static bool set_cr4(struct vcpu *vcpu, u64 value)
{
    u64 changed = value ^ vmx_read_cr4(vcpu->hvm);
    u64 efer = vmread(VMCS_GUEST_IA32_EFER);

    if (value & ~vcpu_cr4_allowed(vcpu))
        return false;
    if ((efer & EFER_LMA) && !(value & CR4_PAE))
        return false;
    if ((changed & value & CR4_PCIDE) &&
        (!(efer & EFER_LMA) || (vmread(VMCS_GUEST_CR3) & CR3_PCID_MASK)))
        return false;
    if ((changed & CR4_PAGING) && !vmx_load_pdptes(vcpu, vmread(VMCS_GUEST_CR0), value, efer))
        return false;
    vmx_write_cr4(value);
    vmx_flush_linear(vcpu->hvm);
    return true;
}

/* MOV to CR8, where there is no TPR shadow. False: #GP(0). */
static bool set_cr8(struct vcpu *vcpu, u64 value)
{
    if (value & CR8_RESERVED)
        return false;
    vcpu->lapic->registers[LAPIC_TPR >> 4].value = (u32)value << 4;
    vcpu->interrupts_stale = true;
    return true;
}

static u64 read_gpr(const struct vcpu *vcpu, u32 gpr)
{
    u64 value = gpr == GPR_RSP ? vmread(VMCS_GUEST_RSP) : vcpu->gpr[gpr];

    return vmx_in_64bit_code() ? value : (u32)value;
}

static void write_gpr(struct vcpu *vcpu, u32 gpr, u64 value)
{
    if (gpr == GPR_RSP)
        vmwrite(VMCS_GUEST_RSP, value);
    else
        vcpu->gpr[gpr] = value;
}

static bool (*const setters[])(struct vcpu *vcpu, u64 value) = {
    [0] = set_cr0,
    [4] = set_cr4,
    [8] = set_cr8,
};

void vmx_handle_cr_access(struct vcpu *vcpu, struct exit *exit)
{
    u64 qualification = exit->qualification;
    u32 number = qualification & CR_NUMBER_MASK;
    u32 access = qualification & CR_ACCESS_MASK;
    u32 gpr = qualification >> CR_GPR_SHIFT & CR_GPR_MASK;

    if (access == CR_ACCESS_MOV_FROM && number == 8)
        write_gpr(vcpu, gpr, lapic_read(vcpu->lapic, LAPIC_TPR) >> 4);
    else if (access != CR_ACCESS_MOV_TO || number >= ARRAY_SIZE(setters) || !setters[number]) {
        exit->kind = EXIT_UNHANDLED;
        return;
    } else if (!setters[number](vcpu, read_gpr(vcpu, gpr))) {
        vmx_inject_gp(vcpu);
        return;
    }
    vmx_skip_instruction(vcpu, 0);
}
