# SPDX-License-Identifier: Apache-2.0
"""A guest on the UNIX stream socket: sends raw frames, reads and checks every frame that comes back."""
import select
import socket
import struct
import time

import wire
from wire import ETH_ARP, ETH_IP4, ETH_IP6, TCP, UDP, ICMP, ICMP6, Frame, WireError

QUIET = 0.25   # seconds after which we say that nothing comes
WAIT = 6.0    # seconds after which what should have come is missing


class Gone(Exception):
    """The daemon ended the connection."""


class Guest:
    """sock: a connected stream socket. ip4, ip6, ll: the addresses that the guest uses."""

    def __init__(self, sock, mac="52:54:00:12:34:56", ip4=None, ip6=None, ll="fe80::5054:ff:fe12:3456"):
        self.sock = sock
        self.sock.setblocking(False)
        self.mac, self.ip4, self.ip6, self.ll = mac, ip4, ip6, ll
        self.gw_mac = "9a:55:9a:55:9a:55"
        self.buffer = bytearray()
        self.backlog = []      # frames received that nobody asked for yet
        self.parts = {}        # fragments by (src, dst, proto, ident)
        self.endpoints = []    # see rawtcp.py
        self.answering = True  # for ARP and neighbour solicitations
        self.frames_seen = 0

    # Sending.

    def send_stream(self, data, timeout=WAIT):
        """Writes bytes to the stream as they are; reads meanwhile, so that neither side blocks."""
        end = time.monotonic() + timeout
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view):]
            except BlockingIOError:
                if time.monotonic() > end:
                    raise AssertionError("the daemon does not read") from None
                readable, _, _ = select.select([self.sock], [self.sock], [], 0.1)
                if readable:
                    self.fill()
            except (BrokenPipeError, ConnectionResetError):
                raise Gone() from None

    def send(self, *frames):
        """Sends whole frames, from their Ethernet header on."""
        self.send_stream(b"".join(struct.pack("!I", len(f)) + f for f in frames))

    def eth(self, ethertype, payload, dst=None, src=None):
        return wire.eth(dst or self.gw_mac, src or self.mac, ethertype, payload)

    def source_for(self, dst):
        if ":" not in dst:
            return self.ip4
        return self.ll if dst.startswith("fe80:") or dst.startswith("ff02:") else self.ip6

    def ip(self, dst, proto, payload, src=None, **fields):
        """A frame with an IP packet from this guest."""
        packet = wire.ip(src or self.source_for(dst), dst, proto, payload, **fields)
        return self.eth(ETH_IP6 if ":" in dst else ETH_IP4, packet)

    def udp(self, dst, dport, data, sport=40000, src=None, udp=None, **fields):
        src = src or self.source_for(dst)
        return self.ip(dst, UDP, wire.udp(src, dst, sport, dport, data, **(udp or {})), src=src, **fields)

    def tcp(self, dst, dport, sport, seq, ack, flags, src=None, ip=None, **fields):
        src = src or self.source_for(dst)
        return self.ip(dst, TCP, wire.tcp(src, dst, sport, dport, seq, ack, flags, **fields), src=src,
                       **(ip or {}))

    def echo(self, dst, ident, seq, data=b"", src=None, **fields):
        """An echo request, ICMP or ICMPv6."""
        src, rest = src or self.source_for(dst), struct.pack("!HH", ident, seq)
        if ":" in dst:
            return self.ip(dst, ICMP6, wire.icmp6(src, dst, 128, 0, rest, data), src=src, **fields)
        return self.ip(dst, ICMP, wire.icmp(8, 0, rest, data), src=src, **fields)

    def fragments(self, dst, proto, payload, size, ident=77, src=None):
        """A datagram as frames of fragments with size (a multiple of 8) bytes each."""
        frames = []
        for at in range(0, len(payload), size):
            piece, more = payload[at:at + size], at + size < len(payload)
            if ":" in dst:
                header = struct.pack("!BBHI", proto, 0, at | more, ident)
                frames.append(self.ip(dst, 44, header + piece, src=src))
            else:
                frames.append(self.ip(dst, proto, piece, src=src, ident=ident, flags=int(more), offset=at))
        return frames

    def too_big(self, frame, mtu):
        """What a hop behind this guest says of a frame that is too long for it."""
        packet = frame.raw[14:]
        if ":" in frame.src:
            body = wire.icmp6(frame.dst, frame.src, 2, 0, struct.pack("!I", mtu), packet[:1000])
            return self.ip(frame.src, ICMP6, body)
        return self.ip(frame.src, ICMP, wire.icmp(3, 4, struct.pack("!I", mtu), packet[:28]))

    # Receiving.

    def fill(self):
        """Reads what the stream has; False if it has nothing."""
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            raise Gone() from None
        if not data:
            raise Gone()
        self.buffer += data
        return True

    def next_raw(self):
        if len(self.buffer) < 4:
            return None
        length, = struct.unpack_from("!I", self.buffer)
        if not 14 <= length <= 65535 + 14:
            raise WireError("a stream length of %d" % length)
        if len(self.buffer) < 4 + length:
            return None
        raw = bytes(self.buffer[4:4 + length])
        del self.buffer[:4 + length]
        return raw

    def recv(self, timeout=WAIT):
        """The next frame, parsed, checked, reassembled; None after timeout seconds."""
        end = time.monotonic() + timeout
        while True:
            raw = self.next_raw()
            while raw is not None:
                self.frames_seen += 1
                frame = self.reassemble(Frame(raw))
                if frame is not None and not self.answer(frame):
                    for endpoint in self.endpoints:
                        if endpoint.takes(frame):
                            endpoint.input(frame)
                    return frame
                raw = self.next_raw()
            left = end - time.monotonic()
            if left < 0:
                return None
            if select.select([self.sock], [], [], left)[0]:
                self.fill()

    def reassemble(self, frame):
        """Puts fragments together; the result is an unfragmented Frame with .n_fragments."""
        if frame.kind != "fragment":
            return frame
        key = (frame.src, frame.dst, frame.proto, frame.ident)
        parts = self.parts.setdefault(key, {})
        if frame.offset in parts:
            raise WireError("the same fragment twice")
        parts[frame.offset] = frame
        at = 0
        while at in parts:
            last = parts[at]
            at += len(last.data)
            if not last.more:
                break
        else:
            return None
        if last.more:
            return None
        del self.parts[key]
        frame.l4(b"".join(parts[o].data for o in sorted(parts)))
        frame.n_fragments = len(parts)
        return frame

    def answer(self, frame):
        """Answers address resolution as a kernel does; True if the frame was that."""
        if not self.answering:
            return False
        if frame.kind == "arp" and frame.op == 1 and frame.dst == self.ip4:
            self.send(self.eth(ETH_ARP, wire.arp(2, self.mac, self.ip4, frame.sha, frame.src)))
            return True
        if frame.kind == "icmp6" and frame.type == 135 and wire.ip_text(frame.data[:16]) in (self.ip6, self.ll):
            target = frame.data[:16]
            body = wire.icmp6(wire.ip_text(target), frame.src, 136, 0, b"\x60\0\0\0",
                              target + b"\2\1" + wire.mac_bytes(self.mac))
            self.send(self.ip(frame.src, ICMP6, body, src=wire.ip_text(target), hops=255))
            return True
        return False

    def pump(self, timeout=0.0):
        """Takes in frames for a while, for the endpoints and the backlog."""
        end = time.monotonic() + timeout
        while True:
            frame = self.recv(max(0.0, end - time.monotonic()))
            if frame is None:
                return
            if not any(e.takes(frame) for e in self.endpoints):
                self.backlog.append(frame)

    def pump_until(self, condition, what, timeout=WAIT, step=0.05):
        """Takes in frames until condition() holds."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise AssertionError("in %g s: not so: %s" % (timeout, what))
            frame = self.recv(step)
            if frame is not None and not any(e.takes(frame) for e in self.endpoints):
                self.backlog.append(frame)

    def expect(self, match, what, timeout=WAIT):
        """The first frame for which match(frame) holds; what is said if none comes."""
        for i, frame in enumerate(self.backlog):
            if match(frame):
                return self.backlog.pop(i)
        end = time.monotonic() + timeout
        seen = list(map(str, self.backlog[-8:]))
        while time.monotonic() < end:
            frame = self.recv(end - time.monotonic())
            if frame is None:
                break
            if match(frame):
                return frame
            self.backlog.append(frame)
            seen.append(str(frame))
        raise AssertionError("no %s came; seen: %s" % (what, "; ".join(seen[-8:]) or "nothing"))

    def expect_none(self, match, what, quiet=QUIET):
        """Fails if such a frame is there or comes within the time."""
        self.pump(quiet)
        for frame in self.backlog:
            if match(frame):
                raise AssertionError("%s came: %s" % (what, frame))

    def expect_closed(self, timeout=WAIT):
        """The daemon must end the connection."""
        end = time.monotonic() + timeout
        try:
            while time.monotonic() < end:
                if select.select([self.sock], [], [], 0.1)[0]:
                    self.fill()
                    self.buffer.clear()
        except Gone:
            return
        raise AssertionError("the connection was not ended")

    # Small exchanges that many tests need.

    def resolve(self, addr, timeout=WAIT):
        """Asks who has addr, by ARP or NDP; returns the Ethernet address."""
        if ":" not in addr:
            self.send(self.eth(ETH_ARP, wire.arp(1, self.mac, self.ip4, "00:00:00:00:00:00", addr),
                               dst=wire.BROADCAST))
            return self.expect(lambda f: f.kind == "arp" and f.op == 2 and f.src == addr,
                               "ARP reply for " + addr, timeout).sha
        self.send(self.solicitation(addr))
        reply = self.expect(lambda f: f.kind == "icmp6" and f.type == 136 and
                            f.data[:16] == wire.ip_bytes(addr), "neighbour advertisement for " + addr, timeout)
        return reply.eth_src

    def solicitation(self, target, src=None, options=None, dst=None, hops=255, **fields):
        """A neighbour solicitation frame."""
        raw = wire.ip_bytes(target)
        dst = dst or "ff02::1:ff%02x:%02x%02x" % tuple(raw[13:])
        src = src or self.ll
        options = b"\1\1" + wire.mac_bytes(self.mac) if options is None else options
        body = wire.icmp6(src, dst, 135, 0, b"\0" * 4, raw + options, **fields)
        return wire.eth("33:33:" + wire.mac_text(wire.ip_bytes(dst)[12:]), self.mac, ETH_IP6,
                        wire.ip6(src, dst, ICMP6, body, hops=hops))

    def alive(self, gateway="192.0.2.1"):
        """The daemon still serves this guest."""
        self.backlog = [f for f in self.backlog if f.kind != "arp"]
        end = time.monotonic() + WAIT
        # Its inbox for control frames is bounded: what a flood pushed out is asked again, as hosts do.
        while True:
            try:
                self.gw_mac = self.resolve(gateway, 1)
                return
            except AssertionError:
                if time.monotonic() > end:
                    raise

    def close(self):
        self.sock.close()


def connect(path, timeout=WAIT, **fields):
    """A guest on the socket at path; waits until the daemon listens."""
    end = time.monotonic() + timeout
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
            return Guest(sock, **fields)
        except OSError:
            sock.close()
            if time.monotonic() > end:
                raise AssertionError("nothing listens on " + path) from None
            time.sleep(0.02)
