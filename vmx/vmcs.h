/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_VMX_VMCS_H
#define BULKHEAD_VMX_VMCS_H

/* The virtual-machine control structure in the manual's words (Intel SDM volume 3, appendices A
 * to C and the chapter "Virtual Machine Control Structures"). */

#include "core/panic.h"
#include "lib/types.h"
#include "mm/page.h"

/* SDM volume 3, "Field Encoding in VMCS". */
enum vmcs_field {
    /* 16-bit control fields */
    VMCS_VIRTUAL_PROCESSOR_ID = 0x0000,
    VMCS_POSTED_INTERRUPT_NOTIFICATION_VECTOR = 0x0002,
    VMCS_EPTP_INDEX = 0x0004,

    /* 16-bit guest-state fields */
    VMCS_GUEST_ES_SELECTOR = 0x0800,
    VMCS_GUEST_CS_SELECTOR = 0x0802,
    VMCS_GUEST_SS_SELECTOR = 0x0804,
    VMCS_GUEST_DS_SELECTOR = 0x0806,
    VMCS_GUEST_FS_SELECTOR = 0x0808,
    VMCS_GUEST_GS_SELECTOR = 0x080A,
    VMCS_GUEST_LDTR_SELECTOR = 0x080C,
    VMCS_GUEST_TR_SELECTOR = 0x080E,
    VMCS_GUEST_INTERRUPT_STATUS = 0x0810,
    VMCS_PML_INDEX = 0x0812,

    /* 16-bit host-state fields */
    VMCS_HOST_ES_SELECTOR = 0x0C00,
    VMCS_HOST_CS_SELECTOR = 0x0C02,
    VMCS_HOST_SS_SELECTOR = 0x0C04,
    VMCS_HOST_DS_SELECTOR = 0x0C06,
    VMCS_HOST_FS_SELECTOR = 0x0C08,
    VMCS_HOST_GS_SELECTOR = 0x0C0A,
    VMCS_HOST_TR_SELECTOR = 0x0C0C,

    /* 64-bit control fields */
    VMCS_IO_BITMAP_A_ADDRESS = 0x2000,
    VMCS_IO_BITMAP_B_ADDRESS = 0x2002,
    VMCS_MSR_BITMAP_ADDRESS = 0x2004,
    VMCS_EXIT_MSR_STORE_ADDRESS = 0x2006,
    VMCS_EXIT_MSR_LOAD_ADDRESS = 0x2008,
    VMCS_ENTRY_MSR_LOAD_ADDRESS = 0x200A,
    VMCS_EXECUTIVE_VMCS_POINTER = 0x200C,
    VMCS_PML_ADDRESS = 0x200E,
    VMCS_TSC_OFFSET = 0x2010,
    VMCS_VIRTUAL_APIC_ADDRESS = 0x2012,
    VMCS_APIC_ACCESS_ADDRESS = 0x2014,
    VMCS_POSTED_INTERRUPT_DESCRIPTOR_ADDRESS = 0x2016,
    VMCS_VM_FUNCTION_CONTROLS = 0x2018,
    VMCS_EPT_POINTER = 0x201A,
    VMCS_EOI_EXIT_BITMAP_0 = 0x201C,
    VMCS_EOI_EXIT_BITMAP_1 = 0x201E,
    VMCS_EOI_EXIT_BITMAP_2 = 0x2020,
    VMCS_EOI_EXIT_BITMAP_3 = 0x2022,
    VMCS_EPTP_LIST_ADDRESS = 0x2024,
    VMCS_VMREAD_BITMAP_ADDRESS = 0x2026,
    VMCS_VMWRITE_BITMAP_ADDRESS = 0x2028,
    VMCS_VIRTUALIZATION_EXCEPTION_ADDRESS = 0x202A,
    VMCS_XSS_EXITING_BITMAP = 0x202C,
    VMCS_ENCLS_EXITING_BITMAP = 0x202E,
    VMCS_TSC_MULTIPLIER = 0x2032,

    /* 64-bit read-only data field */
    VMCS_GUEST_PHYSICAL_ADDRESS = 0x2400,

