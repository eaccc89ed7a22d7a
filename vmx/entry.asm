; SPDX-License-Identifier: BSD-2-Clause
; SPDX-FileCopyrightText: The Bulkhead authors

; The way into a guest and out of it. enum vmx_stay vmx_run(struct vcpu *vcpu, u64 *host_rsp,
; bool launched): vmx/vmx.h says what it does, enum gpr gives the order of gpr[].

%include "offsets.inc"

%define HOST_RSP 0x6C14 ; VMCS_HOST_RSP

%define GPR(n) VCPU_GPR + (n) * 8
%define RAX GPR(0)
%define RCX GPR(1)
%define RDX GPR(2)
%define RBX GPR(3)
%define RBP GPR(5)
%define RSI GPR(6)
%define RDI GPR(7)

section .text.vmx_run progbits alloc exec nowrite align=64
global vmx_run
global vmx_exit_point
extern vmx_fast_answer
extern vmx_fast_finish

; Those that C functions may change, and RBX, which CPUID writes. RDI comes last.
%macro LOAD_VOLATILE 0
    mov rax, [rdi + RAX]
    mov rcx, [rdi + RCX]
    mov rdx, [rdi + RDX]
    mov rbx, [rdi + RBX]
    mov rsi, [rdi + RSI]
%assign n 8
%rep 4
    mov r%+n, [rdi + GPR(n)]
%assign n n + 1
%endrep
    mov rdi, [rdi + RDI]
%endmacro

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
    mov rbp, [rdi + RBP]
%assign n 12
%rep 4
    mov r%+n, [rdi + GPR(n)]
%assign n n + 1
%endrep
    LOAD_VOLATILE
    jnz vmx_exit_point.resume
    vmlaunch
.refused:
    add rsp, 8
    xor eax, eax ; VMX_REFUSED
    jmp vmx_leave

; VMCS_HOST_RIP. RSP is what it was before the entry, everything else the guest's. No RET but the
; last may be predicted from return addresses that the guest has left in the CPU, as the calls are
; made behind the exit; and the last finds no value of the guest's in a register.
vmx_exit_point:
    push rdi
    mov rdi, [rsp + 8]
    mov [rdi + RAX], rax
    mov [rdi + RCX], rcx
    mov [rdi + RDX], rdx
    mov [rdi + RBX], rbx
    mov [rdi + RSI], rsi
%assign n 8
%rep 4
    mov [rdi + GPR(n)], r%+n
%assign n n + 1
%endrep
    pop qword [rdi + RDI]
    call vmx_fast_answer
    mov rdi, [rsp]
    mov esi, eax
    call vmx_fast_finish
    mov rdi, [rsp]
    test eax, eax
    jnz .slow
    LOAD_VOLATILE
.resume:
    vmresume
    jmp vmx_run.refused
.slow:
    mov [rdi + RBP], rbp
%assign n 12
%rep 4
    mov [rdi + GPR(n)], r%+n
%assign n n + 1
%endrep
    add rsp, 8
vmx_leave:
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
