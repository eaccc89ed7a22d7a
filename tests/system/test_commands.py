# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""The monitor's commands, each asked on a machine that runs guests."""
import json
import re
import subprocess

from harness import BOTH, PROMPT, ROOT, system_test
from test_line import Screen

TWO = """
[hello]
kernel = hello.elf
memory = 8M

[deaf]
kernel = hello.elf
memory = 8M
cmdline = deaf=1
on_reboot = destroy
"""


def refused(machine, command, *words):
    answer = machine.json(command)
    assert not answer["ok"], answer
    for word in words:
        assert word in answer["error"], answer


def starts(machine, name):
    return machine.info(name)["starts"]


@system_test(TWO, BOTH, memory=256)
def power_button_reset_nmi(machine):
    machine.boot()
    for name in "hello", "deaf":
        machine.wait_in_log(name, "heartbeat 1")
    assert machine.json("nmi hello")["ok"]
    machine.wait_in_log("hello", "hello: NMI 1")
    refused(machine, "shutdown deaf", "power button", "destroy")
    refused(machine, "reboot deaf", "power button", "reset")
    assert machine.json("reset deaf") == {"ok": True, "name": "deaf", "state": "running"}
    assert starts(machine, "deaf") == 2  # whatever on_reboot says
    assert machine.json("pause deaf")["ok"]
    refused(machine, "nmi deaf", "paused")
    assert machine.json("reset deaf")["ok"]
    assert starts(machine, "deaf") == 3
    assert machine.json("reboot hello")["ok"]
    machine.wait_until("hello starts again", lambda: starts(machine, "hello") == 2)
    machine.wait_until("hello listens again",
                       lambda: machine.log_of("hello").count("heartbeat 1\n") == 2)
    assert machine.json("shutdown hello")["ok"]
    info = machine.wait_for_state("hello", "stopped")
    assert info["starts"] == 2 and info["message"] == "powered off", info
    assert machine.log_of("hello").count("power button") == 2
    for command in "shutdown", "reboot", "reset", "nmi", "dump":
        refused(machine, f"{command} hello", "'hello' is stopped")
    machine.power_off()


SPINS = """
[spin]
kernel = fault.elf
cmdline = fault=spin
memory = 8M
cpus = 1

[crash]
kernel = fault.elf
cmdline = fault=triple after=1
memory = 8M
on_crash = preserve
"""


def number(text):
    return int(text, 16)


@system_test(SPINS, BOTH, memory=256, cpus=2)
def dump_and_exits(machine):
    machine.boot()
    machine.wait_in_log("spin", "fault: spin")
    before = machine.json("dump spin")["vcpus"][0]
    assert before["state"] == "running", before
    assert before["code"].startswith("eb fe") or "eb" in before["code"], before
    assert number(before["cr0"]) & 0x80000001 == 0x80000001
    assert number(before["efer"]) & 0x500 == 0x500
    segments = {segment["name"]: segment for segment in before["segments"]}
    assert number(segments["cs"]["attributes"]) & 0x200, segments  # 64-bit code
    assert number(segments["idtr"]["base"]) > 0x100000 and number(before["rsp"]) > 0x100000
    assert machine.json("pause spin")["ok"]
    paused = machine.json("dump spin")["vcpus"][0]
    assert machine.json("dump spin")["vcpus"][0] == paused
    assert machine.json("resume spin")["ok"]
    assert machine.json("dump spin")["vcpus"][0]["state"] == "running"
    machine.wait_for_state("crash", "crashed")
    crashed = machine.json("dump crash")["vcpus"][0]
    assert crashed["code"].startswith("cc"), crashed  # int3 with no IDT
    assert crashed["trace"][-1]["kind"] == "triple fault", crashed
    assert f"rip {number(crashed['rip']):016x}" in machine.json("dmesg")["log"]
    text = machine.command("dump crash")
    assert max(map(len, text.splitlines())) <= 80, text
    exits = machine.json("exits crash")["exits"]
    assert {"kind": "triple fault", "count": 1}.items() <= {
        exit["kind"]: exit for exit in exits}["triple fault"].items(), exits
    costs = [exit["cycles"] for exit in exits]
    assert costs == sorted(costs, reverse=True), exits
    assert sum(exit["count"] for exit in exits) == machine.info("crash")["exits"]
    assert machine.json("start crash")["ok"]  # as good as a reset
    assert starts(machine, "crash") == 2
    machine.power_off()


