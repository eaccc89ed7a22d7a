; SPDX-License-Identifier: BSD-2-Clause
; SPDX-FileCopyrightText: The Bulkhead authors
; From the Multiboot or PVH entry (32-bit, no paging) to guest_main in 64-bit mode, with the first
; 4 GiB mapped one to one. PVH, by which Xen starts it (scripts/bench-peers), tells it nothing.
; Touches no floating-point, debug or system-call state: a guest may want to see what it was given.

MULTIBOOT_MAGIC equ 0x1BADB002
MULTIBOOT_FLAGS equ 3           ; modules on pages, memory information
INFO_SIZE       equ 88          ; of the Multiboot information
CR0_PG          equ 1 << 31
CR4_PAE         equ 1 << 5
MSR_EFER        equ 0xC0000080
EFER_LME        equ 1 << 8
NOTE_PVH_ENTRY  equ 18          ; XEN_ELFNOTE_PHYS32_ENTRY
PAGE_TABLE      equ 3           ; present, writable
PAGE_2M         equ 0x83        ; present, writable, large
CODE_64         equ 0x08
DATA            equ 0x10

extern guest_main, guest_interrupt
global start, interrupt_stubs, page_map

section .multiboot
align 4
    dd MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

section .note.pvh note alloc noexec nowrite align=4
    dd .name_end - .name, 4, NOTE_PVH_ENTRY
.name:
    db "Xen", 0
.name_end:
    dd start_pvh

section .rodata
align 8
no_information: times INFO_SIZE db 0

section .text
bits 32
start_pvh:
    mov ebx, no_information
start:
    cli
    cld
    mov esp, stack_top
    mov ebp, ebx                ; the Multiboot information

    mov dword [page_map], page_pointers + PAGE_TABLE
    mov ecx, 4
.pointers:
    mov eax, ecx
    shl eax, 12
    add eax, page_directories - 4096 + PAGE_TABLE
    mov [page_pointers + ecx * 8 - 8], eax
    loop .pointers
    mov ecx, 2048
.directories:
    lea eax, [ecx - 1]
    shl eax, 21
    or eax, PAGE_2M
    mov [page_directories + ecx * 8 - 8], eax
    loop .directories

    mov eax, cr4
    or eax, CR4_PAE
    mov cr4, eax
    mov eax, page_map
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    mov eax, cr0
    or eax, CR0_PG
    mov cr0, eax
    lgdt [gdt_pointer]
    jmp CODE_64:long_mode

bits 64
long_mode:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov edi, ebp
    call guest_main
.halt:
    cli
    hlt
    jmp .halt

; The stack of guest_interrupt's frame: what the CPU pushed, vector and error code, registers.
save_and_handle:
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
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
    call guest_interrupt
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16
    iretq

STUB_SIZE equ 16
%define HAS_ERROR_CODE(v) ((v) == 8 || ((v) >= 10 && (v) <= 14) || (v) == 17 || (v) == 21)

align STUB_SIZE
interrupt_stubs:
%assign vector 0
%rep 256
    align STUB_SIZE
    %if !HAS_ERROR_CODE(vector)
    push 0
    %endif
    push vector
    jmp near save_and_handle
    %assign vector vector + 1
%endrep

section .data
align 8
gdt:
    dq 0
    dq 0x00AF9B000000FFFF       ; 64-bit code
    dq 0x00CF93000000FFFF       ; data
    dq 0x00CF9B000000FFFF       ; 32-bit code
    dq 0x00009B000000FFFF       ; 16-bit code
    dq 0x000093000000FFFF       ; 16-bit data
.end:
gdt_pointer:
    dw gdt.end - gdt - 1
    dd gdt
    dd 0

section .bss nobits alloc write
alignb 4096
page_map:         resb 4096
page_pointers:    resb 4096
page_directories: resb 4 * 4096
stack:            resb 16384
stack_top:
