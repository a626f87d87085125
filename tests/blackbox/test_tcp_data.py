#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""TCP data both ways: every byte once and in order, whatever the guest does with windows, order and time."""
import collections
import os
import random
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import wire
from netns import FAR4, FAR6
from rawtcp import MASK, after
from suite import both, main, rows, test, wait_for
from transfer import read_exactly, send_all, upload
from wire import ACK, PSH, URG

BLOB = random.Random(7).randbytes(4 << 20)


def segments(conn, data, size):
    """data as (sequence number, bytes) from snd_nxt on, none of it sent yet."""
    return [((conn.snd_nxt + at) & MASK, data[at:at + size]) for at in range(0, len(data), size)]


def send_some(peer, data):
    """Writes what a socket that does not block takes; returns how much."""
    try:
        return peer.send(data)
    except BlockingIOError:
        return 0


def send_segment(conn, seq, data, flags=ACK | PSH, **fields):
    conn.send(flags, seq=seq, data=data, **fields)


@both
def what_the_guest_sends_arrives(case, addr):
    conn, peer = case.pair(addr=addr)
    upload(conn, peer, BLOB)


@both
def what_the_remote_sends_arrives(case, addr):
    conn, peer = case.pair(addr=addr, window=1 << 20)
    send_all(conn, peer, BLOB)
    assert conn.wait_data(len(BLOB), 30) == BLOB


@both
def a_guest_that_answers_late_gets_more_in_one_flight(case, addr):
    # Without the kernel's own tuning, as on a path where it sees no reason for it: a buffer holds 64 KiB, or is raised.
    case.net.host.sysctl("net.ipv4.tcp_moderate_rcvbuf", 0)
    conn, peer = case.pair(addr=addr, window=1 << 20, acking=False)
    late, acked, flight, sent = collections.deque(), conn.rcv_nxt, 0, 0
    peer.setblocking(False)
    while flight < 1 << 18:
        assert len(conn.data) < 8 << 20, "at most %d KiB were in flight" % (flight >> 10)
        before = len(conn.segments)
        at = sent % len(BLOB)
        sent += send_some(peer, BLOB[at:at + (1 << 18)])
        conn.guest.fill()
        conn.guest.pump(0)
        due = time.monotonic() + 0.02
        late += ((due, (f.seq + len(f.data)) & MASK) for f in conn.segments[before:] if f.data)
        flight = max(flight, after(conn.rcv_nxt, acked))
        if late and late[0][0] <= time.monotonic():
            acked = late.popleft()[1]
            conn.ack(ack=acked)
    assert conn.data == (BLOB * 2)[:len(conn.data)]


@rows(("a guest that acknowledges each eighth segment gets all", 8, 0.04, 1 << 20),
      ("a guest that acknowledges after 64 segments gets all", 64, 0.04, 1 << 20),
      ("a guest that acknowledges after half a second gets all", 1 << 20, 0.5, 1 << 16))
def _(case, every, late, size):
    conn, peer = case.pair(window=1 << 20, acking=False)
    data = BLOB[:size]
    acked, due, sent = 0, None, 0
    peer.setblocking(False)
    end = time.monotonic() + 60
    while conn.snd_una != conn.snd_nxt or len(conn.data) < len(data):
        assert time.monotonic() < end, "%d bytes came" % len(conn.data)
        sent += send_some(peer, data[sent:])
        conn.guest.fill()
        conn.guest.pump(0)
        fresh = sum(1 for f in conn.segments[acked:] if f.data)
        due = due or (time.monotonic() + late if fresh else None)
        if fresh >= every or (due and time.monotonic() >= due):
            acked, due = len(conn.segments), None
            conn.ack()
    assert conn.data == data


@both
def a_forwarded_connection_carries_data_both_ways(case, addr):
    conn, peer = case.forwarded(7000, addr, ("-t", "7000"))
    upload(conn, peer, BLOB[:1 << 20])
    send_all(conn, peer, BLOB[:1 << 20])
    assert conn.wait_data(1 << 20, 30) == BLOB[:1 << 20]


@rows(("segments of 1 byte arrive", 1, 3000), ("segments of 7 bytes arrive", 7, 20000),
      ("segments of 536 bytes arrive", 536, 1 << 20), ("segments of 9000 bytes arrive", 9000, 2 << 20),
      ("segments of 60000 bytes arrive", 60000, 4 << 20))
