# SPDX-License-Identifier: Apache-2.0
"""Network namespaces for tests: a "host" in which the daemon runs, and a "remote" that is the rest of the world."""
import ctypes
import os
import shutil
import socket
import subprocess

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)

HOST4, HOST6 = "192.0.2.2", "2001:db8::2"
GW4, GW6 = "192.0.2.1", "fe80::1"
FAR4, FAR6 = "198.51.100.1", "2001:db8:51::1"
DNS4, DNS6 = "198.51.100.53", "2001:db8:51::53"
RESOLV_CONF = "nameserver %s\nnameserver %s\nsearch example.org lab.example.org\n" % (DNS4, DNS6)


def ip(*args, check=True):
    """Runs ip(8) with the words given."""
    return subprocess.run(("ip",) + args, check=check, capture_output=True, text=True)


class Namespace:
    """A named network namespace; `with ns:` puts the calling thread into it."""

    serial = 0

    def __init__(self, role):
        Namespace.serial += 1
        self.name = "bb%d-%s%d" % (os.getpid(), role, Namespace.serial)
        ip("netns", "add", self.name)
        self.etc = "/etc/netns/" + self.name
        self.stack = []
        self.run("ip", "link", "set", "lo", "up")

    def __enter__(self):
        self.stack.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        self._enter("/run/netns/" + self.name)
        return self

    def __exit__(self, *exc):
        before = self.stack.pop()
        if libc.setns(before, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns back")
        os.close(before)

    @staticmethod
    def _enter(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        failed = libc.setns(fd, CLONE_NEWNET)
        os.close(fd)
        if failed:
            raise OSError(ctypes.get_errno(), "setns " + path)

    def command(self, *args):
        return ("ip", "netns", "exec", self.name) + args

    def run(self, *args, **kw):
        kw.setdefault("check", True)
        return subprocess.run(self.command(*args), capture_output=True, text=True, **kw)

    def batch(self, text):
        """Runs lines of ip(8) inside."""
        subprocess.run(("ip", "-n", self.name, "-batch", "-"), input=text, text=True, check=True,
                       capture_output=True)

    def sysctl(self, name, value):
        with self:
            with open("/proc/sys/" + name.replace(".", "/"), "w") as file:
                file.write(str(value))

    def resolv_conf(self, text):
        os.makedirs(self.etc, exist_ok=True)
        with open(self.etc + "/resolv.conf", "w") as file:
            file.write(text)

    def socket(self, kind, addr, port=0, family=None):
        """A bound socket of the namespace; addr decides the family; a stream socket listens."""
        family = family or (socket.AF_INET6 if ":" in addr else socket.AF_INET)
        with self:
            sock = socket.socket(family, kind)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        host, _, scope = addr.partition("%")
        where = (host, port)
        if scope:
            with self:
                where = (host, port, 0, socket.if_nametoindex(scope))
        sock.bind(where)
        if kind == socket.SOCK_STREAM:
            sock.listen(4096)
        sock.settimeout(6)
        return sock

    def tcp_server(self, addr, port=0):
        return self.socket(socket.SOCK_STREAM, addr, port)

    def udp(self, addr, port=0):
        return self.socket(socket.SOCK_DGRAM, addr, port)

    def tcp_client(self, addr, port, source=None, timeout=10, blocking=True, before=None):
        """A stream socket that connects to addr (with %scope for link-local ones)."""
        host, _, scope = addr.partition("%")
        family = socket.AF_INET6 if ":" in addr else socket.AF_INET
        with self:
            sock = socket.socket(family, socket.SOCK_STREAM)
            where = (host, port, 0, socket.if_nametoindex(scope)) if scope else (host, port)
        if before:
            before(sock)
        if source:
            sock.bind((source, 0))
        sock.settimeout(timeout)
        sock.setblocking(False)
        sock.connect_ex(where)
        if blocking:
            sock.settimeout(timeout)
        return sock

    def delete(self):
        ip("netns", "del", self.name, check=False)
        shutil.rmtree(self.etc, ignore_errors=True)


class Net:
    """host -- veth -- remote, both IP versions, a default route, resolvers in resolv.conf."""

    def __init__(self, offline=False):
        self.spaces = []
        try:
            self._make(offline)
        except BaseException:  # an interrupt as well: nothing may stay behind
            self.delete()
            raise

    def _make(self, offline):
        for role in ("h", "r"):
            self.spaces.append(Namespace(role))
        self.host, self.remote = self.spaces
        self.host.sysctl("net.ipv4.ping_group_range", "0 2147483647")
        self.host.sysctl("net.ipv4.ip_unprivileged_port_start", 0)
        self.host.resolv_conf("" if offline else RESOLV_CONF)
        if not offline:
            self.connect()

    def link(self):
        """The devices h0 and r0, which are joined."""
        self.host.batch("link add h0 type veth peer name r0 netns %s\n" % self.remote.name)

    def connect(self):
        self.link()
        for ns, dev in ((self.host, "h0"), (self.remote, "r0")):
            ns.sysctl("net.ipv6.conf.%s.accept_dad" % dev, 0)
            ns.sysctl("net.ipv6.conf.%s.accept_ra" % dev, 0)
        self.remote.batch("\n".join((
            "addr add %s/24 dev r0" % GW4, "addr add 2001:db8::1/64 dev r0 nodad",
            "addr add %s/64 dev r0 nodad" % GW6,
            "addr add %s/32 dev lo" % FAR4, "addr add %s/32 dev lo" % DNS4,
            "addr add %s/128 dev lo nodad" % FAR6, "addr add %s/128 dev lo nodad" % DNS6,
            "link set r0 up", "")))
        self.host.batch("\n".join((
            "addr add %s/24 dev h0" % HOST4, "addr add %s/64 dev h0 nodad" % HOST6, "link set h0 up",
            "route add default via %s dev h0" % GW4, "route add ::/0 via %s dev h0" % GW6, "")))

    def connect_again(self):
        """A second way to the remote, h1 and r1, behind the first by its metric."""
        self.host.batch("link add h1 type veth peer name r1 netns %s\n" % self.remote.name)
        for ns, dev in ((self.host, "h1"), (self.remote, "r1")):
            ns.sysctl("net.ipv6.conf.%s.accept_dad" % dev, 0)
            ns.sysctl("net.ipv6.conf.%s.accept_ra" % dev, 0)
            for name in ("all", dev):
                ns.sysctl("net.ipv4.conf.%s.rp_filter" % name, 0)
        self.remote.batch("addr add 203.0.113.1/24 dev r1\naddr add 2001:db8:77::1/64 dev r1 nodad\nlink set r1 up\n")
        self.host.batch("\n".join((
            "addr add 203.0.113.2/24 dev h1", "addr add 2001:db8:77::2/64 dev h1 nodad", "link set h1 up",
            "route add default via 203.0.113.1 dev h1 metric 5000",
            "route add ::/0 via 2001:db8:77::1 dev h1 metric 5000", "")))

    def delete(self):
        for space in self.spaces:
            space.delete()
