/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/panic.h"

#include "core/cpu.h"
#include "core/log.h"
#include "core/screen.h"
#include "core/symbols.h"
#include "core/terminal.h"
#include "drivers/cpu.h"
#include "drivers/lapic.h"
#include "lib/string.h"
#include "mm/sections.h"

#define BACKTRACE_MAX 32
#define SYMBOL_SIZE   48 /* of a name as it is shown, with the NUL */

static bool panicking;

/* The gcc manual, "-fstack-protector". */
u64 __stack_chk_guard;
_Noreturn void __stack_chk_fail(void);

/* Not protected itself: it returns with another guard than it was entered with. The low byte is
 * 0, so that a string that runs over ends there. */
__attribute__((optimize("no-stack-protector"))) void panic_set_stack_guard(u64 seed)
{
    __stack_chk_guard = (seed * 0x9E3779B97F4A7C15ULL) << 8;
}

_Noreturn void __stack_chk_fail(void)
{
    panic("a stack was overwritten");
}

static u32 next_code(u32 *position)
{
    u32 bit = SYMBOL_CODE_BITS * (*position)++;
    u32 bytes = symbol_names[bit / 8] | (u32)symbol_names[bit / 8 + 1] << 8;

    return bytes >> bit % 8 & (BIT(SYMBOL_CODE_BITS) - 1);
}

/* The name that begins at code *position, which is moved behind it. */
static void read_name(u32 *position, char name[SYMBOL_SIZE])
{
    u32 size = 0, code;

    while ((code = next_code(position)) != SYMBOL_END) {
        char letter = code == SYMBOL_UNDERSCORE ? '_' : (char)('a' + code - SYMBOL_A);

        if (code == SYMBOL_OTHER) {
            code = next_code(position);
            letter = code == SYMBOL_DOT ? '.' : (char)('0' + code);
        }
        if (size < SYMBOL_SIZE - 1)
            name[size++] = letter;
    }
    name[size] = '\0';
}

static void print_symbol(u64 address)
{
    u64 start = SYMBOL_BASE + symbol_first;
    char name[SYMBOL_SIZE];
    u32 position = 0;

    if (address < (u64)text_start || address >= (u64)text_end) {
        log_error("  %016lx", address);
        return;
    }
    read_name(&position, name);
    for (u32 i = 0; i + 1 < symbol_count && start + symbol_distances[i] <= address; i++) {
        start += symbol_distances[i];
        read_name(&position, name);
    }
    log_error("  %016lx %s+0x%lx", address, name, address - start);
}

static bool is_stack(u64 address)
{
    return address >= STACK_BASE || (address >= (u64)data_start && address < (u64)data_end);
}

void print_backtrace(u64 rip, u64 rbp)
{
    log_error("backtrace:");
    print_symbol(rip);
    for (int i = 0; i < BACKTRACE_MAX && IS_ALIGNED(rbp, 8) && is_stack(rbp); i++) {
        const u64 *frame = (const u64 *)rbp;

        if (frame[1] < (u64)text_start || frame[1] >= (u64)text_end)
            break;
        print_symbol(frame[1]);
        if (frame[0] <= rbp)
            break;
        rbp = frame[0];
    }
}

static void stop_other_cpus(void)
{
    for (u32 i = 0; i < cpu_count; i++)
        if (cpus[i] && cpus[i] != this_cpu())
            host_lapic_send_ipi(cpus[i]->apic_id, HOST_IPI_NMI, 0);
}

static _Noreturn void halt(void)
{
    for (;;) {
        cpu_cli();
        cpu_hlt();
    }
}

void panic_check_stop(void)
{
    if (__atomic_load_n(&panicking, __ATOMIC_ACQUIRE))
        halt();
}

static _Noreturn void vpanic(u64 rip, u64 rbp, const char *format, va_list arguments)
{
    char text[256];

    cpu_cli();
    if (__atomic_exchange_n(&panicking, true, __ATOMIC_ACQ_REL))
        halt();
    log_begin_panic();
    vsnprintf(text, sizeof(text), format, arguments);
    log_error("PANIC: %s", text);
    print_backtrace(rip, rbp);
    stop_other_cpus();
    terminal_flush();
    screen_flush();
    halt();
}

void panic_at(u64 rip, u64 rbp, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vpanic(rip, rbp, format, arguments);
}

void panic(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vpanic((u64)__builtin_return_address(0), (u64)__builtin_frame_address(0), format, arguments);
}
