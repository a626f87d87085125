#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net slow
# timeout: 7200
"""The whole transfer matrix: 1 GiB each way over each IP version at each MTU with 1, 2 and 4 shards."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from joined import Joined
from matrix import transfer
from netns import FAR4, FAR6
from suite import main, rows

PROBES_MAX = 2  # a busy machine may keep a guest from answering in time, as with any kernel's TCP (RFC 8985 7)
SIZE = int(os.environ.get("MATRIX_BYTES", 1 << 30))


@rows(*(("1 GiB each way is whole at MTU %d with %d shards (%s)" % (mtu, shards, version), mtu, shards, addr)
        for mtu in (1280, 1500, 9000, 65520) for shards in (1, 2, 4)
        for version, addr in (("IPv4", FAR4), ("IPv6", FAR6))))
def _(case, mtu, shards, addr):
    case.start("--shards", shards, "-m", mtu)
    guest = Joined(case, mtu=mtu).configure()
    for upload in (True, False):
        transfer(case, guest, addr, SIZE, upload, 900)
    counters = case.daemons[0].counters()
    assert not counters.get("drop-tcp-in-window"), counters
    probes = counters.get("tcp-tlp", 0)
    unneeded = counters.get("tcp-retrans", 0) - probes
    assert unneeded == 0, "%d retransmissions, though nothing was lost" % unneeded
    if probes:
        print("  %d probes of a guest that was silent for 40 ms" % probes)
    assert probes <= PROBES_MAX, counters


if __name__ == "__main__":
    sys.exit(main())
