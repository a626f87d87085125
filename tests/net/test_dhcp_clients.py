#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 300
"""Real clients of DHCP, DHCPv6 and router discovery configure a namespace."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from joined import Joined
from netns import FAR4, FAR6, GW4, HOST4, HOST6
from suite import Skip, main, test, wait_for

UDHCPC_SCRIPT = """#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr replace $ip/$mask dev $interface
ip link set $interface mtu ${mtu:-1500}
ip route replace default via $router
echo "$1 dns=$dns lease=$lease" >> %s
"""


def needs(program):
    if not shutil.which(program):
        raise Skip(program + " is not installed")


def joined(case, *options):
    case.start(*options)
    return Joined(case)


def reaches(guest, addr):
    guest.ns.run("ping", "-c1", "-W5", addr)


@test
def dhclient_gets_address_route_and_resolver(case):
    needs("dhclient")
    guest = joined(case)
    out = guest.ns.run("dhclient", "-4", "-1", "-v", "-lf", case.path("leases"), "-pf", case.path("dhclient.pid"),
                       "-sf", script(case), "eth0", timeout=40, check=False)
    assert "bound to " + HOST4 in out.stderr, out.stderr
    leases = open(case.path("leases")).read()
    assert "routers " + GW4 in leases and "interface-mtu 65520" in leases, leases
    end_by(case.path("dhclient.pid"))


def script(case):
    """A script for dhclient that changes nothing outside the namespace."""
    path = case.path("script")
    with open(path, "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod(path, 0o755)
    return path


def end_by(path):
    """Ends what has gone to the background; it may write its file a moment after that."""
    os.kill(int(wait_for(lambda: os.path.exists(path) and open(path).read().strip(), "the PID is written")), 15)


@test
def dhclient_gets_an_address_by_dhcpv6(case):
    needs("dhclient")
    guest = joined(case)
    out = guest.ns.run("dhclient", "-6", "-1", "-v", "-lf", case.path("leases"), "-pf", case.path("dhclient.pid"),
                       "-sf", script(case), "eth0", timeout=40, check=False)
    leases = open(case.path("leases")).read()
    assert "iaaddr " + HOST6 in leases, out.stderr
    end_by(case.path("dhclient.pid"))


@test
def udhcpc_configures_a_working_guest(case):
    needs("udhcpc")
    guest = joined(case)
    path = case.path("udhcpc.sh")
    with open(path, "w") as file:
        file.write(UDHCPC_SCRIPT % case.path("udhcpc.log"))
    os.chmod(path, 0o755)
    guest.ns.run("udhcpc", "-i", "eth0", "-n", "-q", "-t", "5", "-T", "1", "-s", path, "-O", "mtu", timeout=30)
    assert HOST4 in guest.addresses()
    assert "198.51.100.53" in open(case.path("udhcpc.log")).read()
    reaches(guest, FAR4)


@test
def dhcpcd_gets_both_versions(case):
    needs("dhcpcd")
    guest = joined(case)
    with open(case.path("dhcpcd.conf"), "w") as file:
        file.write("noarp\nnohook resolv.conf\nipv6rs\nslaac hwaddr\nia_na\nscript /bin/true\n")
    guest.start("unshare", "-m", "sh", "-c", "mount -t tmpfs none /run && mount -t tmpfs none /var/lib/dhcpcd && "
                "exec dhcpcd -B -d -f %s eth0" % case.path("dhcpcd.conf"))
    wait_for(lambda: HOST4 in guest.addresses(), "the IPv4 address is there", 30)
    wait_for(lambda: HOST6 in guest.addresses(), "the IPv6 address is there", 30)
    wait_for(lambda: "default via " + GW4 in guest.routes(), "the default route is there", 10)
    reaches(guest, FAR4)


NETWORKD = """mount -t tmpfs none /run && mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases &&
chown -R systemd-network /run/systemd/netif && mount -o remount,ro,bind /sys && cp %s /run/systemd/network/10.network &&
exec /lib/systemd/systemd-networkd"""


@test
def systemd_networkd_gets_both_versions(case):
    needs("/lib/systemd/systemd-networkd")
    guest = joined(case)
    with open(case.path("network"), "w") as file:
        file.write("[Match]\nName=eth0\n[Network]\nDHCP=yes\nIPv6AcceptRA=yes\n")
    # With /sys read-only it takes itself to be in a container, and waits for no udev.
    guest.start("unshare", "-m", "sh", "-c", NETWORKD % case.path("network"))
    wait_for(lambda: HOST4 in guest.addresses(), "the IPv4 address is there", 30)
    wait_for(lambda: HOST6 in guest.addresses(), "the IPv6 address is there", 30)
    wait_for(lambda: "default via " + GW4 in guest.routes(), "the IPv4 route is there", 10)
    wait_for(lambda: "default via fe80::1" in guest.routes(6), "the IPv6 route is there", 10)
    reaches(guest, FAR4)
    reaches(guest, FAR6)


@test
def udhcpc_reaches_a_gateway_outside_its_prefix_unasked(case):
    needs("udhcpc")
    guest = joined(case, "-a", "10.9.8.7", "-n", "32", "-g", "10.1.1.1")
    path = case.path("udhcpc.sh")
    with open(path, "w") as file:
        file.write("#!/bin/sh\n[ $1 = bound ] || exit 0\nip addr add $ip/32 dev eth0\nset -- $staticroutes\n"
                   "ip route add $1 dev eth0\nip route add $3 via $4\n")
    os.chmod(path, 0o755)
    guest.ns.run("udhcpc", "-i", "eth0", "-n", "-q", "-t", "5", "-T", "1", "-s", path, timeout=30)
    reaches(guest, FAR4)


@test
def rdisc6_sees_prefix_mtu_and_resolver(case):
    needs("rdisc6")
    out = joined(case).ns.run("rdisc6", "-1", "eth0", timeout=20).stdout
    for word in ("2001:db8::/64", "65520", "2001:db8:51::53", "example.org"):
        assert word in out, out


@test
def ndisc6_resolves_the_router(case):
    needs("ndisc6")
    out = joined(case).ns.run("ndisc6", "-1", "fe80::1", "eth0", timeout=20).stdout
    assert "Target link-layer address" in out, out


@test
def the_kernel_configures_itself_by_router_advertisements(case):
    case.start()
    guest = Joined(case)

    def autoconfigured():
        return any(a.startswith("2001:db8::") and i.get("dynamic") for a, i in guest.addresses().items())
    wait_for(autoconfigured, "an address by SLAAC", 30)
    wait_for(lambda: "default via fe80::" in guest.routes(6), "a default route", 10)
    reaches(guest, FAR6)


@test
def duplicate_address_detection_finds_no_duplicate(case):
    case.start()
    guest = Joined(case)
    guest.ns.sysctl("net.ipv6.conf.eth0.accept_dad", 1)
    guest.ns.batch("addr add %s/64 dev eth0\naddr add 2001:db8::abcd/64 dev eth0\n" % HOST6)
    wait_for(lambda: not any(a.get("tentative") for a in guest.addresses().values()), "detection is over", 20)
    assert not any(a.get("dadfailed") for a in guest.addresses().values())


@test
def arping_for_the_guests_own_address_finds_no_duplicate(case):
    needs("arping")
    case.start()
    guest = Joined(case)
    done = guest.ns.run("arping", "-D", "-c", "2", "-w", "3", "-I", "eth0", HOST4, check=False)
    assert done.returncode == 0, done.stdout


if __name__ == "__main__":
    sys.exit(main())
