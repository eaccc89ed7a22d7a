# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""Machines of many kinds: where it runs, and what it says where it cannot."""
import dataclasses
import re
import struct
import tempfile

from debugger import RAX, RCX, RDX, STOP_IN_GRUB, Debugger, find_instruction
from harness import AMD, BOTH, RYZEN, UP, VTX, Machine, system_test

HELLO = "[hello]\nkernel = hello.elf\nmemory = 8M\n"
PC = """
[pc]
kernel    = pc.elf
memory    = 16M
vcpus     = 2
exit_port = 0xf4

[hello]
kernel    = hello.elf
memory    = 8M
"""


def passes_as_a_pc(machine):
    info = machine.wait_for_state("pc", "stopped", "crashed", timeout=200)
    said = machine.log_of("pc")
    assert info["state"] == "stopped", info
    assert "pc PASS" in said and "FAIL" not in said, re.findall(r"FAIL.*", said) or said
    assert info["exit_status"] == 1, info


# What only this model has and so only here runs; the Phenom shows the same without.
USED_ON = {"ryzen": ("NRIP save", "flush by ASID", "pause filter", "LBR virtualization")}


@system_test(PC, {
    "arrandale": {"cpu_model": "corei5_arrandale_m520"},
    "haswell": {"cpu_model": "corei7_haswell_4770"},
    "skylake": {"cpu_model": "corei7_skylake_x", "cpus": 2},
    "icelake": {"cpu_model": "corei7_icelake_u"},
    "phenom": {"cpu_model": "phenom_8650_toliman"},
    "ryzen": {**RYZEN, "cpus": 2},
    "amd": {**AMD, "cpus": 2, "icount": 3},
}, memory=256, timeout=300, virtual_interrupts=True)
def the_virtual_pc(machine):
    log = machine.boot()
    capabilities = machine.json("capabilities")
    assert capabilities["usable"], capabilities
    states = {feature["name"]: feature["state"] for feature in capabilities["features"]}
    for name in USED_ON.get(machine.test.cpu_model, ()):
        assert states[name] == "used", (name, states[name])
    assert machine.json("host")["cpus"] == machine.test.cpus, log
    passes_as_a_pc(machine)
    machine.power_off()


APIC_VIRTUALISATION = ("APIC-access page", "virtual x2APIC mode", "APIC-register virtualisation",
                       "virtual-interrupt delivery")
OPTIONAL = ("VMX-preemption timer", "saving of the VMX-preemption timer", "TPR shadow", "INVVPID",
            "VPID", "EPT 2 MiB pages", "EPT 1 GiB pages", "EPT accessed and dirty flags",
            "RDTSCP", "INVPCID", "XSAVES", "PAUSE-loop exiting", "TSC scaling")


def without(*names):
    return ("console=com1,115200 without=" +
            ",".join(name.lower().replace(" ", "-") for name in names))


@system_test(PC, {
    "preemption-timer": {"cmdline": without("VMX-preemption timer"), "cpus": 2},
    "timer-saving": {"cmdline": without("saving of the VMX-preemption timer")},
    "tpr-shadow": {"cmdline": without("TPR shadow")},
    "interrupt-delivery": {"cmdline": without("virtual-interrupt delivery")},
    "anything-optional": {"cmdline": without(*OPTIONAL), "cpus": 2},
}, memory=256, timeout=300, virtual_interrupts=True)
def the_virtual_pc_without(machine):
    log = machine.boot()
    capabilities = machine.json("capabilities")
    states = {feature["name"]: feature["state"] for feature in capabilities["features"]}
    for name in OPTIONAL + APIC_VIRTUALISATION:
        if without(name).rpartition("=")[2] in machine.test.cmdline.rpartition("=")[2].split(","):
            assert states[name] == "absent", (name, states[name])
    if states["TPR shadow"] == "absent":
        assert all(states[name] == "unused" for name in APIC_VIRTUALISATION), states
    assert "no feature has this name" not in log, log
    passes_as_a_pc(machine)


@system_test(PC, BOTH, memory=256, cmdline="console=com1,115200 without=warp-drive")
def an_unknown_feature_to_do_without(machine):
    assert "without=warp-drive: no feature has this name here" in machine.boot()


