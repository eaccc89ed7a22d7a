/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Section and table numbers are those of the Intel SDM, volume 2. */

#include "core/insn.h"

#include "lib/string.h"

enum prefix {
    PREFIX_ES = 0x26,
    PREFIX_CS = 0x2E,
    PREFIX_SS = 0x36,
    PREFIX_DS = 0x3E,
    PREFIX_REX = 0x40,
    PREFIX_REX_LAST = 0x4F,
    PREFIX_FS = 0x64,
    PREFIX_GS = 0x65,
    PREFIX_OPERAND_SIZE = 0x66,
    PREFIX_ADDRESS_SIZE = 0x67,
    PREFIX_LOCK = 0xF0,
    PREFIX_REPNE = 0xF2,
    PREFIX_REP = 0xF3,
    ESCAPE_0F = 0x0F,
    ESCAPE_38 = 0x38,
};

enum rex {
    REX_B = 1 << 0,
    REX_X = 1 << 1,
    REX_R = 1 << 2,
    REX_W = 1 << 3,
};

enum {
    MOD_REGISTER = 3,
    RM_SIB = 4,
    RM_DISP32 = 5, /* with mod 0 */
    RM_DISP16 = 6, /* with mod 0 and 16-bit addresses */
    SIB_NO_INDEX = 4,
    SIB_NO_BASE = 5,    /* with mod 0 */
    FIRST_HIGH_BYTE = 4 /* AH */
};

#define NO_SEGMENT 0xFF

struct decoder {
    const u8 *bytes;
    size_t size;
    size_t at;
    bool truncated; /* something was read behind the end */
    enum insn_mode mode;
    u8 rex; /* 0: none */
    u8 segment;
    bool operand_size_prefix, address_size_prefix, lock, rep, repne;
    u8 mod, reg, rm; /* ModRM, without REX's bits */
};

static u8 fetch(struct decoder *d)
{
    if (d->at >= d->size) {
        d->truncated = true;
        return 0;
    }
    return d->bytes[d->at++];
}

static u64 fetch_unsigned(struct decoder *d, u8 size)
{
    u64 value = 0;

    for (u32 i = 0; i < size; i++)
        value |= (u64)fetch(d) << (8 * i);
    return value;
}

static u64 size_mask(u8 size)
{
    return size >= 8 ? UINT64_MAX : BIT(8 * size) - 1;
}

static u64 sign_bit(u8 size)
{
    return BIT(8 * size - 1);
}

static u64 sign_extend(u64 value, u8 size)
{
    value &= size_mask(size);
    return value & sign_bit(size) ? value | ~size_mask(size) : value;
}

static u64 fetch_signed(struct decoder *d, u8 size)
{
    return sign_extend(fetch_unsigned(d, size), size);
}

/* ---- prefixes (section 2.1.1, "Instruction Prefixes") ----------------------------------- */

/* In 64-bit mode the other four segments' prefixes are ignored. */
static void take_segment(struct decoder *d, u8 segment)
{
    if (d->mode != INSN_MODE_64 || segment == SEG_FS || segment == SEG_GS)
        d->segment = segment;
}

static bool take_legacy_prefix(struct decoder *d, u8 byte)
{
    switch (byte) {
    case PREFIX_ES:
    case PREFIX_CS:
    case PREFIX_SS:
    case PREFIX_DS:
        take_segment(d, (byte - PREFIX_ES) / (PREFIX_CS - PREFIX_ES));
        return true;
    case PREFIX_FS:
    case PREFIX_GS:
        take_segment(d, SEG_FS + (byte - PREFIX_FS));
        return true;
    case PREFIX_OPERAND_SIZE:
        d->operand_size_prefix = true;
        return true;
    case PREFIX_ADDRESS_SIZE:
        d->address_size_prefix = true;
        return true;
    case PREFIX_LOCK:
        d->lock = true;
        return true;
    case PREFIX_REP:
    case PREFIX_REPNE:
        d->rep = byte == PREFIX_REP;
        d->repne = byte == PREFIX_REPNE;
        return true;
    default:
        return false;
    }
}

/* Returns the byte behind all prefixes. A REX prefix counts only directly before the opcode. */
static u8 take_prefixes(struct decoder *d)
{
    for (;;) {
        u8 byte = fetch(d);

        if (d->mode == INSN_MODE_64 && byte >= PREFIX_REX && byte <= PREFIX_REX_LAST)
            d->rex = byte;
        else if (take_legacy_prefix(d, byte))
            d->rex = 0;
        else
            return byte;
    }
}

