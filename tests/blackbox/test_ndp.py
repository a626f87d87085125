#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""NDP as RFC 4861, 4862 and 8106 have it."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import dhcp
import wire
from netns import DNS6, FAR6, GW6, HOST6, Net
from suite import main, rows, test
from wire import ICMP6, ip_bytes, ip_text

ROUTERS = "ff02::2"
UNSPECIFIED = "::"


def joined(case, *options):
    case.start(*options)
    guest = case.guest(resolve=False)
    guest.pump(0.05)
    guest.backlog.clear()
    return guest


def solicit(guest, src=None, options=None, hops=255, code=0, cut=0, **fields):
    """A router solicitation."""
    src = src or guest.ll
    if options is None:
        options = b"" if src == UNSPECIFIED else b"\1\1" + wire.mac_bytes(guest.mac)
    body = wire.icmp6(src, ROUTERS, 133, code, b"\0" * 4, options, **fields)
    guest.send(wire.eth("33:33:00:00:00:02", guest.mac, wire.ETH_IP6,
                        wire.ip6(src, ROUTERS, ICMP6, body, hops=hops)))


def is_ra(frame):
    return frame.kind == "icmp6" and frame.type == 134


def is_na(frame):
    return frame.kind == "icmp6" and frame.type == 136


class Ra:
    """A router advertisement taken apart. options: {type: [bodies]}."""

    def __init__(self, frame):
        self.frame = frame
        self.hop_limit, self.flags, self.lifetime = struct.unpack("!BBH", frame.rest)
        self.options, raw, at = {}, frame.data[8:], 0
        while at < len(raw):
            assert raw[at + 1] and at + 8 * raw[at + 1] <= len(raw), "an option of the RA overruns"
            self.options.setdefault(raw[at], []).append(raw[at + 2:at + 8 * raw[at + 1]])
            at += 8 * raw[at + 1]


def advertisement(guest, **fields):
    solicit(guest, **fields)
    return Ra(guest.expect(is_ra, "RA"))


@test
def a_solicitation_gets_an_advertisement_from_a_link_local_address(case):
    guest = joined(case)
    ra = advertisement(guest)
    assert ra.frame.src.startswith("fe80:"), ra.frame.src
    assert ra.frame.dst in (guest.ll, "ff02::1")
    assert ra.lifetime > 0 and ra.frame.code == 0


@test
def an_unspecified_source_gets_an_advertisement_to_all_nodes(case):
    ra = advertisement(joined(case), src=UNSPECIFIED)
    assert ra.frame.dst == "ff02::1" and ra.frame.eth_dst == "33:33:00:00:00:01"


@test
def the_prefix_is_the_hosts_and_autonomous(case):
    prefix = advertisement(joined(case)).options[3][0]
    length, flags, valid, preferred = struct.unpack("!BBII", prefix[:10])
    assert length == 64 and flags & 0x40, "not an autonomous /64"
    assert ip_text(prefix[14:30]) == "2001:db8::"
    assert 0 < preferred <= valid


@test
def the_mtu_and_the_source_link_layer_address_are_there(case):
    ra = advertisement(joined(case))
    assert struct.unpack("!HI", ra.options[5][0])[1] == 65520
    assert wire.mac_text(ra.options[1][0]) == ra.frame.eth_src


@test
def resolvers_and_search_list_are_there(case):
    ra = advertisement(joined(case))
    life, = struct.unpack("!I", ra.options[25][0][2:6])
    assert ip_text(ra.options[25][0][6:22]) == DNS6 and life > 0
    names = [n for n in dhcp.domains(ra.options[31][0][6:]) if n]
    assert names == ["example.org", "lab.example.org"]


@test
def no_dhcp_dns_leaves_resolvers_out(case):
    assert 25 not in advertisement(joined(case, "--no-dhcp-dns")).options


@test
def no_dhcp_search_leaves_the_search_list_out(case):
    assert 31 not in advertisement(joined(case, "--no-dhcp-search")).options


@test
def the_mtu_of_the_option_is_announced(case):
    assert struct.unpack("!HI", advertisement(joined(case, "-m", "1400")).options[5][0])[1] == 1400


@rows(("an MTU of 0 is not announced", "0"), ("an MTU that no IPv6 link has is not announced", "1279"))
def _(case, mtu):
    assert 5 not in advertisement(joined(case, "-m", mtu)).options


@rows(("a solicitation with hop limit 64 is ignored", {"hops": 64}),
      ("a solicitation with hop limit 254 is ignored", {"hops": 254}),
      ("a solicitation with a wrong checksum is ignored", {"wrong_checksum": True}),
      ("a solicitation with code 1 is ignored", {"code": 1}),
      ("a solicitation with an option of length 0 is ignored", {"options": b"\1\0abcdef"}),
      ("a solicitation with an option that overruns is ignored", {"options": b"\1\2abcdef"}),
      ("a solicitation from nowhere with a link-layer address is ignored",
       {"src": UNSPECIFIED, "options": b"\1\1abcdef"}))
