/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* Does what a partition's neighbours must not notice; fault=NAME on the command line says what,
 * after=N how many milliseconds later. */
#include "lib/guest.h"

#define EXIT_PORT     0xF4
#define UNMAPPED      0xD0000000UL
#define RESET_CONTROL 0xCF9
#define RESET_CPU     0x06
#define KBD_COMMAND   0x64
#define KBD_PULSE_CPU 0xFE
#define UNKNOWN_MSR   0x4321
#define KVM_CLOCK_MSR 0x4B564D01
#define LSTAR_MSR     0xC0000082
#define NOT_CANONICAL (1UL << 62)
#define TICK_HZ       1000

static volatile u64 milliseconds;

static void on_tick(struct interrupt_frame *frame)
{
    (void)frame;
    milliseconds++;
    pic_eoi(IRQ_PIT);
}

static void triple_fault(void)
{
    static const struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) no_idt;

    __asm__ volatile("lidt %0; int3" : : "m"(no_idt));
}

static void halt(void)
{
    __asm__ volatile("cli; hlt");
}

/* For ever, but for an interrupt. */
static void rest(void)
{
    for (;;)
        wait_for_interrupt();
}

static void jump_unmapped(void)
{
    ((void (*)(void))UNMAPPED)();
}

static void reset_cf9(void)
{
    outb(RESET_CONTROL, RESET_CPU);
}

static void reset_keyboard(void)
{
    outb(KBD_COMMAND, KBD_PULSE_CPU);
}

static void power_off(void)
{
    struct acpi acpi;

    if (!acpi_find(&acpi))
        guest_print("fault: no ACPI tables\n");
    else
        acpi_power_off(&acpi);
}

static void flood(void)
{
    interrupts_on(); /* or Bochs, whose interrupts wait for that, makes the monitor wait */
    for (u64 line = 0;; line++)
        guest_print("flood %u: the quick brown fox jumps over the lazy dog\n", line);
}

static void cpuid_storm(void)
{
    for (;;)
        cpuid(0, 0);
}

static void port_storm(void)
{
    for (;;)
        inb(COM1 + UART_LSR);
}

static void spin(void)
{
    for (;;)
        __asm__ volatile("" : : : "memory");
}

static void unknown_msr(void)
{
    rdmsr(UNKNOWN_MSR);
    wrmsr(UNKNOWN_MSR, 1);
    wrmsr(KVM_CLOCK_MSR, 1); /* there, but for pv = none */
    guest_print("fault: the unknown MSR was ignored\n");
    /* One that is known is none of those. The emulators' AMD-V refuses nothing here. */
    if (try_wrmsr(LSTAR_MSR, NOT_CANONICAL) == VECTOR_GP)
        guest_print("fault: a bad LSTAR was refused\n");
}

/* Nothing that comes behind the first write may happen. */
static void outlive_exit(void)
{
    outb(EXIT_PORT, 0);
    outb(EXIT_PORT, 1);
    for (;;)
        guest_print("fault: still here\n");
}

/* An exception inside an exception's delivery, over and over: the stack is not mapped. */
static void bad_stack(void)
{
    __asm__ volatile("mov %0, %%rsp; int3" : : "r"(0x123456789000));
}

static const struct {
    const char *name;
    void (*run)(void);
} faults[] = {
    {"triple",   triple_fault  },
    {"halt",     halt          },
    {"rest",     rest          },
    {"unmapped", jump_unmapped },
    {"cf9",      reset_cf9     },
    {"keyboard", reset_keyboard},
    {"s5",       power_off     },
    {"flood",    flood         },
    {"cpuid",    cpuid_storm   },
    {"port",     port_storm    },
    {"spin",     spin          },
    {"msr",      unknown_msr   },
    {"stack",    bad_stack     },
    {"exit",     outlive_exit  },
};

static void wait_milliseconds(u64 count)
{
    guest_set_handler(PIC_VECTOR + IRQ_PIT, on_tick);
    pic_init();
    pit_periodic(PIT_HZ / TICK_HZ);
    pic_unmask(IRQ_PIT);
    while (milliseconds < count)
        wait_for_interrupt();
    interrupts_off();
    pic_mask_all();
}

void guest_main(const struct multiboot_info *info)
{
    guest_init(info);
    for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
        if (guest_option_is("fault", faults[i].name)) {
            guest_print("fault: %s\n", faults[i].name);
            wait_milliseconds(guest_option_number("after", 0));
            faults[i].run();
            guest_print("fault: %s survived\n", faults[i].name);
            guest_exit(0);
        }
    guest_print("fault: which? fault=NAME\n");
    guest_exit(1);
}
