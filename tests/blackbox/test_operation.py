#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Start, end, errors, logs, counters, threads: what a service manager and its operator rely on."""
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import rawguest
import rawtcp
import wire
from netns import FAR4, HOST4, Net
from suite import Daemon, Options, Skip, main, rows, test, wait_for


def lines(text):
    return [line for line in text.splitlines() if line.strip()]


def background(case, *options, name=None):
    """Starts it as a daemon; returns (CompletedProcess, pid, socket path)."""
    pid_file, path = case.pid_file(), case.path("s")
    done = case.run("-s", path, "-P", pid_file, *options, name=name)
    assert done.returncode == 0, done.stderr
    with open(pid_file) as file:
        text = file.read()
    assert re.fullmatch(r"\d+\n", text), "the PID file holds %r" % text
    return done, int(text), path


def gone(pid):
    return not os.path.exists("/proc/%d" % pid) or open("/proc/%d/stat" % pid).read().split()[2] == "Z"


def end(pid):
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: gone(pid), "SIGTERM ends it")


@test
def the_parent_ends_with_0_when_all_is_ready(case):
    _, pid, path = background(case, "-t", "7000")
    guest = rawguest.Guest(connect_once(path), ip4=HOST4)
    guest.alive()
    assert "7000" in case.net.host.run("ss", "-Hlnt").stdout
    guest.close()
    end(pid)


def connect_once(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(path)
    return sock


@test
def standard_streams_lead_nowhere_in_the_daemon(case):
    _, pid, _ = background(case)
    for fd in range(3):
        assert os.readlink("/proc/%d/fd/%d" % (pid, fd)) == "/dev/null"
    end(pid)


@test
def the_daemon_has_a_session_of_its_own(case):
    _, pid, _ = background(case)
    assert os.getsid(pid) not in (os.getsid(0), 0)
    end(pid)


@test
def sigterm_removes_the_socket_and_leaves_the_pid_file(case):
    _, pid, path = background(case)
    end(pid)
    assert not os.path.exists(path), "the socket stayed"
    assert os.path.exists(case.path("pid")), "the PID file is gone"


def keepers(pid):
    """The processes that keep the right to remove a daemon's files."""
    out = subprocess.run(("ps", "-o", "pid=,comm=", "--ppid", str(pid)), capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in out.splitlines() if line.split()[1] == "keeper"]


@rows(("in a folder that is root's alone the socket is removed", 0o700),
      ("in a folder that others may only read the socket is removed", 0o755))
def _(case, mode):
    os.chmod(case.dir, mode)
    _, pid, path = background(case)
    keeper, = keepers(pid)
    with open("/proc/%d/status" % keeper) as file:
        assert int(re.search(r"CapEff:\s+([0-9a-f]+)", file.read()).group(1), 16) == 1 << 1 | 1 << 3
    kept = [os.readlink("/proc/%d/fd/%s" % (keeper, fd)) for fd in os.listdir("/proc/%d/fd" % keeper)]
    assert set(name for name in kept if not name.startswith("socket:")) <= {"/dev/null", case.dir}, kept
    end(pid)
    assert not os.path.exists(path), "the socket stayed"
    assert not os.path.exists("/proc/%d" % keeper)


@rows(("a failed start in root's folder leaves nothing", 0o700, (), None),
      ("a failed start in the foreground neither", 0o700, ("-f",), None),
      ("nor one in a folder like /tmp", 0o1777, ("-f",), None),
      ("nor one with a command", 0o700, ("--", "true"), "pasta"),
      ("nor one in the foreground for a namespace", 0o1777, ("-f", "--", "true"), "pasta"))
def _(case, mode, options, name):
    taken = case.net.host.tcp_server("0.0.0.0", 4444)
    os.chmod(case.dir, mode)
    own = () if name else ("-s", case.path("s"))
    done = case.run("-q", *own, "-P", case.pid_file(), "-t", "4444", *options, name=name)
    assert done.returncode == 1 and os.listdir(case.dir) == [], (done.stderr, os.listdir(case.dir))
    taken.close()


@test
def who_keeps_the_right_to_remove_ends_with_a_daemon_that_is_killed(case):
    os.chmod(case.dir, 0o700)
    _, pid, _ = background(case)
    keeper, = keepers(pid)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: gone(keeper), "it ends")


