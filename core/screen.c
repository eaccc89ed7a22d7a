/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/screen.h"

#include "core/log.h"
#include "drivers/framebuffer.h"
#include "drivers/vga_text.h"
#include "mm/host_space.h"

#define TURN_BYTES 32

static struct vga_text vga;
static struct framebuffer pixels;
static bool has_vga, has_pixels;
static u64 shown; /* position in the log */

static void draw(const char *text, size_t size)
{
    if (has_vga)
        vga_text_write(&vga, text, size);
    if (has_pixels)
        framebuffer_write(&pixels, text, size);
}

void screen_write(const char *text, size_t size)
{
    draw(text, size);
    shown += size;
}

bool screen_poll(void)
{
    char text[TURN_BYTES];
    size_t size = log_read(&shown, text, sizeof(text));

    draw(text, size);
    return size == sizeof(text);
}

void screen_flush(void)
{
    while (screen_poll())
        ;
}

static bool set_up_pixels(const struct boot_framebuffer *fb, void *memory)
{
    struct framebuffer_format format = {
        .pitch = fb->pitch,
        .width = fb->width,
        .height = fb->height,
        .bits_per_pixel = fb->bits_per_pixel,
        .red_position = fb->red_position,
        .red_size = fb->red_size,
        .green_position = fb->green_position,
        .green_size = fb->green_size,
        .blue_position = fb->blue_position,
        .blue_size = fb->blue_size,
    };

    return framebuffer_init(&pixels, memory, &format);
}

void screen_init(const struct boot_framebuffer *fb)
{
    void *memory;

    if (fb->kind == FRAMEBUFFER_NONE)
        return;
    memory = mmio_map(fb->address, (u64)fb->pitch * fb->height, MMIO_UNCACHED);
    if (memory && fb->kind == FRAMEBUFFER_TEXT)
        has_vga = vga_text_init(&vga, memory, fb->width, fb->height, fb->pitch);
    else if (memory)
        has_pixels = set_up_pixels(fb, memory);
    shown = 0;
    screen_flush();
}
