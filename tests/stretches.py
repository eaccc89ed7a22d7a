# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""The longest stretch in host mode that a command brings about while a guest wants the CPU, for
tests/bench: the hypervisor's instructions until it enters a guest again, and until it takes
interrupts, counted by the plugin of QEMU's."""
from loads import (CONSOLE_BYTES, ENDLESS, SERIAL, WORK, Counts, counting, run, send_watched,
                   wait_for_seconds)

LIMIT = 200_000  # instructions
DEFINED = 100  # partitions that only stand in the configuration, but for those started
TENANTS = WORK.format(f"mode=compute loops={ENDLESS}") + SERIAL.format(f"send={CONSOLE_BYTES}") + \
    "[big]\nkernel = hello.elf\nmemory = 1G\nautostart = no\n" + "".join(
        f"[g{number}]\nkernel = hello.elf\nmemory = 2M\nautostart = no\n"
        for number in range(DEFINED - 3))
COMMANDS = ("start big", "info big", "exits big", "dump big", "log big", "destroy big", "list",
            "list -o json", "metrics", "dmesg", "help")


def measure_stretches(machine):
    machine.boot()
    counts, longest = Counts(machine), {}

    def note(name, act):
        wait_for_seconds(machine, 0)
        counts.clear_longest()
        act()
        after = counts.read()
        longest[name] = {"to_guest": after["longest"],
                         "to_interrupts": after["longest_interrupts"]}

    assert machine.json("start work")["ok"]
    note("nothing", lambda: wait_for_seconds(machine, 1))
    for command in COMMANDS:
        note(command, lambda: machine.command(command, 200))
    note("console, 16 KiB shown", lambda: send_watched(machine))
    for number in range(DEFINED - 3):
        machine.json(f"start g{number}")
    for command in "list", "metrics", "top":
        note(f"{command}, {DEFINED} started", lambda: machine.command(command, 200))
    machine.power_off()
    return longest


DESCRIPTION = {"emulator": "qemu", "cpus": 1, "icount": 0, "memory": 2048, "options": counting()}


def longest_stretches():
    return run("stretches", measure_stretches, TENANTS, **DESCRIPTION)
