# SPDX-License-Identifier: Apache-2.0
"""The runner: collects named tests, gives each a Case with namespaces and daemons of its own, prints `ok` or `FAILED`.

    test_x.py [--taploom PATH] [--peer] [-v] [WORD...]      WORD: run only tests whose names contain it

The program comes from --taploom, $TAPLOOM, or build/release. --peer says that another program of the kind is
under test, for judging the tests themselves: what only taploom promises at the end of a test is not checked.
"""
import argparse
import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

import rawguest
import rawtcp
from netns import FAR4, FAR6, HOST4, HOST6, Net

TESTS = []
REPORTS = re.compile(r"Sanitizer|runtime error:|==\d+==")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Options:
    """What the command line said."""
    taploom = ""
    peer = False
    verbose = False


class Skip(Exception):
    """The test does not apply here; says why."""


def test(function):
    """Registers a test; its name is the sentence that it shows."""
    TESTS.append((function.__name__.replace("_", " ").strip(), function, ()))
    return function


def rows(*table):
    """Registers a test per row: a name first, then the arguments."""
    def register(function):
        for row in table:
            TESTS.append((row[0], function, row[1:]))
        return function
    return register


def both(function):
    """Registers a test once for each IP version; it gets the address of a far server."""
    name = function.__name__.replace("_", " ").strip()
    TESTS.append((name + " (IPv4)", function, (FAR4,)))
    TESTS.append((name + " (IPv6)", function, (FAR6,)))
    return function


def tail(text, n=12):
    return "\n".join("    | " + line for line in text.splitlines()[-n:])


class Daemon:
    """One running program, in the foreground or by its PID file."""

    def __init__(self, case, argv, pass_fds=(), env=None):
        self.case = case
        self.err_path = case.path("stderr%d" % len(case.daemons))
        self.socket = None
        self.ended = False
        with open(self.err_path, "wb") as err:
            self.process = subprocess.Popen(case.net.host.command(*argv), stdin=subprocess.DEVNULL,
                                            stdout=err, stderr=err, pass_fds=pass_fds,
                                            env=dict(os.environ, **(env or {})))
        self.pid = self.process.pid

    def log(self):
        with open(self.err_path, errors="replace") as file:
            return file.read()

    def wait_log(self, pattern, timeout=10):
        """Waits for a line of output."""
        return wait_for(lambda: re.search(pattern, self.log()), "output matches %r" % pattern, timeout)

    def running(self):
        return self.process.poll() is None

    def fds(self):
        try:
            return len(os.listdir("/proc/%d/fd" % self.pid))
        except (FileNotFoundError, PermissionError):
            return 0

    def threads(self):
        names = []
        for tid in os.listdir("/proc/%d/task" % self.pid):
            with open("/proc/%d/task/%s/comm" % (self.pid, tid)) as file:
                names.append(file.read().strip())
        return names

    def memory_kb(self, field="VmRSS"):
        with open("/proc/%d/status" % self.pid) as file:
            return int(re.search(field + r":\s+(\d+)", file.read()).group(1))

    def wait(self, timeout=10):
        """Waits for the end; returns the status."""
        self.ended = True
        return self.process.wait(timeout)

    def terminate(self, timeout=10):
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def counters(self):
        """The table of SIGUSR1 as {counter: sum over threads}."""
        return parse_counters(self.counters_table())

    def counters_table(self):
        """The lines of the table of SIGUSR1."""
        before = len(self.log())
        # A table has no end of its own; that the next one begins is one.
        for n in (1, 2):
            self.process.send_signal(signal.SIGUSR1)
            wait_for(lambda n=n: self.log()[before:].count("counters:\n") >= n, "the counters are shown")
        return self.log()[before:].split("counters:\n")[1]

    def check_end(self):
        """What must hold when a test is over."""
        assert self.running(), "the daemon is gone, status %s\n%s" % (self.process.poll(), tail(self.log(), 40))
        status = self.terminate()
        assert status == 0 or Options.peer, "SIGTERM ends it with status %s" % status

    def check_reports(self):
        log = self.log()
        assert not REPORTS.search(log), "a sanitizer report:\n" + tail(log, 60)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def parse_counters(text):
    """Sums the rows of the counters' table: a name, then one column a thread, and perhaps their total."""
    totals = {}
    for line in text.splitlines():
        match = re.match(r"^(?:.*?: )?\s*([a-z][a-z0-9-]+)((?:\s+\d+)+)(?:\s+\D.*)?$", line)
        if match:
            totals[match.group(1)] = max(map(int, match.group(2).split()))
    return totals


