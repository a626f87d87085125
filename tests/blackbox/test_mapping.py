#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Whose address is whose: the host's loopback, the gateway, resolvers, guests on other addresses, link-local."""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import rawtcp
import wire
from netns import DNS4, FAR4, FAR6, GW4, GW6, HOST4, HOST6
from suite import main, rows, test

PORT = 7000
LOOP = {4: "127.0.0.1", 6: "::1"}
GATEWAY = {4: GW4, 6: GW6}
LL = "fe80::5054:ff:fe12:3456"


def is_udp(port):
    return lambda f: f.kind == "udp" and f.dport == port


def tcp_works(conn, peer):
    peer.settimeout(10)
    conn.write(b"ping")
    assert peer.recv(10) == b"ping"
    peer.sendall(b"pong")
    assert conn.wait_data(4) == b"pong"


def udp_both_ways(guest, sock, addr, port):
    """A datagram from the guest and the answer; returns where the server saw it come from."""
    guest.send(guest.udp(addr, port, b"ask", sport=41000))
    data, where = sock.recvfrom(100)
    assert data == b"ask"
    sock.sendto(b"answer", where)
    answer = guest.expect(is_udp(41000), "the answer")
    assert (answer.src, answer.data) == (addr, b"answer")
    return where


def quiet(sock):
    sock.settimeout(0.4)
    try:
        got = sock.recvfrom(1000)
    except TimeoutError:
        return
    raise AssertionError("it was let through: %s" % (got,))


@rows(("TCP from the host's loopback comes from the gateway's address (IPv4)", 4),
      ("TCP from the host's loopback comes from the gateway's address (IPv6)", 6))
def _(case, version):
    guest = case.joined("-t", PORT)
    peer = case.net.host.tcp_client(LOOP[version], PORT, blocking=False)
    conn = rawtcp.accept(guest, PORT)
    assert conn.remote == GATEWAY[version], conn.remote
    assert conn.local in (HOST4, HOST6, LL)
    tcp_works(conn, peer)


@rows(("UDP from the host's loopback comes from the gateway's address (IPv4)", 4),
      ("UDP from the host's loopback comes from the gateway's address (IPv6)", 6))
def _(case, version):
    guest = case.joined("-u", PORT)
    sock = case.net.host.udp(LOOP[version])
    sock.sendto(b"hello", (LOOP[version], PORT))
    got = guest.expect(is_udp(PORT), "the datagram")
    assert got.src == GATEWAY[version] and got.sport == sock.getsockname()[1]
    guest.send(guest.udp(got.src, got.sport, b"reply", sport=PORT, src=got.dst))
    data, where = sock.recvfrom(10)
    assert data == b"reply" and where[:2] == (LOOP[version], PORT)


@rows(("TCP to the gateway reaches the host's loopback (IPv4)", 4), ("TCP to the gateway reaches the host's loopback (IPv6)",
                                                                    6))
def _(case, version):
    guest = case.joined()
    server = case.net.host.tcp_server(LOOP[version])
    conn = rawtcp.connect(guest, GATEWAY[version], server.getsockname()[1])
    peer, where = server.accept()
    assert where[0] == LOOP[version]
    tcp_works(conn, peer)


@rows(("UDP to the gateway reaches the host's loopback (IPv4)", 4), ("UDP to the gateway reaches the host's loopback (IPv6)",
                                                                    6))
def _(case, version):
    guest = case.joined()
    sock = case.net.host.udp(LOOP[version])
    where = udp_both_ways(guest, sock, GATEWAY[version], sock.getsockname()[1])
    assert where[0] == LOOP[version]


@test
def the_advertised_router_is_the_hosts_loopback_where_the_gateway_is_global(case):
    guest = case.joined("-g", "2001:db8::1")
    udp_both_ways(guest, case.net.host.udp("::1", PORT), "fe80::1", PORT)
    server = case.net.host.tcp_server("::1")
    conn = rawtcp.connect(guest, "fe80::1", server.getsockname()[1])
    tcp_works(conn, server.accept()[0])


