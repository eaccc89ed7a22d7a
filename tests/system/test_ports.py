# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What is said elsewhere than on the first serial port: on the screen and on other ports."""
import json
import random
import re
import socket
import threading

from harness import AMD, ROOT, system_test

HELLO = "[hello]\nkernel = hello.elf\nmemory = 8M\n"
QEMU_MONITOR = ("-qmp", "unix:{folder}/qemu,server,nowait")
GLYPH = (8, 16)


def connect(machine, name):
    """A socket of QEMU's, as soon as it listens."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(machine.test.quick)
    machine.wait_until(f"QEMU listens at {name}",
                       lambda: connection.connect_ex(f"{machine.folder}/{name}") == 0)
    return connection


def ask_qemu(machine, command):
    """Runs a command of QEMU's own monitor to its end."""
    with connect(machine, "qemu") as connection:
        with connection.makefile("rw", encoding="utf-8") as monitor:
            monitor.readline()  # its greeting
            for request in ({"execute": "qmp_capabilities"},
                            {"execute": "human-monitor-command",
                             "arguments": {"command-line": command}}):
                monitor.write(json.dumps(request) + "\n")
                monitor.flush()
                while "return" not in (answer := json.loads(monitor.readline())):
                    pass
    assert not answer["return"], answer


def glyphs():
    """The characters by the rows of their glyphs, as the hypervisor was built with them."""
    with open(f"{ROOT}/build/font.c", encoding="ascii") as file:
        rows = re.findall(r"\{((?:0x[0-9A-F]{2}(?:, )?){16})\}", file.read())
    return {bytes(int(row, 16) for row in text.split(", ")): chr(0x20 + index)
            for index, text in enumerate(rows)}


def text_of_pixels(machine):
    """The text on a screen of pixels; '#' where there is no character."""
    path = f"{machine.folder}/screen.ppm"
    ask_qemu(machine, f"screendump {path}")
    with open(path, "rb") as file:
        width, height = map(int, re.match(rb"P6\n(\d+) (\d+)\n255\n", data := file.read()).groups())
    pixels, characters = data[-width * height * 3:], glyphs()

    def cell(column, row):
        bits = []
        for y in range(row * GLYPH[1], (row + 1) * GLYPH[1]):
            start = (y * width + column * GLYPH[0]) * 3
            bits.append(sum((pixels[start + x * 3] > 0) << 7 - x for x in range(8)))
        return characters.get(bytes(bits), "#")
    return ["".join(cell(column, row) for column in range(width // GLYPH[0])).rstrip()
            for row in range(height // GLYPH[1])]


def text_of_cells(machine):
    """The text in the memory of VGA's text mode."""
    path = f"{machine.folder}/cells"
    ask_qemu(machine, f"pmemsave 0xb8000 4000 \"{path}\"")
    with open(path, "rb") as file:
        characters = file.read()[::2].decode("cp437")
    return [characters[i:i + 80].rstrip() for i in range(0, len(characters), 80)]


@system_test(HELLO, {"bios": {**AMD, "parameter": text_of_cells},
                     "uefi": {**AMD, "firmware": "uefi", "parameter": text_of_pixels}},
             memory=512, cmdline="console=com3", options=QEMU_MONITOR)
def the_screen_shows_the_log(machine):
    read = machine.test.parameter

    def whole():
        rows = read(machine)
        return rows if any("'hello' started" in row for row in rows) else None
    rows = machine.wait_until("the log is on the screen", whole)
    begin = next(i for i, row in enumerate(rows) if re.fullmatch(r"\[ +0\.\d+\] Bulkhead \S+", row))
    log = [row for row in rows[begin:] if row]
    assert any(re.fullmatch(r"\[ +\d+\.\d+\] AMD-V is used.*", row) for row in log), rows
    assert all(row.startswith("[") for row in log), rows
    assert "hello: heartbeat" not in "".join(rows)


PORTS = """
[echo]
kernel  = serial.elf
memory  = 8M
console = com2

[greedy]
kernel  = hello.elf
memory  = 8M
console = com1
"""


def read_until(connection, wanted):
    seen = b""
    while wanted not in seen:
        data = connection.recv(65536)
        assert data, f"the port ended with {seen!r}"
        seen += data
    return seen


# COM3 shares its interrupt with COM1.
@system_test(PORTS, {"1": {**AMD, "cpus": 1}, "2": {**AMD, "cpus": 2}}, memory=256,
             cmdline="console=com1 logport=com3",
             options=("-serial", "unix:{folder}/com2,server=on,wait=on",
                      "-serial", "unix:{folder}/com3,server=on,wait=on"))
def other_ports_carry_guests_and_the_log(machine):
    with connect(machine, "com2") as guest, connect(machine, "com3") as log:
        machine.boot()
        seen = read_until(log, b"com1 is in use")
        assert re.search(rb"\[ +0\.\d+\] Bulkhead \S+\r\n", seen), seen
        if b"'echo' started" not in seen:
            read_until(log, b"'echo' started")
        read_until(guest, b"serial: ready\r\n")
        data = random.Random(2).randbytes(20_000)
        sender = threading.Thread(target=guest.sendall, args=(data,))
        sender.start()
        echoed = b""
        while len(echoed) < len(data):
            echoed += guest.recv(65536)
        sender.join()
        assert echoed == data, "the echo on COM2 is not what was sent"
        machine.send("console echo\r")  # the monitor can look in, too
        machine.expect_exact("serial: ready")
        machine.send("\x1d\r")
        answer = machine.json("start greedy")
        assert answer == {"ok": False, "error": "'greedy': console: com1 is in use"}, answer
        machine.power_off()
