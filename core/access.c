/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Port and memory accesses that leave the guest for a device. */

#include "core/host.h"
#include "core/insn.h"
#include "core/vcpu_run.h"
#include "core/vm.h"
#include "devices/pc_ports.h"
#include "lib/string.h"
#include "mm/guest_walk.h"

#define RFLAGS_DF BIT(10)
#define EFER_LMA  BIT(10)

/* Repetitions of a string instruction that one exit carries out: bounds the time in host mode. */
#define STRING_STEP 256

static struct guest_paging paging_of(struct vcpu *vcpu)
{
    struct segment ss;

    /* SS has the current privilege level, in virtual-8086 mode as well. */
    host.hvm->read_segment(vcpu, SEG_SS, &ss);
    return (struct guest_paging){
        .cr0 = host.hvm->read_register(vcpu, HVM_CR0),
        .cr3 = host.hvm->read_register(vcpu, HVM_CR3),
        .cr4 = host.hvm->read_register(vcpu, HVM_CR4),
        .efer = host.hvm->read_register(vcpu, HVM_EFER),
        .user = (ss.attributes >> SEG_ATTR_DPL_SHIFT & 3) == 3,
    };
}

enum insn_mode vcpu_insn_mode(struct vcpu *vcpu)
{
    struct segment cs;

    host.hvm->read_segment(vcpu, SEG_CS, &cs);
    if ((cs.attributes & SEG_ATTR_L) && (host.hvm->read_register(vcpu, HVM_EFER) & EFER_LMA))
        return INSN_MODE_64;
    return cs.attributes & SEG_ATTR_DB ? INSN_MODE_32 : INSN_MODE_16;
}

/* The linear address of `offset` in a segment: in 64-bit mode only FS and GS have a base. */
static u64 linear_address(struct vcpu *vcpu, enum insn_mode mode, u8 which, u64 offset)
{
    struct segment segment;

    if (mode == INSN_MODE_64 && which != SEG_FS && which != SEG_GS)
        return offset;
    host.hvm->read_segment(vcpu, which, &segment);
    return mode == INSN_MODE_64 ? segment.base + offset : (u32)(segment.base + offset);
}

size_t vcpu_fetch(struct vcpu *vcpu, u8 *bytes, size_t size)
{
    struct guest_paging paging = paging_of(vcpu);
    u64 linear =
        linear_address(vcpu, vcpu_insn_mode(vcpu), SEG_CS, host.hvm->read_register(vcpu, HVM_RIP));

    return guest_read_linear(&vcpu->vm->memory.ram, &paging, linear, bytes, size);
}

static u64 size_mask(u8 size)
{
    return size == 8 ? UINT64_MAX : BIT(8 * size) - 1;
}

/* x86's rule: a 32-bit result clears the upper half, a 16-bit one keeps the rest. */
static void set_low(u64 *reg, u64 value, u8 size)
{
    u64 mask = size == 4 ? UINT64_MAX : size_mask(size);

    if (size == 4)
        value &= UINT32_MAX;
    *reg = (*reg & ~mask) | (value & mask);
}

static NOINLINE enum exit_kind port_access(struct vcpu *vcpu, u16 port, u8 size, bool write)
{
    struct access access = {
        .space = SPACE_PORT,
        .address = port,
        .size = size,
        .write = write,
        .value = vcpu->gpr[GPR_RAX],
    };

    vcpu_access(vcpu, &access);
    if (!write)
        set_low(&vcpu->gpr[GPR_RAX], access.value, size);
    return EXIT_PORT;
}

static void set_al(struct vcpu *vcpu, u8 value)
{
    *(u8 *)&vcpu->gpr[GPR_RAX] = value;
}

/* Fires no timer first: one that is due takes the vCPU out of the guest before it goes on. */
static NOINLINE enum exit_kind read_pit(struct vcpu *vcpu, u32 counter)
{
    struct vm *vm = vcpu->vm;
    struct machine *machine = vm->machine;
    int value;

    spin_lock(&vm->lock);
    value = pit_try_read(&machine->pit, counter, machine->tsc_hz, vm_now(vm));
    spin_unlock(&vm->lock);
    if (value < 0)
        return port_access(vcpu, PORT_PIT + counter, 1, false);
    set_al(vcpu, value);
    return EXIT_PORT;
}

static NOINLINE enum exit_kind read_byte(struct vcpu *vcpu, u16 port)
{
    int value = machine_peek(vcpu->vm->machine, port);

    if (value < 0)
        return port_access(vcpu, port, 1, false);
    set_al(vcpu, value);
    return EXIT_PORT;
}

