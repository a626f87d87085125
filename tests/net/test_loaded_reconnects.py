#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net tsan
# timeout: 300
"""
A guest under load on four shards that disconnects and joins again: each time its connections end, the next
ones are whole, and descriptors don't grow. Run under ThreadSanitizer as well.
"""

import concurrent.futures
import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import traffic  # noqa: E402
from tapguest import TapGuest  # noqa: E402
from topology import Topology, wait_until  # noqa: E402

ROUNDS, FLOWS = 4, 12
SIZE, LONG = 2_000_000, 100_000_000
SHARDS = 4


def one_flow(guest, address, number):
    """One of several kinds of traffic; an exception if it is not whole."""
    net, proto = guest.net, "tcp6" if ":" in address else "tcp4"
    with guest.space.entered():
        if number % 3 == 0:
            got = traffic.exchange(proto, address, net.PORT, b"get %d\n" % SIZE, 60)
            assert hashlib.sha256(got).hexdigest() == traffic.data_sum(SIZE), "download differs"
        elif number % 3 == 1:
            got = traffic.exchange(proto, address, net.PORT, b"put %d\n" % SIZE + traffic.data(SIZE), 60)
            assert got.decode().strip() == traffic.data_sum(SIZE), "upload differs"
        else:
            for size in (1, 1200, 30000):
                payload = traffic.data(size)
                got = traffic.exchange(proto.replace("tcp", "udp"), address, net.PORT, payload, 10)
                assert got == payload, "datagram differs"


def long_flow(guest):
    """More than can arrive until the guest disconnects."""
    with guest.space.entered():
        return traffic.exchange("tcp4", guest.net.REMOTE4, guest.net.PORT, b"get %d\n" % LONG, 60)


def cut_off(guest, pool):
    """Disconnects while flows run: they must fail, none may hang."""
    flows = [pool.submit(long_flow, guest) for _ in range(FLOWS)]
    wait_until(lambda: guest.space.run("ss", "-Htn", "state", "fin-wait-2"), 10, "a transfer")
    guest.disconnect()
    guest.space.run("ss", "-K", "dst", guest.net.REMOTE4)
    for flow in flows:
        flow.exception(timeout=90)


def main():
    with Topology("taploom-load", data=LONG) as net, \
            concurrent.futures.ThreadPoolExecutor(FLOWS) as pool:
        daemon = net.taploom("--shards", str(SHARDS))
        guest = TapGuest(net, daemon)
        descriptors = []
        for round_number in range(ROUNDS):
            guest.configure()
            addresses = (net.REMOTE4, net.REMOTE6)
            flows = [pool.submit(one_flow, guest, addresses[i % 2], i) for i in range(FLOWS)]
            for flow in flows:
                flow.result(timeout=120)
            print(f"round {round_number + 1}: {FLOWS} flows are whole", flush=True)
            cut_off(guest, pool)
            # Not by the socket, which is closed before the flows are.
            gone = round_number + 1
            wait_until(lambda: daemon.process.poll() is not None or daemon.log().count("guest is gone") == gone,
                       30, "the daemon to end the guest's flows")
            descriptors.append(daemon.descriptors())
            guest.connect()
        assert daemon.process.poll() is None, "the daemon ended:\n" + daemon.log()
        assert max(descriptors) <= descriptors[0] + 2, f"descriptors grow: {descriptors}"
        counters = daemon.counters()
        assert not counters.get("drop-tcp-in-window"), "payload inside the window was dropped"
        status = daemon.stop()
        assert status == 0, f"the daemon ended with status {status}:\n{daemon.log()}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
