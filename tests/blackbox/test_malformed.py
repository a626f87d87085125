#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Hostile frames: every header cut at every byte, every length that lies, every byte changed. The daemon lives on."""
import os
import random
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import dhcp
import rawguest
import wire
from netns import FAR4, FAR6, GW4, HOST4, HOST6
from suite import main, rows, test
from wire import ACK, ICMP, ICMP6, PSH, SYN, TCP, UDP


def templates(guest):
    """One good frame of each kind: (name, frame, bytes of headers)."""
    opts = wire.opt_mss(1460) + wire.opt_wscale(7) + b"\1" + wire.SACK_OK + wire.opt_timestamps(1, 0) + \
        wire.opt_sack((5, 9))
    ext = b"\x2b\0\1\4\0\0\0\0" + b"\x3c\0\0\0\0\0\0\0" + b"\x2c\0\1\4\0\0\0\0" + \
        struct.pack("!BBHI", TCP, 0, 0, 7)
    syn6 = wire.tcp(HOST6, FAR6, 1, 9, 1, 0, SYN, options=opts)
    body = dhcp.message(guest.mac, 1, options=dhcp.option(55, b"\1\3\6") + dhcp.option(61, b"\1abcdef") +
                        dhcp.option(81, b"\0\0\0vm"), pad=False)
    body6 = b"\1\1\2\3" + dhcp.option6(1, dhcp.duid(guest)) + dhcp.ia_na(1, [HOST6]) + dhcp.option6(6, b"\0\x17") + \
        dhcp.option6(39, b"\0\2vm\0")
    rs = wire.icmp6(guest.ll, "ff02::2", 133, 0, bytes(4), b"\1\1" + wire.mac_bytes(guest.mac))
    embedded = wire.ip4(HOST4, FAR4, UDP, wire.udp(HOST4, FAR4, 5, 6, b"abcdefgh"))
    embedded6 = wire.ip6(HOST6, FAR6, UDP, wire.udp(HOST6, FAR6, 5, 6, b"abcdefgh"))
    return {
        "ARP": guest.eth(wire.ETH_ARP, wire.arp(1, guest.mac, HOST4, "00:00:00:00:00:00", GW4)),
        "IPv4 with options": guest.udp(FAR4, 9, b"data", options=b"\x07\x0b\4" + bytes(9)),
        "IPv6 with extension headers": guest.ip(FAR6, 0, ext + syn6),
        "TCP with options": guest.tcp(FAR4, 9, 1, 1, 0, SYN, options=opts),
        "TCP over IPv6": guest.tcp(FAR6, 9, 2, 1, 1, ACK | PSH, options=opts, data=b"data"),
        "UDP": guest.udp(FAR4, 9, b"data"),
        "UDP over IPv6": guest.udp(FAR6, 9, b"data"),
        "ICMP echo": guest.echo(FAR4, 1, 2, b"data"),
        "ICMPv6 echo": guest.echo(FAR6, 1, 2, b"data"),
        "an ICMP error": guest.ip(FAR4, ICMP, wire.icmp(3, 3, bytes(4), embedded)),
        "an ICMPv6 error": guest.ip(FAR6, ICMP6, wire.icmp6(HOST6, FAR6, 1, 4, bytes(4), embedded6)),
        "DHCP": dhcp.frame(guest, body),
        "DHCPv6": dhcp.frame6(guest, body6),
        "a neighbour solicitation": guest.solicitation("2001:db8::77"),
        "a router solicitation": guest.ip("ff02::2", ICMP6, rs, hops=255),
        "an IPv4 fragment": guest.ip(FAR4, UDP, b"x" * 64, ident=3, flags=1, offset=64),
        "an IPv6 fragment": guest.ip(FAR6, 44, struct.pack("!BBHI", UDP, 0, 65, 9) + b"x" * 64),
        "IGMP": guest.ip("224.0.0.22", 2, b"\x22\0\0\0\0\0\0\1\4\0\0\0\xef\1\2\3"),
        "MLD": guest.ip("ff02::16", 0, b"\x3a\0\5\2\0\0\1\0" + wire.icmp6(
            guest.ll, "ff02::16", 143, 0, b"\0\0\0\1", b"\4\0\0\0" + wire.ip_bytes("ff05::1234")), hops=1),
    }


