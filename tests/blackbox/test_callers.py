#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The command lines of those who start such a daemon for a VM, and what each of them relies on."""
import os
import re
import signal
import socket
import stat
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import rawguest
import rawtcp
from netns import FAR4, HOST4
from suite import Daemon, main, rows, test, wait_for


def pid_in(path):
    with open(path) as file:
        text = file.read()
    assert re.fullmatch(r"\d+\n", text), "the PID file holds %r" % text
    return int(text)


def ended(pid):
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def terminate(pid):
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: ended(pid), "SIGTERM ends it")


def served(guest):
    """The guest gets an answer."""
    guest.alive()
    return guest


def libvirt(case, *more):
    """passt as libvirt starts it; returns (result, socket, PID file)."""
    path, pid = case.path("vm-net0.socket"), case.pid_file("vm-net0-passt.pid")
    return case.run("--one-off", "--socket", path, "--pid", pid, *more, name="passt"), path, pid


LIBVIRT = (
    ("libvirt's plain interface is served", (), None),
    ("libvirt's MTU, interface and names are taken", ("--mtu", "1400", "--interface", "h0", "--hostname", "vm1",
                                                     "--fqdn", "vm1.example.org"), None),
    ("libvirt's addresses are taken", ("--address", "10.5.6.7", "--netmask", "24", "--address", "2001:db8:5::7"), None),
    ("libvirt's single port is forwarded", ("--tcp-ports", "2022:22"), 2022),
    ("libvirt's ranges and exclusions are forwarded", ("--tcp-ports", "2000-2010:3000-3010,~2005", "--udp-ports",
                                                      "5000-5010"), 2004),
    ("libvirt's address and device are bound", ("--tcp-ports", "192.0.2.2%h0/2022:22"), 2022),
)


@rows(*LIBVIRT)
def _(case, options, port):
    done, path, pid_file = libvirt(case, *options)
    assert done.returncode == 0, done.stderr
    pid = pid_in(pid_file)
    guest = rawguest.Guest(connected(path), ip4="10.5.6.7" if "10.5.6.7" in options else HOST4)
    served(guest)
    if port:
        assert ":%d" % port in case.net.host.run("ss", "-Hlnt").stdout
    guest.close()
    wait_for(lambda: ended(pid), "one-off ends it")


def connected(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(path)
    return sock


@test
def libvirts_pid_file_is_the_owners_alone_and_the_output_ends(case):
    done, path, pid_file = libvirt(case)  # reads the output to its end
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(os.stat(pid_file).st_mode) == 0o600
    for fd in range(3):
        assert os.readlink("/proc/%d/fd/%d" % (pid_in(pid_file), fd)) == "/dev/null"
    terminate(pid_in(pid_file))


@test
def libvirts_guest_may_come_again_with_reconnect(case):
    """Without --one-off, as before libvirt 9.3: QEMU's reconnect finds the same daemon."""
    path, pid_file = case.path("vm-net0.socket"), case.pid_file("vm-net0-passt.pid")
    assert case.run("--socket", path, "--pid", pid_file, name="passt").returncode == 0
    for _ in range(3):
        served(rawguest.Guest(connected(path), ip4=HOST4)).close()
    assert not ended(pid_in(pid_file))
    terminate(pid_in(pid_file))


@test
def libvirts_log_file_gets_the_log(case):
    log = case.path("passt.log")
    done, _, pid_file = libvirt(case, "--log-file", log)
    assert done.returncode == 0, done.stderr
    assert HOST4 in open(log).read()
    terminate(pid_in(pid_file))


@test
def libvirts_failure_is_one_status_and_a_text(case):
    done, path, pid_file = libvirt(case, "--interface", "nope0")
    assert done.returncode == 1 and "nope0" in done.stderr
    assert not os.path.exists(path) and not os.path.exists(pid_file)


@test
def libvirt_may_kill_it_by_the_pid_file(case):
    done, path, pid_file = libvirt(case)
    assert done.returncode == 0
    pid = pid_in(pid_file)
    terminate(pid)
    assert os.path.exists(pid_file) and not os.path.exists(path)


@test
def libvirts_guest_may_connect_late(case):
    done, path, pid_file = libvirt(case)
    assert done.returncode == 0
    for _ in range(3):
        assert not ended(pid_in(pid_file))
    served(rawguest.Guest(connected(path), ip4=HOST4)).close()
    wait_for(lambda: ended(pid_in(pid_file)), "one-off ends it")


QEMU_ALL = ("--mtu", "1500", "--address", "192.0.2.2", "--netmask", "255.255.255.0", "--mac-addr", "9a:55:9a:55:9a:56",
            "--gateway", "192.0.2.1", "--interface", "h0", "--outbound", "192.0.2.2", "--outbound-if4", "h0",
            "--outbound-if6", "h0", "--dns", "198.51.100.53", "--fqdn", "vm.example.org", "--no-dhcp-dns",
            "--no-dhcp-search", "--map-host-loopback", "192.0.2.1", "--map-guest-addr", "192.0.2.98", "--dns-forward",
            "192.0.2.97", "--dns-host", "198.51.100.53", "--no-ra", "--freebind", "--search", "a.example b.example",
            "--tcp-ports", "2022,2023", "--udp-ports", "2053,2054")


@rows(("QEMU's shortest command line is served", ()), ("QEMU's every option is taken", QEMU_ALL),
      ("QEMU's switches are taken", ("--no-tcp", "--no-udp", "--no-icmp", "--no-dhcp", "--no-ndp", "--no-dhcpv6", "--no-ra")),
      ("QEMU's ipv4-only is taken", ("--ipv4-only",)))
def _(case, options):
    ours, theirs = socket.socketpair()
    pid_file = case.pid_file("passt-AbCdEf.pid")
    os.close(os.open(pid_file, os.O_CREAT | os.O_RDWR, 0o600))
    done = case.run("--quiet", *options, "--pid", pid_file, "--fd", theirs.fileno(), pass_fds=(theirs.fileno(),),
                    name="passt")
    theirs.close()
    assert done.returncode == 0, done.stderr
    pid = pid_in(pid_file)
    guest = rawguest.Guest(ours, ip4=HOST4)
    served(guest)
    guest.close()
    wait_for(lambda: ended(pid), "it ends with the connection")


@test
def qemu_may_terminate_it_by_the_pid_file(case):
    ours, theirs = socket.socketpair()
    pid_file = case.pid_file("passt-x.pid")
    done = case.run("--quiet", "--pid", pid_file, "--fd", theirs.fileno(), pass_fds=(theirs.fileno(),), name="passt")
    theirs.close()
    assert done.returncode == 0, done.stderr
    terminate(pid_in(pid_file))
    ours.close()


@test
def qemus_user_may_add_debug_to_quiet(case):
    ours, theirs = socket.socketpair()
    pid_file = case.pid_file("passt-x.pid")
    done = case.run("--quiet", "--debug", "--pid", pid_file, "--fd", theirs.fileno(), pass_fds=(theirs.fileno(),),
                    name="passt")
    theirs.close()
    assert done.returncode == 0, done.stderr
    served(rawguest.Guest(ours, ip4=HOST4)).close()


GET_FEATURES, VHOST_USER_VERSION, REPLY = 1, 1, 4


def asks_for_features(sock):
    """A vhost-user front-end's first question is answered ("Message Specification" of its protocol)."""
    sock.settimeout(10)
    sock.sendall(struct.pack("=III", GET_FEATURES, VHOST_USER_VERSION, 0))
    request, flags, size, features = struct.unpack("=IIIQ", sock.recv(20, socket.MSG_WAITALL))
    assert request == GET_FEATURES and flags & REPLY and size == 8 and features & 1 << 32, "%x" % features


@test
def qemus_vhost_user_command_line_is_served(case):
    ours, theirs = socket.socketpair()
    pid_file = case.pid_file("passt-x.pid")
    done = case.run("--vhost-user", "--quiet", "--pid", pid_file, "--fd", theirs.fileno(), pass_fds=(theirs.fileno(),),
                    name="passt")
    theirs.close()
    assert done.returncode == 0, done.stderr
    asks_for_features(ours)
    ours.close()
    wait_for(lambda: ended(pid_in(pid_file)), "it ends with the connection")


KUBEVIRT = (("KubeVirt's command line for all ports is served", "all", "all", 1999, 2000),
            ("KubeVirt's command line for listed ports is served", "1080,1443", "1053", 1443, 1444),
            ("KubeVirt's command line with Istio is served", "~1501,~1506", "~1501", 1500, 1501))


@rows(*KUBEVIRT)
def _(case, tcp, udp, bound, left_out):
    case.net.host.sysctl("net.ipv4.ip_unprivileged_port_start", "0")
    case.net.host.sysctl("net.ipv4.ip_local_port_range", "2000 65535")
    path, pid_file, log = case.path("vm-net0.socket"), case.pid_file("vm-net0-passt.pid"), case.path("passt.log")
    done = case.run("--vhost-user", "--one-off", "--socket", path, "--pid", pid_file, "--interface", "h0", "--log-file",
                    log, "--tcp-ports", tcp, "--udp-ports", udp, name="passt")
    assert done.returncode == 0, done.stderr[-500:]
    listening = case.net.host.run("ss", "-Hlnt").stdout
    assert ":%d " % bound in listening and ":%d " % left_out not in listening, listening
    assert HOST4 in open(log).read()
    guest = connected(path)
    asks_for_features(guest)
    guest.close()
    wait_for(lambda: ended(pid_in(pid_file)), "one-off ends it")


@rows(("crun's TCP only command line is served", ("-t", "all")),
      ("crun's command line with UDP is served", ("-t", "all", "-u", "all", "--no-dhcp-dns")))
def _(case, options):
    case.net.host.sysctl("net.ipv4.ip_local_port_range", "1500 65535")
    ours, theirs = socket.socketpair()
    done = case.run(*options, "--no-map-gw", "--fd", theirs.fileno(), pass_fds=(theirs.fileno(),), name="passt")
    theirs.close()
    assert done.returncode == 0, done.stderr[-500:]
    guest = rawguest.Guest(ours, ip4=HOST4)
    served(guest)
    peer = case.net.remote.tcp_client(HOST4, 1234, blocking=False)
    conn = rawtcp.accept(guest, 1234)
    peer.settimeout(5)
    conn.write(b"crun")
    assert peer.recv(10) == b"crun"
    guest.close()
    wait_for(lambda: "1234" not in case.net.host.run("ss", "-Hlnt").stdout, "it ends with the connection")


@test
def muvms_foreground_command_line_is_served(case):
    ours, theirs = socket.socketpair()
    daemon = Daemon(case, (case.program("passt"), "-q", "-f", "--fd", str(theirs.fileno()), "-t",
                           "127.0.0.1/3334-3335:3334-3335"), pass_fds=(theirs.fileno(),))
    case.daemons.append(daemon)
    theirs.close()
    guest = rawguest.Guest(ours, ip4=HOST4)
    served(guest)
    peer = case.net.host.tcp_client("127.0.0.1", 3334, blocking=False)
    conn = rawtcp.accept(guest, 3334)
    peer.settimeout(5)
    conn.write(b"muvm")
    assert peer.recv(10) == b"muvm"
    guest.close()
    daemon.wait()


@test
def muvm_may_join_a_running_one_by_its_socket(case):
    case.start(name="passt")
    server = case.net.remote.tcp_server(FAR4)
    conn = rawtcp.connect(case.guest(), FAR4, server.getsockname()[1])
    conn.write(b"x")
    assert server.accept()[0].recv(1) == b"x"


@test
def an_unknown_option_is_told_in_the_callers_words(case):
    done = case.run("--bogus", name="passt")
    assert done.returncode == 1
    assert re.search(r"passt: unrecognized option '--bogus'", done.stderr), done.stderr


NOOPS = ("--stderr", "--no-copy-routes", "--no-copy-addrs", "--migrate-exit", "--migrate-no-linger", "--dhcp-dns",
         "--dhcp-search")


@rows(*(("%s is accepted" % option, option) for option in NOOPS[:1] + NOOPS[3:5]))
def _(case, option):
    case.start(option, name="passt")
    case.guest().alive()


if __name__ == "__main__":
    sys.exit(main())
