; SPDX-License-Identifier: BSD-2-Clause
; SPDX-FileCopyrightText: The Bulkhead authors

; The world switch (AMD APM volume 2, "Basic Operation" of SVM). VMRUN, VMLOAD and VMSAVE take the
; physical address of the VMCB in RAX.

bits 64
section .text

; Slots of gpr[], as enum gpr numbers them (asserted in svm.c). RAX and RSP are in the VMCB.
%define SLOT(n) n * 8

; void svm_run(paddr_t guest_vmcb, u64 gpr[], paddr_t host_vmcb)
;
; GIF is 0 from CLGI to STGI, so that neither an interrupt nor an NMI finds the guest's GS. IF is
; set meanwhile, as the host's IF at VMRUN decides whether physical interrupts leave the guest,
; and cleared before STGI: they stay pending until shared code enables them.
global svm_run
svm_run:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    push rdx
    push rsi
    mov rax, rdi
    clgi
    sti
    vmload
    mov rcx, [rsi + SLOT(1)]
    mov rdx, [rsi + SLOT(2)]
    mov rbx, [rsi + SLOT(3)]
    mov rbp, [rsi + SLOT(5)]
    mov rdi, [rsi + SLOT(7)]
    mov r8, [rsi + SLOT(8)]
    mov r9, [rsi + SLOT(9)]
    mov r10, [rsi + SLOT(10)]
    mov r11, [rsi + SLOT(11)]
    mov r12, [rsi + SLOT(12)]
    mov r13, [rsi + SLOT(13)]
    mov r14, [rsi + SLOT(14)]
    mov r15, [rsi + SLOT(15)]
    mov rsi, [rsi + SLOT(6)]
    vmrun
    ; RAX, RSP and RFLAGS are the host's again, the other registers the guest's.
    vmsave
    mov rax, [rsp]
    mov [rax + SLOT(1)], rcx
    mov [rax + SLOT(2)], rdx
    mov [rax + SLOT(3)], rbx
    mov [rax + SLOT(5)], rbp
    mov [rax + SLOT(6)], rsi
    mov [rax + SLOT(7)], rdi
    mov [rax + SLOT(8)], r8
    mov [rax + SLOT(9)], r9
    mov [rax + SLOT(10)], r10
    mov [rax + SLOT(11)], r11
    mov [rax + SLOT(12)], r12
    mov [rax + SLOT(13)], r13
    mov [rax + SLOT(14)], r14
    mov [rax + SLOT(15)], r15
    mov rax, [rsp + 8]
    vmload
    cli
    stgi
    ; The RET may be predicted from return addresses that the guest has left in the CPU. No
    ; register that C takes for undefined keeps a value of the guest's, so that such a path finds
    ; none to use.
    xor ecx, ecx
    xor edx, edx
    xor edi, edi
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    pop rsi
    pop rdx
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
