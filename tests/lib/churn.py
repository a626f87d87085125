# SPDX-License-Identifier: Apache-2.0
"""Connections and guests that come and go quickly."""
import threading
import time

import wire
from netns import FAR4


class Echo:
    """A server that sends back the first bytes of each connection and closes it."""

    def __init__(self, ns, addr):
        self.server = ns.tcp_server(addr)
        self.server.settimeout(0.2)
        self.port = self.server.getsockname()[1]
        self.over = False
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.over = True
        self.thread.join()
        self.server.close()

    def _serve(self):
        while not self.over:
            try:
                peer, _ = self.server.accept()
                with peer:
                    peer.settimeout(10)
                    peer.sendall(peer.recv(100))
            except OSError:
                continue


def short_connections(ns, addr, port, rate, seconds):
    """Opens, uses and closes rate connections a second; each must work."""
    start = time.monotonic()
    for i in range(rate * seconds):
        with ns.tcp_client(addr, port, blocking=False) as sock:
            sock.settimeout(10)
            while True:
                try:
                    sock.sendall(b"%d" % i)
                    break
                except BlockingIOError:
                    continue
            assert sock.recv(100) == b"%d" % i
            assert sock.recv(1) == b""
        time.sleep(max(0.0, start + (i + 1) / rate - time.monotonic()))
    late = time.monotonic() - start - seconds
    assert late < seconds, "%d a second were not reached: %.1f s late" % (rate, late)


def reconnect(case, times):
    """A guest that joins, opens flows of each kind, and leaves without a word."""
    for i in range(times):
        guest = case.guest(resolve=i % 50 == 0)
        guest.send(guest.tcp(FAR4, 9, 30000 + i % 1000, 1, 0, wire.SYN), guest.udp(FAR4, 9, b"x", sport=20000 + i % 1000),
                   guest.echo(FAR4, i & 0xFFFF, 1))
        case.guests.pop().close()
        time.sleep(0.005)