    /* 64-bit guest-state fields */
    VMCS_LINK_POINTER = 0x2800,
    VMCS_GUEST_IA32_DEBUGCTL = 0x2802,
    VMCS_GUEST_IA32_PAT = 0x2804,
    VMCS_GUEST_IA32_EFER = 0x2806,
    VMCS_GUEST_IA32_PERF_GLOBAL_CTRL = 0x2808,
    VMCS_GUEST_PDPTE0 = 0x280A,
    VMCS_GUEST_PDPTE1 = 0x280C,
    VMCS_GUEST_PDPTE2 = 0x280E,
    VMCS_GUEST_PDPTE3 = 0x2810,
    VMCS_GUEST_IA32_BNDCFGS = 0x2812,

    /* 64-bit host-state fields */
    VMCS_HOST_IA32_PAT = 0x2C00,
    VMCS_HOST_IA32_EFER = 0x2C02,
    VMCS_HOST_IA32_PERF_GLOBAL_CTRL = 0x2C04,

    /* 32-bit control fields */
    VMCS_PIN_BASED_CONTROLS = 0x4000,
    VMCS_PRIMARY_CONTROLS = 0x4002,
    VMCS_EXCEPTION_BITMAP = 0x4004,
    VMCS_PAGE_FAULT_ERROR_CODE_MASK = 0x4006,
    VMCS_PAGE_FAULT_ERROR_CODE_MATCH = 0x4008,
    VMCS_CR3_TARGET_COUNT = 0x400A,
    VMCS_EXIT_CONTROLS = 0x400C,
    VMCS_EXIT_MSR_STORE_COUNT = 0x400E,
    VMCS_EXIT_MSR_LOAD_COUNT = 0x4010,
    VMCS_ENTRY_CONTROLS = 0x4012,
    VMCS_ENTRY_MSR_LOAD_COUNT = 0x4014,
    VMCS_ENTRY_INTERRUPTION_INFORMATION = 0x4016,
    VMCS_ENTRY_EXCEPTION_ERROR_CODE = 0x4018,
    VMCS_ENTRY_INSTRUCTION_LENGTH = 0x401A,
    VMCS_TPR_THRESHOLD = 0x401C,
    VMCS_SECONDARY_CONTROLS = 0x401E,
    VMCS_PLE_GAP = 0x4020,
    VMCS_PLE_WINDOW = 0x4022,

    /* 32-bit read-only data fields */
    VMCS_INSTRUCTION_ERROR = 0x4400,
    VMCS_EXIT_REASON = 0x4402,
    VMCS_EXIT_INTERRUPTION_INFORMATION = 0x4404,
    VMCS_EXIT_INTERRUPTION_ERROR_CODE = 0x4406,
    VMCS_IDT_VECTORING_INFORMATION = 0x4408,
    VMCS_IDT_VECTORING_ERROR_CODE = 0x440A,
    VMCS_EXIT_INSTRUCTION_LENGTH = 0x440C,
    VMCS_EXIT_INSTRUCTION_INFORMATION = 0x440E,

    /* 32-bit guest-state fields */
    VMCS_GUEST_ES_LIMIT = 0x4800,
    VMCS_GUEST_CS_LIMIT = 0x4802,
    VMCS_GUEST_SS_LIMIT = 0x4804,
    VMCS_GUEST_DS_LIMIT = 0x4806,
    VMCS_GUEST_FS_LIMIT = 0x4808,
    VMCS_GUEST_GS_LIMIT = 0x480A,
    VMCS_GUEST_LDTR_LIMIT = 0x480C,
    VMCS_GUEST_TR_LIMIT = 0x480E,
    VMCS_GUEST_GDTR_LIMIT = 0x4810,
    VMCS_GUEST_IDTR_LIMIT = 0x4812,
    VMCS_GUEST_ES_ACCESS_RIGHTS = 0x4814,
    VMCS_GUEST_CS_ACCESS_RIGHTS = 0x4816,
    VMCS_GUEST_SS_ACCESS_RIGHTS = 0x4818,
    VMCS_GUEST_DS_ACCESS_RIGHTS = 0x481A,
    VMCS_GUEST_FS_ACCESS_RIGHTS = 0x481C,
    VMCS_GUEST_GS_ACCESS_RIGHTS = 0x481E,
    VMCS_GUEST_LDTR_ACCESS_RIGHTS = 0x4820,
    VMCS_GUEST_TR_ACCESS_RIGHTS = 0x4822,
    VMCS_GUEST_INTERRUPTIBILITY_STATE = 0x4824,
    VMCS_GUEST_ACTIVITY_STATE = 0x4826,
    VMCS_GUEST_SMBASE = 0x4828,
    VMCS_GUEST_IA32_SYSENTER_CS = 0x482A,
    VMCS_PREEMPTION_TIMER_VALUE = 0x482E,

