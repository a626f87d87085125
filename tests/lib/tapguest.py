#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
A network namespace in the place of a virtual machine: a tap device in it is joined to the stream
socket, as QEMU joins a guest's card. Real clients then run in the namespace.

    with Topology("mytest") as net:
        guest = TapGuest(net, net.taploom())
        guest.configure()
        guest.space.run("ping", "-c1", net.REMOTE4)

As a program, `tapguest.py SOCKET TAP`, it carries the frames; TapGuest starts it in the namespace.
"""

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading

from topology import stop, wait_until

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME_MAX = 65536 + 22
READ_SIZE = 1 << 20
MAC = "52:54:00:12:34:57"


def open_tap(name):
    """A descriptor of a tap device; it is made if it is not there."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return tap


def _to_socket(tap, sock):
    while True:
        frame = os.read(tap, FRAME_MAX)
        try:
            sock.sendall(struct.pack("!I", len(frame)) + frame)
        except OSError:
            os._exit(1)  # the daemon closed the connection


def _to_tap(tap, sock):
    pending = b""
    while chunk := sock.recv(READ_SIZE):
        pending += chunk
        start = 0
        while len(pending) - start >= 4:
            (length,) = struct.unpack_from("!I", pending, start)
            if len(pending) - start - 4 < length:
                break
            with contextlib.suppress(OSError):  # the interface is down, or refuses this one
                os.write(tap, pending[start + 4:start + 4 + length])
            start += 4 + length
        pending = pending[start:]


def carry(path, name):
    """Carries frames between a stream socket and a tap device until the socket is closed."""
    tap = open_tap(name)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    print("ready", flush=True)
    threading.Thread(target=_to_socket, args=(tap, sock), daemon=True).start()
    _to_tap(tap, sock)


class TapGuest:
    """A namespace `guest` whose eth0 is joined to a daemon of topology.Topology."""

    def __init__(self, net, daemon, mtu=65520):
        self.net = net
        self.daemon = daemon
        self.process = None
        self.space = net.namespace("guest")
        self.space.ip("tuntap", "add", "dev", "eth0", "mode", "tap")
        self.space.ip("link", "set", "eth0", "address", MAC, "mtu", str(mtu), "up")
        net.stack.callback(self.disconnect)
        self.connect()

    def connect(self):
        """Joins, for the first time or again."""
        self.process = self.space.start("/usr/bin/python3", os.path.abspath(__file__),
                                        self.daemon.socket, "eth0", stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError("the guest's tap device could not be joined to the socket")

    def disconnect(self):
        """Closes the guest's connection to the daemon."""
        if self.process:
            stop(self.process)

    def configure(self):
        """Static addresses, as DHCP and router advertisements would give them."""
        net = self.net
        for command in (("addr", "replace", f"{net.HOST4}/24", "dev", "eth0"),
                        ("route", "replace", "default", "via", net.GATEWAY4),
                        ("-6", "addr", "replace", f"{net.HOST6}/64", "dev", "eth0", "nodad"),
                        ("-6", "route", "replace", "default", "via", net.GATEWAY6, "dev", "eth0")):
            self.space.ip(*command)
        wait_until(lambda: "tentative" not in self.space.ip("-6", "addr", "show", "dev", "eth0"), 5,
                   "duplicate address detection")


if __name__ == "__main__":
    carry(*sys.argv[1:])
