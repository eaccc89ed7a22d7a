/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "boot/boot_info.h"
#include "lib/arith.h"
#include "lib/string.h"

/* Multiboot2 specification 2.0, section 3.6.1: the basic tags structure. */
enum tag_type {
    TAG_END = 0,
    TAG_COMMAND_LINE = 1,
    TAG_MODULE = 3,
    TAG_MEMORY_MAP = 6,
    TAG_FRAMEBUFFER = 8,
    TAG_EFI32_SYSTEM_TABLE = 11,
    TAG_EFI64_SYSTEM_TABLE = 12,
    TAG_ACPI_OLD_RSDP = 14,
    TAG_ACPI_NEW_RSDP = 15,
    TAG_EFI_MEMORY_MAP = 17,
    TAG_EFI_BOOT_SERVICES = 18,
};

struct information_header {
    u32 total_size;
    u32 reserved;
};

struct tag_header {
    u32 type;
    u32 size; /* with this header, without padding */
};

#define TAG_ALIGNMENT 8

struct module_tag {
    struct tag_header header;
    u32 start;
    u32 end;
};

/* Both memory maps have this shape: the EFI one counts its descriptor's size and version. */
struct map_tag {
    struct tag_header header;
    u32 entry_size;
    u32 entry_version;
};

enum memory_map_type {
    MEMORY_AVAILABLE = 1,
    MEMORY_ACPI_RECLAIMABLE = 3,
    MEMORY_ACPI_NVS = 4,
    MEMORY_BAD = 5,
};

struct memory_map_entry {
    u64 start;
    u64 size;
    u32 type;
    u32 reserved;
};

/* UEFI specification 2.10, section 7.2.3, EFI_MEMORY_DESCRIPTOR and EFI_MEMORY_TYPE. */
enum efi_memory_type {
    EFI_LOADER_CODE = 1,
    EFI_LOADER_DATA = 2,
    EFI_BOOT_SERVICES_CODE = 3,
    EFI_BOOT_SERVICES_DATA = 4,
    EFI_CONVENTIONAL_MEMORY = 7,
    EFI_UNUSABLE_MEMORY = 8,
    EFI_ACPI_RECLAIM_MEMORY = 9,
    EFI_ACPI_MEMORY_NVS = 10,
};

struct efi_descriptor {
    u32 type;
    u32 reserved;
    u64 physical_start;
    u64 virtual_start;
    u64 pages;
    u64 attributes;
};

#define EFI_PAGE_SIZE 4096

enum framebuffer_type {
    FRAMEBUFFER_TYPE_RGB = 1,
    FRAMEBUFFER_TYPE_EGA_TEXT = 2,
};

struct framebuffer_tag {
    struct tag_header header;
    u64 address;
    u32 pitch;
    u32 width;
    u32 height;
    u8 bits_per_pixel;
    u8 type;
    u16 reserved;
};

struct framebuffer_colors {
    u8 red_position, red_size, green_position, green_size, blue_position, blue_size;
};

#define RSDP_V1_SIZE 20
#define RSDP_V2_SIZE 36

_Static_assert(sizeof(struct module_tag) == 16, "Multiboot2 3.6.6");
_Static_assert(sizeof(struct map_tag) == 16, "Multiboot2 3.6.8");
_Static_assert(sizeof(struct memory_map_entry) == 24, "Multiboot2 3.6.8");
_Static_assert(sizeof(struct efi_descriptor) == 40, "UEFI 2.10 7.2.3");
_Static_assert(sizeof(struct framebuffer_tag) == 32, "Multiboot2 3.6.12");
_Static_assert(sizeof(((struct boot_info *)0)->rsdp) == RSDP_V2_SIZE, "ACPI 6.5 5.2.5.3");

/* A memory map in the loader's own form. */
struct map {
    const u8 *entries; /* NULL: none */
    u32 entry_size;
    u32 count;
    bool efi;
};

struct parser {
    struct boot_info *info;
    char *error;
    struct map memory_map, efi_map;
    bool has_new_rsdp;
    u32 seen; /* bit N: there was a tag of type N */
};

/* Evaluates to false, for `return`. */
#define REFUSE(parser, ...) (snprintf((parser)->error, BOOT_ERROR_SIZE, __VA_ARGS__), false)

