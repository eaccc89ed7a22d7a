# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What a test does to a machine from outside: GDB's remote protocol as QEMU speaks it."""
import os
import re
import socket
import struct
import subprocess
import time

from harness import ROOT

IMAGE = f"{ROOT}/build/bulkhead.elf"
RAX, RBX, RCX, RDX, RSP, RIP = 0, 1, 2, 3, 7, 16  # numbers of registers in the protocol
INTERRUPT = b"\x03"
ANSWER_TIMEOUT, RUN_TIMEOUT = 20, 60  # seconds
RFLAGS_IF = 1 << 9
# GRUB waits for a key: a breakpoint that is set any earlier makes all of its work slow.
STOP_IN_GRUB = ("insmod echo", "insmod read", "echo stopped", "read")


class Debugger:
    """Takes a machine with debugger=True; connecting stops it."""

    def __init__(self, machine):
        path = machine.debugger_path
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(ANSWER_TIMEOUT)
        self.socket.connect(path)
        self.received = b""
        self.ask("qXfer:features:read:target.xml:0,1000")  # QEMU wants it before any `p` or `P`

    @classmethod
    def in_grub(cls, machine):
        """For a machine with grub=STOP_IN_GRUB: GRUB goes on when the debugger lets it."""
        machine.expect_exact("stopped", 60)
        debugger = cls(machine)
        machine.send("\r")
        return debugger

    def packet(self):
        while True:
            packet = re.search(rb"\$([^#]*)#..", self.received)
            if packet:
                self.received = self.received[packet.end():]
                self.socket.sendall(b"+")
                return packet[1].decode()
            data = self.socket.recv(4096)
            assert data, "the debugger's line ended"
            self.received += data

    def say(self, text):
        self.socket.sendall(f"${text}#{sum(text.encode()) & 255:02x}".encode())

    def ask(self, text):
        """The answer to a command; word of a stop may come before it at any time."""
        self.say(text)
        while (answer := self.packet()).startswith("T"):
            pass
        return answer

    def order(self, text):
        answer = self.ask(text)
        assert answer == "OK", f"{text[:40]}: {answer}"

    def go_on(self):
        self.say("c")

    def wait_for_stop(self):
        while not self.packet().startswith("T"):
            pass

    def run_to(self, address):
        """Goes on until an instruction is about to be executed."""
        self.order(f"Z1,{address:x},1")
        self.go_on()
        self.socket.settimeout(RUN_TIMEOUT)
        self.wait_for_stop()
        self.socket.settimeout(ANSWER_TIMEOUT)
        self.order(f"z1,{address:x},1")

    def stops_at(self, addresses, quiet=5):
        """Goes on and yields whichever of the addresses is about to be executed, until none has
        been for so many seconds."""
        at = None
        try:
            while True:
                if at in addresses:  # it would stop there again
                    self.say("s")
                    self.wait_for_stop()
                for address in addresses:
                    self.order(f"Z1,{address:x},1")
                self.socket.settimeout(quiet)
                self.go_on()
                self.wait_for_stop()
                for address in addresses:
                    self.order(f"z1,{address:x},1")
                at = self.register(RIP)
                yield at
        except TimeoutError:
            self.interrupt()
        for address in addresses:
            self.order(f"z1,{address:x},1")

    def leave(self):
        """The machine goes on without a debugger."""
        self.say("D")
        self.packet()
        self.socket.close()

    def interrupt(self):
        self.socket.sendall(INTERRUPT)
        self.wait_for_stop()

    def register(self, number):
        return int.from_bytes(bytes.fromhex(self.ask(f"p{number:x}")), "little")

    def set_register(self, number, value):
        self.order(f"P{number:x}={struct.pack('<Q', value).hex()}")

    def use_physical_addresses(self):
        self.order("Qqemu.PhyMemMode:1")

    def read(self, address, size):
        return bytes.fromhex(self.ask(f"m{address:x},{size:x}"))

    def can_read(self, address):
        return not self.ask(f"m{address:x},1").startswith("E")

    def write(self, address, data):
        self.order(f"M{address:x},{len(data):x}:{data.hex()}")

    def monitor(self, text):
        """What QEMU's own monitor says."""
        self.say("qRcmd," + text.encode().hex())
        said = ""
        while (answer := self.packet()) != "OK":
            if answer.startswith("O"):
                said += bytes.fromhex(answer[1:]).decode()
        return said

    def registers(self):
        """QEMU's text of every CPU's. They are stopped for the look."""
        self.interrupt()
        text = self.monitor("info registers -a")
        self.go_on()
        return text

    def is_halted(self):
        """Are all CPUs in HLT with interrupts off?"""
        text = self.registers()
        flags = re.findall(r"[RE]FL=([0-9a-f]+)", text)
        return "HLT=0" not in text and not any(int(word, 16) & RFLAGS_IF for word in flags)


def address_of(symbol):
    lines = subprocess.run(["nm", IMAGE], check=True, capture_output=True,
                           text=True).stdout.splitlines()
    return next(int(line.split()[0], 16) for line in lines if line.split()[2] == symbol)


def find_instruction(start, words):
    """Addresses of the first one from a function or an address on that objdump shows so, in Intel's
    syntax, and of the one after it."""
    start = address_of(start) if isinstance(start, str) else start
    text = subprocess.run(["objdump", "-d", "-M", "intel", "--no-show-raw-insn",
                           f"--start-address={start:#x}", IMAGE], check=True,
                          capture_output=True, text=True).stdout
    found = re.search(rf"^ *(\w+):\s+{words}\b.*\n(?:\n.*\n)? *(\w+):", text, re.M)
    assert found, f"no {words} from {start:#x} on"
    return int(found[1], 16), int(found[2], 16)