@rows(("in a folder of all nobody keeps a right", 0o777), ("in one like /tmp neither", 0o1777))
def _(case, mode):
    os.chmod(case.dir, mode)
    _, pid, path = background(case)
    wait_for(lambda: not keepers(pid), "nobody keeps a right")  # but for what a failed start would leave
    end(pid)
    assert not os.path.exists(path), "the socket stayed"


@test
def a_socket_that_is_another_daemons_by_now_is_left_alone(case):
    daemon = case.start()
    os.unlink(daemon.socket)
    other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    other.bind(daemon.socket)
    assert daemon.terminate() == 0
    assert os.path.exists(daemon.socket), "another's socket was removed"
    other.close()


ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


@rows(*(("%s ends it with status 0 and removes the socket" % number.name, number) for number in ENDINGS))
def _(case, number):
    daemon = case.start()
    guest = case.guest()
    daemon.process.send_signal(number)
    assert daemon.wait() == 0
    assert not os.path.exists(daemon.socket), "the socket stayed"
    guest.close()


@rows(*(("%s in the middle of the start leaves no socket" % number.name, number) for number in ENDINGS))
def _(case, number):
    for _ in range(5):
        daemon = case.start(ready=False)
        wait_for(lambda d=daemon: os.path.exists(d.socket + ".pid") or not d.running(), "the PID file is there", step=0)
        daemon.process.send_signal(number)
        assert daemon.wait() == 0, daemon.log()
        assert not os.path.exists(daemon.socket), "the socket stayed"
        os.unlink(daemon.socket + ".pid")


@test
def a_parent_that_is_killed_takes_the_start_with_it(case):
    pid, path = case.pid_file(), case.path("s")
    for _ in range(5):
        parent = subprocess.Popen(case.net.host.command(case.program(), "-s", path, "-P", pid, "-t", "2000-9000"),
                                  stderr=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(pid), "the PID file is there", step=0)
        parent.terminate()
        if parent.wait() == 0:  # it was ready before
            end(int(open(pid).read()))
            os.unlink(pid)
        wait_for(lambda: not os.path.exists(path) and not os.path.exists(pid), "nothing is left")


@test
def sigterm_in_the_middle_of_traffic_ends_it(case):
    conn, peer = case.pair()
    peer.setblocking(False)
    try:
        while True:
            peer.send(bytes(1 << 20))
    except BlockingIOError:
        pass
    conn.guest.send(*(conn.guest.udp(FAR4, 9, b"x", sport=20000 + i) for i in range(200)))
    assert case.daemons[0].terminate() == 0


@test
def sigpipe_does_not_end_it(case):
    guest = case.joined()
    case.daemons[0].process.send_signal(signal.SIGPIPE)
    guest.alive()


@test
def version_is_on_stdout(case):
    for name in ("taploom", "passt", "pasta"):
        if not os.path.exists(case.program(name)):
            continue
        done = case.run("--version", name=name)
        assert done.returncode == 0 and re.match(name + r" \S+", done.stdout), done


@test
def help_is_on_stdout(case):
    done = case.run("--help")
    assert done.returncode == 0 and "--socket" in done.stdout


@test
def capabilities_are_on_stdout(case):
    done = case.run("--vhost-user", "--print-capabilities")
    assert done.returncode == 0 and json.loads(done.stdout)["type"] == "net", done


