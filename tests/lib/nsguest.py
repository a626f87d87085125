# SPDX-License-Identifier: Apache-2.0
"""A network namespace as the guest of a daemon that was started as `pasta`."""
import json
import os
import socket
import subprocess

import netns
from suite import Daemon, Options, wait_for


def ended(pid):
    """Whether a process has ended; a zombie has."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def addresses(ns):
    """What a caller lists after a start: addresses of interfaces that are not the loopback, no link-local ones."""
    links = json.loads(ns.run("ip", "-j", "addr").stdout)
    return {a["local"]: a["prefixlen"] for link in links if link["ifname"] != "lo"
            for a in link.get("addr_info", ()) if a.get("scope") != "link"}


def link(ns):
    """The one interface that is not the loopback."""
    links = [one for one in json.loads(ns.run("ip", "-j", "link").stdout) if one["ifname"] != "lo"]
    assert len(links) == 1, links
    return links[0]


def echoes(ns, proto, addr, port, payload=b"hello", source=None):
    """Whether a server (or an echo of Servers) gives a payload back."""
    family = socket.AF_INET6 if ":" in addr else socket.AF_INET
    kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
    with ns:
        sock = socket.socket(family, kind)
    with sock:
        sock.settimeout(3)
        try:
            if source:
                sock.bind((source, 0))
            sock.connect((addr, port))
            sock.send(payload)
            return sock.recv(65536) == payload
        except OSError:
            return False


class NsGuest:
    """
    A namespace and the daemon that serves it.

    The daemon runs in the foreground in the host's namespace; .ns is the guest's, configured when
    the constructor returns. refuse: rules of tests/tools/refuse, for an older kernel's sake.
    """

    def __init__(self, case, *options, name="pasta", auto=False, runas="0", by_process=False, refuse=()):
        self.case = case
        self.ns = netns.Namespace("g")
        case.cleanups.append(self.ns.delete)
        self.ns.sysctl("net.ipv4.ping_group_range", "0 2147483647")
        self.ns.sysctl("net.ipv6.conf.default.accept_dad", 0)
        none = () if auto else tuple(word for flag in "tuTU" if "-" + flag not in options for word in ("-" + flag, "none"))
        self.pid_file = case.path("pasta%d.pid" % len(case.daemons))
        self.daemon = Daemon(case, self._refusing(refuse) + (case.program(name), "-f", "--config-net", *map(str, options), *none, "--runas", runas,
                                    "-P", self.pid_file) + (self._process() if by_process else
                                                             ("--netns", "/run/netns/" + self.ns.name)))
        case.daemons.append(self.daemon)
        wait_for(lambda: self._ready() or not self.daemon.running(), "the PID file is filled", 20)
        assert self.daemon.running(), "it did not start:\n" + self.daemon.log()

    @staticmethod
    def _refusing(rules):
        """What has the daemon run as on a kernel that refuses some calls: see tests/tools/refuse.c."""
        beside = os.path.join(os.path.dirname(os.path.realpath(Options.taploom)), "tests/tools/refuse")
        return (beside, *rules, "--") if rules else ()

    def _process(self):
        """The namespace by a process in it: the mounts of others are no news then."""
        holder = subprocess.Popen(self.ns.command("sleep", "1000"), stdin=subprocess.DEVNULL)
        self.case.cleanups.append(lambda: (holder.kill(), holder.wait()))
        inside = os.stat("/run/netns/" + self.ns.name).st_ino
        wait_for(lambda: os.stat("/proc/%d/ns/net" % holder.pid).st_ino == inside, "a process is inside")
        return (str(holder.pid),)

    def _ready(self):
        return os.path.exists(self.pid_file) and os.path.getsize(self.pid_file) > 0

    def counters(self):
        """{counter: sum over the threads}."""
        return {name: sum(row.values()) for name, row in self.table().items()}

    def table(self):
        """{counter: {thread: value}}; drops are named "drop-" and their reason."""
        rows, threads = {}, []
        for line in self.daemon.counters_table().splitlines():
            words = line.split()
            if "total" in words:
                threads = words[words.index("total") + 1:]
            elif threads and len(words) > len(threads) + 1 and words[-1].isdigit():
                rows[words[-len(threads) - 2]] = dict(zip(threads, map(int, words[-len(threads):])))
        return rows
