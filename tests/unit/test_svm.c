/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* The AMD-V backend on a make-believe CPU: svm_run is played by a function that looks at the VMCB
 * as VMRUN would and leaves an exit in it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/cpu.h"

static u64 mcg_status;

static bool model_rdmsr_try(u32 msr, u64 *value)
{
    assert_int_equal(msr, 0x17A);
    *value = mcg_status;
    return true;
}

static void model_wrmsr(u32 msr, u64 value);
#define wrmsr     model_wrmsr
#define rdmsr_try model_rdmsr_try

#include "svm/control_registers.c"
#include "svm/events.c"
#include "svm/exit.c"
#include "svm/fast.c"
#include "svm/permissions.c"
#include "svm/svm.c"

#define ASIDS 4

static struct vm vm;
static struct lapic lapic;
static struct cpu cpu[2];
static struct hvm_cpu hvm_cpu[2];
static struct hvm_vcpu hvm_vcpu;
static struct vcpu vcpu;
static struct vmcb *vmcb;

/* What the guest's code and mode are. */
static u8 code[INSN_MAX_LENGTH];
static size_t code_size;
static enum insn_mode mode;
static u64 cr4_allowed, cr4_withheld;

/* What the make-believe CPU does, and saw. */
static void (*guest)(struct vmcb *vmcb, u64 gpr[GPR_COUNT]);
static struct vmcb seen;
static u64 tsc_ratio;

static void model_wrmsr(u32 msr, u64 value)
{
    assert_int_equal(msr, 0xC0000104);
    assert_int_equal(value >> 40, 0); /* reserved */
    tsc_ratio = value;
}

struct svm_cpuid svm_cpuid;

size_t vcpu_fetch(struct vcpu *v, u8 *bytes, size_t size)
{
    size_t count = MIN(size, code_size);

    memcpy(bytes, code, count);
    return count;
}

enum insn_mode vcpu_insn_mode(struct vcpu *v)
{
    return mode;
}

u64 vcpu_cr4_allowed(const struct vcpu *v)
{
    return cr4_allowed;
}

u64 vcpu_cr4_withheld(const struct vcpu *v)
{
    return cr4_withheld;
}

/* Shared code's short answers. */
static u16 answered_port;

enum exit_kind vcpu_fast_port(struct vcpu *v, u16 port, u8 size, bool write)
{
    answered_port = port;
    return EXIT_PORT;
}

static bool wrote;

enum exit_kind vcpu_fast_memory(struct vcpu *v, u64 gpa, u64 cr3, u64 rip, bool write)
{
    wrote = write;
    return EXIT_NONE;
}

enum exit_kind vcpu_fast_cpuid(struct vcpu *v)
{
    return EXIT_CPUID;
}

enum exit_kind vcpu_fast_hypercall(struct vcpu *v)
{
    return EXIT_HYPERCALL;
}

enum exit_kind vcpu_fast_hlt(struct vcpu *v)
{
    return EXIT_HLT;
}

enum exit_kind vcpu_fast_rdmsr(struct vcpu *v)
{
    return EXIT_RDMSR;
}

enum exit_kind vcpu_fast_wrmsr(struct vcpu *v)
{
    return EXIT_WRMSR;
}

bool vcpu_fast_offer(struct vcpu *v)
{
    return true;
}

void log_print(enum log_level level, const char *format, ...)
{
}

bool svm_probe(struct hvm_report *report)
{
    return false;
}

bool svm_check_features(u32 index)
{
    return true;
}

bool svm_unlock(bool *changed)
{
    return true;
}

void svm_vmsave(paddr_t at)
{
}

void svm_load_state(struct vcpu *v, const struct vcpu_state *state)
{
}

void svm_save_state(struct vcpu *v, struct vcpu_state *state)
{
}

u64 svm_read_register(struct vcpu *v, enum hvm_register which)
{
    return 0;
}

void svm_write_register(struct vcpu *v, enum hvm_register which, u64 value)
{
}

void svm_read_segment(struct vcpu *v, enum segment_register which, struct segment *segment)
{
    segment->attributes = mode == INSN_MODE_64 ? SEG_ATTR_L : 0;
}

void svm_switch_in(struct vcpu *v)
{
}

void svm_switch_out(struct vcpu *v)
{
}

const struct page_table_format page_format_x86;

void *pool_alloc(u64 pages)
{
    void *memory = aligned_alloc(PAGE_SIZE, pages * PAGE_SIZE);

    memset(memory, 0, pages * PAGE_SIZE);
    return memory;
}

void pool_free(void *memory, u64 pages)
{
    free(memory);
}

void *vm_alloc(struct vm *vm, u64 pages)
{
    return pool_alloc(pages);
}

void vm_free(struct vm *vm, void *memory, u64 pages)
{
    pool_free(memory, pages);
}

paddr_t pool_physical(const void *memory)
{
    return (paddr_t)memory;
}

/* The fast path answers nothing. */
enum svm_outcome svm_run(struct vcpu *v, paddr_t guest_vmcb, paddr_t host_vmcb)
{
    struct vmcb *running = (struct vmcb *)guest_vmcb;

    seen = *running;
    running->control.exit_int_info = 0;
    running->control.event_injection = 0;
    guest(running, v->gpr);
    vmcb_set_all_clean(running);
    v->gpr[GPR_RAX] = vmcb_rax(running);
    return SVM_EXITED;
}

enum svm_outcome svm_guarded_run(struct vcpu *v, paddr_t guest_vmcb, paddr_t host_vmcb)
{
    return svm_run(v, guest_vmcb, host_vmcb);
}

static void set_code(enum insn_mode in, const char *bytes, size_t size)
{
    mode = in;
    code_size = size;
    memcpy(code, bytes, size);
}

#define CODE(mode, bytes) set_code(mode, bytes, sizeof(bytes) - 1)

static struct exit run(void (*as)(struct vmcb *vmcb, u64 gpr[GPR_COUNT]))
{
    struct exit exit;

    guest = as;
    svm_ops.enter(&vcpu, 0, &exit);
    return exit;
}

static void interrupted(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_INTR;
}

