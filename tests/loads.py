# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What whole guests cost, for tests/bench. Under QEMU a plugin counts the hypervisor's
instructions and all others apart. Under Bochs, which has none, they are counted together, as what
the CPUs did not idle; the guests' share of that is what the plugin has counted for the same guest."""
import mmap
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, f"{ROOT}/tests/system")
from bochs_debugger import Account, BochsDebugger  # noqa: E402
from debugger import address_of  # noqa: E402
from harness import GUESTS, Machine, SystemTest  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20
MACHINE_MIB = 512
WORK = """[work]
kernel    = work.elf
cmdline   = {}
memory    = 16M
autostart = no
exit_port = 0xf4
on_crash  = destroy
"""
BUSY_LOOPS = {"compute": 100_000_000, "memory": 50_000_000}
ENDLESS = 1 << 40
BILLION = 10**9
SMALL_GUESTS = 1, 10, 100, 1000
# The ring of a console (core/console.h): what is measured has one page of it.
RING_PAGE, RING_PAGES, RING_AHEAD = 4 * KIB, 16, 2 * KIB
WINDOW_S = 4  # of the measuring machine's time: how long a guest in balance is looked at
SETTLE_S = 1  # of the measured machine's time: until the boot is over and has been shown
CONSOLE_BYTES, TYPED_AT_ONCE = 16 * KIB, 1 * KIB


class Counts:
    """What the plugin tests/plugin/count.c counts in this machine."""

    FIELDS = ("hypervisor", "others", "marked", "hypervisor_at_mark", "others_at_mark", "ended",
              "hypervisor_at_end", "others_at_end", "since", "longest",
              "since_interrupts", "longest_interrupts")
    FORMAT = f"{len(FIELDS)}Q"

    def __init__(self, machine):
        path = f"{machine.folder}/counts"
        machine.wait_until("the plugin counts", lambda: os.path.exists(path))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), struct.calcsize(self.FORMAT))

    def read(self):
        return dict(zip(self.FIELDS, struct.unpack(self.FORMAT, self.memory[:])))

    def clear_marks(self):
        for offset in struct.calcsize("2Q"), struct.calcsize("5Q"):
            self.memory[offset:offset + 8] = bytes(8)

    def clear_longest(self):
        for offset in struct.calcsize("9Q"), struct.calcsize("11Q"):
            self.memory[offset:offset + 8] = bytes(8)

    def between_marks(self):
        """The hypervisor's, and all others."""
        counts = self.read()
        assert counts["marked"] and counts["ended"], "not both marks were passed"
        return [counts[f"{who}_at_end"] - counts[f"{who}_at_mark"]
                for who in ("hypervisor", "others")]


def counting(mark=0, size=1, end=0):
    """QEMU's arguments for it."""
    return ("-plugin", f"{ROOT}/build/host/count.so,counts={{folder}}/counts,"
                       f"mark={mark:#x},size={size:#x},end={end:#x}")


class BareMachine(Machine):
    """Without the hypervisor: GRUB does what test.grub says, with the guests in /boot."""

    def _make_image(self):
        tree, image = f"{self.folder}/tree", f"{self.folder}/image.iso"
        os.makedirs(f"{tree}/boot/grub")
        for name in self.test.grub_files:
            if name in self.test.files:
                with open(f"{tree}/boot/{name}", "wb") as file:
                    file.write(self.test.files[name]())
            else:
                shutil.copy(f"{GUESTS}/{name}", f"{tree}/boot/{name}")
        with open(f"{tree}/boot/grub/grub.cfg", "w", encoding="utf-8") as file:
            file.write("\n".join([*self.test.grub, "boot", ""]))
        subprocess.run(["grub-mkrescue", "-o", image, "--locales=", "--fonts=", "--themes=",
                        "--install-modules=normal multiboot linux iso9660 boot", tree],
                       check=True, capture_output=True)
        return image


