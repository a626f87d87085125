#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 400
"""A guest that connects to what never answers, as fast as it can: what else it does goes on, and memory has an end."""
import os
import resource
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import rawtcp
import wire
from netns import FAR4
from suite import main, test

FLOWS = 16384
SYNS = 40000
BLACK_HOLE = 9
AT_ONCE = 500
FLOW_KB = 4  # what an entry takes at most, with its part of the table


def drop(ns, port, table="hole"):
    ns.run("nft", "table inet %s {\nchain in { type filter hook input priority 0; }\n}\n"
           "add rule inet %s in tcp dport %d drop" % (table, table, port))


def storm(guest):
    """Batches of SYNs to the black hole, each from another port."""
    ports = range(2000, 2000 + SYNS)
    for first in range(0, SYNS, AT_ONCE):
        yield [guest.tcp(FAR4, BLACK_HOLE, port, port * 65537, 0, wire.SYN, options=wire.opt_mss(1460))
               for port in ports[first:first + AT_ONCE]]


@test
def forty_thousand_connects_to_a_black_hole_hinder_no_other_flow(case):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    daemon = case.start("--shards", "2", "--flows", FLOWS)
    guest = case.guest()
    drop(case.net.remote, BLACK_HOLE)
    server = case.net.remote.tcp_server(FAR4)
    target = server.getsockname()[1]
    old = rawtcp.connect(guest, FAR4, target, 1500)
    peer, _ = server.accept()
    before = daemon.memory_kb()
    for i, frames in enumerate(storm(guest)):
        guest.send(*frames)
        old.write(b"ping")
        assert peer.recv(4) == b"ping"
        peer.sendall(b"pong")
        assert old.wait_data(4 * (i + 1)).endswith(b"pong")
        if i % 10 == 0:
            # By its first SYN: the attempts to the black hole have but half of all places.
            fresh = rawtcp.connect(guest, FAR4, target, 1600 + i)
            server.accept()[0].close()
            fresh.abort()
    grown, counters = daemon.memory_kb() - before, daemon.counters()
    assert grown <= FLOWS * FLOW_KB, "memory grew by %d KiB" % grown
    assert counters.get("drop-connect-crowded"), counters
    assert not counters.get("drop-tcp-in-window"), counters


@test
def an_attempt_that_lasts_long_is_not_ended_by_a_crowd_that_goes_elsewhere(case):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    case.start("--shards", "2", "--flows", FLOWS)
    guest = case.guest()
    server = case.net.remote.tcp_server(FAR4)
    target = server.getsockname()[1]
    drop(case.net.remote, BLACK_HOLE)
    drop(case.net.remote, target, "slow")
    slow = rawtcp.Tcp(guest, FAR4, target, 1500)
    slow.send(wire.SYN)
    guest.pump(0.3)  # from then on it is one of those that may end
    for frames in storm(guest):
        guest.send(*frames)
        guest.pump(0)
    case.net.remote.run("nft", "delete table inet slow")
    # The host's kernel asks again, after 1, 3, 7 s; the guest does not.
    guest.pump_until(lambda: slow.rcv_nxt is not None, "SYN-ACK comes", 30)
    assert not slow.reset, "no connection"


if __name__ == "__main__":
    sys.exit(main())
