#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 600
"""The command lines of those who start such a daemon for a namespace, and what each of them relies on."""
import os
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from netns import FAR4, FAR6, HOST4, HOST6, Namespace
from nsguest import NsGuest, addresses, echoes, ended, link
from suite import Daemon, main, rows, test, wait_for

NONE = ("-t", "none", "-u", "none", "-T", "none", "-U", "none")
USER = 61234  # an ordinary user, whom no file names


def guest_ns(case):
    ns = Namespace("g")
    case.cleanups.append(ns.delete)
    return ns


def pid_in(path):
    with open(path) as file:
        text = file.read()
    assert re.fullmatch(r"\d+\n", text), "the PID file holds %r" % text
    return int(text)


def started(case, *options, rc=0, **kw):
    """Runs pasta to the parent's end with the streams read to end of file; returns (result, PID of the daemon)."""
    pid_file = case.pid_file()
    done = case.run("--pid", pid_file, *options, name="pasta", **kw)
    assert done.returncode == rc, "status %d: %s" % (done.returncode, done.stderr)
    return done, pid_in(pid_file) if rc == 0 else 0


def podman(case, ns, *options, **kw):
    """Podman's command line, its --map-guest-addr last."""
    return started(case, "--config-net", *options, "--dns-forward", "169.254.1.1", *NONE, "--no-map-gw", "--quiet",
                   "--netns", "/run/netns/" + ns.name, "--map-guest-addr", "169.254.1.2", **kw)


def gone(case, pid, what):
    wait_for(lambda: ended(pid), what, 3)


# Podman and Buildah


@test
def podman_finds_all_addresses_when_the_start_returns(case):
    ns = guest_ns(case)
    podman(case, ns)
    assert addresses(ns) == {HOST4: 24, HOST6: 64}, addresses(ns)
    routes = ns.run("ip", "route").stdout + ns.run("ip", "-6", "route").stdout
    assert "default via 192.0.2.1" in routes and "default via fe80::1" in routes, routes
    assert link(ns)["ifname"] == "h0" and link(ns)["mtu"] == 65520, link(ns)
    assert "tentative" not in ns.run("ip", "-6", "addr").stdout
    assert "UP" in ns.run("ip", "link", "show", "lo").stdout


@test
def podman_gets_no_output_from_a_quiet_start(case):
    done, _ = podman(case, guest_ns(case), "--runas", "0")
    assert done.stdout + done.stderr == "", done.stdout + done.stderr


@test
def podman_reaches_the_network_and_the_names(case):
    ns = guest_ns(case)
    server, dns = case.net.remote.tcp_server(FAR4), case.net.remote.udp("198.51.100.53", 53)
    podman(case, ns)
    client = ns.tcp_client(FAR4, server.getsockname()[1])
    client.sendall(b"podman")
    assert server.accept()[0].recv(10) == b"podman"
    with ns:
        asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asker.settimeout(5)
    asker.sendto(b"question", ("169.254.1.1", 53))
    question, peer = dns.recvfrom(100)
    dns.sendto(b"answer", peer)
    assert question == b"question" and asker.recvfrom(100) == (b"answer", ("169.254.1.1", 53))


@test
def podman_reaches_the_host_by_the_mapped_address(case):
    ns = guest_ns(case)
    server = case.net.host.tcp_server(HOST4)
    podman(case, ns)
    ns.tcp_client("169.254.1.2", server.getsockname()[1]).sendall(b"x")
    assert server.accept()[0].recv(1) == b"x"


@rows(("podman's port is forwarded", "5000-5000:5000-5000", 5000, 5000),
      ("podman's translated range is forwarded", "5000-5004:6000-6004", 5003, 6003),
      ("podman's port of one address is forwarded", HOST4 + "/5000-5000:80-80", 5000, 80))
