#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""ICMP and ICMPv6 echo through ping sockets."""
import os
import random
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import wire
from netns import FAR4, FAR6, GW4
from suite import both, main, rows, test

BIG = random.Random(6).randbytes(65507)


def is_reply(frame):
    return (frame.kind, frame.type) in (("icmp", 0), ("icmp6", 129))


def fragmented(guest, addr, rest, data):
    """An echo request in fragments."""
    if ":" in addr:
        message, proto = wire.icmp6(guest.source_for(addr), addr, 128, 0, rest, data), wire.ICMP6
    else:
        message, proto = wire.icmp(8, 0, rest, data), wire.ICMP
    return guest.fragments(addr, proto, message, 1480)


@both
def an_echo_keeps_identifier_sequence_and_payload(case, addr):
    guest = case.joined()
    guest.send(guest.echo(addr, 0x1234, 0x5678, b"payload"))
    reply = guest.expect(is_reply, "echo reply")
    assert (reply.echo_id, reply.echo_seq, reply.data) == (0x1234, 0x5678, b"payload")
    assert reply.src == addr and reply.code == 0


@both
def many_identifiers_are_kept_apart(case, addr):
    guest = case.joined()
    wanted = {(i * 321 & 0xFFFF, i) for i in range(1, 40)}
    guest.send(*(guest.echo(addr, ident, seq, b"%d" % ident) for ident, seq in wanted))
    got = set()
    for _ in wanted:
        reply = guest.expect(is_reply, "echo reply")
        assert reply.data == b"%d" % reply.echo_id
        got.add((reply.echo_id, reply.echo_seq))
    assert got == wanted


@both
def the_same_identifier_to_two_addresses_is_kept_apart(case, addr):
    other = "2001:db8:51::53" if ":" in addr else "198.51.100.53"
    guest = case.joined()
    guest.send(guest.echo(addr, 7, 1, b"a"), guest.echo(other, 7, 1, b"b"))
    got = {(f.src, f.data) for f in (guest.expect(is_reply, "echo reply") for _ in range(2))}
    assert got == {(addr, b"a"), (other, b"b")}


@rows(("an empty echo is answered (IPv4)", FAR4, 0), ("an empty echo is answered (IPv6)", FAR6, 0),
      ("an echo of 1 byte is answered", FAR4, 1), ("an echo of 9000 bytes is answered", FAR4, 9000),
      ("an echo of 65507 bytes is answered (IPv4)", FAR4, 65507), ("an echo of 65507 bytes is answered (IPv6)", FAR6, 65507),
      ("an identifier of 0 is answered", FAR4, -1))
def _(case, addr, size):
    guest = case.joined()
    ident, data = (0, b"zero") if size < 0 else (9, BIG[:size])
    if size > 60000:
        guest.send(*fragmented(guest, addr, struct.pack("!HH", ident, 3), data))
    else:
        guest.send(guest.echo(addr, ident, 3, data))
    reply = guest.expect(is_reply, "echo reply")
    assert (reply.echo_id, reply.echo_seq) == (ident, 3)
    assert reply.data == data


@both
def a_fragmented_echo_is_answered(case, addr):
    guest, data = case.joined(), BIG[:20000]
    guest.send(*fragmented(guest, addr, struct.pack("!HH", 5, 6), data))
    assert guest.expect(is_reply, "echo reply").data == data


@both
def a_large_reply_is_fragmented_to_the_mtu(case, addr):
    guest = case.joined("-m", "1500")
    seen, parse = [], guest.reassemble
    guest.reassemble = lambda f: seen.append(len(f.raw)) or parse(f)
    guest.send(guest.echo(addr, 5, 1, BIG[:20000]))
    assert guest.expect(is_reply, "echo reply").data == BIG[:20000]
    assert max(seen) <= 1514


def router_ahead(case):
    """Makes the remote a router that has networks behind it."""
    remote = case.net.remote
    remote.sysctl("net.ipv4.ip_forward", 1)
    remote.sysctl("net.ipv6.conf.all.forwarding", 1)
    remote.batch("link add d0 type veth peer name d1\naddr add 203.0.113.1/24 dev d0\n"
                 "addr add 2001:db8:77::1/64 dev d0 nodad\nlink set d1 up\nlink set d0 up\n")


def echo_to(guest, addr, **fields):
    return guest.echo(addr, 99, 5, b"who is there", **fields)


def udp_to(guest, addr, **fields):
    return guest.udp(addr, 33434, b"who is there", sport=41000, **fields)


@rows(("an echo that ends at a router is told by that router (IPv4)", "203.0.113.2", echo_to),
      ("an echo that ends at a router is told by that router (IPv6)", "2001:db8:77::2", echo_to),
      ("a datagram that ends at a router is told by that router (IPv4)", "203.0.113.2", udp_to),
      ("a datagram that ends at a router is told by that router (IPv6)", "2001:db8:77::2", udp_to))
def _(case, addr, make):
    router_ahead(case)
    guest = case.joined()
    v6 = ":" in addr
    sent = make(guest, addr, **{"hops" if v6 else "ttl": 1})
    guest.send(sent)
    error = guest.expect(lambda f: (f.kind, f.type) == (("icmp6", 3) if v6 else ("icmp", 11)), "time exceeded", 10)
    assert (error.src, error.code) == ("2001:db8::1" if v6 else GW4, 0), str(error)
    head = 40 if v6 else 20
    quoted, original = error.data, sent[14:]
    at = slice(8, 40) if v6 else slice(12, 20)
    assert quoted[at] == original[at], "other addresses are quoted"
    # All but a checksum that the host's kernel made: that of UDP is 0 where it isn't known.
    assert quoted[head:head + 2] + quoted[head + 8:] == original[head:head + 2] + original[head + 8:]