static int set_up(void **state)
{
    svm_cpuid = (struct svm_cpuid){.svm = true, .asids = ASIDS};
    memset(&vcpu, 0, sizeof(vcpu));
    memset(&lapic, 0, sizeof(lapic));
    tsc_ratio = 0;
    memset(hvm_cpu, 0, sizeof(hvm_cpu));
    for (u32 i = 0; i < 2; i++) {
        cpu[i].hvm = &hvm_cpu[i];
        hvm_cpu[i].host_vmcb = (struct vmcb *)(PAGE_SIZE * (i + 1));
        hvm_cpu[i].next_asid = ASIDS;
    }
    svm_permissions_init();
    vcpu.vm = &vm;
    vcpu.cpu = &cpu[0];
    vcpu.lapic = &lapic;
    memset(&hvm_vcpu, 0, sizeof(hvm_vcpu));
    vcpu.hvm = &hvm_vcpu;
    assert_true(svm_ops.vcpu_init(&vcpu));
    vmcb = vcpu.hvm->vmcb;
    vmcb_set_efer(vmcb, EFER_SVME);
    svm_set_cr0(&vcpu, CR0_PE);
    cr4_allowed = CR4_PAE;
    cr4_withheld = mcg_status = 0;
    svm_ops.attach(&cpu[0], &vcpu);
    CODE(INSN_MODE_32, "\x90");
    return 0;
}

static int tear_down(void **state)
{
    svm_ops.vcpu_free(&vcpu);
    return 0;
}

static void clean_bits_follow_changes(void **state)
{
    run(interrupted);
    assert_int_equal(seen.control.clean & CLEAN_CR, 0);
    run(interrupted);
    assert_int_equal(seen.control.clean & CLEAN_CR, CLEAN_CR);
    vmcb_set_cr3(vmcb, 0x1000);
    svm_ops.set_tsc_offset(&vcpu, 5);
    vmcb_set_segment(vmcb, VMCB_CS, (struct vmcb_segment){.selector = 8});
    vmcb_set_g_pat(vmcb, 6);
    run(interrupted);
    assert_int_equal(seen.control.clean & CLEAN_ALL,
                     CLEAN_ALL & ~(CLEAN_CR | CLEAN_INTERCEPTS | CLEAN_SEGMENTS |
                                   CLEAN_DESCRIPTOR_TABLES | CLEAN_NESTED));
    svm_ops.attach(&cpu[0], &vcpu);
    run(interrupted);
    assert_int_equal(seen.control.clean, 0);
}

static void asids_come_in_generations(void **state)
{
    run(interrupted);
    assert_int_equal(seen.control.asid, 1);
    assert_int_equal(seen.control.tlb_control, TLB_FLUSH_ALL);
    run(interrupted);
    assert_int_equal(seen.control.asid, 1);
    assert_int_equal(seen.control.tlb_control, TLB_KEEP);
    for (u32 asid = 2; asid < ASIDS; asid++) {
        vcpu.hvm->flush = true;
        run(interrupted);
        assert_int_equal(seen.control.asid, asid);
        assert_int_equal(seen.control.tlb_control, TLB_KEEP);
    }
    vcpu.hvm->flush = true;
    run(interrupted);
    assert_int_equal(seen.control.asid, 1);
    assert_int_equal(seen.control.tlb_control, TLB_FLUSH_ALL);
}

static void another_cpu_means_another_asid(void **state)
{
    run(interrupted);
    vcpu.cpu = &cpu[1];
    run(interrupted);
    assert_int_equal(seen.control.tlb_control, TLB_FLUSH_ALL);
    vcpu.cpu = &cpu[0];
    run(interrupted);
    assert_int_equal(seen.control.asid, 2);
}

static void flush_by_asid_keeps_the_asid(void **state)
{
    svm_cpuid.features = SVM_FLUSH_BY_ASID;
    run(interrupted);
    vcpu.hvm->flush = true;
    run(interrupted);
    assert_int_equal(seen.control.asid, 1);
    assert_int_equal(seen.control.tlb_control, TLB_FLUSH_THIS_ASID);
}

static void lowers_tpr(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.vintr = (v->control.vintr & ~VINTR_TPR) | 3;
    v->control.exit_code = VMEXIT_INTR;
}

static void tpr_goes_both_ways(void **state)
{
    lapic.registers[LAPIC_TPR >> 4].value = 0x5C;
    run(interrupted);
    assert_int_equal(seen.control.vintr & VINTR_TPR, 5);
    assert_int_equal(lapic_read(&lapic, LAPIC_TPR), 0x5C);
    assert_false(vcpu.interrupts_stale);
    run(lowers_tpr);
    assert_int_equal(lapic_read(&lapic, LAPIC_TPR), 0x30);
    assert_true(vcpu.interrupts_stale);
}

static u64 delivery;

static void faults_in_delivery(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_NPF;
    v->control.exit_info1 = NPF_WRITE;
    v->control.exit_info2 = 0xFEE00030;
    v->control.exit_int_info = delivery;
}

