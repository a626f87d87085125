# SPDX-License-Identifier: Apache-2.0
"""A namespace in the place of a guest, joined to a daemon's socket by tests/tools/tapjoin or, for vhost-user, vujoin."""
import json
import os
import re
import subprocess

from netns import GW4, HOST4, HOST6, Namespace
from suite import Options, Skip, wait_for

MAC = "52:54:00:aa:bb:cc"


def tool(name):
    """tapjoin or vujoin as built beside the program under test."""
    beside = os.path.join(os.path.dirname(os.path.realpath(Options.taploom)), "tests/tools", name)
    path = os.environ.get(name.upper(), beside)
    if not os.access(path, os.X_OK):
        raise Skip("%s is not built" % name)
    return path


class Joined:
    """
    The namespace .ns with tap device eth0; configured by configure(), or by a client that the test runs.

    pairs: queue pairs of a daemon that was started with --vhost-user; 0: it has a stream socket.
    """

    def __init__(self, case, daemon=None, mtu=65520, pairs=0):
        self.case, self.daemon, self.pairs = case, daemon or case.daemons[-1], pairs
        self.ns = Namespace("g")
        case.cleanups.append(self.ns.delete)
        self.ns.sysctl("net.ipv6.conf.default.accept_dad", 0)
        self.ns.sysctl("net.ipv4.ping_group_range", "0 2147483647")
        self.ns.batch("tuntap add dev eth0 mode tap %s\nlink set eth0 address %s mtu %d txqueuelen 10000\n"
                      % ("multi_queue" if pairs else "", MAC, mtu))
        self.process = None
        case.cleanups.append(self.leave)
        case.leaving.append(self.leave)
        self.join()
        self.ns.batch("link set eth0 up\n")

    def join(self):
        name, words = ("vujoin", (str(self.pairs),)) if self.pairs else ("tapjoin", ())
        self.process = subprocess.Popen(self.ns.command(tool(name), self.daemon.socket, "eth0", *words),
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        assert self.process.stdout.readline() == b"ready\n", "%s did not join" % name

    def leave(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
            self.process.stdout.close()

    def configure(self):
        """Static addresses, as DHCP and RA would give."""
        self.ns.batch("addr add %s/24 dev eth0\nroute add default via %s\n"
                      "addr add %s/64 dev eth0 nodad\nroute replace ::/0 via fe80::1 dev eth0\n" % (HOST4, GW4, HOST6))
        self.ns.run("ping", "-c1", "-W5", GW4)
        return self

    def start(self, *command, **kw):
        """A process in the namespace, ended when the test is."""
        return start(self.case, self.ns, *command, **kw)

    def addresses(self):
        out = self.ns.run("ip", "-j", "addr", "show", "dev", "eth0").stdout
        return {a["local"]: a for link in json.loads(out) for a in link.get("addr_info", ())}

    def routes(self, version=4):
        return self.ns.run("ip", "-%d" % version, "route").stdout


def start(case, ns, *command, **kw):
    """A process in a namespace, ended when the test is."""
    kw.setdefault("stdout", subprocess.DEVNULL)
    kw.setdefault("stderr", subprocess.DEVNULL)
    process = subprocess.Popen(ns.command(*command), stdin=subprocess.DEVNULL, **kw)

    def end():
        if process.poll() is None:
            process.kill()
        process.wait()
    case.cleanups.append(end)
    return process


def iperf_server(case, ns, addr, port=5201):
    """A server of iperf3, ready."""
    start(case, ns, "iperf3", "-s", "-B", addr, "-p", str(port))
    wait_for(lambda: ":%d " % port in ns.run("ss", "-Hlnt").stdout, "iperf3 listens")


def iperf(joined, addr, *options, port=5201, timeout=60):
    """Runs a client in the guest's namespace; returns the JSON's end section."""
    done = joined.ns.run("iperf3", "-J", "-c", addr, "-p", str(port), *options, timeout=timeout, check=False)
    result = json.loads(done.stdout or "{}")
    assert done.returncode == 0 and "error" not in result, (result.get("error"), done.stderr)
    return result["end"]


def tshark_findings(path):
    """Frames of a capture that tshark calls malformed or whose checksum is wrong."""
    wanted = "_ws.malformed || ip.checksum.status==0 || tcp.checksum.status==0 || udp.checksum.status==0 || " \
             "icmp.checksum.status==0 || icmpv6.checksum.status==0"
    checks = [word for name in ("ip.check_checksum", "tcp.check_checksum", "udp.check_checksum")
              for word in ("-o", name + ":TRUE")]
    done = subprocess.run(("tshark", "-r", path, *checks, "-Y", wanted), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not re.match(r"^\s*$", line)]
