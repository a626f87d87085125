#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 600
"""Data of real kernels through the daemon: SHA-256 compared, iperf3, captures judged by tshark."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from joined import Joined, iperf, iperf_server, tshark_findings
from matrix import transfer
from netns import FAR4, FAR6, HOST4
from suite import both, main, rows, test

SIZE = 48 << 20


@rows(("data is whole at MTU 1280, 1 shard", 1280, 1), ("data is whole at MTU 1500, 2 shards", 1500, 2),
      ("data is whole at MTU 9000, 4 shards", 9000, 4), ("data is whole at MTU 65520, 2 shards", 65520, 2))
def _(case, mtu, shards):
    case.start("--shards", shards, "-m", mtu)
    guest = Joined(case, mtu=mtu).configure()
    for addr in (FAR4, FAR6):
        for upload in (True, False):
            transfer(case, guest, addr, SIZE, upload)
    counters = case.daemons[0].counters()
    assert not counters.get("drop-tcp-in-window"), counters
    assert counters.get("tcp-retrans", 0) <= counters.get("tcp-spurious", 0) + 20, counters


@both
def iperf3_runs_both_ways(case, addr):
    case.start()
    guest = Joined(case).configure()
    iperf_server(case, case.net.remote, addr)
    for options in ((), ("-R",), ("-P", "4"), ("-P", "4", "-R")):
        end = iperf(guest, addr, "-t", "2", *options)
        assert end["sum_received"]["bits_per_second"] > 50e6, (options, end["sum_received"])


@both
def iperf3_by_udp_runs_both_ways(case, addr):
    case.start()
    guest = Joined(case).configure()
    iperf_server(case, case.net.remote, addr)
    # A rate of which the receive buffers hold what comes while a busy machine lets nobody read.
    for options in ((), ("-R",)):
        end = iperf(guest, addr, "-u", "-b", "20M", "-l", "1400", "-t", "2", *options)
        assert end["sum"]["lost_percent"] < 5, (options, end["sum"])


@test
def iperf3_reaches_a_forwarded_port(case):
    case.start("-t", "5201", "-u", "5201")
    guest = Joined(case).configure()
    iperf_server(case, guest.ns, "0.0.0.0")
    done = case.net.remote.run("iperf3", "-c", HOST4, "-t", "2", timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@rows(("what we send is well-formed at MTU 1500", 1500), ("what we send is well-formed at MTU 65520", 65520))
def _(case, mtu):
    path = case.path("cap.pcap")
    case.start("--pcap", path, "-m", mtu)
    guest = Joined(case, mtu=mtu)
    guest.ns.run("ethtool", "-K", "eth0", "tx", "off", check=False)
    guest.configure()
    guest.ns.run("rdisc6", "-1", "eth0", check=False)
    for addr in (FAR4, FAR6):
        transfer(case, guest, addr, 1 << 20, True)
        transfer(case, guest, addr, 1 << 20, False)
        guest.ns.run("ping", "-c2", "-i", "0.2", "-s", "3000", addr)
    guest.ns.run("sh", "-c", "echo x | socat -t1 - UDP:%s:9 || true" % FAR4, check=False)
    case.daemons[0].terminate()
    findings = tshark_findings(path)
    assert not findings, "%d frames, the first: %s" % (len(findings), findings[:3])


if __name__ == "__main__":
    sys.exit(main())
