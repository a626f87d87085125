#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Configures the guest's interface as an ordinary guest does: DHCP, SLAAC and DHCPv6.
# Usage: configure.sh all|up|dhcp4|slaac|dhcp6

link=${GUEST_LINK:-eth0}

# Succeeds once the command does; tried every tenth of a second, for SECONDS at most.
# Usage: wait_for SECONDS COMMAND...
wait_for() {
	tries=$(($1 * 10))
	shift
	while ! "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		usleep 100000
	done
}

# An address by router advertisement: global, made by the kernel, past duplicate detection.
has_slaac() {
	ip -6 addr show dev "$link" | grep 'scope global dynamic' | grep -qv tentative
}

has_link_local() {
	ip -6 addr show dev "$link" scope link | grep inet6 | grep -qv tentative
}

up() {
	ip link set "$link" up
	wait_for 10 has_link_local
}

# Options 26 (MTU), 119 (search) and 121 (routes) are not asked for by default.
dhcp4() {
	udhcpc -i "$link" -f -n -q -t 5 -T 2 -O mtu -O search -O staticroutes -s /guest/udhcpc.sh
}

slaac() {
	wait_for 15 has_slaac
}

dhcp6() {
	dhclient -6 -1 -q -sf /guest/dhclient.sh -pf /run/dhclient6.pid \
		-lf /var/lib/dhcp/dhclient6.leases -cf /dev/null "$link"
}

case $1 in
all)
	status=0
	for step in up dhcp4 slaac dhcp6; do
		"$step" || status=1
	done
	exit $status
	;;
*) "$@" ;;
esac