ERRORS = (
    ("an unknown option is named", ("--bogus",), r"unrecognized option '--bogus'"),
    ("an unknown letter is named", ("-Z",), r"Z"),
    ("a missing argument is named", ("--mtu",), r"mtu"),
    ("an MTU that is no number is named", ("-m", "big"), r"big"),
    ("an MTU that is too large is named", ("-m", "70000"), r"70000"),
    ("an address that is none is named", ("-a", "300.1.1.1"), r"300\.1\.1\.1"),
    ("a gateway that is none is named", ("-g", "nowhere"), r"nowhere"),
    ("a netmask that is none is named", ("-n", "255.0.255.0"), r"255\.0\.255\.0"),
    ("an Ethernet address that is none is named", ("-M", "zz:00:00:00:00:00"), r"zz:00"),
    ("a group Ethernet address is refused", ("-M", "01:00:00:00:00:01"), r"01:00"),
    ("a resolver that is none is named", ("-D", "dns.example"), r"dns\.example"),
    ("an interface that is not there is named", ("-i", "nope0"), r"nope0"),
    ("an outbound interface that is not there is named", ("--outbound-if4", "nope1"), r"nope1"),
    ("IPv4 only and IPv6 only contradict", ("-4", "-6"), r"4.*6|6.*4|only"),
    ("a user that is not there is named", ("--runas", "nobodyhere"), r"nobodyhere"),
    ("a number of shards of 0 is refused", ("--shards", "0"), r"shards"),
    ("a number of shards that is none is refused", ("--shards", "many"), r"many"),
    ("a CPU that is not there is named", ("--cpus", "4000"), r"4000"),
    ("a descriptor that is not open is named", ("--fd", "77"), r"77"),
    ("a log file that cannot be written is named", ("--log-file", "/nonexistent/log"), r"/nonexistent/log"),
    ("a capture that cannot be written is named", ("--pcap", "/nonexistent/pcap"), r"/nonexistent/pcap"),
    ("a PID file that cannot be written is named", ("--pid", "/nonexistent/pid"), r"/nonexistent/pid"),
    ("a user's group that is not there is named", ("--runas", "nobody:nogrouphere"), r"nogrouphere"),
    ("a word too many is named", ("leftover",), r"leftover"),
    ("a folder as PID file is named", ("--pid", "/tmp"), r"/tmp"),
    ("a folder as log file is named", ("--log-file", "/tmp"), r"/tmp"),
    ("a folder as capture is named", ("--pcap", "/tmp"), r"/tmp"),
    ("a folder that is not there is named for the socket", ("-s", "/nonexistent/s"), r"/nonexistent/s"),
    ("ports of a protocol that is off contradict it", ("--no-tcp", "-t", "22"), r"no-tcp.*tcp-ports"),
    ("a prefix length given twice contradicts", ("-a", "10.0.0.1/24", "-n", "16"), r"netmask"),
    ("too many shards are refused", ("--shards", "65"), r"65"),
    ("a migration's helper is not in this build", ("--repair-path", "/tmp/r"), r"not in this build"),
)


@rows(("all ports of an address that is not here are an error", ("-t", "203.0.113.9/all"),
       r"^Listen failed for HOST TCP 203\.0\.113\.9: none of all ports could be bound: Cannot assign"),
      ("all ports of an interface that is not here are an error", ("-u", "%nope2/all"),
       r"^Listen failed for HOST UDP port \*%nope2/1: No such device"),
      ("all ports of an address beside others are an error", ("-t", HOST4 + "/~1-60999", "-t", "203.0.113.9/~1-60999"),
       r"^Listen failed for HOST TCP 203\.0\.113\.9: none of all ports"))
def _(case, options, pattern):
    done = case.run("-f", "-q", "-s", case.path("s"), *options, timeout=60)
    assert done.returncode == 1 and re.search(pattern, done.stderr, re.M), done


@rows(*ERRORS)
def _(case, options, pattern):
    path, pid = case.path("s"), case.pid_file()
    own = () if options[0] in ("--fd", "-s") else ("-s", path)
    done = case.run("-f", "-q", *own, *(() if options[0] == "--pid" else ("-P", pid)), *options, timeout=5)
    assert done.returncode == 1, "status %d: %s" % (done.returncode, done.stderr)
    assert re.search(pattern, done.stderr), done.stderr
    said = [line for line in lines(done.stderr) if not re.match("Usage: |Started as root", line)]
    assert len(said) == 1 and not done.stdout, "more than a line: %s" % said
    assert not os.path.exists(path), "the socket stayed"
    assert not os.path.exists(pid), "the PID file stayed"


@test
def a_socket_path_that_is_taken_is_told(case):
    first = case.start()
    done = case.run("-f", "-s", first.socket, timeout=5)
    assert done.returncode == 1 and first.socket in done.stderr, done.stderr
    case.guest().alive()


@test
def a_socket_path_left_by_a_dead_daemon_is_taken_over(case):
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(case.path("s0"))
    stale.close()
    daemon = case.start(ready=False)
    guest = rawguest.connect(daemon.socket, ip4=HOST4)
    case.guests.append(guest)
    guest.alive()


