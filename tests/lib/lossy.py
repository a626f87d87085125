# SPDX-License-Identifier: Apache-2.0
"""
TCP of real kernels over a wire with faults (tests/tools/faultwire), on the host's side or on the guest's:

    side "host":    client - path - host == wire == server
    side "guest":   client == wire == path - host - server; or, for "namespace", drops by nftables on its device

The paths: "stream" and "namespace" (taploom), "direct" (no program between client and server), "relay" (socat).
Whatever is compared has the same faults by the same seed, a few seconds each, one after the other.
"""
import hashlib
import os
import random
import socket
import statistics
import subprocess
import threading
import time

import congestion
from joined import MAC, Joined, start
from netns import FAR4, HOST4, Namespace, Net
from suite import Daemon, Options, Skip, wait_for

CHUNK = random.Random(2).randbytes(1 << 20)
PIECE = 128 << 10
PORT = 5005
RELAY4 = "10.203.0"
STALL = 20  # seconds without a byte that no back-off of these faults explains


def faultwire():
    """The program as built beside the one under test."""
    path = os.path.join(os.path.dirname(os.path.realpath(Options.taploom)), "tests/tools/faultwire")
    if not os.access(path, os.X_OK):
        raise Skip("faultwire is not built")
    return path


class Wire:
    """A running faultwire between two ends; again() puts it in place anew, from the same seed or another."""

    def __init__(self, case, one, other):
        self.ends, self.process = (one, other), None
        case.cleanups.append(self.stop)
        case.leaving.append(self.stop)

    def again(self, faults="delay=0"):
        self.stop()
        self.process = subprocess.Popen((faultwire(), "--both", faults) + self.ends, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n", "the wire is not in place"
        return self

    def stop(self):
        """Takes the wire away; returns what it did."""
        if not self.process:
            return ""
        self.process.terminate()
        said = self.process.stdout.read()
        self.process.stdout.close()
        self.process.wait()
        self.process = None
        return said


class WiredNet(Net):
    """The usual network, with two taps that await a wire in the place of its veth pair."""

    def link(self):
        for ns, dev in ((self.host, "h0"), (self.remote, "r0")):
            make_tap(ns, dev)

    def ends(self):
        return "tap:h0@" + self.host.name, "tap:r0@" + self.remote.name


def make_tap(ns, dev, mtu=1500):
    ns.batch("tuntap add dev %s mode tap\nlink set %s mtu %d txqueuelen 10000\n" % (dev, dev, mtu))


class Path:
    """Where a client stands, which address it uses for the server, and how its faults are set."""

    def __init__(self, label, ns, target, set_faults):
        self.label, self.ns, self.target, self.set_faults = label, ns, target, set_faults


def add_relay(case, guest, dev, wired):
    """A guest's namespace beside the host, which forwards its packets and runs a relay as well."""
    host = case.net.host
    if wired:
        make_tap(guest, dev)
        make_tap(host, "relay")
    else:
        guest.batch("link add %s type veth peer name relay netns %s\n" % (dev, host.name))
    guest.batch("addr add %s.2/24 dev %s\nlink set %s up\nroute add default via %s.1\n" % (RELAY4, dev, dev, RELAY4))
    host.batch("addr add %s.1/24 dev relay\nlink set relay up\n" % RELAY4)
    host.sysctl("net.ipv4.ip_forward", 1)
    case.net.remote.batch("route add %s.0/24 via %s\n" % (RELAY4, HOST4))
    start(case, host, "socat", "-b", "65536", "TCP4-LISTEN:%d,fork,reuseaddr,nodelay" % PORT,
          "TCP4:%s:%d,nodelay" % (FAR4, PORT))
    wait_for(lambda: ":%d " % PORT in host.run("ss", "-Hlnt").stdout, "the relay listens")
    return "tap:%s@%s" % (dev, guest.name), "tap:relay@" + host.name


def new_guest(case):
    ns = Namespace("g")
    case.cleanups.append(ns.delete)
    ns.sysctl("net.ipv6.conf.default.accept_dad", 0)
    return ns


def start_namespace_mode(case, guest, mtu):
    """taploom as `pasta`, with a configured device in the guest's namespace."""
    daemon = Daemon(case, (case.program("pasta"), "-f", "--runas", "0", "--config-net", "-I", "eth0", "-m", str(mtu),
                           "-t", "none", "-u", "none", "-T", "none", "-U", "none",
                           "--netns", "/run/netns/" + guest.name))
    case.daemons.append(daemon)
    wait_for(lambda: HOST4 in guest.run("ip", "addr", "show", "dev", "eth0", check=False).stdout,
             "the namespace is configured")


def paths_on_host_side(case, labels, mtu):
    """All paths beside one another, over one wire between host and server."""
    case.net = WiredNet()
    wire = Wire(case, *case.net.ends()).again()
    paths = []
    for label in labels:
        if label == "direct":
            ns, target = case.net.host, FAR4
        elif label == "relay":
            ns, target = new_guest(case), RELAY4 + ".1"
            add_relay(case, ns, "eth0", False)
        elif label == "stream":
            case.start("-m", mtu)
            ns, target = Joined(case, mtu=mtu).configure().ns, FAR4
        else:
            ns, target = new_guest(case), FAR4
            start_namespace_mode(case, ns, mtu)
        paths.append(Path(label, ns, target, wire.again))
    return paths


class WiredGuest(Joined):
    """A guest whose wire to the daemon has faults."""

    def join(self):
        self.wire = Wire(self.case, "tap:eth0@" + self.ns.name, "unix:" + self.daemon.socket).again()


def drop_by_nft(ns, dev):
    """A function that lets nftables drop TCP on a device, both ways; its random numbers know no seed."""
    def set_faults(faults):
        loss = dict(word.split("=") for word in faults.split(",")).get("loss", "0")
        drop = "meta l4proto tcp numgen random mod 100000 < %d drop" % round(float(loss) * 1000)
        lines = ["table netdev faults", "delete table netdev faults", "table netdev faults {"]
        lines += ["chain %s { type filter hook %s device %s priority 0; %s; }" % (hook, hook, dev, drop)
                  for hook in ("ingress", "egress")]
        ns.run("nft", "\n".join(lines + ["}"]))
    return set_faults


def paths_on_guest_side(case, labels, mtu):
    """
    Paths with faults on the guest's device. With "namespace" among them that device is one that takes large segments,
    and nftables drops; else there are only frames of the MTU, and a wire with all faults.
    """
    assert case.net
    by_nft = "namespace" in labels
    paths = []
    plain = new_guest(case)
    ends = add_relay(case, plain, "eth0", not by_nft)
    between = drop_by_nft(plain, "eth0") if by_nft else Wire(case, *ends).again
    between("delay=0")
    for label in labels:
        if label == "stream":
            case.start("-m", mtu)
            guest = WiredGuest(case, mtu=mtu).configure()
            paths.append(Path(label, guest.ns, FAR4, guest.wire.again))
        elif label == "namespace":
            ns = new_guest(case)
            start_namespace_mode(case, ns, mtu)
            paths.append(Path(label, ns, FAR4, drop_by_nft(ns, "eth0")))
        else:
            paths.append(Path(label, plain, FAR4 if label == "direct" else RELAY4 + ".1", between))
    return paths


def use_congestion_control(case, paths, name):
    with congestion.allowed(name):
        for ns in [case.net.host, case.net.remote] + [path.ns for path in paths]:
            ns.sysctl("net.ipv4.tcp_congestion_control", name)


class Run:
    """What one transfer showed."""

    def __init__(self):
        self.bytes = self.total = 0  # in time, and in all
        self.gap = 0.0               # the longest time without a byte, in seconds, before the sender stopped
        self.mbit = 0.0


def feed(sock, until, digest, failures):
    """Sends until that time; what isn't sent yet is kept short, so that the end comes soon."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 2 * PIECE)
        at = 0
        while time.monotonic() < until:
            piece = memoryview(CHUNK)[at:at + PIECE]
            sock.sendall(piece)
            digest.update(piece)
            at = (at + PIECE) % len(CHUNK)
        sock.shutdown(socket.SHUT_WR)
    except OSError as error:
        failures.append(error)


def receive(sock, begun, until, digest, run):
    buffer, last = bytearray(1 << 20), None
    while True:
        n = sock.recv_into(buffer)
        now = time.monotonic()
        if n == 0:
            break
        digest.update(memoryview(buffer)[:n])
        run.total += n
        if now <= until:
            run.bytes += n
            run.gap = max(run.gap, now - (last or now))
        last = now
    run.mbit = run.bytes * 8e-6 / (until - begun)


def transfer_for(case, path, seconds, upload):
    """Data for some seconds between a path's client and the server; it must arrive as it was sent, and never stand."""
    server = case.net.remote.tcp_server(FAR4, PORT)
    begun = time.monotonic()
    client = path.ns.tcp_client(path.target, PORT, timeout=STALL)
    server.settimeout(STALL)
    peer, _ = server.accept()
    server.close()
    for sock in (client, peer):
        sock.settimeout(STALL)
    source, sink = (client, peer) if upload else (peer, client)
    sent, received, failures, run = hashlib.sha256(), hashlib.sha256(), [], Run()
    until = begun + seconds
    thread = threading.Thread(target=feed, args=(source, until, sent, failures), daemon=True)
    thread.start()
    try:
        receive(sink, begun, until, received, run)
    except TimeoutError:
        raise AssertionError("%s: no byte came for %d s after %d" % (path.label, STALL, run.total)) from None
    finally:
        thread.join(STALL + 1)
        client.close()
        peer.close()
    assert not failures, (path.label, failures)
    assert sent.digest() == received.digest(), path.label + ": the SHA-256 differs"
    return run


def compare(case, paths, faults, seeds, seconds, upload):
    """Runs all paths over the same faults, seed by seed; {label: [Run]}."""
    runs = {path.label: [] for path in paths}
    for seed in seeds:
        for path in paths:
            path.set_faults("%s,seed=%d" % (faults, seed))
            runs[path.label].append(transfer_for(case, path, seconds, upload))
    return runs


def check_counters(case):
    for daemon in case.daemons:
        counters = daemon.counters()
        assert counters and not counters.get("drop-tcp-in-window"), counters


def median_mbit(runs):
    return statistics.median(run.mbit for run in runs)


def print_row(what, runs):
    """One line of the table: the medians, each ratio to the direct connection and the relay, the longest gaps."""
    words = ["%-44s" % what]
    for label, of_label in runs.items():
        word = "%s %.1f" % (label, median_mbit(of_label))
        if label in ("stream", "namespace"):
            word += "".join(" (%.2f of %s)" % (median_mbit(of_label) / max(median_mbit(runs[base]), 1e-9), base)
                            for base in ("direct", "relay") if base in runs)
        words.append("%s gap %.0f ms" % (word, 1000 * max(run.gap for run in of_label)))
    print("  " + " | ".join(words), flush=True)
