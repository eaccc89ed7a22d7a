# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What a broken invariant of the hypervisor's own looks like: a debugger breaks it from outside."""
from debugger import RAX, Debugger, address_of, find_instruction
from harness import AMD, UP, VTX, system_test

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
