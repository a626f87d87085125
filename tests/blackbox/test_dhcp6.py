#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""DHCPv6 as RFC 8415 has it, message by message."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import dhcp
from dhcp import (ADVERTISE, CLIENT_ID, CONFIRM, DECLINE6, DNS6_OPT, FQDN6_OPT, IA_NA, INFORMATION, NOT_ON_LINK,
                  ORO, RAPID, REBIND, RELEASE6, RENEW, REPLY, REQUEST6, SEARCH6_OPT, SERVER_ID, SOLICIT, SUCCESS,
                  ask6, ia_na, option6, send6)
from netns import DNS6, HOST6
from suite import main, rows, test
from wire import ip_bytes

ELSEWHERE = "2001:db8:ffff::5"
WANTED = option6(ORO, struct.pack("!HHH", DNS6_OPT, SEARCH6_OPT, FQDN6_OPT))


def joined(case, *options):
    case.start(*options)
    return case.guest(resolve=False, ip6=None)


def server_of(guest):
    """The server's identifier as an option."""
    return option6(SERVER_ID, ask6(guest, SOLICIT, ia_na()).options[SERVER_ID])


def leased(guest):
    """SOLICIT and REQUEST; returns the server's identifier."""
    server = server_of(guest)
    reply = ask6(guest, REQUEST6, server + ia_na())
    assert HOST6 in reply.addrs
    return server


def nothing(guest, xid):
    guest.expect_none(dhcp.is_answer6(xid), "an answer")


@test
def solicit_gets_an_advertisement_of_the_hosts_address(case):
    answer = ask6(joined(case), SOLICIT, ia_na(7))
    assert answer.kind == ADVERTISE and list(answer.addrs) == [HOST6] and answer.iaids == [7]
    preferred, valid = answer.addrs[HOST6]
    assert 0 < preferred <= valid
    assert answer.t1 <= answer.t2 <= preferred


@test
def rapid_commit_gets_a_reply(case):
    answer = ask6(joined(case), SOLICIT, ia_na() + option6(RAPID))
    assert answer.kind == REPLY and RAPID in answer.options and HOST6 in answer.addrs


@test
def without_rapid_commit_none_is_in_the_answer(case):
    assert RAPID not in ask6(joined(case), SOLICIT, ia_na()).options


@test
def request_gets_a_reply_with_the_address(case):
    guest = joined(case)
    answer = ask6(guest, REQUEST6, server_of(guest) + ia_na(9, [HOST6]))
    assert answer.kind == REPLY and list(answer.addrs) == [HOST6] and answer.iaids == [9]


@test
def renew_extends_the_lease(case):
    guest = joined(case)
    answer = ask6(guest, RENEW, leased(guest) + ia_na(1, [HOST6]))
    assert answer.kind == REPLY and answer.addrs[HOST6][1] > 0


@test
def rebind_extends_the_lease(case):
    guest = joined(case)
    leased(guest)
    answer = ask6(guest, REBIND, ia_na(1, [HOST6]))
    assert answer.kind == REPLY and answer.addrs[HOST6][1] > 0


@test
def renew_of_a_foreign_address_does_not_extend_it(case):
    guest = joined(case)
    answer = ask6(guest, RENEW, leased(guest) + ia_na(1, [ELSEWHERE]))
    assert answer.kind == REPLY
    assert answer.addrs.get(ELSEWHERE, (0, 0)) == (0, 0) and answer.status in (None, SUCCESS, NOT_ON_LINK)


@test
def confirm_on_the_link_is_confirmed(case):
    answer = ask6(joined(case), CONFIRM, ia_na(1, [HOST6]))
    assert answer.kind == REPLY and answer.status == SUCCESS


@test
def confirm_off_the_link_gets_not_on_link(case):
    answer = ask6(joined(case), CONFIRM, ia_na(1, [ELSEWHERE]))
    assert answer.kind == REPLY and answer.status == NOT_ON_LINK


@test
def confirm_without_an_address_is_not_answered(case):
    guest = joined(case)
    nothing(guest, send6(guest, CONFIRM, ia_na(1)))


@test
def a_request_for_an_address_off_the_link_gets_not_on_link(case):
    guest = joined(case)
    answer = ask6(guest, REQUEST6, server_of(guest) + ia_na(1, [ELSEWHERE]))
    assert NOT_ON_LINK in (answer.status, answer.ia_status.get(1))
    assert ELSEWHERE not in answer.addrs


@test
def release_is_acknowledged(case):
    guest = joined(case)
    answer = ask6(guest, RELEASE6, leased(guest) + ia_na(1, [HOST6]))
    assert answer.kind == REPLY and answer.status == SUCCESS


@test
def decline_is_acknowledged(case):
    guest = joined(case)
    answer = ask6(guest, DECLINE6, leased(guest) + ia_na(1, [HOST6]))
    assert answer.kind == REPLY and answer.status in (None, SUCCESS)


@test
def an_information_request_gets_parameters_and_no_address(case):
    answer = ask6(joined(case), INFORMATION, WANTED)
    assert answer.kind == REPLY and IA_NA not in answer.options
    assert answer.options[DNS6_OPT][:16] == ip_bytes(DNS6)


@test
def an_information_request_without_a_client_identifier_is_answered(case):
    assert ask6(joined(case), INFORMATION, WANTED, client=False).kind == REPLY


@test
def resolvers_and_search_list_are_given(case):
    answer = ask6(joined(case), SOLICIT, ia_na() + WANTED)
    assert answer.options[DNS6_OPT] == ip_bytes(DNS6)
    assert dhcp.domains(answer.options[SEARCH6_OPT]) == ["example.org", "lab.example.org"]