def _(case, spec, outside, inside):
    ns = guest_ns(case)
    for flag in ("-t", "-u"):
        assert flag  # both protocols, one daemon
    done, pid = started(case, "--config-net", "-t", spec, "-u", spec, "-T", "none", "-U", "none", "--no-map-gw",
                        "--quiet", "--netns", "/run/netns/" + ns.name)
    server, receiver = ns.tcp_server("0.0.0.0", inside), ns.udp("0.0.0.0", inside)
    client = case.net.remote.tcp_client(HOST4, outside)
    client.sendall(b"tcp")
    peer, address = server.accept()
    assert peer.recv(10) == b"tcp" and address[0] == "192.0.2.1", address
    with case.net.remote:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.settimeout(5)
    sender.sendto(b"udp", (HOST4, outside))
    payload, address = receiver.recvfrom(10)
    receiver.sendto(b"back", address)
    assert payload == b"udp" and sender.recvfrom(10) == (b"back", (HOST4, outside))


@rows(("podman's port of an address and interface is forwarded, TCP", "-t", HOST4, "h0"),
      ("podman's port of an address and interface is forwarded, UDP", "-u", HOST4, "h0"),
      ("podman's port of an address and interface is forwarded, TCP on loopback", "-t", "127.0.0.1", "lo"),
      ("podman's port of an address and interface is forwarded, UDP on loopback", "-u", "127.0.0.1", "lo"),
      ("podman's port of an address and interface is forwarded, TCP on loopback, IPv6", "-t", "::1", "lo"),
      ("podman's port of an address and interface is forwarded, UDP on loopback, IPv6", "-u", "::1", "lo"))
def _(case, flag, addr, interface):
    ns = guest_ns(case)
    any_addr = "::" if ":" in addr else "0.0.0.0"
    started(case, "--config-net", flag, "%s%%%s/5000-5002:6000-6002" % (addr, interface),
            "-u" if flag == "-t" else "-t", "none", "-T", "none", "-U", "none", "--no-map-gw", "--quiet",
            "--netns", "/run/netns/" + ns.name)
    for offset in range(3):
        if flag == "-t":
            server = ns.tcp_server(any_addr, 6000 + offset)
            client = case.net.host.tcp_client(addr, 5000 + offset)
            client.sendall(b"x")
            assert server.accept()[0].recv(1) == b"x"
        else:
            server, client = ns.udp(any_addr, 6000 + offset), case.net.host.udp(addr)
            client.sendto(b"x", (addr, 5000 + offset))
            payload, peer = server.recvfrom(10)
            server.sendto(payload, peer)
            assert client.recvfrom(10)[1][:2] == (addr, 5000 + offset)


@test
def podmans_port_of_both_any_addresses_is_forwarded(case):
    """As it asks for a port that is published for 0.0.0.0 and for ::."""
    ns = guest_ns(case)
    words = [word for flag in ("-t", "-u") for addr in ("0.0.0.0", "::")
             for word in (flag, addr + "/8080-8080:80-80")]
    started(case, "--config-net", *words, "-T", "none", "-U", "none", "--no-map-gw", "--quiet", "--netns",
            "/run/netns/" + ns.name)
    for any_addr, addr in (("0.0.0.0", HOST4), ("::", HOST6)):
        server, receiver = ns.tcp_server(any_addr, 80), ns.udp(any_addr, 80)
        case.net.remote.tcp_client(addr, 8080).sendall(b"x")
        assert server.accept()[0].recv(1) == b"x"
        case.net.remote.udp(any_addr).sendto(b"y", (addr, 8080))
        assert receiver.recv(10) == b"y"


@test
def an_option_of_containers_conf_is_overridden_on_the_command_line(case):
    ns = guest_ns(case)
    podman(case, ns, "-I", "first", "--ns-mac-addr", "9a:dd:31:ea:92:98", "-m", "1500",
           "-I", "myname", "--ns-mac-addr", "aa:bb:cc:dd:ee:ff", "-m", "1280")
    assert (link(ns)["ifname"], link(ns)["mtu"], link(ns)["address"]) == ("myname", 1280, "aa:bb:cc:dd:ee:ff"), link(ns)


@test
def podman_is_told_an_unknown_option_in_words_that_it_looks_for(case):
    done, _ = started(case, "--config-net", "--bogus", rc=1)
    assert "unrecognized option '--bogus'" in done.stderr, done.stderr


@test
def podman_is_told_a_port_in_use(case):
    ns = guest_ns(case)
    taken = case.net.host.tcp_server("0.0.0.0", 5000)
    done, _ = started(case, "--config-net", "-t", "5000-5000:5000-5000", "-u", "none", "-T", "none", "-U", "none",
                      "--quiet", "--netns", "/run/netns/" + ns.name, rc=1)
    taken.close()
    assert "5000" in done.stderr and "Address already in use" in done.stderr, done.stderr


@test
def podman_is_told_a_missing_namespace(case):
    done, _ = started(case, "--config-net", *NONE, "--quiet", "--netns", "/run/netns/no-such", rc=1)
    assert "no-such" in done.stderr and "No such file" in done.stderr, done.stderr


@test
def podman_may_remove_the_namespace_and_start_again_on_the_port_at_once(case):
    for _ in range(3):
        ns = guest_ns(case)
        pid = started(case, "--config-net", "-t", "5000-5000:5000-5000", "-u", "5000-5000:5000-5000", "-T", "none", "-U",
                      "none", "--quiet", "--netns", "/run/netns/" + ns.name)[1]
        ns.run("true")
        ns.delete()
        gone(case, pid, "the daemon ends with the namespace's path")


@test
def a_path_may_be_unmounted_while_it_is_served(case):
    """It is not busy, even for those who don't ask for a lazy unmount, and the daemon ends."""
    ns = guest_ns(case)
    pid = podman(case, ns)[1]
    subprocess.run(("umount", "/run/netns/" + ns.name), check=True, capture_output=True, text=True)
    gone(case, pid, "the daemon ends with the mount")


@test
def a_deleted_device_ends_the_daemon(case):
    ns = guest_ns(case)
    pid = podman(case, ns)[1]
    ns.run("ip", "link", "del", link(ns)["ifname"])
    gone(case, pid, "the daemon ends with the device")


@test
def rootless_podman_may_ask_and_end_it_by_the_pid_file(case):
    _, pid = podman(case, guest_ns(case))
    os.kill(pid, 0)
    os.kill(pid, signal.SIGTERM)
    gone(case, pid, "SIGTERM ends it")


@test
def buildah_names_the_namespace_by_a_process_and_its_end_ends_the_daemon(case):
    holder = subprocess.Popen(("unshare", "-n", "sleep", "1000"), stdin=subprocess.DEVNULL)
    case.cleanups.append(holder.kill)
    wait_for(lambda: os.readlink("/proc/%d/ns/net" % holder.pid) != os.readlink("/proc/self/ns/net"), "it has a namespace")
    pid = started(case, "--config-net", *NONE, "--no-map-gw", "--quiet", "--netns", "/proc/%d/ns/net" % holder.pid)[1]
    out = subprocess.run(("nsenter", "-t", str(holder.pid), "-n", "ip", "addr"), capture_output=True, text=True).stdout
    assert HOST4 in out and HOST6 in out, out
    holder.kill()
    holder.wait()
    gone(case, pid, "the daemon ends with the process")


@test
def podman_info_gets_a_version_by_the_name(case):
    done = case.run("--version", name="pasta")
    assert done.returncode == 0 and done.stdout.startswith("pasta ") and not done.stderr, (done.stdout, done.stderr)


# RootlessKit, and others


@rows(("rootlesskit's first probe succeeds", ("--version",)),
      ("rootlesskit's probe for loopback to loopback succeeds", ("--host-lo-to-ns-lo", "--version")))
def _(case, options):
    done = case.run(*options, name="pasta")
    assert done.returncode == 0 and done.stdout.startswith("pasta "), (done.stdout, done.stderr)


def rootlesskit(case, ports, *target):
    return started(case, "--stderr", "--ns-ifname=tap0", "--mtu=65520", "--config-net", "--address=10.0.2.100",
                   "--netmask=24", "--gateway=10.0.2.2", "--dns-forward=10.0.2.3", "--no-map-gw", "--ipv4-only",
                   "--tcp-ports=" + ports, "--udp-ports=" + ports, *target)


@rows(("rootlesskit's command line without ports is served", "none"),
      ("rootlesskit's command line with automatic ports is served", "auto"))
def _(case, ports):
    ns = guest_ns(case)
    server = case.net.remote.tcp_server(FAR4)
    rootlesskit(case, ports, "--netns=/run/netns/" + ns.name)
    assert addresses(ns) == {"10.0.2.100": 24}, addresses(ns)
    assert link(ns)["ifname"] == "tap0" and "default via 10.0.2.2" in ns.run("ip", "route").stdout
    ns.tcp_client(FAR4, server.getsockname()[1]).sendall(b"x")
    assert server.accept()[0].recv(1) == b"x"


@test
def rootlesskits_process_is_joined_and_its_end_ends_the_daemon(case):
    holder = subprocess.Popen(("unshare", "-Urn", "sleep", "1000"), stdin=subprocess.DEVNULL)
    case.cleanups.append(holder.kill)
    wait_for(lambda: os.readlink("/proc/%d/ns/net" % holder.pid) != os.readlink("/proc/self/ns/net"), "it has a namespace")
    pid = rootlesskit(case, "none", str(holder.pid))[1]
    out = subprocess.run(("nsenter", "-t", str(holder.pid), "-U", "-n", "ip", "addr"), capture_output=True, text=True)
    assert "10.0.2.100" in out.stdout, out
    holder.kill()
    holder.wait()
    gone(case, pid, "the daemon ends with the process")


@test
def the_wilds_short_command_line_is_served(case):
    holder = subprocess.Popen(("unshare", "-n", "sleep", "1000"), stdin=subprocess.DEVNULL)
    case.cleanups.append(holder.kill)
    wait_for(lambda: os.readlink("/proc/%d/ns/net" % holder.pid) != os.readlink("/proc/self/ns/net"), "it has a namespace")
    started(case, "--config-net", "--no-map-gw", "--ns-ifname", "egress0", "--ipv4-only", "--quiet", "-t", "none",
            str(holder.pid))
    out = subprocess.run(("nsenter", "-t", str(holder.pid), "-n", "ip", "addr"), capture_output=True, text=True).stdout
    assert "egress0" in out and HOST4 in out and HOST6 not in out, out


@test
def help_names_the_options_that_callers_look_for(case):
    out = case.run("--help", name="pasta").stdout
    for option in ("--pid", "--config-net", "--map-guest-addr", "--netns", "--userns", "--runas"):
        assert option in out, option


# Commands


