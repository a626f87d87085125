#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""UDP both ways: any size, fragments, errors that come back, ports kept."""
import os
import random
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import wire
from netns import FAR4, FAR6, GW4, HOST4, HOST6
from suite import both, main, rows, test
from wire import UDP, ip_bytes

BIG = random.Random(9).randbytes(65507)
PORT = 7000


def host_of(addr):
    return HOST6 if ":" in addr else HOST4


def is_udp(port=None):
    return lambda f: f.kind == "udp" and (port is None or f.dport == port)


def server(case, addr, port=0):
    sock = case.net.remote.udp(addr, port)
    sock.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
    case.cleanups.append(sock.close)
    return sock, sock.getsockname()[1]


def quiet(sock):
    sock.settimeout(0.3)
    try:
        data = sock.recv(70000)
    except TimeoutError:
        return
    finally:
        sock.settimeout(10)
    raise AssertionError("a datagram of %d bytes came" % len(data))


@both
def a_datagram_and_its_answer_pass(case, addr):
    guest = case.joined()
    sock, port = server(case, addr)
    guest.send(guest.udp(addr, port, b"ask"))
    data, where = sock.recvfrom(100)
    assert data == b"ask" and where[0] == host_of(addr)
    sock.sendto(b"answer", where)
    answer = guest.expect(is_udp(40000), "the answer")
    assert (answer.src, answer.sport, answer.data) == (addr, port, b"answer")
    assert answer.dst == host_of(addr)


@both
def the_guests_port_is_kept_where_it_is_free(case, addr):
    guest = case.joined()
    sock, port = server(case, addr)
    guest.send(guest.udp(addr, port, b"x", sport=45678))
    assert sock.recvfrom(10)[1][1] == 45678


@rows(("a forwarded port of the host's address is the source of what the guest begins", HOST4, (), PORT),
      ("so it is if the guest has another address", HOST4, ("-a", "10.0.2.15", "-n", "24", "-g", "10.0.2.1"), PORT),
      ("a forwarded port of another address is not, as its answers would not come back", "198.18.0.1", (), None))
def _(case, bound, options, expected):
    case.net.host.run("ip", "addr", "add", "198.18.0.1/32", "dev", "lo")
    case.start("-u", "%s/%d" % (bound, PORT), *options)
    guest = case.guest(ip4="10.0.2.15") if options else case.guest()
    sock, port = server(case, FAR4)
    guest.send(guest.udp(FAR4, port, b"ask", sport=PORT))
    data, where = sock.recvfrom(100)
    assert data == b"ask" and where[0] == HOST4 and (where[1] == PORT) == (expected == PORT), where
    sock.sendto(b"answer", where)
    assert guest.expect(is_udp(PORT), "the answer").data == b"answer"


@test
def a_port_that_is_taken_on_the_host_is_replaced(case):
    guest = case.joined()
    taken = case.net.host.udp("0.0.0.0", 45678)
    sock, port = server(case, FAR4)
    guest.send(guest.udp(FAR4, port, b"x", sport=45678))
    data, where = sock.recvfrom(10)
    sock.sendto(b"back", where)
    assert guest.expect(is_udp(45678), "the answer").data == b"back"
    taken.close()


@test
def two_flows_are_kept_apart(case):
    guest = case.joined()
    first, port1 = server(case, FAR4)
    second, port2 = server(case, FAR4)
    guest.send(guest.udp(FAR4, port1, b"1", sport=5001), guest.udp(FAR4, port2, b"2", sport=5002))
    for sock, data in ((first, b"1"), (second, b"2")):
        got, where = sock.recvfrom(10)
        assert got == data
        sock.sendto(b"re" + got, where)
    for sport, port, data in ((5001, port1, b"re1"), (5002, port2, b"re2")):
        answer = guest.expect(is_udp(sport), "an answer")
        assert (answer.sport, answer.data) == (port, data)


