/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* CR0 and CR4 are the guest's own: VMRUN and #VMEXIT switch them, the CPU refuses what is not
 * valid, and all that their bits turn on is switched or intercepted. Writes exit only where that
 * would do harm: CR0's on CPUs with several threads a core, as a core without caches would slow its
 * other thread and so another guest; CR4's where the CPU has bits that the CPUID policy hides,
 * which must fault. A machine check with CR4.MCE clear is a shutdown, which is intercepted.
 *
 * CD and NW that are set at an exit, as they are at reset, are taken out of the VMCB: firmware
 * often leaves them set. While they are hidden so, CR0 exits. Source: AMD APM volume 2, "System
 * Control Registers" and "Intercepts of Control Registers". */

#include "svm/svm.h"

#define CR_BIT(n)      ((u16)BIT(n))
#define CR0_CACHE_BITS (CR0_CD | CR0_NW)
#define CR0_DEFINED                                                                                \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_CACHE_BITS |      \
     CR0_PG)
#define CR0_HIGH (~0xFFFFFFFFULL)
#define CR0_MSW  (CR0_PE | CR0_MP | CR0_EM | CR0_TS)
#define CR3_PCID 0xFFFULL
#define CR8_TPR  0xFULL

enum cr_operation {
    CR_MOV_TO,
    CR_MOV_FROM,
    CR_CLTS,
    CR_LMSW,
    CR_OTHER, /* SMSW; LMSW with a memory operand */
};

struct cr_access {
    enum cr_operation operation;
    u8 cr, gpr;
    u8 length;
};

#define OPCODE_ESCAPE    0x0F
#define OPCODE_GROUP_7   0x01
#define OPCODE_CLTS      0x06
#define OPCODE_MOV_FROM  0x20
#define OPCODE_MOV_TO    0x22
#define GROUP_7_LMSW     6
#define MODRM_RM(modrm)  ((modrm)&7)
#define MODRM_REG(modrm) ((modrm) >> 3 & 7)
#define MODRM_MOD(modrm) ((modrm) >> 6)
#define MOD_REGISTER     3
#define REX_B            1
#define IS_REX(byte)     (((byte)&0xF0) == 0x40)

static bool is_prefix(u8 byte)
{
    static const u8 prefixes[] = {0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65};

    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (byte == prefixes[i])
            return true;
    return false;
}

static enum cr_operation cr_operation(u8 opcode, u8 modrm)
{
    switch (opcode) {
    case OPCODE_MOV_TO:
        return CR_MOV_TO;
    case OPCODE_MOV_FROM:
        return CR_MOV_FROM;
    case OPCODE_CLTS:
        return CR_CLTS;
    case OPCODE_GROUP_7:
        return MODRM_REG(modrm) == GROUP_7_LMSW && MODRM_MOD(modrm) == MOD_REGISTER ? CR_LMSW
                                                                                    : CR_OTHER;
    default:
        return CR_OTHER;
    }
}

/* Which instruction exited. False when the guest's code is no longer what exited. */
static bool decode(struct vcpu *vcpu, struct cr_access *access)
{
    u8 bytes[INSN_MAX_LENGTH + 2] = {0};
    size_t count = vcpu_fetch(vcpu, bytes, INSN_MAX_LENGTH);
    enum insn_mode mode = vcpu_insn_mode(vcpu);
    size_t at = 0;
    u8 rex = 0;

    while (at < count && is_prefix(bytes[at]))
        at++;
    if (mode == INSN_MODE_64 && at < count && IS_REX(bytes[at]))
        rex = bytes[at++];
    if (at + 1 >= count || bytes[at] != OPCODE_ESCAPE)
        return false;
    access->operation = cr_operation(bytes[at + 1], bytes[at + 2]);
    access->cr = MODRM_REG(bytes[at + 2]);
    access->gpr = (u8)(MODRM_RM(bytes[at + 2]) | (rex & REX_B) << 3);
    access->length = insn_length(bytes, count, mode);
    return access->operation == CR_OTHER || access->length != 0;
}

static u64 read_gpr(struct vcpu *vcpu, u8 gpr)
{
    u64 value = gpr == GPR_RSP ? vmcb_rsp(vcpu->hvm->vmcb) : vcpu->gpr[gpr];

    return vcpu_insn_mode(vcpu) == INSN_MODE_64 ? value : (u32)value;
}

