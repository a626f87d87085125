/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket of an echo flow: the kernel's ping socket, with the guest's identifier where that is
 * free. It takes and gives whole ICMP messages; checksum and identifier are the kernel's on the
 * host's side.
 */
#include "dgram_internal.h"

#include <errno.h>
#include <unistd.h>

static int bind_id(int fd, bool v4, uint16_t id)
{
	static const uint8_t any[4];
	struct endpoint e = { .port = id };
	struct sockaddr_storage sa;

	if (v4)
		e.addr = ip4_addr_of(any);
	return bind(fd, (struct sockaddr *)&sa, sockaddr_of(&e, 0, &sa)) ? -errno : 0;
}

static void say_denied(struct shard *shard)
{
	count_drop(&shard->counters, DROP_ICMP_DENIED);
	log_limited(&shard->ping_limit, LOG_LEVEL_WARNING,
		    "shard %u: the host forbids ping sockets, echo requests get no answer; "
		    "see net.ipv4.ping_group_range",
		    shard->id);
}

int echo_socket(struct shard *shard, const struct flow_key *key)
{
	bool v4 = ip_is_v4(&key->guest);
	int family = v4 ? AF_INET : AF_INET6;
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
			v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	int error;

	if (fd < 0) {
		error = -errno;
		if (error == -EACCES || error == -EPERM)
			say_denied(shard);
		return error;
	}
	udp_socket_options(fd, family, false, false);
	error = bind_id(fd, v4, key->guest_port);
	if (error)
		error = bind_id(fd, v4, 0);
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}
