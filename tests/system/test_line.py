# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""The serial line as people and programs use it: the screen, consoles, floods, batch and
scripts/bulkheadctl."""
import json
import subprocess

from harness import BOTH, ROOT, system_test

HELLO = "[hello]\nkernel = hello.elf\nmemory = 8M\n"


def control(machine, *words, stdin=b"", **more):
    """Runs bulkheadctl: its status and what it printed."""
    machine.hang_up()
    result = subprocess.run([f"{ROOT}/scripts/bulkheadctl", "--serial",
                             f"unix:{machine.folder}/serial", *words], input=stdin,
                            capture_output=True, timeout=60, check=False, **more)
    return result.returncode, result.stdout.decode(), result.stderr.decode()


@system_test(HELLO, BOTH, memory=256)
def bulkheadctl(machine):
    machine.boot()
    machine.wait_in_log("hello", "heartbeat 1")
    machine.send("half a li")  # of a person who went away
    status, out, _ = control(machine, "list")
    assert status == 0 and out.splitlines()[-1].split()[0] == "hello", out
    status, out, _ = control(machine, "-o", "json", "info", "hello")
    assert status == 0 and json.loads(out)["name"] == "hello", out
    assert control(machine, "info", "nobody")[::2] == (1, "error: there is no partition 'nobody'\n")
    assert control(machine, "frobnicate")[0] == 1
    assert control(machine, "wait", "hello", "running")[0] == 0
    status, _, error = control(machine, "--timeout", "1", "wait", "hello", "crashed")
    assert status == 1 and "'hello' is" in error, error
    assert "heartbeat 1" in control(machine, "log", "hello")[1]
    status, out, _ = control(machine, "console", "hello", stdin=b"typed by\x1da program\r")
    assert status == 0 and "typed by\x1da program" in out, out
    machine.reconnect()
    machine.send("console hello\r")  # a console that somebody left open
    machine.expect_exact("[console of hello;")
    assert control(machine, "destroy", "hello")[0] == 0
    assert control(machine, "wait", "hello", "stopped")[0] == 0
    machine.reconnect()  # the line is a person's again
    machine.send("\r")
    assert machine.info("hello")["state"] == "stopped"
    machine.power_off()
