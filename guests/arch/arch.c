/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* Asks the machine what the architecture leaves no choice about, or what a hypervisor decides,
 * and prints each answer as one line, `NAME: ANSWER`. The answers must not depend on whether VT-x
 * or AMD-V runs it; only the line `vendor` may.
 *
 * Left out, as the CPUs differ and no hypervisor can help it: VMCALL and VMMCALL (each vendor has
 * one), SYSENTER in 64-bit mode, what CPUID says of the model, its caches and address widths.
 *
 * Left out, as the emulators that the tests run in differ: RF in pushed flags, #AC, #SS, DR7.GD,
 * breakpoints, INT1, error codes that name a gate, reserved bits of page tables, of CR3, CR8, DR6
 * and DR7 and of CR0's upper half, non-canonical values in MSRs, and how the shadows of STI and
 * MOV SS add to each other and to a single step. Nor STI and then CLI: with virtual-interrupt
 * delivery Bochs takes an interrupt behind it. */
#include "arch/arch.h"

struct trap trap;
u64 arch_resume, arch_start, arch_stack;

void answer(const char *name, u64 value)
{
    guest_print("%s: %x\n", name, value);
}

void answer_trap(const char *name)
{
    if (trap.vector == NO_TRAP)
        guest_print("%s: no exception\n", name);
    else if (trap.vector == VECTOR_PF)
        guest_print("%s: vector e error %x at +%x, CR2 %x\n", name, trap.error_code, trap.offset,
                    trap.cr2);
    else
        guest_print("%s: vector %x error %x at +%x\n", name, trap.vector, trap.error_code,
                    trap.offset);
}

static void on_trap(struct interrupt_frame *frame)
{
    if (!arch_resume) {
        guest_print("unexpected vector %u, error %x at %x, CR2 %x\n", frame->vector,
                    frame->error_code, frame->rip, read_cr2());
        guest_exit(1);
    }
    trap = (struct trap){
        .vector = frame->vector,
        .error_code = frame->error_code,
        .offset = frame->rip - (frame->cs & 3 ? TEST_PAGE : arch_start),
        .rflags = frame->rflags,
        .cr2 = read_cr2(),
        .dr6 = read_dr6(),
    };
    frame->rip = arch_resume;
    frame->rsp = arch_stack;
    frame->cs = CODE_64;
    frame->ss = DATA;
    frame->rflags = 2;
}

volatile u64 *map_test_page(u64 bits)
{
    u64 *map = (u64 *)(read_cr3() & ~0xFFFULL);
    u64 *pointers = (u64 *)(map[0] & ~0xFFFULL);
    volatile u64 *entry = (u64 *)(pointers[TEST_PAGE >> 30] & ~0xFFFULL);

    map[0] |= PAGE_USER;
    pointers[TEST_PAGE >> 30] |= PAGE_USER;
    entry[0] = TEST_RAM | PAGE_LARGE | bits;
    entry[1] = 0;
    write_cr3(read_cr3());
    return entry;
}

/* In ticks of the PM timer's 3.58 MHz: the TSC's rate is the host's. */
void delay(u64 pm_ticks)
{
    struct acpi acpi;

    if (!acpi_find(&acpi))
        return;
    u32 start = inl(acpi.pm_timer);
    while (((inl(acpi.pm_timer) - start) & 0xFFFFFF) < pm_ticks)
        __asm__ volatile("pause");
}

static void print_vendor(void)
{
    struct cpuid r = cpuid(0, 0);
    char name[13] = {0};

    for (u32 i = 0; i < 4; i++) {
        name[i] = (char)(r.ebx >> 8 * i);
        name[4 + i] = (char)(r.edx >> 8 * i);
        name[8 + i] = (char)(r.ecx >> 8 * i);
    }
    guest_print("vendor: %s\n", name);
}

static const struct {
    const char *name;
    questions *ask;
} groups[] = {
    {"lapic-reset",  ask_lapic_reset      }, /* first, while it is */
    {"exceptions",   ask_exceptions       },
    {"debug",        ask_debug            },
    {"paging",       ask_paging           },
    {"segments",     ask_segments         },
    {"user",         ask_user_mode        },
    {"cpuid",        ask_cpuid            },
    {"msrs",         ask_msrs             },
    {"registers",    ask_control_registers},
    {"xcr0",         ask_xcr0             },
    {"instructions", ask_instructions     },
    {"tsc",          ask_tsc              },
    {"lapic",        ask_lapic            },
    {"shadows",      ask_shadows          },
    {"nmi",          ask_nmi              },
    {"ports",        ask_ports            },
    {"second-cpu",   ask_second_cpu       },
};

void guest_main(const struct multiboot_info *info)
{
    guest_init(info);
    load_segments();
    for (u32 vector = 0; vector < 32; vector++)
        if (vector != VECTOR_NMI)
            guest_set_handler((u8)vector, on_trap);
    print_vendor();
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
        if (!guest_option("only") || guest_option_is("only", groups[i].name))
            groups[i].ask();
    guest_print("arch END\n");
    guest_exit(0);
}
