# SPDX-License-Identifier: Apache-2.0
"""
The small network that the tests and the demo run in, made of network namespaces:

    host (taploom runs here) --- router (NAT for IPv4, NDP proxy for IPv6) --- remote (servers)

Nothing outside these namespaces is changed, and everything goes again when the `with` block ends,
also by an exception, SIGINT or SIGTERM; what a killed run left is removed by the next one of the
same prefix. New namespaces take the machine's congestion control: they are set to CUBIC here, so
that measurements are alike everywhere.

    with Topology("mytest") as net:
        daemon = net.taploom("--shards", "2")
        daemon.counters()["rx-frames"]["shard1"]

The environment variable TAPLOOM names the program under test.
"""

import atexit
import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import congestion

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
NETNS_DIR = "/run/netns"
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def program():
    """The program under test: $TAPLOOM, or what the release preset builds."""
    return os.environ.get("TAPLOOM") or os.path.join(ROOT, "build", "release", "taploom")


def run(*command, **kwargs):
    """Runs a command that must succeed; returns what it printed."""
    done = subprocess.run(command, text=True, capture_output=True, check=False, **kwargs)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_until(condition, seconds, what):
    """Returns the first true value of condition(); RuntimeError names `what` if none came in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def end_on_signals():
    """Lets SIGTERM and SIGHUP end the program as SIGINT does: by an exception that unwinds."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))


def _write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def die_with_parent():
    """For preexec_fn: the child is killed when the thread that started it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Namespace:
    """A named network namespace, with its loopback interface up."""

    def __init__(self, name):
        self.name = name
        run("ip", "netns", "add", name)
        try:
            self._configure()
        except BaseException:
            self.remove()
            raise

    def _configure(self):
        self.ip("link", "set", "lo", "up")
        self._use_cubic()
        self.sysctl("net.ipv4.ping_group_range", "0 2147483647")
        # The test addresses are used at once; duplicate detection would delay each by a second.
        self.sysctl("net.ipv6.conf.default.accept_dad", "0")

    def ip(self, *arguments):
        """ip(8) inside this namespace."""
        return run("ip", "-n", self.name, *arguments)

    def sysctl(self, name, value):
        """Sets a variable of this namespace; dots in interface names are not supported."""
        with self.entered():
            _write("/proc/sys/" + name.replace(".", "/"), value)

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in this namespace inside the block: for sockets made here."""
        with open("/proc/thread-self/ns/net", "rb") as back, \
                open(f"{NETNS_DIR}/{self.name}", "rb") as there:
            self._setns(there)
            try:
                yield
            finally:
                self._setns(back)

    @staticmethod
    def _setns(file):
        if _libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    def _use_cubic(self):
        with congestion.allowed("cubic"):
            self.sysctl("net.ipv4.tcp_congestion_control", "cubic")

    def command(self, *command):
        """The command line that runs `command` in here; the process keeps its PID."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command, **kwargs):
        """Runs a command in here that must succeed; returns what it printed."""
        return run(*self.command(*command), **kwargs)

    def start(self, *command, **kwargs):
        """Starts a process in here, in a session of its own, that does not outlive this one."""
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.command(*command), start_new_session=True,
                                preexec_fn=die_with_parent, **kwargs)

    def remove(self):
        """Kills what still runs in here, and removes the namespace with its interfaces."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            pids = _pids_in(self.name)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with contextlib.suppress(RuntimeError):
                wait_until(lambda: not _pids_in(self.name), 3 if pids else 0, "end")
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        shutil.rmtree(f"/etc/netns/{self.name}", ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir("/etc/netns")  # only if it is empty


def _pids_in(name):
    done = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True)
    # A thread of ours may be in there at the moment.
    return [int(pid) for pid in done.stdout.split() if int(pid) != os.getpid()]


