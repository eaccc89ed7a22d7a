/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* Multiboot2 Specification version 2.0, the boot loader's side. */

#include "lib/string.h"
#include "loader/elf.h"

#define MULTIBOOT2_MAGIC     0xE85250D6
#define MULTIBOOT2_EAX       0x36D76289
#define MULTIBOOT2_SEARCH    32768
#define MULTIBOOT2_ALIGN     8
#define MULTIBOOT2_I386      0
#define HEADER_TAGS_MAX      64         /* to look at: no kernel has as many */
#define MULTIBOOT2_FROM_FILE 0xFFFFFFFF /* load_addr: the image is loaded from its first byte */

enum multiboot2_header_tag {
    HEADER_TAG_END,
    HEADER_TAG_INFORMATION_REQUEST,
    HEADER_TAG_ADDRESS,
    HEADER_TAG_ENTRY,
    HEADER_TAG_CONSOLE_FLAGS,
    HEADER_TAG_FRAMEBUFFER,
    HEADER_TAG_MODULE_ALIGN,
    HEADER_TAG_EFI_BOOT_SERVICES,
    HEADER_TAG_ENTRY_EFI32,
    HEADER_TAG_ENTRY_EFI64,
    HEADER_TAG_RELOCATABLE,
};

enum multiboot2_header_flag {
    HEADER_OPTIONAL = 1 << 0,
};

enum multiboot2_info_tag {
    INFO_TAG_END = 0,
    INFO_TAG_CMDLINE = 1,
    INFO_TAG_LOADER_NAME = 2,
    INFO_TAG_MODULE = 3,
    INFO_TAG_BASIC_MEMORY = 4,
    INFO_TAG_MMAP = 6,
    INFO_TAG_ACPI_OLD = 14,
    INFO_TAG_ACPI_NEW = 15,
    INFO_TAG_LOAD_BASE = 21,
};

/* The tags that finish writes, as bits. */
#define INFO_TAGS_PROVIDED                                                                         \
    (BIT(INFO_TAG_END) | BIT(INFO_TAG_CMDLINE) | BIT(INFO_TAG_LOADER_NAME) |                       \
     BIT(INFO_TAG_MODULE) | BIT(INFO_TAG_BASIC_MEMORY) | BIT(INFO_TAG_MMAP) |                      \
     BIT(INFO_TAG_ACPI_OLD) | BIT(INFO_TAG_ACPI_NEW) | BIT(INFO_TAG_LOAD_BASE))

enum rsdp_size {
    RSDP_SIZE_1 = 20,
    RSDP_SIZE_2 = 36,
};

struct multiboot2_header {
    u32 magic, architecture, length, checksum;
};

struct header_tag {
    u16 type, flags;
    u32 size;
};

struct address_tag {
    u32 header_addr, load_addr, load_end_addr, bss_end_addr;
};

struct info_tag {
    u32 type, size;
};

struct info_mmap {
    u32 entry_size, entry_version;
};

struct info_mmap_entry {
    struct e820_entry entry;
    u32 reserved;
};

struct info_header {
    u32 total_size, reserved;
};

_Static_assert(sizeof(struct multiboot2_header) == 16, "section 3.1.1");
_Static_assert(sizeof(struct header_tag) == 8, "section 3.1.3");
_Static_assert(sizeof(struct info_tag) == 8, "section 3.4");
_Static_assert(sizeof(struct info_mmap_entry) == 24, "section 3.6.8");

/* What the tags of a header ask for. */
struct wishes {
    bool has_address, has_entry;
    struct address_tag address;
    u32 entry;
};

/* Copies the header out and returns its offset, or LOADER_NOWHERE. */
static u64 find_header(const struct image *image, struct multiboot2_header *header)
{
    u64 end = MIN(image->size, MULTIBOOT2_SEARCH);

    for (u64 at = 0; range_within(at, sizeof(*header), end); at += MULTIBOOT2_ALIGN) {
        if (loader_word(image->data + at) != MULTIBOOT2_MAGIC)
            continue;
        memcpy(header, image->data + at, sizeof(*header));
        if (header->architecture == MULTIBOOT2_I386 &&
            (u32)(header->magic + header->architecture + header->length + header->checksum) == 0)
            return at;
    }
    return LOADER_NOWHERE;
}

static bool identify(const struct image *image)
{
    struct multiboot2_header header;

    return find_header(image, &header) != LOADER_NOWHERE;
}

