#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 400
"""Every byte, once, in order, through a namespace's interface, with loss, reordering and duplication on the guest's side."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from netns import FAR4, FAR6
from nswired import WiredClient
from suite import main, rows

SIZE = 2_000_000
FAULTS = "loss=1,reorder=2,late=3,dup=1,seed=%d"


@rows(*(("MTU %d, %d shards, IPv%d: data is whole over a wire with faults" % row, *row)
        for row in ((1280, 2, 4), (1280, 4, 6), (1500, 1, 4), (1500, 2, 6), (1500, 4, 4), (9000, 2, 4), (9000, 4, 6),
                    (65520, 1, 6), (65520, 2, 4), (65520, 4, 4))))
def _(case, mtu, shards, version):
    client = WiredClient(case, mtu, "--shards", shards)
    for seed in (1, 2):
        client.wire.again(FAULTS % seed)
        client.transfer(FAR4 if version == 4 else FAR6, SIZE, flows=3)
    counters = client.guest.counters()
    assert not counters.get("drop-tcp-in-window") and not counters.get("drop-tx-error"), counters
    assert counters.get("tcp-retrans"), "the wire had no faults"


if __name__ == "__main__":
    sys.exit(main())
