; SPDX-License-Identifier: BSD-2-Clause
; SPDX-FileCopyrightText: The Bulkhead authors

; One stub for each vector: leaves a struct trap_frame (core/interrupts.h) and calls
; interrupt_dispatch. The hypervisor has no user mode: GS is its own throughout.

bits 64
section .text

extern interrupt_dispatch

%macro STUB 1
stub_%1:
%if %1 == 8 || (%1 >= 10 && %1 <= 14) || %1 == 17 || %1 == 21 || %1 == 29 || %1 == 30
%else
    push 0 ; where the CPU pushes no error code
%endif
    push %1
    jmp strict near interrupt_common
%endmacro

%assign vector 0
%rep 256
    STUB vector
%assign vector vector + 1
%endrep

interrupt_common:
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    call interrupt_dispatch
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

section .rodata
global interrupt_stubs
interrupt_stubs:
%assign vector 0
%rep 256
    dq stub_%+vector
%assign vector vector + 1
%endrep
