# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""Bochs's own debugger, by which tests/bench tells the guests' instructions from the hypervisor's. A
tick of the machine's clock is an instruction, but for those that go by while a CPU sleeps."""
import re
import select
import subprocess
import threading

from debugger import IMAGE, address_of, find_instruction

PROMPT = re.compile(rb"<bochs:\d+> $")
ANSWER_SIZE = 65536
RUN_TIMEOUT = 400  # seconds
ENTRIES = "vmlaunch", "vmresume"
EXIT_POINTS = "vmx_exit_point", "vmx_guarded_exit_point"


class BochsDebugger:
    """Takes a machine with debugger=True, which does nothing until go_on or let_go."""

    def __init__(self, machine):
        self.commands = open(f"{machine.debugger_path}.in", "wb", buffering=0)
        self.answers = open(f"{machine.debugger_path}.out", "rb", buffering=0)
        self.breakpoints = {}  # numbers by address
        self.answer()

    def answer(self):
        text = b""
        while not PROMPT.search(text):
            assert select.select([self.answers], [], [], RUN_TIMEOUT)[0], "Bochs does not stop"
            data = self.answers.read(ANSWER_SIZE)
            if not data:
                raise EOFError(f"Bochs ended: {text[-300:]}")
            text += data
        return text.decode(errors="replace")

    def say(self, text):
        try:
            self.commands.write(f"{text}\n".encode())
        except BrokenPipeError:
            raise EOFError("Bochs ended") from None

    def ask(self, text):
        self.say(text)
        return self.answer()

    def break_at(self, *addresses):
        """Linear addresses, before the instruction there."""
        for address in addresses:
            self.breakpoints[address] = len(self.breakpoints) + 1
            self.ask(f"lb {address:#x}")

    def enable(self, enabled, *addresses):
        for address in addresses:
            self.ask(f"{'bpe' if enabled else 'bpd'} {self.breakpoints[address]}")

    def let_go(self):
        """The machine runs; go_on or stop waits for it to stop."""
        self.say("c")

    def stop(self):
        """Where it stops, and when, in ticks."""
        text = self.answer()
        address = re.search(r"Breakpoint \d+, 0x(\w+)", text)
        assert address, f"Bochs stopped: {text}"
        return int(address[1], 16), time_in(text)

    def go_on(self):
        self.let_go()
        return self.stop()

    def leave(self):
        """The machine goes on as if there were no debugger."""
        self.enable(False, *self.breakpoints)
        self.let_go()

    def step(self):
        return time_in(self.ask("s"))

    def sleep(self):
        """Executes the HLT or MWAIT that it has stopped at, and what wakes the CPU up. Returns the
        ticks in between: the second step waits, and executes one instruction."""
        asleep = self.step()
        return self.step() - asleep - 1

    def memory(self, file, address, size):
        self.ask(f'writemem "{file}" {address:#x} {size:#x}')
        with open(file, "rb") as memory:
            return memory.read()


def time_in(text):
    return int(re.findall(r"Next at t=(\d+)", text)[-1])


def rests():
    """The hypervisor's instructions that sleep."""
    text = subprocess.run(["objdump", "-d", "-M", "intel", "--no-show-raw-insn", IMAGE], check=True,
                          capture_output=True, text=True).stdout
    return [int(address, 16) for address in
            re.findall(r"\tsti *\n *(\w+):\s+(?:hlt|mwait)\b", text)]


class Account:
    """Who executes how much on the only CPU of a machine under the hypervisor: `guest` and
    `hypervisor`; VMLAUNCH and VMRESUME are the hypervisor's, an instruction that exits the guest's.
    `stretches` are what the hypervisor executes from an exit or a wake-up to an entry or a rest."""

    def __init__(self, debugger, *marks):
        self.debugger = debugger
        self.entries = [find_instruction("vmx_run", word)[0] for word in ENTRIES]
        self.exit_points = [address_of(name) for name in EXIT_POINTS]
        self.rests = rests()
        self.guest = self.asleep = 0
        self.start = self.now = self.entered = self.left = 0
        self.stretches = []
        debugger.break_at(*self.entries, *self.exit_points, *self.rests, *marks)
        debugger.enable(False, *self.rests)

    @property
    def hypervisor(self):
        return self.now - self.start - self.guest - self.asleep

    def leave_guest(self):
        self.left = self.now
        self.guest += self.now - self.entered

    def leave_host(self):
        self.stretches.append(self.now + 1 - self.left)

    def count(self, address):
        """What has gone by up to a stop, and what the CPU sleeps there."""
        if address in self.entries:
            self.leave_host()
            self.entered = self.now + 1
        elif address in self.rests:
            self.leave_host()
            asleep = self.debugger.sleep()
            self.asleep += asleep
            self.left = self.now + 1 + asleep
        else:
            self.leave_guest()

    def run_to(self, mark=None):
        """From the first guest's first instruction to one of a guest's. The machine must have
        been let go."""
        address, self.now = self.debugger.stop()
        assert address in self.entries, f"stopped at {address:#x}"
        self.start = self.left = self.now + 1
        self.debugger.enable(True, *self.rests)
        while address != mark:
            self.count(address)
            address, self.now = self.debugger.go_on()
        self.leave_guest()

    def run_to_guest(self, mark):
        """From one of the hypervisor's instructions to the first guest's. The machine must have
        been let go."""
        address, self.now = self.debugger.stop()
        assert address == mark, f"stopped at {address:#x}"
        self.start = self.left = self.now
        self.debugger.enable(False, mark)
        self.debugger.enable(True, *self.rests)
        while address not in self.entries:
            if address in self.rests:
                self.count(address)
            address, self.now = self.debugger.go_on()
        self.leave_host()

    def follow(self):
        """Counts from the first guest's first instruction until Bochs ends, while the caller has the
        machine. Returns the thread."""
        def run():
            try:
                self.run_to()
            except EOFError:
                pass

        thread = threading.Thread(target=run, daemon=True)
        self.debugger.let_go()
        thread.start()
        return thread