def syn_to(guest, addr, **fields):
    return guest.tcp(addr, 80, 41000, 1, 0, wire.SYN, **fields)


ROUTES = {"absent": ("192.0.2.77", "2001:db8::77"), "unreachable": ("203.0.113.9", "2001:db9::9"),
          "prohibited": ("203.0.113.9", "2001:db9::9")}
CODES = {"absent": ({1}, {3}), "unreachable": ({1}, {3}), "prohibited": ({1, 13}, {1})}
ASKED = (("an echo", echo_to), ("a datagram", udp_to), ("a connection", syn_to))


@rows(*(("%s to a host that is %s is told (IPv%d)" % (name, why, 6 if v6 else 4), why, v6, make)
        for why in ROUTES for name, make in ASKED for v6 in (0, 1)))
def _(case, why, v6, make):
    host, remote, addr = case.net.host, case.net.remote, ROUTES[why][v6]
    if why == "absent":
        for version in ("ipv4", "ipv6"):
            host.sysctl("net.%s.neigh.h0.retrans_time_ms" % version, 100)
    elif why == "unreachable":
        host.batch("route add unreachable %s\n" % addr)
    else:
        remote.sysctl("net.ipv4.ip_forward", 1)
        remote.sysctl("net.ipv6.conf.all.forwarding", 1)
        remote.batch("route add prohibit %s\n" % addr)
    guest = case.joined()
    sent = make(guest, addr)
    guest.send(sent)
    error = guest.expect(lambda f: (f.kind, f.type) == (("icmp6", 1) if v6 else ("icmp", 3)), "unreachable", 10)
    assert error.code in CODES[why][v6], str(error)
    at, head = (slice(8, 40), 40) if v6 else (slice(12, 20), 20)
    assert error.data[at] == sent[14:][at] and error.data[head:head + 2] == sent[14:][head:head + 2], "another packet is quoted"


@test
def an_echo_with_ip_options_or_padding_is_answered(case):
    guest = case.joined()
    for fields in ({"options": b"\x94\4\0\0"}, {"options": b"\7\7\4\0\0\0\0\0"}, {"options": b"\1" * 40}, {}):
        guest.send(guest.echo(FAR4, 3, 4, b"odd", **fields) + b"\xa5" * 20)
        assert guest.expect(is_reply, "echo reply").data == b"odd"


@test
def an_echo_behind_extension_headers_is_answered(case):
    guest = case.joined()
    message = wire.icmp6(guest.ip6, FAR6, 128, 0, b"\0\3\0\4", b"odd")
    for proto, header in ((0, b"\x3a\0\1\4\0\0\0\0"), (60, b"\x3a\0\1\4\0\0\0\0"), (44, b"\x3a\0\0\0\0\0\0\7")):
        guest.send(guest.ip(FAR6, proto, header + message))
        assert guest.expect(is_reply, "echo reply").data == b"odd"


@test
def the_gateway_answers(case):
    guest = case.joined()
    guest.send(guest.echo(GW4, 1, 1, b"gw"))
    assert guest.expect(is_reply, "echo reply").src == GW4


@test
def the_link_local_router_answers(case):
    guest = case.joined()
    guest.send(guest.echo("fe80::1", 1, 1, b"gw"))
    assert guest.expect(is_reply, "echo reply").src == "fe80::1"


@rows(("an echo with a code other than 0 is harmless", wire.icmp(8, 1, b"\0\1\0\1", b"x")),
      ("a reply from the guest is harmless", wire.icmp(0, 0, b"\0\1\0\1", b"x")),
      ("a redirect from the guest is harmless", wire.icmp(5, 0, b"\1\2\3\4", bytes(28))),
      ("a timestamp request is harmless", wire.icmp(13, 0, b"\0\1\0\1", bytes(12))),
      ("an unknown type is harmless", wire.icmp(200, 9, b"\0\1\0\1")),
      ("an error about nothing is harmless", wire.icmp(3, 3, b"\0" * 4, bytes(28))),
      ("an error of 0 bytes is harmless", wire.icmp(3, 3, b"\0" * 4)))
def _(case, message):
    guest = case.joined()
    guest.send(guest.ip(FAR4, wire.ICMP, message))
    guest.send(guest.echo(FAR4, 1, 1, b"fine"))
    assert guest.expect(lambda f: is_reply(f) and f.data == b"fine", "echo reply")


@test
def no_icmp_answers_nothing(case):
    guest = case.joined("--no-icmp")
    guest.send(guest.echo(FAR4, 1, 1), guest.echo(FAR6, 1, 1))
    guest.expect_none(is_reply, "a reply")


@test
def a_forbidden_ping_socket_is_told_in_the_log(case):
    case.net.host.sysctl("net.ipv4.ping_group_range", "1 0")
    guest = case.joined()
    guest.send(guest.echo(FAR4, 1, 1))
    guest.pump(0.3)
    case.daemons[0].wait_log("ping_group_range", 5)
    guest.alive()


@test
def an_echo_that_nobody_answers_leaves_others_alone(case):
    case.net.host.batch("neigh add 192.0.2.99 lladdr 02:00:00:00:00:01 dev h0\n")
    guest = case.joined()
    guest.send(*(guest.echo("192.0.2.99", i, 1) for i in range(200)))
    guest.send(guest.echo(FAR4, 1, 1, b"alive"))
    assert guest.expect(is_reply, "echo reply").data == b"alive"


if __name__ == "__main__":
    sys.exit(main())
