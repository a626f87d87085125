# SPDX-License-Identifier: Apache-2.0
"""Frames as bytes and back: Ethernet, ARP, IPv4, IPv6, TCP, UDP, ICMP, ICMPv6.

Builders take every field that a test may want to falsify. parse() is strict: it raises WireError for any
length or checksum that is not right, as all that the daemon sends must be right.
"""
import socket
import struct

ETH_ARP, ETH_IP4, ETH_IP6 = 0x0806, 0x0800, 0x86DD
ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128
BROADCAST = "ff:ff:ff:ff:ff:ff"
OPT_MSS, OPT_WSCALE, OPT_SACK_OK, OPT_SACK, OPT_TS = 2, 3, 4, 5, 8


class WireError(AssertionError):
    """A frame that no correct station would send."""


def mac_bytes(mac):
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(raw):
    return raw.hex(":")


def ip_bytes(addr):
    return socket.inet_pton(socket.AF_INET6 if ":" in addr else socket.AF_INET, addr)


def ip_text(raw):
    return socket.inet_ntop(socket.AF_INET6 if len(raw) == 16 else socket.AF_INET, raw)


def checksum(data):
    """The Internet checksum (RFC 1071): a sum in one's complement is a remainder by 0xffff."""
    if len(data) % 2:
        data += b"\0"
    total = int.from_bytes(data, "big")
    folded = total % 0xFFFF or (0xFFFF if total else 0)
    return ~folded & 0xFFFF


def pseudo(src, dst, proto, length):
    """The pseudo header of TCP, UDP and ICMPv6."""
    if ":" in src:
        return ip_bytes(src) + ip_bytes(dst) + struct.pack("!IHBB", length, 0, 0, proto)
    return ip_bytes(src) + ip_bytes(dst) + struct.pack("!BBH", 0, proto, length)


def eth(dst, src, ethertype, payload):
    return mac_bytes(dst) + mac_bytes(src) + struct.pack("!H", ethertype) + payload


def arp(op, sha, spa, tha, tpa):
    return struct.pack("!HHBBH", 1, ETH_IP4, 6, 4, op) + mac_bytes(sha) + ip_bytes(spa) + \
        mac_bytes(tha) + ip_bytes(tpa)


def ip4(src, dst, proto, payload, ident=0, ttl=64, tos=0, flags=0, offset=0, options=b"",
        ihl=None, total=None, version=4, wrong_checksum=False):
    """offset is in bytes; flags: 2 is DF, 1 is MF."""
    ihl = 5 + len(options) // 4 if ihl is None else ihl
    total = 20 + len(options) + len(payload) if total is None else total
    header = struct.pack("!BBHHHBBH", version << 4 | ihl, tos, total, ident, flags << 13 | offset // 8,
                         ttl, proto, 0) + ip_bytes(src) + ip_bytes(dst) + options
    value = checksum(header) ^ (0x5555 if wrong_checksum else 0)
    return header[:10] + struct.pack("!H", value) + header[12:] + payload


def ip6(src, dst, proto, payload, hops=64, tclass=0, label=0, length=None, version=6):
    length = len(payload) if length is None else length
    return struct.pack("!IHBB", version << 28 | tclass << 20 | label, length, proto, hops) + \
        ip_bytes(src) + ip_bytes(dst) + payload


def ip(src, dst, proto, payload, **fields):
    return (ip6 if ":" in src else ip4)(src, dst, proto, payload, **fields)


def tcp(src, dst, sport, dport, seq, ack, flags, window=65535, options=b"", data=b"", urgent=0,
        doff=None, accurate_ecn=False, wrong_checksum=False):
    options += b"\1" * (-len(options) % 4)
    doff = 5 + len(options) // 4 if doff is None else doff
    segment = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF,
                          doff << 4 | accurate_ecn, flags, window, 0, urgent) + options + data
    value = checksum(pseudo(src, dst, TCP, len(segment)) + segment) ^ (0x5555 if wrong_checksum else 0)
    return segment[:16] + struct.pack("!H", value) + segment[18:]


def udp(src, dst, sport, dport, data, length=None, no_checksum=False, wrong_checksum=False):
    length = 8 + len(data) if length is None else length
    header = struct.pack("!HHHH", sport, dport, length, 0)
    value = checksum(pseudo(src, dst, UDP, 8 + len(data)) + header + data) or 0xFFFF
    value = 0 if no_checksum else value ^ (0x5555 if wrong_checksum else 0)
    return header[:6] + struct.pack("!H", value) + data


