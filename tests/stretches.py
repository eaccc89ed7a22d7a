# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""The longest stretch in host mode that a command brings about while a guest wants the CPU, for
tests/bench: the hypervisor's instructions until it enters a guest again, and until it takes
interrupts, counted by the plugin of QEMU's; the former by Bochs's debugger, too."""
from bochs_debugger import Account, BochsDebugger
from loads import (CONSOLE_BYTES, ENDLESS, SERIAL, WORK, Counts, counting, run, send_watched,
                   wait_for_seconds)

LIMIT = 200_000  # instructions
VTX_IPS = 100_000_000  # with more, most of the time would be the guest's while the line sends
VTX_SKIPS = "metrics", "dump many"  # one to four minutes each, which the line takes
DEFINED = 100  # partitions that only stand in the configuration, but for those started
OTHERS = 6
TENANTS = WORK.format(f"mode=compute loops={ENDLESS}") + SERIAL.format(f"send={CONSOLE_BYTES}") + \
    "[big]\nkernel = hello.elf\nmemory = 1G\nautostart = no\n" + \
    "[many]\nkernel = hello.elf\nmemory = 16M\nvcpus = 64\nautostart = no\n" + \
    "[most]\nkernel = hello.elf\nmemory = 16M\nvcpus = 500\nautostart = no\n" + \
    "[again]\nkernel = fault.elf\nmemory = 64M\ncmdline = fault=cf9 after=1\n" + \
    "on_reboot = restart\nautostart = no\n" + \
    "".join(f"[g{number}]\nkernel = hello.elf\nmemory = 2M\nautostart = no\n"
            for number in range(DEFINED - OTHERS))
COMMANDS = ("start big", "info big", "exits big", "dump big", "log big", "destroy big",
            "start many", "info many", "exits many", "dump many", "pause many", "dump many",
            "resume many", "reset many", "destroy many", "list", "list -o json", "metrics",
            "dmesg", "help")
BESIDE_MOST = "list", "top", "host"
BESIDE_STARTS = "list", "help", "dump again", "metrics"
MANY_STARTED = "list", "metrics", "top"
LONG_LINE, PASTED = "set big cmdline=" + 400 * "x", 200 * "y"


def list_candidates(machine):
    """What Tab shows, twice."""
    machine.send("start \t\t")
    machine.expect_exact("> start ")
    machine.expect_exact("> start ")
    machine.send("\x03")
    machine.expect_exact("bulkhead> ")


def edit(machine):
    """Keys in the midst of a long line, and back in the history."""
    machine.send(LONG_LINE + "\x01" + PASTED + "\x05z")
    machine.expect_exact("z")
    machine.send("\x03")
    machine.expect_exact("bulkhead> ")


def command(text, where=""):
    def act(machine):
        machine.command(text, 200)
        if where:
            wait_for_seconds(machine, 0)  # a line of the log has a prompt, too

    return text + where, act


ACTS = (
    ("nothing", lambda machine: wait_for_seconds(machine, 1)),
    *map(command, COMMANDS),
    command("start most"),
    *(command(text, ", beside most") for text in BESIDE_MOST),
    *map(command, ("pause most", "resume most", "reset most", "destroy most")),
    ("names listed by Tab", list_candidates),
    ("a long line edited", edit),
    ("console, 16 KiB shown", send_watched),
    command("start again"),
    *(command(text, ", beside starts") for text in BESIDE_STARTS),
    command("reset serial"),
    ("console, 16 KiB shown, beside starts", send_watched),
    command("destroy again"),
    *(command(f"start g{number}") for number in range(DEFINED - OTHERS)),
    *(command(text, f", {DEFINED - OTHERS} started") for text in MANY_STARTED),
)


class PluginWatch:
    def __init__(self, machine):
        self.counts = Counts(machine)

    def clear(self):
        self.counts.clear_longest()

    def read(self):
        counts = self.counts.read()
        return {"to_guest": counts["longest"], "to_interrupts": counts["longest_interrupts"]}


class DebuggerWatch:
    """Only until a guest is entered."""

    def __init__(self, machine):
        account = Account(BochsDebugger(machine))
        self.stretches, self.start = account.stretches, 0
        account.follow()

    def clear(self):
        self.start = len(self.stretches)

    def read(self):
        return {"to_guest": max(self.stretches[self.start:])}


def measure_stretches(machine):
    watch = WATCHES[machine.test.emulator](machine)
    machine.boot()
    longest = {}

    def note(name, act):
        wait_for_seconds(machine, 0)
        watch.clear()
        act(machine)
        longest[name] = watch.read()

    assert machine.json("start work")["ok"]
    for name, act in ACTS:
        if name.split(",")[0] not in machine.test.parameter:
            note(name, act)
    machine.power_off()
    return longest


WATCHES = {"qemu": PluginWatch, "bochs": DebuggerWatch}
DESCRIPTION = {"emulator": "qemu", "cpus": 1, "icount": 0, "memory": 2048, "options": counting(),
               "parameter": ()}
VTX_DESCRIPTION = {"emulator": "bochs", "cpus": 1, "memory": 2048, "debugger": True,
                   "ips": VTX_IPS, "quick": 200, "parameter": VTX_SKIPS}


def longest_stretches():
    return {backend: run("stretches", measure_stretches, TENANTS, **description)
            for backend, description in (("vtx", VTX_DESCRIPTION), ("amd", DESCRIPTION))}