TSC = """
[slow]
kernel    = pc.elf
memory    = 16M
tsc_mhz   = 20
exit_port = 0xf4

[fast]
kernel    = pc.elf
memory    = 16M
tsc_mhz   = 130
exit_port = 0xf4
"""


# The guest compares its TSC's rate, which CPUID tells, with the PIT. QEMU's AMD-V has no scaling.
@system_test(TSC, cpus=2, memory=256)
def tsc_scaling(machine):
    machine.boot()
    for name in "slow", "fast":
        machine.wait_for_state(name, "stopped", "crashed", timeout=200)
        said = machine.log_of(name)
        assert "pc PASS" in said and "FAIL" not in said, said
    machine.power_off()


@system_test(TSC, {"vtx": {"cpu_model": "corei7_haswell_4770"}, "amd": AMD}, memory=256)
def tsc_scaling_that_is_missing(machine):
    machine.boot()
    start = machine.json("start slow")
    assert not start["ok"] and "needs TSC scaling" in start["error"], start
    machine.power_off()


@system_test(PC, BOTH, cpus=2, memory=256, virtual_interrupts=True)
def no_page_is_writable_and_executable(machine):
    log = machine.boot()
    assert re.search(r"host page tables: 0 of \d+ pages are writable and executable", log), log
    host = machine.json("host")
    assert host["host_pages"] > 50 and host["host_pages_wx"] == 0, host
    machine.power_off()


def refuses_guests(machine, words):
    """Says why in the boot log, in capabilities and to whoever starts a partition."""
    log = machine.boot()
    capabilities = machine.json("capabilities")
    assert not capabilities["usable"], capabilities
    sentence = capabilities["refusal"]
    assert len(sentence) > 20, sentence
    assert all(word.lower() in sentence.lower() for word in words), sentence
    assert f"no guest can run: {sentence}" in log, f"{sentence!r} is not in the boot log: {log}"
    assert sentence in machine.command("capabilities")
    assert not any(feature["state"] == "used" for feature in capabilities["features"]), capabilities
    assert all(partition["state"] == "stopped" for partition in machine.partitions().values())
    start = machine.json("start hello")
    assert not start["ok"] and sentence in start["error"], start
    machine.power_off()


# CPUs that will not do, and words of the sentence that says why.
@system_test(PC, {
    name: {**emulator, "cpu_model": model, "parameter": words}
    for name, emulator, model, *words in (
        ("no-ept", VTX, "core2_penryn_t9600", "EPT"),
        ("no-unrestricted-guest", VTX, "corei5_lynnfield_750", "unrestricted guest"),
        ("no-vtx", VTX, "p4_prescott_celeron_336", "VT-x"),
        ("athlon64", VTX, "athlon64_clawhammer", "does not offer AMD-V"),
        ("no-svm", AMD, "EPYC,-svm", "does not offer AMD-V"),
        ("no-nested-paging", AMD, "EPYC,+svm,-npt", "nested paging"),
        ("no-secondary-controls", {**VTX, "cmdline": without("secondary controls")}, None,
         "no secondary processor-based controls"),
        ("no-msr-bitmaps", {**VTX, "cmdline": without("MSR bitmaps")}, None,
         "VT-x lacks what is needed here: MSR bitmaps"),
        ("neither", AMD, "EPYC,-svm,vendor=CentaurHauls",
         "not an x86-64 CPU with VT-x or AMD-V", "CentaurHauls"),
    )
}, memory=256)
def refusal(machine):
    refuses_guests(machine, machine.test.parameter)


BOCHS_BIOS = "/usr/share/bochs/BIOS-bochs-latest"
# mov ecx, IA32_FEATURE_CONTROL; rdmsr; or eax, 5; wrmsr: in 16 bits for APs, in 32 for the first
SETS_FEATURE_CONTROL = rb"\xb9\x3a\0\0\0\x0f\x32(\x66?)\x83\xc8\x05\x0f\x30"
UNLOCKED, LOCKED_OFF, LOCKED_ON = 0, 1, 5


