#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 400
"""Connections between the host's loopback and the namespace's, socket to socket."""
import fcntl
import hashlib
import os
import select
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from netns import FAR4, HOST4, HOST6
from nsflows import at_once, drain, pour
from nsguest import NsGuest
from suite import main, rows, test, wait_for

LO4, LO6 = "127.0.0.1", "::1"
USER = 61234  # an ordinary user, whom no file names
RESET = struct.pack("ii", 1, 0)


class Way:
    """A server on one side, the namespace of its clients on the other, and their port."""

    def __init__(self, case, direction, version, *options, **kw):
        self.lo = LO6 if version == 6 else LO4
        self.guest = NsGuest(case, "-T" if direction == "out" else "-t", "7000:7001", *options, **kw)
        host, inside = case.net.host, self.guest.ns
        self.clients, self.services = (inside, host) if direction == "out" else (host, inside)
        inner = {"--host-lo-to-ns-lo", "--splice-only"} & set(options)
        where = self.lo if direction == "out" or inner else HOST6 if version == 6 else HOST4
        if "--no-splice" in options:  # a link-local source may reach the link-local address
            where = "::" if version == 6 else "0.0.0.0"
        self.server = self.services.tcp_server(where, 7001)

    def client(self):
        return self.clients.tcp_client(self.lo, 7000)

    def pair(self):
        client = self.client()
        peer, self.source = self.server.accept()
        peer.settimeout(10)
        return client, peer

    def spliced(self):
        return self.guest.counters().get("spliced-bytes", 0)


WAYS = (("from the namespace to the host, IPv4", "out", 4, ()), ("from the namespace to the host, IPv6", "out", 6, ()),
        ("from the host to the namespace, IPv4", "in", 4, ()), ("from the host to the namespace, IPv6", "in", 6, ()),
        ("from loopback to loopback, IPv4", "in", 4, ("--host-lo-to-ns-lo",)),
        ("from loopback to loopback, IPv6", "in", 6, ("--host-lo-to-ns-lo",)),
        ("with --splice-only, IPv4", "in", 4, ("--splice-only",)))


def each_way(what):
    """A test for each way; its name continues with the way's."""
    return rows(*(("%s %s" % (what, way[0]),) + way[1:] for way in WAYS))


@each_way("30 MB each way at once arrive whole")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    client, peer = way.pair()
    n = 30_000_000
    up, down, got_up, got_down = at_once(lambda: pour(client, n, 1), lambda: pour(peer, n, 2), lambda: drain(peer),
                                         lambda: drain(client))
    assert up and up == got_up and down == got_down
    assert way.spliced() == 2 * n


@each_way("half a close leaves the other half")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    client, peer = way.pair()
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert drain(peer) == hashlib.sha256(b"question").hexdigest()
    for _ in range(3):
        peer.sendall(b"answer")
        assert client.recv(10) == b"answer"
    peer.close()
    assert client.recv(10) == b""


@each_way("a reset is passed on")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    for closer, other in ((0, 1), (1, 0)):
        pair = way.pair()
        pair[0].sendall(b"x")
        assert pair[1].recv(1) == b"x"
        pair[closer].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        pair[closer].close()
        try:
            assert pair[other].recv(1) == b"x"
            raise AssertionError("no reset")
        except ConnectionResetError:
            pass


@each_way("a refused connection is reset, and others go on")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    client, peer = way.pair()
    way.server.close()
    refused = way.client()
    try:
        assert refused.recv(1) == b"" and False, "it should be reset"
    except ConnectionError:
        pass
    client.sendall(b"on")
    assert peer.recv(2) == b"on"


def closed_mid_way(way, flows=40):
    """Peers that close while much is on its way, in either direction, with and without a reset."""
    for i in range(flows):
        client, peer = way.pair()
        sender, receiver = (client, peer) if i % 2 else (peer, client)
        sender.setblocking(False)
        try:
            while True:
                sender.send(b"x" * 65536)
        except BlockingIOError:
            pass
        receiver.recv(1000)
        if i % 4 < 2:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        (receiver if i % 8 < 4 else sender).close()
        (sender if i % 8 < 4 else receiver).close()


@each_way("connections that close while they are full leave nothing behind")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    closed_mid_way(way)
    wait_for(lambda: way.guest.counters()["flows-closed"] == 40, "all flows have ended", 10)
    client, peer = way.pair()
    assert at_once(lambda: pour(client, 100_000, 3), lambda: drain(peer)) == [pour_digest(100_000, 3)] * 2