def wait_for(condition, what, timeout=10, step=0.02):
    """Polls until condition() gives something true; returns that."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("in %g s: not so: %s" % (timeout, what))
        time.sleep(step)


class Case:
    """What one test works with; everything it makes is gone afterwards."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="bb%d-" % os.getpid(), dir="/tmp")
        os.chmod(self.dir, 0o777)
        self._net = None
        self.daemons, self.guests, self.cleanups, self.pid_files = [], [], [], []
        self.leaving = []  # what ends guests that are not in .guests
        self.fds_before, self.warm = {}, set()

    @property
    def net(self):
        if self._net is None:
            self._net = Net()
        return self._net

    @net.setter
    def net(self, net):
        self._net = net

    def path(self, name):
        return os.path.join(self.dir, name)

    def program(self, name=None):
        """The program by one of its names."""
        return os.path.join(os.path.dirname(Options.taploom), name) if name else Options.taploom

    def start(self, *options, name=None, ready=True, **kw):
        """Starts a daemon in the foreground, with a socket if no -s, -F is among the options."""
        path = self.path("s%d" % len(self.daemons))
        own = not {"-s", "--socket", "-F", "--fd"} & set(options)
        # The PID file is filled when all is ready; the socket is there, and can be connected to, before that.
        pid = path + ".pid" if own and not {"-P", "--pid"} & set(options) else None
        argv = ((self.program(name), "-f") + (("-s", path) if own else ()) + (("-P", pid) if pid else ()) +
                tuple(map(str, options)))
        daemon = Daemon(self, argv, **kw)
        daemon.socket = path if own else None
        self.daemons.append(daemon)
        if own and ready:
            wait_for(lambda: os.path.exists(path) or not daemon.running(), "the socket is there", 20)
            assert daemon.running(), "the daemon did not start:\n" + tail(daemon.log())
            if pid:
                wait_for(lambda: not daemon.running() or (os.path.exists(pid) and os.path.getsize(pid)), "it is ready", 20)
            self.fds_before[daemon] = daemon.fds()
        return daemon

    def is_sanitized(self):
        """Whether the program was built with AddressSanitizer."""
        with open(self.program(), "rb") as file:
            return b"__asan_init" in file.read()

    def run(self, *argv, timeout=20, pass_fds=(), name=None, env=None):
        """Runs the program to the parent's end, streams read to end of file as callers do."""
        command = self.net.host.command(self.program(name), *map(str, argv))
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, pass_fds=pass_fds,
                              stdin=subprocess.DEVNULL, env=dict(os.environ, **(env or {})))

    def guest(self, daemon=None, resolve=True, **fields):
        """A guest on a daemon's socket (the last one's), which uses the host's addresses if not told otherwise."""
        daemon = daemon or self.daemons[-1]
        fields.setdefault("ip4", HOST4)
        fields.setdefault("ip6", HOST6)
        guest = rawguest.connect(daemon.socket, **fields)
        self.guests.append(guest)
        if resolve:
            guest.alive()
            guest.send(guest.solicitation("fe80::1", src=guest.ip6))
            guest.send(guest.solicitation("fe80::1"))
            guest.pump(0.05)
            guest.backlog.clear()
            if daemon not in self.warm:  # all threads are at work now; one descriptor is this guest's
                self.warm.add(daemon)
                self.fds_before[daemon] = max(self.fds_before.get(daemon, 0), daemon.fds() - 1)
        return guest

    def joined(self, *options, **fields):
        """A daemon with these options and a guest on it."""
        self.start(*options)
        return self.guest(**fields)

    def pair(self, *options, addr=None, port=None, **fields):
        """A TCP connection from the guest to a server in the remote namespace: (endpoint, host's socket)."""
        addr = addr or FAR4
        guest = self.guests[-1] if self.guests else self.joined(*options)
        server = self.net.remote.tcp_server(addr, port or 0)
        rcvbuf = fields.pop("rcvbuf", None)
        if rcvbuf:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        conn = rawtcp.connect(guest, addr, server.getsockname()[1], **fields)
        peer, _ = server.accept()
        server.close()
        peer.settimeout(10)
        self.cleanups.append(peer.close)
        return conn, peer

    def forwarded(self, port, addr, options=(), before=None, **fields):
        """A TCP connection from the remote namespace to a forwarded port: (endpoint, remote's socket)."""
        guest = self.guests[-1] if self.guests else self.joined(*options)
        host = HOST6 if ":" in addr else HOST4
        peer = self.net.remote.tcp_client(host, port, source=addr, blocking=False, before=before)
        self.cleanups.append(peer.close)
        conn = rawtcp.accept(guest, port, **fields)
        peer.settimeout(10)
        return conn, peer

    def check_end(self):
        for leave in [guest.close for guest in self.guests] + self.leaving:
            leave()
        for daemon in self.daemons:
            if daemon.ended:
                continue
            if daemon in self.fds_before and daemon.running() and not Options.peer:
                limit = self.fds_before[daemon]
                try:
                    wait_for(lambda d=daemon: d.fds() <= limit, "", 10, 0.1)
                except AssertionError:
                    raise AssertionError("descriptors grew from %d to %d" % (limit, daemon.fds())) from None
            daemon.check_end()
        for daemon in self.daemons:
            daemon.check_reports()

    def pid_file(self, name="pid"):
        """A path for a PID file; whatever is in it at the end is ended."""
        path = self.path(name)
        self.pid_files.append(path)
        return path

    def clean(self):
        for cleanup in reversed(self.cleanups):
            try:
                cleanup()
            except OSError:
                pass
        for guest in self.guests:
            guest.close()
        for daemon in self.daemons:
            daemon.kill()
        for path in self.pid_files:
            kill_by_file(path)
        if self._net is not None:
            self._net.delete()
        shutil.rmtree(self.dir, ignore_errors=True)


