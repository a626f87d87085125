#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Boots one guest on the UNIX socket and runs the whole list of checks in it. TAPLOOM names the
program under test; the arguments are names of checks, none means all.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))

import guest  # noqa: E402
import topology  # noqa: E402

SIZES = {"kvm": 100_000_000, "tcg": 40_000_000}


def report(name, passed, detail, seconds):
    """Prints one line for a check."""
    print(f"{'ok' if passed else 'not ok'} {name}: {detail} ({seconds:.1f} s)", flush=True)


def main():
    size = SIZES[guest.accelerator()]
    with topology.Topology("taploom-guest", data=size) as net:
        daemon = net.taploom("-t", guest.FORWARDED, "-u", guest.FORWARDED, "--shards", "2")
        values = guest.settings(net, size=size, checks=" ".join(sys.argv[1:]))
        failed = guest.Guest(net, guest.stream_device(daemon.socket), values).run_checks(report)
        if failed or daemon.process.poll() is not None:
            print(daemon.log())
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