/* The size of the text with its NUL, or 0 where it has none. */
static size_t text_size(const u8 *text, size_t limit)
{
    const u8 *end = memchr(text, '\0', limit);

    return end == NULL ? 0 : (size_t)(end - text) + 1;
}

static bool take_command_line(struct parser *parser, const u8 *tag, u32 size)
{
    const u8 *text = tag + sizeof(struct tag_header);
    size_t length = text_size(text, size - sizeof(struct tag_header));

    if (length == 0)
        return REFUSE(parser, "The command line tag is truncated.");
    if (length > BOOT_CMDLINE_SIZE)
        return REFUSE(parser, "The command line is longer than %d characters.",
                      BOOT_CMDLINE_SIZE - 1);
    memcpy(parser->info->cmdline, text, length);
    return true;
}

static bool take_module_name(struct parser *parser, struct boot_module *module, const char *text)
{
    const char *space = strchr(text, ' ');
    size_t length = space == NULL ? strlen(text) : (size_t)(space - text);

    if (length >= BOOT_MODULE_NAME_SIZE)
        return REFUSE(parser, "A module's name is longer than %d characters: %.32s...",
                      BOOT_MODULE_NAME_SIZE - 1, text);
    memcpy(module->name, text, length);
    module->name[length] = '\0';
    return true;
}

static bool take_module(struct parser *parser, const u8 *bytes, u32 size)
{
    struct boot_info *info = parser->info;
    struct boot_module *module = &info->modules[info->module_count];
    const u8 *text = bytes + sizeof(struct module_tag);
    struct module_tag tag;

    memcpy(&tag, bytes, sizeof(tag));
    if (text_size(text, size - sizeof(tag)) == 0)
        return REFUSE(parser, "A module tag is truncated.");
    if (info->module_count == BOOT_MODULES_MAX)
        return REFUSE(parser, "There are more than %d modules.", BOOT_MODULES_MAX);
    if (!take_module_name(parser, module, (const char *)text))
        return false;
    if (tag.end < tag.start)
        return REFUSE(parser, "The module %s ends before it begins.", module->name);
    module->start = tag.start;
    module->size = tag.end - tag.start;
    info->module_count++;
    return true;
}

static bool take_map(struct parser *parser, struct map *map, const u8 *bytes, u32 size,
                     u32 smallest_entry)
{
    struct map_tag tag;

    memcpy(&tag, bytes, sizeof(tag));
    if (tag.entry_size < smallest_entry)
        return REFUSE(parser, "The %smemory map has entries of %u bytes.", map->efi ? "EFI " : "",
                      tag.entry_size);
    if ((size - sizeof(tag)) % tag.entry_size != 0)
        return REFUSE(parser, "The %smemory map tag is truncated.", map->efi ? "EFI " : "");
    map->entries = bytes + sizeof(tag);
    map->entry_size = tag.entry_size;
    map->count = (u32)(size - sizeof(tag)) / tag.entry_size;
    return true;
}

static bool take_memory_map(struct parser *parser, const u8 *tag, u32 size)
{
    return take_map(parser, &parser->memory_map, tag, size, sizeof(struct memory_map_entry));
}

static bool take_efi_map(struct parser *parser, const u8 *tag, u32 size)
{
    parser->info->efi = true;
    parser->efi_map.efi = true;
    return take_map(parser, &parser->efi_map, tag, size, sizeof(struct efi_descriptor));
}

static bool take_efi_system_table(struct parser *parser, const u8 *tag, u32 size)
{
    parser->info->efi = true;
    return true;
}

static bool take_efi_boot_services(struct parser *parser, const u8 *tag, u32 size)
{
    return REFUSE(parser, "The boot loader left the EFI boot services running.");
}

static bool take_colors(struct parser *parser, const u8 *bytes, u32 size)
{
    struct boot_framebuffer *framebuffer = &parser->info->framebuffer;
    struct framebuffer_colors colors;

    if (size < sizeof(struct framebuffer_tag) + sizeof(colors))
        return REFUSE(parser, "The framebuffer tag is truncated.");
    memcpy(&colors, bytes + sizeof(struct framebuffer_tag), sizeof(colors));
    framebuffer->red_position = colors.red_position;
    framebuffer->red_size = colors.red_size;
    framebuffer->green_position = colors.green_position;
    framebuffer->green_size = colors.green_size;
    framebuffer->blue_position = colors.blue_position;
    framebuffer->blue_size = colors.blue_size;
    return true;
}

