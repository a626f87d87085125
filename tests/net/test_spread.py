#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 300
"""Load is spread over the shards, whatever the ports of the connections: buckets or flows move, and nothing is lost by it."""
import hashlib
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from joined import Joined, start
from netns import FAR4, GW4, HOST4
from nsguest import NsGuest
from suite import Options, Skip, main, rows, test, wait_for
from topology import parse_counters

SHARDS = 4
UPLOADS = 4
STREAMS = 16
BLOCK = bytes(range(256)) * 256
MUCH = 1 << 20  # bytes by which a shard shows that it is at work


class Stream:
    """Blocks go from one end to the other until told to stop; then both compare what went through."""

    def __init__(self, sender, receiver):
        self.sender, self.receiver = sender, receiver
        for sock in (self.sender, self.receiver):
            sock.settimeout(30)
        self.sent, self.received = hashlib.sha256(), hashlib.sha256()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=t) for t in (self._send, self._receive)]
        for thread in self.threads:
            thread.start()

    def _send(self):
        n = 0
        while not self.stop.is_set():
            block = n.to_bytes(8, "big") + BLOCK
            self.sender.sendall(block)
            self.sent.update(block)
            n += 1
        self.sender.shutdown(1)

    def _receive(self):
        while True:
            data = self.receiver.recv(1 << 16)
            if not data:
                break
            self.received.update(data)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        self.sender.close()
        self.receiver.close()
        assert self.sent.digest() == self.received.digest(), "what arrived is not what was sent"


def columns(daemon):
    """{counter: {thread: value}}."""
    return parse_counters("counters:\n" + daemon.counters_table())


def by_shard(daemon, counter):
    row = columns(daemon).get(counter, {})
    return [row.get("shard%d" % i, 0) for i in range(SHARDS)]


def pairs_on_one_shard(guest_ns, server, daemon, n):
    """As many connections as it takes for one shard to have n of them; those."""
    spread = [[] for _ in range(SHARDS)]
    while max(map(len, spread)) < n:
        before = by_shard(daemon, "flows-opened")
        client = guest_ns.tcp_client(*server.getsockname())
        pair = client, server.accept()[0]
        after = by_shard(daemon, "flows-opened")
        spread[[a - b for a, b in zip(after, before)].index(1)].append(pair)
    chosen = max(spread, key=len)
    for pair in (p for pairs in spread if pairs is not chosen for p in pairs):
        for sock in pair:
            sock.close()
    return chosen


def one_on_each_of_two_shards(guest, server):
    """A connection of each; others are closed."""
    found = {}
    while len(found) < 2:
        before = by_shard(guest.daemon, "flows-opened")
        client = guest.ns.tcp_client(*server.getsockname())
        pair = client, server.accept()[0]
        after = by_shard(guest.daemon, "flows-opened")
        shard = [a - b for a, b in zip(after, before)].index(1)
        for sock in found.get(shard, ()):
            sock.close()
        found[shard] = pair
    return found.values()


def at_work(daemon, last, counter="tcp-rx-bytes"):
    """How many shards have given bytes to sockets, or taken some, since the last call."""
    now = by_shard(daemon, counter)
    n = sum(a - b > MUCH for a, b in zip(now, last))
    last[:] = now
    return n


def load_is_spread(case, guest_ns, daemon):
    server = case.net.remote.tcp_server(FAR4)
    server.settimeout(10)
    uploads = [Stream(*pair) for pair in pairs_on_one_shard(guest_ns, server, daemon, UPLOADS)]
    last = by_shard(daemon, "tcp-rx-bytes")
    try:
        wait_for(lambda: at_work(daemon, last) >= 2, "two shards are at work", 60)
    finally:
        for upload in uploads:
            upload.end()
    table = columns(daemon)
    assert table["buckets-moved"]["total"] > 0
    assert table["flows-moved"]["total"] > 0
    for counter in "drop-tcp-in-window", "drop-ring-full", "drop-no-flow":
        assert counter not in table, "%s: %s" % (counter, table[counter])


