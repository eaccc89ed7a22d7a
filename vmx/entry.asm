; SPDX-License-Identifier: BSD-2-Clause
; SPDX-FileCopyrightText: The Bulkhead authors

; The way into a guest and out of it. bool vmx_run(u64 gpr[], u64 *host_rsp, bool launched):
; vmx/vmx.h says what it does, enum gpr gives the order of gpr[].

%define HOST_RSP 0x6C14 ; VMCS_HOST_RSP

%define RAX 0 * 8
%define RCX 1 * 8
%define RDX 2 * 8
%define RBX 3 * 8
%define RBP 5 * 8
%define RSI 6 * 8
%define RDI 7 * 8

section .text.vmx_run progbits alloc exec nowrite align=64
global vmx_run
global vmx_exit_point

vmx_run:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    push rdi ; for the exit
    cmp [rsi], rsp
    je .host_rsp_stands
    mov [rsi], rsp
    mov eax, HOST_RSP
    vmwrite rax, rsp
    jbe .refused
.host_rsp_stands:
    test dl, dl ; no MOV below changes ZF
    mov rax, [rdi + RAX]
    mov rcx, [rdi + RCX]
    mov rdx, [rdi + RDX]
    mov rbx, [rdi + RBX]
    mov rbp, [rdi + RBP]
    mov rsi, [rdi + RSI]
%assign n 8
%rep 8
    mov r%+n, [rdi + n * 8]
%assign n n + 1
%endrep
    mov rdi, [rdi + RDI]
    jz .launch
    vmresume
    jmp .refused
.launch:
    vmlaunch
.refused:
    add rsp, 8
    xor eax, eax
    jmp vmx_leave

; VMCS_HOST_RIP. RSP is what it was before the entry, everything else the guest's.
vmx_exit_point:
    push rdi
    mov rdi, [rsp + 8]
    mov [rdi + RAX], rax
    mov [rdi + RCX], rcx
    mov [rdi + RDX], rdx
    mov [rdi + RBX], rbx
    mov [rdi + RBP], rbp
    mov [rdi + RSI], rsi
%assign n 8
%rep 8
    mov [rdi + n * 8], r%+n
%assign n n + 1
%endrep
    pop qword [rdi + RDI]
    add rsp, 8
    mov eax, 1

; The RET may be predicted from return addresses that the guest has left in the CPU. No register
; that C takes for undefined keeps a value of the guest's, so that such a path finds none to use.
vmx_leave:
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
