#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""DHCP as RFC 2131 and its companions have it, message by message."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import dhcp
import wire
from dhcp import ACK, DECLINE, DISCOVER, INFORM, NAK, OFFER, RELEASE, REQUEST, ask, option
from netns import DNS4, FAR4, GW4, HOST4
from suite import main, rows, test
from wire import ip_bytes, ip_text

ALL = option(55, bytes((1, 3, 6, 12, 26, 51, 58, 59, 119, 121)))


def joined(case, *options):
    case.start(*options)
    return case.guest(resolve=False, ip4=None)


def lease(guest, options=ALL):
    """DISCOVER and REQUEST; returns the ACK."""
    offer = ask(guest, DISCOVER, options=options)
    return ask(guest, REQUEST, options=option(50, ip_bytes(offer.yiaddr)) + option(54, offer.options[54]) +
               options)


def request_for(addr, *more):
    return option(50, ip_bytes(addr)) + b"".join(more)


def nothing(guest, xid=None):
    guest.expect_none(dhcp.is_answer(xid), "an answer")


def send(guest, kind, src="0.0.0.0", dst="255.255.255.255", **fields):
    guest.send(dhcp.frame(guest, dhcp.message(guest.mac, kind, **fields), src=src, dst=dst))


@test
def discover_is_answered_by_an_offer_of_the_hosts_address(case):
    offer = ask(joined(case), DISCOVER, options=ALL)
    assert (offer.kind, offer.yiaddr, offer.hops) == (OFFER, HOST4, 0)
    assert offer.chaddr == case.guests[0].mac and offer.htype == 1 and offer.hlen == 6
    assert offer.server == offer.frame.src, "the server's identifier is not the sender's address"
    assert struct.unpack("!I", offer.options[51])[0] > 0, "no lease time"


@test
def request_is_acknowledged_with_what_was_asked_for(case):
    ack = lease(joined(case))
    assert (ack.kind, ack.yiaddr) == (ACK, HOST4)
    assert ip_text(ack.options[1]) == "255.255.255.0"
    assert ip_text(ack.options[3]) == GW4
    assert ip_text(ack.options[6][:4]) == DNS4
    assert struct.unpack("!H", ack.options[26])[0] == 65520
    assert dhcp.domains(ack.options[119]) == ["example.org", "lab.example.org"]


@test
def t1_and_t2_are_in_order_and_below_the_lease(case):
    ack = lease(joined(case))
    time, t1, t2 = (struct.unpack("!I", ack.options[i])[0] for i in (51, 58, 59))
    assert 0 < t1 < t2 < time or time == 0xFFFFFFFF


@test
def options_that_were_not_asked_for_are_left_out(case):
    ack = lease(joined(case, "--fqdn", "vm.example.org"), options=option(55, bytes((1, 3))))
    for code in (81, 119, 121):
        assert code not in ack.options, "option %d came unasked" % code


@test
def router_and_mask_come_without_a_parameter_list_too(case):
    ack = lease(joined(case), options=b"")
    assert ack.kind == ACK and 51 in ack.options and 54 in ack.options
    assert 81 not in ack.options


@test
def the_client_identifier_is_returned_as_rfc_6842_wants(case):
    identity = option(61, b"\xff\1\2\3\4\0\3\0\1abcdef")
    offer = ask(joined(case), DISCOVER, options=identity + ALL)
    assert offer.options.get(61) == identity[2:]


@test
def the_broadcast_flag_has_the_answer_broadcast(case):
    offer = ask(joined(case), DISCOVER, flags=0x8000)
    assert offer.frame.dst == "255.255.255.255" and offer.frame.eth_dst == "ff:ff:ff:ff:ff:ff"
    assert offer.flags == 0x8000


@test
def without_the_flag_the_answer_is_unicast_to_the_offered_address(case):
    guest = joined(case)
    offer = ask(guest, DISCOVER)
    assert offer.frame.dst == HOST4 and offer.frame.eth_dst == guest.mac


@test
def a_renewal_is_answered_to_the_clients_address(case):
    guest = joined(case)
    first = lease(guest)
    ack = ask(guest, REQUEST, ciaddr=HOST4, src=HOST4, dst=first.server, options=ALL)
    assert (ack.kind, ack.yiaddr, ack.frame.dst) == (ACK, HOST4, HOST4)


@test
def a_rebinding_by_broadcast_is_acknowledged(case):
    guest = joined(case)
    lease(guest)
    assert ask(guest, REQUEST, ciaddr=HOST4, src=HOST4, options=ALL).kind == ACK


@test
def a_reboot_with_the_right_address_is_acknowledged(case):
    assert ask(joined(case), REQUEST, options=request_for(HOST4, ALL)).kind == ACK


@rows(("a reboot with an address of another network gets NAK", "10.9.8.7", "0.0.0.0"),
      ("a reboot with another address of this network gets NAK", "192.0.2.200", "0.0.0.0"))
def _(case, wanted, src):
    nak = ask(joined(case), REQUEST, src=src, options=request_for(wanted))
    assert nak.kind == NAK and nak.yiaddr == "0.0.0.0" and 51 not in nak.options
    assert nak.server, "NAK without a server identifier"
    assert nak.frame.dst == "255.255.255.255", "NAK is not broadcast"