@test
def a_file_at_the_socket_path_is_not_removed(case):
    path = case.path("precious")
    with open(path, "w") as file:
        file.write("data")
    done = case.run("-f", "-s", path, timeout=5)
    assert done.returncode == 1 and os.path.isfile(path), done.stderr


@test
def a_socket_path_that_is_too_long_is_told(case):
    done = case.run("-f", "-s", "/tmp/" + "x" * 200, timeout=5)
    assert done.returncode == 1 and done.stderr.strip()


@test
def the_default_socket_path_is_printed_and_free(case):
    daemon = Daemon(case, (case.program(), "-f"))
    case.daemons.append(daemon)
    match = daemon.wait_log(r"/tmp/passt_\d+\.socket")

    def connect():
        try:
            return connect_once(match.group(0))
        except OSError:
            return None
    sock = wait_for(connect, "it listens there")
    guest = rawguest.Guest(sock, ip4=HOST4)
    guest.alive()
    guest.close()
    assert daemon.terminate() == 0
    assert not os.path.exists(match.group(0))


@test
def what_was_configured_is_printed(case):
    daemon = case.start("-t", "7000")
    for word in (HOST4, "192.0.2.1", "2001:db8::2", "198.51.100.53", "example.org", "7000", daemon.socket):
        daemon.wait_log(re.escape(word), 5)


@test
def quiet_prints_nothing(case):
    daemon = case.start("-q")
    case.guest()
    noise = [n for n in lines(daemon.log()) if "root" not in n]
    assert not noise, noise


@test
def started_as_root_it_becomes_nobody_and_says_so(case):
    daemon = case.start()
    daemon.wait_log("Started as root, will change to nobody")
    with open("/proc/%d/status" % daemon.pid) as file:
        uid = re.search(r"Uid:\s+(\d+)\s+(\d+)", file.read()).groups()
    assert uid == ("65534", "65534"), uid


@test
def runas_0_stays_root(case):
    daemon = case.start("--runas", "0")
    with open("/proc/%d/status" % daemon.pid) as file:
        assert re.search(r"Uid:\s+0\s+0", file.read())


@test
def no_capability_but_that_for_low_ports_is_left_after_start(case):
    daemon = case.start()
    case.guest()
    with open("/proc/%d/status" % daemon.pid) as file:
        effective = int(re.search(r"CapEff:\s+([0-9a-f]+)", file.read()).group(1), 16)
    assert effective & ~(1 << 10) == 0, "%x" % effective


@test
def an_ordinary_user_may_start_it(case):
    path = case.path("s")
    daemon = Daemon(case, ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", case.program(), "-f",
                           "-s", path))
    daemon.socket = path
    case.daemons.append(daemon)
    guest = rawguest.connect(path, ip4=HOST4)
    case.guests.append(guest)
    guest.alive()


NOT_ROOT = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@rows(("without any capability it serves", ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=65534",
                                            "--regid=65534", "--clear-groups", "--no-new-privs")),
      ("as root without capabilities it serves", ("setpriv", "--bounding-set=-all", "--inh-caps=-all"), "--runas", "0"),
      ("as root of a user namespace it serves", NOT_ROOT + ("unshare", "--user", "--map-root-user")),
      ("as nobody in particular in a user namespace it serves", NOT_ROOT + ("unshare", "--user")),
      ("without settings of the kernel to read it serves",
       ("unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc/sys && exec \"$@\"", "sh")),
      ("without /proc it serves", ("unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh")),
      ("without /sys it serves", ("unshare", "-m", "sh", "-c", "mount -t tmpfs none /sys && exec \"$@\"", "sh")),
      ("without a resolver's configuration it serves",
       ("unshare", "-m", "sh", "-c", "mount --bind /dev/null /etc/resolv.conf && exec \"$@\"", "sh")),
      ("without users it serves",
       ("unshare", "-m", "sh", "-c", "mount --bind /dev/null /etc/passwd && exec \"$@\"", "sh")))
def _(case, prefix, *options):
    if "tmpfs none /proc &&" in prefix[-2] and case.is_sanitized():
        raise Skip("LeakSanitizer reads /proc, its options too")
    path = case.path("s")
    daemon = Daemon(case, (*prefix, case.program(), "-f", "-s", path, "-t", "8022", *options))
    case.daemons.append(daemon)
    wait_for(lambda: os.path.exists(path) or not daemon.running(), "the socket is there")
    guest = rawguest.connect(path, ip4=HOST4)
    case.guests.append(guest)
    guest.alive()
    server = case.net.remote.tcp_server(FAR4)
    conn = rawtcp.connect(guest, FAR4, server.getsockname()[1])
    conn.write(b"x")
    assert server.accept()[0].recv(1) == b"x"


@test
def low_ports_left_out_of_all_are_told_with_their_reason(case):
    case.net.host.sysctl("net.ipv4.ip_local_port_range", "1100 65535")
    case.net.host.sysctl("net.ipv4.ip_unprivileged_port_start", "1024")
    daemon = Daemon(case, (*NOT_ROOT, case.program(), "-f", "-s", case.path("s"), "-t", "all"))
    case.daemons.append(daemon)
    daemon.wait_log(r"TCP: 76 ports bound")
    daemon.wait_log(r"TCP: 1023 ports left out, not permitted")


@test
def a_low_port_without_the_right_is_told_with_what_helps(case):
    case.net.host.sysctl("net.ipv4.ip_unprivileged_port_start", "1024")
    done = case.net.host.run(*NOT_ROOT, case.program(), "-q", "-s", case.path("s"), "-t", "22", check=False)
    assert done.returncode == 1
    assert "port */22: Permission denied" in done.stderr and "ip_unprivileged_port_start" in done.stderr, done.stderr
    assert not os.path.exists(case.path("s"))


@test
def it_is_started_and_ended_a_hundred_times(case):
    for _ in range(100):
        _, pid, path = background(case, "-q", "-t", "7000", "-u", "7000")
        assert os.path.exists(path)
        end(pid)
        os.unlink(case.path("pid"))
    assert "7000" not in case.net.host.run("ss", "-Hlntu").stdout


@test
def two_daemons_serve_side_by_side(case):
    guests = []
    for port in (7000, 7001):
        daemon = case.start("-t", port)
        guests.append(case.guest(daemon))
    for guest, port in zip(guests, (7000, 7001)):
        peer = case.net.remote.tcp_client(HOST4, port, blocking=False)
        conn = rawtcp.accept(guest, port)
        peer.settimeout(10)
        conn.write(b"%d" % port)
        assert peer.recv(10) == b"%d" % port


@test
def the_log_file_gets_the_log(case):
    path = case.path("log")
    daemon = case.start("--log-file", path)
    case.guest()
    with open(path) as file:
        assert HOST4 in file.read()
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0, "others may read the log"
    assert daemon.running()


@test
def the_log_file_keeps_its_size(case):
    path = case.path("log")
    case.start("--log-file", path, "--log-size", "10000", "--trace")
    guest = case.guest()
    for i in range(200):
        conn = rawtcp.Tcp(guest, FAR4, 9, 20000 + i)
        conn.send(wire.SYN)
        guest.pump(0.002)
    assert os.path.getsize(path) <= 10000 + 4096, os.path.getsize(path)


@test
def a_guest_cannot_flood_the_log(case):
    guest = case.joined()
    daemon = case.daemons[0]
    before = len(daemon.log())
    frames = [guest.udp(FAR4, 9, b"x", ihl=4) for _ in range(2000)] + \
        [guest.ip(FAR4, 200, bytes(20)) for _ in range(2000)]
    guest.send(*frames)
    guest.alive()
    assert len(daemon.log()) - before < 20000, "%d bytes of log" % (len(daemon.log()) - before)


@test
def the_capture_holds_frames_of_both_directions(case):
    path = case.path("cap.pcap")
    case.start("--pcap", path)
    guest = case.guest()
    guest.send(guest.tcp(FAR4, 9, 30000, 1, 0, wire.SYN))
    guest.expect(lambda f: f.kind == "tcp", "RST")
    case.daemons[0].terminate()
    out = subprocess.run(("tcpdump", "-nr", path), capture_output=True, text=True, check=True).stdout
    assert "Flags [S]" in out and "Flags [R" in out, out


