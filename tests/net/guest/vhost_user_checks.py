#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Boots guests by vhost-user and runs the list of checks in them: queue pairs, rings and features in one
matrix. TAPLOOM names the program under test. Arguments: names of rows (none means one of two pairs, "all"
means all), and after "--" names of checks.
"""

import itertools
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))

import guest  # noqa: E402
import topology  # noqa: E402

MEMORY_MIB = 768
SIZES = {"kvm": 100_000_000, "tcg": 20_000_000}
NO_OFFLOADS = ("csum=off,guest_csum=off,host_tso4=off,host_tso6=off,guest_tso4=off,guest_tso6=off,"
               "guest_ecn=off,host_ecn=off")

# Without both, Linux posts buffers of 1526 bytes, whatever the MTU: TCP is cut to them, what is larger can't arrive.
SHORT_BUFFERS = NO_OFFLOADS + ",mrg_rxbuf=off"
TOO_LARGE = ("ping_large4", "ping_large6", "udp4", "udp6")


def cross():
    """Every number of pairs with every kind of ring: {name: (pairs, shards, options of the device)}."""
    kinds = itertools.product(((1, 4), (2, 2), (4, 2)), (False, True), (False, True), (False, True))
    rows = {}
    for (pairs, shards), packed, merged, offloads in kinds:
        name = "-".join((str(pairs), "packed" if packed else "split", "merged" if merged else "single",
                         "offloads" if offloads else "plain"))
        options = [option for option, wanted in (("packed=on", packed), (NO_OFFLOADS, not offloads),
                                                 ("mrg_rxbuf=off", not merged)) if wanted]
        rows[name] = (pairs, shards, ",".join(options))
    return rows


EVERYDAY = "2-split-merged-offloads"
MATRIX = cross() | {
    "one-of-each": (1, 1, ""),
    "as-many-pairs-as-shards": (4, 4, ""),
    "no-events-no-indirect": (1, 2, "event_idx=off,indirect_desc=off"),
    "packed-no-events": (2, 1, "packed=on,event_idx=off"),
    "packed-no-indirect": (2, 2, "packed=on,indirect_desc=off"),
    "long-rings": (2, 2, "rx_queue_size=1024,tx_queue_size=1024"),
}


class Results:
    """Prints one line for each check of a row, and counts those that failed."""

    def __init__(self, row):
        self.row = row
        self.short_buffers = MATRIX[row][2].endswith(SHORT_BUFFERS)
        self.failed = 0

    def add(self, name, passed, detail, seconds):
        """One result, as guest.Guest.run_checks() gives it."""
        if not passed and self.short_buffers and name in TOO_LARGE:
            print(f"skipped {self.row}/{name}: larger than the guest's buffers", flush=True)
            return
        self.failed += not passed
        print(f"{'ok' if passed else 'not ok'} {self.row}/{name}: {detail} ({seconds:.1f} s)", flush=True)


def run_row(name, checks):
    """Boots one guest. Returns the number of checks that failed."""
    pairs, shards, options = MATRIX[name]
    size = SIZES[guest.accelerator()]
    with topology.Topology("taploom-vu", data=size) as net:
        daemon = net.taploom("--vhost-user", "-t", guest.FORWARDED, "-u", guest.FORWARDED,
                             "--shards", str(shards))
        values = guest.settings(net, size=size, checks=" ".join(checks))
        boot = guest.Guest(net, guest.vhost_user_device(daemon.socket, pairs, MEMORY_MIB, options), values, MEMORY_MIB)
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
    rows = arguments or [EVERYDAY]
    if rows == ["all"]:
        rows = list(MATRIX)
    return 1 if sum(run_row(name, checks) for name in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
