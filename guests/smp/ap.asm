; SPDX-License-Identifier: BSD-2-Clause
; SPDX-FileCopyrightText: The Bulkhead authors
; From where a SIPI starts a CPU to ap_main in 64-bit mode. The 16-bit part is copied to a page
; below 1 MiB, whose number is the SIPI's vector, and serves any number of CPUs at a time.

CR0_LONG_MODE equ 0x80000011    ; PG, ET, PE; caches on
CR4_PAE       equ 1 << 5
MSR_EFER      equ 0xC0000080
EFER_LME      equ 1 << 8
CODE_64       equ 0x08
DATA          equ 0x10
STACK_SHIFT   equ 12            ; STACK_SIZE in smp.h

extern page_map, ap_main, ap_stacks
global ap_start, ap_end, ap_count

section .text
bits 16
ap_start:
    cli
    mov ax, cs
    mov ds, ax
    o32 lgdt [gdt_pointer - ap_start]
    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, page_map
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    mov eax, CR0_LONG_MODE
    mov cr0, eax
    jmp dword CODE_64:long_mode
align 4
gdt_pointer:
    dw gdt.end - gdt - 1
    dd gdt
ap_end:

bits 64
long_mode:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov eax, 1
    lock xadd [ap_count], eax
    inc eax
    shl eax, STACK_SHIFT
    lea rsp, [rax + ap_stacks]
    call ap_main
    ud2

section .data
align 8
gdt:
    dq 0
    dq 0x00AF9B000000FFFF       ; 64-bit code
    dq 0x00CF93000000FFFF       ; data
.end:
ap_count: dd 0
