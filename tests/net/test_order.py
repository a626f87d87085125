#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 300
"""Connections that a client makes one after the other reach the guest's accept() in that order."""
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from joined import Joined
from netns import HOST4
from nsguest import NsGuest
from suite import main, rows

PORT = 7000
CONNECTIONS = 600
RESET = struct.pack("ii", 1, 0)
# A wait ends after 10 ms, whatever has become of the connection before: a thread that a busy machine keeps
# from its work for longer costs the order of one group. Without any wait it is one in ten groups of two, and
# two in three of eight.
SWAPS_MAX = 4


def read_number(sock):
    data = b""
    while len(data) < 4:
        more = sock.recv(4 - len(data))
        assert more, "a connection ended before its number came"
        data += more
    return struct.unpack("!I", data)[0]


def swapped(clients, addr, server, at_once=2):
    """How many groups of connections, made at once, were accepted in another order; every one arrives."""
    swaps, groups = 0, CONNECTIONS // at_once
    for group in range(groups):
        expected = list(range(at_once * group, at_once * (group + 1)))
        with clients:
            ours = [socket.socket() for _ in expected]
        for sock in ours:
            sock.settimeout(10)
            sock.connect((addr, PORT))  # returns when the host has taken it
        for number, sock in zip(expected, ours):
            sock.sendall(struct.pack("!I", number))
        theirs = [server.accept()[0] for _ in ours]
        for sock in theirs:
            sock.settimeout(10)
        numbers = [read_number(sock) for sock in theirs]
        assert sorted(numbers) == expected, "group %d: %r" % (group, numbers)
        swaps += numbers != expected
        for sock in theirs + ours:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()
    print("%d of %d groups of %d came in another order" % (swaps, groups, at_once), flush=True)
    return swaps


def burst(clients, addr, server, n):
    """Makes n connections at once; all arrive, and each one's number with it."""
    with clients:
        ours = [socket.socket() for _ in range(n)]
    for number, sock in enumerate(ours):
        sock.settimeout(10)
        sock.connect((addr, PORT))
        sock.sendall(struct.pack("!I", number))
        if number % 3 == 2:  # it may end while it waits for another
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()
    stay = {number for number in range(n) if number % 3 < 2}
    server.settimeout(10)
    while stay:
        theirs = server.accept()[0]
        theirs.settimeout(10)
        try:
            stay.discard(read_number(theirs))
        except (ConnectionError, AssertionError):
            pass  # one that was reset
        theirs.close()
    for sock in ours:
        sock.close()


def rows_of(what, *columns):
    """A row for each number of connections at once, 4 shards and with two at once 2 as well, and each of the columns."""
    return rows(*(("%s%s, %d shards, %d at once" % (what, column[0], shards, n), shards, n) + column[1:]
                  for shards, n in ((2, 2), (4, 2), (4, 4), (4, 8)) for column in columns or (("",),)))


@rows_of("a virtual machine's port", ("", 0), (" by vhost-user, one pair", 1), (" by vhost-user, a pair for each shard", None))
def _(case, shards, at_once, pairs):
    pairs = shards if pairs is None else pairs
    case.start("-t", str(PORT), "--shards", str(shards), *(("--vhost-user",) if pairs else ()))
    guest = Joined(case, pairs=pairs).configure()
    server = guest.ns.tcp_server(HOST4, PORT)
    assert swapped(case.net.remote, HOST4, server, at_once) <= SWAPS_MAX


@rows_of("a namespace's port by its tap device")
def _(case, shards, at_once):
    guest = NsGuest(case, "-t", str(PORT), "--shards", str(shards))
    server = guest.ns.tcp_server(HOST4, PORT)
    assert swapped(case.net.remote, HOST4, server, at_once) <= SWAPS_MAX
    assert not guest.counters().get("spliced-bytes")


@rows_of("a namespace's port, spliced")
def _(case, shards, at_once):
    guest = NsGuest(case, "-t", str(PORT), "--shards", str(shards))
    server = guest.ns.tcp_server(HOST4, PORT)
    assert swapped(case.net.host, "127.0.0.1", server, at_once) <= SWAPS_MAX
    assert guest.counters().get("spliced-bytes")


@rows(("bursts of connections to a virtual machine all arrive", False),
      ("bursts of connections to a namespace all arrive", True))
def _(case, namespace):
    """More at once than there are places, and single ones again: none is lost."""
    if namespace:
        ns = NsGuest(case, "-t", str(PORT), "--shards", "4").ns
    else:
        case.start("-t", str(PORT), "--shards", "4")
        ns = Joined(case).configure().ns
    server = ns.tcp_server(HOST4, PORT)
    spliced = ((case.net.host, "127.0.0.1"),) if namespace else ()
    for clients, addr in ((case.net.remote, HOST4),) + spliced:
        for n in (3, 6, 9, 40, 6, 40) * 5:
            burst(clients, addr, server, n)


if __name__ == "__main__":
    sys.exit(main())