static bool check_request(const struct image *image, const u8 *payload, u64 size,
                          struct loader_plan *plan)
{
    for (u64 at = 0; range_within(at, sizeof(u32), size); at += sizeof(u32)) {
        u32 type;

        memcpy(&type, payload + at, sizeof(type));
        if (type >= 64 || !(INFO_TAGS_PROVIDED & BIT(type)))
            return loader_refuse(plan, "kernel '%.40s' requires Multiboot2 information of type %u",
                                 image->name, type);
    }
    return true;
}

static bool take_payload(void *to, u64 wanted, const u8 *payload, u64 size)
{
    if (size < wanted)
        return false;
    memcpy(to, payload, wanted);
    return true;
}

static bool read_tag(const struct image *image, const struct header_tag *tag, const u8 *payload,
                     struct wishes *wishes, struct loader_plan *plan)
{
    u64 size = tag->size - sizeof(*tag);
    bool optional = tag->flags & HEADER_OPTIONAL;

    switch (tag->type) {
    case HEADER_TAG_INFORMATION_REQUEST:
        return optional || check_request(image, payload, size, plan);
    case HEADER_TAG_ADDRESS:
        wishes->has_address =
            take_payload(&wishes->address, sizeof(wishes->address), payload, size);
        return wishes->has_address ||
               loader_refuse(plan, "kernel '%.40s' has a short address tag", image->name);
    case HEADER_TAG_ENTRY:
        wishes->has_entry = take_payload(&wishes->entry, sizeof(wishes->entry), payload, size);
        return wishes->has_entry ||
               loader_refuse(plan, "kernel '%.40s' has a short entry tag", image->name);
    case HEADER_TAG_CONSOLE_FLAGS:
    case HEADER_TAG_MODULE_ALIGN:      /* modules are always page-aligned */
    case HEADER_TAG_EFI_BOOT_SERVICES: /* this and the next two speak of EFI machines only */
    case HEADER_TAG_ENTRY_EFI32:
    case HEADER_TAG_ENTRY_EFI64:
    case HEADER_TAG_RELOCATABLE: /* permits another place, does not ask for one */
        return true;
    default:
        return optional || loader_refuse(plan, "kernel '%.40s' requires Multiboot2 header tag %u",
                                         image->name, tag->type);
    }
}

static bool read_tags(const struct image *image, u64 offset, u32 length, struct wishes *wishes,
                      struct loader_plan *plan)
{
    u64 at = offset + sizeof(struct multiboot2_header);
    u64 end = offset + length;
    u64 limit = MIN(image->size, MULTIBOOT2_SEARCH);
    struct header_tag tag;

    for (u32 i = 0;
         i < HEADER_TAGS_MAX && end <= limit && at <= end && range_within(at, sizeof(tag), end);
         i++) {
        memcpy(&tag, image->data + at, sizeof(tag));
        if (tag.size < sizeof(tag) || !range_within(at, tag.size, end))
            break;
        if (tag.type == HEADER_TAG_END)
            return true;
        if (!read_tag(image, &tag, image->data + at + sizeof(tag), wishes, plan))
            return false;
        at = ALIGN_UP(at + tag.size, MULTIBOOT2_ALIGN);
    }
    return loader_refuse(plan, "kernel '%.40s' has a Multiboot2 header without end", image->name);
}

static bool plan_flat(const struct loader_request *request, const struct guest_ram *ram,
                      struct loader_plan *plan, u64 offset, const struct wishes *wishes)
{
    struct flat_addresses addresses = {
        .header = wishes->address.header_addr,
        .load = wishes->address.load_addr,
        .load_end = wishes->address.load_end_addr,
        .bss_end = wishes->address.bss_end_addr,
    };

    if (!wishes->has_entry)
        return loader_refuse(plan, "kernel '%.40s' has an address tag but no entry tag",
                             request->kernel.name);
    if (addresses.load == MULTIBOOT2_FROM_FILE)
        addresses.load = addresses.header - (u32)offset;
    return loader_add_flat(request, ram, plan, offset, &addresses);
}

static bool plan_multiboot2(const struct loader_request *request, const struct guest_ram *ram,
                            struct loader_plan *plan)
{
    struct wishes wishes = {0};
    struct multiboot2_header header = {0};
    u64 offset = find_header(&request->kernel, &header);
    bool planned;

