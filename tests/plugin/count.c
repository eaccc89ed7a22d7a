/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* A plugin for QEMU's TCG that counts instructions, the hypervisor's apart from all others, in
 * a file that others map while the machine runs:
 *     -plugin build/host/count.so,counts=PATH,mark=ADDRESS,size=BYTES,end=ADDRESS
 * Instructions are told apart by their virtual address, so a guest's Linux must be started with
 * nokaslr. What is declared here of QEMU's interface is version 1 of it
 * (docs/devel/tcg-plugins.rst of QEMU). */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

#define HYPERVISOR_START 0xFFFFFFFF80000000
#define HYPERVISOR_END   0xFFFFFFFF81000000 /* from here on: a guest's Linux */
#define INLINE_ADD_U64   0
#define NO_REGISTERS     0

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void translation_callback(uint64_t id, struct qemu_plugin_tb *tb);
typedef void execution_callback(unsigned vcpu, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, translation_callback *callback);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int operation,
                                                void *counter, uint64_t value);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                            execution_callback *callback, int registers,
                                            void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

/* The file. The counts at the first instruction within a marked range are kept as long as `passed`
 * is not cleared. */
static struct counts {
    uint64_t hypervisor, others;
    struct at_mark {
        uint64_t passed, hypervisor, others;
    } start, end;
    struct stretch {
        uint64_t since, longest;
    } until_guest, until_interrupts; /* or rest; these end where interrupts are let in, too */
} * counts;

static uint64_t mark, mark_size, end;

static void at_mark(unsigned vcpu, void *data)
{
    struct at_mark *at = data;

    (void)vcpu;
    if (at->passed)
        return;
    at->hypervisor = counts->hypervisor;
    at->others = counts->others;
    at->passed = 1;
}

static void instrument_mark(struct qemu_plugin_insn *insn, struct at_mark *at)
{
    qemu_plugin_register_vcpu_insn_exec_cb(insn, at_mark, NO_REGISTERS, at);
}

static void at_leave(unsigned vcpu, void *data)
{
    struct stretch *stretch = data;
    uint64_t length = counts->hypervisor - stretch->since;

    (void)vcpu;
    stretch->since = counts->hypervisor;
    if (length > stretch->longest)
        stretch->longest = length;
}

static bool is_one_of(const struct qemu_plugin_insn *insn, const char *const *codes, size_t count)
{
    const void *bytes = qemu_plugin_insn_data(insn);
    size_t size = qemu_plugin_insn_size(insn);

    for (size_t i = 0; i < count; i++)
        if (size == strlen(codes[i]) && !memcmp(bytes, codes[i], size))
            return true;
    return false;
}

static void instrument_stretches(struct qemu_plugin_insn *insn)
{
    static const char *const codes[] = {"\x0F\x01\xD8" /* VMRUN */, "\x0F\x01\xC9" /* MWAIT */,
                                        "\xF4" /* HLT */, "\xFB" /* STI */};

    if (is_one_of(insn, codes, 3))
        qemu_plugin_register_vcpu_insn_exec_cb(insn, at_leave, NO_REGISTERS, &counts->until_guest);
    if (is_one_of(insn, codes, 4))
        qemu_plugin_register_vcpu_insn_exec_cb(insn, at_leave, NO_REGISTERS,
                                               &counts->until_interrupts);
}

static void instrument(uint64_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t address = qemu_plugin_insn_vaddr(insn);
        bool own = address >= HYPERVISOR_START && address < HYPERVISOR_END;

        if (mark && address - mark < mark_size)
            instrument_mark(insn, &counts->start);
        if (own)
            instrument_stretches(insn);
        if (end && address == end)
            instrument_mark(insn, &counts->end);
        qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD_U64,
                                                   own ? &counts->hypervisor : &counts->others, 1);
    }
}

static const char *value_of(const char *name, int argc, char **argv)
{
    size_t size = strlen(name);

    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], name, size) && argv[i][size] == '=')
            return argv[i] + size + 1;
    return NULL;
}

static uint64_t number_of(const char *name, uint64_t otherwise, int argc, char **argv)
{
    const char *number = value_of(name, argc, argv);

    return number ? strtoull(number, NULL, 0) : otherwise;
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    const char *path = value_of("counts", argc, argv);
    int file = path ? open(path, O_RDWR | O_CREAT, 0600) : -1;

    (void)info;
    if (file < 0 || ftruncate(file, sizeof(*counts)) < 0)
        return -1;
    counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (counts == MAP_FAILED)
        return -1;
    mark = number_of("mark", 0, argc, argv);
    mark_size = number_of("size", 1, argc, argv);
    end = number_of("end", 0, argc, argv);
    qemu_plugin_register_vcpu_tb_trans_cb(id, instrument);
    return 0;
}