def _(case, size, n):
    conn, peer = case.pair(mss=max(size, 536))
    upload(conn, peer, BLOB[:n], size)


@rows(("data passes the sequence number 2^32", (1 << 32) - 100), ("data passes the sequence number 2^31", (1 << 31) - 100),
      ("data begins at the sequence number 2^32 - 1", (1 << 32) - 1))
def _(case, isn):
    conn, peer = case.pair(isn=isn, timestamps=True, sack=True)
    upload(conn, peer, BLOB[:1 << 20])
    send_all(conn, peer, BLOB[:1 << 20])
    assert conn.wait_data(1 << 20, 30) == BLOB[:1 << 20]


@both
def a_full_window_to_a_reader_that_sleeps_is_kept_and_read_later(case, addr):
    conn, peer = case.pair(addr=addr, rcvbuf=16384)
    sent = fill_window(conn)
    resent = conn.snd_una
    got = read_exactly(conn, peer, len(sent), 30)
    conn.wait_acked()
    assert got == sent, "what arrived differs, window %d" % after(resent, conn.isn)
    conn.guest.pump_until(lambda: after(conn.peer_edge, conn.snd_nxt) > 0, "the window opens", 5)


def fill_window(conn, limit=64 << 20):
    """Sends until the window is shut and stays so; sends no byte twice. Returns what was sent."""
    sent, quiet = bytearray(), time.monotonic()
    while time.monotonic() - quiet < 1.0 and len(sent) < limit:
        room = after(conn.peer_edge, conn.snd_nxt)
        batch = []
        while room > 0 and len(batch) < 64:
            piece = BLOB[len(sent) % len(BLOB):][:min(conn.mss, room)]
            batch.append(conn.frame(ACK | PSH, data=piece))
            conn.snd_nxt = (conn.snd_nxt + len(piece)) & MASK
            sent += piece
            room -= len(piece)
        if batch:
            conn.guest.send(*batch)
            quiet = time.monotonic()
        conn.guest.pump(0.01)
    assert len(sent) < limit, "the window never shut"
    return bytes(sent)


@test
def the_window_opens_again_without_a_probe(case):
    conn, peer = case.pair(rcvbuf=16384)
    sent = fill_window(conn)
    start = time.monotonic()
    read_exactly(conn, peer, len(sent), 30)
    conn.guest.pump_until(lambda: after(conn.peer_edge, conn.snd_nxt) >= 536, "the window opens", 5)
    assert time.monotonic() - start < 5


@test
def a_probe_of_a_shut_window_is_answered_and_costs_no_byte(case):
    conn, peer = case.pair(rcvbuf=16384)
    sent = fill_window(conn)
    extra = b"Z"
    for _ in range(3):
        start = len(conn.segments)
        send_segment(conn, (conn.isn + 1 + len(sent)) & MASK, extra)
        conn.guest.pump_until(lambda: len(conn.segments) > start, "an answer to the probe", 5)
    assert read_exactly(conn, peer, len(sent), 30) == sent
    conn.guest.pump_until(lambda: after(conn.peer_edge, conn.snd_nxt) > 0, "the window opens", 5)
    send_segment(conn, (conn.isn + 1 + len(sent)) & MASK, extra)
    conn.wait_acked()
    assert peer.recv(10) == extra


@both
def a_keep_alive_is_answered(case, addr):
    conn, peer = case.pair(addr=addr)
    conn.write(b"x")
    for data in (b"", b"x"):
        send_segment(conn, (conn.snd_nxt - 1) & MASK, data, ACK)
        answer = conn.wait_segment(lambda f: not f.data, "an answer to the keep-alive", 5)
        assert answer.ack == conn.snd_nxt
    conn.write(b"y")
    assert read_exactly(conn, peer, 2) == b"xy"


@test
def the_guests_window_is_kept_and_shut_stops_all_but_probes(case):
    conn, peer = case.pair(window=10000, wscale=None)
    conn.acking = False  # the window is less than an initial congestion window
    send_all_later = BLOB[:200000]
    peer.setblocking(False)
    peer.send(send_all_later)
    conn.wait_data(10000)
    conn.ack(window=0)
    conn.window = 0
    conn.guest.pump(1.0)
    got = len(conn.data)
    assert got == 10000, "%d bytes past a shut window" % (got - 10000)
    conn.acking, conn.window = True, 65535
    conn.ack()
    assert conn.wait_data(got + 1, 5)
    assert bytes(conn.data) == send_all_later[:len(conn.data)]