static u8 operand_size(const struct decoder *d)
{
    if (d->rex & REX_W)
        return 8;
    return (d->mode == INSN_MODE_16) != d->operand_size_prefix ? 2 : 4;
}

static u8 address_size(const struct decoder *d)
{
    if (d->mode == INSN_MODE_64)
        return d->address_size_prefix ? 4 : 8;
    return (d->mode == INSN_MODE_16) != d->address_size_prefix ? 2 : 4;
}

static void start(struct decoder *d, const u8 *bytes, size_t size, enum insn_mode mode)
{
    *d = (struct decoder){
        .bytes = bytes,
        .size = MIN(size, INSN_MAX_LENGTH),
        .mode = mode,
        .segment = NO_SEGMENT,
    };
}

/* ---- ModRM and SIB (section 2.1.3 and tables 2-1 to 2-3) -------------------------------- */

static void fetch_modrm(struct decoder *d)
{
    u8 modrm = fetch(d);

    d->mod = modrm >> 6;
    d->reg = modrm >> 3 & 7;
    d->rm = modrm & 7;
}

static void take_displacement(struct decoder *d, struct insn *insn, u8 size)
{
    insn->displacement = (s64)fetch_signed(d, size);
}

static void decode_memory_16(struct decoder *d, struct insn *insn)
{
    static const struct {
        u8 base, index;
    } forms[] = {
        {GPR_RBX, GPR_RSI         },
        {GPR_RBX, GPR_RDI         },
        {GPR_RBP, GPR_RSI         },
        {GPR_RBP, GPR_RDI         },
        {GPR_RSI, INSN_NO_REGISTER},
        {GPR_RDI, INSN_NO_REGISTER},
        {GPR_RBP, INSN_NO_REGISTER},
        {GPR_RBX, INSN_NO_REGISTER},
    };

    if (d->mod == 0 && d->rm == RM_DISP16) {
        take_displacement(d, insn, 2);
        return;
    }
    insn->base = forms[d->rm].base;
    insn->index = forms[d->rm].index;
    if (d->mod != 0)
        take_displacement(d, insn, d->mod == 1 ? 1 : 2);
}

static void decode_sib(struct decoder *d, struct insn *insn)
{
    u8 sib = fetch(d);
    u8 index = (sib >> 3 & 7) | (d->rex & REX_X ? 8 : 0);

    if (index != SIB_NO_INDEX) {
        insn->index = index;
        insn->scale = (u8)(1 << (sib >> 6));
    }
    if (d->mod == 0 && (sib & 7) == SIB_NO_BASE)
        take_displacement(d, insn, 4);
    else
        insn->base = (sib & 7) | (d->rex & REX_B ? 8 : 0);
}

static void decode_memory_32(struct decoder *d, struct insn *insn)
{
    if (d->rm == RM_SIB) {
        decode_sib(d, insn);
    } else if (d->mod == 0 && d->rm == RM_DISP32) {
        take_displacement(d, insn, 4);
        insn->rip_relative = d->mode == INSN_MODE_64;
    } else {
        insn->base = d->rm | (d->rex & REX_B ? 8 : 0);
    }
    if (d->mod != 0)
        take_displacement(d, insn, d->mod == 1 ? 1 : 4);
}

/* The memory operand that ModRM gives. */
static void decode_memory(struct decoder *d, struct insn *insn)
{
    if (insn->address_size == 2)
        decode_memory_16(d, insn);
    else
        decode_memory_32(d, insn);
    insn->segment = insn->base == GPR_RSP || insn->base == GPR_RBP ? SEG_SS : SEG_DS;
    if (d->segment != NO_SEGMENT)
        insn->segment = d->segment;
}

/* ---- opcodes (appendix A, "Opcode Map") -------------------------------------------------- */

enum opcode_flag {
    /* Where the memory operand comes from; an opcode with none of these is not known. */
    OP_MODRM = 1 << 0,
    OP_MOFFS = 1 << 1,
    OP_STRING = 1 << 2,

