#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 200
"""What changes on the host at run time is taken up, and the guest is told."""
import os
import shutil
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import dhcp
from netns import FAR4, GW6, HOST4, HOST6, Net
from suite import Daemon, main, test, wait_for
from wire import ip_bytes, ip_text

LOCAL4 = "169.254.2.1"


def is_ra(frame):
    return frame.kind == "icmp6" and frame.type == 134


def prefixes(frame):
    """{prefix: preferred lifetime} of an RA."""
    out, raw, at = {}, frame.data[8:], 0
    while at < len(raw):
        if raw[at] == 3:
            out[ip_text(raw[at + 16:at + 32])] = struct.unpack("!I", raw[at + 8:at + 12])[0]
        at += 8 * raw[at + 1]
    return out


def lease(guest, current=None):
    fields = {"ciaddr": current, "src": current} if current else {"options": dhcp.option(55, b"\1\3\6")}
    return dhcp.ask(guest, dhcp.REQUEST if current else dhcp.DISCOVER, **fields)


@test
def a_new_ipv6_prefix_is_advertised_and_the_old_one_deprecated(case):
    case.start()
    guest = case.guest()
    case.net.host.batch("addr del %s/64 dev h0\naddr add 2001:db8:aaaa::2/64 dev h0 nodad\n"
                        "route replace ::/0 via %s dev h0\n" % (HOST6, GW6))
    ra = guest.expect(lambda f: is_ra(f) and "2001:db8:aaaa::" in prefixes(f), "RA with the new prefix", 20)
    assert prefixes(ra)["2001:db8:aaaa::"] > 0
    assert prefixes(ra).get("2001:db8::", 0) == 0, "the old prefix is still preferred"


@test
def a_new_ipv4_address_is_given_by_the_next_renewal(case):
    case.start()
    guest = case.guest()
    assert lease(guest).yiaddr == HOST4
    case.net.host.batch("addr add 192.0.2.77/24 dev h0\naddr del %s/24 dev h0\n" % HOST4)
    case.net.host.batch("addr replace 192.0.2.77/24 dev h0\nroute replace default via 192.0.2.1 dev h0\n")
    time.sleep(0.5)
    assert lease(guest, HOST4).kind == dhcp.NAK
    assert lease(guest).yiaddr == "192.0.2.77"


@test
def a_forwarded_port_leads_to_the_address_that_the_guest_still_has(case):
    """Also if it says nothing meanwhile."""
    case.start("-t", "7000")
    guest = case.guest()
    case.net.host.batch("addr add 192.0.2.77/24 dev h0\naddr del %s/24 dev h0\n" % HOST4)
    case.net.host.batch("addr replace 192.0.2.77/24 dev h0\nroute replace default via 192.0.2.1 dev h0\n")
    case.daemons[-1].wait_log("IPv4: interface h0, address 192.0.2.77")
    client = case.net.remote.tcp_client("192.0.2.77", 7000, blocking=False)
    case.cleanups.append(client.close)
    syn = guest.expect(lambda f: f.kind == "tcp" and f.dport == 7000, "a SYN", 10)
    assert syn.dst == HOST4, syn.dst


def own_etc(case):
    """A folder to take the place of /etc, without resolv.conf."""
    etc = case.path("etc")
    os.makedirs(etc)
    for name in ("passwd", "group", "nsswitch.conf"):
        shutil.copy("/etc/" + name, etc)
    return etc


def start_with(case, etc):
    path = case.path("s")
    daemon = Daemon(case, ("sh", "-c", 'mount --bind %s /etc && exec "$@"' % etc, "sh", case.program(), "-f", "-s", path))
    daemon.socket = path
    case.daemons.append(daemon)
    return case.guest()


def resolver_is_given(guest, addr):
    wait_for(lambda: lease(guest).options.get(6) == ip_bytes(addr), "the resolver %s is given" % addr, 20, 0.2)


@test
def a_new_resolver_is_given_by_the_next_lease(case):
    etc = own_etc(case)
    shutil.copy("/etc/resolv.conf", etc)
    guest = start_with(case, etc)
    with open(etc + "/new", "w") as file:
        file.write("nameserver 198.51.100.77\n")
    os.rename(etc + "/new", etc + "/resolv.conf")
    resolver_is_given(guest, "198.51.100.77")


@test
def a_resolver_behind_a_link_to_what_comes_later_is_given(case):
    etc, late = own_etc(case), case.path("late")
    os.symlink(late + "/resolve/resolv.conf", etc + "/resolv.conf")
    guest = start_with(case, etc)
    assert 6 not in lease(guest).options
    os.makedirs(late + "/resolve")
    with open(late + "/resolve/resolv.conf", "w") as file:
        file.write("nameserver 198.51.100.78\n")
    resolver_is_given(guest, "198.51.100.78")


