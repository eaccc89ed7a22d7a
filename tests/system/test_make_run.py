# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""`make run`, from a person's terminal."""
import time

import pexpect
from harness import PROMPT, ROOT, Machine, Stopper, system_test
from test_partitions import two_linuxes_and_a_small_guest


class MakeRun(Machine):
    """The line is a terminal. What is run is guests/demo/tenants.conf."""

    def __enter__(self):
        words = ["run", f"OUT={self.folder}/image.iso"]
        if self.test.parameter:
            words.append(f"EMU={self.test.parameter}")
        self.line = pexpect.spawn("make", words, cwd=ROOT, timeout=self.test.quick)
        self.log = self.line.logfile_read = open(self.log_path, "wb")
        self.deadline = time.monotonic() + self.test.timeout
        with Stopper.lock:
            Stopper.running.add(self.line)
        return self

    def __exit__(self, problem, *_):
        self.line.close(force=True)
        with Stopper.lock:
            Stopper.running.discard(self.line)
        self.log.close()
        if problem:
            self._keep_logs()

    def power_off(self):
        self.send("poweroff\r")
        self.line.expect(pexpect.EOF, timeout=60)
        self.line.close()
        assert self.line.exitstatus == 0, self.line.exitstatus


@system_test("", {"": {}, "bochs": {"parameter": "bochs", "long": True}}, machine=MakeRun,
             timeout=900, quick=60)
def make_run(machine):
    two_linuxes_and_a_small_guest(machine)


@system_test("", machine=MakeRun)
def ctrl_a_x_ends_the_emulator(machine):
    machine.expect_exact("[Ctrl-A x ends the emulator]", 120)
    machine.expect_exact(PROMPT, 60)
    machine.send("\x01x")
    machine.line.expect(pexpect.EOF)