def firmware(first, others):
    """Options of a machine whose firmware leaves these in IA32_FEATURE_CONTROL."""
    def make():
        with open(BOCHS_BIOS, "rb") as file:
            rom = bytearray(file.read())
        places = list(re.finditer(SETS_FEATURE_CONTROL, rom))
        assert [place[1] for place in places] == [b"\x66", b""], "another BIOS"
        for place, value in zip(places, (others, first)):
            rom[place.end() - 3] = value
        return rom
    return {"files": {"bios": make}, "options": ("romimage: file={folder}/bios",)}


@system_test(HELLO, **VTX, **firmware(LOCKED_OFF, LOCKED_OFF), cpus=2, memory=256)
def vtx_locked_off_by_firmware(machine):
    refuses_guests(machine, ("turned off and locked by the firmware", "bit 2 is 0",
                             'turn on "Intel Virtualization Technology"'))


@system_test(HELLO, **VTX, **firmware(UNLOCKED, UNLOCKED), cpus=2, memory=256)
def vtx_unlocked_by_firmware(machine):
    log = machine.boot()
    note = machine.json("capabilities")["note"]
    assert "VT-x is enabled here" in note and f"VT-x is used: {note}" in log, (note, log)
    assert "runs no guests" not in log, log
    machine.wait_in_log("hello", "heartbeat 1")
    machine.power_off()


@system_test(HELLO, **VTX, **firmware(LOCKED_ON, LOCKED_OFF), cpus=2, memory=256)
def vtx_locked_off_on_one_cpu(machine):
    log = machine.boot()
    assert "CPU 1: VT-x is turned off and locked by the firmware" in log, log
    assert "CPU 1 runs no guests" in log, log
    machine.wait_in_log("hello", "heartbeat 1")
    machine.power_off()


MSR_VM_CR = 0xC0010114
VM_CR_LOCK, VM_CR_SVMDIS = 1 << 3, 1 << 4


def debugger_at_svm_probe(machine):
    """QEMU has no VM_CR, which reads 0: a debugger answers in its stead."""
    debugger = Debugger.in_grub(machine)
    debugger.run_to(find_instruction("svm_unlock", "rdmsr")[1])
    return debugger


@system_test(HELLO, **AMD, memory=256, debugger=True, grub=STOP_IN_GRUB)
def svm_locked_off_by_firmware(machine):
    debugger = debugger_at_svm_probe(machine)
    debugger.set_register(RAX, VM_CR_LOCK | VM_CR_SVMDIS)
    debugger.go_on()
    refuses_guests(machine, ("the firmware has disabled AMD-V and locked that", "VM_CR.SVMDIS",
                             'enable "SVM"', "power-cycle"))


@system_test(HELLO, **AMD, memory=256, debugger=True, grub=STOP_IN_GRUB)
def svm_unlocked_by_firmware(machine):
    debugger = debugger_at_svm_probe(machine)
    debugger.set_register(RAX, VM_CR_SVMDIS)
    debugger.run_to(find_instruction("svm_unlock", "wrmsr")[0])
    assert debugger.register(RAX) == 0 and debugger.register(RCX) == MSR_VM_CR
    debugger.go_on()
    log = machine.boot()
    note = machine.json("capabilities")["note"]
    assert "enabled here" in note and f"AMD-V is used: {note}" in log, (note, log)
    machine.wait_in_log("hello", "heartbeat 1")
    machine.power_off()


# QEMU says that its CPU has what it has not, and a debugger does in its stead what it can.
ASSISTING = "EPYC,+svm,+npt,-nrip-save,+decodeassists,+tsc-scale,x-force-features=on"
POOL, GUEST_RAM = 0xFFFF8000_00000000, 0xFFFF9000_00000000  # docs/architecture.md
# APM volume 2, appendices B and C.
VMCB_EXIT_CODE, VMCB_FETCHED, VMCB_RIP = 0x70, 0xD0, 0x578
VMEXIT_IOIO, VMEXIT_NPF = 0x7B, 0x400
IOIO_STRING, IOIO_A64, IOIO_DS = 1 << 2, 1 << 9, 3 << 10
MAX_LENGTH, UD2 = 15, b"\x0F\x0B"


