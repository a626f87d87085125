#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 200
"""What an idle daemon of a namespace does: it looks for listeners once a second, if it was asked to, and nothing else."""
import os
import re
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from netns import FAR4, HOST4
from nsguest import NsGuest
from suite import main, rows, test, wait_for

SECONDS = 6


def switches(pid):
    """{thread: how often it has slept}."""
    out = {}
    for tid in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/status" % (pid, tid)) as file:
            text = file.read()
        name = re.search(r"Name:\s+(.*)", text).group(1)
        out[name] = int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", text).group(1))
    return out


def settle(guest):
    """The namespace's own beginning (duplicate detection, MLD, router solicitations) is over when two seconds are quiet."""
    last = [None, 0.0]

    def quiet():
        now = {k: v for k, v in switches(guest.daemon.pid).items() if k.startswith("shard")}
        if now != last[0]:
            last[:] = [now, time.monotonic()]
        return time.monotonic() - last[1] > 2
    wait_for(quiet, "the shards are quiet", 40, 0.2)


def idle(guest):
    settle(guest)
    before = switches(guest.daemon.pid)
    time.sleep(SECONDS)
    return {name: n - before[name] for name, n in switches(guest.daemon.pid).items()}


@rows(("without automatic ports nothing wakes an idle daemon", 0, ()),
      ("automatic TCP ports wake the control thread once a second", 1, ("-t", "auto")),
      ("automatic ports of both sides wake the control thread once a second for each side", 2,
       ("-t", "auto", "-u", "auto", "-T", "auto", "-U", "auto")))
def _(case, per_second, options):
    guest = NsGuest(case, *options, by_process=True)
    woken = idle(guest)
    assert all(n == 0 for name, n in woken.items() if name != guest_main(woken)), woken
    low, high = min(per_second, 1) * (SECONDS - 1), per_second * (SECONDS + 1) + 1
    assert low <= woken[guest_main(woken)] <= high, woken


def guest_main(woken):
    """The control thread is the first one, under the program's name or its own."""
    return "control" if "control" in woken else "pasta"


@test
def the_text_of_proc_is_never_read_for_ports(case):
    guest = NsGuest(case, auto=True)
    opened = []
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        for fd in os.listdir("/proc/%d/fd" % guest.daemon.pid):
            try:
                opened.append(os.readlink("/proc/%d/fd/%s" % (guest.daemon.pid, fd)))
            except FileNotFoundError:
                pass
        time.sleep(0.01)
    assert not [path for path in opened if re.search(r"/net/(tcp|udp)6?$", path)]


@test
def connections_that_end_in_the_namespace_do_not_wake_it(case):
    guest = NsGuest(case, "-t", "auto", by_process=True)
    with guest.ns:
        server = socket.socket(socket.AF_INET)
        server.bind(("127.0.0.1", 0))
        server.listen(100)
    settle(guest)
    before = switches(guest.daemon.pid)["control"]
    for _ in range(300):
        with guest.ns:
            client = socket.create_connection(server.getsockname())
        server.accept()[0].close()
        client.close()
    assert switches(guest.daemon.pid)["control"] - before < 30


@test
def an_address_that_is_learnt_wakes_it_once(case):
    guest = NsGuest(case, by_process=True)
    server = case.net.remote.tcp_server(FAR4)
    client = guest.ns.tcp_client(FAR4, server.getsockname()[1])
    peer = server.accept()[0]
    client.sendall(b"x")
    peer.recv(1)
    settle(guest)
    before = switches(guest.daemon.pid)["control"]
    for _ in range(300):
        client.sendall(b"x")
        assert peer.recv(1) == b"x"
    assert switches(guest.daemon.pid)["control"] - before < 5
    assert peer.getpeername()[0] == HOST4


if __name__ == "__main__":
    sys.exit(main())
