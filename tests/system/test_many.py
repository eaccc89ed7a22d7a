# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""A thousand small guests side by side."""
from harness import BOTH, UP, system_test

COUNT = 1000
MEMORY_EACH = 48 << 10  # the hypervisor's, tables and the console's first page included
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
        info = machine.info(name)
        assert info["hypervisor_memory"] + info["page_tables"] <= MEMORY_EACH
    machine.power_off()


@system_test("[other]\nkernel = hello.elf\nmemory = 8M\n", BOTH, memory=256)
def a_small_guest_costs_little(machine):
    def used():
        return machine.json("host")["hypervisor_used"]

    machine.boot()
    machine.wait_in_log("other", "heartbeat 1")
    before = used()
    for _ in range(3):
        assert machine.json("create small kernel=hello.elf memory=2M")["ok"]
        machine.wait_in_log("small", "heartbeat 1")
        info, cost = machine.info("small"), used() - before
        assert cost <= MEMORY_EACH, cost
        assert cost == info["hypervisor_memory"] + info["page_tables"], (cost, info)
        assert machine.json("destroy small")["ok"]
        machine.wait_for_state("small", "stopped")
        assert machine.json("undefine small")["ok"]
        assert used() == before
    machine.power_off()
