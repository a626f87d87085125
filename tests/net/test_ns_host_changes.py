#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 200
"""With --config-net the namespace follows the host's addresses and routes, and a start without a network ends well."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from netns import FAR4, FAR6, HOST4, HOST6, Net
from nsguest import NsGuest, addresses
from suite import main, rows, test, wait_for

USER = 61234  # an ordinary user, whom no file names


def becomes(guest, expected):
    wait_for(lambda: addresses(guest.ns) == expected, "the addresses are %s" % expected, 10)


def routes(ns):
    return ns.run("ip", "route").stdout + ns.run("ip", "-6", "route").stdout


def reaches(case, ns, addr):
    """A connection of the namespace's to the rest of the world; returns what address it came from."""
    server = case.net.remote.tcp_server(addr)
    client = ns.tcp_client(addr, server.getsockname()[1])
    client.sendall(b"x")
    peer, source = server.accept()
    assert peer.recv(1) == b"x"
    return source[0]


@test
def an_address_that_is_added_comes_and_goes(case):
    guest = NsGuest(case)
    case.net.host.batch("addr add 192.0.2.77/24 dev h0\naddr add 2001:db8::77/64 dev h0 nodad\n")
    becomes(guest, {HOST4: 24, HOST6: 64, "192.0.2.77": 24, "2001:db8::77": 64})
    case.net.host.batch("addr del 192.0.2.77/24 dev h0\naddr del 2001:db8::77/64 dev h0\n")
    becomes(guest, {HOST4: 24, HOST6: 64})
    assert reaches(case, guest.ns, FAR4) == HOST4 and reaches(case, guest.ns, FAR6) == HOST6


@test
def an_address_that_is_replaced_is_replaced_with_its_routes(case):
    guest = NsGuest(case)
    case.net.host.batch("addr add 192.0.2.77/24 dev h0\naddr del %s/24 dev h0\naddr del %s/64 dev h0\n"
                        "addr replace 192.0.2.77/24 dev h0\naddr add 2001:db8::77/64 dev h0 nodad\n" % (HOST4, HOST6))
    case.net.host.batch("route replace default via 192.0.2.1 dev h0\nroute replace ::/0 via fe80::1 dev h0\n")
    becomes(guest, {"192.0.2.77": 24, "2001:db8::77": 64})
    wait_for(lambda: "default via 192.0.2.1" in routes(guest.ns) and "default via fe80::1" in routes(guest.ns),
             "the default routes are back", 5)
    assert reaches(case, guest.ns, FAR4) == "192.0.2.77" and reaches(case, guest.ns, FAR6) == "2001:db8::77"


@test
def a_route_comes_and_goes(case):
    guest = NsGuest(case)
    case.net.host.batch("route add 203.0.113.0/24 via 192.0.2.1 dev h0\nroute add 2001:db8:99::/48 via fe80::1 dev h0\n")
    wait_for(lambda: "203.0.113.0/24 via" in routes(guest.ns) and "2001:db8:99::/48" in routes(guest.ns), "both routes", 5)
    case.net.host.batch("route del 203.0.113.0/24\nroute del 2001:db8:99::/48\n")
    wait_for(lambda: "203.0.113.0/24" not in routes(guest.ns) and "2001:db8:99::" not in routes(guest.ns), "neither", 5)
    assert "default via 192.0.2.1" in routes(guest.ns) and "default via fe80::1" in routes(guest.ns)


@test
def what_others_set_up_stays(case):
    guest = NsGuest(case)
    guest.ns.batch("addr add 10.1.1.1/24 dev h0\nroute add 10.2.0.0/16 via 10.1.1.2\n")
    case.net.host.batch("addr add 192.0.2.77/24 dev h0\n")
    becomes(guest, {HOST4: 24, HOST6: 64, "192.0.2.77": 24, "10.1.1.1": 24})
    case.net.host.batch("addr del 192.0.2.77/24 dev h0\n")
    becomes(guest, {HOST4: 24, HOST6: 64, "10.1.1.1": 24})
    assert "10.2.0.0/16" in routes(guest.ns)


@test
def addresses_that_were_given_stay(case):
    guest = NsGuest(case, "-a", "192.0.2.50", "-n", "24", "-4")
    case.net.host.batch("addr add 192.0.2.77/24 dev h0\nroute add 203.0.113.0/24 via 192.0.2.1\n")
    wait_for(lambda: "203.0.113.0/24" in routes(guest.ns), "the route", 5)
    assert addresses(guest.ns) == {"192.0.2.50": 24}


@test
def a_link_that_goes_leaves_the_namespace_what_it_has(case):
    guest = NsGuest(case)
    before = routes(guest.ns)
    case.net.host.batch("link set h0 down\n")
    case.net.host.batch("link set h0 up\nroute replace default via 192.0.2.1 dev h0\n"
                        "addr replace %s/64 dev h0 nodad\nroute replace ::/0 via fe80::1 dev h0\n" % HOST6)
    wait_for(lambda: addresses(guest.ns) == {HOST4: 24, HOST6: 64} and routes(guest.ns) == before, "all is as before", 10)
    assert reaches(case, guest.ns, FAR4) == HOST4 and reaches(case, guest.ns, FAR6) == HOST6


@test
def a_host_that_is_offline_at_first_is_taken_up_when_it_has_a_network(case):
    case.net = Net(offline=True)
    guest = NsGuest(case)
    assert addresses(guest.ns) == {"169.254.2.1": 16}, addresses(guest.ns)
    assert "default via 169.254.2.2" in routes(guest.ns)
    case.net.connect()
    becomes(guest, {HOST4: 24, HOST6: 64})
    wait_for(lambda: "default via 192.0.2.1" in routes(guest.ns) and "default via fe80::1" in routes(guest.ns),
             "the default routes", 5)
    assert "169.254" not in routes(guest.ns)
    assert reaches(case, guest.ns, FAR4) == HOST4 and reaches(case, guest.ns, FAR6) == HOST6


@rows(("an ordinary user's namespace follows too", ("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups")),
      ("the namespace of root who became nobody follows too", ()))
def _(case, before):
    holder = subprocess.Popen(case.net.host.command(*before, case.program("pasta"), "--config-net", "-q", "-t", "none", "-u",
                                                    "none", "-T", "none", "-U", "none", "--", "sh", "-c",
                                                    "echo $$; exec sleep 1000"), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    case.cleanups.append(lambda: (holder.terminate(), holder.wait(10)))
    pid = holder.stdout.readline().strip()
    case.net.host.batch("addr add 192.0.2.77/24 dev h0\n")
    wait_for(lambda: "192.0.2.77" in subprocess.run(("nsenter", "-t", pid, "-U", "-n", "--preserve-credentials", "ip", "addr"),
                                                    capture_output=True, text=True).stdout, "the address", 5)


if __name__ == "__main__":
    sys.exit(main())