@test
def a_window_shut_by_the_guest_is_probed(case):
    conn, peer = case.pair(window=5000, wscale=None)
    conn.acking = False
    peer.setblocking(False)
    sent = peer.send(BLOB[:100000])
    conn.wait_data(5000)
    start = len(conn.segments)
    conn.window = 0
    conn.ack()
    conn.guest.pump_until(lambda: len(conn.segments) > start, "a probe", 20)
    for _ in range(2):
        start = len(conn.segments)
        conn.ack()
        conn.guest.pump_until(lambda: len(conn.segments) > start, "another probe", 30)
    conn.window, conn.acking = 65535, True
    conn.ack()
    assert conn.wait_data(sent, 20) == BLOB[:sent]


@test
def a_window_of_one_byte_is_enough(case):
    conn, peer = case.pair(window=1, wscale=None)
    peer.sendall(b"abcdef")
    conn.guest.pump_until(lambda: len(conn.data) >= 1, "a byte comes", 20)
    conn.window = 65535
    conn.ack()
    assert conn.wait_data(6, 20) == b"abcdef"


@both
def segments_in_reverse_order_arrive_in_order(case, addr):
    conn, peer = case.pair(addr=addr, sack=True)
    data = BLOB[:14600]
    for seq, piece in reversed(segments(conn, data, 1460)):
        send_segment(conn, seq, piece)
    assert read_exactly(conn, peer, len(data)) == data
    conn.wait_acked()


@test
def segments_in_any_order_with_overlaps_and_duplicates_arrive_once(case):
    conn, peer = case.pair(sack=True)
    rng, base, data = random.Random(3), conn.snd_nxt, BLOB[:60000]
    cuts = [(a, min(len(data), a + rng.randint(1, 3000))) for a in range(0, len(data), 500)]
    cuts += [(at, at + 500) for at in range(0, len(data), 500)]
    rng.shuffle(cuts)
    for start, end in cuts:
        send_segment(conn, (base + start) & MASK, data[start:end])
    for start in range(0, len(data), 500):
        send_segment(conn, (base + start) & MASK, data[start:start + 500])
    assert read_exactly(conn, peer, len(data)) == data
    conn.wait_acked()


@test
def a_gap_gets_an_immediate_duplicate_ack(case):
    conn, peer = case.pair()
    first, second = segments(conn, BLOB[:2000], 1000)
    send_segment(conn, *second)
    answer = conn.wait_segment(lambda f: not f.data, "a duplicate ACK", 2)
    assert answer.ack == first[0]
    send_segment(conn, *first)
    conn.wait_acked()
    assert read_exactly(conn, peer, 2000) == BLOB[:2000]


@test
def a_gap_is_reported_by_sack_blocks(case):
    conn, peer = case.pair(sack=True)
    parts = segments(conn, BLOB[:6000], 1000)
    send_segment(conn, *parts[1])
    answer = conn.wait_segment(lambda f: wire.OPT_SACK in f.options, "a SACK block", 2)
    edges = (parts[1][0], (parts[1][0] + 1000) & MASK)
    raw = answer.options[wire.OPT_SACK]
    assert (int.from_bytes(raw[:4], "big"), int.from_bytes(raw[4:8], "big")) == edges
    send_segment(conn, *parts[3])
    answer = conn.wait_segment(lambda f: len(f.options.get(wire.OPT_SACK, b"")) >= 16, "two SACK blocks", 2)
    raw = answer.options[wire.OPT_SACK]
    assert int.from_bytes(raw[:4], "big") == parts[3][0], "the newest block is not the first (RFC 2018)"
    for i in (0, 2, 4, 5):
        send_segment(conn, *parts[i])
    conn.wait_acked()
    assert read_exactly(conn, peer, 6000) == BLOB[:6000]


@test
def no_sack_block_comes_if_it_was_not_agreed(case):
    conn, peer = case.pair(sack=False)
    first, second = segments(conn, BLOB[:2000], 1000)
    send_segment(conn, *second)
    conn.guest.pump(0.1)
    send_segment(conn, *first)
    conn.wait_acked()
    assert not any(wire.OPT_SACK in f.options for f in conn.segments)
    peer.recv(10)