    /* 32-bit host-state field */
    VMCS_HOST_IA32_SYSENTER_CS = 0x4C00,

    /* Natural-width control fields */
    VMCS_CR0_GUEST_HOST_MASK = 0x6000,
    VMCS_CR4_GUEST_HOST_MASK = 0x6002,
    VMCS_CR0_READ_SHADOW = 0x6004,
    VMCS_CR4_READ_SHADOW = 0x6006,
    VMCS_CR3_TARGET_VALUE_0 = 0x6008,
    VMCS_CR3_TARGET_VALUE_1 = 0x600A,
    VMCS_CR3_TARGET_VALUE_2 = 0x600C,
    VMCS_CR3_TARGET_VALUE_3 = 0x600E,

    /* Natural-width read-only data fields */
    VMCS_EXIT_QUALIFICATION = 0x6400,
    VMCS_IO_RCX = 0x6402,
    VMCS_IO_RSI = 0x6404,
    VMCS_IO_RDI = 0x6406,
    VMCS_IO_RIP = 0x6408,
    VMCS_GUEST_LINEAR_ADDRESS = 0x640A,

    /* Natural-width guest-state fields */
    VMCS_GUEST_CR0 = 0x6800,
    VMCS_GUEST_CR3 = 0x6802,
    VMCS_GUEST_CR4 = 0x6804,
    VMCS_GUEST_ES_BASE = 0x6806,
    VMCS_GUEST_CS_BASE = 0x6808,
    VMCS_GUEST_SS_BASE = 0x680A,
    VMCS_GUEST_DS_BASE = 0x680C,
    VMCS_GUEST_FS_BASE = 0x680E,
    VMCS_GUEST_GS_BASE = 0x6810,
    VMCS_GUEST_LDTR_BASE = 0x6812,
    VMCS_GUEST_TR_BASE = 0x6814,
    VMCS_GUEST_GDTR_BASE = 0x6816,
    VMCS_GUEST_IDTR_BASE = 0x6818,
    VMCS_GUEST_DR7 = 0x681A,
    VMCS_GUEST_RSP = 0x681C,
    VMCS_GUEST_RIP = 0x681E,
    VMCS_GUEST_RFLAGS = 0x6820,
    VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS = 0x6822,
    VMCS_GUEST_IA32_SYSENTER_ESP = 0x6824,
    VMCS_GUEST_IA32_SYSENTER_EIP = 0x6826,

    /* Natural-width host-state fields */
    VMCS_HOST_CR0 = 0x6C00,
    VMCS_HOST_CR3 = 0x6C02,
    VMCS_HOST_CR4 = 0x6C04,
    VMCS_HOST_FS_BASE = 0x6C06,
    VMCS_HOST_GS_BASE = 0x6C08,
    VMCS_HOST_TR_BASE = 0x6C0A,
    VMCS_HOST_GDTR_BASE = 0x6C0C,
    VMCS_HOST_IDTR_BASE = 0x6C0E,
    VMCS_HOST_IA32_SYSENTER_ESP = 0x6C10,
    VMCS_HOST_IA32_SYSENTER_EIP = 0x6C12,
    VMCS_HOST_RSP = 0x6C14, /* entry.asm knows this one too */
    VMCS_HOST_RIP = 0x6C16,
};

/* From one segment register's field to the next one's, in the order of enum segment_register. */
#define VMCS_SEGMENT_STRIDE 2

