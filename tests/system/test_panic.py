# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What a broken invariant of the hypervisor's own looks like: a debugger breaks it from outside."""
import re

from debugger import RAX, RSP, Debugger, address_of, find_instruction
from harness import AMD, UP, VTX, system_test

# No guest runs: what the debugger stops is the hypervisor.
HELLO = "[hello]\nkernel = hello.elf\nmemory = 8M\nautostart = no\n"
UD2 = b"\x0f\x0b"
PAGE = 4096
STACK_PAGES_MAX = 16
# SDM volume 3, "IA32_MCi_STATUS MSRs" and "IA32_MCG_STATUS MSR"
MACHINE_CHECK = "mce 0 1 0xb200000000000000 0x4 0 0"  # valid, uncorrected; in progress


def invalid_opcode(debugger):
    debugger.write(address_of("monitor_poll"), UD2)


def stack_overflow(debugger):
    """All of the stack is used up but for one word: the guard page is below."""
    debugger.run_to(address_of("monitor_poll"))
    bottom = debugger.register(RSP) & -PAGE
    for _ in range(STACK_PAGES_MAX):
        if not debugger.can_read(bottom - PAGE):
            break
        bottom -= PAGE
    assert not debugger.can_read(bottom - PAGE), "the stack has no guard page"
    debugger.set_register(RSP, bottom + 8)


def machine_check(debugger):
    debugger.monitor(MACHINE_CHECK)


@system_test(HELLO, {
    "invalid-opcode": {"parameter": (invalid_opcode, r"exception 6 \(invalid opcode\)",
                                     r".* monitor_poll\+0x0\r\n.*sched_loop\+0x")},
    "stack-overflow": {"parameter": (stack_overflow, r"exception 8 \(double fault\)",
                                     r".* monitor_poll\+0x")},
    "machine-check": {"parameter": (machine_check, r"exception 18 \(machine check\)", r".*\+0x")},
}, **AMD, cpus=2, memory=256, debugger=True)
def a_panic_says_where(machine):
    breaks, exception, backtrace = machine.test.parameter
    machine.boot()
    debugger = Debugger(machine)
    machine.send("\r")
    breaks(debugger)
    debugger.go_on()
    machine.line.expect(rf"PANIC: {exception}[^\n]*\n")
    machine.line.expect(rf"backtrace:\r\n{backtrace}")
    dump = machine.line.before
    machine.line.expect_exact("\n")
    assert b"PANIC" not in machine.line.before, dump
    machine.wait_until("all CPUs halt", debugger.is_halted, 20)


@system_test(HELLO, **AMD, cpus=2, memory=256, debugger=True)
def an_nmi_is_told_of(machine):
    machine.boot()
    debugger = Debugger(machine)
    debugger.monitor("nmi")
    debugger.go_on()
    machine.send("\r")  # it may have come just before the CPU went to rest
    machine.expect_exact("NMI ignored")
    machine.command("")
    machine.power_off()


# SDM volume 3, "Control Registers" and "Extended Feature Enable Register"
CR0_WP, CR4_SMEP, CR4_SMAP, EFER_NXE = 1 << 16, 1 << 20, 1 << 21, 1 << 11


@system_test(HELLO, **AMD, cpus=2, memory=256, debugger=True)
def every_cpu_protects_the_hypervisor_from_itself(machine):
    machine.boot()
    debugger = Debugger(machine)
    debugger.go_on()
    text = debugger.registers()
    for register, wanted in ("CR0", CR0_WP), ("CR4", CR4_SMEP | CR4_SMAP), ("EFER", EFER_NXE):
        values = [int(word, 16) for word in re.findall(rf"\b{register} ?=([0-9a-f]+)", text)]
        assert len(values) == 2 and all(value & wanted == wanted for value in values), text
    machine.power_off()


NEIGHBOURS = """
[neighbour]
kernel    = hello.elf
memory    = 8M

[kept]
kernel    = hello.elf
memory    = 8M
autostart = no
on_crash  = preserve

[again]
kernel    = hello.elf
memory    = 8M
autostart = no
on_crash  = restart
"""
# SDM volume 3, appendix B: what VMLAUNCH refuses when RFLAGS has reserved bits set, or the VM-entry
# controls lack bits that must be set.
VMCS_GUEST_RFLAGS, VMCS_ENTRY_CONTROLS = 0x6820, 0x4012
# APM volume 2, appendix B: what VMRUN refuses when EFER.SVME or the intercept of VMRUN is 0.
VMCB_EFER, VMCB_INTERCEPTS_4 = 0x4D0, 0x10


def break_vmcs():
    """On one CPU, the first VMLAUNCH after the state of a partition that starts was loaded is its
    own. Each of the two comes after a VMWRITE of the stack pointer to the wrong field."""
    load = f"{address_of('vmx_load_state'):#x}"
    launch = f"{find_instruction('vmx_run', 'vmlaunch')[0]:#x}"
    write = f"{find_instruction('vmx_run', 'vmwrite rax,rsp')[0]:#x}"

    def spoil(field):
        return f"set rax = {field:#x}\nset rip = {write}\ns\nset rip = {launch}\n"
    return (f"lb {load}\nc\n"  # the neighbour's
            f"c\nlb {launch}\nc\n{spoil(VMCS_GUEST_RFLAGS)}d 2\n"
            f"c\nlb {launch}\nc\n{spoil(VMCS_ENTRY_CONTROLS)}d 1\nd 3\nc\n")


def break_vmcb(machine, offset):
    debugger = Debugger(machine)
    debugger.run_to(address_of("svm_load_state"))
    debugger.run_to(find_instruction("svm_run", "vmrun")[0])
    debugger.use_physical_addresses()
    debugger.write(debugger.register(RAX) + offset, bytes(4))
    debugger.leave()


def start_broken(machine, name, vmcb_offset):
    machine.send(f"start {name}\r")
    if machine.test.debugger:
        break_vmcb(machine, vmcb_offset)
    machine.expect_exact("the CPU refused its state")
    machine.command("")


@system_test(NEIGHBOURS, {"vtx": {**VTX, "debugger_commands": break_vmcs,
                                  "parameter": ("VM entry failed: reason 33, invalid guest state",
                                                "VM entry refused: error 7, VM entry with "
                                                "invalid control fields")},
                          "amd": {**AMD, "debugger": True,
                                  "parameter": ("VM entry refused: VMEXIT_INVALID",) * 2}},
             memory=256)
def a_vm_entry_fails(machine):
    errors = dict(zip(("kept", "again"), machine.test.parameter))
    machine.boot()
    machine.wait_in_log("neighbour", "heartbeat 1")
    start_broken(machine, "kept", VMCB_EFER)
    machine.wait_for_state("kept", "crashed")
    start_broken(machine, "again", VMCB_INTERCEPTS_4)
    machine.wait_in_log("again", "heartbeat 1")
    assert machine.info("kept")["state"] == "crashed"
    again = machine.info("again")
    assert again["state"] in UP and again["starts"] == 2, again
    said = machine.command("dmesg")
    for name, error in errors.items():
        assert f"{name}: vCPU 0: {error}" in said, said
        assert f"'{name}' vCPU 0: the CPU refused its state" in said, said
    assert "CR0" in said and "RFLAGS" in said, said
    beats = machine.log_of("neighbour").count("heartbeat")
    machine.wait_until("the neighbour goes on",
                       lambda: machine.log_of("neighbour").count("heartbeat") > beats)
    assert machine.info("neighbour")["starts"] == 1
    machine.power_off()