@test
def data_that_came_twice_is_acknowledged_again(case):
    conn, peer = case.pair()
    (seq, piece), = segments(conn, b"hello", 5)
    send_segment(conn, seq, piece)
    conn.wait_acked()
    send_segment(conn, seq, piece)
    answer = conn.wait_segment(lambda f: not f.data, "an ACK", 2)
    assert answer.ack == conn.snd_nxt
    conn.write(b"world")
    assert read_exactly(conn, peer, 10) == b"helloworld"


@both
def what_the_guest_does_not_acknowledge_is_sent_again(case, addr):
    conn, peer = case.pair(addr=addr)
    conn.acking = False
    peer.sendall(b"lost" * 100)
    conn.wait_data(400)
    start = len(conn.segments)
    conn.guest.pump_until(lambda: sum(bool(f.data) for f in conn.segments[start:]) >= 2, "two retransmissions", 20)
    conn.acking = True
    conn.ack()
    peer.sendall(b"more")
    assert conn.wait_data(404)[400:] == b"more"


@test
def retransmissions_back_off(case):
    conn, peer = case.pair()
    conn.acking = False
    peer.sendall(b"x" * 100)
    conn.wait_data(100)
    times = []
    for _ in range(4):
        start = len(conn.segments)
        conn.guest.pump_until(lambda: any(f.data for f in conn.segments[start:]), "a retransmission", 30)
        times.append(time.monotonic())
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert gaps[-1] > 1.5 * gaps[0] * 0.9, gaps
    conn.ack()


@test
def three_duplicate_acks_bring_the_segment_at_once(case):
    conn, peer = case.pair(mss=1000, window=60000)
    conn.acking = False
    peer.sendall(BLOB[:10000])
    conn.wait_data(10000)
    first = (conn.irs + 1) & MASK
    start = len(conn.segments)
    sent = time.monotonic()
    for _ in range(4):
        conn.ack(ack=first)
    conn.guest.pump_until(lambda: any(f.data and f.seq == first for f in conn.segments[start:]),
                          "the first segment again", 5)
    assert time.monotonic() - sent < 0.15, "it took %.3f s" % (time.monotonic() - sent)
    conn.acking = True
    conn.ack()


@test
def sacked_data_is_not_sent_again(case):
    conn, peer = case.pair(mss=1000, window=60000, sack=True)
    conn.acking = False
    peer.sendall(BLOB[:10000])
    conn.wait_data(10000)
    first = (conn.irs + 1) & MASK
    start = len(conn.segments)
    for n in (2000, 3000, 4000, 10000):
        conn.ack(ack=first, options=b"\1\1" + wire.opt_sack((first + 1000, first + n)))
    conn.guest.pump_until(lambda: any(f.data and f.seq == first for f in conn.segments[start:]),
                          "the first segment again", 5)
    again = [f for f in conn.segments[start:] if f.data and after(f.seq, first) >= 1000]
    assert not again, "SACKed data was sent again: %s" % again[0]
    conn.acking = True
    conn.ack()


@test
def a_lossy_guest_gets_every_byte(case):
    conn, peer = case.pair(window=200000, sack=False)
    rng, drop = random.Random(11), conn.input
    guest = conn.guest
    conn.input = lambda frame: None if frame.data and rng.random() < 0.05 else drop(frame)
    data = BLOB[:1 << 20]
    send_all(conn, peer, data)
    guest.pump_until(lambda: len(conn.data) >= len(data), "all bytes come", 60)
    assert bytes(conn.data) == data


@test
def urgent_data_from_the_guest_arrives_once(case):
    conn, peer = case.pair()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    send_segment(conn, None, b"abc!", ACK | PSH | URG, urgent=4)
    send_segment(conn, None, b"def")
    conn.wait_acked()
    assert read_exactly(conn, peer, 7) == b"abc!def"


@test
def the_urgent_mark_of_the_guest_is_seen_by_the_remote(case):
    conn, peer = case.pair()
    send_segment(conn, None, b"abc!", ACK | PSH | URG, urgent=4)
    conn.wait_acked()

    def mark():
        try:
            return peer.recv(1, socket.MSG_OOB)
        except OSError:
            return b""
    assert wait_for(mark, "urgent data is there", 5) == b"!"