/* SDM volume 3, "Pin-Based VM-Execution Controls". */
enum pin_based_control {
    PIN_EXTERNAL_INTERRUPT_EXITING = 1 << 0,
    PIN_NMI_EXITING = 1 << 3,
    PIN_VIRTUAL_NMIS = 1 << 5,
    PIN_PREEMPTION_TIMER = 1 << 6,
    PIN_POSTED_INTERRUPTS = 1 << 7,
};

/* SDM volume 3, "Processor-Based VM-Execution Controls". */
enum primary_control {
    PRIMARY_INTERRUPT_WINDOW_EXITING = 1 << 2,
    PRIMARY_TSC_OFFSETTING = 1 << 3,
    PRIMARY_HLT_EXITING = 1 << 7,
    PRIMARY_MWAIT_EXITING = 1 << 10,
    PRIMARY_RDPMC_EXITING = 1 << 11,
    PRIMARY_CR8_LOAD_EXITING = 1 << 19,
    PRIMARY_CR8_STORE_EXITING = 1 << 20,
    PRIMARY_TPR_SHADOW = 1 << 21,
    PRIMARY_NMI_WINDOW_EXITING = 1 << 22,
    PRIMARY_UNCONDITIONAL_IO_EXITING = 1 << 24,
    PRIMARY_MSR_BITMAPS = 1 << 28,
    PRIMARY_MONITOR_EXITING = 1 << 29,
};
#define PRIMARY_SECONDARY_CONTROLS (1U << 31)

enum secondary_control {
    SECONDARY_VIRTUALIZE_APIC_ACCESSES = 1 << 0,
    SECONDARY_EPT = 1 << 1,
    SECONDARY_RDTSCP = 1 << 3,
    SECONDARY_VIRTUALIZE_X2APIC_MODE = 1 << 4,
    SECONDARY_VPID = 1 << 5,
    SECONDARY_UNRESTRICTED_GUEST = 1 << 7,
    SECONDARY_APIC_REGISTER_VIRTUALIZATION = 1 << 8,
    SECONDARY_VIRTUAL_INTERRUPT_DELIVERY = 1 << 9,
    SECONDARY_PAUSE_LOOP_EXITING = 1 << 10,
    SECONDARY_INVPCID = 1 << 12,
    SECONDARY_VM_FUNCTIONS = 1 << 13,
    SECONDARY_VMCS_SHADOWING = 1 << 14,
    SECONDARY_ENCLS_EXITING = 1 << 15,
    SECONDARY_PAGE_MODIFICATION_LOGGING = 1 << 17,
    SECONDARY_XSAVES = 1 << 20,
    SECONDARY_TSC_SCALING = 1 << 25,
};

/* SDM volume 3, "Primary VM-Exit Controls" and "VM-Entry Controls". */
enum exit_control {
    EXIT_CONTROL_SAVE_DEBUG_CONTROLS = 1 << 2,
    EXIT_CONTROL_HOST_ADDRESS_SPACE_SIZE = 1 << 9,
    EXIT_CONTROL_SAVE_PAT = 1 << 18,
    EXIT_CONTROL_LOAD_PAT = 1 << 19,
    EXIT_CONTROL_SAVE_EFER = 1 << 20,
    EXIT_CONTROL_LOAD_EFER = 1 << 21,
    EXIT_CONTROL_SAVE_PREEMPTION_TIMER = 1 << 22,
};

enum entry_control {
    ENTRY_CONTROL_LOAD_DEBUG_CONTROLS = 1 << 2,
    ENTRY_CONTROL_IA32E_MODE_GUEST = 1 << 9,
    ENTRY_CONTROL_LOAD_PAT = 1 << 14,
    ENTRY_CONTROL_LOAD_EFER = 1 << 15,
};

/* IA32_VMX_EPT_VPID_CAP: SDM volume 3, "VPID and EPT Capabilities". */
#define EPT_VPID_PAGE_WALK_4            BIT(6)
#define EPT_VPID_WRITE_BACK             BIT(14)
#define EPT_VPID_2MIB_PAGES             BIT(16)
#define EPT_VPID_1GIB_PAGES             BIT(17)
#define EPT_VPID_INVEPT                 BIT(20)
#define EPT_VPID_ACCESSED_DIRTY         BIT(21)
#define EPT_VPID_INVEPT_SINGLE_CONTEXT  BIT(25)
#define EPT_VPID_INVVPID                BIT(32)
#define EPT_VPID_INVVPID_SINGLE_CONTEXT BIT(41)

