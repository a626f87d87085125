# SPDX-License-Identifier: Apache-2.0
"""A TCP endpoint on the guest's side that does as a test says: any segment, window, or silence.

Each segment that comes in is held against what TCP promises: the right edge of the window never goes back,
nothing is sent past the window that we offered, nothing acknowledged that we did not send, no segment
exceeds our MSS, and a repeated byte is the same byte.
"""
import random

import wire
from rawguest import WAIT
from wire import ACK, FIN, PSH, RST, SYN, need

MASK = 0xFFFFFFFF


def after(a, b):
    """a - b as a signed 32-bit difference."""
    return ((a - b + 0x80000000) & MASK) - 0x80000000


class Tcp:
    """One connection. acking: acknowledge at once what comes in."""

    strict = True  # hold the window and the options against the RFCs

    def __init__(self, guest, remote, rport, lport, local=None, isn=None, window=65535, wscale=7,
                 mss=1460, sack=False, timestamps=False, acking=True):
        self.guest, self.remote, self.rport, self.lport = guest, remote, rport, lport
        self.local = local or guest.source_for(remote)
        self.isn = random.getrandbits(32) if isn is None else isn
        self.snd_una = self.snd_nxt = self.isn   # snd_nxt: past the highest byte sent
        self.window, self.wscale, self.mss = window, wscale, mss
        self.sack, self.timestamps = sack, timestamps
        self.acking = acking
        self.irs = self.rcv_nxt = None
        self.peer_options = {}
        self.peer_window, self.peer_edge, self.peer_shift = 0, None, 0
        self.data = bytearray()       # in order, as received
        self.pending = {}             # out of order, by sequence number
        self.fin = self.reset = False
        self.segments = []            # all that came
        self.ts_recent = 0
        self.ts_now = 1000
        self.our_edge = None          # right edge of the widest window offered
        guest.endpoints.append(self)

    # Sending.

    def options(self, syn=False):
        out = b""
        if syn:
            out += wire.opt_mss(self.mss)
            if self.wscale is not None:
                out += b"\1" + wire.opt_wscale(self.wscale)
            if self.sack:
                out += wire.SACK_OK
        if self.timestamps:
            self.ts_now += 1
            out += b"\1\1" + wire.opt_timestamps(self.ts_now, self.ts_recent)
        return out

    def frame(self, flags, seq=None, ack=None, data=b"", window=None, options=None, **fields):
        """A frame of this connection; what is not given is what a correct endpoint would say."""
        seq = self.snd_nxt if seq is None else seq
        ack = (self.rcv_nxt or 0) if ack is None and flags & ACK else ack or 0
        syn = bool(flags & SYN)
        shift = 0 if syn or self.wscale is None or wire.OPT_WSCALE not in self.peer_options else self.wscale
        window = self.window if window is None else window
        if flags & ACK and not flags & RST:
            edge = (ack + window) & MASK
            if self.our_edge is None or after(edge, self.our_edge) > 0:
                self.our_edge = edge
        options = self.options(syn) if options is None else options
        return self.guest.tcp(self.remote, self.rport, self.lport, seq, ack, flags, src=self.local,
                              window=min(window >> shift, 65535), options=options, data=data, **fields)

    def send(self, flags, seq=None, data=b"", **fields):
        """Sends one segment and moves snd_nxt past it if it is new."""
        self.guest.send(self.frame(flags, seq=seq, data=data, **fields))
        end = (self.snd_nxt if seq is None else seq) + len(data) + bool(flags & SYN) + bool(flags & FIN)
        if after(end, self.snd_nxt) > 0:
            self.snd_nxt = end & MASK

    def ack(self, **fields):
        self.send(ACK, **fields)

    def write(self, data, size=None, timeout=WAIT):
        """Sends data within the peer's window, waits until all of it is acknowledged."""
        size = size or min(self.mss, self.peer_mss())
        view, at = memoryview(data), 0
        while at < len(view):
            room = after(self.peer_edge, self.snd_nxt)
            piece = view[at:at + min(size, max(room, 0))]
            if not piece:
                before = self.peer_edge
                self.guest.pump_until(lambda: after(self.peer_edge, before) > 0 or self.reset, "the window opens",
                                      timeout, 0.01)
                need(not self.reset, "a reset while data was sent")
                continue
            batch = []
            while piece and len(batch) < 64:
                batch.append(self.frame(ACK | PSH, data=bytes(piece)))
                self.snd_nxt = (self.snd_nxt + len(piece)) & MASK
                at += len(piece)
                room = after(self.peer_edge, self.snd_nxt)
                piece = view[at:at + min(size, max(room, 0))]
            self.guest.send(*batch)
            self.guest.pump(0)
        self.wait_acked(timeout)

    def peer_mss(self):
        raw = self.peer_options.get(wire.OPT_MSS)
        return int.from_bytes(raw, "big") if raw else 536

    def wait_acked(self, timeout=WAIT):
        self.guest.pump_until(lambda: self.snd_una == self.snd_nxt or self.reset,
                              "all that was sent is acknowledged", timeout)
        need(not self.reset, "a reset instead of an acknowledgement")

    def close(self):
        """Sends FIN."""
        self.send(FIN | ACK)

    def abort(self):
        self.send(RST | ACK)

    # Receiving.

    def takes(self, frame):
        return (frame.kind == "tcp" and frame.sport == self.rport and frame.dport == self.lport and
                frame.src == self.remote and frame.dst == self.local)

    def input(self, frame):
        self.segments.append(frame)
        if frame.flags & RST:
            self.reset = True
            return
        if frame.flags & SYN:
            self._synchronise(frame)
        if frame.flags & ACK:
            self._acknowledged(frame)
        if self.rcv_nxt is None:
            return
        self._options_agreed(frame)
        if frame.data or frame.flags & FIN:
            self._payload(frame)
            if self.acking:
                self.ack()
        elif self.acking and not frame.flags & SYN and after(frame.seq, self.rcv_nxt) < 0:
            self.ack()  # a keep-alive or a probe

    def _synchronise(self, frame):
        if self.irs is not None:
            need(frame.seq == self.irs, "a second SYN with another sequence number")
            return
        self.irs, self.peer_options = frame.seq, frame.options
        self.rcv_nxt = (frame.seq + 1) & MASK
        shift = frame.options.get(wire.OPT_WSCALE)
        if shift is not None:
            need(self.wscale is not None or not frame.flags & ACK or not self.strict,
                 "a window scale that we did not offer")
            need(shift[0] <= 14, "a window scale of %d", shift[0])
        if frame.flags & ACK:
            need(self.sack or wire.OPT_SACK_OK not in frame.options, "SACK that we did not offer")
            need(self.timestamps or wire.OPT_TS not in frame.options, "timestamps that we did not offer")

    def _options_agreed(self, frame):
        ts = frame.options.get(wire.OPT_TS)
        agreed = self.timestamps and wire.OPT_TS in self.peer_options
        need(bool(ts) == bool(agreed) or frame.flags & SYN, "timestamps against what was agreed")
        if ts:
            self.ts_recent = int.from_bytes(ts[:4], "big")
            echo = int.from_bytes(ts[4:], "big")
            need(not frame.flags & ACK or 0 < echo <= self.ts_now, "an echoed timestamp %d never sent", echo)
        need(self.sack or wire.OPT_SACK not in frame.options, "SACK blocks though not agreed")

    def _acknowledged(self, frame):
        need(after(frame.ack, self.snd_nxt) <= 0, "an acknowledgement of what was never sent")
        if after(frame.ack, self.snd_una) > 0:
            self.snd_una = frame.ack
        if self.wscale is not None and wire.OPT_WSCALE in self.peer_options and not frame.flags & SYN:
            self.peer_shift = self.peer_options[wire.OPT_WSCALE][0]
        self.peer_window = frame.window << self.peer_shift
        edge = (frame.ack + self.peer_window) & MASK
        if self.peer_edge is not None and self.strict:
            # A unit of the scale may be lost to rounding when the acknowledgement moves.
            need(after(edge, self.peer_edge) > -(1 << self.peer_shift) or after(frame.ack, self.snd_una) < 0,
                 "the window shrank by %d", after(self.peer_edge, edge))
        if self.peer_edge is None or after(edge, self.peer_edge) > 0:
            self.peer_edge = edge

    def _payload(self, frame):
        need(len(frame.data) <= self.mss, "a segment of %d bytes where the MSS is %d", len(frame.data), self.mss)
        end = frame.seq + len(frame.data)
        if self.our_edge is not None and frame.data:
            probe = len(frame.data) == 1 and after(frame.seq, self.our_edge) == 0
            need(after(end, self.our_edge) <= 0 or probe, "data %d bytes past our window",
                 after(end, self.our_edge))
        known = after(self.rcv_nxt, frame.seq)
        if known < 0:
            self.pending[frame.seq] = (frame.data, frame.flags & FIN)
            return
        first = after(frame.seq, (self.irs + 1) & MASK)
        overlap = min(known, len(frame.data))
        need(bytes(self.data[first:first + overlap]) == frame.data[:overlap], "repeated bytes that differ")
        room = after(self.our_edge, self.rcv_nxt) if self.our_edge is not None else len(frame.data)
        fresh = frame.data[known:known + max(room, 0)]
        self.data += fresh
        self.rcv_nxt = (self.rcv_nxt + len(fresh)) & MASK
        if frame.flags & FIN and not self.fin and self.rcv_nxt == end & MASK:
            self.fin = True
            self.rcv_nxt = (self.rcv_nxt + 1) & MASK
        for seq in sorted(self.pending, key=lambda s: after(s, self.rcv_nxt)):
            if after(seq, self.rcv_nxt) <= 0:
                data, flags = self.pending.pop(seq)
                skip = after(self.rcv_nxt, seq)
                self.data += data[skip:]
                self.rcv_nxt = (self.rcv_nxt + max(len(data) - skip, 0)) & MASK
                if flags and not self.fin:
                    self.fin = True
                    self.rcv_nxt = (self.rcv_nxt + 1) & MASK

    # Waiting.

    def wait_data(self, n, timeout=WAIT):
        """Waits until n bytes in all came; returns them all."""
        self.guest.pump_until(lambda: len(self.data) >= n or self.reset, "%d bytes come" % n, timeout)
        need(len(self.data) >= n, "a reset after %d of %d bytes", len(self.data), n)
        return bytes(self.data)

    def wait_fin(self, timeout=WAIT):
        self.guest.pump_until(lambda: self.fin or self.reset, "FIN comes", timeout)
        need(self.fin, "a reset instead of FIN")

    def wait_reset(self, timeout=WAIT):
        self.guest.pump_until(lambda: self.reset, "a reset comes", timeout)
        return self.segments[-1]

    def wait_segment(self, match, what, timeout=WAIT):
        """The next new segment of this connection for which match holds."""
        start = len(self.segments)
        self.guest.pump_until(lambda: any(match(f) for f in self.segments[start:]), what, timeout, 0.02)
        return next(f for f in self.segments[start:] if match(f))


