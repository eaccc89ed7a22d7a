/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
/* PICs, PIT, RTC, PM timer and UART. */
#include "pc/pc.h"

#define PIC_MASTER_MASK 0x21
#define PIC_SLAVE_MASK  0xA1
#define ELCR_SLAVE      0x4D1
#define PIT_CHANNEL0    0x40
#define PIT_CHANNEL2    0x42
#define PIT_CONTROL     0x43
#define PIT_MODE0_CH2   0xB0
#define PIT_READ_BACK_0 0xC2 /* count and status of channel 0 */
#define PORT61          0x61
#define PORT61_GATE     0x01
#define PORT61_SPEAKER  0x02
#define PORT61_OUT      0x20
#define RTC_INDEX       0x70
#define RTC_DATA        0x71
#define RTC_SECONDS     0
#define RTC_A           0x0A
#define RTC_B           0x0B
#define RTC_C           0x0C
#define RTC_D           0x0D
#define RTC_A_UIP       0x80
#define RTC_A_1024_HZ   0x26
#define RTC_B_PIE       0x40
#define RTC_B_24H       0x02
#define RTC_B_BINARY    0x04
#define RTC_C_PF        0x40
#define RTC_D_VALID     0x80
#define IIR_NONE        0x01
#define IIR_THRE        0x02
#define IIR_FIFO        0xC0
#define MEASURE_MS      20
#define PM_TIMER_HZ     3579545
#define PM_TIMER_MASK   0xFFFFFF

static volatile u64 ticks;

static void on_pit(struct interrupt_frame *frame)
{
    (void)frame;
    ticks++;
    pic_eoi(IRQ_PIT);
}

/* Starts channel 2 as a one-shot; its output rises when `count` ticks are over. */
static void pit_one_shot(u16 count)
{
    outb(PORT61, (u8)((inb(PORT61) & ~(PORT61_SPEAKER | PORT61_GATE)) | PORT61_GATE));
    outb(PIT_CONTROL, PIT_MODE0_CH2);
    outb(PIT_CHANNEL2, (u8)count);
    outb(PIT_CHANNEL2, (u8)(count >> 8));
}

u64 tsc_hz(void)
{
    static u64 hz;

    if (!hz) {
        pit_one_shot(PIT_HZ * MEASURE_MS / 1000);
        u64 start = rdtsc();
        while (!(inb(PORT61) & PORT61_OUT)) {
        }
        hz = (rdtsc() - start) * 1000 / MEASURE_MS;
    }
    return hz;
}

void delay_ms(u64 milliseconds)
{
    u64 end = rdtsc() + tsc_hz() / 1000 * milliseconds;
    while (rdtsc() < end)
        __asm__ volatile("pause");
}

bool wait_for(volatile u64 *counter, u64 count, u64 milliseconds)
{
    u64 end = rdtsc() + tsc_hz() / 1000 * milliseconds;

    interrupts_on();
    while (*counter < count && rdtsc() < end)
        __asm__ volatile("pause");
    interrupts_off();
    return *counter >= count;
}

void test_pic(const char *part)
{
    outb(PIC_MASTER_MASK, 0x5A);
    outb(PIC_SLAVE_MASK, 0xA5);
    u8 master = inb(PIC_MASTER_MASK), slave = inb(PIC_SLAVE_MASK);
    pic_mask_all();
    EXPECT(master == 0x5A, master);
    EXPECT(slave == 0xA5, slave);
    u8 elcr = inb(ELCR_SLAVE);
    outb(ELCR_SLAVE, elcr ^ 0x08); /* IRQ 11 */
    u8 flipped = inb(ELCR_SLAVE);
    outb(ELCR_SLAVE, elcr);
    EXPECT(flipped == (elcr ^ 0x08), flipped);
}

void test_pit(const char *part)
{
    guest_set_handler(PIC_VECTOR + IRQ_PIT, on_pit);
    ticks = 0;
    pit_periodic(PIT_HZ / 1000);
    pic_unmask(IRQ_PIT);
    u64 start = rdtsc();
    EXPECT(wait_for(&ticks, 20, 2000), ticks);
    u64 milliseconds = (rdtsc() - start) / (tsc_hz() / 1000);
    EXPECT(milliseconds >= 18, milliseconds);

    ticks = 0;
    while (ticks < 3)
        wait_for_interrupt();
    interrupts_off();
    pic_mask_all();
    ticks = 0;
    EXPECT(!wait_for(&ticks, 1, 5), ticks);

    outb(PIT_CONTROL, PIT_READ_BACK_0);
    u8 status = inb(PIT_CHANNEL0);
    u16 count = inb(PIT_CHANNEL0);
    count |= (u16)(inb(PIT_CHANNEL0) << 8);
    EXPECT((status & 0x3F) == 0x34, status);
    EXPECT(count <= PIT_HZ / 1000, count);
}

void test_pit_channel2(const char *part)
{
    pit_one_shot(PIT_HZ / 200);
    EXPECT(!(inb(PORT61) & PORT61_OUT), inb(PORT61));
    delay_ms(20);
    EXPECT(inb(PORT61) & PORT61_OUT, inb(PORT61));
}

/* ---- RTC ---- */
static u8 rtc_read(u8 index)
{
    outb(RTC_INDEX, index);
    return inb(RTC_DATA);
}

static void rtc_write(u8 index, u8 value)
{
    outb(RTC_INDEX, index);
    outb(RTC_DATA, value);
}

