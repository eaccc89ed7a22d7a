; SPDX-License-Identifier: BSD-2-Clause
; SPDX-FileCopyrightText: The Bulkhead authors
; Code that runs below 1 MiB, copied there by pc.c: a trip from 64-bit mode through 32-bit
; protected mode to real mode and back, and the start of a second CPU.

MODES_BASE   equ 0x9000         ; where pc.c copies modes_start .. modes_end
AP_BASE      equ 0x8000         ; where pc.c copies ap_start .. ap_end: SIPI vector 8
CODE_64      equ 0x08
DATA         equ 0x10
CODE_32      equ 0x18
CODE_16      equ 0x20
DATA_16      equ 0x28
MSR_EFER     equ 0xC0000080
EFER_LME     equ 1 << 8
CR0_PE       equ 1 << 0
CR0_PG       equ 1 << 31
TEST_VECTOR  equ 0x60
EXTRA_SEGMENT equ 0x0A00        ; real-mode segment: physical 0xA000

global modes_start, modes_end, modes_result, ap_start, ap_end, ap_result

%define AT(label) (MODES_BASE + (label) - modes_start)
%define AP(label) (AP_BASE + (label) - ap_start)

section .text
bits 64
; Called as a function; interrupts are off. Leaves its findings in modes_result.
modes_start:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [AT(saved_stack)], rsp
    sidt [AT(saved_idt)]
    sgdt [AT(saved_gdt)]
    push CODE_32
    push AT(compatibility)
    retfq

bits 32
compatibility:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, cr0
    and eax, ~CR0_PG
    mov cr0, eax                ; leaves long mode
    mov ecx, MSR_EFER
    rdmsr
    and eax, ~EFER_LME
    wrmsr
    mov dword [AT(modes_result.protected)], 0x32323232
    lidt [AT(real_idt)]
    jmp CODE_16:AT(protected_16)

bits 16
protected_16:
    mov ax, DATA_16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov eax, cr0
    and al, ~CR0_PE
    mov cr0, eax
    jmp 0:AT(real)

real:
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov esp, MODES_BASE
    mov word [TEST_VECTOR * 4], AT(real_interrupt)
    mov word [TEST_VECTOR * 4 + 2], 0
    mov bx, 16
    mov ax, EXTRA_SEGMENT
    mov es, ax
    mov word [es:bx], 0x1616    ; physical 0xA010
    int TEST_VECTOR
    mov eax, [0xA010]
    mov [AT(modes_result.real)], ax
    mov eax, cr0
    or al, CR0_PE
    mov cr0, eax
    jmp CODE_32:AT(back)

real_interrupt:
    inc word [AT(modes_result.interrupts)]
    iret

bits 32
back:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    mov eax, cr0
    or eax, CR0_PG
    mov cr0, eax
    jmp CODE_64:AT(long_again)

bits 64
long_again:
    mov rsp, [AT(saved_stack)]
    lidt [AT(saved_idt)]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

align 8
saved_stack: dq 0
saved_idt:   dw 0
             dq 0
saved_gdt:   dw 0
             dq 0
real_idt:    dw 0x3FF
             dd 0
align 4
modes_result:
.protected:  dd 0
.real:       dw 0
.interrupts: dw 0
modes_end:

bits 16
ap_start:
    cli
    mov eax, 1
    cpuid
    shr ebx, 24                 ; initial APIC ID
    mov [cs:ap_result.id - ap_start], ebx
    mov ax, cs
    mov [cs:ap_result.segment - ap_start], ax
    lock inc word [cs:ap_result.count - ap_start]
.halt:
    cli
    hlt
    jmp .halt
align 4
ap_result:
.id:      dd 0
.segment: dw 0
.count:   dw 0
ap_end:
