#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net slow quiet
# timeout: 7200
"""
TCP over a wire with faults beside a direct connection and a relay with the same ones: the medians of several seeds,
and the bars that they are held to. LOSS_SEEDS, LOSS_SECONDS: how many where there is a bar, and the length of a run. A
third of the seeds serve rows that are for the table only; a wire without faults has no use for seeds, but for runs that
are long beside a slow start.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from lossy import (check_counters, compare, median_mbit, paths_on_guest_side, paths_on_host_side, print_row,
                   use_congestion_control)
from suite import main, rows

SEEDS = int(os.environ.get("LOSS_SEEDS", 10))
SECONDS = float(os.environ.get("LOSS_SECONDS", 1))
ON_HOST_SIDE, ON_GUEST_SIDE = ("direct", "stream", "namespace", "relay"), ("direct", "stream", "relay")
ON_DEVICE = ("direct", "namespace", "relay")
LIMIT = ",rate=400,queue=2048"  # so that the pace is the wire's and not the processors'
# Faults, and the bar: which path it is a part of, and how much of it; None is for the table only.
DELAY = tuple(("delay=%d,queue=16384,rate=%d" % (delay, rate), ("direct", 0.95))
              for rate in (100, 400) for delay in (1, 5, 25))
WIRE = (("loss=0.01,delay=5" + LIMIT, None), ("loss=0.1,delay=5" + LIMIT, ("direct", 0.9)),
        ("loss=1,delay=5" + LIMIT, ("direct", 0.9)), ("loss=5,delay=1" + LIMIT, None),
        ("loss=0.1,delay=50" + LIMIT, None), ("reorder=2,late=3,delay=5" + LIMIT, None), ("dup=2,delay=5" + LIMIT, None))
DEVICE = (("loss=0.01,delay=1" + LIMIT, None), ("loss=0.1,delay=0" + LIMIT, ("relay", 0.7)),
          ("loss=1,delay=0" + LIMIT, ("relay", 0.7)), ("loss=5,delay=0" + LIMIT, None),
          ("reorder=2,late=3,delay=1" + LIMIT, None), ("dup=2,delay=1" + LIMIT, None), ("delay=25" + LIMIT, None))
DROPS = (("loss=0.01", None), ("loss=0.1", ("relay", 0.7)), ("loss=1", ("relay", 0.7)), ("loss=5", None))


def plan(faults, bar):
    """The seeds of a row, and the seconds of each run."""
    if "loss" not in faults and bar:
        return range(1, 4), 4 * SECONDS
    return range(1, 1 + (SEEDS if bar else (SEEDS + 2) // 3)), SECONDS


def below_bar(what, runs, bar):
    """What misses the bar, in words."""
    base, least = bar
    limit = least * median_mbit(runs[base])
    return ["%s: %s %.1f, not %.1f Mbit/s" % (what, label, median_mbit(of_label), limit)
            for label, of_label in runs.items()
            if label in ("stream", "namespace") and median_mbit(of_label) < limit]


@rows(*(("%s, %s" % (what, control.upper()), make_paths, labels, control, table)
        for control in ("cubic", "bbr")
        for what, make_paths, labels, table in (
            ("a wire without faults", paths_on_host_side, ON_HOST_SIDE, DELAY),
            ("faults on the host's side", paths_on_host_side, ON_HOST_SIDE, WIRE),
            ("faults on the guest's side", paths_on_guest_side, ON_GUEST_SIDE, DEVICE),
            ("drops on the device of a namespace", paths_on_guest_side, ON_DEVICE, DROPS))))
def _(case, make_paths, labels, control, table):
    paths = make_paths(case, labels, 1500)
    use_congestion_control(case, paths, control)
    missed = []
    for faults, bar in table:
        for upload in (True, False):
            what = "%s %s" % (faults, "from the guest" if upload else "to the guest")
            runs = compare(case, paths, faults, *plan(faults, bar), upload)
            print_row(what, runs)
            missed += below_bar(what, runs, bar) if bar else []
    check_counters(case)
    assert not missed, "below the bar:\n    " + "\n    ".join(missed)


if __name__ == "__main__":
    sys.exit(main())