@test
def one_port_of_the_guest_speaks_to_many_servers(case):
    guest = case.joined()
    socks = [server(case, FAR4) for _ in range(5)] + [server(case, "198.51.100.53")]
    for sock, port in socks:
        guest.send(guest.udp(sock.getsockname()[0], port, b"x", sport=5001))
    sources = []
    for sock, port in socks:
        _, where = sock.recvfrom(10)
        sources.append(where)
        sock.sendto(b"%d" % port, where)
    got = {guest.expect(is_udp(5001), "an answer").data for _ in socks}
    assert got == {b"%d" % port for _, port in socks}
    assert len(set(sources)) == 1, "the mapping depends on the endpoint: %s" % sources


@both
def an_empty_datagram_passes_both_ways(case, addr):
    guest = case.joined()
    sock, port = server(case, addr)
    guest.send(guest.udp(addr, port, b""))
    data, where = sock.recvfrom(10)
    assert data == b""
    sock.sendto(b"", where)
    assert guest.expect(is_udp(40000), "an empty answer").data == b""


@rows(("65507 bytes pass (IPv4)", FAR4, 65507), ("65507 bytes pass (IPv6)", FAR6, 65507),
      ("65495 bytes pass (IPv6)", FAR6, 65495), ("9000 bytes pass (IPv4)", FAR4, 9000))
def _(case, addr, size):
    guest = case.joined()
    sock, port = server(case, addr)
    data = BIG[:size]
    for frame in fragmented(guest, addr, port, data, 1480):
        guest.send(frame)
    got, where = sock.recvfrom(70000)
    assert got == data, "%d bytes arrived" % len(got)
    sock.sendto(data, where)
    answer = guest.expect(is_udp(40000), "the answer")
    assert answer.data == data


@rows(("large datagrams are fragmented to the MTU (IPv4)", FAR4, 1500, 1500),
      ("large datagrams are fragmented to the MTU (IPv6)", FAR6, 1500, 1500),
      ("large datagrams are fragmented to the smallest MTU", FAR4, 68, 68),
      ("large datagrams are fragmented to IPv6's least MTU", FAR6, 68, 1280))
def _(case, addr, announced, mtu):
    guest = case.joined("-m", str(announced))
    sock, port = server(case, addr)
    guest.send(guest.udp(addr, port, b"x"))
    _, where = sock.recvfrom(10)
    seen, parse = [], guest.reassemble
    guest.reassemble = lambda f: seen.append(len(f.raw)) or parse(f)
    sock.sendto(BIG[:20000], where)
    answer = guest.expect(is_udp(40000), "the answer")
    assert answer.data == BIG[:20000]
    assert max(seen) <= mtu + 14, "a frame of %d bytes where the MTU is %d" % (max(seen), mtu)


def fragmented(guest, addr, port, data, size=1480, ident=77, sport=40000):
    src = guest.source_for(addr)
    return guest.fragments(addr, UDP, wire.udp(src, addr, sport, port, data), size, ident)


@rows(("fragments in order are put together (IPv4)", FAR4, list), ("fragments in order are put together (IPv6)", FAR6,
                                                                 list),
      ("fragments in reverse order are put together (IPv4)", FAR4, lambda f: f[::-1]),
      ("fragments in reverse order are put together (IPv6)", FAR6, lambda f: f[::-1]),
      ("fragments in any order are put together (IPv4)", FAR4, lambda f: random.Random(2).sample(f, len(f))),
      ("fragments in any order are put together (IPv6)", FAR6, lambda f: random.Random(2).sample(f, len(f))))
def _(case, addr, order):
    guest = case.joined()
    sock, port = server(case, addr)
    guest.send(*order(fragmented(guest, addr, port, BIG[:10000], 800)))
    assert sock.recv(70000) == BIG[:10000]


