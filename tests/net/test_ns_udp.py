#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 300
"""Datagrams between the host's loopback and the namespace's: -U, and -u from the host itself."""
import os
import select
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from netns import FAR4, FAR6, HOST4, HOST6
from nsguest import NsGuest
from suite import main, rows, test, wait_for

LO4, LO6 = "127.0.0.1", "::1"


class Way:
    """A service on one side, the namespace of its clients on the other, and their port."""

    def __init__(self, case, direction, version, *options):
        self.lo = LO6 if version == 6 else LO4
        flag = "-U" if direction == "out" else "-u"
        self.guest = NsGuest(case, flag, "7000:7001", *options)
        host, inside = case.net.host, self.guest.ns
        self.clients, self.services = (inside, host) if direction == "out" else (host, inside)
        where = {"out": self.lo, "in": HOST6 if version == 6 else HOST4}[direction]
        self.service = self.services.udp(self.lo if "--host-lo-to-ns-lo" in options else where, 7001)
        self.service.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)

    def client(self):
        with self.clients:
            sock = socket.socket(socket.AF_INET6 if ":" in self.lo else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.settimeout(5)
        sock.connect((self.lo, 7000))
        return sock


WAYS = (("from the namespace to the host, IPv4", "out", 4, ()), ("from the namespace to the host, IPv6", "out", 6, ()),
        ("from the host to the namespace, IPv4", "in", 4, ()), ("from the host to the namespace, IPv6", "in", 6, ()),
        ("from loopback to loopback, IPv4", "in", 4, ("--host-lo-to-ns-lo",)),
        ("from loopback to loopback, IPv6", "in", 6, ("--host-lo-to-ns-lo",)))


def each_way(what):
    """A test for each way; its name continues with the way's."""
    return rows(*(("%s %s" % (what, way[0]),) + way[1:] for way in WAYS))


@each_way("datagrams of every size go and come back")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    client = way.client()
    for size in (0, 1, 2, 1472, 1500, 9000, 65507 if version == 4 else 65000, 0, 3):
        payload = os.urandom(size)
        client.send(payload)
        got, peer = way.service.recvfrom(65536)
        assert got == payload, (size, len(got))
        way.service.sendto(payload[::-1], peer)
        assert client.recv(65536) == payload[::-1], size
    assert way.guest.counters()["spliced-bytes"] > 150000


@each_way("a burst keeps order and borders")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    client = way.client()
    sizes = [1000] * 50 + [7, 0, 1400] + [200] * 40 + [1000] * 30 + [0] * 5
    sent = [i.to_bytes(4, "big") * (size // 4) + b"x" * (size % 4) for i, size in enumerate(sizes)]
    for payload in sent:
        client.send(payload)
    got, peer = [], None
    for _ in sent:
        payload, peer = way.service.recvfrom(65536)
        got.append(payload)
    assert got == sent, [(len(a), len(b)) for a, b in zip(got, sent) if a != b][:5]
    for payload in sent:
        way.service.sendto(payload, peer)
    assert [client.recv(65536) for _ in sent] == sent


@each_way("300 clients at once get their own answers")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    clients = [way.client() for _ in range(300)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    seen = {}
    for _ in clients:
        payload, peer = way.service.recvfrom(100)
        seen[payload] = peer
        way.service.sendto(b"answer " + payload, peer)
    assert len(seen) == len(set(seen.values())) == 300
    for number, client in enumerate(clients):
        assert client.recv(100) == b"answer %d" % number
        way.service.sendto(b"more", seen[b"%d" % number])
        assert client.recv(100) == b"more"


@each_way("a service that starts late is found")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    name = way.service.getsockname()
    client = way.client()
    way.service.close()
    for _ in range(5):
        client.send(b"lost")
        time.sleep(0.01)
    way.service = way.services.udp(name[0], 7001)

    def served():
        client.send(b"x")
        return select.select([way.service], [], [], 0.1)[0]
    wait_for(served, "the service gets something", 5)
    payload, peer = way.service.recvfrom(10)
    way.service.sendto(b"y", peer)
    assert payload == b"x" and client.recv(10) == b"y"


@rows(("a service on every address is reached with IPv4", LO4), ("a service on every address is reached with IPv6", LO6))
def _(case, lo):
    guest = NsGuest(case, "-U", "7000:7001")
    service = case.net.host.udp("::" if ":" in lo else "0.0.0.0", 7001)
    with guest.ns:
        client = socket.socket(socket.AF_INET6 if ":" in lo else socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(5)
    client.sendto(b"x", (lo, 7000))
    payload, peer = service.recvfrom(10)
    assert payload == b"x" and peer[0] == lo, peer
    service.sendto(b"y", peer)
    assert client.recvfrom(10)[1][:2] == (lo, 7000)


@rows(("without splicing the host's datagrams come from the gateway, IPv4", 4, "192.0.2.1"),
      ("without splicing the host's datagrams come from the gateway, IPv6", 6, "fe80::1"))
def _(case, version, gateway):
    way = Way(case, "in", version, "--no-splice")
    client = way.client()
    client.send(b"x")
    payload, peer = way.service.recvfrom(10)
    assert payload == b"x" and peer[0].partition("%")[0] == gateway, peer
    way.service.sendto(b"y", peer)
    assert client.recv(10) == b"y"
    assert way.guest.counters().get("spliced-bytes", 0) == 0


@test
def the_answer_comes_from_the_address_that_was_written_to(case):
    way = Way(case, "in", 4)
    for addr in (LO4, "127.9.9.9", HOST4):
        with case.net.host:
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(5)
        client.bind((LO4, 0))
        client.sendto(b"x", (addr, 7000))
        payload, peer = way.service.recvfrom(10)
        way.service.sendto(b"y", peer)
        assert client.recvfrom(10) == (b"y", (addr, 7000))


@test
def the_network_still_reaches_the_port_through_the_interface(case):
    way = Way(case, "in", 4)
    for far, host in ((FAR4, HOST4), (FAR6, HOST6)):
        service = way.guest.ns.udp(host, 7001) if ":" in host else way.service
        with case.net.remote:
            client = socket.socket(socket.AF_INET6 if ":" in far else socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(5)
        client.bind((far, 0))
        client.sendto(b"x", (host, 7000))
        payload, peer = service.recvfrom(10)
        assert payload == b"x" and peer[0] == far, peer
        service.sendto(b"y", peer)
        assert client.recv(10) == b"y"


def udp_ports(ns):
    return {int(line.split()[3].rpartition(":")[2]) for line in ns.run("ss", "-Hlnu").stdout.splitlines()}


@test
def automatic_ports_follow_the_hosts_services(case):
    guest = NsGuest(case, "-t", "none", "-u", "none", "-T", "none", auto=True)
    service = case.net.host.udp(LO4, 7002)
    wait_for(lambda: 7002 in udp_ports(guest.ns), "the namespace listens", 1.7)
    with guest.ns:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(5)
    client.sendto(b"x", (LO4, 7002))
    payload, peer = service.recvfrom(10)
    service.sendto(b"y", peer)
    assert payload == b"x" and client.recv(10) == b"y"
    service.close()
    wait_for(lambda: 7002 not in udp_ports(guest.ns), "the namespace listens no more", 1.7)


@test
def our_own_sockets_are_no_services(case):
    guest = NsGuest(case, "-t", "none", "-u", "none", "-T", "none", auto=True)
    far = case.net.remote.udp(FAR4, 7003)
    with guest.ns:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(5)
    client.connect((FAR4, 7003))
    client.send(b"x")
    _, peer = far.recvfrom(10)
    assert peer[1] in udp_ports(case.net.host), "the host has a socket for the flow"
    mark = case.net.host.udp(LO4, 7004)  # when this is forwarded, a look was taken since
    wait_for(lambda: 7004 in udp_ports(guest.ns), "the namespace listens", 1.7)
    assert peer[1] not in udp_ports(guest.ns)
    mark.close()


@test
def a_port_of_the_namespace_that_is_taken_is_told(case):
    guest = NsGuest(case)
    taken = guest.ns.udp(LO4, 7005)
    done = case.run("--config-net", "-I", "other0", "-t", "none", "-u", "none", "-T", "none", "-U", "7005", "--netns",
                    "/run/netns/" + guest.ns.name, name="pasta")
    taken.close()
    assert done.returncode == 1 and "NAMESPACE UDP port 7005: Address already in use" in done.stderr, done.stderr


if __name__ == "__main__":
    sys.exit(main())