KINDS = ("ARP", "IPv4 with options", "IPv6 with extension headers", "TCP with options", "TCP over IPv6", "UDP",
         "UDP over IPv6", "ICMP echo", "ICMPv6 echo", "an ICMP error", "an ICMPv6 error", "DHCP", "DHCPv6",
         "a neighbour solicitation", "a router solicitation", "an IPv4 fragment", "an IPv6 fragment", "IGMP", "MLD")


def refit(frame):
    """Has the IP header's length and checksum fit a frame that was cut."""
    raw = bytearray(frame)
    if len(raw) < 34:
        return bytes(raw)
    if raw[12:14] == b"\x08\0":
        raw[16:18] = struct.pack("!H", len(raw) - 14)
        ihl = min((raw[14] & 15) * 4, len(raw) - 14)
        raw[24:26] = b"\0\0"
        raw[24:26] = struct.pack("!H", wire.checksum(bytes(raw[14:14 + ihl])))
    elif raw[12:14] == b"\x86\xdd" and len(raw) >= 54:
        raw[18:20] = struct.pack("!H", len(raw) - 54)
    return bytes(raw)


def survive(case, guest):
    """The daemon still does its work for this guest."""
    guest.pump(0.1)
    guest.backlog.clear()
    guest.alive()
    server = case.net.remote.udp(FAR4)
    guest.send(guest.udp(FAR4, server.getsockname()[1], b"fine", sport=44444))
    assert server.recv(100) == b"fine"
    server.close()


@rows(*(("%s cut at every byte is survived" % kind, kind) for kind in KINDS))
def _(case, kind):
    guest = case.joined()
    frame = templates(guest)[kind]
    for n in range(14, len(frame)):
        guest.send(frame[:n], refit(frame[:n]))
    survive(case, guest)


@rows(*(("%s with any byte changed is survived" % kind, kind) for kind in KINDS))
def _(case, kind):
    guest = case.joined()
    frame = templates(guest)[kind]
    guest.answering = False
    for at in range(12, min(len(frame), 500)):
        frames = []
        for value in (0, 1, 0x7F, 0x80, 0xFF, frame[at] ^ 1, frame[at] ^ 0x10):
            changed = frame[:at] + bytes((value,)) + frame[at + 1:]
            frames.append(changed)
            if 14 <= at < 34 and frame[12:14] == b"\x08\0":
                header = bytearray(changed[14:34])
                header[10:12] = b"\0\0"
                ihl = (header[0] & 15) * 4
                whole = bytes(header) + changed[34:14 + max(ihl, 20)]
                header[10:12] = struct.pack("!H", wire.checksum(whole[:max(ihl, 20)]))
                frames.append(changed[:14] + bytes(header) + changed[34:])
        guest.send(*frames)
        guest.pump(0)
    guest.answering = True
    survive(case, guest)


def dropped_udp(case, make):
    """The frame that make gives for a port must not reach the remote; a good one after it must."""
    guest = case.joined()
    for addr in (FAR4, FAR6):
        server = case.net.remote.udp(addr)
        port = server.getsockname()[1]
        frame = make(guest, addr, port)
        if frame is None:
            continue
        guest.send(frame, guest.udp(addr, port, b"fine"))
        assert server.recv(100) == b"fine", "the frame was let through"
        server.close()


@rows(("an IPv4 total length past the frame is dropped", {"total": 2000}), ("an IPv4 total length of 19 is dropped",
                                                                           {"total": 19}),
      ("an IPv4 total length of 0 is dropped", {"total": 0}), ("an IPv4 header length of 4 words is dropped", {"ihl": 4}),
      ("an IPv4 header length of 0 is dropped", {"ihl": 0}),
      ("an IPv4 header length past the packet is dropped", {"ihl": 15}),
      ("a wrong IPv4 header checksum is dropped", {"wrong_checksum": True}),
      ("version 5 in an IPv4 frame is dropped", {"version": 5}), ("version 6 in an IPv4 frame is dropped", {"version": 6}))
def _(case, fields):
    dropped_udp(case, lambda g, a, p: None if ":" in a else g.udp(a, p, b"bad!", **fields))


@rows(("an IPv6 payload length past the frame is dropped", {"length": 2000}),
      ("version 4 in an IPv6 frame is dropped", {"version": 4}))
def _(case, fields):
    dropped_udp(case, lambda g, a, p: g.udp(a, p, b"bad!", **fields) if ":" in a else None)


def chained(headers):
    """A chain of IPv6 extension headers before a datagram."""
    return lambda g, a, p: g.ip(a, headers[0], headers[1] + wire.udp(HOST6, a, 40000, p, b"bad!")) if ":" in a else None


