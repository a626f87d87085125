#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""ARP: answered for every address but the guest's own; probes and announcements never."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import wire
from netns import FAR4, GW4, HOST4
from suite import main, rows, test

NOBODY = "00:00:00:00:00:00"


def ask(guest, target, sender=None, dst=wire.BROADCAST, op=1):
    guest.send(guest.eth(wire.ETH_ARP, wire.arp(op, guest.mac, sender or guest.ip4, NOBODY, target), dst=dst))


def is_reply(frame):
    return frame.kind == "arp"


@rows(("the gateway's address is answered", GW4), ("a neighbour's address is answered", "192.0.2.77"),
      ("a far address is answered", FAR4))
def _(case, target):
    guest = case.joined()
    guest.backlog.clear()
    ask(guest, target)
    reply = guest.expect(is_reply, "reply")
    assert (reply.op, reply.src, reply.dst) == (2, target, HOST4), str(reply)
    assert reply.tha == guest.mac and reply.eth_dst == guest.mac, "the reply is not for the guest's station"
    assert reply.sha == reply.eth_src, "the sender in the packet is not the frame's"


@rows(("a probe (RFC 5227) is not answered", HOST4, "0.0.0.0"),
      ("a probe for another address is not answered", "192.0.2.77", "0.0.0.0"),
      ("an announcement is not answered", HOST4, HOST4),
      ("an announcement of another address is not answered", "192.0.2.78", "192.0.2.78"),
      ("the guest's own address is not answered", HOST4, "192.0.2.2"))
def _(case, target, sender):
    guest = case.joined()
    guest.answering = False
    guest.backlog.clear()
    ask(guest, target, sender)
    guest.expect_none(is_reply, "a reply")


@test
def a_reply_from_the_guest_is_not_answered(case):
    guest = case.joined()
    guest.backlog.clear()
    ask(guest, GW4, op=2)
    guest.expect_none(is_reply, "a reply")


@test
def a_unicast_request_is_answered(case):
    guest = case.joined()
    guest.backlog.clear()
    ask(guest, GW4, dst=guest.gw_mac)
    guest.expect(is_reply, "reply")


@rows(("another hardware type is ignored", 0, b"\0\6"), ("another protocol type is ignored", 2, b"\x08\x06"),
      ("a wrong hardware length is ignored", 4, b"\x08"), ("a wrong protocol length is ignored", 5, b"\x10"))
def _(case, at, value):
    guest = case.joined()
    guest.backlog.clear()
    body = bytearray(wire.arp(1, guest.mac, HOST4, NOBODY, GW4))
    body[at:at + len(value)] = value
    guest.send(guest.eth(wire.ETH_ARP, bytes(body), dst=wire.BROADCAST))
    guest.expect_none(is_reply, "a reply")


@test
def the_daemons_ethernet_address_is_what_the_option_says(case):
    guest = case.joined("-M", "02:00:00:00:00:99")
    assert guest.resolve(GW4) == "02:00:00:00:00:99"


@test
def ipv6_only_does_not_answer_arp(case):
    case.start("-6")
    guest = case.guest(resolve=False)
    ask(guest, GW4)
    guest.expect_none(is_reply, "a reply")


@test
def a_padded_request_is_answered(case):
    guest = case.joined()
    guest.backlog.clear()
    body = wire.arp(1, guest.mac, HOST4, NOBODY, GW4) + bytes(18)
    guest.send(guest.eth(wire.ETH_ARP, body, dst=wire.BROADCAST))
    guest.expect(is_reply, "reply")


if __name__ == "__main__":
    sys.exit(main())
