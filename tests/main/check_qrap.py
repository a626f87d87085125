#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs taploom-qrap against a listening socket and looks at what the command gets.

usage: check_qrap.py TAPLOOM-QRAP
"""
import os
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

QRAP = sys.argv.pop()
ADDED = ["-netdev", "socket,fd={},id=hostnet0", "-device", "virtio-net,netdev=hostnet0"]


def added(fd):
    return [argument.format(fd) for argument in ADDED]


class Qrap(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="taploom-qrap-")
        self.path = os.path.join(self.dir.name, "socket")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.command("qemu-kvm")

    def tearDown(self):
        self.listener.close()
        self.dir.cleanup()

    def command(self, name):
        """A program in PATH that says hello on descriptors 5 and 7, and prints its arguments."""
        path = os.path.join(self.dir.name, name)
        with open(path, "w") as script:
            script.write("#!/bin/sh\nfor fd in 5 7; do [ -S /proc/self/fd/$fd ] && echo hello >&$fd; done\n"
                         "for argument; do echo \"$argument\"; done\nexit 3\n")
        os.chmod(path, 0o755)

    def run_qrap(self, *arguments, busy=0):
        """busy: how often the daemon hangs up."""
        environment = dict(os.environ, TAPLOOM_SOCKET=self.path, PATH=self.dir.name + ":" + os.environ["PATH"])
        received = []

        def serve():
            for _ in range(busy):
                self.listener.accept()[0].close()
            self.listener.settimeout(30 if busy < 20 else 0)
            try:
                connection, _ = self.listener.accept()
            except BlockingIOError:
                return
            connection.settimeout(None)
            received.append(connection.makefile().read())
            connection.close()

        server = threading.Thread(target=serve)
        server.start()
        run = subprocess.run([QRAP, *arguments], env=environment, capture_output=True, text=True)
        server.join()
        return run, received

    def test_command_has_the_connection_at_its_descriptor(self):
        run, received = self.run_qrap("7", "qemu-kvm", "-net", "socket,fd=7")
        self.assertEqual(received, ["hello\n"])
        self.assertEqual(run.stdout.split("\n")[:-1], ["-net", "socket,fd=7"])

    def test_status_is_the_command_s(self):
        self.assertEqual(self.run_qrap("7", "qemu-kvm")[0].returncode, 3)

    def test_a_qemu_without_network_gets_one(self):
        run, _ = self.run_qrap("7", "qemu-kvm", "-m", "64")
        self.assertEqual(run.stdout.split("\n")[:-1], ["-m", "64"] + added(7))

    def test_another_command_keeps_its_arguments(self):
        self.command("other")
        run, _ = self.run_qrap("7", "other", "-m", "64")
        self.assertEqual(run.stdout.split("\n")[:-1], ["-m", "64"])

    def test_qemu_is_found_and_its_network_replaced(self):
        run, received = self.run_qrap("disk", "-net", "user", "-device", "e1000,netdev=x", "-device", "virtio-rng",
                                      "-nic", "none", "--netdev", "user,id=x")
        self.assertEqual(received, ["hello\n"])
        self.assertEqual(run.stdout.split("\n")[:-1], ["disk", "-device", "virtio-rng"] + added(5))

    def test_a_daemon_that_hangs_up_is_busy(self):
        run, received = self.run_qrap("7", "qemu-kvm", busy=20)
        self.assertEqual((run.returncode, received), (1, []))
        self.assertIn("busy", run.stderr)

    def test_a_daemon_that_is_free_soon_is_waited_for(self):
        run, received = self.run_qrap("7", "qemu-kvm", busy=3)
        self.assertEqual((run.returncode, received), (3, ["hello\n"]))

    def test_a_network_in_json_is_replaced(self):
        run, _ = self.run_qrap("-netdev", '{"type":"user","id":"hostnet0"}', "-device",
                               '{"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0"}', "-device",
                               '{"driver":"virtio-rng-pci"}')
        self.assertEqual(run.stdout.split("\n")[:-1], ["-device", '{"driver":"virtio-rng-pci"}'] + added(5))

    def test_a_probe_is_left_alone(self):
        os.unlink(self.path)
        arguments = ["-S", "-nodefaults", "-machine", "none,accel=kvm:tcg", "-qmp", "stdio"]
        environment = dict(os.environ, TAPLOOM_SOCKET=self.path, PATH=self.dir.name + ":" + os.environ["PATH"])
        run = subprocess.run([QRAP, *arguments], env=environment, capture_output=True, text=True)
        self.assertEqual((run.returncode, run.stdout.split("\n")[:-1]), (3, arguments), run.stderr)

    def test_no_socket_is_an_error(self):
        os.unlink(self.path)
        environment = dict(os.environ, TAPLOOM_SOCKET=self.path)
        run = subprocess.run([QRAP, "7", "true"], env=environment, capture_output=True, text=True)
        self.assertEqual(run.returncode, 1)
        self.assertEqual(run.stderr, f"taploom-qrap: {self.path}: No such file or directory\n")

    def test_no_command_is_an_error(self):
        environment = dict(os.environ, TAPLOOM_SOCKET=self.path)
        run = subprocess.run([QRAP, "7", "./nowhere"], env=environment, capture_output=True, text=True)
        self.assertEqual(run.returncode, 1)
        self.assertIn("./nowhere: No such file", run.stderr)


unittest.main()