@test
def no_dhcp_dns_leaves_resolvers_out(case):
    assert DNS6_OPT not in ask6(joined(case, "--no-dhcp-dns"), SOLICIT, ia_na() + WANTED).options


@test
def no_dhcp_search_leaves_the_search_list_out(case):
    assert SEARCH6_OPT not in ask6(joined(case, "--no-dhcp-search"), SOLICIT, ia_na() + WANTED).options


@test
def the_fqdn_is_given_to_a_client_that_sends_one(case):
    answer = ask6(joined(case, "--fqdn", "vm.example.org"), SOLICIT,
                  ia_na() + WANTED + option6(FQDN6_OPT, b"\0\2vm\0"))
    assert answer.options[FQDN6_OPT][1:].rstrip(b"\0") == b"\2vm\7example\3org"


@test
def the_address_option_is_what_is_leased(case):
    assert list(ask6(joined(case, "-a", "2001:db8:7::7"), SOLICIT, ia_na()).addrs) == ["2001:db8:7::7"]


@test
def the_answer_comes_from_a_link_local_address_and_port_547(case):
    answer = ask6(joined(case), SOLICIT, ia_na())
    assert answer.frame.src.startswith("fe80:") and answer.frame.sport == 547
    assert answer.frame.dst == case.guests[0].ll


@test
def without_any_protocol_addresses_are_given(case):
    assert HOST6 in ask6(joined(case, "--no-tcp", "--no-udp", "--no-icmp"), SOLICIT, ia_na()).addrs


@test
def the_server_identifier_stays_the_same(case):
    guest = joined(case)
    assert server_of(guest) == server_of(guest)


@test
def a_lease_is_renewed_after_a_restart_of_the_daemon(case):
    guest = joined(case)
    server = leased(guest)
    guest.close()
    case.daemons[-1].terminate()
    answer = ask6(joined(case), RENEW, server + ia_na(1, [HOST6]))
    assert answer.kind == REPLY and answer.addrs[HOST6][1] > 0


WRONG = option6(SERVER_ID, b"\0\3\0\1\1\2\3\4\5\6")


@rows(("a request with another server identifier is ignored", REQUEST6, WRONG + ia_na(1, [HOST6])),
      ("a renewal with another server identifier is ignored", RENEW, WRONG + ia_na(1, [HOST6])),
      ("a release with another server identifier is ignored", RELEASE6, WRONG + ia_na(1, [HOST6])),
      ("a decline with another server identifier is ignored", DECLINE6, WRONG + ia_na(1, [HOST6])),
      ("an information request with another server identifier is ignored", INFORMATION, WRONG),
      ("a request without a server identifier is ignored", REQUEST6, ia_na(1, [HOST6])),
      ("a renewal without a server identifier is ignored", RENEW, ia_na(1, [HOST6])),
      ("a release without a server identifier is ignored", RELEASE6, ia_na(1, [HOST6])),
      ("a solicitation with a server identifier is ignored", SOLICIT, WRONG + ia_na()),
      ("a confirmation with a server identifier is ignored", CONFIRM, WRONG + ia_na(1, [HOST6])),
      ("a rebinding with a server identifier is ignored", REBIND, WRONG + ia_na(1, [HOST6])),
      ("an information request with an IA is ignored", INFORMATION, ia_na()),
      ("an advertisement from the guest is ignored", ADVERTISE, WRONG + ia_na()),
      ("a reply from the guest is ignored", REPLY, WRONG + ia_na()), ("a reconfigure from the guest is ignored", 10, b""),
      ("an unknown message is ignored", 200, b""))
def _(case, kind, options):
    guest = joined(case)
    nothing(guest, send6(guest, kind, options))


@rows(("a solicitation without a client identifier is ignored", SOLICIT),
      ("a confirmation without a client identifier is ignored", CONFIRM),
      ("a rebinding without a client identifier is ignored", REBIND))
def _(case, kind):
    guest = joined(case)
    nothing(guest, send6(guest, kind, ia_na(1, [HOST6]), client=False))


@test
def a_message_cut_anywhere_is_harmless(case):
    guest = joined(case)
    body = b"\1\1\2\3" + option6(CLIENT_ID, dhcp.duid(guest)) + option6(8, b"\0\0") + ia_na(1, [HOST6]) + WANTED
    guest.send(*(dhcp.frame6(guest, body[:n]) for n in range(len(body))))
    assert ask6(guest, SOLICIT, ia_na()).kind == ADVERTISE


@rows(("an option whose length overruns is not read past", struct.pack("!HH", IA_NA, 500) + b"abc"),
      ("an IA of 11 bytes is not read past", option6(IA_NA, bytes(11))),
      ("an address of 23 bytes inside an IA is not read past",
       option6(IA_NA, bytes(12) + option6(5, bytes(23)))),
      ("an inner option that overruns its IA is not read past",
       option6(IA_NA, bytes(12) + struct.pack("!HH", 5, 200) + bytes(24))),
      ("an odd option request is harmless", option6(ORO, b"\0\x17\0")),
      ("an empty identifier is harmless", option6(CLIENT_ID) + ia_na()))
def _(case, options):
    guest = joined(case)
    for kind in range(1, 12):
        send6(guest, kind, options)
        send6(guest, kind, options, client=False)
    assert ask6(guest, SOLICIT, ia_na()).kind == ADVERTISE


@rows(("no-dhcpv6 answers nothing", "--no-dhcpv6"), ("ipv4-only answers nothing", "-4"))
def _(case, option):
    guest = joined(case, option)
    nothing(guest, send6(guest, SOLICIT, ia_na()))


if __name__ == "__main__":
    sys.exit(main())