def _(case, fields):
    guest = joined(case, "-q")
    first = len([f for f in guest.backlog if is_ra(f)])
    solicit(guest, **fields)
    guest.pump(0.3)
    got = [f for f in guest.backlog if is_ra(f)]
    assert all(f.dst == "ff02::1" for f in got[first:]) and len(got) - first <= 1, "it was answered"


@test
def an_unknown_option_is_skipped(case):
    assert advertisement(joined(case), options=b"\xf0\1abcdef")


@rows(("the router's address is answered", GW6), ("a neighbour is answered", "2001:db8::77"),
      ("a far address is answered", FAR6), ("another link-local address is answered", "fe80::99"))
def _(case, target):
    guest = joined(case)
    guest.send(guest.solicitation(target))
    na = guest.expect(is_na, "NA")
    assert ip_text(na.data[:16]) == target and na.dst == guest.ll
    assert na.rest[0] & 0x40, "not marked as solicited"
    assert na.data[16:18] == b"\2\1" and wire.mac_text(na.data[18:24]) == na.eth_src, "no link-layer address"


@test
def a_solicitation_sent_to_the_address_itself_is_answered(case):
    guest = joined(case)
    guest.send(guest.solicitation(GW6, dst=GW6))
    guest.expect(is_na, "NA")


def unanswered(guest, *frames):
    guest.send(*frames)
    guest.expect_none(is_na, "an advertisement")


@rows(("duplicate address detection is never answered", HOST6), ("detection for a link-local address is never answered",
                                                                "fe80::5054:ff:fe12:3456"),
      ("detection for another address is never answered", "2001:db8::77"))
def _(case, target):
    guest = joined(case)
    unanswered(guest, guest.solicitation(target, src=UNSPECIFIED, options=b""))


@test
def the_guests_own_address_is_never_answered(case):
    guest = joined(case)
    guest.answering = False
    unanswered(guest, guest.solicitation(HOST6, src=HOST6), guest.solicitation(guest.ll))


@rows(("a neighbour solicitation with hop limit 254 is ignored", {"hops": 254}),
      ("a neighbour solicitation with a wrong checksum is ignored", {"wrong_checksum": True}),
      ("a neighbour solicitation with an option of length 0 is ignored", {"options": b"\1\0abcdef"}),
      ("a neighbour solicitation with an option that overruns is ignored", {"options": b"\1\3abcdef"}))
def _(case, fields):
    guest = joined(case)
    unanswered(guest, guest.solicitation("2001:db8::77", **fields))


@test
def a_multicast_target_is_ignored(case):
    guest = joined(case)
    unanswered(guest, guest.solicitation("ff02::1", dst="ff02::1:ff00:1"))


@test
def a_solicitation_cut_short_is_ignored(case):
    guest = joined(case)
    whole = guest.solicitation("2001:db8::77", options=b"")
    for n in range(14 + 40, len(whole)):
        raw = bytearray(whole[:n])
        raw[18:20] = struct.pack("!H", n - 54)
        guest.send(bytes(raw))
    guest.expect_none(is_na, "an advertisement")


@rows(("advertisements from the guest are not answered", 136), ("router advertisements from the guest are not answered",
                                                                134), ("redirects from the guest are not answered", 137))
def _(case, kind):
    guest = joined(case)
    body = wire.icmp6(guest.ll, "ff02::1", kind, 0, b"\0" * 4, bytes(32))
    unanswered(guest, guest.ip("ff02::1", ICMP6, body, hops=255))


@rows(("no-ra sends no advertisement", ("--no-ra",)), ("no-ndp sends no advertisement", ("--no-ndp",)),
      ("ipv4-only sends no advertisement", ("-4",)))
def _(case, options):
    guest = joined(case, *options)
    solicit(guest)
    guest.expect_none(is_ra, "an RA")


@test
def no_ra_still_answers_neighbour_solicitations(case):
    guest = joined(case, "--no-ra")
    guest.send(guest.solicitation(GW6))
    guest.expect(is_na, "NA")


@test
def no_ndp_answers_no_neighbour_solicitation(case):
    guest = joined(case, "--no-ndp")
    unanswered(guest, guest.solicitation(GW6))


@test
def a_new_guest_gets_an_advertisement_unasked(case):
    guest = joined(case)
    guest.send(guest.solicitation(GW6))
    guest.expect(is_ra, "unsolicited RA", 20)


@test
def with_no_usable_interface_the_router_is_fe80_1(case):
    case.net = Net(offline=True)
    ra = advertisement(joined(case))
    assert ra.frame.src == "fe80::1"


if __name__ == "__main__":
    sys.exit(main())