static void interrupted_delivery_is_queued_again(void **state)
{
    static const struct {
        u64 event;
        bool again;
    } cases[] = {
        {EVENT_VALID | 0x40,                                                            true },
        {EVENT_VALID | EVENT_KIND_NMI << 8 | 2,                                         true },
        {EVENT_VALID | EVENT_ERROR_VALID | EVENT_KIND_EXCEPTION << 8 | 14 | 6ULL << 32, true },
        {EVENT_VALID | EVENT_KIND_EXCEPTION << 8 | VECTOR_BP,                           false},
        {EVENT_VALID | EVENT_KIND_EXCEPTION << 8 | VECTOR_OF,                           false},
        {EVENT_VALID | EVENT_KIND_SOFTWARE << 8 | 0x80,                                 false},
        {EVENT_KIND_EXCEPTION << 8 | 14,                                                false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct exit exit;

        delivery = cases[i].event;
        exit = run(faults_in_delivery);
        /* A delivery that runs into a device is the guest's end. */
        assert_int_equal(exit.kind, delivery & EVENT_VALID ? EXIT_UNHANDLED : EXIT_MEMORY);
        assert_true(exit.memory.write);
        assert_int_equal(exit.memory.gpa, 0xFEE00030);
        assert_int_equal(vmcb_event_injection(vmcb), cases[i].again ? cases[i].event : 0);
        assert_int_equal(svm_ops.can_inject(&vcpu, EVENT_EXCEPTION), !cases[i].again);
        run(interrupted);
        assert_int_equal(vmcb_event_injection(vmcb), 0);
    }
}

static void interrupts_wait_for_their_window(void **state)
{
    assert_false(svm_ops.can_inject(&vcpu, EVENT_INTERRUPT));
    vmcb_set_rflags(vmcb, RFLAGS_IF);
    vmcb_set_interrupt_shadow(vmcb, INTERRUPT_SHADOW);
    assert_false(svm_ops.can_inject(&vcpu, EVENT_INTERRUPT));
    assert_false(svm_ops.can_inject(&vcpu, EVENT_NMI));
    vmcb_set_interrupt_shadow(vmcb, 0);
    assert_true(svm_ops.can_inject(&vcpu, EVENT_INTERRUPT));
    svm_ops.inject(&vcpu, EVENT_INTERRUPT, 0x31, 0);
    assert_int_equal(vmcb_event_injection(vmcb), EVENT_VALID | 0x31);
    assert_false(svm_ops.can_inject(&vcpu, EVENT_INTERRUPT));

    svm_ops.request_window(&vcpu, EVENT_INTERRUPT, true);
    run(interrupted);
    assert_true(seen.control.vintr & VINTR_IRQ);
    assert_true(seen.control.vintr & VINTR_IGNORE_TPR);
    assert_true(seen.control.vintr & VINTR_MASKING);
    assert_int_equal(seen.control.vintr & VINTR_PRIORITY, VINTR_PRIORITY);
    assert_true(seen.control.intercepts[0] & 1U << INTERCEPT_VINTR);
}

static void window_opens(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_VINTR;
}

static void must_not_run(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    fail();
}

static void a_window_opens_once(void **state)
{
    svm_ops.request_window(&vcpu, EVENT_INTERRUPT, true);
    assert_int_equal(run(window_opens).kind, EXIT_WINDOW);
    svm_ops.request_window(&vcpu, EVENT_INTERRUPT, false);
    run(interrupted);
    assert_false(seen.control.vintr & VINTR_IRQ);
    assert_false(seen.control.intercepts[0] & 1U << INTERCEPT_VINTR);
}

static void finishes_delivery(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    assert_true(seen.control.event_injection & EVENT_VALID);
    v->control.exit_code = VMEXIT_INTR;
}

static void ends_the_shadow(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    assert_true(seen.control.interrupt_shadow);
    v->control.interrupt_shadow = 0;
    v->control.exit_code = VMEXIT_INTR;
}

static void a_window_that_is_open_needs_no_entry(void **state)
{
    svm_ops.request_window(&vcpu, EVENT_INTERRUPT, true);
    assert_int_equal(run(interrupted).kind, EXIT_INTERRUPT); /* IF is clear */
    vmcb_set_rflags(vmcb, RFLAGS_IF);
    svm_inject(&vcpu, EVENT_EXCEPTION, VECTOR_DB, 0);
    assert_int_equal(run(finishes_delivery).kind, EXIT_INTERRUPT);
    vmcb_set_interrupt_shadow(vmcb, INTERRUPT_SHADOW);
    assert_int_equal(run(ends_the_shadow).kind, EXIT_INTERRUPT);
    assert_int_equal(run(must_not_run).kind, EXIT_WINDOW);
    svm_ops.request_window(&vcpu, EVENT_INTERRUPT, false);
    assert_int_equal(run(interrupted).kind, EXIT_INTERRUPT);
}

/* TCG's VMRUN forgets the shadow: the interrupt would come before the HLT that it is to end. */
static void tcg_halts_behind_sti_before_a_window(void **state)
{
    svm_cpuid.tcg = true;
    CODE(INSN_MODE_64, "\xF4");
    vmcb_set_rflags(vmcb, RFLAGS_IF);
    vmcb_set_interrupt_shadow(vmcb, INTERRUPT_SHADOW);
    assert_int_equal(run(ends_the_shadow).kind, EXIT_INTERRUPT); /* no interrupt waits */
    vmcb_set_interrupt_shadow(vmcb, INTERRUPT_SHADOW);
    svm_ops.request_window(&vcpu, EVENT_INTERRUPT, true);
    assert_int_equal(run(must_not_run).kind, EXIT_HLT);
    assert_true(svm_ops.skip_instruction(&vcpu, 0));
    assert_true(svm_can_inject(&vcpu, EVENT_INTERRUPT));
    CODE(INSN_MODE_64, "\x90");
    vmcb_set_interrupt_shadow(vmcb, INTERRUPT_SHADOW);
    assert_int_equal(run(ends_the_shadow).kind, EXIT_INTERRUPT);
}

static void takes_virtual_interrupt(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.vintr &= ~VINTR_IRQ;
    v->control.exit_code = VMEXIT_INTR;
}

static void tcg_gets_interrupts_by_v_irq(void **state)
{
    svm_cpuid.tcg = true;
    vmcb_set_rflags(vmcb, RFLAGS_IF);
    svm_ops.inject(&vcpu, EVENT_INTERRUPT, 0x31, 0);
    svm_ops.request_window(&vcpu, EVENT_INTERRUPT, true);
    assert_false(svm_ops.can_inject(&vcpu, EVENT_INTERRUPT));
    run(interrupted); /* by the host, before it is delivered */
    assert_int_equal(seen.control.vintr >> VINTR_VECTOR_SHIFT, 0x31);
    assert_int_equal(seen.control.vintr & VINTR_REQUEST, VINTR_REQUEST);
    assert_int_equal(seen.control.event_injection, 0);
    assert_false(seen.control.intercepts[0] & 1U << INTERCEPT_VINTR);
    assert_false(svm_ops.can_inject(&vcpu, EVENT_INTERRUPT));
    delivery = EVENT_VALID | EVENT_KIND_EXCEPTION << EVENT_KIND_SHIFT | 0x31;
    run(faults_in_delivery); /* V_IRQ stands */
    assert_int_equal(vmcb_event_injection(vmcb), 0);
    assert_true(vmcb_vintr(vmcb) & VINTR_IRQ);
    run(takes_virtual_interrupt);
    assert_true(svm_ops.can_inject(&vcpu, EVENT_INTERRUPT));
    vmcb_set_rflags(vmcb, 0);
    run(interrupted);
    assert_true(seen.control.vintr & VINTR_IRQ);
    assert_true(seen.control.intercepts[0] & 1U << INTERCEPT_VINTR);
}

static void reaches_iret(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_IRET;
    v->save.rip = 0x1000;
}

static void runs_on(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_INTR;
    v->save.rip = 0x2000;
}

static void an_nmi_blocks_until_iret(void **state)
{
    assert_true(svm_ops.can_inject(&vcpu, EVENT_NMI));
    svm_ops.inject(&vcpu, EVENT_NMI, 2, 0);
    run(interrupted);
    assert_int_equal(seen.control.event_injection,
                     EVENT_VALID | EVENT_KIND_NMI << EVENT_KIND_SHIFT | 2);
    assert_true(seen.control.intercepts[0] & 1U << INTERCEPT_IRET);
    assert_false(svm_ops.can_inject(&vcpu, EVENT_NMI));
    assert_int_equal(run(reaches_iret).kind, EXIT_NONE);
    svm_ops.request_window(&vcpu, EVENT_NMI, true);
    assert_int_equal(run(interrupted).kind, EXIT_INTERRUPT); /* still at the IRET */
    assert_false(seen.control.intercepts[0] & 1U << INTERCEPT_IRET);
    assert_false(svm_ops.can_inject(&vcpu, EVENT_NMI));
    assert_int_equal(run(runs_on).kind, EXIT_INTERRUPT);
    assert_true(svm_ops.can_inject(&vcpu, EVENT_NMI));
    assert_int_equal(run(must_not_run).kind, EXIT_WINDOW);
}

static void real_mode_takes_no_error_codes(void **state)
{
    svm_inject(&vcpu, EVENT_EXCEPTION, VECTOR_GP, 8);
    assert_int_equal(vmcb_event_injection(vmcb),
                     EVENT_VALID | EVENT_ERROR_VALID | EVENT_KIND_EXCEPTION << 8 | 13 | 8ULL << 32);
    svm_set_cr0(&vcpu, 0);
    svm_inject(&vcpu, EVENT_EXCEPTION, VECTOR_GP, 8);
    assert_int_equal(vmcb_event_injection(vmcb), EVENT_VALID | EVENT_KIND_EXCEPTION << 8 | 13);
}

static void out_instruction(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_IOIO;
    v->control.exit_info1 = 0x3F8ULL << 16 | 1 << 4;
    v->control.exit_info2 = 0x1002;
    v->save.rip = 0x1000;
    v->save.rax = 0x41;
}

static u64 string_info;

static void string_instruction(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_IOIO;
    v->control.exit_info1 = string_info;
    v->control.exit_info2 = 0x2003;
}

/* EXITINFO1 (APM volume 2, "IOIO Intercept Information"): port, segment as ModRM numbers them,
 * address size, operand size, REP, string, IN. The code at RIP says otherwise. */
static void decode_assists_describe_strings(void **state)
{
    static const struct {
        u64 info;
        u8 size, address_size;
        enum segment_register segment;
        bool rep, write;
    } cases[] = {
        {0x03F8049C,          1, 2, SEG_CS, true,  true },
        {0x03F80914,          1, 4, SEG_SS, false, true },
        {0x03F80A2C,          2, 8, SEG_SS, true,  true },
        {0x03F80C44 | BIT(8), 4, 4, SEG_DS, false, true },
        {0x03F81114,          1, 4, SEG_FS, false, true },
        {0x03F8162C,          2, 8, SEG_GS, true,  true },
        {0x03F8009C,          1, 2, SEG_ES, true,  true },
        {0x03F80C4D | BIT(9), 4, 8, SEG_ES, true,  false},
    };

    svm_cpuid.features = SVM_DECODE_ASSISTS;
    CODE(INSN_MODE_64, "\x65\x67\x6E");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct exit exit;

        string_info = cases[i].info;
        exit = run(string_instruction);
        assert_int_equal(exit.kind, EXIT_PORT);
        assert_true(exit.port.string);
        assert_int_equal(exit.port.number, 0x3F8);
        assert_int_equal(exit.port.size, cases[i].size);
        assert_int_equal(exit.port.address_size, cases[i].address_size);
        assert_int_equal(exit.port.segment, cases[i].segment);
        assert_int_equal(exit.port.rep, cases[i].rep);
        assert_int_equal(exit.port.write, cases[i].write);
        assert_true(svm_ops.skip_instruction(&vcpu, 0));
        assert_int_equal(vmcb_rip(vmcb), 0x2003);
    }
}

