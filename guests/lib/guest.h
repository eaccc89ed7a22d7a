/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_GUESTS_GUEST_H
#define BULKHEAD_GUESTS_GUEST_H

/* What the small guests share: a start in 64-bit mode on one CPU with the first 4 GiB mapped one
 * to one, COM1, interrupts and a way to end. Each guest defines guest_main. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The Multiboot information (Multiboot specification 0.6.96, section 3.3). */
struct multiboot_info {
    u32 flags;
    u32 mem_lower, mem_upper; /* KiB, from 0 and from 1 MiB */
    u32 boot_device;
    u32 cmdline;
    u32 mods_count, mods_addr;
    u32 syms[4];
    u32 mmap_length, mmap_addr;
};

enum multiboot_info_flag {
    MULTIBOOT_INFO_MEMORY = 1 << 0,
    MULTIBOOT_INFO_CMDLINE = 1 << 2,
    MULTIBOOT_INFO_MODULES = 1 << 3,
    MULTIBOOT_INFO_MMAP = 1 << 6,
};

struct multiboot_mmap_entry {
    u32 size; /* of what follows */
    u64 start, length;
    u32 type; /* 1: RAM */
} __attribute__((packed));

void guest_main(const struct multiboot_info *info);

extern char guest_end[]; /* behind the last byte of the image */