enum exit_kind vcpu_fast_port(struct vcpu *vcpu, u16 port, u8 size, bool write)
{
    u32 counter = port - PORT_PIT;

    if (write || size != 1)
        return port_access(vcpu, port, size, write);
    return counter < PIT_CHANNELS ? read_pit(vcpu, counter) : read_byte(vcpu, port);
}

/* INS or OUTS, repeated or not. */
struct port_string {
    struct guest_paging paging;
    enum insn_mode mode;
    u8 segment;
    bool down;
    u64 mask; /* of the address's size */
    u64 *index, *count;
    u8 ahead[STRING_STEP]; /* what OUTS has read of the guest's memory */
    u32 next, end;         /* in `ahead` */
};

/* How many bytes OUTS is sure to read one behind the other from here on; 0: one element at most. */
static u64 contiguous(const struct port_string *string, const struct exit *exit, u64 linear,
                      u32 left)
{
    u64 count = MIN(*string->count & string->mask, left) * exit->port.size;
    u64 wrap = string->mask - (*string->index & string->mask);
    u64 page = PAGE_SIZE - (linear & (PAGE_SIZE - 1));

    return exit->port.rep && !string->down ? MIN(MIN(count, wrap), page) : 0;
}

static bool next_outgoing(struct vcpu *vcpu, struct port_string *string, const struct exit *exit,
                          u64 linear, u32 left, u64 *value)
{
    u8 size = exit->port.size;

    if (string->next == string->end) {
        u64 wanted = MIN(contiguous(string, exit, linear, left), sizeof(string->ahead));
        u64 got = guest_read_linear(&vcpu->vm->memory.ram, &string->paging, linear, string->ahead,
                                    MAX(ALIGN_DOWN(wanted, size), size));

        string->next = 0;
        string->end = ALIGN_DOWN(got, size);
        if (string->end == 0)
            return false;
    }
    memcpy(value, string->ahead + string->next, size);
    string->next += size;
    return true;
}

/* False when the memory operand is not there: letting the guest execute the access itself, for its
 * page fault, is no option, as the instruction exits first. */
static bool port_string_one(struct vcpu *vcpu, struct port_string *string, const struct exit *exit,
                            u64 linear, u32 left)
{
    const struct guest_ram *ram = &vcpu->vm->memory.ram;
    struct access access = {
        .space = SPACE_PORT,
        .address = exit->port.number,
        .size = exit->port.size,
        .write = exit->port.write,
    };
    u64 gpa;

    if (access.write) {
        if (!next_outgoing(vcpu, string, exit, linear, left, &access.value))
            return false;
        vcpu_access(vcpu, &access);
        return true;
    }
    /* The device is read only when there is somewhere to put the value. */
    if (!guest_walk(ram, &string->paging, linear, true, &gpa) ||
        !guest_walk(ram, &string->paging, linear + access.size - 1, true, &gpa))
        return false;
    vcpu_access(vcpu, &access);
    guest_write_linear(ram, &string->paging, linear, &access.value, access.size);
    return true;
}

static bool is_canonical(u64 linear)
{
    return (u64)((s64)(linear << 16) >> 16) == linear;
}

/* The fault of an emulated memory operand: SDM volume 3, "Interrupt 14", at the first byte that
 * cannot be reached, or #GP where its address is not canonical. */
static void raise_operand_fault(struct vcpu *vcpu, const struct guest_paging *paging, u64 linear,
                                u8 size, bool write)
{
    struct guest_paging any = *paging;
    bool present;
    u64 gpa;

    if (!is_canonical(linear)) {
        vcpu_raise_gp(vcpu);
        return;
    }
    if (guest_walk(&vcpu->vm->memory.ram, paging, linear, write, &gpa))
        linear = ALIGN_DOWN(linear + size - 1, PAGE_SIZE);
    any.user = false;
    present = guest_walk(&vcpu->vm->memory.ram, &any, linear, false, &gpa);
    host.hvm->write_register(vcpu, HVM_CR2, linear);
    vcpu_raise(vcpu, 14, (present ? 1 : 0) | (write ? 2 : 0) | (paging->user ? 4 : 0));
}

static struct port_string port_string_of(struct vcpu *vcpu, const struct exit *exit)
{
    return (struct port_string){
        .paging = paging_of(vcpu),
        .mode = vcpu_insn_mode(vcpu),
        .segment = exit->port.write ? exit->port.segment : SEG_ES,
        .down = host.hvm->read_register(vcpu, HVM_RFLAGS) & RFLAGS_DF,
        .mask = size_mask(exit->port.address_size),
        .index = &vcpu->gpr[exit->port.write ? GPR_RSI : GPR_RDI],
        .count = &vcpu->gpr[GPR_RCX],
    };
}