    OP_BYTE = 1 << 3,        /* operands of one byte */
    OP_NO_REGISTER = 1 << 4, /* ModRM's reg field is no operand */
    OP_ACCUMULATOR = 1 << 5, /* the register operand is RAX */
    OP_SIGN_EXTEND = 1 << 6,
    OP_REGISTER_FIRST = 1 << 7,
    OP_LOCKABLE = 1 << 8,
    OP_IMMEDIATE = 1 << 9,   /* of the operand's size, at most 4 bytes */
    OP_IMMEDIATE8 = 1 << 10, /* of one byte */
    OP_ONLY_64 = 1 << 11,
    OP_NO_PREFIX = 1 << 12, /* 66, F2 and F3 make it another, or none */
};

/* Eight instructions each, told apart by ModRM's reg field. */
enum group {
    NO_GROUP,
    GROUP_1,   /* 80, 81, 83 */
    GROUP_3,   /* F6, F7 */
    GROUP_4_5, /* FE, FF */
    GROUP_8,   /* 0F BA */
    GROUP_11,  /* C6, C7 */
};

struct opcode {
    u16 flags;
    u8 operation;
    u8 alu;
    u8 access_size; /* of memory, where it is not the operand size */
    u8 group;       /* enum group: what the row there says comes instead, flags on top */
};

/* clang-format off */
#define OP(operation_, flags_)        {.operation = operation_, .flags = (flags_)}
#define OP_ALU(operation_, alu_, flags_) \
    {.operation = operation_, .alu = alu_, .flags = (flags_)}
#define OP_EXTEND(size, flags_) \
    {.operation = INSN_LOAD, .access_size = size, .flags = OP_MODRM | (flags_)}
#define OP_GROUP(group_, flags_) \
    {.group = group_, .flags = OP_MODRM | OP_NO_REGISTER | (flags_)}

static const struct opcode groups[][8] = {
    [GROUP_1] = {
        OP_ALU(INSN_ALU_STORE, ALU_ADD, OP_MODRM | OP_LOCKABLE),
        OP_ALU(INSN_ALU_STORE, ALU_OR,  OP_MODRM | OP_LOCKABLE),
        OP_ALU(INSN_ALU_STORE, ALU_ADC, OP_MODRM | OP_LOCKABLE),
        OP_ALU(INSN_ALU_STORE, ALU_SBB, OP_MODRM | OP_LOCKABLE),
        OP_ALU(INSN_ALU_STORE, ALU_AND, OP_MODRM | OP_LOCKABLE),
        OP_ALU(INSN_ALU_STORE, ALU_SUB, OP_MODRM | OP_LOCKABLE),
        OP_ALU(INSN_ALU_STORE, ALU_XOR, OP_MODRM | OP_LOCKABLE),
        OP_ALU(INSN_COMPARE,   ALU_CMP, OP_MODRM),
    },
    [GROUP_3] = {
        [0] = OP_ALU(INSN_COMPARE, ALU_TEST, OP_MODRM | OP_IMMEDIATE),
        [2] = OP_ALU(INSN_UNARY,   ALU_NOT,  OP_MODRM | OP_LOCKABLE),
        [3] = OP_ALU(INSN_UNARY,   ALU_NEG,  OP_MODRM | OP_LOCKABLE),
    },
    [GROUP_4_5] = {
        [0] = OP_ALU(INSN_UNARY, ALU_INC, OP_MODRM | OP_LOCKABLE),
        [1] = OP_ALU(INSN_UNARY, ALU_DEC, OP_MODRM | OP_LOCKABLE),
    },
    [GROUP_8] = {
        [4] = OP_ALU(INSN_BIT, ALU_BT,  OP_MODRM),
        [5] = OP_ALU(INSN_BIT, ALU_BTS, OP_MODRM | OP_LOCKABLE),
        [6] = OP_ALU(INSN_BIT, ALU_BTR, OP_MODRM | OP_LOCKABLE),
        [7] = OP_ALU(INSN_BIT, ALU_BTC, OP_MODRM | OP_LOCKABLE),
    },
    [GROUP_11] = {
        [0] = OP(INSN_STORE, OP_MODRM),
    },
};