@test
def a_link_that_leads_elsewhere_is_followed(case):
    etc = own_etc(case)
    for name, last in (("one", 81), ("two", 82)):
        os.makedirs(case.path(name))
        with open(case.path(name) + "/resolv.conf", "w") as file:
            file.write("nameserver 198.51.100.%d\n" % last)
    os.symlink(case.path("one") + "/resolv.conf", etc + "/resolv.conf")
    guest = start_with(case, etc)
    resolver_is_given(guest, "198.51.100.81")
    os.unlink(etc + "/resolv.conf")
    os.symlink(case.path("two") + "/resolv.conf", etc + "/resolv.conf")
    resolver_is_given(guest, "198.51.100.82")
    with open(case.path("two") + "/resolv.conf", "w") as file:
        file.write("nameserver 198.51.100.83\n")
    resolver_is_given(guest, "198.51.100.83")


@test
def a_host_that_comes_online_is_told_by_the_next_renewal(case):
    case.net = Net(offline=True)
    case.start()
    guest = case.guest(resolve=False, ip4=LOCAL4, ip6=None)
    first = lease(guest)
    assert first.yiaddr == LOCAL4
    case.net.connect()
    guest.expect(lambda f: is_ra(f) and "2001:db8::" in prefixes(f), "RA with the prefix", 20)
    wait_for(lambda: lease(guest).yiaddr == HOST4, "the new address is offered", 20, 0.2)
    # A client renews by unicast, with the server that it knows.
    answer = dhcp.ask(guest, dhcp.REQUEST, ciaddr=LOCAL4, src=LOCAL4, dst=first.server)
    assert (answer.kind, answer.server, answer.frame.src) == (dhcp.NAK, first.server, first.server)
    assert answer.frame.dst == "255.255.255.255"


def router_lifetime(frame):
    return struct.unpack("!H", frame.rest[2:4])[0]


@test
def an_ipv6_address_that_goes_takes_the_router_with_it(case):
    case.start()
    guest = case.guest()
    case.net.host.batch("addr del %s/64 dev h0\n" % HOST6)
    ra = guest.expect(lambda f: is_ra(f) and router_lifetime(f) == 0, "RA of a router that ends", 20)
    assert prefixes(ra) == {"2001:db8::": 0}
    case.net.host.batch("addr add %s/64 dev h0 nodad\nroute replace ::/0 via %s dev h0\n" % (HOST6, GW6))
    ra = guest.expect(lambda f: is_ra(f) and router_lifetime(f) > 0, "RA of a router", 20)
    assert prefixes(ra)["2001:db8::"] > 0


@test
def an_ipv4_address_that_goes_is_not_leased_until_it_is_back(case):
    case.start()
    guest = case.guest()
    case.net.host.batch("addr del %s/24 dev h0\n" % HOST4)
    case.daemons[-1].wait_log("IPv4: off")
    guest.send(dhcp.frame(guest, dhcp.message(guest.mac, dhcp.DISCOVER)))
    guest.expect_none(dhcp.is_answer(), "an offer")
    case.net.host.batch("addr add %s/24 dev h0\nroute add default via 192.0.2.1 dev h0\n" % HOST4)
    case.daemons[-1].wait_log("(?s)IPv4: off.*IPv4: interface h0, address " + HOST4)
    assert lease(guest).yiaddr == HOST4


@test
def resolvers_that_go_are_taken_back(case):
    etc = own_etc(case)
    with open(etc + "/resolv.conf", "w") as file:
        file.write("nameserver 2001:db8:51::53\nnameserver 198.51.100.53\n")
    guest = start_with(case, etc)
    os.unlink(etc + "/resolv.conf")
    # RDNSS with a lifetime of 0 (RFC 8106 5.1).
    guest.expect(lambda f: is_ra(f) and b"\x19\3\0\0\0\0\0\0" + ip_bytes("2001:db8:51::53") in f.data,
                 "RA without the resolver", 20)
    wait_for(lambda: 6 not in lease(guest).options, "no resolver is given", 20, 0.2)
    assert "No nameserver" in case.daemons[-1].log()


@test
def a_link_that_goes_and_comes_back_serves_again(case):
    case.start()
    guest = case.guest()
    case.net.host.batch("link set h0 down\n")
    time.sleep(0.3)
    guest.alive()
    case.net.host.batch("link set h0 up\nroute replace default via 192.0.2.1 dev h0\n")
    server = case.net.remote.udp(FAR4)

    def arrives():
        guest.send(guest.udp(FAR4, server.getsockname()[1], b"again"))
        server.settimeout(0.3)
        try:
            return server.recv(10)
        except TimeoutError:
            return b""
    assert wait_for(arrives, "datagrams pass again", 15) == b"again"


if __name__ == "__main__":
    sys.exit(main())