static void handle_port_string(struct vcpu *vcpu, const struct exit *exit)
{
    struct port_string string = port_string_of(vcpu, exit);
    u8 size = exit->port.size, address_size = exit->port.address_size;

    for (u32 left = STRING_STEP; left > 0; left--) {
        u64 linear;

        if (exit->port.rep && (*string.count & string.mask) == 0)
            break;
        linear = linear_address(vcpu, string.mode, string.segment, *string.index & string.mask);
        if (!port_string_one(vcpu, &string, exit, linear, left)) {
            raise_operand_fault(vcpu, &string.paging, linear, size, !exit->port.write);
            return;
        }
        set_low(string.index, *string.index + (string.down ? -size : size), address_size);
        if (!exit->port.rep)
            break;
        set_low(string.count, *string.count - 1, address_size);
    }
    /* What is left comes with the next exit: RIP stays. */
    if (!exit->port.rep || (*string.count & string.mask) == 0)
        host.hvm->skip_instruction(vcpu, 0);
}

void handle_port(struct vcpu *vcpu, struct exit *exit)
{
    if (exit->port.string)
        handle_port_string(vcpu, exit);
    else if (host.hvm->skip_instruction(vcpu, 0))
        vcpu_fast_port(vcpu, exit->port.number, exit->port.size, exit->port.write);
}

static NOINLINE u64 device_read(struct vcpu *vcpu, u64 gpa, u8 size)
{
    struct access access = {.space = SPACE_MEMORY, .address = gpa, .size = size};

    vcpu_access(vcpu, &access);
    return access.value;
}

static NOINLINE void device_write(struct vcpu *vcpu, u64 gpa, u8 size, u64 value)
{
    struct access access = {
        .space = SPACE_MEMORY,
        .address = gpa,
        .size = size,
        .write = true,
        .value = value & size_mask(size),
    };

    vcpu_access(vcpu, &access);
}

struct emulation {
    struct vcpu *vcpu;
    const struct insn *insn;
    u64 gpa;
    u64 rflags;
    enum insn_mode mode;
    bool again; /* a repeated string instruction is not done yet */
    bool failed;
};

static u64 operand(const struct emulation *e)
{
    return e->insn->has_immediate ? e->insn->immediate : insn_register(e->insn, e->vcpu->gpr);
}

static u64 load(const struct emulation *e)
{
    s64 value = machine_peek_memory(e->vcpu->vm->machine, e->vcpu->index, e->gpa);

    if (value < 0)
        return device_read(e->vcpu, e->gpa, e->insn->access_size);
    return (u64)value & size_mask(e->insn->access_size);
}

static void store(const struct emulation *e, u64 value)
{
    if (!machine_poke_memory(e->vcpu->vm->machine, e->vcpu->index, e->gpa, value))
        device_write(e->vcpu, e->gpa, e->insn->access_size, value);
}

static u64 sign_extended(u64 value, u8 size)
{
    unsigned unused = 64 - 8 * size;

    return (u64)((s64)(value << unused) >> unused);
}

static void emulate_load(struct emulation *e)
{
    u64 value = load(e);

    if (e->insn->sign_extend)
        value = sign_extended(value, e->insn->access_size);
    insn_set_register(e->insn, e->vcpu->gpr, value);
}

static void emulate_store(struct emulation *e)
{
    store(e, operand(e));
}

static void emulate_alu_load(struct emulation *e)
{
    u64 result = insn_alu(e->insn->alu, insn_register(e->insn, e->vcpu->gpr), load(e),
                          e->insn->access_size, &e->rflags);

    insn_set_register(e->insn, e->vcpu->gpr, result);
}

static void emulate_alu_store(struct emulation *e)
{
    store(e, insn_alu(e->insn->alu, load(e), operand(e), e->insn->access_size, &e->rflags));
}

static void emulate_compare(struct emulation *e)
{
    u64 memory = load(e), other = operand(e);

    if (e->insn->register_first)
        insn_alu(e->insn->alu, other, memory, e->insn->access_size, &e->rflags);
    else
        insn_alu(e->insn->alu, memory, other, e->insn->access_size, &e->rflags);
}

static void emulate_xchg(struct emulation *e)
{
    u64 value = load(e);

    store(e, operand(e));
    insn_set_register(e->insn, e->vcpu->gpr, value);
}

static void emulate_xadd(struct emulation *e)
{
    u64 value = load(e);

    store(e, insn_alu(ALU_ADD, value, operand(e), e->insn->access_size, &e->rflags));
    insn_set_register(e->insn, e->vcpu->gpr, value);
}

