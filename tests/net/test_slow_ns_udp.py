#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net slow
# timeout: 300
"""Spliced datagram flows end when they were silent for long enough, and not before."""
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from nsguest import NsGuest
from suite import main, rows, wait_for


@rows(("a flow from the namespace ends after 30 s of no answer", "-U"), ("a flow from the host ends after 30 s of no answer", "-u"))
def _(case, flag):
    guest = NsGuest(case, flag, "7000:7001")
    clients, services = (guest.ns, case.net.host) if flag == "-U" else (case.net.host, guest.ns)
    service = services.udp("127.0.0.1" if flag == "-U" else "192.0.2.2", 7001)
    silent, alive = (client(clients) for _ in range(2))
    for sock in (silent, alive):
        sock.send(b"x")
    peers = [service.recvfrom(10)[1] for _ in range(2)]
    service.sendto(b"y", peers[1])
    assert alive.recv(10) == b"y"
    started = time.monotonic()
    wait_for(lambda: guest.counters().get("flows-closed"), "a flow has ended", 45, 1)
    assert time.monotonic() - started > 28
    assert guest.counters()["flows-closed"] == 1
    alive.send(b"again")
    assert service.recvfrom(10) == (b"again", peers[1]), "the answered flow lives"
    silent.send(b"again")
    payload, peer = service.recvfrom(10)
    service.sendto(b"z", peer)
    assert silent.recv(10) == b"z", "a flow begins anew"


def client(ns):
    with ns:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.connect(("127.0.0.1", 7000))
    return sock


if __name__ == "__main__":
    sys.exit(main())