CONFIGURED = """
[web]
kernel      = hello.elf
initrd      = data
modules     = hello.elf, data
cmdline     = "name=x # ; y "
memory      = 8M
vcpus       = 2
cpus        = 0
weight      = 300
cap         = 150%
autostart   = no
on_crash    = preserve
on_hang     = destroy
on_reboot   = rollback
unknown_msr = ignore
exit_port   = 0xf4

[plain]
kernel = hello.elf
memory = 8M
cmdline = a="b c" d
"""


def quoted(value):
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def free_memory(machine):
    return machine.json("host")["memory_free"] + machine.json("host")["hypervisor"] - \
        machine.json("host")["hypervisor_used"]


@system_test(CONFIGURED, BOTH, memory=256, cpus=2, files={"data": lambda: b"data"})
def create_set_undefine_config(machine):
    machine.boot()
    machine.wait_in_log("plain", "heartbeat 1")
    text = machine.command("config web")
    given = CONFIGURED.split("[plain]")[0].strip()
    for line in given.splitlines():
        key, _, value = line.partition("=")
        assert re.search(rf"^{re.escape(key.strip())} += {re.escape(value.strip())}$", text, re.M) or \
            line == "[web]", (line, text)
    free = free_memory(machine)
    for name in "web", "plain":
        config = machine.json(f"config {name}")["config"]
        settings = " ".join(f"{key}={quoted(value)}" for key, value in config.items())
        assert machine.json(f"create copy {settings}")["ok"], settings
        assert machine.json("config copy")["config"] == config
        state = machine.info("copy")["state"]
        assert (state == "stopped") == (name == "web"), state
        if name == "plain":
            machine.wait_in_log("copy", "heartbeat 1")
            refused(machine, "undefine copy", "not stopped")
            assert machine.json("destroy copy")["ok"]
        assert machine.json("undefine copy") == {"ok": True, "name": "copy"}
        refused(machine, "info copy", "'copy'")
        assert free_memory(machine) == free
    refused(machine, "create plain kernel=hello.elf", "'plain' already")
    refused(machine, "create big kernel=hello.elf memory=64G", "65536 MiB")
    assert set(machine.partitions()) == {"web", "plain"}
    machine.power_off()


@system_test("[web]\nkernel = hello.elf\nmemory = 8M\n", BOTH, memory=256, cpus=2)
def set_while_it_runs(machine):
    machine.boot()
    machine.wait_in_log("web", "heartbeat 1")
    assert machine.json("set web weight=200 cap=50% on_reboot=destroy")["at_next_start"] == []
    assert machine.json("set web memory=16M vcpus=2 cpus=1")["at_next_start"] == ["memory", "vcpus"]
    assert machine.json("config web")["config"]["memory"] == "16M"
    for shown in machine.partitions()["web"], machine.info("web"):
        assert (shown["vcpus"], shown["memory"]) == (1, 8 << 20), shown  # what runs
    machine.wait_until("it has moved", lambda: machine.info("web")["vcpu"][0]["cpu"] == 1)
    assert [cpu["whose"] for cpu in machine.json("host")["cpu"]] == ["", "web/0"]
    assert max(map(len, machine.command("host").splitlines())) <= 80
    refused(machine, "set web cpus=2", "cpus: this machine has none")
    assert "8192 KiB" in machine.log_of("web")
    assert machine.json("reset web")["ok"]  # the same memory, loaded anew
    machine.wait_until("it says hello again", lambda: machine.log_of("web").count("8192 KiB") == 2)
    assert len(machine.info("web")["vcpu"]) == 1
    assert machine.json("destroy web")["ok"]
    assert machine.json("start web")["ok"]
    machine.wait_in_log("web", "16384 KiB")
    assert [vcpu["cpu"] for vcpu in machine.info("web")["vcpu"]] == [1, 1]
    refused(machine, "set web memory=12Q", "memory: '12Q' is not a size")
    refused(machine, "set web kernel=no.elf", "kernel: there is no module 'no.elf'")
    machine.power_off()


