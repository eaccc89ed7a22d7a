# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What stops the boot before there is a monitor: a sentence on the serial line, then a halt. A
debugger stops the machine where GRUB jumps to the hypervisor, and changes what GRUB tells it."""
import re
import struct
from dataclasses import dataclass, field

from debugger import RAX, RBX, STOP_IN_GRUB, Debugger, address_of
from harness import AMD, BOTH, system_test

HELLO = "[hello]\nkernel = hello.elf\nmemory = 8M\nautostart = no\n"
# Multiboot2 specification 2.0, section 3.6
TAG_END, TAG_MODULE, TAG_MEMORY_MAP = 0, 3, 6
TAG_OLD_RSDP, TAG_NEW_RSDP, TAG_EFI_BOOT_SERVICES = 14, 15, 18
MULTIBOOT1_MAGIC = 0x2BADB002
HEADER, MODULE, MAP_HEADER, MAP_ENTRY = "<II", "<II", "<II", "<QQII"
MEMORY_AVAILABLE, MEMORY_RESERVED = 1, 2
FREE = 0x6000000  # where a changed boot information is put
KERNEL = 0x200000
MIB = 1 << 20


@dataclass
class BootInformation:
    """What the boot loader says: EAX, and tags of [type, content]. What is written can be made
    shorter than it claims, and claim what it is not."""
    magic: int
    tags: list = field(default_factory=list)
    total_size: int = None
    lies: dict = field(default_factory=dict)  # a tag's size by its type

    @classmethod
    def read(cls, debugger):
        address = debugger.register(RBX)
        size, _ = struct.unpack(HEADER, debugger.read(address, 8))
        data = b"".join(debugger.read(address + offset, min(1024, size - offset))
                        for offset in range(0, size, 1024))
        self, offset = cls(debugger.register(RAX)), 8
        while offset < size:
            kind, length = struct.unpack_from(HEADER, data, offset)
            self.tags.append([kind, data[offset + 8:offset + length]])
            offset += (length + 7) & ~7
        assert self.tags[-1] == [TAG_END, b""], self.tags[-1]
        return self

    def write(self, debugger):
        data = b""
        for kind, content in self.tags:
            data += struct.pack(HEADER, kind, self.lies.get(kind, 8 + len(content))) + content
            data += bytes(-len(data) % 8)
        data = struct.pack(HEADER, self.total_size or 8 + len(data), 0) + data
        for offset in range(0, len(data), 1024):
            debugger.write(FREE + offset, data[offset:offset + 1024])
        debugger.set_register(RAX, self.magic)
        debugger.set_register(RBX, FREE)

    def all_of(self, kind):
        return [tag for tag in self.tags if tag[0] == kind]

    def drop(self, kind):
        self.tags = [tag for tag in self.tags if tag[0] != kind]

    def insert(self, kind, content):
        self.tags.insert(0, [kind, content])

    def put_module(self, index, start, size):
        tag = self.all_of(TAG_MODULE)[index]
        tag[1] = struct.pack(MODULE, start, start + size) + tag[1][8:]

    def set_memory(self, *ranges):
        self.drop(TAG_MEMORY_MAP)
        entries = b"".join(struct.pack(MAP_ENTRY, *entry, 0) for entry in ranges)
        self.insert(TAG_MEMORY_MAP, struct.pack(MAP_HEADER, 24, 0) + entries)


def not_by_multiboot2(info):
    info.magic = MULTIBOOT1_MAGIC


def no_memory_map(info):
    info.drop(TAG_MEMORY_MAP)


def two_memory_maps(info):
    info.tags.insert(0, info.all_of(TAG_MEMORY_MAP)[0])


def half_a_map_entry(info):
    tag = info.all_of(TAG_MEMORY_MAP)[0]
    tag[1] = tag[1][:-12]


def no_usable_memory(info):
    info.set_memory((0, 256 * MIB, MEMORY_RESERVED))


def too_little_memory(info):
    info.drop(TAG_MODULE)
    info.set_memory((0, 0x9F000, MEMORY_AVAILABLE), (KERNEL, MIB, MEMORY_AVAILABLE))


def module_over_the_hypervisor(info):
    info.put_module(0, KERNEL + 4096, 64)


def module_outside_memory(info):
    info.put_module(1, 0xFEE00000, 64)


def modules_overlap(info):
    info.put_module(0, FREE + MIB, 8192)
    info.put_module(1, FREE + MIB + 4096, 8192)


def module_ends_before_it_begins(info):
    info.put_module(1, FREE + MIB, -4096)


def two_modules_of_one_name(info):
    info.all_of(TAG_MODULE)[1][1] = struct.pack(MODULE, FREE + MIB, FREE + MIB) + b"tenants.conf\0"


def tag_smaller_than_its_header(info):
    info.lies[TAG_MEMORY_MAP] = 4


def tag_beyond_the_end(info):
    info.lies[TAG_MODULE] = 0x10000000


def truncated_module_tag(info):
    info.all_of(TAG_MODULE)[0][1] = struct.pack("<I", KERNEL)


def no_end_tag(info):
    info.drop(TAG_END)


def no_tags(info):
    info.total_size = 4


def efi_boot_services(info):
    info.insert(TAG_EFI_BOOT_SERVICES, b"")


SENTENCES = {
    not_by_multiboot2: "not loaded by a Multiboot2 boot loader (EAX is 2badb002h)",
    no_memory_map: "The boot loader gave no memory map.",
    two_memory_maps: "There are two memory map tags.",
    half_a_map_entry: "The memory map tag is truncated.",
    no_usable_memory: "The memory map has no usable memory.",
    too_little_memory: "no memory: ",
    module_over_the_hypervisor: "The module tenants.conf lies over the hypervisor.",
    module_outside_memory: "The module hello.elf lies outside usable memory.",
    modules_overlap: "The modules tenants.conf and hello.elf overlap.",
    module_ends_before_it_begins: "The module hello.elf ends before it begins.",
    two_modules_of_one_name: "Two modules have the name tenants.conf.",
    tag_smaller_than_its_header: "The boot information's tag of type 6 is truncated.",
    tag_beyond_the_end: "The boot information's tag of type 3 is truncated.",
    truncated_module_tag: "The module tag is truncated.",
    no_end_tag: "The boot information has no end tag.",
    no_tags: "The boot information is truncated.",
    efi_boot_services: "The boot loader left the EFI boot services running.",
}


def expect_halt(machine, debugger, sentence):
    machine.expect_exact(sentence, 60)
    machine.wait_until("it halts", debugger.is_halted, 20)


@system_test(HELLO, {change.__name__.replace("_", "-"): {"parameter": (change, sentence)}
                     for change, sentence in SENTENCES.items()},
             **AMD, memory=256, debugger=True, grub=STOP_IN_GRUB)
def boot_stops(machine):
    change, sentence = machine.test.parameter
    debugger = Debugger.in_grub(machine)
    debugger.run_to(address_of("boot_entry"))
    information = BootInformation.read(debugger)
    change(information)
    information.write(debugger)
    debugger.go_on()
    expect_halt(machine, debugger, sentence)


def boot_without(machine, *kinds):
    """Boots without the tags of these kinds."""
    debugger = Debugger.in_grub(machine)
    debugger.run_to(address_of("boot_entry"))
    information = BootInformation.read(debugger)
    for kind in kinds:
        assert information.all_of(kind), f"there is no tag of type {kind}"
        information.drop(kind)
    information.write(debugger)
    debugger.leave()
    return machine.boot()


@system_test(HELLO, **AMD, cpus=2, memory=256, debugger=True, grub=STOP_IN_GRUB)
def boots_without_acpi(machine):
    log = boot_without(machine, TAG_OLD_RSDP)
    assert "the boot loader found no RSDP: only this CPU is used" in log, log
    assert "PIT" in log and machine.json("host")["cpus"] == 1, log
    assert machine.json("start hello")["ok"]
    machine.wait_in_log("hello", "heartbeat 1")


@system_test(HELLO, **AMD, cpus=2, memory=256, grub=("insmod acpi", "acpi --exclude=FACP"))
def boots_without_a_fadt(machine):
    log = machine.boot()
    assert "HPET" in machine.json("host")["tsc_source"], log
    assert "2 of 2 CPUs are up" in log, log
    assert machine.json("start hello")["ok"]
    machine.wait_in_log("hello", "heartbeat 1")


@system_test(HELLO, **AMD, firmware="uefi", cpus=2, memory=256, debugger=True, grub=STOP_IN_GRUB)
def boots_with_the_efi_memory_map_alone(machine):
    boot_without(machine, TAG_MEMORY_MAP)
    host = machine.json("host")
    assert host["firmware"] == "UEFI" and host["cpus"] == 2, host
    assert machine.json("start hello")["ok"]
    machine.wait_in_log("hello", "heartbeat 1")
    machine.power_off()


# CPUs that not even the monitor can run on.
@system_test(HELLO, {
    "no-long-mode": {"cpu_model": "qemu32,+apic", "parameter": "this CPU has no 64-bit mode: "},
    "no-nx": {"cpu_model": "EPYC,-nx", "parameter": "this CPU shows no NX"},
    "no-apic": {"cpu_model": "EPYC,-apic", "parameter": "this CPU has no local APIC"},
}, **AMD, memory=256, debugger=True)
def cpu_will_not_do(machine):
    machine.expect_exact(machine.test.parameter, 60)
    debugger = Debugger(machine)
    debugger.go_on()
    expect_halt(machine, debugger, "")


# ACPI specification 6.5, section 5.2.12
MADT_LAPIC, MADT_IOAPIC, MADT_OVERRIDE = 0, 1, 2
LAPIC_ADDRESS, IOAPIC_ADDRESS = 0xFEE00000, 0xFEC00000
ABSENT_CPU = 9


def madt():
    """Of two CPUs that are there and one between them that is not."""
    body = struct.pack("<II", LAPIC_ADDRESS, 1)
    for number, apic_id in enumerate((0, ABSENT_CPU, 1)):
        body += struct.pack("<BBBBI", MADT_LAPIC, 8, number, apic_id, 1)
    body += struct.pack("<BBBBII", MADT_IOAPIC, 12, 2, 0, IOAPIC_ADDRESS, 0)
    body += struct.pack("<BBBBIH", MADT_OVERRIDE, 10, 0, 0, 2, 0)  # ISA's IRQ 0 is line 2
    header = struct.pack("<4sIBB6s8sI4sI", b"APIC", 36 + len(body), 3, 0, b"TEST  ", b"TESTMADT",
                         1, b"TEST", 1)
    table = bytearray(header + body)
    table[9] = -sum(table) & 0xFF
    return table


@system_test(HELLO, BOTH, cpus=2, memory=256, files={"madt": madt}, grub_files=("madt",),
             grub=("insmod acpi", "acpi --exclude=APIC /boot/madt"))
def a_cpu_that_does_not_answer(machine):
    log = machine.boot()
    assert f"CPU with APIC ID {ABSENT_CPU} did not answer INIT-SIPI: left out" in log, log
    assert "2 of 3 CPUs are up" in log, log
    host = machine.json("host")
    assert host["cpus"] == 2 and host["cpus_in_tables"] == 3, host
    assert machine.json("start hello")["ok"]
    machine.wait_in_log("hello", "heartbeat 1")
    machine.power_off()


def madt_with_a_wrong_checksum():
    table = madt()
    table[9] ^= 1
    return table


@system_test(HELLO, **AMD, cpus=2, memory=256, files={"madt": madt_with_a_wrong_checksum},
             grub_files=("madt",), grub=("insmod acpi", "acpi --exclude=APIC /boot/madt"))
def a_table_with_a_wrong_checksum(machine):
    log = machine.boot()
    assert re.search("ACPI: .*APIC.*checksum", log), log
    assert machine.json("host")["cpus"] == 1, log
    assert machine.json("start hello")["ok"]
    machine.wait_in_log("hello", "heartbeat 1")
    machine.power_off()


# QEMU's q35 has 2 GiB below 4 GiB then: the guest lies above in part.
@system_test("[big]\nkernel = hello.elf\nmemory = 2200M\n", **AMD, memory=3072)
def memory_above_4_gib(machine):
    machine.boot()
    host = machine.json("host")
    assert 3060 * MIB < host["memory"] <= 3072 * MIB, host
    machine.wait_in_log("big", "heartbeat 1")
    machine.power_off()