@test
def with_no_map_gw_the_gateway_is_the_real_one(case):
    guest = case.joined("--no-map-gw")
    wrong = case.net.host.udp("127.0.0.1", 5000)
    right = case.net.remote.udp(GW4, 5000)
    udp_both_ways(guest, right, GW4, 5000)
    quiet(wrong)


@rows(("map-host-loopback moves the loopback to another address (IPv4)", 4, "192.0.2.99"),
      ("map-host-loopback moves the loopback to another address (IPv6)", 6, "2001:db8::99"))
def _(case, version, addr):
    guest = case.joined("--map-host-loopback", addr, "-t", PORT)
    sock = case.net.host.udp(LOOP[version], 5000)
    udp_both_ways(guest, sock, addr, 5000)
    peer = case.net.host.tcp_client(LOOP[version], PORT, blocking=False)
    conn = rawtcp.accept(guest, PORT)
    assert conn.remote == addr
    tcp_works(conn, peer)


@test
def map_host_loopback_none_leaves_the_loopback_alone(case):
    guest = case.joined("--map-host-loopback", "none")
    wrong = case.net.host.udp("127.0.0.1", 5000)
    right = case.net.remote.udp(GW4, 5000)
    udp_both_ways(guest, right, GW4, 5000)
    quiet(wrong)


@rows(("map-guest-addr leads to the host's own address (IPv4)", "192.0.2.98", HOST4),
      ("map-guest-addr leads to the host's own address (IPv6)", "2001:db8::98", HOST6))
def _(case, addr, host):
    guest = case.joined("--map-guest-addr", addr)
    sock = case.net.host.udp(host, 5000)
    where = udp_both_ways(guest, sock, addr, 5000)
    assert where[0] == host
    server = case.net.host.tcp_server(host)
    conn = rawtcp.connect(guest, addr, server.getsockname()[1])
    tcp_works(conn, server.accept()[0])


@test
def a_connection_from_the_hosts_own_address_is_seen_under_map_guest_addr(case):
    guest = case.joined("--map-guest-addr", "192.0.2.98", "-t", PORT)
    peer = case.net.host.tcp_client(HOST4, PORT, source=HOST4, blocking=False)
    conn = rawtcp.accept(guest, PORT)
    assert conn.remote == "192.0.2.98", conn.remote
    tcp_works(conn, peer)


@rows(("what comes from the host's own address comes from the gateway's (IPv4)", HOST4),
      ("what comes from the host's own address comes from the gateway's (IPv6)", HOST6))
def _(case, own):
    guest = case.joined("-t", PORT, "-u", PORT)
    seen = GATEWAY[6 if ":" in own else 4]
    peer = case.net.host.tcp_client(own, PORT, source=own, blocking=False)
    conn = rawtcp.accept(guest, PORT)
    assert conn.remote == seen
    tcp_works(conn, peer)
    sock = case.net.host.udp(own)
    sock.sendto(b"hello", (own, PORT))
    got = guest.expect(is_udp(PORT), "the datagram")
    assert got.src == seen
    guest.send(guest.udp(got.src, got.sport, b"reply", sport=PORT, src=got.dst))
    data, where = sock.recvfrom(10)
    assert data == b"reply" and where[:2] == (own, PORT)


@rows(("a guest on another address reaches the host's own (IPv4)", HOST4), ("a guest on another address reaches the host's own "
                                                                           "(IPv6)", HOST6))
def _(case, own):
    case.start()
    guest = case.guest(ip4="192.0.2.150", ip6="2001:db8::150")
    sock = case.net.host.udp(own)
    udp_both_ways(guest, sock, own, sock.getsockname()[1])
    server = case.net.host.tcp_server(own)
    tcp_works(rawtcp.connect(guest, own, server.getsockname()[1]), server.accept()[0])


