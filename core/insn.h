/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_INSN_H
#define BULKHEAD_CORE_INSN_H

/* The decoder of x86 instructions that access memory-mapped devices, and of the length of those
 * that exit (Intel SDM volume 2, chapters 2 and "Opcode Map"). Pure. It knows the forms that
 * compilers and kernels use for MMIO: MOV (88-8B, A0-A3, C6, C7), MOVZX, MOVSX, MOVSXD, MOVNTI,
 * STOS, LODS, MOVS, the ALU operations 00-3F / 80 / 81 / 83 with a memory operand, TEST (84, 85,
 * F6, F7), NOT, NEG, INC, DEC, XCHG, XADD, CMPXCHG, BT/BTS/BTR/BTC, AND the prefixes 66, 67,
 * segment, LOCK, REP, REX. */

#include "core/vcpu_state.h"

#define INSN_MAX_LENGTH 15

enum insn_mode {
    INSN_MODE_16,
    INSN_MODE_32,
    INSN_MODE_64,
};

enum insn_operation {
    INSN_LOAD,      /* register <- memory (zero- or sign-extended to operand_size) */
    INSN_STORE,     /* memory <- register or immediate */
    INSN_ALU_LOAD,  /* register <- register OP memory; flags */
    INSN_ALU_STORE, /* memory <- memory OP (register or immediate); flags */
    INSN_COMPARE,   /* CMP, TEST: memory against register or immediate, or the other way round where
                       register_first; flags only */
    INSN_UNARY,     /* NOT, NEG, INC, DEC on memory */
    INSN_XCHG,
    INSN_XADD,
    INSN_CMPXCHG,
    INSN_BIT, /* BT, BTS, BTR, BTC with an immediate or register index */
    INSN_STOS,
    INSN_LODS,
    INSN_MOVS,
};

enum insn_alu {
    ALU_ADD, /* in the encoding's order, bits 5:3 of the opcode */
    ALU_OR,
    ALU_ADC,
    ALU_SBB,
    ALU_AND,
    ALU_SUB,
    ALU_XOR,
    ALU_CMP,
    ALU_TEST,
    ALU_NOT,
    ALU_NEG,
    ALU_INC,
    ALU_DEC,
    ALU_BT,
    ALU_BTS,
    ALU_BTR,
    ALU_BTC,
};

#define INSN_NO_REGISTER 0xFF

struct insn {
    u8 length;       /* bytes, prefixes included */
    u8 operation;    /* enum insn_operation */
    u8 alu;          /* enum insn_alu, where the operation has one */
    u8 access_size;  /* bytes moved to or from memory: 1, 2, 4, 8 */
    u8 operand_size; /* bytes written to the register: 1, 2, 4, 8 */
    u8 address_size; /* 2, 4, 8 */
    bool sign_extend;
    bool register_first; /* INSN_COMPARE: register OP memory */
    bool has_immediate;
    bool rep, repne; /* set for string operations only, which both repeat (none compares) */
    bool lock;
    bool high_byte; /* the register operand is AH, CH, DH or BH; reg is then GPR_RAX.. */
    u8 reg;         /* register operand, or INSN_NO_REGISTER */
    u8 segment;     /* enum segment_register of the memory operand */
    u8 base, index; /* of the memory operand, or INSN_NO_REGISTER */
    u8 scale;       /* 1, 2, 4, 8 */
    bool rip_relative;
    s64 displacement;
    u64 immediate; /* sign-extended to 64 bits as the instruction does */
};

/* Decodes from at most `size` bytes. False when the instruction is not among those known, has no
 * memory operand, or does not end within `size` or 15 bytes. */
bool insn_decode(const u8 *bytes, size_t size, enum insn_mode mode, struct insn *insn);

/* The offset within its segment that the memory operand addresses, truncated to the address
 * size. `next_rip` is the address behind the instruction. STOS and MOVS: the destination;
 * LODS: the source. BT and its kin with the index in a register: the operand that holds the bit.
 * MOVS has two operands: base is that of the destination, which is always in ES, and segment is
 * that of the source, at (E)SI. */
u64 insn_offset(const struct insn *insn, const u64 gpr[GPR_COUNT], u64 next_rip);

/* The register operand's value (the immediate's where there is no register operand), and writing
 * it with x86's rules (a 32-bit write clears the upper half, 8- and 16-bit writes keep the
 * rest). */
u64 insn_register(const struct insn *insn, const u64 gpr[GPR_COUNT]);
void insn_set_register(const struct insn *insn, u64 gpr[GPR_COUNT], u64 value);

/* `a` OP `b` at `size` bytes, as the CPU would: the result is truncated, and CF, PF, AF, ZF, SF,
 * OF in *rflags are those of the operation; those that it leaves undefined are 0 (AF of logic) or
 * unchanged (all but CF of BT and its kin). Operations on one operand ignore `b`; BT and its kin
 * take the low bits of `b` as their index. */
u64 insn_alu(enum insn_alu operation, u64 a, u64 b, u8 size, u64 *rflags);

/* The length of the instruction at `bytes` when it is one that exits for what it is and not for
 * its memory operand: CPUID, HLT, RDMSR, WRMSR, VMMCALL, VMCALL, RDTSC(P), PAUSE, INVD, WBINVD,
 * XSETBV, MONITOR, MWAIT, RDPMC, IN/OUT (all forms), INS/OUTS, CLTS, MOV CR/DR, INVLPG, LMSW,
 * INVPCID, with any legal prefixes. 0 when it is none of these or incomplete. */
u8 insn_length(const u8 *bytes, size_t size, enum insn_mode mode);

#endif
