# SPDX-License-Identifier: Apache-2.0
"""
One run of one case by one kind: makes the namespaces, joins, loads, and returns what was seen as a
dict: rate in the case's unit, daemon CPU per GB or per packet or transaction, latencies, retransmissions
of the two kernels, the longest gap between bytes, or "error". Whatever went wrong is an error: the
caller decides what to make of it.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import time

from kinds import PORTS, TAPJOIN, VULOAD, time_start
from space import (HOST4, Failure, World, cpu_seconds, listening, resident_kib, stop, thread_seconds, tree,
                   wait_until)

LOAD = "perf/taploom-load"
PORT = PORTS[0]
CONTROL_PORT = PORTS[1]


class Bench:
    """What all runs share: where the programs are, how long to run."""

    def __init__(self, build, seconds, neper=None):
        self.load = os.path.join(build, LOAD)
        self.seconds = seconds
        self.omit = min(1.0, seconds / 4)
        self.neper = neper
        self.client_cpu_s = 0.0  # of the last run
        self.bins = None  # where the receiver of a bulk load writes its bytes per 10 ms
        self.recorder = None  # start(pids) before the load, stop() after it


def _finish(process, seconds):
    """Reads a load's output; returns (stdout, processor seconds). Raises Failure if it failed."""
    try:
        out, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        stop(process)
        raise Failure("the load did not end") from None
    if process.returncode:
        last = (errors or out).decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
        raise Failure(f"the load failed: {last[0]}")
    return out.decode()


def _children_cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _finish_client(bench, client, seconds):
    """As _finish(), and notes the client's processor time: nothing else ends meanwhile."""
    before = _children_cpu()
    out = _finish(client, seconds)
    bench.client_cpu_s = _children_cpu() - before
    return out


def _json(text):
    result = json.loads(text)
    if not result.get("ok"):
        raise Failure("the load saw nothing arrive")
    return result


class Ends:
    """Which namespace listens, which connects, and to which address."""

    def __init__(self, world, kind, case):
        self.listener = world.server if case.way == "out" else world.guest
        self.guest_load = kind.guest_load(world, case)
        self.client = {"out": world.guest, "fwd": world.server, "lo": world.host}[case.way]
        self.address = kind.target(case.way, case.version)
        # up is from the guest: what connects sends it if the guest connects.
        guest_connects = case.way == "out"
        self.client_sends = case.direction == "both" or (case.direction == "up") == guest_connects
        self.client_receives = case.direction == "both" or not self.client_sends

    def flags(self):
        """(of the client, of the listener): -s and -r."""
        client = ["-s"] * self.client_sends + ["-r"] * self.client_receives
        listener = ["-r"] * self.client_sends + ["-s"] * self.client_receives
        return client, listener


def _run_pair(world, bench, case, ends, mode, client_flags, listener_flags):
    """Both halves of a taploom-load; returns their outputs (client's, listener's)."""
    common = ["-p", str(PORT), "-n", str(case.n), "-t", str(bench.seconds), "-o", str(bench.omit)]
    listener = world.start(ends.listener, bench.load, mode, "-l", *common, *listener_flags)
    protocol = "udp" if mode == "udp" else "tcp"
    wait_until(lambda: listening(listener.pid, PORT, protocol), 5, "the load's listener")
    program = ends.guest_load or [bench.load, mode]
    client = world.start(ends.client, *program, "-c", ends.address, *common, *client_flags)
    limit = bench.seconds + bench.omit + 25
    out = _finish_client(bench, client, limit)
    return out, "" if mode == "trans" else _finish(listener, limit)


def _run_bulk(world, bench, case, ends):
    client, listener = ends.flags()
    rate = ["-R", str(case.rate)] if case.rate else []
    bins = ["-b", bench.bins] if bench.bins else []
    if bins and ends.client_receives:
        client = client + bins
    elif bins:
        listener = listener + bins
    results = []
    outs = _run_pair(world, bench, case, ends, "bulk", client + rate, listener + rate)
    for out, receives in zip(outs, (ends.client_receives, ends.client_sends)):
        result = _json(out)
        if receives:
            results.append(result)
    n_bytes = sum(result["received"] for result in results)
    return {"rate": sum(result["window"] for result in results) * 8 / bench.seconds / 1e9,
            "n": n_bytes / 1e9,
            "longest_gap_ms": max(result["longest_gap_ms"] for result in results),
            "gaps": sum(result["gaps"] for result in results),
            "fairness": min(result["fairness"] for result in results)}


def _run_udp(world, bench, case, ends):
    client, listener = ends.flags()
    options = ["-S", str(case.size)] + (["-R", str(case.rate)] if case.rate else [])
    gro = ["-G"] if case.gro else []
    outs = _run_pair(world, bench, case, ends, "udp", client + options, listener + options + gro)
    received = _json(outs[0] if ends.client_receives else outs[1])
    sent = _json(outs[1] if ends.client_receives else outs[0])
    return {"rate": received["window"] / bench.seconds, "n": received["received"] / 1e6,
            "sent_rate": sent["sent"] / (bench.seconds + bench.omit)}


def _run_trans(world, bench, case, ends):
    if bench.neper and not ends.guest_load and case.size == 1 and case.response == 1:
        return _run_neper(world, bench, case, ends)
    sizes = ["-S", str(case.size), "-A", str(case.response)] + ["-x"] * case.reconnect
    result = _json(_run_pair(world, bench, case, ends, "trans", sizes, sizes)[0])
    return {"rate": result["window"] / bench.seconds, "n": result["transactions"] / 1e6,
            "p50_us": result["p50_us"], "p99_us": result["p99_us"]}


def _run_neper(world, bench, case, ends):
    """neper's tcp_rr and tcp_crr, for figures that others can repeat with the same generator."""
    program = os.path.join(bench.neper, "tcp_crr" if case.reconnect else "tcp_rr")
    seconds = max(1, round(bench.seconds + bench.omit))
    common = [program, f"-{case.version}", "-C", str(CONTROL_PORT), "-P", str(PORT), "-F", str(case.n),
              "-l", str(seconds), "--nolog"]
    listener = world.start(ends.listener, *common)
    wait_until(lambda: listening(listener.pid, CONTROL_PORT, "tcp"), 5, "neper's listener")
    client = world.start(ends.client, *common, "-c", "-H", ends.address, "-p", "50,99")
    values = {}
    for line in _finish_client(bench, client, seconds + 20).splitlines():
        key, _, value = line.partition("=")
        values.setdefault(key, value)
    _finish(listener, seconds + 20)
    if float(values.get("num_transactions", 0)) == 0:
        raise Failure("neper saw no transaction")
    return {"rate": float(values["throughput"]), "n": float(values["num_transactions"]) / 1e6,
            "p50_us": float(values["latency_p50"]) * 1e6, "p99_us": float(values["latency_p99"]) * 1e6}


def _run_hold(world, bench, case, ends, pids):
    before = resident_kib(pids)
    common = ["-p", str(PORT), "-n", str(case.n), "-t", "30"]
    listener = world.start(ends.listener, bench.load, "trans", "-l", *common)
    wait_until(lambda: listening(listener.pid, PORT, "tcp"), 5, "the load's listener")
    client = world.start(ends.client, bench.load, "hold", "-c", ends.address, *common)
    if b"connections" not in client.stdout.readline():
        raise Failure("not all connections could be made")
    time.sleep(0.5)
    return {"rate": (resident_kib(pids) - before) / case.n}


RUNNERS = {"bulk": _run_bulk, "udp": _run_udp, "trans": _run_trans}


class Strace:
    """Counts the daemon's system calls in a run of its own: it slows what it counts."""

    def __init__(self, world, pids):
        self.path = os.path.join(world.dir, "strace")
        argv = [option for pid in pids for one in tree(pid) for option in ("-p", str(one))]
        self.process = subprocess.Popen(["strace", "-f", "-c", "-q", "-o", self.path, *argv],
                                        stderr=subprocess.DEVNULL)
        time.sleep(0.3)

    def total(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)
        with open(self.path, encoding="ascii") as file:
            for line in file:
                fields = line.split()
                if fields and fields[-1] == "total":
                    return int(fields[3] if len(fields) > 4 else fields[-2])
        raise Failure("strace counted nothing")


def _measure(world, bench, case, kind, pids, strace):
    ends = Ends(world, kind, case)
    if case.load == "memory":
        time.sleep(0.5)
        return {"rate": float(resident_kib(pids))}
    if case.load == "hold":
        return _run_hold(world, bench, case, ends, pids)
    counter = Strace(world, pids) if strace and pids else None
    host = world.host if case.way != "fwd" and case.direction == "up" else world.server
    retrans = world.guest.tcp_counter(), host.tcp_counter()
    cpu, threads = cpu_seconds(pids), thread_seconds(pids)
    if bench.recorder:
        bench.recorder.start(pids)
    try:
        result = RUNNERS[case.load](world, bench, case, ends)
    finally:
        if bench.recorder:
            bench.recorder.stop()
    result["cpu_s"] = cpu_seconds(pids) - cpu
    result["threads_s"] = {name: seconds - threads.get(name, 0) for name, seconds in thread_seconds(pids).items()}
    n = result.pop("n")
    if pids and n:
        result["cpu"] = result["cpu_s"] / n
    if n:
        result["client_cpu"] = bench.client_cpu_s / n
    result["retrans_guest"] = world.guest.tcp_counter() - retrans[0]
    result["retrans_host"] = host.tcp_counter() - retrans[1]
    if counter:
        # Of bulk per MB, else per packet or transaction.
        result["syscalls"] = counter.total() / (n * (1e3 if case.load == "bulk" else 1e6))
    return result


def _run_floor(world, bench, kind):
    def load():
        client = world.start(world.server, bench.load, "bulk", "-c", HOST4, "-p", str(PORT), "-s",
                             "-t", str(bench.seconds), "-o", str(bench.omit))
        _finish(client, bench.seconds + 20)
    seen = kind.run(world, load)
    return {"rate": seen["received"] * 8e-9 / (bench.seconds + bench.omit), "cpu": seen["cpu_s_per_gb"]}


def run_once(bench, case, kind, strace=False):
    """Runs a case; never raises for what the kind or the load did: that is in "error"."""
    try:
        with World(case.congestion) as world:
            if case.load == "start":
                return {"rate": time_start(kind, world, case)}
            if case.way == "floor":
                return _run_floor(world, bench, kind)
            pids = kind.join(world, case)
            result = _measure(world, bench, case, kind, pids, strace)
            if hasattr(kind, "check_alive"):
                kind.check_alive()
            return result
    except Failure as failure:
        return {"error": str(failure)}


def check_machine(build):
    """None, or why nothing can be measured here."""
    if os.geteuid() != 0:
        return "namespaces take root"
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun is missing"
    for name in ("taploom", LOAD, TAPJOIN, VULOAD):
        if not os.path.exists(os.path.join(build, name)):
            return f"{build} has no {name}: build it, or name another folder with --build"
    if not shutil.which("ip"):
        return "ip (iproute2) is missing"
    return None