def connect(guest, remote, rport, lport=None, timeout=WAIT, **fields):
    """Opens a connection from the guest; returns the established endpoint."""
    conn = Tcp(guest, remote, rport, lport or random.randint(20000, 60000), **fields)
    conn.send(SYN)
    guest.pump_until(lambda: conn.rcv_nxt is not None or conn.reset, "SYN-ACK comes", timeout)
    need(not conn.reset, "the connection was refused")
    need(conn.snd_una == conn.snd_nxt, "SYN-ACK does not acknowledge the SYN")
    conn.ack()
    return conn


def accept(guest, lport, timeout=WAIT, reply=True, **fields):
    """Waits for a SYN to a port of the guest and answers it; returns the endpoint."""
    syn = guest.expect(lambda f: f.kind == "tcp" and f.dport == lport and f.flags & (SYN | ACK) == SYN,
                       "SYN to port %d" % lport, timeout)
    conn = Tcp(guest, syn.src, syn.sport, lport, local=syn.dst, **fields)
    conn.input(syn)
    if wire.OPT_TS not in syn.options:
        conn.timestamps = False
    if wire.OPT_WSCALE not in syn.options:
        conn.wscale = None
    conn.sack = conn.sack and wire.OPT_SACK_OK in syn.options
    if reply:
        conn.send(SYN | ACK)
        guest.pump_until(lambda: conn.snd_una == conn.snd_nxt or conn.reset, "the handshake ends", timeout)
    return conn
