/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* The decoder against libzydis, and the arithmetic against the CPU that runs this. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <Zydis/Zydis.h>

#include "core/insn.h"

#define ROUNDS 1500000

struct check {
    u8 bytes[INSN_MAX_LENGTH];
    enum insn_mode mode;
    bool decoded; /* by Zydis */
    ZydisDecodedInstruction zydis;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

static u64 random_state;

static u64 random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static u32 random_below(u32 limit)
{
    return (u32)(random_u64() >> 32) % limit;
}

#define fail_with(check, ...)                                                                      \
    do {                                                                                           \
        print_bytes(check);                                                                        \
        fail_msg(__VA_ARGS__);                                                                     \
    } while (0)

static void print_bytes(const struct check *check)
{
    print_error("mode %u:", check->mode);
    for (u32 i = 0; i < sizeof(check->bytes); i++)
        print_error(" %02x", check->bytes[i]);
    print_error("\n");
}

#define expect(check, condition)                                                                   \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_with(check, "%s", #condition);                                                    \
    } while (0)

static void zydis_decode(struct check *check)
{
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth width;
    } modes[] = {
        [INSN_MODE_16] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
        [INSN_MODE_32] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        [INSN_MODE_64] = {ZYDIS_MACHINE_MODE_LONG_64,   ZYDIS_STACK_WIDTH_64},
    };
    ZydisDecoder decoder;

    assert_true(ZYAN_SUCCESS(
        ZydisDecoderInit(&decoder, modes[check->mode].mode, modes[check->mode].width)));
    check->decoded = ZYAN_SUCCESS(ZydisDecoderDecodeFull(
        &decoder, check->bytes, sizeof(check->bytes), &check->zydis, check->operands));
}

static void random_instruction(struct check *check)
{
    static const u8 prefixes[] = {0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E,
                                  0x36, 0x3E, 0x64, 0x65, 0x48, 0x41, 0x44};
    u32 at = 0;

    for (u32 i = 0; i < sizeof(check->bytes); i++)
        check->bytes[i] = (u8)random_u64();
    check->mode = random_below(4) == 0 ? random_below(2) : INSN_MODE_64;
    for (u32 count = random_below(3) + random_below(2); count > 0; count--)
        check->bytes[at++] = prefixes[random_below(sizeof(prefixes))];
    if (check->mode == INSN_MODE_64 && random_below(3) == 0)
        check->bytes[at++] = (u8)(0x40 | random_below(16));
    if (random_below(3) == 0) {
        check->bytes[at++] = 0x0F;
        if (random_below(8) == 0)
            check->bytes[at] = random_below(2) ? 0x01 : 0x38;
        if (check->bytes[at] == 0x38 && random_below(2))
            check->bytes[at + 1] = 0x82;
    }
}

/* ---- what both must agree on ------------------------------------------------------------- */