static bool take_framebuffer(struct parser *parser, const u8 *bytes, u32 size)
{
    struct boot_framebuffer *framebuffer = &parser->info->framebuffer;
    struct framebuffer_tag tag;

    memcpy(&tag, bytes, sizeof(tag));
    if (tag.type != FRAMEBUFFER_TYPE_RGB && tag.type != FRAMEBUFFER_TYPE_EGA_TEXT)
        return true;
    framebuffer->kind = tag.type == FRAMEBUFFER_TYPE_RGB ? FRAMEBUFFER_RGB : FRAMEBUFFER_TEXT;
    framebuffer->address = tag.address;
    framebuffer->pitch = tag.pitch;
    framebuffer->width = tag.width;
    framebuffer->height = tag.height;
    framebuffer->bits_per_pixel = tag.bits_per_pixel;
    return tag.type == FRAMEBUFFER_TYPE_EGA_TEXT || take_colors(parser, bytes, size);
}

static void copy_rsdp(struct boot_info *info, const u8 *tag, u32 size)
{
    info->rsdp_size = size;
    memcpy(info->rsdp, tag + sizeof(struct tag_header), size);
}

static bool take_old_rsdp(struct parser *parser, const u8 *tag, u32 size)
{
    if (!parser->has_new_rsdp)
        copy_rsdp(parser->info, tag, RSDP_V1_SIZE);
    return true;
}

static bool take_new_rsdp(struct parser *parser, const u8 *tag, u32 size)
{
    parser->has_new_rsdp = true;
    copy_rsdp(parser->info, tag, RSDP_V2_SIZE);
    return true;
}

/* The last word of each: may there be several? */
#define TAG(type, name, take, smallest, many) [type] = {name, take, smallest, many}
#define CONTENT(structure)                    (sizeof(structure) - sizeof(struct tag_header))

static const struct {
    const char *name;
    bool (*take)(struct parser *parser, const u8 *tag, u32 size);
    u32 smallest; /* without the header */
    bool many;
} tags[] = {
    TAG(TAG_COMMAND_LINE, "command line", take_command_line, 0, false),
    TAG(TAG_MODULE, "module", take_module, CONTENT(struct module_tag), true),
    TAG(TAG_MEMORY_MAP, "memory map", take_memory_map, CONTENT(struct map_tag), false),
    TAG(TAG_FRAMEBUFFER, "framebuffer", take_framebuffer, CONTENT(struct framebuffer_tag), false),
    TAG(TAG_EFI32_SYSTEM_TABLE, "EFI32 system table", take_efi_system_table, sizeof(u32), false),
    TAG(TAG_EFI64_SYSTEM_TABLE, "EFI64 system table", take_efi_system_table, sizeof(u64), false),
    TAG(TAG_ACPI_OLD_RSDP, "ACPI 1.0 RSDP", take_old_rsdp, RSDP_V1_SIZE, false),
    TAG(TAG_ACPI_NEW_RSDP, "ACPI 2.0 RSDP", take_new_rsdp, RSDP_V2_SIZE, false),
    TAG(TAG_EFI_MEMORY_MAP, "EFI memory map", take_efi_map, CONTENT(struct map_tag), false),
    TAG(TAG_EFI_BOOT_SERVICES, "EFI boot services", take_efi_boot_services, 0, false),
};

static bool take_tag(struct parser *parser, u32 type, const u8 *tag, u32 size)
{
    if (type >= ARRAY_SIZE(tags) || tags[type].take == NULL)
        return true;
    if (size - sizeof(struct tag_header) < tags[type].smallest)
        return REFUSE(parser, "The %s tag is truncated.", tags[type].name);
    if (!tags[type].many && (parser->seen & BIT(type)) != 0)
        return REFUSE(parser, "There are two %s tags.", tags[type].name);
    parser->seen |= (u32)BIT(type);
    return tags[type].take(parser, tag, size);
}

