/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_SVM_VMCB_H
#define BULKHEAD_SVM_VMCB_H

/* The virtual machine control block (AMD APM volume 2, appendix B). Nothing outside this file
 * touches a member: the functions below know which part of the VMCB the CPU may have cached and
 * clear its clean bit when a value changes (APM volume 2, "VMCB State Caching"). */

#include "lib/types.h"

enum vmcb_clean {
    CLEAN_INTERCEPTS = 1 << 0, /* also TSC offset and pause filter */
    CLEAN_PERMISSION_MAPS = 1 << 1,
    CLEAN_ASID = 1 << 2,
    CLEAN_TPR = 1 << 3, /* V_TPR, V_IRQ and their neighbours */
    CLEAN_NESTED = 1 << 4,
    CLEAN_CR = 1 << 5, /* CR0, CR3, CR4, EFER */
    CLEAN_DR = 1 << 6,
    CLEAN_DESCRIPTOR_TABLES = 1 << 7,
    CLEAN_SEGMENTS = 1 << 8, /* CS, DS, SS, ES and CPL */
    CLEAN_CR2 = 1 << 9,
    CLEAN_LBR = 1 << 10,
    CLEAN_NEVER_CACHED = 0,
    CLEAN_ALL = 0x7FF,
};

/* Intercepts in the words of VMCB offsets 00Ch and up, 32 to the word. Those of control
 * registers (offset 000h) and exceptions (008h) have functions of their own. */
enum vmcb_intercept {
    INTERCEPT_INTR = 0,
    INTERCEPT_NMI = 1,
    INTERCEPT_SMI = 2,
    INTERCEPT_INIT = 3,
    INTERCEPT_VINTR = 4,
    INTERCEPT_CR0_SELECTIVE = 5, /* writes that change more than TS and MP */
    INTERCEPT_RDPMC = 15,
    INTERCEPT_CPUID = 18,
    INTERCEPT_IRET = 20,
    INTERCEPT_INVD = 22,
    INTERCEPT_PAUSE = 23,
    INTERCEPT_HLT = 24,
    INTERCEPT_INVLPGA = 26,
    INTERCEPT_IOIO = 27,
    INTERCEPT_MSR = 28,
    INTERCEPT_TASK_SWITCH = 29,
    INTERCEPT_FERR_FREEZE = 30,
    INTERCEPT_SHUTDOWN = 31,

    INTERCEPT_VMRUN = 32,
    INTERCEPT_VMMCALL = 33,
    INTERCEPT_VMLOAD = 34,
    INTERCEPT_VMSAVE = 35,
    INTERCEPT_STGI = 36,
    INTERCEPT_CLGI = 37,
    INTERCEPT_SKINIT = 38,
    INTERCEPT_WBINVD = 41,
    INTERCEPT_MONITOR = 42,
    INTERCEPT_MWAIT = 43,
    INTERCEPT_XSETBV = 45,
    INTERCEPT_RDPRU = 46,

    INTERCEPT_INVLPGB = 64,
    INTERCEPT_INVLPGB_ILLEGAL = 65,
    INTERCEPT_MCOMMIT = 67,
    INTERCEPT_TLBSYNC = 68,
    INTERCEPT_COUNT = 96,
};

/* Exit codes (APM volume 2, appendix C). */
enum vmcb_exit_code {
    VMEXIT_CR0_READ = 0x00,
    VMEXIT_CR4_READ = 0x04,
    VMEXIT_CR0_WRITE = 0x10,
    VMEXIT_CR4_WRITE = 0x14,
    VMEXIT_CR8_WRITE = 0x18,
    VMEXIT_EXCEPTION = 0x40, /* plus the vector */
    VMEXIT_INTR = 0x60,
    VMEXIT_NMI = 0x61,
    VMEXIT_SMI = 0x62,
    VMEXIT_INIT = 0x63,
    VMEXIT_VINTR = 0x64,
    VMEXIT_CR0_SELECTIVE = 0x65,
    VMEXIT_RDPMC = 0x6F,
    VMEXIT_CPUID = 0x72,
    VMEXIT_IRET = 0x74,
    VMEXIT_INVD = 0x76,
    VMEXIT_PAUSE = 0x77,
    VMEXIT_HLT = 0x78,
    VMEXIT_INVLPGA = 0x7A,
    VMEXIT_IOIO = 0x7B,
    VMEXIT_MSR = 0x7C,
    VMEXIT_SHUTDOWN = 0x7F,
    VMEXIT_VMRUN = 0x80,
    VMEXIT_VMMCALL = 0x81,
    VMEXIT_VMLOAD = 0x82,
    VMEXIT_VMSAVE = 0x83,
    VMEXIT_STGI = 0x84,
    VMEXIT_CLGI = 0x85,
    VMEXIT_SKINIT = 0x86,
    VMEXIT_WBINVD = 0x89,
    VMEXIT_MONITOR = 0x8A,
    VMEXIT_MWAIT = 0x8B,
    VMEXIT_XSETBV = 0x8D,
    VMEXIT_RDPRU = 0x8E,
    VMEXIT_INVLPGB = 0xA0,
    VMEXIT_INVLPGB_ILLEGAL = 0xA1,
    VMEXIT_MCOMMIT = 0xA3,
    VMEXIT_TLBSYNC = 0xA4,
    VMEXIT_TABLE_END,
    VMEXIT_NPF = 0x400,
    VMEXIT_INVALID = -1, /* 64 bits of ones on hardware, 32 in some emulators */
};