@both
def two_fragmented_datagrams_interleaved_are_kept_apart(case, addr):
    guest = case.joined()
    sock, port = server(case, addr)
    one = fragmented(guest, addr, port, b"1" * 5000, 1000, ident=1)
    two = fragmented(guest, addr, port, b"2" * 5000, 1000, ident=2)
    guest.send(*(f for pair in zip(one, two) for f in pair))
    assert {sock.recv(9000), sock.recv(9000)} == {b"1" * 5000, b"2" * 5000}


@both
def overlapping_fragments_are_refused(case, addr):
    guest = case.joined()
    sock, port = server(case, addr)
    frames = fragmented(guest, addr, port, b"a" * 2400, 800)
    evil = fragmented(guest, addr, port, b"b" * 2400, 808)
    guest.send(frames[0], evil[1], *frames[1:])
    quiet(sock)
    guest.send(*fragmented(guest, addr, port, b"c" * 2400, 800, ident=99))
    assert sock.recv(9000) == b"c" * 2400


@both
def a_missing_fragment_delivers_nothing(case, addr):
    guest = case.joined()
    sock, port = server(case, addr)
    frames = fragmented(guest, addr, port, BIG[:8000], 800)
    guest.send(*(frames[:4] + frames[5:]))
    quiet(sock)
    guest.alive()


@test
def fragments_with_ip_options_and_padding_are_put_together(case):
    guest = case.joined()
    sock, port = server(case, FAR4)
    datagram = wire.udp(HOST4, FAR4, 40000, port, BIG[:4001])
    for ident, options in enumerate((b"\x94\4\0\0", b"\1" * 40)):
        for at in range(0, len(datagram), 1480):
            fields = {"options": options} if at == 0 else {}
            guest.send(guest.ip(FAR4, UDP, datagram[at:at + 1480], ident=ident, offset=at,
                                flags=int(at + 1480 < len(datagram)), **fields) + b"\xa5" * 9)
        assert sock.recv(5000) == BIG[:4001]


@both
def fragments_of_8_bytes_of_which_some_come_twice_are_put_together(case, addr):
    guest = case.joined()
    sock, port = server(case, addr)
    parts = guest.fragments(addr, UDP, wire.udp(host_of(addr), addr, 40000, port, b"0123456789abc"), 8)
    guest.send(parts[0], parts[2], parts[0], parts[2], parts[1])
    assert sock.recv(100) == b"0123456789abc"


@rows(("fragments behind hop-by-hop options are put together", True), ("destination options in fragments are passed over", False))
def _(case, outside):
    guest = case.joined()
    sock, port = server(case, FAR6)
    options = b"\0\1\4\0\0\0\0"
    whole = wire.udp(HOST6, FAR6, 40000, port, BIG[:4001])
    if not outside:
        whole = bytes((UDP,)) + options + whole
    for at in range(0, len(whole), 1400):
        part = struct.pack("!BBHI", UDP if outside else 60, 0, at | (at + 1400 < len(whole)), 7) + whole[at:at + 1400]
        guest.send(guest.ip(FAR6, 0, bytes((44,)) + options + part) if outside else guest.ip(FAR6, 44, part))
    assert sock.recv(5000) == BIG[:4001]


@test
def a_flood_of_lone_fragments_is_bounded(case):
    guest = case.joined()
    sock, port = server(case, FAR4)
    before = case.daemons[0].memory_kb()
    for at in range(0, 20000, 500):
        guest.send(*(fragmented(guest, FAR4, port, b"f" * 3000, 1480, ident=(at + i) & 0xFFFF)[0] for i in range(500)))
    assert case.daemons[0].memory_kb() - before < 40 << 10
    guest.send(guest.udp(FAR4, port, b"whole"))
    assert sock.recv(9000) == b"whole"


@rows(("a fragment that ends past 65535 bytes is refused", 65528, 0, 100), ("a fragment of 0 bytes is harmless", 8, 1, 0),
      ("a middle fragment of 7 bytes is harmless", 8, 1, 7))
def _(case, offset, more, n):
    guest = case.joined()
    sock, port = server(case, FAR4)
    first = guest.ip(FAR4, UDP, wire.udp(HOST4, FAR4, 40000, port, b"x" * 1000)[:800], ident=5, flags=1)
    guest.send(guest.ip(FAR4, UDP, b"z" * n, ident=5, flags=more, offset=offset), first)
    guest.send(guest.ip(FAR4, UDP, b"z" * n, ident=6, flags=more, offset=offset))
    guest.send(guest.udp(FAR4, port, b"fine"))
    assert sock.recv(100) == b"fine"


def is_error(frame):
    return (frame.kind, frame.type) in (("icmp", 3), ("icmp6", 1), ("icmp", 11), ("icmp6", 3), ("icmp6", 2))


@both
def a_closed_port_is_told_with_the_original_header(case, addr):
    guest = case.joined()
    frame = guest.udp(addr, 9, b"nobody here", sport=40001)
    guest.send(frame)
    error = guest.expect(is_error, "port unreachable")
    if ":" in addr:
        assert (error.type, error.code) == (1, 4)
        inner = error.data
        assert inner[6] == UDP and inner[8:24] == wire.ip_bytes(HOST6) and inner[24:40] == wire.ip_bytes(addr)
        assert inner[40:44] == struct.pack("!HH", 40001, 9)
    else:
        assert (error.type, error.code) == (3, 3)
        inner = error.data
        assert inner[12:20] == wire.ip_bytes(HOST4) + wire.ip_bytes(addr)
        assert inner[9] == UDP and wire.checksum(inner[:20]) == 0
        assert inner[20:24] == struct.pack("!HH", 40001, 9)
    assert error.dst == host_of(addr)


@both
def a_peer_of_a_forwarded_port_that_is_gone_is_told(case, addr):
    guest = case.joined("-u", PORT)
    sock, port = server(case, addr)
    sock.sendto(b"hello", (host_of(addr), PORT))
    guest.expect(is_udp(PORT), "the datagram")
    sock.close()
    guest.send(guest.udp(addr, port, b"too late", sport=PORT))
    error = guest.expect(is_error, "port unreachable")
    assert error.src == addr and error.dst == host_of(addr)
    assert struct.pack("!HH", PORT, port) in error.data and error.data.endswith(b"too late")


@test
def a_flow_lives_on_after_an_error(case):
    guest = case.joined()
    guest.send(guest.udp(FAR4, 9999, b"x", sport=40001))
    guest.expect(is_error, "port unreachable")
    sock, _ = server(case, FAR4, 9999)
    guest.send(guest.udp(FAR4, 9999, b"now", sport=40001))
    assert sock.recv(10) == b"now"


@both
def a_datagram_too_big_for_the_path_with_df_is_told(case, addr):
    case.net.remote.batch("link set r0 mtu 1280\n")
    case.net.host.batch("link set h0 mtu 1280\n")
    guest = case.joined()
    server(case, addr, 9000)
    fields = {} if ":" in addr else {"flags": 2}
    guest.send(guest.udp(addr, 9000, b"x" * 4000, **fields))
    error = guest.expect(lambda f: (f.kind, f.type) in (("icmp", 3), ("icmp6", 2)), "too big")
    if ":" in addr:
        assert struct.unpack("!I", error.rest)[0] == 1280
    else:
        assert error.code == 4 and struct.unpack("!HH", error.rest)[1] == 1280


@both
def a_datagram_to_a_forwarded_port_comes_from_the_remotes_address_and_port(case, addr):
    guest = case.joined("-u", PORT)
    sock, port = server(case, addr)
    sock.sendto(b"hello", (host_of(addr), PORT))
    got = guest.expect(is_udp(PORT), "the datagram")
    assert (got.src, got.sport, got.data) == (addr, port, b"hello")
    guest.send(guest.udp(addr, port, b"reply", sport=PORT))
    data, where = sock.recvfrom(100)
    assert data == b"reply" and where[:2] == (host_of(addr), PORT)


@test
def a_forwarded_port_serves_many_peers(case):
    guest = case.joined("-u", PORT)
    socks = [server(case, FAR4) for _ in range(50)]
    for sock, port in socks:
        sock.sendto(b"%d" % port, (HOST4, PORT))
    for _ in socks:
        got = guest.expect(is_udp(PORT), "a datagram")
        assert got.data == b"%d" % got.sport
        guest.send(guest.udp(FAR4, got.sport, b"re" + got.data, sport=PORT))
    for sock, port in socks:
        assert sock.recv(100) == b"re%d" % port


@both
def a_large_datagram_to_a_forwarded_port_arrives(case, addr):
    guest = case.joined("-u", PORT)
    sock, _ = server(case, addr)
    sock.sendto(BIG, (host_of(addr), PORT))
    assert guest.expect(is_udp(PORT), "the datagram").data == BIG


@test
def an_icmp_error_of_the_guest_is_survived(case):
    guest = case.joined("-u", PORT)
    with case.net.remote:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((FAR4, 0))
    sock.connect((HOST4, PORT))
    sock.settimeout(5)
    sock.send(b"hello")
    got = guest.expect(is_udp(PORT), "the datagram")
    error = wire.icmp(3, 3, b"\0" * 4, got.raw[14:14 + 28])
    guest.send(guest.ip(FAR4, wire.ICMP, error))
    guest.pump(0.2)
    guest.alive()
    sock.close()


@test
def datagrams_of_a_batch_keep_order_and_borders(case):
    guest = case.joined()
    sock, port = server(case, FAR4)
    rng = random.Random(4)
    sizes = [rng.choice((0, 1, 100, 100, 100, 1400, 1400, 1400, 9000)) for _ in range(300)]
    guest.send(*(guest.udp(FAR4, port, BIG[i:i + n]) for i, n in enumerate(sizes)))
    for i, n in enumerate(sizes):
        assert sock.recv(70000) == BIG[i:i + n], "datagram %d" % i


@test
def datagrams_from_the_remote_keep_order_and_borders(case):
    guest = case.joined()
    sock, port = server(case, FAR4)
    guest.send(guest.udp(FAR4, port, b"x"))
    _, where = sock.recvfrom(10)
    sizes = [1400] * 40 + [100] * 20 + [0, 1, 2] + [1400, 700] * 10
    for i, n in enumerate(sizes):
        sock.sendto(BIG[i:i + n], where)
    for i, n in enumerate(sizes):
        assert guest.expect(is_udp(40000), "datagram %d" % i).data == BIG[i:i + n], "datagram %d" % i


@rows(("a UDP length of 7 is dropped", 7), ("a UDP length of 0 is dropped", 0), ("a UDP length past the packet is dropped",
                                                                               2000))
def _(case, length):
    guest = case.joined()
    sock, port = server(case, FAR4)
    guest.send(guest.udp(FAR4, port, b"liar" * 5, udp={"length": length}))
    guest.send(guest.udp(FAR4, port, b"fine"))
    assert sock.recv(100) == b"fine"


@test
def a_udp_length_shorter_than_the_packet_cuts_the_payload(case):
    guest = case.joined()
    sock, port = server(case, FAR4)
    guest.send(guest.udp(FAR4, port, b"abcdef", udp={"length": 11}))
    guest.send(guest.udp(FAR4, port, b"end"))
    assert sock.recv(100) in (b"abc", b"end")


@test
def ethernet_padding_is_no_payload(case):
    guest = case.joined()
    sock, port = server(case, FAR4)
    guest.send(guest.udp(FAR4, port, b"ab") + bytes(16))
    assert sock.recv(100) == b"ab"


@test
def a_checksum_of_0_is_taken_over_ipv4(case):
    guest = case.joined()
    sock, port = server(case, FAR4)
    guest.send(guest.udp(FAR4, port, b"none", udp={"no_checksum": True}))
    assert sock.recv(100) == b"none"


@rows(("a loopback source is dropped", "127.0.0.1"), ("a multicast source is dropped", "224.0.0.5"),
      ("the broadcast source is dropped", "255.255.255.255"),
      ("the network's broadcast address as source is dropped", "192.0.2.255"))
def _(case, src):
    guest = case.joined()
    sock, port = server(case, FAR4)
    guest.send(guest.udp(FAR4, port, b"spoof", src=src))
    guest.send(guest.udp(FAR4, port, b"fine"))
    assert sock.recv(100) == b"fine"


@test
def the_hosts_loopback_is_not_reached_by_its_own_address(case):
    guest = case.joined()
    sock = case.net.host.udp("127.0.0.1", 5353)
    guest.send(guest.udp("127.0.0.1", 5353, b"evil"))
    quiet(sock)
    sock.close()


@test
def ports_0_are_dropped(case):
    guest = case.joined()
    guest.send(guest.udp(FAR4, 0, b"x"), guest.udp(FAR4, 53, b"x", sport=0))
    guest.alive()


@test
def ip_options_are_skipped(case):
    guest = case.joined()
    sock, port = server(case, FAR4)
    guest.send(guest.udp(FAR4, port, b"opts", options=b"\1\1\1\0" + b"\x94\4\0\0"))
    assert sock.recv(100) == b"opts"


@test
def ipv6_extension_headers_are_skipped(case):
    guest = case.joined()
    sock, port = server(case, FAR6)
    datagram = wire.udp(HOST6, FAR6, 40000, port, b"ext")
    hop_by_hop = b"\x3c\0" + b"\1\4\0\0\0\0"
    destination = b"\x11\0" + b"\1\4\0\0\0\0"
    guest.send(guest.ip(FAR6, 0, hop_by_hop + destination + datagram))
    assert sock.recv(100) == b"ext"


@test
def no_udp_passes_nothing(case):
    guest = case.joined("--no-udp")
    sock, port = server(case, FAR4)
    guest.send(guest.udp(FAR4, port, b"x"))
    quiet(sock)


@test
def broadcast_from_the_guest_reaches_the_hosts_network(case):
    guest = case.joined()
    with case.net.remote:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", 7777))
    sock.settimeout(10)
    guest.send(guest.udp("192.0.2.255", 7777, b"all", sport=40000))
    assert sock.recv(10) == b"all"
    sock.close()


@test
def multicast_from_the_guest_reaches_the_hosts_network(case):
    guest = case.joined()
    with case.net.remote:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("", 7778))
        index = socket.if_nametoindex("r0")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                        struct.pack("4s4si", socket.inet_aton("239.1.2.3"), b"\0" * 4, index))
    sock.settimeout(10)
    guest.send(guest.udp("239.1.2.3", 7778, b"group"))
    assert sock.recv(10) == b"group"
    sock.close()


def from_the_link(case, group=None):
    """A socket of a neighbour of the host, which joins the group as any program on it may."""
    if group:
        with case.net.host:
            member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, ip_bytes(group) + ip_bytes(HOST4))
        case.cleanups.append(member.close)
    sock = case.net.remote.udp(GW4)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, ip_bytes(GW4))
    return sock


@rows(("multicast to a forwarded port reaches the guest", "224.0.0.251", "224.0.0.251"),
      ("directed broadcast to a forwarded port reaches the guest", "192.0.2.255", None),
      ("limited broadcast to a forwarded port reaches the guest", "255.255.255.255", None))
def _(case, dst, group):
    guest = case.joined("-u", PORT)
    sock = from_the_link(case, group)
    sock.sendto(b"to all", (dst, PORT))
    got = guest.expect(is_udp(PORT), "the datagram")
    assert (got.src, got.sport, got.data) == (GW4, sock.getsockname()[1], b"to all")
    guest.send(guest.udp(GW4, got.sport, b"back", sport=PORT))
    data, where = sock.recvfrom(100)
    assert (data, where) == (b"back", (HOST4, PORT))


@rows(*(("what the guest sends to %s does not come back to %s" % (dst, where), dst, options)
        for dst in ("224.0.0.251", "192.0.2.255", "255.255.255.255", "ff02::fb", "ff05::fb")
        for where, options in (("a port of its own", ()), ("a forwarded port", ("-u", PORT)))))
def _(case, dst, options):
    v6 = ":" in dst
    guest = case.joined(*options)
    with case.net.host:
        member = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
        index = socket.if_nametoindex("h0")
    if v6:
        member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, ip_bytes(dst) + struct.pack("I", index))
    elif dst.startswith("224"):
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, ip_bytes(dst) + ip_bytes(HOST4))
    for sport in (PORT, PORT + 1):
        guest.send(guest.udp(dst, PORT, b"to all", sport=sport))
    guest.expect_none(is_udp(PORT), "its own datagram")
    # A neighbour that sends from the same port is heard.
    sock = case.net.remote.udp("fe80::1%r0" if v6 else GW4, PORT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    if v6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 5)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, ip_bytes(GW4))
    sock.sendto(b"from one", (dst, PORT))
    assert guest.expect(is_udp(PORT), "the neighbour's datagram").data == b"from one"
    member.close()


@both
def ecn_and_hop_limit_of_the_remote_reach_the_guest(case, addr):
    guest = case.joined()
    sock, port = server(case, addr)
    guest.send(guest.udp(addr, port, b"ask"))
    _, where = sock.recvfrom(100)
    level, tos, ttl = (41, socket.IPV6_TCLASS, socket.IPV6_UNICAST_HOPS) if ":" in addr else \
        (0, socket.IP_TOS, socket.IP_TTL)
    sock.setsockopt(level, tos, 0xB8 | 3)
    sock.setsockopt(level, ttl, 44)
    sock.sendto(b"answer", where)
    got = guest.expect(is_udp(40000), "the answer")
    assert (got.tos, got.ttl) == (0xBB, 44)


@test
def ecn_bits_of_the_guest_are_passed_on(case):
    guest = case.joined()
    sock, port = server(case, FAR4)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    guest.send(guest.udp(FAR4, port, b"ect", tos=2))
    _, ancillary, _, _ = sock.recvmsg(100, 100)
    tos = [data[0] for level, kind, data in ancillary if kind == socket.IP_TOS]
    assert tos and tos[0] & 3 == 2, tos


@test
def a_thousand_flows_work(case):
    guest = case.joined()
    sock, port = server(case, FAR4)
    guest.send(*(guest.udp(FAR4, port, b"%d" % i, sport=10000 + i) for i in range(1000)))
    for _ in range(1000):
        data, where = sock.recvfrom(100)
        sock.sendto(data, where)
    for _ in range(1000):
        answer = guest.expect(is_udp(), "an answer")
        assert answer.dport == 10000 + int(answer.data)


@rows(("datagrams to a hop behind the guest that takes less go in fragments (IPv4)", FAR4, 600),
      ("datagrams to a hop behind the guest that takes less go in fragments (IPv6)", FAR6, 1280))
def _(case, addr, mtu):
    guest = case.joined()
    sock, port = server(case, addr)
    guest.send(guest.udp(addr, port, b"ask"))
    where = sock.recvfrom(10)[1]
    sock.sendto(BIG[:1400], where)
    whole = guest.expect(is_udp(40000), "the answer")
    assert not hasattr(whole, "n_fragments")
    guest.send(guest.too_big(whole, mtu))
    guest.send(guest.udp(addr, port, b"again"))  # behind which the error has been read
    assert sock.recvfrom(10)[0] == b"again"
    sock.sendto(BIG[:1400], where)
    again = guest.expect(is_udp(40000), "the answer in fragments")
    assert again.data == BIG[:1400]
    assert again.n_fragments == -(-1408 // ((mtu - (48 if ":" in addr else 20)) & ~7)), again.n_fragments


if __name__ == "__main__":
    sys.exit(main())
