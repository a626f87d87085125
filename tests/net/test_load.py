#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 400
"""Many connections at a time, many short ones, and guests that come and go: nothing may grow."""
import os
import resource
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from churn import Echo, reconnect, short_connections
from joined import Joined
from netns import FAR4, HOST4
from suite import main, test, wait_for

AT_A_TIME = 2000


def raise_limit():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def many_at_a_time(client_ns, target, server):
    """AT_A_TIME connections that all stand at once and each pass some bytes both ways."""
    clients = [client_ns.tcp_client(*target, blocking=False) for _ in range(AT_A_TIME)]
    peers = [server.accept()[0] for _ in clients]
    for i, client in enumerate(clients):
        client.settimeout(20)
        client.sendall(b"%08d" % i)
    for peer in peers:
        peer.settimeout(20)
        peer.sendall(peer.recv(8, socket.MSG_WAITALL) * 2)
    for i, client in enumerate(clients):
        assert client.recv(16, socket.MSG_WAITALL) == b"%08d" % i * 2
    for sock in clients + peers:
        sock.close()


def settles(daemon, before):
    wait_for(lambda: daemon.fds() <= before + 4, "sockets are closed", 30, 0.2)


@test
def two_thousand_connections_from_the_guest_stand_at_a_time(case):
    raise_limit()
    daemon = case.start()
    guest = Joined(case).configure()
    server = case.net.remote.tcp_server(FAR4)
    server.settimeout(30)
    before = daemon.fds()
    many_at_a_time(guest.ns, (FAR4, server.getsockname()[1]), server)
    settles(daemon, before)
    memory = daemon.memory_kb()
    many_at_a_time(guest.ns, (FAR4, server.getsockname()[1]), server)
    settles(daemon, before)
    assert daemon.memory_kb() - memory < 4096, "memory grew by %d KiB" % (daemon.memory_kb() - memory)


@test
def two_thousand_connections_to_the_guest_stand_at_a_time(case):
    raise_limit()
    daemon = case.start("-t", "7000")
    guest = Joined(case).configure()
    server = guest.ns.tcp_server("0.0.0.0", 7000)
    server.settimeout(30)
    before = daemon.fds()
    many_at_a_time(case.net.remote, (HOST4, 7000), server)
    settles(daemon, before)


@test
def two_hundred_short_connections_a_second_leave_nothing_behind(case):
    daemon = case.start()
    guest = Joined(case).configure()
    with Echo(case.net.remote, FAR4) as echo:
        # Entries are kept for 10 s after the close: their number stops growing only behind that.
        short_connections(guest.ns, FAR4, echo.port, 200, 13)
        settles(daemon, 24)
        before, memory = daemon.fds(), daemon.memory_kb()
        short_connections(guest.ns, FAR4, echo.port, 200, 8)
        settles(daemon, before)
    assert daemon.memory_kb() - memory < 2048, "memory grew by %d KiB" % (daemon.memory_kb() - memory)


@test
def three_hundred_reconnections_leave_nothing_behind(case):
    daemon = case.start()
    reconnect(case, 100)
    memory = daemon.memory_kb()
    reconnect(case, 300)
    assert daemon.memory_kb() - memory < 2048, "memory grew by %d KiB" % (daemon.memory_kb() - memory)


@test
def an_idle_guest_costs_at_most_8_mib(case):
    daemon = case.start("--shards", "2")
    Joined(case).configure()
    time.sleep(1)
    assert daemon.memory_kb() <= 8192, "%d KiB" % daemon.memory_kb()


if __name__ == "__main__":
    sys.exit(main())
