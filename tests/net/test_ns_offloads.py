#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 300
"""A namespace on kernels that refuse offloads of the tap device, or of UDP sockets: less is joined, and nothing is lost."""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from netns import FAR4, FAR6
from nsflows import at_once, drain, pour
from nsguest import NsGuest
from suite import main, rows

SIZE = 4_000_000
MTU = 1500
HEADERS = 14 + 10  # Ethernet's, and the device's own
UDP_SEGMENT = 103
CSUM, TSO, ECN, USO = 0x01, 0x02 | 0x04, 0x08, 0x20 | 0x40  # TUN_F_*
SEGMENT, SEGMENTS = 1000, 40
HAS_USO = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 2)

# what a kernel refuses, and whether segments of TCP and of UDP are then joined; None: may be
KERNELS = (("that refuses nothing", (), True, HAS_USO),
           ("without UDP segmentation", ("offload=%d" % USO,), True, False),
           ("without segmentation of TCP with ECN", ("offload=%d" % (USO | ECN),), True, False),
           ("without segmentation", ("offload=%d" % (USO | ECN | TSO),), False, False),
           ("without offloads", ("offload=%d" % (USO | ECN | TSO | CSUM),), False, False),
           ("whose UDP sockets neither cut nor join", ("udp-segment", "udp-gro"), True, None))


def each_kernel(what):
    return rows(*(("%s on a kernel %s, IPv%d" % (what, kernel[0], version), version) + kernel[1:]
                  for kernel in KERNELS for version in (4, 6)))


def difference(guest, before):
    now = guest.counters()
    return {name: now[name] - before.get(name, 0) for name in now}


def nothing_refused(counters):
    for name in "drop-tx-error", "drop-tun-read", "drop-tcp-in-window", "drop-l4-checksum", "drop-udp-send":
        assert not counters.get(name), counters


@each_kernel("streams are whole both ways")
def _(case, version, refuse, large, _):
    guest = NsGuest(case, "--shards", 2, "-m", MTU, refuse=refuse)
    server = case.net.remote.tcp_server(FAR4 if version == 4 else FAR6)
    for way in (1, -1):
        client = guest.ns.tcp_client(*server.getsockname()[:2], timeout=60)
        ends = (client, server.accept()[0])[::way]
        before = guest.counters()
        sums = at_once(lambda: pour(ends[0], SIZE, 1), lambda: drain(ends[1]))
        assert sums[0] and sums[0] == sums[1], "what arrived is not what was sent"
        counters = difference(guest, before)
        side = "rx" if way == 1 else "tx"
        mean = counters[side + "-bytes"] / counters[side + "-frames"]
        assert (mean > MTU + HEADERS) == large, (side, mean)
        for sock in ends:
            sock.close()
    nothing_refused(guest.counters())


def datagrams_from(sock, n):
    sock.settimeout(10)
    return [sock.recv(65536) for _ in range(n)]


@each_kernel("datagrams keep order and borders both ways")
def _(case, version, refuse, _, large):
    guest = NsGuest(case, "--shards", 2, "-m", MTU, refuse=refuse)
    service = case.net.remote.udp(FAR4 if version == 4 else FAR6)
    with guest.ns:
        client = socket.socket(service.family, socket.SOCK_DGRAM)
    for sock in (service, client):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    client.sendto(b"hello", service.getsockname())
    peer = service.recvfrom(100)[1]
    client.connect(service.getsockname())
    service.connect(peer)
    for side, sender, receiver in ("rx", client, service), ("tx", service, client):
        before = guest.counters()
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT)
        sent = [os.urandom(SEGMENT) for _ in range(SEGMENTS - 1)] + [os.urandom(7)]
        for _ in range(5):
            sender.send(b"".join(sent))
            assert datagrams_from(receiver, SEGMENTS) == sent
        counters = difference(guest, before)
        assert counters["udp-" + side] == 5 * SEGMENTS, counters
        if large is not None:
            assert (counters[side + "-frames"] < 5 * SEGMENTS) == large, counters
    nothing_refused(guest.counters())


if __name__ == "__main__":
    sys.exit(main())
