# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""Partitions side by side: two Linuxes and a small guest, and what each may know of the other."""
import json
import re

from harness import AMD, BOTH, ESCAPE, PROMPT, RYZEN, UP, VTX, kernel_release, system_test

TENANTS = """
[web]
kernel  = vmlinuz
initrd  = linux.cpio.gz
cmdline = console=ttyS0 tenant=web
memory  = 256M

[db]
kernel  = vmlinuz
initrd  = linux.cpio.gz
cmdline = console=ttyS0 tenant=db quiet
memory  = 256M
vcpus   = {db_vcpus}

[hello]
kernel  = hello.elf
memory  = 8M
"""


def use_shell(machine, name, vcpus):
    """What a person does: attach, see who is there, type, leave."""
    machine.attach(name)
    banner = machine.expect(rf"TENANT {name} up: (\S+), (\d+) CPUs, (\d+) kB", 400)
    assert banner[1].decode() == kernel_release()
    assert int(banner[2]) == vcpus
    assert 180_000 < int(banner[3]) <= 256 * 1024
    machine.send("\r")
    machine.expect_exact(f"{name}# ", 60)
    machine.send("uname -r; echo $((6*7))\r")
    machine.expect(rf"\n{re.escape(kernel_release())}\r+\n42\r+\n", 60)
    machine.send("echo st''arts; sleep 1000\r")
    machine.expect_exact("starts", 60)
    machine.send_until("\x03", f"{name}# ")  # too early it meets no sleep
    machine.detach()


def heartbeat(machine):
    return int(re.findall(r"heartbeat (\d+)", machine.log_of("hello") + "heartbeat 0")[-2:][0])


def two_linuxes_and_a_small_guest(machine, db_vcpus=1):
    machine.boot()
    states = {name: partition["state"] for name, partition in machine.partitions().items()}
    assert set(states) == {"web", "db", "hello"}, states
    machine.wait_in_log("hello", "heartbeat 2")
    use_shell(machine, "web", 1)
    use_shell(machine, "db", db_vcpus)
    partitions = machine.partitions()
    assert all(partition["state"] in UP and partition["message"] == ""  # "hung", for example
               for partition in partitions.values()), partitions
    before = heartbeat(machine)
    machine.wait_until("the small guest goes on counting",
                       lambda: heartbeat(machine) > before + 1)
    machine.power_off()


AMD_MACHINES = {f"amd-{cpus}-{firmware}": {**AMD, "cpus": cpus, "firmware": firmware}
                for cpus in (1, 2, 4) for firmware in ("bios", "uefi")}
AMD_SHORT = {"amd-1-bios", "amd-2-uefi", "amd-4-bios"}


@system_test(TENANTS.format(db_vcpus=1), {
    "vtx-1": {**VTX, "cpus": 1}, "vtx-2": {**VTX, "cpus": 2},
    "ryzen": {**RYZEN, "cpus": 2, "long": True},
    **{name: {**machine, "long": name not in AMD_SHORT} for name, machine in AMD_MACHINES.items()},
}, memory=1024, timeout=900, quick=60)
def linux_twice(machine):
    two_linuxes_and_a_small_guest(machine)


@system_test(TENANTS.format(db_vcpus=2), BOTH, cpus=2, memory=1024, timeout=900, quick=60)
def linux_smp(machine):
    two_linuxes_and_a_small_guest(machine, db_vcpus=2)


ISOLATION = """
[red]
kernel    = isolation.elf
cmdline   = seed=1 rounds=30 lapic=x2apic
memory    = 16M
exit_port = 0xf4

[blue]
kernel    = isolation.elf
cmdline   = seed=2 rounds=30 lapic=off
memory    = 16M
exit_port = 0xf4
"""


@system_test(ISOLATION, {"vtx-1": {**VTX, "cpus": 1}, "vtx-2": {**VTX, "cpus": 2},
                         "amd-1": {**AMD, "cpus": 1}, "amd-2": {**AMD, "cpus": 2},
                         "ryzen": RYZEN}, memory=256, timeout=300)
def cpu_state_and_memory_stay_ones_own(machine):
    machine.boot()
    for start in 1, 2:  # the second time in memory that was another's
        for name in "red", "blue":
            info = machine.wait_for_state(name, "stopped", "crashed", timeout=150)
            log = machine.log_of(name)
            assert log.count("isolation PASS rounds=30") == start, f"{name}: {log}"
            assert log.count("pages were zero") == start, log
            assert info["state"] == "stopped" and info["exit_status"] == 1, info
        if start == 1:
            assert machine.json("start red")["ok"]
            assert machine.json("start blue")["ok"]
    machine.power_off()


KEEP = "on_crash = preserve\n"

# What a guest does -> further lines of its section, the state it must end in, and a word of the
# message that says why (None: it just goes on and is destroyed by the monitor).
ENDS = {
    "triple":   (KEEP, "crashed", "triple fault"),
    "unmapped": (KEEP, "crashed", ""),
    "stack":    (KEEP, "crashed", "triple fault"),
    "s5":       ("", "stopped", ""),
    "exit":     ("", "stopped", "exited with status 1"),
    "msr":      ("unknown_msr = ignore\npv = none\n", "stopped", ""),
    "halt":     ("", None, None),
    "flood":    ("", None, None),
    "cpuid":    ("", None, None),
    "port":     ("", None, None),
    "spin":     ("", None, None),
}
RESTARTS = {"triple": "on_crash = restart\n", "cf9": "on_reboot = restart\n",
            "keyboard": "on_reboot = restart\n"}


def section(name, fault, more):
    return (f"[{name}]\nkernel = fault.elf\nmemory = 8M\ncmdline = fault={fault} after=50\n"
            f"exit_port = 0xf4\nautostart = no\n{more}\n")


FAULTS = "[hello]\nkernel = hello.elf\nmemory = 8M\n\n" + "".join(
    section(fault, fault, more) for fault, (more, _, _) in ENDS.items()) + "".join(
    section(f"{fault}-again", fault, more) for fault, more in RESTARTS.items())


def counts_on(machine):
    before = heartbeat(machine)
    machine.wait_until("the neighbour goes on counting", lambda: heartbeat(machine) > before)


@system_test(FAULTS, BOTH, memory=256, timeout=500)
def a_fault_is_its_guests_own(machine):
    machine.boot()
    machine.wait_in_log("hello", "heartbeat 1")
    for fault, (_, state, word) in ENDS.items():
        assert machine.json(f"start {fault}")["ok"], fault
        machine.wait_in_log(fault, f"fault: {fault}")
        if state:
            info = machine.wait_for_state(fault, "stopped", "crashed")
            assert info["state"] == state, info
            assert word.lower() in info["message"].lower(), info
        counts_on(machine)
        if state != "stopped":
            assert machine.json(f"destroy {fault}")["ok"], fault
            assert machine.info(fault)["state"] == "stopped"
    assert "the unknown MSR was ignored" in machine.log_of("msr")
    if machine.test.emulator == "bochs":
        assert "a bad LSTAR was refused" in machine.log_of("msr")
    assert "still here" not in machine.log_of("exit")
    machine.power_off()


@system_test(FAULTS, BOTH, memory=256)
def a_guest_restarts_as_told(machine):
    machine.boot()
    for fault in RESTARTS:
        name = f"{fault}-again"
        assert machine.json(f"start {name}")["ok"], name
        machine.wait_until(f"{name} starts again", lambda: machine.info(name)["starts"] >= 3)
        if fault == "triple":  # a crash again and again is not for ever
            info = machine.wait_for_state(name, "stopped")
            assert info["starts"] == 5 and "triple fault" in info["message"], info
        else:
            assert machine.json(f"destroy {name}")["ok"], name
    counts_on(machine)
    machine.power_off()


HANGS = section("rests", "rest", "") + section("kept", "halt", "vcpus = 2\n").replace(
    "exit_port", "# ") + section("gone", "halt", "on_hang = destroy\n") + section(
        "again", "halt", "on_hang = rollback\n")


@system_test(HANGS, BOTH, memory=256, cpus=2)
def a_hang_is_told_and_acted_upon(machine):
    def next_event():
        event = json.loads(machine.expect(r'(\{"event"[^\r\n]*\})\r\n')[1])
        return event["event"], event["name"], event["message"]

    machine.boot()
    machine.send("batch\r")
    machine.expect_exact('{"ok":true}\r\n')
    why = "hung: halted with interrupts off"
    for name in "rests", "kept":  # whoever can be interrupted does not hang
        machine.send(f"start {name}\n")
        assert next_event() == ("start", name, "")
    assert next_event() == ("hang", "kept", why)
    machine.send("dump kept\nset kept weight=7\nnmi kept\n")  # only the last one wakes it
    assert next_event() == ("hang", "kept", why)
    machine.send("start gone\n")
    assert next_event() == ("start", "gone", "")
    assert next_event() == ("hang", "gone", why)
    assert next_event() == ("stop", "gone", why)
    machine.send("start again\n")
    assert next_event() == ("start", "again", "")
    for _ in range(4):
        assert next_event() == ("hang", "again", why)
        assert next_event() == ("restart", "again", why)
    assert next_event() == ("hang", "again", why)
    assert next_event() == ("stop", "again", why)  # not for ever
    machine.send("interactive\r")
    machine.expect_exact(PROMPT)
    assert machine.info("rests")["message"] == "" and machine.info("kept")["message"] == why
    info = machine.info("kept")
    assert (info["starts"], info["state"], info["on_hang"]) == (1, "blocked", "preserve"), info
    machine.power_off()


@system_test("[hello]\nkernel = hello.elf\nmemory = 8M\n", BOTH, memory=256)
def pause_resume_destroy_start(machine):
    machine.boot()
    machine.wait_in_log("hello", "heartbeat 1")
    assert machine.json("pause hello") == {"ok": True, "name": "hello", "state": "paused"}
    first = heartbeat(machine)
    for _ in range(20):
        machine.json("list")
    assert heartbeat(machine) == first
    assert not machine.json("pause hello")["ok"]
    assert machine.json("resume hello")["ok"]
    counts_on(machine)
    assert machine.json("destroy hello")["state"] == "stopped"
    assert not machine.json("destroy hello")["ok"]
    assert machine.json("start hello")["ok"]
    machine.wait_until("it says hello again",
                       lambda: machine.log_of("hello").count("hello: a small guest") == 2)
    machine.power_off()


@system_test("[hello]\nkernel = hello.elf\nmemory = 8M\n", BOTH, memory=256)
def console(machine):
    machine.boot()
    machine.wait_in_log("hello", "heartbeat 1")
    machine.attach("hello")
    machine.expect_exact("hello: a small guest")  # what was said before, replayed
    machine.send("typed by hand\r")
    machine.expect(r"typed by hand\r*\n")
    machine.send(ESCAPE + ESCAPE)  # the guest echoes it
    machine.expect(ESCAPE)
    machine.detach()
    answer = machine.command("console nobody")
    assert "nobody" in answer, answer
    machine.send("\r")
    machine.expect_exact(PROMPT)
    machine.power_off()


# ---- many virtual CPUs ----
MOST = 500


@system_test(f"[most]\nkernel = hello.elf\nmemory = 8M\nvcpus = {MOST}\nautostart = yes\n", BOTH,
             cpus=2, memory=256)
def the_most_virtual_cpus(machine):
    machine.boot()
    machine.wait_in_log("most", "hello: a small guest")
    assert machine.info("most")["vcpus"] == MOST
    assert machine.json("reset most")["ok"]
    machine.wait_until("it is started again", lambda: machine.info("most")["starts"] == 2)
    assert machine.json("destroy most")["ok"]
    machine.wait_for_state("most", "stopped")
    answer = machine.json(f"set most vcpus={MOST + 1}")
    assert f"vcpus: '{MOST + 1}' is not a number from 1 to {MOST}" in answer["error"], answer
    machine.power_off()
