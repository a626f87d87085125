#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net slow
# timeout: 600
"""More connections than the kernel remembers the queue of: 8,000, begun by the host."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from nsflows import Flows, nothing_lost
from nsguest import NsGuest
from suite import main, rows

N = 8000


@rows(("8,000 flows are neither lost, reordered nor moved to and fro", 4, 4),
      ("8,000 flows on one queue are neither lost nor reordered", 1, 4))
def _(case, queues, shards):
    guest = NsGuest(case, "--queues", queues, "--shards", shards, "-t", "7000:7001")
    flows = Flows(case, guest, N)
    moved = []
    for round_ in range(10):
        assert flows.exchange(b"%06d" % round_ * 50) == N
        moved.append(guest.counters().get("flows-moved", 0))
    time.sleep(5)  # the kernel forgets after 3 s where a flow belongs
    assert flows.exchange(os.urandom(4000)) == N
    for round_ in range(4):
        assert flows.exchange(b"%06d" % round_ * 50) == N
    counters = nothing_lost(guest)
    moved.append(counters.get("flows-moved", 0))
    print("moved after each round: %s; frames: %d own, %d forwarded; retransmitted: %d" % (
        moved, counters.get("frames-own", 0), counters.get("frames-forwarded", 0), counters.get("tcp-retrans", 0)))
    assert moved[-1] <= N, moved


if __name__ == "__main__":
    sys.exit(main())