static void write_gpr(struct vcpu *vcpu, u8 gpr, u64 value)
{
    if (gpr == GPR_RSP)
        vmcb_set_rsp(vcpu->hvm->vmcb, value);
    else
        vcpu->gpr[gpr] = value;
}

/* The selective intercept, of writes that change more than TS and MP, compares with the VMCB's
 * value: it does not do while CD or NW is hidden. */
static void update_intercepts(struct vcpu *vcpu)
{
    struct hvm_vcpu *hvm = vcpu->hvm;
    bool cr0_hidden = hvm->cr0_cache_bits != 0;
    bool cr4_watched = !svm_cpuid.own_cr || vcpu_cr4_withheld(vcpu) != 0;

    vmcb_set_cr_intercepts(hvm->vmcb, cr0_hidden ? CR_BIT(0) : 0,
                           (cr0_hidden ? CR_BIT(0) : 0) | (cr4_watched ? CR_BIT(4) : 0) |
                               (hvm->tpr_masks ? CR_BIT(8) : 0));
    vmcb_set_intercept(hvm->vmcb, INTERCEPT_CR0_SELECTIVE, !svm_cpuid.own_cr || svm_cpuid.smt);
}

void svm_watch_tpr(struct vcpu *vcpu, bool masks)
{
    if (vcpu->hvm->tpr_masks == masks)
        return;
    vcpu->hvm->tpr_masks = masks;
    update_intercepts(vcpu);
}

u64 svm_cr0(const struct vcpu *vcpu)
{
    return vmcb_cr0(vcpu->hvm->vmcb) | vcpu->hvm->cr0_cache_bits;
}

void svm_set_cr0(struct vcpu *vcpu, u64 value)
{
    struct hvm_vcpu *hvm = vcpu->hvm;

    hvm->cr0_cache_bits = value & CR0_CACHE_BITS;
    vmcb_set_cr0(hvm->vmcb, (value & CR0_DEFINED & ~CR0_CACHE_BITS) | CR0_ET);
    hvm->flush = true;
    update_intercepts(vcpu);
}

void svm_set_cr4(struct vcpu *vcpu, u64 value)
{
    vmcb_set_cr4(vcpu->hvm->vmcb, value);
    vcpu->hvm->flush = true;
    update_intercepts(vcpu);
}

static bool in_64bit_code(struct vcpu *vcpu)
{
    return vcpu_insn_mode(vcpu) == INSN_MODE_64;
}

/* What makes MOV to CR0 fault. */
static bool cr0_valid(struct vcpu *vcpu, u64 value)
{
    bool paging = svm_cr0(vcpu) & CR0_PG;
    u64 efer = vmcb_efer(vcpu->hvm->vmcb), cr4 = vmcb_cr4(vcpu->hvm->vmcb);
    struct segment cs;

    if (value & CR0_HIGH || (value & CR0_NW && !(value & CR0_CD)) ||
        (value & CR0_PG && !(value & CR0_PE)))
        return false;
    if (paging && !(value & CR0_PG))
        return !in_64bit_code(vcpu) && !(cr4 & CR4_PCIDE);
    if (paging || !(value & CR0_PG) || !(efer & EFER_LME))
        return true;
    svm_read_segment(vcpu, SEG_CS, &cs);
    return cr4 & CR4_PAE && !(cs.attributes & SEG_ATTR_L);
}

static bool cr4_valid(struct vcpu *vcpu, u64 value)
{
    const struct vmcb *vmcb = vcpu->hvm->vmcb;
    bool long_mode = vmcb_efer(vmcb) & EFER_LMA;
    u64 changed = value ^ vmcb_cr4(vmcb);

    if (value & ~vcpu_cr4_allowed(vcpu))
        return false;
    if (long_mode && (!(value & CR4_PAE) || changed & CR4_LA57))
        return false;
    return !(changed & value & CR4_PCIDE) || (long_mode && !(vmcb_cr3(vmcb) & CR3_PCID));
}

/* Long mode is active while it is enabled and paging is on. */
static void set_lma(struct vmcb *vmcb, u64 cr0)
{
    u64 efer = vmcb_efer(vmcb) & ~EFER_LMA;

    vmcb_set_efer(vmcb, efer & EFER_LME && cr0 & CR0_PG ? efer | EFER_LMA : efer);
}

bool svm_mov_to_cr0(struct vcpu *vcpu, u64 value)
{
    if (!cr0_valid(vcpu, value))
        return false;
    set_lma(vcpu->hvm->vmcb, value);
    svm_set_cr0(vcpu, value);
    return true;
}