def icmp(kind, code, rest, data=b"", wrong_checksum=False):
    """rest: the four bytes after the checksum."""
    message = struct.pack("!BBH", kind, code, 0) + rest + data
    value = checksum(message) ^ (0x5555 if wrong_checksum else 0)
    return message[:2] + struct.pack("!H", value) + message[4:]


def icmp6(src, dst, kind, code, rest, data=b"", wrong_checksum=False):
    message = struct.pack("!BBH", kind, code, 0) + rest + data
    value = checksum(pseudo(src, dst, ICMP6, len(message)) + message)
    value ^= 0x5555 if wrong_checksum else 0
    return message[:2] + struct.pack("!H", value) + message[4:]


def opt_mss(mss):
    return struct.pack("!BBH", OPT_MSS, 4, mss)


def opt_wscale(shift):
    return struct.pack("!BBB", OPT_WSCALE, 3, shift)


def opt_timestamps(value, echo):
    return struct.pack("!BBII", OPT_TS, 10, value & 0xFFFFFFFF, echo & 0xFFFFFFFF)


def opt_sack(*blocks):
    return struct.pack("!BB", OPT_SACK, 2 + 8 * len(blocks)) + \
        b"".join(struct.pack("!II", a & 0xFFFFFFFF, b & 0xFFFFFFFF) for a, b in blocks)


SACK_OK = bytes((OPT_SACK_OK, 2))


def need(condition, what, *args):
    if not condition:
        raise WireError(what % args if args else what)