/* Eb,Gb - Ev,Gv - Gb,Eb - Gv,Ev */
#define ALU_ROW(alu_) \
    [(alu_) << 3 | 0] = OP_ALU(INSN_ALU_STORE, alu_, OP_MODRM | OP_LOCKABLE | OP_BYTE), \
    [(alu_) << 3 | 1] = OP_ALU(INSN_ALU_STORE, alu_, OP_MODRM | OP_LOCKABLE), \
    [(alu_) << 3 | 2] = OP_ALU(INSN_ALU_LOAD, alu_, OP_MODRM | OP_BYTE), \
    [(alu_) << 3 | 3] = OP_ALU(INSN_ALU_LOAD, alu_, OP_MODRM)

static const struct opcode one_byte_opcodes[256] = {
    ALU_ROW(ALU_ADD), ALU_ROW(ALU_OR), ALU_ROW(ALU_ADC), ALU_ROW(ALU_SBB),
    ALU_ROW(ALU_AND), ALU_ROW(ALU_SUB), ALU_ROW(ALU_XOR),
    [0x38] = OP_ALU(INSN_COMPARE, ALU_CMP, OP_MODRM | OP_BYTE),
    [0x39] = OP_ALU(INSN_COMPARE, ALU_CMP, OP_MODRM),
    [0x3A] = OP_ALU(INSN_COMPARE, ALU_CMP, OP_MODRM | OP_REGISTER_FIRST | OP_BYTE),
    [0x3B] = OP_ALU(INSN_COMPARE, ALU_CMP, OP_MODRM | OP_REGISTER_FIRST),
    [0x63] = OP_EXTEND(4, OP_SIGN_EXTEND | OP_ONLY_64),
    [0x80] = OP_GROUP(GROUP_1, OP_BYTE | OP_IMMEDIATE),
    [0x81] = OP_GROUP(GROUP_1, OP_IMMEDIATE),
    [0x83] = OP_GROUP(GROUP_1, OP_IMMEDIATE8),
    [0x84] = OP_ALU(INSN_COMPARE, ALU_TEST, OP_MODRM | OP_BYTE),
    [0x85] = OP_ALU(INSN_COMPARE, ALU_TEST, OP_MODRM),
    [0x86] = OP(INSN_XCHG, OP_MODRM | OP_LOCKABLE | OP_BYTE),
    [0x87] = OP(INSN_XCHG, OP_MODRM | OP_LOCKABLE),
    [0x88] = OP(INSN_STORE, OP_MODRM | OP_BYTE),
    [0x89] = OP(INSN_STORE, OP_MODRM),
    [0x8A] = OP(INSN_LOAD, OP_MODRM | OP_BYTE),
    [0x8B] = OP(INSN_LOAD, OP_MODRM),
    [0xA0] = OP(INSN_LOAD, OP_MOFFS | OP_ACCUMULATOR | OP_BYTE),
    [0xA1] = OP(INSN_LOAD, OP_MOFFS | OP_ACCUMULATOR),
    [0xA2] = OP(INSN_STORE, OP_MOFFS | OP_ACCUMULATOR | OP_BYTE),
    [0xA3] = OP(INSN_STORE, OP_MOFFS | OP_ACCUMULATOR),
    [0xA4] = OP(INSN_MOVS, OP_STRING | OP_NO_REGISTER | OP_BYTE),
    [0xA5] = OP(INSN_MOVS, OP_STRING | OP_NO_REGISTER),
    [0xAA] = OP(INSN_STOS, OP_STRING | OP_ACCUMULATOR | OP_BYTE),
    [0xAB] = OP(INSN_STOS, OP_STRING | OP_ACCUMULATOR),
    [0xAC] = OP(INSN_LODS, OP_STRING | OP_ACCUMULATOR | OP_BYTE),
    [0xAD] = OP(INSN_LODS, OP_STRING | OP_ACCUMULATOR),
    [0xC6] = OP_GROUP(GROUP_11, OP_BYTE | OP_IMMEDIATE),
    [0xC7] = OP_GROUP(GROUP_11, OP_IMMEDIATE),
    [0xF6] = OP_GROUP(GROUP_3, OP_BYTE),
    [0xF7] = OP_GROUP(GROUP_3, 0),
    [0xFE] = OP_GROUP(GROUP_4_5, OP_BYTE),
    [0xFF] = OP_GROUP(GROUP_4_5, 0),
};

