/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "lib/guest.h"

#include <stdarg.h>

#define EXIT_PORT      0xF4
#define CODE_64        0x08
#define INTERRUPT_GATE 0x8E
#define STUB_SIZE      16

struct gate {
    u16 offset_low, selector;
    u8 ist, type;
    u16 offset_middle;
    u32 offset_high, reserved;
};
_Static_assert(sizeof(struct gate) == 16, "Intel SDM volume 3, 64-bit IDT gate descriptors");

struct table_pointer {
    u16 limit;
    u64 base;
} __attribute__((packed));

extern char interrupt_stubs[];
void guest_interrupt(struct interrupt_frame *frame);
void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size);

static struct gate idt[256];
static interrupt_handler *handlers[256];
static const char *command_line = "";

/* Where a guarded access goes on after an exception, and which it was. */
static u64 fault_resume;
static int fault_vector;

void *memset(void *to, int value, size_t size)
{
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return start;
}

void *memcpy(void *to, const void *from, size_t size)
{
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return start;
}

/* ---- output ---- */
void guest_putc(char c)
{
    while (!(inb(COM1 + UART_LSR) & UART_LSR_THRE)) {
    }
    outb(COM1 + UART_DATA, (u8)c);
}

static void print_string(const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            guest_putc('\r');
        guest_putc(*text);
    }
}

static void print_number(u64 value, u64 base)
{
    char digits[21];
    char *p = digits + sizeof(digits) - 1;

    *p = 0;
    do {
        *--p = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    print_string(p);
}

static void print_argument(char format, va_list *arguments)
{
    switch (format) {
    case 's':
        print_string(va_arg(*arguments, const char *));
        break;
    case 'c':
        guest_putc((char)va_arg(*arguments, int));
        break;
    case 'u':
        print_number(va_arg(*arguments, u64), 10);
        break;
    case 'x':
        print_number(va_arg(*arguments, u64), 16);
        break;
    default:
        guest_putc(format);
    }
}

void guest_print(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    for (; *format; format++) {
        if (*format == '%')
            print_argument(*++format, &arguments);
        else
            print_string((const char[]){*format, 0});
    }
    va_end(arguments);
}

/* ---- command line ---- */
const char *guest_option(const char *name)
{
    const char *word = command_line;

    while (*word) {
        size_t n = 0;
        while (name[n] && word[n] == name[n])
            n++;
        if (!name[n] && word[n] == '=')
            return word + n + 1;
        while (*word && *word != ' ')
            word++;
        while (*word == ' ')
            word++;
    }
    return NULL;
}

bool guest_option_is(const char *name, const char *value)
{
    const char *option = guest_option(name);

    while (option && *value && *option == *value)
        option++, value++;
    return option && !*value && (!*option || *option == ' ');
}

u64 guest_option_number(const char *name, u64 fallback)
{
    const char *option = guest_option(name);
    u64 value = 0;

    if (!option)
        return fallback;
    for (; *option >= '0' && *option <= '9'; option++)
        value = value * 10 + (u64)(*option - '0');
    return value;
}

/* ---- interrupts ---- */
void guest_set_handler(u8 vector, interrupt_handler *handler)
{
    handlers[vector] = handler;
}

void guest_interrupt(struct interrupt_frame *frame)
{
    if (handlers[frame->vector]) {
        handlers[frame->vector](frame);
        return;
    }
    if (fault_resume) {
        fault_vector = (int)frame->vector;
        frame->rip = fault_resume;
        return;
    }
    guest_print("guest: vector %u, error code %x at %x, CR2 %x\n", frame->vector, frame->error_code,
                frame->rip, read_cr2());
    if (frame->vector < 32)
        guest_exit(1);
}

int try_rdmsr(u32 msr, u64 *value)
{
    u32 low = 0, high = 0;

    fault_vector = -1;
    __asm__ volatile("movq $1f, %2\n\trdmsr\n1:\tmovq $0, %2"
                     : "+a"(low), "+d"(high), "=m"(fault_resume)
                     : "c"(msr)
                     : "memory");
    *value = low | (u64)high << 32;
    return fault_vector;
}

int try_wrmsr(u32 msr, u64 value)
{
    fault_vector = -1;
    __asm__ volatile("movq $1f, %0\n\twrmsr\n1:\tmovq $0, %0"
                     : "=m"(fault_resume)
                     : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32))
                     : "memory");
    return fault_vector;
}

void guest_load_idt(void)
{
    struct table_pointer pointer = {sizeof(idt) - 1, (u64)idt};

    __asm__ volatile("lidt %0" : : "m"(pointer));
}

static void fill_idt(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(idt); i++) {
        u64 stub = (u64)interrupt_stubs + i * STUB_SIZE;
        idt[i] = (struct gate){
            .offset_low = (u16)stub,
            .selector = CODE_64,
            .type = INTERRUPT_GATE,
            .offset_middle = (u16)(stub >> 16),
            .offset_high = (u32)(stub >> 32),
        };
    }
}

/* ---- start and end ---- */
void guest_init(const struct multiboot_info *info)
{
    if (info->flags & MULTIBOOT_INFO_CMDLINE)
        command_line = (const char *)(u64)info->cmdline;
    outb(COM1 + UART_IER, 0);
    outb(COM1 + UART_LCR, 0x80); /* divisor latch: 115200 baud */
    outb(COM1 + UART_DATA, 1);
    outb(COM1 + UART_IER, 0);
    outb(COM1 + UART_LCR, 0x03); /* 8 bits, no parity, 1 stop bit */
    outb(COM1 + UART_FCR, 0x07); /* FIFOs on and empty */
    outb(COM1 + UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
    fill_idt();
    guest_load_idt();
}

_Noreturn void guest_exit(u8 code)
{
    outb(EXIT_PORT, code);
    for (;;)
        __asm__ volatile("cli; hlt");
}

void guest_sort(u64 *values, u32 count)
{
    for (u32 i = 1; i < count; i++)
        for (u32 j = i; j > 0 && values[j] < values[j - 1]; j--) {
            u64 other = values[j];
            values[j] = values[j - 1];
            values[j - 1] = other;
        }
}
