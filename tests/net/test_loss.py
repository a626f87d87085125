#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 600
"""
TCP over a wire with faults, on either side of the daemon: data is whole, nothing in the window is dropped. A long wire
without faults is filled as fast as by a direct connection.
"""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from lossy import (CHUNK, PORT, check_counters, compare, median_mbit, paths_on_guest_side, paths_on_host_side,
                   print_row, use_congestion_control)
from netns import FAR4
from suite import main, rows

SECONDS = 1.5
FAULTS = ("loss=0.1,delay=1,rate=500", "loss=1,delay=5,rate=500", "reorder=2,late=3,dup=1,loss=0.1,rate=500")
DROPS = ("loss=0.1", "loss=5")
LONG = "delay=25,rate=50"  # so slow that the processors are no limit
LONG_SECONDS, LONG_RUNS, LONG_PART = 3, 3, 0.8


@rows(("faults on the host's side, CUBIC", paths_on_host_side, ("stream", "namespace", "direct"), "cubic", FAULTS),
      ("faults on the host's side, BBR", paths_on_host_side, ("stream", "namespace"), "bbr", FAULTS[1:2]),
      ("faults on the guest's side, CUBIC", paths_on_guest_side, ("stream", "relay"), "cubic", FAULTS),
      ("faults on the guest's side, BBR", paths_on_guest_side, ("stream",), "bbr", FAULTS[1:2]),
      ("drops on the device of a namespace", paths_on_guest_side, ("namespace", "relay"), "cubic", DROPS))
def _(case, make_paths, labels, control, faults):
    paths = make_paths(case, labels, 1500)
    use_congestion_control(case, paths, control)
    for fault in faults:
        for upload in (True, False):
            runs = compare(case, paths, fault, (1,), SECONDS, upload)
            print_row("%s %s" % (fault, "from the guest" if upload else "to the guest"), runs)
    check_counters(case)


def download(clients, server):
    """Two chunks for each client, all at a time; what each received."""
    received = [b""] * len(clients)

    def feed(peer):
        peer.sendall(CHUNK + CHUNK)
        peer.close()

    def receive(i):
        clients[i].settimeout(120)
        received[i] = b"".join(iter(lambda: clients[i].recv(1 << 16), b""))

    peers = [server.accept()[0] for _ in clients]
    threads = [threading.Thread(target=feed, args=(peer,), daemon=True) for peer in peers]
    threads += [threading.Thread(target=receive, args=(i,), daemon=True) for i in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return received


@rows(("a guest that takes 20 Mbit/s and loses nothing, eight downloads at a time",))
def _(case):
    path, = paths_on_guest_side(case, ("stream",), 1500)
    path.set_faults("rate=20,queue=65536")
    server = case.net.remote.tcp_server(FAR4, PORT)
    received = download([path.ns.tcp_client(FAR4, PORT) for _ in range(8)], server)
    server.close()
    assert all(data == CHUNK + CHUNK for data in received), [len(data) for data in received]
    counters = case.daemons[0].counters()
    print("  %d segments sent again of %d" % (counters.get("tcp-retrans", 0), counters["tx-frames"]))
    assert counters.get("tcp-retrans", 0) < counters["tx-frames"] / 100, counters
    check_counters(case)


def slowest(runs):
    """The least of what the other paths had of the direct connection's throughput."""
    return min(median_mbit(of_label) for of_label in runs.values()) / median_mbit(runs["direct"])


@rows(("a long wire is filled from the guest", True), ("a long wire is filled to the guest", False))
def _(case, upload):
    paths = paths_on_host_side(case, ("direct", "stream", "namespace"), 1500)
    use_congestion_control(case, paths, "cubic")
    parts = []
    # A sender whose slow start ends early, as the machine was busy, is slow once; what a window lacks is lacking always.
    while len(parts) < LONG_RUNS and (not parts or max(parts) < LONG_PART):
        runs = compare(case, paths, LONG, (1 + len(parts),), LONG_SECONDS, upload)
        print_row(LONG, runs)
        parts.append(slowest(runs))
    check_counters(case)
    assert max(parts) >= LONG_PART, "of the direct connection's throughput: %s" % parts


if __name__ == "__main__":
    sys.exit(main())