static const struct opcode two_byte_opcodes[256] = { /* behind 0F */
    [0xA3] = OP_ALU(INSN_BIT, ALU_BT, OP_MODRM),
    [0xAB] = OP_ALU(INSN_BIT, ALU_BTS, OP_MODRM | OP_LOCKABLE),
    [0xB0] = OP_ALU(INSN_CMPXCHG, ALU_CMP, OP_MODRM | OP_LOCKABLE | OP_BYTE),
    [0xB1] = OP_ALU(INSN_CMPXCHG, ALU_CMP, OP_MODRM | OP_LOCKABLE),
    [0xB3] = OP_ALU(INSN_BIT, ALU_BTR, OP_MODRM | OP_LOCKABLE),
    [0xB6] = OP_EXTEND(1, 0),
    [0xB7] = OP_EXTEND(2, 0),
    [0xBA] = OP_GROUP(GROUP_8, OP_IMMEDIATE8),
    [0xBB] = OP_ALU(INSN_BIT, ALU_BTC, OP_MODRM | OP_LOCKABLE),
    [0xBE] = OP_EXTEND(1, OP_SIGN_EXTEND),
    [0xBF] = OP_EXTEND(2, OP_SIGN_EXTEND),
    [0xC0] = OP_ALU(INSN_XADD, ALU_ADD, OP_MODRM | OP_LOCKABLE | OP_BYTE),
    [0xC1] = OP_ALU(INSN_XADD, ALU_ADD, OP_MODRM | OP_LOCKABLE),
    [0xC3] = OP(INSN_STORE, OP_MODRM | OP_NO_PREFIX),
};
/* clang-format on */

/* The opcode's row with that of its group merged in; ModRM has been fetched where there is one.
 * No flags where the opcode is not known. */
static struct opcode fetch_opcode(struct decoder *d)
{
    u8 byte = take_prefixes(d);
    struct opcode opcode = byte == ESCAPE_0F ? two_byte_opcodes[fetch(d)] : one_byte_opcodes[byte];
    const struct opcode *member;

    if (opcode.flags & OP_MODRM)
        fetch_modrm(d);
    if (opcode.group == NO_GROUP)
        return opcode;
    member = &groups[opcode.group][d->reg];
    opcode.operation = member->operation;
    opcode.alu = member->alu;
    opcode.flags = member->flags != 0 ? opcode.flags | member->flags : 0;
    return opcode;
}

static bool legal(const struct decoder *d, const struct opcode *opcode)
{
    if (opcode->flags == 0 || ((opcode->flags & OP_MODRM) && d->mod == MOD_REGISTER))
        return false;
    if (d->lock && !(opcode->flags & OP_LOCKABLE))
        return false;
    if ((opcode->flags & OP_NO_PREFIX) && (d->operand_size_prefix || d->rep || d->repne))
        return false;
    /* What MOVSXD with 16-bit operands reads differs between vendors. */
    return !(opcode->flags & OP_ONLY_64) || (d->mode == INSN_MODE_64 && operand_size(d) != 2);
}

static void set_sizes(const struct decoder *d, const struct opcode *opcode, struct insn *insn)
{
    insn->operand_size = opcode->flags & OP_BYTE ? 1 : operand_size(d);
    if (opcode->flags & OP_NO_PREFIX) /* MOVNTI has no 16-bit form, in 16-bit mode either */
        insn->operand_size = MAX(insn->operand_size, 4);
    insn->access_size = opcode->access_size != 0 ? opcode->access_size : insn->operand_size;
    insn->address_size = address_size(d);
}

/* Section 3.1.1.1: without REX, encodings 4 to 7 of a byte register are AH, CH, DH and BH. */
static void set_register(const struct decoder *d, const struct opcode *opcode, struct insn *insn)
{
    if (opcode->flags & OP_ACCUMULATOR)
        insn->reg = GPR_RAX;
    if (opcode->flags & (OP_ACCUMULATOR | OP_NO_REGISTER))
        return;
    insn->reg = d->reg | (d->rex & REX_R ? 8 : 0);
    if (insn->operand_size == 1 && d->rex == 0 && d->reg >= FIRST_HIGH_BYTE) {
        insn->high_byte = true;
        insn->reg = d->reg - FIRST_HIGH_BYTE;
    }
}

static void decode_string(const struct decoder *d, struct insn *insn)
{
    bool source = insn->operation != INSN_STOS;

    insn->base = insn->operation == INSN_LODS ? GPR_RSI : GPR_RDI;
    insn->segment = source ? SEG_DS : SEG_ES;
    if (source && d->segment != NO_SEGMENT)
        insn->segment = d->segment;
    insn->rep = d->rep;
    insn->repne = d->repne;
}

