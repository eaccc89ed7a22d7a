/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_LOADER_LOADER_H
#define BULKHEAD_LOADER_LOADER_H

/* Image in, guest memory filled and first vCPU state out. Pure, and in two steps so that no
 * stretch is long: loader_plan checks everything and lists the copies; the caller carries the
 * copies out piece by piece; loader_finish writes the small rest (boot parameters, page tables,
 * ACPI tables) and yields the state. Images are a user's files, perhaps truncated, perhaps
 * hostile: nothing in them is trusted. */

#include "core/vcpu_state.h"
#include "lib/guest_ram.h"

enum image_kind {
    IMAGE_BZIMAGE,    /* Linux boot protocol 2.12 or later, entered at its 64-bit entry */
    IMAGE_MULTIBOOT2, /* by its header in the first 32 KiB */
    IMAGE_MULTIBOOT1, /* by its header in the first 8 KiB */
    IMAGE_PVH,        /* ELF with the XEN_ELFNOTE_PHYS32_ENTRY note */
};

struct image {
    const char *name; /* for messages and the boot information; NUL-terminated */
    const u8 *data;
    u64 size;
};

#define LOADER_MODULES_MAX 16

struct loader_request {
    struct image kernel;
    struct image modules[LOADER_MODULES_MAX]; /* Linux: at most one, the initrd */
    u32 module_count;
    const char *cmdline; /* NUL-terminated */
    u32 vcpu_count;
};

struct loader_copy {
    u64 gpa;
    const u8 *from; /* NULL: leave as it is, zero */
    u64 size;
};

/* Kernel segments plus modules. */
#define LOADER_COPIES_MAX (LOADER_MODULES_MAX + 16)
#define LOADER_ERROR_SIZE 128

struct loader_plan {
    enum image_kind kind;
    struct loader_copy copies[LOADER_COPIES_MAX];
    u32 copy_count;
    u64 entry; /* guest-physical */
    u64 module_gpa[LOADER_MODULES_MAX];
    char error[LOADER_ERROR_SIZE]; /* a sentence that names the image, when refused */
};

/* Decides where everything goes. The guest's RAM is not touched. False with plan->error set when
 * the image is of no known kind, truncated, does not fit, or asks for what there is not. */
bool loader_plan(const struct loader_request *request, const struct guest_ram *ram,
                 struct loader_plan *plan);

/* After all copies are done: boot information, ACPI tables and whatever the entry needs.
 * False with plan->error set where something (a command line, a table) does not fit. */
bool loader_finish(const struct loader_request *request, const struct guest_ram *ram,
                   struct loader_plan *plan, struct vcpu_state *state);

/* The kind of an image by its magic; false when it is none. */
bool loader_identify(const struct image *image, enum image_kind *kind);
const char *image_kind_name(enum image_kind kind);

#endif
