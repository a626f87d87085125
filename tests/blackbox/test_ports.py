#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The grammar of -t and -u by its effects: what is bound where, and to which port of the guest it leads."""
import os
import re
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import rawtcp
from netns import FAR4, HOST4, HOST6
from suite import Daemon, Options, main, rows, test, wait_for


def bound(case, proto="t"):
    """{(address, port)} of the listeners in the host's namespace; both versions in one socket count as *."""
    out = case.net.host.run("ss", "-Hln" + proto).stdout
    found = set()
    for line in out.splitlines():
        addr, _, port = line.split()[3].rpartition(":")
        found.add((addr.strip("[]"), int(port)))
    return found


def ports(case, proto="t"):
    return {port for _, port in bound(case, proto)}


def ready_ports(case, *options):
    """What is bound once a daemon in the background says that all is ready."""
    done = case.run("-s", case.path("s"), "-P", case.pid_file(), *options)
    assert done.returncode == 0, done.stderr[-1000:]
    return ports(case)


@rows(("none binds nothing", ("none",), set()), ("a port alone is bound", ("22",), {22}),
      ("a list of ports is bound", ("22,80,443",), {22, 80, 443}), ("a range of ports is bound", ("22-25",), set(range(22, 26))),
      ("a translated port is bound", ("22:2222",), {22}), ("a translated range is bound", ("22-24:1022-1024",), {22, 23, 24}),
      ("ranges and ports mix", ("22,80-82,443:8443",), {22, 80, 81, 82, 443}),
      ("an excluded port is left out", ("20-25,~22",), {20, 21, 23, 24, 25}),
      ("an excluded range is left out", ("20-30,~22-28",), {20, 21, 29, 30}),
      ("several options add up", ("22", "80"), {22, 80}))
def _(case, specs, wanted):
    for letter in "tu":
        case.start(*(word for spec in specs for word in ("-" + letter, spec)))
        got = ports(case, letter)
        assert got == wanted, "-%s: %s" % (letter, sorted(got))
        case.daemons[-1].terminate()


@test
def nothing_is_bound_by_default(case):
    case.start()
    assert ports(case) == set() and ports(case, "u") == set()


@rows(("an IPv4 address is bound alone", "192.0.2.2/7000", {("192.0.2.2", 7000)}),
      ("an IPv6 address is bound alone", "2001:db8::2/7000", {("2001:db8::2", 7000)}),
      ("the loopback address is bound alone", "127.0.0.1/7000", {("127.0.0.1", 7000)}),
      ("an address and a list share the address", "127.0.0.1/7000,7001", {("127.0.0.1", 7000), ("127.0.0.1", 7001)}),
      ("an interface is bound to", "%h0/7000", {("*%h0", 7000)}),
      ("an address on an interface is bound to", "192.0.2.2%h0/7000", {("192.0.2.2%h0", 7000)}))
def _(case, spec, wanted):
    case.start("-t", spec)
    assert bound(case) == wanted, bound(case)


@test
def one_dual_stack_socket_serves_both_versions(case):
    case.start("-t", "7000", "-u", "7000")
    assert bound(case) == {("*", 7000)} and bound(case, "u") == {("*", 7000)}, (bound(case), bound(case, "u"))


@rows(("a port leads to the same port of the guest", "7000", 7000, 7000), ("a translated port leads to its target", "7000:80",
                                                                          7000, 80),
      ("a translated range leads to the port at the same place", "7000-7010:80-90", 7003, 83),
      ("a range without targets leads to the same ports", "7000-7010", 7004, 7004))
def _(case, spec, host_port, guest_port):
    guest = case.joined("-t", spec, "-u", spec)
    peer = case.net.remote.tcp_client(HOST4, host_port, blocking=False)
    conn = rawtcp.accept(guest, guest_port)
    peer.settimeout(10)
    conn.write(b"x")
    assert peer.recv(1) == b"x"
    sock = case.net.remote.udp(FAR4)
    sock.sendto(b"d", (HOST4, host_port))
    got = guest.expect(lambda f: f.kind == "udp" and f.dport == guest_port, "the datagram")
    guest.send(guest.udp(FAR4, got.sport, b"r", sport=guest_port))
    data, where = sock.recvfrom(10)
    assert data == b"r" and where[1] == host_port, "answered from port %d" % where[1]