static u8 fetched;

/* VMCB offset 0D0h: how many bytes, then up to 15 bytes (APM volume 2, appendix B). */
static void faults_on_a_device(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    u8 *at = (u8 *)v + 0xD0;

    v->control.exit_code = VMEXIT_NPF;
    v->control.exit_info1 = BIT(32) | NPF_WRITE;
    v->control.exit_info2 = 0xFEC00010;
    *at++ = fetched;
    for (u8 i = 1; i <= 15; i++)
        *at++ = 0xA0 + i;
}

static void decode_assists_bring_the_instruction(void **state)
{
    static const u8 counts[][2] = {
        {0,   0 },
        {1,   1 },
        {7,   7 },
        {15,  15},
        {255, 15}
    };
    struct exit exit;

    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        fetched = counts[i][0];
        svm_cpuid.features = SVM_DECODE_ASSISTS;
        exit = run(faults_on_a_device);
        assert_int_equal(exit.kind, EXIT_MEMORY);
        assert_int_equal(exit.memory.gpa, 0xFEC00010);
        assert_true(exit.memory.write);
        assert_false(exit.memory.fetch);
        assert_int_equal(exit.memory.bytes_count, counts[i][1]);
        for (u8 j = 0; j < counts[i][1]; j++)
            assert_int_equal(exit.memory.bytes[j], 0xA1 + j);
        svm_cpuid.features = 0; /* the field is then reserved */
        assert_int_equal(run(faults_on_a_device).memory.bytes_count, 0);
    }
}

