/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "drivers/vga_text.h"

#define LIGHT_GREY_ON_BLACK 0x0700
#define CELL_SIZE           sizeof(u16)
#define DIMENSION_MAX       512
#define TAB_STOP            8

static void clear_row(struct vga_text *vga, u32 row)
{
    u16 *cells = vga->cells + row * vga->cells_per_row;

    for (u32 column = 0; column < vga->width; column++)
        cells[column] = LIGHT_GREY_ON_BLACK | ' ';
}

bool vga_text_init(struct vga_text *vga, void *memory, u32 width, u32 height, u32 pitch)
{
    if (width == 0 || width > DIMENSION_MAX || height == 0 || height > DIMENSION_MAX ||
        pitch < width * CELL_SIZE || pitch > DIMENSION_MAX * CELL_SIZE)
        return false;
    *vga = (struct vga_text){
        .cells = memory, .cells_per_row = pitch / CELL_SIZE, .width = width, .height = height};
    for (u32 row = 0; row < height; row++)
        clear_row(vga, row);
    return true;
}

static void new_line(struct vga_text *vga)
{
    vga->column = 0;
    vga->row = (vga->row + 1) % vga->height;
    /* The next row is clear already. */
    clear_row(vga, (vga->row + 1) % vga->height);
}

static void put_cell(struct vga_text *vga, u8 c)
{
    if (vga->column == vga->width)
        new_line(vga);
    vga->cells[vga->row * vga->cells_per_row + vga->column++] = LIGHT_GREY_ON_BLACK | c;
}

static void put_control(struct vga_text *vga, char c)
{
    switch (c) {
    case '\n':
        new_line(vga);
        break;
    case '\r':
        vga->column = 0;
        break;
    case '\b':
        vga->column -= vga->column > 0;
        break;
    case '\t':
        do
            put_cell(vga, ' ');
        while (vga->column % TAB_STOP != 0 && vga->column < vga->width);
        break;
    default:
        break;
    }
}

void vga_text_write(struct vga_text *vga, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((u8)text[i] < ' ')
            put_control(vga, text[i]);
        else
            put_cell(vga, (u8)text[i]);
    }
}
