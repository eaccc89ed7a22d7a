# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What a boot of Linux costs, for tests/bench: from the kernel's first instruction to a program that
the first process runs before it prints its line, under the hypervisor and on the bare machine.
Under QEMU the plugin counts, under Bochs its debugger."""
import gzip
import re
import stat
import struct

from bochs_debugger import Account, BochsDebugger
from loads import MIB, BareMachine, Counts, Meter, counting, exits_by_name, run, wait_for_seconds
from harness import GUESTS, ROOT

CMDLINE = "console=ttyS0 tenant=web quiet nokaslr"
INITRD = "marked.cpio.gz"
TENANTS = f"""[web]
kernel    = vmlinuz
initrd    = {INITRD}
cmdline   = {CMDLINE}
memory    = 256M
autostart = no
"""
GRUB = f"linux /boot/vmlinuz {CMDLINE}", f"initrd /boot/{INITRD}"
START = "start web\rconsole web\r"  # what they answer is not waited for: the debugger may stop them
LINE = "TENANT web up"
BARE_OPTIONS = ("cpu: ignore_bad_msrs=1",)  # Bochs has no IA32_MISC_ENABLE, which the kernel reads
SETTLE_S, IDLE_S, RUN_TIMEOUT = 4, 10, 500

# The kernel, as it is not randomised: GRUB and Bulkhead load it to the same address, and it unpacks
# itself to there, too, and runs from the second one then.
KERNEL_ADDRESS, KERNEL_ENTRIES, KERNEL_SIZE = 0x1000000, 2 * MIB, 32 * MIB
KERNEL_LINEAR = 0xFFFFFFFF81000000
# How it sleeps: VERW, STI, HLT; or MONITOR, and MWAIT soon after it.
SLEEPS = (rb"\x0f\x00[\x28-\x2f]....\xfb(\xf4)", rb"\x0f\x01\xc8.{1,64}?(\x0f\x01\xc9)")

# The program: an ELF with one segment, exit(0), at an address that nothing else has.
MARK_BASE = 0x5_0000_0000
MARK_CODE = bytes.fromhex("31ff b83c000000 0f05")  # xor edi, edi; mov eax, 60; syscall
MARK_HEADERS = 64 + 56  # struct Elf64_Ehdr and Elf64_Phdr
MARK = MARK_BASE + MARK_HEADERS


def mark_program():
    size = MARK_HEADERS + len(MARK_CODE)
    header = struct.pack("<16s2HI3QI6H", b"\x7fELF\2\1\1", 2, 62, 1, MARK, 64, 0, 0, 64, 56, 1,
                         0, 0, 0)
    segment = struct.pack("<2I6Q", 1, 5, 0, MARK_BASE, MARK_BASE, size, size, 4096)
    return header + segment + MARK_CODE


def newc(name, data):
    """An executable file in an archive as `cpio -H newc` makes it."""
    fields = (0, stat.S_IFREG | 0o755, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    header = "070701" + "".join(f"{field:08x}" for field in fields) + name + "\0"
    return b"".join(part + bytes(-len(part) % 4) for part in (header.encode(), data))


def marked_initrd():
    """The tenant's, followed by the program and an init that runs it."""
    with open(f"{GUESTS}/linux.cpio.gz", "rb") as file:
        initrd = file.read()
    with open(f"{ROOT}/guests/linux/init", "rb") as file:
        init = file.read()
    assert init.count(b"\necho ") == 1
    init = init.replace(b"\necho ", b"\n/mark\necho ")
    return initrd + gzip.compress(newc("mark", mark_program()) + newc("init", init) +
                                  newc("TRAILER!!!", b""), mtime=0)


FILES = {INITRD: marked_initrd}


# ---- under the hypervisor ------------------------------------------------------------------------

def count_by_plugin(machine):
    counts = Counts(machine)
    machine.boot()
    counts.clear_marks()
    machine.send(START)
    machine.expect_exact(LINE, RUN_TIMEOUT)
    hypervisor, guest = counts.between_marks()
    return {"hypervisor": hypervisor, "guest": guest}


def count_by_debugger(machine):
    debugger = BochsDebugger(machine)
    account = Account(debugger, MARK)
    debugger.let_go()
    machine.boot()
    machine.send(START)
    account.run_to(MARK)
    debugger.leave()
    machine.expect_exact(LINE)
    return {"hypervisor": account.hypervisor, "guest": account.guest}


def measure_boot(machine):
    result = machine.test.parameter(machine)
    machine.detach()
    result["exits"] = {row["kind"]: {"count": row["count"], "instructions": row["cycles"]}
                       for row in machine.json("exits web")["exits"]}
    info = machine.info("web")
    result.update(own_memory=info["hypervisor_memory"], page_tables=info["page_tables"])
    wait_for_seconds(machine, SETTLE_S)
    exits = exits_by_name(machine)["web"]
    window = Meter(machine).window(lambda: wait_for_seconds(machine, IDLE_S))
    exits = exits_by_name(machine)["web"] - exits
    result["idle_exits_per_second"] = round(exits / window["seconds"], 1)
    host = machine.json("host")
    result.update(start_to_prompt=host["boot_ticks"],
                  longest_host=max(cpu["longest_host_cycles"] for cpu in host["cpu"]))
    machine.power_off()
    return result


# ---- on the bare machine -------------------------------------------------------------------------

def count_bare_by_plugin(machine):
    counts = Counts(machine)
    machine.expect_exact(LINE, RUN_TIMEOUT)
    return sum(counts.between_marks())


def sleeps_of_kernel(debugger, folder):
    """The addresses, when the kernel is about to leave where it was unpacked to."""
    text = debugger.memory(f"{folder}/kernel", KERNEL_ADDRESS, KERNEL_SIZE)
    found = [KERNEL_LINEAR + match.start(1)
             for pattern in SLEEPS for match in re.finditer(pattern, text, re.DOTALL)]
    assert found, "the kernel has no way to sleep"
    return found


def count_bare_by_debugger(machine):
    debugger = BochsDebugger(machine)
    debugger.break_at(KERNEL_ADDRESS)
    start = debugger.go_on()[1]
    debugger.go_on()
    sleeps = sleeps_of_kernel(debugger, machine.folder)
    debugger.break_at(MARK, *sleeps)
    asleep = 0
    address, now = debugger.go_on()
    while address != MARK:
        asleep += debugger.sleep()
        address, now = debugger.go_on()
    return now - start - asleep


# ---- both ----------------------------------------------------------------------------------------

WAYS = {"qemu": (count_by_plugin, count_bare_by_plugin),
        "bochs": (count_by_debugger, count_bare_by_debugger)}


def boot(emulator):
    under_hypervisor, bare = WAYS[emulator]
    tools = {"options": counting(KERNEL_ADDRESS, KERNEL_ENTRIES, MARK)} if emulator == "qemu" else \
        {"debugger": True}
    result = run("linux", measure_boot, TENANTS, emulator=emulator, parameter=under_hypervisor,
                 memory=1024, files=FILES, virtual_interrupts=True, **tools)
    if emulator == "bochs":
        tools["options"] = BARE_OPTIONS
    result["bare"] = run("linux-bare", bare, emulator=emulator, memory=256, machine=BareMachine,
                         files=FILES, grub_files=("vmlinuz", INITRD), grub=GRUB, **tools)
    return result
