# SPDX-License-Identifier: Apache-2.0
"""
What is measured: each kind joins the guest's namespace to the host's in its own way. join() leaves a
guest with addresses; target() says where a client has to connect to.
"""

import json
import os
import shutil
import socket
import subprocess
import time

from space import (GATEWAY4, GATEWAY6, HOST4, HOST6, SERVER4, SERVER6, Failure, read, wait_until)

FLOOR = "perf/taploom-floor"
VULOAD = "perf/taploom-vuload"
TAPJOIN = "tests/tools/tapjoin"
PORTS = (5001, 5002)  # the load's, forwarded where a case asks for that
VETH4, VETH6 = "10.203.0", "fd00:203::"


def _gone(process):
    return (process.stderr.read() or b"").decode(errors="replace").strip().splitlines()[-1:] or ["no word"]


class Kind:
    """One way to join; cases are run with those whose `ways` hold what they need."""

    ways = {"out", "fwd", "udp"}  # from the guest, forwarded ports, loopback ("lo"), datagrams; "daemon"
    versions = (4, 6)
    transport = ""

    def __init__(self, label, build):
        self.label = label
        self.build = build

    def join(self, world, case):
        """Joins; returns the daemon's PIDs."""
        raise NotImplementedError

    def target(self, way, version):
        """The address that a client connects to: of the server, of a forwarded port, of loopback."""
        four = {"out": SERVER4, "fwd": HOST4, "lo": "127.0.0.1"}
        six = {"out": SERVER6, "fwd": HOST6, "lo": "::1"}
        return (four if version == 4 else six)[way]

    def guest_load(self, world, case):
        """The command of a load generator that is the guest itself; None: a taploom-load in its namespace."""
        return None


def _veth(world, mtu):
    world.guest.ip(f"link add gv mtu {mtu} type veth peer name hg mtu {mtu} netns {world.host.name}",
                   f"addr add {VETH4}.2/24 dev gv", f"addr add {VETH6}2/64 dev gv nodad", "link set gv up")
    world.host.ip(f"addr add {VETH4}.1/24 dev hg", f"addr add {VETH6}1/64 dev hg nodad", "link set hg up")
    world.guest.ip(f"route add default via {VETH4}.1", f"route add ::/0 via {VETH6}1")


class Direct(Kind):
    """A second veth pair, and the host's kernel forwards: the limit of what can be had."""

    def join(self, world, case):
        _veth(world, case.mtu)
        world.server.ip(f"route add {VETH4}.0/24 via {HOST4} src {SERVER4}",
                        f"route add {VETH6}/64 via {HOST6} src {SERVER6}")
        return []

    def target(self, way, version):
        if way == "out":
            return super().target(way, version)
        return f"{VETH4}.2" if version == 4 else f"{VETH6}2"