static bool take_tags(struct parser *parser, const u8 *data, u64 size)
{
    struct tag_header tag;
    u64 offset = sizeof(struct information_header);

    while (range_within(offset, sizeof(tag), size)) {
        memcpy(&tag, data + offset, sizeof(tag));
        if (tag.size < sizeof(tag) || !range_within(offset, tag.size, size))
            return REFUSE(parser, "The boot information's tag of type %u is truncated.", tag.type);
        if (tag.type == TAG_END)
            return true;
        if (!take_tag(parser, tag.type, data + offset, tag.size))
            return false;
        offset += ALIGN_UP(tag.size, TAG_ALIGNMENT);
    }
    return REFUSE(parser, "The boot information has no end tag.");
}

static enum boot_region_type region_type(u32 type)
{
    switch (type) {
    case MEMORY_AVAILABLE:
        return REGION_USABLE;
    case MEMORY_ACPI_RECLAIMABLE:
        return REGION_ACPI_RECLAIMABLE;
    case MEMORY_ACPI_NVS:
        return REGION_ACPI_NVS;
    case MEMORY_BAD:
        return REGION_BAD;
    default:
        return REGION_RESERVED;
    }
}

static enum boot_region_type efi_region_type(u32 type)
{
    switch (type) {
    case EFI_LOADER_CODE:
    case EFI_LOADER_DATA:
    case EFI_BOOT_SERVICES_CODE:
    case EFI_BOOT_SERVICES_DATA:
    case EFI_CONVENTIONAL_MEMORY:
        return REGION_USABLE;
    case EFI_ACPI_RECLAIM_MEMORY:
        return REGION_ACPI_RECLAIMABLE;
    case EFI_ACPI_MEMORY_NVS:
        return REGION_ACPI_NVS;
    case EFI_UNUSABLE_MEMORY:
        return REGION_BAD;
    default:
        return REGION_RESERVED;
    }
}

struct span {
    u64 start, end;
    enum boot_region_type type;
};

static struct span map_entry(const struct map *map, u32 index)
{
    const u8 *bytes = map->entries + (size_t)index * map->entry_size;
    struct memory_map_entry entry;
    struct efi_descriptor descriptor;

    if (!map->efi) {
        memcpy(&entry, bytes, sizeof(entry));
        return (struct span){entry.start, add_saturating(entry.start, entry.size),
                             region_type(entry.type)};
    }
    memcpy(&descriptor, bytes, sizeof(descriptor));
    descriptor.pages = MIN(descriptor.pages, UINT64_MAX / EFI_PAGE_SIZE);
    return (struct span){
        descriptor.physical_start,
        add_saturating(descriptor.physical_start, descriptor.pages * EFI_PAGE_SIZE),
        efi_region_type(descriptor.type)};
}

static bool less_usable(enum boot_region_type a, enum boot_region_type b)
{
    static const u8 rank[] = {
        [REGION_USABLE] = 0,   [REGION_ACPI_RECLAIMABLE] = 1,
        [REGION_ACPI_NVS] = 2, [REGION_RESERVED] = 3,
        [REGION_BAD] = 4,
    };

    return rank[a] > rank[b];
}

/* The first stretch at or above `from` that the same entries cover throughout; false when there
 * is none. */
static bool next_span(const struct map *map, u64 from, struct span *span)
{
    struct span entry;
    bool found = false;

    *span = (struct span){.start = UINT64_MAX, .end = UINT64_MAX};
    for (u32 i = 0; i < map->count; i++) {
        entry = map_entry(map, i);
        if (entry.end > MAX(from, entry.start))
            span->start = MIN(span->start, MAX(from, entry.start));
    }
    for (u32 i = 0; i < map->count; i++) {
        entry = map_entry(map, i);
        if (entry.start > span->start) {
            span->end = MIN(span->end, entry.start);
        } else if (entry.end > span->start) {
            span->end = MIN(span->end, entry.end);
            if (!found || less_usable(entry.type, span->type))
                span->type = entry.type;
            found = true;
        }
    }
    return found;
}

static bool add_region(struct parser *parser, const struct span *span)
{
    struct boot_info *info = parser->info;
    struct boot_region *last = &info->regions[info->region_count];

    if (info->region_count > 0 && last[-1].type == span->type &&
        last[-1].start + last[-1].size == span->start) {
        last[-1].size += span->end - span->start;
        return true;
    }
    if (info->region_count == BOOT_REGIONS_MAX)
        return REFUSE(parser, "The memory map has more than %d regions.", BOOT_REGIONS_MAX);
    *last = (struct boot_region){span->start, span->end - span->start, span->type};
    info->region_count++;
    return true;
}

