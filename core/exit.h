/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_EXIT_H
#define BULKHEAD_CORE_EXIT_H

/* Why a vCPU left the guest, in words that are the same for VT-x and AMD-V. */

#include "lib/types.h"

enum exit_kind {
    EXIT_NONE,      /* the backend dealt with it; enter again */
    EXIT_INTERRUPT, /* a host interrupt waits: it is taken when interrupts are next enabled */
    EXIT_DEADLINE,  /* the deadline given to enter() has passed */
    EXIT_WINDOW,    /* a requested interrupt or NMI window is open */
    EXIT_CPUID,
    EXIT_HLT,
    EXIT_PAUSE, /* a spin loop was noticed */
    EXIT_RDMSR,
    EXIT_WRMSR,
    EXIT_XSETBV,
    EXIT_PORT,
    EXIT_MEMORY,     /* guest-physical access that the nested page tables do not allow */
    EXIT_HYPERCALL,  /* VMCALL, VMMCALL */
    EXIT_CR,         /* a control or debug register, INVD/WBINVD: dealt with in the backend */
    EXIT_APIC_WRITE, /* virtualised write to the APIC page has happened; offset is in .apic */
    EXIT_EOI,        /* virtualised EOI of a vector in the EOI-exit bitmap; .apic.vector */
    EXIT_UNDEFINED,  /* an instruction that this virtual CPU does not have: #UD */
    EXIT_TRIPLE_FAULT,
    EXIT_MACHINE_CHECK, /* a host machine check arrived in guest mode */
    EXIT_ENTRY_FAILURE, /* the guest's state was refused; the backend has logged why */
    EXIT_UNHANDLED,     /* no meaning known for `reason` */
    EXIT_KIND_COUNT,
};

struct exit {
    enum exit_kind kind;
    bool served;       /* the backend has dealt with it already; nothing else is set */
    u32 reason;        /* the hardware's own code (SDM appendix C; APM volume 2 appendix C) */
    u64 qualification; /* VT-x exit qualification; AMD-V EXITINFO1 */
    union {
        struct {
            u16 number;
            u8 size; /* 1, 2, 4 */
            bool write;
            bool string;
            bool rep;
            u8 address_size; /* string only: 2, 4, 8 */
            u8 segment;      /* string only: enum segment_register */
        } port;
        struct {
            u64 gpa;
            bool write;
            bool fetch;
            u8 bytes_count; /* instruction bytes that hardware supplied; 0: fetch them */
            u8 bytes[15];
        } memory;
        struct {
            u32 index;
            u64 value; /* WRMSR */
        } msr;
        struct {
            u32 offset;
            u8 vector;
        } apic;
    };
};

/* The kind's name, for statistics and dumps. */
const char *exit_kind_name(enum exit_kind kind);

#endif
