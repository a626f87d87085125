# SPDX-License-Identifier: Apache-2.0
"""Connections between the rest of the world and a namespace, and what must hold of them."""
import hashlib
import json
import select
import socket
import threading

CLEAN = ("tcp-out-of-order", *("drop-" + reason for reason in (
    "tcp-unsacked", "tcp-in-window", "tcp-sequence", "tx-error", "tx-blocked", "pool-empty", "control-full", "tun-read",
    "no-flow")))


class Flows:
    """n connections from the rest of the world to a forwarded port, each echoed by the namespace."""

    def __init__(self, case, guest, n, port=7000, host="192.0.2.2", addr="0.0.0.0"):
        self.guest = guest
        server = guest.ns.tcp_server(addr, 7001)
        self.clients, self.peers = [], []
        for _ in range(n):
            self.clients.append(case.net.remote.tcp_client(host, port, blocking=False))
            if len(self.clients) % 200 == 0 or len(self.clients) == n:
                while len(self.peers) < len(self.clients):
                    self.peers.append(server.accept()[0])
        server.close()
        for sock in self.clients + self.peers:
            sock.setblocking(False)
        case.cleanups.append(self.close)

    def close(self):
        for sock in self.clients + self.peers:
            sock.close()

    def exchange(self, payload):
        """Every client sends it, every peer sends back what it gets; returns how many got all of it back."""
        left = {sock.fileno(): (sock, memoryview(payload)) for sock in self.clients}
        back = {sock.fileno(): bytearray() for sock in self.clients}
        clients = {sock.fileno(): sock for sock in self.clients}
        peers = {sock.fileno(): (sock, bytearray()) for sock in self.peers}
        poll = select.epoll()
        for fd in clients:
            poll.register(fd, select.EPOLLIN | select.EPOLLOUT)
        for fd in peers:
            poll.register(fd, select.EPOLLIN)
        done = 0
        while done < len(clients):
            events = poll.poll(20, 1000)
            assert events, "%d of %d flows stand still" % (len(clients) - done, len(clients))
            for fd, event in events:
                if fd in peers:
                    self._echo(poll, fd, *peers[fd])
                    continue
                if event & select.EPOLLOUT and fd in left:
                    sock, rest = left[fd]
                    rest = rest[sock.send(rest):]
                    left[fd] = (sock, rest)
                    if not rest:
                        del left[fd]
                        poll.modify(fd, select.EPOLLIN)
                if event & select.EPOLLIN:
                    back[fd] += clients[fd].recv(1 << 18)
                    done += len(back[fd]) >= len(payload)
        return sum(bytes(got) == payload for got in back.values())

    @staticmethod
    def _echo(poll, fd, sock, held):
        try:
            held += sock.recv(1 << 18)
        except BlockingIOError:
            pass
        try:
            if held:
                del held[:sock.send(held)]
        except BlockingIOError:
            pass
        poll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if held else 0))


def nothing_lost(guest):
    """Neither lost nor out of order, by the daemon's counters, the device's, and the guest's kernel's."""
    counters = guest.counters()
    wrong = {name: counters[name] for name in CLEAN if counters.get(name)}
    assert not wrong, wrong
    links = json.loads(guest.ns.run("ip", "-s", "-j", "link", "show", "dev", "h0").stdout)[0]["stats64"]
    dropped = {way: links[way]["dropped"] + links[way]["errors"] for way in ("rx", "tx")}
    assert dropped == {"rx": 0, "tx": 0}, dropped
    with guest.ns:
        with open("/proc/thread-self/net/netstat") as file:
            lines = [line.split() for line in file]
    ext = dict(zip(lines[0], lines[1]))
    assert ext["TCPOFOQueue"] == "0", ext["TCPOFOQueue"]
    return counters


def pour(sock, n, seed, end=True):
    """Sends n bytes that the seed tells; returns their digest."""
    digest, block = hashlib.sha256(), hashlib.sha256(b"%d" % seed).digest() * 4096
    while n:
        part = block[:min(n, len(block))]
        sock.sendall(part)
        digest.update(part)
        n -= len(part)
    if end:
        sock.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def drain(sock):
    """Receives to the end; returns the digest."""
    digest = hashlib.sha256()
    while True:
        data = sock.recv(1 << 18)
        if not data:
            return digest.hexdigest()
        digest.update(data)


def at_once(*functions, seconds=60):
    """Calls all at once; returns their results, None for those that failed or did not end in time."""
    results = [None] * len(functions)

    def call(i):
        results[i] = functions[i]()
    threads = [threading.Thread(target=call, args=(i,), daemon=True) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    return results
