#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 600
"""TCP over a wire with faults, on either side of the daemon: data is whole, nothing in the window is dropped."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from lossy import check_counters, compare, paths_on_guest_side, paths_on_host_side, print_row, use_congestion_control
from suite import main, rows

SECONDS = 1.5
FAULTS = ("loss=0.1,delay=1,rate=500", "loss=1,delay=5,rate=500", "reorder=2,late=3,dup=1,loss=0.1,rate=500")
DROPS = ("loss=0.1", "loss=5")


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


if __name__ == "__main__":
    sys.exit(main())