@test
def a_loopback_resolver_is_reached_through_the_gateway(case):
    case.net.host.resolv_conf("nameserver 127.0.0.53\nnameserver ::1\n")
    guest = case.joined()
    for addr, seen in (("127.0.0.53", GW4), ("::1", GW6)):
        udp_both_ways(guest, case.net.host.udp(addr, 53), seen, 53)
        server = case.net.host.tcp_server(addr, 53)
        conn = rawtcp.connect(guest, seen, 53)
        tcp_works(conn, server.accept()[0])


@test
def a_loopback_resolver_of_the_common_address_is_reached_through_the_gateway(case):
    case.net.host.resolv_conf("nameserver 127.0.0.1\n")
    guest = case.joined()
    sock = case.net.host.udp("127.0.0.1", 53)
    udp_both_ways(guest, sock, GW4, 53)


@test
def a_resolver_that_is_the_gateway_is_not_shadowed_by_the_loopback(case):
    case.net.host.resolv_conf("nameserver %s\n" % GW4)
    guest = case.joined()
    sock = case.net.remote.udp(GW4, 53)
    guest.send(guest.udp(GW4, 53, b"ask", sport=41000))
    assert sock.recvfrom(10)[0] == b"ask"


@rows(("dns-forward leads to the host's resolver", (), DNS4), ("dns-host names the resolver for dns-forward",
                                                              ("--dns-host", FAR4), FAR4))
def _(case, options, resolver):
    guest = case.joined("--dns-forward", "169.254.1.1", *options)
    for port in (53, 853):
        sock = case.net.remote.udp(resolver, port)
        udp_both_ways(guest, sock, "169.254.1.1", port)
        server = case.net.remote.tcp_server(resolver, port)
        conn = rawtcp.connect(guest, "169.254.1.1", port)
        tcp_works(conn, server.accept()[0])


@test
def dns_forward_works_over_ipv6(case):
    guest = case.joined("--dns-forward", "2001:db8::53:53")
    sock = case.net.remote.udp("2001:db8:51::53", 53)
    udp_both_ways(guest, sock, "2001:db8::53:53", 53)


@test
def dns_forward_leaves_other_ports_alone(case):
    guest = case.joined("--dns-forward", FAR4)
    sock = case.net.remote.udp(FAR4, 54)
    udp_both_ways(guest, sock, FAR4, 54)


@rows(("a guest on another address is served by TCP and UDP (IPv4)", "192.0.2.150", None),
      ("a guest on another address is served by TCP and UDP (IPv6)", None, "2001:db8::150"))
def _(case, ip4, ip6):
    case.start("-t", PORT, "-u", PORT)
    guest = case.guest(ip4=ip4 or HOST4, ip6=ip6 or HOST6)
    addr, host = (FAR4, HOST4) if ip4 else (FAR6, HOST6)
    sock = case.net.remote.udp(addr)
    where = udp_both_ways(guest, sock, addr, sock.getsockname()[1])
    assert where[0] == host, "the guest's own address left the host"
    peer = case.net.remote.tcp_client(host, PORT, source=addr, blocking=False)
    conn = rawtcp.accept(guest, PORT)
    assert conn.local == (ip4 or ip6), "sent to %s" % conn.local
    tcp_works(conn, peer)


@test
def a_guest_on_another_address_is_found_again_each_time_it_connects(case):
    case.start("-t", PORT)
    server = case.net.remote.udp(FAR4)
    case.cleanups.append(server.close)
    for _ in range(8):
        guest = case.guest(resolve=False, ip4="192.0.2.150", ip6=None)
        guest.send(guest.udp(FAR4, server.getsockname()[1], b"here"))  # while the one of before is forgotten, perhaps
        guest.resolve("fe80::1")
        guest.send(guest.udp(FAR4, server.getsockname()[1], b"here"))
        guest.resolve("fe80::1")  # what was told to the control thread before has been heard
        conn, peer = case.forwarded(PORT, FAR4)
        assert conn.local == guest.ip4, conn.local
        peer.close()
        guest.close()
        case.guests.clear()