def pour_digest(n, seed):
    block = hashlib.sha256(b"%d" % seed).digest() * (n // 32 + 1)
    return hashlib.sha256(block[:n]).hexdigest()


def cpu_of(pid):
    with open("/proc/%d/stat" % pid) as file:
        words = file.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def fill(sender, digest):
    """Sends until the sender is stopped; returns the number of bytes."""
    block, sent = os.urandom(65536), 0
    sender.settimeout(0.5)
    try:
        while True:
            n = sender.send(block)
            digest.update(block[:n])
            sent += n
    except TimeoutError:
        return sent


@each_way("a reader that stops stops its sender, costs no CPU and holds up nobody")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    stopped = way.pair(), way.pair()[::-1]
    digests = [hashlib.sha256() for _ in stopped]
    sent = [fill(pair[0], digest) for pair, digest in zip(stopped, digests)]
    assert all(0 < n < 100_000_000 for n in sent), sent
    before, loops = cpu_of(way.guest.daemon.pid), way.guest.counters()["loops"]
    time.sleep(1)
    assert cpu_of(way.guest.daemon.pid) - before < 0.1
    assert way.guest.counters()["loops"] - loops < 50
    client, peer = way.pair()
    sums = at_once(lambda: pour(client, 5_000_000, 1), lambda: drain(peer))
    assert sums[0] and sums[0] == sums[1], sums
    for (sender, receiver), digest in zip(stopped, digests):
        sender.close()
        assert drain(receiver) == digest.hexdigest()


@each_way("what is on its way when both have said all arrives, however slowly it is read")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    pair = way.pair()
    payload = [os.urandom(1_500_000) for _ in pair]
    for sock in pair:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20000)
    at_once(*(lambda s=s, p=p: (s.sendall(p), s.shutdown(socket.SHUT_WR)) for s, p in zip(pair, payload)))
    for sock, expected in zip(pair, reversed(payload)):
        got = bytearray()
        while True:
            piece = sock.recv(30000)
            if not piece:
                break
            got += piece
            time.sleep(0.001)
        assert got == expected, (len(got), len(expected))
    wait_for(lambda: way.guest.counters()["flows-closed"] == 1, "the flow has ended", 10)


@each_way("400 connections live at once")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    clients = [way.client() for _ in range(400)]
    for number, client in enumerate(clients):
        client.sendall(b"%04d" % number)
    seen, peers = set(), []
    for _ in clients:
        peer, _ = way.server.accept()
        peer.settimeout(10)
        peers.append(peer)
        number = peer.recv(4)
        seen.add(number)
        peer.sendall(b"answer " + number)
    assert len(seen) == 400
    for number, client in enumerate(clients):
        assert client.recv(100) == b"answer %04d" % number


@each_way("urgent bytes neither stop a connection nor cost CPU")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    for pair in (way.pair(), way.pair()[::-1]):
        sender, receiver = pair
        expected = bytearray()
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        for i in range(20):
            sender.sendall(b"before%d" % i)
            sender.send(b"!", socket.MSG_OOB)
            sender.sendall(b"after%d" % i * 2000)
            expected += b"before%d!" % i + b"after%d" % i * 2000
        got = bytearray()
        while len(got) < len(expected):
            got += receiver.recv(65536)
        assert got == expected
        sender.send(b"!", socket.MSG_OOB)  # and now it stands there, unread
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        wait_for(lambda: select.select([], [], [receiver], 0)[2] or select.select([receiver], [], [], 0)[0], "it arrives", 5)
    before, switches = cpu_of(way.guest.daemon.pid), way.guest.counters()["loops"]
    time.sleep(1.5)
    assert cpu_of(way.guest.daemon.pid) - before < 0.1
    assert way.guest.counters()["loops"] - switches < 50


@each_way("an urgent byte behind much that nobody reads yet, and the end behind it, arrive")
def _(case, direction, version, options):
    way = Way(case, direction, version, *options)
    for pair in (way.pair(), way.pair()[::-1]):
        sender, receiver = pair
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        digest = hashlib.sha256()
        fill(sender, digest)
        sender.setblocking(True)  # until it is read there is no room for more

        def end(sender=sender):
            sender.sendall(b"last")
            sender.send(b"!", socket.MSG_OOB)
            sender.shutdown(socket.SHUT_WR)
        got = at_once(end, lambda receiver=receiver: drain(receiver))[1]
        digest.update(b"last!")
        assert got == digest.hexdigest()
        receiver.sendall(b"back")
        assert sender.recv(10) == b"back"


