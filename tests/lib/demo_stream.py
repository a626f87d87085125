#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
./demo: a QEMU guest on the UNIX stream socket, taploom with two shards.
"""

import sys

import guest
from demo_report import Report, main, progress
from topology import Topology

SHARDS = 2
SIZE = 100_000_000
TEXTS = {
    "boot": "the guest boots",
    "addr4": "DHCP gives the host's IPv4 address",
    "slaac": "a router advertisement gives a prefix",
    "dhcp6": "DHCPv6 gives the host's IPv6 address",
    "mtu": "the MTU is announced",
    "route4": "default route, IPv4",
    "route6": "default route, IPv6",
    "resolver4": "resolver from DHCP",
    "resolver6": "resolver from DHCPv6",
    "ping_gateway4": "ping the gateway, IPv4",
    "ping_gateway6": "ping the gateway, IPv6",
    "ping_remote4": "ping the remote, IPv4",
    "ping_remote6": "ping the remote, IPv6",
    "ping_large4": "ping with 20,000 bytes, IPv4",
    "ping_large6": "ping with 20,000 bytes, IPv6",
    "dns4": "resolve a name to an IPv4 address",
    "dns6": "resolve a name to an IPv6 address",
    "tcp4": "a TCP request, IPv4",
    "tcp6": "a TCP request, IPv6",
    "udp4": "UDP datagrams to 60,000 bytes, IPv4",
    "udp6": "UDP datagrams to 60,000 bytes, IPv6",
    "refused4": "a closed port refuses, IPv4",
    "refused6": "a closed port refuses, IPv6",
    "gateway_is_host4": "the gateway's address is the host, IPv4",
    "gateway_is_host6": "the gateway's address is the host, IPv6",
    "forward_tcp4": "forwarded TCP port, IPv4; seen peer",
    "forward_tcp6": "forwarded TCP port, IPv6; seen peer",
    "forward_udp4": "forwarded UDP port, IPv4; seen peer",
    "forward_udp6": "forwarded UDP port, IPv6; seen peer",
    "loopback4": "from the host's loopback, IPv4; seen peer",
    "loopback6": "from the host's loopback, IPv6; seen peer",
    "download4": "download 100 MB, SHA-256 equal, IPv4",
    "download6": "download 100 MB, SHA-256 equal, IPv6",
    "upload4": "upload 100 MB, SHA-256 equal, IPv4",
    "upload6": "upload 100 MB, SHA-256 equal, IPv6",
    "parallel4": "8 downloads at a time, IPv4",
    "parallel6": "8 downloads at a time, IPv6",
    "many4": "20 short connections, IPv4",
    "many6": "20 short connections, IPv6",
    "shards": "every shard is at work",
}


def run():
    shell = "--shell" in sys.argv[1:]
    progress("network", "namespaces host, router (NAT for IPv4, NDP proxy for IPv6) and remote")
    with Topology("taploom-demo", data=SIZE) as net:
        progress("taploom", f"in the namespace {net.host.name}, {SHARDS} shards")
        daemon = net.taploom("--shards", str(SHARDS), "-t", guest.FORWARDED, "-u", guest.FORWARDED)
        progress("guest", f"QEMU with {guest.accelerator().upper()}, joined by {daemon.socket}")
        values = guest.settings(net, size=SIZE)
        if shell:
            guest.Guest(net, guest.stream_device(daemon.socket), values | {"GUEST_MODE": "shell"}).shell()
            return 0
        report = Report(TEXTS)
        guest.Guest(net, guest.stream_device(daemon.socket), values).run_checks(report.add)
        counters = daemon.counters()
        report.check_shards(counters, SHARDS)
        report.print("A virtual machine on the UNIX socket", counters)
        if report.failed:
            print("\nWhat taploom printed:\n" + daemon.log())
        return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(run))