@test
def a_guest_that_has_only_announced_itself_by_arp_is_reached(case):
    case.start("-t", PORT)
    guest = case.guest(resolve=False, ip4="192.0.2.150", ip6=None)
    announcement = wire.arp(1, guest.mac, guest.ip4, "00:00:00:00:00:00", guest.ip4)
    guest.send(guest.eth(wire.ETH_ARP, announcement, dst=wire.BROADCAST))
    guest.resolve(GW4)
    conn, peer = case.forwarded(PORT, FAR4)
    assert conn.local == guest.ip4, conn.local
    tcp_works(conn, peer)


@test
def a_guest_that_has_only_probed_for_its_address_is_reached(case):
    """By duplicate address detection: all that a guest says that only serves."""
    case.start("-t", PORT)
    own = "2001:db8::150"
    guest = case.guest(resolve=False, ip4=None, ip6=own)
    guest.send(guest.solicitation(own, src="::", options=b""))
    guest.resolve("fe80::1")
    conn, peer = case.forwarded(PORT, FAR6)
    assert conn.local == own, conn.local
    tcp_works(conn, peer)


def speak(case, guest, sources, pause):
    """A datagram from each of the addresses, one after the other."""
    server = case.net.remote.udp(FAR6)
    case.cleanups.append(server.close)
    for src in sources:
        guest.send(guest.udp(FAR6, server.getsockname()[1], b"x", src=src))
        guest.pump(pause)


@test
def a_stray_source_does_not_keep_the_forwarded_ports(case):
    guest = case.joined("-t", PORT)
    # An address is told of once a second at most; IPv4 would be heard again by ARP.
    speak(case, guest, (HOST6, "2001:db8:17::5", HOST6), 1.2)
    conn, peer = case.forwarded(PORT, FAR6)
    assert conn.local == HOST6, conn.local
    tcp_works(conn, peer)


@test
def a_guest_that_leaves_the_address_it_was_given_is_followed(case):
    guest = case.joined("-t", PORT)
    own = "2001:db8::155"
    speak(case, guest, (HOST6,), 0)
    guest.ip6 = own
    speak(case, guest, 12 * (own,), 0.4)  # the one before has to be silent for a while
    conn, peer = case.forwarded(PORT, FAR6)
    assert conn.local == own, conn.local
    tcp_works(conn, peer)


@test
def an_arp_probe_tells_nothing_of_the_guests_address(case):
    case.start("-t", PORT)
    guest = case.guest(resolve=False, ip6=None)
    probe = wire.arp(1, guest.mac, "0.0.0.0", "00:00:00:00:00:00", "192.0.2.150")
    guest.send(guest.eth(wire.ETH_ARP, probe, dst=wire.BROADCAST))
    guest.resolve(GW4)
    conn, _ = case.forwarded(PORT, FAR4)
    assert conn.local == HOST4, conn.local


@test
def a_broadcast_address_is_never_taken_for_the_guests(case):
    guest = case.joined("-t", PORT)
    announced = wire.arp(1, guest.mac, "192.0.2.255", "00:00:00:00:00:00", "192.0.2.255")
    guest.send(guest.eth(wire.ETH_ARP, announced, dst=wire.BROADCAST), guest.udp(FAR4, 9, b"odd", src="192.0.2.255"))
    guest.pump(0.2)  # no frame of another address, which would be learnt in its place
    conn, _ = case.forwarded(PORT, FAR4)
    assert conn.local == HOST4, conn.local


@test
def an_address_given_by_option_is_replaced_by_the_hosts_on_the_way_out(case):
    case.start("-a", "10.1.2.3", "-n", "24", "-g", "10.1.2.1")
    guest = case.guest(ip4="10.1.2.3", resolve=False)
    guest.alive("10.1.2.1")
    sock = case.net.remote.udp(FAR4)
    assert udp_both_ways(guest, sock, FAR4, sock.getsockname()[1])[0] == HOST4