@test
def urgent_data_from_the_remote_arrives_once_and_marked(case):
    conn, peer = case.pair()
    peer.send(b"abc")
    conn.wait_data(3)
    peer.send(b"!", socket.MSG_OOB)
    peer.send(b"def")
    assert conn.wait_data(7) == b"abc!def"
    assert any(f.flags & URG for f in conn.segments), "no segment is marked"


@rows(("an urgent byte before the end of the remote's data arrives, and the end", ()),
      ("an urgent byte before the end of the remote's data arrives without peek offset", ("--no-peek-off",)))
def _(case, options):
    case.start(*options)
    case.guest()
    conn, peer = case.pair()
    peer.send(b"abc")
    peer.send(b"!", socket.MSG_OOB)
    peer.send(b"def")
    peer.shutdown(socket.SHUT_WR)
    assert conn.wait_data(7) == b"abc!def"
    conn.wait_fin()


@test
def an_urgent_pointer_past_the_data_is_harmless(case):
    conn, peer = case.pair()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    send_segment(conn, None, b"abc", ACK | PSH | URG, urgent=60000)
    send_segment(conn, None, b"def")
    conn.wait_acked()
    assert read_exactly(conn, peer, 6) == b"abcdef"


@test
def an_acknowledgement_of_what_was_never_sent_is_answered_and_ignored(case):
    conn, peer = case.pair()
    conn.ack(ack=conn.rcv_nxt + 100000)
    conn.guest.pump(0.2)
    assert not conn.reset
    peer.sendall(b"fine")
    assert conn.wait_data(4) == b"fine"


@test
def an_old_segment_gets_an_ack(case):
    conn, peer = case.pair()
    conn.write(b"x" * 3000)
    send_segment(conn, conn.isn + 1, b"x" * 100)
    answer = conn.wait_segment(lambda f: not f.data, "an ACK", 2)
    assert answer.ack == conn.snd_nxt
    assert read_exactly(conn, peer, 3000) == b"x" * 3000


@test
def a_segment_past_the_window_gets_an_ack_and_is_dropped(case):
    conn, peer = case.pair()
    edge = conn.peer_edge
    frame = conn.frame(ACK | PSH, seq=edge + 1000000, data=b"far")
    conn.guest.send(frame)
    answer = conn.wait_segment(lambda f: not f.data, "an ACK", 2)
    assert answer.ack == conn.snd_nxt
    conn.write(b"near")
    assert read_exactly(conn, peer, 4) == b"near"


@test
def a_segment_without_ack_is_dropped(case):
    conn, peer = case.pair()
    conn.guest.send(conn.frame(PSH, data=b"bad!"))
    conn.guest.pump(0.1)
    conn.write(b"good")
    assert read_exactly(conn, peer, 4) == b"good"


@test
def an_old_timestamp_is_dropped_and_answered(case):
    conn, peer = case.pair(timestamps=True)
    conn.ts_now += 5000
    conn.write(b"new")
    old = b"\1\1" + wire.opt_timestamps(conn.ts_now - 4000, conn.ts_recent)
    conn.guest.send(conn.frame(ACK | PSH, data=b"old", options=old))
    answer = conn.wait_segment(lambda f: not f.data, "an ACK", 2)
    assert answer.ack == conn.snd_nxt
    conn.write(b"end")
    assert read_exactly(conn, peer, 6) == b"newend"


@test
def data_arrives_at_once_and_not_with_a_timer(case):
    conn, peer = case.pair()
    slow = 0
    for i in range(50):
        start = time.monotonic()
        send_segment(conn, None, b"p")
        peer.recv(1)
        peer.send(b"q")
        conn.wait_data(i + 1)
        slow += time.monotonic() - start > 0.03
    assert slow < 5, "%d of 50 round trips took over 30 ms" % slow


@test
def an_acknowledgement_comes_within_a_tenth_of_a_second(case):
    conn, peer = case.pair()
    late = 0
    for _ in range(30):
        start = time.monotonic()
        send_segment(conn, None, b"p" * 100)
        conn.wait_acked()
        late += time.monotonic() - start > 0.1
    assert late < 3, "%d of 30 were late" % late
    peer.recv(10)