def check_metrics(text):
    """promtool has nothing to say against it, naming conventions included."""
    result = subprocess.run([f"{ROOT}/build/promtool", "check", "metrics"], input=text, text=True,
                            capture_output=True, check=False)
    assert result.returncode == 0 and not result.stderr, result.stderr
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines() if not line.startswith("#")}


STATES = {"running": 1, "blocked": 2, "paused": 3, "stopped": 5, "crashed": 6}


@system_test(SPINS + TWO, BOTH, memory=256, cpus=2)
def metrics(machine):
    machine.boot()
    machine.wait_in_log("hello", "heartbeat 1")
    machine.wait_for_state("crash", "crashed")
    assert machine.json("pause deaf")["ok"] and machine.json("destroy spin")["ok"]
    text = machine.json("metrics")["metrics"]
    samples = check_metrics(text)
    listed = machine.partitions()
    for name, partition in listed.items():
        def value(metric):
            return samples[f'{metric}{{domain="{name}"}}']
        if name != "hello":  # which comes and goes
            assert value("libvirt_domain_info_vstate") == STATES[partition["state"]], partition
            assert value("libvirt_domain_info_cpu_time_seconds_total") == \
                partition["cpu_time_ns"] / 1e9, (name, partition)
            exits = sum(count for sample, count in samples.items() if sample.startswith(
                f'bulkhead_domain_exits_total{{domain="{name}",'))
            assert exits == partition["exits"], (exits, partition)
        assert value("libvirt_domain_info_maximum_memory_bytes") == 8 << 20
        assert value("libvirt_domain_info_memory_usage_bytes") == (0 if name == "spin" else 8 << 20)
    assert samples['bulkhead_cpu_seconds_total{cpu="1"}'] > 0
    later = check_metrics(machine.json("metrics")["metrics"])
    for sample, before in samples.items():
        if sample.partition("{")[0].endswith("_total"):
            assert later[sample] >= before, sample
    assert set(check_metrics(machine.command("metrics") + "\n")) == set(later)
    machine.power_off()


USERS = """
[spin]
kernel = fault.elf
cmdline = fault=spin
memory = 8M
cap = 50%

[hello]
kernel = hello.elf
memory = 16M
"""


def table(rows):
    """The rows of `top` by name, and the names in their order; None when it is not complete."""
    at = [number for number, row in enumerate(rows) if row.startswith("NAME")]
    if not at or len(rows[at[0] + 2].split()) != 8:
        return None
    cells = [row.split() for row in rows[at[0] + 1:at[0] + 3]]
    return {row[0]: row for row in cells}, [row[0] for row in cells]


@system_test(USERS, BOTH, memory=256)
def top(machine):
    machine.boot()
    machine.wait_in_log("hello", "heartbeat 1")
    machine.wait_in_log("spin", "fault: spin")
    sample = machine.json("top")
    assert sample["ok"] and sample["interval_ns"] >= 1e9 and sample["memory_free"] > 0
    by_name = {partition["name"]: partition for partition in sample["partitions"]}
    assert sample["partitions"][0]["name"] == "spin", sample
    assert 30 < by_name["spin"]["cpu_percent"] < 70, sample  # its cap is 50%
    assert by_name["spin"]["steal_percent"] > 20 and by_name["hello"]["exits_per_s"] > 0, sample
    screen = Screen(machine)

    def first_of(order):
        rows = screen.rows()
        shown = table(rows)
        return shown and f"by {order}" in rows[0] and shown[1][0]
    screen.type("top\r")
    screen.until("the one that spins is on top", lambda: first_of("CPU%") == "spin")
    screen.type("m")
    screen.until("the larger one is on top", lambda: first_of("MEMORY") == "hello")
    before = screen.rows()
    screen.until("it refreshes", lambda: first_of("MEMORY") and screen.rows() != before)
    assert sum("NAME" in row for row in screen.rows()) == 1, screen.rows()  # in place
    machine.send("q")
    machine.expect_exact(PROMPT)
    machine.power_off()


