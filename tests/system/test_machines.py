# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""Machines of many kinds: where it runs, and what it says where it cannot."""
import re

from harness import system_test

PC = """
[pc]
kernel    = pc.elf
memory    = 16M
vcpus     = 2
exit_port = 0xf4

[hello]
kernel    = hello.elf
memory    = 8M
"""


@system_test(PC, {
    "arrandale": {"cpu_model": "corei5_arrandale_m520"},
    "haswell": {"cpu_model": "corei7_haswell_4770"},
    "skylake": {"cpu_model": "corei7_skylake_x", "cpus": 2},
    "icelake": {"cpu_model": "corei7_icelake_u"},
    "amd": {"emulator": "qemu", "cpus": 2},
}, memory=256, timeout=300)
def the_virtual_pc(machine):
    log = machine.boot()
    capabilities = machine.json("capabilities")
    assert capabilities["usable"], capabilities
    assert machine.json("host")["cpus"] == machine.test.cpus, log
    info = machine.wait_for_state("pc", "stopped", "crashed", timeout=200)
    said = machine.log_of("pc")
    assert info["state"] == "stopped", info
    assert "pc PASS" in said and "FAIL" not in said, re.findall(r"FAIL.*", said) or said
    assert info["exit_status"] == 1, info
    machine.power_off()


TSC = """
[slow]
kernel    = pc.elf
memory    = 16M
tsc_mhz   = 20
exit_port = 0xf4

[fast]
kernel    = pc.elf
memory    = 16M
tsc_mhz   = 130
exit_port = 0xf4
"""


# The guest compares its TSC's rate, which CPUID tells, with the PIT.
@system_test(TSC, cpus=2, memory=256)
def tsc_scaling(machine):
    machine.boot()
    for name in "slow", "fast":
        machine.wait_for_state(name, "stopped", "crashed", timeout=200)
        said = machine.log_of(name)
        assert "pc PASS" in said and "FAIL" not in said, said
    machine.power_off()


@system_test(TSC, cpu_model="corei7_haswell_4770", memory=256)
def tsc_scaling_that_is_missing(machine):
    machine.boot()
    start = machine.json("start slow")
    assert not start["ok"] and "needs TSC scaling" in start["error"], start
    machine.power_off()


@system_test(PC, cpus=2, memory=256)
def no_page_is_writable_and_executable(machine):
    log = machine.boot()
    assert re.search(r"host page tables: 0 of \d+ pages are writable and executable", log), log
    host = machine.json("host")
    assert host["host_pages"] > 50 and host["host_pages_wx"] == 0, host
    machine.power_off()


REFUSALS = {
    "no-ept": ("core2_penryn_t9600", "EPT"),
    "no-unrestricted-guest": ("corei5_lynnfield_750", "unrestricted guest"),
    "amd-without-svm": ("athlon64_clawhammer", "AMD-V"),
    "no-virtualisation": ("p4_prescott_celeron_336", "VT-x"),
}


@system_test(PC, {name: {"cpu_model": model} for name, (model, _) in REFUSALS.items()}, memory=256)
def refusal(machine):
    word = next(word for model, word in REFUSALS.values() if model == machine.test.cpu_model)
    log = machine.boot()
    capabilities = machine.json("capabilities")
    assert not capabilities["usable"], capabilities
    sentence = capabilities["refusal"]
    assert len(sentence) > 20 and word.lower() in sentence.lower(), sentence
    assert sentence.rstrip(".") in log, f"{sentence!r} is not in the boot log: {log}"
    assert sentence.rstrip(".") in machine.command("capabilities")
    assert all(partition["state"] == "stopped" for partition in machine.partitions().values())
    start = machine.json("start hello")
    assert not start["ok"] and start["error"], start
    machine.power_off()


@system_test(PC, memory=256)
def reboot(machine):
    machine.boot()
    machine.send("reboot-host\r")
    machine.boot()
    assert machine.json("version")["ok"]
    machine.power_off()


@system_test("", {"no-configuration": {}, "tiny-memory": {"memory": 32}}, memory=256)
def monitor_without_partitions(machine):
    machine.boot()
    assert machine.json("list") == {"ok": True, "partitions": []}
    for word in ("list", "info", "start", "destroy", "pause", "resume", "console", "log",
                 "capabilities", "dmesg", "help", "poweroff", "reboot-host"):
        assert re.search(rf"(^|  ){word} ", machine.command("help"), re.M), word
        assert machine.json(f"help {word}")["ok"], word
    answer = machine.json("lst")
    assert not answer["ok"] and "lst" in answer["error"], answer
    machine.send("capab\t\r")  # completed
    machine.expect(r"(?i)virtualisation")
    machine.power_off()
