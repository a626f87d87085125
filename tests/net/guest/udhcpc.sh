#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Applies a lease for busybox's udhcpc, which passes it in variables.

case $1 in
deconfig)
	ip -4 addr flush dev "$interface"
	ip link set "$interface" up
	;;
bound | renew)
	[ -z "$mtu" ] || ip link set dev "$interface" mtu "$mtu"
	ip -4 addr replace "$ip/$mask" dev "$interface"
	if [ -n "$staticroutes" ]; then # RFC 3442: then option 3 is ignored
		set -- $staticroutes
		while [ $# -ge 2 ]; do
			if [ "$2" = 0.0.0.0 ]; then
				ip -4 route replace "$1" dev "$interface"
			else
				ip -4 route replace "$1" via "$2" dev "$interface"
			fi
			shift 2
		done
	else
		for via in $router; do
			ip -4 route replace "$via" dev "$interface"
			ip -4 route replace default via "$via" dev "$interface"
		done
	fi
	: >/etc/resolv.conf
	[ -z "$search$domain" ] || echo "search ${search:-$domain}" >>/etc/resolv.conf
	for server in $dns; do
		echo "nameserver $server" >>/etc/resolv.conf
	done
	;;
esac
exit 0
