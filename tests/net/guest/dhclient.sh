#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Applies a DHCPv6 lease for dhclient, which passes it in variables; see dhclient-script(8).

case $reason in
PREINIT6) ip link set "$interface" up ;;
BOUND6 | RENEW6 | REBIND6)
	ip -6 addr replace "$new_ip6_address/${new_ip6_prefixlen:-128}" dev "$interface"
	{
		echo "addr=$new_ip6_address"
		echo "dns=\"$new_dhcp6_name_servers\""
		echo "search=\"$new_dhcp6_domain_search\""
	} >/run/dhcp6
	for server in $new_dhcp6_name_servers; do
		grep -q "^nameserver $server\$" /etc/resolv.conf ||
			echo "nameserver $server" >>/etc/resolv.conf
	done
	;;
esac
exit 0
