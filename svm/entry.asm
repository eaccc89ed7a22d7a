; SPDX-License-Identifier: BSD-2-Clause
; SPDX-FileCopyrightText: The Bulkhead authors

; The world switch (AMD APM volume 2, "Basic Operation" of SVM). VMRUN, VMLOAD and VMSAVE take the
; physical address of the VMCB in RAX.

bits 64
section .text

%include "offsets.inc"
%include "core/mitigations.inc"

; Slots of gpr[], as enum gpr numbers them (asserted in svm.c). RAX and RSP are in the VMCB.
%define SLOT(n) VCPU_GPR + (n) * 8

extern svm_fast_answer
extern svm_fast_finish

; enum svm_outcome svm_run(struct vcpu *vcpu, paddr_t guest_vmcb, paddr_t host_vmcb), and the same
; with VERW before each entry.
;
; GIF is 0 from CLGI to STGI, so that neither an interrupt nor an NMI finds the guest's GS. IF is
; set meanwhile, as the host's IF at VMRUN decides whether physical interrupts leave the guest,
; and cleared before STGI: they stay pending until shared code enables them.
global svm_run
global svm_guarded_run
%macro SVM_RUN 1
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    push rdx
    push rsi
    push rdi
    mov rbp, [rdi + SLOT(5)]
    mov r12, [rdi + SLOT(12)]
    mov r13, [rdi + SLOT(13)]
    mov r14, [rdi + SLOT(14)]
    mov r15, [rdi + SLOT(15)]
%%again:
    mov rax, [rsp + 8]
    clgi
    sti
    vmload
%if %1
    CLEAR_BUFFERS
%endif
    mov rcx, [rdi + SLOT(1)]
    mov rdx, [rdi + SLOT(2)]
    mov rbx, [rdi + SLOT(3)]
    mov rsi, [rdi + SLOT(6)]
    mov r8, [rdi + SLOT(8)]
    mov r9, [rdi + SLOT(9)]
    mov r10, [rdi + SLOT(10)]
    mov r11, [rdi + SLOT(11)]
    mov rdi, [rdi + SLOT(7)]
    vmrun
    ; RAX, RSP and RFLAGS are the host's again, the other registers the guest's.
    vmsave
    mov rax, [rsp]
    mov [rax + SLOT(1)], rcx
    mov [rax + SLOT(2)], rdx
    mov [rax + SLOT(3)], rbx
    mov [rax + SLOT(6)], rsi
    mov [rax + SLOT(7)], rdi
    mov [rax + SLOT(8)], r8
    mov [rax + SLOT(9)], r9
    mov [rax + SLOT(10)], r10
    mov [rax + SLOT(11)], r11
    mov rdi, rax
    mov rax, [rsp + 16]
    vmload
    cli
    stgi
    ; No RET in here may be predicted from return addresses that the guest has left in the CPU, as
    ; the calls are made behind the exit; those behind FILL_RSB are not either, and find no value of
    ; the guest's in a register.
    call svm_fast_answer
    mov rdi, [rsp]
    mov esi, eax
    call svm_fast_finish
    mov rdi, [rsp]
    test eax, eax
    jz %%again
%endmacro

svm_guarded_run:
    SVM_RUN 1
    jmp svm_leave

svm_run:
    SVM_RUN 0
svm_leave:
    mov [rdi + SLOT(5)], rbp
    mov [rdi + SLOT(12)], r12
    mov [rdi + SLOT(13)], r13
    mov [rdi + SLOT(14)], r14
    mov [rdi + SLOT(15)], r15
    FILL_RSB
    add rsp, 24
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

; void svm_vmsave(paddr_t vmcb): stores this CPU's FS, GS, TR, LDTR and their MSRs there.
global svm_vmsave
svm_vmsave:
    mov rax, rdi
    vmsave
    ret
