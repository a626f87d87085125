#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The list of checks that every transport must pass, run inside the guest. It needs busybox and
# socat, and these variables:
#   ADDR4 ADDR6        the addresses that the guest is to get; DHCPv6 gives ADDR6
#   PREFIX6            beginning of the address made by SLAAC
#   GATEWAY4 GATEWAY6  the routers (GATEWAY6 without a scope)
#   REMOTE4 REMOTE6    a server beyond the host: tests/lib/servers.py
#   NAME NAME4 NAME6   a name that the resolver knows, and its addresses
#   MTU                what eth0 must have
#   SIZE               bytes of each large transfer
#   SUM                SHA-256 of the first SIZE bytes of the server's data
#   HOST_PORT          a port of tests/lib/servers.py on the host's loopback addresses
#   CHECKS             names of checks to run; empty means all
# Each check prints "ok NAME: detail" or "not ok NAME: what was found". What must be done outside
# is asked for by a line "ask ACTION...", and the answer read: "answer ok|fail TEXT".

link=${GUEST_LINK:-eth0}
folder=$(dirname "$0")
exec 3>&1 4<&0

all="addr4 slaac dhcp6 mtu route4 route6 resolver4 resolver6
ping_gateway4 ping_gateway6 ping_remote4 ping_remote6 ping_large4 ping_large6
dns4 dns6 tcp4 tcp6 udp4 udp6 refused4 refused6
gateway_is_host4 gateway_is_host6
forward_tcp4 forward_tcp6 forward_udp4 forward_udp6 loopback4 loopback6
download4 download6 upload4 upload6 parallel4 parallel6 many4 many6"

# Asks the outside for something; prints the text of the answer.
ask() {
	echo "ask $*" >&3
	read -r word status text <&4
	echo "$text"
	[ "$word $status" = "answer ok" ]
}

# Fails with a message unless both are equal.
same() {
	[ "$1" = "$2" ] && echo "$1" && return
	echo "'$1' instead of '$2'"
	return 1
}

# Hundredths of a second since boot.
now() {
	cut -d ' ' -f 1 /proc/uptime | tr -d .
}

# Prints size and rate of what began at START. Usage: rate BYTES START
rate() {
	took=$(($(now) - $2))
	[ $took -gt 0 ] || took=1
	echo "$1 bytes in $((took / 100)).$(printf %02d $((took % 100))) s, $(($1 * 8 / took / 10000)) Mbit/s"
}

# Sends a request line to the server and prints what it answers. Usage: request PROTO:ADDR:PORT TEXT
request() {
	echo "$2" | socat -t 10 -T 20 - "$1" 2>&1
}

check_addr4() {
	"$folder/configure.sh" up
	"$folder/configure.sh" dhcp4
	same "$(ip -4 addr show dev "$link" | sed -n 's/.*inet \([0-9.]*\).*/\1/p')" "$ADDR4"
}

check_slaac() {
	"$folder/configure.sh" slaac
	found=$(ip -6 addr show dev "$link" | grep 'global dynamic' | sed -n 's/.*inet6 \([0-9a-f:]*\).*/\1/p')
	echo "$found"
	case $found in "$PREFIX6"*) ;; *) false ;; esac
}

check_dhcp6() {
	"$folder/configure.sh" dhcp6
	. /run/dhcp6
	same "$addr" "$ADDR6"
}

check_mtu() {
	same "$(ip link show dev "$link" | sed -n 's/.* mtu \([0-9]*\).*/\1/p')" "$MTU"
}

check_route4() {
	same "$(ip -4 route show default | sed -n 's/.*via \([0-9.]*\).*/\1/p')" "$GATEWAY4"
}

check_route6() {
	same "$(ip -6 route show default | sed -n 's/.*via \([0-9a-f:]*\).*/\1/p')" "$GATEWAY6"
}

check_resolver4() {
	same "$(sed -n 's/^nameserver \([0-9.]*\)$/\1/p' /etc/resolv.conf)" "$REMOTE4"
}

check_resolver6() {
	. /run/dhcp6
	same "$dns" "$REMOTE6"
}

# Usage: ping_ok ADDRESS [OPTIONS]
ping_ok() {
	target=$1
	shift
	ping -c 3 -i 0.2 -W 3 "$@" "$target" >/tmp/ping 2>&1 || { tail -n 3 /tmp/ping; return 1; }
	sed -n 's/^round-trip/round-trip/p' /tmp/ping
	grep -q ' 0% packet loss' /tmp/ping
}

check_ping_gateway4() { ping_ok "$GATEWAY4"; }
check_ping_gateway6() { ping_ok "$GATEWAY6%$link"; }
check_ping_remote4() { ping_ok "$REMOTE4"; }
check_ping_remote6() { ping_ok "$REMOTE6"; }