def run(name, measure, tenants="", **description):
    test = SystemTest(name, measure, tenants, **{"cpus": 1, "memory": MACHINE_MIB, "timeout": 580,
                                                 "icount": 0, "ips": BILLION, **description})
    print(f"[{name}-{test.emulator}]", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as folder:
        with (test.machine or Machine)(test, folder) as machine:
            return measure(machine)


class Meter:
    """What a machine under the hypervisor has executed, as often as one looks."""

    def __init__(self, machine):
        self.machine = machine
        self.counts = Counts(machine) if machine.test.emulator == "qemu" else None

    def read(self):
        """`busy` is the hypervisor's and the guests' together."""
        host = self.machine.json("host")
        result = {"seconds": host["uptime_ns"] / 1e9}
        if self.counts:
            counts = self.counts.read()
            result.update(hypervisor=counts["hypervisor"], guests=counts["others"])
        result["busy"] = sum(cpu["elapsed_cycles"] - cpu["idle_cycles"] for cpu in host["cpu"])
        return result

    def window(self, act):
        """What came to be while `act` ran, without what reading costs."""
        idle_start, idle_end = self.read(), self.read()
        start = idle_end
        act()
        end = self.read()
        return {key: end[key] - start[key] - (idle_end[key] - idle_start[key]
                                              if key != "seconds" else 0) for key in end}


def wait_for_seconds(machine, seconds):
    def uptime():
        return machine.json("uptime")["uptime_ns"] / 1e9

    end = uptime() + seconds
    while uptime() < end:
        time.sleep(1)


def entry_of(elf):
    with open(elf, "rb") as file:
        return struct.unpack_from("<I", file.read(64), 24)[0]  # e_entry of a 32-bit ELF


# ---- many small guests ----------------------------------------------------------------------

def exits_by_name(machine):
    return {row["name"]: row["exits"]
            for row in machine.json("list", timeout=200)["partitions"]}


def measure_small_guests(machine):
    count = machine.test.parameter
    machine.boot(200)
    meter, result = Meter(machine), {}
    wait_for_seconds(machine, SETTLE_S)
    if meter.counts:
        meter.counts.clear_marks()
        before = meter.counts.read()
    assert machine.json("start g0")["ok"]
    if meter.counts:
        wait_for_seconds(machine, 0)
        after = meter.counts.read()
        assert after["marked"], "no guest has run"
        result["start_to_first_instruction"] = \
            after["hypervisor_at_mark"] - before["hypervisor"]
    for number in range(1, count):
        assert machine.json(f"start g{number}")["ok"]
    last = f"g{count - 1}"
    machine.wait_in_log(last, "heartbeat", timeout=300)
    info = machine.info(last)
    result["memory"] = info["hypervisor_memory"] + info["page_tables"] - \
        min((info["console_bytes"] + RING_AHEAD) // RING_PAGE, RING_PAGES - 1) * RING_PAGE
    exits = exits_by_name(machine)
    window = meter.window(lambda: wait_for_seconds(machine, WINDOW_S))
    progress = [more - exits[name] for name, more in exits_by_name(machine).items()]
    assert min(progress) > 0, "a guest made no progress"
    result.update({f"{key}_per_second": round(value / window["seconds"])
                   for key, value in window.items() if key != "seconds"})
    machine.power_off()
    return result


def measure_start(machine):
    """As the plugin has it, but for what the first key costs before the line editor has it."""
    debugger = BochsDebugger(machine)
    key = address_of("line_editor_byte")
    account = Account(debugger, key)
    debugger.let_go()
    machine.boot(200)
    machine.send("start g0 -o json\r")
    account.run_to_guest(key)
    debugger.leave()
    machine.expect_exact('"ok":true')
    return account.hypervisor


def small_guests(emulator, count):
    tenants = "".join(f"[g{number}]\nkernel = hello.elf\nmemory = 2M\nautostart = no\n"
                      for number in range(count))
    options = counting(entry_of(f"{GUESTS}/hello.elf")) if emulator == "qemu" else ()
    machine = {"emulator": emulator, "memory": MACHINE_MIB + 3 * count}
    result = run(f"{count}-small-guests", measure_small_guests, tenants, parameter=count,
                 options=options, **machine)
    if emulator == "bochs":
        result["start_to_first_instruction"] = \
            run(f"first-of-{count}-small-guests", measure_start, tenants, debugger=True, **machine)
    return result


# ---- one busy guest beside the bare machine ---------------------------------------------------

def work_result(log, mode):
    return int(re.search(rf"work {mode}: (\d+)", log)[1])


def measure_work(machine):
    mode = machine.test.parameter
    machine.boot()
    assert machine.json("start work")["ok"]
    machine.expect_exact("'work' exited", 500)
    result = work_result(machine.log_of("work"), mode)
    machine.power_off()
    return result


def measure_bare_work(machine):
    return int(machine.expect(rf"work {machine.test.parameter}: (\d+)\r", 500)[1])


def work(emulator, mode, loops):
    """The instructions that it took, the hypervisor's among them."""
    return run(mode, measure_work, WORK.format(f"mode={mode} loops={loops}"), emulator=emulator,
               parameter=mode)


def busy_guest(emulator, mode):
    words = f"mode={mode} loops={BUSY_LOOPS[mode]}"
    bare = run(f"{mode}-bare", measure_bare_work, emulator=emulator, parameter=mode,
               machine=BareMachine, grub_files=("work.elf",),
               grub=(f"multiboot /boot/work.elf {words}",))
    total = work(emulator, mode, BUSY_LOOPS[mode])
    return {"instructions": total, "bare_instructions": bare,
            "overhead_percent": round(100 * (total - bare) / bare, 4)}


# ---- a timer of 1 kHz, and being switched away from for it --------------------------------------

def plugin_for(emulator):
    return {"emulator": emulator, "options": counting() if emulator == "qemu" else ()}


def measure_ticks(machine):
    machine.boot()
    assert machine.json("start work")["ok"]
    wait_for_seconds(machine, 1)
    exits = machine.json("list")["partitions"][0]["exits"]
    window = Meter(machine).window(lambda: wait_for_seconds(machine, WINDOW_S))
    exits = machine.json("list")["partitions"][0]["exits"] - exits
    ticks = window.pop("seconds") * 1000
    machine.power_off()
    return {"exits_per_tick": round(exits / ticks, 2),
            **{f"{key}_per_tick": round(value / ticks) for key, value in window.items()}}


def ticking_guest(emulator):
    return run("tick", measure_ticks, WORK.format(f"mode=tick loops={ENDLESS}"),
               **plugin_for(emulator))


def measure_gaps(machine):
    machine.boot()
    for name in "work", "gaps":
        assert machine.json(f"start {name}")["ok"]
    machine.expect_exact("'gaps' exited", 200)
    log = machine.log_of("gaps")
    machine.power_off()
    return [int(number) for number in re.search(r"work gap: (\d+) (\d+) (\d+)", log).groups()]


def world_switch(emulator):
    """Minimum, median and maximum of a busy partition's loss to one that takes a tick: two
    switches, the host's timer, the guest's interrupt and its HLT."""
    tenants = WORK.format(f"mode=tick loops={ENDLESS}") + \
        WORK.format("mode=gaps").replace("[work]", "[gaps]")
    return run("world-switch", measure_gaps, tenants, emulator=emulator)


# ---- the console ----------------------------------------------------------------------------

SERIAL = """[serial]
kernel    = serial.elf
cmdline   = {}
memory    = 16M
"""


def per_byte(window, count):
    return {f"{key}_per_byte": round(value / count) for key, value in window.items()
            if key != "seconds"}


def collect(machine, size):
    """Reads so many bytes of the line."""
    while size > 0:
        size -= len(machine.line.read_nonblocking(size, timeout=machine.test.quick))


def send_watched(machine):
    machine.attach("serial")
    machine.send("x")
    collect(machine, CONSOLE_BYTES)
    machine.detach()


def echo(machine):
    machine.attach("serial")
    for _ in range(0, CONSOLE_BYTES, TYPED_AT_ONCE):
        machine.send("x" * TYPED_AT_ONCE)
        collect(machine, TYPED_AT_ONCE)
    machine.detach()


def measure_console(machine):
    machine.boot()
    machine.wait_for_state("serial", "blocked")
    window = Meter(machine).window(lambda: machine.test.parameter(machine))
    sent = machine.info("serial")["console_bytes"]
    assert sent >= CONSOLE_BYTES, f"{sent} bytes came from the guest"
    machine.power_off()
    return per_byte(window, CONSOLE_BYTES)


def console(emulator):
    """By the byte: sent by polling while nobody watches, one or sixteen a poll; by interrupts to the
    line; typed and echoed."""
    result = {f"{mode}_per_byte": round(work(emulator, mode, CONSOLE_BYTES) / CONSOLE_BYTES)
              for mode in ("polled", "bursts")}
    for name, act, cmdline in (("shown", send_watched, f"send={CONSOLE_BYTES}"),
                               ("echoed", echo, "echo=1")):
        result[name] = run(f"console-{name}", measure_console, SERIAL.format(cmdline),
                           parameter=act, **plugin_for(emulator))
    return result


# ---- all of it --------------------------------------------------------------------------------

def subtract_guests(vtx, amd):
    """The hypervisor's share where only the sum is known: see above."""
    for key in [key for key in vtx if key.startswith("busy")]:
        ending = key.removeprefix("busy")
        vtx[f"hypervisor{ending}"] = vtx[key] - amd[f"guests{ending}"]


def measure_backend(emulator):
    return {
        "small_guests": {str(count): small_guests(emulator, count) for count in SMALL_GUESTS},
        "busy": {mode: busy_guest(emulator, mode) for mode in BUSY_LOOPS},
        "tick": ticking_guest(emulator),
        "world_switch": world_switch(emulator),
        "string_output_1_mib": work(emulator, "copy", 0),
        "console": console(emulator),
    }


def measure(backends):
    results = {backend: measure_backend(description["emulator"])
               for backend, description in backends.items()}
    vtx, amd = results["vtx"], results["amd"]
    for count, row in vtx["small_guests"].items():
        subtract_guests(row, amd["small_guests"][count])
    subtract_guests(vtx["tick"], amd["tick"])
    for name in "shown", "echoed":
        subtract_guests(vtx["console"][name], amd["console"][name])
    return results
