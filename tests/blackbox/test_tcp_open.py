#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How TCP connections begin: from the guest, to it, refused, repeated, and what is agreed on."""
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import rawtcp
import wire
from netns import FAR4, FAR6, GW4, GW6, HOST4, HOST6
from rawtcp import Tcp
from suite import both, main, rows, test, wait_for
from transfer import read_exactly, send_all
from wire import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG

PORT = 7000


def is_tcp(frame):
    return frame.kind == "tcp"


def host_of(addr):
    return HOST6 if ":" in addr else HOST4


def ended(sock):
    """The peer's side was ended: end of file or a reset."""
    try:
        return sock.recv(1) == b""
    except (ConnectionResetError, ConnectionRefusedError, TimeoutError) as error:
        return not isinstance(error, TimeoutError)


def works(conn, peer):
    """Some bytes pass each way."""
    conn.write(b"ping" * 10)
    assert peer.recv(1000)[:4] == b"ping"
    start = len(conn.data)
    peer.sendall(b"pong")
    assert conn.wait_data(start + 4)[start:] == b"pong"


@both
def the_guest_connects_and_the_server_sees_the_hosts_address(case, addr):
    conn, peer = case.pair(addr=addr)
    assert peer.getpeername()[0] == host_of(addr)
    works(conn, peer)


@both
def a_refused_connection_gets_a_reset_that_acknowledges_the_syn(case, addr):
    guest = case.joined()
    conn = Tcp(guest, addr, 9, 30000)
    conn.send(SYN)
    reset = conn.wait_reset()
    assert reset.flags & ACK and reset.ack == (conn.isn + 1) & 0xFFFFFFFF, str(reset)
    assert not reset.data


@rows(("an unreachable network is told by the gateway (IPv4)", "203.0.113.9", GW4, 3),
      ("an unreachable network is told by the gateway (IPv6)", "2001:db8:dead::9", GW6, 1))
def _(case, addr, gateway, kind):
    case.net.host.batch("route add unreachable %s\n" % (addr + ("/128" if ":" in addr else "/32")))
    guest = case.joined()
    conn = Tcp(guest, addr, 80, 30000)
    conn.send(SYN)
    error = guest.expect(lambda f: f.kind in ("icmp", "icmp6") and f.type == kind, "an ICMP error")
    assert error.src == gateway, str(error)


@both
def a_syn_sent_five_times_makes_one_connection(case, addr):
    guest = case.joined()
    server = case.net.remote.tcp_server(addr)
    conn = Tcp(guest, addr, server.getsockname()[1], 30000)
    guest.send(*[conn.frame(SYN)] * 5)
    conn.send(SYN)
    guest.pump_until(lambda: conn.rcv_nxt is not None, "SYN-ACK comes")
    conn.ack()
    guest.pump(0.2)
    peer, _ = server.accept()
    server.settimeout(0.3)
    try:
        server.accept()
        raise AssertionError("a second connection was made")
    except TimeoutError:
        pass
    peer.settimeout(10)
    works(conn, peer)


@test
def a_syn_repeated_after_the_handshake_leaves_the_connection_alone(case):
    conn, peer = case.pair()
    conn.guest.send(conn.frame(SYN, seq=conn.isn))
    conn.guest.pump(0.2)
    assert not conn.reset, "the connection was reset"
    works(conn, peer)


@test
def a_syn_inside_the_window_gets_a_challenge_ack(case):
    conn, peer = case.pair()
    case.guests[0].send(conn.frame(SYN, seq=conn.snd_nxt + 100))
    answer = conn.wait_segment(is_tcp, "an answer to the SYN")
    assert answer.flags & (ACK | RST | SYN) == ACK and answer.ack == conn.snd_nxt
    works(conn, peer)


@rows(("a SYN with another number is challenged during the handshake, which goes on", SYN, 0, 5000),
      ("a SYN-ACK with another number is challenged during the handshake, which goes on", SYN | ACK, 1, 5000),
      ("a reset in the window is challenged during the handshake, which goes on", RST, 0, 5000),
      ("a reset with ACK in the window is challenged during the handshake, which goes on", RST | ACK, 1, 5000),
      ("a reset outside the window is ignored during the handshake, which goes on", RST, 0, -5000))
def _(case, flags, acks, ahead):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    conn = Tcp(guest, FAR4, server.getsockname()[1], 30000)
    conn.send(SYN)
    guest.pump_until(lambda: conn.rcv_nxt is not None, "SYN-ACK comes")
    guest.send(conn.frame(flags, seq=conn.snd_nxt + ahead, ack=acks * conn.rcv_nxt))
    if ahead > 0:
        answer = conn.wait_segment(lambda f: not f.flags & SYN, "a challenge")
        assert answer.flags & (ACK | RST) == ACK, str(answer)
        assert (answer.seq, answer.ack) == (conn.rcv_nxt, conn.snd_nxt), str(answer)
    conn.ack()
    peer, _ = server.accept()
    peer.settimeout(10)
    works(conn, peer)


@both
def a_lost_syn_ack_is_sent_again(case, addr):
    guest = case.joined()
    server = case.net.remote.tcp_server(addr)
    conn = Tcp(guest, addr, server.getsockname()[1], 30000, acking=False)
    conn.send(SYN)
    guest.pump_until(lambda: conn.rcv_nxt is not None, "SYN-ACK comes")
    start = len(conn.segments)
    guest.pump_until(lambda: any(f.flags & SYN for f in conn.segments[start:]), "SYN-ACK comes again", 15)
    conn.ack()
    server.accept()[0].close()


@test
def data_in_the_syn_is_accepted_or_cleanly_ignored(case):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    conn = Tcp(guest, FAR4, server.getsockname()[1], 30000)
    conn.send(SYN, data=b"early")
    guest.pump_until(lambda: conn.rcv_nxt is not None, "SYN-ACK comes")
    acked = conn.snd_una
    assert acked in ((conn.isn + 1) & 0xFFFFFFFF, (conn.isn + 6) & 0xFFFFFFFF)
    guest.send(conn.frame(ACK | PSH, seq=conn.isn + 1, data=b"early"))
    conn.wait_acked()
    assert server.accept()[0].recv(100) == b"early"


@rows(("an ACK of no connection gets a reset with its sequence", ACK, b""),
      ("data of no connection gets a reset with its sequence", ACK | PSH, b"hello"),
      ("SYN-ACK of no connection gets a reset with its sequence", SYN | ACK, b""))
def _(case, flags, data):
    guest = case.joined()
    conn = Tcp(guest, FAR4, 80, 30000)
    guest.send(conn.frame(flags, seq=1000, ack=123456789, data=data, options=b""))
    reset = conn.wait_reset()
    assert reset.seq == 123456789 and not reset.data, str(reset)


@rows(("a reset of no connection is not answered", RST), ("a reset and ACK of no connection is not answered", RST | ACK),
      ("SYN and RST is not answered", SYN | RST))
def _(case, flags):
    guest = case.joined()
    guest.backlog.clear()
    guest.send(guest.tcp(FAR4, 80, 30000, 1, 1, flags))
    guest.expect_none(is_tcp, "an answer")


ROUTER_ALERT, RECORD_ROUTE = b"\x94\4\0\0", b"\7\7\4\0\0\0\0\0"


def padded(guest):
    """Frames get their Ethernet padding, and whatever is in it."""
    plain = guest.tcp
    guest.tcp = lambda *words, **fields: (frame := plain(*words, **fields)) + b"\xa5" * (60 - len(frame))


def with_options(options):
    def mangle(guest):
        plain = guest.ip
        guest.ip = lambda *words, **fields: plain(*words, options=options, **fields)
    return mangle


def behind(proto, header):
    """An extension header before each segment; its first byte is the next header."""
    def mangle(guest):
        plain = guest.ip
        guest.ip = lambda dst, inner, payload, **fields: plain(dst, proto, bytes((inner,)) + header + payload, **fields)
    return mangle


@rows(("a connection of padded frames works", FAR4, padded), ("a connection with IP options works", FAR4, with_options(ROUTER_ALERT)),
      ("a connection with a recorded route works", FAR4, with_options(RECORD_ROUTE)),
      ("a connection with the most IP options works", FAR4, with_options(b"\1" * 40)),
      ("a connection behind hop-by-hop options works", FAR6, behind(0, b"\0\1\4\0\0\0\0")),
      ("a connection behind destination options works", FAR6, behind(60, b"\0\1\4\0\0\0\0")),
      ("a connection behind a routing header that is done works", FAR6, behind(43, b"\0\4\0\0\0\0\0")),
      ("a connection behind a fragment header of wholes works", FAR6, behind(44, b"\0\0\0\0\0\0\7")))
def _(case, addr, mangle):
    guest = case.joined()
    mangle(guest)
    conn, peer = case.pair(addr=addr)
    for data in (b"x", b"abc", bytes(range(256)) * 40 + b"odd"):
        conn.write(data)
        got = b""
        while len(got) < len(data):
            got += peer.recv(len(data))
        assert got == data
    works(conn, peer)
    conn.close()
    assert peer.recv(1) == b""
    peer.close()
    conn.wait_fin()


@rows(("a segment to 255.255.255.255 is not answered", "255.255.255.255", None),
      ("a segment to the network's broadcast address is not answered", "192.0.2.255", None),
      ("a segment to an IPv4 group is not answered", "224.0.0.1", None),
      ("a segment to an IPv6 group is not answered", "ff0e::1", None),
      ("a segment from the network's broadcast address is not answered", FAR4, "192.0.2.255"))
def _(case, dst, src):
    guest = case.joined()
    guest.backlog.clear()
    for flags in (SYN, ACK, SYN | ACK):
        guest.send(guest.tcp(dst, 9, 30000, 1, 1, flags, src=src))
    guest.expect_none(lambda f: f.kind in ("tcp", "icmp") or (f.kind == "icmp6" and f.type < 128), "an answer")


@rows(("no flags at all open nothing", 0), ("SYN and FIN open nothing", SYN | FIN), ("all flags open nothing", 0xFF),
      ("FIN, PSH and URG open nothing", FIN | PSH | URG))
def _(case, flags):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    guest.send(guest.tcp(FAR4, server.getsockname()[1], 30000, 1, 1, flags))
    server.settimeout(0.3)
    try:
        server.accept()
        raise AssertionError("a connection was opened")
    except TimeoutError:
        pass
    guest.alive()


@rows(("the MSS follows the default MTU (IPv4)", FAR4, (), 65480), ("the MSS follows the default MTU (IPv6)", FAR6, (),
                                                                   65460),
      ("the MSS follows an MTU of 1500 (IPv4)", FAR4, ("-m", "1500"), 1460),
      ("the MSS follows an MTU of 1500 (IPv6)", FAR6, ("-m", "1500"), 1440),
      ("the MSS follows an MTU of 68 (IPv4)", FAR4, ("-m", "68"), 28),
      ("the MSS follows IPv6's least MTU where less was given", FAR6, ("-m", "68"), 1220))
def _(case, addr, options, mss):
    conn, _ = case.pair(*options, addr=addr)
    assert conn.peer_mss() == mss, conn.peer_mss()


@rows(("no segment exceeds an MTU of 68 (IPv4)", FAR4, 28), ("no segment exceeds IPv6's least MTU", FAR6, 1220))
def _(case, addr, mss):
    conn, peer = case.pair("-m", "68", addr=addr)
    conn.mss = mss  # each segment is held against it
    peer.sendall(bytes(20000))
    conn.wait_data(20000, 20)


@rows(("the guest's MSS of 536 is kept", FAR4, 536), ("the guest's MSS of 1220 is kept", FAR6, 1220),
      ("the guest's MSS of 100 is kept", FAR4, 100))
def _(case, addr, mss):
    conn, peer = case.pair(addr=addr, mss=mss)
    peer.sendall(bytes(200000))
    conn.wait_data(200000, 20)


@rows(("without an MSS option segments have at most 536 bytes", FAR4, 536),
      ("without an MSS option segments have at most 1220 bytes (IPv6)", FAR6, 1220))
def _(case, addr, mss):
    guest = case.joined()
    server = case.net.remote.tcp_server(addr)
    conn = Tcp(guest, addr, server.getsockname()[1], 30000, mss=mss, wscale=None)
    conn.send(SYN, options=b"")
    guest.pump_until(lambda: conn.rcv_nxt is not None, "SYN-ACK comes")
    conn.ack()
    server.accept()[0].sendall(bytes(50000))
    conn.wait_data(50000)


@test
def a_window_scale_is_not_used_unless_offered(case):
    conn, peer = case.pair(wscale=None)
    assert wire.OPT_WSCALE not in conn.peer_options
    peer.sendall(bytes(300000))
    conn.wait_data(300000)
    conn.write(bytes(300000))


@rows(("a window scale of 0 is taken", 0), ("a window scale of 14 is taken", 14))
def _(case, shift):
    conn, peer = case.pair(wscale=shift, window=min(65535 << shift, 1 << 24))
    assert wire.OPT_WSCALE in conn.peer_options
    peer.sendall(bytes(300000))
    conn.wait_data(300000)


@test
def a_window_scale_above_14_is_taken_as_14(case):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    conn = Tcp(guest, FAR4, server.getsockname()[1], 30000, wscale=14, window=1 << 20)
    conn.send(SYN, options=wire.opt_mss(1460) + b"\1" + wire.opt_wscale(200))
    guest.pump_until(lambda: conn.rcv_nxt is not None, "SYN-ACK comes")
    conn.ack()
    server.accept()[0].sendall(bytes(200000))
    conn.wait_data(200000)


@test
def sack_is_permitted_if_offered(case):
    conn, _ = case.pair(sack=True)
    assert wire.OPT_SACK_OK in conn.peer_options


@test
def timestamps_are_in_every_segment_if_offered(case):
    conn, peer = case.pair(timestamps=True)
    assert wire.OPT_TS in conn.peer_options
    works(conn, peer)
    assert all(wire.OPT_TS in f.options for f in conn.segments if not f.flags & RST)


@test
def neither_sack_nor_timestamps_come_if_not_offered(case):
    conn, peer = case.pair(sack=False, timestamps=False)
    works(conn, peer)
    assert not {wire.OPT_SACK_OK, wire.OPT_TS} & set(conn.peer_options)


MSS, SCALE, STAMPS = wire.opt_mss(1460), wire.opt_wscale(8), wire.opt_timestamps(1, 0)


@rows(("a guest with the options of Windows is served", MSS + b"\1" + SCALE + b"\1\1" + wire.SACK_OK, {}),
      ("a guest with the options of macOS is served",
       MSS + b"\1" + SCALE + b"\1\1" + STAMPS + wire.SACK_OK + b"\0\0", {"timestamps": True}),
      ("a guest with the options of FreeBSD is served", MSS + b"\1" + SCALE + wire.SACK_OK + STAMPS, {"timestamps": True}),
      ("a guest with the options of OpenBSD is served",
       MSS + b"\1\1" + wire.SACK_OK + b"\1" + SCALE + b"\1\1" + STAMPS, {"timestamps": True}),
      ("a guest that asks for a Fast Open cookie is served", MSS + wire.SACK_OK + b"\1" + SCALE + b"\x22\2", {}),
      ("a guest that opens fast with a cookie is served",
       MSS + wire.SACK_OK + b"\1" + SCALE + b"\x22\x0acookie!!", {"data": b"early"}),
      ("a guest that asks for ECN is served", MSS + wire.SACK_OK + b"\1" + SCALE, {"flags": SYN | ECE | CWR}),
      ("a guest that asks for accurate ECN gets the classic one", MSS + wire.SACK_OK + b"\1" + SCALE,
       {"flags": SYN | ECE | CWR, "accurate_ecn": True}))
def _(case, options, fields):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    conn = Tcp(guest, FAR4, server.getsockname()[1], 30000, window=1 << 20, wscale=8, sack=True,
               timestamps=fields.pop("timestamps", False))
    flags, early = fields.pop("flags", SYN), fields.pop("data", b"")
    guest.send(conn.frame(flags, options=options, data=early, **fields))
    conn.snd_nxt = (conn.isn + 1) & 0xFFFFFFFF
    conn.ts_now += 1
    answer = conn.wait_segment(lambda f: f.flags & SYN, "SYN-ACK comes")
    assert answer.flags & (ECE | CWR) == (ECE if flags & ECE else 0), str(answer)
    assert conn.snd_una == conn.snd_nxt, "data in the SYN was taken"
    conn.ack()
    peer, _ = server.accept()
    peer.settimeout(10)
    conn.write(early + bytes(200000))
    assert read_exactly(conn, peer, len(early) + 200000).startswith(early)
    send_all(conn, peer, bytes(200000))
    conn.wait_data(200000)


@rows(("an unknown TCP option is skipped", b"\xfe\4ab"), ("an option of length 0 is survived", b"\2\0ab"),
      ("an option of length 1 is survived", b"\2\1ab"), ("an option that overruns is survived", b"\2\x28ab"),
      ("an option without a length is survived", b"\1\1\1\2"), ("an MSS of 0 is survived", b"\2\4\0\0"),
      ("an MSS of 3 bytes is survived", b"\2\3\0\1"), ("40 bytes of NOP are survived", b"\1" * 40))
def _(case, options):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    port = server.getsockname()[1]
    conn = Tcp(guest, FAR4, port, 30000, wscale=None)
    conn.send(SYN, options=options)
    guest.pump(0.2)
    if conn.rcv_nxt is not None:
        conn.ack()
        server.accept()[0].sendall(b"data")
        conn.wait_data(4)
    again = rawtcp.connect(guest, FAR4, port)
    works(again, server.accept()[0])


@both
def a_connection_to_a_forwarded_port_comes_from_the_remotes_address_and_port(case, addr):
    conn, peer = case.forwarded(PORT, addr, ("-t", PORT), sack=True, timestamps=True)
    assert conn.remote == addr and conn.local == host_of(addr)
    assert conn.rport == peer.getsockname()[1], "the source port was changed"
    peer.settimeout(10)
    works(conn, peer)


@test
def the_syn_to_the_guest_offers_mss_window_scale_and_sack(case):
    conn, _ = case.forwarded(PORT, FAR4, ("-t", PORT), sack=True, timestamps=True)
    assert {wire.OPT_MSS, wire.OPT_WSCALE, wire.OPT_SACK_OK} <= set(conn.peer_options), conn.peer_options
    assert conn.peer_mss() == 65480


@test
def a_guest_that_agrees_to_no_option_is_served(case):
    guest = case.joined("-t", PORT)
    peer = case.net.remote.tcp_client(HOST4, PORT, blocking=False)
    conn = rawtcp.accept(guest, PORT, wscale=None, reply=False, mss=536)
    conn.send(SYN | ACK, options=b"")
    conn.peer_options.clear()
    guest.pump_until(lambda: conn.snd_una == conn.snd_nxt, "the handshake ends")
    peer.settimeout(10)
    works(conn, peer)


@both
def a_guest_that_refuses_has_the_remote_side_ended(case, addr):
    guest = case.joined("-t", PORT)
    peer = case.net.remote.tcp_client(host_of(addr), PORT, source=addr, blocking=False)
    conn = rawtcp.accept(guest, PORT, reply=False)
    guest.send(conn.frame(RST | ACK, seq=0))
    peer.settimeout(10)
    assert ended(peer)


@test
def a_syn_to_a_silent_guest_is_repeated_unchanged(case):
    guest = case.joined("-t", PORT)
    peer = case.net.remote.tcp_client(HOST4, PORT, blocking=False)
    conn = rawtcp.accept(guest, PORT, reply=False)
    guest.pump_until(lambda: len(conn.segments) >= 2, "SYN comes again", 15)
    assert all(f.flags & (SYN | ACK) == SYN for f in conn.segments)
    conn.send(SYN | ACK)
    guest.pump_until(lambda: conn.snd_una == conn.snd_nxt, "the handshake ends")
    peer.settimeout(10)
    works(conn, peer)


@test
def a_simultaneous_open_is_tolerated(case):
    guest = case.joined("-t", PORT)
    peer = case.net.remote.tcp_client(HOST4, PORT, blocking=False)
    conn = rawtcp.accept(guest, PORT, reply=False)
    conn.send(SYN)
    guest.pump(0.3)
    if not conn.reset:
        conn.send(SYN | ACK, seq=conn.isn)
        guest.pump_until(lambda: conn.snd_una == conn.snd_nxt or conn.reset, "an answer")
    peer.settimeout(10)
    if not conn.reset:
        works(conn, peer)
    guest.alive()


@test
def data_sent_before_the_guest_answered_is_delivered(case):
    guest = case.joined("-t", PORT)
    peer = case.net.remote.tcp_client(HOST4, PORT)
    peer.sendall(b"early" * 1000)
    conn = rawtcp.accept(guest, PORT)
    assert conn.wait_data(5000) == b"early" * 1000


@test
def a_wrong_acknowledgement_of_the_syn_gets_a_reset(case):
    guest = case.joined("-t", PORT)
    peer = case.net.remote.tcp_client(HOST4, PORT, blocking=False)
    conn = rawtcp.accept(guest, PORT, reply=False)
    guest.send(conn.frame(SYN | ACK, ack=conn.rcv_nxt + 77))
    reset = conn.wait_reset()
    assert reset.seq == (conn.rcv_nxt + 77) & 0xFFFFFFFF
    peer.close()


@test
def a_fragmented_syn_opens_a_connection(case):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    port = server.getsockname()[1]
    conn = Tcp(guest, FAR4, port, 30000)
    segment = wire.tcp(HOST4, FAR4, 30000, port, conn.isn, 0, SYN, options=conn.options(True))
    guest.send(*guest.fragments(FAR4, wire.TCP, segment, 24))
    conn.snd_nxt += 1
    guest.pump_until(lambda: conn.rcv_nxt is not None, "SYN-ACK comes")
    conn.ack()
    server.accept()[0].close()


@test
def no_tcp_opens_nothing(case):
    guest = case.joined("--no-tcp")
    server = case.net.remote.tcp_server(FAR4)
    conn = Tcp(guest, FAR4, server.getsockname()[1], 30000)
    conn.send(SYN)
    guest.pump(0.3)
    assert conn.rcv_nxt is None


@test
def a_reset_while_connecting_leaves_nothing_behind(case):
    case.net.host.batch("neigh add 192.0.2.123 lladdr 02:00:00:00:00:01 dev h0\n")
    guest = case.joined()
    before = case.daemons[0].fds()
    for i in range(20):
        conn = Tcp(guest, "192.0.2.123", 80, 31000 + i)
        conn.send(SYN)
        guest.pump(0.01)
        guest.send(conn.frame(RST, seq=conn.snd_nxt))
    wait_for(lambda: case.daemons[0].fds() <= before + 2, "sockets of connections given up are closed")


@test
def three_hundred_connections_at_a_time_work(case):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    port = server.getsockname()[1]
    conns = [Tcp(guest, FAR4, port, 20000 + i) for i in range(300)]
    for conn in conns:
        conn.send(SYN)
    guest.pump_until(lambda: all(c.rcv_nxt is not None for c in conns), "all are answered", 20)
    for i, conn in enumerate(conns):
        conn.send(ACK | PSH, data=struct.pack("!I", i))
    peers = {}
    for _ in conns:
        peer, where = server.accept()
        peer.settimeout(10)
        number, = struct.unpack("!I", peer.recv(4, socket.MSG_WAITALL))
        peers[number] = peer
        peer.sendall(b"to%04d" % number)
    assert sorted(peers) == list(range(300))
    guest.pump_until(lambda: all(len(c.data) == 6 for c in conns), "all get data", 20)
    assert all(bytes(c.data) == b"to%04d" % i for i, c in enumerate(conns))
    for peer in peers.values():
        peer.close()


if __name__ == "__main__":
    sys.exit(main())