/* EXITINFO1 of an IOIO intercept. */
#define IOIO_IN(info)           ((info)&BIT(0))
#define IOIO_STRING(info)       ((info)&BIT(2))
#define IOIO_REP(info)          ((info)&BIT(3))
#define IOIO_SIZE(info)         ((u8)((info) >> 4 & 7))       /* one bit: 1, 2 or 4 bytes */
#define IOIO_ADDRESS_SIZE(info) ((u8)(((info) >> 7 & 7) * 2)) /* one bit: 2, 4 or 8 bytes */
#define IOIO_SEGMENT(info)      ((u8)((info) >> 10 & 7))      /* with decode assists */
#define IOIO_PORT(info)         ((u16)((info) >> 16))

/* EXITINFO1 of a nested page fault. */
#define NPF_WRITE BIT(1)
#define NPF_FETCH BIT(4)

#define MSR_EXIT_WRITE 1 /* EXITINFO1 of an MSR intercept */

/* Virtual interrupt control, offset 060h. */
#define VINTR_TPR          0xFULL /* V_TPR: what the guest sees as CR8 */
#define VINTR_IRQ          BIT(8)
#define VINTR_PRIORITY     (0xFULL << 16)
#define VINTR_IGNORE_TPR   BIT(20)
#define VINTR_MASKING      BIT(24)
#define VINTR_VECTOR_SHIFT 32
#define VINTR_VECTOR       (0xFFULL << VINTR_VECTOR_SHIFT)
#define VINTR_REQUEST      (VINTR_IRQ | VINTR_PRIORITY | VINTR_IGNORE_TPR)

/* EVENTINJ and EXITINTINFO, offsets 0A8h and 088h. */
#define EVENT_VECTOR(event)     ((u8)(event))
#define EVENT_KIND(event)       ((enum vmcb_event_kind)((event) >> 8 & 7))
#define EVENT_KIND_SHIFT        8
#define EVENT_ERROR_VALID       BIT(11)
#define EVENT_VALID             BIT(31)
#define EVENT_ERROR_CODE(event) ((u32)((event) >> 32))
#define EVENT_ERROR_CODE_SHIFT  32

enum vmcb_event_kind {
    EVENT_KIND_INTR = 0,
    EVENT_KIND_NMI = 2,
    EVENT_KIND_EXCEPTION = 3,
    EVENT_KIND_SOFTWARE = 4,
};

enum vmcb_tlb_control {
    TLB_KEEP = 0,
    TLB_FLUSH_ALL = 1,       /* the entries of all ASIDs on this CPU */
    TLB_FLUSH_THIS_ASID = 3, /* needs flush by ASID */
};

#define INTERRUPT_SHADOW BIT(0) /* offset 068h */
#define NP_ENABLE        BIT(0) /* offset 090h */
#define LBR_VIRTUALIZED  BIT(0) /* offset 0B8h */

#define FETCHED_BYTES_MAX 15

struct vmcb_segment {
    u16 selector;
    u16 attributes; /* bits 55:52 and 47:40 of a descriptor, as in struct segment */
    u32 limit;
    u64 base;
};

