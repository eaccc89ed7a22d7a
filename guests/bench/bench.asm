; SPDX-License-Identifier: BSD-2-Clause
; SPDX-FileCopyrightText: The Bulkhead authors
; The shortest handlers that an operation with an interrupt can have, and the way of the second
; CPU into long mode. The C code loads the vectors and copies the second part to AP_BASE.

AP_BASE          equ 0x8000
MSR_X2APIC_EOI   equ 0x80B
MSR_X2APIC_ICR   equ 0x830
TEST_VECTOR      equ 0x51
MSR_EFER         equ 0xC0000080
EFER_LME         equ 1 << 8
CR0_PG_PE        equ 1 << 31 | 1
CR4_PAE          equ 1 << 5
CODE_64          equ 0x08
DATA             equ 0x10

global bench_handler, bench_reply_handler, bench_interrupts
global ap_start, ap_end, ap_idt, ap_up
extern page_map, ap_main

section .bss
alignb 8
bench_interrupts: resq 1
ap_up:            resq 1
ap_idt:           resb 16
ap_stack:         resb 4096
ap_stack_top:

section .text
bits 64

%macro END_OF_INTERRUPT 0
    mov ecx, MSR_X2APIC_EOI
    xor eax, eax
    xor edx, edx
    wrmsr
%endmacro

bench_handler:
    push rax
    push rcx
    push rdx
    inc qword [bench_interrupts]
    END_OF_INTERRUPT
    pop rdx
    pop rcx
    pop rax
    iretq

; The second CPU's: answers with an interrupt of the first.
bench_reply_handler:
    push rax
    push rcx
    push rdx
    END_OF_INTERRUPT
    mov ecx, MSR_X2APIC_ICR
    mov eax, TEST_VECTOR
    xor edx, edx
    wrmsr
    pop rdx
    pop rcx
    pop rax
    iretq

bits 16
ap_start:
    mov ax, cs
    mov ds, ax
    lgdt [ap_gdt_pointer - ap_start]
    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, page_map
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    mov eax, cr0
    or eax, CR0_PG_PE
    mov cr0, eax
    jmp dword CODE_64:ap_long_mode
align 8
ap_gdt:
    dq 0
    dq 0x00AF9B000000FFFF       ; 64-bit code
    dq 0x00CF93000000FFFF       ; data
ap_gdt_pointer:
    dw ap_gdt_pointer - ap_gdt - 1
    dd AP_BASE + ap_gdt - ap_start
ap_end:

bits 64
ap_long_mode:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, ap_stack_top
    lidt [ap_idt]
    call ap_main
