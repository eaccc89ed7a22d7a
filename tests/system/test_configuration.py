# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What is wrong in a configuration or an image keeps that partition out, by name, and no other."""
from harness import AMD, BOTH, GUESTS, UP, system_test

ERRORS = """[good]
kernel = hello.elf
memory = 8M

[unknown-key]
kernel = hello.elf
colour = blue

[bad-value]
kernel = hello.elf
memory = 12Q

[no-kernel]
memory = 8M

[good]
kernel = hello.elf

[absent-image]
kernel = nowhere.elf

[also-good]
kernel = hello.elf  # a comment
memory = 8M
"""


@system_test(ERRORS, BOTH, memory=256)
def errors_in_the_configuration(machine):
    log = machine.boot()
    for line, word in (7, "colour"), (11, "12Q"), (13, "kernel"), (16, "good"), (19, "nowhere.elf"):
        found = [text for text in log.splitlines()
                 if f"tenants.conf:{line}: [" in text and word in text]
        assert found, f"nothing about line {line}, {word}: {log}"
    for name in "good", "also-good":
        machine.wait_for_state(name, *UP)
        machine.wait_in_log(name, "heartbeat 1")
    others = set(machine.partitions()) - {"good", "also-good"}
    assert others <= {"absent-image"}, others
    machine.power_off()


def truncated(name, size):
    with open(f"{GUESTS}/{name}", "rb") as file:
        return file.read(size)


IMAGES = """
[cut-linux]
kernel = cut.bzimage
memory = 64M

[cut-elf]
kernel = cut.elf
memory = 8M

[text]
kernel = note.txt
memory = 8M

[small]
kernel = vmlinuz
initrd = linux.cpio.gz
memory = 16M

[huge]
kernel = hello.elf
memory = 64G

[good]
kernel = hello.elf
memory = 8M
"""


# A word of the sentence that the log has about each.
WHY_NOT = {"cut-linux": "cut.bzimage", "cut-elf": "cut.elf", "text": "note.txt", "small": "vmlinuz",
           "huge": "65536 MiB"}
FILES = {"cut.bzimage": lambda: truncated("vmlinuz", 1 << 20),
         "cut.elf": lambda: truncated("hello.elf", 5000), "note.txt": lambda: b"not a kernel\n"}


@system_test(IMAGES, BOTH, files=FILES, memory=256)
def images_that_do_not_fit(machine):
    machine.boot()
    machine.wait_in_log("good", "heartbeat 1")
    log = machine.json("dmesg")["log"]
    partitions = machine.partitions()
    for name, word in WHY_NOT.items():
        assert partitions[name]["state"] == "stopped", partitions[name]
        lines = [line for line in log.splitlines() if f"'{name}'" in line]
        assert any(word in line for line in lines), f"{name}: {lines}"
    assert partitions["good"]["state"] in UP
    machine.power_off()


@system_test("", {"amd": AMD}, memory=256)
def an_empty_configuration(machine):
    assert "no module 'tenants.conf', or it is empty: there are no partitions" in machine.boot()
    assert machine.partitions() == {}
    machine.power_off()