static const ZydisDecodedOperand *find_operand(const struct check *check, ZydisOperandType type,
                                               bool written_first)
{
    for (u32 i = 0; i < check->zydis.operand_count; i++) {
        const ZydisDecodedOperand *operand = &check->operands[i];

        if (operand->type == type && operand->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
            return operand;
    }
    /* STOS, LODS and MOVS have theirs hidden. */
    for (u32 i = 0; i < check->zydis.operand_count; i++) {
        const ZydisDecodedOperand *operand = &check->operands[i];

        if (operand->type == type &&
            (!written_first || operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            return operand;
    }
    return NULL;
}

static u8 gpr_of(ZydisRegister reg)
{
    if (reg == ZYDIS_REGISTER_NONE)
        return INSN_NO_REGISTER;
    if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
        return (u8)(reg - ZYDIS_REGISTER_AH);
    return (u8)ZydisRegisterGetId(
        ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg));
}

static u64 mask_of(u8 size)
{
    return size == 8 ? UINT64_MAX : (1ULL << 8 * size) - 1;
}

static void check_memory(const struct check *check, const struct insn *insn)
{
    static const ZydisRegister segments[] = {ZYDIS_REGISTER_ES, ZYDIS_REGISTER_CS,
                                             ZYDIS_REGISTER_SS, ZYDIS_REGISTER_DS,
                                             ZYDIS_REGISTER_FS, ZYDIS_REGISTER_GS};
    bool movs = insn->operation == INSN_MOVS;
    const ZydisDecodedOperand *operand = find_operand(check, ZYDIS_OPERAND_TYPE_MEMORY, movs);
    ZydisRegister base;

    expect(check, operand != NULL);
    base = operand->mem.base;
    if (base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP) {
        expect(check, insn->rip_relative);
        base = ZYDIS_REGISTER_NONE;
    } else {
        expect(check, !insn->rip_relative);
    }
    expect(check, operand->size == insn->access_size * 8);
    expect(check, check->zydis.address_width == insn->address_size * 8);
    expect(check, gpr_of(base) == insn->base);
    expect(check, gpr_of(operand->mem.index) == insn->index);
    expect(check, insn->index == INSN_NO_REGISTER || check->zydis.address_width == 16 ||
                      operand->mem.scale == insn->scale);
    expect(check, (((u64)operand->mem.disp.value ^ (u64)insn->displacement) &
                   mask_of(insn->address_size)) == 0);
    if (movs) {
        expect(check, operand->mem.segment == ZYDIS_REGISTER_ES);
        for (operand++; operand->type != ZYDIS_OPERAND_TYPE_MEMORY;)
            operand++;
        expect(check, gpr_of(operand->mem.base) == GPR_RSI);
    }
    expect(check, operand->mem.segment == segments[insn->segment]);
}

static void check_immediate(const struct check *check, const struct insn *insn)
{
    const ZydisDecodedOperand *operand = NULL;

    for (u32 i = 0; i < check->zydis.operand_count_visible; i++)
        if (check->operands[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
            operand = &check->operands[i];
    expect(check, (operand != NULL) == insn->has_immediate);
    if (operand != NULL)
        expect(check,
               ((operand->imm.value.u ^ insn->immediate) & mask_of(insn->operand_size)) == 0);
}

static void check_register(const struct check *check, const struct insn *insn)
{
    const ZydisDecodedOperand *operand = NULL;

    if (insn->operation == INSN_STOS || insn->operation == INSN_LODS) {
        expect(check, insn->reg == GPR_RAX && !insn->high_byte);
        expect(check, insn->operand_size == insn->access_size);
        return;
    }
    for (u32 i = 0; i < check->zydis.operand_count; i++)
        if (check->operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            check->operands[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
            operand = &check->operands[i];
    if (operand == NULL && insn->reg != INSN_NO_REGISTER) /* MOV's moffs forms */
        operand = find_operand(check, ZYDIS_OPERAND_TYPE_REGISTER, false);
    expect(check, (operand != NULL) == (insn->reg != INSN_NO_REGISTER));
    if (operand == NULL)
        return;
    expect(check, operand->size == insn->operand_size * 8);
    expect(check, gpr_of(operand->reg.value) == insn->reg);
    expect(check, insn->high_byte == (operand->reg.value >= ZYDIS_REGISTER_AH &&
                                      operand->reg.value <= ZYDIS_REGISTER_BH));
}

enum {
    ANY_ALU = 0xFF,
};

static const struct known {
    ZydisMnemonic mnemonic;
    u8 operation, other_operation; /* memory written, memory read */
    u8 alu;
} known[] = {
    {ZYDIS_MNEMONIC_MOV,     INSN_STORE,     INSN_LOAD,     ANY_ALU },
    {ZYDIS_MNEMONIC_MOVZX,   INSN_LOAD,      INSN_LOAD,     ANY_ALU },
    {ZYDIS_MNEMONIC_MOVSX,   INSN_LOAD,      INSN_LOAD,     ANY_ALU },
    {ZYDIS_MNEMONIC_MOVSXD,  INSN_LOAD,      INSN_LOAD,     ANY_ALU },
    {ZYDIS_MNEMONIC_MOVNTI,  INSN_STORE,     INSN_STORE,    ANY_ALU },
    {ZYDIS_MNEMONIC_ADD,     INSN_ALU_STORE, INSN_ALU_LOAD, ALU_ADD },
    {ZYDIS_MNEMONIC_OR,      INSN_ALU_STORE, INSN_ALU_LOAD, ALU_OR  },
    {ZYDIS_MNEMONIC_ADC,     INSN_ALU_STORE, INSN_ALU_LOAD, ALU_ADC },
    {ZYDIS_MNEMONIC_SBB,     INSN_ALU_STORE, INSN_ALU_LOAD, ALU_SBB },
    {ZYDIS_MNEMONIC_AND,     INSN_ALU_STORE, INSN_ALU_LOAD, ALU_AND },
    {ZYDIS_MNEMONIC_SUB,     INSN_ALU_STORE, INSN_ALU_LOAD, ALU_SUB },
    {ZYDIS_MNEMONIC_XOR,     INSN_ALU_STORE, INSN_ALU_LOAD, ALU_XOR },
    {ZYDIS_MNEMONIC_CMP,     INSN_COMPARE,   INSN_COMPARE,  ALU_CMP },
    {ZYDIS_MNEMONIC_TEST,    INSN_COMPARE,   INSN_COMPARE,  ALU_TEST},
    {ZYDIS_MNEMONIC_NOT,     INSN_UNARY,     INSN_UNARY,    ALU_NOT },
    {ZYDIS_MNEMONIC_NEG,     INSN_UNARY,     INSN_UNARY,    ALU_NEG },
    {ZYDIS_MNEMONIC_INC,     INSN_UNARY,     INSN_UNARY,    ALU_INC },
    {ZYDIS_MNEMONIC_DEC,     INSN_UNARY,     INSN_UNARY,    ALU_DEC },
    {ZYDIS_MNEMONIC_XCHG,    INSN_XCHG,      INSN_XCHG,     ANY_ALU },
    {ZYDIS_MNEMONIC_XADD,    INSN_XADD,      INSN_XADD,     ALU_ADD },
    {ZYDIS_MNEMONIC_CMPXCHG, INSN_CMPXCHG,   INSN_CMPXCHG,  ALU_CMP },
    {ZYDIS_MNEMONIC_BT,      INSN_BIT,       INSN_BIT,      ALU_BT  },
    {ZYDIS_MNEMONIC_BTS,     INSN_BIT,       INSN_BIT,      ALU_BTS },
    {ZYDIS_MNEMONIC_BTR,     INSN_BIT,       INSN_BIT,      ALU_BTR },
    {ZYDIS_MNEMONIC_BTC,     INSN_BIT,       INSN_BIT,      ALU_BTC },
    {ZYDIS_MNEMONIC_STOSB,   INSN_STOS,      INSN_STOS,     ANY_ALU },
    {ZYDIS_MNEMONIC_STOSW,   INSN_STOS,      INSN_STOS,     ANY_ALU },
    {ZYDIS_MNEMONIC_STOSD,   INSN_STOS,      INSN_STOS,     ANY_ALU },
    {ZYDIS_MNEMONIC_STOSQ,   INSN_STOS,      INSN_STOS,     ANY_ALU },
    {ZYDIS_MNEMONIC_LODSB,   INSN_LODS,      INSN_LODS,     ANY_ALU },
    {ZYDIS_MNEMONIC_LODSW,   INSN_LODS,      INSN_LODS,     ANY_ALU },
    {ZYDIS_MNEMONIC_LODSD,   INSN_LODS,      INSN_LODS,     ANY_ALU },
    {ZYDIS_MNEMONIC_LODSQ,   INSN_LODS,      INSN_LODS,     ANY_ALU },
    {ZYDIS_MNEMONIC_MOVSB,   INSN_MOVS,      INSN_MOVS,     ANY_ALU },
    {ZYDIS_MNEMONIC_MOVSW,   INSN_MOVS,      INSN_MOVS,     ANY_ALU },
    {ZYDIS_MNEMONIC_MOVSD,   INSN_MOVS,      INSN_MOVS,     ANY_ALU },
    {ZYDIS_MNEMONIC_MOVSQ,   INSN_MOVS,      INSN_MOVS,     ANY_ALU },
};

static const struct known *find_known(ZydisMnemonic mnemonic)
{
    for (u32 i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i].mnemonic == mnemonic)
            return &known[i];
    return NULL;
}

static void check_operation(const struct check *check, const struct insn *insn)
{
    const struct known *row = find_known(check->zydis.mnemonic);
    const ZydisDecodedOperand *memory = find_operand(check, ZYDIS_OPERAND_TYPE_MEMORY, false);
    bool written = memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    bool sign_extend = check->zydis.mnemonic == ZYDIS_MNEMONIC_MOVSX ||
                       check->zydis.mnemonic == ZYDIS_MNEMONIC_MOVSXD;

    expect(check, row != NULL);
    expect(check, insn->operation == (written ? row->operation : row->other_operation));
    expect(check, row->alu == ANY_ALU || insn->alu == row->alu);
    expect(check, insn->sign_extend == sign_extend);
    expect(check, insn->lock == !!(check->zydis.attributes & ZYDIS_ATTRIB_HAS_LOCK));
    if (insn->operation == INSN_COMPARE)
        expect(check,
               insn->register_first == (check->operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER));
    if (insn->operation >= INSN_STOS)
        expect(check, insn->rep == !!(check->zydis.attributes & ZYDIS_ATTRIB_HAS_REP));
    else
        expect(check, !insn->rep && !insn->repne);
}

/* Encodings of known mnemonics that the decoder leaves out on purpose. */
static bool is_left_out(const struct check *check)
{
    const ZydisDecodedInstruction *zydis = &check->zydis;

    if (zydis->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
        zydis->opcode_map > ZYDIS_OPCODE_MAP_0F)
        return true;
    if (zydis->opcode_map == ZYDIS_OPCODE_MAP_0F) /* the MOVSD of SSE2 */
        return zydis->mnemonic == ZYDIS_MNEMONIC_MOVSD;
    return zydis->opcode == 0x82 || zydis->opcode == 0x8C || zydis->opcode == 0x8E ||
           ((zydis->opcode & 0xFE) == 0xF6 && zydis->raw.modrm.reg == 1) ||
           (zydis->opcode == 0x63 && zydis->operand_width == 16);
}

static void check_decode(const struct check *check)
{
    struct insn insn;

    if (!insn_decode(check->bytes, sizeof(check->bytes), check->mode, &insn)) {
        if (check->decoded && find_known(check->zydis.mnemonic) != NULL && !is_left_out(check))
            expect(check, find_operand(check, ZYDIS_OPERAND_TYPE_MEMORY, false) == NULL);
        return;
    }
    expect(check, check->decoded);
    expect(check, insn.length == check->zydis.length);
    check_operation(check, &insn);
    check_memory(check, &insn);
    check_register(check, &insn);
    check_immediate(check, &insn);
    for (u32 size = 0; size < insn.length; size++) {
        struct insn shorter;

        expect(check, !insn_decode(check->bytes, size, check->mode, &shorter));
    }
}

static void test_decode_agrees_with_zydis(void **state)
{
    static struct check check;

    random_state = 0x9E3779B97F4A7C15;
    for (u32 i = 0; i < ROUNDS; i++) {
        random_instruction(&check);
        zydis_decode(&check);
        check_decode(&check);
    }
}

/* Every opcode of both maps with every ModRM byte, plain and with each prefix. */
static void test_decode_all_opcodes(void **state)
{
    static const u8 prefixes[] = {0x90, 0x66, 0x67, 0xF0, 0xF3, 0x48, 0x41};
    static struct check check;

    for (u32 i = 0; i < 2 * 256 * 256 * sizeof(prefixes); i++) {
        u8 prefix = prefixes[i / (2 * 256 * 256)];
        u32 at = 0;

        memset(check.bytes, 0x81, sizeof(check.bytes));
        check.mode = INSN_MODE_64;
        if (prefix != 0x90)
            check.bytes[at++] = prefix;
        if (i & 0x10000)
            check.bytes[at++] = 0x0F;
        check.bytes[at++] = (u8)(i >> 8);
        check.bytes[at] = (u8)i;
        zydis_decode(&check);
        check_decode(&check);
    }
}

/* ---- lengths ----------------------------------------------------------------------------- */

static bool exits_for_itself(const ZydisDecodedInstruction *zydis)
{
    static const ZydisMnemonic mnemonics[] = {
        ZYDIS_MNEMONIC_CPUID,   ZYDIS_MNEMONIC_HLT,     ZYDIS_MNEMONIC_RDMSR,
        ZYDIS_MNEMONIC_WRMSR,   ZYDIS_MNEMONIC_VMMCALL, ZYDIS_MNEMONIC_VMCALL,
        ZYDIS_MNEMONIC_RDTSC,   ZYDIS_MNEMONIC_RDTSCP,  ZYDIS_MNEMONIC_PAUSE,
        ZYDIS_MNEMONIC_INVD,    ZYDIS_MNEMONIC_WBINVD,  ZYDIS_MNEMONIC_XSETBV,
        ZYDIS_MNEMONIC_MONITOR, ZYDIS_MNEMONIC_MWAIT,   ZYDIS_MNEMONIC_RDPMC,
        ZYDIS_MNEMONIC_IN,      ZYDIS_MNEMONIC_OUT,     ZYDIS_MNEMONIC_INSB,
        ZYDIS_MNEMONIC_INSW,    ZYDIS_MNEMONIC_INSD,    ZYDIS_MNEMONIC_OUTSB,
        ZYDIS_MNEMONIC_OUTSW,   ZYDIS_MNEMONIC_OUTSD,   ZYDIS_MNEMONIC_CLTS,
        ZYDIS_MNEMONIC_INVLPG,  ZYDIS_MNEMONIC_LMSW,    ZYDIS_MNEMONIC_INVPCID,
    };

    for (u32 i = 0; i < sizeof(mnemonics) / sizeof(mnemonics[0]); i++)
        if (zydis->mnemonic == mnemonics[i])
            return true;
    return zydis->mnemonic == ZYDIS_MNEMONIC_MOV && zydis->opcode_map == ZYDIS_OPCODE_MAP_0F &&
           zydis->opcode >= 0x20 && zydis->opcode <= 0x23;
}

static void check_length(const struct check *check)
{
    u8 length = insn_length(check->bytes, sizeof(check->bytes), check->mode);
    bool expected = check->decoded && exits_for_itself(&check->zydis) &&
                    !(check->zydis.attributes & ZYDIS_ATTRIB_HAS_LOCK);

    if (length == 0) {
        expect(check, !expected);
        return;
    }
    expect(check, insn_length(check->bytes, length - 1, check->mode) == 0);
    if (expected)
        expect(check, length == check->zydis.length);
}

static void test_length_agrees_with_zydis(void **state)
{
    static struct check check;

    random_state = 0xD1B54A32D192ED03;
    for (u32 i = 0; i < ROUNDS; i++) {
        random_instruction(&check);
        zydis_decode(&check);
        check_length(&check);
    }
}

static void test_length_of_examples(void **state)
{
    static const struct {
        u8 bytes[8];
        u8 size, length;
        u8 mode;
    } examples[] = {
        {{0x0F, 0xA2},                   2, 2, INSN_MODE_64},
        {{0xF4},                         1, 1, INSN_MODE_16},
        {{0xF3, 0x90},                   2, 2, INSN_MODE_64},
        {{0x90},                         1, 0, INSN_MODE_64},
        {{0xF3, 0x6C},                   2, 2, INSN_MODE_32},
        {{0x66, 0xED},                   2, 2, INSN_MODE_32},
        {{0xE4, 0x60},                   2, 2, INSN_MODE_16},
        {{0xE4},                         1, 0, INSN_MODE_16},
        {{0x44, 0x0F, 0x20, 0xC0},       4, 4, INSN_MODE_64}, /* MOV RAX, CR8 */
        {{0x0F, 0x01, 0x38},             3, 3, INSN_MODE_64}, /* INVLPG [RAX] */
        {{0x0F, 0x01, 0x7C, 0x24, 0x08}, 5, 5, INSN_MODE_64},
        {{0x66, 0x0F, 0x38, 0x82, 0x08}, 5, 5, INSN_MODE_64},
        {{0x0F, 0x01, 0xC1},             3, 3, INSN_MODE_64},
        {{0x0F, 0x01, 0xD1},             3, 3, INSN_MODE_64},
        {{0x0F, 0x38, 0x82, 0x08},       4, 0, INSN_MODE_64},
        {{0xF0, 0x0F, 0xA2},             3, 0, INSN_MODE_64},
        {{0x8B, 0x00},                   2, 0, INSN_MODE_64},
    };

    for (u32 i = 0; i < sizeof(examples) / sizeof(examples[0]); i++)
        assert_int_equal(insn_length(examples[i].bytes, examples[i].size, examples[i].mode),
                         examples[i].length);
}

/* ---- operands ---------------------------------------------------------------------------- */

static struct insn decoded(enum insn_mode mode, const char *bytes, size_t size)
{
    struct insn insn;

    assert_true(insn_decode((const u8 *)bytes, size, mode, &insn));
    assert_int_equal(insn.length, size);
    return insn;
}

#define DECODED(mode, bytes) decoded(mode, bytes, sizeof(bytes) - 1)

static void test_offsets(void **state)
{
    u64 gpr[GPR_COUNT] = {
        [GPR_RBX] = 0xFFFFFFFFFFFFFF00,
        [GPR_RCX] = 0x10,
        [GPR_RDI] = 0xABCD00001234,
        [GPR_RSI] = 0x5678,
        [GPR_RBP] = 0xFFF0,
    };
    struct insn insn = DECODED(INSN_MODE_64, "\x8B\x44\xCB\x08"); /* [RBX+RCX*8+8] */

    assert_int_equal(insn_offset(&insn, gpr, 0), 0xFFFFFFFFFFFFFF88);
    insn = DECODED(INSN_MODE_64, "\x67\x8B\x44\xCB\x08");
    assert_int_equal(insn_offset(&insn, gpr, 0), 0xFFFFFF88);
    insn = DECODED(INSN_MODE_64, "\x8B\x05\xF0\xFF\xFF\xFF"); /* [RIP-16] */
    assert_int_equal(insn_offset(&insn, gpr, 0x1000), 0xFF0);
    insn = DECODED(INSN_MODE_16, "\x8B\x42\x20"); /* [BP+SI+20h] */
    assert_int_equal(insn_offset(&insn, gpr, 0), 0x5688);
    assert_int_equal(insn.segment, SEG_SS);
    insn = DECODED(INSN_MODE_64, "\xF3\xAB");
    assert_int_equal(insn_offset(&insn, gpr, 0), 0xABCD00001234);
    assert_true(insn.rep);
    insn = DECODED(INSN_MODE_32, "\x64\xAD");
    assert_int_equal(insn_offset(&insn, gpr, 0), 0x5678);
    assert_int_equal(insn.segment, SEG_FS);
    insn = DECODED(INSN_MODE_64, "\xA1\x88\x77\x66\x55\x44\x33\x22\x11");
    assert_int_equal(insn_offset(&insn, gpr, 0), 0x1122334455667788);
}

static void test_bit_offsets(void **state)
{
    u64 gpr[GPR_COUNT] = {[GPR_RBX] = 0x1000, [GPR_RCX] = 70};
    struct insn insn = DECODED(INSN_MODE_64, "\x0F\xAB\x0B"); /* BTS [RBX], ECX */

    assert_int_equal(insn_offset(&insn, gpr, 0), 0x1008);
    gpr[GPR_RCX] = (u32)-1;
    assert_int_equal(insn_offset(&insn, gpr, 0), 0x0FFC);
    insn = DECODED(INSN_MODE_64, "\x66\x0F\xAB\x0B");
    gpr[GPR_RCX] = 17;
    assert_int_equal(insn_offset(&insn, gpr, 0), 0x1002);
    insn = DECODED(INSN_MODE_64, "\x48\x0F\xAB\x0B");
    gpr[GPR_RCX] = (u64)-64;
    assert_int_equal(insn_offset(&insn, gpr, 0), 0x0FF8);
    insn = DECODED(INSN_MODE_64, "\x0F\xBA\x2B\x47"); /* BTS [RBX], 47h */
    assert_int_equal(insn_offset(&insn, gpr, 0), 0x1000);
}

static void test_registers(void **state)
{
    u64 gpr[GPR_COUNT] = {[GPR_RCX] = 0x1122334455667788};
    struct insn insn = DECODED(INSN_MODE_64, "\x8A\x2B"); /* MOV CH, [RBX] */

    assert_int_equal(insn_register(&insn, gpr), 0x77);
    insn_set_register(&insn, gpr, 0x1FF);
    assert_int_equal(gpr[GPR_RCX], 0x112233445566FF88);
    insn = DECODED(INSN_MODE_64, "\x8A\x0B");
    insn_set_register(&insn, gpr, 0x1AA);
    assert_int_equal(gpr[GPR_RCX], 0x112233445566FFAA);
    insn = DECODED(INSN_MODE_64, "\x66\x8B\x0B");
    insn_set_register(&insn, gpr, 0xBBBBCCCC);
    assert_int_equal(gpr[GPR_RCX], 0x112233445566CCCC);
    assert_int_equal(insn_register(&insn, gpr), 0xCCCC);
    insn = DECODED(INSN_MODE_64, "\x8B\x0B");
    insn_set_register(&insn, gpr, 0xFFFFFFFFDDDDDDDD);
    assert_int_equal(gpr[GPR_RCX], 0xDDDDDDDD);
    insn = DECODED(INSN_MODE_64, "\x40\x8A\x2B"); /* MOV BPL, [RBX] */
    assert_int_equal(insn.reg, GPR_RBP);
    insn = DECODED(INSN_MODE_64, "\x48\xC7\x03\xFE\xFF\xFF\xFF");
    assert_int_equal(insn_register(&insn, gpr), (u64)-2);
}

static void test_refused(void **state)
{
    static const struct {
        const char *bytes;
        u8 size, mode;
    } refused[] = {
        {"\x8B\xC3",                                                         2,  INSN_MODE_64}, /* no memory operand */
        {"\xF0\x8B\x03",                                                     3,  INSN_MODE_64}, /* LOCK MOV */
        {"\xF0\x39\x03",                                                     3,  INSN_MODE_64}, /* LOCK CMP */
        {"\xF0\x03\x03",                                                     3,  INSN_MODE_64}, /* LOCK ADD to a register */
        {"\xF0\x0F\xA3\x03",                                                 4,  INSN_MODE_64}, /* LOCK BT */
        {"\x66\x0F\xC3\x03",                                                 4,  INSN_MODE_64}, /* MOVNTI has no 16-bit form */
        {"\x63\x03",                                                         2,  INSN_MODE_32}, /* ARPL */
        {"\xC6\x08\x00",                                                     3,  INSN_MODE_64},
        {"\x8C\x03",                                                         2,  INSN_MODE_64},
        {"\xFF\x13",                                                         2,  INSN_MODE_64}, /* CALL */
        {"\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x8B\x03", 16, INSN_MODE_64},
    };
    struct insn insn;

    for (u32 i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_false(
            insn_decode((const u8 *)refused[i].bytes, refused[i].size, refused[i].mode, &insn));
}

/* ---- arithmetic -------------------------------------------------------------------------- */

#define STATUS_FLAGS 0x8D5ULL
#define CF           0x001ULL
#define AF           0x010ULL

/* Runs one instruction with the given flags; the red zone is stepped over. */
#define ON_CPU(text)                                                                               \
    __asm__("lea -128(%%rsp), %%rsp\n\tpush %[f]\n\tpopfq\n\t" text                                \
            "\n\tpushfq\n\tpop %[f]\n\tlea 128(%%rsp), %%rsp"                                      \
            : [a] "+r"(a), [f] "+r"(*flags)                                                        \
            : [b] "r"(b)                                                                           \
            : "cc", "memory")

#define ON_CPU_TWO(name)                                                                           \
    switch (size) {                                                                                \
    case 1:                                                                                        \
        ON_CPU(name "b %b[b], %b[a]");                                                             \
        break;                                                                                     \
    case 2:                                                                                        \
        ON_CPU(name "w %w[b], %w[a]");                                                             \
        break;                                                                                     \
    case 4:                                                                                        \
        ON_CPU(name "l %k[b], %k[a]");                                                             \
        break;                                                                                     \
    default:                                                                                       \
        ON_CPU(name "q %[b], %[a]");                                                               \
    }                                                                                              \
    return a

#define ON_CPU_ONE(name)                                                                           \
    switch (size) {                                                                                \
    case 1:                                                                                        \
        ON_CPU(name "b %b[a]");                                                                    \
        break;                                                                                     \
    case 2:                                                                                        \
        ON_CPU(name "w %w[a]");                                                                    \
        break;                                                                                     \
    case 4:                                                                                        \
        ON_CPU(name "l %k[a]");                                                                    \
        break;                                                                                     \
    default:                                                                                       \
        ON_CPU(name "q %[a]");                                                                     \
    }                                                                                              \
    return a

#define ON_CPU_BIT(name)                                                                           \
    switch (size) {                                                                                \
    case 2:                                                                                        \
        ON_CPU(name "w %w[b], %w[a]");                                                             \
        break;                                                                                     \
    case 4:                                                                                        \
        ON_CPU(name "l %k[b], %k[a]");                                                             \
        break;                                                                                     \
    default:                                                                                       \
        ON_CPU(name "q %[b], %[a]");                                                               \
    }                                                                                              \
    return a

#define DEFINE(name, how)                                                                          \
    static u64 cpu_##name(u64 a, u64 b, u8 size, u64 *flags)                                       \
    {                                                                                              \
        how(#name);                                                                                \
    }

DEFINE(add, ON_CPU_TWO)
DEFINE(or, ON_CPU_TWO)
DEFINE(adc, ON_CPU_TWO)
DEFINE(sbb, ON_CPU_TWO)
DEFINE(and, ON_CPU_TWO)
DEFINE(sub, ON_CPU_TWO)
DEFINE(xor, ON_CPU_TWO)
DEFINE(cmp, ON_CPU_TWO)
DEFINE(test, ON_CPU_TWO)
DEFINE(not, ON_CPU_ONE)
DEFINE(neg, ON_CPU_ONE)
DEFINE(inc, ON_CPU_ONE)
DEFINE(dec, ON_CPU_ONE)
DEFINE(bt, ON_CPU_BIT)
DEFINE(bts, ON_CPU_BIT)
DEFINE(btr, ON_CPU_BIT)
DEFINE(btc, ON_CPU_BIT)

static const struct operation {
    const char *name;
    u64 (*run)(u64 a, u64 b, u8 size, u64 *flags);
    u64 defined;  /* flags that the manual defines */
    bool keeps_a; /* on the CPU: the result is not stored */
} operations[] = {
    [ALU_ADD] = {"add",  cpu_add,  STATUS_FLAGS,       false},
    [ALU_OR] = {"or",   cpu_or,   STATUS_FLAGS & ~AF, false},
    [ALU_ADC] = {"adc",  cpu_adc,  STATUS_FLAGS,       false},
    [ALU_SBB] = {"sbb",  cpu_sbb,  STATUS_FLAGS,       false},
    [ALU_AND] = {"and",  cpu_and,  STATUS_FLAGS & ~AF, false},
    [ALU_SUB] = {"sub",  cpu_sub,  STATUS_FLAGS,       false},
    [ALU_XOR] = {"xor",  cpu_xor,  STATUS_FLAGS & ~AF, false},
    [ALU_CMP] = {"cmp",  cpu_cmp,  STATUS_FLAGS,       true },
    [ALU_TEST] = {"test", cpu_test, STATUS_FLAGS & ~AF, true },
    [ALU_NOT] = {"not",  cpu_not,  STATUS_FLAGS,       false},
    [ALU_NEG] = {"neg",  cpu_neg,  STATUS_FLAGS,       false},
    [ALU_INC] = {"inc",  cpu_inc,  STATUS_FLAGS,       false},
    [ALU_DEC] = {"dec",  cpu_dec,  STATUS_FLAGS,       false},
    [ALU_BT] = {"bt",   cpu_bt,   CF,                 false},
    [ALU_BTS] = {"bts",  cpu_bts,  CF,                 false},
    [ALU_BTR] = {"btr",  cpu_btr,  CF,                 false},
    [ALU_BTC] = {"btc",  cpu_btc,  CF,                 false},
};

/* Values near the ends of the ranges are where flags go wrong. */
static u64 interesting_value(void)
{
    u64 value = random_u64();

    switch (random_below(4)) {
    case 0:
        return value;
    case 1:
        return (value & 3) - 2;
    case 2:
        return (1ULL << (random_below(8) * 8 + 7)) + (value & 3) - 2;
    default:
        return value & 0x0F0F0F0F0F0F0F0F;
    }
}

static void check_operation_on_cpu(enum insn_alu alu, u8 size)
{
    const struct operation *operation = &operations[alu];
    u64 a = interesting_value(), b = interesting_value();
    u64 flags = (random_u64() & STATUS_FLAGS) | 2, cpu_flags = flags;
    u64 result = insn_alu(alu, a, b, size, &flags);
    u64 cpu_result = operation->run(a, b, size, &cpu_flags);

    if (((flags ^ cpu_flags) & operation->defined) != 0)
        fail_msg("%s of %u bytes, %#lx and %#lx: flags %#lx, the CPU's are %#lx", operation->name,
                 size, a, b, flags, cpu_flags & STATUS_FLAGS);
    if (!operation->keeps_a && ((result ^ cpu_result) & mask_of(size)) != 0)
        fail_msg("%s of %u bytes, %#lx and %#lx: %#lx, the CPU's is %#lx", operation->name, size, a,
                 b, result, cpu_result);
    assert_int_equal(result & ~mask_of(size), 0);
    assert_int_equal(flags & ~STATUS_FLAGS, 2);
}

static void test_alu_agrees_with_cpu(void **state)
{
    random_state = 0x2545F4914F6CDD1D;
    for (u32 i = 0; i < 20000; i++)
        for (u32 alu = ALU_ADD; alu <= ALU_BTC; alu++)
            for (u8 size = alu >= ALU_BT ? 2 : 1; size <= 8; size *= 2)
                check_operation_on_cpu(alu, size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_agrees_with_zydis),
        cmocka_unit_test(test_decode_all_opcodes),
        cmocka_unit_test(test_length_agrees_with_zydis),
        cmocka_unit_test(test_length_of_examples),
        cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_bit_offsets),
        cmocka_unit_test(test_registers),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_alu_agrees_with_cpu),
    };

    return cmocka_run_group_tests_name("insn", tests, NULL, NULL);
}
