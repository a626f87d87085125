# SPDX-License-Identifier: Apache-2.0
"""DHCP (RFC 2131) and DHCPv6 (RFC 8415) messages of a client, and what a server answers."""
import random
import struct

import wire
from wire import ETH_IP4, ip_bytes, ip_text, mac_bytes, need

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
COOKIE = b"\x63\x82\x53\x63"

SOLICIT, ADVERTISE, REQUEST6, CONFIRM, RENEW, REBIND, REPLY, RELEASE6, DECLINE6 = range(1, 10)
INFORMATION = 11
CLIENT_ID, SERVER_ID, IA_NA, IA_TA, IA_ADDR, ORO, STATUS, RAPID = 1, 2, 3, 4, 5, 6, 13, 14
DNS6_OPT, SEARCH6_OPT, FQDN6_OPT = 23, 24, 39
SUCCESS, NO_BINDING, NOT_ON_LINK = 0, 3, 4


def option(code, data=b""):
    return bytes((code, len(data))) + data


def message(mac, kind=None, xid=None, options=b"", ciaddr="0.0.0.0", flags=0, op=1, htype=1, hlen=6,
            giaddr="0.0.0.0", cookie=COOKIE, end=b"\xff", pad=True):
    """A BOOTP message; with kind a DHCP one."""
    xid = random.getrandbits(32) if xid is None else xid
    head = struct.pack("!BBBBIHH", op, htype, hlen, 0, xid, 0, flags) + ip_bytes(ciaddr) + bytes(8) + \
        ip_bytes(giaddr) + mac_bytes(mac).ljust(16, b"\0") + bytes(192)
    body = head + cookie + (option(53, bytes((kind,))) if kind else b"") + options + end
    return body.ljust(300, b"\0") if pad else body


def frame(guest, body, src="0.0.0.0", dst="255.255.255.255", eth_dst=wire.BROADCAST, **udp):
    packet = wire.ip4(src, dst, wire.UDP, wire.udp(src, dst, 68, 67, body, **udp))
    return wire.eth(eth_dst, guest.mac, ETH_IP4, packet)


class Answer:
    """A server's message, checked and taken apart. options: {code: bytes}."""

    def __init__(self, got):
        raw = got.data
        self.frame = got
        need(len(raw) >= 240, "a DHCP message of %d bytes", len(raw))
        self.op, self.htype, self.hlen, self.hops, self.xid, _, self.flags = struct.unpack("!BBBBIHH", raw[:12])
        self.ciaddr, self.yiaddr, self.siaddr, self.giaddr = (ip_text(raw[i:i + 4]) for i in range(12, 28, 4))
        self.chaddr = wire.mac_text(raw[28:34])
        self.length = len(raw)
        need(self.op == 2, "op %d in an answer", self.op)
        need(raw[236:240] == COOKIE, "no magic cookie")
        self.options, at = {}, 240
        while at < len(raw) and raw[at] != 255:
            if raw[at]:
                need(at + 1 < len(raw) and at + 2 + raw[at + 1] <= len(raw), "option %d overruns", raw[at])
                self.options[raw[at]] = self.options.get(raw[at], b"") + raw[at + 2:at + 2 + raw[at + 1]]
                at += 1 + raw[at + 1]
            at += 1
        need(at < len(raw), "no end option")
        self.kind = self.options.get(53, b"\0")[0]
        self.server = ip_text(self.options[54]) if 54 in self.options else None


def is_answer(xid=None):
    return lambda f: f.kind == "udp" and f.dport == 68 and (xid is None or f.data[4:8] == struct.pack("!I", xid))


def ask(guest, kind, what="DHCP answer", src="0.0.0.0", dst="255.255.255.255", timeout=10, **fields):
    """Sends a message, returns the Answer."""
    xid = random.getrandbits(32)
    guest.send(frame(guest, message(guest.mac, kind, xid, **fields), src=src, dst=dst))
    return Answer(guest.expect(is_answer(xid), what, timeout))