def kill_by_file(path):
    """Ends the process named in a PID file, if it is one of ours."""
    try:
        with open(path) as file:
            pid = int(file.read())
        with open("/proc/%d/cmdline" % pid) as file:
            ours = path in file.read()
        if ours:
            os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        pass


def run_one(name, function, arguments):
    """Runs a test; returns None, or what went wrong."""
    case = Case()
    atexit.register(case.clean)
    try:
        function(case, *arguments)
        case.check_end()
        return None
    except Skip:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        text = "%s: %s" % (type(error).__name__, error)
        if isinstance(error, subprocess.CalledProcessError):
            text += "\n" + tail(error.stdout + error.stderr)
        if Options.verbose:
            text += "\n" + traceback.format_exc()
        frame = [f for f in traceback.extract_tb(error.__traceback__) if "/lib/" not in f.filename]
        if frame:
            text += "\n    at %s:%d: %s" % (os.path.basename(frame[-1].filename), frame[-1].lineno, frame[-1].line)
        for daemon in case.daemons:
            text += "\n    output of %d:\n%s" % (daemon.pid, tail(daemon.log()))
        return text
    finally:
        case.clean()
        atexit.unregister(case.clean)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--taploom", default=os.environ.get("TAPLOOM", ROOT + "/build/release/taploom"))
    parser.add_argument("--peer", action="store_true", default=bool(os.environ.get("TAPLOOM_PEER")))
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("-l", "--list", action="store_true")
    parser.add_argument("words", nargs="*")
    chosen = parser.parse_args()
    Options.taploom, Options.peer = os.path.abspath(chosen.taploom), chosen.peer
    Options.verbose = chosen.verbose
    rawtcp.Tcp.strict = not chosen.peer
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    selected = [t for t in TESTS if not chosen.words or any(w in t[0] for w in chosen.words)]
    if chosen.list:
        print("\n".join(t[0] for t in selected))
        return 0
    if os.geteuid() != 0:
        print("skipped: needs root for network namespaces")
        return 77
    failed = 0
    for name, function, arguments in selected:
        started = time.monotonic()
        try:
            wrong = run_one(name, function, arguments)
        except Skip as skip:
            print("skipped  %s: %s" % (name, skip), flush=True)
            continue
        took = time.monotonic() - started
        print("%s %s (%.1f s)" % ("ok      " if wrong is None else "FAILED  ", name, took), flush=True)
        if wrong is not None:
            failed += 1
            print("  " + wrong, flush=True)
    print("%d tests, %d failed" % (len(selected), failed))
    return 1 if failed else 0
