#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The guest's first process: prepares a small system, then runs the list of checks (or a shell) on
# the serial console and switches the machine off.

export PATH=/bin:/sbin:/usr/bin
export LD_LIBRARY_PATH=/lib
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
while read -r module; do
	insmod "/modules/$module"
done </modules/order
hostname guest
ip link set lo up
set -a
. /etc/guest.conf
set +a
# Without this, a large upload spends its time in slow start after idle.
echo 0 >/proc/sys/net/ipv4/tcp_slow_start_after_idle
echo 'nameserver ::' >/etc/resolv.conf

case $GUEST_MODE in
shell)
	/bin/sh /guest/configure.sh all || echo "the network could not be configured"
	echo
	echo "This is the guest. Its network is eth0; 'poweroff' or Ctrl-A X ends it."
	cd /root
	setsid cttyhack sh
	;;
load)
	stty -echo -icrnl -onlcr 2>/dev/null
	/bin/sh /guest/load.sh
	;;
*)
	stty -echo -icrnl -onlcr 2>/dev/null
	echo "guest up"
	/bin/sh /guest/checks.sh
	echo "guest end"
	;;
esac
sync
poweroff -f