@test
def counters_come_as_one_table_on_sigusr1(case):
    daemon = case.start("--shards", "2")
    guest = case.guest()
    guest.send(guest.udp(FAR4, 9, b"bad", ihl=4), guest.tcp(FAR4, 9, 30000, 1, 0, wire.SYN))
    guest.expect(lambda f: f.kind == "tcp", "RST")
    counters = daemon.counters()
    assert counters.get("rx-frames", 0) > 0 and counters.get("tx-frames", 0) > 0, daemon.log()[-2000:]
    assert counters.get("drop-ip-length", 0) >= 1, "the drop reason is not shown: %s" % counters
    guest.alive()


@test
def counters_are_shown_by_a_quiet_daemon_too(case):
    daemon = case.start("--quiet")
    case.guest()
    assert daemon.counters().get("rx-frames", 0) > 0, daemon.log()


@test
def counters_of_a_daemon_go_to_its_log_file(case):
    log = case.path("log")
    _, pid, path = background(case, "--log-file", log)
    guest = rawguest.Guest(connect_once(path), ip4=HOST4)
    guest.alive()
    os.kill(pid, signal.SIGUSR1)
    wait_for(lambda: re.search(r"rx-frames +[1-9]", open(log).read()), "the counters are in the log")
    guest.close()
    end(pid)


def log_daemon(path):
    """Listens as a log daemon does, in the place of one that was there."""
    if os.path.exists(path):
        os.unlink(path)
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.bind(path)
    os.chmod(path, 0o777)
    heard.settimeout(10)
    return heard


@test
def a_daemon_without_log_file_logs_to_the_system_log(case):
    heard = log_daemon(case.path("devlog"))
    pid_file, path = case.pid_file(), case.path("s")
    dev = "mount -t tmpfs dev /dev && mknod -m 666 /dev/null c 1 3 && ln -s %s /dev/log && exec \"$@\"" % heard.getsockname()
    done = case.net.host.run("unshare", "-m", "sh", "-c", dev, "sh", case.program("passt"), "-s", path, "-P", pid_file)
    assert done.returncode == 0, done.stderr
    pid = int(open(pid_file).read())
    for again in (False, True):
        if again:
            heard.close()
            heard = log_daemon(case.path("devlog"))
        os.kill(pid, signal.SIGUSR1)
        line = heard.recv(2000).decode()
        assert re.match(r"<\d+>\w{3} [ \d]\d \d\d:\d\d:\d\d passt\[%d\]: " % pid, line), line
    heard.close()
    end(pid)


@test
def threads_have_names(case):
    daemon = case.start("--shards", "3")
    case.guest()
    names = daemon.threads()
    for word in ("shard", "control", "reader"):
        assert any(word in n for n in names), names
    assert sum("shard" in n for n in names) == 3, names


@test
def threads_are_pinned_in_order(case):
    allowed = sorted(os.sched_getaffinity(0))
    daemon = case.start("--shards", "2", "--cpus", ",".join(map(str, allowed[:2])))
    case.guest()
    seen, first, second = {}, {allowed[0]}, {allowed[1 % len(allowed)]}
    for tid in os.listdir("/proc/%d/task" % daemon.pid):
        with open("/proc/%d/task/%s/comm" % (daemon.pid, tid)) as file:
            seen[file.read().strip()] = os.sched_getaffinity(int(tid))
    for name, cpus in (("reader", first), ("control", second), ("shard-0", first), ("shard-1", second)):
        assert seen[name] == cpus, "%s is not on %s: %s" % (name, cpus, seen)


@test
def there_is_a_shard_for_each_cpu_that_may_be_used(case):
    allowed = sorted(os.sched_getaffinity(0))
    for cpus in (allowed[:1], allowed):
        with_shards = Daemon(case, ("taskset", "-c", ",".join(map(str, cpus)), case.program(), "-f", "-s", case.path("s")))
        case.daemons.append(with_shards)
        with_shards.wait_log(r"\b%d shards?\b" % min(len(cpus), 8))
        assert with_shards.terminate() == 0


@test
def a_cpu_outside_the_allowed_set_is_an_error(case):
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Skip("one CPU")
    done = case.net.host.run("taskset", "-c", str(allowed[0]), case.program(), "-s", case.path("s"), "--cpus",
                             str(allowed[1]), check=False)
    assert done.returncode == 1 and "CPU %d" % allowed[1] in done.stderr, done.stderr


