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


def drop(ns, port):
    ns.run("nft", "table inet hole {\nchain in { type filter hook input priority 0; }\n}\n"
           "add rule inet hole in tcp dport %d drop" % port)


def storm(guest):
    """Batches of SYNs to the black hole, each from another port."""
    ports = range(2000, 2000 + SYNS)
    for first in range(0, SYNS, AT_ONCE):
        yield [guest.tcp(FAR4, BLACK_HOLE, port, port * 65537, 0, wire.SYN, options=wire.opt_mss(1460))
               for port in ports[first:first + AT_ONCE]]


def connect_patiently(guest, port, own_port):
    """
    A connection as a guest's kernel makes it, which sends a SYN again after a second: in the crowd one may go. It finds
    place then, as an attempt that has waited for longer than any peer takes to answer makes way.
    """
    conn = rawtcp.Tcp(guest, FAR4, port, own_port)
    conn.send(wire.SYN)
    try:
        guest.pump_until(lambda: conn.rcv_nxt is not None, "SYN-ACK comes", 1)
    except AssertionError:
        conn.send(wire.SYN, seq=conn.isn)
        guest.pump_until(lambda: conn.rcv_nxt is not None, "SYN-ACK comes")
    assert not conn.reset, "no new connection"
    conn.ack()
    return conn


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
            fresh = connect_patiently(guest, target, 1600 + i)
            server.accept()[0].close()
            fresh.abort()
    grown, counters = daemon.memory_kb() - before, daemon.counters()
    assert grown <= FLOWS * FLOW_KB, "memory grew by %d KiB" % grown
    assert counters.get("drop-connect-crowded"), counters
    assert not counters.get("drop-tcp-in-window"), counters


if __name__ == "__main__":
    sys.exit(main())
