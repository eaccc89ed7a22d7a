# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""A thousand small guests side by side."""
from harness import UP, system_test

COUNT = 1000
MEMORY_EACH = 48 << 10  # the hypervisor's, beside the page tables and the console
GUEST = "[g{}]\nkernel = hello.elf\nmemory = 2M\n"


@system_test("".join(GUEST.format(number) for number in range(COUNT)), emulator="qemu", icount=0,
             memory=3584, quick=60)
def a_thousand_small_guests_make_progress(machine):
    machine.boot(timeout=200)

    def exits():
        guests = machine.json("list", timeout=120)["partitions"]
        assert len(guests) == COUNT
        if any(guest["state"] not in UP or not guest["exits"] for guest in guests):
            return None
        return {guest["name"]: guest["exits"] for guest in guests}

    first = machine.wait_until("all guests run", exits, timeout=200)
    machine.wait_until("every guest goes on",
                       lambda: all(now > first[name] for name, now in exits().items()))
    for name in "g0", f"g{COUNT - 1}":
        machine.wait_in_log(name, "heartbeat")
        assert machine.info(name)["hypervisor_memory"] <= MEMORY_EACH
    machine.power_off()