/* 8 integer bits, 32 of fraction, the rest must be zero. */
static void the_tsc_ratio_is_the_partitions(void **state)
{
    svm_ops.attach(&cpu[0], &vcpu);
    assert_int_equal(tsc_ratio, 0); /* not there: not written */
    svm_cpuid.features = SVM_TSC_RATIO;
    svm_ops.attach(&cpu[0], &vcpu);
    assert_int_equal(tsc_ratio, 0x100000000);
    vm.tsc_ratio = 0x280000000; /* 2.5 */
    svm_ops.attach(&cpu[0], &vcpu);
    assert_int_equal(tsc_ratio, 0x280000000);
    vm.tsc_ratio = TSC_RATIO_LIMIT - 1;
    svm_ops.attach(&cpu[0], &vcpu);
    assert_int_equal(tsc_ratio, 0xFFFFFFFFFF);
    vm.tsc_ratio = 0;
    svm_ops.attach(&cpu[0], &vcpu); /* another partition's is not left behind */
    assert_int_equal(tsc_ratio, 0x100000000);
}

static void pauses_are_filtered(void **state)
{
    svm_set_controls(&vcpu);
    run(interrupted);
    assert_false(seen.control.intercepts[0] & 1U << INTERCEPT_PAUSE);
    assert_int_equal(seen.control.pause_filter_count, 0);
    vcpu.cpu->queue.count = 1; /* somebody waits, but no sibling */
    run(interrupted);
    assert_false(seen.control.intercepts[0] & 1U << INTERCEPT_PAUSE);
    vm.vcpu_count = 2;
    run(interrupted);
    assert_true(seen.control.intercepts[0] & 1U << INTERCEPT_PAUSE);
    vcpu.cpu->queue.count = 0;
    run(interrupted);
    assert_false(seen.control.intercepts[0] & 1U << INTERCEPT_PAUSE);
    svm_cpuid.features = SVM_PAUSE_FILTER;
    svm_set_controls(&vcpu);
    run(interrupted);
    assert_true(seen.control.intercepts[0] & 1U << INTERCEPT_PAUSE);
    assert_int_equal(seen.control.pause_filter_count, PAUSE_COUNT);
    assert_int_equal(seen.control.pause_filter_threshold, 0);
    svm_cpuid.features |= SVM_PAUSE_FILTER_THRESHOLD;
    svm_set_controls(&vcpu);
    run(interrupted);
    assert_int_equal(seen.control.pause_filter_threshold, PAUSE_THRESHOLD);
}

static void rep_outsw(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_IOIO;
    v->control.exit_info1 = 0x1F0ULL << 16 | 1 << 8 | 1 << 5 | 1 << 3 | 1 << 2 | SEG_FS << 10;
}

static void ports_are_described(void **state)
{
    struct exit exit = run(out_instruction);

    assert_int_equal(exit.kind, EXIT_PORT);
    assert_int_equal(exit.port.number, 0x3F8);
    assert_int_equal(exit.port.size, 1);
    assert_true(exit.port.write);
    assert_false(exit.port.string);
    assert_int_equal(vcpu.gpr[GPR_RAX], 0x41);
    assert_true(svm_ops.skip_instruction(&vcpu, 0));
    assert_int_equal(vmcb_rip(vmcb), 0x1002);

    CODE(INSN_MODE_32, "\xF3\x2E\x66\x6F");
    exit = run(rep_outsw);
    assert_true(exit.port.string && exit.port.rep && exit.port.write);
    assert_int_equal(exit.port.size, 2);
    assert_int_equal(exit.port.address_size, 4);
    assert_int_equal(exit.port.segment, SEG_CS);
    svm_cpuid.features = SVM_DECODE_ASSISTS;
    assert_int_equal(run(rep_outsw).port.segment, SEG_FS);
    svm_cpuid.features = 0;
    CODE(INSN_MODE_64, "\x67\xF3\x6E");
    assert_int_equal(run(rep_outsw).port.address_size, 4);
    assert_int_equal(run(rep_outsw).port.segment, SEG_DS);
}

static void cpuid_exit(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_CPUID;
    v->control.next_rip = 0x5005;
    v->control.interrupt_shadow = INTERRUPT_SHADOW;
    v->save.rip = 0xFFFFFFFE;
}

static void instructions_are_skipped(void **state)
{
    CODE(INSN_MODE_32, "\x0F\xA2");
    assert_int_equal(run(cpuid_exit).kind, EXIT_CPUID);
    assert_true(svm_ops.skip_instruction(&vcpu, 0));
    assert_int_equal(vmcb_rip(vmcb), 0); /* EIP wraps */
    assert_int_equal(vmcb_interrupt_shadow(vmcb), 0);

    mode = INSN_MODE_64;
    run(cpuid_exit);
    assert_true(svm_ops.skip_instruction(&vcpu, 0));
    assert_int_equal(vmcb_rip(vmcb), 0x100000000);

    CODE(INSN_MODE_64, "\x90");
    run(cpuid_exit);
    assert_false(svm_ops.skip_instruction(&vcpu, 0));
    assert_int_equal(vmcb_rip(vmcb), 0xFFFFFFFE);

    svm_cpuid.features = SVM_NRIP_SAVE;
    run(cpuid_exit);
    assert_true(svm_ops.skip_instruction(&vcpu, 0));
    assert_int_equal(vmcb_rip(vmcb), 0x5005);
}

static void a_skipped_instruction_can_be_stepped(void **state)
{
    CODE(INSN_MODE_32, "\x0F\xA2");
    run(cpuid_exit);
    vmcb_set_rflags(vmcb, RFLAGS_TF);
    svm_ops.skip_instruction(&vcpu, 0);
    assert_int_equal(vmcb_event_injection(vmcb),
                     EVENT_VALID | EVENT_KIND_EXCEPTION << 8 | VECTOR_DB);
    assert_true(vmcb_dr6(vmcb) & DR6_BS);
}

static u64 code_of_exit;

static void exits_with(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = code_of_exit;
    v->control.exit_info1 = 0;
}