/* EPTP: SDM volume 3, "Extended-Page-Table Pointer (EPTP)". */
enum ept_pointer {
    EPTP_WRITE_BACK = 6,
    EPTP_PAGE_WALK_4 = 3 << 3,
    EPTP_ACCESSED_DIRTY = 1 << 6,
};

/* Interruption information: for exits, vectoring and entries alike (SDM volume 3, "Format of the
 * VM-Entry Interruption-Information Field"). */
enum interruption_information {
    INTERRUPTION_VECTOR_MASK = 0xFF,
    INTERRUPTION_TYPE_SHIFT = 8,
    INTERRUPTION_TYPE_MASK = 7 << 8,
    INTERRUPTION_ERROR_CODE = 1 << 11,
    INTERRUPTION_NMI_UNBLOCKED = 1 << 12, /* exits: IRET had ended blocking by NMI */
};
#define INTERRUPTION_VALID (1U << 31)

enum interruption_type {
    INTERRUPTION_EXTERNAL = 0 << INTERRUPTION_TYPE_SHIFT,
    INTERRUPTION_NMI = 2 << INTERRUPTION_TYPE_SHIFT,
    INTERRUPTION_HARDWARE_EXCEPTION = 3 << INTERRUPTION_TYPE_SHIFT,
    INTERRUPTION_SOFTWARE_INTERRUPT = 4 << INTERRUPTION_TYPE_SHIFT,
    INTERRUPTION_PRIVILEGED_SOFTWARE_EXCEPTION = 5 << INTERRUPTION_TYPE_SHIFT,
    INTERRUPTION_SOFTWARE_EXCEPTION = 6 << INTERRUPTION_TYPE_SHIFT,
};

/* SDM volume 3, "VMX Basic Exit Reasons". */
enum exit_reason {
    REASON_EXCEPTION_OR_NMI = 0,
    REASON_EXTERNAL_INTERRUPT = 1,
    REASON_TRIPLE_FAULT = 2,
    REASON_INIT_SIGNAL = 3,
    REASON_STARTUP_IPI = 4,
    REASON_INTERRUPT_WINDOW = 7,
    REASON_NMI_WINDOW = 8,
    REASON_TASK_SWITCH = 9,
    REASON_CPUID = 10,
    REASON_GETSEC = 11,
    REASON_HLT = 12,
    REASON_INVD = 13,
    REASON_RDPMC = 15,
    REASON_RSM = 17,
    REASON_VMCALL = 18,
    REASON_VMCLEAR = 19,
    REASON_VMLAUNCH = 20,
    REASON_VMPTRLD = 21,
    REASON_VMPTRST = 22,
    REASON_VMREAD = 23,
    REASON_VMRESUME = 24,
    REASON_VMWRITE = 25,
    REASON_VMXOFF = 26,
    REASON_VMXON = 27,
    REASON_CR_ACCESS = 28,
    REASON_IO_INSTRUCTION = 30,
    REASON_RDMSR = 31,
    REASON_WRMSR = 32,
    REASON_INVALID_GUEST_STATE = 33,
    REASON_MSR_LOADING = 34,
    REASON_MWAIT = 36,
    REASON_MONITOR = 39,
    REASON_PAUSE = 40,
    REASON_ENTRY_MACHINE_CHECK = 41,
    REASON_TPR_BELOW_THRESHOLD = 43,
    REASON_APIC_ACCESS = 44,
    REASON_VIRTUALIZED_EOI = 45,
    REASON_EPT_VIOLATION = 48,
    REASON_EPT_MISCONFIGURATION = 49,
    REASON_INVEPT = 50,
    REASON_PREEMPTION_TIMER = 52,
    REASON_INVVPID = 53,
    REASON_WBINVD = 54,
    REASON_XSETBV = 55,
    REASON_APIC_WRITE = 56,
    REASON_VMFUNC = 59,
    REASON_ENCLS = 60,
};
#define EXIT_REASON_BASIC_MASK    0xFFFF
#define EXIT_REASON_ENTRY_FAILURE (1U << 31)

