#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 300
"""A namespace in the place of a guest by vhost-user: its data is whole, and when it goes its connections end."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from joined import Joined
from netns import FAR4, FAR6, GW4, HOST4, HOST6
from nsflows import at_once, drain, pour
from suite import main, rows

PORT = 7000
SIZE = 5_000_000


def pairs_of(case, guest):
    """Connections of both directions and IP versions: (the guest's end, the other)."""
    pairs = []
    for far, host, inside in ((FAR4, HOST4, "0.0.0.0"), (FAR6, HOST6, "::")):
        server = case.net.remote.tcp_server(far)
        ours = guest.ns.tcp_client(far, server.getsockname()[1])
        pairs.append((ours, server.accept()[0]))
        server = guest.ns.tcp_server(inside, PORT)
        theirs = case.net.remote.tcp_client(host, PORT)
        pairs.append((server.accept()[0], theirs))
        server.close()
    for sock in sum(pairs, ()):
        sock.settimeout(30)
    return pairs


def exchange(pairs):
    """All of them send and receive at once."""
    jobs = []
    for number, (ours, theirs) in enumerate(pairs):
        for sender, receiver in ((ours, theirs), (theirs, ours)):
            jobs.append(lambda s=sender, n=number: pour(s, SIZE, n))
            jobs.append(lambda r=receiver: drain(r))
    digests = at_once(*jobs)
    assert digests[::2] == digests[1::2] and None not in digests


@rows(("one pair with four shards", 1, 4), ("two pairs with two shards", 2, 2), ("more pairs than shards", 4, 2),
      ("one pair with four shards, busy polling", 1, 4, "--busy-poll", "50"),
      ("a pair for each shard, busy polling", 2, 2, "--busy-poll", "50"),
      ("one pair with four shards that are handed everything", 1, 4, "--inline", "off"))
def _(case, n_pairs, shards, *options):
    case.start("--vhost-user", "-t", str(PORT), "--shards", str(shards), *options)
    guest = Joined(case, pairs=n_pairs).configure()
    for _ in range(2):
        exchange(pairs_of(case, guest))
        standing = pairs_of(case, guest)
        guest.leave()
        for _, theirs in standing:
            try:
                assert theirs.recv(1) is None, "no reset"
            except ConnectionResetError:
                pass
        guest.join()
        guest.ns.run("ping", "-c1", "-W5", GW4)
    counters = case.daemons[0].counters()
    assert not counters.get("drop-vring") and counters["flows-opened"] >= 16, counters


if __name__ == "__main__":
    sys.exit(main())