def command(case, *words, options=(), user=None, timeout=30):
    """A command in a namespace of its own."""
    argv = (case.program("pasta"), "--config-net", *options, *NONE, "--quiet", "--", *words)
    if user:
        argv = ("setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *argv)
    return subprocess.run(case.net.host.command(*argv), capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL)


@rows(("a command's success is passed on", "exit 0", 0), ("a command's status is passed on", "exit 42", 42),
      ("a command's death by a signal is told as shells tell it", "kill -KILL $$", 137),
      ("a command that is not there gives 127", None, 127))
def _(case, script, status):
    done = command(case, "/no/such/command") if script is None else command(case, "sh", "-c", script)
    assert done.returncode == status, (done.returncode, done.stderr)


@rows(("root's command finds the network", None), ("an ordinary user's command finds the network", USER))
def _(case, user):
    server = case.net.remote.tcp_server(FAR4)
    case.net.remote.run("true")
    done = command(case, "sh", "-c", "id -u; ip addr; exec 3<>/dev/null; bash -c 'echo hi >/dev/tcp/%s/%d'"
                   % (FAR4, server.getsockname()[1]), user=user)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0\n") and HOST4 in done.stdout and HOST6 in done.stdout, done.stdout
    assert server.accept()[0].recv(10) == b"hi\n"


def unprivileged_holder(case):
    """A process of an ordinary user in a user and network namespace of its own."""
    argv = ("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "unshare", "-Urn", "sleep", "1000")
    holder = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    case.cleanups.append(holder.kill)

    def mapped():
        with open("/proc/%d/uid_map" % holder.pid) as file:
            return holder.poll() is None and str(USER) in file.read()
    wait_for(mapped, "the process has its namespaces")
    return holder


@rows(("an ordinary user may name a process", "pid"), ("an ordinary user may name both namespaces", "paths"))
def _(case, how):
    holder = unprivileged_holder(case)
    pid_file = case.pid_file("user.pid")
    target = (str(holder.pid),) if how == "pid" else ("--userns=/proc/%d/ns/user" % holder.pid,
                                                      "--netns=/proc/%d/ns/net" % holder.pid)
    argv = ("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", case.program("pasta"),
            "--config-net", *NONE, "--pid", pid_file, *target)
    done = subprocess.run(case.net.host.command(*argv), capture_output=True, text=True, timeout=20,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    pid = pid_in(pid_file)
    out = subprocess.run(("nsenter", "-t", str(holder.pid), "-U", "-n", "ip", "addr"), capture_output=True, text=True)
    assert HOST4 in out.stdout, out
    inside = subprocess.run(("nsenter", "-t", str(holder.pid), "-U", "-n", "ping", "-c1", "-W5", FAR4),
                            capture_output=True, text=True)
    holder.kill()
    holder.wait()
    gone(case, pid, "the daemon ends with the process")
    assert inside.returncode == 0, inside.stdout + inside.stderr


@test
def sigterm_ends_the_command_too(case):
    path = case.path("child")
    daemon = Daemon(case, (case.program("pasta"), "-f", "--config-net", *NONE, "--quiet", "--", "sh", "-c",
                           "echo $$ > %s; exec sleep 1000" % path))
    case.daemons.append(daemon)
    wait_for(lambda: os.path.exists(path) and os.path.getsize(path), "the command runs")
    daemon.terminate()
    # The command's own PID is the same as ours: it has no PID namespace of its own.
    child = int(open(path).read())
    wait_for(lambda: ended(child), "the command has ended", 3)


@test
def an_interrupt_of_the_terminal_is_the_commands_to_handle(case):
    path = case.path("ready")
    argv = case.net.host.command(case.program("pasta"), "--config-net", *NONE, "--quiet", "--", "sh", "-c",
                                 "trap 'exit 9' INT; echo > %s; while :; do sleep 0.05; done" % path)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    case.cleanups.append(process.kill)
    wait_for(lambda: os.path.exists(path), "the command runs")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(10) == 9


# Options


@test
def a_watched_path_that_goes_leaves_the_daemon_where_it_was_asked_to_stay(case):
    ns = guest_ns(case)
    pid = podman(case, ns, "--no-netns-quit")[1]
    ns.delete()
    time.sleep(1.5)
    assert not ended(pid)


OPTIONS = (
    ("the interface gets the name that was asked for", ("-I", "foo0"), "foo0", {HOST4: 24, HOST6: 64}),
    ("an address with a mask is set", ("-a", "10.9.8.7", "-n", "255.255.0.0", "-4"), "h0", {"10.9.8.7": 16}),
    ("an address with a length is set", ("-a", "2001:db8:9::7", "-6"), "h0", {"2001:db8:9::7": 64}),
)


@rows(*OPTIONS)
def _(case, options, name, expected):
    ns = guest_ns(case)
    podman(case, ns, *options)
    assert link(ns)["ifname"] == name and addresses(ns) == expected, (link(ns), addresses(ns))


@test
def the_interface_gets_the_mac_address_and_mtu_that_were_asked_for(case):
    ns = guest_ns(case)
    podman(case, ns, "--ns-mac-addr", "9a:55:9a:55:9a:55", "--mtu", "1400")
    assert link(ns)["address"] == "9a:55:9a:55:9a:55" and link(ns)["mtu"] == 1400, link(ns)


@rows(("all addresses and routes of the interface are copied", (), True),
      ("only the first address and route are set where that is asked for", ("--no-copy-addrs", "--no-copy-routes"), False))
def _(case, options, copied):
    ns = guest_ns(case)
    case.net.host.batch("addr add 192.0.2.77/24 dev h0\nroute add 203.0.113.0/24 via 192.0.2.1\n")
    podman(case, ns, *options)
    assert ("192.0.2.77" in addresses(ns)) == copied, addresses(ns)
    assert ("203.0.113.0/24" in ns.run("ip", "route").stdout) == copied, ns.run("ip", "route").stdout


@test
def the_gateway_may_be_chosen(case):
    ns = guest_ns(case)
    podman(case, ns, "-g", "192.0.2.254", "--no-copy-routes")
    assert "default via 192.0.2.254" in ns.run("ip", "route").stdout


@rows(("root becomes nobody", (), 65534), ("root becomes the user that it names", ("--runas", "61234:61235"), 61234),
      ("root stays where that is asked for", ("--runas", "0"), 0))
def _(case, options, uid):
    pid = podman(case, guest_ns(case), *options)[1]
    with open("/proc/%d/status" % pid) as file:
        uids = re.search(r"Uid:\s+(.*)", file.read()).group(1).split()
    assert uids == [str(uid)] * 4, uids


# Automatic ports


@rows(("a TCP listener in the namespace is reachable within 1.5 s and closed at once", "tcp", "0.0.0.0", HOST4),
      ("a TCP listener of IPv6 is reachable within 1.5 s and closed at once", "tcp", "::", HOST6),
      ("a UDP socket in the namespace is reachable within 1.5 s and closed at once", "udp", "0.0.0.0", HOST4))
def _(case, proto, addr, host):
    guest = NsGuest(case, "-T", "none", "-U", "none", auto=True)
    time.sleep(0.3)
    kind = "-Hlnt" if proto == "tcp" else "-Hlnu"
    server = guest.ns.tcp_server(addr, 7654) if proto == "tcp" else guest.ns.udp(addr, 7654)
    wait_for(lambda: ":7654" in case.net.host.run("ss", kind).stdout, "the host listens", 1.6)
    if proto == "tcp":
        client = case.net.remote.tcp_client(host, 7654)
        client.sendall(b"x")
        peer = server.accept()[0]
        assert peer.recv(1) == b"x"
        client.close()
        peer.close()
    else:
        with case.net.remote:
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.sendto(b"x", (host, 7654))
        assert server.recv(1) == b"x"
    server.close()
    wait_for(lambda: ":7654" not in case.net.host.run("ss", kind).stdout, "the host listens no more", 0.5)


@rows(("automatic ports at an address are bound there", "192.0.2.2/auto", {"192.0.2.2:7654", "192.0.2.2:7655"}, 7654),
      ("automatic ports of a list are followed alone", "7655-7660,auto", {"*:7655"}, 7655),
      ("an automatic port leads to its target", "8000-8010:7650-7660,auto", {"*:8004", "*:8005"}, 7654),
      ("a port given by itself is no automatic one", "8000:7654", {"*:8000"}, 7654))
def _(case, spec, wanted, first):
    guest = guest_ns(case)
    servers = {port: guest.tcp_server("0.0.0.0", port) for port in (7654, 7655)}
    started(case, "--config-net", "-t", spec, "-u", "none", "-T", "none", "-U", "none", "--netns", "/run/netns/" + guest.name)
    got = {line.split()[3] for line in case.net.host.run("ss", "-Hlnt").stdout.splitlines()}
    assert got == wanted, got
    client = case.net.remote.tcp_client(HOST4, int(min(wanted).rsplit(":", 1)[1]))
    client.sendall(b"x")
    assert servers[first].accept()[0].recv(1) == b"x"


@test
def a_listener_of_the_host_is_reached_from_the_namespaces_loopback(case):
    server = case.net.host.tcp_server("127.0.0.1", 7655)
    guest = NsGuest(case, "-t", "none", "-u", "none", auto=True)
    wait_for(lambda: ":7655" in guest.ns.run("ss", "-Hlnt").stdout, "the namespace listens", 1.6)
    guest.ns.tcp_client("127.0.0.1", 7655).sendall(b"x")
    assert server.accept()[0].recv(1) == b"x"


@rows(("a TCP port of the namespace leads to the host", "tcp", "-T"), ("a UDP port of the namespace leads to the host", "udp", "-U"))
def _(case, proto, flag):
    guest = NsGuest(case, flag, "7656:7657")
    server = case.net.host.tcp_server("127.0.0.1", 7657) if proto == "tcp" else case.net.host.udp("127.0.0.1", 7657)
    if proto == "tcp":
        guest.ns.tcp_client("127.0.0.1", 7656).sendall(b"x")
        assert server.accept()[0].recv(1) == b"x"
    else:
        with guest.ns:
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(5)
        client.sendto(b"x", ("127.0.0.1", 7656))
        payload, peer = server.recvfrom(10)
        server.sendto(b"y", peer)
        assert payload == b"x" and client.recvfrom(10) == (b"y", ("127.0.0.1", 7656))


@test
def automatic_ports_do_not_echo_each_other(case):
    guest = NsGuest(case, auto=True)
    server = guest.ns.tcp_server("0.0.0.0", 7658)
    wait_for(lambda: ":7658" in case.net.host.run("ss", "-Hlnt").stdout, "the host listens", 1.6)
    time.sleep(2.2)
    server.close()
    wait_for(lambda: ":7658" not in case.net.host.run("ss", "-Hlnt").stdout, "the host listens no more", 0.5)
    wait_for(lambda: ":7658" not in guest.ns.run("ss", "-Hlnt").stdout, "nor does the namespace", 0.5)


@test
def an_automatic_port_that_another_has_is_opened_when_that_ends(case):
    first, second = (NsGuest(case, "-T", "none", "-U", "none", auto=True) for _ in range(2))
    taken = first.ns.tcp_server("0.0.0.0", 7659)
    wait_for(lambda: ":7659" in case.net.host.run("ss", "-Hlnt").stdout, "the host listens for the first", 1.6)
    server = second.ns.tcp_server("0.0.0.0", 7659)
    second.daemon.wait_log("TCP port 7659 cannot be opened on the host: Address already in use")
    taken.close()
    wait_for(lambda: ":7659" not in case.net.host.run("ss", "-Hlnt").stdout, "the first lets it go", 0.5)
    wait_for(lambda: ":7659" in case.net.host.run("ss", "-Hlnt").stdout, "the host listens for the second", 1.6)
    case.net.remote.tcp_client(HOST4, 7659).sendall(b"x")
    assert server.accept()[0].recv(1) == b"x"


# What an ordinary user's command serves and asks for: it has low ports in there.
BOTH_WAYS = """
import socket
tcp, udp = socket.create_server(("0.0.0.0", 80)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 81))
print("ready", flush=True)
for _ in range(2):
    peer = tcp.accept()[0]
    peer.sendall(peer.recv(10))
data, peer = udp.recvfrom(10)
udp.sendto(data, peer)
out, out_udp = socket.create_connection(("127.0.0.1", 7001), 5), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out_udp.settimeout(5)
out.sendall(b"out")
out_udp.sendto(b"udp out", ("127.0.0.1", 7002))
print(out.recv(10), out_udp.recv(10), flush=True)
"""


@test
def an_ordinary_users_ports_are_forwarded_both_ways(case):
    server, udp_server = case.net.host.tcp_server("127.0.0.1", 7001), case.net.host.udp("127.0.0.1", 7002)
    argv = ("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", case.program("pasta"), "--config-net",
            "--quiet", "-t", "8000:80", "-u", "8001:81", "-T", "7001", "-U", "7002", "--", "/usr/bin/python3", "-c", BOTH_WAYS)
    process = subprocess.Popen(case.net.host.command(*argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    case.cleanups.append(process.kill)
    assert process.stdout.readline() == "ready\n"
    assert echoes(case.net.host, "tcp", "127.0.0.1", 8000) and echoes(case.net.remote, "tcp", HOST4, 8000)
    assert echoes(case.net.remote, "udp", HOST4, 8001)
    peer = server.accept()[0]
    peer.sendall(peer.recv(10))
    payload, address = udp_server.recvfrom(10)
    udp_server.sendto(payload, address)
    assert process.communicate(timeout=20)[0] == "b'out' b'udp out'\n" and process.returncode == 0


@test
def a_second_daemon_on_the_port_says_so(case):
    first, second = guest_ns(case), guest_ns(case)
    options = ("--config-net", "-t", "5001", "-u", "none", "-T", "none", "-U", "none")
    started(case, *options, "--netns", "/run/netns/" + first.name)
    done = case.run(*options, "--netns", "/run/netns/" + second.name, name="pasta")
    assert done.returncode == 1 and "5001" in done.stderr and "in use" in done.stderr, done.stderr


if __name__ == "__main__":
    sys.exit(main())