@test
def a_port_bound_to_the_loopback_is_not_reached_from_outside(case):
    case.start("-t", "127.0.0.1/7000")
    peer = case.net.remote.tcp_client(HOST4, 7000, blocking=False)
    peer.settimeout(5)
    try:
        peer.recv(1)
        raise AssertionError("connected")
    except ConnectionRefusedError:
        pass


@test
def all_binds_every_port_below_the_ephemeral_range(case):
    case.net.host.sysctl("net.ipv4.ip_local_port_range", "2000 60999")
    got = ready_ports(case, "-t", "all")
    assert set(range(1024, 2000)) <= got, "%d ports are bound" % len(got)
    assert not any(2000 <= p <= 60999 for p in got), "an ephemeral port is bound"


@test
def all_binds_the_ports_above_the_ephemeral_range(case):
    case.net.host.sysctl("net.ipv4.ip_local_port_range", "2000 65000")
    got = ready_ports(case, "-t", "all,~1-1900")
    assert got == set(range(1901, 2000)) | set(range(65001, 65536)), "%d ports are bound" % len(got)


@rows(("a port that is taken is left out of a list beside all", "1200-1202,all"),
      ("all before a list means its ports", "all,1200-1202"))
def _(case, spec):
    taken = case.net.host.tcp_server("0.0.0.0", 1201)
    assert ready_ports(case, "-t", spec) == {1200, 1201, 1202}  # 1201 is the other's
    taken.close()


@test
def all_skips_a_port_that_is_taken(case):
    case.net.host.sysctl("net.ipv4.ip_local_port_range", "1500 65535")
    taken = case.net.host.tcp_server("0.0.0.0", 1234)
    assert 1235 in ready_ports(case, "-t", "all")
    taken.close()


@test
def all_with_an_exclusion_leaves_that_out(case):
    case.net.host.sysctl("net.ipv4.ip_local_port_range", "1500 65535")
    got = ready_ports(case, "-t", "~1100-1200")
    assert 1099 in got and 1201 in got and not got & set(range(1100, 1201))


@rows(("a port of 0 is named", "0", "0"), ("a port above 65535 is named", "65536", "65536"), ("a word is named", "ssh", "ssh"),
      ("a range turned round is named", "80-22", "80-22"), ("ranges of other lengths are named", "22-25:80-90", "22-25"),
      ("an address that is none is named", "999.1.1.1/22", "999.1.1.1"), ("an empty part is refused", "22,,23", "22,,23"),
      ("auto is refused for a VM", "auto", "auto"), ("a dangling range is refused", "22-", "22-"),
      ("ports given twice are refused", "20-30,25", "20-30"))
def _(case, spec, part):
    for option in ("-t", "-u"):
        done = case.run("-f", "-s", case.path("s"), option, spec, timeout=5)
        assert done.returncode == 1, "status %d for %s %s" % (done.returncode, option, spec)
        assert part in done.stderr, done.stderr
        assert not os.path.exists(case.path("s")), "the socket stayed"


@rows(("a TCP port in use is told in the callers' words", "-t", socket.SOCK_STREAM),
      ("a UDP port in use is told in the callers' words", "-u", socket.SOCK_DGRAM))
def _(case, option, kind):
    taken = case.net.host.socket(kind, "0.0.0.0", 45871)
    pid = case.pid_file()
    done = case.run("-s", case.path("s"), "-P", pid, option, "45871", timeout=10)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr and "45871" in done.stderr, done.stderr
    if not Options.peer:
        assert re.search(r"Listen failed for HOST (TCP|UDP) port \*/45871: Address already in use", done.stderr), done.stderr
        assert "Couldn't listen on requested ports" in done.stderr, done.stderr
    assert not os.path.exists(case.path("s")) and not os.path.exists(pid), "something was left behind"
    taken.close()


@rows(("an interface that is not there is named", "%nope0/7000", "*%nope0/7000: No such device"),
      ("an address of others is named", "8.8.8.8/7000", "8.8.8.8/7000: Cannot assign requested address"),
      ("a link-local address without interface is told what it lacks", "fe80::1/7000", "takes its interface too"))
def _(case, spec, said):
    for option in ("-t", "-u"):
        done = case.run("-q", "-s", case.path("s"), "-P", case.pid_file(), option, spec, timeout=10)
        assert done.returncode == 1 and said in done.stderr and "Couldn't listen on requested ports" in done.stderr, done.stderr
        assert not os.path.exists(case.path("s")) and not os.path.exists(case.path("pid")), "something was left behind"