/* Exit qualifications: SDM volume 3, "Exit Qualification" and its tables. */
enum cr_qualification {
    CR_NUMBER_MASK = 0xF,
    CR_ACCESS_MASK = 3 << 4,
    CR_ACCESS_MOV_TO = 0 << 4,
    CR_ACCESS_MOV_FROM = 1 << 4,
    CR_GPR_SHIFT = 8,
    CR_GPR_MASK = 0xF,
};

enum io_qualification {
    IO_SIZE_MASK = 7, /* bytes minus one */
    IO_IN = 1 << 3,
    IO_STRING = 1 << 4,
    IO_REP = 1 << 5,
    IO_PORT_SHIFT = 16,
};

/* Instruction information of INS and OUTS. */
enum io_instruction_information {
    IO_ADDRESS_SIZE_SHIFT = 7, /* 0, 1, 2: 16, 32, 64 bits */
    IO_ADDRESS_SIZE_MASK = 7,
    IO_SEGMENT_SHIFT = 15, /* as enum segment_register */
    IO_SEGMENT_MASK = 7,
};

enum apic_access_qualification {
    APIC_ACCESS_OFFSET_MASK = 0xFFF,
    APIC_ACCESS_TYPE_MASK = 0xF << 12,
    APIC_ACCESS_WRITE = 1 << 12,
    APIC_ACCESS_FETCH = 2 << 12,
};

enum ept_qualification {
    EPT_WRITE = 1 << 1,
    EPT_FETCH = 1 << 2,
    EPT_NMI_UNBLOCKED = 1 << 12,
};

#define DEBUG_QUALIFICATION_MASK 0x600FULL /* B3:B0, BD and BS, in their places in DR6 */

struct vmcs {
    u32 revision;
    u32 abort_indicator;
    u8 data[PAGE_SIZE - 8];
};

_Static_assert(sizeof(struct vmcs) == PAGE_SIZE, "VMXON and VMCS regions take a page");

/* SDM volume 3, "MSR-Bitmap Address". Bit N of each KiB: the access exits. */
#define MSR_BITMAP_HIGH_BASE 0xC0000000U

struct msr_bitmap {
    u8 read_low[1024];  /* MSRs 0 to 1FFFh */
    u8 read_high[1024]; /* MSRs C0000000h to C0001FFFh */
    u8 write_low[1024];
    u8 write_high[1024];
};

_Static_assert(sizeof(struct msr_bitmap) == PAGE_SIZE, "one page");

_Noreturn void vmcs_access_failed(const char *instruction, enum vmcs_field field);

static inline u64 vmread(enum vmcs_field field)
{
    u64 value;
    bool failed;

    __asm__ volatile("vmread %2, %0" : "=r"(value), "=@ccbe"(failed) : "r"((u64)field));
    if (__builtin_expect(failed, 0))
        vmcs_access_failed("VMREAD", field);
    return value;
}

static inline void vmwrite(enum vmcs_field field, u64 value)
{
    bool failed;

    __asm__ volatile("vmwrite %2, %1" : "=@ccbe"(failed) : "r"((u64)field), "rm"(value));
    if (__builtin_expect(failed, 0))
        vmcs_access_failed("VMWRITE", field);
}

/* For fields that most exits need. They cannot fail there: an exit leaves its VMCS current, and
 * CPUs that can run a guest as it is run here have these fields. */
static inline u64 vmread_unchecked(enum vmcs_field field)
{
    u64 value;

    __asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((u64)field) : "cc");
    return value;
}

static inline void vmwrite_unchecked(enum vmcs_field field, u64 value)
{
    __asm__ volatile("vmwrite %1, %0" ::"r"((u64)field), "rm"(value) : "cc");
}

struct vmcs_value {
    enum vmcs_field field;
    u64 value;
};

void vmwrite_table(const struct vmcs_value *table, size_t count);

#endif