def domains(raw):
    """Names in DNS wire form, with compression (RFC 3397)."""
    out, at = [], 0
    while at < len(raw):
        labels, end, pos = [], None, at
        for _ in range(64):
            need(pos < len(raw), "a name overruns")
            n = raw[pos]
            if n == 0:
                end = end or pos + 1
                break
            if n >= 0xC0:
                end = end or pos + 2
                pos = (n & 0x3F) << 8 | raw[pos + 1]
                continue
            labels.append(raw[pos + 1:pos + 1 + n].decode())
            pos += 1 + n
        out.append(".".join(labels))
        at = end
    return out


# DHCPv6.

def option6(code, data=b""):
    return struct.pack("!HH", code, len(data)) + data


def duid(guest):
    return struct.pack("!HH", 3, 1) + mac_bytes(guest.mac)


def ia_na(iaid=1, addrs=(), t1=0, t2=0):
    return option6(IA_NA, struct.pack("!III", iaid, t1, t2) + b"".join(
        option6(IA_ADDR, ip_bytes(a) + struct.pack("!II", 0, 0)) for a in addrs))


def frame6(guest, body, src=None, dst="ff02::1:2", **udp):
    src = src or guest.ll
    packet = wire.ip6(src, dst, wire.UDP, wire.udp(src, dst, 546, 547, body, **udp), hops=1)
    return wire.eth("33:33:00:01:00:02", guest.mac, wire.ETH_IP6, packet)


def options6(raw):
    """A list of (code, bytes); strict."""
    out, at = [], 0
    while at < len(raw):
        need(at + 4 <= len(raw), "a DHCPv6 option is cut")
        code, length = struct.unpack("!HH", raw[at:at + 4])
        need(at + 4 + length <= len(raw), "DHCPv6 option %d overruns", code)
        out.append((code, raw[at + 4:at + 4 + length]))
        at += 4 + length
    return out


class Answer6:
    """A DHCPv6 server's message. addrs: {address: (preferred, valid)} of all IAs."""

    def __init__(self, got):
        self.frame = got
        self.kind, self.xid = got.data[0], int.from_bytes(got.data[1:4], "big")
        self.list = options6(got.data[4:])
        self.options = dict(self.list)
        self.addrs, self.ia_status, self.iaids = {}, {}, []
        for code, raw in self.list:
            if code == IA_NA:
                self._take_ia(raw)
        raw = self.options.get(STATUS)
        self.status = struct.unpack("!H", raw[:2])[0] if raw else None

    def _take_ia(self, raw):
        iaid, self.t1, self.t2 = struct.unpack("!III", raw[:12])
        self.iaids.append(iaid)
        for code, body in options6(raw[12:]):
            if code == IA_ADDR:
                self.addrs[ip_text(body[:16])] = struct.unpack("!II", body[16:24])
            if code == STATUS:
                self.ia_status[iaid] = struct.unpack("!H", body[:2])[0]


def is_answer6(xid):
    return lambda f: f.kind == "udp" and f.dport == 546 and f.data[1:4] == xid.to_bytes(3, "big")


def send6(guest, kind, options, client=True, **fields):
    """Sends a message; returns its transaction id."""
    xid = random.getrandbits(24)
    head = bytes((kind,)) + xid.to_bytes(3, "big")
    mine = option6(CLIENT_ID, duid(guest)) if client else b""
    guest.send(frame6(guest, head + mine + option6(8, b"\0\0") + options, **fields))
    return xid


def ask6(guest, kind, options, timeout=10, **fields):
    xid = send6(guest, kind, options, **fields)
    answer = Answer6(guest.expect(is_answer6(xid), "DHCPv6 answer", timeout))
    need(answer.options.get(SERVER_ID), "no server identifier")
    need(answer.options.get(CLIENT_ID) == (duid(guest) if fields.get("client", True) else None),
         "not our client identifier")
    return answer
