# SPDX-License-Identifier: Apache-2.0
# Sourced by ./demo and ./check: the packages that they need, of Debian 12, and their installation.

# What building the program takes.
packages_build="build-essential cmake ninja-build pkg-config libmnl-dev liburcu-dev libcmocka-dev
	libseccomp-dev"

# What the demonstration and the tests with a guest take beyond that.
packages_guest="python3 iproute2 nftables iputils-ping qemu-system-x86 linux-image-cloud-amd64
	busybox-static isc-dhcp-client ethtool socat procps util-linux kmod"

# What the demonstration of a namespace takes.
packages_namespace="python3 iproute2 nftables iputils-ping busybox-static socat procps util-linux passt"

# What ./check takes beyond that: analysers, DHCP and IPv6 clients, judges of captures, peers.
packages_check="clang clang-tidy clang-format clang-tools cppcheck libclang-rt-14-dev gcovr git
	man-db groff udhcpc dhcpcd-base iputils-arping ndisc6 iperf3 tshark tcpdump python3-scapy strace
	uidmap passt slirp4netns gnuplot-nox jq cpio xz-utils zstd dpdk-dev"

# Prints those of the named packages that are not installed.
missing_packages() {
	local package status
	for package in "$@"; do
		status=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)
		[[ $status == ii* ]] || printf '%s ' "$package"
	done
}

# Installs what is missing of the named packages; where that takes another user, says what to run.
install_packages() {
	local missing
	missing=$(missing_packages "$@")
	[ -n "$missing" ] || return 0
	if [ "$(id -u)" -ne 0 ]; then
		echo "Packages are missing. As root, run:" >&2
		echo "    apt-get update && apt-get install --no-install-recommends $missing" >&2
		return 1
	fi
	echo "installing $missing"
	# A kernel for guests among them must not ask about boot loaders, and no daemon need start.
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update </dev/null &&
		apt-get -qq install -y --no-install-recommends $missing </dev/null >/dev/null
}