class DecodeAssists:
    """Behind VMRUN: hands over the instruction that exited, and hides it in the guest's memory
    until the next VMRUN, so that nobody can read it there."""

    def __init__(self, debugger):
        self.debugger, self.hidden, self.assisted = debugger, None, {VMEXIT_IOIO: 0, VMEXIT_NPF: 0}

    def enter(self):
        if self.hidden:
            self.debugger.write(*self.hidden)
        self.hidden = None

    def exit(self):
        vmcb = POOL + self.debugger.register(RAX)
        code, info = struct.unpack("<QQ", self.debugger.read(vmcb + VMCB_EXIT_CODE, 16))
        if code == VMEXIT_NPF or code == VMEXIT_IOIO and info & IOIO_STRING:
            rip, = struct.unpack("<Q", self.debugger.read(vmcb + VMCB_RIP, 8))
            instruction = self.debugger.read(GUEST_RAM + rip, MAX_LENGTH)
            if code == VMEXIT_NPF:
                self.debugger.write(vmcb + VMCB_FETCHED, bytes([MAX_LENGTH]) + instruction)
            else:
                info |= IOIO_A64 | IOIO_DS
                self.debugger.write(vmcb + VMCB_EXIT_CODE + 8, struct.pack("<Q", info))
            self.hidden = GUEST_RAM + rip, instruction[:len(UD2)]
            self.debugger.write(GUEST_RAM + rip, UD2)
            self.assisted[code] += 1


@system_test("""
[strings]
kernel    = pc.elf
memory    = 16M
cmdline   = only=string-io
exit_port = 0xf4
autostart = no

[forms]
kernel    = pc.elf
memory    = 16M
cmdline   = only=mmio-forms
exit_port = 0xf4
autostart = no
""", **AMD, cpu_model=ASSISTING, memory=256, debugger=True)
def decode_assists_by_a_debugger(machine):
    machine.boot()
    assert {"name": "decode assists", "state": "used"} in machine.json("capabilities")["features"]
    (before, _), (_, behind) = (find_instruction("svm_run", word) for word in ("clgi", "vmrun"))
    for name, kind in ("strings", VMEXIT_IOIO), ("forms", VMEXIT_NPF):
        debugger = Debugger(machine)
        assists = DecodeAssists(debugger)
        machine.send(f"start {name}\r")
        for address in debugger.stops_at((before, behind)):
            (assists.enter if address == before else assists.exit)()
        debugger.leave()
        assert assists.assisted[kind] > 0, assists.assisted
        assert machine.wait_for_state(name, "stopped", "crashed")["exit_status"] == 1
        assert "pc PASS" in machine.log_of(name), machine.log_of(name)
    machine.power_off()


@system_test("[slow]\nkernel = hello.elf\nmemory = 8M\ntsc_mhz = 250\n" + HELLO, **AMD, memory=256,
             cpu_model=ASSISTING, debugger=True)