static void exits_have_kinds(void **state)
{
    static const struct {
        u64 code;
        enum exit_kind kind;
    } cases[] = {
        {VMEXIT_SHUTDOWN, EXIT_TRIPLE_FAULT },
        {VMEXIT_VMMCALL,  EXIT_HYPERCALL    },
        {VMEXIT_VMRUN,    EXIT_UNDEFINED    },
        {VMEXIT_INVLPGA,  EXIT_UNDEFINED    },
        {VMEXIT_MSR,      EXIT_RDMSR        },
        {VMEXIT_HLT,      EXIT_HLT          },
        {0x7D,            EXIT_UNHANDLED    },
        {0x3FF,           EXIT_UNHANDLED    },
        {0x12345678,      EXIT_UNHANDLED    },
        {~0ULL,           EXIT_ENTRY_FAILURE},
        {0xFFFFFFFF,      EXIT_ENTRY_FAILURE},
        {0x52,            EXIT_MACHINE_CHECK},
        {0x41,            EXIT_NONE         },
        {0x51,            EXIT_NONE         },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        code_of_exit = cases[i].code;
        assert_int_equal(run(exits_with).kind, cases[i].kind);
    }
    assert_int_equal(vmcb_event_injection(vmcb),
                     EVENT_VALID | EVENT_ERROR_VALID | EVENT_KIND_EXCEPTION << 8 | VECTOR_AC);
}

static void moves_to_cr0(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_CR0_SELECTIVE;
}

static void reads_cr0(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_CR0_READ;
}

static void caches_stay_on(void **state)
{
    CODE(INSN_MODE_32, "\x0F\x22\xC3"); /* MOV CR0, EBX */
    vcpu.gpr[GPR_RBX] = CR0_PE | CR0_CD | CR0_NW;
    assert_int_equal(run(moves_to_cr0).kind, EXIT_CR);
    assert_int_equal(vmcb_cr0(vmcb), CR0_PE | CR0_ET);
    assert_int_equal(svm_cr0(&vcpu), CR0_PE | CR0_ET | CR0_CD | CR0_NW);
    assert_int_equal(vmcb_rip(vmcb), 3);

    run(interrupted);
    assert_true(seen.control.intercept_cr_read & 1);
    assert_true(seen.control.intercept_cr_write & 1);
    CODE(INSN_MODE_32, "\x0F\x20\xC6"); /* MOV ESI, CR0 */
    run(reads_cr0);
    assert_int_equal(vcpu.gpr[GPR_RSI], CR0_PE | CR0_ET | CR0_CD | CR0_NW);

    CODE(INSN_MODE_32, "\x0F\x01\xE0"); /* SMSW EAX */
    run(reads_cr0);
    assert_int_equal(vmcb_rip(vmcb), 6);
    run(interrupted);
    assert_false(seen.control.intercept_cr_read & 1);
    run(interrupted);
    assert_true(seen.control.intercept_cr_read & 1);
}

static void other_cr0_writes(void **state)
{
    svm_set_cr0(&vcpu, CR0_PE | CR0_TS);
    CODE(INSN_MODE_32, "\x0F\x06"); /* CLTS */
    run(moves_to_cr0);
    assert_int_equal(svm_cr0(&vcpu), CR0_PE | CR0_ET);
    CODE(INSN_MODE_32, "\x0F\x01\xF0"); /* LMSW AX: sets MP, EM, TS; can't clear PE */
    vmcb_set_rax(vmcb, 0xFFFE);
    vcpu.gpr[GPR_RAX] = 0xFFFE;
    run(moves_to_cr0);
    assert_int_equal(svm_cr0(&vcpu), CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET);
    CODE(INSN_MODE_32, "\x0F\x01\x30"); /* LMSW [EAX] */
    assert_int_equal(run(moves_to_cr0).kind, EXIT_UNDEFINED);
}

static void bad_cr0_faults(void **state)
{
    static const u64 bad[] = {CR0_PG, CR0_PE | CR0_NW, CR0_PE | BIT(32)};

    CODE(INSN_MODE_64, "\x41\x0F\x22\xC1"); /* MOV CR0, R9 */
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        vcpu.gpr[GPR_R9] = bad[i];
        run(moves_to_cr0);
        assert_int_equal(EVENT_VECTOR(vmcb_event_injection(vmcb)), VECTOR_GP);
        assert_int_equal(vmcb_rip(vmcb), 0);
        assert_int_equal(svm_cr0(&vcpu), CR0_PE | CR0_ET);
    }
}

static void long_mode_follows_paging(void **state)
{
    vmcb_set_efer(vmcb, EFER_SVME | EFER_LME);
    CODE(INSN_MODE_32, "\x0F\x22\xC3");
    vcpu.gpr[GPR_RBX] = CR0_PE | CR0_PG;
    run(moves_to_cr0); /* without PAE */
    assert_int_equal(EVENT_VECTOR(vmcb_event_injection(vmcb)), VECTOR_GP);
    svm_set_cr4(&vcpu, CR4_PAE);
    run(moves_to_cr0);
    assert_int_equal(vmcb_efer(vmcb), EFER_SVME | EFER_LME | EFER_LMA);
    assert_int_equal(svm_cr0(&vcpu), CR0_PE | CR0_PG | CR0_ET);
    vcpu.gpr[GPR_RBX] = CR0_PE;
    run(moves_to_cr0);
    assert_int_equal(vmcb_efer(vmcb), EFER_SVME | EFER_LME);
}

static void moves_to_cr4(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_CR4_WRITE;
}

static void cr4_keeps_to_the_policy(void **state)
{
    CODE(INSN_MODE_32, "\x0F\x22\xE3"); /* MOV CR4, EBX */
    vcpu.gpr[GPR_RBX] = CR4_PAE;
    assert_int_equal(run(moves_to_cr4).kind, EXIT_CR);
    assert_int_equal(vmcb_cr4(vmcb), CR4_PAE);
    assert_true(vcpu.hvm->flush);
    vcpu.gpr[GPR_RBX] = CR4_PAE | CR4_LA57;
    run(moves_to_cr4);
    assert_int_equal(EVENT_VECTOR(vmcb_event_injection(vmcb)), VECTOR_GP);
    assert_int_equal(vmcb_cr4(vmcb), CR4_PAE);
}

static bool cr_write_exits(u32 cr)
{
    svm_set_cr0(&vcpu, CR0_PE);
    run(interrupted);
    return cr ? seen.control.intercept_cr_write & BIT(cr)
              : seen.control.intercepts[INTERCEPT_CR0_SELECTIVE / 32] &
                    BIT(INTERCEPT_CR0_SELECTIVE % 32);
}

static void control_registers_are_the_guests_where_that_is_harmless(void **state)
{
    assert_true(cr_write_exits(0) && cr_write_exits(4));
    svm_cpuid.own_cr = true;
    assert_false(cr_write_exits(0) || cr_write_exits(4));
    svm_cpuid.smt = true;
    assert_true(cr_write_exits(0));
    cr4_withheld = CR4_LA57;
    assert_true(cr_write_exits(4));
}

