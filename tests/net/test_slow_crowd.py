#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net slow quiet
# timeout: 900
"""
1,000 flows whose peers stopped reading, beside one that runs: its throughput, and that of the same in a second
namespace with a daemon of its own and no other flow, turn by turn. CROWD_RUNS: how many of each.
"""
import os
import resource
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from lossy import Path, check_counters, compare, median_mbit, new_guest, print_row, start_namespace_mode
from netns import FAR4
from suite import main, rows, wait_for

STOPPED = 1000
RUNS = range(int(os.environ.get("CROWD_RUNS", 7)))
SECONDS = 2
LEAST = 0.9  # of the throughput without them


def fill(socks):
    """Sends on each until it takes no more; the number of bytes."""
    sent = 0
    for sock in socks:
        try:
            while True:
                sent += sock.send(bytes(65536))
        except BlockingIOError:
            pass
    return sent


def stop_many(case, guest):
    """Connections that are full to the last buffer; their two ends."""
    server = case.net.remote.tcp_server(FAR4)
    socks, peers = [], []
    for _ in range(STOPPED):
        sock = guest.tcp_client(FAR4, server.getsockname()[1])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sock.setblocking(False)
        socks.append(sock)
        peers.append(server.accept()[0])
    wait_for(lambda: fill(socks) == 0, "all flows have stopped", 60, 1)
    return socks, peers


@rows(("a thousand stopped flows slow one from the guest by a tenth at most", True),
      ("a thousand stopped flows slow one to the guest by a tenth at most", False))
def _(case, upload):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    guests = [new_guest(case) for _ in range(2)]
    for guest in guests:
        start_namespace_mode(case, guest, 1500)
    ends = stop_many(case, guests[0])
    paths = [Path(label, guest, FAR4, lambda faults: None) for label, guest in zip(("crowded", "alone"), guests)]
    runs = compare(case, paths, "none", RUNS, SECONDS, upload)
    print_row("from the guest" if upload else "to the guest", runs)
    check_counters(case)
    assert all(peer.fileno() >= 0 for peer in ends[1])
    assert median_mbit(runs["crowded"]) >= LEAST * median_mbit(runs["alone"]), "slowed by more than a tenth"


if __name__ == "__main__":
    sys.exit(main())
