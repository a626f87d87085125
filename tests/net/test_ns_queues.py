#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 300
"""The queues of a namespace's interface: whose frames arrive where, with as many queues as shards, more, and fewer."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from nsflows import Flows, nothing_lost
from nsguest import NsGuest
from suite import main, rows, test

PORT = ("-t", "7000:7001")


@rows(*(("with %d queues and %d shards all shards work, and nothing is lost" % row, *row)
        for row in ((1, 1), (1, 4), (2, 4), (4, 4), (4, 2), (3, 2), (8, 8))))
def _(case, queues, shards):
    guest = NsGuest(case, "--queues", queues, "--shards", shards, *PORT)
    flows = Flows(case, guest, 96)
    for size in (1, 100, 100_000):
        assert flows.exchange(os.urandom(size)) == 96
    nothing_lost(guest)
    table = guest.table()
    worked = {name for name, bytes_ in table["tcp-rx-bytes"].items() if bytes_ and name.startswith("shard")}
    assert len(worked) == shards, table["tcp-rx-bytes"]
    reader = "tap-reader" in guest.daemon.threads()
    assert reader == (queues < shards), guest.daemon.threads()


@rows(("frames of steered flows arrive at their owner", 4), ("frames of steered flows arrive at their owner, 2 shards", 2))
def _(case, shards):
    guest = NsGuest(case, "--shards", shards, *PORT)
    flows = Flows(case, guest, 64)
    for _ in range(10):
        assert flows.exchange(b"x" * 1000) == 64  # by now the kernel knows each flow's queue
    before = guest.counters()
    for _ in range(30):
        assert flows.exchange(b"x" * 1000) == 64
    after = nothing_lost(guest)
    own, forwarded = (after.get(name, 0) - before.get(name, 0) for name in ("frames-own", "frames-forwarded"))
    assert own >= 30 * 64 and forwarded <= own / 100, (own, forwarded)


@test
def flows_of_the_guest_stay_where_they_began(case):
    guest = NsGuest(case, "--shards", "4")
    server = case.net.remote.tcp_server("198.51.100.1")
    pairs = []
    for _ in range(64):
        client = guest.ns.tcp_client("198.51.100.1", server.getsockname()[1])
        pairs.append((client, server.accept()[0]))
    for _ in range(20):
        for client, peer in pairs:
            client.sendall(b"x" * 100)
            assert len(peer.recv(1000)) == 100
            peer.sendall(b"y" * 100)
            assert len(client.recv(1000)) == 100
    counters = nothing_lost(guest)
    assert counters.get("frames-forwarded", 0) <= counters["frames-own"] / 100, counters
    assert counters.get("flows-moved", 0) <= 64


@test
def a_burst_after_silence_is_neither_lost_nor_reordered(case):
    guest = NsGuest(case, "--shards", "4", *PORT)
    flows = Flows(case, guest, 200)
    assert flows.exchange(b"x" * 100) == 200
    time.sleep(5)  # the kernel forgets after 3 s where a flow belongs
    assert flows.exchange(os.urandom(65536)) == 200
    counters = nothing_lost(guest)
    assert counters.get("flows-moved", 0) <= 200, counters["flows-moved"]


if __name__ == "__main__":
    sys.exit(main())
