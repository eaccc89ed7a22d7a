/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Any bytes as an instruction: bounds of what the decoder says, and nothing read behind them. */

#include <stdlib.h>
#include <string.h>

#include "core/insn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool is_size(u8 size)
{
    return size == 1 || size == 2 || size == 4 || size == 8;
}

static bool is_register(u8 reg)
{
    return reg < GPR_COUNT || reg == INSN_NO_REGISTER;
}

static void check(const u8 *bytes, size_t size, enum insn_mode mode)
{
    u64 gpr[GPR_COUNT] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, UINT64_MAX};
    u64 rflags = 2, value;
    struct insn insn;

    require(insn_length(bytes, size, mode) <= MIN(size, INSN_MAX_LENGTH));
    if (!insn_decode(bytes, size, mode, &insn))
        return;
    require(insn.length >= 1 && insn.length <= MIN(size, INSN_MAX_LENGTH));
    require(insn.operation <= INSN_MOVS && insn.alu <= ALU_BTC && insn.segment <= SEG_GS);
    require(is_size(insn.access_size) && is_size(insn.operand_size) && is_size(insn.address_size));
    require(is_register(insn.reg) && is_register(insn.base) && is_register(insn.index));
    require(is_size(insn.scale));
    require(mode == INSN_MODE_64 || (insn.operand_size <= 4 && insn.address_size <= 4));
    value = insn_alu(insn.alu, insn_offset(&insn, gpr, 0x1000), insn_register(&insn, gpr),
                     insn.operand_size, &rflags);
    insn_set_register(&insn, gpr, value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (u32 mode = INSN_MODE_16; mode <= INSN_MODE_64; mode++)
        check(data, size, mode);
    return 0;
}
