/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket of a UDP flow: unconnected, as the guest may write to anybody from one port (RFC 4787
 * REQ-1), and with the guest's own port number where that is free (REQ-3).
 */
#include "dgram_internal.h"

#include <errno.h>
#include <netinet/udp.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* Asked for; the kernel's limit decides (net.core.rmem_max). A burst comes faster than we wake. */
#define RECV_BUFFER (1 << 20)

static const struct socket_option {
	int level;
	int name;
	enum { FOR_ALL, FOR_IP4, FOR_IP6, FOR_IP4_PKTINFO, FOR_IP6_PKTINFO } when;
} socket_options[] = {
	{ SOL_SOCKET, SO_BROADCAST, FOR_ALL },
	{ IPPROTO_UDP, UDP_GRO, FOR_ALL },
	{ IPPROTO_IP, IP_RECVERR, FOR_IP4 },
	{ IPPROTO_IP, IP_RECVTOS, FOR_IP4 },
	{ IPPROTO_IP, IP_RECVTTL, FOR_IP4 },
	{ IPPROTO_IP, IP_PKTINFO, FOR_IP4_PKTINFO },
	/* The default of IPv4 sockets, but not of dual-stack ones: groups that the host is in. */
	{ IPPROTO_IP, IP_MULTICAST_ALL, FOR_IP4_PKTINFO },
	{ IPPROTO_IPV6, IPV6_RECVERR, FOR_IP6 },
	{ IPPROTO_IPV6, IPV6_RECVTCLASS, FOR_IP6 },
	{ IPPROTO_IPV6, IPV6_RECVHOPLIMIT, FOR_IP6 },
	{ IPPROTO_IPV6, IPV6_RECVPKTINFO, FOR_IP6_PKTINFO },
};

void udp_socket_options(int fd, int family, bool dual, bool pktinfo)
{
	bool v4 = family == AF_INET || dual, v6 = family == AF_INET6;
	const bool wanted[] = {
		[FOR_ALL] = true,
		[FOR_IP4] = v4,
		[FOR_IP6] = v6,
		[FOR_IP4_PKTINFO] = v4 && pktinfo,
		[FOR_IP6_PKTINFO] = v6 && pktinfo,
	};
	const int one = 1, size = RECV_BUFFER;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	for (size_t i = 0; i < sizeof(socket_options) / sizeof(socket_options[0]); i++) {
		const struct socket_option *o = &socket_options[i];

		if (wanted[o->when])
			setsockopt(fd, o->level, o->name, &one, sizeof(one));
	}
}

static int bind_any(int fd, int family, uint16_t port)
{
	static const uint8_t any[4];
	struct endpoint e = { .port = port };
	struct sockaddr_storage sa;

	if (family == AF_INET)
		e.addr = ip4_addr_of(any);
	return bind(fd, (struct sockaddr *)&sa, sockaddr_of(&e, 0, &sa)) ? -errno : 0;
}

int udp_socket(struct shard *shard, const struct flow_key *key)
{
	int family = ip_is_v4(&key->guest) ? AF_INET : AF_INET6;
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const int one = 1;
	int error;

	(void)shard;
	if (fd < 0)
		return -errno;
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	udp_socket_options(fd, family, false, false);
	error = bind_any(fd, family, key->guest_port);
	if (error)
		error = bind_any(fd, family, 0);
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}