def tcp_options(raw):
    """Decodes TCP options into {kind: bytes}; strict."""
    options, at = {}, 0
    while at < len(raw):
        kind = raw[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        need(at + 1 < len(raw) and 2 <= raw[at + 1] <= len(raw) - at, "TCP option %d overruns", kind)
        options[kind] = raw[at + 2:at + raw[at + 1]]
        at += raw[at + 1]
    return options


class Frame:
    """One parsed frame. Absent layers leave their fields None; kind is arp, tcp, udp, icmp, icmp6 or fragment."""

    def __init__(self, raw):
        self.raw = raw
        self.kind = None
        self.src = self.dst = self.proto = self.data = None
        self.sport = self.dport = None
        self.type = self.code = None
        self.offset = 0
        self.more = False
        need(len(raw) >= 14, "a frame of %d bytes", len(raw))
        self.eth_dst, self.eth_src = mac_text(raw[:6]), mac_text(raw[6:12])
        need(not raw[6] & 1, "a group address as Ethernet source")
        self.ethertype, = struct.unpack("!H", raw[12:14])
        layer = {ETH_ARP: self._arp, ETH_IP4: self._ip4, ETH_IP6: self._ip6}.get(self.ethertype)
        need(layer is not None, "EtherType %#06x", self.ethertype)
        layer(raw[14:])

    def _arp(self, raw):
        need(len(raw) >= 28, "a short ARP packet")
        need(raw[:6] == struct.pack("!HHBB", 1, ETH_IP4, 6, 4), "a malformed ARP packet")
        self.kind = "arp"
        self.op, = struct.unpack("!H", raw[6:8])
        self.sha, self.src = mac_text(raw[8:14]), ip_text(raw[14:18])
        self.tha, self.dst = mac_text(raw[18:24]), ip_text(raw[24:28])

    def _ip4(self, raw):
        need(len(raw) >= 20, "a short IPv4 header")
        vihl, self.tos, total, self.ident, frag, self.ttl, self.proto = struct.unpack("!BBHHHBB", raw[:10])
        ihl = (vihl & 15) * 4
        need(vihl >> 4 == 4 and 20 <= ihl <= len(raw), "a wrong IPv4 header length")
        need(total == len(raw) or (total < len(raw) <= 46 and not any(raw[total:])),
             "IPv4 says %d bytes where %d are", total, len(raw))
        need(checksum(raw[:ihl]) == 0, "a wrong IPv4 header checksum")
        need(self.ttl > 0, "a TTL of 0")
        self.src, self.dst = ip_text(raw[12:16]), ip_text(raw[16:20])
        self.df = bool(frag & 0x4000)
        self._fragment_or_l4(raw[ihl:total], (frag & 0x1FFF) * 8, bool(frag & 0x2000))

    def _ip6(self, raw):
        need(len(raw) >= 40, "a short IPv6 header")
        first, length, self.proto, self.ttl = struct.unpack("!IHBB", raw[:8])
        need(first >> 28 == 6, "an IPv6 header of another version")
        need(length == len(raw) - 40, "IPv6 says %d bytes where %d are", length, len(raw) - 40)
        need(self.ttl > 0, "a hop limit of 0")
        self.tos = first >> 20 & 0xFF
        self.src, self.dst = ip_text(raw[8:24]), ip_text(raw[24:40])
        body, offset, more = raw[40:], 0, False
        while self.proto in (0, 44, 60):
            need(len(body) >= 8, "a short IPv6 extension header")
            if self.proto == 44:
                self.proto, _, frag, self.ident = struct.unpack("!BBHI", body[:8])
                offset, more, body = frag & 0xFFF8, bool(frag & 1), body[8:]
            else:
                self.proto, body = body[0], body[8 * (body[1] + 1):]
        self._fragment_or_l4(body, offset, more)

    def _fragment_or_l4(self, body, offset, more):
        self.offset, self.more = offset, more
        if offset or more:
            need(not more or len(body) % 8 == 0, "a fragment that is no multiple of 8 bytes")
            self.kind, self.data = "fragment", body
            return
        self.l4(body)

    def l4(self, body):
        """Parses a whole datagram's payload."""
        layer = {TCP: self._tcp, UDP: self._udp, ICMP: self._icmp, ICMP6: self._icmp6}.get(self.proto)
        need(layer is not None, "IP protocol %d", self.proto)
        layer(body)

    def _sum_ok(self, body):
        return checksum(pseudo(self.src, self.dst, self.proto, len(body)) + body) == 0

    def _tcp(self, raw):
        need(len(raw) >= 20, "a short TCP header")
        self.kind = "tcp"
        (self.sport, self.dport, self.seq, self.ack, doff, self.flags, self.window, _,
         self.urgent) = struct.unpack("!HHIIBBHHH", raw[:20])
        doff = (doff >> 4) * 4
        need(20 <= doff <= len(raw), "a wrong TCP data offset")
        need(self._sum_ok(raw), "a wrong TCP checksum")
        self.options = tcp_options(raw[20:doff])
        self.data = raw[doff:]

    def _udp(self, raw):
        need(len(raw) >= 8, "a short UDP header")
        self.kind = "udp"
        self.sport, self.dport, length, value = struct.unpack("!HHHH", raw[:8])
        need(length == len(raw), "UDP says %d bytes where %d are", length, len(raw))
        need(self._sum_ok(raw) if value else ":" not in self.src, "a wrong UDP checksum")
        self.data = raw[8:]

    def _icmp_common(self, kind, raw):
        need(len(raw) >= 8, "a short ICMP header")
        self.kind = kind
        self.type, self.code = raw[0], raw[1]
        self.rest, self.data = raw[4:8], raw[8:]
        self.echo_id, self.echo_seq = struct.unpack("!HH", self.rest)

    def _icmp(self, raw):
        need(checksum(raw) == 0, "a wrong ICMP checksum")
        self._icmp_common("icmp", raw)

    def _icmp6(self, raw):
        need(self._sum_ok(raw), "a wrong ICMPv6 checksum")
        self._icmp_common("icmp6", raw)
        if 133 <= self.type <= 137:
            need(self.ttl == 255, "an NDP message with hop limit %d", self.ttl)

    def __str__(self):
        parts = [self.kind or "?", "%s > %s" % (self.src, self.dst)]
        if self.kind == "tcp":
            names = "".join(n for n, bit in zip("FSRPAUEC", (1, 2, 4, 8, 16, 32, 64, 128))
                            if self.flags & bit)
            parts.append("%d > %d [%s] seq %d ack %d win %d len %d" % (
                self.sport, self.dport, names, self.seq, self.ack, self.window, len(self.data)))
        elif self.kind == "udp":
            parts.append("%d > %d len %d" % (self.sport, self.dport, len(self.data)))
        elif self.kind in ("icmp", "icmp6"):
            parts.append("type %d code %d len %d" % (self.type, self.code, len(self.data)))
        elif self.kind == "fragment":
            parts.append("offset %d len %d" % (self.offset, len(self.data)))
        return " ".join(parts)