@test
def four_uploads_of_a_machine_load_two_shards_whatever_their_ports(case):
    daemon = case.start("--shards", SHARDS)
    load_is_spread(case, Joined(case).configure().ns, daemon)


@test
def four_uploads_of_a_namespace_with_one_queue_load_two_shards_whatever_their_ports(case):
    guest = NsGuest(case, "--shards", SHARDS, "--queues", 1)
    load_is_spread(case, guest.ns, guest.daemon)


@rows(("sixteen uploads that begin on one queue of a namespace spread over the shards, in order", "tcp-rx-bytes", 1),
      ("sixteen downloads that begin on one queue of a namespace spread over the shards, in order", "tcp-tx-bytes", -1))
def _(case, counter, way):
    guest = NsGuest(case, "--shards", SHARDS)
    server = case.net.remote.tcp_server(FAR4)
    server.settimeout(10)
    streams = [Stream(*pair[::way]) for pair in pairs_on_one_shard(guest.ns, server, guest.daemon, STREAMS)]
    last = by_shard(guest.daemon, counter)
    try:
        wait_for(lambda: at_work(guest.daemon, last, counter) == SHARDS, "all shards are at work", 60)
    finally:
        for stream in streams:
            stream.end()
    counters = guest.counters()
    assert counters["flows-spread"] >= SHARDS - 1, counters
    assert counters["flows-moved"] == counters["flows-spread"], counters  # each queue has followed
    for name in "drop-tcp-in-window", "drop-tcp-unsacked", "drop-ring-full":
        assert not counters.get(name), "%s: %s" % (name, counters)
    # The guest's kernel may change its mind between two queues; a thread without a processor lets it send again.
    assert counters.get("tcp-out-of-order", 0) <= counters["frames-own"] / 1000, counters


@test
def connections_that_a_namespace_has_spread_evenly_stay(case):
    guest = NsGuest(case, "--shards", 2)
    server = case.net.remote.tcp_server(FAR4)
    server.settimeout(10)
    streams = [Stream(*pair) for pair in one_on_each_of_two_shards(guest, server)]
    last = by_shard(guest.daemon, "tcp-rx-bytes")
    try:
        for _ in range(5):  # of what would move a flow within half a second
            time.sleep(1)
            assert at_work(guest.daemon, last) == 2
    finally:
        for stream in streams:
            stream.end()
    assert not guest.counters().get("flows-moved")


@test
def uploads_of_a_guest_with_one_queue_pair_load_two_shards(case):
    load, guest = (os.path.join(os.path.dirname(Options.taploom), "perf", name) for name in ("taploom-load", "taploom-vuload"))
    if not (os.access(load, os.X_OK) and os.access(guest, os.X_OK)):
        raise Skip("the load generators are not built")
    daemon = case.start("--shards", SHARDS, "--vhost-user")
    server = start(case, case.net.remote, load, "bulk", "-l", "-p", "7001", "-r", "-V", "-n", "16", stderr=subprocess.PIPE, text=True)
    assert server.stderr.readline() == "listening\n"
    result = subprocess.run(case.net.host.command(guest, "bulk", "-U", daemon.socket, "-a", HOST4, "-g", GW4, "-c", FAR4,
                                                  "-p", "7001", "-s", "-n", "16", "-q", "1", "-t", "3"),
                            stdout=subprocess.PIPE, text=True, timeout=60)
    assert result.returncode == 0, result.stdout
    table = columns(daemon)
    assert sum(table["tcp-rx-bytes"]["shard%d" % i] > MUCH for i in range(SHARDS)) >= 2, table["tcp-rx-bytes"]
    for counter in "drop-tcp-in-window", "drop-ring-full":
        assert counter not in table, "%s: %s" % (counter, table[counter])


if __name__ == "__main__":
    sys.exit(main())