@test
def a_stopped_connection_does_not_stop_another(case):
    stopped, _ = case.pair(rcvbuf=16384)
    fill_window(stopped)
    conn, peer = case.pair()
    upload(conn, peer, BLOB[:1 << 20])
    send_all(conn, peer, BLOB[:1 << 20])
    assert conn.wait_data(1 << 20, 30) == BLOB[:1 << 20]


@test
def a_reader_of_the_guest_that_stops_does_not_stop_another(case):
    stopped, writer = case.pair(window=0, wscale=None)
    writer.setblocking(False)
    try:
        while True:
            writer.send(BLOB)
    except BlockingIOError:
        pass
    conn, peer = case.pair()
    send_all(conn, peer, BLOB[:1 << 20])
    assert conn.wait_data(1 << 20, 30) == BLOB[:1 << 20]
    assert not stopped.reset


@rows(("sixteen uploads load more than one of two shards", 2), ("sixteen uploads load more than one of four shards", 4))
def _(case, shards):
    daemon = case.start("--shards", shards)
    case.guest()
    for _ in range(16):
        conn, peer = case.pair()
        upload(conn, peer, BLOB[:1 << 16])
    daemon.counters()
    row = next(line for line in daemon.log().splitlines() if line.startswith("tcp-rx-bytes"))
    columns = list(map(int, row.split()[-shards:]))
    assert sum(n > 0 for n in columns) > 1, "tcp-rx-bytes by shard: %s" % columns
    assert sum(columns) == 16 << 16, columns


@test
def the_counters_show_no_drop_inside_a_window(case):
    conn, peer = case.pair(rcvbuf=16384)
    sent = fill_window(conn)
    read_exactly(conn, peer, len(sent), 30)
    conn.wait_acked()
    counters = case.daemons[0].counters()
    assert counters.get("tcp-rx-bytes", 0) >= len(sent) or not counters, counters
    assert counters.get("drop-tcp-in-window", 0) == 0, counters


@test
def without_peek_offset_data_arrives_all_the_same(case):
    case.start("--no-peek-off")
    case.guest()
    conn, peer = case.pair(window=300000)
    send_all(conn, peer, BLOB)
    assert conn.wait_data(len(BLOB), 30) == BLOB


@test
def without_peek_offset_the_end_is_not_told_before_the_last_data(case):
    case.start("--no-peek-off")
    case.guest()
    for i in range(60):
        conn, peer = case.pair()
        for _ in range(1 + i % 3):
            peer.send(b"first")
        peer.send(b"last")
        peer.shutdown(socket.SHUT_WR)
        expected = b"first" * (1 + i % 3) + b"last"
        assert conn.wait_data(len(expected)) == expected
        conn.wait_fin()


@rows(("segments become as short as a hop behind the guest takes (IPv4)", FAR4, 600, 560),
      ("segments become as short as a hop behind the guest takes (IPv6)", FAR6, 1400, 1340),
      ("a hop that does not say how much it takes is believed to take 576 bytes", FAR4, 0, 536),
      ("no hop makes IPv6 segments shorter than 1280 bytes", FAR6, 100, 1220))
def _(case, addr, mtu, mss):
    conn, peer = case.pair(addr=addr, mss=8000, sack=True)
    receive = conn.input

    def hop(segment):
        if len(segment.data) > mss:
            conn.guest.send(conn.guest.too_big(segment, mtu))
        else:
            receive(segment)

    conn.input = hop
    peer.sendall(BLOB[:200000])
    assert conn.wait_data(200000) == BLOB[:200000]
    assert max(len(f.data) for f in conn.segments) == mss


@both
def a_lie_of_too_big_segments_that_are_not_in_flight_changes_nothing(case, addr):
    conn, peer = case.pair(addr=addr, mss=8000, sack=True)
    peer.sendall(BLOB[:8000])
    conn.wait_data(8000)
    old = conn.segments[-1]
    peer.sendall(BLOB[8000:8001])
    conn.wait_data(8001)  # so that the acknowledgement was read
    conn.guest.send(conn.guest.too_big(old, 1280))
    conn.guest.pump(0.2)
    peer.sendall(BLOB[:8000])
    conn.wait_data(16001)
    assert max(len(f.data) for f in conn.segments[-2:]) == 8000, conn.segments[-2:]


if __name__ == "__main__":
    sys.exit(main())
