#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Boots guests by vhost-user and runs the list of checks in them: queue pairs, rings and features in one
matrix. TAPLOOM names the program under test. Arguments: names of rows (none means those marked as the
everyday subset, "all" means all), and after "--" names of checks.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))

import guest  # noqa: E402
import topology  # noqa: E402

MEMORY_MIB = 768
SIZES = {"kvm": 100_000_000, "tcg": 20_000_000}
NO_OFFLOADS = ("csum=off,guest_csum=off,host_tso4=off,host_tso6=off,guest_tso4=off,guest_tso6=off,"
               "guest_ecn=off,host_ecn=off")

# Linux posts buffers of 1526 bytes then, whatever the MTU: TCP is cut to them, what is larger can't arrive.
SHORT_BUFFERS = "no-offloads-not-mergeable"
TOO_LARGE = ("ping_large4", "ping_large6", "udp4", "udp6")

# name: (queue pairs, shards, options of the device, in the everyday subset)
MATRIX = {
    "plain": (1, 1, "", False),
    "one-pair-four-shards": (1, 4, "", True),
    "two-pairs": (2, 2, "", False),
    "four-pairs-two-shards": (4, 2, "", False),
    "packed": (2, 2, "packed=on", True),
    "not-mergeable": (1, 2, "mrg_rxbuf=off", False),
    "no-offloads": (2, 2, NO_OFFLOADS, False),
    SHORT_BUFFERS: (1, 1, NO_OFFLOADS + ",mrg_rxbuf=off", False),
    "packed-not-mergeable": (1, 1, "packed=on,mrg_rxbuf=off", False),
    "no-events-no-indirect": (1, 2, "event_idx=off,indirect_desc=off", False),
    "packed-no-events": (2, 1, "packed=on,event_idx=off", False),
    "long-rings": (2, 2, "rx_queue_size=1024,tx_queue_size=1024", False),
}


def device(path, pairs, options):
    """QEMU options for a card with shared memory. Under TCG, QEMU 7.2 needs vectors=0."""
    vectors = 2 * pairs + 2 if guest.accelerator() == "kvm" else 0
    card = f"virtio-net-pci,netdev=net0,mac={guest.MAC},vectors={vectors},mq={'on' if pairs > 1 else 'off'}"
    return ["-smp", str(max(pairs, 1)),
            "-object", f"memory-backend-memfd,id=mem,size={MEMORY_MIB}M,share=on",
            "-numa", "node,memdev=mem",
            "-chardev", f"socket,id=chr0,path={path},reconnect=1",
            "-netdev", f"vhost-user,id=net0,chardev=chr0,queues={pairs}",
            "-device", card + ("," + options if options else "")]


class Results:
    """Prints one line for each check of a row, and counts those that failed."""

    def __init__(self, row):
        self.row = row
        self.failed = 0

    def add(self, name, passed, detail, seconds):
        """One result, as guest.Guest.run_checks() gives it."""
        if not passed and self.row == SHORT_BUFFERS and name in TOO_LARGE:
            print(f"skipped {self.row}/{name}: larger than the guest's buffers", flush=True)
            return
        self.failed += not passed
        print(f"{'ok' if passed else 'not ok'} {self.row}/{name}: {detail} ({seconds:.1f} s)", flush=True)


def run_row(name, checks):
    """Boots one guest. Returns the number of checks that failed."""
    pairs, shards, options, _ = MATRIX[name]
    size = SIZES[guest.accelerator()]
    with topology.Topology("taploom-vu", data=size) as net:
        daemon = net.taploom("--vhost-user", "-t", guest.FORWARDED, "-u", guest.FORWARDED,
                             "--shards", str(shards))
        values = guest.settings(net, size=size, checks=" ".join(checks))
        boot = guest.Guest(net, device(daemon.socket, pairs, options), values, MEMORY_MIB)
        results = Results(name)
        boot.run_checks(results.add)
        counters = daemon.counters()
        for counter in ("rx-frames", "tx-frames", "frames-own", "frames-ring", "frames-inline",
                        "frames-forwarded", "tx-stalls"):
            print(f"{name}: {counter} {counters.get(counter)}", flush=True)
        lies = counters.get("drop-vring", {}).get("total", 0)
        results.add("no_lie_was_seen", not lies, str(lies), 0)
        if results.failed or daemon.process.poll() is not None:
            print(daemon.log())
            return results.failed + 1
    return 0


def main():
    arguments = sys.argv[1:]
    checks = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, checks = arguments[:at], arguments[at + 1:]
    rows = arguments or [name for name, row in MATRIX.items() if row[3]]
    if rows == ["all"]:
        rows = list(MATRIX)
    return 1 if sum(run_row(name, checks) for name in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