static void emulate_cmpxchg(struct emulation *e)
{
    u8 size = e->insn->access_size;
    u64 value = load(e), mask = size_mask(size);

    insn_alu(ALU_CMP, e->vcpu->gpr[GPR_RAX] & mask, value, size, &e->rflags);
    if ((e->vcpu->gpr[GPR_RAX] & mask) == value) {
        store(e, operand(e));
    } else {
        store(e, value);
        set_low(&e->vcpu->gpr[GPR_RAX], value, size);
    }
}

static void emulate_bit(struct emulation *e)
{
    u64 value = insn_alu(e->insn->alu, load(e), operand(e), e->insn->access_size, &e->rflags);

    if (e->insn->alu != ALU_BT)
        store(e, value);
}

static void advance(struct emulation *e, enum gpr which)
{
    u64 *reg = &e->vcpu->gpr[which];
    u64 step = e->rflags & RFLAGS_DF ? -(u64)e->insn->access_size : e->insn->access_size;

    set_low(reg, *reg + step, e->insn->address_size);
}

/* The memory operand of MOVS that is not the device. */
static bool movs_other(struct emulation *e, bool write, u64 *value)
{
    struct vcpu *vcpu = e->vcpu;
    u64 mask = size_mask(e->insn->address_size);
    u64 linear = write ? linear_address(vcpu, e->mode, SEG_ES, vcpu->gpr[GPR_RDI] & mask)
                       : linear_address(vcpu, e->mode, e->insn->segment, vcpu->gpr[GPR_RSI] & mask);
    struct guest_paging paging = paging_of(vcpu);
    const struct guest_ram *ram = &vcpu->vm->memory.ram;
    u8 size = e->insn->access_size;
    u64 gpa;

    if (!guest_walk(ram, &paging, linear, write, &gpa))
        return false;
    if (guest_ram_at(ram, gpa, size)) {
        if (write)
            return guest_write_linear(ram, &paging, linear, value, size) == size;
        return guest_read_linear(ram, &paging, linear, value, size) == size;
    }
    if (write)
        device_write(vcpu, gpa, size, *value);
    else
        *value = device_read(vcpu, gpa, size);
    return true;
}

/* Of instructions that compare nothing, REPNE is REP as well. */
static bool repeats(const struct insn *insn)
{
    return insn->rep || insn->repne;
}

/* One repetition; the rest come with further exits. */
static void emulate_string(struct emulation *e)
{
    struct vcpu *vcpu = e->vcpu;
    u64 mask = size_mask(e->insn->address_size);
    u64 value = 0;

    if (repeats(e->insn) && (vcpu->gpr[GPR_RCX] & mask) == 0)
        return;
    if (e->insn->operation == INSN_STOS) {
        store(e, vcpu->gpr[GPR_RAX]);
        advance(e, GPR_RDI);
    } else if (e->insn->operation == INSN_LODS) {
        set_low(&vcpu->gpr[GPR_RAX], load(e), e->insn->access_size);
        advance(e, GPR_RSI);
    } else {
        if (!movs_other(e, false, &value) || !movs_other(e, true, &value)) {
            e->failed = true;
            return;
        }
        advance(e, GPR_RSI);
        advance(e, GPR_RDI);
    }
    if (repeats(e->insn)) {
        set_low(&vcpu->gpr[GPR_RCX], vcpu->gpr[GPR_RCX] - 1, e->insn->address_size);
        e->again = (vcpu->gpr[GPR_RCX] & mask) != 0;
    }
}

static void (*const emulators[])(struct emulation *e) = {
    [INSN_LOAD] = emulate_load,         [INSN_STORE] = emulate_store,
    [INSN_ALU_LOAD] = emulate_alu_load, [INSN_ALU_STORE] = emulate_alu_store,
    [INSN_COMPARE] = emulate_compare,   [INSN_UNARY] = emulate_alu_store,
    [INSN_XCHG] = emulate_xchg,         [INSN_XADD] = emulate_xadd,
    [INSN_CMPXCHG] = emulate_cmpxchg,   [INSN_BIT] = emulate_bit,
    [INSN_STOS] = emulate_string,       [INSN_LODS] = emulate_string,
    [INSN_MOVS] = emulate_string,
};

static bool decode(struct vcpu *vcpu, const struct exit *exit, enum insn_mode mode,
                   struct insn *insn)
{
    u8 bytes[INSN_MAX_LENGTH];
    size_t count = exit->memory.bytes_count;

    if (count) {
        memcpy(bytes, exit->memory.bytes, count);
        if (insn_decode(bytes, count, mode, insn))
            return true;
        /* The CPU brings less than an instruction where it could not read on. */
    }
    return insn_decode(bytes, vcpu_fetch(vcpu, bytes, sizeof(bytes)), mode, insn);
}