def tsc_ratio_by_a_debugger(machine):
    """What is written to the MSR: QEMU's CPU takes no notice."""
    machine.boot()
    host_hz = machine.json("host")["tsc_hz"]
    debugger = Debugger(machine)
    index, _ = find_instruction("svm_read_cpuid", r"mov +ecx,0xc0000104")
    wrmsr, _ = find_instruction(index, "wrmsr")
    written = set()
    for _ in debugger.stops_at((wrmsr,)):
        assert debugger.register(RCX) == 0xC0000104
        written.add(debugger.register(RDX) << 32 | debugger.register(RAX))
        if len(written) == 2:
            break
    debugger.leave()
    assert written == {1 << 32, (250_000_000 << 32) // host_hz}, (written, host_hz)
    machine.power_off()


# IA32_APIC_BASE: enabled, in x2APIC mode, of the first CPU. Only there do CPUs have a choice.
X2APIC_BASE = "0xfee00d00"
FIRMWARE_X2APIC = ("insmod rdmsr", "insmod wrmsr", f"wrmsr 0x1b {X2APIC_BASE}", "rdmsr 0x1b")


@system_test(PC, **VTX, cpus=2, memory=256, grub=FIRMWARE_X2APIC, timeout=300,
             virtual_interrupts=True)
def firmware_in_x2apic_mode(machine):
    log = machine.boot()
    assert X2APIC_BASE in log and "2 of 2 CPUs are up" in log, log
    passes_as_a_pc(machine)


@system_test(PC, BOTH, memory=256)
def reboot(machine):
    machine.boot()
    machine.send("reboot-host\r")
    machine.boot()
    assert machine.json("version")["ok"]
    machine.power_off()


@system_test("", {"no-configuration-vtx": VTX, "no-configuration-amd": AMD,
                  "tiny-memory-vtx": {**VTX, "memory": 32},
                  "tiny-memory-amd": {**AMD, "memory": 32}}, memory=256)
def monitor_without_partitions(machine):
    machine.boot()
    assert machine.json("list") == {"ok": True, "partitions": []}
    for word in ("list", "info", "start", "destroy", "pause", "resume", "console", "log",
                 "capabilities", "dmesg", "help", "poweroff", "reboot-host"):
        assert re.search(rf"(^|  ){word} ", machine.command("help"), re.M), word
        assert machine.json(f"help {word}")["ok"], word
    answer = machine.json("lst")
    assert not answer["ok"] and "lst" in answer["error"], answer
    machine.send("capab\t\r")  # completed
    machine.expect(r"(?i)virtualisation")
    machine.power_off()


# The image is that of a CD, a hard disk and a USB stick in one.
@system_test(HELLO, {
    f"{media}-{firmware}": {**AMD, "media": media, "firmware": firmware}
    for media in ("disk", "usb") for firmware in ("bios", "uefi")
}, memory=256)
def boots_from(machine):
    machine.boot()
    machine.wait_for_state("hello", *UP)
    machine.wait_in_log("hello", "heartbeat 1")
    machine.power_off()


ARCH = "[arch]\nkernel = arch.elf\nmemory = 16M\nvcpus = 2\nexit_port = 0xf4\n"


def answers(machine):
    """What the guest says on this machine, but for its CPU's vendor."""
    machine.boot()
    info = machine.wait_for_state("arch", "stopped", "crashed", timeout=200)
    lines = machine.log_of("arch").splitlines()
    assert lines and lines[-1] == "arch END" and info["exit_status"] == 1, (info, lines[-3:])
    machine.power_off()
    vendors = [line for line in lines if line.startswith("vendor: ")]
    return vendors, [line for line in lines if line not in vendors]


# Bochs: VMRUN does not load CR2, and an intercepted #DB leaves no cause in DR6.
NOT_ON_RYZEN = re.compile(r"step .* DR6: |(ins|outs).*, CR2 ")


# The emulators' AMD-V lets a guest of its own write to CR0 what must fault, and Bochs ends over it.
CHECKED_HERE = without("guest-owned CR0 and CR4")


@system_test(ARCH, {"": VTX, "ryzen": {**RYZEN, "cmdline": CHECKED_HERE}}, cpus=2, memory=256)
def same_answers_from_both(machine):
    vendors, ours = answers(machine)
    other = dataclasses.replace(machine.test, name=machine.test.name + "-other", cpu_model=None,
                                cmdline=CHECKED_HERE, **AMD)
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        with Machine(other, folder) as second:
            other_vendors, theirs = answers(second)
    ryzen = machine.test.cpu_model == "ryzen"
    assert vendors == ["vendor: AuthenticAMD" if ryzen else "vendor: GenuineIntel"], vendors
    assert other_vendors == ["vendor: AuthenticAMD"], other_vendors
    assert len(ours) > 300 and len(ours) == len(theirs), (len(ours), len(theirs))
    different = [f"{a!r} or {b!r}" for a, b in zip(ours, theirs)
                 if a != b and not (ryzen and NOT_ON_RYZEN.match(a))]
    assert not different, different


@system_test(ARCH + "cmdline = only=registers unchecked=skip\n", {"": AMD}, memory=256)
def control_registers_of_the_guests_own(machine):
    """What QEMU's TCG refuses by itself has to fault all the same."""
    machine.boot()
    machine.wait_for_state("arch", "stopped", "crashed", timeout=200)
    log = machine.log_of("arch")
    assert re.search("CR4 with bit 63 flipped: .*write: vector d error 0", log), log
    assert re.search("CR4 with bit 7 flipped: .*write: no exception", log), log
    exits = {row["kind"]: row["count"] for row in machine.json("exits arch")["exits"]}
    assert exits.get("control register", 0) < 10, exits
    machine.power_off()
