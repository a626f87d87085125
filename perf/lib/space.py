# SPDX-License-Identifier: Apache-2.0
"""
Three network namespaces, made for one run and gone after it:

    server ── veth ── host ── (what is measured) ── guest

The host reaches the server's address through its gateway, which is the server's end of the veth: the
gateway's own address means the host's loopback to what is measured.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/lib"))
from congestion import allowed
from topology import end_on_signals

SERVER4, SERVER6 = "10.202.0.1", "fd00:202::1"
GATEWAY4, GATEWAY6 = "10.201.0.1", "fd00:201::1"
HOST4, HOST6 = "10.201.0.2", "fd00:201::2"
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """A run that can't be used; says why in one line."""


def wait_until(condition, seconds, what):
    """Polls; raises Failure if it takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"timeout: {what}")
        time.sleep(0.003)


def read(path):
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


class Space:
    """One network namespace."""

    def __init__(self, name):
        self.name = name
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.path = f"/run/netns/{name}"

    def remove(self):
        subprocess.run(["ip", "netns", "del", self.name], check=False)

    def _enter(self):
        fd = os.open(self.path, os.O_RDONLY)
        if _libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(fd)

    def start(self, *argv, **options):
        """A process in the namespace, with pipes for its output; options are Popen's."""
        defaults = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(argv, preexec_fn=self._enter, **{**defaults, **options})

    def ip(self, *lines):
        """Commands of ip(8), one a string."""
        done = subprocess.run(["ip", "-n", self.name, "-batch", "-"], input="\n".join(lines) + "\n", text=True,
                              check=False, capture_output=True)
        if done.returncode:
            raise Failure(f"ip: {done.stderr.strip()}")

    def sysctl(self, **values):
        process = self.start("sysctl", "-q", "-w", *(f"{key.replace('__', '.')}={value}"
                                                     for key, value in values.items()))
        _, errors = process.communicate()
        if process.returncode:
            raise Failure(errors.decode().strip())

    def show(self, *argv):
        """The output of a command that looks at the namespace."""
        return self.start(*argv).communicate()[0].decode()

    def tcp_counter(self, name="RetransSegs"):
        lines = [line.split() for line in self.show("cat", "/proc/net/snmp").splitlines()
                 if line.startswith("Tcp:")]
        return int(lines[1][lines[0].index(name)])


def stop(process, seconds=3):
    """Ends a process that we started."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


class World:
    """The namespaces of one run, and all that was started in them."""

    def __init__(self, congestion="cubic"):
        end_on_signals()  # what is made here is to go all the same
        self.stack = contextlib.ExitStack()
        with contextlib.ExitStack() as guard:
            guard.push(self.stack)
            self.dir = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="taploom-perf-"))
            os.chmod(self.dir, 0o777)
            prefix = f"tlp{os.getpid()}"
            self.server, self.host, self.guest = (self._space(prefix + end, congestion) for end in "shg")
            self._connect()
            guard.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stack.close()

    def _space(self, name, congestion):
        space = Space(name)
        self.stack.callback(space.remove)
        with allowed(congestion):
            space.sysctl(net__ipv4__tcp_congestion_control=congestion)
        space.sysctl(net__ipv6__conf__all__accept_dad=0, net__ipv6__conf__default__accept_dad=0,
                     net__ipv4__ping_group_range="0 2147483647")
        space.ip("link set lo up")
        return space

    def _connect(self):
        self.host.sysctl(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)
        self.server.ip(f"link add sv type veth peer name hv netns {self.host.name}",
                       f"addr add {GATEWAY4}/24 dev sv", f"addr add {GATEWAY6}/64 dev sv nodad",
                       f"addr add {SERVER4}/32 dev lo", f"addr add {SERVER6}/128 dev lo nodad", "link set sv up",
                       # Answers leave from the address that was asked, those of unconnected sockets too.
                       f"route replace {HOST4}/32 dev sv src {SERVER4}",
                       f"route replace {HOST6}/128 dev sv src {SERVER6}")
        self.host.ip(f"addr add {HOST4}/24 dev hv", f"addr add {HOST6}/64 dev hv nodad", "link set hv up",
                     f"route add default via {GATEWAY4}", f"route add ::/0 via {GATEWAY6}")

    def start(self, space, *argv, **options):
        """As Space.start(), ended with the world."""
        process = space.start(*argv, **options)
        self.stack.callback(stop, process)
        return process


def listening(pid, port, protocol):
    """Whether something in the process's namespace has the port open."""
    for version in ("", "6"):
        for line in read(f"/proc/{pid}/net/{protocol}{version}").splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rsplit(":", 1)[1], 16) == port and (protocol == "udp" or fields[3] == "0A"):
                return True
    return False


def tree(pid):
    """A process and its living descendants."""
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            for child in read(f"/proc/{pid}/task/{task}/children").split():
                found += tree(int(child))
    return found


def _tasks_ns(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            total += int(read(f"/proc/{pid}/task/{task}/schedstat").split()[0])
    return total


def cpu_seconds(pids):
    """Processor time of the processes, all their threads and descendants: those at work by the
    scheduler's nanoseconds, children that have ended by the ticks that their parent inherited."""
    total = 0.0
    for root in pids:
        for pid in tree(root):
            with contextlib.suppress(OSError):
                stat = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
                total += _tasks_ns(pid) / 1e9 + (int(stat[13]) + int(stat[14])) / os.sysconf("SC_CLK_TCK")
    return total


def thread_seconds(pids):
    """{name: processor time} of the threads that are alive, those of one name added up."""
    total = {}
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                name = read(f"/proc/{pid}/task/{task}/comm").strip()
                spent = int(read(f"/proc/{pid}/task/{task}/schedstat").split()[0])
                total[name] = total.get(name, 0.0) + spent / 1e9
    return total


def resident_kib(pids):
    """Resident memory of the processes, shared pages of files included."""
    total = 0
    for root in pids:
        for pid in tree(root):
            for line in read(f"/proc/{pid}/status").splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
    return total
