#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net slow
# timeout: 1800
"""10,000 reconnections of the guest, and 200 short connections a second for a minute."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from churn import Echo, reconnect, short_connections
from joined import Joined
from netns import FAR4
from suite import main, test, wait_for


@test
def ten_thousand_reconnections_leave_nothing_behind(case):
    daemon = case.start()
    reconnect(case, 500)
    memory = daemon.memory_kb()
    reconnect(case, 10000)
    assert daemon.memory_kb() - memory < 2048, "memory grew by %d KiB" % (daemon.memory_kb() - memory)


@test
def two_hundred_short_connections_a_second_for_a_minute_leave_nothing_behind(case):
    daemon = case.start()
    guest = Joined(case).configure()
    with Echo(case.net.remote, FAR4) as echo:
        # Entries are kept for 10 s after the close: their number stops growing only behind that.
        short_connections(guest.ns, FAR4, echo.port, 200, 15)
        wait_for(lambda: daemon.fds() <= 24, "sockets are closed", 30, 0.2)
        before, memory = daemon.fds(), daemon.memory_kb()
        short_connections(guest.ns, FAR4, echo.port, 200, 60)
        wait_for(lambda: daemon.fds() <= before + 4, "sockets are closed", 30, 0.2)
    assert daemon.memory_kb() - memory < 2048, "memory grew by %d KiB" % (daemon.memory_kb() - memory)


if __name__ == "__main__":
    sys.exit(main())