@test
def a_selection_of_another_address_gets_nak(case):
    guest = joined(case)
    offer = ask(guest, DISCOVER)
    nak = ask(guest, REQUEST, options=request_for("192.0.2.99", option(54, offer.options[54])))
    assert nak.kind == NAK


@test
def a_renewal_of_another_address_gets_nak(case):
    guest = joined(case)
    assert ask(guest, REQUEST, ciaddr="192.0.2.99", src="192.0.2.99").kind == NAK


@test
def a_request_for_another_server_is_ignored(case):
    guest = joined(case)
    send(guest, REQUEST, options=request_for(HOST4, option(54, ip_bytes("192.0.2.250"))))
    nothing(guest)


@test
def inform_gets_parameters_without_a_lease(case):
    guest = joined(case)
    ack = ask(guest, INFORM, ciaddr="192.0.2.44", src="192.0.2.44", options=ALL)
    assert (ack.kind, ack.yiaddr) == (ACK, "0.0.0.0")
    assert not {51, 58, 59} & set(ack.options), "a lease in the answer to INFORM"
    assert ack.frame.dst == "192.0.2.44", "the answer to INFORM is not sent to ciaddr"
    assert ip_text(ack.options[3]) == GW4


@rows(("decline is not answered", DECLINE), ("release is not answered", RELEASE), ("an offer is not answered", OFFER),
      ("an acknowledgement is not answered", ACK), ("message type 0 is not answered", 0x100),
      ("an unknown message type is not answered", 99))
def _(case, kind):
    guest = joined(case)
    offer = ask(guest, DISCOVER)
    kind = 0 if kind == 0x100 else kind
    send(guest, None, options=option(53, bytes((kind,))) + request_for(HOST4, option(54, offer.options[54])))
    nothing(guest)
    assert lease(guest).kind == ACK


@test
def after_decline_the_address_is_still_served(case):
    guest = joined(case)
    ack = lease(guest)
    send(guest, DECLINE, options=request_for(HOST4, option(54, ack.options[54])))
    assert lease(guest).kind == ACK


@test
def bootp_without_a_message_type_is_answered_by_bootp(case):
    reply = ask(joined(case), None)
    assert reply.yiaddr == HOST4 and 53 not in reply.options and 51 not in reply.options
    assert reply.length >= 300, "a BOOTP reply of %d bytes" % reply.length


@rows(("a reply from the guest is ignored", {"op": 2}), ("another hardware type is ignored", {"htype": 6}),
      ("another hardware length is ignored", {"hlen": 16}))
def _(case, fields):
    guest = joined(case)
    send(guest, DISCOVER, **fields)
    nothing(guest)


@test
def without_the_magic_cookie_it_is_no_dhcp_message(case):
    guest = joined(case)
    send(guest, DISCOVER, cookie=b"\1\2\3\4")
    guest.pump(0.25)
    answers = [f for f in guest.backlog if dhcp.is_answer()(f)]
    assert not any(f.data[236:240] == dhcp.COOKIE for f in answers), "it was answered by DHCP"


@rows(("an option that overruns the message is not read past", b"\x32\xff"),
      ("an option without a length is not read past", b"\x32"),
      ("a requested address of 3 bytes is no address", option(50, b"abc")),
      ("a server identifier of 1 byte is no identifier", option(54, b"a")),
      ("a parameter list of 0 bytes is harmless", option(55)),
      ("a list of 255 parameters is harmless", option(55, bytes(range(255)))))
def _(case, options):
    guest = joined(case)
    send(guest, DISCOVER, options=options, end=b"", pad=False)
    send(guest, REQUEST, options=options, end=b"", pad=False)
    guest.pump(0.1)
    guest.backlog.clear()
    assert lease(guest).kind == ACK


@test
def a_message_without_an_end_option_is_served(case):
    guest = joined(case)
    assert ask(guest, DISCOVER, end=b"", pad=False).kind == OFFER


@test
def the_maximum_message_size_is_kept(case):
    guest = joined(case)
    for size in (576, 590):
        offer = ask(guest, DISCOVER, options=option(57, struct.pack("!H", size)) + ALL)
        assert offer.length + 28 <= size


@test
def a_rapid_commit_gets_an_acknowledgement_at_once(case):
    guest = joined(case)
    ack = ask(guest, DISCOVER, options=option(80) + ALL)
    assert ack.kind == ACK and ack.yiaddr == HOST4 and ack.options.get(80) == b""
    assert 80 not in ask(guest, DISCOVER, options=ALL).options
    assert ask(guest, DISCOVER, options=option(80, b"x")).kind == OFFER  # of a wrong length


@test
def a_discover_in_fragments_is_answered(case):
    guest = joined(case)
    whole = dhcp.frame(guest, dhcp.message(guest.mac, DISCOVER))[34:]
    for at in reversed(range(0, len(whole), 48)):
        packet = wire.ip4("0.0.0.0", "255.255.255.255", wire.UDP, whole[at:at + 48], ident=5, offset=at,
                          flags=int(at + 48 < len(whole)))
        guest.send(guest.eth(wire.ETH_IP4, packet, dst=wire.BROADCAST))
    assert guest.expect(dhcp.is_answer(), "an offer").sport == 67