static void decode_operands(struct decoder *d, u16 flags, struct insn *insn)
{
    if (flags & OP_MODRM)
        decode_memory(d, insn);
    if (flags & OP_STRING)
        decode_string(d, insn);
    if (flags & OP_MOFFS) {
        insn->displacement = (s64)fetch_unsigned(d, insn->address_size);
        insn->segment = d->segment != NO_SEGMENT ? d->segment : SEG_DS;
    }
    if (flags & OP_IMMEDIATE)
        insn->immediate = fetch_signed(d, MIN(insn->operand_size, 4));
    if (flags & OP_IMMEDIATE8)
        insn->immediate = insn->operation == INSN_BIT ? fetch(d) : fetch_signed(d, 1);
    insn->has_immediate = flags & (OP_IMMEDIATE | OP_IMMEDIATE8);
}

bool insn_decode(const u8 *bytes, size_t size, enum insn_mode mode, struct insn *insn)
{
    struct opcode opcode;
    struct decoder d;

    start(&d, bytes, size, mode);
    opcode = fetch_opcode(&d);
    if (!legal(&d, &opcode))
        return false;
    *insn = (struct insn){
        .operation = opcode.operation,
        .alu = opcode.alu,
        .sign_extend = opcode.flags & OP_SIGN_EXTEND,
        .register_first = opcode.flags & OP_REGISTER_FIRST,
        .lock = d.lock,
        .reg = INSN_NO_REGISTER,
        .base = INSN_NO_REGISTER,
        .index = INSN_NO_REGISTER,
        .scale = 1,
    };
    set_sizes(&d, &opcode, insn);
    set_register(&d, &opcode, insn);
    decode_operands(&d, opcode.flags, insn);
    insn->length = (u8)d.at;
    return !d.truncated;
}

/* ---- operands ---------------------------------------------------------------------------- */

/* Section 3.1.1.9, "Bit(BitBase, BitOffset)": a bit index in a register reaches beyond the
 * operand, in either direction. */
static u64 bit_displacement(const struct insn *insn, const u64 gpr[GPR_COUNT])
{
    u64 index = sign_extend(gpr[insn->reg], insn->operand_size);

    return (u64)((s64)index >> 3) & ~(u64)(insn->operand_size - 1);
}

u64 insn_offset(const struct insn *insn, const u64 gpr[GPR_COUNT], u64 next_rip)
{
    u64 offset = (u64)insn->displacement;

    if (insn->base != INSN_NO_REGISTER)
        offset += gpr[insn->base];
    if (insn->index != INSN_NO_REGISTER)
        offset += gpr[insn->index] * insn->scale;
    if (insn->rip_relative)
        offset += next_rip;
    if (insn->operation == INSN_BIT && !insn->has_immediate)
        offset += bit_displacement(insn, gpr);
    return offset & size_mask(insn->address_size);
}

u64 insn_register(const struct insn *insn, const u64 gpr[GPR_COUNT])
{
    u64 value;

    if (insn->reg == INSN_NO_REGISTER)
        return insn->immediate & size_mask(insn->operand_size);
    value = gpr[insn->reg];
    return (insn->high_byte ? value >> 8 : value) & size_mask(insn->operand_size);
}

void insn_set_register(const struct insn *insn, u64 gpr[GPR_COUNT], u64 value)
{
    u64 mask = size_mask(insn->operand_size);
    u32 shift = insn->high_byte ? 8 : 0;

    if (insn->reg == INSN_NO_REGISTER)
        return;
    if (insn->operand_size >= 4)
        gpr[insn->reg] = value & mask;
    else
        gpr[insn->reg] = (gpr[insn->reg] & ~(mask << shift)) | (value & mask) << shift;
}

/* ---- arithmetic -------------------------------------------------------------------------- */

enum rflags {
    RFLAGS_CF = 1 << 0,
    RFLAGS_PF = 1 << 2,
    RFLAGS_AF = 1 << 4,
    RFLAGS_ZF = 1 << 6,
    RFLAGS_SF = 1 << 7,
    RFLAGS_OF = 1 << 11,
};

#define RFLAGS_STATUS (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

