#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
./demo --vhost-user: a QEMU guest with two queue pairs, each of them read by a shard of its own.
"""

import sys

import guest
from demo_report import Report, main, progress
from demo_stream import TEXTS
from topology import Topology

PAIRS = SHARDS = 2
MEMORY_MIB = 768
SIZE = 100_000_000
OWN_TEXTS = {
    "own": "frames are read by their flow's own shard",
    "rings": "no queue was found to lie",
}


def check_queues(report, counters):
    """What only a guest with as many pairs as shards shows."""
    own = counters.get("frames-own", {})
    handed_on = counters.get("frames-forwarded", {}).get("total", 0)
    read = max(1, own.get("total", 0))
    shares = ", ".join(f"{100 * own.get(f'shard{i}', 0) // read} %" for i in range(SHARDS))
    report.add("own", all(own.get(f"shard{i}") for i in range(SHARDS)),
               f"{shares}; handed on: {100 * handed_on / read:.1f} %", 0)
    report.add("rings", "drop-vring" not in counters, "", 0)


def run():
    progress("network", "namespaces host, router (NAT for IPv4, NDP proxy for IPv6) and remote")
    with Topology("taploom-demo-vu", data=SIZE) as net:
        progress("taploom", f"in the namespace {net.host.name}, {SHARDS} shards")
        daemon = net.taploom("--vhost-user", "--shards", str(SHARDS), "-t", guest.FORWARDED, "-u", guest.FORWARDED)
        progress("guest", f"QEMU with {guest.accelerator().upper()}, {PAIRS} queue pairs by {daemon.socket}")
        device = guest.vhost_user_device(daemon.socket, PAIRS, MEMORY_MIB)
        values = guest.settings(net, size=SIZE)
        if "--shell" in sys.argv[1:]:
            guest.Guest(net, device, values | {"GUEST_MODE": "shell"}, MEMORY_MIB).shell()
            return 0
        report = Report(TEXTS | OWN_TEXTS)
        guest.Guest(net, device, values, MEMORY_MIB).run_checks(report.add)
        counters = daemon.counters()
        report.check_shards(counters, SHARDS)
        check_queues(report, counters)
        report.print("A virtual machine with two queue pairs, by vhost-user", counters)
        if report.failed:
            print("\nWhat taploom printed:\n" + daemon.log())
        return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(run))