# The first may be answered by the path's MTU, which the guest then knows.
ping_large_ok() {
	ping -c 1 -W 1 -s 20000 "$1" >/dev/null 2>&1
	ping_ok "$1" -s 20000
}

check_ping_large4() { ping_large_ok "$REMOTE4"; }
check_ping_large6() { ping_large_ok "$REMOTE6"; }

# Usage: resolve TYPE EXPECTED
resolve() {
	nslookup -type="$1" "$NAME" >/tmp/nslookup 2>&1 || { tail -n 2 /tmp/nslookup; return 1; }
	same "$(sed -n '/^Name:/,$s/^Address: *//p' /tmp/nslookup)" "$2"
}

check_dns4() { resolve a "$NAME4"; }
check_dns6() { resolve aaaa "$NAME6"; }

check_tcp4() { same "$(request "TCP4:$REMOTE4:5000" 'echo a line over TCP')" 'a line over TCP'; }
check_tcp6() { same "$(request "TCP6:[$REMOTE6]:5000" 'echo a line over TCP')" 'a line over TCP'; }

# One datagram there and back; what does not come is waited for. Usage: datagram_returns PROTO:ADDR:PORT SIZE SECONDS
datagram_returns() {
	head -c "$2" /dev/urandom >/tmp/sent
	: >/tmp/received
	socat -b 65535 -T "$3" OPEN:/tmp/sent,rdonly,ignoreeof!!OPEN:/tmp/received,wronly "$1" 2>/dev/null &
	until cmp -s /tmp/sent /tmp/received || ! kill -0 $! 2>/dev/null; do
		usleep 20000
	done
	kill $! 2>/dev/null
	cmp /tmp/sent /tmp/received
}

# Datagrams of each size must come back whole; the first beyond the path's MTU may be answered by
# that, and the kernel fragments the next. Usage: udp_ok PROTO:ADDR:PORT
udp_ok() {
	for size in 1 1400 9000 60000; do
		[ $size = 9000 ] && datagram_returns "$1" $size 2 && continue
		datagram_returns "$1" $size 30 || { echo "datagram of $size bytes"; return 1; }
	done
	echo "1, 1400, 9000 and 60000 bytes"
}

check_udp4() { udp_ok "UDP4:$REMOTE4:5000"; }
check_udp6() { udp_ok "UDP6:[$REMOTE6]:5000"; }

# A port on which nobody listens answers, in place of a silence. Usage: refused PROTO:ADDR:PORT
refused() {
	socat -T 30 - "$1",connect-timeout=30 </dev/null 2>&1 | grep -o 'Connection refused'
}

check_refused4() { refused "TCP4:$REMOTE4:5009"; }
check_refused6() { refused "TCP6:[$REMOTE6]:5009"; }

check_gateway_is_host4() {
	same "$(request "TCP4:$GATEWAY4:$HOST_PORT" peer)" 127.0.0.1
}

check_gateway_is_host6() {
	same "$(request "TCP6:[$GATEWAY6%$link]:$HOST_PORT" peer)" ::1
}

# Port 8080 answers with what it is sent, 8081 with the address that it sees; -t is how long the answer may take when
# who asked has said all.
start_servers() {
	socat -t 30 TCP6-LISTEN:8080,fork,reuseaddr EXEC:cat 2>/dev/null &
	socat -t 30 TCP6-LISTEN:8081,fork,reuseaddr 'SYSTEM:read line; echo $SOCAT_PEERADDR' 2>/dev/null &
	socat -t 30 -b 65535 UDP6-RECVFROM:8080,fork EXEC:cat 2>/dev/null &
	socat -t 30 UDP6-RECVFROM:8081,fork 'SYSTEM:echo $SOCAT_PEERADDR' 2>/dev/null &
	for table in tcp6 udp6; do
		until grep -q ':1F91 ' /proc/net/$table && grep -q ':1F90 ' /proc/net/$table; do
			usleep 50000
		done
	done
}

# socat prints an IPv6 address in full, in brackets, and an IPv4 one mapped; this gives it as we write it.
plain() {
	echo "$1" | tr -d '[]' | sed -e 's/^0000:0000:0000:0000:0000:ffff:/::ffff:/' \
		-e 's/:0*\([0-9a-f]\)/:\1/g' -e 's/^0*\([0-9a-f]\)/\1/' -e 's/\(:0\)\{2,\}:/::/'
}

