#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net slow
# timeout: 3000
"""1 GiB each way through a namespace's interface at each MTU and number of shards; more with faults than the short test."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from netns import FAR4, FAR6
from nsflows import at_once, drain, nothing_lost, pour
from nsguest import NsGuest
from nswired import WiredClient
from suite import main, rows

GIB = 1 << 30


@rows(*(("1 GiB each way arrives whole with MTU %d and %d shards" % row, *row)
        for row in ((mtu, shards) for mtu in (1280, 1500, 9000, 65520) for shards in (1, 2, 4))))
def _(case, mtu, shards):
    guest = NsGuest(case, "-m", mtu, "-I", "h0", "--shards", shards)
    for addr in (FAR4, FAR6):
        server = case.net.remote.tcp_server(addr)
        client = guest.ns.tcp_client(addr, server.getsockname()[1], timeout=60)
        peer = server.accept()[0]
        server.close()
        peer.settimeout(60)
        n = GIB // 2
        sums = at_once(lambda: pour(client, n, 1), lambda: drain(peer), lambda: pour(peer, n, 2), lambda: drain(client),
                       seconds=200)
        assert None not in sums and sums[0::2] == sums[1::2], sums
        client.close()
        peer.close()
    nothing_lost(guest)


@rows(*(("100 MB each way over faults arrive whole with MTU %d and %d shards" % row, *row)
        for row in ((mtu, shards) for mtu in (1280, 1500, 9000, 65520) for shards in (1, 4))))
def _(case, mtu, shards):
    client = WiredClient(case, mtu, "--shards", shards)
    client.wire.again("loss=0.5,reorder=1,late=2,dup=0.5,seed=7")
    client.transfer(FAR4, 25_000_000, flows=4, seconds=300)
    assert not client.guest.counters().get("drop-tcp-in-window")


if __name__ == "__main__":
    sys.exit(main())
