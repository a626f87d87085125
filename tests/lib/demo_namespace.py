#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
./demo --namespace: a network namespace joined by taploom under the name pasta, with two shards; then
how fast it is, and what it costs, beside the pasta that is installed.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import guest
import topology
from demo_report import Report, main, progress
from demo_stream import TEXTS
from topology import ROOT, Topology

sys.path.insert(0, os.path.join(ROOT, "perf", "lib"))

import cases  # noqa: E402
import kinds  # noqa: E402
from measure import Bench, run_once  # noqa: E402

SHARDS = 2
SIZE = 100_000_000
PARTS = ("mtu route4 route6 ping_gateway4 ping_gateway6 ping_remote4 ping_remote6 ping_large4 ping_large6 tcp4 tcp6 udp4 "
         "udp6 refused4 refused6 gateway_is_host4 gateway_is_host6 forward_tcp4 forward_tcp6 forward_udp4 forward_udp6 "
         "download4 download6 upload4 upload6 parallel4 parallel6 many4 many6")
COMPARED = (("tcp-1-up-v4-1500", "TCP out, MTU 1500"), ("tcp-1-down-v4-1500", "TCP in, MTU 1500"),
            ("tcp-1-up-v4-65520", "TCP out, MTU 65520"), ("tcp-1-down-v4-65520", "TCP in, MTU 65520"),
            ("lo-tcp-1-down", "TCP from the host's loopback"), ("crr-32", "connections, 32 at a time"))
SECONDS = 1.0
# The list is read before a file system of its own, and empty, is mounted over what it writes to.
COMMAND = 'PATH=$TOOLS:$PATH && exec 9<"$CHECKS_SH" && mount -t tmpfs tmpfs /tmp && sh /dev/fd/9 && echo guest end && read -r line'


class Namespace:
    """The namespace of a command, which runs the list of checks."""

    def __init__(self, net, *options):
        self.net = net
        self.log_path = os.path.join(net.directory, "pasta.log")
        tools = os.path.join(net.directory, "tools")
        os.makedirs(tools)
        topology.run("busybox", "--install", "-s", tools)
        script = os.path.join(net.directory, "checks.sh")
        shutil.copy(os.path.join(ROOT, "tests", "net", "guest", "checks.sh"), script)
        values = {key: str(value) for key, value in guest.settings(net, size=SIZE, checks=PARTS).items()}
        self.environment = {**os.environ, **values, "CHECKS_SH": script, "TOOLS": tools}
        pasta = os.path.join(os.path.dirname(topology.program()), "pasta")
        self.command_line = net.host.command(pasta, "-f", "--config-net", *options, "--", "unshare", "-m", "sh", "-c",
                                             COMMAND)

    def run_checks(self, report):
        """Runs the list; returns the counters that the daemon has at its end."""
        with open(self.log_path, "wb") as log:
            process = subprocess.Popen(self.command_line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                       start_new_session=True, preexec_fn=topology.die_with_parent, env=self.environment)
        try:
            guest.converse(process, self.net, report, 30, "")
            return self._counters(process) if process.poll() is None else {}
        finally:
            topology.stop(process)

    def _counters(self, process):
        process.send_signal(signal.SIGUSR1)
        seen = [""]

        def whole():
            text, seen[0] = seen[0], self.log()
            return "counters:" in text and text == seen[0]
        topology.wait_until(whole, 5, "table of counters")
        return topology.parse_counters(seen[0])

    def log(self):
        """What the daemon has printed."""
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()


def compared():
    """[(text, case, {label: run})]: each case by taploom and by the installed pasta, one after the other."""
    build = os.path.dirname(topology.program())
    bench = Bench(build, SECONDS)
    both = [kind for kind in kinds.all_kinds(topology.program(), build, [], [SHARDS])
            if kind.label in (f"taploom-ns/{SHARDS}", "pasta")]
    table = {case.name: case for case in cases.all_cases()}
    out = []
    for name, text in COMPARED:
        progress("measure", text)
        out.append((text, table[name], {kind.label.partition("-")[0]: run_once(bench, table[name], kind) for kind in both}))
    return out


def figures(case, run):
    """Rate and processor time as a reader wants them."""
    if not run or "error" in run:
        return (run or {}).get("error", "not installed")[:40]
    cpu = f"{run['cpu']:.3g} {case.cpu_unit}" if run.get("cpu") is not None else "-"
    return f"{run['rate']:.3g} {case.unit}, {cpu}" if run["rate"] < 1000 else f"{run['rate']:.0f} {case.unit}, {cpu}"


def ratio(runs):
    """taploom's rate over pasta's."""
    with contextlib.suppress(KeyError, ZeroDivisionError):
        return f"{runs['taploom']['rate'] / runs['pasta']['rate']:.1f} times"
    return ""


def print_comparison(results):
    """The table; processor time is the daemon's own, per GB or per connection."""
    version = topology.run("pasta", "--version").split("\n")[0] if shutil.which("pasta") else "pasta: not installed"
    print(f"\nBeside {version}: one run of {SECONDS:g} s each; rate, and the daemon's CPU")
    print("  " + f"{'':<30}{'taploom':<28}{'pasta':<28}rate")
    for text, case, runs in results:
        print("  " + f"{text:<30}{figures(case, runs.get('taploom')):<28}{figures(case, runs.get('pasta')):<28}{ratio(runs)}")


def run():
    begun = time.monotonic()
    progress("network", "namespaces host, router (NAT for IPv4, NDP proxy for IPv6) and remote")
    report = Report(TEXTS)
    with Topology("taploom-demo-ns", data=SIZE) as net:
        space = Namespace(net, "--shards", str(SHARDS), "-t", guest.FORWARDED, "-u", guest.FORWARDED, "-T", "none", "-U",
                          "none")
        progress("pasta", f"a namespace of its own in {net.host.name}, {SHARDS} shards")
        counters = space.run_checks(report.add)
        report.check_shards(counters, SHARDS)
        log = space.log()
    results = compared()
    report.print("A network namespace", counters)
    print_comparison(results)
    print(f"\n{time.monotonic() - begun:.0f} s in all")
    wrong = [run["error"] for _, _, runs in results for label, run in runs.items() if label == "taploom" and "error" in run]
    if report.failed or wrong:
        print("\nWhat taploom printed:\n" + log, *wrong, sep="\n")
    return 1 if report.failed or wrong else 0


if __name__ == "__main__":
    sys.exit(main(run))
