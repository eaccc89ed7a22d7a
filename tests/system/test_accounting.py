# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""Where the CPUs' time went: nothing is lost and nothing counted twice."""
from harness import BOTH, UP, system_test

TENANTS = """
[busy]
kernel    = pc.elf
memory    = 16M
vcpus     = 2
exit_port = 0xf4

[a]
kernel    = hello.elf
memory    = 8M

[b]
kernel    = hello.elf
memory    = 8M
cap       = 20%
"""
ROUNDING_NS = 100


@system_test(TENANTS, BOTH, cpus=2, memory=256)
def every_cycle_is_charged_once(machine):
    machine.boot()
    machine.wait_for_state("busy", "stopped", timeout=200)
    machine.wait_for_state("a", *UP)
    for name in "a", "b":
        assert machine.json(f"pause {name}")["ok"]
        machine.wait_for_state(name, "paused")
    assert machine.json("destroy b")["ok"]
    machine.wait_for_state("b", "stopped")
    partitions = sum(machine.info(name)["cpu_time_ns"] for name in ("busy", "a", "b"))
    host = machine.json("host")
    sums = {key: sum(cpu[key] for cpu in host["cpu"]) * 10**9 / host["tsc_hz"]
            for key in ("elapsed_cycles", "idle_cycles", "own_cycles")}
    assert partitions > 0 and sums["idle_cycles"] > 0, (partitions, sums)
    accounted = partitions + sums["idle_cycles"] + sums["own_cycles"]
    assert abs(accounted - sums["elapsed_cycles"]) < ROUNDING_NS, (partitions, sums)
    machine.power_off()