# The IPv4 address of a mapped one written as two hexadecimal groups.
unmapped() {
	case $1 in
	::ffff:*.*) echo "${1#::ffff:}" ;;
	::ffff:*)
		high=$((0x$(echo "$1" | cut -d : -f 4)))
		low=$((0x$(echo "$1" | cut -d : -f 5)))
		echo "$((high >> 8)).$((high & 255)).$((low >> 8)).$((low & 255))"
		;;
	*) echo "$1" ;;
	esac
}

# What comes from the remote over a forwarded port is whole and shows the remote's own address.
# Usage: forwarded tcp4|tcp6|udp4|udp6 EXPECTED
forwarded() {
	ask echo "$1" 8080 || return 1
	seen=$(ask peer "$1" 8081) || { echo "$seen"; return 1; }
	same "$(unmapped "$(plain "$seen")")" "$2"
}

check_forward_tcp4() { forwarded tcp4 "$REMOTE4"; }
check_forward_tcp6() { forwarded tcp6 "$REMOTE6"; }
check_forward_udp4() { forwarded udp4 "$REMOTE4"; }
check_forward_udp6() { forwarded udp6 "$REMOTE6"; }

# A connection from the host's loopback comes from the gateway's address.
# Usage: from_loopback tcp4|tcp6 EXPECTED
from_loopback() {
	seen=$(ask peer_loopback "$1" 8081) || { echo "$seen"; return 1; }
	seen=$(unmapped "$(plain "$seen")")
	same "${seen%%%*}" "$2"
}

check_loopback4() { from_loopback tcp4 "$GATEWAY4"; }
check_loopback6() { from_loopback tcp6 "$GATEWAY6"; }

# Usage: download PROTO:ADDR:PORT
download() {
	begun=$(now)
	echo "get $SIZE" | socat -b 262144 -T 30 -t 3600 - "$1" >/tmp/data || { echo "socat: status $?"; return 1; }
	line=$(rate "$SIZE" "$begun")
	sum=$(sha256sum </tmp/data)
	[ "${sum%% *}" = "$SUM" ] || { echo "$(wc -c </tmp/data) bytes, wrong SHA-256"; return 1; }
	echo "$line"
}

check_download4() { download "TCP4:$REMOTE4:5000"; }
check_download6() { download "TCP6:[$REMOTE6]:5000"; }

# Sends back what the last download brought; the server answers with the sum of what it received.
# Usage: upload PROTO:ADDR:PORT
upload() {
	[ -s /tmp/data ] || { echo "nothing was downloaded"; return 1; }
	begun=$(now)
	{ echo "put $SIZE"; cat /tmp/data; } | socat -b 262144 -T 30 -t 3600 - "$1" >/tmp/sum || { echo "socat: status $?"; return 1; }
	line=$(rate "$SIZE" "$begun")
	same "$(cat /tmp/sum)" "$SUM" >/tmp/same || { cat /tmp/same; return 1; }
	echo "$line"
}

check_upload4() { upload "TCP4:$REMOTE4:5000"; }
check_upload6() { upload "TCP6:[$REMOTE6]:5000"; }

# Eight connections at a time, all with the right bytes; they spread over the shards.
# Usage: parallel PROTO:ADDR:PORT
parallel() {
	part=$((SIZE / 50))
	want=$(head -c $part /tmp/data | sha256sum)
	pids=
	begun=$(now)
	for i in 1 2 3 4 5 6 7 8; do
		echo "get $part" | socat -b 262144 -T 30 -t 3600 - "$1" | sha256sum >/tmp/part$i &
		pids="$pids $!"
	done
	wait $pids
	for i in 1 2 3 4 5 6 7 8; do
		[ "$(cat /tmp/part$i)" = "$want" ] || { echo "connection $i: wrong SHA-256"; return 1; }
	done
	rate $((part * 8)) "$begun"
}

check_parallel4() { parallel "TCP4:$REMOTE4:5000"; }
check_parallel6() { parallel "TCP6:[$REMOTE6]:5000"; }

# Short connections, one after another. Usage: many PROTO:ADDR:PORT
many() {
	begun=$(now)
	for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		answer=$(request "$1" "echo number $i")
		same "$answer" "number $i" >/tmp/same || { cat /tmp/same; return 1; }
	done
	echo "20 connections in $(($(now) - begun))0 ms"
}

check_many4() { many "TCP4:$REMOTE4:5000"; }
check_many6() { many "TCP6:[$REMOTE6]:5000"; }

one_line() {
	tr '\r\n' '  ' | sed 's/  */ /g; s/^ *//; s/ *$//' | cut -c 1-300
}

start_servers
for name in ${CHECKS:-$all}; do
	if "check_$name" >/tmp/detail 2>&1; then
		echo "ok $name: $(tail -n 1 /tmp/detail | one_line)"
	else
		echo "not ok $name: $(tail -n 4 /tmp/detail | one_line)"
	fi
done