static u64 set_if(bool condition, u64 flags)
{
    return condition ? flags : 0;
}

/* PF, ZF and SF depend on the result alone. */
static u64 result_flags(u64 result, u8 size)
{
    return set_if(!__builtin_parity(result & 0xFF), RFLAGS_PF) | set_if(result == 0, RFLAGS_ZF) |
           set_if(result & sign_bit(size), RFLAGS_SF);
}

/* a + b + carry; the carry out of each bit position is in `carries`. */
static u64 add_flags(u64 a, u64 b, u64 result, u8 size)
{
    u64 carries = (a & b) | ((a | b) & ~result);
    u64 overflow = (a ^ result) & (b ^ result);

    return set_if(carries & sign_bit(size), RFLAGS_CF) | set_if(carries & BIT(3), RFLAGS_AF) |
           set_if(overflow & sign_bit(size), RFLAGS_OF);
}

static u64 subtract_flags(u64 a, u64 b, u64 result, u8 size)
{
    u64 borrows = (~a & b) | ((~a | b) & result);
    u64 overflow = (a ^ b) & (a ^ result);

    return set_if(borrows & sign_bit(size), RFLAGS_CF) | set_if(borrows & BIT(3), RFLAGS_AF) |
           set_if(overflow & sign_bit(size), RFLAGS_OF);
}

struct alu_result {
    u64 value;
    u64 flags;
    u64 changed; /* which of the flags the operation sets */
};

static struct alu_result add(u64 a, u64 b, u64 carry, u8 size)
{
    u64 value = (a + b + carry) & size_mask(size);

    return (struct alu_result){value, result_flags(value, size) | add_flags(a, b, value, size),
                               RFLAGS_STATUS};
}

static struct alu_result subtract(u64 a, u64 b, u64 borrow, u8 size)
{
    u64 value = (a - b - borrow) & size_mask(size);

    return (struct alu_result){value, result_flags(value, size) | subtract_flags(a, b, value, size),
                               RFLAGS_STATUS};
}

static struct alu_result logic(u64 value, u8 size)
{
    return (struct alu_result){value, result_flags(value, size), RFLAGS_STATUS};
}

static struct alu_result keep_carry(struct alu_result result)
{
    result.changed &= ~(u64)RFLAGS_CF;
    return result;
}

static struct alu_result bit(enum insn_alu operation, u64 a, u64 index, u8 size)
{
    u64 mask = BIT(index & (u64)(8 * size - 1));
    struct alu_result result = {a, set_if(a & mask, RFLAGS_CF), RFLAGS_CF};

    if (operation == ALU_BTS)
        result.value = a | mask;
    else if (operation == ALU_BTR)
        result.value = a & ~mask;
    else if (operation == ALU_BTC)
        result.value = a ^ mask;
    return result;
}

static struct alu_result calculate(enum insn_alu operation, u64 a, u64 b, u8 size, bool carry)
{
    switch (operation) {
    case ALU_ADD:
        return add(a, b, 0, size);
    case ALU_ADC:
        return add(a, b, carry, size);
    case ALU_SUB:
    case ALU_CMP:
        return subtract(a, b, 0, size);
    case ALU_SBB:
        return subtract(a, b, carry, size);
    case ALU_OR:
        return logic(a | b, size);
    case ALU_AND:
    case ALU_TEST:
        return logic(a & b, size);
    case ALU_XOR:
        return logic(a ^ b, size);
    case ALU_NOT:
        return (struct alu_result){~a & size_mask(size), 0, 0};
    case ALU_NEG:
        return subtract(0, a, 0, size);
    case ALU_INC:
        return keep_carry(add(a, 1, 0, size));
    case ALU_DEC:
        return keep_carry(subtract(a, 1, 0, size));
    default:
        return bit(operation, a, b, size);
    }
}

u64 insn_alu(enum insn_alu operation, u64 a, u64 b, u8 size, u64 *rflags)
{
    u64 mask = size_mask(size);
    struct alu_result result = calculate(operation, a & mask, b & mask, size, *rflags & RFLAGS_CF);

    *rflags = (*rflags & ~result.changed) | (result.flags & result.changed);
    return result.value;
}

/* ---- lengths of instructions that exit for what they are ---------------------------------- */