static bool make_regions(struct parser *parser)
{
    const struct map *map = &parser->memory_map;
    struct span span = {.end = 0};

    if (map->entries == NULL)
        map = &parser->efi_map;
    if (map->entries == NULL)
        return REFUSE(parser, "The boot loader gave no memory map.");
    while (next_span(map, span.end, &span)) {
        if (!add_region(parser, &span))
            return false;
    }
    for (u32 i = 0; i < parser->info->region_count; i++) {
        if (parser->info->regions[i].type == REGION_USABLE)
            return true;
    }
    return REFUSE(parser, "The memory map has no usable memory.");
}

static bool inside_usable(const struct boot_info *info, const struct boot_module *module)
{
    for (u32 i = 0; i < info->region_count; i++) {
        const struct boot_region *region = &info->regions[i];

        if (region->type == REGION_USABLE && module->start >= region->start &&
            range_within(module->start - region->start, module->size, region->size))
            return true;
    }
    return module->size == 0;
}

/* Modules end below 4 GiB and kernels below the end of the address space: no sum wraps. */
static bool overlaps(const struct boot_module *module, paddr_t start, paddr_t end)
{
    return module->start < end && start < module->start + module->size;
}

static bool check_pair(struct parser *parser, const struct boot_module *a,
                       const struct boot_module *b)
{
    if (overlaps(a, b->start, b->start + b->size))
        return REFUSE(parser, "The modules %.40s and %.40s overlap.", a->name, b->name);
    if (a->name[0] != '\0' && strcmp(a->name, b->name) == 0)
        return REFUSE(parser, "Two modules have the name %s.", a->name);
    return true;
}

static bool check_modules(struct parser *parser, paddr_t kernel_start, paddr_t kernel_end)
{
    struct boot_info *info = parser->info;

    for (u32 i = 0; i < info->module_count; i++) {
        const struct boot_module *module = &info->modules[i];

        if (overlaps(module, kernel_start, kernel_end))
            return REFUSE(parser, "The module %s lies over the hypervisor.", module->name);
        if (!inside_usable(info, module))
            return REFUSE(parser, "The module %s lies outside usable memory.", module->name);
        for (u32 j = 0; j < i; j++) {
            if (!check_pair(parser, &info->modules[j], module))
                return false;
        }
    }
    return true;
}

bool multiboot2_parse(const void *data, size_t size, paddr_t kernel_start, paddr_t kernel_end,
                      struct boot_info *info, char error[BOOT_ERROR_SIZE])
{
    struct parser parser = {.info = info, .error = error};
    struct information_header header;

    memset(info, 0, sizeof(*info));
    if (size < sizeof(header))
        return REFUSE(&parser, "The boot information is truncated.");
    memcpy(&header, data, sizeof(header));
    if (header.total_size < sizeof(header) || header.total_size > size)
        return REFUSE(&parser, "The boot information is truncated.");
    return take_tags(&parser, data, header.total_size) && make_regions(&parser) &&
           check_modules(&parser, kernel_start, kernel_end);
}

bool cmdline_get(const char *cmdline, const char *key, char *value, size_t size)
{
    size_t key_length = strlen(key);
    const char *last = NULL;
    size_t length = 0;

    for (const char *word = cmdline; *word != '\0'; word += *word == ' ') {
        const char *end = strchr(word, ' ');
        size_t word_length = end == NULL ? strlen(word) : (size_t)(end - word);

        if (word_length > key_length && word[key_length] == '=' &&
            strncmp(word, key, key_length) == 0) {
            last = word + key_length + 1;
            length = word_length - key_length - 1;
        }
        word += word_length;
    }
    if (last == NULL || length >= size)
        return false;
    memcpy(value, last, length);
    value[length] = '\0';
    return true;
}

static char folded(char c)
{
    if (c == ' ')
        return '-';
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool list_names(const char *list, const char *name)
{
    for (const char *at = list; *at != '\0'; at += *at == ',') {
        size_t i = 0;

        while (name[i] != '\0' && folded(at[i]) == folded(name[i]))
            i++;
        if (name[i] == '\0' && (at[i] == ',' || at[i] == '\0'))
            return true;
        while (*at != '\0' && *at != ',')
            at++;
    }
    return false;
}