bool svm_mov_to_cr4(struct vcpu *vcpu, u64 value)
{
    if (!cr4_valid(vcpu, value))
        return false;
    svm_set_cr4(vcpu, value);
    return true;
}

void svm_exit_cr0_write(struct vcpu *vcpu, struct exit *exit)
{
    u64 cr0 = svm_cr0(vcpu), value, msw;
    struct cr_access access;

    exit->kind = EXIT_CR;
    set_lma(vcpu->hvm->vmcb, cr0); /* Bochs has changed it before a selective exit */
    if (!decode(vcpu, &access))
        return;
    msw = read_gpr(vcpu, access.gpr) & CR0_MSW;
    switch (access.operation) {
    case CR_MOV_TO:
        value = read_gpr(vcpu, access.gpr);
        break;
    case CR_CLTS:
        value = cr0 & ~CR0_TS;
        break;
    case CR_LMSW: /* can set PE, but not clear it */
        value = (cr0 & ~(CR0_MSW & ~CR0_PE)) | msw;
        break;
    default: /* LMSW from memory, which only code for the 286 has */
        exit->kind = EXIT_UNDEFINED;
        return;
    }
    if (!svm_mov_to_cr0(vcpu, value)) {
        svm_inject(vcpu, EVENT_EXCEPTION, VECTOR_GP, 0);
        return;
    }
    svm_skip_instruction(vcpu, access.length);
}

bool svm_refuses_cr4(struct vcpu *vcpu)
{
    struct cr_access access;

    return decode(vcpu, &access) && access.operation == CR_MOV_TO && access.cr == 4 &&
           !cr4_valid(vcpu, read_gpr(vcpu, access.gpr));
}

void svm_exit_cr4_write(struct vcpu *vcpu, struct exit *exit)
{
    struct cr_access access;
    u64 value;

    exit->kind = EXIT_CR;
    if (!decode(vcpu, &access) || access.operation != CR_MOV_TO)
        return;
    value = read_gpr(vcpu, access.gpr);
    if (!svm_mov_to_cr4(vcpu, value)) {
        svm_inject(vcpu, EVENT_EXCEPTION, VECTOR_GP, 0);
        return;
    }
    svm_skip_instruction(vcpu, access.length);
}

/* The only register whose intercept is a matter of time and not of rights: see svm_watch_tpr. */
void svm_exit_cr8_write(struct vcpu *vcpu, struct exit *exit)
{
    struct cr_access access;
    u64 value;

    exit->kind = EXIT_CR;
    if (!decode(vcpu, &access) || access.operation != CR_MOV_TO)
        return;
    value = read_gpr(vcpu, access.gpr);
    if (value & ~CR8_TPR) {
        svm_inject(vcpu, EVENT_EXCEPTION, VECTOR_GP, 0);
        return;
    }
    vcpu->lapic->registers[LAPIC_TPR >> 4].value = (u32)value << TPR_CLASS_SHIFT;
    vcpu->interrupts_stale = true;
    svm_skip_instruction(vcpu, access.length);
}

/* Reads that aren't MOV take the low 16 bits, where nothing is hidden: the instruction runs by
 * itself, and CR0 reads exit again after the next exit. */
void svm_exit_cr0_read(struct vcpu *vcpu, struct exit *exit)
{
    struct vmcb *vmcb = vcpu->hvm->vmcb;
    struct cr_access access;

    exit->kind = EXIT_CR;
    if (!decode(vcpu, &access))
        return;
    if (access.operation == CR_MOV_FROM) {
        write_gpr(vcpu, access.gpr, svm_cr0(vcpu));
        svm_skip_instruction(vcpu, access.length);
        return;
    }
    vmcb_set_cr_intercepts(vmcb, vmcb_cr_read_intercepts(vmcb) & (u16)~CR_BIT(0),
                           vmcb_cr_write_intercepts(vmcb));
    vcpu->hvm->cr0_read_once = true;
}

void svm_control_registers_after_exit(struct vcpu *vcpu)
{
    if (vmcb_cr0(vcpu->hvm->vmcb) & CR0_CACHE_BITS)
        svm_set_cr0(vcpu, svm_cr0(vcpu));
    if (!vcpu->hvm->cr0_read_once)
        return;
    vcpu->hvm->cr0_read_once = false;
    update_intercepts(vcpu);
}