enum length_flag {
    LENGTH_KNOWN = 1 << 0,
    LENGTH_IMMEDIATE8 = 1 << 1,
    LENGTH_MODRM_REGISTER = 1 << 2, /* ModRM that always names registers */
};

static const u8 one_byte_lengths[256] = {
    [0x6C ... 0x6F] = LENGTH_KNOWN,                     /* INS, OUTS */
    [0xE4 ... 0xE7] = LENGTH_KNOWN | LENGTH_IMMEDIATE8, /* IN, OUT */
    [0xEC ... 0xEF] = LENGTH_KNOWN,                     /* IN, OUT */
    [0xF4] = LENGTH_KNOWN,                              /* HLT */
};

static const u8 two_byte_lengths[256] = {
    [0x06] = LENGTH_KNOWN,                                  /* CLTS */
    [0x08] = LENGTH_KNOWN,                                  /* INVD */
    [0x09] = LENGTH_KNOWN,                                  /* WBINVD, WBNOINVD */
    [0x20 ... 0x23] = LENGTH_KNOWN | LENGTH_MODRM_REGISTER, /* MOV CR, MOV DR */
    [0x30] = LENGTH_KNOWN,                                  /* WRMSR */
    [0x31] = LENGTH_KNOWN,                                  /* RDTSC */
    [0x32] = LENGTH_KNOWN,                                  /* RDMSR */
    [0x33] = LENGTH_KNOWN,                                  /* RDPMC */
    [0xA2] = LENGTH_KNOWN,                                  /* CPUID */
};

enum group_7 {
    GROUP_7 = 0x01, /* behind 0F */
    GROUP_7_LMSW = 6,
    GROUP_7_INVLPG = 7,
};

enum group_7_register_form {
    MODRM_VMCALL = 0xC1,
    MODRM_MONITOR = 0xC8,
    MODRM_MWAIT = 0xC9,
    MODRM_XSETBV = 0xD1,
    MODRM_VMMCALL = 0xD9,
    MODRM_RDTSCP = 0xF9,
};

#define OPCODE_NOP     0x90 /* PAUSE with F3 */
#define OPCODE_INVPCID 0x82 /* behind 66 0F 38 */

static bool skip_memory(struct decoder *d)
{
    struct insn unused = {.address_size = address_size(d)};

    if (d->mod == MOD_REGISTER)
        return false;
    decode_memory(d, &unused);
    return true;
}

static bool skip_group_7(struct decoder *d)
{
    fetch_modrm(d);
    if (d->mod != MOD_REGISTER)
        return (d->reg == GROUP_7_LMSW || d->reg == GROUP_7_INVLPG) && skip_memory(d);
    switch (d->mod << 6 | d->reg << 3 | d->rm) {
    case MODRM_VMCALL:
    case MODRM_MONITOR:
    case MODRM_MWAIT:
    case MODRM_XSETBV:
    case MODRM_VMMCALL:
    case MODRM_RDTSCP:
        return true;
    default:
        return d->reg == GROUP_7_LMSW;
    }
}

static bool skip_invpcid(struct decoder *d)
{
    if (fetch(d) != OPCODE_INVPCID || !d->operand_size_prefix || d->rep || d->repne)
        return false;
    fetch_modrm(d);
    return skip_memory(d);
}

static bool skip_two_byte(struct decoder *d)
{
    u8 opcode = fetch(d);

    if (opcode == GROUP_7)
        return skip_group_7(d);
    if (opcode == ESCAPE_38)
        return skip_invpcid(d);
    if (two_byte_lengths[opcode] & LENGTH_MODRM_REGISTER)
        fetch_modrm(d);
    return two_byte_lengths[opcode] & LENGTH_KNOWN;
}

static bool skip_instruction(struct decoder *d)
{
    u8 opcode = take_prefixes(d);

    if (d->lock)
        return false;
    if (opcode == ESCAPE_0F)
        return skip_two_byte(d);
    if (opcode == OPCODE_NOP)
        return d->rep;
    if (one_byte_lengths[opcode] & LENGTH_IMMEDIATE8)
        fetch(d);
    return one_byte_lengths[opcode] & LENGTH_KNOWN;
}

u8 insn_length(const u8 *bytes, size_t size, enum insn_mode mode)
{
    struct decoder d;

    start(&d, bytes, size, mode);
    return skip_instruction(&d) && !d.truncated ? (u8)d.at : 0;
}