@rows(("inline off serves", ("--inline", "off")), ("inline on serves", ("--inline", "on")),
      ("busy polling serves", ("--busy-poll", "50")), ("one shard serves", ("--shards", "1")),
      ("eight shards serve", ("--shards", "8")), ("few flows serve", ("--flows", "1024")))
def _(case, options):
    conn, peer = case.pair(*options)
    conn.write(b"hello")
    assert peer.recv(10) == b"hello"
    peer.sendall(b"world")
    assert conn.wait_data(5) == b"world"


@test
def a_shard_that_polls_hears_its_sockets_and_its_guest(case):
    """It polls for a second at a time: each question and each answer would wait for the rest of one."""
    conn, peer = case.pair("--busy-poll", 1000000, "--shards", 1)
    begin = time.monotonic()
    for i in range(20):
        conn.write(b"question")
        assert peer.recv(8) == b"question"
        peer.sendall(b"answer")
        conn.wait_data(6 * (i + 1))
    assert time.monotonic() - begin < 10


@test
def a_full_flow_table_resets_or_drops_and_serves_again(case):
    limit = 256
    case.start("--flows", limit, "--shards", "1")
    guest = case.guest()
    server = case.net.remote.tcp_server(FAR4)
    conns = [rawtcp.Tcp(guest, FAR4, server.getsockname()[1], 20000 + i) for i in range(600)]
    for conn in conns:
        conn.send(wire.SYN)
    guest.pump(1)
    open_now = [c for c in conns if c.rcv_nxt is not None and not c.reset]
    assert limit <= len(open_now) <= 2 * limit, len(open_now)  # each shard has some to spare
    told = case.daemons[-1].counters()
    assert told.get("drop-flows-full"), told
    for conn in open_now:
        conn.abort()
    guest.pump(0.5)
    conn = rawtcp.connect(guest, FAR4, server.getsockname()[1], 50000)
    assert not conn.reset


@test
def running_out_of_descriptors_is_survived(case):
    path = case.path("s")
    daemon = Daemon(case, ("prlimit", "--nofile=64:64", case.program(), "-f", "-s", path, "--shards", "1"))
    daemon.socket = path
    case.daemons.append(daemon)
    guest = rawguest.connect(path, ip4=HOST4)
    case.guests.append(guest)
    guest.alive()
    server = case.net.remote.tcp_server(FAR4)
    conns = [rawtcp.Tcp(guest, FAR4, server.getsockname()[1], 20000 + i) for i in range(150)]
    for conn in conns:
        conn.send(wire.SYN)
    guest.pump(1)
    good = [c for c in conns if c.rcv_nxt is not None and not c.reset]
    assert 0 < len(good) < 150
    told = daemon.counters()
    assert told.get("drop-fd-limit"), told
    guest.alive()
    for conn in good:
        conn.abort()
    guest.pump(0.5)
    conn = rawtcp.connect(guest, FAR4, server.getsockname()[1], 50000)
    assert not conn.reset


@test
def with_no_network_it_starts_and_takes_up_what_comes(case):
    case.net = Net(offline=True)
    case.start()
    guest = case.guest(ip4="169.254.2.1", ip6=None, resolve=False)
    guest.alive("169.254.2.2")
    case.net.connect()
    time.sleep(0.5)
    guest.ip4 = HOST4
    guest.alive()
    server = case.net.remote.tcp_server(FAR4)
    conn = rawtcp.connect(guest, FAR4, server.getsockname()[1])
    conn.write(b"x")


@test
def memory_at_rest_with_two_shards_is_at_most_8_mib(case):
    daemon = case.start("--shards", "2")
    case.guest()
    resident = daemon.memory_kb()
    if os.environ.get("ASAN_OPTIONS") and b"asan" in open(Options.taploom, "rb").read():
        return
    assert resident <= 8192, "%d KiB" % resident


@test
def it_does_nothing_at_rest(case):
    daemon = case.start("--shards", "2")
    case.guest()
    time.sleep(0.5)

    def switches():
        total = 0
        for tid in os.listdir("/proc/%d/task" % daemon.pid):
            with open("/proc/%d/task/%s/status" % (daemon.pid, tid)) as file:
                total += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", file.read())))
        return total
    before = switches()
    time.sleep(2)
    assert switches() - before < 20, "%d wake-ups in 2 s" % (switches() - before)


if __name__ == "__main__":
    sys.exit(main())
