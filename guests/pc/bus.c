/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "pc/pc.h"

#define EDGE           4096 /* of a page */
#define UNCLAIMED_PORT 0x1234
#define UNCLAIMED_MMIO 0xFE412000UL
#define SCRATCH        (COM1 + UART_SCRATCH)
#define TPR            (LAPIC_BASE + LAPIC_TPR)

void test_unclaimed_port(const char *part)
{
    outb(UNCLAIMED_PORT, 0);
    EXPECT(inb(UNCLAIMED_PORT) == 0xFF, inb(UNCLAIMED_PORT));
    EXPECT(inw(UNCLAIMED_PORT) == 0xFFFF, inw(UNCLAIMED_PORT));
    EXPECT(inl(UNCLAIMED_PORT) == 0xFFFFFFFF, inl(UNCLAIMED_PORT));
}

void test_unclaimed_mmio(const char *part)
{
    u64 value;
    u32 extended;

    mmio_write(UNCLAIMED_MMIO, 0);
    EXPECT(mmio_read(UNCLAIMED_MMIO) == 0xFFFFFFFF, mmio_read(UNCLAIMED_MMIO));
    __asm__ volatile("mov (%1), %0" : "=r"(value) : "r"(UNCLAIMED_MMIO));
    EXPECT(value == ~0ULL, value);
    __asm__ volatile("movzbl (%1), %0" : "=r"(extended) : "r"(UNCLAIMED_MMIO));
    EXPECT(extended == 0xFF, extended);
    __asm__ volatile("movswl (%1), %0" : "=r"(extended) : "r"(UNCLAIMED_MMIO));
    EXPECT(extended == 0xFFFFFFFF, extended);
}

/* The last of so many bytes, from `from` on, is what the device keeps. */
static void expect_last(const char *part, const u8 *from, u64 size, bool down)
{
    const u8 *last = down ? from - (size - 1) : from + (size - 1), *at = from;
    u64 count = size;

    if (down)
        __asm__ volatile("std; rep outsb; cld" : "+S"(at), "+c"(count) : "d"(SCRATCH) : "memory");
    else
        __asm__ volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(SCRATCH) : "memory");
    EXPECT(count == 0 && at == (down ? last - 1 : last + 1), at - from);
    EXPECT(inb(SCRATCH) == *last, size);
}

/* Within a page, over its edge, and longer than one exit takes. */
static void test_long_output(const char *part)
{
    static const u16 sizes[] = {1, 2, 99, 100, 101, 255, 256, 257, 356, 357, 600};
    static u8 pattern[2 * EDGE] __attribute__((aligned(EDGE)));
    const u8 *edge = pattern + EDGE;

    for (u32 i = 0; i < sizeof(pattern); i++)
        pattern[i] = (u8)(i * 7 + i / 256);
    for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
        expect_last(part, pattern, sizes[i], false);
        expect_last(part, edge - 100, sizes[i], false);
        expect_last(part, edge + 100, sizes[i], true);
    }
}

void test_string_io(const char *part)
{
    static const char line[] = "written by rep outsb\r\n";
    u8 read[16];
    const char *from = line;
    u8 *to = read;
    u64 count = sizeof(line) - 1;

    for (u64 part_size; count; count -= part_size) { /* as much as the FIFO holds */
        u64 left = part_size = count < 16 ? count : 16;
        while (!(inb(COM1 + UART_LSR) & UART_LSR_TEMT)) {
        }
        __asm__ volatile("rep outsb" : "+S"(from), "+c"(left) : "d"(COM1) : "memory");
        EXPECT(left == 0, left);
    }
    EXPECT(from == line + sizeof(line) - 1, from - line);

    outb(SCRATCH, 0xA5);
    count = sizeof(read);
    __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(SCRATCH) : "memory");
    EXPECT(count == 0 && to == read + sizeof(read), to - read);
    for (size_t i = 0; i < sizeof(read); i++)
        EXPECT(read[i] == 0xA5, read[i]);

    to = read + 4;
    count = 4;
    __asm__ volatile("std; rep insb; cld" : "+D"(to), "+c"(count) : "d"(SCRATCH) : "memory");
    EXPECT(count == 0 && to == read, to - read);
    test_long_output(part);
}

/* The instructions that compilers use on a register, here the APIC's task priority. */
void test_mmio_forms(const char *part)
{
    u32 value;
    u64 count = 1, to = TPR;

    __asm__ volatile("movl $0x10, (%0)" : : "r"(TPR) : "memory");
    EXPECT(mmio_read(TPR) == 0x10, mmio_read(TPR));
    __asm__ volatile("orl %1, (%0)" : : "r"(TPR), "r"(0x25) : "memory", "cc");
    EXPECT(mmio_read(TPR) == 0x35, mmio_read(TPR));
    __asm__ volatile("andl $0x30, (%0)" : : "r"(TPR) : "memory", "cc");
    EXPECT(mmio_read(TPR) == 0x30, mmio_read(TPR));
    value = 0x40;
    __asm__ volatile("xchgl %1, (%0)" : : "r"(TPR), "r"(value) : "memory");
    EXPECT(mmio_read(TPR) == 0x40, mmio_read(TPR));
    value = 0x100;
    __asm__ volatile("addl (%1), %0" : "+r"(value) : "r"(TPR) : "cc");
    EXPECT(value == 0x140, value);
    __asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(0x50) : "memory");
    EXPECT(mmio_read(TPR) == 0x50 && to == TPR + 4 && count == 0, mmio_read(TPR));
    bool equal;
    __asm__ volatile("cmpl $0x50, (%1); sete %0" : "=q"(equal) : "r"(TPR) : "cc");
    EXPECT(equal, 0);
    __asm__ volatile("testl $0x10, 0x80(%1,%2,4); setnz %0"
                     : "=q"(equal)
                     : "r"(LAPIC_BASE - 16), "r"(4UL)
                     : "cc");
    EXPECT(equal, 0);
    register u32 r9 __asm__("r9");
    __asm__ volatile("movl (%1), %0" : "=r"(r9) : "r"(TPR));
    EXPECT(r9 == 0x50, r9);
    EXPECT(read_cr8() == 5, read_cr8());
    write_cr8(0);
    EXPECT(mmio_read(TPR) == 0, mmio_read(TPR));
}
