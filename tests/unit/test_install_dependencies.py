#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""What scripts/install-dependencies does on machines that lack packages, as root and not: the
tools that it calls are made up."""
import os
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOLS = {
    # All that is asked for is installed but nasm, which dpkg does not know, and bochs.
    "dpkg-query": 'for p in "$@"; do case $p in nasm|-*|*{*) ;; bochs) echo "$p not-installed";; '
                  '*) echo "$p installed";; esac; done',
    "apt-get": 'echo "apt-get $*"',
}
ROOT_USER, PERSON = {"id": "echo 0"}, {"id": "echo 1000"}
SUDO = {"sudo": 'shift; exec "$@"'}
NO_SUDO = {"sudo": "exit 1"}
ALL_THERE = {"dpkg-query": 'for p in "$@"; do echo "$p installed"; done'}


def install(*tools, dpkg=True):
    """Its status, what it printed, and what it complained of."""
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        made = dict(TOOLS)
        for more in tools:
            made.update(more)
        if not dpkg:
            del made["dpkg-query"]
        for name in "awk", "env", "sh", "true":
            os.symlink(f"/usr/bin/{name}", f"{folder}/{name}")
        for name, script in made.items():
            with open(f"{folder}/{name}", "w", encoding="ascii") as file:
                file.write(f"#!/bin/sh\n{script}\n")
            os.chmod(f"{folder}/{name}", 0o755)
        result = subprocess.run(["/bin/sh", f"{ROOT}/scripts/install-dependencies"], text=True,
                                env={"PATH": folder}, capture_output=True, check=False)
    return result.returncode, result.stdout, result.stderr


class Installs(unittest.TestCase):
    def test_nothing_where_all_is_there(self):
        self.assertEqual(install(PERSON, NO_SUDO, ALL_THERE), (0, "", ""))

    def test_what_is_missing(self):
        for who in (ROOT_USER, NO_SUDO), (PERSON, SUDO):
            status, said, _ = install(*who)
            self.assertEqual(status, 0, said)
            self.assertIn("apt-get update", said)
            self.assertRegex(said, r"apt-get install .* nasm bochs *\n")

    def test_no_root(self):
        status, said, complaint = install(PERSON, NO_SUDO)
        self.assertEqual((status, said), (1, ""))
        self.assertRegex(complaint, r"run as root.*\n.*apt-get install .*nasm bochs *\n")

    def test_another_distribution(self):
        status, _, complaint = install(PERSON, NO_SUDO, dpkg=False)
        self.assertEqual(status, 1)
        self.assertRegex(complaint, r"not a Debian system(.|\n)* nasm .* bochs ")


unittest.main()