def stop(process, seconds=5):
    """Ends a process by SIGTERM, and by SIGKILL if it does not go; returns its status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def parse_counters(text):
    """
    The last table of counters in text: {counter: {column: value}}.

    A line "counters:" opens a table, the next names its columns, further ones begin with a
    counter's name; any prefix that a log adds before them is ignored.
    """
    table = {}
    columns = None
    for line in text.splitlines():
        if re.search(r"\bcounters:\s*$", line):
            table, columns = {}, None
            continue
        words = line.split()
        if columns is None:
            if "total" in words:
                columns = words[words.index("total"):]
            continue
        values = words[-len(columns):]
        if len(words) > len(columns) and all(value.isdigit() for value in values):
            name = words[-len(columns) - 1]
            table[name] = dict(zip(columns, map(int, values)))
    return table


class Taploom:
    """The program under test, or another one of its kind, in the foreground, serving guests on a UNIX socket."""

    def __init__(self, namespace, directory, *options, path=None):
        self.socket = os.path.join(directory, "guest.socket")
        self.log_path = os.path.join(directory, "taploom.log")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        self.log_start = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        self.command_line = [path or program(), "-f", "-s", self.socket, *options]
        with open(self.log_path, "ab") as log:
            self.process = namespace.start(*self.command_line, stdout=log, stderr=log)
        wait_until(self._is_ready, 10, f"socket of {self.command_line[0]}")

    def _is_ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.command_line[0]} ended with status {self.process.returncode}:\n"
                               + self.log())
        # A look at the kernel's table, as to connect would be to be the guest.
        with open(f"/proc/{self.process.pid}/net/unix", encoding="utf-8", errors="replace") as table:
            return any(line.rstrip().endswith(" " + self.socket) and line.split()[3] == "00010000"
                       for line in table)

    def log(self):
        """What this instance has printed until now."""
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            file.seek(self.log_start)
            return file.read()

    def counters(self):
        """Asks for the counters; {counter: {"total": n, "reader": n, …, "shard0": n, …}}."""
        before = self.log().count("counters:\n")
        # A table has no end of its own; that the next one begins is one.
        for n in (1, 2):
            self.process.send_signal(signal.SIGUSR1)
            wait_until(lambda n=n: self.log().count("counters:\n") >= before + n, 10, "table of counters")
        return parse_counters("counters:\n" + self.log().split("counters:\n")[before + 1])

    def resident_kib(self):
        """Resident memory in KiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))

    def descriptors(self):
        """Number of open descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        """Ends the daemon; returns its exit status."""
        return stop(self.process)


class Topology:
    """
    The three namespaces `host`, `router` and `remote`; see the top of this file.

    prefix: begins the names of the namespaces, and tells one user of this class from another.
    servers: whether the servers of traffic.py run in `remote` (and its echo server on the host's
             loopback addresses, at HOST_PORT).
    data: bytes that the servers' data has.
    """

    HOST4, HOST6 = "192.0.2.2", "2001:db8:1::2"
    PREFIX6 = "2001:db8:1:"
    GATEWAY4, GATEWAY6 = "192.0.2.1", "fe80::1"
    NAT4 = "198.51.100.1"
    REMOTE4, REMOTE6 = "198.51.100.2", "2001:db8:2::2"
    PORT, HOST_PORT = 5000, 5001
    SEARCH = "test.example"
    NAME, NAME4, NAME6 = "server.test.example", "203.0.113.80", "2001:db8:3::80"

    def __init__(self, prefix, servers=True, data=100_000_000):
        self.prefix = f"{prefix}-{os.getpid()}"
        self.stack = contextlib.ExitStack()
        self.directory = None
        self.host = self.router = self.remote = None
        self.wants_servers = servers
        self.data = data
        _remove_leftovers(prefix)

    def __enter__(self):
        end_on_signals()
        atexit.register(self.close)
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Ends every process and removes every namespace and file that was made."""
        # A second Ctrl-C must not leave half of it.
        handlers = {number: signal.signal(number, signal.SIG_IGN)
                    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            self.stack.close()
            atexit.unregister(self.close)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _build(self):
        self.directory = tempfile.mkdtemp(prefix=f"{self.prefix}-")
        self.stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        # The daemon becomes nobody, and removes its socket when it ends.
        shutil.chown(self.directory, "nobody")
        os.chmod(self.directory, 0o755)
        self.host, self.router, self.remote = (
            self.namespace(name) for name in ("host", "router", "remote"))
        self._wire(self.host, "eth0", self.router, "inside")
        self._wire(self.remote, "eth0", self.router, "outside")
        self._configure_host()
        self._configure_router()
        self._configure_remote()
        if self.wants_servers:
            self._start_servers()

    def namespace(self, name):
        """One more namespace, which goes with the others."""
        space = Namespace(f"{self.prefix}-{name}")
        self.stack.callback(space.remove)
        return space

    @staticmethod
    def _wire(one, one_name, other, other_name):
        one.ip("link", "add", one_name, "type", "veth",
               "peer", "name", other_name, "netns", other.name)
        one.ip("link", "set", one_name, "up")
        other.ip("link", "set", other_name, "up")

    def _configure_host(self):
        self.host.ip("addr", "add", f"{self.HOST4}/24", "dev", "eth0")
        self.host.ip("addr", "add", f"{self.HOST6}/64", "dev", "eth0", "nodad")
        self.host.ip("route", "add", "default", "via", self.GATEWAY4)
        self.host.ip("-6", "route", "add", "default", "via", self.GATEWAY6, "dev", "eth0")
        # ip-netns(8) mounts this over /etc/resolv.conf for what it runs.
        os.makedirs(f"/etc/netns/{self.host.name}")
        with open(f"/etc/netns/{self.host.name}/resolv.conf", "w", encoding="ascii") as file:
            file.write(f"search {self.SEARCH}\nnameserver {self.REMOTE4}\nnameserver {self.REMOTE6}\n")

    def _configure_router(self):
        router = self.router
        router.ip("addr", "add", f"{self.GATEWAY4}/24", "dev", "inside")
        router.ip("addr", "add", f"{self.GATEWAY6}/64", "dev", "inside", "nodad")
        router.ip("addr", "add", f"{self.NAT4}/24", "dev", "outside")
        router.ip("addr", "add", "2001:db8:2::1/64", "dev", "outside", "nodad")
        router.ip("-6", "route", "add", "2001:db8:1::/64", "dev", "inside")
        router.sysctl("net.ipv4.ip_forward", "1")
        router.sysctl("net.ipv6.conf.all.forwarding", "1")
        # `remote` takes the host's addresses for neighbours: the router answers for them.
        router.sysctl("net.ipv6.conf.outside.proxy_ndp", "1")
        router.sysctl("net.ipv6.neigh.outside.proxy_delay", "0")
        router.ip("-6", "neigh", "add", "proxy", self.HOST6, "dev", "outside")
        router.run("nft", "add table ip nat; "
                   "add chain ip nat out { type nat hook postrouting priority 100; }; "
                   'add rule ip nat out oifname "outside" masquerade')

    def _configure_remote(self):
        remote = self.remote
        remote.ip("addr", "add", f"{self.REMOTE4}/24", "dev", "eth0")
        remote.ip("addr", "add", f"{self.REMOTE6}/64", "dev", "eth0", "nodad")
        # For connections to the host: IPv4 by the router, IPv6 as if on the same link.
        remote.ip("route", "add", "192.0.2.0/24", "via", self.NAT4)
        remote.ip("-6", "route", "add", "2001:db8:1::/64", "dev", "eth0")

    def _start_servers(self):
        self.serve(self.remote, self.PORT, "--data", str(self.data), "--dns",
                   f"{self.NAME}={self.NAME4},{self.NAME6}")
        self.serve(self.host, self.HOST_PORT)

    def serve(self, namespace, port, *options):
        """Runs the servers of traffic.py on a port in a namespace until the end."""
        process = namespace.start(sys.executable, os.path.join(ROOT, "tests", "lib", "traffic.py"),
                                  str(port), *options, stdout=subprocess.PIPE)
        self.stack.callback(stop, process)
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the servers on port {port} did not start")

    def taploom(self, *options, path=None):
        """Starts the program under test, or that of a path, in `host`; returns it when its socket listens."""
        daemon = Taploom(self.host, self.directory, *options, path=path)
        self.stack.callback(daemon.stop)
        return daemon


def _runs(pid):
    """Whether a process is there and no zombie, which has no command line."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return bool(file.read(1))
    return False


def _remove_leftovers(prefix):
    """Removes namespaces and directories of runs of the same prefix that were killed."""
    pattern = re.compile(re.escape(prefix) + r"-(\d+)-")

    def left_in(folder):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        for name in names:
            match = pattern.match(name)
            if match and not _runs(match.group(1)):
                yield name

    for name in left_in(NETNS_DIR):
        space = Namespace.__new__(Namespace)
        space.name = name
        space.remove()
    for folder in ("/etc/netns", tempfile.gettempdir()):
        for name in left_in(folder):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
