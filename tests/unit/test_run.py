#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""Which emulator scripts/run takes, and how. That KVM then works is not shown here."""
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import unittest
from unittest import mock

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("run", f"{ROOT}/scripts/run")
run = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
loader.exec_module(run)


class Host:
    """A machine whose KVM is there or not, and passes virtualisation on as its modules say."""

    def __init__(self, kvm, **nested):
        self.kvm, self.nested = kvm, nested

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="bulkhead-test-")
        for name in self.nested:
            self._write(f"nested-{name}", self.nested[name])
        if self.kvm:
            self._write("kvm", "")
        self.patch = mock.patch.multiple(run, NESTED=f"{self.folder.name}/nested-{{}}",
                                         KVM=f"{self.folder.name}/kvm")
        self.patch.start()

    def __exit__(self, *_):
        self.patch.stop()
        self.folder.cleanup()

    def _write(self, name, content):
        with open(f"{self.folder.name}/{name}", "w", encoding="ascii") as file:
            file.write(content)


def command(*arguments):
    """The emulator's command line."""
    with mock.patch.object(sys, "argv", ["run", __file__, *arguments]):
        args = run.parse_arguments()
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        if args.emulator == "bochs":
            return run.bochs_command(args, folder, 1)
        return run.qemu_command(args, folder, "serial")


def value(words, option):
    return words[words.index(option) + 1]


class Choice(unittest.TestCase):
    def test_kvm_that_passes_virtualisation_on(self):
        for nested in {"intel": "Y\n"}, {"intel": "1\n"}, {"amd": "1\n"}, {"intel": "N", "amd": "Y"}:
            with Host(True, **nested):
                words = command()
                self.assertEqual(words[0], "qemu-system-x86_64")
                self.assertEqual((value(words, "-accel"), value(words, "-cpu")), ("kvm", "host"))

    def test_no_kvm_that_would_do(self):
        for host in (Host(False), Host(True), Host(True, intel="N\n"), Host(True, amd="0\n"),
                     Host(False, intel="Y\n")):
            with host:
                words = command()
                self.assertTrue(value(words, "-accel").startswith("tcg"), words)
                self.assertIn("+svm", value(words, "-cpu"))

    def test_what_is_asked_for(self):
        with Host(True, intel="Y\n"):
            self.assertTrue(value(command("--emulator", "qemu"), "-accel").startswith("tcg"))
            self.assertEqual(command("--emulator", "bochs")[0], "bochs")
        with Host(False):
            words = command("--emulator", "kvm", "--cpu-model", "EPYC")
            self.assertEqual((value(words, "-accel"), value(words, "-cpu")), ("kvm", "EPYC"))


unittest.main()
