; SPDX-License-Identifier: BSD-2-Clause
; SPDX-FileCopyrightText: The Bulkhead authors

; The road from GRUB (Multiboot2 specification 2.0, section 3: 32-bit protected mode, paging off)
; to boot_main in long mode, with the first 4 GiB mapped at 0, at POOL_BASE and, its first GiB,
; at KERNEL_BASE.

%define MULTIBOOT2_MAGIC     0xE85250D6
%define MULTIBOOT2_I386      0
%define TAG_END              0
%define TAG_INFORMATION      1
%define TAG_FRAMEBUFFER      5
%define TAG_MODULE_ALIGN     6
%define TAG_OPTIONAL         1

%define CR0_PE               1 << 0
%define CR0_MP               1 << 1
%define CR0_NE               1 << 5
%define CR0_WP               1 << 16
%define CR0_PG               1 << 31
%define CR4_PAE              1 << 5
%define MSR_EFER             0xC0000080
%define EFER_LME             1 << 8
%define CPUID_EXTENDED_MAX   0x80000000
%define CPUID_EXTENDED       0x80000001
%define CPUID_LONG_MODE      29

%define PAGE_PRESENT_WRITE   3
%define PAGE_LARGE           1 << 7
%define POOL_SLOT            256
%define KERNEL_SLOT          511
%define KERNEL_PDPT_INDEX    510

%define COM1                 0x3F8
%define LSR_THRE             1 << 5

section .multiboot progbits alloc noexec nowrite align=8
header:
    dd MULTIBOOT2_MAGIC, MULTIBOOT2_I386, header_end - header
    dd 0x100000000 - (MULTIBOOT2_MAGIC + MULTIBOOT2_I386 + (header_end - header))
    align 8, db 0
    dw TAG_MODULE_ALIGN, 0
    dd 8
    align 8, db 0
    dw TAG_END, 0
    dd 8
header_end:

section .boot.text progbits alloc exec nowrite align=16
bits 32
global boot_entry
boot_entry:
    cli
    cld
    mov esp, boot_stack_end
    mov edi, eax ; the boot loader's magic: boot_main's first argument
    mov esi, ebx ; its information: the second
    rdtsc
    mov ebp, eax ; the third: when this began
    mov ebx, edx

    push ebx
    mov eax, CPUID_EXTENDED_MAX
    cpuid
    cmp eax, CPUID_EXTENDED
    jb no_long_mode
    mov eax, CPUID_EXTENDED
    cpuid
    bt edx, CPUID_LONG_MODE
    jnc no_long_mode
    pop ebx

    mov eax, PAGE_PRESENT_WRITE | PAGE_LARGE
    mov ecx, boot_pd
.fill:
    mov [ecx], eax
    mov dword [ecx + 4], 0
    add eax, 0x200000
    add ecx, 8
    cmp ecx, boot_pd + 4 * 4096
    jne .fill

    mov eax, boot_pd + PAGE_PRESENT_WRITE
    mov [boot_pdpt], eax
    mov [boot_pdpt_kernel + KERNEL_PDPT_INDEX * 8], eax
    add eax, 0x1000
    mov [boot_pdpt + 8], eax
    add eax, 0x1000
    mov [boot_pdpt + 16], eax
    add eax, 0x1000
    mov [boot_pdpt + 24], eax
    mov eax, boot_pdpt + PAGE_PRESENT_WRITE
    mov [boot_pml4], eax
    mov [boot_pml4 + POOL_SLOT * 8], eax
    mov dword [boot_pml4 + KERNEL_SLOT * 8], boot_pdpt_kernel + PAGE_PRESENT_WRITE

    mov eax, boot_pml4
    mov cr3, eax
    mov eax, cr4
    or eax, CR4_PAE
    mov cr4, eax
    push ebx
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    pop ebx
    mov eax, cr0
    or eax, CR0_PG | CR0_PE | CR0_WP | CR0_MP | CR0_NE
    mov cr0, eax
    lgdt [boot_gdtr]
    jmp 0x08:.long_mode
bits 64
.long_mode:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    mov rsp, boot_c_stack_end
    mov edi, edi
    mov esi, esi
    mov edx, ebx
    shl rdx, 32
    mov eax, ebp
    or rdx, rax
    xor ebp, ebp ; the end of every backtrace
    mov rax, boot_main
    call rax
.halt:
    hlt
    jmp .halt

bits 32
no_long_mode:
    mov esi, no_long_mode_text
.next:
    lodsb
    test al, al
    jz .halt
    mov bl, al
    mov ecx, 100000 ; bounded: there may be no UART
.wait:
    mov dx, COM1 + 5
    in al, dx
    test al, LSR_THRE
    loopz .wait
    mov dx, COM1
    mov al, bl
    out dx, al
    jmp .next
.halt:
    hlt
    jmp .halt

section .boot.data progbits alloc noexec write align=16
boot_gdt:
    dq 0
    dq 0x00AF9B000000FFFF ; 64-bit code
boot_gdtr:
    dw boot_gdtr - boot_gdt - 1
    dd boot_gdt
no_long_mode_text:
    db 13, 10, "bulkhead: this CPU has no 64-bit mode: not an x86-64 CPU", 13, 10, 0

section .boot.bss nobits alloc noexec write align=4096
boot_pml4:
    resb 4096
boot_pdpt:
    resb 4096
boot_pdpt_kernel:
    resb 4096
boot_pd:
    resb 4 * 4096
boot_stack:
    resb 256
boot_stack_end:

section .bss nobits alloc noexec write align=16
    resb 16384
boot_c_stack_end:

extern boot_main

; ---- application processors -------------------------------------------------------------------
; Copied to a page below 1 MiB, where STARTUP begins in real mode (SDM volume 3, "MP
; Initialization Protocol"). The parameters at its end are filled in for one CPU at a time.

section .rodata progbits alloc noexec nowrite
global trampoline_start, trampoline_end, trampoline_parameters
bits 16
trampoline_start:
    cli
    cld
    mov ax, cs
    mov ds, ax
    xor ebx, ebx
    mov bx, ax
    shl ebx, 4 ; where this page lies
    lea eax, [ebx + trampoline_gdt - trampoline_start]
    mov [trampoline_gdtr - trampoline_start + 2], eax
    o32 lgdt [trampoline_gdtr - trampoline_start]
    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, [trampoline_cr3 - trampoline_start]
    mov cr3, eax
    mov ecx, MSR_EFER
    mov eax, [trampoline_efer - trampoline_start]
    xor edx, edx
    wrmsr
    lea eax, [ebx + .long_mode - trampoline_start]
    mov [trampoline_jump - trampoline_start], eax
    mov eax, CR0_PG | CR0_PE | CR0_WP | CR0_MP | CR0_NE
    mov cr0, eax
    jmp far dword [trampoline_jump - trampoline_start]
bits 64
.long_mode:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov rsp, [rbx + trampoline_stack - trampoline_start]
    mov rdi, [rbx + trampoline_argument - trampoline_start]
    xor ebp, ebp
    call [rbx + trampoline_entry - trampoline_start]
    ud2 ; it does not return
    align 8, db 0
trampoline_gdt:
    dq 0
    dq 0x00AF9B000000FFFF
trampoline_gdtr:
    dw 15
    dd 0
trampoline_jump:
    dd 0
    dw 0x08
    align 8, db 0
trampoline_parameters:
trampoline_stack:    dq 0
trampoline_argument: dq 0
trampoline_entry:    dq 0
trampoline_cr3:      dd 0
trampoline_efer:     dd 0
trampoline_end:
