# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What a broken invariant of the hypervisor's own looks like: a debugger breaks it from outside."""
from debugger import Debugger, address_of
from harness import system_test

# No guest runs: what the debugger stops is the hypervisor.
HELLO = "[hello]\nkernel = hello.elf\nmemory = 8M\nautostart = no\n"
UD2 = b"\x0f\x0b"


@system_test(HELLO, emulator="qemu", memory=256, debugger=True)
def a_panic_says_where(machine):
    machine.boot()
    debugger = Debugger(machine)
    debugger.write(address_of("monitor_poll"), UD2)
    debugger.go_on()
    machine.send("\r")
    machine.line.expect(r"PANIC: exception 6 \(invalid opcode\)[^\n]*\n")
    machine.line.expect(r"backtrace:\r\n.* monitor_poll\+0x0\r\n.*sched_loop\+0x")
    dump = machine.line.before
    machine.line.expect_exact("\n")
    assert b"PANIC" not in machine.line.before, dump