static void clears_caching(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->save.cr0 |= CR0_CD;
    v->control.exit_code = VMEXIT_INTR;
}

static void caching_comes_back_with_an_exit(void **state)
{
    svm_cpuid.own_cr = true;
    svm_set_cr0(&vcpu, CR0_PE);
    run(clears_caching);
    assert_int_equal(vmcb_cr0(vmcb), CR0_PE | CR0_ET);
    assert_int_equal(svm_cr0(&vcpu), CR0_PE | CR0_ET | CR0_CD);
    run(interrupted);
    assert_true(seen.control.intercept_cr_write & BIT(0) &&
                seen.control.intercept_cr_read & BIT(0));
}

static void is_refused(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_INVALID;
}

static void tcg_refuses_cr4(void **state)
{
    svm_cpuid.tcg = true;
    CODE(INSN_MODE_32, "\x0F\x22\xE3"); /* MOV CR4, EBX */
    vcpu.gpr[GPR_RBX] = CR4_PAE;
    assert_int_equal(run(is_refused).kind, EXIT_ENTRY_FAILURE);
    vcpu.gpr[GPR_RBX] = CR4_LA57;
    assert_int_equal(run(is_refused).kind, EXIT_CR);
    assert_int_equal(EVENT_VECTOR(vmcb_event_injection(vmcb)), VECTOR_GP);
}

static void shuts_down(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_SHUTDOWN;
}

static void a_machine_check_without_mce_shuts_down(void **state)
{
    assert_int_equal(run(shuts_down).kind, EXIT_TRIPLE_FAULT);
    mcg_status = 4; /* MCIP */
    assert_int_equal(run(shuts_down).kind, EXIT_MACHINE_CHECK);
}

static void moves_to_cr8(struct vmcb *v, u64 gpr[GPR_COUNT])
{
    v->control.exit_code = VMEXIT_CR8_WRITE;
}

static void cr8_is_watched_while_it_masks(void **state)
{
    svm_ops.request_window(&vcpu, EVENT_INTERRUPT, false);
    run(interrupted);
    assert_false(seen.control.intercept_cr_write & BIT(8));
    lapic.registers[LAPIC_TPR >> 4].value = 0x50;
    lapic.registers[(LAPIC_IRR >> 4) + 2].value = 1 << 1; /* vector 41h */
    lapic.irr_words = 1 << 2;
    svm_ops.request_window(&vcpu, EVENT_INTERRUPT, false);
    run(interrupted);
    assert_true(seen.control.intercept_cr_write & BIT(8));
    CODE(INSN_MODE_64, "\x44\x0F\x22\xC3"); /* MOV CR8, RBX */
    vcpu.gpr[GPR_RBX] = 16;
    run(moves_to_cr8);
    assert_int_equal(EVENT_VECTOR(vmcb_event_injection(vmcb)), VECTOR_GP);
    vcpu.gpr[GPR_RBX] = 3;
    assert_int_equal(run(moves_to_cr8).kind, EXIT_CR);
    assert_int_equal(lapic_read(&lapic, LAPIC_TPR), 0x30);
    assert_true(vcpu.interrupts_stale);
    svm_ops.request_window(&vcpu, EVENT_INTERRUPT, false);
    run(interrupted);
    assert_false(seen.control.intercept_cr_write & BIT(8));
}

static void permission_maps_trap_by_default(void **state)
{
    const u8 *io = (const u8 *)svm_io_permissions();
    const u8 *msrs = (const u8 *)svm_msr_permissions();
    u32 passing = 0;

    for (u32 i = 0; i < IO_MAP_PAGES * PAGE_SIZE; i++)
        assert_int_equal(io[i], 0xFF);
    for (u32 i = 0; i < MSR_MAP_PAGES * PAGE_SIZE * 8; i++)
        passing += !(msrs[i / 8] >> i % 8 & 1);
    assert_int_equal(passing, 2 * ARRAY_SIZE(passed));
    /* EFER, C000_0080h, exits; STAR, the next one, does not. */
    assert_int_equal(msrs[0x800 + 0x80 / 4] & 3, 3);
    assert_int_equal(msrs[0x800 + 0x81 / 4] & 3 << 2, 0);
    assert_int_equal(msrs[0x174 / 4] & 3, 0);
}

static void prepare_port_exit(void)
{
    vmcb->control.exit_code = VMEXIT_IOIO;
    vmcb->control.exit_info1 = 0x80 << 16 | 1 << 4 | 1; /* IN, one byte */
    vmcb->control.exit_info2 = 0x1002;
    vmcb_set_rip(vmcb, 0x1000);
    vmcb_set_interrupt_shadow(vmcb, INTERRUPT_SHADOW);
    vmcb_set_event_injection(vmcb, EVENT_VALID);
    vcpu.deadline = cpu[0].timer_armed = UINT64_MAX;
}

/* An exit that enter() makes up afterwards would be skipped to there. */
static void a_short_exit_leaves_nothing_behind(void **state)
{
    prepare_port_exit();
    assert_int_equal(svm_fast_answer(&vcpu), EXIT_PORT);
    assert_int_equal(answered_port, 0x80);
    assert_int_equal(svm_fast_finish(&vcpu, EXIT_PORT), SVM_RESUME);
    assert_int_equal(vmcb_rip(vmcb), 0x1002);
    assert_int_equal(vcpu.hvm->next_rip, 0);
    assert_int_equal(vmcb_interrupt_shadow(vmcb), 0);
    assert_int_equal(vmcb_event_injection(vmcb), 0);
}

static void a_short_exit_ends_at_the_deadline(void **state)
{
    prepare_port_exit();
    vcpu.deadline--; /* nearer than the timer that is armed */
    svm_fast_answer(&vcpu);
    assert_int_equal(svm_fast_finish(&vcpu, EXIT_PORT), SVM_SERVED);
    assert_int_equal(vcpu.hvm->served, EXIT_PORT);
    assert_int_equal(vmcb_rip(vmcb), 0x1002);

    prepare_port_exit();
    vcpu.deadline = cpu[0].timer_armed = 1; /* past */
    svm_fast_answer(&vcpu);
    assert_int_equal(svm_fast_finish(&vcpu, EXIT_PORT), SVM_SERVED);
}

