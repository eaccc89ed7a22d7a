; SPDX-License-Identifier: BSD-2-Clause
; SPDX-FileCopyrightText: The Bulkhead authors

; The way into a guest and out of it. enum vmx_stay vmx_run(struct vcpu *vcpu, u64 *host_rsp,
; bool launched): vmx/vmx.h says what it does, enum gpr gives the order of gpr[].

%include "offsets.inc"
%include "core/mitigations.inc"

%define HOST_RSP 0x6C14 ; VMCS_HOST_RSP

%define MSR_SPEC_CTRL 0x48
%define MSR_FLUSH_CMD 0x10B
%define L1D_FLUSH     1

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
global vmx_guarded_exit_point
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

; IA32_SPEC_CTRL, where it is not the same in host and guest. RAX, RCX and RDX are lost.
%macro SET_SPEC_CTRL 1
    test byte [USED], MITIGATION_IBRS_AT_EXIT
    jz %%set
    mov eax, %1
    xor edx, edx
    mov ecx, MSR_SPEC_CTRL
    wrmsr
%%set:
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
    test byte [USED], MITIGATIONS_AT_ENTRY
    jnz .guard
.guarded:
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
    SET_SPEC_CTRL [rel mitigations + MITIGATIONS_SPEC_CTRL]
    add rsp, 8
    xor eax, eax ; VMX_REFUSED
    jmp vmx_leave
.guard:
    mov esi, edx
    SET_SPEC_CTRL 0
    test byte [USED], MITIGATION_L1D_FLUSH
    jz .flushed
    mov eax, L1D_FLUSH
    xor edx, edx
    mov ecx, MSR_FLUSH_CMD
    wrmsr
.flushed:
    mov edx, esi
    CLEAR_BUFFERS
    jmp .guarded

; VMCS_HOST_RIP, the second where something is to be done at exits or entries. RSP is what it was
; before the entry, everything else the guest's. No RET in here may be predicted from return
; addresses that the guest has left in the CPU, as the calls are made behind the exit; those behind
; FILL_RSB are not either, and find no value of the guest's in a register.
%macro EXIT_POINT 1
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
%if %1
    SET_SPEC_CTRL [rel mitigations + MITIGATIONS_SPEC_CTRL]
    lfence ; in case this was predicted to be skipped
%endif
    call vmx_fast_answer
    mov rdi, [rsp]
    mov esi, eax
    call vmx_fast_finish
    mov rdi, [rsp]
    test eax, eax
    jnz vmx_slow_exit
%if %1
    SET_SPEC_CTRL 0
    CLEAR_BUFFERS
%endif
    LOAD_VOLATILE
%endmacro

vmx_guarded_exit_point:
    EXIT_POINT 1
    jmp vmx_exit_point.resume

vmx_exit_point:
    EXIT_POINT 0
.resume:
    vmresume
    jmp vmx_run.refused

vmx_slow_exit:
    mov [rdi + RBP], rbp
%assign n 12
%rep 4
    mov [rdi + GPR(n)], r%+n
%assign n n + 1
%endrep
    FILL_RSB
    add rsp, 8
vmx_leave:
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
