#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The UNIX stream transport: framing, one guest at a time, reconnection, back-pressure."""
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import rawguest
import rawtcp
import wire
from netns import FAR4, GW4, HOST4
from suite import Options, main, rows, test, wait_for


def arp_request(guest, addr=GW4):
    return guest.eth(wire.ETH_ARP, wire.arp(1, guest.mac, guest.ip4, "00:00:00:00:00:00", addr),
                     dst=wire.BROADCAST)


@rows(("a length of 0 ends the connection", 0), ("a length of 1 ends the connection", 1),
      ("a length of 13 ends the connection", 13),
      ("a length of 65550, one above the maximum, ends the connection", 65550),
      ("a length of 65536 + 4096 ends the connection", 65536 + 4096),
      ("a length of 2^24 ends the connection", 1 << 24), ("a length of 2^31 ends the connection", 1 << 31),
      ("a length of 2^32 - 1 ends the connection", (1 << 32) - 1))
def _(case, length):
    guest = case.joined()
    guest.send_stream(struct.pack("!I", length) + b"\xaa" * min(length, 64))
    guest.expect_closed()
    case.guest().alive()
    assert case.daemons[0].log().strip(), "the reason is not logged"


@rows(("a frame of 14 bytes is no error", 14), ("a frame of 65549 bytes is no error", 65549))
def _(case, length):
    guest = case.joined()
    guest.send(guest.eth(wire.ETH_IP4, bytes(length - 14)))
    guest.alive()


@test
def bad_length_after_good_frames_still_lets_those_be_answered(case):
    guest = case.joined()
    good = arp_request(guest)
    guest.send_stream((struct.pack("!I", len(good)) + good) * 3 + struct.pack("!I", 5))
    guest.expect_closed()
    case.guest().alive()


@test
def a_second_guest_is_refused_while_the_first_lives(case):
    first = case.joined()
    second = rawguest.connect(case.daemons[0].socket, ip4=HOST4)
    case.guests.append(second)
    second.expect_closed()
    first.alive()


@test
def a_guest_is_served_after_the_one_before_has_gone(case):
    case.joined()
    for _ in range(20):
        case.guests.pop().close()
        case.guest().alive()


@test
def a_guest_that_leaves_in_the_middle_of_a_frame_disturbs_nobody(case):
    guest = case.joined()
    guest.send_stream(struct.pack("!I", 1000) + bytes(400))
    guest.close()
    case.guest().alive()


@test
def a_guest_that_leaves_in_the_middle_of_a_length_disturbs_nobody(case):
    guest = case.joined()
    guest.send_stream(b"\0\0")
    guest.close()
    case.guest().alive()


@test
def frames_written_one_byte_at_a_time_are_answered(case):
    guest = case.joined()
    frame = arp_request(guest)
    for byte in struct.pack("!I", len(frame)) + frame:
        guest.send_stream(bytes((byte,)))
        time.sleep(0.0005)
    guest.expect(lambda f: f.kind == "arp" and f.op == 2, "ARP reply")


@test
def frames_cut_at_every_byte_are_answered(case):
    guest = case.joined()
    frame = arp_request(guest)
    stream = struct.pack("!I", len(frame)) + frame
    for cut in range(1, len(stream)):
        guest.send_stream(stream[:cut])
        time.sleep(0.001)
        guest.send_stream(stream[cut:])
        guest.expect(lambda f: f.kind == "arp" and f.op == 2, "ARP reply with a cut at %d" % cut)


@test
def a_write_of_many_frames_has_every_one_handled(case):
    guest = case.joined()
    server = case.net.remote.udp(FAR4)
    server.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
    port = server.getsockname()[1]
    frames = [guest.udp(FAR4, port, b"%05d" % i) for i in range(5000)]
    guest.send(*frames)
    got = [server.recv(100) for _ in frames]
    assert got == [b"%05d" % i for i in range(5000)], "datagrams are missing or out of order"


@test
def frames_longer_than_the_mtu_are_accepted(case):
    guest = case.joined("-m", "1500")
    server = case.net.remote.udp(FAR4)
    guest.send(guest.udp(FAR4, server.getsockname()[1], b"x" * 9000))
    assert server.recv(10000) == b"x" * 9000


