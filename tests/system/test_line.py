# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""The serial line as people and programs use it: the screen, consoles, floods, batch and
scripts/bulkheadctl."""
import contextlib
import json
import os
import random
import re
import subprocess

import pyte
from harness import AMD, BOTH, ESCAPE, PROMPT, ROOT, UP, VTX, system_test

HELLO = "[hello]\nkernel = hello.elf\nmemory = 8M\n"


def control(machine, *words, line=None, stdin=b"", **more):
    """Runs bulkheadctl: its status and what it printed."""
    machine.hang_up()
    result = subprocess.run([f"{ROOT}/scripts/bulkheadctl", "--serial",
                             line or f"unix:{machine.folder}/serial", *words], input=stdin,
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


@contextlib.contextmanager
def bridged(machine, address):
    """The line at another address of socat's, once it says that it is there."""
    machine.hang_up()
    bridge = subprocess.Popen(["socat", "-d", "-d", address, f"UNIX-CONNECT:{machine.folder}/serial"],
                              stderr=subprocess.PIPE)
    try:
        said = next(line for line in bridge.stderr if b"listening on" in line or b"PTY is" in line)
        yield said.decode().split()[-1]
    finally:
        bridge.terminate()
        bridge.wait()
        bridge.stderr.close()


@system_test(HELLO, {"amd": AMD}, memory=256)
def bulkheadctl_over_tcp_and_a_tty(machine):
    machine.boot()
    with bridged(machine, "TCP-LISTEN:0,bind=127.0.0.1") as address:
        line = f"tcp:127.0.0.1:{address.rpartition(':')[2]}"
        assert control(machine, "wait", "hello", "running", line=line)[0] == 0
    with bridged(machine, f"PTY,raw,echo=0,link={machine.folder}/tty"):
        status, out, error = control(machine, "-o", "json", "info", "hello",
                                     line=f"{machine.folder}/tty")
        assert status == 0 and json.loads(out)["name"] == "hello", (out, error)
    machine.reconnect()
    machine.send("\r")
    machine.power_off()


@system_test(HELLO + "[bad]\nkernel = hello.elf\nmemory = 1Q\n", BOTH, memory=256)
def batch_tells_of_the_configuration_and_of_ends(machine):
    machine.boot()
    machine.wait_for_state("hello", *UP)
    machine.send("batch\r")
    machine.expect_exact('{"ok":true}\r\n')
    event = json.loads(machine.expect(r'(\{"event"[^\r\n]*\})\r\n')[1])
    assert event["event"] == "configuration-error", event
    assert event["message"].startswith("tenants.conf:6: [bad] memory: '1Q'"), event
    machine.send("destroy hello\n")
    event = json.loads(machine.expect(r'(\{"event"[^\r\n]*\})\r\n')[1])
    assert (event["event"], event["name"], event["state"]) == ("stop", "hello", "stopped"), event
    machine.send("interactive\r")
    machine.expect_exact(PROMPT)
    machine.power_off()


# ---- consoles ----

TRANSFER = """
[echo]
kernel = serial.elf
memory = 8M

[source]
kernel  = serial.elf
memory  = 8M
cmdline = send=100000
"""
TRANSFERS = {"vtx": {**VTX, "parameter": 30_000}, "amd": {**AMD, "parameter": 100_000},
             "vtx-long": {**VTX, "parameter": 100_000, "long": True}}


def xorshift(count, state=0x9E3779B9):
    """What guests/serial sends."""
    result = bytearray()
    for _ in range(count):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        result.append(state >> 24)
    return bytes(result)


def receive(machine, count, send=b""):
    """The next `count` bytes of the line, while `send` goes the other way as fast as it is
    taken."""
    connection, line = machine.connection, machine.line
    result, line.buffer = bytearray(line.buffer), b""
    connection.settimeout(machine.test.quick)
    while len(result) < count:
        if send:
            connection.setblocking(False)
            try:
                send = send[connection.send(send[:4096]):]
            except BlockingIOError:
                pass
            connection.settimeout(0.005 if send else machine.test.quick)
        try:
            result += connection.recv(65536)
        except TimeoutError:
            assert send, f"nothing comes any more after {len(result)} of {count} bytes"
    connection.settimeout(None)
    line.buffer = bytes(result[count:])
    return bytes(result[:count])


def attach_to_ready(machine, name):
    machine.attach(name)
    machine.expect_exact("serial: ready\r\n")


@system_test(TRANSFER, TRANSFERS, cpus=2, memory=256, timeout=300, quick=60)
def every_byte_both_ways(machine):
    machine.boot()
    count = machine.test.parameter
    data = random.Random(1).randbytes(count)
    attach_to_ready(machine, "echo")
    echoed = receive(machine, len(data), data.replace(ESCAPE, ESCAPE * 2))
    assert echoed == data, "the echo is not what was sent"
    machine.detach()
    attach_to_ready(machine, "source")  # sends faster than the line: it is made to wait
    machine.send("g")
    assert receive(machine, count) == xorshift(count), "bytes were lost or changed"
    machine.detach()
    machine.power_off()


FLOODS = "".join(f"[{name}]\nkernel = fault.elf\nmemory = 8M\ncmdline = fault=flood after=1\n\n"
                 for name in ("one", "two", "three"))


@system_test(FLOODS, {"vtx": {**VTX, "parameter": 100}, "amd": {**AMD, "parameter": 1000},
                      "vtx-long": {**VTX, "parameter": 1000, "timeout": 1000, "long": True}},
             cpus=2, memory=256, timeout=800)
def commands_answer_in_a_flood(machine):
    machine.boot()
    for name in "one", "two", "three":
        machine.wait_until(f"{name} floods", lambda: machine.info(name)["exits"] > 10_000)
    machine.send("batch\r")
    machine.expect_exact('{"ok":true}\r\n')
    commands = ["list", "info two", "uptime", "nonsense", "host", "exits three"]
    for number in range(machine.test.parameter):
        machine.send(commands[number % len(commands)] + "\n")
        answer = json.loads(machine.expect(r"(\{[^\r\n]*\})\r\n")[1])
        assert answer["ok"] == (commands[number % len(commands)] != "nonsense"), answer
    machine.send("interactive\r")
    machine.expect_exact(PROMPT)
    machine.attach("two")  # a flood can be watched, and left
    machine.expect(r"flood \d+: the quick brown fox")
    machine.send(ESCAPE + b"\r")
    machine.expect_exact(PROMPT, 60)
    before = machine.info("two")["exits"]
    assert machine.info("two")["exits"] > before
    machine.power_off()


@system_test(HELLO, BOTH, memory=256, cmdline="console=com1,115200 escape=^A")
def another_escape(machine):
    machine.boot()
    machine.wait_in_log("hello", "heartbeat 1")
    machine.send("console hello\r")
    machine.expect_exact("Ctrl-A leaves, twice sends it]")
    machine.send(b"now " + ESCAPE + b"\x01\x01 all\r")
    machine.expect_exact(b"now " + ESCAPE + b"\x01 all")
    machine.send("\x01\r")
    machine.expect_exact(PROMPT)
    machine.power_off()


# ---- the screen ----

class Screen:
    """A person's terminal: pyte's. `answers`: it says where its cursor is when it is asked."""

    def __init__(self, machine, answers=True):
        self.machine, self.screen = machine, pyte.Screen(80, 24)
        self.stream = pyte.ByteStream(self.screen)
        if answers:
            self.screen.write_process_input = lambda text: machine.send(text.encode())

    def type(self, text):
        self.machine.send(text)

    def until(self, what, condition):
        """Shows what comes until the condition holds."""
        line = self.machine.line
        self.stream.feed(line.buffer)
        line.buffer = b""
        while not condition():
            try:
                self.stream.feed(line.read_nonblocking(4096, self.machine.test.quick))
            except Exception as error:
                rows = "\n".join(self.rows())
                raise AssertionError(f"{what}: not on the screen:\n{rows}") from error

    def rows(self):
        return [row.rstrip() for row in self.screen.display]

    def row(self):
        """The one with the cursor."""
        return self.rows()[self.screen.cursor.y]

    def was(self, text):
        return text in self.rows()

    def until_row(self, text, column=None):
        column = len(text) if column is None else column
        self.until(f"{text!r}, cursor in {column}",
                   lambda: self.row() == text.rstrip() and self.screen.cursor.x == column)

    def until_shown(self, pattern):
        self.until(pattern, lambda: re.search(pattern, "\n".join(self.rows()), re.M))


MORE = "--More-- (space: page, Enter: line, q: quit)"
LEFT, HOME, END, UP_KEY = "\x1b[D", "\x1b[H", "\x1bOF", "\x1b[A"


@system_test(HELLO, BOTH, memory=256)
def what_a_person_sees(machine):
    machine.boot()
    screen = Screen(machine)
    screen.type("\r")
    screen.until_row(PROMPT)
    screen.type("lixt" + LEFT + "\x7fs")
    screen.until_row("bulkhead> list"[:13] + "t", 13)
    screen.type("\x01X\x05Y" + HOME + "\x1b[3~" + END + "\x7f\r")
    screen.until_shown(r"^NAME +STATE")
    screen.until_row(PROMPT)
    screen.type("ver\tno more\x17\x17" + LEFT + "\x0b")
    screen.until_row("bulkhead> version", 17)
    screen.type("\x15info hel\t")
    screen.until_row("bulkhead> info hello ")
    screen.type("\x15" + UP_KEY)
    screen.until_row("bulkhead> list")
    screen.type("\x15\u00e4\u20ac\U0001f600" + LEFT + LEFT + "x")
    screen.until("UTF-8", lambda: screen.row() == "bulkhead> \u00e4x\u20ac\U0001f600")
    screen.type("\x15\x12li")
    screen.until_row("(reverse-i-search)`li': list")
    screen.type("\x0c")
    screen.until("a clear screen", lambda: screen.rows()[0] == "bulkhead> list")
    screen.type("\x15" + "x" * 100 + HOME)
    screen.until_row(PROMPT + "x" * 69, len(PROMPT))
    screen.type("\x03zzz\r")
    screen.until_shown(r"^error: unknown command 'zzz'")
    machine.power_off()


@system_test(HELLO, BOTH, memory=256)
def a_log_by_the_page(machine):
    machine.boot()
    machine.wait_in_log("hello", "heartbeat 1")
    screen = Screen(machine)
    screen.type("console hello\r" + "".join(f"row {row}\r" for row in range(80)))
    screen.until_shown("^row 79")
    screen.type("\x1d\r")
    screen.until_row(PROMPT)
    screen.type("dmesg\r")  # the terminal's answer may come late, but counts from then on
    screen.until_shown("AMD-V is used|VT-x is used")
    screen.until_row(PROMPT)
    screen.type("log hello\r")
    screen.until_row(MORE)
    top = screen.rows()[0]
    assert top.startswith("hello: a small guest") and not screen.was("row 79"), screen.rows()
    screen.type(" ")
    screen.until("the next page", lambda: screen.rows()[0] != top and screen.row() == MORE)
    screen.type("q")
    screen.until_row(PROMPT)
    machine.power_off()


@system_test(HELLO, BOTH, memory=256)
def a_dumb_terminal(machine):
    machine.boot()
    machine.log.flush()
    start = os.path.getsize(machine.log_path)
    machine.send("lust\x1b[D\x1b[D\x7fi\x15inf\thel\t\x01\x12li\x03version\r")
    machine.expect_exact("(reverse-i-search)`li'")
    machine.expect(r"version\r\nBulkhead \S+\r\n")
    machine.log.flush()
    with open(machine.log_path, "rb") as log:
        log.seek(start)
        assert b"\x1b" not in log.read()
    machine.power_off()


@system_test(HELLO, BOTH, memory=256, timeout=300)
def a_paste_loses_nothing(machine):
    machine.boot()
    machine.send("\r".join(f"nonsense-{number:03}-{'x' * 80}" for number in range(110)) + "\r")
    for number in range(110):
        machine.expect_exact(f"error: unknown command 'nonsense-{number:03}-")
    machine.send("x" * 10_000 + "\x01y\r")
    machine.expect_exact("error: unknown command 'yxxx")
    machine.power_off()
