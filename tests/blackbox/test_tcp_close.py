#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How TCP connections end: FIN and RST, each way, in each order, lost or repeated."""
import os
import random
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import rawtcp
from netns import FAR4, HOST4
from rawtcp import MASK, Tcp
from suite import both, main, rows, test, wait_for
from transfer import read_exactly, send_all, upload
from wire import ACK, FIN, PSH, RST, SYN

BLOB = random.Random(5).randbytes(1 << 20)


def abort(sock):
    """Has close() send a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def is_reset(sock):
    try:
        while True:
            if sock.recv(65536) == b"":
                return False
    except ConnectionResetError:
        return True


@both
def fin_from_the_guest_is_end_of_file_for_the_remote(case, addr):
    conn, peer = case.pair(addr=addr)
    conn.close()
    assert peer.recv(1) == b""
    conn.wait_acked()
    peer.close()
    conn.wait_fin()


@both
def after_the_guests_fin_the_remote_may_still_send(case, addr):
    conn, peer = case.pair(addr=addr, window=300000)
    conn.close()
    assert peer.recv(1) == b""
    send_all(conn, peer, BLOB)
    assert conn.wait_data(len(BLOB), 20) == BLOB
    peer.close()
    conn.wait_fin()


@both
def after_the_remotes_fin_the_guest_may_still_send(case, addr):
    conn, peer = case.pair(addr=addr)
    peer.shutdown(socket.SHUT_WR)
    conn.wait_fin()
    upload(conn, peer, BLOB)
    conn.close()
    assert peer.recv(1) == b""


@test
def fin_with_data_delivers_both(case):
    conn, peer = case.pair()
    conn.send(FIN | ACK | PSH, data=b"last words")
    assert read_exactly(conn, peer, 10) == b"last words"
    assert peer.recv(1) == b""
    conn.wait_acked()
    peer.close()
    conn.wait_fin()


@test
def what_the_guest_has_closed_is_delivered_though_the_guest_is_gone(case):
    conn, peer = case.pair()
    conn.send(FIN | ACK | PSH, data=b"last words")
    conn.guest.close()
    wait_for(lambda: "guest: disconnected" in case.daemons[0].log(), "the guest is gone")
    assert peer.recv(100) == b"last words"
    assert peer.recv(1) == b""


@test
def a_connection_that_the_guest_left_open_is_reset_when_it_is_gone(case):
    conn, peer = case.pair()
    conn.send(ACK | PSH, data=b"cut")
    conn.guest.close()
    assert is_reset(peer)


@test
def data_before_the_remotes_fin_is_delivered_first(case):
    conn, peer = case.pair(window=300000)
    send_all(conn, peer, BLOB)
    peer.close()
    conn.wait_fin(20)
    assert bytes(conn.data) == BLOB


@test
def fin_that_overtakes_data_ends_nothing_early(case):
    conn, peer = case.pair()
    base = conn.snd_nxt
    conn.send(FIN | ACK, seq=(base + 5) & MASK, data=b"world")
    conn.guest.pump(0.1)
    conn.send(ACK | PSH, seq=base, data=b"hello")
    assert read_exactly(conn, peer, 10) == b"helloworld"
    conn.guest.pump(0.05)
    if conn.snd_una != conn.snd_nxt:
        conn.send(FIN | ACK, seq=(base + 10) & MASK)
    assert peer.recv(1) == b""
    conn.wait_acked()


@test
def fin_sent_twice_is_acknowledged_twice(case):
    conn, peer = case.pair()
    conn.close()
    conn.wait_acked()
    conn.send(FIN | ACK, seq=(conn.snd_nxt - 1) & MASK)
    answer = conn.wait_segment(lambda f: f.flags & ACK, "an ACK", 3)
    assert answer.ack == conn.snd_nxt and not answer.flags & RST
    peer.close()
    conn.wait_fin()


@test
def the_remotes_fin_is_repeated_until_acknowledged(case):
    conn, peer = case.pair()
    conn.acking = False
    peer.shutdown(socket.SHUT_WR)
    conn.wait_fin()
    conn.wait_segment(lambda f: f.flags & FIN, "FIN comes again", 20)
    conn.acking = True
    conn.ack()
    conn.close()
    conn.wait_acked()


@test
def the_last_ack_lost_is_sent_again(case):
    conn, peer = case.pair()
    peer.close()
    conn.wait_fin()
    conn.close()
    conn.wait_acked()
    conn.send(FIN | ACK, seq=(conn.snd_nxt - 1) & MASK)
    answer = conn.wait_segment(lambda f: True, "an answer to the repeated FIN", 3)
    assert answer.flags & ACK and not answer.flags & RST, "the repeated FIN got %s" % answer


@test
def a_simultaneous_close_ends_both(case):
    conn, peer = case.pair()
    conn.acking = False
    peer.shutdown(socket.SHUT_WR)
    conn.wait_fin()
    conn.send(FIN | ACK, ack=(conn.rcv_nxt - 1) & MASK)
    conn.wait_acked()
    conn.ack()
    assert peer.recv(1) == b""


@both
def a_reset_from_the_guest_is_a_reset_for_the_remote(case, addr):
    conn, peer = case.pair(addr=addr)
    conn.write(b"x")
    conn.abort()
    assert is_reset(peer), "the remote saw an orderly end"


@both
def a_reset_from_the_remote_is_a_reset_for_the_guest(case, addr):
    conn, peer = case.pair(addr=addr)
    conn.write(b"x")
    peer.recv(1)
    abort(peer)
    reset = conn.wait_reset()
    assert reset.seq == conn.rcv_nxt, "a reset with sequence %d, %d is due" % (reset.seq, conn.rcv_nxt)


@test
def a_reset_on_a_forwarded_connection_is_passed_both_ways(case):
    conn, peer = case.forwarded(7000, FAR4, ("-t", "7000"))
    conn.abort()
    assert is_reset(peer)
    other, peer = case.forwarded(7000, FAR4)
    abort(peer)
    other.wait_reset()


@test
def a_close_with_data_unread_is_a_reset_for_the_guest(case):
    conn, peer = case.pair()
    conn.write(b"unread")
    peer.close()
    conn.wait_reset()


@test
def data_to_a_remote_that_has_closed_gets_a_reset(case):
    conn, peer = case.pair()
    peer.close()
    conn.wait_fin()
    conn.send(ACK | PSH, data=b"too late")
    conn.guest.pump(0.2)
    if not conn.reset:
        conn.send(ACK | PSH, data=b"again")
    conn.wait_reset()


@test
def a_reset_outside_the_window_is_ignored(case):
    conn, peer = case.pair()
    for seq in (conn.snd_nxt - 1000, conn.peer_edge + 100000):
        conn.guest.send(conn.frame(RST, seq=seq))
    conn.guest.pump(0.1)
    upload(conn, peer, b"still here")


@test
def a_reset_inside_the_window_but_not_exact_gets_a_challenge_ack(case):
    conn, peer = case.pair()
    conn.guest.send(conn.frame(RST, seq=conn.snd_nxt + 10))
    answer = conn.wait_segment(lambda f: True, "a challenge ACK", 3)
    assert answer.flags & (ACK | RST) == ACK and answer.ack == conn.snd_nxt
    upload(conn, peer, b"still here")


@test
def a_reset_after_half_close_ends_both(case):
    conn, peer = case.pair()
    conn.close()
    assert peer.recv(1) == b""
    conn.wait_acked()
    conn.send(RST, seq=conn.snd_nxt)
    conn.guest.pump(0.1)

    def broken():
        try:
            peer.send(b"x")
            return False
        except (BrokenPipeError, ConnectionResetError):
            return True
    wait_for(broken, "the remote's side is reset")


@test
def fin_right_behind_the_handshake_is_no_error(case):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    conn = Tcp(guest, FAR4, server.getsockname()[1], 30000)
    conn.send(SYN)
    guest.pump_until(lambda: conn.rcv_nxt is not None, "SYN-ACK comes")
    conn.close()
    peer, _ = server.accept()
    assert peer.recv(1) == b""
    peer.close()
    conn.wait_fin()


@test
def a_port_is_used_again_after_a_reset(case):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    for _ in range(5):
        conn = rawtcp.connect(guest, FAR4, server.getsockname()[1], 30000)
        server.accept()[0].close()
        conn.wait_fin()
        conn.abort()
        guest.pump(0.02)
        guest.endpoints.remove(conn)


@test
def a_port_is_used_again_after_an_orderly_end(case):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    for _ in range(5):
        conn = rawtcp.connect(guest, FAR4, server.getsockname()[1], 30000, timestamps=True)
        peer, _ = server.accept()
        conn.close()
        assert peer.recv(1) == b""
        peer.close()
        conn.wait_fin()
        guest.pump(0.02)
        guest.endpoints.remove(conn)


@test
def a_remote_uses_its_port_again_after_an_orderly_end(case):
    case.net.remote.sysctl("net.ipv4.tcp_max_tw_buckets", 0)  # as of a remote that keeps no TIME-WAIT
    guest = case.joined("--shards", "4", "-t", "7000")
    for port in range(50000, 50008):  # of which some belong to another shard than the one that accepts
        for _ in range(3):
            with case.net.remote:
                peer = socket.socket()
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                peer.bind((FAR4, port))
            peer.settimeout(10)
            peer.connect((HOST4, 7000))
            conn = rawtcp.accept(guest, 7000)
            peer.shutdown(socket.SHUT_WR)
            conn.wait_fin()
            conn.close()
            assert peer.recv(1) == b"", "port %d" % port
            peer.close()
            guest.pump(0.02)
            guest.endpoints.remove(conn)


@rows(("a remote that closes at once is seen", 0), ("a remote that sends and closes at once is seen", 5))
def _(case, n):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    conn = rawtcp.connect(guest, FAR4, server.getsockname()[1])
    peer, _ = server.accept()
    peer.sendall(b"x" * n)
    peer.close()
    conn.wait_fin()
    assert len(conn.data) == n


@test
def sockets_are_closed_when_connections_end(case):
    guest = case.joined()
    server = case.net.remote.tcp_server(FAR4)
    before = case.daemons[0].fds()
    for i in range(30):
        conn = rawtcp.connect(guest, FAR4, server.getsockname()[1], 30000 + i)
        peer, _ = server.accept()
        if i % 3 == 0:
            conn.abort()
        elif i % 3 == 1:
            conn.close()
        peer.close()
        if i % 3 == 1:
            conn.wait_fin()
        elif i % 3 == 2:
            conn.guest.pump_until(lambda c=conn: c.fin or c.reset, "the end")
            conn.close()
        guest.pump(0.01)
    guest.pump(0.5)
    wait_for(lambda: guest.pump(0.05) or case.daemons[0].fds() <= before + 2, "sockets are closed", 20)


if __name__ == "__main__":
    sys.exit(main())
