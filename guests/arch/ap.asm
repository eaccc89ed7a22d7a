; SPDX-License-Identifier: BSD-2-Clause
; SPDX-FileCopyrightText: The Bulkhead authors
; What a second CPU finds in its registers at its start, and a comparison of TSCs. Runs in real
; mode, copied to AP_BASE by board.c, whose struct second_cpu is ap_result.

AP_BASE  equ 0x8000
MSR_EFER equ 0xC0000080

global ap_start, ap_end, ap_result

%define R(field) cs:field - ap_start

section .text
bits 16
ap_start:
    mov [R(result_eax)], eax
    mov [R(result_ebx)], ebx
    mov [R(result_ecx)], ecx
    mov [R(result_edx)], edx
    mov [R(result_esi)], esi
    mov [R(result_edi)], edi
    mov [R(result_ebp)], ebp
    mov [R(result_esp)], esp
    mov [R(result_segments + 0)], cs
    mov [R(result_segments + 2)], ds
    mov [R(result_segments + 4)], es
    mov [R(result_segments + 6)], ss
    mov [R(result_segments + 8)], fs
    mov [R(result_segments + 10)], gs
    mov ax, cs
    mov ds, ax
    mov ss, ax
    mov sp, stack_top - ap_start
    pushfd
    pop dword [R(result_eflags)]
    mov eax, cr0
    mov [R(result_cr0)], eax
    mov eax, cr2
    mov [R(result_cr2)], eax
    mov eax, cr3
    mov [R(result_cr3)], eax
    mov eax, cr4
    mov [R(result_cr4)], eax
    mov eax, dr6
    mov [R(result_dr6)], eax
    mov eax, dr7
    mov [R(result_dr7)], eax
    mov ecx, MSR_EFER
    rdmsr
    mov [R(result_efer)], eax
    sidt [R(table)]
    mov ax, [R(table)]
    mov [R(result_idt)], ax
    sgdt [R(table)]
    mov ax, [R(table)]
    mov [R(result_gdt)], ax
    mov dword [R(ap_result)], 1

.round:
    pause
    cmp dword [R(turn)], 0
    je .round
    rdtsc
    mov ebx, eax
    mov ecx, edx
    sub ebx, [R(tsc)]
    sbb ecx, [R(tsc + 4)]
    jnc .forwards
    inc dword [R(backwards)]
.forwards:
    mov [R(tsc)], eax
    mov [R(tsc + 4)], edx
    mov dword [R(turn)], 0
    jmp .round

align 4
ap_result:       dd 0
result_eax:      dd 0
result_ebx:      dd 0
result_ecx:      dd 0
result_edx:      dd 0
result_esi:      dd 0
result_edi:      dd 0
result_ebp:      dd 0
result_esp:      dd 0
result_eflags:   dd 0
result_cr0:      dd 0
result_cr2:      dd 0
result_cr3:      dd 0
result_cr4:      dd 0
result_dr6:      dd 0
result_dr7:      dd 0
result_efer:     dd 0
result_segments: times 6 dw 0
result_idt:      dw 0
result_gdt:      dw 0
                 dw 0, 0
backwards:       dd 0
turn:            dd 0
tsc:             dd 0, 0
table:           dw 0
                 dd 0
align 4
                 times 64 db 0
stack_top:
ap_end:
