# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""Partitions of several virtual CPUs: what these send each other, and that all are used."""
import re

from harness import AMD, BOTH, VTX, system_test

SMP = """
[smp]
kernel    = smp.elf
memory    = 8M
vcpus     = {vcpus}
cmdline   = {cmdline}
exit_port = 0xf4
"""
XAPIC_KINDS = {"physical", "broadcast", "self", "others", "all", "nmi", "halted"}
X2APIC_KINDS = {f"x2apic-{kind}" for kind in XAPIC_KINDS | {"logical"}}
ALL_KINDS = XAPIC_KINDS | X2APIC_KINDS | {"flat", "lowest", "cluster"}


def passed(machine, mode, name="smp", timeout=200):
    """What the guest said, which has ended well."""
    info = machine.wait_for_state(name, "stopped", "crashed", timeout=timeout)
    said = machine.log_of(name)
    assert f"smp PASS mode={mode}\n" in said and "FAIL" not in said, said or info
    assert info["exit_status"] == 1, info
    return said


def numbers(said, line):
    """The name=number words of the first line that begins so."""
    found = re.search(rf"^{line}.*", said, re.MULTILINE)
    assert found, f"no line {line!r} in {said}"
    return {word: int(number) for word, number in re.findall(r"(\w+)=(\d+)", found[0])}


# ---- interprocessor interrupts ----
def check_storm(said, kinds, least):
    counts = {kind: (int(sent), int(received)) for kind, sent, received in
              re.findall(r"kind=(\S+) sent=(\d+) received=(\d+)", said)}
    assert set(counts) == kinds, counts
    assert all(sent == received for sent, received in counts.values()), counts
    total = sum(received for _, received in counts.values())
    assert total == numbers(said, "ipi: total")["total"] >= least, said


@system_test(SMP.format(vcpus=4, cmdline="mode=ipi count=100000"), BOTH, cpus=4, memory=256,
             timeout=400)
def an_ipi_storm_loses_none(machine):
    machine.boot()
    check_storm(passed(machine, "ipi", timeout=300), ALL_KINDS, 100_000)
    machine.power_off()


@system_test(SMP.format(vcpus=4, cmdline="mode=ipi count=100000"), BOTH, cpus=4, memory=256,
             timeout=400)
def an_ipi_storm_through_pauses(machine):
    machine.boot()
    machine.wait_in_log("smp", "kind=physical")
    pauses = 0
    while pauses < 100 and machine.json("pause smp")["ok"]:
        assert machine.json("resume smp")["ok"]
        machine.json("version")  # gives it a moment
        pauses += 1
    assert pauses >= 10, pauses
    check_storm(passed(machine, "ipi", timeout=300), ALL_KINDS, 100_000)
    machine.power_off()


# Pairs that halt until the other's interrupt comes: none may come between STI and HLT.
@system_test(SMP.format(vcpus=4, cmdline="mode=ipi count=50000 only=halted"), BOTH, cpus=4,
             memory=256)
def no_wake_up_is_lost(machine):
    machine.boot()
    check_storm(passed(machine, "ipi"), {"halted"}, 50_000)
    machine.power_off()


# More than a flat logical destination has bits for, or the clusters that the guest makes.
@system_test(SMP.format(vcpus=64, cmdline="mode=ipi count=20000 start=all"),
             {"vtx": {**VTX, "long": True}, "amd": AMD}, cpus=2, memory=256, timeout=200)
def sixty_four_virtual_cpus(machine):
    machine.boot()
    said = passed(machine, "ipi", timeout=180)
    assert numbers(said, "smp:")["cpus"] == 64
    check_storm(said, XAPIC_KINDS | X2APIC_KINDS, 20_000)
    machine.power_off()


@system_test(SMP.format(vcpus=64, cmdline="mode=up"), BOTH, cpus=1, memory=256, timeout=300)
def sixty_four_virtual_cpus_on_one(machine):
    machine.boot()
    assert numbers(passed(machine, "up"), "smp:")["cpus"] == 64
    machine.power_off()


@system_test(SMP.format(vcpus=4, cmdline="mode=tlb rounds=2000"), BOTH, cpus=4, memory=256)
def tlb_shoot_downs(machine):
    machine.boot()
    tlb = numbers(passed(machine, "tlb"), "tlb:")
    assert tlb["rounds"] == 2000 and tlb["checks"] > 2000, tlb
    machine.power_off()