@test
def partial_checksums_from_the_guest_are_accepted(case):
    guest = case.joined()
    server = case.net.remote.udp(FAR4)
    guest.send(guest.udp(FAR4, server.getsockname()[1], b"partial", udp={"wrong_checksum": True}))
    assert server.recv(100) == b"partial"


@test
def a_tcp_frame_with_a_partial_checksum_is_accepted(case):
    case.joined()
    conn, peer = case.pair()
    conn.guest.send(conn.frame(wire.ACK | wire.PSH, data=b"tso", wrong_checksum=True))
    conn.snd_nxt += 3
    assert peer.recv(10) == b"tso"
    conn.wait_acked()


@test
def flows_are_reset_when_the_guest_leaves(case):
    case.joined()
    _, peer = case.pair()
    case.guests.pop().close()
    try:
        ended = peer.recv(1) == b""
    except ConnectionResetError:
        ended = True
    assert ended, "the host's side of the connection still stands"
    case.guest().alive()


@test
def one_off_ends_when_the_guest_leaves(case):
    daemon = case.start("--one-off")
    case.guest().close()
    assert daemon.wait() == 0


@test
def a_connected_socket_is_taken_by_descriptor(case):
    ours, theirs = socket.socketpair()
    daemon = case.start("--fd", theirs.fileno(), pass_fds=(theirs.fileno(),))
    theirs.close()
    guest = rawguest.Guest(ours, ip4=HOST4)
    guest.alive()
    guest.close()
    daemon.wait()


def pipe_end(case):
    reading, writing = os.pipe()
    case.cleanups.append(lambda: os.close(writing))
    return os.fdopen(reading)


@rows(("a file as the guest's descriptor is refused", lambda case: open("/dev/null", encoding="ascii")),
      ("a pipe as the guest's descriptor is refused", pipe_end),
      ("a datagram socket as the guest's descriptor is refused", lambda case: socket.socketpair(type=socket.SOCK_DGRAM)[0]),
      ("a listening socket as the guest's descriptor is refused", lambda case: case.net.host.tcp_server("127.0.0.1")))
def _(case, make):
    with make(case) as file:
        done = case.run("-f", "--fd", file.fileno(), pass_fds=(file.fileno(),))
    assert done.returncode == 1 and "is not a connected stream socket" in done.stderr, done


@test
def a_bad_length_on_a_given_descriptor_ends_the_program(case):
    ours, theirs = socket.socketpair()
    daemon = case.start("--fd", theirs.fileno(), pass_fds=(theirs.fileno(),))
    theirs.close()
    guest = rawguest.Guest(ours, ip4=HOST4)
    guest.alive()
    guest.send_stream(struct.pack("!I", 3))
    guest.expect_closed()
    guest.close()
    daemon.wait()


@test
def a_guest_that_does_not_read_costs_bounded_memory_and_loses_no_byte(case):
    guest = case.joined()
    conn, peer = case.pair(window=64 << 20, wscale=10, mss=60000)
    daemon = case.daemons[0]
    before = daemon.memory_kb()
    peer.setblocking(False)
    blob = bytes(range(256)) * 4096
    sent, quiet = 0, time.monotonic()
    while time.monotonic() - quiet < 0.5 and sent < 256 << 20:
        try:
            sent += peer.send(blob[sent % len(blob):])
            quiet = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    assert sent < 256 << 20, "256 MiB went somewhere though the guest does not read"
    assert daemon.memory_kb() - before < 64 << 10 or Options.peer, "memory grew by %d KiB" % (
        daemon.memory_kb() - before)
    peer.close()
    got = conn.wait_data(sent, 60)
    whole = blob * (sent // len(blob) + 1)
    assert got == whole[:sent], "the stream differs"


@test
def reconnecting_under_traffic_leaves_a_working_daemon(case):
    case.start("-t", "7001", "-u", "7001")
    sender = case.net.host.udp("127.0.0.1")
    for _ in range(30):
        guest = case.guest(resolve=False)
        frames = [guest.udp(FAR4, 9, b"x" * 1000, sport=20000 + i) for i in range(50)]
        frames.append(guest.tcp(FAR4, 9, 33333, 1, 0, wire.SYN))
        guest.send(*frames)
        for _ in range(20):
            sender.sendto(b"y", ("127.0.0.1", 7001))
        case.guests.pop().close()
    wait_for(lambda: case.daemons[0].running(), "it runs")
    case.guest().alive()


if __name__ == "__main__":
    sys.exit(main())
