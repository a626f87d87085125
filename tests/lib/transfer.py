# SPDX-License-Identifier: Apache-2.0
"""Moves data over a connection of a raw guest and a remote socket, serving both from one thread."""
import time

from rawtcp import MASK, after
from wire import ACK, PSH


def read_exactly(conn, peer, n, timeout=20):
    """Reads n bytes from the remote socket while the guest is served."""
    out, end = bytearray(), time.monotonic() + timeout
    peer.setblocking(False)
    while len(out) < n:
        try:
            got = peer.recv(1 << 20)
            assert got, "end of file after %d of %d bytes" % (len(out), n)
            out += got
        except BlockingIOError:
            assert time.monotonic() < end, "%d of %d bytes came" % (len(out), n)
            conn.guest.pump(0.002)
    peer.settimeout(10)
    return bytes(out)


def send_all(conn, peer, data):
    """Writes to the remote socket while the guest is served."""
    view = memoryview(data)
    peer.setblocking(False)
    end = time.monotonic() + 30
    while view:
        try:
            view = view[peer.send(view):]
        except BlockingIOError:
            assert time.monotonic() < end, "the remote side cannot send"
        conn.guest.pump(0.001)
    peer.settimeout(10)


def upload(conn, peer, data, size=None):
    """The guest sends within the window, the remote reads at the same time; compares."""
    size = size or min(conn.mss, conn.peer_mss())
    got, at, end = bytearray(), 0, time.monotonic() + 30
    peer.setblocking(False)
    while len(got) < len(data):
        room = after(conn.peer_edge, conn.snd_nxt)
        batch = []
        while at < len(data) and room > 0 and len(batch) < 32:
            piece = data[at:at + min(size, room)]
            batch.append(conn.frame(ACK | PSH, data=piece))
            conn.snd_nxt = (conn.snd_nxt + len(piece)) & MASK
            at, room = at + len(piece), room - len(piece)
        if batch:
            conn.guest.send(*batch)
        try:
            got += peer.recv(1 << 20)
        except BlockingIOError:
            conn.guest.pump(0.001)
        conn.guest.pump(0)
        assert time.monotonic() < end, "%d of %d bytes came" % (len(got), len(data))
    peer.settimeout(10)
    conn.wait_acked()
    assert got == data, "what arrived differs"
