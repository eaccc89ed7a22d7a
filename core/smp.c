/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "core/smp.h"

#include "core/features.h"
#include "core/interrupts.h"
#include "core/log.h"
#include "devices/device.h"
#include "drivers/cpu.h"
#include "drivers/lapic.h"
#include "lib/string.h"
#include "mm/host_space.h"
#include "mm/pool.h"

#define MSR_EFER         0xC0000080
#define EFER_LME         BIT(8)
#define EFER_NXE         BIT(11)
#define CONVENTIONAL_END 0xA0000ULL
#define INIT_WAIT_NS     10000000ULL
#define SIPI_WAIT_NS     200000ULL
#define ANSWER_WAIT_NS   200000000ULL

extern const u8 trampoline_start[], trampoline_end[], trampoline_parameters[];

/* At trampoline_parameters in boot.asm. */
struct parameters {
    u64 stack, argument, entry;
    u32 cr3, efer;
};

_Static_assert(sizeof(struct parameters) == 32, "as in boot.asm");

struct cpu **cpus;
u32 cpu_count;

static void (*run_cpu)(struct cpu *cpu);

static struct cpu *new_cpu(u32 apic_id)
{
    struct cpu *cpu = pool_alloc(DIV_ROUND_UP(sizeof(struct cpu), PAGE_SIZE));

    if (!cpu)
        return NULL;
    cpu->self = cpu;
    cpu->index = cpu_count;
    cpu->apic_id = apic_id;
    cpu->timer_armed = DEADLINE_NONE;
    run_queue_init(&cpu->queue);
    list_init(&cpu->timers);
    list_init(&cpu->mailbox);
    return cpu;
}

bool smp_init(u32 capacity)
{
    struct cpu *boot;

    cpus = pool_alloc(DIV_ROUND_UP(capacity * sizeof(cpus[0]), PAGE_SIZE));
    boot = cpus ? new_cpu(0) : NULL;
    if (!boot)
        return false;
    boot->online = true;
    cpus[cpu_count++] = boot;
    return interrupts_load(boot);
}

/* The highest usable page below 640 KiB. All of the first MiB is kept out of the allocator. */
static paddr_t trampoline_page(void)
{
    paddr_t best = 0;

    for (u32 i = 0; i < host.boot.region_count; i++) {
        const struct boot_region *region = &host.boot.regions[i];
        paddr_t end = ALIGN_DOWN(MIN(region->start + region->size, CONVENTIONAL_END), PAGE_SIZE);

        if (region->type == REGION_USABLE && end >= region->start + PAGE_SIZE)
            best = MAX(best, end - PAGE_SIZE);
    }
    return best;
}

static void ap_main(struct cpu *cpu)
{
    write_cr3(host_space_root());
    features_enable(&host.features);
    if (!interrupts_load(cpu)) {
        log_error("CPU %u: no memory for its stacks", cpu->index);
        for (;;)
            cpu_hlt();
    }
    __atomic_store_n(&cpu->online, true, __ATOMIC_RELEASE);
    run_cpu(cpu);
}

static bool wait_online(const struct cpu *cpu, u64 ns)
{
    u64 end = rdtsc() + host_ns_to_tsc(ns);

    while (!__atomic_load_n(&cpu->online, __ATOMIC_ACQUIRE))
        if (rdtsc() >= end)
            return false;
        else
            cpu_pause();
    return true;
}

static void delay(u64 ns)
{
    u64 end = rdtsc() + host_ns_to_tsc(ns);

    while (rdtsc() < end)
        cpu_pause();
}

static bool wake_cpu(const struct cpu *cpu, paddr_t page)
{
    host_lapic_send_ipi(cpu->apic_id, HOST_IPI_INIT, 0);
    delay(INIT_WAIT_NS);
    host_lapic_send_ipi(cpu->apic_id, HOST_IPI_STARTUP, page >> PAGE_SHIFT);
    if (wait_online(cpu, SIPI_WAIT_NS))
        return true;
    host_lapic_send_ipi(cpu->apic_id, HOST_IPI_STARTUP, page >> PAGE_SHIFT);
    return wait_online(cpu, ANSWER_WAIT_NS);
}

/* A CPU that does not answer is sent back to wait for another SIPI: should it be late, it must not
 * run on what the next one is given. */
static void start_cpu(const struct acpi_cpu *listed, paddr_t page, struct parameters *parameters)
{
    struct cpu *cpu = new_cpu(listed->apic_id);
    u8 *stack = stack_alloc();

    if (!cpu || !stack) {
        log_error("CPU with APIC ID %u left out: no memory", listed->apic_id);
        return;
    }
    parameters->stack = (u64)stack;
    parameters->argument = (u64)cpu;
    if (!wake_cpu(cpu, page)) {
        host_lapic_send_ipi(cpu->apic_id, HOST_IPI_INIT, 0);
        log_warn("CPU with APIC ID %u did not answer INIT-SIPI: left out", listed->apic_id);
        return;
    }
    cpus[cpu_count++] = cpu;
}

/* A root with the trampoline's page at its own address, beside all of the host's. */
static bool trampoline_root(struct page_table *table, paddr_t page)
{
    return host_space_clone(table) &&
           page_table_map(table, page, page, PAGE_SIZE, PAGE_READ | PAGE_EXECUTE) &&
           table->root < 4 * GIB;
}

void smp_start(const struct acpi_cpu *listed, u32 count, u32 limit, void (*run)(struct cpu *cpu))
{
    paddr_t page = trampoline_page();
    struct page_table table;
    struct parameters *parameters;
    u8 *copy;

    cpus[0]->apic_id = host_lapic_id();
    run_cpu = run;
    copy = page ? mmio_map(page, PAGE_SIZE, MMIO_UNCACHED) : NULL;
    if (!copy || !trampoline_root(&table, page)) {
        log_error("no memory below 640 KiB to start other CPUs from");
        return;
    }
    memcpy(copy, trampoline_start, trampoline_end - trampoline_start);
    parameters = (struct parameters *)(copy + (trampoline_parameters - trampoline_start));
    parameters->entry = (u64)ap_main;
    parameters->cr3 = table.root;
    parameters->efer = EFER_LME | (host.features.nx ? EFER_NXE : 0);
    for (u32 i = 0; i < count && cpu_count < limit; i++)
        if (listed[i].enabled && listed[i].apic_id != cpus[0]->apic_id)
            start_cpu(&listed[i], page, parameters);
    mmio_unmap(copy, PAGE_SIZE);
    page_table_clear(&table, 0, 0, UINT32_MAX);
    page_table_destroy(&table);
}