@test
def a_second_daemon_on_the_same_port_fails(case):
    case.start("-t", "45872")
    done = case.run("-f", "-s", case.path("other"), "-t", "45872", timeout=10)
    assert done.returncode == 1 and "Address already in use" in done.stderr


@test
def ports_are_free_again_at_once_after_the_end(case):
    for _ in range(3):
        daemon = case.start("-t", "45873", "-u", "45873")
        assert daemon.terminate() == 0
    assert ports(case) == set()


@test
def a_connection_before_a_guest_is_there_is_not_accepted_for_ever(case):
    case.start("-t", "7000")
    peer = case.net.remote.tcp_client(HOST4, 7000, blocking=False)
    wait_for(lambda: case.daemons[0].counters().get("accepted"), "it is accepted")
    guest = case.guest()
    peer.setblocking(False)

    def ended():
        try:
            return peer.recv(1) == b""
        except (ConnectionResetError, ConnectionRefusedError):
            return True
        except BlockingIOError:
            return False

    def asked():
        guest.pump(0.1)
        return any(f.kind == "tcp" and f.dport == 7000 for f in guest.backlog)
    wait_for(lambda: ended() or asked(), "the peer hears of the end, or the guest of the connection", 30)


@test
def ipv6_reaches_a_forwarded_port_on_an_ipv6_address(case):
    guest = case.joined("-t", "2001:db8::2/7000")
    peer = case.net.remote.tcp_client(HOST6, 7000, blocking=False)
    conn = rawtcp.accept(guest, 7000)
    peer.settimeout(10)
    conn.write(b"six")
    assert peer.recv(10) == b"six"


@test
def connections_given_up_before_there_was_a_guest_leave_nothing(case):
    daemon = case.start("-t", "7000")
    before = daemon.fds()
    clients = [case.net.remote.tcp_client(HOST4, 7000) for _ in range(20)]
    wait_for(lambda: daemon.fds() >= before + len(clients), "they are accepted")
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    wait_for(lambda: daemon.fds() <= before, "their sockets are closed")
    kept = case.net.remote.tcp_client(HOST4, 7000)
    guest = case.guest()
    conn = rawtcp.accept(guest, 7000)
    conn.write(b"six")
    assert kept.recv(10) == b"six"


def was_reset(client):
    try:
        client.setblocking(False)
        return client.recv(1) == b"" and False
    except ConnectionResetError:
        return True
    except BlockingIOError:
        return False


@test
def connections_for_which_no_descriptor_is_left_are_refused_and_cost_nothing(case):
    path = case.path("s")
    daemon = Daemon(case, ("prlimit", "--nofile=64:64", case.program(), "-f", "-s", path, "-t", "7000"))
    daemon.socket = path
    case.daemons.append(daemon)
    daemon.wait_log("Forwarding TCP: 1 ports bound")
    guest = case.guest(daemon)
    clients = [case.net.remote.tcp_client(HOST4, 7000, blocking=False) for _ in range(150)]
    case.cleanups += [client.close for client in clients]
    reset = set()  # a socket tells of its reset once

    def many_are_reset():
        guest.pump(0.05)
        reset.update(client for client in clients if client not in reset and was_reset(client))
        return len(reset) > 80

    wait_for(many_are_reset, "those beyond the limit are reset", 10)
    before = daemon.counters()
    guest.pump(1)
    after = daemon.counters()
    assert after["drop-fd-limit"] == before["drop-fd-limit"] > 80, (before, after)
    assert after["loops"] - before["loops"] < 500, after["loops"] - before["loops"]


@test
def too_few_descriptors_for_all_ports_is_told_with_the_number(case):
    case.net.host.sysctl("net.ipv4.ip_local_port_range", "32768 60999")
    done = case.net.host.run("prlimit", "--nofile=1000:1000", case.program(), "-f", "-s", case.path("s"), "-t", "all",
                             "-u", "all", check=False, timeout=20)
    assert done.returncode == 1, done.returncode
    assert re.search(r"\b\d{5,}\b", done.stderr) and re.search(r"descriptor|open files|nofile|ulimit", done.stderr, re.I), \
        done.stderr[-500:]
    assert not os.path.exists(case.path("s"))


if __name__ == "__main__":
    sys.exit(main())