/* Not the instruction that exited: another vCPU has changed the code since. The guest is to run
 * what is there now. */
static bool contradicts(const struct insn *insn, bool write)
{
    bool stores = insn->operation == INSN_STORE || insn->operation == INSN_STOS;

    return write ? insn->operation == INSN_LOAD : stores;
}

void handle_memory(struct vcpu *vcpu, struct exit *exit)
{
    struct insn insn;
    struct emulation e = {
        .vcpu = vcpu,
        .insn = &insn,
        .gpa = exit->memory.gpa,
        .mode = vcpu_insn_mode(vcpu),
    };

    if (exit->memory.fetch) {
        vcpu_crash(vcpu, exit, "code fetched where there is no memory");
        return;
    }
    if (!decode(vcpu, exit, e.mode, &insn)) {
        vcpu_crash(vcpu, exit, "unknown instruction accesses a device");
        return;
    }
    if (contradicts(&insn, exit->memory.write))
        return;
    e.rflags = host.hvm->read_register(vcpu, HVM_RFLAGS);
    vcpu->gpr[GPR_RSP] = host.hvm->read_register(vcpu, HVM_RSP);
    emulators[insn.operation](&e);
    if (e.failed) {
        vcpu_crash(vcpu, exit, "string instruction on a device with an unmapped operand");
        return;
    }
    host.hvm->write_register(vcpu, HVM_RFLAGS, e.rflags);
    if (insn.reg == GPR_RSP)
        host.hvm->write_register(vcpu, HVM_RSP, vcpu->gpr[GPR_RSP]);
    if (!e.again)
        host.hvm->skip_instruction(vcpu, insn.length);
}

#define FAST_REGISTERS                                                                             \
    (BIT(GPR_RAX) | BIT(GPR_RCX) | BIT(GPR_RDX) | BIT(GPR_RBX) | BIT(GPR_RSI) | BIT(GPR_RDI) |     \
     BIT(GPR_R8) | BIT(GPR_R9) | BIT(GPR_R10) | BIT(GPR_R11))

/* Accepts plain loads and stores with these registers. */
static NOINLINE void decode_simple(struct decoded *decoded, u64 low, u64 high)
{
    u64 code[2] = {low, high};
    struct insn *insn = &decoded->insn;
    u8 length;

    if (!insn_decode((const u8 *)code, INSN_MAX_LENGTH, INSN_MODE_64, insn) ||
        insn->operation > INSN_STORE ||
        !(insn->has_immediate || FAST_REGISTERS >> (insn->reg & 63) & 1))
        insn->length = 0;
    length = insn->length ? insn->length : sizeof(code);
    decoded->behind[0] = ~size_mask(MIN(length, 8));
    decoded->behind[1] = ~size_mask(MAX(length, 8) - 8);
    decoded->code[0] = low | decoded->behind[0];
    decoded->code[1] = high | decoded->behind[1];
}

/* Fibonacci hashing: the upper bits of a product with 2^32 divided by the golden ratio. What is
 * hashed is three bytes, as most instructions have these. */
static struct decoded *slot_of(struct vcpu *vcpu, u64 code)
{
    return &vcpu->decoded[((u32)code << 8) * 0x9E3779B9 >> (32 - DECODED_BITS)];
}

static inline const struct insn *find_decoded(struct vcpu *vcpu, u64 low, u64 high)
{
    struct decoded *decoded = slot_of(vcpu, low);

    if ((low | decoded->behind[0]) != decoded->code[0] ||
        (high | decoded->behind[1]) != decoded->code[1])
        decode_simple(decoded, low, high);
    return &decoded->insn;
}

_Static_assert(INSN_LOAD == false && INSN_STORE == true, "compared with whether it is a write");

enum exit_kind vcpu_fast_memory(struct vcpu *vcpu, u64 gpa, u64 cr3, u64 rip, bool write)
{
    struct emulation e = {.vcpu = vcpu, .gpa = gpa};
    const volatile u64 *code =
        guest_code_at(&vcpu->code, &vcpu->vm->memory.ram, cr3, rip, sizeof(vcpu->decoded->code));

    if (!code)
        return EXIT_NONE;
    e.insn = find_decoded(vcpu, code[0], code[1]);
    if (e.insn->length == 0 || e.insn->operation != write)
        return EXIT_NONE;
    vcpu->insn_length = e.insn->length;
    if (write)
        emulate_store(&e);
    else
        emulate_load(&e);
    return EXIT_MEMORY;
}