struct vmcb_control {
    u16 intercept_cr_read;
    u16 intercept_cr_write;
    u32 intercept_dr;
    u32 intercept_exceptions;
    u32 intercepts[INTERCEPT_COUNT / 32];
    u8 reserved_018[0x3C - 0x18];
    u16 pause_filter_threshold;
    u16 pause_filter_count;
    u64 iopm_base;
    u64 msrpm_base;
    u64 tsc_offset;
    u32 asid;
    u32 tlb_control; /* bits 7:0 */
    u64 vintr;
    u64 interrupt_shadow;
    u64 exit_code;
    u64 exit_info1;
    u64 exit_info2;
    u64 exit_int_info;
    u64 np_control;
    u8 reserved_098[0xA8 - 0x98];
    u64 event_injection;
    u64 n_cr3;
    u64 lbr_control;
    u32 clean;
    u32 reserved_0c4;
    u64 next_rip;
    u8 fetched_count;
    u8 fetched[FETCHED_BYTES_MAX];
    u8 reserved_0e0[0x400 - 0xE0];
};

struct vmcb_save {
    struct vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
    u8 reserved_0a0[0xCB - 0xA0];
    u8 cpl;
    u32 reserved_0cc;
    u64 efer;
    u8 reserved_0d8[0x148 - 0xD8];
    u64 cr4, cr3, cr0;
    u64 dr7, dr6;
    u64 rflags, rip;
    u8 reserved_180[0x1D8 - 0x180];
    u64 rsp;
    u64 s_cet, ssp, isst_addr;
    u64 rax;
    u64 star, lstar, cstar, sfmask, kernel_gs_base;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 cr2;
    u8 reserved_248[0x268 - 0x248];
    u64 g_pat;
    u64 debugctl;
    u8 reserved_278[0xC00 - 0x278];
};

struct vmcb {
    struct vmcb_control control;
    struct vmcb_save save;
};

_Static_assert(sizeof(struct vmcb) == 4096, "a VMCB is one page");
_Static_assert(offsetof(struct vmcb, save) == 0x400, "state save area");