static void on_rtc(struct interrupt_frame *frame)
{
    (void)frame;
    if (rtc_read(RTC_C) & RTC_C_PF)
        ticks++;
    pic_eoi(IRQ_RTC);
}

static u8 rtc_number(u8 index)
{
    while (rtc_read(RTC_A) & RTC_A_UIP) {
    }
    u8 value = rtc_read(index);
    return rtc_read(RTC_B) & RTC_B_BINARY ? value : (u8)((value >> 4) * 10 + (value & 15));
}

void test_rtc(const char *part)
{
    static const struct {
        u8 index, low, high;
    } fields[] = {
        {0, 0,  59},
        {2, 0,  59},
        {4, 0,  23},
        {7, 1,  31},
        {8, 1,  12},
        {9, 24, 99}
    };

    EXPECT(rtc_read(RTC_D) & RTC_D_VALID, rtc_read(RTC_D));
    EXPECT(rtc_read(RTC_B) & RTC_B_24H, rtc_read(RTC_B));
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        u8 value = rtc_number(fields[i].index);
        EXPECT(value >= fields[i].low && value <= fields[i].high, value | fields[i].index << 8);
    }
    u8 second = rtc_number(RTC_SECONDS);
    for (u32 i = 0; i < 150 && rtc_number(RTC_SECONDS) == second; i++)
        delay_ms(10);
    EXPECT(rtc_number(RTC_SECONDS) == (second + 1) % 60, rtc_number(RTC_SECONDS));

    ticks = 0;
    guest_set_handler(PIC_VECTOR + IRQ_RTC, on_rtc);
    u8 a = rtc_read(RTC_A), b = rtc_read(RTC_B);
    rtc_write(RTC_A, RTC_A_1024_HZ);
    rtc_write(RTC_B, b | RTC_B_PIE);
    rtc_read(RTC_C);
    pic_unmask(IRQ_RTC);
    bool came = wait_for(&ticks, 5, 1000);
    rtc_write(RTC_B, b);
    rtc_write(RTC_A, a);
    rtc_read(RTC_C);
    EXPECT(came, ticks);
}

/* ---- PM timer: runs at its rate, seen by the TSC that was measured against the PIT ---- */
struct moment {
    u64 tsc;
    u32 pm;
};

/* Both clocks at one moment: tried again when something came between the reads. */
static struct moment read_clocks(u16 port)
{
    struct moment best = {0};
    u64 best_width = ~0ULL;

    for (u32 i = 0; i < 16; i++) {
        u64 before = rdtsc();
        u32 pm = inl(port);
        u64 width = rdtsc() - before;
        if (width < best_width) {
            best = (struct moment){before + width / 2, pm};
            best_width = width;
        }
    }
    return best;
}

void test_pm_timer(const char *part)
{
    struct acpi acpi;

    EXPECT(acpi_find(&acpi), 0);
    struct moment start = read_clocks(acpi.pm_timer);
    delay_ms(50);
    struct moment end = read_clocks(acpi.pm_timer);
    u64 expected = (end.tsc - start.tsc) * PM_TIMER_HZ / tsc_hz();
    u64 got = (end.pm - start.pm) & PM_TIMER_MASK;
    EXPECT(got > expected - expected / 25, got);
    EXPECT(got < expected + expected / 25, got);
}

/* ---- UART ---- */
static volatile u64 thre_interrupts;

static void on_uart(struct interrupt_frame *frame)
{
    (void)frame;
    u8 iir = inb(COM1 + UART_IIR);
    if (!(iir & IIR_NONE) && (iir & 0x0E) == IIR_THRE)
        thre_interrupts++;
    pic_eoi(IRQ_COM1);
}

static void wait_until_sent(void)
{
    while (!(inb(COM1 + UART_LSR) & UART_LSR_TEMT)) {
    }
}

void test_uart(const char *part)
{
    u8 mcr = inb(COM1 + UART_MCR);

    outb(COM1 + UART_SCRATCH, 0x3C);
    EXPECT(inb(COM1 + UART_SCRATCH) == 0x3C, inb(COM1 + UART_SCRATCH));
    EXPECT((inb(COM1 + UART_IIR) & IIR_FIFO) == IIR_FIFO, inb(COM1 + UART_IIR));

    wait_until_sent();
    outb(COM1 + UART_MCR, UART_MCR_LOOP | UART_MCR_RTS | UART_MCR_OUT2);
    outb(COM1 + UART_DATA, 'L');
    for (u32 i = 0; i < 100 && !(inb(COM1 + UART_LSR) & UART_LSR_DR); i++)
        delay_ms(1);
    u8 back = inb(COM1 + UART_DATA), modem = inb(COM1 + UART_MSR);
    outb(COM1 + UART_MCR, mcr);
    EXPECT(back == 'L', back);
    EXPECT((modem & 0xF0) == 0x90, modem); /* RTS comes back as CTS, OUT2 as DCD */

    thre_interrupts = 0;
    guest_set_handler(PIC_VECTOR + IRQ_COM1, on_uart);
    pic_unmask(IRQ_COM1);
    outb(COM1 + UART_IER, UART_IER_THRI); /* empty already: comes at once */
    bool first = wait_for(&thre_interrupts, 1, 500);
    outb(COM1 + UART_DATA, '.');
    bool second = wait_for(&thre_interrupts, 2, 500);
    outb(COM1 + UART_IER, 0);
    guest_print("\n");
    EXPECT(first, thre_interrupts);
    EXPECT(second, thre_interrupts);
}