@test
def pad_options_are_skipped(case):
    assert ask(joined(case), DISCOVER, options=b"\0\0\0" + ALL).kind == OFFER


@rows(("the MTU of the option is announced", 1400), ("an MTU too small for IPv6 is announced", 1000),
      ("the smallest MTU is announced", 68), ("the largest MTU is announced", 65535))
def _(case, mtu):
    ack = lease(joined(case, "-m", str(mtu)))
    assert struct.unpack("!H", ack.options[26])[0] == mtu


@test
def an_mtu_of_0_is_not_announced(case):
    assert 26 not in lease(joined(case, "-m", "0")).options


@test
def address_netmask_and_gateway_are_what_the_options_say(case):
    ack = lease(joined(case, "-a", "10.1.2.3", "-n", "255.255.240.0", "-g", "10.1.0.1"))
    assert (ack.yiaddr, ip_text(ack.options[1]), ip_text(ack.options[3])) == \
        ("10.1.2.3", "255.255.240.0", "10.1.0.1")


@rows(("the interface that is named gives address and gateway", "-i"),
      ("the outbound interface gives address and gateway", "--outbound-if4"))
def _(case, option):
    case.net.connect_again()
    ack = lease(joined(case, option, "h1"))
    assert (ack.yiaddr, ip_text(ack.options[3])) == ("203.0.113.2", "203.0.113.1")


@test
def a_prefix_length_serves_as_netmask(case):
    ack = lease(joined(case, "-a", "10.1.2.3", "-n", "20", "-g", "10.1.0.1"))
    assert ip_text(ack.options[1]) == "255.255.240.0"


@test
def a_gateway_outside_the_prefix_gets_classless_routes(case):
    ack = lease(joined(case, "-a", "10.1.2.3", "-n", "32", "-g", "10.9.9.1"))
    routes, wanted = ack.options[121], ip_bytes("10.9.9.1")
    assert bytes((32,)) + wanted + bytes(4) in routes, "no route to the gateway"
    assert bytes((0,)) + wanted in routes, "no default route"


@test
def resolvers_are_what_the_options_say(case):
    ack = lease(joined(case, "-D", "203.0.113.7", "-D", "203.0.113.8", "-S", "a.test b.test"))
    assert ack.options[6] == ip_bytes("203.0.113.7") + ip_bytes("203.0.113.8")
    assert dhcp.domains(ack.options[119]) == ["a.test", "b.test"]


@test
def no_dhcp_dns_leaves_the_resolvers_out(case):
    assert 6 not in lease(joined(case, "--no-dhcp-dns")).options


@test
def no_dhcp_search_leaves_the_search_list_out(case):
    assert 119 not in lease(joined(case, "--no-dhcp-search")).options


@test
def a_loopback_resolver_is_announced_as_the_gateway(case):
    case.net.host.resolv_conf("nameserver 127.0.0.53\n")
    assert ip_text(lease(joined(case)).options[6]) == GW4


@test
def the_host_name_is_given(case):
    assert lease(joined(case, "--hostname", "vm7")).options[12] == b"vm7"


@test
def the_fqdn_is_given_to_a_client_that_sends_one(case):
    ask_fqdn = option(81, b"\4\0\0\2vm\0") + option(55, bytes((1, 3, 81)))
    ack = lease(joined(case, "--fqdn", "vm.example.org"), options=ask_fqdn)
    raw = ack.options[81]
    assert raw[3:] in (b"\2vm\7example\3org\0", b"vm.example.org"), raw


@test
def without_any_protocol_leases_are_given(case):
    assert lease(joined(case, "--no-tcp", "--no-udp", "--no-icmp")).kind == ACK


@test
def no_dhcp_answers_nothing(case):
    guest = joined(case, "--no-dhcp")
    send(guest, DISCOVER)
    nothing(guest)


@test
def a_message_to_another_hosts_port_67_is_not_answered_by_us(case):
    guest = joined(case)
    lease(guest)
    server = case.net.remote.udp(FAR4, 67)
    body = dhcp.message(guest.mac, REQUEST, ciaddr=HOST4, options=option(54, ip_bytes(FAR4)))
    guest.send(dhcp.frame(guest, body, src=HOST4, dst=FAR4))
    nothing(guest)
    server.close()


@test
def a_udp_length_that_lies_is_ignored(case):
    guest = joined(case)
    guest.send(dhcp.frame(guest, dhcp.message(guest.mac, DISCOVER), length=9))
    nothing(guest)


@test
def with_no_usable_interface_the_fallback_addresses_are_given(case):
    from netns import Net
    case.net = Net(offline=True)
    ack = lease(joined(case))
    assert (ack.yiaddr, ip_text(ack.options[1]), ip_text(ack.options[3])) == \
        ("169.254.2.1", "255.255.0.0", "169.254.2.2")


if __name__ == "__main__":
    sys.exit(main())