    if (!read_tags(&request->kernel, offset, header.length, &wishes, plan))
        return false;
    if (wishes.has_address)
        planned = plan_flat(request, ram, plan, offset, &wishes);
    else
        planned = elf_plan(request, ram, plan);
    if (wishes.has_entry)
        plan->entry = wishes.entry;
    return planned && loader_check_entry(request, plan) && loader_place_modules(request, ram, plan);
}

/* A tag of `fixed` and, where it is not NULL, a text. */
static void put_tag(struct info_area *area, enum multiboot2_info_tag type, const void *fixed,
                    u64 fixed_size, const char *text)
{
    u64 size = sizeof(struct info_tag) + fixed_size + (text != NULL ? strlen(text) + 1 : 0);
    struct info_tag tag = {type, (u32)size};

    info_put(area, &tag, sizeof(tag), MULTIBOOT2_ALIGN);
    info_put(area, fixed, fixed_size, 1);
    if (text != NULL)
        info_put_text(area, text);
}

static void put_memory(struct info_area *area, const struct guest_ram *ram)
{
    u32 basic[2] = {(u32)(GUEST_EBDA / KIB), (u32)((ram->low_size - MIB) / KIB)};
    struct {
        struct info_mmap header;
        struct info_mmap_entry entries[E820_MAX];
    } map = {.header = {.entry_size = sizeof(struct info_mmap_entry)}};
    struct e820_entry entries[E820_MAX];
    u32 count = e820_build(ram, entries);

    for (u32 i = 0; i < count; i++)
        map.entries[i].entry = entries[i];
    put_tag(area, INFO_TAG_BASIC_MEMORY, basic, sizeof(basic), NULL);
    put_tag(area, INFO_TAG_MMAP, &map, sizeof(map.header) + count * sizeof(map.entries[0]), NULL);
}

static void put_modules(struct info_area *area, const struct loader_request *request,
                        const struct loader_plan *plan)
{
    for (u32 i = 0; i < request->module_count; i++) {
        const struct image *module = &request->modules[i];
        u32 range[2] = {(u32)plan->module_gpa[i], (u32)(plan->module_gpa[i] + module->size)};

        put_tag(area, INFO_TAG_MODULE, range, sizeof(range), module->name);
    }
}

static u32 load_base(const struct loader_plan *plan)
{
    u64 base = GUEST_RAM_HIGH - 1;

    for (u32 i = 0; i < plan->copy_count; i++)
        base = MIN(base, plan->copies[i].gpa);
    return (u32)base;
}

static void put_tags(struct info_area *area, const struct loader_request *request,
                     const struct guest_ram *ram, const struct loader_plan *plan)
{
    const u8 *rsdp = ram->base + GUEST_ACPI_TABLES;
    u32 base = load_base(plan);

    put_tag(area, INFO_TAG_CMDLINE, NULL, 0, request->cmdline);
    put_tag(area, INFO_TAG_LOADER_NAME, NULL, 0, LOADER_NAME);
    put_memory(area, ram);
    put_modules(area, request, plan);
    put_tag(area, INFO_TAG_ACPI_OLD, rsdp, RSDP_SIZE_1, NULL);
    put_tag(area, INFO_TAG_ACPI_NEW, rsdp, RSDP_SIZE_2, NULL);
    put_tag(area, INFO_TAG_LOAD_BASE, &base, sizeof(base), NULL);
    put_tag(area, INFO_TAG_END, NULL, 0, NULL);
}

static bool finish_multiboot2(const struct loader_request *request, const struct guest_ram *ram,
                              struct loader_plan *plan, struct vcpu_state *state)
{
    struct info_header header = {0};
    struct info_area area;

    if (!info_open(&area, request, ram, plan, GUEST_PAGE_SIZE))
        return false;
    info_put(&area, &header, sizeof(header), MULTIBOOT2_ALIGN);
    put_tags(&area, request, ram, plan);
    header.total_size = (u32)area.used;
    memcpy(area.base, &header, sizeof(header));
    vcpu_state_flat32(state, (u32)plan->entry);
    state->gpr[GPR_RAX] = MULTIBOOT2_EAX;
    state->gpr[GPR_RBX] = area.gpa;
    return info_close(&area, plan);
}

const struct image_format multiboot2_format = {
    .name = "Multiboot 2",
    .identify = identify,
    .plan = plan_multiboot2,
    .finish = finish_multiboot2,
};