class Socat(Kind):
    """A plain relay of two sockets, which costs two copies and no protocol."""

    ways = {"out", "fwd", "daemon"}

    def join(self, world, case):
        _veth(world, case.mtu)
        far = {("out", 4): SERVER4, ("out", 6): f"[{SERVER6}]",
               ("fwd", 4): f"{VETH4}.2", ("fwd", 6): f"[{VETH6}2]"}[case.way, case.version]
        pids = []
        for port in PORTS:
            process = world.start(world.host, "socat", "-b", "65536",
                                  f"TCP6-LISTEN:{port},fork,reuseaddr,ipv6only=0,backlog=1024,nodelay",
                                  f"TCP{case.version}:{far}:{port},nodelay",
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            pids.append(process.pid)
        for port in PORTS:
            wait_until(lambda port=port: f":{port:04X} " in read(f"/proc/{pids[0]}/net/tcp6"), 5, "socat")
        return pids

    def target(self, way, version):
        if way == "out":
            return f"{VETH4}.1" if version == 4 else f"{VETH6}1"
        return super().target(way, version)


class Daemon(Kind):
    """A program of the kind of passt, by path; name is what it sees as its own (argv[0])."""

    def __init__(self, label, build, path, name=None, extra=()):
        super().__init__(label, build)
        self.path = path
        self.name = name or path
        self.extra = list(extra)

    def _forward(self, case):
        ports = ",".join(map(str, PORTS))
        if case.way == "out":
            return ["-t", "none", "-u", "none"]
        return ["-t", ports, "-u", ports]

    def start(self, world, *argv):
        process = world.start(world.host, self.name, *argv, *self.extra, executable=self.path,
                              stdout=subprocess.DEVNULL)
        self._ended = lambda: process.poll() is not None
        self._process = process
        return process

    def check_alive(self):
        if self._ended():
            raise Failure(f"{self.label} ended with status {self._process.returncode}: {_gone(self._process)[0]}")

    def wait_ready(self, condition, what):
        def ready():
            self.check_alive()
            return condition()
        wait_until(ready, 10, what)


class Stream(Daemon):
    """The UNIX stream socket; the guest's kernel is joined to it by tapjoin."""

    ways = {"out", "fwd", "udp", "daemon"}
    transport = "stream"

    def arguments(self, world, case):
        return ["--runas", "0", "-s", f"{world.dir}/socket", "-m", str(case.mtu), *self._forward(case)]

    def join(self, world, case):
        process = self.start(world, "-f", "-q", *self.arguments(world, case))
        self.wait_ready(lambda: os.path.exists(f"{world.dir}/socket"), "socket of " + self.label)
        world.guest.sysctl(net__ipv6__conf__default__accept_ra=0)
        world.guest.ip("tuntap add dev eth0 mode tap", f"link set eth0 mtu {case.mtu} up")
        self.wait_ready(lambda: self._joined(world), "the guest joined to " + self.label)
        world.guest.ip(f"addr add {HOST4}/24 dev eth0", f"addr replace {HOST6}/64 dev eth0 nodad",
                       f"route add default via {GATEWAY4}", f"route add ::/0 via {GATEWAY6}")
        return [process.pid]

    def _joined(self, world):
        """Tries once: the socket's path is there before it listens."""
        joiner = world.start(world.guest, os.path.join(self.build, TAPJOIN), f"{world.dir}/socket", "eth0")
        return joiner.stdout.readline() == b"ready\n"

    def background(self, world, case):
        """Arguments of a start that returns when all is ready."""
        return ["-q", "-P", f"{world.dir}/pid", *self.arguments(world, case)]


class VhostUser(Daemon):
    """vhost-user; taploom-vuload stands where a virtual machine would, with a number of queue pairs."""

    ways = {"out", "udp"}
    versions = (4,)
    transport = "vhost-user"

    def __init__(self, label, build, path, name=None, extra=(), pairs=1):
        super().__init__(label, build, path, name, extra)
        self.pairs = pairs

    def join(self, world, case):
        process = self.start(world, "-f", "-q", "--runas", "0", "--vhost-user", "-s", f"{world.dir}/socket",
                             "-m", str(case.mtu), *self._forward(case))
        self.wait_ready(lambda: f"{world.dir}/socket" in read(f"/proc/{process.pid}/net/unix"),
                        "socket of " + self.label)
        return [process.pid]

    def guest_load(self, world, case):
        return [os.path.join(self.build, VULOAD), case.load, "-U", f"{world.dir}/socket", "-a", HOST4, "-g", GATEWAY4,
                "-q", str(self.pairs), "-m", str(case.mtu)]


class Namespace(Daemon):
    """A tap device in the guest's namespace, opened and configured by the daemon."""

    ways = {"out", "fwd", "lo", "udp", "daemon"}
    transport = "namespace"

    def arguments(self, world, case):
        return ["--runas", "0", "--config-net", "-I", "eth0", "-m", str(case.mtu), *self._forward(case),
                "-T", "none", "-U", "none", "--netns", world.guest.path]

    def join(self, world, case):
        process = self.start(world, "-f", "-q", *self.arguments(world, case))

        def configured():
            shown = world.guest.show("ip", "addr", "show", "dev", "eth0")
            return HOST4 in shown and HOST6 in shown and "tentative" not in shown
        self.wait_ready(configured, "addresses from " + self.label)
        return [process.pid]

    def background(self, world, case):
        return ["-q", "-P", f"{world.dir}/pid", *self.arguments(world, case)]


class Slirp(Daemon):
    """slirp4netns, with its own addresses; ports are forwarded over its control socket."""

    ways = {"out", "fwd", "udp", "daemon"}
    transport = "namespace"

    def join(self, world, case):
        api = f"{world.dir}/slirp"
        process = self.start(world, "-c", "-6", "-m", str(case.mtu), "-a", api, "--netns-type=path",
                             world.guest.path, "tap0")
        self.wait_ready(lambda: "10.0.2.100" in world.guest.show("ip", "addr", "show", "dev", "tap0"), "slirp4netns")
        if case.version == 6:
            self.wait_ready(lambda: "default" in world.guest.show("ip", "-6", "route"), "slirp4netns's IPv6")
        if case.way == "fwd":
            self._forward_ports(api)
        return [process.pid]

    @staticmethod
    def _forward_ports(api):
        for port in PORTS:
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(api)
                control.sendall(json.dumps({"execute": "add_hostfwd", "arguments": {
                    "proto": "tcp", "host_addr": "0.0.0.0", "host_port": port, "guest_port": port}}).encode())
                control.shutdown(socket.SHUT_WR)
                if b"error" in control.recv(4096):
                    raise Failure(f"slirp4netns doesn't forward port {port}")


class Floor(Kind):
    """The least that a GB into a namespace can cost: it receives, and writes 64 KiB frames to a tap."""

    ways = {"floor"}

    def run(self, world, start_load):
        """Runs it beside a load that start_load() begins; returns what it printed."""
        world.host.ip("tuntap add dev eth0 mode tap vnet_hdr")
        process = world.start(world.host, os.path.join(self.build, FLOOR), str(PORTS[0]), "eth0")
        wait_until(lambda: f":{PORTS[0]:04X} " in read(f"/proc/{process.pid}/net/tcp"), 5, "the floor program")
        world.host.ip(f"link set eth0 netns {world.guest.name}")
        world.guest.ip("link set eth0 mtu 1500 up")
        start_load()
        return json.loads(process.communicate(timeout=60)[0])


def time_start(kind, world, case):
    """Milliseconds from execve() to a daemon that says that all is ready."""
    if isinstance(kind, Stream):
        world.guest.ip("tuntap add dev eth0 mode tap")
    began = time.monotonic()
    process = world.host.start(kind.name, *kind.background(world, case), *kind.extra, executable=kind.path)
    _, errors = process.communicate()
    took = (time.monotonic() - began) * 1e3
    if process.returncode:
        raise Failure(f"{kind.label}: {errors.decode(errors='replace').strip()}")
    with open(f"{world.dir}/pid", encoding="ascii") as file:
        os.kill(int(file.read()), 15)
    return took


def _cpus(shards):
    """Reader and control thread on the first CPU, the shards in turn on all of them."""
    cpus = sorted(os.sched_getaffinity(0))
    return ["--cpus", ",".join(str(cpus[i % len(cpus)]) for i in [0, 0, *range(shards)])]


def _ours(taploom, build, number, pin):
    """taploom by each of its transports. number: of shards, or None for its own choice."""
    suffix = f"/{number}" if number else ""
    extra = (["--shards", str(number)] if number else []) + (_cpus(number or 1) if pin else [])
    yield Stream("taploom-stream" + suffix, build, taploom, extra=extra)
    yield Namespace("taploom-ns" + suffix, build, taploom, extra=["--namespace", *extra])
    # As many queue pairs as shards; one by default, as hypervisors have it.
    yield VhostUser("taploom-vu" + suffix, build, taploom, extra=extra if number else ["--shards", "1", *extra],
                    pairs=number or 1)


def all_kinds(taploom, build, peers, shards, pin=False):
    """Every kind that can run here. peers: (KIND, PATH) pairs beside those installed; shards: numbers to vary;
    pin: each of taploom's threads to a CPU."""
    kinds = [Direct("direct", build), Floor("floor", build)]
    if shutil.which("socat"):
        kinds.append(Socat("socat", build))
    for number in shards or [None]:
        kinds += _ours(taploom, build, number, pin)
    known = {"passt": Stream, "passt-vu": VhostUser, "pasta": Namespace, "slirp4netns": Slirp}
    # An installed passt may be too old for vhost-user: that takes a --peer.
    installed = [(name, shutil.which(name)) for name in known if name != "passt-vu" and shutil.which(name)]
    for name, path in installed + peers:
        if name not in known:
            raise Failure(f"--peer {name}: the kinds are {', '.join(known)}")
        label = name if (name, path) in installed else f"{name}@{os.path.basename(path)}"
        kinds.append(known[name](label, build, os.path.realpath(path), name.removesuffix("-vu")))
    return kinds