@test
def an_urgent_byte_arrives_as_one(case):
    way = Way(case, "in", 4)
    client, peer = way.pair()
    client.sendall(b"ab")
    client.send(b"c", socket.MSG_OOB)
    wait_for(lambda: select.select([], [], [peer], 0)[2], "the peer is told of urgent data", 5)
    assert peer.recv(10) == b"ab"
    peer.setblocking(False)  # or it would wait for ordinary data first
    assert peer.recv(1, socket.MSG_OOB) == b"c"


@test
def a_user_whose_pipes_are_used_up_is_served_all_the_same(case):
    hog = subprocess.Popen(("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", sys.executable, "-c",
                            HOG), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    case.cleanups.append(hog.kill)
    assert hog.stdout.readline() == "full\n"
    way = Way(case, "in", 4, runas=str(USER))
    client, peer = way.pair()
    n = 30_000_000
    sums = at_once(lambda: pour(client, n, 1), lambda: drain(peer))
    assert sums[0] and sums[0] == sums[1], sums
    assert way.spliced() == n
    closed_mid_way(way, 16)


# Takes all that fs.pipe-user-pages-soft gives a user: from then on a new pipe has one or two pages and can't grow.
HOG = """
import fcntl, os, time
pipes, size = [os.pipe()], 1 << 20
while fcntl.fcntl(pipes[-1][1], fcntl.F_GETPIPE_SZ) > 8192:
    try:
        fcntl.fcntl(pipes[-1][1], fcntl.F_SETPIPE_SZ, size)
    except PermissionError:
        size = max(size // 2, 65536)
    pipes.append(os.pipe())
print("full", flush=True)
time.sleep(1000)
"""


# Answers one connection with 300,000 bytes, and ends.
ONE_SHOT = """
import socket
with socket.create_server(("0.0.0.0", 7000)) as server:
    print("listens", flush=True)
    with server.accept()[0] as conn:
        conn.sendall(bytes(300000))
"""


@test
def what_a_command_said_before_it_ended_arrives_however_slowly_it_is_read(case):
    command = case.net.host.command(case.program("pasta"), "--runas", "0", "--config-net", "-q", "-t", "7000", "-u", "none",
                                    "-T", "none", "-U", "none", "--", sys.executable, "-c", ONE_SHOT)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    case.cleanups.append(process.kill)
    assert process.stdout.readline() == "listens\n"
    client = case.net.host.tcp_client(LO4, 7000, before=lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096))
    assert process.wait(20) == 0
    got = 0
    while n := len(client.recv(65536)):
        got += n
    assert got == 300_000, got


@rows(("without splicing the host's connections come from the gateway, IPv4", 4, "192.0.2.1"),
      ("without splicing the host's connections come from the gateway, IPv6", 6, "fe80::1"))
def _(case, version, gateway):
    way = Way(case, "in", version, "--no-splice")
    client, peer = way.pair()
    assert way.source[0].partition("%")[0] == gateway, way.source
    client.sendall(b"x")
    assert peer.recv(1) == b"x" and way.spliced() == 0


@rows(("a service of the namespace's IPv4 loopback is not shown to the host", LO4),
      ("a service of the namespace's IPv6 loopback is not shown to the host", LO6))
def _(case, lo):
    guest = NsGuest(case, "-t", "7000:7001")
    server = guest.ns.tcp_server(lo, 7001)
    client = case.net.host.tcp_client(lo, 7000)
    try:
        assert client.recv(1) is None
    except ConnectionError:
        pass
    server.settimeout(0)
    try:
        server.accept()
        raise AssertionError("it was reached")
    except BlockingIOError:
        pass


@test
def splice_only_makes_no_interface(case):
    way = Way(case, "in", 4, "--splice-only")
    links = way.guest.ns.run("ip", "-br", "link").stdout.splitlines()
    assert len(links) == 1 and links[0].startswith("lo "), links
    client = case.net.remote.tcp_client(HOST4, 7000, source=FAR4)
    try:
        assert client.recv(1) is None
    except ConnectionError:
        pass


if __name__ == "__main__":
    sys.exit(main())
