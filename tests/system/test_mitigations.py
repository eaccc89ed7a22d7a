# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What is done against speculative execution: what the monitor says of it, and that it is done."""
import dataclasses
import tempfile

from harness import AMD, VTX, Machine, system_test
from test_costs import DESCRIPTION, TENANTS, measure_rows

# The one emulated CPU that has what mitigations need: IBRS, IBPB, MD_CLEAR, L1D_FLUSH.
TIGERLAKE = {**VTX, "cpu_model": "tigerlake"}
CMDLINE = "console=com1,115200"
BRANCHES = "Spectre v2 between guests, Spectre v2"
TWO = "".join(f"[{name}]\nkernel = hello.elf\nmemory = 8M\ncpus = 0\n" for name in "ab")


@system_test(TWO, {"vtx": {**VTX, "parameter": (f"{BRANCHES}, RSB, L1TF, MDS", "RSB stuffing",
                                                f"{BRANCHES}, L1TF, MDS")},
                   "tigerlake": {**TIGERLAKE, "parameter": (
                       f"{BRANCHES}, RSB, MDS, BHI", "IBPB, RSB stuffing, VERW, IBRS always", "BHI")},
                   "amd": {**AMD, "parameter": (f"{BRANCHES}, RSB", "RSB stuffing", BRANCHES)}},
             cpus=2, memory=256, cmdline=f"{CMDLINE} mitigations=maybe")
def mitigations_are_chosen(machine):
    log = machine.boot()
    affected, used, left = machine.test.parameter
    assert "mitigations=maybe is none of auto|off|force" in log, log
    assert f"mitigations: {used}\n" in log and f"not countered: {left}\n" in log, log
    assert "2 of 2 CPUs are up" in log and "runs no guests" not in log, log
    found = machine.json("capabilities")
    assert (found["affected_by"], found["mitigations"], found["unmitigated"]) == (
        affected, used, left), found
    for name in "ab":
        machine.wait_in_log(name, "heartbeat 2")
    machine.power_off()


# By how many instructions VERW and IBRS lengthen an exit that is answered at once.
@system_test(TENANTS, {"tigerlake": {**TIGERLAKE, "parameter": (15, "L1D flush, IBRS at exit")},
                       "amd": {**AMD, "parameter": (1, "RSB stuffing, VERW")}},
             **DESCRIPTION, cmdline=f"{CMDLINE} mitigations=force")
def mitigations_are_done(machine):
    longer, names = machine.test.parameter
    forced = measure_rows(machine)
    assert names in machine.json("capabilities")["mitigations"]
    machine.power_off()
    test = dataclasses.replace(machine.test, cmdline=f"{CMDLINE} mitigations=off")
    with tempfile.TemporaryDirectory() as folder, Machine(test, folder) as without:
        rows = measure_rows(without)
        found = without.json("capabilities")
        assert found["mitigations"] == "" and found["unmitigated"] == found["affected_by"], found
        without.power_off()
    more = {name: forced[name][0] - rows[name][0] for name in rows}
    assert more["CPUID 0"] == longer and more["hypercall"] == longer, more
    # Leaves the world switch four times: 8 calls and the end of them each.
    assert more["1 KiB by REP OUTSB"] >= 4 * 9, more
