# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""Partitions of several virtual CPUs: what these send each other, and that all are used."""
import re

from harness import AMD, BOTH, VTX, plain, system_test

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


# Its counts bear Bochs's fault: no handler changes what another one does.
@system_test(SMP.format(vcpus=4, cmdline="mode=ipi count=100000"), BOTH, cpus=4, memory=256,
             timeout=400, virtual_interrupts=True)
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


@system_test(SMP.format(vcpus=3, cmdline="mode=masked rounds=2000"), BOTH, cpus=2, memory=256)
def no_interrupt_comes_while_they_are_off(machine):
    machine.boot()
    passed(machine, "masked")
    machine.power_off()


# The end of an interrupt by a flag in memory, where the hardware has no part in the local APIC.
NO_VIRTUAL_APIC = {
    "vtx": {**VTX, "cmdline": "console=com1,115200 without=apic-register-virtualisation"},
    "amd": AMD,
}


@system_test(SMP.format(vcpus=1, cmdline="mode=eoi eoi=pv"), NO_VIRTUAL_APIC, memory=256)
def an_eoi_without_an_exit(machine):
    machine.boot()
    assert numbers(passed(machine, "eoi"), "eoi:") == {"offered": 1, "refused": 1, "spared": 3}
    machine.power_off()


@system_test(SMP.format(vcpus=1, cmdline="mode=eoi eoi=pv") + "pv = steal\n", NO_VIRTUAL_APIC, memory=256)
def no_such_eoi_is_offered(machine):
    machine.boot()
    assert numbers(passed(machine, "eoi"), "eoi:") == {"offered": 0, "refused": 1, "spared": 0}
    machine.power_off()


@system_test(SMP.format(vcpus=1, cmdline="mode=eoi eoi=pv"), {"vtx": VTX}, memory=256,
             virtual_interrupts=True)
def no_such_eoi_beside_virtual_interrupts(machine):
    machine.boot()
    assert numbers(passed(machine, "eoi"), "eoi:") == {"offered": 0, "refused": 1, "spared": 0}
    machine.power_off()


# NMIs get lost in Bochs where virtual CPUs share a CPU (docs/testing.md).
@system_test(SMP.format(vcpus=3, cmdline="mode=ipi count=10000 eoi=pv nmis=off"), NO_VIRTUAL_APIC,
             cpus=2, memory=256)
def no_interrupt_is_lost_behind_such_an_eoi(machine):
    machine.boot()
    said = passed(machine, "ipi")
    check_storm(said, ALL_KINDS - {"nmi", "x2apic-nmi"}, 8_000)
    assert numbers(said, "ipi: total")["spared"] > 1000, said
    machine.power_off()


# More than a flat logical destination has bits for, or the clusters that the guest makes. In Bochs
# NMIs get lost where virtual CPUs share a CPU (docs/testing.md).
def sixty_four_virtual_cpus(machine):
    machine.boot()
    said = passed(machine, "ipi", timeout=180)
    assert numbers(said, "smp:")["cpus"] == 64
    check_storm(said, machine.test.parameter, 20_000)
    machine.power_off()


SIXTY_FOUR = {"cpus": 2, "memory": 256, "timeout": 200}
system_test(SMP.format(vcpus=64, cmdline="mode=ipi count=20000 start=all"), {"amd": AMD},
            parameter=XAPIC_KINDS | X2APIC_KINDS, **SIXTY_FOUR)(sixty_four_virtual_cpus)
system_test(SMP.format(vcpus=64, cmdline="mode=ipi count=20000 start=all nmis=off"), {"vtx": VTX},
            parameter=(XAPIC_KINDS | X2APIC_KINDS) - {"nmi", "x2apic-nmi"},
            **SIXTY_FOUR)(sixty_four_virtual_cpus)


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


# ---- time ----
def check_clock(said, cpus, ms, rivals=0):
    """A CPU ends with its first tick after `ms`: later by a slice, which is a tick's period, for each
    virtual CPU that is in the way."""
    clocks, ticks = numbers(said, "clock: ticks"), numbers(said, "clock: timer")
    assert numbers(said, "clock: cpus") == {"cpus": cpus, "backwards": 0}, said
    assert clocks["pm_ppb"] <= 1000 and clocks["pit_ppb"] <= 1000, clocks
    assert ticks["bunched"] == 0, ticks
    late = ticks["ticks"] + ticks["skipped"] - ticks["expected"]
    assert -cpus <= late <= cpus * (1 + rivals), ticks
    assert ticks["expected"] >= cpus * ms // 10 - cpus, ticks
    return ticks