/* An NMI's window that is waited for, or a TPR that the guest has changed, is looked at on the long
 * way. */
static void what_waits_for_an_exit_takes_the_long_way(void **state)
{
    prepare_port_exit();
    vcpu.hvm->nmi_wanted = true;
    assert_int_equal(svm_fast_answer(&vcpu), EXIT_NONE);
    vcpu.hvm->nmi_wanted = false;
    vmcb_set_vintr(vmcb, vmcb_vintr(vmcb) | 5);
    assert_int_equal(svm_fast_answer(&vcpu), EXIT_NONE);
    assert_int_equal(svm_fast_finish(&vcpu, EXIT_NONE), SVM_EXITED);
    assert_int_equal(vmcb_rip(vmcb), 0x1000);
}

static void any_exit_may_have_opened_the_window(void **state)
{
    prepare_port_exit();
    vcpu.interrupts_stale = false;
    vcpu.hvm->window_wanted = true;
    assert_int_equal(svm_fast_answer(&vcpu), EXIT_PORT);
    assert_true(vcpu.interrupts_stale);
    vcpu.interrupts_stale = vcpu.hvm->window_wanted = false;
}

/* Code at 5010h, whose tables begin at 1000h. */
static u64 mapped_ram[0x6000 / sizeof(u64)] __attribute__((aligned(PAGE_SIZE)));

static u8 *map_code(void)
{
    memset(mapped_ram, 0, sizeof(mapped_ram));
    for (u32 table = 1; table < 5; table++)
        mapped_ram[table * 512 + (table == 4 ? 5 : 0)] = (table + 1) << 12 | 1;
    vm.memory.ram = (struct guest_ram){.base = (u8 *)mapped_ram, .low_size = sizeof(mapped_ram)};
    vmcb_set_cr3(vmcb, 0x1000);
    vmcb_set_rip(vmcb, 0x5010);
    vmcb->save.efer |= BIT(10);
    vmcb->save.cs.attributes |= BIT(9);
    vmcb->control.exit_code = VMEXIT_CPUID;
    return (u8 *)mapped_ram + 0x5010;
}

static void code_is_found_again(void **state)
{
    u8 *at = map_code();

    memcpy(at, "\x0F\xA2", 2);
    assert_int_equal(svm_fast_answer(&vcpu), EXIT_CPUID);
    assert_int_equal(vcpu.hvm->next_rip, 0x5012);
    mapped_ram[1 * 512] = 0; /* it knows the way */
    assert_int_equal(svm_fast_answer(&vcpu), EXIT_CPUID);
    memcpy(at, "\x66\x0F\xA2", 3);
    assert_int_equal(svm_fast_answer(&vcpu), EXIT_NONE);
    memcpy(at, "\x0F\xA2", 2);
    vmcb_set_cr3(vmcb, 0); /* to other tables it does not */
    assert_int_equal(svm_fast_answer(&vcpu), EXIT_NONE);
    vmcb_set_cr3(vmcb, 0x1000);
    vmcb_set_rip(vmcb, 0x4FFE); /* nor to what ends on another page */
    assert_int_equal(svm_fast_answer(&vcpu), EXIT_NONE);
    vmcb_set_rip(vmcb, 0x5FFE);
    assert_int_equal(svm_fast_answer(&vcpu), EXIT_NONE);
}

static void no_code_is_known_at_first(void **state)
{
    map_code();
    mapped_ram[0x1000 / 8] = 0;
    vmcb_set_cr3(vmcb, 0);
    for (u64 rip = 0; rip < 16; rip++) {
        vmcb_set_rip(vmcb, rip - 8);
        assert_int_equal(svm_fast_answer(&vcpu), EXIT_NONE);
    }
}

/* The code may have changed since: shared code compares. */
static void a_short_access_says_whether_it_is_a_write(void **state)
{
    prepare_port_exit();
    vmcb->control.exit_code = VMEXIT_NPF;
    vmcb->save.efer |= BIT(10);
    vmcb->save.cs.attributes |= BIT(9);
    for (u32 write = 0; write < 2; write++) {
        wrote = !write;
        vmcb->control.exit_info1 = write ? NPF_WRITE : 0;
        svm_fast_answer(&vcpu);
        assert_int_equal(wrote, write);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_short_exit_leaves_nothing_behind),
        TEST(a_short_exit_ends_at_the_deadline),
        TEST(code_is_found_again),
        TEST(no_code_is_known_at_first),
        TEST(what_waits_for_an_exit_takes_the_long_way),
        TEST(any_exit_may_have_opened_the_window),
        TEST(a_short_access_says_whether_it_is_a_write),
        TEST(clean_bits_follow_changes),
        TEST(asids_come_in_generations),
        TEST(another_cpu_means_another_asid),
        TEST(flush_by_asid_keeps_the_asid),
        TEST(tpr_goes_both_ways),
        TEST(interrupted_delivery_is_queued_again),
        TEST(interrupts_wait_for_their_window),
        TEST(a_window_opens_once),
        TEST(a_window_that_is_open_needs_no_entry),
        TEST(tcg_halts_behind_sti_before_a_window),
        TEST(tcg_gets_interrupts_by_v_irq),
        TEST(an_nmi_blocks_until_iret),
        TEST(real_mode_takes_no_error_codes),
        TEST(ports_are_described),
        TEST(decode_assists_describe_strings),
        TEST(decode_assists_bring_the_instruction),
        TEST(the_tsc_ratio_is_the_partitions),
        TEST(pauses_are_filtered),
        TEST(instructions_are_skipped),
        TEST(a_skipped_instruction_can_be_stepped),
        TEST(exits_have_kinds),
        TEST(caches_stay_on),
        TEST(other_cr0_writes),
        TEST(bad_cr0_faults),
        TEST(long_mode_follows_paging),
        TEST(cr4_keeps_to_the_policy),
        TEST(control_registers_are_the_guests_where_that_is_harmless),
        TEST(caching_comes_back_with_an_exit),
        TEST(tcg_refuses_cr4),
        TEST(a_machine_check_without_mce_shuts_down),
        TEST(cr8_is_watched_while_it_masks),
        TEST(permission_maps_trap_by_default),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
