#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net tsan
# timeout: 300
"""
Connections by vhost-user whose servers don't read, beside one that runs: no descriptor of the guest is kept for them,
neither while it goes on nor when rings are stopped or the device is reset.
"""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from joined import start
from netns import FAR4, GW4, HOST4
from suite import Options, Skip, main, rows

PORT = 7001  # and the next is nobody's to read
FLOWS = 8
SECONDS = 3
LATE = 0.25  # of all looks; a machine that is busy with something else has some


def tools():
    """The load generator and the one in the place of a guest."""
    paths = [os.path.join(os.path.dirname(Options.taploom), "perf", name) for name in ("taploom-load", "taploom-vuload")]
    if not all(os.access(path, os.X_OK) for path in paths):
        raise Skip("the load generators are not built")
    return paths


@rows(("one pair with four shards", 1, 4, ""), ("two pairs with two shards", 2, 2, ""), ("packed rings", 2, 2, "+packed"),
      ("rings in order", 2, 2, "+inorder"), ("packed rings in order by four shards", 1, 4, "+packed,+inorder"),
      ("chains without tables or offloads", 1, 1, "indirect,tso,csum"))
def _(case, pairs, shards, features):
    load, guest = tools()
    daemon = case.start("--shards", shards, "--vhost-user")
    unread = case.net.remote.tcp_server(FAR4, PORT + 1)
    server = start(case, case.net.remote, load, "bulk", "-l", "-p", str(PORT), "-r", "-V", stdout=subprocess.PIPE,
                   stderr=subprocess.PIPE, text=True)
    assert server.stderr.readline() == "listening\n"
    done = subprocess.run(case.net.host.command(
        guest, "stopped", "-U", daemon.socket, "-a", HOST4, "-g", GW4, "-c", FAR4, "-p", str(PORT), "-n", str(FLOWS),
        "-q", str(pairs), "-t", str(SECONDS), *(["-f", features] if features else [])), stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, "%s\n%s" % (done.stdout, daemon.log())
    seen, received = json.loads(done.stdout), json.loads(server.communicate()[0])
    print("  %s" % seen, flush=True)
    assert seen["filled"] >= FLOWS and seen["stops"] > seen["resets"] > 0, seen
    assert seen["late"] < LATE * seen["looks"], "frames are kept for more than 10 ms: %s" % seen
    assert received["whole"] and received["received"] == seen["sent"], (seen, received)
    unread.close()
    assert not daemon.counters().get("drop-vring"), daemon.log()


if __name__ == "__main__":
    sys.exit(main())
