# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What a broken invariant of the hypervisor's own looks like: a debugger breaks it from outside."""
import os
import re
import socket
import subprocess
import time

from harness import ROOT, system_test

# No guest runs: what the debugger stops is the hypervisor.
HELLO = "[hello]\nkernel = hello.elf\nmemory = 8M\nautostart = no\n"
UD2 = "0f0b"


class Debugger:
    """The few words of GDB's remote protocol that this takes."""

    def __init__(self, path):
        deadline = time.monotonic() + 20
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self.received = b""

    def ask(self, text):
        """The answer to a command; word of a stop may come before it at any time."""
        self.say(text)
        while True:
            packet = re.search(rb"\$([^#]*)#..", self.received)
            if packet:
                self.received = self.received[packet.end():]
                self.socket.sendall(b"+")
                if not packet[1].startswith(b"T"):
                    return packet[1].decode()
            else:
                self.received += self.socket.recv(4096)

    def say(self, text):
        self.socket.sendall(f"${text}#{sum(text.encode()) & 255:02x}".encode())


def address_of(symbol):
    lines = subprocess.run(["nm", f"{ROOT}/build/bulkhead.elf"], check=True, capture_output=True,
                           text=True).stdout.splitlines()
    return next(line.split()[0] for line in lines if line.split()[2] == symbol)


@system_test(HELLO, emulator="qemu", memory=256, debugger=True)
def a_panic_says_where(machine):
    machine.boot()
    debugger = Debugger(machine.debugger_path)
    answer = debugger.ask(f"M{address_of('monitor_poll')},2:{UD2}")
    assert answer == "OK", answer
    debugger.say("c")
    machine.send("\r")
    machine.line.expect(r"PANIC: exception 6 \(invalid opcode\)[^\n]*\n")
    machine.line.expect(r"backtrace:\r\n.* monitor_poll\+0x0\r\n.*sched_loop\+0x")
    dump = machine.line.before
    machine.line.expect_exact("\n")
    assert b"PANIC" not in machine.line.before, dump
