# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""Boots images in emulators and talks to the monitor over the serial line. A test is a function
with a description:

    @system_test("[a]\\nkernel = hello.elf\\n", cpus=2)
    def what_it_shows(machine):
        machine.wait_for_state("a", "running")

It asserts; what it raises is its failure."""
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from typing import Callable

import pexpect
import pexpect.fdpexpect

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GUESTS = f"{ROOT}/build/guests"
LOGS = f"{ROOT}/build/tests"
PROMPT = "bulkhead> "
ESCAPE = b"\x1d"  # Ctrl-]
UP = {"running", "blocked"}

# Bochs 2.7 delivers a virtual interrupt though RFLAGS.IF is clear when an interrupt of the host's
# comes meanwhile (docs/testing.md): who relies on locks does not get virtual interrupts there.
LOCKS = re.compile(r"^\s*(vcpus|kernel\s*=\s*vmlinuz)", re.MULTILINE)


@dataclass
class SystemTest:
    """What a test boots, and the function that looks at it. `files` are made for it: name and a
    function that returns the bytes; images come from there or build/guests, and GRUB finds those
    of `grub_files` in /boot. `timeout` is the whole test's, `quick` that of one answer, in
    seconds. In `options` {folder} is where the files are."""
    name: str
    check: Callable
    tenants: str
    files: dict = field(default_factory=dict)
    emulator: str = "bochs"
    firmware: str = "bios"
    media: str = "cdrom"
    cpu_model: str = None
    cpus: int = 1
    memory: int = 512
    virtual_interrupts: bool = False  # in Bochs too, where they may come at the wrong time
    cmdline: str = "console=com1,115200"
    timeout: float = 240
    quick: float = 30
    long: bool = False
    parameter: object = None  # a variant's, for the function
    grub: tuple = ()  # commands for GRUB before it loads the hypervisor
    grub_files: tuple = ()
    options: tuple = ()  # of the emulator's own
    icount: int = None  # QEMU: an instruction takes 2^icount ns
    ips: int = 50_000_000  # Bochs: instructions a second
    machine: type = None  # default: Machine
    debugger: bool = False  # the emulator waits for one at Machine.debugger_path
    debugger_commands: Callable = None  # returns what Bochs's own debugger is to do


TESTS = []

# Variants that run a test on both backends: VT-x in Bochs, AMD-V in QEMU.
VTX, AMD = {"emulator": "bochs"}, {"emulator": "qemu"}
RYZEN = {"emulator": "bochs", "cpu_model": "ryzen"}
BOTH = {"vtx": VTX, "amd": AMD}


def system_test(tenants, variants=None, **description):
    """Registers a test, once for each of `variants`: further descriptions by their suffix."""
    def register(check):
        for suffix, more in (variants or {"": {}}).items():
            name = check.__name__.replace("_", "-") + (f"-{suffix}" if suffix else "")
            TESTS.append(SystemTest(name, check, tenants, **{**description, **more}))
        return check
    return register


class Stopper:
    """The emulators that run, so that none outlives the tests."""
    lock, running = threading.Lock(), set()

    @classmethod
    def stop_all(cls):
        with cls.lock:
            for process in cls.running:
                process.terminate()


class Machine:
    """One machine under test. Texts that it answers with have line feeds only."""

    def __init__(self, test, folder):
        self.test, self.folder = test, folder
        self.log_path, self.emulator_log = f"{folder}/log.serial", f"{folder}/log.emulator"
        self.process = self.line = self.log = self.connection = None

    def __enter__(self):
        image = self._make_image()
        path = f"{self.folder}/serial"
        self.debugger_path = f"{self.folder}/debugger"
        command = [f"{ROOT}/scripts/run", "--serial", f"unix:{path}",
                   "--emulator", self.test.emulator, "--firmware", self.test.firmware, "--media", self.test.media,
                   "--cpus", str(self.test.cpus), "--memory", str(self.test.memory),
                   "--timeout", str(self.test.timeout), "--log", self.emulator_log]
        if self.test.cpu_model:
            command += ["--cpu-model", self.test.cpu_model]
        if self.test.icount is not None and self.test.emulator == "qemu":
            command += ["--icount", str(self.test.icount)]
        if self.test.emulator == "bochs":
            command += ["--ips", str(self.test.ips)]
        if self.test.debugger_commands:
            commands = f"{self.folder}/debugger-commands"
            with open(commands, "w", encoding="utf-8") as file:
                file.write(self.test.debugger_commands())
            command += ["--debugger-commands", commands]
        if self.test.debugger and self.test.emulator == "bochs":
            for end in "in", "out":
                os.mkfifo(f"{self.debugger_path}.{end}")
            command += ["--debugger", self.debugger_path]
        command += [image, "--", *(word.format(folder=self.folder) for word in self.test.options)]
        if self.test.debugger and self.test.emulator == "qemu":
            command += ["-gdb", f"unix:{self.debugger_path},server,nowait"]
        self.errors = open(f"{self.folder}/errors", "w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.errors,
                                        stderr=self.errors)
        with Stopper.lock:
            Stopper.running.add(self.process)
        self.deadline = time.monotonic() + self.test.timeout
        self._connect(path)
        return self

    def _make_image(self):
        for name, content in self.test.files.items():
            with open(f"{self.folder}/{name}", "wb") as file:
                file.write(content())
        tenants = f"{self.folder}/tenants.conf"
        with open(tenants, "w", encoding="utf-8") as file:
            file.write(self.test.tenants)
        image = f"{self.folder}/image.iso"
        command = [f"{ROOT}/scripts/image", "--tenants", tenants, "--out", image,
                   "--cmdline", self._command_line(), "--files", GUESTS]
        command += [f"--grub-line={line}" for line in self.test.grub]
        command += [f"--grub-file={self.folder}/{name}" for name in self.test.grub_files]
        subprocess.run(command, check=True, capture_output=True)
        return image

    def _command_line(self):
        vtx_in_bochs = self.test.emulator == "bochs" and self.test.cpu_model != "ryzen"
        if not vtx_in_bochs or self.test.virtual_interrupts or not LOCKS.search(self.test.tenants):
            return self.test.cmdline
        separator = "," if "without=" in self.test.cmdline else " without="
        return f"{self.test.cmdline}{separator}virtual-interrupt-delivery"

    def _connect(self, path):
        self.connection = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.connection.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):  # not there, or nobody listens yet
                if self.process.poll() is not None or time.monotonic() > self.deadline:
                    raise AssertionError("the emulator did not start") from None
                time.sleep(0.05)
        self.log = open(self.log_path, "ab")
        self.line = pexpect.fdpexpect.fdspawn(self.connection.fileno(), timeout=self.test.quick)
        self.line.logfile_read = self.log

    def hang_up(self):
        """Leaves the line to another program, until reconnect."""
        self.connection.close()

    def reconnect(self):
        self.log.close()
        self._connect(f"{self.folder}/serial")

    def __exit__(self, problem, *_):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        with Stopper.lock:
            Stopper.running.discard(self.process)
        for closable in self.log, self.connection, self.errors:
            if closable:
                closable.close()
        if problem:
            self._keep_logs()

    def _keep_logs(self):
        os.makedirs(LOGS, exist_ok=True)
        for path in self.log_path, self.emulator_log:
            if os.path.exists(path):
                kept = f"{LOGS}/{self.test.name}{os.path.splitext(path)[1]}"
                shutil.copy(path, kept)

    # ---- the line ----
    def expect(self, pattern, timeout=None):
        """Waits for a regular expression; returns the match. Never beyond the test's time."""
        left = max(self.deadline - time.monotonic(), 0)
        wanted = timeout or self.test.quick
        if isinstance(pattern, str):
            pattern = pattern.encode()
        try:
            self.line.expect(pattern, timeout=min(wanted, left))
        except (pexpect.TIMEOUT, pexpect.EOF) as error:
            what = "the line ended" if isinstance(error, pexpect.EOF) else "nothing came"
            tail = self.line.before[-300:].decode(errors="replace") if self.line.before else ""
            raise AssertionError(f"{what} while waiting for {pattern.decode()!r}; last: "
                                 f"{tail!r}") from None
        return self.line.match

    def expect_exact(self, text, timeout=None):
        return self.expect(re.escape(text), timeout)

    def send(self, data):
        self.line.send(data)

    def send_until(self, data, text, times=12, pause=5):
        """Sends again and again, as a person would, until `text` comes."""
        for _ in range(times - 1):
            self.send(data)
            try:
                return self.expect_exact(text, pause)
            except AssertionError:
                pass
        self.send(data)
        return self.expect_exact(text, pause)

    # ---- the monitor ----
    def boot(self, timeout=120):
        """Waits for the prompt; returns the boot log."""
        self.expect_exact(PROMPT, timeout)
        return plain(self.line.before)

    def command(self, text, timeout=None):
        """What a command answers, for people."""
        self.send(text + "\r")
        self.expect_exact("\n")
        self.expect(r"(?:^|[\r\n])" + re.escape(PROMPT), timeout)
        return plain(self.line.before)

    def json(self, text, timeout=None):
        """What a command answers, for programs."""
        self.send(text + " -o json\r")
        match = self.expect(r'(\{"ok":(?:true|false)[^\r\n]*\})\r?\n', timeout)
        self.expect_exact(PROMPT)
        return json.loads(match[1])

    def partitions(self):
        return {partition["name"]: partition for partition in self.json("list")["partitions"]}

    def info(self, name):
        return self.json(f"info {name}")

    def log_of(self, name):
        return self.json(f"log {name}")["log"].replace("\r", "")

    def wait_until(self, what, condition, timeout=120):
        """Asks again and again until `condition` holds; returns what it returned."""
        end = time.monotonic() + timeout
        while True:
            result = condition()
            if result:
                return result
            assert time.monotonic() < end, f"waited in vain until {what}"
            time.sleep(0.5)

    def wait_for_state(self, name, *states, timeout=120):
        def reached():
            info = self.info(name)
            return info if info["state"] in states else None
        return self.wait_until(f"{name} is {' or '.join(states)}", reached, timeout)

    def wait_in_log(self, name, pattern, timeout=120):
        return self.wait_until(f"{pattern!r} stands in the log of {name}",
                               lambda: re.search(pattern, self.log_of(name)), timeout)

    # ---- consoles ----
    def attach(self, name):
        self.send(f"console {name}\r")
        self.expect_exact(f"[console of {name};")

    def detach(self):
        self.send(ESCAPE)
        self.expect_exact(PROMPT)

    def power_off(self):
        """The machine must turn off by itself, and the emulator end as after a power-off."""
        self.send("poweroff\r")
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise AssertionError("poweroff did not turn the machine off") from None
        self.errors.seek(0)
        assert status == 0, f"the emulator ended with status {status}: {self.errors.read()}"


def plain(data):
    """Text without escape sequences, carriage returns and the white space around it."""
    text = data.decode(errors="replace")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "").strip()


def kernel_release():
    """The release in the bzImage's header (Linux boot protocol, kernel_version)."""
    with open(f"{GUESTS}/vmlinuz", "rb") as file:
        image = file.read(65536)
    offset = struct.unpack_from("<H", image, 0x20E)[0] + 0x200
    return image[offset:image.index(b"\0", offset)].split()[0].decode()


def run(test):
    """Runs one test. None when it passed, else what was wrong."""
    try:
        with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
            with (test.machine or Machine)(test, folder) as machine:
                test.check(machine)
        return None
    except AssertionError as error:
        trace = error.__traceback__
        while trace.tb_next and trace.tb_next.tb_frame.f_code.co_filename != __file__:
            trace = trace.tb_next
        place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        return f"{place}: {error or 'assertion failed'}"
    except Exception as error:  # a broken test or tool fails that test only
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit("run tests/run")