@test
def a_link_local_peer_of_the_host_is_reached_and_sees_no_guest_address(case):
    guest = case.joined()
    case.net.remote.batch("addr add fe80::77/64 dev r0 nodad\n")
    sock = case.net.remote.udp("fe80::77%r0", 6000)
    where = udp_both_ways(guest, sock, "fe80::77", 6000)
    assert where[0].startswith("fe80:") and where[0].split("%")[0] != LL


@test
def a_link_local_connection_to_a_forwarded_port_arrives(case):
    guest = case.joined("-t", PORT)
    case.net.remote.batch("addr add fe80::77/64 dev r0 nodad\n")
    with case.net.host:
        import json
        import subprocess
        out = subprocess.run(("ip", "-j", "-6", "addr", "show", "dev", "h0"), capture_output=True, check=True).stdout
    host_ll = next(a["local"] for a in json.loads(out)[0]["addr_info"] if a["scope"] == "link")
    peer = case.net.remote.tcp_client(host_ll + "%r0", PORT, blocking=False)
    conn = rawtcp.accept(guest, PORT)
    assert conn.remote.startswith("fe80:") and conn.local.startswith("fe80:"), "a mix of scopes"
    tcp_works(conn, peer)


def leaves_with_source(case, guest, far, addr):
    """What the guest sends to far comes from addr there, and is answered."""
    sock = case.net.remote.udp(far)
    assert udp_both_ways(guest, sock, far, sock.getsockname()[1])[0] == addr
    server = case.net.remote.tcp_server(far)
    conn = rawtcp.connect(guest, far, server.getsockname()[1])
    peer, where = server.accept()
    assert where[0] == addr
    tcp_works(conn, peer)
    proto, request, reply = ("ipv6-icmp", 128, 129) if ":" in far else ("icmp", 8, 0)
    with case.net.remote:
        pings = socket.socket(socket.AF_INET6 if ":" in far else socket.AF_INET, socket.SOCK_RAW, socket.getprotobyname(proto))
    pings.settimeout(6)
    guest.send(guest.echo(far, 3, 4, b"from where"))
    while True:
        packet, where = pings.recvfrom(1000)
        if packet[0 if ":" in far else 20] == request and packet.endswith(b"from where"):
            break
    assert where[0] == addr
    guest.expect(lambda f: f.kind.startswith("icmp") and f.type == reply, "echo reply")
    pings.close()


@rows(("the outbound address is used as source (IPv4)", "192.0.2.3", FAR4), ("the outbound address is used as source (IPv6)",
                                                                           "2001:db8::3", FAR6))
def _(case, addr, far):
    case.net.host.batch("addr add %s dev h0\n" % (addr + "/24" if "." in addr else addr + "/64 nodad"))
    leaves_with_source(case, case.joined("-o", addr), far, addr)


@rows(("what leaves leaves by the outbound interface (IPv4)", "--outbound-if4", FAR4, "203.0.113.2"),
      ("what leaves leaves by the outbound interface (IPv6)", "--outbound-if6", FAR6, "2001:db8:77::2"),
      ("the outbound interface of IPv4 leaves IPv6 alone", "--outbound-if4", FAR6, HOST6),
      ("an interface named for addresses does not bind what leaves (IPv4)", "-i", FAR4, HOST4),
      ("an interface named for addresses does not bind what leaves (IPv6)", "-i", FAR6, HOST6))
def _(case, option, far, addr):
    case.net.connect_again()
    leaves_with_source(case, case.joined(option, "h1"), far, addr)


@rows(("ipv4-only passes no IPv6", "-4", FAR6), ("ipv6-only passes no IPv4", "-6", FAR4))
def _(case, option, addr):
    case.start(option)
    guest = case.guest(resolve=False)
    sock = case.net.remote.udp(addr, 5000)
    guest.send(guest.udp(addr, 5000, b"x"))
    quiet(sock)


if __name__ == "__main__":
    sys.exit(main())