/* ---- instructions ---- */
static inline u8 inb(u16 port)
{
    u8 value;
    __asm__ volatile("inb %w1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline u16 inw(u16 port)
{
    u16 value;
    __asm__ volatile("inw %w1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline u32 inl(u16 port)
{
    u32 value;
    __asm__ volatile("inl %w1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline void outb(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %w1" : : "a"(value), "Nd"(port) : "memory");
}
static inline void outw(u16 port, u16 value)
{
    __asm__ volatile("outw %0, %w1" : : "a"(value), "Nd"(port) : "memory");
}
static inline u64 rdmsr(u32 msr)
{
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return low | (u64)high << 32;
}
static inline void wrmsr(u32 msr, u64 value)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}
static inline u64 rdtsc(void)
{
    u32 low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return low | (u64)high << 32;
}

struct cpuid {
    u32 eax, ebx, ecx, edx;
};
static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

#define DEFINE_REGISTER(name)                                                                      \
    static inline u64 read_##name(void)                                                            \
    {                                                                                              \
        u64 value;                                                                                 \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(value));                                     \
        return value;                                                                              \
    }                                                                                              \
    static inline void write_##name(u64 value)                                                     \
    {                                                                                              \
        __asm__ volatile("mov %0, %%" #name : : "r"(value) : "memory");                            \
    }
DEFINE_REGISTER(cr0)
DEFINE_REGISTER(cr2)
DEFINE_REGISTER(cr3)
DEFINE_REGISTER(cr4)
DEFINE_REGISTER(cr8)
DEFINE_REGISTER(dr0)
DEFINE_REGISTER(dr1)
DEFINE_REGISTER(dr2)
DEFINE_REGISTER(dr3)
DEFINE_REGISTER(dr6)
DEFINE_REGISTER(dr7)

static inline u32 mmio_read(u64 address)
{
    return *(volatile u32 *)address;
}
static inline void mmio_write(u64 address, u32 value)
{
    *(volatile u32 *)address = value;
}

/* ---- COM1, the command line, the end ---- */
#define COM1 0x3F8

enum uart_register {
    UART_DATA = 0,
    UART_IER = 1,
    UART_IIR = 2,
    UART_FCR = 2,
    UART_LCR = 3,
    UART_MCR = 4,
    UART_LSR = 5,
    UART_MSR = 6,
    UART_SCRATCH = 7,
};

enum uart_bit {
    UART_IER_RDI = 1 << 0,
    UART_IER_THRI = 1 << 1,
    UART_LSR_DR = 1 << 0,
    UART_LSR_THRE = 1 << 5,
    UART_LSR_TEMT = 1 << 6,
    UART_MCR_DTR = 1 << 0,
    UART_MCR_RTS = 1 << 1,
    UART_MCR_OUT2 = 1 << 3,
    UART_MCR_LOOP = 1 << 4,
};

/* Sets up COM1 and the interrupt table; to be called first. */
void guest_init(const struct multiboot_info *info);

/* Polled. Formats: %s, %c, %u and %x, the last two 64 bits wide; "\n" also returns the carriage. */
void guest_print(const char *format, ...);
void guest_putc(char c);

/* The value of `name=value` on the command line, or `fallback`. The string stays where it is and
 * ends at a blank or NUL; guest_option_is compares. */
const char *guest_option(const char *name);
bool guest_option_is(const char *name, const char *value);
u64 guest_option_number(const char *name, u64 fallback);

/* Writes `code` to the exit port 0xF4 and, where none ends the machine, halts for ever. */
_Noreturn void guest_exit(u8 code);

/* ---- interrupts ---- */
struct interrupt_frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    u64 vector, error_code;
    u64 rip, cs, rflags, rsp, ss;
};

enum exception_vector {
    VECTOR_DE = 0,
    VECTOR_DB = 1,
    VECTOR_NMI = 2,
    VECTOR_BP = 3,
    VECTOR_UD = 6,
    VECTOR_GP = 13,
    VECTOR_PF = 14,
};

typedef void interrupt_handler(struct interrupt_frame *frame);

/* An exception without a handler ends the guest with a message; an interrupt without one is
 * reported and dropped. */
void guest_set_handler(u8 vector, interrupt_handler *handler);

/* What guest_init has done for the first CPU, for each further one. */
void guest_load_idt(void);

static inline void interrupts_on(void)
{
    __asm__ volatile("sti" : : : "memory");
}
static inline void interrupts_off(void)
{
    __asm__ volatile("cli" : : : "memory");
}
/* Halts until an interrupt came; interrupts are on behind it. */
static inline void wait_for_interrupt(void)
{
    __asm__ volatile("sti; hlt" : : : "memory");
}

/* The vector of the exception that an access raises, or -1. */
int try_rdmsr(u32 msr, u64 *value);
int try_wrmsr(u32 msr, u64 value);

/* ---- the PC's interrupt controllers and timers ---- */
#define PIC_VECTOR 0x20 /* of IRQ 0 */
#define IRQ_PIT    0
#define IRQ_COM1   4
#define IRQ_RTC    8
#define IRQ_SCI    9
#define PIT_HZ     1193182

/* Local APIC on, with the PICs' output at LINT0 as a PC's firmware leaves it; PICs at
 * PIC_VECTOR with every line but the cascade masked. */
void pic_init(void);
void pic_unmask(u8 irq);
void pic_mask_all(void);
void pic_eoi(u8 irq);

/* Channel 0 counts `divisor` ticks, over and over (mode 2). */
void pit_periodic(u16 divisor);

#define LAPIC_BASE 0xFEE00000UL

enum lapic_register {
    LAPIC_ID = 0x20,
    LAPIC_VERSION = 0x30,
    LAPIC_TPR = 0x80,
    LAPIC_EOI = 0xB0,
    LAPIC_SVR = 0xF0,
    LAPIC_ICR_LOW = 0x300,
    LAPIC_ICR_HIGH = 0x310,
    LAPIC_LVT_TIMER = 0x320,
    LAPIC_LVT_LINT0 = 0x350,
    LAPIC_TIMER_INITIAL = 0x380,
    LAPIC_TIMER_CURRENT = 0x390,
    LAPIC_TIMER_DIVIDE = 0x3E0,
};

/* ---- ACPI ---- */
struct acpi {
    const u8 *fadt, *madt, *dsdt; /* NULL: not found or a bad checksum */
    u16 pm_timer;                 /* port; 0: none */
    u16 pm1a_event, pm1a_control;
    u8 s5_type;
};

/* Finds the tables through the RSDP below 1 MiB. False when there is none or a checksum is
 * wrong. */
bool acpi_find(struct acpi *acpi);

/* ACPI mode, with an SCI when the power button is pressed; whether it was, which forgets it. */
void acpi_enable_power_button(struct acpi *acpi);
bool acpi_power_button_pressed(const struct acpi *acpi);

void acpi_power_off(const struct acpi *acpi);

/* Least first. */
void guest_sort(u64 *values, u32 count);

#endif