# Every command as a program may send it, good and bad; those that end the machine come last.
BATCH = [
    "list", "list now", "info hello", "info nobody", "info", "log hello", "log -f hello", "dmesg",
    "exits hello", "dump hello", "nmi hello", "pause hello", "pause hello", "resume hello",
    "config hello", "set hello weight=7", "set hello weight=0", "set hello", "set hello weight",
    "create new kernel=hello.elf memory=8M", "create new kernel=hello.elf", "create x",
    'create "a b" kernel=hello.elf', "reset new", "reboot new", "shutdown nobody", "shutdown new",
    "destroy new", "undefine new", "undefine hello", "destroy hello", "start hello", "start hello",
    "reset nobody", "images", "capabilities", "host", "top", "metrics", "version", "uptime",
    "help", "help set", "help me", "console hello", "batch", "frobnicate", 'log "', "list -o xml",
    "list -o json", "\\x01", "\u00e4\\xff", "interactive now", "reboot-host now", "poweroff",
]


def unique(pairs):
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), names
    return dict(pairs)


def no_constant(name):
    raise ValueError(f"{name} is no JSON")


def strict(line):
    """RFC 8259 and no more: json.loads takes NaN and names that come twice."""
    return json.loads(line.decode(), object_pairs_hook=unique, parse_constant=no_constant)


def documented():
    with open(f"{ROOT}/docs/monitor.md", encoding="utf-8") as manual:
        text = manual.read()
    headings = re.findall(r"^### (.*)$", text, re.M)
    return ({part.split()[0] for heading in headings for part in heading.split(", ")},
            set(re.findall(r"^bulkhead> (\S+)", text, re.M)))


@system_test("[hello]\nkernel = hello.elf\nmemory = 8M\n", BOTH, memory=256)
def every_command(machine):
    machine.boot()
    machine.wait_in_log("hello", "heartbeat 1")
    names = {command["name"] for command in machine.json("help")["commands"]}
    headings, examples = documented()
    assert headings == names and examples <= names, headings ^ names | examples - names
    overview = machine.command("help").splitlines()
    assert len(overview) < 24 and max(map(len, overview)) <= 80, overview
    for name in sorted(names):
        lines = machine.command(f"help {name}").splitlines()
        assert lines[0].split()[0] == name and max(map(len, lines)) <= 80, lines
        assert lines[-1].startswith(f"Example: {name}"), lines
    assert {command.split()[0] for command in BATCH} >= names, names
    machine.send("batch\r")
    machine.expect_exact('{"ok":true}')
    events = []
    for command in BATCH:
        machine.send(command.encode("latin-1") + b"\n")
        while True:
            answer = strict(machine.expect(r"\n([^\r\n]+)\r")[1])
            if "event" not in answer:
                break
            events.append((answer["event"], answer["name"]))
        assert answer["ok"] or len(answer["error"]) > 10, (command, answer)
    assert events[:2] == [("start", "new"), ("restart", "new")], events
    assert events.count(("undefine", "new")) == 1 and events[-1] == ("start", "hello"), events
    assert machine.process.wait(60) == 0


LINUX = """
[web]
kernel  = vmlinuz
initrd  = linux.cpio.gz
cmdline = console=ttyS0 tenant=web acpid quiet
memory  = 256M
"""


@system_test(LINUX, BOTH, memory=512, timeout=400)
def linux_shuts_down_at_its_power_button(machine):
    def pressed():  # until somebody behind the driver listens
        machine.json("shutdown web")
        info = machine.info("web")
        return info if info["state"] == "stopped" else None
    machine.boot()
    info = machine.wait_until("it has shut down", pressed, 300)
    assert info["message"] == "powered off" and info["starts"] == 1, info
    assert "Power down" in machine.log_of("web")
    machine.power_off()