# QEMU's clock counts instructions, as Bochs's does: another load of its host changes nothing.
@system_test(SMP.format(vcpus=2, cmdline="mode=clock ms=8000"),
             {"vtx": VTX, "amd": {**AMD, "icount": 3}}, cpus=2, memory=256)
def time_is_the_same_everywhere(machine):
    machine.boot()
    ticks = check_clock(passed(machine, "clock"), 2, 8000)
    assert ticks["skipped"] == 0, ticks
    check_kvm_clock(machine.log_of("smp"))
    machine.power_off()


def check_kvm_clock(said):
    kvm = numbers(said, "clock: kvm=")
    assert kvm["ppb"] <= 10 and kvm["flags"] == 1, kvm
    assert kvm["version"] > 0 and kvm["version"] % 2 == 0, kvm
    assert kvm["refused"] == 7, kvm


@system_test(SMP.format(vcpus=1, cmdline="mode=clock ms=20 stamps=10") + "pv = none\n", BOTH,
             memory=256)
def nothing_of_kvms_is_offered(machine):
    machine.boot()
    assert numbers(passed(machine, "clock"), "clock: kvm=") == {"kvm": 0, "refused": 7}
    machine.power_off()


BURNER = "\n[burner]\nkernel = smp.elf\nmemory = 8M\nvcpus = 2\ncmdline = mode=burn window=5000\n"


@system_test(SMP.format(vcpus=4, cmdline="mode=clock ms=8000 stamps=100") + BURNER,
             {"vtx": {**VTX, "long": True}, "amd": {**AMD, "icount": 3}}, cpus=2, memory=256,
             timeout=400)
def time_is_the_same_under_load(machine):
    machine.boot()
    said = passed(machine, "clock", timeout=300)
    check_clock(said, 4, 8000, rivals=5)  # the two that burn, and its own
    # What its first vCPU has been told is a part of what all have waited.
    assert 10**6 < numbers(said, "clock: kvm=")["steal"] < machine.info("smp")["steal_ns"], said
    machine.power_off()


# ---- Linux ----
LINUX = """
[linux]
kernel  = vmlinuz
initrd  = linux.cpio.gz
cmdline = console=ttyS0 quiet tenant=linux
memory  = 256M
vcpus   = {vcpus}
"""


def linux_uses_all_its_cpus(machine):
    vcpus = machine.test.parameter
    machine.boot()
    machine.attach("linux")
    assert int(machine.expect(r"TENANT linux up: \S+, (\d+) CPUs", 800)[1]) == vcpus
    machine.send("\r")
    machine.expect_exact("linux# ", 60)
    # Field 39 of stat is the CPU that a process last ran on.
    machine.send(f"for i in $(seq 0 {vcpus - 1}); do "
                 "taskset $(printf %x $((1 << i))) cut -d' ' -f39 /proc/self/stat; done; "
                 "echo fin''ished\r")
    machine.expect_exact("finished", 120)
    ran_on = re.findall(r"^(\d+)$", plain(machine.line.before), re.MULTILINE)
    assert ran_on == [str(i) for i in range(vcpus)], ran_on
    machine.detach()
    used = [vcpu["guest_cycles"] for vcpu in machine.info("linux")["vcpu"]]
    assert len(used) == vcpus and all(used), used
    machine.power_off()


SHORT = {(4, 2), (8, 4)}
for count in 1, 2, 4, 8:
    machines = {f"{count}-on-{cpus}-amd": {**AMD, "cpus": cpus, "long": (count, cpus) not in SHORT}
                for cpus in (1, 2, 4)}
    if count == 4:
        machines["4-on-2-vtx"] = {**VTX, "cpus": 2, "long": True}
    system_test(LINUX.format(vcpus=count), machines, memory=512, timeout=900, quick=60,
                parameter=count)(linux_uses_all_its_cpus)