@rows(("a hop-by-hop header that overruns is dropped", (0, b"\x11\xff\0\0\0\0\0\0")),
      ("an option in a destination header that overruns is survived", (60, b"\x3b\0\1\xff\0\0\0\0")),
      ("a routing header with segments left is dropped", (43, b"\x11\0\0\1\0\0\0\0")),
      ("no next header carries nothing", (59, b"")), ("an unknown extension header is dropped", (253, b"\x11\0\0\0\0\0\0\0")),
      ("a hop-by-hop header that is not first is dropped", (60, b"\0\0\1\4\0\0\0\0" + b"\x11\0\1\4\0\0\0\0")))
def _(case, headers):
    dropped_udp(case, chained(headers))


@test
def a_chain_of_a_thousand_extension_headers_is_survived(case):
    guest = case.joined()
    chain = b"\x3c\0\1\4\0\0\0\0" * 1000 + b"\x11\0\1\4\0\0\0\0"
    guest.send(guest.ip(FAR6, 60, chain + wire.udp(HOST6, FAR6, 1, 9, b"x")))
    survive(case, guest)


def send_by_stations(case, dst, src):
    """Sends a datagram between these two stations, and a good one after it. Returns what arrives first."""
    guest = case.joined()
    server = case.net.remote.udp(FAR4)
    port = server.getsockname()[1]
    packet = wire.ip4(HOST4, FAR4, UDP, wire.udp(HOST4, FAR4, 40000, port, b"odd!"))
    guest.send(guest.eth(wire.ETH_IP4, packet, dst=dst, src=src), guest.udp(FAR4, port, b"fine"))
    first = server.recv(100)
    guest.alive()
    return first


@test
def a_group_source_address_is_dropped(case):
    assert send_by_stations(case, None, "01:00:5e:00:00:01") == b"fine"


# The link has two ends only: whatever station a guest writes to, and from whichever of its own, is meant for us.
@rows(("a frame for any station is carried", "02:00:00:00:00:77", None),
      ("a frame from any station is carried", None, "02:00:00:00:00:78"))
def _(case, dst, src):
    assert send_by_stations(case, dst, src) == b"odd!"


@rows(("an unknown EtherType is dropped", 0x88CC), ("a VLAN tag is dropped", 0x8100), ("an 802.3 length is dropped", 46))
def _(case, ethertype):
    guest = case.joined()
    guest.send(guest.eth(ethertype, bytes(46)))
    survive(case, guest)


@rows(("a TCP data offset of 4 words is dropped", 4), ("a TCP data offset of 0 is dropped", 0),
      ("a TCP data offset past the segment is dropped", 15))
def _(case, doff):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    guest.send(guest.tcp(FAR4, server.getsockname()[1], 30000, 1, 0, SYN, doff=doff))
    guest.expect_none(lambda f: f.kind == "tcp" and f.flags & SYN, "SYN-ACK")
    guest.alive()


@rows(("an IP protocol that is not translated is dropped", 47), ("SCTP is dropped", 132), ("protocol 255 is dropped", 255))
def _(case, proto):
    guest = case.joined()
    guest.send(guest.ip(FAR4, proto, bytes(40)), guest.ip(FAR6, proto, bytes(40)))
    survive(case, guest)


@rows(*(("random frames are survived, seed %d" % seed, seed) for seed in range(4)))
def _(case, seed):
    guest = case.joined()
    rng = random.Random(seed)
    good = list(templates(guest).values())
    for _ in range(60):
        frames = []
        for _ in range(100):
            frame = bytearray(rng.choice(good))
            for _ in range(rng.randint(1, 6)):
                frame[rng.randrange(12, len(frame))] = rng.getrandbits(8)
            frame = frame[:rng.randint(14, len(frame))] if rng.random() < 0.3 else frame
            frames.append(refit(bytes(frame)) if rng.random() < 0.5 else bytes(frame))
        guest.answering = False
        guest.send(*frames)
        guest.pump(0)
    guest.answering = True
    survive(case, guest)


@rows(*(("random bytes as stream are survived, seed %d" % seed, seed) for seed in range(4)))
def _(case, seed):
    case.start()
    rng = random.Random(seed)
    for _ in range(20):
        guest = case.guest(resolve=False)
        try:
            guest.send_stream(struct.pack("!I", rng.choice((14, 60, 1514, 65549))) + rng.randbytes(4000))
        except rawguest.Gone:
            pass
        case.guests.pop().close()
    case.guest().alive()


if __name__ == "__main__":
    sys.exit(main())
