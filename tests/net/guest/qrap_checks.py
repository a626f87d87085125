#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Boots guests as one does with a QEMU that knows no UNIX stream sockets: by taploom-qrap, which hands the
connection over as a descriptor, with the network on QEMU's command line and without.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))

import guest  # noqa: E402
import topology  # noqa: E402

CHECKS = "addr4 dhcp6 tcp4 tcp6 udp4"
FD_5 = ["-netdev", "socket,id=net0,fd=5", "-device", f"virtio-net-pci,netdev=net0,mac={guest.MAC}"]
WAYS = {"given": FD_5, "added": []}


def report(name, passed, detail, seconds):
    """Prints one line for a check."""
    print(f"{'ok' if passed else 'not ok'} {name}: {detail} ({seconds:.1f} s)", flush=True)


def boot(net, way, device):
    """Boots one guest; returns the number of checks that failed."""
    daemon = net.taploom("--one-off")
    os.environ["TAPLOOM_SOCKET"] = daemon.socket
    machine = guest.Guest(net, device, guest.settings(net, checks=CHECKS))
    qrap = os.path.join(os.path.dirname(topology.program()), "taploom-qrap")
    machine.command = [qrap, "5", *machine.command]
    print(f"the network is {way}", flush=True)
    failed = machine.run_checks(report)
    if failed:
        print(daemon.log())
    daemon.process.wait()
    return failed


def main():
    with topology.Topology("taploom-qrap", data=1000) as net:
        return 1 if sum(boot(net, way, device) for way, device in WAYS.items()) else 0


if __name__ == "__main__":
    sys.exit(main())
