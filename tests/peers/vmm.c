/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* vmm ELF: runs a small guest of ours under KVM, with two vCPUs on the CPU it runs on, until it
 * writes to the exit port. KVM has the interrupt controllers and the PIT; COM1 is a line to
 * standard output. scripts/bench-peers builds it. */
#include <elf.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_SIZE      (16 << 20)
#define INFORMATION      0x500 /* of Multiboot: all zero, nothing is said */
#define MULTIBOOT_EAX    0x2BADB002
#define CPUID_MAX        128
#define CPUID1_APIC_ID   24
#define CPUID1_DEADLINE  (1U << 24)
#define CR0_PE           1
#define COM1_DATA        0x3F8
#define COM1_STATUS      0x3FD
#define TRANSMITTER_IDLE 0x60
#define EXIT_PORT        0xF4
#define TSS_ADDRESS      0xFFFBD000 /* KVM's own, for VT-x without unrestricted guest */

static int kvm, vm;
static unsigned char *memory;
static unsigned entry;

static int control(int file, unsigned long request, const char *name, void *argument)
{
    int result = ioctl(file, request, argument);

    if (result < 0)
        err(1, "%s", name);
    return result;
}
#define CONTROL(file, request, argument) control(file, request, #request, (void *)(argument))

static void load(const char *path)
{
    static unsigned char file[1 << 20];
    const Elf32_Ehdr *header = (const Elf32_Ehdr *)file;
    int fd = open(path, O_RDONLY);

    if (fd < 0 || read(fd, file, sizeof(file)) < (long)sizeof(*header))
        err(1, "%s", path);
    for (int i = 0; i < header->e_phnum; i++) {
        const Elf32_Phdr *segment = (const Elf32_Phdr *)(file + header->e_phoff) + i;

        if (segment->p_type == PT_LOAD)
            memcpy(memory + segment->p_paddr, file + segment->p_offset, segment->p_filesz);
    }
    entry = header->e_entry;
    close(fd);
}

static void set_cpuid(int vcpu, unsigned id)
{
    static struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[CPUID_MAX];
    } cpuid;

    cpuid.head.nent = CPUID_MAX;
    CONTROL(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
    for (unsigned i = 0; i < cpuid.head.nent; i++) {
        struct kvm_cpuid_entry2 *leaf = &cpuid.entries[i];

        if (leaf->function == 1) {
            leaf->ebx = (leaf->ebx & 0xFFFFFF) | id << CPUID1_APIC_ID;
            leaf->ecx |= CPUID1_DEADLINE; /* KVM has it, but leaves it to us to say so */
        }
        if (leaf->function == 0xB)
            leaf->edx = id;
    }
    CONTROL(vcpu, KVM_SET_CPUID2, &cpuid);
}

/* As the Multiboot specification 0.6.96 says, section 3.2. */
static void set_start(int vcpu)
{
    struct kvm_segment data = {
        .limit = ~0U, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    struct kvm_segment code = data;
    struct kvm_regs registers = {
        .rax = MULTIBOOT_EAX, .rbx = INFORMATION, .rip = entry, .rflags = 2};
    struct kvm_sregs system;

    code.selector = 8;
    code.type = 11;
    CONTROL(vcpu, KVM_GET_SREGS, &system);
    system.cs = code;
    system.ds = system.es = system.fs = system.gs = system.ss = data;
    system.cr0 |= CR0_PE;
    CONTROL(vcpu, KVM_SET_SREGS, &system);
    CONTROL(vcpu, KVM_SET_REGS, &registers);
}

static void port(const struct kvm_run *run)
{
    unsigned char *data = (unsigned char *)run + run->io.data_offset;

    if (run->io.direction == KVM_EXIT_IO_IN)
        memset(data, run->io.port == COM1_STATUS ? TRANSMITTER_IDLE : 0xFF,
               (size_t)run->io.size * run->io.count);
    else if (run->io.port == EXIT_PORT)
        exit(*data);
    else if (run->io.port == COM1_DATA)
        putchar(*data);
}

static void *run_vcpu(void *id)
{
    int vcpu = CONTROL(vm, KVM_CREATE_VCPU, id);
    int size = CONTROL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

    set_cpuid(vcpu, (unsigned)(unsigned long)id);
    if (!id)
        set_start(vcpu);
    for (;;) {
        if (ioctl(vcpu, KVM_RUN, 0) < 0) {
            if (errno != EAGAIN) /* which is: woken by an INIT or SIPI */
                err(1, "KVM_RUN");
        } else if (run->exit_reason == KVM_EXIT_IO)
            port(run);
        else if (run->exit_reason != KVM_EXIT_MMIO)
            errx(1, "exit %u", run->exit_reason);
    }
}

int main(int argc, char **argv)
{
    struct kvm_pit_config pit = {0};
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY_SIZE};
    pthread_t second;

    kvm = open("/dev/kvm", O_RDWR);
    if (kvm < 0 || argc != 2)
        err(1, "/dev/kvm");
    vm = CONTROL(kvm, KVM_CREATE_VM, 0);
    CONTROL(vm, KVM_SET_TSS_ADDR, TSS_ADDRESS);
    CONTROL(vm, KVM_CREATE_IRQCHIP, 0);
    CONTROL(vm, KVM_CREATE_PIT2, &pit);
    memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    region.userspace_addr = (unsigned long)memory;
    CONTROL(vm, KVM_SET_USER_MEMORY_REGION, &region);
    load(argv[1]);
    if (pthread_create(&second, NULL, run_vcpu, (void *)1UL))
        errx(1, "no thread");
    run_vcpu(NULL);
}
