# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What operations of a guest cost in instructions, as the bench guest counts them, beside the
figures that are committed. `tests/bench --update` writes those anew."""
import json
import re
import sys

from harness import BOTH, ROOT, VTX, system_test

sys.path.append(f"{ROOT}/tests")
import stretches  # noqa: E402

TENANTS = "[bench]\nkernel = bench.elf\nmemory = 16M\nvcpus = 2\nexit_port = 0xf4\n"
DESCRIPTION = {"memory": 256, "icount": 0, "virtual_interrupts": True}
FIGURES = f"{ROOT}/tests/bench-figures.json"
GROWTH, SLACK = 1.05, 2  # a factor, and instructions that are never too many
ROW = re.compile(r"^bench (.*): (\d+) (\d+) (\d+)$", re.MULTILINE)


def figures():
    """By backend and row: the minimum."""
    with open(FIGURES, encoding="utf-8") as file:
        return json.load(file)


def measure_rows(machine):
    """By row: minimum, median, maximum. Nothing is asked meanwhile: the answer would cost the guest's
    rows what it takes to put it on the line."""
    machine.boot()
    machine.expect_exact("'bench' exited", 200)
    log = machine.log_of("bench")
    assert "bench done" in log and "FAIL" not in log, log
    return {row[1]: [int(row[i]) for i in (2, 3, 4)] for row in ROW.finditer(log)}


def grown(rows, committed):
    """The rows that cost more than they may, in words."""
    return [f"{name}: {rows[name][0]} instructions, {figure} are committed"
            for name, figure in committed.items()
            if rows[name][0] > max(figure * GROWTH, figure + SLACK)]


@system_test(TENANTS, BOTH, **DESCRIPTION)
def instruction_counts(machine):
    rows = measure_rows(machine)
    assert rows["1000 NOPs"][0] == 1000, "the clock does not count instructions"
    backend = "vtx" if machine.test.emulator == VTX["emulator"] else "amd"
    problems = grown(rows, figures()[backend])
    assert not problems, "; ".join(problems)
    machine.power_off()


@system_test(stretches.TENANTS, **stretches.DESCRIPTION, timeout=200)
def no_stretch_in_host_mode_is_long(machine):
    longest = stretches.measure_stretches(machine)
    problems = [f"{name}: {figures['to_guest']} instructions" for name, figures in longest.items()
                if figures["to_guest"] > stretches.LIMIT]
    assert not problems, "; ".join(problems)


# A start and its end log a line each.
@system_test(stretches.TENANTS, **{**stretches.DESCRIPTION, "firmware": "uefi"}, timeout=200)
def a_line_on_a_screen_of_pixels_takes_no_long_stretch(machine):
    machine.boot()
    counts = stretches.Counts(machine)
    assert machine.json("start work")["ok"]
    stretches.wait_for_seconds(machine, 0)
    counts.clear_longest()
    for command in "start g0", "destroy g0":
        machine.command(command)
    stretches.wait_for_seconds(machine, 0)
    longest = counts.read()["longest"]
    assert longest <= stretches.LIMIT, f"{longest} instructions"
    machine.power_off()