#define CONTROL_AT(member, offset)                                                                 \
    _Static_assert(offsetof(struct vmcb_control, member) == (offset), #member)
CONTROL_AT(intercept_cr_read, 0x000);
CONTROL_AT(intercept_cr_write, 0x002);
CONTROL_AT(intercept_dr, 0x004);
CONTROL_AT(intercept_exceptions, 0x008);
CONTROL_AT(intercepts, 0x00C);
CONTROL_AT(pause_filter_threshold, 0x03C);
CONTROL_AT(pause_filter_count, 0x03E);
CONTROL_AT(iopm_base, 0x040);
CONTROL_AT(msrpm_base, 0x048);
CONTROL_AT(tsc_offset, 0x050);
CONTROL_AT(asid, 0x058);
CONTROL_AT(tlb_control, 0x05C);
CONTROL_AT(vintr, 0x060);
CONTROL_AT(interrupt_shadow, 0x068);
CONTROL_AT(exit_code, 0x070);
CONTROL_AT(exit_info1, 0x078);
CONTROL_AT(exit_info2, 0x080);
CONTROL_AT(exit_int_info, 0x088);
CONTROL_AT(np_control, 0x090);
CONTROL_AT(event_injection, 0x0A8);
CONTROL_AT(n_cr3, 0x0B0);
CONTROL_AT(lbr_control, 0x0B8);
CONTROL_AT(clean, 0x0C0);
CONTROL_AT(next_rip, 0x0C8);
CONTROL_AT(fetched_count, 0x0D0);
CONTROL_AT(fetched, 0x0D1);
#undef CONTROL_AT

#define SAVE_AT(member, offset)                                                                    \
    _Static_assert(offsetof(struct vmcb_save, member) == (offset), #member)
SAVE_AT(es, 0x000);
SAVE_AT(cs, 0x010);
SAVE_AT(ss, 0x020);
SAVE_AT(ds, 0x030);
SAVE_AT(fs, 0x040);
SAVE_AT(gs, 0x050);
SAVE_AT(gdtr, 0x060);
SAVE_AT(ldtr, 0x070);
SAVE_AT(idtr, 0x080);
SAVE_AT(tr, 0x090);
SAVE_AT(cpl, 0x0CB);
SAVE_AT(efer, 0x0D0);
SAVE_AT(cr4, 0x148);
SAVE_AT(cr3, 0x150);
SAVE_AT(cr0, 0x158);
SAVE_AT(dr7, 0x160);
SAVE_AT(dr6, 0x168);
SAVE_AT(rflags, 0x170);
SAVE_AT(rip, 0x178);
SAVE_AT(rsp, 0x1D8);
SAVE_AT(s_cet, 0x1E0);
SAVE_AT(rax, 0x1F8);
SAVE_AT(star, 0x200);
SAVE_AT(lstar, 0x208);
SAVE_AT(cstar, 0x210);
SAVE_AT(sfmask, 0x218);
SAVE_AT(kernel_gs_base, 0x220);
SAVE_AT(sysenter_cs, 0x228);
SAVE_AT(sysenter_esp, 0x230);
SAVE_AT(sysenter_eip, 0x238);
SAVE_AT(cr2, 0x240);
SAVE_AT(g_pat, 0x268);
SAVE_AT(debugctl, 0x270);
#undef SAVE_AT

/* vmcb_NAME reads, vmcb_set_NAME writes and keeps the clean bits true. */
#define VMCB_READ_ONLY(name, type, member)                                                         \
    static inline type vmcb_##name(const struct vmcb *vmcb)                                        \
    {                                                                                              \
        return vmcb->member;                                                                       \
    }
#define VMCB_FIELD(name, type, member, clean_bit)                                                  \
    VMCB_READ_ONLY(name, type, member)                                                             \
    static inline void vmcb_set_##name(struct vmcb *vmcb, type value)                              \
    {                                                                                              \
        if ((clean_bit) != CLEAN_NEVER_CACHED && vmcb->member == value)                            \
            return;                                                                                \
        vmcb->member = value;                                                                      \
        vmcb->control.clean &= ~(u32)(clean_bit);                                                  \
    }

VMCB_READ_ONLY(exit_code, u64, control.exit_code)
VMCB_READ_ONLY(exit_info1, u64, control.exit_info1)
VMCB_READ_ONLY(exit_info2, u64, control.exit_info2)
VMCB_READ_ONLY(exit_int_info, u64, control.exit_int_info)
VMCB_READ_ONLY(next_rip, u64, control.next_rip)

VMCB_FIELD(pause_filter_threshold, u16, control.pause_filter_threshold, CLEAN_INTERCEPTS)
VMCB_FIELD(pause_filter_count, u16, control.pause_filter_count, CLEAN_INTERCEPTS)
VMCB_FIELD(iopm_base, u64, control.iopm_base, CLEAN_PERMISSION_MAPS)
VMCB_FIELD(msrpm_base, u64, control.msrpm_base, CLEAN_PERMISSION_MAPS)
VMCB_FIELD(tsc_offset, u64, control.tsc_offset, CLEAN_INTERCEPTS)
VMCB_FIELD(asid, u32, control.asid, CLEAN_ASID)
VMCB_FIELD(tlb_control, u32, control.tlb_control, CLEAN_NEVER_CACHED)
VMCB_FIELD(vintr, u64, control.vintr, CLEAN_TPR)
VMCB_FIELD(interrupt_shadow, u64, control.interrupt_shadow, CLEAN_NEVER_CACHED)
VMCB_FIELD(np_control, u64, control.np_control, CLEAN_NESTED)
VMCB_FIELD(event_injection, u64, control.event_injection, CLEAN_NEVER_CACHED)
VMCB_FIELD(n_cr3, u64, control.n_cr3, CLEAN_NESTED)
VMCB_FIELD(lbr_control, u64, control.lbr_control, CLEAN_LBR)

VMCB_FIELD(cpl, u8, save.cpl, CLEAN_SEGMENTS)
VMCB_FIELD(efer, u64, save.efer, CLEAN_CR)
VMCB_FIELD(cr4, u64, save.cr4, CLEAN_CR)
VMCB_FIELD(cr3, u64, save.cr3, CLEAN_CR)
VMCB_FIELD(cr0, u64, save.cr0, CLEAN_CR)
VMCB_FIELD(dr7, u64, save.dr7, CLEAN_DR)
VMCB_FIELD(dr6, u64, save.dr6, CLEAN_DR)
VMCB_FIELD(rflags, u64, save.rflags, CLEAN_NEVER_CACHED)
VMCB_FIELD(rip, u64, save.rip, CLEAN_NEVER_CACHED)
VMCB_FIELD(rsp, u64, save.rsp, CLEAN_NEVER_CACHED)
VMCB_FIELD(rax, u64, save.rax, CLEAN_NEVER_CACHED)
VMCB_FIELD(cr2, u64, save.cr2, CLEAN_CR2)
VMCB_FIELD(g_pat, u64, save.g_pat, CLEAN_NESTED)
VMCB_FIELD(debugctl, u64, save.debugctl, CLEAN_LBR)

/* What VMLOAD loads is read from memory each time. */
VMCB_FIELD(fs_base, u64, save.fs.base, CLEAN_NEVER_CACHED)
VMCB_FIELD(gs_base, u64, save.gs.base, CLEAN_NEVER_CACHED)
VMCB_FIELD(star, u64, save.star, CLEAN_NEVER_CACHED)
VMCB_FIELD(lstar, u64, save.lstar, CLEAN_NEVER_CACHED)
VMCB_FIELD(cstar, u64, save.cstar, CLEAN_NEVER_CACHED)
VMCB_FIELD(sfmask, u64, save.sfmask, CLEAN_NEVER_CACHED)
VMCB_FIELD(kernel_gs_base, u64, save.kernel_gs_base, CLEAN_NEVER_CACHED)
VMCB_FIELD(sysenter_cs, u64, save.sysenter_cs, CLEAN_NEVER_CACHED)
VMCB_FIELD(sysenter_esp, u64, save.sysenter_esp, CLEAN_NEVER_CACHED)
VMCB_FIELD(sysenter_eip, u64, save.sysenter_eip, CLEAN_NEVER_CACHED)

#undef VMCB_FIELD
#undef VMCB_READ_ONLY

/* Segments and descriptor tables by their position in the save area. */
enum vmcb_segment_index {
    VMCB_ES,
    VMCB_CS,
    VMCB_SS,
    VMCB_DS,
    VMCB_FS,
    VMCB_GS,
    VMCB_GDTR,
    VMCB_LDTR,
    VMCB_IDTR,
    VMCB_TR,
};

_Static_assert(offsetof(struct vmcb_save, tr) == VMCB_TR * sizeof(struct vmcb_segment),
               "the segments are an array");

static inline struct vmcb_segment vmcb_segment(const struct vmcb *vmcb,
                                               enum vmcb_segment_index which)
{
    return (&vmcb->save.es)[which];
}

/* APM volume 2, "Long Mode": CS.L, as struct segment has it, in long mode. */
static inline bool svm_in_64bit_code(const struct vmcb *vmcb)
{
    return (vmcb->save.efer & BIT(10)) && (vmcb->save.cs.attributes & BIT(9));
}

static inline void vmcb_set_segment(struct vmcb *vmcb, enum vmcb_segment_index which,
                                    struct vmcb_segment value)
{
    (&vmcb->save.es)[which] = value;
    vmcb->control.clean &= ~(u32)(CLEAN_SEGMENTS | CLEAN_DESCRIPTOR_TABLES);
}

static inline void vmcb_set_intercept(struct vmcb *vmcb, enum vmcb_intercept which, bool on)
{
    u32 *word = &vmcb->control.intercepts[which / 32];
    u32 value = on ? *word | 1U << which % 32 : *word & ~(1U << which % 32);

    if (*word == value)
        return;
    *word = value;
    vmcb->control.clean &= ~(u32)CLEAN_INTERCEPTS;
}

/* Bit N of the masks: control register N. */
static inline void vmcb_set_cr_intercepts(struct vmcb *vmcb, u16 reads, u16 writes)
{
    struct vmcb_control *control = &vmcb->control;

    if (control->intercept_cr_read == reads && control->intercept_cr_write == writes)
        return;
    control->intercept_cr_read = reads;
    control->intercept_cr_write = writes;
    control->clean &= ~(u32)CLEAN_INTERCEPTS;
}

static inline u16 vmcb_cr_read_intercepts(const struct vmcb *vmcb)
{
    return vmcb->control.intercept_cr_read;
}

static inline u16 vmcb_cr_write_intercepts(const struct vmcb *vmcb)
{
    return vmcb->control.intercept_cr_write;
}

/* Bit N: exception N. */
static inline void vmcb_set_exception_intercepts(struct vmcb *vmcb, u32 exceptions)
{
    vmcb->control.intercept_exceptions = exceptions;
    vmcb->control.clean &= ~(u32)CLEAN_INTERCEPTS;
}

/* The instruction bytes of a nested page fault, where the CPU has decode assists. */
static inline u8 vmcb_fetched_bytes(const struct vmcb *vmcb, u8 bytes[FETCHED_BYTES_MAX])
{
    for (u32 i = 0; i < FETCHED_BYTES_MAX; i++)
        bytes[i] = vmcb->control.fetched[i];
    return MIN(vmcb->control.fetched_count, FETCHED_BYTES_MAX);
}

/* The CPU that is to run the VMCB next has nothing of it cached. */
static inline void vmcb_set_all_dirty(struct vmcb *vmcb)
{
    vmcb->control.clean = 0;
}

/* It was just run on this CPU: nothing has changed since. */
static inline void vmcb_set_all_clean(struct vmcb *vmcb)
{
    vmcb->control.clean = CLEAN_ALL;
}

#endif
